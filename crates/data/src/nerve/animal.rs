//! One animal's nerve and cuff, and what is recorded from them.
//!
//! Frames are samples x contacts, sample after sample; row = ring * contacts_per_ring + angle until the rows are
//! put into order. Amplitudes are in microvolt. T samples are simulated, [`WARM_UP`] before the window for the
//! filters.

use std::f64::consts::TAU;

use rayon::prelude::*;

use super::anatomy::{Anatomy, PlacedFascicle};
use super::band::{BandPass, Biquad};
use super::config::{NerveConfig, RowOrder, Scaling};
use super::fibre::{PHASES, Surroundings, Template};
use super::leadfield::{LeadField, ORDERS};
use super::session::Take;
use super::streams::{Purpose, stream};
use crate::SAMPLE_RATE_HZ;
use escape_network::arch::{CLASSES, SAMPLES};
use escape_network::rng::Stream;

/// Sample at which a compound action potential peaks, before jitter.
const PEAK_SAMPLE: f64 = 49.0;
/// Samples simulated before the window: the band-pass has forgotten 97 % of what was before them.
const WARM_UP: usize = 80;
/// Samples simulated in all.
const LENGTH: usize = WARM_UP + SAMPLES;

/// What all recordings of an animal share.
pub(super) struct Animal<'a> {
    config: &'a NerveConfig,
    seed: u64,
    fascicles: Vec<Vec<Template>>,
    /// Gain of each contact in the middle of the session, and its change from beginning to end.
    gains: Vec<[f64; 2]>,
    /// Cosine and sine of the angle of each contact of a ring.
    directions: Vec<[f64; 2]>,
    /// Position of each ring from the cuff's middle, in lengths of the cuff.
    along: Vec<f32>,
    coloured: Biquad,
    interference: Biquad,
    band: BandPass,
}

/// Memory that a thread uses for one recording after the other.
pub(super) struct Scratch {
    /// LENGTH x H: the recording.
    frames: Vec<f32>,
    /// LENGTH x H: noise.
    noise: Vec<f32>,
    /// LENGTH x rings: what all contacts of a ring share.
    rings: Vec<f32>,
    /// LENGTH x rings: coloured noise that the contacts of a ring share.
    shared: Vec<f32>,
    /// LENGTH x 2: interference, its gradient.
    interference: Vec<f32>,
    /// Orders x contacts of a ring: cos(n theta).
    cosines: Vec<f32>,
    /// Gain of each contact.
    gains: Vec<f32>,
    /// Fibres of a fascicle, in the order in which they were drawn.
    fibres: Vec<u32>,
}

impl Scratch {
    pub(super) fn new(config: &NerveConfig) -> Self {
        let (contacts, rings) = (config.contacts(), config.rings);
        Self {
            frames: vec![0.0; LENGTH * contacts],
            noise: vec![0.0; LENGTH * contacts],
            rings: vec![0.0; LENGTH * rings],
            shared: vec![0.0; LENGTH * rings],
            interference: vec![0.0; LENGTH * 2],
            cosines: vec![0.0; ORDERS * config.contacts_per_ring],
            gains: vec![0.0; contacts],
            fibres: Vec::new(),
        }
    }
}

impl<'a> Animal<'a> {
    pub(super) fn new(config: &'a NerveConfig, seed: u64) -> Self {
        let anatomy = Anatomy::new(config, seed);
        let cylinder = config.cylinder(anatomy.radius_mm);
        let around = Surroundings {
            config,
            cylinder,
            field: LeadField::new(&cylinder),
            rings: config.ring_positions(),
            band: BandPass::new(config.band_pass_hz),
        };
        let templates = |fascicle: &PlacedFascicle| {
            fascicle.fibres.par_iter().map(|&fibre| Template::new(&around, fibre)).collect()
        };
        let fascicles = anatomy.fascicles.iter().map(templates).collect();
        let mut random = stream(seed, Purpose::Contacts, config.animal, 0, 0);
        let mut gain = || [1.0 + config.gain_spread * random.normal(), config.gain_drift * random.normal()];
        let middle = config.cuff_length_mm / 2.0;
        Self {
            config,
            seed,
            fascicles,
            gains: (0..config.contacts()).map(|_| gain()).collect(),
            directions: (0..config.contacts_per_ring)
                .map(|k| TAU * k as f64 / config.contacts_per_ring as f64)
                .map(|angle| [angle.cos(), angle.sin()])
                .collect(),
            along: around.rings.iter().map(|z| ((z - middle) / config.cuff_length_mm) as f32).collect(),
            coloured: Biquad::resonator(config.coloured_band_hz),
            interference: Biquad::resonator(config.interference_band_hz),
            band: around.band,
        }
    }

    /// The same animal under another configuration, which differs in noise and interference only: these have no part in
    /// what an animal is.
    pub(super) fn with_noise_of(self, config: &'a NerveConfig) -> Self {
        Self { config, ..self }
    }

    /// One recording: H x W values in [-1, 1] into `out`. `progressed` is 0 at the session's first recording and 1
    /// after its last.
    pub(super) fn record(&self, take: Take, progressed: f64, scratch: &mut Scratch, out: &mut [f32]) {
        let mut random = stream(self.seed, Purpose::Recording, self.config.animal, take.class, take.number());
        scratch.frames.fill(0.0);
        scratch.rings.fill(0.0);
        self.add_fibres(&mut random, take.class, progressed, scratch);
        self.add_noise(&mut random, progressed, scratch);
        let ring = self.config.contacts_per_ring;
        reference(&mut scratch.frames, self.gains.len(), ring);
        self.band.run(&mut scratch.frames, self.gains.len());
        let window = &scratch.frames[WARM_UP * self.gains.len()..];
        scale(window, self.config.scaling, |contact| self.row(contact), self.gains.len(), out);
    }

    /// The row of contact ring * contacts_per_ring + angle.
    fn row(&self, contact: usize) -> usize {
        let per_ring = self.config.contacts_per_ring;
        match self.config.row_order {
            RowOrder::Spatial => contact,
            RowOrder::Temporal => contact % per_ring * self.config.rings + contact / per_ring,
        }
    }

    /// Everything that nerve fibres contribute, into `frames` and `rings`.
    fn add_fibres(&self, random: &mut Stream, class: usize, progressed: f64, scratch: &mut Scratch) {
        let c = self.config;
        let turned = (c.drift_deg * (progressed - 0.5)).to_radians();
        let per_ms = SAMPLE_RATE_HZ / 1000.0;
        let peak = WARM_UP as f64 + PEAK_SAMPLE + c.peak_jitter_samples * random.normal();
        let jitter = random.between(c.arrival_jitter_ms) * per_ms;
        for (fascicle, templates) in self.fascicles.iter().enumerate() {
            let evoked = fascicle == class;
            let count = random.whole(if evoked { c.fibres } else { c.coactive_fibres });
            let spread = if evoked { jitter } else { c.coactive_jitter_ms * per_ms };
            // No fibre fires twice in a compound action potential: the beginning of a random order.
            let all = templates.len() as u32;
            scratch.fibres.clear();
            scratch.fibres.extend(0..all);
            for k in 0..count.min(all) {
                let other = random.whole([k, all - 1]);
                scratch.fibres.swap(k as usize, other as usize);
                let fibre = scratch.fibres[k as usize] as usize;
                self.add_fibre(&templates[fibre], turned, peak + spread * random.normal(), scratch);
            }
        }
        for _ in 0..random.poisson(c.background_rate_hz * LENGTH as f64 / SAMPLE_RATE_HZ) {
            let templates = &self.fascicles[random.whole([0, CLASSES as u32 - 1]) as usize];
            let fibre = random.whole([0, templates.len() as u32 - 1]) as usize;
            self.add_fibre(&templates[fibre], turned, random.between([0.0, LENGTH as f64]), scratch);
        }
    }

    /// Add a fibre's action potential that peaks at the middle ring at sample `arrival`.
    fn add_fibre(&self, template: &Template, turned: f64, arrival: f64, scratch: &mut Scratch) {
        let per_ring = self.config.contacts_per_ring;
        let contacts = self.gains.len();
        let arrival = (arrival * PHASES as f64).round() as i32;
        let (from, values) = template.common.samples(arrival, LENGTH);
        let rings = scratch.rings.iter_mut().skip(from * self.along.len());
        rings.zip(values).for_each(|(sum, v)| *sum += v);

        // cos(n x) = 2 cos(x) cos((n - 1) x) - cos((n - 2) x).
        let (sin, cos) = (template.fibre.angle + turned).sin_cos();
        for (k, direction) in self.directions.iter().enumerate() {
            let x = (direction[0] * cos + direction[1] * sin) as f32;
            let (mut before, mut now) = (x, 1.0);
            for row in scratch.cosines.chunks_exact_mut(per_ring).take(template.orders) {
                row[k] = now;
                (before, now) = (now, 2.0 * x * now - before);
            }
        }
        for (ring, trace) in template.rings.iter().enumerate() {
            let (from, values) = trace.samples(arrival, LENGTH);
            let frames = scratch.frames.chunks_exact_mut(contacts).skip(from);
            for (frame, orders) in frames.zip(values.chunks_exact(template.orders)) {
                let seen = &mut frame[ring * per_ring..(ring + 1) * per_ring];
                for (order, cosines) in orders.iter().zip(scratch.cosines.chunks_exact(per_ring)) {
                    seen.iter_mut().zip(cosines).for_each(|(v, cos)| *v += order * cos);
                }
            }
        }
    }

    /// Gains, interference and noise, into `frames`.
    fn add_noise(&self, random: &mut Stream, progressed: f64, scratch: &mut Scratch) {
        let c = self.config;
        let (contacts, rings) = (self.gains.len(), self.along.len());
        let Scratch { frames, noise, rings: common, shared, interference, gains, .. } = scratch;
        let mut white = |noise: &mut [f32]| noise.iter_mut().for_each(|v| *v = random.normal() as f32);
        white(interference);
        self.interference.run(interference, 2);
        white(shared);
        self.coloured.run(shared, rings);
        for (gain, [middle, change]) in gains.iter_mut().zip(&self.gains) {
            *gain = (middle + change * (progressed - 0.5)) as f32;
        }
        let [everywhere, gradient] = [c.interference_uv, c.interference_gradient_uv].map(|v| v as f32);
        let within_ring = (c.coloured_noise_uv * c.coloured_shared.sqrt()) as f32;
        let of_contact = (c.coloured_noise_uv * (1.0 - c.coloured_shared).sqrt()) as f32;
        for t in 0..LENGTH {
            let [all, slope] = [interference[2 * t] * everywhere, interference[2 * t + 1] * gradient];
            let frame = &mut frames[t * contacts..(t + 1) * contacts];
            let per_ring = contacts / rings;
            for ((ring, frame), gains) in
                frame.chunks_exact_mut(per_ring).enumerate().zip(gains.chunks_exact(per_ring))
            {
                let k = t * rings + ring;
                let same = common[k] + all + slope * self.along[ring] + within_ring * shared[k];
                frame.iter_mut().zip(gains).for_each(|(v, gain)| *v = gain * (*v + same));
            }
        }
        white(noise);
        self.coloured.run(noise, contacts);
        frames.iter_mut().zip(&*noise).for_each(|(v, n)| *v += of_contact * n);
        white(noise);
        frames.iter_mut().zip(&*noise).for_each(|(v, n)| *v += c.white_noise_uv as f32 * n);
    }
}

/// Subtract the mean of the outer two rings from every contact, sample by sample.
fn reference(frames: &mut [f32], contacts: usize, per_ring: usize) {
    for frame in frames.chunks_exact_mut(contacts) {
        let ends = frame[..per_ring].iter().chain(&frame[contacts - per_ring..]);
        let mean = ends.sum::<f32>() / (2 * per_ring) as f32;
        frame.iter_mut().for_each(|v| *v -= mean);
    }
}

/// Bring a window, samples x contacts, to [-1, 1] and its contacts into their rows: rows x samples. One without any
/// signal becomes 0.
fn scale(window: &[f32], scaling: Scaling, row: impl Fn(usize) -> usize, contacts: usize, out: &mut [f32]) {
    let bounds = (f32::INFINITY, f32::NEG_INFINITY);
    let (min, max) = window.iter().fold(bounds, |(a, b), &v| (a.min(v), b.max(v)));
    let (offset, factor) = scaling.offset_and_factor(min.into(), max.into());
    let samples = window.len() / contacts;
    for contact in 0..contacts {
        let out = &mut out[row(contact) * samples..(row(contact) + 1) * samples];
        let values = window.iter().skip(contact).step_by(contacts);
        for (scaled, &v) in out.iter_mut().zip(values) {
            *scaled = (((f64::from(v) - offset) * factor) as f32).clamp(-1.0, 1.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nerve::config::Fascicle;

    /// One fibre of each class and nothing else, at depth 0.5 and the angle `angle_deg`; silence is 0.
    fn lone(angle_deg: f64, velocity: f64) -> NerveConfig {
        NerveConfig {
            scaling: Scaling::MaxAbs,
            fascicles: std::array::from_fn(|_| Fascicle {
                angle_deg,
                depth: 0.5,
                radius: 0.0,
                velocity_m_s: [velocity; 2],
            }),
            animal_angle_spread_deg: 0.0,
            animal_depth_spread: 0.0,
            fibres_per_fascicle: 1,
            fibres: [1, 1],
            coactive_fibres: [0, 0],
            background_rate_hz: 0.0,
            white_noise_uv: 0.0,
            coloured_noise_uv: 0.0,
            interference_uv: 0.0,
            interference_gradient_uv: 0.0,
            gain_spread: 0.0,
            gain_drift: 0.0,
            peak_jitter_samples: 0.0,
            arrival_jitter_ms: [0.0, 0.0],
            ..Default::default()
        }
    }

    fn record(config: &NerveConfig, progressed: f64) -> Vec<f32> {
        let mut out = vec![0.0; config.contacts() * SAMPLES];
        let take = Take { class: 0, index: 0, round: 0 };
        Animal::new(config, 5).record(take, progressed, &mut Scratch::new(config), &mut out);
        out
    }

    /// Contact (ring, angle) without the mean of its ring: what depends on the angle.
    fn angular(x: &[f32], ring: usize, angle: usize) -> Vec<f64> {
        let at = |angle: usize, t: usize| f64::from(x[(ring * 8 + angle) * SAMPLES + t]);
        (0..SAMPLES).map(|t| at(angle, t) - (0..8).map(|k| at(k, t)).sum::<f64>() / 8.0).collect()
    }

    /// Under contact 2 of 8: seen best there, with the other sign opposite, and alike on both sides.
    #[test]
    fn a_fibre_is_seen_best_at_its_angle() {
        let x = record(&lone(90.0, 45.0), 0.5);
        let peak = |angle: usize| {
            angular(&x, 3, angle).into_iter().fold(0.0, |a: f64, v| if v.abs() > a.abs() { v } else { a })
        };
        for angle in [0, 1, 3, 4, 5, 6, 7] {
            assert!(peak(2) > 1.3 * peak(angle), "contact {angle}: {} of {}", peak(angle), peak(2));
        }
        assert!(peak(6) < 0.0);
        for (left, right) in [(1, 3), (0, 4), (7, 5)] {
            let [left, right] = [left, right].map(|angle| angular(&x, 3, angle));
            left.iter().zip(&right).for_each(|(a, b)| assert!((a - b).abs() < 1e-5, "{a} and {b}"));
        }
    }

    /// Turning the nerve by a contact turns the recording by a contact, and that is what drift does.
    #[test]
    fn drift_turns_the_nerve() {
        let turned = record(&NerveConfig { drift_deg: 90.0, ..lone(0.0, 45.0) }, 1.0);
        let built = record(&lone(45.0, 45.0), 0.5);
        turned.iter().zip(&built).for_each(|(a, b)| assert!((a - b).abs() < 1e-5, "{a} and {b}"));
        let still = record(&lone(0.0, 45.0), 0.5);
        assert!(still.iter().zip(&built).any(|(a, b)| (a - b).abs() > 0.01));
    }

    /// Velocity can be read off the output: rings see the angular part 3 mm / v apart.
    #[test]
    fn the_delay_from_ring_to_ring_is_that_of_the_velocity() {
        for v in [20.0, 30.0, 45.0, 60.0] {
            let x = record(&lone(0.0, v), 0.5);
            let time = |ring: usize| {
                let wave = angular(&x, ring, 0);
                let energy: f64 = wave.iter().map(|v| v * v).sum();
                wave.iter().enumerate().map(|(t, v)| t as f64 * v * v).sum::<f64>() / energy
            };
            let (delay, expected) = ((time(5) - time(1)) / 4.0, 3.0 / v * SAMPLE_RATE_HZ / 1000.0);
            assert!((delay / expected - 1.0).abs() < 0.08, "{v} m/s: {delay} for {expected} samples a ring");
        }
    }

    #[test]
    fn a_lone_fibre_peaks_at_sample_49() {
        for v in [20.0, 45.0, 80.0] {
            let x = record(&lone(0.0, v), 0.5);
            let mean = |t: usize| (0..8).map(|k| x[(24 + k) * SAMPLES + t]).sum::<f32>();
            let peak = (0..SAMPLES).max_by(|&a, &b| mean(a).total_cmp(&mean(b))).unwrap();
            assert_eq!(peak, 49, "{v} m/s");
        }
    }

    #[test]
    fn the_reference_removes_what_all_contacts_share_and_the_gradient_stays() {
        let mut frames: Vec<f32> = (0..10 * 56).map(|i| (i / 56) as f32).collect();
        reference(&mut frames, 56, 8);
        assert!(frames.iter().all(|v| v.abs() < 1e-5));
        let mut gradient: Vec<f32> = (0..56).map(|i| (i / 8) as f32).collect();
        reference(&mut gradient, 56, 8);
        assert_eq!([gradient[0], gradient[24], gradient[55]], [-3.0, 0.0, 3.0]);
    }

    #[test]
    fn interference_is_removed_as_far_as_gains_are_equal() {
        let quiet = NerveConfig { fibres: [1, 1], nodal_current_na: 0.0, ..lone(0.0, 45.0) };
        let loud = NerveConfig { interference_uv: 50.0, ..quiet.clone() };
        assert!(record(&quiet, 0.5).iter().all(|&v| v == 0.0), "silence stays silence");
        let with_gains = |gain_spread| {
            let config = NerveConfig { gain_spread, white_noise_uv: 0.01, ..loud.clone() };
            let x = record(&config, 0.5);
            // The correlation of rows tells interference from white noise; its mean over neighbours.
            let correlation = |a: usize| {
                let rows = [a, a + 1].map(|r| &x[r * SAMPLES..(r + 1) * SAMPLES]);
                let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
                dot(rows[0], rows[1]).abs() / (dot(rows[0], rows[0]) * dot(rows[1], rows[1])).sqrt()
            };
            (8..48).map(correlation).sum::<f64>() / 40.0
        };
        let (equal, spread) = (with_gains(0.0), with_gains(0.1));
        assert!(equal < 0.3 && spread > 0.9, "equal gains {equal}, spread ones {spread}");
    }

    #[test]
    fn rows_in_either_order() {
        let spatial = record(&lone(20.0, 45.0), 0.5);
        let temporal = record(&NerveConfig { row_order: RowOrder::Temporal, ..lone(20.0, 45.0) }, 0.5);
        for ring in 0..7 {
            for angle in 0..8 {
                let row = |x: &[f32], row: usize| x[row * SAMPLES..(row + 1) * SAMPLES].to_vec();
                assert_eq!(row(&spatial, ring * 8 + angle), row(&temporal, angle * 7 + ring));
            }
        }
    }

    #[test]
    fn scaling_uses_the_range_and_keeps_the_baseline() {
        let scaled = |values: [f32; 4], scaling| {
            let mut out = [0.0f32; 4];
            // Two samples of two contacts.
            scale(&values, scaling, |contact| contact, 2, &mut out);
            out
        };
        assert_eq!(scaled([0.0, 1.0, -4.0, 2.0], Scaling::MaxAbs), [0.0, -1.0, 0.25, 0.5]);
        assert_eq!(scaled([0.0, 1.0, -4.0, 4.0], Scaling::MinMax), [0.0, -1.0, 0.25, 1.0]);
        for scaling in [Scaling::MaxAbs, Scaling::MinMax] {
            assert_eq!(scaled([0.0; 4], scaling), [0.0; 4]);
        }
    }
}
