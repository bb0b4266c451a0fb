//! Counting what both networks really do.
//!
//! For a layer with M MACs, N neurons, W weights and A accumulates caused by arriving spikes, over T steps:
//!
//! | | ANN, one pass | spiking network, T steps |
//! |---|---|---|
//! | multiply-accumulates | M | M once for an analog input, else 0 |
//! | accumulates | 0 | A |
//! | membrane updates | 0 | N T additions (and as many multiplications if the membranes leak) |
//! | weight traffic, words | W | min(A, W T): at most every weight at every step; W once for an analog input |
//! | state traffic | N activations written, then read | N T membranes read, then written; N T spikes of one bit written, then read |
//!
//! Traffic assumes the best possible reuse within a pass or step, for both networks alike, and that the spiking
//! network runs step by step, as event-driven hardware does. The recording's own traffic is left out on both
//! sides. Average pooling is left out on both sides too.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::activity::{EnergyError, LayerActivity, NetworkActivity, count};
use crate::model::{ANN, Arithmetic, Memory, Model, ann_name, quantised};

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
    /// Weights fetched.
    WeightMemory,
    /// Activations (ANN), or membranes and spikes (spiking network), written and read.
    StateMemory,
}

impl Component {
    /// Name in tables: `multiply_accumulate`, `accumulate`, `membrane`, `weight_memory`, `state_memory`.
    pub fn name(self) -> &'static str {
        match self {
            Self::MultiplyAccumulate => "multiply_accumulate",
            Self::Accumulate => "accumulate",
            Self::Membrane => "membrane",
            Self::WeightMemory => "weight_memory",
            Self::StateMemory => "state_memory",
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
    /// The network: [`ANN`], [`ann_name`] of some bits, or the name of a spiking network.
    pub network: String,
    /// The layer.
    pub layer: String,
    /// What it goes into.
    pub component: Component,
    /// Picojoules per sample.
    pub picojoules: f64,
}

/// The energy of a spiking network and of its two baselines, in parts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Breakdown {
    /// Bits of the quantised baseline.
    pub bits: u32,
    /// The spiking network.
    pub snn: Vec<Entry>,
    /// The ANN in the model's own number format.
    pub ann: Vec<Entry>,
    /// The ANN quantised to `bits` bits.
    pub quantised: Vec<Entry>,
}

/// Sums of a [`Breakdown`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Totals {
    /// Spiking network, picojoules per sample.
    pub snn_pj: f64,
    /// Full-precision ANN, picojoules per sample.
    pub ann_pj: f64,
    /// Quantised ANN, picojoules per sample.
    pub quantised_pj: f64,
    /// SNN over full-precision ANN.
    pub normalised: f64,
    /// Full-precision ANN over SNN: above 1, the spiking network wins. Infinite for a network that costs nothing.
    pub saving: f64,
    /// Quantised ANN over SNN.
    pub saving_over_quantised: f64,
}

impl Breakdown {
    /// The sums and their ratios.
    pub fn totals(&self) -> Totals {
        let sum = |entries: &[Entry]| entries.iter().map(|e| e.picojoules).sum::<f64>();
        let (snn_pj, ann_pj, quantised_pj) = (sum(&self.snn), sum(&self.ann), sum(&self.quantised));
        Totals {
            snn_pj,
            ann_pj,
            quantised_pj,
            normalised: snn_pj / ann_pj,
            saving: ann_pj / snn_pj,
            saving_over_quantised: quantised_pj / snn_pj,
        }
    }

    /// All entries: ANN, quantised ANN, spiking network.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.ann.iter().chain(&self.quantised).chain(&self.snn)
    }
}

/// Bits an ANN's activation needs to say as much as a spike count of 0 to T: ceil(log2(T + 1)), at least 1.
pub fn quantised_bits(timesteps: u32) -> u32 {
    // The smallest b with 2^b >= T + 1 is the number of binary digits of T.
    (u32::BITS - timesteps.leading_zeros()).max(1)
}

/// Energy of a spiking network called `network`, beside its two baselines, per sample. Parts that are zero by
/// nature (no memory in the model, no MACs behind a spiking input) have no entry.
///
/// # Errors
/// Counts that cannot be; no layer; no step.
pub fn energy(network: &str, activity: &NetworkActivity, model: &Model) -> Result<Breakdown, EnergyError> {
    activity.check()?;
    let bits = quantised_bits(activity.timesteps);
    let steps = f64::from(activity.timesteps);
    let mut snn = Vec::new();
    for layer in &activity.layers {
        let cost = Cost::of(layer, activity.leaky, model);
        let operations = layer.synaptic_operations_per_sample;
        let weights = if layer.analog_input { 0.0 } else { operations.min(layer.weights as f64 * steps) };
        let mut push = pusher(&mut snn, model.name, network, &layer.layer);
        if layer.analog_input {
            push(Component::MultiplyAccumulate, cost.once_mac);
        }
        push(Component::Accumulate, operations * cost.accumulate);
        push(Component::Membrane, steps * cost.membranes_per_step);
        if model.memory.is_some() {
            push(Component::WeightMemory, cost.once_weights + weights * cost.weight);
            push(Component::StateMemory, steps * cost.state_per_step);
        }
    }
    let ann = baseline(ANN, activity, model, model.arithmetic);
    let quantised = baseline(&ann_name(bits), activity, model, quantised(bits));
    Ok(Breakdown { bits, snn, ann, quantised })
}

/// Cumulative energy of a spiking network after each of its T steps, picojoules per sample.
///
/// `operations[t][l]` are the accumulates that spikes arriving at layer l caused at step t, per sample. What an
/// analog input costs once is spent at the first step. The last value equals the total of [`energy`], except that
/// weights are bounded step by step here, so that memory traffic can come out slightly lower.
///
/// # Errors
/// Counts that cannot be, or not T rows of one value a layer.
pub fn per_step(
    activity: &NetworkActivity,
    operations: &[Vec<f64>],
    model: &Model,
) -> Result<Vec<f64>, EnergyError> {
    activity.check()?;
    if operations.len() != activity.timesteps as usize {
        return Err(EnergyError::StepCount { expected: activity.timesteps as usize, got: operations.len() });
    }
    let costs: Vec<Cost> = activity.layers.iter().map(|l| Cost::of(l, activity.leaky, model)).collect();
    let mut total = costs.iter().map(|c| c.once_mac + c.once_weights).sum::<f64>();
    let mut cumulative = Vec::with_capacity(operations.len());
    for (step, row) in operations.iter().enumerate() {
        if row.len() != activity.layers.len() {
            return Err(EnergyError::StepLayers { step, expected: activity.layers.len(), got: row.len() });
        }
        for ((layer, cost), &arrived) in activity.layers.iter().zip(&costs).zip(row) {
            count(&layer.layer, "synaptic operations of a step", arrived)?;
            let weights = if layer.analog_input { 0.0 } else { arrived.min(layer.weights as f64) };
            total += arrived * cost.accumulate
                + cost.membranes_per_step
                + weights * cost.weight
                + cost.state_per_step;
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
    /// One weight fetched.
    weight: f64,
    /// All membranes read and written, all spikes written and read, once.
    state_per_step: f64,
}

impl Cost {
    fn of(layer: &LayerActivity, leaky: bool, model: &Model) -> Self {
        let arithmetic = model.arithmetic;
        let (neurons, bits) = (layer.neurons as f64, f64::from(arithmetic.bits));
        let weight = weight_pj(layer, arithmetic, model.memory);
        let state_per_step = model.memory.map_or(0.0, |memory| {
            2.0 * neurons * bits * memory.bit_pj(neurons * bits) + 2.0 * neurons * memory.bit_pj(neurons)
        });
        let update = if leaky { arithmetic.mac_pj() } else { arithmetic.add_pj };
        let once = |value: f64| if layer.analog_input { value } else { 0.0 };
        Self {
            once_mac: once(layer.macs as f64 * arithmetic.mac_pj()),
            once_weights: once(layer.weights as f64 * weight),
            accumulate: arithmetic.add_pj,
            membranes_per_step: neurons * update,
            weight,
            state_per_step,
        }
    }
}

fn weight_pj(layer: &LayerActivity, arithmetic: Arithmetic, memory: Option<Memory>) -> f64 {
    let bits = f64::from(arithmetic.bits);
    memory.map_or(0.0, |memory| bits * memory.bit_pj(layer.weights as f64 * bits))
}

/// The ANN, run once in `arithmetic`.
fn baseline(name: &str, activity: &NetworkActivity, model: &Model, arithmetic: Arithmetic) -> Vec<Entry> {
    let mut entries = Vec::new();
    for layer in &activity.layers {
        let mut push = pusher(&mut entries, model.name, name, &layer.layer);
        push(Component::MultiplyAccumulate, layer.macs as f64 * arithmetic.mac_pj());
        if let Some(memory) = model.memory {
            let activations = layer.neurons as f64 * f64::from(arithmetic.bits);
            push(Component::WeightMemory, layer.weights as f64 * weight_pj(layer, arithmetic, Some(memory)));
            push(Component::StateMemory, 2.0 * activations * memory.bit_pj(activations));
        }
    }
    entries
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
    use crate::model::{FP32, HOROWITZ, INT8, models};

    const ARITHMETIC: Model = Model { name: "fp32", arithmetic: FP32, memory: None };
    const WITH_MEMORY: Model = Model { name: "fp32+memory", arithmetic: FP32, memory: Some(HOROWITZ) };

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-9 * b.abs().max(1.0), "{a} is not {b}");
    }

    #[test]
    fn bits_are_the_ceiling_of_the_logarithm() {
        for steps in 1..5000_u32 {
            assert_eq!(quantised_bits(steps), f64::from(steps + 1).log2().ceil() as u32, "T = {steps}");
        }
        assert_eq!([1, 2, 3, 4, 7, 8, 28, 300].map(quantised_bits), [1, 2, 2, 3, 3, 4, 5, 9]);
        assert_eq!(quantised_bits(u32::MAX), 32);
    }

    #[test]
    fn arithmetic_by_hand() {
        let breakdown = energy("snn", &examples::model_1(false), &ARITHMETIC).unwrap();
        let totals = breakdown.totals();
        close(totals.ann_pj, 126_157_568.0 * 4.6);
        // 143,002,034 accumulates, and 470,659 membranes updated 28 times.
        close(totals.snn_pj, (143_002_034.0 + 470_659.0 * 28.0) * 0.9);
        // 5 bits: 0.2 (5/8)^2 + 0.03 (5/8).
        assert_eq!(breakdown.bits, 5);
        close(totals.quantised_pj, 126_157_568.0 * (0.078125 + 0.01875));
        close(totals.saving * totals.normalised, 1.0);
        assert!(breakdown.quantised.iter().all(|e| e.network == "ann-5bit"));
    }

    #[test]
    fn an_analog_input_is_multiplied_once() {
        let breakdown = energy("snn", &examples::model_1(true), &ARITHMETIC).unwrap();
        let macs: Vec<_> =
            breakdown.snn.iter().filter(|e| e.component == Component::MultiplyAccumulate).collect();
        assert_eq!(macs.len(), 1);
        assert_eq!(macs[0].layer, "conv1");
        close(macs[0].picojoules, 22_937_600.0 * 4.6);
    }

    #[test]
    fn leaking_costs_a_multiplication_per_update() {
        let membranes = |leaky| {
            let activity = NetworkActivity { leaky, ..examples::model_1(false) };
            let breakdown = energy("snn", &activity, &ARITHMETIC).unwrap();
            breakdown
                .snn
                .iter()
                .filter(|e| e.component == Component::Membrane)
                .map(|e| e.picojoules)
                .sum::<f64>()
        };
        close(membranes(true) / membranes(false), 4.6 / 0.9);
    }

    #[test]
    fn memory_by_hand() {
        let breakdown = energy("snn", &examples::model_1(false), &WITH_MEMORY).unwrap();
        let find = |entries: &[Entry], layer: &str, component| {
            entries.iter().find(|e| e.layer == layer && e.component == component).unwrap().picojoules
        };
        // conv3: 16,384 weights of 4 bytes are 64 KB, in the 1 MB SRAM: 100 / 2 pJ a weight.
        close(find(&breakdown.ann, "conv3", Component::WeightMemory), 16_384.0 * 50.0);
        // 22,400 activations of 4 bytes are 87.5 KB: the same level, written and read.
        close(find(&breakdown.ann, "conv3", Component::StateMemory), 2.0 * 22_400.0 * 50.0);
        // At most every weight at every step: 16,384 * 28 < 10 million.
        close(find(&breakdown.snn, "conv3", Component::WeightMemory), 16_384.0 * 28.0 * 50.0);
        // Membranes as activations, 28 times, and 22,400 spikes of one bit (2,800 bytes: 10/64 pJ a bit) as often.
        close(
            find(&breakdown.snn, "conv3", Component::StateMemory),
            28.0 * (2.0 * 22_400.0 * 50.0 + 2.0 * 22_400.0 * 10.0 / 64.0),
        );
        // linear1: 3 million arriving accumulates touch fewer weights than 28 times all 5.7 million.
        close(find(&breakdown.snn, "linear1", Component::WeightMemory), 3e6 * 650.0);
    }

    #[test]
    fn memory_can_reverse_the_verdict() {
        let saving = |model| energy("snn", &examples::model_1(false), model).unwrap().totals().saving;
        assert!(saving(&ARITHMETIC) > 1.0);
        assert!(saving(&WITH_MEMORY) < 1.0);
    }

    #[test]
    fn steps_add_up_to_the_total() {
        for analog in [false, true] {
            let activity = examples::model_1(analog);
            let row: Vec<f64> =
                activity.layers.iter().map(|l| l.synaptic_operations_per_sample / 28.0).collect();
            for model in models() {
                let steps = per_step(&activity, &vec![row.clone(); 28], &model).unwrap();
                assert!(steps.windows(2).all(|pair| pair[0] < pair[1]));
                close(steps[27], energy("snn", &activity, &model).unwrap().totals().snn_pj);
            }
        }
    }

    #[test]
    fn wrong_steps_are_refused() {
        let activity = examples::model_1(false);
        assert_eq!(
            per_step(&activity, &[], &ARITHMETIC),
            Err(EnergyError::StepCount { expected: 28, got: 0 })
        );
        let mut rows = vec![vec![1.0; 5]; 28];
        rows[3].pop();
        assert_eq!(
            per_step(&activity, &rows, &ARITHMETIC),
            Err(EnergyError::StepLayers { step: 3, expected: 5, got: 4 })
        );
        rows[3].push(f64::NAN);
        assert!(per_step(&activity, &rows, &ARITHMETIC).is_err());
    }

    #[test]
    fn int8_is_cheaper_than_fp32_throughout() {
        let activity = examples::model_1(false);
        let int8 = Model { name: "int8", arithmetic: INT8, memory: None };
        let (small, large) =
            (energy("s", &activity, &int8).unwrap(), energy("s", &activity, &ARITHMETIC).unwrap());
        for (a, b) in small.snn.iter().chain(&small.ann).zip(large.snn.iter().chain(&large.ann)) {
            assert!(a.picojoules < b.picojoules, "{a:?} {b:?}");
        }
    }
}
