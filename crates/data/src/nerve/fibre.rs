//! One myelinated fibre: how fast, how strong, and what each contact sees of its action potential.
//!
//! Letters: D diameter in micrometre, v = 6 D conduction velocity in m/s, Delta = 100 D spacing of the nodes, g
//! the time course of a node's current with g = 1 at its main peak, I_0 that peak's current in nA. Node k at z_k
//! is the source I_k(t) = I_0 g(t - (z_k - L/2) / v). Times in milliseconds, lengths in millimetres (1 mm/ms is
//! 1 m/s), potentials in microvolt.
//!
//! The recorded polarity is that in which the inward current of the active node points up, as the study's
//! recordings are drawn.

use super::band::BandPass;
use super::config::NerveConfig;
use super::leadfield::{Cylinder, LeadField, ORDERS};
use crate::SAMPLE_RATE_HZ;

/// Time steps of a template per sample: arrivals are rounded to an eighth of a sample at most.
pub(super) const PHASES: usize = 4;
/// Shape of the action potential, x^N exp(-x): its skewness is 2 / sqrt(N + 1).
const SHAPE: i32 = 8;
/// The time course is 0 from here on, in time constants; exp(-x) x^N is 2e-7 of its peak.
const END: f64 = 36.0;
/// Velocities of the fastest and the slowest duration, in m/s.
const DURATION_AT: [f64; 2] = [80.0, 5.0];
/// What is left out at a template's ends, relative to its peak.
const NEGLIGIBLE: f64 = 1e-3;

/// The current of a node over time: the negative second derivative of a skewed action potential.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waveform {
    /// Time constant, in ms.
    constant: f64,
    /// x of the main peak.
    peak: f64,
    /// Factor that brings it to 1.
    scale: f64,
}

/// -A''(x) of A(x) = x^N exp(-x), N = [`SHAPE`].
fn current(x: f64) -> f64 {
    let n = f64::from(SHAPE);
    (2.0 * n * x - x * x - n * (n - 1.0)) * x.powi(SHAPE - 2) * (-x).exp()
}

impl Waveform {
    /// `duration` in ms is six standard deviations of the action potential, between which lies 99 % of it.
    pub(super) fn new(duration: f64) -> Self {
        let n = f64::from(SHAPE);
        // A''' = 0: x^3 - 3 N x^2 + 3 N (N - 1) x - N (N - 1) (N - 2) = 0, its middle root, by Newton.
        let mut peak = n;
        for _ in 0..30 {
            let value = ((peak - 3.0 * n) * peak + 3.0 * n * (n - 1.0)) * peak - n * (n - 1.0) * (n - 2.0);
            let slope = (3.0 * peak - 6.0 * n) * peak + 3.0 * n * (n - 1.0);
            peak -= value / slope;
        }
        // The variance of x^N exp(-x) is N + 1.
        Self { constant: duration / (6.0 * (n + 1.0).sqrt()), peak, scale: current(peak).recip() }
    }

    /// g(t), for t in ms from the main peak.
    pub(super) fn at(&self, t: f64) -> f64 {
        let x = t / self.constant + self.peak;
        if x <= 0.0 || x >= END { 0.0 } else { self.scale * current(x) }
    }

    /// From when to when g is not 0, in ms.
    fn support(&self) -> [f64; 2] {
        [-self.peak * self.constant, (END - self.peak) * self.constant]
    }
}

/// Duration of the action potential of a fibre of velocity `v`, in ms.
pub(super) fn duration([fast, slow]: [f64; 2], v: f64) -> f64 {
    let slowness = ((DURATION_AT[0] - v) / (DURATION_AT[0] - DURATION_AT[1])).clamp(0.0, 1.0);
    fast + (slow - fast) * slowness
}

/// Angular orders to keep at depth `s`: the potential's order n is about s^n / n, and what is left out adds up to less
/// than half a percent of its scale; from s = 0.73 on, where [`ORDERS`] ends it, to 1.7 percent at s = 0.8, of which a
/// contact's area averages most away.
fn orders_at(s: f64) -> usize {
    let small = |n: &usize| s.powi(*n as i32) < 0.005 * (1.0 - s) * *n as f64;
    (2..ORDERS).find(small).unwrap_or(ORDERS)
}

/// A fibre of one animal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fibre {
    /// Conduction velocity, in m/s.
    pub velocity: f64,
    /// Distance from the axis over the cuff's inner radius.
    pub depth: f64,
    /// Angle around the nerve, in radians.
    pub angle: f64,
    /// Position of the first node within the cuff, as a fraction of the distance between nodes.
    pub first_node: f64,
    /// Factor on the nodal current.
    pub strength: f64,
}

/// Values on a time grid of [`PHASES`] steps a sample, `width` values a step; zero outside.
#[derive(Debug, Clone)]
pub(super) struct Trace {
    /// For each phase p the values at the times (p + PHASES j) / PHASES samples, j = first..first + length.
    phases: [Vec<f32>; PHASES],
    first: [i32; PHASES],
    width: usize,
}

impl Trace {
    /// From the values at the steps `from`, `from` + 1, ...; what is negligible at both ends is dropped.
    fn new(from: i32, values: &[f64], width: usize, negligible: f64) -> Self {
        let loud = |step: &[f64]| step.iter().any(|v| v.abs() > negligible);
        let steps: Vec<&[f64]> = values.chunks_exact(width).collect();
        let start = steps.iter().position(|step| loud(step)).unwrap_or(steps.len());
        let end = steps.iter().rposition(|step| loud(step)).map_or(start, |last| last + 1);
        let mut trace = Self { phases: Default::default(), first: [i32::MAX; PHASES], width };
        for (k, step) in steps.iter().enumerate().take(end).skip(start) {
            let time = from + k as i32;
            let phase = time.rem_euclid(PHASES as i32) as usize;
            trace.first[phase] = trace.first[phase].min(time.div_euclid(PHASES as i32));
            trace.phases[phase].extend(step.iter().map(|&v| v as f32));
        }
        trace
    }

    /// What falls on the samples 0..`length` when the trace's time 0 is at step `arrival`: the first sample and
    /// the values from there, `width` a sample.
    pub(super) fn samples(&self, arrival: i32, length: usize) -> (usize, &[f32]) {
        // Sample t is the trace's step PHASES t - arrival.
        let phase = (-arrival).rem_euclid(PHASES as i32) as usize;
        let values = &self.phases[phase];
        if values.is_empty() {
            return (0, &[]);
        }
        let start = i64::from(self.first[phase]) - i64::from((-arrival).div_euclid(PHASES as i32));
        let end = start + (values.len() / self.width) as i64;
        let (from, to) = (start.max(0), end.min(length as i64));
        if from >= to {
            return (0, &[]);
        }
        (from as usize, &values[(from - start) as usize * self.width..(to - start) as usize * self.width])
    }
}

/// What the contacts see of one fibre's action potential, in microvolt, before gains, reference and filter. Time 0
/// is when its potential at the middle ring peaks behind reference and filter.
#[derive(Debug, Clone)]
pub(super) struct Template {
    pub fibre: Fibre,
    /// Angular orders that matter at its depth; the width of `rings`.
    pub orders: usize,
    /// The common part: one value a ring.
    pub common: Trace,
    /// The orders n of each ring; a contact at the angle theta from the fibre sees the sum of cos(n theta) times
    /// them.
    pub rings: Vec<Trace>,
}

/// Where the contacts are, and what is between fibre and contact.
pub(super) struct Surroundings<'a> {
    pub config: &'a NerveConfig,
    pub cylinder: Cylinder,
    pub field: LeadField,
    /// Axial position of each ring, in mm from the cuff's end.
    pub rings: Vec<f64>,
    pub band: BandPass,
}

impl Template {
    pub(super) fn new(around: &Surroundings<'_>, fibre: Fibre) -> Self {
        let Surroundings { config, cylinder, rings, .. } = around;
        let wave = Waveform::new(duration(config.waveform_ms, fibre.velocity));
        let current = fibre.strength * config.nodal_current(fibre.velocity);
        let spacing = config.node_spacing(fibre.velocity);
        let middle = cylinder.length / 2.0;
        let step_ms = 1000.0 / (SAMPLE_RATE_HZ * PHASES as f64);
        // When the action potential is at the cuff's ends.
        let passage = middle / fibre.velocity;
        let [before, after] = wave.support();
        let from = ((before - passage) / step_ms).floor() as i32;
        let steps = ((after + passage) / step_ms).ceil() as i32 - from + 1;
        let steps = usize::try_from(steps).unwrap_or(0);

        let count = rings.len();
        let mut common = vec![0.0; steps * count];
        let mut angular = vec![vec![0.0; steps * ORDERS]; count];
        let mut z = fibre.first_node * spacing;
        while z < cylinder.length {
            let time = (z - middle) / fibre.velocity;
            let tent: Vec<f64> = rings.iter().map(|&ring| current * cylinder.common(ring, z)).collect();
            let orders: Vec<[f64; ORDERS]> = rings
                .iter()
                .map(|&ring| around.field.at(fibre.depth, ring - z).map(|value| current * value))
                .collect();
            let first = (((time + before) / step_ms).ceil() as i32 - from).max(0) as usize;
            let end = ((((time + after) / step_ms).floor() as i32 - from + 1).max(0) as usize).min(steps);
            for k in first..end {
                let g = wave.at((from + k as i32) as f64 * step_ms - time);
                let step = &mut common[k * count..(k + 1) * count];
                step.iter_mut().zip(&tent).for_each(|(v, tent)| *v += g * tent);
                for ((ring, orders), &at) in angular.iter_mut().zip(&orders).zip(rings) {
                    if (at - z).abs() < around.field.reach() {
                        let step = &mut ring[k * ORDERS..(k + 1) * ORDERS];
                        step.iter_mut().zip(orders).for_each(|(v, order)| *v += g * order);
                    }
                }
            }
            z += spacing;
        }
        let from = -peak(&common, &angular, &around.band);
        let loudest = |values: &[f64]| values.iter().fold(0.0f64, |most, v| most.max(v.abs()));
        let negligible = NEGLIGIBLE * angular.iter().map(|ring| loudest(ring)).fold(0.0, f64::max);
        let orders = orders_at(fibre.depth);
        let kept = |ring: &[f64]| -> Vec<f64> {
            ring.chunks_exact(ORDERS).flat_map(|step| &step[..orders]).copied().collect()
        };
        Self {
            fibre,
            orders,
            rings: angular.iter().map(|ring| Trace::new(from, &kept(ring), orders, negligible)).collect(),
            common: Trace::new(from, &common, count, negligible),
        }
    }
}

/// The step at which the middle ring's mean potential is highest behind reference and band-pass. `common` has one
/// value a ring and step, `angular` is for each ring [`ORDERS`] values a step.
fn peak(common: &[f64], angular: &[Vec<f64>], band: &BandPass) -> i32 {
    let rings = angular.len();
    // The mean over a ring's contacts is the common part and order 0.
    let mean = |k: usize, ring: usize| common[k * rings + ring] + angular[ring][k * ORDERS];
    let steps = common.len() / rings.max(1);
    let mut best = (f32::NEG_INFINITY, 0);
    for phase in 0..PHASES {
        let mut seen: Vec<f32> = (phase..steps)
            .step_by(PHASES)
            .map(|k| (mean(k, rings / 2) - (mean(k, 0) + mean(k, rings - 1)) / 2.0) as f32)
            .collect();
        // The filter's delay may carry the peak beyond the end.
        seen.extend([0.0; 8]);
        band.run(&mut seen, 1);
        for (j, &value) in seen.iter().enumerate() {
            if value > best.0 {
                best = (value, phase + PHASES * j);
            }
        }
    }
    best.1 as i32
}
#[cfg(test)]
mod tests {
    use super::*;

    /// A cuff without the random parts of an animal; action potentials of `duration` ms.
    fn surroundings(config: &NerveConfig) -> Surroundings<'_> {
        let cylinder =
            Cylinder { radius: 0.55, length: 23.0, axial: 0.57, radial: 0.083, contact: [0.2, 0.2] };
        let field = LeadField::new(&cylinder);
        Surroundings {
            config,
            cylinder,
            field,
            rings: config.ring_positions(),
            band: BandPass::new([300.0, 5000.0]),
        }
    }

    fn fibre(velocity: f64) -> Fibre {
        Fibre { velocity, depth: 0.5, angle: 0.0, first_node: 0.3, strength: 1.0 }
    }

    /// All steps of a trace, `width` values each.
    fn steps(trace: &Trace) -> Vec<Vec<f32>> {
        let end = trace.phases.iter().zip(trace.first).filter(|(values, _)| !values.is_empty());
        let end = end.map(|(values, first)| first + (values.len() / trace.width) as i32).max().unwrap();
        let first = *trace.first.iter().min().unwrap();
        (first * PHASES as i32..end * PHASES as i32)
            .map(|time| {
                // The step of one sample: the trace's time 0 is PHASES * 0 + time steps before it.
                let (from, values) = trace.samples(-time, 1);
                if from == 0 && !values.is_empty() { values.to_vec() } else { vec![0.0; trace.width] }
            })
            .collect()
    }

    fn highest(trace: &Trace, column: usize) -> f64 {
        steps(trace).iter().map(|step| f64::from(step[column])).fold(0.0, f64::max)
    }

    #[test]
    fn a_node_s_current_is_triphasic_without_net_charge() {
        for duration in [0.3, 0.45, 0.6] {
            let wave = Waveform::new(duration);
            let [before, after] = wave.support();
            let count = 20_000;
            let step = (after - before) / f64::from(count);
            let values: Vec<f64> =
                (0..count).map(|k| wave.at(before + (f64::from(k) + 0.5) * step)).collect();
            let charge = values.iter().sum::<f64>() * step;
            let moved = values.iter().map(|v| v.abs()).sum::<f64>() * step;
            assert!(charge.abs() < 1e-5 * moved, "net charge {charge} of {moved}");
            let most = values.iter().fold(0.0f64, |most, &v| most.max(v));
            assert!(
                (wave.at(0.0) - 1.0).abs() < 1e-12 && most <= 1.0 + 1e-9,
                "the main peak is 1 at 0: {most}"
            );
            let signs: Vec<bool> = values.iter().filter(|v| v.abs() > 1e-9).map(|&v| v > 0.0).collect();
            assert_eq!(signs.windows(2).filter(|w| w[0] != w[1]).count(), 2, "three phases");
            // Where it is more than a fiftieth of its peak.
            let loud = values.iter().filter(|v| v.abs() > 0.02).count();
            let lasts = loud as f64 * step;
            assert!((0.7 * duration..1.1 * duration).contains(&lasts), "{lasts} ms for {duration}");
        }
    }

    /// v = 6 D, Delta = 100 D, I_0 = 1 nA at 10 micrometres and growing as v^1.5.
    #[test]
    fn velocity_decides_everything_else() {
        let config = NerveConfig::default();
        assert_eq!((config.diameter(60.0), config.node_spacing(60.0)), (10.0, 1.0));
        assert_eq!((config.diameter(30.0), config.node_spacing(30.0)), (5.0, 0.5));
        assert!((config.nodal_current(60.0) - config.nodal_current_na).abs() < 1e-12);
        let growth = (config.nodal_current(60.0) / config.nodal_current(30.0)).log2();
        assert!((growth - config.amplitude_exponent).abs() < 1e-12);
        assert!((1.5..=2.0).contains(&config.amplitude_exponent));
        for (v, ms) in [(80.0, 0.3), (120.0, 0.3), (42.5, 0.45), (5.0, 0.6), (2.0, 0.6)] {
            assert!((duration([0.3, 0.6], v) - ms).abs() < 1e-12);
        }
    }

    /// With one duration for all, what a contact sees grows with velocity as the model says. For slow fibres, whose
    /// action potential is short beside the lead field's extent, as v^(p + 1): a current without net charge acts by its
    /// second moment along z, v^2, and there are 1 / v nodes a millimetre. For fast fibres the angular part tends to
    /// v^(p - 1), and the cuff's length holds the common part back.
    #[test]
    fn amplitude_grows_with_velocity() {
        let config = NerveConfig { waveform_ms: [0.4, 0.4], ..Default::default() };
        let p = config.amplitude_exponent;
        let around = surroundings(&config);
        let seen = |v: f64| {
            let template = Template::new(&around, fibre(v));
            [highest(&template.common, 3), highest(&template.rings[3], 1)]
        };
        let growth = |from: f64, to: f64| {
            let (a, b) = (seen(from), seen(to));
            [0, 1].map(|k| (b[k] / a[k]).ln() / (to / from).ln())
        };
        let [common, angular] = growth(5.0, 10.0);
        assert!((common - (p + 1.0)).abs() < 0.15, "slow fibres, common part: v^{common}");
        assert!((angular - (p + 1.0)).abs() < 0.15, "slow fibres, angular part: v^{angular}");
        let [common, angular] = growth(20.0, 80.0);
        assert!((p - 1.0..p + 1.0).contains(&common), "fast fibres, common part: v^{common}");
        assert!((p - 1.0..p).contains(&angular), "fast fibres, angular part: v^{angular}");
    }

    /// A fibre of 30 m/s, 5 micrometres: microvolts the same all around, tenths of one that depend on the angle.
    #[test]
    fn a_fibre_is_seen_in_microvolts() {
        let config = NerveConfig::default();
        let template = Template::new(&surroundings(&config), fibre(30.0));
        let (common, angular) = (highest(&template.common, 3), highest(&template.rings[3], 1));
        assert!((1.0..10.0).contains(&common), "common part {common} microvolt");
        assert!((0.1..1.0).contains(&angular), "angular part {angular} microvolt");
    }

    /// Rings see the action potential one after the other, each 3 mm / v later, whatever the nodes' places.
    #[test]
    fn a_fibre_reaches_ring_after_ring() {
        let config = NerveConfig::default();
        let around = surroundings(&config);
        for v in [10.0, 30.0, 45.0, 70.0] {
            let template = Template::new(&around, fibre(v));
            // The mean time of the angular part's energy.
            let time = |ring: usize| {
                let trace = &template.rings[ring];
                let first = *trace.first.iter().min().unwrap();
                let (mut energy, mut sum) = (0.0, 0.0);
                for (k, step) in steps(trace).iter().enumerate() {
                    let e = f64::from(step[1]).powi(2);
                    energy += e;
                    sum += e * (k as f64 / PHASES as f64 + f64::from(first));
                }
                sum / energy
            };
            let expected = 3.0 / v * SAMPLE_RATE_HZ / 1000.0;
            for ring in 1..7 {
                let delay = time(ring) - time(ring - 1);
                assert!(
                    (delay - expected).abs() < 0.5,
                    "{v} m/s, ring {ring}: {delay} for {expected} samples"
                );
            }
            let mean = (time(6) - time(0)) / 6.0;
            assert!((mean / expected - 1.0).abs() < 0.03, "{v} m/s: {mean} for {expected} samples a ring");
        }
    }

    #[test]
    fn the_template_s_time_is_that_of_its_peak_behind_reference_and_filter() {
        let config = NerveConfig::default();
        let around = surroundings(&config);
        for v in [15.0, 45.0, 80.0] {
            let template = Template::new(&around, fibre(v));
            let (length, arrival) = (200, 90);
            let mut frames = vec![0.0f32; length];
            let (from, values) = template.common.samples(arrival * PHASES as i32, length);
            for (k, step) in values.chunks_exact(7).enumerate() {
                frames[from + k] += step[3] - (step[0] + step[6]) / 2.0;
            }
            for (ring, weight) in [(3, 1.0), (0, -0.5), (6, -0.5)] {
                let (from, values) = template.rings[ring].samples(arrival * PHASES as i32, length);
                for (k, step) in values.chunks_exact(template.orders).enumerate() {
                    frames[from + k] += weight * step[0];
                }
            }
            around.band.run(&mut frames, 1);
            let peak = (0..length).max_by(|&a, &b| frames[a].total_cmp(&frames[b])).unwrap();
            assert_eq!(peak, arrival as usize, "{v} m/s");
        }
    }

    #[test]
    fn traces_at_the_window_s_edges() {
        // Steps -5 to 6; the value is the step.
        let values: Vec<f64> = (-5..=6).map(f64::from).collect();
        let trace = Trace::new(-5, &values, 1, 0.5);
        assert_eq!(trace.samples(8, 100), (1, &[-4.0f32, 0.0, 4.0][..]));
        assert_eq!(trace.samples(9, 100), (1, &[-5.0f32, -1.0, 3.0][..]));
        assert_eq!(trace.samples(0, 100), (0, &[0.0f32, 4.0][..]));
        assert_eq!(trace.samples(4 * 99, 100), (98, &[-4.0f32, 0.0][..]));
        for far in [-1_000_000, -30, 450, 1_000_000] {
            assert!(trace.samples(far, 100).1.is_empty());
        }
        assert!(Trace::new(3, &[0.0; 9], 3, 0.1).samples(0, 10).1.is_empty(), "silence");
    }

    #[test]
    fn deeper_fibres_need_more_orders() {
        assert_eq!([orders_at(0.0), orders_at(0.9)], [2, ORDERS]);
        for s in [0.2, 0.5, 0.7] {
            let left_out: f64 = (orders_at(s)..200).map(|n| s.powi(n as i32) / n as f64).sum();
            assert!(left_out < 0.005, "s {s}: {left_out}");
        }
    }
}
