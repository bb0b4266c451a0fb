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

/// A VGG-11 with batch norm for 3 x 32 x 32, its names those of `nn.Sequential`.
fn vgg11() -> String {
    let mut text = String::from("input: [3, 32, 32]\nlayers:\n");
    let mut index = 0;
    for out in [64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0] {
        if out == 0 {
            text.push_str("  - {type: max_pool2d, kernel: 2}\n");
            index += 1;
            continue;
        }
        let norm = index + 1;
        text.push_str(&format!(
            "  - {{type: conv2d, name: \"0.{index}\", out: {out}, kernel: 3, padding: 1}}\n  - {{type: batch_norm, name: \
             \"0.{norm}\"}}\n  - {{type: relu}}\n"
        ));
        index += 3;
    }
    text + "  - {type: flatten}\n  - {type: linear, name: \"2\", out: 10}\n"
}

const LENET5: &str = "
input: [1, 28, 28]
layers:
  - {type: conv2d, name: '0', out: 6, kernel: 5, padding: 2}
  - {type: relu}
  - {type: avg_pool2d, kernel: 2}
  - {type: conv2d, name: '3', out: 16, kernel: 5}
  - {type: relu}
  - {type: avg_pool2d, kernel: 2}
  - {type: flatten}
  - {type: linear, name: '7', out: 120}
  - {type: relu}
  - {type: linear, name: '9', out: 84}
  - {type: relu}
  - {type: linear, name: '11', out: 10}
";

#[test]
fn well_known_networks_built_in_pytorch_give_its_logits() {
    let Some(python) = parity::python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/random_networks/known.py");
    let output = Command::new(python).arg(script).arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let floats = |name: String| -> Vec<f32> {
        let bytes = std::fs::read(folder.path().join(name)).unwrap();
        bytes.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four)).collect()
    };
    for (name, description) in
        [("vgg11", Some(vgg11())), ("lenet5", Some(LENET5.to_owned())), ("escape", None)]
    {
        let path = folder.path().join(format!("{name}.pth"));
        let checkpoint = Checkpoint::load(&path).unwrap();
        let network = match description {
            Some(text) => escape_checkpoint::description::parse(name, &text).unwrap(),
            // Of the family, in another shape and for other classes: nobody has to describe it.
            None => escape_checkpoint::network_of(&checkpoint, &path, 64, 100).unwrap(),
        };
        let count = network.input().count();
        let ann = Ann::of(network, &checkpoint, &path, Device::Cpu).unwrap();
        let x = to_tensor(&floats(format!("{name}.x")), &[RECORDINGS, count], Device::Cpu).unwrap();
        let (got, want) = (to_vec(&ann.forward(&x, false).unwrap()).unwrap(), floats(format!("{name}.y")));
        assert_eq!(got.len(), want.len(), "{name}");
        for (got, want) in got.iter().zip(&want) {
            assert!((got - want).abs() <= 1e-5 * want.abs().max(1.0), "{name}: {got} against {want}");
        }
    }
}
