//! What zeros leave of a network's work: what hardware has to do that skips them, whether they are values, weights or neurons that
//! stay silent.
//!
//! Engines count the operations that spikes cause whatever the weights are. Here a recording's spikes are gone through once more,
//! one by one, which takes longer than the simulation does; small networks are worth it.
//!
//! Letters: T timesteps, C channels, H rows, W columns.

use crate::engine::Spike;
use crate::integer::IntegerNetwork;

/// What is not zero in a layer, over any number of recordings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nonzero {
    /// Of the first layer: multiply-accumulates with a value of the recording and a weight that are not zero, inside the border.
    pub macs: u64,
    /// Of the others: accumulates that arriving spikes cause with weights that are not zero, inside the border.
    pub operations: u64,
    /// Neurons that fired at all in T steps.
    pub active: u64,
}

impl Nonzero {
    /// Of both.
    pub fn and(self, other: Self) -> Self {
        Self {
            macs: self.macs + other.macs,
            operations: self.operations + other.operations,
            active: self.active + other.active,
        }
    }
}

/// Counts for a network whose input is the recording itself.
#[derive(Clone, Debug)]
pub struct Tracer<'a> {
    network: &'a IntegerNetwork,
    /// With how many weights each value of a layer's input meets, see [`Stage::fan_out_of`](escape_network::stage::Stage::fan_out_of).
    fan_out: Vec<Vec<u32>>,
}

impl<'a> Tracer<'a> {
    /// For a network; a weight is zero that is rounded to zero.
    pub fn new(network: &'a IntegerNetwork) -> Self {
        let fan_out = network.layers.iter().map(|layer| {
            let nonzero: Vec<bool> = layer.weights.iter().map(|weight| *weight != 0).collect();
            layer.shape.fan_out_of(&nonzero)
        });
        Self { network, fan_out: fan_out.collect() }
    }

    /// Weights of each layer that are not zero.
    pub fn weights(&self) -> Vec<u64> {
        let of = |weights: &[i8]| weights.iter().filter(|weight| **weight != 0).count() as u64;
        self.network.layers.iter().map(|layer| of(&layer.weights)).collect()
    }

    /// What a recording does in each layer: its values in whole numbers, and every spike that it causes in `steps` steps, in any
    /// order.
    pub fn trace(&self, recording: &[i32], spikes: &[Spike], steps: usize) -> Vec<Nonzero> {
        let mut found = vec![Nonzero::default(); self.fan_out.len()];
        let met = recording.iter().zip(&self.fan_out[0]).filter(|(value, _)| **value != 0);
        found[0].macs = met.map(|(_, fan_out)| u64::from(*fan_out)).sum();
        let last = self.fan_out.len() - 1;
        for k in 0..last {
            let of_layer = spikes.iter().filter(|spike| spike.layer == k);
            let mut trains = vec![0f32; steps * self.network.layers[k].shape.neurons()];
            let neurons = trains.len() / steps.max(1);
            for spike in of_layer {
                trains[spike.step * neurons + spike.neuron] = 1.0;
            }
            let fires = |neuron: usize| (0..steps).any(|t| trains[t * neurons + neuron] != 0.0);
            found[k].active = (0..neurons).filter(|neuron| fires(*neuron)).count() as u64;
            found[k + 1].operations = self.arriving(k, &trains, steps);
        }
        found
    }

    /// Operations that the spikes of layer `k`, T x C x H x W, cause in the next one.
    fn arriving(&self, k: usize, trains: &[f32], steps: usize) -> u64 {
        let (channels, plane) = self.network.planes(k);
        let (size, (rows, columns)) = (plane.neurons(), plane.pooled);
        let mut fired = vec![0f32; if plane.counts() { channels * size } else { 0 }];
        let mut sent = vec![0f32; plane.padded_len()];
        let mut operations = 0;
        for (n, spikes) in trains.chunks_exact(size).take(steps * channels).enumerate() {
            let channel = n % channels;
            let counts = if plane.counts() { &mut fired[channel * size..][..size] } else { &mut [][..] };
            plane.pool_into(spikes, counts, &mut sent);
            let fan_out = self.fan_out[k + 1][channel * rows * columns..].chunks_exact(columns);
            for (row, fan_out) in fan_out.take(rows).enumerate() {
                let met = sent[plane.row(row)].iter().zip(fan_out).filter(|(value, _)| **value != 0.0);
                operations += met.map(|(_, fan_out)| u64::from(*fan_out)).sum::<u64>();
            }
        }
        operations
    }
}
