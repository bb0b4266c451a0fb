//! What a study found over its seeds: Tables 1 to 3 with means and standard deviations, beside the published study's
//! numbers.
//!
//! Letters: n seeds, N recordings, T timesteps.

use std::collections::HashMap;
use std::hash::Hash;

use escape_energy::PUBLISHED;

use crate::interval::{Spread, binomial};
use crate::published;
use crate::rows::{Evaluation, Kind, Latency, Outcome, OutcomeEnergy};
use crate::run::{Run, distinct};
use crate::standing::{evaluated_as, reference_ann};
use crate::tables::{NONE, Table};
use crate::tally::is_ann;
use crate::text;

/// Recordings that the published study tested with.
const STUDY_RECORDINGS: f64 = 7835.0;
/// Models of energy that Table 1 has room for.
const SHOWN_MODELS: [&str; 3] = [PUBLISHED, "fp32+memory", "int8+memory"];
/// The preset of two networks whose readouts are averaged.
const AVERAGED: &str = "toolbox-mean";
/// Standard errors by which a number has to leave another to be called different.
const CLEARLY: f64 = 2.0;

/// In words, where an accuracy differs from a published one by more than two standard errors; else nothing.
fn difference(found: &Spread, recordings: u64, published: f64) -> Option<String> {
    let error =
        (found.standard_error(recordings as f64).powi(2) + binomial(published, STUDY_RECORDINGS)).sqrt();
    let points = 100.0 * (found.mean - published);
    let direction = if points > 0.0 { "above" } else { "below" };
    (points.abs() > CLEARLY * 100.0 * error).then(|| format!("{:.1} points {direction}", points.abs()))
}

/// Outcomes of one network at one T, over the seeds.
struct Group<'a> {
    first: &'a Outcome,
    all: Vec<&'a Outcome>,
}

impl Group<'_> {
    fn spread(&self, value: impl Fn(&Outcome) -> Option<f64>) -> Option<Spread> {
        let values: Option<Vec<f64>> = self.all.iter().map(|o| value(o)).collect();
        values.and_then(|values| Spread::of(&values))
    }

    fn accuracy(&self) -> Spread {
        let values: Vec<f64> = self.all.iter().map(|o| o.accuracy).collect();
        Spread::of(&values).unwrap_or(Spread { mean: f64::NAN, deviation: None, seeds: 0 })
    }

    fn route(&self) -> String {
        let settings = [self.first.preset.as_str(), self.first.encoder.as_str()];
        let settings: Vec<&str> = settings.into_iter().filter(|s| !s.is_empty()).collect();
        match &settings[..] {
            [] => self.first.kind.words().to_owned(),
            _ => format!("{} ({})", self.first.kind.words(), settings.join(", ")),
        }
    }

    fn differs(&self, published: Option<f64>) -> String {
        let words = published.map(|p| difference(&self.accuracy(), self.first.samples, p));
        match words {
            None => NONE.to_owned(),
            Some(words) => words.unwrap_or_else(|| "no".to_owned()),
        }
    }
}

/// Groups in the order of their first rows.
fn groups(outcomes: &[Outcome]) -> Vec<Group<'_>> {
    let mut found: Vec<Group<'_>> = Vec::new();
    for outcome in outcomes {
        let same = |g: &&mut Group<'_>| {
            (&g.first.network, g.first.timesteps) == (&outcome.network, outcome.timesteps)
        };
        match found.iter_mut().find(same) {
            Some(group) => group.all.push(outcome),
            None => found.push(Group { first: outcome, all: vec![outcome] }),
        }
    }
    found
}

/// The published accuracy of such a network at this T, where the study has one: of ANNs, and of networks by its rules.
fn published_accuracy(o: &Outcome) -> Option<f64> {
    match (o.kind, o.timesteps) {
        (Kind::Ann, _) => Some(published::ann_accuracy(&o.network)),
        (Kind::Converted, Some(t)) if o.preset == published::PRESET => converted_at(t),
        (Kind::Finetuned, t) => published::finetuned(&o.preset, t).map(|row| row.2),
        _ => None,
    }
}

/// The published accuracy of the converted network at T.
fn converted_at(t: u32) -> Option<f64> {
    let of_table2 = published::CONVERTED_AT.iter().find(|(at, _)| *at == t).map(|(_, a)| *a);
    of_table2.or_else(|| published::finetuned(published::PRESET, Some(t)).map(|row| row.1))
}

/// Percentage points with their standard deviation over the seeds: `-0.4`, `2.8 ± 0.3`.
fn points(spread: Option<Spread>, sign: bool) -> String {
    let Some(Spread { mean, deviation, .. }) = spread else { return NONE.to_owned() };
    let mean = if sign { format!("{:+.1}", 100.0 * mean) } else { format!("{:.1}", 100.0 * mean) };
    deviation.map_or_else(|| mean.clone(), |deviation| format!("{mean} \u{b1} {:.1}", 100.0 * deviation))
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| NONE.to_owned(), |v| format!("{v:.3}"))
}

pub(crate) fn spread_text(spread: Option<Spread>) -> String {
    spread.map_or_else(|| NONE.to_owned(), |s| s.to_string())
}

fn steps_text(timesteps: Option<u32>) -> String {
    timesteps.map_or_else(|| NONE.to_owned(), |t| t.to_string())
}

/// In a study of several seeds, of which one's networks stand in the tables of a run: a sentence, with a space before it, that says so.
pub(crate) fn of_one_seed(run: &Run) -> String {
    let mut seeds: Vec<u64> = run.outcomes.iter().flatten().filter_map(|outcome| outcome.seed).collect();
    let first = seeds.first().copied();
    seeds.sort_unstable();
    seeds.dedup();
    match (first, seeds.len()) {
        (Some(first), 2..) => format!(" Networks that a seed reaches are those of seed {first}."),
        _ => String::new(),
    }
}

/// Whether a seed reaches a network of a study, an ANN by the name of its entry; what none reaches is the same for all.
pub(crate) fn is_reached(run: &Run, network: &str) -> bool {
    run.outcomes.iter().flatten().any(|o| o.network == network && o.seed.is_some())
}

/// The runs of a study's seeds that know a network of its tables, the first seed's first: of what no seed reaches that one alone. An ANN of
/// the energy tables is one that spiking networks are compared with.
pub(crate) fn seeds_of<'a>(run: &'a Run, network: &str) -> Vec<&'a Run> {
    let network = match is_ann(network) {
        true => reference_ann(run).map_or(network, |ann| ann.network.as_str()),
        false => network,
    };
    std::iter::once(run).chain(other_seeds(run, network)).collect()
}

/// The runs of a study's seeds but the first, if a seed reaches the network.
pub(crate) fn other_seeds<'a>(run: &'a Run, network: &str) -> impl Iterator<Item = &'a Run> {
    let reached = !run.other_seeds.is_empty() && is_reached(run, network);
    run.other_seeds.iter().filter(move |_| reached)
}

/// A number of a network over the seeds of a study.
pub(crate) fn over_seeds(run: &Run, network: &str, number: impl Fn(&Run) -> Option<f64>) -> Option<Spread> {
    Spread::of(&seeds_of(run, network).into_iter().filter_map(number).collect::<Vec<f64>>())
}

/// The accuracy of a network of the first seed over all of them.
pub(crate) fn accuracy(run: &Run, of: &Evaluation) -> Spread {
    let others = other_seeds(run, &of.network).filter_map(|seed| evaluated_as(seed, of)).map(|e| e.accuracy);
    let all: Vec<f64> = std::iter::once(of.accuracy).chain(others).collect();
    Spread::of(&all).unwrap_or(Spread { mean: of.accuracy, deviation: None, seeds: 1 })
}

/// Many numbers of a study's seeds but the first, each by what it is of.
pub(crate) struct OtherSeeds<K>(Vec<HashMap<K, f64>>);

impl<K: Hash + Eq> OtherSeeds<K> {
    /// Of each seed.
    pub(crate) fn of<'a>(run: &'a Run, numbers: impl Fn(&'a Run) -> HashMap<K, f64>) -> Self {
        Self(run.other_seeds.iter().map(numbers).collect())
    }

    /// The first seed's number together with those of the others that have it, of a network that is or is not reached.
    pub(crate) fn with(&self, first: f64, of: &K, reached: bool) -> Spread {
        let others = self.0.iter().filter(|_| reached).filter_map(|numbers| numbers.get(of));
        let all: Vec<f64> = std::iter::once(first).chain(others.copied()).collect();
        Spread::of(&all).unwrap_or(Spread { mean: first, deviation: None, seeds: 1 })
    }
}

/// A sentence, with a space before it, of a table of what all seeds of a study found.
pub(crate) fn over_seeds_note(run: &Run) -> String {
    if run.other_seeds.is_empty() {
        return of_one_seed(run);
    }
    " Of networks that several seeds reach: mean \u{b1} standard deviation of a single seed.".to_owned()
}

/// As [`over_seeds_note`], of a table that compares with ANNs.
pub(crate) fn beside_anns_note(run: &Run) -> String {
    let own =
        if run.other_seeds.is_empty() { "" } else { " Each is compared with the ANNs of its own seed." };
    over_seeds_note(run) + own
}

/// As [`over_seeds_note`], of a figure.
pub(crate) fn band_note(run: &Run) -> String {
    if run.other_seeds.is_empty() {
        return of_one_seed(run);
    }
    " Of networks that several seeds reach: means over them, and one standard deviation to either side where that stays above 0."
        .to_owned()
}

/// Networks at one T each, with what all seeds found; the first seed's outcome has all that they have in common.
pub(crate) fn means(outcomes: &[Outcome]) -> Vec<(&Outcome, Spread)> {
    groups(outcomes).iter().map(|group| (group.first, group.accuracy())).collect()
}

/// Table 1 of a study.
pub(crate) fn table1(run: &Run) -> Option<Table> {
    let outcomes = run.outcomes.as_deref()?;
    let energies = run.outcome_energy.as_deref().unwrap_or_default();
    let mut table = Table::new(
        "table1",
        "Table 1. Networks compared: mean and standard deviation over the seeds",
        &[
            ("network", false),
            ("route", false),
            ("T", true),
            ("seeds", true),
            ("recordings", true),
            ("accuracy", true),
            ("points below its ANN", true),
            ("macro F1", true),
        ],
    );
    // The published formula, and all that is counted; the table of energy has the other models.
    let known = distinct(energies.iter().map(|e| e.model.as_str()));
    let models: Vec<String> =
        SHOWN_MODELS.into_iter().map(str::to_owned).filter(|m| known.contains(m)).collect();
    models.iter().for_each(|model| table.numeric(format!("saving, {model}")));
    table.numeric("ms a recording".to_owned());
    table.study("study: accuracy");
    table.study("differs");
    table.study("study: saving");
    let all = groups(outcomes);
    for group in all.iter().filter(|g| g.all.iter().any(|o| o.shown)) {
        let first = group.first;
        let mut row = vec![
            first.network.clone(),
            group.route(),
            steps_text(first.timesteps),
            group.all.len().to_string(),
            text::grouped(first.samples),
            group.accuracy().to_string(),
            points(group.spread(|o| o.lost), false),
            spread_text(group.spread(|o| o.macro_f1)),
        ];
        for model in &models {
            row.push(saving(energies, first, model).map_or_else(|| NONE.to_owned(), savings_text));
        }
        let same = |l: &&Latency| (&l.network, l.timesteps) == (&first.network, first.timesteps);
        let timed = run.latency.as_deref().unwrap_or_default().iter().find(same);
        row.push(timed.map_or_else(|| NONE.to_owned(), |l| text::rounded(l.milliseconds, 2)));
        let published = published_accuracy(first);
        row.push(number(published));
        row.push(group.differs(published));
        let saved = published::has_energy(&first.evaluation());
        row.push(if saved { text::ratio(1.0 / published::ENERGY) } else { NONE.to_owned() });
        table.rows.push(row);
    }
    table.notes.push(
        "Over n seeds: mean \u{b1} standard deviation of a single seed. A network that no seed reaches has one value. Networks are compared \
         with their ANN, of the same seed, on the recordings that both were judged by. Latency in \
         steps is T; a saving is the energy of the ANN in fp32 divided by the network's, by the published formula or with the traffic to memory."
            .to_owned(),
    );
    let averaged = outcomes.iter().filter(|o| o.preset == AVERAGED).map(|o| o.network.as_str());
    let averaged = distinct(averaged);
    table.notes.extend((!averaged.is_empty()).then(|| {
        format!(
            "Of {} neither energy nor time is told: two networks whose readouts are averaged, each of which has them.",
            text::listed(&averaged, 6)
        )
    }));
    table.notes.extend(timing_note(run.latency.as_deref().unwrap_or_default()));
    table.study_notes.push(differs_note());
    Some(table)
}

fn differs_note() -> String {
    "The study's numbers are of its own recordings, 7,835 for testing. \u{2018}Differs\u{2019} says by how much the mean leaves them \
     where that is more than two standard errors of the difference (seeds and recordings of both)."
        .to_owned()
}

/// How networks were timed.
fn timing_note(latency: &[Latency]) -> Option<String> {
    let first = latency.first()?;
    Some(format!(
        "Times are medians of {} recordings one after the other on {} thread{}, nothing else at work.",
        first.samples,
        first.threads,
        if first.threads == 1 { "" } else { "s" }
    ))
}

fn saving(energies: &[OutcomeEnergy], of: &Outcome, model: &str) -> Option<Spread> {
    let theirs = energies.iter().filter(|e| {
        e.network == of.network && Some(e.timesteps) == of.timesteps && e.model == model && e.picojoules > 0.0
    });
    let ratios: Vec<f64> = theirs.map(|e| e.ann_picojoules / e.picojoules).collect();
    Spread::of(&ratios)
}

/// A ratio, and its deviation to as many decimals: `12.5x ± 0.7`.
pub(crate) fn savings_text(spread: Spread) -> String {
    match spread.deviation {
        Some(deviation) => {
            let mean = text::ratio(spread.mean);
            let decimals = mean.trim_end_matches('x').split_once('.').map_or(0, |(_, after)| after.len());
            let least = 0.1_f64.powi(decimals as i32);
            match deviation < least / 2.0 && deviation > 0.0 {
                true => format!("{mean} \u{b1} <{least:.decimals$}"),
                false => format!("{mean} \u{b1} {deviation:.decimals$}"),
            }
        }
        None => text::ratio(spread.mean),
    }
}

/// Table 2 of a study.
pub(crate) fn table2(run: &Run) -> Option<Table> {
    let outcomes = run.outcomes.as_deref()?;
    let all = groups(outcomes);
    let converted = || all.iter().filter(|g| g.first.kind == Kind::Converted);
    let names = distinct(converted().map(|g| g.first.network.as_str()));
    let mut steps: Vec<u32> = converted().filter_map(|g| g.first.timesteps).collect();
    steps.sort_unstable();
    steps.dedup();
    let mut table =
        Table::new("table2", "Table 2. Converted only: accuracy by number of timesteps", &[("T", true)]);
    for name in &names {
        let own = || converted().filter(|g| g.first.network == *name);
        let samples = text::several(own().map(|g| g.first.samples), text::grouped);
        let seeds = text::several(own().map(|g| g.all.len()), |n| n.to_string());
        table.numeric(format!("{name} (n = {seeds}; {samples})"));
    }
    // The study's own route is the first that takes its rules and encoder; beside networks by others its numbers say nothing.
    let own_route = converted().find(|g| g.first.preset == published::PRESET && g.first.encoder == "poisson");
    let own_route = own_route.map(|g| g.first.network.as_str());
    if let Some(name) = own_route {
        table.study("study");
        table.study(&format!("{name} differs"));
    }
    for t in steps {
        let mut row = vec![t.to_string()];
        let at = |name: &str| converted().find(|g| g.first.timesteps == Some(t) && g.first.network == name);
        row.extend(
            names.iter().map(|name| at(name).map_or_else(|| NONE.to_owned(), |g| g.accuracy().to_string())),
        );
        let study = converted_at(t);
        if let Some(name) = own_route {
            row.push(number(study));
            row.push(at(name).map_or_else(|| NONE.to_owned(), |g| g.differs(study)));
        }
        table.rows.push(row);
    }
    table.notes.push("Mean \u{b1} standard deviation over n seeds; the other number of a column's head is that of recordings.".to_owned());
    table.study_notes.extend(own_route.map(|_| differs_note()));
    Some(table)
}

/// Table 3 of a study.
pub(crate) fn table3(run: &Run) -> Option<Table> {
    let outcomes = run.outcomes.as_deref()?;
    let mut table = Table::new(
        "table3",
        "Table 3. Fine-tuning: accuracy before and after",
        &[
            ("network", false),
            ("route", false),
            ("T", true),
            ("seeds", true),
            ("recordings", true),
            ("converted only", true),
            ("fine-tuned", true),
            ("points gained", true),
            ("points below its ANN", true),
            ("best epochs", true),
        ],
    );
    table.study("study: converted");
    table.study("study: fine-tuned (epoch)");
    table.study("differs");
    let mut all = groups(outcomes);
    all.retain(|g| g.first.kind == Kind::Finetuned);
    let order = distinct(all.iter().map(|g| g.first.network.as_str()));
    all.sort_by_key(|g| (order.iter().position(|name| *name == g.first.network), g.first.timesteps));
    let mut fewer = Vec::new();
    for group in &all {
        let first = group.first;
        let before = group.spread(|o| o.before);
        let counts = first.before_samples.filter(|n| *n != first.samples);
        if let Some(n) = counts {
            let at = steps_text(first.timesteps);
            fewer.push(format!("{} at T = {at} ({})", first.network, text::grouped(n)));
        }
        let epochs: Option<Vec<String>> =
            group.all.iter().map(|o| o.epoch.map(|epoch| epoch.to_string())).collect();
        let study = published::finetuned(&first.preset, first.timesteps);
        table.rows.push(vec![
            first.network.clone(),
            group.route(),
            steps_text(first.timesteps),
            group.all.len().to_string(),
            text::grouped(first.samples),
            spread_text(before),
            group.accuracy().to_string(),
            points(group.spread(|o| o.gained), true),
            points(group.spread(|o| o.lost), false),
            epochs.map_or_else(|| NONE.to_owned(), |epochs| epochs.join(", ")),
            study.map_or_else(|| NONE.to_owned(), |s| format!("{:.3}", s.1)),
            study.map_or_else(|| NONE.to_owned(), |s| format!("{:.3} ({})", s.2, s.3)),
            group.differs(study.map(|s| s.2)),
        ]);
    }
    let judges = distinct(all.iter().filter_map(|g| g.first.judged_on.as_deref()));
    table.notes.extend((!judges.is_empty()).then(|| {
        let words = |judge: &String| {
            if judge == "test" {
                "the test recordings, as in the study"
            } else {
                "held-out training recordings"
            }
        };
        format!(
            "The best epoch is chosen by {}.",
            judges.iter().map(words).collect::<Vec<_>>().join("; for some networks by ")
        )
    }));
    if all.iter().any(|g| g.all.iter().any(|o| o.before.is_some() && o.gained.is_none())) {
        table.notes.push(
            "Points gained are not known of tables that an earlier version collected: `study report` collects them again."
                .to_owned(),
        );
    }
    table.notes.push(
        "Points are of the recordings that both networks were judged by, and the ANN is that of the same seed.".to_owned(),
    );
    table.notes.extend((!fewer.is_empty()).then(|| {
        format!("The converted network was judged by another number of recordings: {}.", fewer.join(", "))
    }));
    table.study_notes.push(differs_note());
    let twice = published::FINETUNED_AGAIN.iter().filter(|row| {
        all.iter().any(|g| {
            published::finetuned(&g.first.preset, g.first.timesteps).is_some_and(|own| own.0 == row.0)
        })
    });
    let twice: Vec<String> =
        twice.map(|(t, accuracy, epoch)| format!("{accuracy:.3} ({epoch}) at T = {t}")).collect();
    table.study_notes.extend((!twice.is_empty()).then(|| {
        format!(
            "Of two entries that the study has for one T the better one stands here; the other is {}.",
            twice.join(", ")
        )
    }));
    Some(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_told_where_they_are_clear() {
        let spread = Spread::of(&[0.72, 0.72]).unwrap();
        assert_eq!(difference(&spread, 7835, 0.721), None);
        assert_eq!(difference(&spread, 7835, 0.700).unwrap(), "2.0 points above");
        assert_eq!(difference(&spread, 7835, 0.740).unwrap(), "2.0 points below");
        // The same distance on few recordings is none.
        assert_eq!(difference(&spread, 200, 0.700), None);
    }

    fn outcome(network: &str, timesteps: Option<u32>, seed: Option<u64>, accuracy: f64) -> Outcome {
        let kind = if timesteps.is_some() { Kind::Converted } else { Kind::Ann };
        Outcome {
            network: network.to_owned(),
            kind,
            ann: "modified".to_owned(),
            preset: String::new(),
            encoder: String::new(),
            timesteps,
            seed,
            samples: 100,
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
        }
    }

    #[test]
    fn outcomes_are_grouped_over_seeds() {
        let rows = [
            outcome("modified", None, None, 0.7),
            outcome("a", Some(4), Some(1), 0.5),
            outcome("a", Some(8), Some(1), 0.6),
            outcome("a", Some(4), Some(2), 0.7),
        ];
        let found = groups(&rows);
        let told: Vec<(usize, f64)> = found.iter().map(|g| (g.all.len(), g.accuracy().mean)).collect();
        assert_eq!(told, [(1, 0.7), (2, 0.6), (1, 0.6)]);
        let published = |kind, preset: &str, t| {
            let preset = preset.to_owned();
            published_accuracy(&Outcome { kind, preset, ..outcome("a", Some(t), None, 0.5) })
        };
        assert_eq!(published(Kind::Converted, published::PRESET, 300), Some(0.713));
        assert_eq!(published(Kind::Converted, published::PRESET, 28), Some(0.283));
        assert_eq!(published(Kind::Finetuned, published::PRESET, 28), Some(0.699));
        assert_eq!(published(Kind::Finetuned, published::PRESET, 29), None);
        // Of networks by other rules the study says nothing.
        assert_eq!(published(Kind::Converted, "toolbox", 300), None);
    }

    #[test]
    fn numbers_in_words() {
        let of = |values: &[f64]| savings_text(Spread::of(values).unwrap());
        assert_eq!(of(&[0.02894, 0.02896]), "0.029x \u{b1} <0.001");
        assert_eq!(
            (of(&[12.0, 13.0]), of(&[0.4, 0.4])),
            ("12.5x \u{b1} 0.7".to_owned(), "0.40x \u{b1} 0.00".to_owned())
        );
        assert_eq!(text::several([4000, 500, 4000].into_iter(), text::grouped), "500 or 4,000");
        assert_eq!(points(Spread::of(&[0.02, 0.04]), true), "+3.0 \u{b1} 1.4");
        assert_eq!(
            (points(Spread::of(&[0.02]), false), points(None, true)),
            ("2.0".to_owned(), "-".to_owned())
        );
    }
}
