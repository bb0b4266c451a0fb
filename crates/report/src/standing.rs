//! How the networks of a run stand: which row of the evaluations stands for each, how sure its accuracy is, whether it
//! decides anything at all, and which is the best.

use std::collections::HashMap;

use crate::interval;
use crate::rows::{Confusion, Evaluation, Kind};
use crate::run::{Run, distinct};
use crate::seeds::{accuracy, other_seeds};
use crate::tally::{Tally, is_ann};

/// How many classes the run's networks tell apart: those of its confusion matrices, the neurons of a readout, or the study's
/// three where neither is known.
pub(crate) fn classes(run: &Run) -> u32 {
    let all = run.confusion.iter().flatten();
    let shown = all.map(|cell| cell.actual.max(cell.predicted) + 1).max();
    let readout = || {
        let network = run.activity.iter().flatten().next()?;
        let last = run.activity_of(&network.network).pop()?;
        u32::try_from(last.neurons).ok()
    };
    shown.or_else(readout).unwrap_or(3)
}

/// Whether the run's networks are the study's, as far as its data tell: three classes, and layers of the names and sizes that the
/// modified or the original ESCAPE-NET has for 56 contacts x 100 samples.
pub(crate) fn is_of_study(run: &Run) -> bool {
    const NEURONS: [(&str, u64); 5] =
        [("conv1", 358_400), ("conv2", 89_600), ("conv3", 22_400), ("linear1", 256), ("linear2", 3)];
    let fits = |layer: &str, neurons: u64| NEURONS.contains(&(layer, neurons));
    let activity: Vec<_> = run.activity.iter().flatten().collect();
    classes(run) == 3 && !activity.is_empty() && activity.iter().all(|row| fits(&row.layer, row.neurons))
}

/// Accuracy of guessing among them.
pub(crate) fn chance(run: &Run) -> f64 {
    1.0 / f64::from(classes(run))
}

/// Standard error of an accuracy. Not finite without recordings.
pub(crate) fn standard_error(e: &Evaluation) -> f64 {
    interval::standard_error(e.accuracy, e.samples)
}

/// Why a network's saving would mean nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Worthless {
    /// A layer before the readout never fires, so its answers do not come from the recording.
    Silent,
    /// It is no better than naming the most frequent class throughout.
    Guesses,
}

impl Worthless {
    /// In a word or two, for tables and figures.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Guesses => "guesses",
        }
    }
}

/// Why this evaluation's network is worth nothing, if so: for any seed of a study, whose mean it would be part of.
pub(crate) fn worthless(run: &Run, e: &Evaluation) -> Option<Worthless> {
    let of_seed = |seed: &Run| worthless_alone(seed, evaluated_as(seed, e)?);
    worthless_alone(run, e).or_else(|| other_seeds(run, &e.network).find_map(of_seed))
}

/// The row of the same network, settings and T.
pub(crate) fn evaluated_as<'a>(run: &'a Run, e: &Evaluation) -> Option<&'a Evaluation> {
    let same = |other: &&Evaluation| {
        (&other.network, &other.preset, &other.encoder, other.timesteps)
            == (&e.network, &e.preset, &e.encoder, e.timesteps)
    };
    run.evaluations.iter().flatten().find(same)
}

fn worthless_alone(run: &Run, e: &Evaluation) -> Option<Worthless> {
    if e.kind.is_spiking() && is_silent(run, e) {
        return Some(Worthless::Silent);
    }
    guessing(run, e.samples).filter(|bar| e.accuracy <= *bar).map(|_| Worthless::Guesses)
}

/// The highest accuracy that is no better than naming the most frequent class throughout; none where nothing follows from it.
pub(crate) fn guessing(run: &Run, samples: u64) -> Option<f64> {
    // Without a confusion matrix the least that the largest of three classes can have.
    let bar = largest_class(run, samples).unwrap_or_else(|| chance(run));
    // Of a handful of recordings nothing follows; with all of one class there is nothing to find.
    (samples >= 10 && bar < 1.0).then_some(bar + 1e-9)
}

/// As [`worthless`], by the name of a network in other tables: what stands for it.
pub(crate) fn worthless_network(run: &Run, network: &str) -> Option<Worthless> {
    representatives_of(run, network).into_iter().find_map(|e| worthless(run, e))
}

/// Whether a layer before the readout fired no spike on any recording when the network was evaluated so: nothing of the
/// recordings passes it.
fn is_silent(run: &Run, e: &Evaluation) -> bool {
    let layers = run.activity_of(&e.network);
    // Of the readout alone nothing would follow: only the published preset's spikes.
    let before_readout = layers.len().saturating_sub(1).max(1);
    let measured = measured_at(run, e) == e.timesteps;
    measured && layers.iter().take(before_readout).any(|layer| layer.spikes_per_sample == 0.0)
}

/// Share of the most frequent class among so many recordings: the accuracy of naming it throughout. From the confusion
/// matrices, of which any over the same recordings will do.
pub(crate) fn largest_class(run: &Run, samples: u64) -> Option<f64> {
    let all = run.confusion.as_deref().unwrap_or_default();
    let mut matrices: Vec<Vec<&Confusion>> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for cell in all {
        let place = *places.entry(&cell.network).or_insert(matrices.len());
        if place == matrices.len() {
            matrices.push(Vec::new());
        }
        matrices[place].push(cell);
    }
    let matrix = matrices.into_iter().find(|m| total(m) == samples && samples > 0)?;
    let classes = distinct_classes(&matrix);
    let count = |class: &u32| matrix.iter().filter(|c| c.actual == *class).map(|c| c.count).sum::<u64>();
    Some(classes.iter().map(count).max()? as f64 / samples as f64)
}

fn total(matrix: &[&Confusion]) -> u64 {
    matrix.iter().map(|c| c.count).fold(0, u64::saturating_add)
}

fn distinct_classes(matrix: &[&Confusion]) -> Vec<u32> {
    let mut classes: Vec<u32> = matrix.iter().map(|c| c.actual).collect();
    classes.sort_unstable();
    classes.dedup();
    classes
}

/// Balanced accuracy and macro F1 of an evaluation: as it was recorded, else from the network's confusion matrix, if
/// that is of the same evaluation.
pub(crate) fn balanced(run: &Run, e: &Evaluation) -> (Option<f64>, Option<f64>) {
    if e.balanced_accuracy.is_some() || e.macro_f1.is_some() {
        return (e.balanced_accuracy, e.macro_f1);
    }
    let all = run.confusion.iter().flatten().filter(|c| c.network == e.network);
    let matrix: Vec<&Confusion> = all.collect();
    let hits = |class: u32| {
        let diagonal = matrix.iter().filter(|c| c.actual == class && c.predicted == class);
        diagonal.map(|c| c.count as f64).sum::<f64>()
    };
    let classes = distinct_classes(&matrix);
    let right: f64 = classes.iter().map(|&class| hits(class)).sum();
    if total(&matrix) != e.samples || (right / e.samples as f64 - e.accuracy).abs() > 1e-6 {
        return (None, None);
    }
    let sum = |of: &dyn Fn(&Confusion) -> bool| {
        matrix.iter().filter(|c| of(c)).map(|c| c.count as f64).sum::<f64>()
    };
    let (mut recalls, mut scores) = (Vec::new(), Vec::new());
    for &class in &classes {
        let (actual, predicted) = (sum(&|c| c.actual == class), sum(&|c| c.predicted == class));
        if actual > 0.0 {
            recalls.push(hits(class) / actual);
            scores.push(2.0 * hits(class) / (actual + predicted));
        }
    }
    let mean =
        |values: &[f64]| (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
    (mean(&recalls), mean(&scores))
}

/// The evaluation that stands for a network in Table 1: at the T its activity was measured at, else the most
/// accurate one, of two equals the shorter simulation. One for each network, preset and encoder.
pub(crate) fn representatives(run: &Run) -> Vec<&Evaluation> {
    representatives_among(run, run.evaluations.iter().flatten())
}

/// Those of one network.
pub(crate) fn representatives_of<'a>(run: &'a Run, network: &str) -> Vec<&'a Evaluation> {
    representatives_among(run, run.evaluations.iter().flatten().filter(|e| e.network == network))
}

fn representatives_among<'a>(run: &Run, all: impl Iterator<Item = &'a Evaluation>) -> Vec<&'a Evaluation> {
    let mut groups: Vec<Vec<&Evaluation>> = Vec::new();
    let mut places: HashMap<(&str, &str, &str), usize> = HashMap::new();
    for e in all {
        let place = *places.entry((&e.network, &e.preset, &e.encoder)).or_insert(groups.len());
        if place == groups.len() {
            groups.push(Vec::new());
        }
        groups[place].push(e);
    }
    let better = |a: &&Evaluation, b: &&Evaluation| {
        a.accuracy.total_cmp(&b.accuracy).then(b.timesteps.cmp(&a.timesteps))
    };
    let stands = |group: Vec<&'a Evaluation>| {
        let measured = measured_at(run, group.first()?);
        let measured = measured.and_then(|t| group.iter().copied().find(|e| e.timesteps == Some(t)));
        measured.or_else(|| group.into_iter().max_by(better))
    };
    groups.into_iter().filter_map(stands).collect()
}

/// T of the network's latest activity, if it was measured with this preset.
fn measured_at(run: &Run, e: &Evaluation) -> Option<u32> {
    let last = run.activity.iter().flatten().rev().find(|a| a.network == e.network);
    last.filter(|a| a.preset == e.preset).map(|a| a.timesteps)
}

/// Whether the energy table's numbers belong to this evaluation.
pub(crate) fn has_energy(run: &Run, e: &Evaluation) -> bool {
    let known = match is_ann(&e.network) {
        true => Tally::of(run).knows(&e.network),
        false => run.energy.iter().flatten().any(|row| row.network == e.network),
    };
    let unknown_activity = || run.activity.iter().flatten().all(|row| row.network != e.network);
    known && (measured_at(run, e) == e.timesteps || unknown_activity())
}

/// The ANN others are compared with: the last one evaluated.
pub(crate) fn reference_ann(run: &Run) -> Option<&Evaluation> {
    run.evaluations.iter().flatten().rev().find(|e| e.kind == Kind::Ann)
}

/// The spiking network to speak of first: one that decides something before one that does not, then the most accurate (over all seeds),
/// of equals the one that needs the least energy, then the fewest steps, then one whose spikes are in the folder. It is one that
/// can be compared with the ANN, if any can.
pub(crate) fn best_spiking(run: &Run) -> Option<&Evaluation> {
    let best = |compared_only: bool| {
        let spiking = representatives(run).into_iter().filter(|e| e.kind.is_spiking());
        let spiking = spiking.filter(|e| !compared_only || is_comparable(run, e));
        spiking.reduce(|best, e| if is_better(run, e, best) { e } else { best })
    };
    best(true).or_else(|| best(false))
}

/// Whether a spiking network is known to have another number of weights than the reference ANN.
pub(crate) fn is_of_other_size(run: &Run, network: &str) -> bool {
    let Some(ann) = reference_ann(run) else { return false };
    let weights = |wanted: &str, spiking: bool| {
        let rows = run.front.iter().flatten();
        let mut theirs = rows.filter(|row| row.network == wanted && row.kind.is_spiking() == spiking);
        theirs.next().map(|row| row.kilobytes * 8e3 / f64::from(row.bits.unwrap_or(32)))
    };
    let (own, of_ann) = (weights(network, true), weights(&ann.network, false));
    own.zip(of_ann).is_some_and(|(own, of_ann)| (own - of_ann).abs() > 0.5)
}

/// Whether a study made a network from another ANN than the reference, as far as its outcomes say.
pub(crate) fn is_of_other_ann(run: &Run, network: &str) -> bool {
    let outcome = run.outcomes.iter().flatten().find(|o| o.network == network);
    outcome.zip(reference_ann(run)).is_some_and(|(outcome, ann)| outcome.ann != ann.network)
}

/// Whether a network was judged by as many recordings as the reference ANN and comes from it, as far as its layers and a study's
/// outcomes say.
fn is_comparable(run: &Run, e: &Evaluation) -> bool {
    let Some(ann) = reference_ann(run) else { return true };
    e.samples == ann.samples && !is_of_other_ann(run, &e.network) && !is_of_other_size(run, &e.network)
}

fn is_better(run: &Run, e: &Evaluation, than: &Evaluation) -> bool {
    let tally = Tally::of(run);
    let energy = |e: &Evaluation| {
        let known = tally.itemised().filter(|_| has_energy(run, e));
        known.and_then(|model| tally.total(&model, &e.network)).unwrap_or(f64::INFINITY)
    };
    let decides = |e: &Evaluation| worthless(run, e).is_none();
    let order = decides(e)
        .cmp(&decides(than))
        .then(accuracy(run, e).mean.total_cmp(&accuracy(run, than).mean))
        .then(energy(than).total_cmp(&energy(e)))
        .then(than.timesteps.cmp(&e.timesteps))
        .then_with(|| run.has_raster(&e.network).cmp(&run.has_raster(&than.network)));
    order.is_gt()
}

/// The networks of a table, in order of appearance but with the one of most interest first: the best, else the last.
pub(crate) fn ranked<'a>(run: &Run, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut networks = distinct(names);
    let spiking = representatives(run).into_iter().filter(|e| e.kind.is_spiking());
    let best = spiking
        .filter(|e| networks.contains(&e.network))
        .reduce(|best, e| if is_better(run, e, best) { e } else { best });
    let lead = best.and_then(|best| networks.iter().position(|n| *n == best.network));
    let lead = lead.unwrap_or(networks.len().saturating_sub(1));
    if lead < networks.len() {
        networks[..=lead].rotate_right(1);
    }
    networks
}
