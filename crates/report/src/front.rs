//! Accuracy against cost: of all networks of a run or a study those that no other beats in both, spiking ones and ANNs, each in its own number
//! format.
//!
//! Letters: n seeds, N recordings.

use crate::interval::Spread;
use crate::rows::{Front, Kind};
use crate::run::Run;
use crate::standing::guessing;
use crate::tables::{NONE, Table};
use crate::text;

/// A network at one T, over the seeds that reach it.
pub(crate) struct Candidate<'a> {
    /// What all seeds have in common.
    pub first: &'a Front,
    pub accuracy: Spread,
    /// Means, as in [`Front`].
    pub multiplications: f64,
    pub additions: f64,
    pub arithmetic_pj: f64,
    pub memory_pj: f64,
    pub events_pj: f64,
}

impl Candidate<'_> {
    pub(crate) fn is_spiking(&self) -> bool {
        self.first.kind.is_spiking()
    }
    /// The standard error of its accuracy.
    pub(crate) fn error(&self) -> f64 {
        self.accuracy.standard_error(self.first.samples as f64)
    }
    /// Number format, and what is left out: `4 bits (input 4), skips zeros`.
    fn format(&self) -> String {
        let Front { bits, input_bits, skips, .. } = self.first;
        let bits = bits.map_or_else(|| "fp32".to_owned(), |bits| format!("{bits} bits"));
        let input = input_bits.map_or_else(String::new, |bits| format!(" (input {bits})"));
        let skips = if *skips && !self.is_spiking() { ", skips zeros" } else { "" };
        format!("{bits}{input}{skips}")
    }
    /// As a table names it where there is room for one name.
    fn name(&self) -> String {
        format!("{}, {}", self.first.network, self.format())
    }
}

/// The networks of a folder that can be compared with each other, and those that cannot.
pub(crate) struct Field<'a> {
    /// Judged by as many recordings as any spiking network, and better than guessing.
    pub entered: Vec<Candidate<'a>>,
    /// Judged by another number.
    others: Vec<Candidate<'a>>,
    /// No better than naming the most frequent class throughout.
    guessing: Vec<Candidate<'a>>,
}

/// All networks of a folder's table.
pub(crate) fn field<'a>(run: &'a Run, rows: &'a [Front]) -> Field<'a> {
    let spiking = rows.iter().filter(|row| row.kind.is_spiking());
    let most = spiking.map(|row| row.samples).max().unwrap_or_default();
    let (entered, others): (Vec<_>, Vec<_>) =
        candidates(rows).into_iter().partition(|c| c.first.samples == most);
    let bar = guessing(run, most).unwrap_or(f64::NEG_INFINITY);
    let (guessing, entered) = entered.into_iter().partition(|c| c.accuracy.mean <= bar);
    Field { entered, others, guessing }
}

/// All networks, in the order of their first rows.
fn candidates(rows: &[Front]) -> Vec<Candidate<'_>> {
    let key = |r: &Front| (r.network.clone(), r.timesteps, r.bits, r.skips);
    let mut groups: Vec<Vec<&Front>> = Vec::new();
    for row in rows {
        match groups.iter_mut().find(|group| key(group[0]) == key(row)) {
            Some(group) => group.push(row),
            None => groups.push(vec![row]),
        }
    }
    groups.into_iter().filter_map(candidate).collect()
}

/// A network, of its rows for all seeds.
fn candidate(rows: Vec<&Front>) -> Option<Candidate<'_>> {
    let of = |value: fn(&Front) -> f64| -> Option<Spread> {
        Spread::of(&rows.iter().map(|row| value(row)).collect::<Vec<_>>())
    };
    Some(Candidate {
        accuracy: of(|r| r.accuracy)?,
        multiplications: of(|r| r.multiplications)?.mean,
        additions: of(|r| r.additions)?.mean,
        arithmetic_pj: of(|r| r.arithmetic_pj)?.mean,
        memory_pj: of(|r| r.memory_pj)?.mean,
        events_pj: of(|r| r.events_pj)?.mean,
        first: rows[0],
    })
}

impl Field<'_> {
    /// Whether there is a spiking network to compare.
    pub(crate) fn has_spiking(&self) -> bool {
        self.entered.iter().any(Candidate::is_spiking)
    }
    /// Which networks are not compared, and why, in words.
    pub(crate) fn left_out(&self) -> Option<String> {
        const NAMED: usize = 12;
        let names = |of: &[Candidate<'_>]| {
            let named = of.iter().map(|c| match c.first.timesteps {
                Some(t) => format!("{} (T = {t})", c.first.network),
                None => c.name(),
            });
            let names: Vec<String> = named.collect();
            (!names.is_empty()).then(|| text::listed(&names, NAMED))
        };
        let others =
            names(&self.others).map(|names| format!("judged by another number of recordings: {names}"));
        let guessing = names(&self.guessing)
            .map(|names| format!("no better than naming the most frequent class throughout: {names}"));
        let parts: Vec<String> = others.into_iter().chain(guessing).collect();
        (!parts.is_empty())
            .then(|| format!("Not among them, as they cannot be compared: {}.", parts.join("; ")))
    }
}

/// Those that no other of the same sort is as accurate as for as little, cheapest first; their accuracy grows.
pub(crate) fn front<'c, 'a>(
    all: &'c [Candidate<'a>],
    spiking: bool,
    cost: impl Fn(&Candidate<'_>) -> f64,
) -> Vec<&'c Candidate<'a>> {
    let mut sorted: Vec<&Candidate<'_>> = all.iter().filter(|c| c.is_spiking() == spiking).collect();
    sorted.sort_by(|a, b| cost(a).total_cmp(&cost(b)).then(b.accuracy.mean.total_cmp(&a.accuracy.mean)));
    let mut best = f64::NEG_INFINITY;
    sorted.retain(|c| {
        let better = c.accuracy.mean > best;
        best = best.max(c.accuracy.mean);
        better
    });
    sorted
}

/// The ANN that costs least of those that are no less accurate.
fn rival<'c, 'a>(
    all: &'c [Candidate<'a>],
    than: &Candidate<'_>,
    cost: impl Fn(&Candidate<'_>) -> f64,
) -> Option<&'c Candidate<'a>> {
    let able = all.iter().filter(|c| !c.is_spiking() && c.accuracy.mean >= than.accuracy.mean);
    able.min_by(|a, b| cost(a).total_cmp(&cost(b)))
}

/// A kind in a word.
fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Ann | Kind::Quantised => "ANN",
        Kind::Converted => "spiking, converted",
        Kind::Finetuned => "spiking, fine-tuned",
    }
}

/// The networks on the front of accuracy against energy with memory: spiking ones, then ANNs.
pub(crate) fn table(run: &Run) -> Option<Table> {
    let field = field(run, run.front.as_deref()?);
    let all = &field.entered;
    let memory = |c: &Candidate<'_>| c.memory_pj;
    let spiking = front(all, true, memory);
    if spiking.is_empty() {
        return None;
    }
    let mut table = Table::new(
        "front",
        "Accuracy against energy: the networks that no other beats in both",
        &[
            ("network", false),
            ("kind", false),
            ("T", true),
            ("numbers", false),
            ("accuracy", true),
            ("standard error", true),
            ("kB of weights", true),
            ("multiplications", true),
            ("additions", true),
            ("arithmetic", true),
            ("with memory", true),
            ("by event", true),
            ("cheapest ANN as accurate", false),
            ("it takes times", true),
        ],
    );
    for c in spiking.iter().chain(&front(all, false, memory)) {
        let against = rival(all, c, memory).filter(|_| c.is_spiking());
        let count = |value: f64| text::grouped(value.round() as u64);
        table.rows.push(vec![
            c.first.network.clone(),
            kind(c.first.kind).to_owned(),
            c.first.timesteps.map_or_else(|| NONE.to_owned(), |t| t.to_string()),
            c.format(),
            c.accuracy.to_string(),
            format!("{:.3}", c.error()),
            text::significant(c.first.kilobytes, 3),
            count(c.multiplications),
            count(c.additions),
            text::energy(c.arithmetic_pj),
            text::energy(c.memory_pj),
            text::energy(c.events_pj),
            against
                .map_or_else(|| NONE.to_owned(), |ann| format!("{}, {:.3}", ann.name(), ann.accuracy.mean)),
            against.map_or_else(|| NONE.to_owned(), |ann| text::ratio(ann.memory_pj / c.memory_pj)),
        ]);
    }
    let of = |spiking: bool| all.iter().filter(|c| c.is_spiking() == spiking).count();
    table.notes.push(format!(
        "Of {} spiking networks and {} ANNs (each in fp32 and quantised, with and without what is zero) those that none of their sort \
         is as accurate as for as little energy. They were chosen by these recordings, so that the best are a little worse than they seem. \
         Energies are of a recording, each network in its own number of bits, values and weights that are zero left out (weights of \
         spiking networks where their spikes were gone through, which those of many neurons and of floating point are not); \u{2018}with \
         memory\u{2019} goes layer by layer through all steps, fetches a weight once and sends whole spike trains, \u{2018}by event\u{2019} goes step by step and fetches it \
         for each arriving spike or value that is not zero. The last \
         column is above 1 where the spiking network needs less than any ANN that is no less accurate, with memory. An ANN that \
         was trained to compute with so many bits has the thresholds that it was trained with, others are calibrated.",
        of(true),
        of(false)
    ));
    if of(false) == 0 {
        table.notes.push("No ANN was judged by these recordings, so none stands beside them.".to_owned());
    }
    table.notes.extend(field.left_out());
    Some(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(network: &str, kind: Kind, seed: u64, accuracy: f64, memory_pj: f64) -> Front {
        Front {
            network: network.to_owned(),
            kind,
            ann: "a".to_owned(),
            timesteps: kind.is_spiking().then_some(1),
            seed: Some(seed),
            bits: Some(4),
            input_bits: Some(4),
            skips: true,
            samples: 1000,
            accuracy,
            kilobytes: 10.0,
            multiplications: 100.0,
            additions: 10.0,
            arithmetic_pj: memory_pj / 2.0,
            memory_pj,
            events_pj: memory_pj * 2.0,
            checkpoint: None,
        }
    }

    #[test]
    fn the_front_has_what_nothing_beats() {
        let rows = [
            row("dear", Kind::Finetuned, 1, 0.72, 50.0),
            row("cheap", Kind::Finetuned, 1, 0.6, 10.0),
            row("cheap", Kind::Finetuned, 2, 0.7, 30.0),
            row("beaten", Kind::Converted, 1, 0.64, 40.0),
            row("small", Kind::Quantised, 1, 0.66, 60.0),
            row("large", Kind::Quantised, 1, 0.74, 200.0),
        ];
        let all = candidates(&rows);
        let names = |spiking| -> Vec<&str> {
            front(&all, spiking, |c| c.memory_pj).iter().map(|c| c.first.network.as_str()).collect()
        };
        assert_eq!((names(true), names(false)), (vec!["cheap", "dear"], vec!["small", "large"]));
        // Means over the seeds: 0.65 for 20 pJ.
        let cheap = &all[1];
        assert!((cheap.accuracy.mean - 0.65).abs() < 1e-12 && (cheap.memory_pj - 20.0).abs() < 1e-12);
        let against = |c| rival(&all, c, |c| c.memory_pj).unwrap().first.network.as_str();
        assert_eq!((against(cheap), against(&all[0])), ("small", "large"));
        assert_eq!(all[3].name(), "small, 4 bits (input 4), skips zeros");
    }

    #[test]
    fn what_cannot_be_compared_is_named() {
        let few = Front { samples: 50, ..row("few", Kind::Converted, 1, 0.9, 1.0) };
        let ann = Front { timesteps: None, ..row("ann", Kind::Quantised, 1, 0.74, 200.0) };
        // Of three classes naming one throughout is right for a third.
        let rows = [
            row("good", Kind::Converted, 1, 0.7, 10.0),
            few,
            row("silent", Kind::Converted, 1, 0.33, 1.0),
            ann,
        ];
        let folder = tempfile::tempdir().unwrap();
        let run = Run::load(folder.path()).unwrap();
        let field = field(&run, &rows);
        let names: Vec<&str> = field.entered.iter().map(|c| c.first.network.as_str()).collect();
        assert_eq!(names, ["good", "ann"]);
        let told = field.left_out().unwrap();
        assert!(told.contains("another number of recordings: few (T = 1); "), "{told}");
        assert!(told.ends_with("most frequent class throughout: silent (T = 1)."), "{told}");
        // Where ANNs were judged by more, spiking networks are compared with each other.
        let more = Front { samples: 5000, timesteps: None, ..row("ann", Kind::Quantised, 1, 0.74, 200.0) };
        let rows = [row("good", Kind::Converted, 1, 0.7, 10.0), more];
        let field = super::field(&run, &rows);
        assert!(field.has_spiking() && field.entered.len() == 1);
        assert!(field.left_out().unwrap().contains("recordings: ann, 4 bits"));
        // Of a search that leaves out many, some are named.
        let many: Vec<Front> = (0..40)
            .map(|i| Front { samples: 50, ..row(&format!("n{i}"), Kind::Converted, 1, 0.9, 1.0) })
            .chain([row("good", Kind::Converted, 1, 0.7, 10.0)])
            .collect();
        let told = super::field(&run, &many).left_out().unwrap();
        assert!(told.contains("n11 (T = 1) and 28 more"), "{told}");
    }
}
