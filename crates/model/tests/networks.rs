//! Random networks against PyTorch: whatever the layers, the same logits.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::path::Path;
use std::process::Command;

use escape_checkpoint::{Checkpoint, TensorData};
use escape_model::ann::{Ann, to_tensor, to_vec};
use escape_network::rng::Stream;
use escape_network::sequential::{Layer, Padding, Pool, Pooling, Role, Sequential};
use serde_json::{Value, json};
use tch::Device;

#[path = "../../../tests/random_networks/mod.rs"]
mod networks;
#[path = "../../../tests/parity/mod.rs"]
// Only the Python is needed of it.
#[allow(dead_code)]
mod parity;

const NETWORKS: u64 = 240;
const RECORDINGS: usize = 3;

fn padding(padding: Padding) -> Value {
    json!([padding.top, padding.bottom, padding.left, padding.right])
}

/// A layer in PyTorch's terms.
fn terms(layer: &Layer) -> Value {
    let mut terms = match *layer {
        Layer::Conv2d(c) => json!({
            "out": c.out, "kernel": [c.kernel.0, c.kernel.1], "stride": [c.stride.0, c.stride.1],
            "padding": padding(c.padding), "groups": c.groups, "bias": c.bias,
        }),
        Layer::Linear { out, bias } => json!({ "out": out, "bias": bias }),
        Layer::BatchNorm { eps, affine } => json!({ "eps": eps, "affine": affine }),
        Layer::Pool(Pool { pooling, kernel, stride, padding: around, ceil }) => json!({
            "kernel": [kernel.0, kernel.1], "stride": [stride.0, stride.1], "padding": padding(around), "ceil": ceil,
            "count_include_pad": pooling == Pooling::Average { count_padding: true },
        }),
        Layer::AdaptiveAvgPool { out } => json!({ "out": [out.0, out.1] }),
        Layer::Dropout { p } => json!({ "p": p }),
        Layer::Relu | Layer::Flatten => json!({}),
    };
    terms["type"] = json!(layer.kind());
    terms
}

/// A network with random weights, and statistics as a training leaves them.
fn trained(network: &Sequential, seed: u64) -> Ann {
    let mut random = Stream::new(seed, 5);
    let mut ann = Ann::new(network.clone(), seed, Device::Cpu).unwrap();
    let mut checkpoint = Checkpoint { weights: ann.weights().unwrap(), ..Checkpoint::default() };
    for (parameter, (_, data)) in network.parameters().iter().zip(&mut checkpoint.weights) {
        let mut values = data.to_f32();
        match parameter.role {
            Role::Weight | Role::Bias => continue,
            Role::Mean | Role::Shift => values.iter_mut().for_each(|v| *v = random.normal() as f32 * 0.3),
            Role::Scale | Role::Variance => {
                values.iter_mut().for_each(|v| *v = 0.5 + random.uniform() as f32);
            }
        }
        *data = TensorData::from_f32(&parameter.shape, &values);
    }
    ann = Ann::of(network.clone(), &checkpoint, Path::new("memory"), Device::Cpu).unwrap();
    ann
}

#[test]
fn logits_are_those_of_pytorch() {
    let Some(python) = parity::python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut described = Vec::new();
    let mut logits = Vec::new();
    let mut kinds = std::collections::BTreeSet::new();
    for i in 0..NETWORKS {
        let network = networks::random(i, |_| true);
        let input = network.input();
        let ann = trained(&network, i);
        let mut random = Stream::new(i, 9);
        let x: Vec<f32> = (0..RECORDINGS * input.count()).map(|_| random.normal() as f32).collect();
        let tensor = to_tensor(&x, &[RECORDINGS, input.count()], Device::Cpu).unwrap();
        logits.push(to_vec(&ann.forward(&tensor, false).unwrap()).unwrap());
        let at = |name: &str| folder.path().join(format!("{i}.{name}"));
        let bytes: Vec<u8> = x.iter().flat_map(|v| v.to_le_bytes()).collect();
        std::fs::write(at("x"), bytes).unwrap();
        Checkpoint { weights: ann.weights().unwrap(), ..Checkpoint::default() }.save(&at("pth")).unwrap();
        kinds.extend(network.layers().iter().map(|l| l.layer.kind()));
        let layers: Vec<Value> = network.layers().iter().map(|l| terms(&l.layer)).collect();
        described.push(json!({ "input": [input.channels, input.height, input.width], "layers": layers }));
    }
    assert_eq!(kinds.len(), 9, "not every kind of layer was drawn: {kinds:?}");
    std::fs::write(folder.path().join("networks.json"), Value::from(described).to_string()).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/random_networks/reference.py");
    let output = Command::new(python).arg(script).arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for (i, got) in logits.iter().enumerate() {
        let bytes = std::fs::read(folder.path().join(format!("{i}.y"))).unwrap();
        let want: Vec<f32> = bytes.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four)).collect();
        assert_eq!(got.len(), want.len(), "network {i}");
        for (got, want) in got.iter().zip(&want) {
            assert!((got - want).abs() <= 1e-5 * want.abs().max(1.0), "network {i}: {got} against {want}");
        }
    }
}
