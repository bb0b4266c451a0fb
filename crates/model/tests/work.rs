//! Multiply-accumulates with what is not zero, against brute force on random networks.

#![allow(clippy::unwrap_used)]

use escape_model::ann::{Ann, to_vec};
use escape_model::work::Counter;
use escape_network::rng::Stream;
use escape_network::sequential::{Conv2d, Role};
use escape_network::stage::{Arrived, LayerWork, Op, Stage};
use tch::{Device, Tensor};

#[path = "../../../tests/random_networks/mod.rs"]
mod networks;

/// Multiplications of one recording whose value is not zero, one after the other; and those whose weight is not either.
fn multiplied(stage: &Stage, x: &[f32], weights: &[f32]) -> (u64, u64) {
    let (from, to) = (stage.input, stage.output);
    let Op::Conv(Conv2d { kernel, stride, padding, groups, .. }) = stage.op else {
        let values = x.iter().filter(|v| **v != 0.0).count();
        let both = weights.iter().enumerate().filter(|(n, w)| **w != 0.0 && x[n % x.len()] != 0.0);
        return ((values * to.channels) as u64, both.count() as u64);
    };
    let (inputs, outputs) = (from.channels / groups, to.channels / groups);
    let (mut count, mut both) = (0, 0);
    for o in 0..to.channels {
        for (y, x_at) in (0..to.height).flat_map(|y| (0..to.width).map(move |x| (y, x))) {
            for (c, i, j) in (0..inputs)
                .flat_map(|c| (0..kernel.0).flat_map(move |i| (0..kernel.1).map(move |j| (c, i, j))))
            {
                let row = (y * stride.0 + i).wrapping_sub(padding.top);
                let column = (x_at * stride.1 + j).wrapping_sub(padding.left);
                if row < from.height && column < from.width {
                    let channel = o / outputs * inputs + c;
                    if x[(channel * from.height + row) * from.width + column] != 0.0 {
                        count += 1;
                        both += u64::from(weights[((o * inputs + c) * kernel.0 + i) * kernel.1 + j] != 0.0);
                    }
                }
            }
        }
    }
    (count, both)
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
        // Every third weight is zero.
        let weights = |stage: &Stage| {
            let weight = ann.parameter(stage.weights_at, Role::Weight).unwrap().shallow_clone();
            let _ = tch::no_grad(|| weight.view([-1]).slice(0, 0, None, 3).zero_());
            to_vec(&weight).unwrap()
        };
        let all: Vec<Vec<f32>> = ann.network().stages().unwrap().iter().map(weights).collect();
        let nonzero = |k: usize, _: &Stage| Ok(all[k].iter().map(|w| *w != 0.0).collect());
        let mut counter = Counter::new(ann.network(), Device::Cpu, nonzero).unwrap().unwrap();
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
        for (LayerWork { stage, arrived, nonzero_weights: nonzero }, weights) in
            counter.into_layers().into_iter().zip(&all)
        {
            let x = &inputs[stage.weights_at];
            let counts = x.chunks(x.len() / 2).map(|x| multiplied(&stage, x, weights));
            let (macs, both) = counts.fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
            let values = x.iter().filter(|v| **v != 0.0).count() as u64;
            let want = Arrived { values, macs, macs_of_nonzero_weights: both };
            assert_eq!(arrived, want, "network {index}, {}", stage.name);
            assert_eq!(nonzero, (weights.len() - weights.len().div_ceil(3)) as u64);
            zeros += x.len() as u64 - values;
        }
    }
    assert!(zeros > 10_000, "{zeros}");
}
