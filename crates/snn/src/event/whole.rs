//! Layers in whole numbers: weights of 8 bits, sums of 16 and 32.

use escape_network::stage::Stage;

use crate::aligned::Aligned;
use crate::integer::IntegerNetwork;

use super::kernels::{Dense, Fire, Instructions, Listed};
use super::number::{Chunk, Neurons, Number};
use super::packed::{BLOCK, Holds, LARGEST_BYTE, ORDER, Order, Packed, Parts};
use super::plane::{Lists, Values};

/// Weights in the orders of the kernels that may be chosen.
#[derive(Debug)]
pub(super) enum Weights {
    /// For input in bytes.
    Narrow {
        /// For lists, see [`Order::rows`]; outputs in the order of [`ORDER`]. Empty if there are groups or the input is Poisson's.
        rows: Aligned<i8>,
        /// For planes, see [`Order::parts`]. Empty for linear layers that have lists.
        planes: Aligned<i8>,
        /// The sum of bytes that 16 bits hold, whatever their weights.
        mass: u64,
        /// So many parts of four of the largest bytes that 16 bits hold.
        budget: usize,
    },
    /// For input in words: see [`Order::parts`].
    Wide(Aligned<i16>),
}

/// What all neurons of a layer share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub decay: i32,
    /// What a unit of potential is in the network of real numbers.
    unit: f64,
}

/// The share of an input that is not zero up to which its list costs less than its plane.
const LISTED_BELOW: f64 = 0.5;

/// The layers of a network.
pub(super) fn pack(network: &IntegerNetwork, with: Instructions) -> Vec<Packed<i32>> {
    (0..network.layers.len()).map(|k| pack_layer(network, k, with)).collect()
}

/// One of them.
pub(super) fn pack_layer(network: &IntegerNetwork, k: usize, with: Instructions) -> Packed<i32> {
    let (bytes, words) = with.together();
    let layer = &network.layers[k];
    let below = k.checked_sub(1).map(|k| &network.layers[k].shape);
    let row = layer.row();
    let holds = Holds::of(below, network.encoding);
    let poisson = holds == Holds::Signs;
    // What storing -1, 0 and 1 as 0, 1 and 2 adds to a sum.
    let excess = |o: usize| -> i32 { layer.weights[o * row..][..row].iter().map(|&w| i32::from(w)).sum() };
    let largest_weight = layer.weights.iter().map(|w| w.unsigned_abs()).max().unwrap_or(0).max(1);
    let weights = |order: Order| match holds {
        Holds::Recordings | Holds::Words => Weights::Wide(order.parts(&layer.weights, words)),
        Holds::Signs | Holds::Bytes => {
            let listed = order.groups == 1 && !poisson;
            let byte = if poisson { 2 } else { LARGEST_BYTE.min(below.map_or(1, Stage::largest_count)) };
            Weights::Narrow {
                rows: if listed { order.rows(&layer.weights, |n| ORDER[n]) } else { Aligned::default() },
                planes: match listed && order.linear {
                    true => Aligned::default(),
                    false => order.parts(&layer.weights, bytes),
                },
                mass: i16::MAX as u64 / u64::from(largest_weight),
                budget: i16::MAX as usize / (2 * byte * usize::from(largest_weight)),
            }
        }
    };
    Packed::new(&Parts {
        shape: &layer.shape,
        below,
        holds,
        weights: &weights,
        bias: &|o| layer.bias.get(o).copied().unwrap_or(0) - if poisson { excess(o) } else { 0 },
        threshold: &|o| layer.thresholds.get(o).copied().unwrap_or(i32::MAX),
        start: &|o| layer.initial_potential(o),
        never: i32::MAX,
        rule: Rule { decay: layer.decay, unit: layer.units.first().copied().unwrap_or(1.0) },
    })
}

impl Number for i32 {
    const GROUPS: bool = true;
    type Weights = Weights;
    type Rule = Rule;
    type Listed = u8;

    fn recording(length: usize) -> Values {
        Values::Words(vec![0; length])
    }

    fn lists_pay(packed: &Packed<Self>, share: f64) -> bool {
        match &packed.weights {
            Weights::Narrow { rows, planes, .. } => {
                !rows.is_empty() && (planes.is_empty() || share < LISTED_BELOW)
            }
            Weights::Wide(_) => false,
        }
    }

    fn list(
        packed: &Packed<Self>,
        input: &Values,
        steps: (usize, usize),
        lists: &mut Lists<u8>,
        with: Instructions,
    ) {
        if let Values::Bytes(bytes) = input {
            with.list(lists, &packed.frame, bytes, steps);
        }
    }

    fn by_rows(packed: &Packed<Self>, lists: bool) -> bool {
        lists && packed.slab(size_of::<i8>()) < packed.runs.len()
    }

    fn sum(
        packed: &Packed<Self>,
        chunk: &Chunk,
        input: &Values,
        lists: Option<&Lists<u8>>,
        sums: &mut [i32],
        with: Instructions,
    ) {
        if let (Some(lists), Weights::Narrow { rows, mass, .. }) = (lists, &packed.weights) {
            Listed::each_slab(packed, chunk, lists, (rows, *mass), |work| with.listed(work, sums));
            return;
        }
        for g in 0..packed.groups {
            match (input, &packed.weights) {
                (Values::Bytes(values), Weights::Narrow { planes, budget, .. }) => {
                    with.narrow(&group(packed, g, chunk, values, (planes, with.together().0), *budget), sums);
                }
                (Values::Words(values), Weights::Wide(weights)) => {
                    with.wide(&group(packed, g, chunk, values, (weights, with.together().1), 0), sums);
                }
                _ => unreachable!("bytes have narrow weights, and words wide ones"),
            }
        }
    }

    fn fire(packed: &Packed<Self>, neurons: &mut Neurons<'_, i32>, with: Instructions) {
        with.fire(&mut Fire { neurons, thresholds: &packed.thresholds, decay: packed.rule.decay });
    }

    fn read(_: &Packed<Self>, u: &mut [i32], current: &[i32], _: &mut [f32]) {
        u.iter_mut().zip(current).for_each(|(u, c)| *u += c);
    }

    fn logit(packed: &Packed<Self>, u: i32) -> f32 {
        (f64::from(u) * packed.rule.unit) as f32
    }
}

/// What a dense kernel has to do for group `g` of a layer's channels, with weights of parts of so many values.
fn group<'a, V, W>(
    packed: &'a Packed<i32>,
    g: usize,
    chunk: &Chunk,
    values: &'a [V],
    (weights, together): (&'a [W], usize),
    budget: usize,
) -> Dense<'a, V, W> {
    let frame = &packed.frame;
    let channels = frame.input.2;
    let size = weights.len() / packed.groups;
    let left = chunk.columns.start * packed.stride.1 * channels;
    Dense {
        values,
        weights: &weights[g * size..][..size],
        runs: &packed.runs,
        parts: packed.run.div_ceil(together),
        pixels: chunk.columns.len(),
        steps: chunk.steps,
        first: chunk.y * packed.stride.0 * frame.row() + left + g * (channels / packed.groups),
        per_pixel: packed.stride.1 * channels,
        per_step: frame.step(),
        budget,
        lanes: packed.lanes(),
        lane: g * packed.group.1,
        group: packed.group.0.next_multiple_of(BLOCK),
    }
}
