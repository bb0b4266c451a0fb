//! `cargo bench -p escape-checkpoint`: reading a checkpoint of the modified network.
#![allow(missing_docs)]

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use escape_checkpoint::read_bytes;

fn reading(c: &mut Criterion) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../checkpoints/modified.pth");
    let bytes = std::fs::read(&path).expect("the shipped checkpoint");
    let mut group = c.benchmark_group("checkpoint");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.sample_size(20);
    group.bench_function("read", |b| b.iter(|| read_bytes(&path, black_box(&bytes)).expect("a sound file")));
    group.finish();
}

criterion_group!(benches, reading);
criterion_main!(benches);
