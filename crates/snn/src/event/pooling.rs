//! From the spikes of a band of neurons to the input of the next layer.
//!
//! Letters: S steps of a block, H rows, W columns, C channels, L lanes (output channels, filled up); channels come last.

use std::ops::AddAssign;

use escape_network::sequential::Pool;

use super::number::Number;
use super::packed::{Band, LANES, Packed};

/// The windows of a band's pooling.
pub(super) struct Windows<'a, N: Number> {
    pub packed: &'a Packed<N>,
    pub band: &'a Band,
    pub pool: Pool,
    pub steps: usize,
    /// Values of the next layer's input before those that are written to.
    pub before: usize,
    /// The row of neurons with which counts begin.
    pub first_row: usize,
}

impl<N: Number> Windows<'_, N> {
    /// The pixels of a window that lie within the plane.
    fn each_pixel(&self, at: (usize, usize), mut look: impl FnMut(usize, usize)) {
        let (rows, columns) = self.pool.window(at, (self.packed.output.0, self.packed.output.1));
        for row in rows {
            columns.clone().for_each(|column| look(row, column));
        }
    }
}

/// A number of spikes in a plane.
pub(super) trait Count: Copy + Default + PartialEq + From<u8> + AddAssign {}

impl Count for u8 {}
impl Count for i16 {}

/// How many values are not zero.
#[inline(always)]
fn nonzero<V: Count>(values: &[V]) -> u64 {
    let mut all = 0;
    // So few at a time that a byte holds their number.
    for some in values.chunks(128) {
        all += u64::from(some.iter().map(|v| u8::from(*v != V::default())).sum::<u8>());
    }
    all
}

/// Adds up the spikes of each window. Returns how many sums are not zero.
#[inline(always)]
pub(super) fn add_up<N: Number, V: Count>(
    windows: &Windows<'_, N>,
    spikes: &[u8],
    pixels: &mut Vec<usize>,
    (next, to): (&Packed<N>, &mut [V]),
    operations: &mut [u64],
    sum: impl Fn(&[u8], &[usize], &mut [V]) -> u64,
) -> u64 {
    let Windows { packed, band, steps, .. } = *windows;
    let (columns, channels, lanes) = (packed.output.1, packed.output.2, packed.lanes());
    let (outputs, filled) = packed.group;
    let mut arrivals = 0;
    for r in band.pooled.clone() {
        for c in 0..packed.pooled.1 {
            // Where the spikes of the window's pixels begin.
            pixels.clear();
            windows.each_pixel((r, c), |row, column| {
                pixels.push(((row - band.rows.start) * columns + column) * steps * lanes);
            });
            let (at, reaches) = (next.frame.at(r, c) - windows.before, next.reaches(r, c));
            for (s, operations) in operations.iter_mut().enumerate() {
                let to = &mut to[s * next.frame.step() + at..][..channels];
                let mut some = 0;
                for (g, to) in to.chunks_exact_mut(outputs).enumerate() {
                    some += sum(&spikes[s * lanes + g * filled..], pixels, to);
                }
                arrivals += some;
                *operations += some * reaches;
            }
        }
    }
    arrivals
}

/// Sums over a window's pixels, which begin at some places of `spikes`; how many are not zero.
#[inline(always)]
pub(super) fn window<V: Count>(spikes: &[u8], pixels: &[usize], to: &mut [V]) -> u64 {
    let mut some = 0;
    for (lane, to) in (0..).step_by(LANES).zip(to.chunks_mut(LANES)) {
        to.fill(V::default());
        for pixel in pixels {
            for (to, spike) in to.iter_mut().zip(&spikes[pixel + lane..]) {
                *to += V::from(*spike);
            }
        }
        some += nonzero(to);
    }
    some
}

/// Lets a window spike whenever the largest of its neurons' counts grows. Returns how often that is.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2", "aarch64+neon"))]
pub(super) fn lead<N: Number>(
    windows: &Windows<'_, N>,
    spikes: &[u8],
    counts: &mut [u32],
    own: &mut Vec<u32>,
    (next, to): (&Packed<N>, &mut [u8]),
    operations: &mut [u64],
) -> u64 {
    let Windows { packed, band, steps, .. } = *windows;
    let (columns, channels, lanes) = (packed.output.1, packed.output.2, packed.lanes());
    let (outputs, filled) = packed.group;
    let mut arrivals = 0;
    // The largest counts, what the window sends, and each neuron's counts.
    own.resize((windows.pool.kernel.0 * windows.pool.kernel.1 + 2) * lanes, 0);
    let (largest, rest) = own.split_at_mut(lanes);
    let (gains, own) = rest.split_at_mut(lanes);
    for (r, c) in band.pooled.clone().flat_map(|r| (0..packed.pooled.1).map(move |c| (r, c))) {
        let mut pixels = 0;
        windows.each_pixel((r, c), |row, column| {
            let from = &counts[((row - windows.first_row) * columns + column) * lanes..][..lanes];
            own[pixels * lanes..][..lanes].copy_from_slice(from);
            pixels += 1;
        });
        let own = &mut own[..pixels * lanes];
        let (at, reaches) = (next.frame.at(r, c) - windows.before, next.reaches(r, c));
        for (s, operations) in operations.iter_mut().enumerate() {
            // What the most active one has had before this step.
            largest.fill(0);
            for own in own.chunks_exact(lanes) {
                largest.iter_mut().zip(own).for_each(|(most, n)| *most = (*most).max(*n));
            }
            // It has gained a spike if one that had as many fires now.
            gains.fill(0);
            let mut own = own.chunks_exact_mut(lanes);
            windows.each_pixel((r, c), |row, column| {
                let pixel = (row - band.rows.start) * columns + column;
                let from = &spikes[(pixel * steps + s) * lanes..][..lanes];
                let Some(own) = own.next() else { return };
                for (((gain, own), spike), most) in gains.iter_mut().zip(own).zip(from).zip(&*largest) {
                    *gain |= u32::from(*spike) & u32::from(*own == *most);
                    *own += u32::from(*spike);
                }
            });
            let to = &mut to[s * next.frame.step() + at..][..channels];
            for (to, from) in to.chunks_exact_mut(outputs).zip(gains.chunks_exact(filled)) {
                to.iter_mut().zip(from).for_each(|(to, gain)| *to = *gain as u8);
            }
            let some = nonzero(to);
            arrivals += some;
            *operations += some * reaches;
        }
    }
    let first = (band.rows.start - windows.first_row) * columns * lanes;
    let counts = &mut counts[first..][..band.rows.len() * columns * lanes];
    for (counts, spikes) in counts.chunks_exact_mut(lanes).zip(spikes.chunks_exact(steps * lanes)) {
        for spikes in spikes.chunks_exact(lanes) {
            counts.iter_mut().zip(spikes).for_each(|(n, spike)| *n += u32::from(*spike));
        }
    }
    arrivals
}
