//! The inner loops in AVX-512 with VNNI, those that gain by it; the others are AVX2's.
//!
//! Planes: `vpdpbusd` multiplies 16 times four unsigned counts by weights and adds them up in 32 bits, `vpdpwssd` 16 times two words.
//! Lists: rows of 64 weights, which lie in one line of the cache each, as AVX2 does those of 32.
//!
//! Unsafe is here what needs these instructions, which `Instructions` has asked for, and what reads or writes by pointer. Whoever
//! comes in from `kernels.rs` checks first, against the slices, all that its loops will read and write; of lists the first row and the
//! last, between which those of a run ascend (`Lists::fill`).

use std::arch::x86_64::*;

use super::avx2;
use super::kernels::{Accumulator, Dense, Fire, Listed, check_rows};
use super::packed::LANES;
use super::plane::{Frame, Lists};
use crate::integer::NO_DECAY;

/// 64 bytes, aligned or not.
#[inline(always)]
unsafe fn load<T>(from: *const T) -> __m512i {
    // SAFETY: the caller has 64 bytes there, and a machine with AVX-512.
    unsafe { _mm512_loadu_si512(from.cast()) }
}

#[inline(always)]
unsafe fn store<T>(to: *mut T, value: __m512i) {
    // SAFETY: as above.
    unsafe { _mm512_storeu_si512(to.cast(), value) }
}

/// Adds 16 numbers to those in memory.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi2,avx2,popcnt")]
unsafe fn add_to(to: *mut i32, value: __m512i) {
    // SAFETY: the caller has 64 bytes there.
    unsafe { store(to, _mm512_add_epi32(load(to), value)) }
}

/// See [`Dense`], bytes.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi2,avx2,popcnt")]
pub(super) unsafe fn narrow(work: &Dense<'_, u8, i8>, sums: &mut [i32]) {
    work.check::<4>(sums.len());
    // SAFETY: what is read and written lies within the slices, as just checked.
    unsafe { tiles(work, sums, |sum, values, weights| _mm512_dpbusd_epi32(sum, values, weights)) };
}

/// See [`Dense`], words.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi2,avx2,popcnt")]
pub(super) unsafe fn wide(work: &Dense<'_, i16, i16>, sums: &mut [i32]) {
    work.check::<2>(sums.len());
    // SAFETY: as in `narrow`.
    unsafe { tiles(work, sums, |sum, values, weights| _mm512_dpwssd_epi32(sum, values, weights)) };
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi2,avx2,popcnt")]
unsafe fn tiles<V, W>(
    work: &Dense<'_, V, W>,
    sums: &mut [i32],
    multiply: impl Fn(__m512i, __m512i, __m512i) -> __m512i,
) {
    // SAFETY: see `Dense::check`.
    unsafe {
        work.each_tile(sums, &[8, 4, 1], |weights, values, sums, pixels| match pixels {
            8 => tile::<8, _, _>(work, weights, values, sums, &multiply),
            4 => tile::<4, _, _>(work, weights, values, sums, &multiply),
            1 => tile::<1, _, _>(work, weights, values, sums, &multiply),
            _ => unreachable!("tiles of 8, 4 or 1"),
        });
    }
}

/// Sums of P pixels and 16 outputs: of each part, four bytes or two words, once for all outputs, and its weights once for all pixels.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi2,avx2,popcnt")]
unsafe fn tile<const P: usize, V, W>(
    work: &Dense<'_, V, W>,
    mut weights: *const W,
    values: *const V,
    sums: *mut i32,
    multiply: impl Fn(__m512i, __m512i, __m512i) -> __m512i,
) {
    let mut own = [_mm512_setzero_si512(); P];
    for &run in work.runs {
        for part in 0..work.parts {
            // SAFETY: see `Dense::check`.
            unsafe {
                let row = load(weights);
                weights = weights.byte_add(64);
                for (p, own) in own.iter_mut().enumerate() {
                    let part = values.add(p * work.per_pixel + run).cast::<i32>().add(part).read_unaligned();
                    *own = multiply(*own, _mm512_set1_epi32(part), row);
                }
            }
        }
    }
    for (p, own) in own.into_iter().enumerate() {
        // SAFETY: as above.
        unsafe { add_to(sums.add(p * work.steps * work.lanes), own) };
    }
}

/// See [`Listed`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi2,avx2,popcnt")]
pub(super) unsafe fn listed(work: &Listed<'_, u8, i8>, sums: &mut [i32]) {
    work.each_block(|first, size, weights| match size {
        64 => work.block::<2, Sums>(first, weights, sums),
        _ => work.block::<1, avx2::Sums<1>>(first, weights, sums),
    });
}

/// Sums of 64 outputs in 16 bits: 0 to 15 and 32 to 47, then the others.
struct Sums([__m512i; 2]);

impl Accumulator for Sums {
    #[inline(always)]
    fn new() -> Self {
        // SAFETY: only `listed` makes one, and asks for AVX-512. So below.
        Self(unsafe { [_mm512_setzero_si512(); 2] })
    }

    #[inline(always)]
    fn add(&mut self, weights: &[i8], value: usize, rows: &[u32], counts: &[u8]) {
        check_rows(rows, value, (weights, 2));
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
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi2,avx2,popcnt")]
unsafe fn add_rows(weights: &[i8], value: usize, rows: &[u32], counts: &[u8], own: &mut [__m512i; 2]) {
    // Of this only what lies within the weights is read.
    let weights = weights.as_ptr().wrapping_sub(2 * value);
    let add = |own: &mut [__m512i; 2], a: u32, b: u32, counts: i16| {
        let two = _mm512_set1_epi16(counts);
        // SAFETY: see `check_rows`.
        unsafe {
            let a = load(weights.wrapping_add(2 * a as usize));
            let b = load(weights.wrapping_add(2 * b as usize));
            own[0] = _mm512_add_epi16(own[0], _mm512_maddubs_epi16(two, _mm512_unpacklo_epi8(a, b)));
            own[1] = _mm512_add_epi16(own[1], _mm512_maddubs_epi16(two, _mm512_unpackhi_epi8(a, b)));
        }
    };
    let count = rows.len().min(counts.len());
    for n in 0..count / 2 {
        // SAFETY: there are so many of both. Of an iterator over pairs the compiler reads both rows at once and takes them apart.
        unsafe {
            let counts = counts.as_ptr().add(2 * n).cast::<i16>().read_unaligned();
            add(own, *rows.get_unchecked(2 * n), *rows.get_unchecked(2 * n + 1), counts);
        }
    }
    if count % 2 == 1 {
        add(own, rows[count - 1], rows[count - 1], i16::from(counts[count - 1]));
    }
}

/// Adds sums of 16 bits to those of 32.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi2,avx2,popcnt")]
unsafe fn flush(own: &mut [__m512i; 2], to: &mut [i32]) {
    assert!(to.len() >= 2 * LANES);
    for (n, sum) in own.iter_mut().enumerate() {
        let halves = (_mm512_castsi512_si256(*sum), _mm512_extracti64x4_epi64(*sum, 1));
        // SAFETY: as just checked.
        unsafe {
            let to = to.as_mut_ptr().add(16 * n);
            add_to(to, _mm512_cvtepi16_epi32(halves.0));
            add_to(to.add(LANES), _mm512_cvtepi16_epi32(halves.1));
        }
        *sum = _mm512_setzero_si512();
    }
}

/// Lists what is in frames of bytes: what is not zero of 64 is brought together, and so are their places.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi2,avx2,popcnt")]
pub(super) unsafe fn list(lists: &mut Lists<u8>, frame: &Frame, bytes: &[u8], steps: (usize, usize)) {
    let places: [u8; 64] = std::array::from_fn(|n| n as u8);
    // SAFETY: all arrays have 64 elements, and AVX-512 is there.
    let some = |bytes: &[u8; 64], first: u32, rows: &mut [u32; 64], values: &mut [u8; 64]| unsafe {
        let bytes = load(bytes.as_ptr());
        let set = _mm512_test_epi8_mask(bytes, bytes);
        store(values.as_mut_ptr(), _mm512_maskz_compress_epi8(set, bytes));
        let places = _mm512_maskz_compress_epi8(set, load(places.as_ptr()));
        let (first, count) = (_mm512_set1_epi32(first as i32), set.count_ones() as usize);
        let quarters = [
            _mm512_castsi512_si128(places),
            _mm512_extracti32x4_epi32(places, 1),
            _mm512_extracti32x4_epi32(places, 2),
            _mm512_extracti32x4_epi32(places, 3),
        ];
        for (n, quarter) in quarters.into_iter().enumerate() {
            let rows_of = _mm512_slli_epi32(_mm512_cvtepu8_epi32(quarter), LANES.ilog2());
            store(rows.as_mut_ptr().add(16 * n), _mm512_add_epi32(rows_of, first));
        }
        let sum = _mm512_reduce_add_epi64(_mm512_sad_epu8(bytes, _mm512_setzero_si512()));
        (count, sum as u64)
    };
    lists.fill(frame, bytes, steps, 0, some, |byte| byte);
}

/// See [`Fire`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi2,avx2,popcnt")]
pub(super) unsafe fn fire(fire: &mut Fire<'_, '_>) {
    let pixels = fire.check();
    // SAFETY: AVX-512 is there; the slices are as long as they have to be.
    unsafe {
        match fire.decay {
            NO_DECAY => fire_each::<false>(fire, pixels),
            _ => fire_each::<true>(fire, pixels),
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi2,avx2,popcnt")]
unsafe fn fire_each<const DECAYS: bool>(fire: &mut Fire<'_, '_>, pixels: usize) {
    let Fire { neurons, thresholds, decay } = fire;
    let (lanes, steps) = (thresholds.len(), neurons.fired.len());
    let (per_pixel, per_step) = if neurons.constant { (lanes, 0) } else { (steps * lanes, lanes) };
    let decay = _mm512_set1_epi32(*decay);
    for n in 0..pixels * (lanes / LANES) {
        let (p, lane) = (n / (lanes / LANES), n % (lanes / LANES) * LANES);
        // SAFETY: see `Fire::check`.
        unsafe {
            let at = neurons.u.as_mut_ptr().add(p * lanes + lane);
            let mut u = [0, 16].map(|n| load(at.add(n)));
            let theta = [0, 16].map(|n| load(thresholds.as_ptr().add(lane + n)));
            for (s, fired) in neurons.fired.iter_mut().enumerate() {
                let current = neurons.current.as_ptr().add(p * per_pixel + s * per_step + lane);
                let mut fires = 0u32;
                for n in 0..2 {
                    let kept = if DECAYS { decayed(u[n], decay) } else { u[n] };
                    let integrated = _mm512_add_epi32(kept, load(current.add(16 * n)));
                    let these = _mm512_cmpgt_epi32_mask(integrated, theta[n]);
                    u[n] = _mm512_mask_sub_epi32(integrated, these, integrated, theta[n]);
                    fires |= u32::from(these) << (16 * n);
                }
                *fired += u64::from(fires.count_ones());
                let to = neurons.spikes.as_mut_ptr().add((p * steps + s) * lanes + lane);
                _mm256_storeu_si256(to.cast(), _mm256_maskz_set1_epi8(fires, 1));
            }
            for (n, u) in u.into_iter().enumerate() {
                store(at.add(16 * n), u);
            }
        }
    }
}

/// floor(u decay / 2^15): the product has 64 bits, of which those from the 15th on are kept.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi2,avx2,popcnt")]
fn decayed(u: __m512i, decay: __m512i) -> __m512i {
    let even = _mm512_srli_epi64(_mm512_mul_epi32(u, decay), 15);
    let odd = _mm512_slli_epi64(_mm512_mul_epi32(_mm512_srli_epi64(u, 32), decay), 17);
    _mm512_mask_blend_epi32(0b1010_1010_1010_1010, even, odd)
}
