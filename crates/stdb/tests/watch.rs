//! What goes wrong in a fine-tuning is told as it happens: each case is made to happen.

// A test fails by panicking, its helpers too.
#![allow(clippy::unwrap_used)]

use escape_checkpoint::description;
use escape_data::Recordings;
use escape_model::optim::{Rule, Schedule};
use escape_model::train::Event;
use escape_snn_core::encode::Encoding;
use escape_snn_core::network::{SpikingLayer, SpikingNetwork};
use escape_snn_core::neuron::Neuron;
use escape_snn_core::rules::Rules;
use escape_stdb::finetune::{FineTuner, Options};
use escape_stdb::surrogate::Surrogate;
use tch::Device;

const SMALL: &str = "
input: [1, 6, 8]
layers:
  - {type: conv2d, name: a, out: 4, kernel: 3, padding: 1}
  - {type: relu}
  - {type: flatten}
  - {type: linear, name: b, out: 12}
  - {type: relu}
  - {type: linear, name: c, out: 3}
";

/// A network of the published rules with this weight for the i-th of a layer, and this threshold of the hidden layers.
fn network(weight: fn(usize) -> f32, threshold: f32) -> SpikingNetwork {
    let network = description::parse("small", SMALL).unwrap();
    let stages = network.stages().unwrap();
    let layers = stages.into_iter().enumerate().map(|(k, shape)| {
        let neuron = Neuron::new(if k < 2 { threshold } else { 1.0 }, 1.0).unwrap();
        let weights = (0..shape.weights()).map(weight).collect::<Vec<f32>>().into();
        SpikingLayer { shape, weights, bias: Vec::new(), neuron }
    });
    SpikingNetwork { rules: Rules::PUBLISHED, layers: layers.collect(), network }
}

/// Weights of either sign.
fn mixed(i: usize) -> f32 {
    (i as f32 * 0.77).sin() * 0.5
}

/// What is told over some epochs of 12 steps, and how it ended.
fn told(
    network: SpikingNetwork,
    steps: usize,
    lr: f64,
    learn_thresholds: bool,
) -> (Vec<String>, Option<String>) {
    let recordings = Recordings {
        x: (0..24 * 48).map(|i| (i as f32 * 0.31).sin()).collect(),
        y: (0..24).map(|i| i % 3).collect(),
        contacts: 6,
        samples: 8,
    };
    let options = Options {
        rule: Rule::adam(lr),
        batch_size: 2,
        steps,
        encoding: Encoding::Poisson,
        surrogate: Surrogate::DEFAULT,
        learn_thresholds,
        learn_decays: false,
        shuffle: true,
        balance: None,
        schedule: Schedule::Constant,
        temperature: 1.0,
        operations_penalty: 0.0,
        keep_zeros: false,
        seed: 1,
    };
    let mut tuner = FineTuner::new(network, options, Device::Cpu).unwrap();
    let mut said = Vec::new();
    let mut tick = |event: Event<'_>| {
        if let Event::Trouble(trouble) = event {
            said.push(trouble.to_string());
        }
        true
    };
    tuner.judge_input(&recordings, &mut tick).unwrap();
    let ended = (0..3).find_map(|_| tuner.run_epoch(&recordings, &recordings, None, &mut tick).err());
    (said, ended.map(|error| error.to_string()))
}

/// How often a layer's trouble was told in words that hold `part`.
fn count(said: &[String], part: &str) -> usize {
    said.iter().filter(|text| text.contains(part)).count()
}

#[test]
fn a_sound_training_has_no_trouble_with_its_layers() {
    let (said, ended) = told(network(mixed, 1.0), 8, 1e-4, true);
    let of_layers = ["silent", "spikes a neuron", "surrogate", "gradient", "threshold of"];
    assert!(of_layers.iter().all(|part| count(&said, part) == 0), "{said:?}");
    assert_eq!(ended, None);
}

#[test]
fn thresholds_that_are_too_high_silence_the_lowest_layer() {
    let (said, ended) = told(network(mixed, 1e4), 8, 1e-4, false);
    assert_eq!(
        count(&said, "epoch 1, step 10: conv1 has been silent for 10 steps (0.0e0 spikes"),
        1,
        "{said:?}"
    );
    assert_eq!((count(&said, "silent"), count(&said, "no gradient")), (1, 0), "{said:?}");
    assert_eq!(ended, None);
}

#[test]
fn too_few_steps_for_the_delay_leave_no_gradient() {
    let (said, _) = told(network(mixed, 1.0), 2, 1e-4, false);
    assert_eq!(count(&said, "epoch 1, step 10: no gradient has reached linear2"), 1, "{said:?}");
    assert_eq!(count(&said, "no gradient"), 1, "{said:?}");
}

#[test]
fn thresholds_that_are_too_low_saturate_or_close_the_surrogate() {
    // The linear layer's weights are positive, and almost every neuron of the convolution that fires does so throughout.
    let (said, _) = told(network(|i| if i < 36 { mixed(i) } else { 0.5 }, 1e-6), 12, 1e-9, false);
    assert_eq!(count(&said, "linear1 has fired"), 1, "{said:?}");
    assert_eq!(count(&said, "the surrogate of conv1 has been 0 at all but"), 1, "{said:?}");
}

#[test]
fn a_learning_rate_that_is_too_high_is_told_of_or_ends_the_training() {
    let (said, _) = told(network(mixed, 1.0), 8, 20.0, true);
    assert!(count(&said, "the threshold of") > 0, "{said:?}");
    assert!(count(&said, "the loss explodes") > 0, "{said:?}");
    let (_, ended) = told(network(mixed, 1.0), 8, 1e38, false);
    let ended = ended.unwrap();
    assert!(
        ended.contains("training diverged: expected a finite") && ended.contains("smaller --lr"),
        "{ended}"
    );
}
