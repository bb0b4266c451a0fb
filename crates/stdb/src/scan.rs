//! Backwards in time through a plane of neurons, over the m that `step_all_traced` left; plain slices.
//!
//! Letters: T timesteps, n neurons of a plane. For each neuron u is the membrane potential, v the potential
//! that decides (u before the input arrives, or the integrated one after it), m = v/theta - 1, s = \[m > 0\],
//! g = ds/dm the surrogate, r\[t\] = theta s\[t\] the reset, through whose s no gradient flows.
//!
//! With e\[t\] = dL/dv\[t\], t downwards from T - 1 and e\[T\] the readout's or 0:
//!
//! ```text
//! e[t]     = dL/ds[t] g[t] / theta + decay e[t+1]
//! dL/dI[t] = e[t+1]  firing before input,   e[t]  after
//! dL/dtheta = sum_t -dL/ds[t] g[t] v[t] / theta^2 - dL/du[t+1] s[t]  + fraction dL/du[0]
//! dL/ddecay = sum_t dL/dI[t] u[t]
//! ```
//!
//! where u\[t\] is the potential with which step t begins, and fraction theta is where it starts.

use escape_snn_core::neuron::{Dynamics, Firing};

use crate::surrogate::{StdbTable, Surrogate};

/// What the way back through a layer's neurons finds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NeuronFindings {
    /// dL/dtheta; 0 unless asked for.
    pub threshold: f64,
    /// dL/ddecay; 0 unless asked for.
    pub decay: f64,
    /// What the neurons did; nothing is counted of the readout's.
    pub activity: Activity,
}

/// What a layer's neurons did; sums over neurons and their steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Neurons times steps.
    pub decisions: u64,
    /// How often a neuron fired.
    pub spikes: u64,
    /// How often the surrogate was not zero, so that a gradient could pass.
    pub open: u64,
}

impl std::ops::AddAssign for Activity {
    fn add_assign(&mut self, other: Self) {
        self.decisions += other.decisions;
        self.spikes += other.spikes;
        self.open += other.open;
    }
}

impl std::ops::AddAssign for NeuronFindings {
    fn add_assign(&mut self, other: Self) {
        self.threshold += other.threshold;
        self.decay += other.decay;
        self.activity += other.activity;
    }
}

/// One layer's rule for going backwards.
#[derive(Clone, Debug)]
pub struct Backward {
    dynamics: Dynamics,
    /// Where potentials start, as a fraction of the threshold: of all neurons, or of each channel, which come last.
    fractions: Vec<f32>,
    surrogate: Surrogate,
    table: Option<StdbTable>,
    /// Whether gradients of threshold and decay are wanted.
    parameters: bool,
}

/// Buffers of [`Backward::plane`], kept between planes.
#[derive(Debug, Default)]
pub struct Scratch {
    /// e of the step after.
    later: Vec<f32>,
    spike_gradient: Vec<f32>,
    threshold: Vec<f32>,
    decay: Vec<f32>,
    /// The exponential surrogate's values, T x n.
    surrogate: Vec<f32>,
    last_spike: Vec<Option<usize>>,
}

impl Backward {
    /// A rule for runs of up to `steps` steps.
    pub fn new(
        dynamics: Dynamics,
        fractions: Vec<f32>,
        surrogate: Surrogate,
        parameters: bool,
        steps: usize,
    ) -> Self {
        Self { dynamics, fractions, surrogate, table: surrogate.table(steps), parameters }
    }

    /// Goes back through the `steps` steps of `n` neurons. `trace` holds m\[t\] at `t * stride + offset` and
    /// is overwritten there with dL/dI\[t\]; `gradient(t, out)` gives dL/ds\[t\].
    pub fn plane(
        &self,
        trace: &mut [f32],
        (offset, stride, n): (usize, usize, usize),
        steps: usize,
        scratch: &mut Scratch,
        mut gradient: impl FnMut(usize, &mut [f32]),
    ) -> NeuronFindings {
        let at = |t: usize| t * stride + offset..t * stride + offset + n;
        let Scratch { later, spike_gradient, threshold, decay, surrogate, last_spike } = scratch;
        for buffer in [&mut *later, &mut *threshold, &mut *decay] {
            buffer.clear();
            buffer.resize(n, 0.0);
        }
        spike_gradient.resize(n, 0.0);
        surrogate.resize(if self.table.is_some() { steps * n } else { 0 }, 0.0);
        if let Some(table) = &self.table {
            table_values(table, trace, (offset, stride, n), steps, surrogate, last_spike);
        }
        let mut activity = Activity { decisions: (steps * n) as u64, ..Activity::default() };
        for t in (0..steps).rev() {
            gradient(t, spike_gradient);
            let m = &mut trace[at(t)];
            let height = self.surrogate.height();
            activity.spikes += u64::from(count_above_zero(m));
            activity.open += u64::from(match &self.table {
                None => through_triangle(height, m, spike_gradient),
                Some(_) => through_values(height, &surrogate[t * n..][..n], spike_gradient),
            });
            if self.parameters {
                parameters_step(self.dynamics, m, spike_gradient, later, threshold, decay);
            }
            back_step(self.dynamics, m, spike_gradient, later);
        }
        let Dynamics { neuron, firing, .. } = self.dynamics;
        let (theta, kept) = (neuron.threshold(), neuron.decay());
        let sum = |values: &[f32]| values.iter().map(|&v| f64::from(v)).sum::<f64>();
        // The first step began at fraction theta.
        let fractions = self.fractions.iter().cycle();
        let first: f64 = later.iter().zip(fractions).map(|(e, f)| f64::from(*e) * f64::from(*f)).sum();
        let (to_start, through_decay) = match firing {
            Firing::BeforeInput => (1.0, 0.0),
            Firing::AfterInput => (f64::from(kept), 1.0),
        };
        NeuronFindings {
            threshold: sum(threshold) + to_start * first,
            decay: sum(decay) + through_decay * f64::from(theta) * first,
            activity,
        }
    }
}

/// The exponential surrogate's values for the `steps` steps of `n` neurons, T x n, from their m at
/// `t * stride + offset`.
pub fn table_values(
    table: &StdbTable,
    trace: &[f32],
    (offset, stride, n): (usize, usize, usize),
    steps: usize,
    values: &mut [f32],
    last_spike: &mut Vec<Option<usize>>,
) {
    last_spike.clear();
    last_spike.resize(n, None);
    for t in 0..steps {
        let m = &trace[t * stride + offset..][..n];
        for ((value, last), &m) in values[t * n..][..n].iter_mut().zip(&mut *last_spike).zip(m) {
            *value = table.value(t, *last);
            if m > 0.0 {
                *last = Some(t);
            }
        }
    }
}

/// One step back for one neuron: (dL/dI\[t\], e\[t\]) from `through` = dL/ds\[t\] g\[t\].
#[inline(always)]
pub fn back(dynamics: Dynamics, through: f32, later: f32) -> (f32, f32) {
    let e = through / dynamics.neuron.threshold() + dynamics.neuron.decay() * later;
    match dynamics.firing {
        Firing::BeforeInput => (later, e),
        Firing::AfterInput => (e, e),
    }
}

/// What one step adds to dL/dtheta and dL/ddecay. The decay acts on the potential that this step leaves
/// (that it finds, when firing before input).
#[inline(always)]
pub fn parameters(dynamics: Dynamics, m: f32, through: f32, later: f32) -> (f32, f32) {
    let Dynamics { neuron, firing, .. } = dynamics;
    let (threshold, decay) = (neuron.threshold(), neuron.decay());
    let spike = if m > 0.0 { 1.0 } else { 0.0 };
    let through_m = -through * (m + 1.0) / threshold;
    match firing {
        Firing::BeforeInput => (through_m - later * spike, later * threshold * (m + 1.0)),
        Firing::AfterInput => (through_m - decay * later * spike, later * threshold * (m + 1.0 - spike)),
    }
}

/// Number of values above 0.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2", "aarch64+neon"))]
fn count_above_zero(values: &[f32]) -> u32 {
    values.iter().map(|&v| u32::from(v > 0.0)).sum()
}

/// Multiplies gradients of spikes by the linear surrogate; returns how often that is not zero.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2", "aarch64+neon"))]
fn through_triangle(height: f32, m: &[f32], gradient: &mut [f32]) -> u32 {
    let mut open = 0;
    for (gradient, &m) in gradient.iter_mut().zip(m) {
        let value = Surrogate::triangle(m);
        *gradient = *gradient * height * value;
        open += u32::from(value > 0.0);
    }
    open
}

/// Multiplies gradients of spikes by a surrogate's height and values; returns how often these are not zero.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2", "aarch64+neon"))]
fn through_values(height: f32, values: &[f32], gradient: &mut [f32]) -> u32 {
    let mut open = 0;
    for (gradient, &value) in gradient.iter_mut().zip(values) {
        *gradient = *gradient * height * value;
        open += u32::from(value > 0.0);
    }
    open
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2", "aarch64+neon"))]
fn back_step(dynamics: Dynamics, m: &mut [f32], through: &[f32], later: &mut [f32]) {
    for ((m, &through), later) in m.iter_mut().zip(through).zip(later) {
        (*m, *later) = back(dynamics, through, *later);
    }
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2", "aarch64+neon"))]
fn parameters_step(
    dynamics: Dynamics,
    m: &[f32],
    through: &[f32],
    later: &[f32],
    threshold: &mut [f32],
    decay: &mut [f32],
) {
    let inputs = m.iter().zip(through).zip(later);
    for (((&m, &through), &later), (threshold, decay)) in inputs.zip(threshold.iter_mut().zip(decay)) {
        let (a, b) = parameters(dynamics, m, through, later);
        *threshold += a;
        *decay += b;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use escape_network::rng::Stream;
    use escape_snn_core::neuron::{Neuron, Reset, step};

    /// The smooth step whose derivative is the linear surrogate at gamma = 1.
    fn smooth(m: f64) -> f64 {
        match m {
            m if m <= -1.0 => 0.0,
            m if m <= 0.0 => (1.0 + m) * (1.0 + m) / 2.0,
            m if m <= 1.0 => 1.0 - (1.0 - m) * (1.0 - m) / 2.0,
            _ => 1.0,
        }
    }

    struct Case {
        dynamics: Dynamics,
        fraction: f32,
        currents: Vec<f32>,
        weights: Vec<f32>,
    }

    impl Case {
        fn random(firing: Firing, seed: u64) -> Self {
            let mut r = Stream::new(seed, 0);
            let mut draw = |low: f64, high: f64| (low + (high - low) * r.uniform()) as f32;
            let neuron = Neuron::new(draw(0.5, 2.0), draw(0.6, 1.0)).unwrap();
            let dynamics = Dynamics { neuron, firing, reset: Reset::Subtraction };
            let currents = (0..12).map(|_| draw(-1.0, 2.0)).collect();
            let weights = (0..12).map(|_| draw(-1.0, 1.0)).collect();
            Self { dynamics, fraction: draw(0.0, 0.9), currents, weights }
        }

        fn trace(&self) -> Vec<f32> {
            let mut u = self.dynamics.neuron.threshold() * self.fraction;
            let mut ms = Vec::new();
            for &current in &self.currents {
                let (m, _, next) = step(self.dynamics, u, current);
                u = next;
                ms.push(m);
            }
            ms
        }

        /// L = sum_t weight\[t\] S(m\[t\]) in float64, the resets' spikes held as they were: no gradient flows
        /// through them.
        fn loss(&self, theta: f64, leak: f64, currents: &[f64]) -> f64 {
            let resets: Vec<f64> = self.trace().iter().map(|&m| f64::from(m > 0.0)).collect();
            let mut u = theta * f64::from(self.fraction);
            let mut loss = 0.0;
            for (t, &current) in currents.iter().enumerate() {
                let integrated = leak * u + current;
                let v = match self.dynamics.firing {
                    Firing::BeforeInput => u,
                    Firing::AfterInput => integrated,
                };
                loss += f64::from(self.weights[t]) * smooth(v / theta - 1.0);
                u = integrated - theta * resets[t];
            }
            loss
        }
    }

    #[test]
    fn the_closed_form_agrees_with_finite_differences() {
        for seed in 0..200 {
            for firing in [Firing::BeforeInput, Firing::AfterInput] {
                let case = Case::random(firing, seed);
                let steps = case.currents.len();
                let backward = Backward::new(
                    case.dynamics,
                    vec![case.fraction],
                    Surrogate::Linear { gamma: 1.0 },
                    true,
                    steps,
                );
                let mut trace = case.trace();
                let got = backward.plane(&mut trace, (0, 1, 1), steps, &mut Scratch::default(), |t, out| {
                    out[0] = case.weights[t];
                });
                let neuron = case.dynamics.neuron;
                let (theta, leak) = (f64::from(neuron.threshold()), f64::from(neuron.decay()));
                let currents: Vec<f64> = case.currents.iter().map(|&c| f64::from(c)).collect();
                let h = 1e-6;
                let close = |got: f64, up: f64, down: f64, what: &str| {
                    let want = (up - down) / (2.0 * h);
                    assert!(
                        (got - want).abs() < 2e-4 * (1.0 + want.abs()),
                        "{firing:?} {seed} {what}: {got} {want}"
                    );
                };
                for t in 0..steps {
                    let moved = |by: f64| {
                        let mut c = currents.clone();
                        c[t] += by;
                        case.loss(theta, leak, &c)
                    };
                    close(f64::from(trace[t]), moved(h), moved(-h), &format!("current {t}"));
                }
                let by_theta = |by: f64| case.loss(theta + by, leak, &currents);
                close(got.threshold, by_theta(h), by_theta(-h), "threshold");
                let by_leak = |by: f64| case.loss(theta, leak + by, &currents);
                close(got.decay, by_leak(h), by_leak(-h), "leak");
            }
        }
    }

    #[test]
    fn planes_in_a_larger_trace_do_not_touch_their_neighbours() {
        let neuron = Neuron::new(1.0, 0.9).unwrap();
        let d = Dynamics { neuron, firing: Firing::AfterInput, reset: Reset::Subtraction };
        let backward =
            Backward::new(d, vec![0.5], Surrogate::Exponential { alpha: 0.3, beta: 0.01 }, true, 3);
        let mut trace: Vec<f32> = (0..3 * 10).map(|i| (i as f32 * 0.7).sin()).collect();
        let before = trace.clone();
        let mut alone: Vec<f32> = (0..3).flat_map(|t| before[t * 10 + 4..t * 10 + 6].to_vec()).collect();
        let gradient = |t: usize, out: &mut [f32]| out.fill(t as f32 + 1.0);
        let a = backward.plane(&mut trace, (4, 10, 2), 3, &mut Scratch::default(), gradient);
        let b = backward.plane(&mut alone, (0, 2, 2), 3, &mut Scratch::default(), gradient);
        assert_eq!(a, b);
        for t in 0..3 {
            assert_eq!(trace[t * 10 + 4..t * 10 + 6], alone[t * 2..t * 2 + 2]);
            assert_eq!(trace[t * 10..t * 10 + 4], before[t * 10..t * 10 + 4]);
            assert_eq!(trace[t * 10 + 6..t * 10 + 10], before[t * 10 + 6..t * 10 + 10]);
        }
    }
}
