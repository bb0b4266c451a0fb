//! Tensors that a file keeps otherwise than element by element: quantised and sparse ones, made ordinary as
//! `Tensor.dequantize()` and `Tensor.to_dense()` of PyTorch 2.11 make them.
//!
//! Letters: n stored elements (for the block layouts: blocks), R rows, C columns.

use super::budget::{Budget, size};
use super::dtype::DType;
use super::error::Fault;
use super::value::{TensorData, elements};
use escape_files::text::dims;

/// How the whole numbers of a quantised tensor are read: `(number - zero) * scale`.
pub(crate) struct Quantisation {
    /// The dimension along which scales and zeros go; `None` for one of each.
    pub(crate) axis: Option<usize>,
    /// Whether zeros are rational numbers and the product is one of float32 (`per_channel_affine_float_qparams`).
    pub(crate) in_floats: bool,
    pub(crate) scales: Vec<f64>,
    pub(crate) zeros: Vec<f64>,
}

/// Float32 values of a quantised tensor, whose numbers are `raw`. PyTorch rounds differently with and without axis,
/// and so does this.
pub(crate) fn dequantise(
    raw: &TensorData,
    how: &Quantisation,
    budget: &mut Budget,
) -> Result<TensorData, Fault> {
    let Quantisation { axis, in_floats, scales, zeros } = how;
    let channels = match axis {
        None => 1,
        Some(axis) => raw.shape.get(*axis).copied().unwrap_or(0),
    };
    if scales.len() != channels || zeros.len() != channels {
        return Err(Fault::Damaged(format!(
            "a quantised tensor of shape {}: expected {channels} scales and zeros, got {} and {}",
            dims(&raw.shape),
            scales.len(),
            zeros.len()
        )));
    }
    budget.charge(size::<f32>(raw.len()), || format!("a quantised tensor of shape {}", dims(&raw.shape)))?;
    let within: usize = axis.map_or(1, |axis| raw.shape.iter().skip(axis + 1).product());
    let mut bytes = Vec::with_capacity(4 * raw.len());
    let mut i = 0usize;
    raw.each_f64(|number| {
        let channel = if axis.is_some() { (i / within.max(1)) % channels.max(1) } else { 0 };
        let scale = scales.get(channel).copied().unwrap_or(0.0);
        let zero = zeros.get(channel).copied().unwrap_or(0.0);
        let value = match (axis, in_floats) {
            (None, _) => (number as i32).wrapping_sub(zero as i32) as f32 * scale as f32,
            (Some(_), true) => (number as f32 - zero as f32) * scale as f32,
            (Some(_), false) => (f64::from(number as f32 - zero as f32) * scale) as f32,
        };
        bytes.extend(value.to_le_bytes());
        i += 1;
    });
    Ok(TensorData { dtype: DType::F32, shape: raw.shape.clone(), bytes: bytes.into() })
}

/// A sparse tensor of coordinates: `indices` are S x n for S sparse dimensions, `values` n x the other dimensions.
/// What is given twice is added up.
pub(crate) fn from_coordinates(
    indices: &TensorData,
    values: &TensorData,
    shape: &[usize],
    budget: &mut Budget,
) -> Result<TensorData, Fault> {
    let bad = || misfit("sparse_coo", shape);
    let &[sparse, n] = &indices.shape[..] else { return Err(bad()) };
    let (Some(outer), Some(inner)) = (shape.get(..sparse), shape.get(sparse..)) else { return Err(bad()) };
    if values.shape.first() != Some(&n) || values.shape.get(1..) != Some(inner) {
        return Err(bad());
    }
    let block = elements(inner).ok_or_else(bad)?;
    let mut out = zeros(values.dtype, shape, budget)?;
    if block == 0 {
        // No bytes say how many there are.
        return Ok(out);
    }
    for k in 0..n {
        let mut at = 0usize;
        for (d, &extent) in outer.iter().enumerate() {
            let index = index(indices, d * n + k, extent).ok_or_else(bad)?;
            // Below the number of elements, whose bytes were found.
            at = at * extent + index;
        }
        for j in 0..block {
            add(&mut out, at * block + j, values, k * block + j);
        }
    }
    Ok(out)
}

/// A sparse matrix, compressed by rows or columns (`sparse_csr`, `sparse_csc`), or one of blocks (`sparse_bsr`,
/// `sparse_bsc`). `bounds` says where each row's (or column's) elements begin and end among the n, `others` which
/// column (or row) each stands in; `values` are n, or n blocks.
pub(crate) fn from_compressed(
    layout: &str,
    bounds: &TensorData,
    others: &TensorData,
    values: &TensorData,
    shape: &[usize],
    budget: &mut Budget,
) -> Result<TensorData, Fault> {
    let bad = || misfit(layout, shape);
    let by_columns = matches!(layout, "sparse_csc" | "sparse_bsc");
    let &[rows, columns] = shape else {
        return Err(Fault::Unsupported(format!(
            "expected a sparse matrix, got a {layout} tensor of shape {}; save it after .to_dense()",
            dims(shape)
        )));
    };
    let (n, height, width) = match (layout, &values.shape[..]) {
        ("sparse_csr" | "sparse_csc", &[n]) => (n, 1, 1),
        ("sparse_bsr" | "sparse_bsc", &[n, height, width]) if height > 0 && width > 0 => (n, height, width),
        _ => return Err(bad()),
    };
    let grid = (rows / height, columns / width);
    let (lines, across) = if by_columns { (grid.1, grid.0) } else { grid };
    let fits = rows.is_multiple_of(height) && columns.is_multiple_of(width);
    if !fits || others.shape[..] != [n] || bounds.shape[..] != [lines + 1] {
        return Err(bad());
    }
    let mut out = zeros(values.dtype, shape, budget)?;
    let mut k = 0;
    for line in 0..lines {
        let end = index(bounds, line + 1, n + 1).filter(|&end| end >= k).ok_or_else(bad)?;
        while k < end {
            let other = index(others, k, across).ok_or_else(bad)?;
            let (row, column) = if by_columns { (other, line) } else { (line, other) };
            for (i, j) in (0..height).flat_map(|i| (0..width).map(move |j| (i, j))) {
                let at = (row * height + i) * columns + column * width + j;
                add(&mut out, at, values, (k * height + i) * width + j);
            }
            k += 1;
        }
    }
    if k == n { Ok(out) } else { Err(bad()) }
}

fn misfit(layout: &str, shape: &[usize]) -> Fault {
    Fault::Damaged(format!(
        "a {layout} tensor of shape {}: expected indices and values that fit its shape and each other, got others",
        dims(shape)
    ))
}

/// The whole number at `i`, if it is below `limit`.
fn index(numbers: &TensorData, i: usize, limit: usize) -> Option<usize> {
    let number = numbers.element(i);
    (number >= 0.0 && number < limit as f64 && number.fract() == 0.0).then_some(number as usize)
}

fn zeros(dtype: DType, shape: &[usize], budget: &mut Budget) -> Result<TensorData, Fault> {
    let spoken = || format!("a sparse tensor of shape {}", dims(shape));
    let bytes = elements(shape).and_then(|n| n.checked_mul(dtype.size()));
    let bytes =
        bytes.ok_or_else(|| Fault::TooLarge(format!("{} exceeds this machine's memory", spoken())))?;
    budget.charge(bytes as u64, spoken)?;
    Ok(TensorData { dtype, shape: shape.to_vec(), bytes: vec![0; bytes].into() })
}

/// Adds an element to another, in the precision of their type.
fn add(out: &mut TensorData, at: usize, values: &TensorData, from: usize) {
    // A float64 holds the sum of two shorter numbers exactly enough that rounding twice changes nothing.
    let sum = out.element(at) + values.element(from);
    out.set_element(at, sum);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::of_file;

    fn ints(shape: &[usize], values: &[i64]) -> TensorData {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        TensorData { dtype: DType::I64, shape: shape.to_vec(), bytes: bytes.into() }
    }

    fn budget() -> Budget {
        of_file(1000)
    }

    #[test]
    fn coordinates_are_filled_in_and_added_up() {
        let indices = ints(&[2, 3], &[0, 1, 0, 2, 0, 2]);
        let values = TensorData::from_f32(&[3], &[1.0, 2.0, 0.5]);
        let dense = from_coordinates(&indices, &values, &[2, 3], &mut budget()).unwrap();
        assert_eq!(dense.to_f32(), [0.0, 0.0, 1.5, 2.0, 0.0, 0.0]);
        // One sparse dimension, one dense.
        let values = TensorData::from_f32(&[1, 2], &[3.0, 4.0]);
        let dense = from_coordinates(&ints(&[1, 1], &[1]), &values, &[2, 2], &mut budget()).unwrap();
        assert_eq!(dense.to_f32(), [0.0, 0.0, 3.0, 4.0]);
        for wrong in [ints(&[2, 3], &[0, 1, 2, 0, 0, 0]), ints(&[2, 3], &[0, -1, 0, 0, 0, 0])] {
            let values = TensorData::from_f32(&[3], &[1.0; 3]);
            assert!(from_coordinates(&wrong, &values, &[2, 3], &mut budget()).is_err());
        }
        let many = from_coordinates(
            &ints(&[1, 0], &[]),
            &TensorData::from_f32(&[0], &[]),
            &[1 << 40],
            &mut budget(),
        );
        assert!(matches!(many, Err(Fault::TooLarge(_))), "{many:?}");
    }

    #[test]
    fn compressed_matrices_are_filled_in() {
        let values = TensorData::from_f32(&[3], &[1.0, 2.0, 3.0]);
        let (bounds, others) = (ints(&[3], &[0, 1, 3]), ints(&[3], &[2, 0, 1]));
        let by_rows =
            from_compressed("sparse_csr", &bounds, &others, &values, &[2, 3], &mut budget()).unwrap();
        assert_eq!(by_rows.to_f32(), [0.0, 0.0, 1.0, 2.0, 3.0, 0.0]);
        let by_columns =
            from_compressed("sparse_csc", &bounds, &others, &values, &[3, 2], &mut budget()).unwrap();
        assert_eq!(by_columns.to_f32(), [0.0, 2.0, 0.0, 3.0, 1.0, 0.0]);
        let blocks = TensorData::from_f32(&[1, 2, 2], &[1.0, 2.0, 3.0, 4.0]);
        let (one, column) = (ints(&[2], &[0, 1]), ints(&[1], &[1]));
        let of_blocks =
            from_compressed("sparse_bsr", &one, &column, &blocks, &[2, 4], &mut budget()).unwrap();
        assert_eq!(of_blocks.to_f32(), [0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 3.0, 4.0]);
        for bounds in [ints(&[3], &[0, 4, 3]), ints(&[3], &[0, 2, 1]), ints(&[3], &[0, 1, 2])] {
            assert!(
                from_compressed("sparse_csr", &bounds, &others, &values, &[2, 3], &mut budget()).is_err()
            );
        }
    }

    #[test]
    fn quantised_numbers_count_from_their_zero() {
        let raw = TensorData { dtype: DType::I8, shape: vec![2, 2], bytes: vec![0, 1, 255, 128].into() };
        let one = Quantisation { axis: None, in_floats: false, scales: vec![0.5], zeros: vec![1.0] };
        assert_eq!(dequantise(&raw, &one, &mut budget()).unwrap().to_f32(), [-0.5, 0.0, -1.0, -64.5]);
        let by_column =
            Quantisation { axis: Some(1), in_floats: false, scales: vec![0.5, 2.0], zeros: vec![0.0, 1.0] };
        assert_eq!(dequantise(&raw, &by_column, &mut budget()).unwrap().to_f32(), [0.0, 0.0, -0.5, -258.0]);
        let short = Quantisation { axis: Some(0), in_floats: false, scales: vec![1.0], zeros: vec![0.0] };
        assert!(dequantise(&raw, &short, &mut budget()).is_err());
    }
}
