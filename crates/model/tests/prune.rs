//! Pruning while an ANN is trained; `optimizers.rs` compares what is taken with PyTorch.

// A test fails by panicking, its helpers too.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use escape_checkpoint::{Checkpoint, description};
use escape_data::Recordings;
use escape_model::ann::{Ann, to_vec};
use escape_model::optim::{Rule, Schedule};
use escape_model::prune::{Pruning, count};
use escape_model::rounding::RoundingBits;
use escape_model::train::{Options, Trainer};
use escape_network::metrics::Loss;
use escape_network::sequential::Sequential;
use tch::Device;

const NETWORK: &str = "
input: [1, 6, 8]
layers:
  - {type: conv2d, name: a, out: 5, kernel: 3, padding: 1}
  - {type: batch_norm, name: norm}
  - {type: relu}
  - {type: flatten}
  - {type: linear, name: b, out: 7, bias: false}
  - {type: relu}
  - {type: linear, name: c, out: 3}
";
const SHARE: f64 = 0.7;
const EPOCHS: usize = 4;

fn network() -> Sequential {
    description::parse("pruned", NETWORK).unwrap()
}

fn recordings() -> Recordings {
    Recordings {
        x: (0..30 * 48).map(|i| (i as f32 * 0.31).sin()).collect(),
        y: (0..30).map(|i| i % 3).collect(),
        contacts: 6,
        samples: 8,
    }
}

/// Seven steps an epoch.
fn options(rule: Rule, few_bits: bool) -> Options {
    Options {
        rule,
        batch_size: 4,
        loss: Loss::CrossEntropy,
        balance: None,
        patience: Some(1),
        schedule: Schedule::Linear { epochs: EPOCHS },
        rounding: few_bits.then_some(RoundingBits { bits: 4, input: 4, levels: Some(3) }),
        pruning: Some(Pruning { share: SHARE, epochs: EPOCHS }),
        seed: 3,
    }
}

fn fresh(options: Options) -> Trainer {
    Trainer::new(Ann::new(network(), 5, Device::Cpu).unwrap(), options).unwrap()
}

fn run(trainer: &mut Trainer, epochs: usize) {
    let data = recordings();
    for _ in 0..epochs {
        trainer.run_epoch(&data, &data, &mut |_| true).unwrap();
    }
}

/// Zeros in a parameter.
fn zeros(trainer: &Trainer, name: &str) -> usize {
    let (_, found) = trainer.net().parameters().iter().find(|p| p.0 == name).unwrap();
    to_vec(found).unwrap().iter().filter(|w| **w == 0.0).count()
}

#[test]
fn exactly_the_share_is_zero_after_training_and_the_readout_is_not_touched() {
    let mut trainer = fresh(options(Rule::adam(0.01), false));
    let mut before = (0, 0);
    for epoch in 1..=EPOCHS {
        run(&mut trainer, 1);
        let found = (zeros(&trainer, "a.weight"), zeros(&trainer, "b.weight"));
        assert!(found >= before, "{found:?} after {before:?}");
        before = found;
        // Half of the steps are two epochs.
        let whole = (count(SHARE, 45), count(SHARE, 1680));
        assert_eq!(found == whole, epoch >= 2, "{found:?} after epoch {epoch}");
        assert_eq!(trainer.history().best().is_some(), epoch >= 2);
        let others = ["a.bias", "norm.weight", "c.weight", "c.bias"];
        assert!(others.iter().all(|name| zeros(&trainer, name) == 0));
    }
    assert_eq!(before, (31, 1176));
    // Before a network may be kept there is none whose lead could be waited for.
    let mut waiting = fresh(options(Rule::adam(0.01), false));
    run(&mut waiting, 1);
    assert!(!waiting.out_of_patience());
}

#[test]
fn a_resumed_pruning_is_one_that_was_never_interrupted() {
    for (rule, few_bits) in [(Rule::adam(0.01), false), (Rule::sgd(0.05), false), (Rule::adam(0.01), true)] {
        let options = options(rule, few_bits);
        let mut whole = fresh(options);
        run(&mut whole, EPOCHS);
        let mut resumed = fresh(options);
        for _ in 0..EPOCHS {
            run(&mut resumed, 1);
            let saved = resumed.checkpoint(true).unwrap();
            let net = Ann::of(network(), &saved, Path::new("memory"), Device::Cpu).unwrap();
            resumed = Trainer::resume(net, options, &saved).unwrap();
        }
        let weights = |trainer: &Trainer| trainer.net().weights().unwrap();
        assert!(weights(&whole) == weights(&resumed), "{rule:?}, few bits {few_bits}");
        let best = |trainer: &Trainer| trainer.history().best().map(|e| (e.epoch, e.test_accuracy));
        assert_eq!(best(&whole), best(&resumed));
        assert_eq!(zeros(&resumed, "b.weight"), 1176);
    }
}

/// In its own time and in another's: a training that goes on for longer, or ends sooner, than was said when it began.
#[test]
fn what_is_pruned_stays_pruned_when_the_end_moves() {
    for (first, then) in [(1, 6), (EPOCHS, 2)] {
        let with = |epochs| {
            let options = options(Rule::adam(0.01), false);
            Options { pruning: Some(Pruning { share: SHARE, epochs }), ..options }
        };
        let mut trainer = fresh(with(first));
        run(&mut trainer, 1);
        let (saved, before) = (trainer.checkpoint(true).unwrap(), zeros(&trainer, "b.weight"));
        let net = Ann::of(network(), &saved, Path::new("memory"), Device::Cpu).unwrap();
        let mut trainer = Trainer::resume(net, with(then), &saved).unwrap();
        run(&mut trainer, 1);
        assert!(before > 0 && zeros(&trainer, "b.weight") == 1176, "{first} epochs, then {then}: {before}");
        assert!(trainer.history().best().is_some());
    }
}

#[test]
fn a_network_that_is_pruned_already_stays_so_and_may_be_kept() {
    let mut trainer = fresh(options(Rule::adam(0.01), false));
    run(&mut trainer, EPOCHS);
    let saved = Checkpoint { weights: trainer.net().weights().unwrap(), ..Checkpoint::default() };
    let ann = || Ann::of(network(), &saved, Path::new("memory"), Device::Cpu).unwrap();
    let data = recordings();
    let mut again = Trainer::new(ann(), options(Rule::adam(0.01), false)).unwrap();
    assert!(again.judge_input(&data, &mut |_| true).unwrap().is_best);
    run(&mut again, 1);
    assert_eq!(zeros(&again, "b.weight"), 1176);
    // Pruned to more, it may not.
    let more = Pruning { share: 0.8, epochs: EPOCHS };
    let more = Options { pruning: Some(more), ..options(Rule::adam(0.01), false) };
    let mut more = Trainer::new(ann(), more).unwrap();
    assert!(!more.judge_input(&data, &mut |_| true).unwrap().is_best);
    // Without pruning, zeros are weights like others.
    let plain = Options { pruning: None, ..options(Rule::adam(0.01), false) };
    let mut plain = Trainer::new(ann(), plain).unwrap();
    run(&mut plain, 1);
    assert!(zeros(&plain, "b.weight") < 1176);
}

#[test]
fn a_network_of_one_layer_has_nothing_to_prune() {
    let text = "{input: [1, 6, 8], layers: [{type: flatten}, {type: linear, name: a, out: 3}]}";
    let network = description::parse("single", text).unwrap();
    let ann = Ann::new(network, 5, Device::Cpu).unwrap();
    let why = Trainer::new(ann, options(Rule::adam(0.01), false)).unwrap_err().to_string();
    assert!(why.contains("at least two layers") && why.contains("--prune"), "{why}");
}
