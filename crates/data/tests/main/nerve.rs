use std::collections::HashSet;
use std::f64::consts::TAU;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use escape_data::nerve::{Anatomy, NerveConfig, RowOrder, Scaling, examples, simulate};
use escape_data::{DataError, Dataset, Recordings, SAMPLE_RATE_HZ};
use escape_network::arch::{CONTACTS, SAMPLES};

use crate::{contains, message};

fn run(config: &NerveConfig, samples: usize, seed: u64) -> Dataset {
    simulate(&NerveConfig { samples, ..config.clone() }, seed, &|_| {}).unwrap()
}

/// The standard nerve, its baseline at 0.
fn level() -> NerveConfig {
    NerveConfig { scaling: Scaling::MaxAbs, ..Default::default() }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let config = NerveConfig::default();
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
    let config = NerveConfig {
        samples: 400,
        test_fraction: 0.25,
        test_class_weights: [2.0, 1.0, 1.0],
        ..Default::default()
    };
    let done = AtomicUsize::new(0);
    let data = simulate(&config, 0, &|n| {
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
}

/// The values of every recording, bit by bit.
fn distinct(recordings: &Recordings) -> HashSet<Vec<u32>> {
    recordings.iter().map(|(x, _)| x.iter().map(|v| v.to_bits()).collect()).collect()
}

/// The three folds of a session test on every recording once; what one tests on is what the others train on.
#[test]
fn folds_share_a_session() {
    let fold = |fold: usize| run(&NerveConfig { fold, test_fraction: 0.25, ..Default::default() }, 120, 3);
    let folds = [1, 2, 3].map(fold);
    let tests = folds.each_ref().map(|data| distinct(&data.test));
    assert!(tests.iter().all(|test| test.len() == 30));
    assert_eq!(tests.iter().flatten().collect::<HashSet<_>>().len(), 90);
    for (k, data) in folds.iter().enumerate() {
        let train = distinct(&data.train);
        assert_eq!(train.len(), 60, "two thirds of the session, some of it more than once");
        assert!(train.is_disjoint(&tests[k]));
        assert!(train.is_subset(&tests.iter().flatten().cloned().collect()));
    }
}

/// Further rounds of training add recordings that are no others', behind those that are there anyway.
#[test]
fn rounds_of_training_leave_the_test_split_as_it_is() {
    let once = NerveConfig { samples: 120, test_fraction: 0.25, ..Default::default() };
    let thrice = NerveConfig { training_rounds: 3, ..once.clone() };
    let (one, three) = (run(&once, 120, 3), run(&thrice, 120, 3));
    assert_eq!(one.test, three.test);
    assert_eq!((three.train.len(), once.recordings(), thrice.recordings()), (270, [30, 90], [30, 270]));
    assert_eq!(three.train.head(90), one.train);
    // Two thirds of the session in each, nothing twice but within a round, nothing of the test split.
    assert_eq!(distinct(&three.train).len(), 180);
    assert!(distinct(&three.train).is_disjoint(&distinct(&three.test)));
    assert_eq!(three.train.class_counts(), [90; 3]);
    let many = NerveConfig { training_rounds: 16, ..once };
    assert!(message(simulate(&many, 0, &|_| {}).unwrap_err()).contains("training_rounds: expected 1 to 15"));
}

/// Without drift, a recording does not depend on how many there are.
#[test]
fn recordings_are_keyed_by_seed_animal_and_number() {
    let quarter = NerveConfig { test_fraction: 0.25, ..Default::default() };
    let still = NerveConfig { drift_deg: 0.0, gain_drift: 0.0, ..quarter.clone() };
    let everything = |config: &NerveConfig, samples| {
        let data = run(config, samples, 3);
        let (train, test) = (distinct(&data.train), distinct(&data.test));
        train.union(&test).cloned().collect::<HashSet<_>>()
    };
    let (few, many) = (everything(&still, 40), everything(&still, 400));
    assert_eq!(few.len(), 30);
    assert!(few.is_subset(&many));
    assert!(everything(&quarter, 40).is_disjoint(&everything(&quarter, 400)));
    let other = everything(&NerveConfig { animal: 3, ..still }, 40);
    assert!(other.is_disjoint(&few));
}

#[test]
fn every_recording_uses_the_range() {
    for scaling in [Scaling::MaxAbs, Scaling::MinMax] {
        let data = run(&NerveConfig { scaling, ..Default::default() }, 60, 5);
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

/// Mean correlation over recordings and pairs of rows.
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

/// What a real cuff's recordings are roughly like: contacts of a ring see nearly the same (0.8 to 0.95), the same
/// angle a ring farther is less alike, and less still two rings farther. The real ones were filtered along the
/// contacts, too, so only their order is asked for.
#[test]
fn neighbours_agree_more_than_rings() {
    let data = run(&level(), 600, 1);
    let rows = |ring: usize, angle: usize| ring * 8 + angle % 8;
    let pairs = |step: usize, angle: usize| -> Vec<(usize, usize)> {
        let all = (1..6 - step).flat_map(|ring| (0..8).map(move |a| (ring, a)));
        all.map(|(ring, a)| (rows(ring, a), rows(ring + step, a + angle))).collect()
    };
    let neighbours = correlation(&data.train, &pairs(0, 1));
    let opposite = correlation(&data.train, &pairs(0, 4));
    let [one, two] = [1, 2].map(|step| correlation(&data.train, &pairs(step, 0)));
    assert!((0.8..0.95).contains(&neighbours), "{neighbours}");
    assert!(opposite < neighbours, "opposite {opposite}, neighbours {neighbours}");
    assert!(one < neighbours - 0.1, "next ring {one}, neighbours {neighbours}");
    assert!(two < one - 0.1 && two < 0.6, "two rings {two}, next ring {one}");
}

/// Energy of a recording's rows at the frequency `hz`.
fn power(x: &[f32], hz: f64) -> f64 {
    let wave: Vec<(f64, f64)> =
        (0..SAMPLES).map(|t| (TAU * hz * t as f64 / SAMPLE_RATE_HZ).sin_cos()).collect();
    x.chunks_exact(SAMPLES)
        .map(|row| {
            let sum = |part: fn(&(f64, f64)) -> f64| -> f64 {
                row.iter().zip(&wave).map(|(&v, w)| f64::from(v) * part(w)).sum()
            };
            sum(|w| w.0).powi(2) + sum(|w| w.1).powi(2)
        })
        .sum()
}

#[test]
fn the_spectrum_peaks_at_1_to_2_khz() {
    let data = run(&level(), 240, 1);
    let at = |hz: f64| data.train.iter().map(|(x, _)| power(x, hz)).sum::<f64>();
    let bins: Vec<f64> = (1..50).map(|k| 300.0 * f64::from(k)).collect();
    let powers: Vec<f64> = bins.iter().map(|&hz| at(hz)).collect();
    let peak = (0..bins.len()).max_by(|&a, &b| powers[a].total_cmp(&powers[b])).unwrap();
    assert!((900.0..=2100.0).contains(&bins[peak]), "{} Hz", bins[peak]);
    assert!(powers[20] < 0.1 * powers[peak], "6 kHz");
}

/// The angular part moves on by about 2 samples a ring: 3 mm at some 45 m/s.
#[test]
fn potentials_travel_by_about_two_samples_a_ring() {
    let data = run(&level(), 900, 1);
    // First harmonic of a ring over the angle, by cosine and sine, at sample t.
    let harmonic = |x: &[f32], ring: usize| -> Vec<[f64; 2]> {
        let at = |t: usize| {
            (0..8).fold([0.0; 2], |[re, im], k| {
                let v = f64::from(x[(ring * 8 + k) * SAMPLES + t]);
                let (sin, cos) = (TAU * k as f64 / 8.0).sin_cos();
                [re + v * cos, im + v * sin]
            })
        };
        (0..SAMPLES).map(at).collect()
    };
    let mut products = [0.0; 13];
    for (x, _) in data.train.iter() {
        for ring in 1..5 {
            let (a, b) = (harmonic(x, ring), harmonic(x, ring + 1));
            for (k, product) in products.iter_mut().enumerate() {
                // Lags -4 to 8.
                *product +=
                    (20..80).map(|t| a[t][0] * b[t + k - 4][0] + a[t][1] * b[t + k - 4][1]).sum::<f64>();
            }
        }
    }
    let best = (1..12).max_by(|&a, &b| products[a].total_cmp(&products[b])).unwrap();
    // The peak of the parabola through the three.
    let [before, at, after] = [products[best - 1], products[best], products[best + 1]];
    let lag = best as f64 - 4.0 + 0.5 * (before - after) / (before - 2.0 * at + after);
    assert!((1.4..2.4).contains(&lag), "{lag} samples a ring");
}

#[test]
fn the_potential_peaks_in_the_middle_of_the_window() {
    let data = run(&level(), 900, 2);
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

/// Classes are told apart by where and how fast their fibres are: a nearest-mean rule on the correlation of each
/// contact's angular part with its ring's mean beats chance, and is far from perfect.
#[test]
fn classes_differ_but_overlap() {
    let data = run(&level(), 2400, 4);
    let features = |x: &[f32]| -> Vec<f64> {
        let mut seen = [0.0f64; 8];
        let mut total = 0.0;
        for ring in x.chunks_exact(8 * SAMPLES) {
            for t in 30..70 {
                let mean = (0..8).map(|k| f64::from(ring[k * SAMPLES + t])).sum::<f64>() / 8.0;
                total += mean * mean;
                (0..8).for_each(|k| seen[k] += (f64::from(ring[k * SAMPLES + t]) - mean) * mean);
            }
        }
        seen.iter().map(|e| e / total).collect()
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
    // Always naming the most frequent class is right this often.
    let chance = data.test.class_counts().into_iter().max().unwrap() as f64 / data.test.len() as f64;
    assert!((chance + 0.05..0.85).contains(&accuracy), "{accuracy}, by chance {chance}");
}

/// What is drawn of an animal is what its recordings come from.
#[test]
fn anatomy_and_examples_belong_to_the_recordings() {
    let config = NerveConfig { samples: 60, ..Default::default() };
    let data = simulate(&config, 3, &|_| {}).unwrap();
    let shown = examples(&config, 3).unwrap();
    assert_eq!(shown.iter().map(|e| e.class).collect::<Vec<_>>(), [0, 1, 2]);
    for example in &shown {
        let first = data.test.iter().find(|(_, y)| *y as usize == example.class).unwrap();
        assert_eq!(example.recorded, first.0);
        assert_ne!(example.recorded, example.fibres_alone);
    }
    // Without noise both are the same.
    let quiet = config.without_noise();
    for (with, without) in shown.iter().zip(examples(&quiet, 3).unwrap()) {
        assert_eq!(with.fibres_alone, without.fibres_alone);
        assert_eq!(without.recorded, without.fibres_alone);
    }

    let nerve = Anatomy::new(&config, 3);
    assert!((0.5..=0.6).contains(&nerve.radius_mm));
    for (fascicle, built) in nerve.fascicles.iter().zip(&config.fascicles) {
        assert_eq!(fascicle.fibres.len(), 200);
        let (x, y) = (fascicle.depth * fascicle.angle.cos(), fascicle.depth * fascicle.angle.sin());
        for fibre in &fascicle.fibres {
            let away = (fibre.depth * fibre.angle.cos() - x).hypot(fibre.depth * fibre.angle.sin() - y);
            assert!(away <= built.radius + 1e-12, "{away}");
            let [slowest, fastest] = built.velocity_m_s;
            assert!((slowest..=fastest).contains(&fibre.velocity), "{}", fibre.velocity);
        }
    }
    assert_ne!(nerve, Anatomy::new(&NerveConfig { animal: 3, ..config }, 3));
}

#[test]
fn other_cuffs() {
    let config =
        NerveConfig { rings: 8, cuff_length_mm: 26.0, fibres_per_fascicle: 40, ..Default::default() };
    let data = run(&config, 8, 0);
    assert_eq!((data.train.contacts, data.train.x.len()), (64, data.train.len() * 64 * 100));
    assert_eq!(data.train.len() + data.test.len(), 8);
    let config = NerveConfig {
        rings: 3,
        contacts_per_ring: 1,
        row_order: RowOrder::Temporal,
        fibres_per_fascicle: 40,
        ..Default::default()
    };
    assert_eq!(run(&config, 8, 0).train.contacts, 3);
}

#[test]
fn all_problems_of_a_configuration_at_once() {
    let mut config = NerveConfig {
        samples: 0,
        animal: 0,
        test_fraction: 1.5,
        fold: 4,
        fibres: [9, 2],
        white_noise_uv: f64::NAN,
        test_class_weights: [0.0; 3],
        coloured_band_hz: [500.0, 500.0],
        cuff_length_mm: 18.0,
        ..Default::default()
    };
    config.fascicles[2].depth = 1.0;
    let error = simulate(&config, 0, &|_| {}).unwrap_err();
    assert!(matches!(&error, DataError::Config { problems, .. } if problems.len() == 10), "{error}");
    contains(
        &message(error),
        &[
            "test_fraction: expected 0.05 to 0.5, got 1.5",
            "fold: expected 1 to 3, got 4",
            "fibres: ",
            "white_noise_uv",
            "fascicles[2].depth",
            "cuff_length_mm: expected more than 18 mm",
            "samples: ",
            "animal: expected 1 to 65535, got 0",
        ],
    );
    let problems = |config: NerveConfig| config.problems().join("; ");
    contains(
        &problems(NerveConfig { test_fraction: 0.3, ..Default::default() }),
        &["test_fraction: expected at most 0.2793 with these test_class_weights, got 0.3"],
    );
    let mut config = NerveConfig::default();
    config.fascicles[1].radius = 0.6;
    contains(&problems(config), &["fascicles[1].depth and radius together: expected 0 to 0.9 radii, got 1"]);
    // What the model leaves out has to be small.
    let problem = |config: NerveConfig| {
        let problems = config.problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems.concat()
    };
    contains(
        &problem(NerveConfig { radius_mm: [0.5, 5.0], ..Default::default() }),
        &["cuff_length_mm: expected the outer rings 10.67 mm or more from the cuff's ends", "got 2.50"],
    );
    contains(
        &problem(NerveConfig { rings: 8, ..Default::default() }),
        &["cuff_length_mm: expected the outer rings 1.28 mm or more from the cuff's ends", "got 1.00"],
    );
    contains(
        &problem(NerveConfig { node_spacing_diameters: 10.0, ..Default::default() }),
        &["node_spacing_diameters: expected at most 2000 nodes of a fibre within the cuff, got 2760"],
    );
    contains(
        &problem(NerveConfig { interference_band_hz: [50.0, 60.0], ..Default::default() }),
        &["interference_band_hz: expected a band of at least 100 Hz, got [50, 60]"],
    );
    let error =
        simulate(&NerveConfig { samples: 1_000_000_000, ..Default::default() }, 0, &|_| {}).unwrap_err();
    assert!(matches!(error, DataError::OutOfMemory { .. }), "{error}");
}

/// Extremes that are allowed give recordings, too.
#[test]
fn hostile_configurations() {
    let small =
        NerveConfig { fibres_per_fascicle: 3, fibres: [1, 3], coactive_fibres: [0, 3], ..Default::default() };
    let mut slow = small.clone();
    slow.fascicles.iter_mut().for_each(|fascicle| fascicle.velocity_m_s = [2.0, 2.0]);
    let mut wide = small.clone();
    (wide.contact_mm, wide.radial_conductivity_s_m, wide.axial_conductivity_s_m) = ([2.0, 2.0], 10.0, 1e-3);
    let silent = NerveConfig { nodal_current_na: 0.0, ..small.without_noise() };
    let busy = NerveConfig { background_rate_hz: 50_000.0, peak_jitter_samples: 50.0, ..small.clone() };
    let one_class = NerveConfig { test_class_weights: [0.0, 0.0, 1.0], ..small.clone() };
    let loud = NerveConfig { white_noise_uv: 1e6, interference_uv: 1e6, animal_depth_spread: 1.0, ..small };
    for (name, config) in [
        ("slow", slow),
        ("wide", wide),
        ("silent", silent),
        ("busy", busy),
        ("one class", one_class),
        ("loud", loud),
    ] {
        let data = run(&config, 13, 0);
        assert_eq!(data.train.len() + data.test.len(), 13, "{name}");
        let values = data.train.x.iter().chain(&data.test.x);
        assert!(values.into_iter().all(|v| (-1.0..=1.0).contains(v)), "{name}");
        let constant = if name == "silent" { data.train.len() } else { 0 };
        assert_eq!(data.train.summary().constant_recordings, constant, "{name}");
    }
}

#[test]
fn configuration_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.yaml");
    let read = |text: &str| {
        fs::write(&path, text).unwrap();
        NerveConfig::read(&path).map_err(message)
    };
    for nothing in ["# nothing\n", "nerve:\n", "{}"] {
        assert_eq!(read(nothing).unwrap(), NerveConfig::default());
    }
    contains(&read("white_noise_uv: 1.5\n").unwrap_err(), &["c.yaml", "white_noise_uv", "expected `nerve`"]);
    assert_eq!(
        read("nerve: {white_noise_uv: 1.5, scaling: max_abs, row_order: temporal}\n").unwrap(),
        NerveConfig {
            white_noise_uv: 1.5,
            scaling: Scaling::MaxAbs,
            row_order: RowOrder::Temporal,
            ..Default::default()
        }
    );
    contains(&read("nerve: {whitenoise_uv: 1}").unwrap_err(), &["c.yaml", "whitenoise_uv", "white_noise_uv"]);
    contains(&read("nerve:\nrings: 5").unwrap_err(), &["c.yaml", "rings"]);
    contains(&read("nerve: {rings: 2}").unwrap_err(), &["c.yaml", "rings: expected 3 to 64, got 2"]);
    contains(&read("nerve: [").unwrap_err(), &["c.yaml"]);
    contains(&read("[nerve]").unwrap_err(), &["c.yaml"]);
    contains(&message(NerveConfig::read(&dir.path().join("no.yaml")).unwrap_err()), &["no.yaml"]);

    let text = serde_json::to_string(&NerveConfig::default()).unwrap();
    let text = format!("{{\"nerve\": {text}}}");
    assert_eq!(read(&text).unwrap(), NerveConfig::default(), "JSON is YAML, and nothing is lost");
}

/// `configs/nerve.yaml` is the standard set: it names every parameter, and its values are the defaults.
#[test]
fn the_standard_configuration_is_the_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/nerve.yaml");
    assert_eq!(NerveConfig::read(&path).unwrap(), NerveConfig::default());
    let text = fs::read_to_string(&path).unwrap();
    let named: serde_json::Value = serde_json::to_value(NerveConfig::default()).unwrap();
    for field in named.as_object().unwrap().keys() {
        let line = format!("\n  {field}:");
        assert!(text.contains(&line), "configs/nerve.yaml does not name {field}");
    }
}
