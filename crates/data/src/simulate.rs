//! Simulated recordings: compound action potentials of a nerve with three fascicles, seen by a cuff of
//! contacts.
//!
//! A recording is the sum of a few dozen fibres. A fibre of conduction velocity v at polar position (s,
//! angle) in the nerve (s = 1 at the cuff's wall) gives contact (ring r, angle theta) the potential
//!
//! ```text
//! A(v) * (common_mode - ln(1 - 2 s cos(theta - angle) + s^2)) * g(t - t0 - z_r / v)
//! ```
//!
//! The logarithm is the slow-field limit of a line source in an insulated cylinder: it says at which angle
//! the fibre lies. What does not depend on the angle is larger than what does, as in a real cuff, and partly
//! removed by the tripole reference, the mean of the end rings. g is triphasic with zero net charge, (1 -
//! u^2) exp(-u^2 / 2) with u the time in units of a width that is larger after the peak than before. The
//! rings see it one after the other, so velocity is visible too. Fibres of the other fascicles are active at
//! the same time, and background activity, white and coloured noise and interference common to all contacts
//! are added. Every recording bears the label of the fascicle that was evoked: what makes the task hard is
//! mixing and noise, and no label is ever wrong.
//!
//! N recordings, H contacts (rings * contacts_per_ring, row = ring * contacts_per_ring + angle), W samples.
//! Times are in milliseconds. Amplitudes are in fibre units: 1 is the scale of the angular potential of one
//! fibre of 50 m/s, some tenths of a microvolt in a real cuff. Only their ratios matter, since every recording
//! is scaled.

use std::f64::consts::TAU;
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::recordings::{Dataset, Recordings};
use crate::rng::Stream;
use crate::simulated::{Resonance, Scaling, check, room};
use crate::{CLASSES, SAMPLE_RATE_HZ, SAMPLES};

/// Sample at which the compound action potential peaks at the middle ring, before jitter.
const PEAK_SAMPLE: f64 = 49.0;
/// Velocity at which a fibre has unit amplitude, in m/s.
const UNIT_VELOCITY: f64 = 50.0;
/// Widths of the waveform before and after its peak, relative to their mean.
const WIDTHS: [f64; 2] = [0.8, 1.2];
/// Extent of the waveform on either side, in widths; what is cut off is below 1e-4 of the peak.
const EXTENT: f64 = 5.0;
/// Random stream of the cuff itself; recordings use the streams from 0 up.
const CUFF_STREAM: u64 = u64::MAX;

/// One fascicle of the nerve, which one class of stimuli evokes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fascicle {
    /// Angle of its centre around the nerve, in degrees.
    pub angle_deg: f64,
    /// Distance of its centre from the nerve's axis, as a fraction of the cuff's inner radius: 0 to below
    /// 0.95.
    pub depth: f64,
    /// Slowest and fastest conduction velocity of its fibres, in m/s.
    pub velocity_m_s: [f64; 2],
}

/// What is simulated. Every field has a default; a configuration file names only those that differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimulatorConfig {
    /// Fraction of the recordings that form the test split, 0 to 1; they are the last ones.
    pub test_fraction: f64,
    /// Relative frequency of each class in the test split. In the training split all are equally frequent.
    pub test_class_weights: [f64; CLASSES],
    /// Rings of the cuff, at least 3; the outer two form the reference.
    pub rings: usize,
    /// Contacts of a ring, evenly spaced.
    pub contacts_per_ring: usize,
    /// Distance from ring to ring, in millimetres.
    pub ring_pitch_mm: f64,
    /// The fascicle of each class: peroneal (dorsiflexion), tibial (plantarflexion), sural (pricking).
    pub fascicles: [Fascicle; CLASSES],
    /// Spread of the fibres around the centre of their fascicle (standard deviation along each axis), as a
    /// fraction of the cuff's inner radius.
    pub fascicle_spread: f64,
    /// Fewest and most fibres of the evoked fascicle in a recording.
    pub fibres: [u32; 2],
    /// Least and greatest jitter of the fibres' arrival (standard deviation), in milliseconds; drawn for each
    /// recording.
    pub arrival_jitter_ms: [f64; 2],
    /// Fewest and most fibres of each other fascicle that happen to be active as well.
    pub coactive_fibres: [u32; 2],
    /// Mean number of further fibres, of any fascicle, that fire at any time in the window (Poisson).
    pub background_fibres: f64,
    /// Amplitude of a fibre grows as velocity to this power.
    pub amplitude_exponent: f64,
    /// Spread of fibre amplitudes beyond that (standard deviation of the logarithm).
    pub amplitude_spread: f64,
    /// Width of the waveform of a fibre of 80 m/s and of one of 5 m/s, in milliseconds; linear in between.
    /// The central phase lasts two widths, the whole about six, the spectrum peaks near 0.225 / width.
    pub waveform_width_ms: [f64; 2],
    /// Part of a fibre's potential that is the same at all angles, relative to the angular part.
    pub common_mode: f64,
    /// Jitter of the peak around sample 49 (standard deviation), in samples.
    pub peak_jitter_samples: f64,
    /// White noise (standard deviation), in fibre units.
    pub white_noise: f64,
    /// Coloured noise of each contact (standard deviation), in fibre units.
    pub coloured_noise: f64,
    /// Fraction of the coloured noise's variance that the contacts of a ring share, 0 to 1: it comes from the
    /// same tissue.
    pub coloured_shared: f64,
    /// Lower and upper edge of the coloured noise's band, in hertz.
    pub coloured_band_hz: [f64; 2],
    /// Interference that all contacts share, e.g. of muscles (standard deviation), in fibre units. Only what
    /// the spread of the gains leaves of it survives the reference.
    pub interference: f64,
    /// Lower and upper edge of the interference's band, in hertz.
    pub interference_band_hz: [f64; 2],
    /// Spread of the contacts' gains around 1 (standard deviation); fixed for a data set.
    pub gain_spread: f64,
    /// How far the nerve turns within the cuff from the first recording to the last, in degrees.
    pub drift_deg: f64,
    /// How a recording is brought to [-1, 1].
    pub scaling: Scaling,
}

impl Default for SimulatorConfig {
    fn default() -> Self {
        let fascicle = |angle_deg, depth, velocity_m_s| Fascicle { angle_deg, depth, velocity_m_s };
        Self {
            test_fraction: 0.25,
            test_class_weights: [1.0; CLASSES],
            rings: 7,
            contacts_per_ring: 8,
            ring_pitch_mm: 3.0,
            fascicles: [
                fascicle(150.0, 0.55, [30.0, 80.0]),
                fascicle(0.0, 0.4, [30.0, 80.0]),
                fascicle(230.0, 0.65, [5.0, 45.0]),
            ],
            fascicle_spread: 0.08,
            fibres: [5, 40],
            arrival_jitter_ms: [0.05, 0.3],
            coactive_fibres: [0, 16],
            background_fibres: 6.0,
            amplitude_exponent: 1.5,
            amplitude_spread: 0.4,
            waveform_width_ms: [0.09, 0.15],
            common_mode: 1.5,
            peak_jitter_samples: 2.0,
            white_noise: 2.0,
            coloured_noise: 4.0,
            coloured_shared: 0.7,
            coloured_band_hz: [1000.0, 2000.0],
            interference: 20.0,
            interference_band_hz: [100.0, 1000.0],
            gain_spread: 0.05,
            drift_deg: 10.0,
            scaling: Scaling::MaxAbs,
        }
    }
}

impl SimulatorConfig {
    /// Read a YAML file; fields it does not name have their defaults.
    ///
    /// # Errors
    /// [`DataError::Io`] if it cannot be read, [`DataError::Config`] if it is not a
    /// valid configuration.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let text = std::fs::read_to_string(path).map_err(|e| DataError::io(path, "read", e))?;
        let config_error = |problems| DataError::Config { path: Some(path.to_owned()), problems };
        // An empty file, or one of comments only, means the defaults.
        let config: Option<Self> =
            serde_yaml::from_str(&text).map_err(|e| config_error(vec![e.to_string()]))?;
        let config = config.unwrap_or_default();
        let problems = config.problems();
        if problems.is_empty() { Ok(config) } else { Err(config_error(problems)) }
    }

    /// Number of contacts (H).
    pub fn contacts(&self) -> usize {
        self.rings.saturating_mul(self.contacts_per_ring)
    }

    /// Everything that keeps this configuration from being simulated, each beginning with the field's name.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut number = |name: &str, value: f64, low: f64, high: f64, unit: &str| {
            if !(low..=high).contains(&value) {
                problems.push(format!("{name}: expected {low} to {high}{unit}, got {value}"));
            }
        };
        number("test_fraction", self.test_fraction, 0.0, 1.0, "");
        for (class, &weight) in self.test_class_weights.iter().enumerate() {
            number(&format!("test_class_weights[{class}]"), weight, 0.0, 1e6, "");
        }
        number("rings", self.rings as f64, 3.0, 64.0, "");
        number("contacts_per_ring", self.contacts_per_ring as f64, 1.0, 64.0, "");
        number("ring_pitch_mm", self.ring_pitch_mm, 0.0, 20.0, " mm");
        for (class, fascicle) in self.fascicles.iter().enumerate() {
            number(&format!("fascicles[{class}].angle_deg"), fascicle.angle_deg, -360.0, 360.0, " degrees");
            number(&format!("fascicles[{class}].depth"), fascicle.depth, 0.0, MAX_DEPTH, " radii");
            for velocity in fascicle.velocity_m_s {
                number(&format!("fascicles[{class}].velocity_m_s"), velocity, 0.5, 150.0, " m/s");
            }
        }
        number("fascicle_spread", self.fascicle_spread, 0.0, 1.0, " radii");
        number("fibres (most)", self.fibres[1].into(), 1.0, 1000.0, "");
        number("coactive_fibres (most)", self.coactive_fibres[1].into(), 0.0, 1000.0, "");
        number("background_fibres", self.background_fibres, 0.0, 500.0, "");
        for jitter in self.arrival_jitter_ms {
            number("arrival_jitter_ms", jitter, 0.0, 10.0, " ms");
        }
        number("amplitude_exponent", self.amplitude_exponent, 0.0, 4.0, "");
        number("amplitude_spread", self.amplitude_spread, 0.0, 3.0, "");
        for width in self.waveform_width_ms {
            number("waveform_width_ms", width, 0.01, 1.0, " ms");
        }
        number("common_mode", self.common_mode, 0.0, 1000.0, "");
        number("peak_jitter_samples", self.peak_jitter_samples, 0.0, 50.0, " samples");
        number("white_noise", self.white_noise, 0.0, 1e6, "");
        number("coloured_noise", self.coloured_noise, 0.0, 1e6, "");
        number("coloured_shared", self.coloured_shared, 0.0, 1.0, "");
        number("interference", self.interference, 0.0, 1e6, "");
        for edge in self.coloured_band_hz {
            number("coloured_band_hz", edge, 1.0, SAMPLE_RATE_HZ / 2.0, " Hz");
        }
        for edge in self.interference_band_hz {
            number("interference_band_hz", edge, 1.0, SAMPLE_RATE_HZ / 2.0, " Hz");
        }
        number("gain_spread", self.gain_spread, 0.0, 1.0, "");
        number("drift_deg", self.drift_deg, -360.0, 360.0, " degrees");

        let mut ordered = |name: &str, [low, high]: [f64; 2], strictly: bool| {
            if low > high || strictly && low == high {
                problems.push(format!("{name}: expected the lower value first, got [{low}, {high}]"));
            }
        };
        for (class, fascicle) in self.fascicles.iter().enumerate() {
            ordered(&format!("fascicles[{class}].velocity_m_s"), fascicle.velocity_m_s, false);
        }
        ordered("fibres", self.fibres.map(f64::from), false);
        ordered("coactive_fibres", self.coactive_fibres.map(f64::from), false);
        ordered("arrival_jitter_ms", self.arrival_jitter_ms, false);
        ordered("coloured_band_hz", self.coloured_band_hz, true);
        ordered("interference_band_hz", self.interference_band_hz, true);
        if self.fibres[0] == 0 {
            problems.push("fibres: expected at least 1 fibre, got 0".to_owned());
        }
        if !self.test_class_weights.iter().any(|&weight| weight > 0.0) {
            problems.push("test_class_weights: expected at least one above 0".to_owned());
        }
        problems
    }
}

/// Simulate `samples` recordings in all: the training split, then the test split.
///
/// Recording i depends on the configuration, the seed, i and (by the drift and the split) `samples` only, not
/// on the number of threads. It runs on rayon's current thread pool. `progress` is told, from any thread, how
/// many more recordings are finished since it was last told; these numbers add up to `samples`.
///
/// # Errors
/// [`DataError::Config`] when the configuration cannot be simulated, with all its problems;
/// [`DataError::OutOfMemory`].
pub fn simulate(
    config: &SimulatorConfig,
    samples: usize,
    seed: u64,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Dataset, DataError> {
    check(config.problems(), samples)?;
    let test = (samples as f64 * config.test_fraction).round() as usize;
    let train = samples - test.min(samples);
    let cuff = Cuff::new(config, seed);
    let part = |first: usize, count: usize, weights: [f64; CLASSES]| {
        let (contacts, size) = (config.contacts(), config.contacts() * SAMPLES);
        let mut x = room(count, size)?;
        let y = labels(weights, count);
        // Small enough to share out evenly, large enough that a thread's scratch space is reused.
        const BATCH: usize = 16;
        x.par_chunks_mut(size * BATCH).enumerate().for_each_init(
            || vec![0.0; size],
            |scratch, (batch, x)| {
                for (k, x) in x.chunks_exact_mut(size).enumerate() {
                    let j = batch * BATCH + k;
                    let i = first + j;
                    let progressed = i as f64 / samples as f64;
                    cuff.record(&mut Stream::new(seed, i as u64), y[j] as usize, progressed, scratch);
                    scale(scratch, config.scaling, x);
                }
                progress(x.len() / size);
            },
        );
        Ok(Recordings { x, y, contacts, samples: SAMPLES })
    };
    Ok(Dataset {
        train: part(0, train, [1.0; CLASSES])?,
        test: part(train, samples - train, config.test_class_weights)?,
        sample_rate_hz: SAMPLE_RATE_HZ,
    })
}

/// `count` labels in the proportions of `weights`, as evenly interleaved as they can be.
fn labels(weights: [f64; CLASSES], count: usize) -> Vec<i64> {
    let total: f64 = weights.iter().sum();
    let mut given = [0.0; CLASSES];
    let mut next = |n: usize| {
        let mut best = 0;
        let mut most = f64::NEG_INFINITY;
        for class in 0..CLASSES {
            let owed = weights[class] / total * (n + 1) as f64 - given[class];
            if weights[class] > 0.0 && owed > most + 1e-9 {
                (best, most) = (class, owed);
            }
        }
        given[best] += 1.0;
        best as i64
    };
    (0..count).map(&mut next).collect()
}

/// The deepest a fibre may lie, in radii; at the wall itself the potential has no bound.
const MAX_DEPTH: f64 = 0.95;

/// What all recordings of a data set share.
struct Cuff<'a> {
    config: &'a SimulatorConfig,
    /// Gain of each contact.
    gains: Vec<f64>,
    /// Cosine and sine of the angle of each contact of a ring.
    directions: Vec<[f64; 2]>,
    coloured: Resonator,
    interference: Resonator,
}

impl<'a> Cuff<'a> {
    fn new(config: &'a SimulatorConfig, seed: u64) -> Self {
        let mut random = Stream::new(seed, CUFF_STREAM);
        let ring = config.contacts_per_ring;
        Self {
            config,
            gains: (0..config.contacts()).map(|_| 1.0 + config.gain_spread * random.normal()).collect(),
            directions: (0..ring)
                .map(|k| TAU * k as f64 / ring as f64)
                .map(|angle| [angle.cos(), angle.sin()])
                .collect(),
            coloured: Resonator::new(config.coloured_band_hz),
            interference: Resonator::new(config.interference_band_hz),
        }
    }

    /// One recording of a class: H x W fibre units into `out`. `progressed` is 0 at the first recording of a
    /// data set and 1 after the last.
    fn record(&self, random: &mut Stream, class: usize, progressed: f64, out: &mut [f64]) {
        let c = self.config;
        out.fill(0.0);
        let turned = (c.drift_deg * (progressed - 0.5)).to_radians();
        let peak = PEAK_SAMPLE + c.peak_jitter_samples * random.normal();
        let jitter = random.between(c.arrival_jitter_ms) * SAMPLE_RATE_HZ / 1000.0;
        for fascicle in 0..CLASSES {
            let fibres = random.whole(if fascicle == class { c.fibres } else { c.coactive_fibres });
            for _ in 0..fibres {
                let arrival = peak + jitter * random.normal();
                self.add_fibre(random, fascicle, turned, arrival, out);
            }
        }
        for _ in 0..random.poisson(c.background_fibres) {
            let fascicle = random.whole([0, CLASSES as u32 - 1]) as usize;
            let arrival = random.between([0.0, SAMPLES as f64]);
            self.add_fibre(random, fascicle, turned, arrival, out);
        }
        let mut interference = [0.0; SAMPLES];
        self.interference.add(random, c.interference, &mut interference);
        let shared = c.coloured_noise * c.coloured_shared.sqrt();
        let private = c.coloured_noise * (1.0 - c.coloured_shared).sqrt();
        let rings = out.chunks_exact_mut(c.contacts_per_ring * SAMPLES);
        for (contacts, gains) in rings.zip(self.gains.chunks_exact(c.contacts_per_ring)) {
            let mut common = interference;
            self.coloured.add(random, shared, &mut common);
            for (contact, &gain) in contacts.chunks_exact_mut(SAMPLES).zip(gains) {
                contact.iter_mut().zip(&common).for_each(|(v, s)| *v = gain * (*v + s));
                self.coloured.add(random, private, contact);
                contact.iter_mut().for_each(|v| *v += c.white_noise * random.normal());
            }
        }
        self.reference(out);
    }

    /// Add a fibre of a fascicle whose action potential passes the middle ring at sample `arrival`.
    fn add_fibre(&self, random: &mut Stream, fascicle: usize, turned: f64, arrival: f64, out: &mut [f64]) {
        let c = self.config;
        let Fascicle { angle_deg, depth, velocity_m_s } = &c.fascicles[fascicle];
        let (sin, cos) = (angle_deg.to_radians() + turned).sin_cos();
        let [mut x, mut y] =
            [depth * cos, depth * sin].map(|centre| centre + c.fascicle_spread * random.normal());
        let s = x.hypot(y);
        if s > MAX_DEPTH {
            (x, y) = (x * MAX_DEPTH / s, y * MAX_DEPTH / s);
        }
        let square = x * x + y * y;
        let velocity = random.between(*velocity_m_s);
        let amplitude = (velocity / UNIT_VELOCITY).powf(c.amplitude_exponent)
            * (c.amplitude_spread * random.normal()).exp();
        let slowness = ((80.0 - velocity) / 75.0).clamp(0.0, 1.0);
        let [fast, slow] = c.waveform_width_ms;
        let width = (fast + (slow - fast) * slowness) * SAMPLE_RATE_HZ / 1000.0;
        // 1 mm at 1 m/s takes 1 ms.
        let delay = c.ring_pitch_mm / velocity * SAMPLE_RATE_HZ / 1000.0;
        let middle = (c.rings - 1) as f64 / 2.0;

        let ring_size = c.contacts_per_ring * SAMPLES;
        for (ring, contacts) in out.chunks_exact_mut(ring_size).enumerate() {
            let peak = arrival + (ring as f64 - middle) * delay;
            let (from, wave) = Waveform::sample(peak, width);
            for (contact, [cos, sin]) in contacts.chunks_exact_mut(SAMPLES).zip(&self.directions) {
                let weight = amplitude * (c.common_mode - (1.0 - 2.0 * (x * cos + y * sin) + square).ln());
                let seen = contact.iter_mut().skip(from);
                seen.zip(wave.values()).for_each(|(v, g)| *v += weight * g);
            }
        }
    }

    /// Subtract the mean of the outer two rings from every contact, sample by sample.
    fn reference(&self, out: &mut [f64]) {
        let ring_size = self.config.contacts_per_ring * SAMPLES;
        let ends = 2.0 * self.config.contacts_per_ring as f64;
        let mut mean = [0.0; SAMPLES];
        let (first, last) = (0..ring_size, out.len() - ring_size..out.len());
        for contact in out[first].chunks_exact(SAMPLES).chain(out[last].chunks_exact(SAMPLES)) {
            mean.iter_mut().zip(contact).for_each(|(m, v)| *m += v / ends);
        }
        for contact in out.chunks_exact_mut(SAMPLES) {
            contact.iter_mut().zip(&mean).for_each(|(v, m)| *v -= m);
        }
    }
}

/// The samples of a fibre's waveform that fall into the window.
struct Waveform {
    values: [f64; SAMPLES],
    length: usize,
}

impl Waveform {
    /// The waveform of height 1 that peaks at (fractional) sample `peak`, with its width in samples: the
    /// first sample it touches, and its values from there.
    fn sample(peak: f64, width: f64) -> (usize, Self) {
        let [before, after] = WIDTHS.map(|relative| relative * width);
        let first = (peak - EXTENT * before).ceil().max(0.0);
        let end = (peak + EXTENT * after).min(SAMPLES as f64);
        let mut wave = Self { values: [0.0; SAMPLES], length: 0 };
        if first >= end {
            return (0, wave);
        }
        wave.length = (end - first).ceil() as usize;
        for (k, value) in wave.values.iter_mut().take(wave.length).enumerate() {
            let t = first + k as f64 - peak;
            let square = (t / if t < 0.0 { before } else { after }).powi(2);
            *value = (1.0 - square) * (-square / 2.0).exp();
        }
        (first as usize, wave)
    }

    fn values(&self) -> &[f64] {
        &self.values[..self.length.min(SAMPLES)]
    }
}

/// Band-limited noise: white noise through a second-order resonator with zeros at 0 and half the sampling
/// rate, normalised to unit variance.
struct Resonator {
    /// y[t] = gain (e[t] - e[t - 2]) + a y[t - 1] + b y[t - 2].
    a: f64,
    b: f64,
    gain: f64,
    warm_up: usize,
}

impl Resonator {
    fn new(band: [f64; 2]) -> Self {
        let Resonance { a, b, gain, radius } = Resonance::new(band);
        // Until the start is forgotten to a percent; there is no need to wait beyond a window's length or
        // two.
        let warm_up = ((0.01f64).ln() / radius.ln()).ceil().clamp(2.0, 200.0) as usize;
        Self { a, b, gain, warm_up }
    }

    /// Add noise of the given standard deviation.
    fn add(&self, random: &mut Stream, sd: f64, out: &mut [f64]) {
        let (mut e1, mut e2, mut y1, mut y2) = (0.0, 0.0, 0.0, 0.0);
        let mut next = || {
            let e = self.gain * random.normal();
            let y = e - e2 + self.a * y1 + self.b * y2;
            (e2, e1, y2, y1) = (e1, e, y1, y);
            y
        };
        (0..self.warm_up).for_each(|_| {
            next();
        });
        out.iter_mut().for_each(|v| *v += sd * next());
    }
}

/// Bring one recording to [-1, 1]. One without any signal becomes 0.
fn scale(raw: &[f64], scaling: Scaling, out: &mut [f32]) {
    let (min, max) = raw.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), &v| (a.min(v), b.max(v)));
    let (offset, factor) = scaling.offset_and_factor(min, max);
    for (scaled, v) in out.iter_mut().zip(raw) {
        *scaled = (((v - offset) * factor) as f32).clamp(-1.0, 1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_waveform_is_triphasic_without_net_charge() {
        let (first, wave) = Waveform::sample(40.25, 3.0);
        assert_eq!((first, wave.values().len()), (29, 30));
        let sum: f64 = wave.values().iter().sum();
        assert!(sum.abs() < 0.01, "net charge {sum}");
        let (first, wave) = Waveform::sample(50.0, 3.0);
        assert_eq!(wave.values()[50 - first], 1.0);
        assert!((wave.values()[47 - first] - (1.0 - 1.25 * 1.25) * (-0.78125f64).exp()).abs() < 1e-12);
        let signs: Vec<bool> = wave.values().iter().map(|&v| v > 0.0).collect();
        assert_eq!(signs.windows(2).filter(|w| w[0] != w[1]).count(), 2);
    }

    #[test]
    fn waveforms_at_the_window_s_edges() {
        for peak in [-1e9, -60.0, -18.5, -0.5, 0.0, 99.5, 111.0, 111.5, 112.5, 1e9] {
            let (first, wave) = Waveform::sample(peak, 3.0);
            assert!(first + wave.values().len() <= SAMPLES, "peak {peak}");
            assert!(wave.values().iter().all(|v| v.abs() <= 1.0), "peak {peak}");
        }
        assert_eq!(Waveform::sample(111.0, 3.0).1.values().len(), 1);
        assert_eq!(Waveform::sample(-18.0, 3.0).1.values().len(), 0);
    }

    #[test]
    fn coloured_noise_has_unit_variance_and_its_band() {
        let resonator = Resonator::new([1000.0, 2000.0]);
        let mut noise = vec![0.0; 300_000];
        resonator.add(&mut Stream::new(1, 2), 1.0, &mut noise);
        let n = noise.len() as f64;
        let variance = noise.iter().map(|v| v * v).sum::<f64>() / n;
        assert!((variance - 1.0).abs() < 0.03, "{variance}");
        // Mean power at a frequency over windows of 300 samples, whose bins are 100 Hz wide.
        let power = |hz: f64| {
            noise
                .chunks(300)
                .map(|window| {
                    let (mut re, mut im) = (0.0, 0.0);
                    for (t, v) in window.iter().enumerate() {
                        let (sin, cos) = (TAU * hz * t as f64 / SAMPLE_RATE_HZ).sin_cos();
                        (re, im) = (re + v * cos, im + v * sin);
                    }
                    re * re + im * im
                })
                .sum::<f64>()
        };
        let centre = power(1400.0);
        assert!(centre > 1.5 * power(1000.0).max(power(2000.0)), "narrower than its band");
        assert!(centre < 3.0 * power(1000.0).min(power(2000.0)), "wider than its band");
        assert!(centre > 20.0 * power(100.0).max(power(6000.0)), "not confined");
    }

    #[test]
    fn labels_keep_their_proportions_at_every_length() {
        assert_eq!(labels([1.0; 3], 7), [0, 1, 2, 0, 1, 2, 0]);
        let y = labels([6.0, 3.0, 1.0], 1000);
        for (class, share) in [(0, 0.6), (1, 0.3), (2, 0.1)] {
            let mut seen = 0.0;
            for (n, &label) in y.iter().enumerate() {
                seen += f64::from(label == class);
                assert!((seen - share * (n + 1) as f64).abs() <= 1.0, "class {class} after {n}");
            }
        }
        assert!(labels([0.0, 2.0, 0.0], 9).iter().all(|&label| label == 1));
    }

    #[test]
    fn scaling_uses_the_range_and_keeps_the_baseline() {
        let mut out = [0.0f32; 4];
        scale(&[0.0, 1.0, -4.0, 2.0], Scaling::MaxAbs, &mut out);
        assert_eq!(out, [0.0, 0.25, -1.0, 0.5]);
        scale(&[0.0, 1.0, -4.0, 4.0], Scaling::MinMax, &mut out);
        assert_eq!(out, [0.0, 0.25, -1.0, 1.0]);
        for scaling in [Scaling::MaxAbs, Scaling::MinMax] {
            scale(&[0.0; 4], scaling, &mut out);
            assert_eq!(out, [0.0; 4]);
        }
    }

    /// A lone fibre under contact 2 of 8: the angular part is largest there, smallest opposite, and
    /// symmetric.
    #[test]
    fn a_fibre_is_seen_best_at_its_angle_and_later_ring_by_ring() {
        let config = SimulatorConfig {
            fascicles: std::array::from_fn(|_| Fascicle {
                angle_deg: 90.0,
                depth: 0.5,
                velocity_m_s: [45.0, 45.0],
            }),
            fascicle_spread: 0.0,
            amplitude_spread: 0.0,
            common_mode: 0.0,
            ..Default::default()
        };
        let cuff = Cuff::new(&config, 0);
        let mut out = vec![0.0; 5600];
        cuff.add_fibre(&mut Stream::new(0, 0), 0, 0.0, 49.0, &mut out);
        let at = |ring: usize, angle: usize, sample: usize| out[(ring * 8 + angle) * SAMPLES + sample];
        let amplitude = 0.9f64.powf(1.5);
        assert!((at(3, 2, 49) - amplitude * -(0.25f64).ln()).abs() < 1e-9, "-ln((1 - s)^2) at its own angle");
        assert!((at(3, 6, 49) - amplitude * -(2.25f64).ln()).abs() < 1e-9, "-ln((1 + s)^2) opposite");
        assert!((at(3, 1, 49) - at(3, 3, 49)).abs() < 1e-9);
        // 3 mm at 45 m/s are exactly two samples a ring.
        for ring in 0..7 {
            assert!((at(ring, 2, 43 + 2 * ring) - at(3, 2, 49)).abs() < 1e-9, "ring {ring}");
        }
    }

    #[test]
    fn the_reference_removes_what_all_contacts_share() {
        let config = SimulatorConfig::default();
        let cuff = Cuff::new(&config, 0);
        let mut out: Vec<f64> = (0..5600).map(|i| (i % SAMPLES) as f64).collect();
        cuff.reference(&mut out);
        assert!(out.iter().all(|v| v.abs() < 1e-9));
    }
}
