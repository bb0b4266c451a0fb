//! What an integrate-and-fire neuron does in one timestep, and the same for a whole plane of neurons.
//!
//! Letters: T timesteps, H rows, W columns of one channel's plane.
//! u membrane potential, I synaptic current, theta threshold, decay the factor that u keeps, s spike (0 or 1),
//! m = v/theta - 1 the normalised distance of the deciding potential v from the threshold.

use std::ops::Range;

use escape_network::sequential::{Padding, Pool, Pooling};
use escape_network::stage::{Op, Stage};

/// When in a timestep a neuron decides to fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firing {
    /// Before this step's input arrives, as in the study: each layer adds a step of delay.
    /// v = u; s = \[m > 0\]; u <- decay u + I - theta s.
    BeforeInput,
    /// After it: v = decay u + I; s = \[m > 0\]; u <- v - theta s.
    AfterInput,
}

/// What a spike takes from its neuron's potential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// One threshold; what is above it stays.
    Subtraction,
    /// Everything.
    Zero,
}

/// The constants of one layer's neurons.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neuron {
    threshold: f32,
    decay: f32,
}

/// Why a neuron cannot have such constants, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NeuronError(String);

impl Neuron {
    /// A neuron that fires above `threshold`, a positive number in units of its membrane potential, and keeps the fraction
    /// `decay` of its potential from step to step, 0 to 1; 1 loses nothing.
    ///
    /// # Errors
    /// [`NeuronError`] for any other number.
    pub fn new(threshold: f32, decay: f32) -> Result<Self, NeuronError> {
        if !(threshold > 0.0 && threshold.is_finite()) {
            return Err(NeuronError(format!("the threshold is {threshold}, expected a positive number")));
        }
        if !(0.0..=1.0).contains(&decay) {
            return Err(NeuronError(format!("the leak is {decay}, expected 0 to 1")));
        }
        Ok(Self { threshold, decay })
    }

    /// Potential above which it fires.
    #[inline]
    pub fn threshold(self) -> f32 {
        self.threshold
    }

    /// Fraction of the potential that survives a step.
    #[inline]
    pub fn decay(self) -> f32 {
        self.decay
    }

    /// The same with another threshold.
    ///
    /// # Errors
    /// As [`Neuron::new`].
    pub fn with_threshold(self, threshold: f32) -> Result<Self, NeuronError> {
        Self::new(threshold, self.decay)
    }
}

impl Default for Neuron {
    /// Threshold 1, nothing lost.
    fn default() -> Self {
        Self { threshold: 1.0, decay: 1.0 }
    }
}

/// What a layer's neurons do in a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dynamics {
    /// Their constants.
    pub neuron: Neuron,
    /// When they decide.
    pub firing: Firing,
    /// What a spike takes from them.
    pub reset: Reset,
}

impl Dynamics {
    /// The same of neurons that lose nothing.
    #[must_use]
    pub fn without_leak(self) -> Self {
        Self { neuron: Neuron { decay: 1.0, ..self.neuron }, ..self }
    }
}

/// One neuron, one step: (m, s, next u). The roundings are those of the study's PyTorch program,
/// `leak * u + current - theta * spike` from left to right in float32.
#[inline(always)]
pub fn step(dynamics: Dynamics, u: f32, current: f32) -> (f32, f32, f32) {
    let Dynamics { neuron: Neuron { threshold, decay }, firing, reset } = dynamics;
    let integrated = decay * u + current;
    let deciding = match firing {
        Firing::BeforeInput => u,
        Firing::AfterInput => integrated,
    };
    let m = deciding / threshold - 1.0;
    let spike = if m > 0.0 { 1.0 } else { 0.0 };
    let next = match reset {
        Reset::Subtraction => integrated - threshold * spike,
        Reset::Zero => integrated * (1.0 - spike),
    };
    (m, spike, next)
}

/// One step of many neurons: updates `u`, writes `spikes`.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2", "aarch64+neon"))]
pub fn step_all(dynamics: Dynamics, u: &mut [f32], current: &[f32], spikes: &mut [f32]) {
    // The rules are chosen outside the loop so that the loop vectorises.
    use {Firing::*, Reset::*};
    let neuron = dynamics.neuron;
    match (dynamics.firing, dynamics.reset) {
        (BeforeInput, Subtraction) => {
            each(Dynamics { neuron, firing: BeforeInput, reset: Subtraction }, u, current, spikes);
        }
        (AfterInput, Subtraction) => {
            each(Dynamics { neuron, firing: AfterInput, reset: Subtraction }, u, current, spikes);
        }
        (BeforeInput, Zero) => {
            each(Dynamics { neuron, firing: BeforeInput, reset: Zero }, u, current, spikes)
        }
        (AfterInput, Zero) => each(Dynamics { neuron, firing: AfterInput, reset: Zero }, u, current, spikes),
    }
}

#[inline(always)]
fn each(dynamics: Dynamics, u: &mut [f32], current: &[f32], spikes: &mut [f32]) {
    for ((u, &current), spike) in u.iter_mut().zip(current).zip(spikes) {
        let (_, s, next) = step(dynamics, *u, current);
        *u = next;
        *spike = s;
    }
}

/// As [`step_all`], and overwrites the current with m, which is all that backpropagation needs.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2", "aarch64+neon"))]
pub fn step_all_traced(dynamics: Dynamics, u: &mut [f32], current_to_m: &mut [f32], spikes: &mut [f32]) {
    for ((u, current), spike) in u.iter_mut().zip(current_to_m).zip(spikes) {
        let (m, s, next) = step(dynamics, *u, *current);
        (*u, *current, *spike) = (next, m, s);
    }
}

/// Number of values that are not zero.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2", "aarch64+neon"))]
pub fn count_nonzero(values: &[f32]) -> u32 {
    values.iter().map(|&v| u32::from(v != 0.0)).sum()
}

/// Sum of the weights at the places whose value is not zero.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2", "aarch64+neon"))]
pub fn weigh_nonzero(values: &[f32], weights: &[u32]) -> u32 {
    values.iter().zip(weights).map(|(&v, &w)| if v != 0.0 { w } else { 0 }).sum()
}

/// How one channel's plane of spikes is handed to the next layer: pooled, and set into a frame of zeros that the next
/// convolution's padding asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plane {
    /// Rows before pooling.
    pub height: usize,
    /// Columns before pooling.
    pub width: usize,
    /// The pooling. Of a maximum, a window spikes whenever the largest of its neurons' counts grows, so that its own count is
    /// the maximum of theirs at any time. (Rueckauer et al., "Conversion of continuous-valued deep networks to efficient
    /// event-driven networks", Front. Neurosci. 2017, let the spikes of the neuron pass that has fired most so far: the same
    /// when one is ahead throughout, but a window whose lead changes sends too many spikes or too few.)
    pub pool: Option<Pool>,
    /// Rows and columns after pooling.
    pub pooled: (usize, usize),
    /// What a spike counts in the sum over a window of an average.
    pub share: f32,
    /// Zeros around the result.
    pub padding: Padding,
}

impl Plane {
    /// What the neurons of `stage` send, for a next stage whose weights ask for `padding`.
    pub fn of(stage: &Stage, padding: Padding) -> Self {
        // A linear layer is one row of neurons.
        let (height, width, pooled) = match stage.op {
            Op::Conv(_) => {
                (stage.output.height, stage.output.width, (stage.pooled.height, stage.pooled.width))
            }
            Op::Linear => (1, stage.output.channels, (1, stage.output.channels)),
        };
        let share = 1.0 / stage.pool.map_or(1, |pool| pool.kernel.0 * pool.kernel.1) as f32;
        Self { height, width, pool: stage.pool, pooled, share, padding }
    }

    /// How a stage's spikes reach the `next` one: channels, and each channel's plane. A linear layer is one row of neurons.
    pub fn between(stage: &Stage, next: Option<&Stage>) -> (usize, Self) {
        let channels = match stage.op {
            Op::Conv(_) => stage.output.channels,
            Op::Linear => 1,
        };
        (channels, Self::of(stage, next.map_or(Padding::default(), Stage::padding)))
    }

    /// Neurons in the plane.
    pub fn neurons(&self) -> usize {
        self.height * self.width
    }

    /// Whether it has to know how often each neuron fired.
    pub fn counts(&self) -> bool {
        self.pool.is_some_and(|pool| pool.pooling == Pooling::Max)
    }

    /// Rows and columns of the padded result.
    pub fn padded(&self) -> (usize, usize) {
        let Padding { top, bottom, left, right } = self.padding;
        (self.pooled.0 + top + bottom, self.pooled.1 + left + right)
    }

    /// Size of the padded result.
    pub fn padded_len(&self) -> usize {
        self.padded().0 * self.padded().1
    }

    /// Where row `r` of the pooled plane lies in the padded one.
    pub fn row(&self, r: usize) -> Range<usize> {
        let start = (r + self.padding.top) * self.padded().1 + self.padding.left;
        start..start + self.pooled.1
    }

    /// Pools `spikes` (H x W) into the inside of `out` (padded; its border is left as it is). Of a maximum, `fired` (H x W)
    /// says how often each neuron fired before, and is brought up to date; else it may be empty.
    pub fn pool_into(&self, spikes: &[f32], fired: &mut [f32], out: &mut [f32]) {
        let Some(pool) = &self.pool else {
            for r in 0..self.pooled.0 {
                out[self.row(r)].copy_from_slice(&spikes[r * self.width..][..self.width]);
            }
            return;
        };
        if pool.pooling == Pooling::Max {
            // What the most active one has gained: its count after this step less that before it.
            let each = |fired: &[f32], out: &mut [f32], gain: &dyn Fn(f32, f32) -> f32| {
                for r in 0..self.pooled.0 {
                    for (c, value) in out[self.row(r)].iter_mut().enumerate() {
                        *value = gain(*value, self.most_active(pool, (r, c), fired));
                    }
                }
            };
            each(fired, out, &|_, before| before);
            fired.iter_mut().zip(spikes).for_each(|(fired, spike)| *fired += spike);
            each(fired, out, &|before, after| after - before);
            return;
        }
        let pairs = is_tiling(pool) && pool.kernel == (2, 2);
        for r in 0..self.pooled.0 {
            let target = &mut out[self.row(r)];
            if pairs {
                pool_pairs(&spikes[2 * r * self.width..][..2 * self.width], self.share, target);
                continue;
            }
            for (c, value) in target.iter_mut().enumerate() {
                let (rows, columns) = self.window(pool, (r, c));
                let window = rows.flat_map(|row| &spikes[row * self.width..][columns.clone()]);
                *value = window.sum::<f32>() * self.share;
            }
        }
    }

    /// How often the neuron of a window has fired that has fired most.
    fn most_active(&self, pool: &Pool, at: (usize, usize), fired: &[f32]) -> f32 {
        let (rows, columns) = self.window(pool, at);
        rows.flat_map(|row| &fired[row * self.width..][columns.clone()]).fold(0.0, |most, n| n.max(most))
    }

    /// Of a maximum: the neuron of each window, row by row, that has fired most, the first of several. `fired` is H x W.
    pub fn leaders(&self, fired: &[f32], leaders: &mut Vec<u32>) {
        let Some(pool) = &self.pool else { return };
        for (r, c) in (0..self.pooled.0).flat_map(|r| (0..self.pooled.1).map(move |c| (r, c))) {
            let (rows, columns) = self.window(pool, (r, c));
            let mut best = (0, f32::NEG_INFINITY);
            for at in rows.flat_map(|row| columns.clone().map(move |column| row * self.width + column)) {
                if fired[at] > best.1 {
                    best = (at, fired[at]);
                }
            }
            leaders.push(best.0 as u32);
        }
    }

    /// Rows and columns of a window that lie within the plane.
    fn window(&self, pool: &Pool, at: (usize, usize)) -> (Range<usize>, Range<usize>) {
        pool.window(at, (self.height, self.width))
    }

    /// The way back from [`Plane::pool_into`] of an average: each neuron's share of the gradient of a padded result, 0
    /// for those that no window covers.
    pub fn unpool_from(&self, padded: &[f32], out: &mut [f32]) {
        let Some(pool) = &self.pool else {
            for (r, row) in out.chunks_exact_mut(self.width).enumerate() {
                row.copy_from_slice(&padded[self.row(r)]);
            }
            return;
        };
        let (down, across) = pool.kernel;
        let tiling = is_tiling(pool);
        if !tiling || self.pooled.0 * down < self.height || self.pooled.1 * across < self.width {
            out.fill(0.0);
        }
        for r in 0..self.pooled.0 {
            let source = &padded[self.row(r)];
            if tiling {
                for row in out[r * down * self.width..].chunks_mut(self.width).take(down) {
                    row.chunks_exact_mut(across)
                        .zip(source)
                        .for_each(|(window, g)| window.fill(g * self.share));
                }
                continue;
            }
            for (c, g) in source.iter().enumerate() {
                let (rows, columns) = self.window(pool, (r, c));
                for row in rows {
                    out[row * self.width..][columns.clone()].iter_mut().for_each(|v| *v += g * self.share);
                }
            }
        }
    }
}

/// Whether windows lie side by side, inside.
fn is_tiling(pool: &Pool) -> bool {
    pool.kernel == pool.stride && pool.padding == Padding::default() && !pool.ceil
}

/// Sums over 2 x 2 windows of two rows, times `share`.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2", "aarch64+neon"))]
fn pool_pairs(rows: &[f32], share: f32, out: &mut [f32]) {
    let (upper, lower) = rows.split_at(rows.len() / 2);
    for ((value, a), b) in out.iter_mut().zip(upper.chunks_exact(2)).zip(lower.chunks_exact(2)) {
        *value = (a[0] + a[1] + b[0] + b[1]) * share;
    }
}

/// One step of the study's readout: a spiking layer whose potential also gains the softmax of its own
/// spikes. Updates `u`, writes m and the spikes of the classes of one sample.
pub fn published_readout_step(
    dynamics: Dynamics,
    u: &mut [f32],
    current: &[f32],
    m: &mut [f32],
    spikes: &mut [f32],
) {
    for i in 0..u.len() {
        (m[i], spikes[i], u[i]) = step(dynamics, u[i], current[i]);
    }
    for (u, p) in u.iter_mut().zip(softmax(spikes)) {
        *u += p;
    }
}

/// Softmax in float32, as libtorch rounds it.
pub fn softmax(x: &[f32]) -> Vec<f32> {
    let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = x.iter().map(|v| (v - largest).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.into_iter().map(|p| p / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: Dynamics = Dynamics {
        neuron: Neuron { threshold: 1.0, decay: 1.0 },
        firing: Firing::BeforeInput,
        reset: Reset::Subtraction,
    };
    const AFTER: Dynamics = Dynamics { firing: Firing::AfterInput, ..BEFORE };

    fn after(threshold: f32, decay: f32) -> Dynamics {
        Dynamics { neuron: Neuron::new(threshold, decay).unwrap(), ..AFTER }
    }

    #[test]
    fn constants_that_no_neuron_can_have_are_refused() {
        for (threshold, decay, part) in [
            (0.0, 1.0, "threshold is 0"),
            (-1.0, 1.0, "positive"),
            (f32::NAN, 1.0, "NaN"),
            (f32::INFINITY, 1.0, "inf"),
            (1.0, 1.5, "leak is 1.5"),
            (1.0, -0.1, "0 to 1"),
            (1.0, f32::NAN, "NaN"),
        ] {
            let error = Neuron::new(threshold, decay).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let neuron = Neuron::new(2.0, 0.0).unwrap();
        assert_eq!((neuron.threshold(), neuron.decay()), (2.0, 0.0));
        assert_eq!(neuron.with_threshold(0.5), Neuron::new(0.5, 0.0));
        assert_eq!(Neuron::default(), Neuron::new(1.0, 1.0).unwrap());
    }

    fn trajectory(d: Dynamics, mut u: f32, currents: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let (mut us, mut ss) = (Vec::new(), Vec::new());
        for &i in currents {
            let (_, s, next) = step(d, u, i);
            u = next;
            us.push(u);
            ss.push(s);
        }
        (us, ss)
    }

    #[test]
    fn the_studys_neuron_fires_a_step_late() {
        // By hand: u 0 -> 0.75 -> 1.5, fires at the third step, keeps 0.5 + 0.75.
        let (u, s) = trajectory(BEFORE, 0.0, &[0.75; 4]);
        assert_eq!(s, [0.0, 0.0, 1.0, 1.0]);
        assert_eq!(u, [0.75, 1.5, 1.25, 1.0]);
    }

    #[test]
    fn the_default_neuron_fires_within_the_step() {
        // From theta/2: 1.25 fires, 0.25; 1.0 does not exceed; 1.75 fires, 0.75; 1.5 fires.
        let (u, s) = trajectory(AFTER, 0.5, &[0.75; 4]);
        assert_eq!(s, [1.0, 0.0, 1.0, 1.0]);
        assert_eq!(u, [0.25, 1.0, 0.75, 0.5]);
    }

    #[test]
    fn a_neuron_that_is_reset_to_zero_forgets_what_was_above_the_threshold() {
        let zero = Dynamics { reset: Reset::Zero, ..AFTER };
        let (u, s) = trajectory(zero, 0.5, &[0.75; 4]);
        assert_eq!(s, [1.0, 0.0, 1.0, 0.0]);
        assert_eq!(u, [0.0, 0.75, 0.0, 0.75]);
        let (u, s) = trajectory(Dynamics { firing: Firing::BeforeInput, ..zero }, 0.0, &[0.75; 4]);
        assert_eq!(s, [0.0, 0.0, 1.0, 0.0]);
        assert_eq!(u, [0.75, 1.5, 0.0, 0.75]);
    }

    #[test]
    fn decay_and_threshold_act_as_stated() {
        let d = after(2.0, 0.5);
        let (u, s) = trajectory(d, 1.0, &[2.0, 0.0, -4.0]);
        assert_eq!(s, [1.0, 0.0, 0.0]);
        assert_eq!(u, [0.5, 0.25, -3.875]);
    }

    #[test]
    fn rate_times_threshold_approaches_the_current() {
        // Reset by subtraction loses nothing: after T steps the count is T I / theta to within one.
        for i in 0..=20 {
            let current = i as f32 / 20.0;
            let (_, s) = trajectory(AFTER, 0.5, &vec![current; 1000]);
            let count: f32 = s.iter().sum();
            assert!((count - 1000.0 * current).abs() <= 1.0, "{current}: {count}");
        }
    }

    #[test]
    fn vector_forms_equal_the_step() {
        for d in [BEFORE, AFTER, after(0.7, 0.9)] {
            let u0: Vec<f32> = (0..101).map(|i| (i as f32 * 0.37).sin() * 2.0).collect();
            let current: Vec<f32> = (0..101).map(|i| (i as f32 * 0.91).cos()).collect();
            let (mut u, mut s) = (u0.clone(), vec![9.0; 101]);
            step_all(d, &mut u, &current, &mut s);
            let (mut v, mut m, mut r) = (u0.clone(), current.clone(), vec![9.0; 101]);
            step_all_traced(d, &mut v, &mut m, &mut r);
            for i in 0..101 {
                assert_eq!((m[i], s[i], u[i]), step(d, u0[i], current[i]));
                assert_eq!((r[i], v[i]), (s[i], u[i]));
            }
        }
    }

    const BORDER: Padding = Padding { top: 1, bottom: 2, left: 0, right: 3 };

    /// Planes with windows of every kind; sizes are what [`escape_network::sequential`] says of them.
    fn planes(pooling: Pooling) -> Vec<Plane> {
        let around = |rows, columns| Padding::symmetric((rows, columns));
        let pools = [
            ((3, 4), (1, 1), (1, 1), around(0, 0)),
            ((4, 6), (2, 2), (2, 2), around(0, 0)),
            ((5, 7), (2, 2), (2, 2), around(0, 0)),
            ((9, 8), (4, 4), (4, 4), around(0, 0)),
            ((9, 8), (3, 2), (2, 1), around(0, 0)),
            ((6, 6), (3, 3), (2, 2), around(1, 1)),
        ];
        let plane =
            |((height, width), kernel, stride, padding): ((usize, usize), _, (usize, usize), Padding)| {
                let pool = Pool { stride, padding, ..Pool::new(pooling, kernel) };
                let out = |length: usize, border: usize, kernel: usize, stride: usize| {
                    (length + border - kernel) / stride + 1
                };
                let pooled = (
                    out(height, padding.top + padding.bottom, kernel.0, stride.0),
                    out(width, padding.left + padding.right, kernel.1, stride.1),
                );
                let share = 1.0 / (kernel.0 * kernel.1) as f32;
                Plane { height, width, pool: Some(pool), pooled, share, padding: BORDER }
            };
        pools.into_iter().map(plane).collect()
    }

    const AVERAGE: Pooling = Pooling::Average { count_padding: true };

    #[test]
    fn pooling_averages_inside_the_padding() {
        let plain = Plane { height: 3, width: 4, pool: None, pooled: (3, 4), share: 1.0, padding: BORDER };
        for plane in planes(AVERAGE).into_iter().chain([plain]) {
            let spikes: Vec<f32> = (0..plane.neurons()).map(|i| f32::from(i * 7 % 3 == 0)).collect();
            let mut out = vec![-1.0; plane.padded_len()];
            plane.pool_into(&spikes, &mut [], &mut out);
            let (rows, columns) = plane.padded();
            let pool = plane.pool.unwrap_or(Pool::new(AVERAGE, (1, 1)));
            for (y, x) in (0..rows).flat_map(|y| (0..columns).map(move |x| (y, x))) {
                let (r, c) = (y.wrapping_sub(BORDER.top), x.wrapping_sub(BORDER.left));
                let want = if r < plane.pooled.0 && c < plane.pooled.1 {
                    let window = (0..pool.kernel.0).flat_map(|i| (0..pool.kernel.1).map(move |j| (i, j)));
                    let value = |(i, j): (usize, usize)| {
                        let row = (r * pool.stride.0 + i).wrapping_sub(pool.padding.top);
                        let column = (c * pool.stride.1 + j).wrapping_sub(pool.padding.left);
                        if row < plane.height && column < plane.width {
                            spikes[row * plane.width + column]
                        } else {
                            0.0
                        }
                    };
                    window.map(value).sum::<f32>() * plane.share
                } else {
                    -1.0
                };
                assert_eq!(out[y * columns + x], want, "{plane:?} at {y}, {x}");
            }
        }
    }

    #[test]
    fn of_a_maximum_a_window_has_fired_as_often_as_its_most_active_neuron() {
        for plane in planes(Pooling::Max) {
            let mut fired = vec![0.0; plane.neurons()];
            let mut sent = vec![0.0; plane.padded_len()];
            let mut random = escape_network::rng::Stream::new(3, plane.neurons() as u64);
            let pool = plane.pool.unwrap();
            for _ in 0..6 {
                let spikes: Vec<f32> = fired.iter().map(|_| f32::from(random.uniform() < 0.4)).collect();
                let totals: Vec<f32> = fired.iter().zip(&spikes).map(|(a, b)| a + b).collect();
                let mut out = vec![0.0; plane.padded_len()];
                plane.pool_into(&spikes, &mut fired, &mut out);
                assert_eq!(fired, totals);
                assert!(out.iter().all(|&v| v == 0.0 || v == 1.0));
                sent.iter_mut().zip(&out).for_each(|(sent, now)| *sent += now);
                for (r, c) in (0..plane.pooled.0).flat_map(|r| (0..plane.pooled.1).map(move |c| (r, c))) {
                    let inside = |(i, j): (usize, usize)| {
                        let row = (r * pool.stride.0 + i).checked_sub(pool.padding.top)?;
                        let column = (c * pool.stride.1 + j).checked_sub(pool.padding.left)?;
                        (row < plane.height && column < plane.width)
                            .then_some(totals[row * plane.width + column])
                    };
                    let window = (0..pool.kernel.0).flat_map(|i| (0..pool.kernel.1).map(move |j| (i, j)));
                    let most = window.filter_map(inside).fold(0.0, f32::max);
                    assert_eq!(sent[plane.row(r).start + c], most);
                }
            }
        }
    }

    #[test]
    fn of_a_maximum_the_leader_is_the_first_of_the_most_active() {
        let pool = Pool { stride: (1, 2), ..Pool::new(Pooling::Max, (2, 2)) };
        let plane =
            Plane { height: 2, width: 4, pool: Some(pool), pooled: (1, 2), share: 1.0, padding: BORDER };
        let mut leaders = Vec::new();
        plane.leaders(&[0.0, 3.0, 1.0, 0.0, 3.0, 2.0, 0.0, 5.0], &mut leaders);
        assert_eq!(leaders, [1, 7]);
    }

    #[test]
    fn unpooling_is_the_transpose_of_pooling() {
        // <pool(a), b> = <a, unpool(b)> for all a, b.
        for plane in planes(AVERAGE) {
            let a: Vec<f32> = (0..plane.neurons()).map(|i| (i * 7 % 5) as f32).collect();
            let b: Vec<f32> = (0..plane.padded_len()).map(|i| (i * 5 % 7) as f32 - 3.0).collect();
            let (mut pooled, mut back) = (vec![0.0; b.len()], vec![9.0; a.len()]);
            plane.pool_into(&a, &mut [], &mut pooled);
            plane.unpool_from(&b, &mut back);
            let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f32>();
            assert!((dot(&pooled, &b) - dot(&a, &back)).abs() < 1e-3, "{plane:?}");
        }
    }

    #[test]
    fn counts() {
        let v = [0.0, 1.0, 0.25, -1.0, 0.0, -0.0];
        assert_eq!(count_nonzero(&v), 3);
        assert_eq!(weigh_nonzero(&v, &[1, 2, 4, 8, 16, 32]), 14);
    }

    #[test]
    fn the_published_readout_adds_the_softmax_of_its_spikes() {
        let (mut u, mut m, mut s) = ([2.0, 0.0, 0.0], [0.0; 3], [0.0; 3]);
        published_readout_step(BEFORE, &mut u, &[0.5, 0.25, 0.0], &mut m, &mut s);
        let e = std::f32::consts::E;
        assert_eq!(s, [1.0, 0.0, 0.0]);
        assert_eq!(m, [1.0, -1.0, -1.0]);
        for (got, want) in u.iter().zip([1.5 + e / (e + 2.0), 0.25 + 1.0 / (e + 2.0), 1.0 / (e + 2.0)]) {
            assert!((got - want).abs() < 1e-6);
        }
    }
}
