//! Multiply-accumulates with what is not zero, against brute force on random networks.

#![allow(clippy::unwrap_used)]

use escape_model::ann::{Ann, to_vec};
use escape_model::work::Counter;
use escape_network::rng::Stream;
use escape_network::sequential::Conv2d;
use escape_network::stage::{Arrived, Op, Stage};
use tch::{Device, Tensor};

#[path = "../../../tests/random_networks/mod.rs"]
mod networks;

/// Multiplications of one recording whose value is not zero, one after the other.
fn multiplied(stage: &Stage, x: &[f32]) -> u64 {
    let (from, to) = (stage.input, stage.output);
    let Op::Conv(Conv2d { kernel, stride, padding, groups, .. }) = stage.op else {
        return (x.iter().filter(|v| **v != 0.0).count() * to.channels) as u64;
    };
    let (inputs, outputs) = (from.channels / groups, to.channels / groups);
    let mut count = 0;
    for o in 0..to.channels {
        for (y, x_at) in (0..to.height).flat_map(|y| (0..to.width).map(move |x| (y, x))) {
            for (c, i, j) in (0..inputs)
                .flat_map(|c| (0..kernel.0).flat_map(move |i| (0..kernel.1).map(move |j| (c, i, j))))
            {
                let row = (y * stride.0 + i).wrapping_sub(padding.top);
                let column = (x_at * stride.1 + j).wrapping_sub(padding.left);
                if row < from.height && column < from.width {
                    let channel = o / outputs * inputs + c;
                    count += u64::from(x[(channel * from.height + row) * from.width + column] != 0.0);
                }
            }
        }
    }
    count
}

#[test]
fn counts_are_those_of_brute_force_on_random_networks() {
    let mut zeros = 0;
    for index in 0..120 {
        let network = networks::random(index, |n| n.stages().is_ok());
        let mut random = Stream::new(index, 8);
        let size = network.input().count();
        // Every fourth value of the recording is zero.
        let x: Vec<f32> = (0..2 * size)
            .map(|_| if random.uniform() < 0.25 { 0.0 } else { random.uniform() as f32 - 0.5 })
            .collect();
        let ann = Ann::new(network, index, Device::Cpu).unwrap();
        let mut counter = Counter::new(ann.network(), Device::Cpu).unwrap().unwrap();
        let x = Tensor::from_slice(&x).view([2, -1]);
        counter.add_before(0, &x).unwrap();
        let mut inputs = vec![to_vec(&x).unwrap()];
        let _logits = ann
            .forward_with(&x, false, |i, x| {
                counter.add_before(i + 1, x)?;
                inputs.push(to_vec(x)?);
                Ok(())
            })
            .unwrap();
        for (stage, arrived) in counter.into_arrived() {
            let x = &inputs[stage.weights_at];
            let want: u64 = x.chunks(x.len() / 2).map(|x| multiplied(&stage, x)).sum();
            let present = x.iter().filter(|v| **v != 0.0).count() as u64;
            assert_eq!(arrived, Arrived { values: present, macs: want }, "network {index}, {}", stage.name);
            zeros += x.len() as u64 - present;
        }
    }
    assert!(zeros > 10_000, "{zeros}");
}
