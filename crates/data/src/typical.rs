//! What the recordings of a class have in common. N recordings, H contacts, W samples.

use std::f64::consts::TAU;

use rayon::prelude::*;

use crate::recordings::Recordings;

/// Mean over all recordings of a class: H x W values. `None` if there is none.
pub fn mean_recording(recordings: &Recordings, class: usize) -> Option<Vec<f32>> {
    let mut sum = vec![0.0f64; recordings.contacts * recordings.samples];
    let mut count = 0u32;
    for (x, _) in recordings.iter().filter(|(_, y)| *y == class as i64) {
        sum.iter_mut().zip(x).for_each(|(sum, &v)| *sum += f64::from(v));
        count += 1;
    }
    (count > 0).then(|| sum.iter().map(|sum| (sum / f64::from(count)) as f32).collect())
}

/// Power at 1, 2, ... W / 2 cycles in W samples, its mean over contacts and the first `most` recordings of a class.
/// Each row's mean is taken off and a Hann window applied; a sine of amplitude 1 has about 1/4 at its frequency.
/// `None` if there is none.
pub fn mean_spectrum(recordings: &Recordings, class: usize, most: usize) -> Option<Vec<f64>> {
    let samples = recordings.samples;
    let window: Vec<f64> =
        (0..samples).map(|t| 0.5 - 0.5 * (TAU * t as f64 / samples as f64).cos()).collect();
    let gain: f64 = window.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    let wave: Vec<[f64; 2]> = (0..samples)
        .map(|t| (TAU * t as f64 / samples as f64).sin_cos())
        .map(|(sin, cos)| [cos / gain, sin / gain])
        .collect();
    let of_class: Vec<&[f32]> =
        recordings.iter().filter(|(_, y)| *y == class as i64).map(|(x, _)| x).take(most).collect();
    let of_recording = |x: &[f32]| {
        let mut power = vec![0.0; samples / 2];
        for row in x.chunks_exact(samples) {
            let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / samples as f64;
            let row: Vec<f64> = row.iter().zip(&window).map(|(&v, w)| (f64::from(v) - mean) * w).collect();
            for (k, power) in (1..).zip(&mut power) {
                let [re, im] = row.iter().enumerate().fold([0.0; 2], |[re, im], (t, v)| {
                    let [cos, sin] = wave[k * t % samples];
                    [re + v * cos, im + v * sin]
                });
                *power += re * re + im * im;
            }
        }
        power
    };
    // Summed in order, whatever thread was first.
    let powers: Vec<Vec<f64>> = of_class.par_iter().map(|x| of_recording(x)).collect();
    let rows = (powers.len() * recordings.contacts) as f64;
    let mean = |k: usize| powers.iter().map(|power| power[k]).sum::<f64>() / rows;
    (!powers.is_empty()).then(|| (0..samples / 2).map(mean).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two classes; two contacts, 40 samples.
    fn recordings() -> Recordings {
        let sine = |cycles: f64, phase: f64| {
            (0..40).map(move |t| 0.5 + 0.5 * (TAU * cycles * f64::from(t) / 40.0 + phase).sin() as f32)
        };
        let x =
            [sine(4.0, 0.0), sine(4.0, 1.0), sine(4.0, 0.3), sine(4.0, 2.0), sine(9.0, 0.0), sine(9.0, 0.0)];
        Recordings { x: x.into_iter().flatten().collect(), y: vec![0, 0, 1], contacts: 2, samples: 40 }
    }

    #[test]
    fn means_are_of_their_class() {
        let r = recordings();
        let mean = mean_recording(&r, 0).unwrap();
        for (i, mean) in mean.iter().enumerate() {
            assert!((mean - (r.x[i] + r.x[80 + i]) / 2.0).abs() < 1e-6);
        }
        assert_eq!(mean_recording(&r, 1).unwrap(), r.x[160..]);
        assert_eq!(mean_recording(&r, 2), None);
    }

    #[test]
    fn a_sine_is_seen_at_its_frequency() {
        let r = recordings();
        for (class, cycles) in [(0, 4), (1, 9)] {
            let power = mean_spectrum(&r, class, 10).unwrap();
            assert_eq!(power.len(), 20);
            // Amplitude 1/2: a quarter of its square; the window spreads it over its neighbours only.
            assert!((power[cycles - 1] - 0.0625).abs() < 1e-6, "{}", power[cycles - 1]);
            let elsewhere = |k: &usize| k.abs_diff(cycles - 1) > 1;
            assert!((0..20).filter(elsewhere).all(|k| power[k] < 1e-12), "{power:?}");
        }
        assert_eq!(mean_spectrum(&r, 2, 10), None);
        let first = Recordings { x: r.x[..80].to_vec(), y: vec![0], ..r.clone() };
        assert_eq!(mean_spectrum(&r, 0, 1), mean_spectrum(&first, 0, 10));
    }
}
