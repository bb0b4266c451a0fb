//! A run folder made of plausible numbers: every table, shapes as in a real run, no network behind it.

use std::fs;
use std::path::Path;

use escape_report::rows::{
    Activity, Confusion, Energy, EnergyStep, Evaluation, Finetune, Front, InputSpike, Kind, LayerKind,
    Raster, Recording, Row, Step, Training, append_csv,
};

/// A small generator (xorshift64*), so that runs repeat.
struct Random(u64);

impl Random {
    /// From 0 to 1.
    fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Layer, kind, neurons, weights, MACs, spikes of a published network at T = 28.
const LAYERS: [(&str, LayerKind, u64, u64, u64, f64); 5] = [
    ("conv1", LayerKind::Conv, 358_400, 4_096, 22_937_600, 112_650.0),
    ("conv2", LayerKind::Conv, 89_600, 65_536, 91_750_400, 61_392.0),
    ("conv3", LayerKind::Conv, 22_400, 16_384, 5_734_400, 12_132.0),
    ("linear1", LayerKind::Linear, 256, 5_734_400, 5_734_400, 678.0),
    ("linear2", LayerKind::Linear, 3, 768, 768, 6.0),
];

/// Name, kind, preset, encoder, T of the networks with recorded activity.
const NETWORKS: [(&str, Kind, &str, &str, u32); 2] = [
    ("stdb-T28", Kind::Finetuned, "published", "poisson", 28),
    ("direct-T4", Kind::Finetuned, "default", "direct", 4),
];

/// Write the whole folder; `density` thins the spikes (1 is a real run's number).
pub fn write(folder: &Path, density: f64) {
    fs::create_dir_all(folder).unwrap();
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    manifest(folder);
    evaluations(folder);
    epochs(folder);
    confusion(folder);
    input(folder, &mut random);
    spikes(folder, &mut random, density);
    energy(folder);
    front(folder);
}

fn put<R: Row>(folder: &Path, rows: &[R]) {
    append_csv(&folder.join(R::FILE), rows).unwrap();
}

fn manifest(folder: &Path) {
    let text = r#"{
  "name": "synthetic <example> & test",
  "created": "2026-01-01T12:00:00Z",
  "version": "0.1.0",
  "device": "cpu, 2 threads",
  "seed": 0,
  "config": {"hash": "4f2c9d0b6f6f3d1e5b8a7c9e0d1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b", "file": "configs/demo.yaml"},
  "inputs": {"checkpoint": "checkpoints/modified.pth", "recordings": "simulated, 2,000 samples"},
  "classes": ["dorsiflexion", "plantarflexion", "pricking"]
}"#;
    fs::write(folder.join("manifest.json"), text).unwrap();
}

fn evaluations(folder: &Path) {
    let row = |network: &str, kind, preset: &str, encoder: &str, timesteps, accuracy, epoch| Evaluation {
        network: network.to_owned(),
        kind,
        preset: preset.to_owned(),
        encoder: encoder.to_owned(),
        timesteps,
        samples: 7835,
        accuracy,
        loss: 1.6 - accuracy,
        epoch,
        balanced_accuracy: Some(accuracy - 0.01),
        macro_f1: Some(accuracy - 0.02),
        bits: None,
    };
    let mut rows = vec![
        row("original", Kind::Ann, "", "", None, 0.7381, Some(41)),
        row("modified", Kind::Ann, "", "", None, 0.7271, Some(63)),
    ];
    // Of 5 bits as good as the networks, of 3 bits less than any.
    for (bits, accuracy) in [(5, 0.7263), (3, 0.5104)] {
        let name = format!("ann-{bits}bit");
        rows.push(Evaluation {
            bits: Some(bits),
            ..row(&name, Kind::Quantised, "", "", None, accuracy, None)
        });
    }
    for (t, accuracy) in
        [(10, 0.273), (28, 0.283), (50, 0.422), (75, 0.588), (100, 0.6623), (200, 0.711), (300, 0.713)]
    {
        rows.push(row("converted", Kind::Converted, "published", "poisson", Some(t), accuracy, None));
    }
    for (t, accuracy) in [(1, 0.402), (2, 0.668), (4, 0.722), (8, 0.725), (16, 0.727)] {
        rows.push(row("converted", Kind::Converted, "default", "direct", Some(t), accuracy, None));
    }
    for (t, accuracy, epoch) in [(10, 0.609, 12), (28, 0.6987, 10), (50, 0.690, 2), (100, 0.669, 7)] {
        let name = format!("stdb-T{t}");
        rows.push(row(&name, Kind::Finetuned, "published", "poisson", Some(t), accuracy, Some(epoch)));
    }
    for (t, accuracy) in [(2, 0.715), (4, 0.7301)] {
        let name = format!("direct-T{t}");
        rows.push(row(&name, Kind::Finetuned, "default", "direct", Some(t), accuracy, Some(1)));
    }
    put(folder, &rows);
}

fn epochs(folder: &Path) {
    let curve = |epoch: u32, best: f64| best - 0.4 * (-f64::from(epoch) / 9.0).exp();
    let mut training = Vec::new();
    for (network, last, best) in [("original", 50, 0.738), ("modified", 70, 0.727)] {
        for epoch in 1..=last {
            let wobble = 0.008 * f64::from(epoch * 7 % 5);
            let test = curve(epoch, best) - wobble;
            training.push(Training {
                network: network.to_owned(),
                epoch,
                train_loss: Some(1.05 - 0.62 * test - 0.0035 * f64::from(epoch)),
                train_accuracy: Some((curve(epoch, best) + 0.002 * f64::from(epoch)).min(1.0)),
                test_loss: 1.1 - 0.5 * test + wobble,
                test_accuracy: test,
                seconds: 31.0,
                test_balanced_accuracy: Some(test - 0.01),
                test_macro_f1: Some(test - 0.02),
                judged_on: Some("test".to_owned()),
                seed: None,
                may_be_kept: None,
            });
        }
    }
    put(folder, &training);
    let mut finetune = Vec::new();
    for (network, best) in [("stdb-T28", 0.6987), ("direct-T4", 0.7301)] {
        for epoch in 0..=12 {
            let test = if epoch > 10 { best - 0.004 } else { best - 0.03 * f64::from(10 - epoch) / 9.0 };
            finetune.push(Finetune {
                network: network.to_owned(),
                epoch,
                train_loss: match epoch {
                    0 => None,
                    4 => Some(f64::NAN),
                    _ => Some(0.9 - 0.02 * f64::from(epoch)),
                },
                train_accuracy: (epoch > 0).then_some(test + 0.01),
                test_loss: 0.95 - 0.015 * f64::from(epoch),
                test_accuracy: test,
                seconds: 412.0,
                test_balanced_accuracy: None,
                test_macro_f1: None,
                judged_on: None,
                seed: None,
                may_be_kept: None,
            });
        }
    }
    put(folder, &finetune);
}

fn confusion(folder: &Path) {
    let mut rows = Vec::new();
    for (network, right) in [("modified", 1900_u64), ("stdb-T28", 1825), ("direct-T4", 1907)] {
        for actual in 0..3_u32 {
            for predicted in 0..3_u32 {
                let count = if actual == predicted {
                    right + 37 * u64::from(actual)
                } else {
                    330 + 11 * u64::from(predicted)
                };
                rows.push(Confusion {
                    network: network.to_owned(),
                    actual,
                    predicted,
                    count,
                    actual_name: None,
                    predicted_name: None,
                });
            }
        }
    }
    put(folder, &rows);
}

fn input(folder: &Path, random: &mut Random) {
    let mut recording = Vec::new();
    let mut spikes = Vec::new();
    for contact in 0..56_u32 {
        for sample in 0..100_u32 {
            let (ring, around) = (f64::from(contact / 8), f64::from(contact % 8));
            let arrival = 22.0 + 6.0 * ring;
            let t = (f64::from(sample) - arrival) / 7.0;
            let wave = -t * (-0.5 * t * t).exp() * (1.0 + 0.7 * (around * 0.785).cos());
            let value = (0.62 * wave + 0.16 * (random.uniform() - 0.5)).clamp(-1.0, 1.0);
            recording.push(Recording { contact, sample, value });
            for step in 0..28 {
                if random.uniform() <= 0.9 * value.abs() {
                    spikes.push(InputSpike {
                        step,
                        contact,
                        sample,
                        spike: if value < 0.0 { -1 } else { 1 },
                    });
                }
            }
        }
    }
    put(folder, &recording);
    put(folder, &spikes);
}

fn spikes(folder: &Path, random: &mut Random, density: f64) {
    let (mut activity, mut raster, mut steps) = (Vec::new(), Vec::new(), Vec::new());
    for (network, _, preset, encoder, timesteps) in NETWORKS {
        let mut arriving = 60e6 * f64::from(timesteps) / 28.0;
        for (depth, (layer, kind, neurons, weights, macs, spikes)) in LAYERS.into_iter().enumerate() {
            let spikes = spikes * f64::from(timesteps) / 28.0;
            let analog_input = encoder == "direct" && depth == 0;
            let operations = if analog_input { 0.0 } else { arriving };
            activity.push(Activity {
                network: network.to_owned(),
                preset: preset.to_owned(),
                timesteps,
                samples: 7835,
                layer: layer.to_owned(),
                kind,
                neurons,
                weights,
                macs,
                analog_input,
                leak: 1.0,
                spikes_per_sample: spikes,
                synaptic_operations_per_sample: operations,
                channels: None,
                sent: None,
                input_bits: None,
                weight_bits: None,
                nonzero_macs_per_sample: None,
                nonzero_weights: None,
                nonzero_operations_per_sample: None,
                active_per_sample: None,
            });
            arriving = spikes * macs as f64 / neurons as f64 * 0.2;
            for step in 0..timesteps {
                // A deeper layer starts a step later and settles.
                let share = if (step as usize) < depth {
                    0.0
                } else {
                    1.0 / f64::from(timesteps - depth as u32 % timesteps)
                };
                steps.push(Step {
                    network: network.to_owned(),
                    layer: layer.to_owned(),
                    step,
                    spikes_per_sample: spikes * share,
                    synaptic_operations_per_sample: operations / f64::from(timesteps),
                });
                let expected = spikes * share * if neurons > 1000 { density } else { 1.0 };
                for _ in 0..(expected * (0.85 + 0.3 * random.uniform()) + random.uniform()) as u64 {
                    raster.push(Raster {
                        network: network.to_owned(),
                        layer: layer.to_owned(),
                        step,
                        neuron: neuron(random, neurons),
                    });
                }
            }
        }
    }
    put(folder, &activity);
    put(folder, &raster);
    put(folder, &steps);
}

/// Some channels fire more than others, and within a channel some places; a quarter is silent.
fn neuron(random: &mut Random, neurons: u64) -> u64 {
    if neurons < 64 {
        return (random.uniform().powi(2) * neurons as f64) as u64;
    }
    let size = neurons / 64;
    let channel = (random.uniform().powf(1.8) * 48.0) as u64 * 37 % 64;
    let place = ((random.uniform() + random.uniform() + random.uniform()) / 3.0 * size as f64) as u64;
    channel * size + place.min(size - 1)
}

/// ANNs that grow with their bits, spiking networks that grow with T.
fn front(folder: &Path) {
    let row = |network: &str, kind, timesteps, bits, accuracy, picojoules: f64| Front {
        network: network.to_owned(),
        kind,
        ann: "ann".to_owned(),
        timesteps,
        seed: None,
        bits,
        input_bits: bits.map(|_| 10),
        skips: kind == Kind::Quantised,
        samples: 1000,
        accuracy,
        kilobytes: 5821.0,
        multiplications: 1e6,
        additions: 1e5,
        arithmetic_pj: picojoules,
        memory_pj: picojoules * 3.0,
        events_pj: picojoules * 9.0,
        checkpoint: None,
    };
    let mut rows = vec![row("ann", Kind::Ann, None, None, 0.73, 6e8)];
    rows.extend(
        (2..=8).map(|b| {
            row("ann", Kind::Quantised, None, Some(b), 0.5 + 0.03 * f64::from(b), 3e6 * f64::from(b))
        }),
    );
    rows.extend((1..=12).map(|t| {
        row("direct-T4", Kind::Finetuned, Some(t), Some(8), 0.6 + 0.01 * f64::from(t), 1e6 * f64::from(t))
    }));
    put(folder, &rows);
}

fn energy(folder: &Path) {
    let (mut rows, mut steps) = (Vec::new(), Vec::new());
    let models =
        [("published", 3.1, 0.1), ("fp32", 4.6, 0.9), ("int8", 0.23, 0.03), ("fp32+memory", 4.6, 0.9)];
    for (model, mac, add) in models {
        let memory = model.ends_with("memory");
        let mut ann = 0.0;
        for (layer, kind, neurons, weights, macs, _) in LAYERS {
            if model == "published" && kind == LayerKind::Linear {
                continue;
            }
            let mut part = |network: &str, component: &str, picojoules: f64| {
                rows.push(Energy {
                    model: model.to_owned(),
                    network: network.to_owned(),
                    layer: layer.to_owned(),
                    component: component.to_owned(),
                    picojoules,
                });
            };
            ann += macs as f64 * mac;
            part("ann", "multiply_accumulate", macs as f64 * mac);
            if model != "published" {
                part("ann-skip", "multiply_accumulate", macs as f64 * mac * 0.6);
                for (bits, mac) in [("5", 0.097), ("3", 0.039)] {
                    part(&format!("ann-{bits}bit"), "multiply_accumulate", macs as f64 * mac);
                    part(&format!("ann-{bits}bit-skip"), "multiply_accumulate", macs as f64 * mac * 0.6);
                }
                // Nobody has measured what this one is worth.
                part("ann-2bit", "multiply_accumulate", macs as f64 * 0.01);
            }
            if memory {
                let price = if weights > 1_000_000 { 650.0 } else { 50.0 };
                ann += weights as f64 * price + neurons as f64 * 100.0;
                part("ann", "weight_memory", weights as f64 * price);
                part("ann", "state_memory", neurons as f64 * 100.0);
            }
            for (network, _, _, encoder, t) in NETWORKS {
                let spikes = macs as f64 * 0.45 * f64::from(t) / 28.0;
                if model != "published" && encoder == "direct" && layer == "conv1" {
                    part(network, "multiply_accumulate", macs as f64 * mac);
                } else {
                    part(network, "accumulate", spikes * add);
                }
                if model != "published" {
                    part(network, "membrane", neurons as f64 * f64::from(t) * add);
                }
                if memory {
                    let weights = (weights as f64 * f64::from(t)).min(spikes);
                    part(network, "weight_memory", weights * 50.0);
                    part(network, "state_memory", neurons as f64 * f64::from(t) * 200.0);
                }
            }
        }
        steps.push(EnergyStep {
            model: model.to_owned(),
            network: "ann".to_owned(),
            step: 0,
            picojoules: ann,
        });
        for (network, _, _, _, t) in NETWORKS {
            let of = |r: &&Energy| r.model == model && r.network == network;
            let total: f64 = rows.iter().filter(of).map(|r| r.picojoules).sum();
            for step in 0..t {
                let picojoules = total * f64::from(step + 1) / f64::from(t);
                steps.push(EnergyStep {
                    model: model.to_owned(),
                    network: network.to_owned(),
                    step,
                    picojoules,
                });
            }
        }
    }
    put(folder, &rows);
    put(folder, &steps);
}
