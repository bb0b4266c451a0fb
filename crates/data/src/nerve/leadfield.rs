//! The potential at the cuff's wall from a point source inside: an insulated cylinder of anisotropic
//! conductivity whose ends are grounded.
//!
//! Letters: a inner radius of the cuff, L its length, s distance of the source from the axis over a, z and z0
//! axial positions of contact and source, d = z - z0, theta the angle between them, n angular order, kappa a
//! positive zero of J_n'. Lengths in millimetres, conductivities in S/m. Potentials are per current:
//! microvolt per nanoampere, which is kiloohm.
//!
//! ```text
//! G = common(z, z0) + sum over n >= 0 of F_n(s, d) cos(n theta)
//! common = min(z, z0) (L - max(z, z0)) / (L sigma_z pi a^2)
//! F_n = w_n / (pi a sqrt(sigma_r sigma_z))
//!     * sum over kappa of J_n(kappa s) / (kappa (1 - n^2 / kappa^2) J_n(kappa)) * exp(-kappa rho |d| / a)
//! ```
//!
//! with rho = sqrt(sigma_r / sigma_z), w_0 = 1/2, w_n = 1. `docs/nerve.md` derives them. F_n takes the cylinder
//! for infinite: F_1, which reaches farthest, falls by e in 0.7 to 0.9 mm, and the end rings are 2.5 mm from the ends.

use std::f64::consts::PI;

/// Highest angular order: J_n is so small near the axis that order 13 adds less than a percent of the potential
/// of a fibre at s = 0.85.
pub(super) const ORDERS: usize = 13;
/// Zeros of J_n' up to here; a contact of 0.2 mm averages what is beyond to less than a percent.
const KAPPA_MAX: f64 = 100.0;
/// Greatest axial distance in the table, in units of a: F_1 has fallen to exp(-8) where sigma_r / sigma_z is as in
/// [`STANDARD`]. Elsewhere it falls as far in a length of its own.
const REACH: f64 = 11.5;
/// sigma_r / sigma_z of the standard nerve.
const STANDARD: f64 = 0.083 / 0.57;
/// Steps of the table along s (0 to [`MAX_DEPTH`]) and along |d|.
const STEPS: [usize; 2] = [90, 400];

/// The deepest a fibre may lie, in radii: perineurium and epineurium lie between fibres and wall, and at the wall
/// itself the potential has no bound.
pub(super) const MAX_DEPTH: f64 = 0.9;

/// J_n(x), the Bessel function of the first kind.
fn bessel(n: usize, x: f64) -> f64 {
    libm::jn(n as i32, x)
}

/// J_n'(x) = (J_(n-1)(x) - J_(n+1)(x)) / 2.
fn bessel_slope(n: usize, x: f64) -> f64 {
    if n == 0 { -bessel(1, x) } else { (bessel(n - 1, x) - bessel(n + 1, x)) / 2.0 }
}

/// The positive zeros of J_n' up to `limit`, in ascending order.
fn slope_zeros(n: usize, limit: f64) -> Vec<f64> {
    // Zeros are more than 3 apart, and the first one is above n (above 3 for n = 0).
    const STEP: f64 = 0.5;
    let mut zeros = Vec::new();
    let mut low = (n as f64).max(0.1);
    while low < limit {
        let high = low + STEP;
        let sign = bessel_slope(n, low) > 0.0;
        if sign != (bessel_slope(n, high) > 0.0) {
            let (mut a, mut b) = (low, high);
            // Each step halves the interval: to the last bit.
            for _ in 0..60 {
                let middle = (a + b) / 2.0;
                if (bessel_slope(n, middle) > 0.0) == sign { a = middle } else { b = middle }
            }
            zeros.push((a + b) / 2.0);
        }
        low = high;
    }
    zeros.retain(|&zero| zero <= limit);
    zeros
}

/// Mean of exp(-k |x|) over x from d - w/2 to d + w/2: what a contact of length w sees of a decaying field.
fn mean_decay(k: f64, d: f64, w: f64) -> f64 {
    let (d, half) = (d.abs(), k * w / 2.0);
    // Written so that no exponential can overflow.
    if half < 1e-9 {
        (-k * d).exp()
    } else if d >= w / 2.0 {
        (half - k * d).exp() * (1.0 - (-2.0 * half).exp()) / (2.0 * half)
    } else {
        (1.0 - ((k * d - half).exp() + (-k * d - half).exp()) / 2.0) / half
    }
}

/// Mean of cos(n x) over a contact of the angle `width` around 0.
fn mean_cosine(n: usize, width: f64) -> f64 {
    let half = n as f64 * width / 2.0;
    if half < 1e-9 { 1.0 } else { half.sin() / half }
}

/// Size and conductivity of the cuff's inside.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cylinder {
    /// a, in mm.
    pub radius: f64,
    /// L, in mm.
    pub length: f64,
    /// sigma_z, in S/m.
    pub axial: f64,
    /// sigma_r, in S/m.
    pub radial: f64,
    /// Size of a contact along the cuff and around it, in mm.
    pub contact: [f64; 2],
}

impl Cylinder {
    /// The part of the potential that is the same all around: kiloohm, for z and z0 in mm.
    pub(super) fn common(&self, z: f64, z0: f64) -> f64 {
        let (low, high) = (z.min(z0), z.max(z0));
        // mm * mm / (mm * S/m * mm^2) = 1e3 ohm.
        low.max(0.0) * (self.length - high).max(0.0)
            / (self.length * self.axial * PI * self.radius * self.radius)
    }

    /// kappa rho / a: how fast the mode of a zero falls along the cuff, per mm.
    fn decay(&self, kappa: f64) -> f64 {
        kappa * (self.radial / self.axial).sqrt() / self.radius
    }

    /// The length in which F_1, the part that reaches farthest, falls by e, in mm.
    pub(super) fn angular_reach(&self) -> f64 {
        /// First zero of J_1'.
        const KAPPA: f64 = 1.841_183_781_340_659;
        self.decay(KAPPA).recip()
    }

    /// w_n / (pi a sqrt(sigma_r sigma_z)), in kiloohm.
    fn unit(&self, n: usize) -> f64 {
        let weight = if n == 0 { 0.5 } else { 1.0 };
        weight / (PI * self.radius * (self.radial * self.axial).sqrt())
    }
}

/// J_n(kappa s) / (kappa (1 - n^2 / kappa^2) J_n(kappa)): what a mode contributes at the wall.
fn at_wall(n: usize, kappa: f64, s: f64) -> f64 {
    let order = n as f64 / kappa;
    bessel(n, kappa * s) / (kappa * (1.0 - order * order) * bessel(n, kappa))
}

/// F_n for all orders on a grid of depths and axial distances, averaged over a contact's area.
pub(super) struct LeadField {
    /// Steps of s, then of |d|, then orders.
    values: Vec<[f64; ORDERS]>,
    /// Axial distance of a step, in mm.
    step: f64,
}

impl LeadField {
    pub(super) fn new(cylinder: &Cylinder) -> Self {
        let [depths, distances] = STEPS;
        let longer = (STANDARD / (cylinder.radial / cylinder.axial)).sqrt();
        let step = REACH * longer * cylinder.radius / distances as f64;
        let mut values = vec![[0.0; ORDERS]; (depths + 1) * (distances + 1)];
        let [along, around] = cylinder.contact;
        for n in 0..ORDERS {
            let unit = cylinder.unit(n) * mean_cosine(n, around / cylinder.radius);
            for kappa in slope_zeros(n, KAPPA_MAX) {
                let decay = cylinder.decay(kappa);
                let seen: Vec<f64> =
                    (0..=distances).map(|k| mean_decay(decay, step * k as f64, along)).collect();
                for (i, row) in values.chunks_exact_mut(distances + 1).enumerate() {
                    let weight = unit * at_wall(n, kappa, MAX_DEPTH * i as f64 / depths as f64);
                    row.iter_mut().zip(&seen).for_each(|(value, seen)| value[n] += weight * seen);
                }
            }
        }
        Self { values, step }
    }

    /// Greatest distance from which a source is seen, in mm.
    pub(super) fn reach(&self) -> f64 {
        self.step * STEPS[1] as f64
    }

    /// F_n(s, d) of every order, in kiloohm, for d in mm: linear between the grid's points, 0 beyond its reach.
    pub(super) fn at(&self, s: f64, d: f64) -> [f64; ORDERS] {
        let [depths, distances] = STEPS;
        let (i, u) = cell(s / MAX_DEPTH * depths as f64, depths);
        let far = d.abs() / self.step;
        if far >= distances as f64 {
            return [0.0; ORDERS];
        }
        let (j, v) = cell(far, distances);
        let value = |i: usize, j: usize| &self.values[i * (distances + 1) + j];
        let corners = [value(i, j), value(i, j + 1), value(i + 1, j), value(i + 1, j + 1)];
        let weights = [(1.0 - u) * (1.0 - v), (1.0 - u) * v, u * (1.0 - v), u * v];
        std::array::from_fn(|n| corners.iter().zip(weights).map(|(corner, weight)| corner[n] * weight).sum())
    }
}

/// The cell of a grid of `cells` cells that `x` lies in, and where in it (0 to 1).
fn cell(x: f64, cells: usize) -> (usize, f64) {
    let index = (x.max(0.0) as usize).min(cells - 1);
    (index, (x - index as f64).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUFF: Cylinder =
        Cylinder { radius: 0.55, length: 23.0, axial: 0.57, radial: 0.083, contact: [0.0, 0.0] };

    fn near(got: f64, expected: f64, relative: f64) {
        assert!(
            (got - expected).abs() <= relative * expected.abs(),
            "expected {expected} within {relative}, got {got}"
        );
    }

    /// The potential without the common part at any radius `r` (1 is the wall), as the series has it.
    fn modes(s: f64, r: f64, theta: f64, d: f64, limit: f64) -> f64 {
        let order = |n: usize| {
            let sum: f64 = slope_zeros(n, limit)
                .iter()
                .map(|&k| {
                    at_wall(n, k, s) * bessel(n, k * r) / bessel(n, k) * (-CUFF.decay(k) * d.abs()).exp()
                })
                .sum();
            CUFF.unit(n) * (n as f64 * theta).cos() * sum
        };
        (0..(limit * 0.8) as usize).map(order).sum()
    }

    /// Zeros and values of SciPy 1.17: `jnp_zeros`, `jv`.
    #[test]
    fn bessel_functions_are_scipy_s() {
        let zeros = |n: usize| slope_zeros(n, 20.0);
        let known: [(usize, &[f64]); 4] = SCIPY_ZEROS;
        for (n, expected) in known {
            let got = zeros(n);
            assert!(got.len() >= expected.len(), "order {n}: {got:?}");
            got.iter().zip(expected).for_each(|(&got, &expected)| near(got, expected, 1e-12));
        }
        for (n, x, value) in SCIPY_VALUES {
            assert!((bessel(n, x) - value).abs() < 1e-13, "J_{n}({x}): {} for {value}", bessel(n, x));
        }
        // None is left out: asymptotically they are pi apart.
        near(CUFF.angular_reach(), CUFF.decay(slope_zeros(1, 2.0)[0]).recip(), 1e-12);
        for n in 0..ORDERS {
            for pair in slope_zeros(n, KAPPA_MAX).windows(2) {
                assert!((3.0..5.0).contains(&(pair[1] - pair[0])), "order {n}: {pair:?}");
            }
        }
    }

    const SCIPY_ZEROS: [(usize, &[f64]); 4] = [
        (0, &[3.831_705_970_207_512_5, 7.015_586_669_815_619, 10.173_468_135_062_722]),
        (1, &[1.841_183_781_340_659_5, 5.331_442_773_525_032_5, 8.536_316_366_346_286]),
        (5, &[6.415_616_375_700_241, 10.519_860_873_772_307, 13.987_188_630_140_3]),
        (12, &[13.878_843_069_697_277, 18.745_090_916_814_405]),
    ];
    const SCIPY_VALUES: [(usize, f64, f64); 6] = [
        (0, 0.3, 0.977_626_246_538_296_1),
        (1, 1.841_183_781_340_659_3, 0.581_865_224_281_596_4),
        (3, 12.5, 0.110_008_136_314_349_29),
        (12, 40.0, -0.126_977_996_117_848_1),
        (7, 0.9, 7.228_504_729_110_356e-7),
        (12, 2.0, 1.932_695_148_723_99e-9),
    ];

    #[test]
    fn no_current_leaves_through_the_wall() {
        let slope = |r: f64, theta: f64| {
            let h = 1e-4;
            (modes(0.5, r + h, theta, 0.3, 60.0) - modes(0.5, r - h, theta, 0.3, 60.0)) / (2.0 * h)
        };
        for theta in [0.0, 0.3, 2.0] {
            let (wall, inside) = (slope(1.0, theta), slope(0.8, theta));
            assert!(wall.abs() < 1e-4 * inside.abs(), "angle {theta}: {wall} at the wall, {inside} inside");
        }
    }

    /// sigma_r (d2/dx2 + d2/dy2) + sigma_z d2/dz2 vanishes where there is no source.
    #[test]
    fn the_potential_conserves_current() {
        let h = 3e-3;
        let at = |x: f64, y: f64, z: f64| modes(0.5, x.hypot(y), y.atan2(x), z * CUFF.radius, 60.0);
        let (x, y, z) = (0.42, 0.43, 0.6);
        let centre = at(x, y, z);
        let across = at(x + h, y, z) + at(x - h, y, z) + at(x, y + h, z) + at(x, y - h, z) - 4.0 * centre;
        let along = at(x, y, z + h) + at(x, y, z - h) - 2.0 * centre;
        near(CUFF.radial * across, -CUFF.axial * along, 1e-3);
    }

    /// Close to the source the potential is that of a point source in an unbounded medium, 1 / (4 pi sigma_r
    /// sqrt(sigma_z / sigma_r x^2 + z^2)) with x across and z along, plus something that stays finite.
    #[test]
    fn the_source_has_unit_strength() {
        let excess = |x: f64| {
            let scaled = (CUFF.axial / CUFF.radial).sqrt() * x * CUFF.radius;
            modes(0.3, 0.3 + x, 0.0, 0.02, 260.0) - 1.0 / (4.0 * PI * CUFF.radial * scaled.hypot(0.02))
        };
        let (near_by, farther) = (excess(0.03), excess(0.06));
        let scale = 1.0 / (4.0 * PI * CUFF.radial * 0.05);
        assert!((near_by - farther).abs() < 0.01 * scale, "{near_by} and {farther} of {scale}");
        // All current that a source in the middle emits leaves through the ends, half through each: sigma_z pi
        // a^2 times the slope of the common part. The modes carry none: the mean of J_0(kappa r) is J_1(kappa).
        let slope = CUFF.common(16.0, 11.5) - CUFF.common(17.0, 11.5);
        near(slope * CUFF.axial * PI * CUFF.radius.powi(2), 0.5, 1e-12);
        for kappa in slope_zeros(0, 60.0) {
            assert!(bessel(1, kappa).abs() < 1e-13);
        }
    }

    #[test]
    fn source_and_contact_can_be_exchanged() {
        near(modes(0.5, 0.9, 0.7, 0.2, 60.0), modes(0.9, 0.5, 0.7, 0.2, 60.0), 1e-12);
        for (z, z0) in [(2.5, 7.0), (0.0, 3.0), (11.5, 11.5)] {
            assert_eq!(CUFF.common(z, z0), CUFF.common(z0, z));
        }
    }

    #[test]
    fn the_common_part_is_a_tent_between_grounded_ends() {
        assert_eq!([CUFF.common(0.0, 9.0), CUFF.common(23.0, 9.0), CUFF.common(9.0, 30.0)], [0.0; 3]);
        // r_e times half of the length in parallel with itself: r_e L / 4, r_e = 1 / (sigma_z pi a^2).
        near(CUFF.common(11.5, 11.5), 23.0 / 4.0 / (0.57 * PI * 0.3025), 1e-12);
        near(CUFF.common(4.0, 8.0), 2.0 * CUFF.common(2.0, 8.0), 1e-12);
    }

    /// Sum over orders and integral along the cuff: the potential of a line of sources of 1 nA/mm, in microvolt.
    fn line(field: &LeadField, s: f64, theta: f64, first_order: usize) -> f64 {
        let step = field.reach() / 4000.0;
        let at = |k: i32| -> f64 {
            let orders = field.at(s, (f64::from(k) + 0.5) * step);
            (first_order..ORDERS).map(|n| orders[n] * (n as f64 * theta).cos()).sum()
        };
        2.0 * step * (0..4000).map(at).sum::<f64>()
    }

    /// For sources that do not change along z the orders from 1 up become the logarithm of two dimensions,
    ///
    /// -ln(1 - 2 s cos theta + s^2) / (2 pi sigma_r),
    ///
    /// and order 0 becomes (s^2 - 1/2) / (4 pi sigma_r): the whole is Neumann's function of the disk.
    #[test]
    fn slow_fields_are_those_of_two_dimensions() {
        let field = LeadField::new(&CUFF);
        for (s, theta) in [(0.0, 0.0), (0.2, 1.0), (0.4, 0.0), (0.4, 2.0), (0.55, 0.5), (0.65, 3.0)] {
            let square: f64 = s * s;
            let logarithm = -(1.0 - 2.0 * s * f64::cos(theta) + square).ln() / (2.0 * PI * CUFF.radial);
            let scale = 1.0 / (2.0 * PI * CUFF.radial);
            let angular = line(&field, s, theta, 1);
            assert!((angular - logarithm).abs() < 0.01 * scale, "s {s}, {theta}: {angular} for {logarithm}");
            let all = line(&field, s, theta, 0);
            let neumann = logarithm + (square - 0.5) * scale / 2.0;
            assert!((all - neumann).abs() < 0.01 * scale, "s {s}, {theta}: {all} for {neumann}");
        }
    }

    #[test]
    fn the_table_is_the_series() {
        let field = LeadField::new(&CUFF);
        for (s, d) in [(0.404, 0.3), (0.651, 0.51), (0.8, 0.4), (0.1, 2.0)] {
            let orders = field.at(s, d);
            for (n, &got) in orders.iter().enumerate() {
                let exact: f64 = slope_zeros(n, 100.0)
                    .iter()
                    .map(|&k| CUFF.unit(n) * at_wall(n, k, s) * (-CUFF.decay(k) * d).exp())
                    .sum();
                assert!((got - exact).abs() < 2e-3 * orders[1], "s {s}, d {d}, order {n}: {got} for {exact}");
            }
            assert_eq!(field.at(s, -d), orders);
        }
        assert_eq!(field.at(0.5, 7.0), [0.0; ORDERS]);
        let closest: f64 = field.at(0.5, 0.0)[1];
        assert!(field.at(0.5, field.reach() * 0.999)[1] < 1e-3 * closest);
    }

    #[test]
    fn contacts_average_what_they_cover() {
        let mean = |f: &dyn Fn(f64) -> f64, from: f64, to: f64| {
            let step = (to - from) / 1e4;
            (0..10_000).map(|k| f(from + (f64::from(k) + 0.5) * step)).sum::<f64>() / 1e4
        };
        for d in [0.0, 0.04, 0.1, 0.7, -0.7] {
            near(mean_decay(3.0, d, 0.2), mean(&|x| (-3.0 * x.abs()).exp(), d - 0.1, d + 0.1), 1e-6);
        }
        near(mean_decay(3.0, 0.5, 0.0), (-1.5f64).exp(), 1e-12);
        near(mean_decay(1e5, 0.0, 0.2), 1e-4, 1e-12);
        assert_eq!(mean_decay(1e5, 0.2, 0.2), 0.0);
        near(mean_cosine(4, 0.36), mean(&|x| (4.0 * x).cos(), -0.18, 0.18), 1e-6);
        assert_eq!(mean_cosine(0, 0.36), 1.0);
    }
}
