//! The quantised ANN against a naive statement of it, on random networks of every kind of layer: logits and what arrives at
//! each layer, to the last bit, at any batch size and number of threads.

#![allow(clippy::unwrap_used)]

use escape_checkpoint::Checkpoint;
use escape_convert::quantised::{QuantisedAnn, QuantisedLayer};
use escape_convert::{Method, activations};
use escape_data::Recordings;
use escape_model::ann::{Ann, to_tensor, to_vec};
use escape_model::rounding::{Rounding, RoundingBits, Trained};
use escape_model::work::Counter;
use escape_network::rng::Stream;
use escape_network::sequential::{Conv2d, Pool, Pooling, Shape};
use escape_network::stage::{Arrived, Op, Stage};
use escape_snn_core::integer::Precision;
use escape_snn_core::rules::Rules;
use tch::Device;

#[path = "../../../tests/random_networks/mod.rs"]
mod networks;

const RECORDINGS: usize = 3;

/// Every pixel of a shape: channel, row, column.
fn pixels(shape: Shape) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..shape.channels)
        .flat_map(move |c| (0..shape.height).flat_map(move |y| (0..shape.width).map(move |x| (c, y, x))))
}

/// Weighted sums of a layer, and the multiplications in them with a value that is not zero; and those whose weight is not either.
fn sums(layer: &QuantisedLayer, input: &[i64]) -> (Vec<i64>, u64, u64) {
    let Stage { input: from, output: to, .. } = layer.shape;
    let (mut multiplied, mut both) = (0, 0);
    let mut product = |w: usize, value: i64| {
        multiplied += u64::from(value != 0);
        both += u64::from(value != 0 && layer.weights[w] != 0);
        i64::from(layer.weights[w]) * value
    };
    let Op::Conv(Conv2d { kernel, stride, padding, groups, .. }) = layer.shape.op else {
        let mut row = |o: usize| (0..input.len()).map(|i| product(o * input.len() + i, input[i])).sum();
        let all = (0..to.channels).map(&mut row).collect();
        return (all, multiplied, both);
    };
    let (inputs, outputs) = (from.channels / groups, to.channels / groups);
    let all = pixels(to).map(|(o, y, x)| {
        let mut sum = 0;
        for (c, i, j) in pixels(Shape::new(inputs, kernel.0, kernel.1)) {
            let row = (y * stride.0 + i).wrapping_sub(padding.top);
            let column = (x * stride.1 + j).wrapping_sub(padding.left);
            if row < from.height && column < from.width {
                let channel = o / outputs * inputs + c;
                let w = ((o * inputs + c) * kernel.0 + i) * kernel.1 + j;
                sum += product(w, input[(channel * from.height + row) * from.width + column]);
            }
        }
        sum
    });
    let all = all.collect();
    (all, multiplied, both)
}

/// Sums times factors plus offsets, each operation rounded, in float32 or, of wide layers, in float64.
fn scaled(layer: &QuantisedLayer, sums: &[i64]) -> Vec<f64> {
    let plane = sums.len() / layer.factors.len();
    let one = |(n, &sum): (usize, &i64)| {
        let (factor, offset) = (layer.factors[n / plane], layer.offsets[n / plane]);
        match layer.wide {
            true => sum as f64 * f64::from(factor) + f64::from(offset),
            false => f64::from(sum as f32 * factor + offset),
        }
    };
    sums.iter().enumerate().map(one).collect()
}

/// Activations as the next layer gets them.
fn pooled(stage: &Stage, values: &[i64]) -> Vec<i64> {
    let Some(Pool { pooling, kernel, stride, padding, .. }) = stage.pool else { return values.to_vec() };
    let from = stage.output;
    let one = |(c, y, x): (usize, usize, usize)| {
        let window = pixels(Shape::new(1, kernel.0, kernel.1)).filter_map(|(_, i, j)| {
            let row = (y * stride.0 + i).checked_sub(padding.top).filter(|&row| row < from.height)?;
            let column =
                (x * stride.1 + j).checked_sub(padding.left).filter(|&column| column < from.width)?;
            Some(values[(c * from.height + row) * from.width + column])
        });
        match pooling {
            Pooling::Max => window.max().unwrap_or(0),
            Pooling::Average { .. } => {
                (window.sum::<i64>() as f32 / (kernel.0 * kernel.1) as f32).round_ties_even() as i64
            }
        }
    };
    pixels(stage.pooled).map(one).collect()
}

/// Logits of a recording, and what arrives at each layer.
fn infer(network: &QuantisedAnn, recording: &[f32]) -> (Vec<f32>, Vec<Arrived>) {
    let mut values: Vec<i64> =
        network.precision().round_recording(recording).into_iter().map(i64::from).collect();
    let most = (1i64 << network.precision().weight_bits()) - 1;
    let mut arrived = Vec::new();
    let layers: Vec<_> = network.layers().collect();
    for (k, layer) in layers.iter().enumerate() {
        let (sums, macs, macs_of_nonzero_weights) = sums(layer, &values);
        let values_there = values.iter().filter(|v| **v != 0).count() as u64;
        arrived.push(Arrived { values: values_there, macs, macs_of_nonzero_weights });
        let scaled = scaled(layer, &sums);
        if k + 1 == layers.len() {
            return (scaled.into_iter().map(|v| v as f32).collect(), arrived);
        }
        let activations: Vec<i64> =
            scaled.into_iter().map(|v| (v.round_ties_even() as i64).clamp(0, most)).collect();
        values = pooled(&layer.shape, &activations);
    }
    unreachable!("a network ends in its readout")
}

#[test]
fn logits_and_counts_are_those_of_a_naive_statement() {
    let (mut made, mut wide, mut averages, mut maxima, mut zeros) = (0, 0, 0, 0, 0);
    for index in 0..160 {
        let described = networks::random(index, |n| n.stages().is_ok());
        let size = described.input().count();
        let (contacts, samples) = described.input().recording();
        let mut random = Stream::new(index, 8);
        let x: Vec<f32> = (0..RECORDINGS * size).map(|_| (random.uniform() * 2.0 - 1.0) as f32).collect();
        let recordings = Recordings { x: x.clone(), y: vec![0; RECORDINGS], contacts, samples };
        let ann = Ann::new(described, index, Device::Cpu).unwrap();
        let method = [Method::Max, Method::Percentile(99.0), Method::Channels(99.0)][index as usize % 3];
        // A layer of few neurons may be silent.
        let Ok(found) = activations::convert(&ann, &recordings, Rules::DEFAULT, method, &mut |_| true) else {
            continue;
        };
        let precision = Precision::new(2 + index as u32 % 7, [4, 10, 16][index as usize / 7 % 3]).unwrap();
        let network = QuantisedAnn::new(&found, precision, Device::Cpu).unwrap();
        made += 1;
        for layer in network.layers() {
            wide += usize::from(layer.wide);
            match layer.shape.pool.map(|pool| pool.pooling) {
                Some(Pooling::Max) => maxima += 1,
                Some(Pooling::Average { .. }) => averages += 1,
                None => {}
            }
        }
        let want: Vec<_> = x.chunks(size).map(|x| infer(&network, x)).collect();
        let (logits, arrived): (Vec<_>, Vec<_>) = want.into_iter().unzip();
        let mut total = vec![Arrived::default(); arrived[0].len()];
        for of in &arrived {
            for (sum, one) in total.iter_mut().zip(of) {
                sum.values += one.values;
                sum.macs += one.macs;
                sum.macs_of_nonzero_weights += one.macs_of_nonzero_weights;
            }
        }
        for batch in [1, 2, RECORDINGS] {
            let mut counter =
                Counter::new(network.network(), Device::Cpu, |k, _| Ok(network.nonzero(k))).unwrap().unwrap();
            let mut got = Vec::new();
            for x in x.chunks(batch * size) {
                let x = to_tensor(x, &[x.len() / size, size], Device::Cpu).unwrap();
                got.extend(to_vec(&network.forward(&x, |k, x| counter.add(k, x)).unwrap()).unwrap());
            }
            assert_eq!(got, logits.concat(), "network {index}, batches of {batch}");
            let counted: Vec<Arrived> =
                counter.into_layers().into_iter().map(|layer| layer.arrived).collect();
            assert_eq!(counted, total, "network {index}");
        }
        zeros += total
            .iter()
            .zip(network.layers())
            .skip(1)
            .filter(|(t, l)| t.values < (RECORDINGS * l.shape.input.count()) as u64)
            .count();
    }
    assert!(
        made > 100 && averages > 10 && maxima > 10 && zeros > 50,
        "{made} networks, {averages} averages, {maxima} maxima, {zeros} layers with zeros, {wide} in float64"
    );
}

/// Training with rounded numbers computes what the quantised network will: on its thresholds, but for sums in float32 that lie at the edge
/// between two numbers.
#[test]
fn training_rounds_as_the_quantised_network_does() {
    let (mut made, mut alike) = (0, 0);
    for index in 0..80u64 {
        let described = networks::random(index, |n| n.stages().is_ok());
        let shape = [RECORDINGS, described.input().count()];
        let mut random = Stream::new(index, 9);
        let x: Vec<f32> = (0..shape[0] * shape[1]).map(|_| (random.uniform() * 2.0 - 1.0) as f32).collect();
        let x = to_tensor(&x, &shape, Device::Cpu).unwrap();
        let ann = Ann::new(described, index, Device::Cpu).unwrap();
        let bits = RoundingBits {
            bits: 2 + index as u32 % 7,
            input: [4, 10, 16][index as usize / 7 % 3],
            levels: None,
        };
        let mut rounding = Rounding::new(&ann, bits).unwrap();
        // A batch for thresholds and batch norms to learn from; one that gives a single value a channel has no variance.
        if rounding.forward(&ann, &x, true).is_err() {
            continue;
        }
        let logits = to_vec(&rounding.forward(&ann, &x, false).unwrap()).unwrap();
        let saved = Checkpoint { extra: rounding.entries().unwrap(), ..Checkpoint::default() };
        let trained = Trained::of(&saved).unwrap();
        assert_eq!(trained.bits, bits);
        let found = activations::with_thresholds(&ann, Rules::DEFAULT, &trained.thresholds).unwrap();
        let precision = Precision::new(bits.bits, bits.input).unwrap();
        let network = QuantisedAnn::new(&found, precision, Device::Cpu).unwrap();
        let quantised = to_vec(&network.forward(&x, |_, _| Ok(())).unwrap()).unwrap();
        let largest = quantised.iter().fold(0f32, |m, v| m.max(v.abs()));
        made += 1;
        alike += usize::from(logits.iter().zip(&quantised).all(|(a, b)| (a - b).abs() <= 1e-4 * largest));
        // What was saved goes on as it was.
        let mut again = Rounding::new(&ann, bits).unwrap();
        again.restore(&saved, Device::Cpu).unwrap();
        assert_eq!(to_vec(&again.forward(&ann, &x, false).unwrap()).unwrap(), logits, "network {index}");
    }
    assert!(made > 60 && alike * 10 > made * 9, "{alike} of {made} networks alike");
}
