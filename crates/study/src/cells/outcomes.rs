//! What the networks of a study's cells are worth, for each seed and T, and what a conversion costs and a fine-tuning gains on the same
//! recordings.

use std::path::Path;

use anyhow::Result;
use escape_report::rows::{Evaluation, Finetune, Kind, Outcome, Prediction, read_table};

use super::collect::is_shown;
use super::{Cell, CellKind, Index};

/// A network at one T that a cell judged.
struct Judged {
    outcome: Outcome,
    /// It was converted or fine-tuned for this T, not just run as long by the way.
    own: bool,
    /// Whether each recording was classified correctly, from the first on; nothing where only the share is known.
    right: Vec<bool>,
}

impl Judged {
    /// Share of the first `n` recordings classified correctly, if known.
    fn on_first(&self, n: u64) -> Option<f64> {
        if n == self.outcome.samples {
            return Some(self.outcome.accuracy);
        }
        let first = self.right.get(..usize::try_from(n).ok()?)?;
        Some(first.iter().filter(|right| **right).count() as f64 / n as f64)
    }

    /// By how much its accuracy is above the other's on the recordings that both were judged by: networks are judged by the first ones
    /// of the same test recordings, be they more or fewer.
    fn above(&self, other: &Self) -> Option<f64> {
        let both = self.outcome.samples.min(other.outcome.samples);
        Some(self.on_first(both)? - other.on_first(both)?)
    }

    fn is_of(&self, seed: Option<u64>) -> bool {
        self.outcome.seed.is_none() || self.outcome.seed == seed
    }
}

/// Of all networks of the cells that are done, for each seed and T.
pub(super) fn outcomes(study: &Path, index: &Index, done: &[&Cell]) -> Result<Vec<Outcome>> {
    let mut all: Vec<Judged> = Vec::new();
    for cell in done {
        for judged in judged(study, index, cell)? {
            let same = |there: &&mut Judged| {
                let (a, b) = (&there.outcome, &judged.outcome);
                (&a.network, a.timesteps, a.seed) == (&b.network, b.timesteps, b.seed)
            };
            match all.iter_mut().find(same) {
                Some(there) if judged.own && !there.own => *there = judged,
                Some(_) => {}
                None => all.push(judged),
            }
        }
    }
    let compared = all.iter().map(|judged| {
        let o = &judged.outcome;
        let from = index
            .cells
            .iter()
            .find(|c| c.kind == CellKind::Finetune && c.entry == o.network)
            .and_then(|c| c.settings["convert"][0]["name"].as_str());
        let before = all.iter().find(|b| {
            Some(b.outcome.network.as_str()) == from && b.outcome.timesteps == o.timesteps && b.is_of(o.seed)
        });
        let is_its_ann =
            |b: &&Judged| b.outcome.kind == Kind::Ann && b.outcome.network == o.ann && b.is_of(o.seed);
        let ann = all.iter().find(is_its_ann).filter(|_| o.kind.is_spiking());
        Outcome {
            before: before.map(|b| b.outcome.accuracy),
            before_samples: before.map(|b| b.outcome.samples),
            gained: before.and_then(|b| judged.above(b)),
            lost: ann.and_then(|ann| ann.above(judged)),
            ..o.clone()
        }
    });
    Ok(compared.collect())
}

/// The cell's own network, at every T that it was judged at.
fn judged(study: &Path, index: &Index, cell: &Cell) -> Result<Vec<Judged>> {
    let folder = cell.path(study);
    let tuned: Vec<Finetune> = read_table(&folder)?;
    let judged_on = tuned.iter().find_map(|row| row.judged_on.clone());
    let answers: Vec<Prediction> = read_table(&folder)?;
    let right = |e: &Evaluation| -> Vec<bool> {
        let theirs = answers.iter().filter(|a| a.network == e.network && a.timesteps == e.timesteps);
        let mut theirs: Vec<_> = theirs.map(|a| (a.recording, a.actual == a.predicted)).collect();
        theirs.sort_unstable();
        let known = theirs.iter().enumerate().take_while(|(i, (recording, _))| *i == *recording as usize);
        known.map(|(_, (_, right))| *right).collect()
    };
    let evaluations: Vec<Evaluation> = read_table(&folder)?;
    let judged = |e: Evaluation| {
        let own = cell.timesteps.is_none_or(|t| e.timesteps == Some(t as u32));
        let right = right(&e);
        let outcome = Outcome {
            network: cell.entry.clone(),
            kind: e.kind,
            ann: cell.ann.clone(),
            preset: e.preset,
            encoder: e.encoder,
            timesteps: e.timesteps,
            seed: cell.seed,
            samples: e.samples,
            accuracy: e.accuracy,
            loss: e.loss,
            epoch: e.epoch,
            before: None,
            macro_f1: e.macro_f1,
            shown: own && is_shown(index, cell),
            judged_on: judged_on.clone().filter(|_| e.kind == Kind::Finetuned),
            before_samples: None,
            gained: None,
            lost: None,
        };
        Judged { outcome, own, right }
    };
    Ok(evaluations.into_iter().filter(|e| e.network == cell.network()).map(judged).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(right: &[bool], samples: u64, accuracy: f64) -> Judged {
        let outcome = Outcome {
            network: "a".to_owned(),
            kind: Kind::Converted,
            ann: "modified".to_owned(),
            preset: String::new(),
            encoder: String::new(),
            timesteps: Some(4),
            seed: Some(1),
            samples,
            accuracy,
            loss: 1.0,
            epoch: None,
            before: None,
            macro_f1: None,
            shown: true,
            judged_on: None,
            before_samples: None,
            gained: None,
            lost: None,
        };
        Judged { outcome, own: true, right: right.to_vec() }
    }

    #[test]
    fn networks_are_compared_on_what_both_have_seen() {
        let many = judged(&[true, true, false, false], 4, 0.5);
        let few = judged(&[], 2, 0.5);
        // Of the two recordings that both saw the first has both right.
        assert_eq!((many.above(&few), few.above(&many)), (Some(0.5), Some(-0.5)));
        // Whose answers are not known counts by its share alone.
        let unknown = judged(&[], 4, 0.75);
        assert_eq!((unknown.above(&few), unknown.above(&many)), (None, Some(0.25)));
    }
}
