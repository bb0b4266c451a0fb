//! Which claims of a saving survive: each spiking network, by each itemised model, against the ANNs that were measured.

use std::collections::HashMap;

use escape_energy::{ANN, PUBLISHED, ann_name};

use crate::interval::Spread;
use crate::rows::{Evaluation, Kind};
use crate::run::{Run, distinct};
use crate::seeds::is_reached;
use crate::standing::{has_energy, is_of_other_ann, representatives, standard_error, worthless};
use crate::tally::Tally;

/// Whether a spiking network needs less energy than every ANN that is not less accurate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Holds,
    /// It does not.
    DoesNot,
    /// No quantised ANN was measured, the network decides nothing, or only ANNs beat it whose accuracy is lower than its own by
    /// what may be chance.
    CannotBeTold,
}

impl Verdict {
    /// In words: `holds`, `does not`, `cannot be told`.
    pub fn words(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::DoesNot => "does not",
            Self::CannotBeTold => "cannot be told",
        }
    }
}

/// The cheapest quantised ANN that is no less accurate than a spiking network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantised {
    /// Its bits.
    pub bits: u32,
    /// Its energy, picojoules per recording.
    pub picojoules: f64,
    /// Its energy over that of the spiking network.
    pub saving: f64,
}

/// A spiking network, counted in one way. A saving is the ANN's energy over the network's: above 1 the network needs less.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// The spiking network.
    pub network: String,
    /// T.
    pub timesteps: Option<u32>,
    /// Its accuracy.
    pub accuracy: f64,
    /// The itemised model.
    pub model: String,
    /// Saving over the ANN by the published formula, whatever the model.
    pub published: Option<f64>,
    /// Saving over the ANN in fp32.
    pub full: Option<f64>,
    /// The same where that skips zeros.
    pub full_skip: Option<f64>,
    /// Over the cheapest quantised ANN whose accuracy is not lower by more than two standard errors of the difference.
    pub quantised: Option<Quantised>,
    /// The same of those that skip zeros.
    pub quantised_skip: Option<Quantised>,
    /// What follows.
    pub verdict: Verdict,
}

/// The claims of one network, counted in one way, over the seeds of a study; one of a run.
pub(crate) struct Claimed(Vec<Claim>);

impl Claimed {
    /// That of the first seed.
    pub(crate) fn first(&self) -> &Claim {
        &self.0[0]
    }

    /// How many seeds.
    pub(crate) fn seeds(&self) -> usize {
        self.0.len()
    }

    /// A value over the seeds, if it is known of each.
    pub(crate) fn spread(&self, value: impl Fn(&Claim) -> Option<f64>) -> Option<Spread> {
        Spread::of(&self.0.iter().map(value).collect::<Option<Vec<f64>>>()?)
    }

    /// Bits of each seed's rival.
    pub(crate) fn bits(&self, rival: impl Fn(&Claim) -> Option<Quantised>) -> impl Iterator<Item = u32> {
        self.0.iter().filter_map(rival).map(|rival| rival.bits)
    }

    /// What follows, in words; where seeds differ, with how many of them: `holds (2), cannot be told (1)`. Of a network that decides
    /// nothing by any seed nothing is told.
    pub(crate) fn verdict(&self) -> String {
        if self.0.iter().any(|claim| claim.full.is_none()) {
            return Verdict::CannotBeTold.words().to_owned();
        }
        let all = [Verdict::Holds, Verdict::DoesNot, Verdict::CannotBeTold];
        let count = |verdict| self.0.iter().filter(|claim| claim.verdict == verdict).count();
        let found: Vec<_> = all.into_iter().map(|v| (v.words(), count(v))).filter(|(_, n)| *n > 0).collect();
        match found[..] {
            [(words, _)] => words.to_owned(),
            _ => found.iter().map(|(words, n)| format!("{words} ({n})")).collect::<Vec<_>>().join(", "),
        }
    }
}

/// The claims of a run; of a study those of its first seed, each with those of the other seeds.
pub(crate) fn over_seeds(run: &Run) -> Vec<Claimed> {
    let others: Vec<Vec<Claim>> = run.other_seeds.iter().map(claims).collect();
    let with_others = |claim: Claim| {
        let same = |other: &&Claim| {
            (&other.network, other.timesteps, &other.model) == (&claim.network, claim.timesteps, &claim.model)
        };
        let others = others.iter().filter(|_| is_reached(run, &claim.network));
        let others: Vec<Claim> = others.filter_map(|all| all.iter().find(same)).cloned().collect();
        Claimed(std::iter::once(claim).chain(others).collect())
    };
    claims(run).into_iter().map(with_others).collect()
}

/// The recordings that each network classified right or wrong, by network and T.
struct Answers<'a>(HashMap<(&'a str, Option<u32>), HashMap<u32, bool>>);

impl<'a> Answers<'a> {
    fn of(run: &'a Run) -> Self {
        let mut all: HashMap<_, HashMap<u32, bool>> = HashMap::new();
        for row in run.predictions.iter().flatten() {
            let key = (row.network.as_str(), row.timesteps);
            all.entry(key).or_default().insert(row.recording, row.actual == row.predicted);
        }
        Self(all)
    }

    /// By how much the first network's accuracy is higher than the second's, and the standard error of that: of the
    /// paired difference where both networks' answers are known for at least two recordings, else of independent ones.
    fn difference(&self, a: &'a Evaluation, b: &'a Evaluation) -> (f64, f64) {
        let of = |e: &'a Evaluation| self.0.get(&(e.network.as_str(), e.timesteps));
        let pairs: Vec<f64> = match (of(a), of(b)) {
            (Some(a), Some(b)) => {
                let both = a.iter().filter_map(|(recording, right)| Some((*right, *b.get(recording)?)));
                both.map(|(a, b)| f64::from(u8::from(a)) - f64::from(u8::from(b))).collect()
            }
            _ => Vec::new(),
        };
        paired(&pairs)
            .unwrap_or_else(|| (a.accuracy - b.accuracy, standard_error(a).hypot(standard_error(b))))
    }
}

/// Mean of differences and its standard error; `None` of fewer than two.
fn paired(differences: &[f64]) -> Option<(f64, f64)> {
    let n = differences.len() as f64;
    if n < 2.0 {
        return None;
    }
    let mean = differences.iter().sum::<f64>() / n;
    let squares: f64 = differences.iter().map(|d| (d - mean).powi(2)).sum();
    Some((mean, (squares / (n * (n - 1.0))).sqrt()))
}

/// The claims of a run: for each spiking network of known energy one by each itemised model. In a study that converts several ANNs
/// only those of the reference have their quantised ANNs here.
pub(crate) fn claims(run: &Run) -> Vec<Claim> {
    let tally = Tally::of(run);
    let answers = Answers::of(run);
    let models: Vec<String> = tally.models().into_iter().filter(|model| model != PUBLISHED).collect();
    let quantised: Vec<&Evaluation> = quantised(run);
    let mut all = Vec::new();
    let spiking = representatives(run).into_iter().filter(|e| e.kind.is_spiking() && has_energy(run, e));
    for e in spiking.filter(|e| !is_of_other_ann(run, &e.network)) {
        // How much less accurate each quantised ANN is, and how sure that is.
        let rivals: Vec<(u32, f64, f64)> = quantised
            .iter()
            .filter_map(|q| {
                let (lower, error) = answers.difference(e, q);
                Some((q.bits?, lower, error))
            })
            .filter(|(_, lower, error)| *lower <= 2.0 * error)
            .collect();
        let worthless = worthless(run, e).is_some();
        for model in &models {
            let Some(own) = tally.total(model, &e.network).filter(|own| *own > 0.0) else { continue };
            let told = |saving: Option<f64>| saving.filter(|_| !worthless);
            let saving = |name: &str| told(tally.saving(model, name, &e.network));
            let cheapest = |skips: bool| {
                let of = |(bits, ..): &(u32, f64, f64)| {
                    let picojoules = tally.total(model, &ann_name(Some(*bits), skips))?;
                    Some(Quantised { bits: *bits, picojoules, saving: picojoules / own })
                };
                let known = rivals.iter().filter(|_| !worthless).filter_map(of);
                known.min_by(|a, b| a.picojoules.total_cmp(&b.picojoules))
            };
            let (full, full_skip) = (saving(ANN), saving(&ann_name(None, true)));
            let loses_to = |(bits, ..): &(u32, f64, f64)| {
                [false, true]
                    .iter()
                    .any(|skips| saving(&ann_name(Some(*bits), *skips)).is_some_and(|saving| saving <= 1.0))
            };
            let beaten: Vec<_> = rivals.iter().filter(|rival| loses_to(rival)).collect();
            // An ANN that is no less accurate, or the one in fp32, which everything is made from.
            let surely = [full, full_skip].into_iter().flatten().any(|saving| saving <= 1.0)
                || beaten.iter().any(|(_, lower, _)| *lower <= 0.0);
            let verdict = if worthless {
                Verdict::CannotBeTold
            } else if surely {
                Verdict::DoesNot
            } else if !beaten.is_empty() || !measured(&tally, model, &quantised) {
                Verdict::CannotBeTold
            } else {
                Verdict::Holds
            };
            all.push(Claim {
                network: e.network.clone(),
                timesteps: e.timesteps,
                accuracy: e.accuracy,
                model: model.clone(),
                published: told(tally.saving(PUBLISHED, ANN, &e.network)),
                full,
                full_skip,
                quantised: cheapest(false),
                quantised_skip: cheapest(true),
                verdict,
            });
        }
    }
    all
}

/// Whether the energy of a quantised ANN is known by a model, that of one that skips zeros too.
fn measured(tally: &Tally<'_>, model: &str, quantised: &[&Evaluation]) -> bool {
    let known = |bits: u32| {
        [false, true].iter().all(|skips| tally.total(model, &ann_name(Some(bits), *skips)).is_some())
    };
    quantised.iter().filter_map(|q| q.bits).any(known)
}

/// The quantised ANNs that were evaluated, the last of each number of bits.
fn quantised(run: &Run) -> Vec<&Evaluation> {
    let all = || run.evaluations.iter().flatten().filter(|e| e.kind == Kind::Quantised);
    let names = distinct(all().map(|e| e.network.as_str()));
    let last = |name: &String| all().rfind(|e| e.network == *name);
    names.iter().filter_map(last).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_paired_difference_is_that_of_its_mean() {
        assert_eq!(paired(&[1.0]), None);
        // Always right together: sure to be alike.
        assert_eq!(paired(&[0.0; 5]), Some((0.0, 0.0)));
        let (mean, error) = paired(&[1.0, 0.0, -1.0, 1.0]).unwrap();
        assert_eq!(mean, 0.25);
        let squares = 2.0 * 0.75f64.powi(2) + 0.25f64.powi(2) + 1.25f64.powi(2);
        assert!((error - (squares / 12.0).sqrt()).abs() < 1e-12);
    }
}
