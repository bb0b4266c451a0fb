//! The inner loops in AVX2.
//!
//! Bytes: `vpmaddubsw` multiplies 32 unsigned counts by 32 weights and adds them up by pairs, in 16 bits. Words: `vpmaddwd`
//! multiplies 16 by 16, pairs in 32 bits. Sums of 16 bits are added to those of 32 before they may overflow.
//!
//! Unsafe is here what needs AVX2 (and popcnt), which `Instructions` has asked for, and what reads or writes by pointer. Whoever
//! comes in from `kernels.rs` checks first, against the slices, all that its loops will read and write; of lists the first row and the
//! last, between which those of a run ascend (`Lists::fill`).

use std::arch::x86_64::*;

use super::kernels::{Accumulator, Dense, Fire, Listed, check_rows};
use super::number::Number;
use super::packed::{LANES, Packed};
use super::plane::{Frame, Lists};
use super::pooling::{self, Windows};
use crate::integer::NO_DECAY;

/// 32 bytes, aligned or not.
#[inline(always)]
unsafe fn load<T>(from: *const T) -> __m256i {
    // SAFETY: the caller has 32 bytes there.
    unsafe { _mm256_loadu_si256(from.cast()) }
}

#[inline(always)]
unsafe fn store<T>(to: *mut T, value: __m256i) {
    // SAFETY: the caller has 32 bytes there.
    unsafe { _mm256_storeu_si256(to.cast(), value) }
}

/// Adds 8 numbers to those in memory.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn add_to(to: *mut i32, value: __m256i) {
    // SAFETY: the caller has 32 bytes there.
    unsafe { store(to, _mm256_add_epi32(load(to), value)) }
}

/// See [`Dense`], bytes.
#[target_feature(enable = "avx2,popcnt")]
pub(super) unsafe fn narrow(work: &Dense<'_, u8, i8>, sums: &mut [i32]) {
    work.check::<4>(sums.len());
    // SAFETY: what is read and written lies within the slices, as just checked.
    unsafe {
        work.each_tile(sums, &[4, 1], |weights, values, sums, pixels| match pixels {
            4 => narrow_tile::<4>(work, weights, values, sums),
            1 => narrow_tile::<1>(work, weights, values, sums),
            _ => unreachable!("tiles of 4 or 1"),
        });
    }
}

/// See [`Dense`], words.
#[target_feature(enable = "avx2,popcnt")]
pub(super) unsafe fn wide(work: &Dense<'_, i16, i16>, sums: &mut [i32]) {
    work.check::<2>(sums.len());
    // SAFETY: as in `narrow`.
    unsafe {
        work.each_tile(sums, &[4, 1], |weights, values, sums, pixels| match pixels {
            4 => wide_tile::<4>(work, weights, values, sums),
            1 => wide_tile::<1>(work, weights, values, sums),
            _ => unreachable!("tiles of 4 or 1"),
        });
    }
}

#[inline]
#[target_feature(enable = "avx2,popcnt")]
unsafe fn narrow_tile<const P: usize>(
    work: &Dense<'_, u8, i8>,
    mut weights: *const i8,
    values: *const u8,
    sums: *mut i32,
) {
    let ones = _mm256_set1_epi16(1);
    let mut own = [[_mm256_setzero_si256(); 2]; P];
    // SAFETY: see `Dense::check`.
    let flush = |own: &mut [[__m256i; 2]; P]| unsafe {
        for (p, own) in own.iter_mut().enumerate() {
            let to = sums.add(p * work.steps * work.lanes);
            for (half, sum) in own.iter_mut().enumerate() {
                add_to(to.add(8 * half), _mm256_madd_epi16(*sum, ones));
                *sum = _mm256_setzero_si256();
            }
        }
    };
    let mut left = work.budget;
    for &run in work.runs {
        let mut part = 0;
        while part < work.parts {
            if left == 0 {
                flush(&mut own);
                left = work.budget;
            }
            let now = left.min(work.parts - part);
            for quad in part..part + now {
                // SAFETY: see `Dense::check`.
                unsafe {
                    let (first, second) = (load(weights), load(weights.add(32)));
                    weights = weights.add(64);
                    for (p, own) in own.iter_mut().enumerate() {
                        let four =
                            values.add(p * work.per_pixel + run + 4 * quad).cast::<i32>().read_unaligned();
                        let four = _mm256_set1_epi32(four);
                        own[0] = _mm256_add_epi16(own[0], _mm256_maddubs_epi16(four, first));
                        own[1] = _mm256_add_epi16(own[1], _mm256_maddubs_epi16(four, second));
                    }
                }
            }
            part += now;
            left -= now;
        }
    }
    flush(&mut own);
}

#[inline]
#[target_feature(enable = "avx2,popcnt")]
unsafe fn wide_tile<const P: usize>(
    work: &Dense<'_, i16, i16>,
    mut weights: *const i16,
    values: *const i16,
    sums: *mut i32,
) {
    let mut own = [[_mm256_setzero_si256(); 2]; P];
    for &run in work.runs {
        for pair in 0..work.parts {
            // SAFETY: see `Dense::check`.
            unsafe {
                let (first, second) = (load(weights), load(weights.add(16)));
                weights = weights.add(32);
                for (p, own) in own.iter_mut().enumerate() {
                    let two = values.add(p * work.per_pixel + run + 2 * pair).cast::<i32>().read_unaligned();
                    let two = _mm256_set1_epi32(two);
                    own[0] = _mm256_add_epi32(own[0], _mm256_madd_epi16(two, first));
                    own[1] = _mm256_add_epi32(own[1], _mm256_madd_epi16(two, second));
                }
            }
        }
    }
    for (p, own) in own.iter().enumerate() {
        // SAFETY: see `Dense::check`.
        unsafe {
            let to = sums.add(p * work.steps * work.lanes);
            add_to(to, own[0]);
            add_to(to.add(8), own[1]);
        }
    }
}

/// See [`Listed`].
#[target_feature(enable = "avx2,popcnt")]
pub(super) unsafe fn listed(work: &Listed<'_, u8, i8>, sums: &mut [i32]) {
    work.each_block(|first, size, weights| match size {
        64 => work.block::<2, Sums<2>>(first, weights, sums),
        _ => work.block::<1, Sums<1>>(first, weights, sums),
    });
}

/// Sums of 32 times `N` outputs, in order.
pub(super) struct Sums<const N: usize>([[__m256i; 2]; N]);

impl<const N: usize> Accumulator for Sums<N> {
    #[inline(always)]
    fn new() -> Self {
        // SAFETY: only `listed` here and in AVX-512 makes one, and asks for AVX2. So below.
        Self(unsafe { [[_mm256_setzero_si256(); 2]; N] })
    }

    #[inline(always)]
    fn add(&mut self, weights: &[i8], value: usize, rows: &[u32], counts: &[u8]) {
        check_rows(rows, value, (weights, N));
        // SAFETY: as above.
        unsafe { add_rows(weights, value, rows, counts, &mut self.0) };
    }

    #[inline(always)]
    fn flush(&mut self, to: &mut [i32]) {
        // SAFETY: as above.
        unsafe { flush(&mut self.0, to) };
    }
}

/// Adds listed rows of weights, two at a time, each weighed by its count.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
unsafe fn add_rows<const N: usize>(
    weights: &[i8],
    value: usize,
    rows: &[u32],
    counts: &[u8],
    own: &mut [[__m256i; 2]; N],
) {
    let add = |own: &mut [[__m256i; 2]; N], a: u32, b: u32, two: i16| {
        let two = _mm256_set1_epi16(two);
        // SAFETY: see `check_rows`.
        unsafe {
            let a = weights.as_ptr().add((a as usize - value) * N);
            let b = weights.as_ptr().add((b as usize - value) * N);
            for (n, own) in own.iter_mut().enumerate() {
                let (a, b) = (load(a.add(n * LANES)), load(b.add(n * LANES)));
                own[0] = _mm256_add_epi16(own[0], _mm256_maddubs_epi16(two, _mm256_unpacklo_epi8(a, b)));
                own[1] = _mm256_add_epi16(own[1], _mm256_maddubs_epi16(two, _mm256_unpackhi_epi8(a, b)));
            }
        }
    };
    let mut rows = rows.chunks_exact(2);
    let mut counts = counts.chunks_exact(2);
    for (rows, counts) in rows.by_ref().zip(counts.by_ref()) {
        add(own, rows[0], rows[1], i16::from_le_bytes([counts[0], counts[1]]));
    }
    if let ([row], [count]) = (rows.remainder(), counts.remainder()) {
        add(own, *row, *row, i16::from(*count));
    }
}

/// Adds sums of 16 bits to those of 32.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
unsafe fn flush<const N: usize>(own: &mut [[__m256i; 2]; N], to: &mut [i32]) {
    assert!(to.len() >= N * LANES);
    for (n, sum) in own.as_flattened_mut().iter_mut().enumerate() {
        let halves = (_mm256_castsi256_si128(*sum), _mm256_extracti128_si256(*sum, 1));
        // SAFETY: as just checked.
        unsafe {
            let to = to.as_mut_ptr().add(16 * n);
            add_to(to, _mm256_cvtepi16_epi32(halves.0));
            add_to(to.add(8), _mm256_cvtepi16_epi32(halves.1));
        }
        *sum = _mm256_setzero_si256();
    }
}

/// Lists what is in frames of bytes.
#[target_feature(enable = "avx2,popcnt")]
pub(super) unsafe fn list(lists: &mut Lists<u8>, frame: &Frame, bytes: &[u8], steps: (usize, usize)) {
    let mark = |values: &[u8; 64]| {
        // SAFETY: the array has 64 bytes, and AVX2 is there.
        unsafe {
            let zero = _mm256_setzero_si256();
            let low = _mm256_cmpeq_epi8(load(values.as_ptr()), zero);
            let high = _mm256_cmpeq_epi8(load(values.as_ptr().add(32)), zero);
            let zeros = u64::from(_mm256_movemask_epi8(low) as u32)
                | u64::from(_mm256_movemask_epi8(high) as u32) << 32;
            !zeros
        }
    };
    lists.fill_marked(frame, bytes, steps, 0, mark, |byte| byte);
}

/// See [`pooling::add_up`].
#[target_feature(enable = "avx2,popcnt")]
pub(super) unsafe fn add_up<N: Number>(
    windows: &Windows<'_, N>,
    spikes: &[u8],
    pixels: &mut Vec<usize>,
    next: (&Packed<N>, &mut [u8]),
    operations: &mut [u64],
) -> u64 {
    // SAFETY: AVX2 is there.
    let sum = |spikes: &[u8], pixels: &[usize], to: &mut [u8]| unsafe { window(spikes, pixels, to) };
    pooling::add_up(windows, spikes, pixels, next, operations, sum)
}

/// Sums over a window's pixels, 32 outputs at a time; lanes that fill up a group have no spikes.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
unsafe fn window(spikes: &[u8], pixels: &[usize], to: &mut [u8]) -> u64 {
    let zero = _mm256_setzero_si256();
    let last = pixels.iter().max().map_or(0, |pixel| pixel + to.len().next_multiple_of(LANES));
    assert!(last <= spikes.len());
    let mut zeros = 0;
    for (n, to) in to.chunks_mut(LANES).enumerate() {
        let mut sums = zero;
        // SAFETY: as just checked for all pixels and lanes; what is written has 32 bytes, or is copied.
        unsafe {
            for pixel in pixels {
                sums = _mm256_add_epi8(sums, load(spikes.as_ptr().add(pixel + n * LANES)));
            }
            zeros += (_mm256_movemask_epi8(_mm256_cmpeq_epi8(sums, zero)) as u32).count_ones();
            match to.first_chunk_mut::<LANES>() {
                Some(to) => store(to.as_mut_ptr(), sums),
                None => {
                    let mut all = [0u8; LANES];
                    store(all.as_mut_ptr(), sums);
                    to.copy_from_slice(&all[..to.len()]);
                }
            }
        }
    }
    to.len().next_multiple_of(LANES) as u64 - u64::from(zeros)
}

/// See [`Fire`].
#[target_feature(enable = "avx2,popcnt")]
pub(super) unsafe fn fire(fire: &mut Fire<'_, '_>) {
    let pixels = fire.check();
    // SAFETY: AVX2 is there; the slices are as long as they have to be.
    unsafe {
        match fire.decay {
            NO_DECAY => fire_each::<false>(fire, pixels),
            _ => fire_each::<true>(fire, pixels),
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,popcnt")]
unsafe fn fire_each<const DECAYS: bool>(fire: &mut Fire<'_, '_>, pixels: usize) {
    let Fire { neurons, thresholds, decay } = fire;
    let (lanes, steps) = (thresholds.len(), neurons.fired.len());
    let (per_pixel, per_step) = if neurons.constant { (lanes, 0) } else { (steps * lanes, lanes) };
    let decay = _mm256_set1_epi32(*decay);
    let in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    let one = _mm256_set1_epi8(1);
    for n in 0..pixels * (lanes / LANES) {
        let (p, lane) = (n / (lanes / LANES), n % (lanes / LANES) * LANES);
        // SAFETY: see `Fire::check`.
        unsafe {
            let at = neurons.u.as_mut_ptr().add(p * lanes + lane);
            let mut u = [0, 8, 16, 24].map(|n| load(at.add(n)));
            let theta = [0, 8, 16, 24].map(|n| load(thresholds.as_ptr().add(lane + n)));
            for (s, fired) in neurons.fired.iter_mut().enumerate() {
                let current = neurons.current.as_ptr().add(p * per_pixel + s * per_step + lane);
                let mut fires = [_mm256_setzero_si256(); 4];
                for n in 0..4 {
                    let kept = if DECAYS { decayed(u[n], decay) } else { u[n] };
                    let integrated = _mm256_add_epi32(kept, load(current.add(8 * n)));
                    fires[n] = _mm256_cmpgt_epi32(integrated, theta[n]);
                    u[n] = _mm256_sub_epi32(integrated, _mm256_and_si256(fires[n], theta[n]));
                }
                let low = _mm256_packs_epi32(fires[0], fires[1]);
                let high = _mm256_packs_epi32(fires[2], fires[3]);
                let all = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), in_order);
                *fired += u64::from((_mm256_movemask_epi8(all) as u32).count_ones());
                let to = neurons.spikes.as_mut_ptr().add((p * steps + s) * lanes + lane);
                store(to, _mm256_and_si256(all, one));
            }
            for (n, u) in u.into_iter().enumerate() {
                store(at.add(8 * n), u);
            }
        }
    }
}

/// floor(u decay / 2^15): the product has 64 bits, of which those from the 15th on are kept.
#[inline]
#[target_feature(enable = "avx2,popcnt")]
fn decayed(u: __m256i, decay: __m256i) -> __m256i {
    let even = _mm256_srli_epi64(_mm256_mul_epi32(u, decay), 15);
    let odd = _mm256_slli_epi64(_mm256_mul_epi32(_mm256_srli_epi64(u, 32), decay), 17);
    _mm256_blend_epi32(even, odd, 0b1010_1010)
}
