//! Counting what networks really do.
//!
//! For a layer with M MACs, N neurons, P values that it sends after pooling, W weights, A accumulates caused by arriving
//! spikes and S spikes fired, over T steps:
//!
//! | | spiking network, T steps | ANN, one pass | ANN that skips zeros |
//! |---|---|---|---|
//! | multiply-accumulates | M once for an analog input, else 0 | M | those with a value that is not zero |
//! | accumulates | A | 0 | 0 |
//! | membrane updates | N T additions (and as many multiplications if the membranes leak) | | |
//! | requantising, whole numbers only | none: thresholds are in the sums' units | N | N |
//! | weights fetched, words | min(A, W T), or A by arriving spike; W once for an analog input | W | min(MACs, W), or MACs |
//! | state, words | N membranes written and read again between steps: T - 1 times | P written, then read | those that are not zero |
//! | addressing | S addresses, or a map of N T bits | none: every value is read in order | the same of its P values |
//!
//! A [sparse](Model::sparse) model counts, of these, what weights that are not zero cause, and stores and fetches those alone where
//! that takes fewer bits with a map of them. A layer that goes through all steps at once ([`Traffic::LayerByLayer`]) may send whole
//! trains instead of spikes: a map of N bits of the F neurons that fired at all, or F addresses, and F T bits.
//!
//! So a network of a single step stores no membranes. Traffic within a pass or step is the least possible, for all networks
//! alike: sums stay in registers, and what is pooled is pooled before it is stored. The spiking network runs step by step, as
//! event-driven hardware does. The recording's own traffic is left out throughout, and so are the additions of average pooling.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::activity::{AnnActivity, AnnBits, EnergyError, LayerActivity, NetworkActivity, Nonzero, count};
use crate::constants::Constants;
use crate::model::{Model, Traffic, ann_name};

/// What the energy of a layer goes into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Component {
    /// Multiplications with their additions.
    MultiplyAccumulate,
    /// Additions caused by arriving spikes.
    Accumulate,
    /// One update per neuron and step.
    Membrane,
    /// Sums of a quantised ANN brought back to its few bits.
    Requantise,
    /// Weights fetched.
    WeightMemory,
    /// Activations (ANN), or membranes (spiking network), written and read.
    StateMemory,
    /// Which neurons fired, or which values are not zero: written and read.
    Addressing,
}

impl Component {
    /// Name in tables: `multiply_accumulate`, `accumulate`, `membrane`, `requantise`, `weight_memory`, `state_memory`,
    /// `addressing`.
    pub fn name(self) -> &'static str {
        match self {
            Self::MultiplyAccumulate => "multiply_accumulate",
            Self::Accumulate => "accumulate",
            Self::Membrane => "membrane",
            Self::Requantise => "requantise",
            Self::WeightMemory => "weight_memory",
            Self::StateMemory => "state_memory",
            Self::Addressing => "addressing",
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One number of a breakdown: a row of `energy.csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The energy model: `published` or a [`Model::name`].
    pub model: String,
    /// The network: an [`ann_name`], or the name of a spiking network.
    pub network: String,
    /// The layer.
    pub layer: String,
    /// What it goes into.
    pub component: Component,
    /// Picojoules per sample.
    pub picojoules: f64,
}

/// The sum of a network's entries, picojoules per sample.
pub fn total(entries: &[Entry]) -> f64 {
    entries.iter().map(|entry| entry.picojoules).sum()
}

/// Energy of a spiking network called `network`, per sample. Parts that are zero by nature (no memory in the model, no MACs
/// behind a spiking input) have no entry.
///
/// # Errors
/// Counts that cannot be; no layer; no step.
pub fn energy(
    network: &str,
    activity: &NetworkActivity,
    model: &Model,
    constants: &Constants,
) -> Result<Vec<Entry>, EnergyError> {
    activity.check()?;
    let steps = f64::from(activity.timesteps);
    let mut entries = Vec::new();
    for layer in &activity.layers {
        let cost = Cost::of(layer, activity, model, constants);
        let all = layer.synaptic_operations_per_sample;
        let nonzero = layer.nonzero_operations.filter(|_| model.sparse);
        let operations = nonzero.unwrap_or(all);
        let mut push = pusher(&mut entries, model.name, network, &layer.layer);
        if layer.analog_input {
            push(Component::MultiplyAccumulate, cost.once_mac);
        }
        push(Component::Accumulate, operations * cost.accumulate);
        push(Component::Membrane, steps * cost.membranes_per_step);
        if model.traffic != Traffic::None {
            let sparse = layer.nonzero_weights.zip(nonzero);
            let fetched = model.fetching_pj(constants, (layer.weights, cost.bits), all, sparse, steps);
            push(Component::WeightMemory, cost.once_weights + fetched);
            let by_layer = model.traffic == Traffic::LayerByLayer;
            let stored = if by_layer { 0.0 } else { steps - 1.0 };
            push(Component::StateMemory, stored * cost.potentials);
            let spikes = constants.addressing_pj(layer.spikes_per_sample, layer.neurons, steps);
            let trains = layer.active.filter(|_| by_layer);
            let trains = trains.map(|active| constants.trains_pj(active, layer.neurons, steps));
            push(Component::Addressing, trains.map_or(spikes, |trains| spikes.min(trains)));
        }
    }
    Ok(entries)
}

/// Energy of an ANN, per sample, under the name that [`ann_name`] has for it. It computes in its own number format, whatever
/// the model's; where it `skips`, only with what is not zero.
///
/// # Errors
/// Counts that cannot be; no layer; it is to skip zeros and nobody has counted them.
pub fn ann_energy(
    ann: &AnnActivity,
    skips: bool,
    model: &Model,
    constants: &Constants,
) -> Result<Vec<Entry>, EnergyError> {
    ann.check()?;
    let name = ann_name(ann.bits.map(|bits| bits.bits), skips);
    let mut entries = Vec::new();
    for (k, layer) in ann.layers.iter().enumerate() {
        let of =
            |AnnBits { bits, input_bits }| constants.integer(bits, if k == 0 { input_bits } else { bits });
        let arithmetic = ann.bits.map_or(constants.fp32(), of);
        let bits = f64::from(arithmetic.bits);
        let (all, sent, sparse) = match (skips, layer.nonzero) {
            (false, _) => (layer.macs as f64, layer.sent as f64, None),
            (true, Some(Nonzero { macs, macs_of_nonzero_weights, sent })) => {
                (macs, sent, macs_of_nonzero_weights.filter(|_| model.sparse))
            }
            (true, None) => return Err(EnergyError::NotCounted { layer: layer.layer.clone() }),
        };
        let mut push = pusher(&mut entries, model.name, &name, &layer.layer);
        push(Component::MultiplyAccumulate, sparse.unwrap_or(all) * arithmetic.mac_pj());
        // The readout's sums are compared as they are.
        if ann.bits.is_some() && k + 1 < ann.layers.len() {
            push(Component::Requantise, layer.neurons as f64 * constants.requantise_pj());
        }
        if model.traffic != Traffic::None {
            let weights = (layer.weights, arithmetic.bits);
            let sparse = layer.nonzero_weights.zip(sparse);
            let fetched = match skips {
                false => model.fetching_once_pj(constants, weights, None),
                true => model.fetching_pj(constants, weights, all, sparse, 1.0),
            };
            push(Component::WeightMemory, fetched);
            push(Component::StateMemory, 2.0 * sent * bits * constants.bit_pj(layer.sent as f64 * bits));
            if skips {
                push(Component::Addressing, constants.addressing_pj(sent, layer.sent, 1.0));
            }
        }
    }
    Ok(entries)
}

/// What a layer did at one step, per sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerStep {
    /// Spikes that it fired.
    pub spikes: f64,
    /// Accumulates that arriving spikes caused.
    pub operations: f64,
}

/// Cumulative energy of a spiking network after each of its T steps, picojoules per sample.
///
/// `did[t][l]` is what layer l did at step t. What an analog input costs once is spent at the first step. The last value
/// equals the total of [`energy`], except that weights are bounded, and events told, step by step here, so that memory
/// traffic can come out slightly lower.
///
/// # Errors
/// Counts that cannot be, or not T rows of one value a layer.
pub fn per_step(
    activity: &NetworkActivity,
    did: &[Vec<LayerStep>],
    model: &Model,
    constants: &Constants,
) -> Result<Vec<f64>, EnergyError> {
    activity.check()?;
    if did.len() != activity.timesteps as usize {
        return Err(EnergyError::StepCount { expected: activity.timesteps as usize, got: did.len() });
    }
    let costs: Vec<Cost> =
        activity.layers.iter().map(|layer| Cost::of(layer, activity, model, constants)).collect();
    let mut total = costs.iter().map(|c| c.once_mac + c.once_weights).sum::<f64>();
    let mut cumulative = Vec::with_capacity(did.len());
    for (step, row) in did.iter().enumerate() {
        if row.len() != activity.layers.len() {
            return Err(EnergyError::StepLayers { step, expected: activity.layers.len(), got: row.len() });
        }
        for ((layer, cost), did) in activity.layers.iter().zip(&costs).zip(row) {
            count(&layer.layer, "synaptic operations of a step", did.operations)?;
            count(&layer.layer, "spikes of a step", did.spikes)?;
            total += did.operations * cost.accumulate + cost.membranes_per_step;
            if model.traffic != Traffic::None {
                total += model.fetching_pj(constants, (layer.weights, cost.bits), did.operations, None, 1.0)
                    + constants.addressing_pj(did.spikes, layer.neurons, 1.0);
                // What the step before has left.
                total += if step > 0 { cost.potentials } else { 0.0 };
            }
        }
        cumulative.push(total);
    }
    Ok(cumulative)
}

/// Prices of one spiking layer, picojoules.
struct Cost {
    /// All MACs of an analog input, once per sample.
    once_mac: f64,
    /// All weights of an analog input fetched once per sample.
    once_weights: f64,
    /// One accumulate.
    accumulate: f64,
    /// All membranes updated once.
    membranes_per_step: f64,
    /// Bits of a weight.
    bits: u32,
    /// All membranes written and read once.
    potentials: f64,
}

impl Cost {
    fn of(layer: &LayerActivity, activity: &NetworkActivity, model: &Model, constants: &Constants) -> Self {
        let arithmetic = model.arithmetic(constants, activity.input_bits);
        let neurons = layer.neurons as f64;
        let potential = model.potential(constants);
        let potential_bits = f64::from(potential.bits);
        let update = if activity.leaky { potential.mac_pj() } else { potential.add_pj };
        let counted = layer.nonzero_macs.filter(|_| model.sparse);
        let macs = counted.unwrap_or(layer.macs as f64);
        let weights =
            model.fetching_once_pj(constants, (layer.weights, arithmetic.bits), layer.nonzero_weights);
        let once = |value: f64| if layer.analog_input { value } else { 0.0 };
        Self {
            once_mac: once(macs * arithmetic.mac_pj()),
            once_weights: once(weights),
            accumulate: arithmetic.add_pj,
            membranes_per_step: neurons * update,
            bits: arithmetic.bits,
            potentials: 2.0 * neurons * potential_bits * constants.bit_pj(neurons * potential_bits),
        }
    }
}

fn pusher(entries: &mut Vec<Entry>, model: &str, network: &str, layer: &str) -> impl FnMut(Component, f64) {
    move |component, picojoules| {
        entries.push(Entry {
            model: model.to_owned(),
            network: network.to_owned(),
            layer: layer.to_owned(),
            component,
            picojoules,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activity::examples;
    use crate::model::models;

    const FP32: Model = models()[0];
    const INT8: Model = models()[1];
    const FP32_MEMORY: Model = models()[2];
    const INT8_MEMORY: Model = models()[3];
    const INT8_EVENTS: Model = models()[4];

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-9 * b.abs().max(1.0), "{a} is not {b}");
    }

    fn spiking(activity: &NetworkActivity, model: &Model) -> Vec<Entry> {
        energy("snn", activity, model, &Constants::default()).unwrap()
    }

    fn ann(activity: &AnnActivity, skips: bool, model: &Model) -> Vec<Entry> {
        ann_energy(activity, skips, model, &Constants::default()).unwrap()
    }

    fn find(entries: &[Entry], layer: &str, component: Component) -> f64 {
        entries.iter().find(|e| e.layer == layer && e.component == component).unwrap().picojoules
    }

    /// The ANN of model 1 in whole numbers, a quarter of whose values are not zero.
    fn quantised(bits: u32) -> AnnActivity {
        let mut ann = AnnActivity::dense(&examples::model_1(true));
        ann.bits = Some(AnnBits { bits, input_bits: 10 });
        for layer in &mut ann.layers {
            let (macs, sent) = (layer.macs as f64 / 4.0, layer.sent as f64 / 4.0);
            layer.nonzero = Some(Nonzero { macs, macs_of_nonzero_weights: None, sent });
        }
        ann
    }

    #[test]
    fn arithmetic_by_hand() {
        let activity = examples::model_1(false);
        // 143,002,034 accumulates, and 470,659 membranes updated 28 times.
        close(total(&spiking(&activity, &FP32)), (143_002_034.0 + 470_659.0 * 28.0) * 0.9);
        close(total(&spiking(&activity, &INT8)), (143_002_034.0 + 470_659.0 * 28.0) * 0.03);
        let dense = AnnActivity::dense(&activity);
        for model in [FP32, INT8] {
            let entries = ann(&dense, false, &model);
            close(total(&entries), 126_157_568.0 * 4.6);
            assert!(entries.iter().all(|e| e.network == "ann" && e.model == model.name));
        }
        // 5 bits: 0.2 (5/8)^2 + 0.03 (5/8), the first layer 0.2 (5/8) (10/8); 470,656 neurons requantised.
        let entries = ann(&quantised(5), false, &FP32);
        let first = 22_937_600.0 * (0.2 * 0.625 * 1.25 + 0.01875);
        let others = (126_157_568.0 - 22_937_600.0) * (0.078125 + 0.01875);
        close(total(&entries), first + others + 470_656.0 * 3.1);
        assert!(entries.iter().all(|e| e.network == "ann-5bit"));
    }

    #[test]
    fn layer_by_layer_stores_no_potentials_and_fetches_a_weight_once() {
        let mut activity = examples::model_1(true);
        activity.layers[0].nonzero_macs = Some(1e6);
        let of = |traffic| spiking(&activity, &Model::own(Some(4), traffic));
        let (once, by_step) = (of(Traffic::LayerByLayer), of(Traffic::Reused));
        for layer in ["conv1", "conv2", "linear1"] {
            assert_eq!(find(&once, layer, Component::StateMemory), 0.0);
            assert!(find(&by_step, layer, Component::StateMemory) > 0.0);
            // 4-bit weights; potentials have 8 bits all the same.
            close(find(&once, layer, Component::Membrane) / find(&by_step, layer, Component::Membrane), 1.0);
        }
        // conv2's 65,536 weights of 4 bits lie in 32 kB, each of whose words of 64 bits costs 20 pJ.
        close(find(&once, "conv2", Component::WeightMemory), 65_536.0 * 4.0 * 20.0 / 64.0);
        close(find(&by_step, "conv2", Component::WeightMemory), 28.0 * 65_536.0 * 4.0 * 20.0 / 64.0);
        // What is zero in the recording is not multiplied: 4-bit weights with 10-bit values.
        close(find(&once, "conv1", Component::MultiplyAccumulate), 1e6 * (0.2 * 0.5 * 1.25 + 0.015));
        close(find(&once, "conv1", Component::Membrane), 28.0 * activity.layers[0].neurons as f64 * 0.03);
    }

    #[test]
    fn zeros_of_all_kinds_are_skipped() {
        let of = |activity: &NetworkActivity| spiking(activity, &Model::own(Some(4), Traffic::LayerByLayer));
        let mut activity = examples::model_1(true);
        let before = of(&activity);
        // A quarter of the weights is left, and a hundredth of the neurons fires.
        for layer in &mut activity.layers {
            layer.nonzero_weights = Some(layer.weights / 4);
            layer.nonzero_macs = Some(layer.macs as f64 / 4.0);
            layer.nonzero_operations = Some(layer.synaptic_operations_per_sample / 4.0);
            layer.active = Some(layer.neurons as f64 / 100.0);
        }
        let after = of(&activity);
        let quarter =
            |layer, component| close(find(&after, layer, component), find(&before, layer, component) / 4.0);
        quarter("conv1", Component::MultiplyAccumulate);
        quarter("conv2", Component::Accumulate);
        // 16,384 of conv2's 65,536 weights of 4 bits, behind a map, in 32 KB: 20 pJ for 64 bits.
        let bits = 65_536.0 + 16_384.0 * 4.0;
        close(find(&after, "conv2", Component::WeightMemory), bits * 20.0 / 64.0);
        // 224 of conv3's 22,400 neurons, 15 bits of address and 28 of train each; a map would take 22,400 and 6,272 bits.
        close(find(&after, "conv3", Component::Addressing), 2.0 * 224.0 * 43.0 * 10.0 / 64.0);
        // 3,584 of conv1's 358,400 by a map of all in the 1 MB memory would cost more.
        close(find(&after, "conv1", Component::Addressing), 2.0 * 3_584.0 * (19.0 + 28.0) * 10.0 / 64.0);
        close(find(&after, "conv2", Component::Membrane), find(&before, "conv2", Component::Membrane));
        // The other models know of none of that, and of trains only where all steps are taken at once.
        for model in models() {
            assert_eq!(
                spiking(&activity, &model),
                spiking(&examples::model_1(true), &model),
                "{}",
                model.name
            );
        }
        let by_event = spiking(&activity, &Model::own(Some(4), Traffic::ByEvent));
        assert!(
            find(&by_event, "conv3", Component::Addressing) > find(&after, "conv3", Component::Addressing)
        );

        let mut ann_activity = quantised(4);
        for layer in &mut ann_activity.layers {
            layer.nonzero_weights = Some(layer.weights / 4);
            if let Some(nonzero) = &mut layer.nonzero {
                nonzero.macs_of_nonzero_weights = Some(nonzero.macs / 4.0);
            }
        }
        let own = Model::own(None, Traffic::LayerByLayer);
        let (before, after) = (ann(&quantised(4), true, &own), ann(&ann_activity, true, &own));
        close(
            find(&after, "conv2", Component::MultiplyAccumulate),
            find(&before, "conv2", Component::MultiplyAccumulate) / 4.0,
        );
        close(find(&after, "conv2", Component::WeightMemory), bits * 20.0 / 64.0);
        for (skips, model) in [(false, own), (true, INT8_MEMORY), (true, INT8_EVENTS)] {
            assert_eq!(ann(&ann_activity, skips, &model), ann(&quantised(4), skips, &model));
        }
    }

    #[test]
    fn trains_are_told_by_map_or_by_address() {
        let constants = Constants::default();
        let bit = 10.0 / 64.0;
        // 300 of 1,400 neurons, 8 steps: a map of 1,400 bits and 2,400 of trains, or 11 + 8 bits each.
        close(constants.trains_pj(300.0, 1400, 8.0), 2.0 * 3800.0 * bit);
        close(constants.trains_pj(50.0, 1400, 8.0), 2.0 * 50.0 * 19.0 * bit);
        assert_eq!(constants.trains_pj(0.0, 1400, 8.0), 0.0);
    }

    #[test]
    fn what_is_zero_is_skipped() {
        let (all, some) = (ann(&quantised(4), false, &INT8_MEMORY), ann(&quantised(4), true, &INT8_MEMORY));
        assert!(some.iter().all(|e| e.network == "ann-4bit-skip"));
        for layer in ["conv1", "conv2", "linear2"] {
            close(
                find(&some, layer, Component::MultiplyAccumulate),
                find(&all, layer, Component::MultiplyAccumulate) / 4.0,
            );
            close(
                find(&some, layer, Component::StateMemory),
                find(&all, layer, Component::StateMemory) / 4.0,
            );
        }
        close(find(&some, "conv1", Component::Requantise), find(&all, "conv1", Component::Requantise));
        // More MACs are left than conv3 has weights, fewer than linear1 has.
        close(find(&some, "conv3", Component::WeightMemory), find(&all, "conv3", Component::WeightMemory));
        close(
            find(&some, "linear1", Component::WeightMemory),
            find(&all, "linear1", Component::WeightMemory) / 4.0,
        );
        // 5,600 of 22,400 values: 15 bits an address are more than a map of 22,400 bits, 2,800 bytes.
        close(find(&some, "conv3", Component::Addressing), 2.0 * 22_400.0 * 10.0 / 64.0);
        // By arriving value each MAC fetches its weight: 4 bits of the 32 KB that conv2 takes, or of DRAM.
        let by_event = ann(&quantised(4), true, &INT8_EVENTS);
        close(find(&by_event, "conv2", Component::WeightMemory), 91_750_400.0 / 4.0 * 4.0 * 20.0 / 64.0);
        let dense = ann(&quantised(4), false, &INT8_EVENTS);
        close(find(&dense, "conv2", Component::WeightMemory), 65_536.0 * 4.0 * 20.0 / 64.0);
        let unmeasured = AnnActivity::dense(&examples::model_1(true));
        assert_eq!(
            ann_energy(&unmeasured, true, &FP32, &Constants::default()),
            Err(EnergyError::NotCounted { layer: "conv1".into() })
        );
    }

    #[test]
    fn an_analog_input_is_multiplied_once() {
        let macs = |model| {
            let entries = spiking(&examples::model_1(true), &model);
            let macs: Vec<_> =
                entries.into_iter().filter(|e| e.component == Component::MultiplyAccumulate).collect();
            assert_eq!((macs.len(), macs[0].layer.as_str()), (1, "conv1"));
            macs[0].picojoules
        };
        close(macs(FP32), 22_937_600.0 * 4.6);
        // Weights of 8 bits, input of 10.
        close(macs(INT8), 22_937_600.0 * (0.2 * 1.25 + 0.03));
    }

    #[test]
    fn leaking_costs_a_multiplication_per_update() {
        let membranes = |leaky, model| {
            let activity = NetworkActivity { leaky, ..examples::model_1(false) };
            let all = spiking(&activity, &model);
            all.iter().filter(|e| e.component == Component::Membrane).map(|e| e.picojoules).sum::<f64>()
        };
        close(membranes(true, FP32) / membranes(false, FP32), 4.6 / 0.9);
        close(membranes(true, INT8) / membranes(false, INT8), 0.23 / 0.03);
    }

    #[test]
    fn memory_by_hand() {
        let activity = examples::model_1(false);
        let (snn, dense) =
            (spiking(&activity, &FP32_MEMORY), ann(&AnnActivity::dense(&activity), false, &FP32_MEMORY));
        // conv3: 16,384 weights of 4 bytes are 64 KB, in the 1 MB memory: 100 / 2 pJ a weight.
        close(find(&dense, "conv3", Component::WeightMemory), 16_384.0 * 50.0);
        // 22,400 activations of 4 bytes are 87.5 KB: the same memory, written and read.
        close(find(&dense, "conv3", Component::StateMemory), 2.0 * 22_400.0 * 50.0);
        // conv1 pools by four what it stores: 358.4 KB.
        close(find(&dense, "conv1", Component::StateMemory), 2.0 * 89_600.0 * 50.0);
        // At most every weight at every step: 16,384 * 28 < 10 million; by arriving spike all 10 million.
        close(find(&snn, "conv3", Component::WeightMemory), 16_384.0 * 28.0 * 50.0);
        let by_event = spiking(&activity, &INT8_EVENTS);
        close(find(&by_event, "conv3", Component::WeightMemory), 10e6 * 8.0 * 20.0 / 64.0);
        // Membranes are left from step to step, 27 times.
        close(find(&snn, "conv3", Component::StateMemory), 27.0 * 2.0 * 22_400.0 * 50.0);
        // 12,132 spikes of 15 bits of address, against a map of 22,400 bits (2,800 bytes) at 28 steps.
        close(find(&snn, "conv3", Component::Addressing), 2.0 * 12_132.0 * 15.0 * 10.0 / 64.0);
        // linear1: 3 million arriving accumulates touch fewer weights than 28 times all 5.7 million.
        close(find(&snn, "linear1", Component::WeightMemory), 3e6 * 650.0);
    }

    #[test]
    fn a_single_step_stores_no_membranes() {
        let activity = NetworkActivity { timesteps: 1, ..examples::model_1(true) };
        let stored = |activity: &NetworkActivity| {
            let all = spiking(activity, &INT8_MEMORY);
            all.iter().filter(|e| e.component == Component::StateMemory).map(|e| e.picojoules).sum::<f64>()
        };
        assert_eq!(stored(&activity), 0.0);
        assert!(stored(&NetworkActivity { timesteps: 2, ..activity }) > 0.0);
    }

    #[test]
    fn memory_can_reverse_the_verdict() {
        let activity = examples::model_1(false);
        let dense = AnnActivity::dense(&activity);
        let saving = |model| total(&ann(&dense, false, &model)) / total(&spiking(&activity, &model));
        assert!(saving(FP32) > 1.0);
        assert!(saving(FP32_MEMORY) < 1.0);
    }

    #[test]
    fn steps_add_up_to_the_total() {
        let constants = Constants::default();
        for analog in [false, true] {
            let activity = examples::model_1(analog);
            let even = |l: &LayerActivity| LayerStep {
                spikes: l.spikes_per_sample / 28.0,
                operations: l.synaptic_operations_per_sample / 28.0,
            };
            let row: Vec<LayerStep> = activity.layers.iter().map(even).collect();
            for model in models() {
                let steps = per_step(&activity, &vec![row.clone(); 28], &model, &constants).unwrap();
                assert!(steps.windows(2).all(|pair| pair[0] < pair[1]));
                close(steps[27], total(&spiking(&activity, &model)));
            }
        }
    }

    #[test]
    fn wrong_steps_are_refused() {
        let activity = examples::model_1(false);
        let of = |did: &[Vec<LayerStep>]| per_step(&activity, did, &FP32_MEMORY, &Constants::default());
        assert_eq!(of(&[]), Err(EnergyError::StepCount { expected: 28, got: 0 }));
        let one = LayerStep { spikes: 1.0, operations: 1.0 };
        let mut rows = vec![vec![one; 5]; 28];
        rows[3].pop();
        assert_eq!(of(&rows), Err(EnergyError::StepLayers { step: 3, expected: 5, got: 4 }));
        for bad in [LayerStep { spikes: f64::NAN, ..one }, LayerStep { operations: -1.0, ..one }] {
            rows[3].truncate(4);
            rows[3].push(bad);
            assert!(of(&rows).is_err());
        }
    }

    #[test]
    fn fewer_bits_are_cheaper_throughout() {
        for (small, large) in [(3, 4), (4, 6), (6, 8)] {
            for model in models() {
                for skips in [false, true] {
                    let (a, b) =
                        (ann(&quantised(small), skips, &model), ann(&quantised(large), skips, &model));
                    assert!(a.iter().zip(&b).all(|(a, b)| a.picojoules <= b.picojoules), "{a:?} {b:?}");
                    assert!(total(&a) < total(&b));
                }
            }
        }
    }
}
