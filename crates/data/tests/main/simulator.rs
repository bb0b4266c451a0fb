use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use escape_data::{CONTACTS, DataError, Dataset, Recordings, SAMPLES, Scaling, SimulatorConfig, simulate};

use crate::{contains, message};

fn run(config: &SimulatorConfig, samples: usize, seed: u64) -> Dataset {
    simulate(config, samples, seed, &|_| {}).unwrap()
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let config = SimulatorConfig::default();
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(&config, 200, 11))
    };
    let one = on(1);
    assert_eq!(one, on(2));
    assert_eq!(one, on(5));
    assert_ne!(one.train.x, run(&config, 200, 12).train.x);
}

#[test]
fn progress_adds_up_and_the_split_is_as_configured() {
    let config = SimulatorConfig { test_class_weights: [2.0, 1.0, 1.0], ..Default::default() };
    let done = AtomicUsize::new(0);
    let data = simulate(&config, 400, 0, &|n| {
        done.fetch_add(n, Ordering::Relaxed);
    })
    .unwrap();
    assert_eq!(done.into_inner(), 400);
    assert_eq!((data.train.len(), data.test.len()), (300, 100));
    assert_eq!(data.train.class_counts(), [100, 100, 100]);
    assert_eq!(data.test.class_counts(), [50, 25, 25]);
    assert_eq!((data.train.contacts, data.train.samples), (CONTACTS, SAMPLES));
    data.train.check().unwrap();
    data.test.check().unwrap();

    let all_test = run(&SimulatorConfig { test_fraction: 1.0, ..config.clone() }, 3, 0);
    assert_eq!((all_test.train.len(), all_test.test.len()), (0, 3));
    let all_train = run(&SimulatorConfig { test_fraction: 0.0, ..config }, 3, 0);
    assert_eq!((all_train.train.len(), all_train.test.len()), (3, 0));
}

/// Without drift, a recording does not depend on how many there are.
#[test]
fn recordings_are_keyed_by_seed_and_index() {
    let config = SimulatorConfig { drift_deg: 0.0, test_fraction: 0.0, ..Default::default() };
    let (few, many) = (run(&config, 5, 3), run(&config, 40, 3));
    assert_eq!(few.train, many.train.head(5));
    assert_ne!(many.train.get(0), many.train.get(3), "recordings of a class differ");
}

#[test]
fn every_recording_uses_the_range() {
    for scaling in [Scaling::MaxAbs, Scaling::MinMax] {
        let data = run(&SimulatorConfig { scaling, ..Default::default() }, 60, 5);
        for (x, _) in data.train.iter() {
            let (min, max) = x.iter().fold((1.0f32, -1.0f32), |(a, b), &v| (a.min(v), b.max(v)));
            match scaling {
                Scaling::MaxAbs => assert_eq!(max.max(-min), 1.0),
                Scaling::MinMax => assert_eq!((min, max), (-1.0, 1.0)),
            }
        }
        let summary = data.train.summary();
        assert_eq!(summary.constant_recordings, 0);
        if scaling == Scaling::MaxAbs {
            assert!(summary.mean.unwrap().abs() < 0.01, "the baseline moved: {summary:?}");
        }
    }
}

/// Mean over recordings, contacts and samples of a function of two rows.
fn correlation(recordings: &Recordings, pairs: &[(usize, usize)]) -> f64 {
    let mut sum = 0.0;
    for (x, _) in recordings.iter() {
        for &(a, b) in pairs {
            let [a, b] = [a, b].map(|row| &x[row * SAMPLES..(row + 1) * SAMPLES]);
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
            sum += dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
        }
    }
    sum / (recordings.len() * pairs.len()) as f64
}

/// Rough targets of a real cuff: neighbours in a ring see nearly the same, rings see it later, opposite
/// contacts differ.
#[test]
fn neighbours_agree_more_than_distant_contacts() {
    let data = run(&SimulatorConfig::default(), 600, 1);
    let rows = |ring: usize, angle: usize| ring * 8 + angle % 8;
    let pairs = |step: usize, angle: usize| -> Vec<(usize, usize)> {
        let all = (1..5).flat_map(|ring| (0..8).map(move |a| (ring, a)));
        all.map(|(ring, a)| (rows(ring, a), rows(ring + step, a + angle))).collect()
    };
    let neighbours = correlation(&data.train, &pairs(0, 1));
    let opposite = correlation(&data.train, &pairs(0, 4));
    let next_ring = correlation(&data.train, &pairs(1, 0));
    assert!((0.6..0.95).contains(&neighbours), "{neighbours}");
    assert!(opposite < neighbours - 0.03, "opposite {opposite}, neighbours {neighbours}");
    assert!(next_ring < neighbours - 0.1, "next ring {next_ring}, neighbours {neighbours}");
}

#[test]
fn the_potential_peaks_in_the_middle_of_the_window() {
    let data = run(&SimulatorConfig::default(), 900, 2);
    let mut energy = vec![0.0f64; SAMPLES];
    for (x, _) in data.train.iter() {
        // The middle ring.
        for row in x.chunks_exact(SAMPLES).skip(24).take(8) {
            row.iter().zip(&mut energy).for_each(|(v, e)| *e += f64::from(v * v));
        }
    }
    let peak = (0..SAMPLES).max_by(|&a, &b| energy[a].total_cmp(&energy[b])).unwrap();
    assert!((46..=52).contains(&peak), "peak at {peak}");
    let edge = (energy[0] + energy[99]) / 2.0;
    assert!(energy[peak] > 2.0 * edge, "peak {}, edge {edge}", energy[peak]);
}

/// Classes are told apart by where and how fast their fibres are, so a nearest-mean rule on the energy of
/// each angle beats chance, and is far from perfect.
#[test]
fn classes_differ_but_overlap() {
    let data = run(&SimulatorConfig::default(), 2400, 4);
    let features = |x: &[f32]| -> Vec<f64> {
        let mut energy = [0.0f64; 8];
        for (row, values) in x.chunks_exact(SAMPLES).enumerate() {
            energy[row % 8] += values[35..65].iter().map(|v| f64::from(v * v)).sum::<f64>();
        }
        let total: f64 = energy.iter().sum();
        energy.iter().map(|e| e / total).collect()
    };
    let mut means = [[0.0; 8]; 3];
    let counts = data.train.class_counts();
    for (x, y) in data.train.iter() {
        features(x).iter().zip(&mut means[y as usize]).for_each(|(f, m)| *m += f / counts[y as usize] as f64);
    }
    let distance = |f: &[f64], m: &[f64; 8]| f.iter().zip(m).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
    let right = data.test.iter().filter(|(x, y)| {
        let f = features(x);
        let nearest = (0..3).min_by(|&a, &b| distance(&f, &means[a]).total_cmp(&distance(&f, &means[b])));
        nearest == Some(*y as usize)
    });
    let accuracy = right.count() as f64 / data.test.len() as f64;
    assert!((0.42..0.85).contains(&accuracy), "{accuracy}");
}

#[test]
fn other_cuffs() {
    let config = SimulatorConfig { rings: 8, ..Default::default() };
    let data = run(&config, 4, 0);
    assert_eq!((data.train.contacts, data.train.x.len()), (64, 3 * 64 * 100));
}

#[test]
fn all_problems_of_a_configuration_at_once() {
    let mut config = SimulatorConfig {
        test_fraction: 1.5,
        fibres: [9, 2],
        white_noise: f64::NAN,
        test_class_weights: [0.0; 3],
        coloured_band_hz: [500.0, 500.0],
        ..Default::default()
    };
    config.fascicles[2].depth = 1.0;
    let error = simulate(&config, 0, 0, &|_| {}).unwrap_err();
    assert!(matches!(&error, DataError::Config { problems, .. } if problems.len() == 7), "{error}");
    contains(
        &message(error),
        &[
            "test_fraction: expected 0 to 1, got 1.5",
            "fibres: ",
            "white_noise",
            "fascicles[2].depth",
            "samples: ",
        ],
    );
    let error = simulate(&SimulatorConfig::default(), usize::MAX, 0, &|_| {}).unwrap_err();
    assert!(matches!(error, DataError::OutOfMemory { .. }), "{error}");
}

#[test]
fn configuration_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.yaml");
    let read = |text: &str| {
        fs::write(&path, text).unwrap();
        SimulatorConfig::read(&path).map_err(message)
    };
    assert_eq!(read("# nothing\n").unwrap(), SimulatorConfig::default());
    assert_eq!(
        read("white_noise: 1.5\nscaling: min_max\n").unwrap(),
        SimulatorConfig { white_noise: 1.5, scaling: Scaling::MinMax, ..Default::default() }
    );
    contains(&read("whitenoise: 1").unwrap_err(), &["c.yaml", "whitenoise", "white_noise"]);
    contains(&read("rings: 2").unwrap_err(), &["c.yaml", "rings: expected 3 to 64, got 2"]);
    contains(&read("rings: [").unwrap_err(), &["c.yaml"]);
    contains(&message(SimulatorConfig::read(&dir.path().join("no.yaml")).unwrap_err()), &["no.yaml"]);

    let text = serde_json::to_string(&SimulatorConfig::default()).unwrap();
    assert_eq!(read(&text).unwrap(), SimulatorConfig::default(), "JSON is YAML, and nothing is lost");
}
