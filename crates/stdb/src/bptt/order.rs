//! In which order libtorch adds up on this machine.

use std::collections::HashSet;

use escape_model::ModelError;
use escape_model::ann::{convolve, to_tensor, to_vec};
use escape_network::rng::Stream;
use escape_network::sequential::Shape;
use escape_network::stage::Stage;
use escape_snn_core::network::SpikingNetwork;
use rayon::prelude::*;
use tch::Device;

use super::arrivals::{Frames, Order};
use super::synapses::{Geometry, Way};

/// The order in which the currents of a network's neurons are libtorch's to the last bit on this machine, if there is one. It is not
/// the same on every processor, nor for every kernel, and a last bit can make or suppress a spike.
pub(super) fn of_libtorch(network: &SpikingNetwork) -> Option<Order> {
    let mut below = network.input();
    let mut seen = HashSet::new();
    let mut orders = vec![Order::AVX2, Order::AVX512];
    // The readout has no neurons.
    for layer in network.layers.iter().take(network.layers.len() - 1) {
        let stage = &layer.shape;
        if !orders.is_empty()
            && seen.insert(format!("{:?} {:?} {} {below:?}", stage.op, stage.output, stage.bias))
        {
            orders = alike(orders, stage, below).unwrap_or_default();
        }
        below = stage.pooled;
    }
    orders.first().copied()
}

/// Products that are compared for one stage, more if two frames have more.
const COMPARED: usize = 1 << 30;

/// Those of some orders in which one stage's currents from random frames are libtorch's.
fn alike(mut orders: Vec<Order>, stage: &Stage, input: Shape) -> Result<Vec<Order>, ModelError> {
    let Shape { channels, height, width } = stage.output;
    let row = (stage.weights() / channels).max(1);
    let frames = (COMPARED / (row * stage.output.count()).max(1)).clamp(2, 16);
    let mut random = Stream::new(1, 0);
    let mut normal = |n: usize| -> Vec<f32> { (0..n).map(|_| random.normal() as f32).collect() };
    let (weights, bias) = (normal(stage.weights()), normal(if stage.bias { channels } else { 0 }));
    // Shares of spikes, as a mean over 2 x 2 gives them.
    let mut spikes = || (random.uniform() * 8.0 - 4.0).max(0.0).floor() as f32 / 4.0;
    let x: Vec<f32> = (0..frames * input.count()).map(|_| spikes()).collect();
    let geometry = Geometry::new(stage, input);
    let mut rows = vec![0.0; weights.len()];
    geometry.in_rows(&weights, Way::Forward, &mut rows);
    let weights = to_tensor(&weights, &geometry.weight_shape(), Device::Cpu)?;
    let constant = stage.bias.then(|| to_tensor(&bias, &[channels], Device::Cpu)).transpose()?;
    let theirs = match geometry.linear {
        true => {
            let x = to_tensor(&x, &[frames, input.count()], Device::Cpu)?;
            let weights = weights.f_view([channels as i64, -1])?;
            x.f_linear(&weights, constant.as_ref())?
        }
        false => {
            let x = to_tensor(&x, &[frames, input.channels, input.height, input.width], Device::Cpu)?;
            convolve(&geometry.conv, &x, &weights, constant.as_ref())?.f_permute([0, 2, 3, 1])?
        }
    };
    let theirs = to_vec(&theirs)?;
    orders.retain(|&order| {
        let listed = Frames::of_planes(order, &x, (input.height, input.width), input.channels);
        let mut own = vec![0.0; frames * stage.output.count()];
        own.par_chunks_exact_mut(width * channels).enumerate().for_each(|(n, row)| {
            row.chunks_exact_mut(channels).for_each(|pixel| {
                pixel.iter_mut().zip(&bias).for_each(|(current, bias)| *current = *bias);
            });
            match geometry.linear {
                true => geometry.gather_features(&rows, (&listed, n), row),
                false => geometry.gather(Way::Forward, &rows, (&listed, n / height), n % height, row),
            }
        });
        own == theirs
    });
    Ok(orders)
}
