//! `cargo bench -p escape-snn-core --bench events`: a recording through ESCAPE-NET on the event engine, by the instructions
//! that this machine has, and layers of one kind.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use escape_network::arch::Architecture;
use escape_network::family::Family;
use escape_network::rng::Stream;
use escape_network::sequential::{Conv2d, Layer, Named, Padding, Sequential, Shape};
use escape_snn_core::encode::Encoding;
use escape_snn_core::engine::{Batch, Engine};
use escape_snn_core::event::{Event, Instructions};
use escape_snn_core::network::{SpikingLayer, SpikingNetwork};
use escape_snn_core::neuron::Neuron;
use escape_snn_core::rules::{Arithmetic, Rules};

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

fn recording(size: usize) -> Vec<f32> {
    let mut random = Stream::new(2, 0);
    (0..size).map(|_| (random.normal() * 0.3).clamp(-1.0, 1.0) as f32).collect()
}

fn escape_net(c: &mut Criterion) {
    let Ok(network) = Family::published(Architecture::Modified).network(56, 100) else { return };
    let x = recording(5600);
    let mut group = c.benchmark_group("ESCAPE-NET");
    group.sample_size(20);
    for (name, encoding, steps) in
        [("T = 4, constant", Encoding::Direct, 4), ("T = 28, Poisson", Encoding::Poisson, 28)]
    {
        for with in Instructions::available() {
            let network = spiking(network.clone(), Rules::DEFAULT);
            let mut encoder = network.rules.encoder(encoding, 0);
            let Ok(engine) = Event::new(network, encoding) else { continue };
            let engine = engine.with(with);
            group.bench_function(BenchmarkId::new(name, format!("{with:?}")), |b| {
                b.iter(|| engine.run(Batch { x: black_box(&x), first: 0 }, &mut encoder, steps, &mut ()));
            });
        }
    }
    let network = spiking(network, Rules { arithmetic: Arithmetic::Float32, ..Rules::DEFAULT });
    let mut encoder = network.rules.encoder(Encoding::Poisson, 0);
    if let Ok(engine) = Event::new(network, Encoding::Poisson) {
        group.bench_function("T = 28, Poisson, float32", |b| {
            b.iter(|| engine.run(Batch { x: black_box(&x), first: 0 }, &mut encoder, 28, &mut ()));
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
    let mut group = c.benchmark_group("convolution 64 x 64 x 4 x 4, T = 4");
    for share in [0.1, 0.5, 1.0] {
        // A share of the pixels is loud and fires in every channel, the others are silent.
        let x: Vec<f32> =
            (0..1400).map(|n| if f64::from(n % 10) < 10.0 * share { 1.0 } else { 0.0 }).collect();
        let mut network = spiking(network.clone(), Rules::DEFAULT);
        network.layers[0].weights.iter_mut().for_each(|w| *w = w.abs() + 1.1);
        let mut encoder = network.rules.encoder(Encoding::Direct, 0);
        let Ok(engine) = Event::new(network, Encoding::Direct) else { continue };
        group.bench_function(format!("{share} of the input"), |b| {
            b.iter(|| engine.run(Batch { x: black_box(&x), first: 0 }, &mut encoder, 4, &mut ()));
        });
    }
    group.finish();
}

criterion_group!(benches, escape_net, convolution);
criterion_main!(benches);
