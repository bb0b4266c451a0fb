//! The inner loops, and which instructions they use.
//!
//! Letters: P pixels of a chunk, S steps, L lanes (output channels, filled up).

use std::ops::Range;

use crate::integer::{NO_DECAY, step};

use super::number::{Chunk, Neurons, Number};
use super::packed::{BLOCK, LANES, LARGEST_BYTE, ORDER, Packed};
use super::plane::{Frame, Lists};
use super::pooling::{self, Count, Windows, window};
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};

/// Which instructions the inner loops use. Results are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instructions {
    /// What the compiler makes of plain Rust, for whatever the machine has.
    Portable,
    /// AVX2 of x86-64 processors.
    Avx2,
    /// AVX-512 of x86-64 processors, with VNNI.
    Avx512,
}

impl Instructions {
    /// Those that this machine has, the best last.
    pub fn available() -> Vec<Self> {
        let mut all = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("popcnt") {
            all.push(Self::Avx2);
            if std::arch::is_x86_feature_detected!("avx512f")
                && std::arch::is_x86_feature_detected!("avx512bw")
                && std::arch::is_x86_feature_detected!("avx512vl")
                && std::arch::is_x86_feature_detected!("avx512vnni")
                && std::arch::is_x86_feature_detected!("avx512vbmi2")
            {
                all.push(Self::Avx512);
            }
        }
        all
    }

    /// The best of them.
    pub fn best() -> Self {
        Self::available().pop().unwrap_or(Self::Portable)
    }

    /// Values that dense kernels take together: a part of a run, of bytes and of words.
    pub(super) fn together(self) -> (usize, usize) {
        match self {
            Self::Portable => (1, 1),
            Self::Avx2 | Self::Avx512 => (4, 2),
        }
    }

    /// Whether this machine has them.
    pub fn are_available(self) -> bool {
        Self::available().contains(&self)
    }
}

/// Sums of P pixels over S steps from whole planes.
#[derive(Clone, Copy)]
pub(super) struct Dense<'a, V, W> {
    /// The input's frames, one for each step.
    pub values: &'a [V],
    /// Of one group: blocks x runs x parts x outputs x values of a part.
    pub weights: &'a [W],
    /// Where runs begin, from a window's first value on.
    pub runs: &'a [usize],
    /// Parts of a run, see [`Instructions::together`].
    pub parts: usize,
    pub pixels: usize,
    pub steps: usize,
    /// Where the first window begins, and how far the next one and the next step are.
    pub first: usize,
    pub per_pixel: usize,
    pub per_step: usize,
    /// So many parts can be summed up in 16 bits.
    pub budget: usize,
    /// P x S x L sums, of which this group has `group` from `lane` on.
    pub lanes: usize,
    pub lane: usize,
    pub group: usize,
}

/// Sums of P pixels over S steps from lists.
#[derive(Clone, Copy)]
pub(super) struct Listed<'a, V, W> {
    pub lists: &'a Lists<V>,
    /// Blocks of 64 outputs and one of 32, in each runs x values x outputs.
    pub weights: &'a [W],
    /// All runs of a kernel, those to be added, and values of a run.
    pub all_runs: usize,
    pub runs: (usize, usize),
    pub run: usize,
    /// Pixels under a run.
    pub across: usize,
    /// Where the lists of the first window's first pixel begin.
    pub pixel: usize,
    /// The place of that pixel's first value in its row.
    pub value: usize,
    /// Pixels from one window to the next.
    pub per_pixel: usize,
    /// Channels of a pixel.
    pub channels: usize,
    /// How much further lists begin of the next row of the frame, and of the next step.
    pub row: usize,
    pub step: usize,
    pub pixels: usize,
    pub steps: usize,
    /// The sum of bytes that 16 bits hold, whatever their weights.
    pub mass: u64,
    pub lanes: usize,
}

/// Neurons in whole numbers.
pub(super) struct Fire<'a, 'b> {
    pub neurons: &'a mut Neurons<'b, i32>,
    pub thresholds: &'a [i32],
    pub decay: i32,
}

#[cfg(target_arch = "x86_64")]
impl<V, W> Dense<'_, V, W> {
    /// Panics where a kernel would leave its slices. `N` values are a part.
    #[inline]
    pub fn check<const N: usize>(&self, sums: usize) {
        let last = self.runs.iter().max().map_or(0, |run| run + self.parts * N);
        let windows = (self.steps - 1) * self.per_step + self.first + (self.pixels - 1) * self.per_pixel;
        assert!(windows + last <= self.values.len());
        assert!(self.group.is_multiple_of(BLOCK) && self.lane + self.group <= self.lanes);
        assert!(self.weights.len() >= self.group * self.runs.len() * self.parts * N);
        assert!(self.pixels * self.steps * self.lanes <= sums);
    }

    /// Tiles of so many pixels, the largest of `sizes` that are left, and of 16 outputs: their weights, the first one's window, their
    /// sums.
    #[inline(always)]
    pub unsafe fn each_tile(
        &self,
        sums: &mut [i32],
        sizes: &[usize],
        mut each: impl FnMut(*const W, *const V, *mut i32, usize),
    ) {
        let block = self.weights.len() / (self.group / BLOCK);
        for s in 0..self.steps {
            for b in 0..self.group / BLOCK {
                let mut p = 0;
                while p < self.pixels {
                    let left = self.pixels - p;
                    let pixels = sizes.iter().copied().find(|&size| size <= left).unwrap_or(1);
                    // SAFETY: see `check`.
                    unsafe {
                        let values =
                            self.values.as_ptr().add(s * self.per_step + self.first + p * self.per_pixel);
                        let at = (p * self.steps + s) * self.lanes + self.lane + b * BLOCK;
                        each(self.weights.as_ptr().add(b * block), values, sums.as_mut_ptr().add(at), pixels);
                    }
                    p += pixels;
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl Fire<'_, '_> {
    /// Panics where a kernel would leave its slices. Returns how many pixels there are.
    #[inline]
    pub fn check(&self) -> usize {
        let Self { neurons, thresholds, .. } = self;
        let (lanes, steps) = (thresholds.len(), neurons.fired.len());
        let pixels = neurons.u.len() / lanes;
        assert!(lanes.is_multiple_of(LANES) && neurons.spikes.len() >= pixels * steps * lanes);
        assert!(neurons.current.len() >= pixels * lanes * if neurons.constant { 1 } else { steps });
        pixels
    }
}

impl Instructions {
    /// Adds sums of bytes.
    pub(super) fn narrow(self, work: &Dense<'_, u8, i8>, sums: &mut [i32]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: engines and layers only keep instructions that this machine has, see `Event::new`, `Event::with` and
            // `WholeLayer::of`.
            Self::Avx2 => unsafe { avx2::narrow(work, sums) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Self::Avx512 => unsafe { avx512::narrow(work, sums) },
            _ => planes(work, sums),
        }
    }

    /// Adds sums of words.
    pub(super) fn wide(self, work: &Dense<'_, i16, i16>, sums: &mut [i32]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Self::Avx2 => unsafe { avx2::wide(work, sums) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Self::Avx512 => unsafe { avx512::wide(work, sums) },
            _ => planes(work, sums),
        }
    }

    /// Adds sums of what is listed.
    pub(super) fn listed(self, work: &Listed<'_, u8, i8>, sums: &mut [i32]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Self::Avx2 => unsafe { avx2::listed(work, sums) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Self::Avx512 => unsafe { avx512::listed(work, sums) },
            _ => listed(work, sums),
        }
    }

    /// Steps neurons.
    pub(super) fn fire(self, fire: &mut Fire<'_, '_>) {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Self::Avx2 => unsafe { avx2::fire(fire) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Self::Avx512 => unsafe { avx512::fire(fire) },
            _ => step_all(fire),
        }
    }

    /// Adds sums of what is listed in float32.
    pub(super) fn listed_floats(self, work: &Listed<'_, f32, f32>, sums: &mut [f32]) {
        listed_floats(work, sums);
    }

    /// Adds up the spikes of each window, see [`pooling::add_up`], in bytes.
    pub(super) fn add_up_bytes<N: Number>(
        self,
        windows: &Windows<'_, N>,
        spikes: &[u8],
        pixels: &mut Vec<usize>,
        next: (&Packed<N>, &mut [u8]),
        operations: &mut [u64],
    ) -> u64 {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Self::Avx2 | Self::Avx512 => unsafe { avx2::add_up(windows, spikes, pixels, next, operations) },
            _ => add_up(windows, spikes, pixels, next, operations),
        }
    }

    /// The same in words.
    pub(super) fn add_up_words<N: Number>(
        self,
        windows: &Windows<'_, N>,
        spikes: &[u8],
        pixels: &mut Vec<usize>,
        next: (&Packed<N>, &mut [i16]),
        operations: &mut [u64],
    ) -> u64 {
        add_up(windows, spikes, pixels, next, operations)
    }

    /// Lists what is not zero in the first steps of `bytes`: so many steps, so many in all.
    pub(super) fn list(self, lists: &mut Lists<u8>, frame: &Frame, bytes: &[u8], steps: (usize, usize)) {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Self::Avx2 => unsafe { avx2::list(lists, frame, bytes, steps) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Self::Avx512 => unsafe { avx512::list(lists, frame, bytes, steps) },
            _ => list(lists, frame, bytes, steps),
        }
    }

    /// The same in float32: bytes less the one that stands for nothing, times their share.
    pub(super) fn list_floats(
        self,
        lists: &mut Lists<f32>,
        frame: &Frame,
        bytes: &[u8],
        steps: (usize, usize),
        (nothing, share): (u8, f32),
    ) {
        list_floats(lists, frame, bytes, steps, (nothing, share));
    }
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2", "aarch64+neon"))]
fn add_up<N: Number, V: Count>(
    windows: &Windows<'_, N>,
    spikes: &[u8],
    pixels: &mut Vec<usize>,
    next: (&Packed<N>, &mut [V]),
    operations: &mut [u64],
) -> u64 {
    pooling::add_up(windows, spikes, pixels, next, operations, window)
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2", "aarch64+neon"))]
fn list(lists: &mut Lists<u8>, frame: &Frame, bytes: &[u8], steps: (usize, usize)) {
    lists.fill_marked(frame, bytes, steps, 0, |values| mark(values, 0), |byte| byte);
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2", "aarch64+neon"))]
fn list_floats(
    lists: &mut Lists<f32>,
    frame: &Frame,
    bytes: &[u8],
    steps: (usize, usize),
    (nothing, share): (u8, f32),
) {
    let value = |byte| (f32::from(byte) - f32::from(nothing)) * share;
    lists.fill_marked(frame, bytes, steps, nothing, |values| mark(values, nothing), value);
}

/// Which of 64 values are something, the first by the lowest bit.
#[inline(always)]
fn mark(values: &[u8; 64], nothing: u8) -> u64 {
    values.iter().enumerate().fold(0, |set, (i, &v)| set | u64::from(v != nothing) << i)
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2", "aarch64+neon"))]
fn listed_floats(work: &Listed<'_, f32, f32>, sums: &mut [f32]) {
    work.each_block(|first, size, weights| match size {
        64 => listed_block_of_floats::<64>(work, first, weights, sums),
        _ => listed_block_of_floats::<32>(work, first, weights, sums),
    });
}

/// Outputs from `first` on, `N` of them.
#[inline(always)]
fn listed_block_of_floats<const N: usize>(
    work: &Listed<'_, f32, f32>,
    first: usize,
    weights: &[f32],
    sums: &mut [f32],
) {
    for n in 0..work.pixels * work.steps {
        let (p, s) = (n / work.steps, n % work.steps);
        let Some(sums) = sums[n * work.lanes + first..].first_chunk_mut::<N>() else { return };
        let mut own = *sums;
        for r in work.runs.0..work.runs.1 {
            let (entries, value) = work.entries(p, s, r);
            let weights = &weights[r * work.run * N..][..work.run * N];
            for (&row, &value_of) in work.lists.rows[entries.clone()].iter().zip(&work.lists.values[entries])
            {
                let row = (row as usize / LANES - value) * N;
                let Some(row) = weights.get(row..).and_then(|rows| rows.first_chunk::<N>()) else { return };
                for n in 0..N {
                    own[n] += row[n] * value_of;
                }
            }
        }
        *sums = own;
    }
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2", "aarch64+neon"))]
fn planes<V: Copy + Into<i32>, W: Copy + Into<i32>>(work: &Dense<'_, V, W>, sums: &mut [i32]) {
    let block = work.runs.len() * work.parts * BLOCK;
    for n in 0..work.pixels * work.steps {
        let (p, s) = (n / work.steps, n % work.steps);
        let window = &work.values[s * work.per_step + work.first + p * work.per_pixel..];
        let sums = &mut sums[n * work.lanes + work.lane..][..work.group];
        for (sums, weights) in sums.chunks_exact_mut(BLOCK).zip(work.weights.chunks_exact(block)) {
            let Some(sums) = sums.first_chunk_mut::<BLOCK>() else { continue };
            let mut own = *sums;
            for (&run, weights) in work.runs.iter().zip(weights.chunks_exact(work.parts * BLOCK)) {
                let values = &window[run..][..work.parts];
                for (&value, weights) in values.iter().zip(weights.as_chunks::<BLOCK>().0) {
                    for n in 0..BLOCK {
                        own[n] += value.into() * weights[n].into();
                    }
                }
            }
            *sums = own;
        }
    }
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2", "aarch64+neon"))]
fn listed(work: &Listed<'_, u8, i8>, sums: &mut [i32]) {
    work.each_block(|first, size, weights| match size {
        64 => work.block::<2, Sums<64>>(first, weights, sums),
        _ => work.block::<1, Sums<32>>(first, weights, sums),
    });
}

/// Sums of 16 bits for some outputs.
pub(super) trait Accumulator {
    /// Zeros.
    fn new() -> Self;

    /// Adds listed rows of a run's weights, each times its count. `value` is the value of its row of the frame with which the
    /// run begins, times [`LANES`] as rows are.
    fn add(&mut self, weights: &[i8], value: usize, rows: &[u32], counts: &[u8]);

    /// Adds what there is to sums of 32 bits, and begins anew.
    fn flush(&mut self, to: &mut [i32]);
}

/// Panics where listed rows, each of so many times 32 weights, would lie beyond the weights of a run that begins with `value`. Those of
/// a run ascend (`Lists::fill`), so that its first and its last tell of all.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn check_rows(rows: &[u32], value: usize, (weights, width): (&[i8], usize)) {
    if let (Some(&first), Some(&last)) = (rows.first(), rows.last()) {
        assert!(first <= last && first as usize >= value);
        assert!((last as usize - value + LANES) * width <= weights.len());
    }
}

/// `N` of them in the order of the weights.
struct Sums<const N: usize>([i16; N]);

impl<const N: usize> Accumulator for Sums<N> {
    #[inline(always)]
    fn new() -> Self {
        Self([0; N])
    }

    #[inline(always)]
    fn add(&mut self, weights: &[i8], value: usize, rows: &[u32], counts: &[u8]) {
        for (&row, &count) in rows.iter().zip(counts) {
            let at = (row as usize - value) / LANES * N;
            let Some(row) = weights[at..].first_chunk::<N>() else { continue };
            for (own, &weight) in self.0.iter_mut().zip(row) {
                *own += i16::from(weight) * i16::from(count);
            }
        }
    }

    #[inline(always)]
    fn flush(&mut self, to: &mut [i32]) {
        for (to, own) in to.chunks_exact_mut(LANES).zip(self.0.chunks_exact(LANES)) {
            for n in 0..LANES {
                to[ORDER[n]] += i32::from(own[n]);
            }
        }
        self.0.fill(0);
    }
}

impl Listed<'_, u8, i8> {
    /// Adds the sums of outputs from `first` on, 32 times `N` of them.
    #[inline(always)]
    pub fn block<const N: usize, A: Accumulator>(&self, first: usize, weights: &[i8], sums: &mut [i32]) {
        // So many that not even the largest bytes exceed 16 bits; an even number, because two go together.
        let few = ((self.mass as usize / LARGEST_BYTE) & !1).max(2);
        let size = self.run * N * LANES;
        for p in 0..self.pixels {
            for s in 0..self.steps {
                let to = &mut sums[(p * self.steps + s) * self.lanes + first..][..N * LANES];
                let mut own = A::new();
                let mut mass = 0;
                for r in self.runs.0..self.runs.1 {
                    let (entries, value) = self.entries(p, s, r);
                    let at = self.at(p, s, r);
                    let here = self.lists.mass[at + self.across] - self.lists.mass[at];
                    let rows = &self.lists.rows[entries.clone()];
                    let counts = &self.lists.values[entries];
                    let weights = &weights[r * size..][..size];
                    if mass + here > self.mass {
                        own.flush(to);
                        mass = 0;
                    }
                    if here <= self.mass {
                        own.add(weights, value * LANES, rows, counts);
                        mass += here;
                        continue;
                    }
                    for (rows, counts) in rows.chunks(few).zip(counts.chunks(few)) {
                        own.add(weights, value * LANES, rows, counts);
                        own.flush(to);
                    }
                }
                own.flush(to);
            }
        }
    }
}

impl<'a, V, W> Listed<'a, V, W> {
    /// What is to be done for a chunk, slab by slab of runs whose weights stay in cache.
    pub fn each_slab<N: Number>(
        packed: &Packed<N>,
        chunk: &Chunk,
        lists: &'a Lists<V>,
        (weights, mass): (&'a [W], u64),
        mut each: impl FnMut(&Self),
    ) {
        let columns = packed.frame.padded.1;
        let row = columns * chunk.steps;
        let left = chunk.columns.start * packed.stride.1;
        let slab = packed.slab(size_of::<W>());
        for first in (0..packed.runs.len()).step_by(slab) {
            each(&Self {
                lists,
                weights,
                all_runs: packed.runs.len(),
                runs: (first, (first + slab).min(packed.runs.len())),
                run: packed.run,
                across: packed.kernel.1,
                pixel: chunk.y * packed.stride.0 * row + left,
                value: left * packed.frame.input.2,
                per_pixel: packed.stride.1,
                channels: packed.frame.input.2,
                row,
                step: columns,
                pixels: chunk.columns.len(),
                steps: chunk.steps,
                mass,
                lanes: packed.lanes(),
            });
        }
    }

    /// Blocks of outputs: where they begin, how many they are, their weights.
    #[inline(always)]
    pub fn each_block(&self, mut each: impl FnMut(usize, usize, &[W])) {
        let mut first = 0;
        while first < self.lanes {
            let size = if self.lanes - first >= 2 * LANES { 2 * LANES } else { LANES };
            each(
                first,
                size,
                &self.weights[first * self.all_runs * self.run..][..size * self.all_runs * self.run],
            );
            first += size;
        }
    }

    /// What is listed of a run under a window at a step, and the value of its row of the frame with which the run begins.
    #[inline(always)]
    pub fn entries(&self, p: usize, s: usize, r: usize) -> (Range<usize>, usize) {
        let pixel = self.at(p, s, r);
        let starts = &self.lists.starts;
        let value = self.value + p * self.per_pixel * self.channels;
        (starts[pixel] as usize..starts[pixel + self.across] as usize, value)
    }

    /// Where the lists of a run's first pixel begin.
    #[inline(always)]
    pub fn at(&self, p: usize, s: usize, r: usize) -> usize {
        self.pixel + r * self.row + s * self.step + p * self.per_pixel
    }
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2", "aarch64+neon"))]
fn step_all(fire: &mut Fire<'_, '_>) {
    match fire.decay {
        NO_DECAY => step_each(fire, NO_DECAY),
        decay => step_each(fire, decay),
    }
}

#[inline(always)]
fn step_each(fire: &mut Fire<'_, '_>, decay: i32) {
    let Fire { neurons, thresholds, .. } = fire;
    let (lanes, steps) = (thresholds.len(), neurons.fired.len());
    for (p, u) in neurons.u.chunks_exact_mut(lanes).enumerate() {
        for (s, fired) in neurons.fired.iter_mut().enumerate() {
            let at = if neurons.constant { p } else { p * steps + s };
            let current = &neurons.current[at * lanes..][..lanes];
            let spikes = &mut neurons.spikes[(p * steps + s) * lanes..][..lanes];
            let mut count = 0u32;
            for (((u, c), &theta), spike) in u.iter_mut().zip(current).zip(*thresholds).zip(spikes) {
                let (fires, next) = step(theta, decay, *u, *c);
                *u = next;
                *spike = u8::from(fires);
                count += u32::from(fires);
            }
            *fired += u64::from(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::packed::BLOCK;
    use crate::event::plane::SLACK;
    use escape_network::rng::Stream;
    use escape_network::sequential::Padding;

    /// Whole numbers from `low` to below `high`.
    fn whole(random: &mut Stream, low: i32, high: i32) -> i32 {
        low + (random.uniform() * f64::from(high - low)) as i32
    }

    fn weights(random: &mut Stream, n: usize) -> Vec<i8> {
        (0..n).map(|_| whole(random, -127, 128) as i8).collect()
    }

    /// A convolution of a row of windows, as it is written down.
    fn naive<V: Copy + Into<i32>, W: Copy + Into<i32>>(work: &Dense<'_, V, W>, n: usize) -> Vec<i32> {
        let mut sums = vec![7; work.pixels * work.steps * work.lanes];
        for (p, s) in (0..work.pixels).flat_map(|p| (0..work.steps).map(move |s| (p, s))) {
            for o in 0..work.group {
                let mut sum = 0;
                for (r, run) in work.runs.iter().enumerate() {
                    for v in 0..work.parts * n {
                        let place =
                            ((o / BLOCK * work.runs.len() + r) * work.parts + v / n) * BLOCK + o % BLOCK;
                        let value =
                            work.values[work.first + p * work.per_pixel + s * work.per_step + run + v];
                        sum += value.into() * work.weights[place * n + v % n].into();
                    }
                }
                sums[(p * work.steps + s) * work.lanes + work.lane + o] += sum;
            }
        }
        sums
    }

    #[test]
    fn sums_of_planes_are_those_of_a_loop() {
        let mut random = Stream::new(1, 0);
        for case in 0..30 {
            let mut size = |most| whole(&mut random, 1, most + 1) as usize;
            let (runs, parts, pixels, steps) = (size(3), size(9), size(9), size(3));
            let group = size(3) * BLOCK;
            // The largest counts and weights throughout, now and then: nothing overflows.
            let (most, heavy) = if case % 3 == 0 { (127, true) } else { (4, false) };
            let (per_pixel, per_step) = (size(5), 200);
            let runs: Vec<usize> = (0..runs).map(|r| r * 40 + size(3)).collect();
            let lane = if case % 2 == 0 { BLOCK } else { 0 };
            let length = steps * per_step + SLACK;
            let byte = |random: &mut Stream| if heavy { most } else { whole(random, 0, most + 1) } as u8;
            let bytes: Vec<u8> = (0..length).map(|_| byte(&mut random)).collect();
            let word =
                |random: &mut Stream| if heavy { i32::from(i16::MAX) } else { whole(random, -600, 600) };
            let words: Vec<i16> = (0..length).map(|_| word(&mut random) as i16).collect();
            for with in Instructions::available() {
                let size = group * runs.len() * parts;
                let (of_bytes, of_words) = with.together();
                let narrow = match heavy {
                    true => vec![-127; size * of_bytes],
                    false => weights(&mut random, size * of_bytes),
                };
                let work = Dense::<u8, i8> {
                    values: &bytes,
                    weights: &narrow,
                    runs: &runs,
                    parts,
                    pixels,
                    steps,
                    first: 2,
                    per_pixel,
                    per_step,
                    budget: if heavy { 1 } else { 5 },
                    lanes: group + BLOCK,
                    lane,
                    group,
                };
                let mut sums = vec![7; pixels * steps * work.lanes];
                with.narrow(&work, &mut sums);
                assert_eq!(sums, naive(&work, of_bytes), "case {case}, {with:?}");
                let wide: Vec<i16> =
                    weights(&mut random, size * of_words).into_iter().map(i16::from).collect();
                let Dense { lanes, runs, .. } = work;
                let work = Dense::<i16, i16> {
                    values: &words,
                    weights: &wide,
                    runs,
                    parts,
                    pixels,
                    steps,
                    first: 2,
                    per_pixel,
                    per_step,
                    budget: 0,
                    lanes,
                    lane,
                    group,
                };
                let mut sums = vec![7; pixels * steps * lanes];
                with.wide(&work, &mut sums);
                assert_eq!(sums, naive(&work, of_words), "case {case}, {with:?}");
            }
        }
    }

    #[test]
    fn sums_of_lists_are_those_of_a_loop() {
        let mut random = Stream::new(2, 0);
        for case in 0..30 {
            let mut size = |most| whole(&mut random, 1, most + 1) as usize;
            let (channels, across, all_runs) = ([1, 3, 64, 70, 130][case % 5], size(3), size(3));
            let (pixels, steps, lanes) = (size(4), size(3), [32, 64, 96, 160][case % 4]);
            let input = (all_runs + 1, across + pixels + 1, channels);
            let frame = Frame::new(input, Padding { left: 1, ..Padding::default() }, (0, 0));
            let most = if case % 3 == 0 { 128 } else { 5 };
            let mut bytes = vec![0u8; frame.len() + SLACK];
            for (s, n) in (0..steps).flat_map(|s| (0..input.0 * input.1 * channels).map(move |n| (s, n))) {
                let at = frame.at(n / channels / input.1, n / channels % input.1) + n % channels;
                let value = whole(&mut random, -2 * most, most).max(0);
                bytes[s * frame.step() + at] = if case % 6 == 0 { 127 } else { value as u8 };
            }
            let run = across * channels;
            let weights = match case % 6 {
                0 => vec![127; all_runs * run * lanes],
                _ => weights(&mut random, all_runs * run * lanes),
            };
            let (row, column) = (1, case % 2);
            for with in Instructions::available() {
                let mut lists = Lists::default();
                let arrivals = bytes.iter().filter(|v| **v != 0).count();
                with.list(&mut lists, &frame, &bytes, (steps, arrivals));
                let listed = *lists.starts.last().unwrap() as usize;
                assert_eq!(listed, arrivals);
                let total: u64 = bytes.iter().map(|v| u64::from(*v)).sum();
                assert_eq!(*lists.mass.last().unwrap(), total);
                let work = Listed {
                    lists: &lists,
                    weights: &weights,
                    all_runs,
                    runs: (0, all_runs),
                    run,
                    across,
                    pixel: row * frame.padded.1 * steps + column,
                    value: column * channels,
                    per_pixel: 1,
                    channels,
                    row: frame.padded.1 * steps,
                    step: frame.padded.1,
                    pixels,
                    steps,
                    mass: 32767 / 127,
                    lanes,
                };
                let mut sums = vec![3; pixels * steps * lanes];
                // In two parts, as a layer's slabs are.
                with.listed(&Listed { runs: (0, 1), ..work }, &mut sums);
                with.listed(&Listed { runs: (1, all_runs), ..work }, &mut sums);
                let mut want = vec![3; sums.len()];
                work.each_block(|first, size, weights| {
                    for (p, s) in (0..pixels).flat_map(|p| (0..steps).map(move |s| (p, s))) {
                        for (r, v) in (0..all_runs).flat_map(|r| (0..run).map(move |v| (r, v))) {
                            let value = bytes
                                [s * frame.step() + (row + r) * frame.row() + (p + column) * channels + v];
                            for n in 0..size {
                                let o = first + n / LANES * LANES + ORDER[n % LANES];
                                want[(p * steps + s) * lanes + o] +=
                                    i32::from(value) * i32::from(weights[(r * run + v) * size + n]);
                            }
                        }
                    }
                });
                assert_eq!(sums, want, "case {case}, {with:?}");
            }
        }
    }

    #[test]
    fn neurons_follow_the_rule() {
        let mut random = Stream::new(3, 0);
        let (pixels, steps, lanes) = (3, 4, 64);
        let mut values = |n: usize, spread: f64| -> Vec<i32> {
            (0..n).map(|_| (random.normal() * spread) as i32).collect()
        };
        let start = values(pixels * lanes, 3e8);
        let thresholds: Vec<i32> =
            values(lanes, 5e7).into_iter().map(|v| v.saturating_abs().max(1)).collect();
        let current = values(pixels * steps * lanes, 1e8);
        for (decay, constant, with) in [NO_DECAY, 31_000, 1, 0]
            .into_iter()
            .flat_map(|decay| [false, true].map(move |constant| (decay, constant)))
            .flat_map(|(decay, constant)| {
                Instructions::available().into_iter().map(move |i| (decay, constant, i))
            })
        {
            let (mut u, mut spikes, mut fired) = (start.clone(), vec![9; current.len()], vec![1; steps]);
            let mut neurons =
                Neurons { u: &mut u, current: &current, constant, spikes: &mut spikes, fired: &mut fired };
            with.fire(&mut Fire { neurons: &mut neurons, thresholds: &thresholds, decay });
            let mut count = vec![1; steps];
            for n in 0..pixels * lanes {
                let (p, lane) = (n / lanes, n % lanes);
                let mut own = start[n];
                for (s, count) in count.iter_mut().enumerate() {
                    let at = (p * steps + s) * lanes + lane;
                    let (fires, next) =
                        step(thresholds[lane], decay, own, current[if constant { n } else { at }]);
                    own = next;
                    assert_eq!(spikes[at], u8::from(fires), "{with:?}, decay {decay}");
                    *count += u64::from(fires);
                }
                assert_eq!(u[n], own, "{with:?}, decay {decay}");
            }
            assert_eq!(fired, count);
            assert!(count.iter().all(|n| *n > 3));
        }
    }
}
