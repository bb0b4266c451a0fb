//! `cargo bench -p escape-stdb`: loss and gradients of ESCAPE-NET, of a convolution by the share of its input that is not zero,
//! and Adam's step.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use escape_model::optim::{Optimizer, Rule};
use escape_network::arch::Architecture;
use escape_network::family::Family;
use escape_network::rng::Stream;
use escape_network::sequential::{Conv2d, Layer, Named, Padding, Sequential, Shape};
use escape_snn_core::encode::Encoding;
use escape_snn_core::network::{SpikingLayer, SpikingNetwork};
use escape_snn_core::neuron::Neuron;
use escape_snn_core::rules::Rules;
use escape_stdb::bptt::Trainable;
use escape_stdb::surrogate::Surrogate;
use tch::{Device, Tensor};

/// A network with random weights, whose thresholds let about a tenth of the neurons fire in a step.
fn spiking(network: Sequential, rules: Rules) -> SpikingNetwork {
    let mut random = Stream::new(1, 0);
    let layers = network.stages().unwrap_or_default().into_iter().map(|shape| {
        let spread = (shape.output.channels as f64 / shape.weights() as f64).sqrt();
        let weights: Vec<f32> = (0..shape.weights()).map(|_| (random.normal() * spread) as f32).collect();
        SpikingLayer { shape, weights: weights.into(), bias: Vec::new(), neuron: Neuron::default() }
    });
    SpikingNetwork { rules, layers: layers.collect(), network }
}

fn trainable(network: SpikingNetwork) -> Option<Trainable> {
    Trainable::new(network, Surrogate::DEFAULT, false, Device::Cpu).ok()
}

fn escape_net(c: &mut Criterion) {
    let Ok(network) = Family::published(Architecture::Modified).network(56, 100) else { return };
    let mut random = Stream::new(2, 0);
    let x: Vec<f32> = (0..2 * 5600).map(|_| (random.normal() * 0.3).clamp(-1.0, 1.0) as f32).collect();
    let mut group = c.benchmark_group("gradients of ESCAPE-NET, two recordings");
    group.sample_size(10);
    for (name, rules, encoding, steps) in [
        ("T = 4, constant", Rules::DEFAULT, Encoding::Direct, 4),
        ("T = 28, Poisson", Rules::DEFAULT, Encoding::Poisson, 28),
        ("T = 28, Poisson, published", Rules::PUBLISHED, Encoding::Poisson, 28),
    ] {
        let mut encoder = rules.encoder(encoding, 0);
        let Some(net) = trainable(spiking(network.clone(), rules)) else { continue };
        group.bench_function(name, |b| {
            b.iter(|| net.gradients(black_box(&x), &[0, 1], &[0, 1], &mut encoder, steps));
        });
    }
    group.finish();
}

/// A convolution behind one of a single tap, so that nearly all of the time is its own.
fn convolution(c: &mut Criterion) {
    let named = |name: &str, layer| Named { name: name.into(), layer };
    let spread = Conv2d::new(64, (1, 1));
    let own = Conv2d { padding: Padding::same((4, 4)), ..Conv2d::new(64, (4, 4)) };
    let layers = vec![
        named("spread", Layer::Conv2d(spread)),
        named("", Layer::Relu),
        named("own", Layer::Conv2d(own)),
        named("", Layer::Relu),
        named("", Layer::Flatten),
        named("readout", Layer::Linear { out: 3, bias: false }),
    ];
    let Ok(network) = Sequential::new(Shape::new(1, 28, 50), layers, Vec::new()) else { return };
    let mut group = c.benchmark_group("gradients of a convolution 64 x 64 x 4 x 4, T = 4");
    group.sample_size(10);
    for share in [0.1, 0.5, 1.0] {
        // A share of the pixels is loud and fires in every channel, the others are silent.
        let x: Vec<f32> =
            (0..1400).map(|n| if f64::from(n % 10) < 10.0 * share { 1.0 } else { 0.0 }).collect();
        let mut network = spiking(network.clone(), Rules::DEFAULT);
        network.layers[0].weights.iter_mut().for_each(|w| *w = w.abs() + 1.1);
        let mut encoder = network.rules.encoder(Encoding::Direct, 0);
        let Some(net) = trainable(network) else { continue };
        group.bench_function(format!("{share} of the input"), |b| {
            b.iter(|| net.gradients(black_box(&x), &[0], &[0], &mut encoder, 4));
        });
    }
    group.finish();
}

fn adam(c: &mut Criterion) {
    let Ok(network) = Family::published(Architecture::Modified).network(56, 100) else { return };
    let Some(net) = trainable(spiking(network, Rules::DEFAULT)) else { return };
    let parameters = net.parameters();
    let gradients: Vec<Tensor> = parameters.iter().map(|p| p.sin().detach()).collect();
    let mut optimizer = Optimizer::new(Rule::adam(1e-5));
    c.bench_function("Adam's step of ESCAPE-NET", |b| {
        b.iter(|| optimizer.step(black_box(&parameters), &gradients, 1.0));
    });
}

criterion_group!(benches, escape_net, convolution, adam);
criterion_main!(benches);
