//! Layers in float32, for rules that are not those of whole numbers. What a sum is rounded to depends on its order, which is not
//! PyTorch's: a potential within rounding of its threshold may fire here and not there.

use escape_network::stage::Stage;

use crate::aligned::Aligned;
use crate::network::SpikingNetwork;
use crate::neuron::{Dynamics, Firing, Reset, published_readout_step};
use crate::rules::Readout;

use super::kernels::{Instructions, Listed};
use super::number::{Chunk, Neurons, Number};
use super::packed::{Holds, LANES, Order, Packed, Parts};
use super::plane::{Lists, Values};

/// Weights of lists.
#[derive(Debug)]
pub(super) struct Weights {
    /// See [`Order::rows`]. Empty if what is listed is scattered.
    rows: Aligned<f32>,
    /// Runs x channels x columns of the kernel, the last one first, x lanes: what one arrival adds to outputs side by side.
    /// For runs so short that going through them costs more than adding up in memory.
    scattered: Aligned<f32>,
    /// What a count stands for: its share of a mean.
    share: f32,
}

/// What all neurons of a layer share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    dynamics: Dynamics,
    readout: Readout,
}

/// Values of a run up to which arrivals are scattered.
const SHORT_RUN: usize = 32;

/// The layers of a network, for input of one kind.
pub(super) fn pack(network: &SpikingNetwork, encoding: crate::encode::Encoding) -> Vec<Packed<f32>> {
    let layers = network.layers.iter().enumerate().map(|(k, layer)| {
        let below = k.checked_sub(1).map(|k| &network.layers[k].shape);
        let window = below.map_or(1, Stage::largest_count);
        let weights = |order: Order| {
            let short = order.run <= SHORT_RUN && order.stride.1 == 1;
            Weights {
                rows: if short { Aligned::default() } else { order.rows(&layer.weights, |n| n) },
                scattered: if short { order.scattered(&layer.weights) } else { Aligned::default() },
                share: 1.0 / window as f32,
            }
        };
        let neuron = layer.neuron;
        Packed::new(&Parts {
            shape: &layer.shape,
            below,
            holds: Holds::of(below, encoding),
            weights: &weights,
            bias: &|o| layer.bias.get(o).copied().unwrap_or(0.0),
            threshold: &|_| neuron.threshold(),
            start: &|_| network.initial_potential(k),
            never: f32::INFINITY,
            rule: Rule { dynamics: network.dynamics(k), readout: network.rules.readout },
        })
    });
    layers.collect()
}

impl Number for f32 {
    const GROUPS: bool = false;
    type Weights = Weights;
    type Rule = Rule;
    type Listed = f32;

    fn recording(length: usize) -> Values {
        Values::Floats(vec![0.0; length])
    }

    fn lists_pay(_: &Packed<Self>, _: f64) -> bool {
        true
    }

    fn list(
        packed: &Packed<Self>,
        input: &Values,
        steps: (usize, usize),
        lists: &mut Lists<f32>,
        with: Instructions,
    ) {
        let Weights { share, .. } = packed.weights;
        match input {
            Values::Bytes(bytes) => {
                with.list_floats(lists, &packed.frame, bytes, steps, (packed.nothing(), share))
            }
            Values::Words(words) => lists.fill_with(&packed.frame, words, steps.0, |count| {
                (count != 0).then(|| f32::from(count) * share)
            }),
            Values::Floats(floats) => {
                lists.fill_with(&packed.frame, floats, steps.0, |value| (value != 0.0).then_some(value));
            }
        }
    }

    fn by_rows(packed: &Packed<Self>, lists: bool) -> bool {
        lists && (packed.weights.rows.is_empty() || packed.slab(size_of::<f32>()) < packed.runs.len())
    }

    fn sum(
        packed: &Packed<Self>,
        chunk: &Chunk,
        _: &Values,
        lists: Option<&Lists<f32>>,
        sums: &mut [f32],
        with: Instructions,
    ) {
        let Some(lists) = lists else { return };
        if packed.weights.rows.is_empty() {
            scatter(packed, chunk, lists, sums);
        } else {
            let weights = (&packed.weights.rows[..], 0);
            Listed::each_slab(packed, chunk, lists, weights, |work| with.listed_floats(work, sums));
        }
    }

    fn fire(packed: &Packed<Self>, neurons: &mut Neurons<'_, f32>, _: Instructions) {
        fire(packed.rule.dynamics, &packed.thresholds, neurons);
    }

    fn read(packed: &Packed<Self>, u: &mut [f32], current: &[f32], spikes: &mut [f32]) {
        match packed.rule.readout {
            Readout::Accumulate => u.iter_mut().zip(current).for_each(|(u, c)| *u += c),
            Readout::Spiking => {
                let mut m = vec![0.0; u.len()];
                published_readout_step(packed.rule.dynamics, u, current, &mut m, spikes);
            }
        }
    }

    fn logit(_: &Packed<Self>, u: f32) -> f32 {
        u
    }
}

/// Adds each arrival to all outputs of a row that it reaches.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2", "aarch64+neon"))]
fn scatter(packed: &Packed<f32>, chunk: &Chunk, lists: &Lists<f32>, sums: &mut [f32]) {
    let (lanes, channels, across) = (packed.lanes(), packed.frame.input.2, packed.kernel.1);
    let (pixels, columns) = (chunk.columns.len(), packed.frame.padded.1);
    // Sums of a step lie together while arrivals are added.
    let mut row = vec![0f32; pixels * lanes];
    for s in 0..chunk.steps {
        for (row, sums) in row.chunks_exact_mut(lanes).zip(sums.chunks_exact(chunk.steps * lanes)) {
            row.copy_from_slice(&sums[s * lanes..][..lanes]);
        }
        for r in 0..packed.kernel.0 {
            let line = ((chunk.y * packed.stride.0 + r) * chunk.steps + s) * columns;
            let listed = lists.starts[line] as usize..lists.starts[line + columns] as usize;
            for (&place, &value) in lists.rows[listed.clone()].iter().zip(&lists.values[listed]) {
                let (column, channel) =
                    (place as usize / LANES / channels, place as usize / LANES % channels);
                // The outputs whose windows begin up to a kernel's width before it.
                let first = (column + 1).saturating_sub(across).max(chunk.columns.start);
                let end = (column + 1).min(chunk.columns.end);
                if first >= end {
                    continue;
                }
                let tap = across - 1 - (column - first);
                let weights = &packed.weights.scattered[((r * channels + channel) * across + tap) * lanes..];
                let to = &mut row[(first - chunk.columns.start) * lanes..(end - chunk.columns.start) * lanes];
                for (to, weight) in to.iter_mut().zip(weights) {
                    *to += weight * value;
                }
            }
        }
        for (row, sums) in row.chunks_exact(lanes).zip(sums.chunks_exact_mut(chunk.steps * lanes)) {
            sums[s * lanes..][..lanes].copy_from_slice(row);
        }
    }
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2", "aarch64+neon"))]
fn fire(dynamics: Dynamics, thresholds: &[f32], neurons: &mut Neurons<'_, f32>) {
    // The rule is chosen outside the loops so that they vectorise.
    use {Firing::*, Reset::*};
    match (dynamics.firing, dynamics.reset) {
        (BeforeInput, Subtraction) => fire_each((BeforeInput, Subtraction), dynamics, thresholds, neurons),
        (AfterInput, Subtraction) => fire_each((AfterInput, Subtraction), dynamics, thresholds, neurons),
        (BeforeInput, Zero) => fire_each((BeforeInput, Zero), dynamics, thresholds, neurons),
        (AfterInput, Zero) => fire_each((AfterInput, Zero), dynamics, thresholds, neurons),
    }
}

#[inline(always)]
fn fire_each(
    (firing, reset): (Firing, Reset),
    dynamics: Dynamics,
    thresholds: &[f32],
    neurons: &mut Neurons<'_, f32>,
) {
    let (lanes, steps) = (thresholds.len(), neurons.fired.len());
    let decay = dynamics.neuron.decay();
    for (p, u) in neurons.u.chunks_exact_mut(lanes).enumerate() {
        for (s, fired) in neurons.fired.iter_mut().enumerate() {
            let at = if neurons.constant { p } else { p * steps + s } * lanes;
            let mut count = 0u32;
            let current = neurons.current[at..][..lanes].as_chunks::<LANES>().0;
            let spikes = neurons.spikes[(p * steps + s) * lanes..][..lanes].as_chunks_mut::<LANES>().0;
            let u = u.as_chunks_mut::<LANES>().0.iter_mut();
            let thresholds = thresholds.as_chunks::<LANES>().0;
            for (((u, current), spikes), thresholds) in u.zip(current).zip(spikes).zip(thresholds) {
                for n in 0..LANES {
                    let integrated = decay * u[n] + current[n];
                    let deciding = match firing {
                        Firing::BeforeInput => u[n],
                        Firing::AfterInput => integrated,
                    };
                    // The study's v / theta - 1 > 0, which float32 rounds to the same: a quotient above 1 is at least as far
                    // from it as the next number.
                    let fires = deciding > thresholds[n];
                    u[n] = match (fires, reset) {
                        (false, _) => integrated,
                        (true, Reset::Subtraction) => integrated - thresholds[n],
                        (true, Reset::Zero) => 0.0,
                    };
                    spikes[n] = u8::from(fires);
                    count += u32::from(fires);
                }
            }
            *fired += u64::from(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::neuron::{Neuron, step};
    use escape_network::rng::Stream;

    #[test]
    fn neurons_follow_the_studys_rule_at_the_last_bit() {
        let mut random = Stream::new(1, 0);
        for (firing, reset, decay) in [
            (Firing::BeforeInput, Reset::Subtraction, 1.0),
            (Firing::AfterInput, Reset::Subtraction, 0.9),
            (Firing::AfterInput, Reset::Zero, 1.0),
            (Firing::BeforeInput, Reset::Zero, 0.9),
        ] {
            for _ in 0..50 {
                let theta = (random.normal().exp() * 3.0) as f32;
                let dynamics = Dynamics { neuron: Neuron::new(theta, decay).unwrap(), firing, reset };
                // Around the threshold, number by number, and elsewhere.
                let start: Vec<f32> = (0..LANES)
                    .map(|n| match n % 2 {
                        0 => f32::from_bits((theta.to_bits() + n as u32 / 2).wrapping_sub(8)),
                        _ => (random.normal() * 2.0) as f32 * theta,
                    })
                    .collect();
                let current: Vec<f32> = (0..3 * LANES).map(|_| random.normal() as f32).collect();
                let (mut u, mut spikes, mut fired) = (start.clone(), vec![9; 3 * LANES], vec![0; 3]);
                let mut neurons = Neurons {
                    u: &mut u,
                    current: &current,
                    constant: false,
                    spikes: &mut spikes,
                    fired: &mut fired,
                };
                fire(dynamics, &[theta; LANES], &mut neurons);
                for n in 0..LANES {
                    let mut own = start[n];
                    for s in 0..3 {
                        let (_, spike, next) = step(dynamics, own, current[s * LANES + n]);
                        own = next;
                        assert_eq!(f32::from(spikes[s * LANES + n]), spike);
                    }
                    assert_eq!(u[n], own);
                }
                assert_eq!(fired.iter().sum::<u64>(), spikes.iter().map(|s| u64::from(*s)).sum::<u64>());
            }
        }
    }
}
