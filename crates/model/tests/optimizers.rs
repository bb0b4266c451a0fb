//! Update rules and pruning against PyTorch's; update rules against themselves after a detour through a checkpoint.

// A test fails by panicking, its helpers too; and says so when it was skipped.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../../../tests/parity/mod.rs"]
mod parity;

use escape_checkpoint::{Value, read};
use escape_model::ann::to_vec;
use escape_model::optim::{Optimizer, Rule};
use escape_model::prune::{count, smallest};
use tch::{Device, Tensor};

/// The generator's settings.
const RULES: [(&str, Rule); 2] = [
    ("adam", Rule::Adam { lr: 0.1, betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.01 }),
    ("sgd", Rule::Sgd { lr: 0.1, momentum: 0.9, nesterov: true, weight_decay: 0.01 }),
];

fn start() -> Tensor {
    Tensor::from_slice(&[-1f32, -2.0 / 3.0, -1.0 / 3.0, 0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0])
}

fn gradient(step: usize) -> Tensor {
    let values: Vec<f32> = (0..7).map(|i| ((i + step) as f32).sin()).collect();
    Tensor::from_slice(&values)
}

fn close(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6)
}

#[test]
fn five_steps_are_pytorchs() {
    let Some(folder) = parity::reference() else { return };
    let want = read(&folder.join("optimizers.pth")).unwrap();
    // Repeated, they are more than what is updated together.
    for ((name, rule), times) in RULES.into_iter().flat_map(|rule| [(rule, 1i64), (rule, 10_000)]) {
        let p = start().repeat([times]);
        let mut optimizer = Optimizer::new(rule);
        for i in 0..5 {
            optimizer.step(&[&p], &[gradient(i).repeat([times])], 1.0).unwrap();
        }
        let want = want.get(name).and_then(Value::as_tensor).unwrap().to_f32().repeat(times as usize);
        assert!(close(&to_vec(&p).unwrap(), &want), "{name}, {times} times: {p:?} against {:?}", &want[..7]);
    }
}

#[test]
fn a_saved_state_goes_on_where_it_was() {
    for (name, rule) in RULES {
        let (p, q) = (start(), start());
        let mut whole = Optimizer::new(rule);
        let mut first = Optimizer::new(rule);
        for i in 0..6 {
            whole.step(&[&p], &[gradient(i)], 1.0).unwrap();
        }
        for i in 0..3 {
            first.step(&[&q], &[gradient(i)], 1.0).unwrap();
        }
        let mut second = Optimizer::from_value(rule, &first.to_value().unwrap(), 1, Device::Cpu).unwrap();
        for i in 3..6 {
            second.step(&[&q], &[gradient(i)], 1.0).unwrap();
        }
        assert_eq!(to_vec(&p).unwrap(), to_vec(&q).unwrap(), "{name}");
        assert!(Optimizer::from_value(rule, &first.to_value().unwrap(), 2, Device::Cpu).is_err());
        assert!(Optimizer::from_value(rule, &Value::None, 1, Device::Cpu).is_err());
    }
}

#[test]
fn a_factor_scales_the_step() {
    for (_, rule) in RULES {
        let (p, q) = (start(), start());
        Optimizer::new(rule).step(&[&p], &[gradient(0)], 1.0).unwrap();
        Optimizer::new(rule).step(&[&q], &[gradient(0)], 0.5).unwrap();
        let half = (p - start()) * 0.5 + start();
        assert!(close(&to_vec(&q).unwrap(), &to_vec(&half).unwrap()));
    }
}

#[test]
fn pytorch_prunes_the_same_weights() {
    let Some(folder) = parity::reference() else { return };
    let pruned = read(&folder.join("pruned.pth")).unwrap();
    let mut compared = 0;
    for entry in pruned.items().unwrap() {
        let values = |key: &str| entry.get(key).and_then(Value::as_tensor).unwrap().to_f32();
        let share = entry.get("share").and_then(Value::as_f64).unwrap();
        let (weights, kept) = (values("weight"), values("kept"));
        let want: Vec<usize> = (0..kept.len()).filter(|&i| kept[i] == 0.0).collect();
        let mut got = smallest(&weights, count(share, weights.len()));
        got.sort_unstable();
        assert_eq!(got, want, "{share} of {} weights", weights.len());
        compared += 1;
    }
    assert_eq!(compared, 16);
}
