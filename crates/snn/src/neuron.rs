//! What an integrate-and-fire neuron does in one timestep, and the same for a whole plane of neurons.
//!
//! Letters: T timesteps, H rows, W columns of one channel's plane.
//! u membrane potential, I synaptic current, theta threshold, decay the factor that u keeps, s spike (0 or 1),
//! m = v/theta - 1 the normalised distance of the deciding potential v from the threshold.

/// When in a timestep a neuron decides to fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firing {
    /// Before this step's input arrives, as in the study: each layer adds a step of delay.
    /// v = u; s = \[m > 0\]; u <- decay u + I - theta s.
    BeforeInput,
    /// After it: v = decay u + I; s = \[m > 0\]; u <- v - theta s.
    AfterInput,
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
    pub fn threshold(self) -> f32 {
        self.threshold
    }

    /// Fraction of the potential that survives a step.
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
}

/// One neuron, one step: (m, s, next u). The roundings are those of the study's PyTorch program,
/// `leak * u + current - theta * spike` from left to right in float32.
#[inline(always)]
pub fn step(dynamics: Dynamics, u: f32, current: f32) -> (f32, f32, f32) {
    let Dynamics { neuron: Neuron { threshold, decay }, firing } = dynamics;
    let integrated = decay * u + current;
    let deciding = match firing {
        Firing::BeforeInput => u,
        Firing::AfterInput => integrated,
    };
    let m = deciding / threshold - 1.0;
    let spike = if m > 0.0 { 1.0 } else { 0.0 };
    (m, spike, integrated - threshold * spike)
}

/// One step of many neurons: updates `u`, writes `spikes`.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2", "aarch64+neon"))]
pub fn step_all(dynamics: Dynamics, u: &mut [f32], current: &[f32], spikes: &mut [f32]) {
    // The rule is chosen outside the loop so that the loop vectorises.
    match dynamics.firing {
        Firing::BeforeInput => each(Dynamics { firing: Firing::BeforeInput, ..dynamics }, u, current, spikes),
        Firing::AfterInput => each(Dynamics { firing: Firing::AfterInput, ..dynamics }, u, current, spikes),
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

/// How one channel's plane of spikes is handed to the next layer: averaged over pool x pool windows, and
/// set into a frame of zeros that the next convolution's `same` padding asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plane {
    /// Rows before pooling.
    pub height: usize,
    /// Columns before pooling.
    pub width: usize,
    /// Side and stride of the pooling window; 1 for none. Rows and columns left over are dropped.
    pub pool: usize,
    /// Zeros before and after, in both directions.
    pub padding: (usize, usize),
}

impl Plane {
    /// Neurons in the plane.
    pub fn neurons(&self) -> usize {
        self.height * self.width
    }

    /// Rows and columns after pooling.
    pub fn pooled(&self) -> (usize, usize) {
        (self.height / self.pool, self.width / self.pool)
    }

    /// Rows and columns of the padded result.
    pub fn padded(&self) -> (usize, usize) {
        let border = self.padding.0 + self.padding.1;
        (self.pooled().0 + border, self.pooled().1 + border)
    }

    /// Size of the padded result.
    pub fn padded_len(&self) -> usize {
        self.padded().0 * self.padded().1
    }

    /// Where row `r` of the pooled plane lies in the padded one.
    pub fn row(&self, r: usize) -> std::ops::Range<usize> {
        let start = (r + self.padding.0) * self.padded().1 + self.padding.0;
        start..start + self.pooled().1
    }

    /// Pools `spikes` (H x W) into the inside of `out` (padded; its border is left as it is).
    pub fn pool_into(&self, spikes: &[f32], out: &mut [f32]) {
        for r in 0..self.pooled().0 {
            let target = &mut out[self.row(r)];
            match self.pool {
                1 => target.copy_from_slice(&spikes[r * self.width..][..self.width]),
                2 => pool_pairs(&spikes[2 * r * self.width..][..2 * self.width], target),
                n => {
                    let scale = 1.0 / (n * n) as f32;
                    for (c, value) in target.iter_mut().enumerate() {
                        let window = (0..n).flat_map(|i| &spikes[(r * n + i) * self.width + c * n..][..n]);
                        *value = window.sum::<f32>() * scale;
                    }
                }
            }
        }
    }

    /// The way back from [`Plane::pool_into`]: each neuron's share of the gradient of a padded result, 0
    /// for rows and columns that were dropped.
    pub fn unpool_from(&self, padded: &[f32], out: &mut [f32]) {
        let n = self.pool;
        let scale = 1.0 / (n * n) as f32;
        if self.pooled().0 * n < self.height || self.pooled().1 * n < self.width {
            out.fill(0.0);
        }
        for r in 0..self.pooled().0 {
            let source = &padded[self.row(r)];
            for row in out[r * n * self.width..].chunks_mut(self.width).take(n) {
                match n {
                    1 => row.copy_from_slice(source),
                    _ => row.chunks_exact_mut(n).zip(source).for_each(|(window, g)| window.fill(g * scale)),
                }
            }
        }
    }
}

/// Means of 2 x 2 windows over two rows.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2", "aarch64+neon"))]
fn pool_pairs(rows: &[f32], out: &mut [f32]) {
    let (upper, lower) = rows.split_at(rows.len() / 2);
    for ((value, a), b) in out.iter_mut().zip(upper.chunks_exact(2)).zip(lower.chunks_exact(2)) {
        *value = (a[0] + a[1] + b[0] + b[1]) * 0.25;
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

    const BEFORE: Dynamics =
        Dynamics { neuron: Neuron { threshold: 1.0, decay: 1.0 }, firing: Firing::BeforeInput };
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

    #[test]
    fn pooling_averages_inside_the_padding() {
        for (pool, height, width) in [(1, 3, 4), (2, 4, 6), (2, 5, 7), (4, 9, 8)] {
            let plane = Plane { height, width, pool, padding: (1, 2) };
            let spikes: Vec<f32> = (0..plane.neurons()).map(|i| f32::from(i * 7 % 3 == 0)).collect();
            let mut out = vec![-1.0; plane.padded_len()];
            plane.pool_into(&spikes, &mut out);
            let (rows, columns) = plane.padded();
            for (y, x) in (0..rows).flat_map(|y| (0..columns).map(move |x| (y, x))) {
                let inside = (1..rows - 2).contains(&y) && (1..columns - 2).contains(&x);
                let want = if inside {
                    let window = (0..pool).flat_map(|i| (0..pool).map(move |j| (i, j)));
                    let sum: f32 =
                        window.map(|(i, j)| spikes[((y - 1) * pool + i) * width + (x - 1) * pool + j]).sum();
                    sum / (pool * pool) as f32
                } else {
                    -1.0
                };
                assert_eq!(out[y * columns + x], want, "pool {pool} at {y}, {x}");
            }
        }
    }

    #[test]
    fn unpooling_is_the_transpose_of_pooling() {
        // <pool(a), b> = <a, unpool(b)> for all a, b.
        for (pool, height, width) in [(1, 3, 4), (2, 4, 6), (2, 5, 7), (4, 9, 8)] {
            let plane = Plane { height, width, pool, padding: (1, 2) };
            let a: Vec<f32> = (0..plane.neurons()).map(|i| (i * 7 % 5) as f32).collect();
            let b: Vec<f32> = (0..plane.padded_len()).map(|i| (i * 5 % 7) as f32 - 3.0).collect();
            let (mut pooled, mut back) = (vec![0.0; b.len()], vec![9.0; a.len()]);
            plane.pool_into(&a, &mut pooled);
            plane.unpool_from(&b, &mut back);
            let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f32>();
            assert!((dot(&pooled, &b) - dot(&a, &back)).abs() < 1e-3);
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
