//! `cargo bench -p escape-snn-core`: what a layer's neurons cost in a timestep, and pooling.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use escape_network::sequential::{Padding, Pool, Pooling};
use escape_snn_core::neuron::{Dynamics, Neuron, Plane, step_all, step_all_traced};
use escape_snn_core::rules::Rules;

/// A plane of the first layer's neurons: one channel of 56 contacts x 100 samples.
const PLANE: Plane = Plane {
    height: 56,
    width: 100,
    pool: Some(Pool::new(Pooling::Average { count_padding: true }, (2, 2))),
    pooled: (28, 50),
    share: 0.25,
    padding: Padding::same((4, 4)),
};

fn neurons(c: &mut Criterion) {
    let size = PLANE.neurons();
    let current: Vec<f32> = (0..size).map(|i| (i as f32 * 0.37).sin()).collect();
    let mut group = c.benchmark_group("neurons");
    group.throughput(Throughput::Elements(size as u64));
    for rules in [Rules::PUBLISHED, Rules::DEFAULT] {
        let dynamics = Dynamics { neuron: Neuron::default(), firing: rules.firing, reset: rules.reset };
        let (mut u, mut spikes) = (vec![0.5; size], vec![0.0; size]);
        group.bench_function(format!("step, {}", rules.preset), |b| {
            b.iter(|| step_all(dynamics, black_box(&mut u), &current, &mut spikes));
        });
    }
    let dynamics =
        Dynamics { neuron: Neuron::default(), firing: Rules::DEFAULT.firing, reset: Rules::DEFAULT.reset };
    let (mut u, mut spikes, mut trace) = (vec![0.5; size], vec![0.0; size], vec![0.0; size]);
    group.bench_function("step with a trace", |b| {
        b.iter(|| {
            trace.copy_from_slice(&current);
            step_all_traced(dynamics, black_box(&mut u), &mut trace, &mut spikes);
        });
    });
    let mut pooled = vec![0.0; PLANE.padded_len()];
    group.bench_function("pooling 2 x 2", |b| {
        b.iter(|| PLANE.pool_into(black_box(&spikes), &mut [], &mut pooled))
    });
    group.finish();
}

criterion_group!(benches, neurons);
criterion_main!(benches);
