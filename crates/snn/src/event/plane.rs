//! What arrives at a layer: its input plane by plane, and the same as lists of what is not zero.
//!
//! Letters: S steps of a block, H rows, W columns, C channels; channels come last.

use std::ops::Range;

use escape_network::sequential::Padding;

use super::packed::LANES;

/// The most steps that are simulated of one layer before the next one's turn.
pub(super) const BLOCK_STEPS: usize = 8;

/// The largest count of a layer's input, in words.
pub(super) const LARGEST_WORD: usize = i16::MAX as usize;

/// The blocks into which so many steps are divided, as equal as may be.
pub(super) fn blocks(steps: usize) -> impl ExactSizeIterator<Item = Range<usize>> {
    let count = steps.div_ceil(BLOCK_STEPS);
    (0..count).map(move |n| steps * n / count..steps * (n + 1) / count)
}

/// How a layer's input lies in memory: (padded H) x S x (padded W) x C values. A row's steps lie together so that rows can be
/// written by threads of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Rows, columns and channels of the input itself.
    pub input: (usize, usize, usize),
    /// Rows and columns with what is around it.
    pub padded: (usize, usize),
    /// Where the input begins.
    pub top: usize,
    pub left: usize,
}

impl Frame {
    /// Of an input with `padding` around it, at whose first `needed` rows and columns windows look.
    pub fn new(input: (usize, usize, usize), padding: Padding, needed: (usize, usize)) -> Self {
        let rows = (input.0 + padding.top + padding.bottom).max(needed.0);
        let columns = (input.1 + padding.left + padding.right).max(needed.1);
        Self { input, padded: (rows, columns), top: padding.top, left: padding.left }
    }

    /// Values of a row at one step, which is how far the next step is.
    pub fn step(&self) -> usize {
        self.padded.1 * self.input.2
    }

    /// How far the next row is.
    pub fn row(&self) -> usize {
        BLOCK_STEPS * self.step()
    }

    /// Values of all steps.
    pub fn len(&self) -> usize {
        self.padded.0 * self.row()
    }

    /// Where an input pixel's channels begin at the first step.
    pub fn at(&self, row: usize, column: usize) -> usize {
        (row + self.top) * self.row() + (column + self.left) * self.input.2
    }
}

/// Values that the kernels may read past the end of a frame; their weights are zeros.
pub(super) const SLACK: usize = 4;

/// The input of a layer over the steps of a block.
#[derive(Debug)]
pub(super) enum Values {
    /// Small counts.
    Bytes(Vec<u8>),
    /// Larger ones, and recordings in whole numbers.
    Words(Vec<i16>),
    /// Recordings.
    Floats(Vec<f32>),
}

/// What is not zero in a layer's input, pixel by pixel.
#[derive(Debug)]
pub(super) struct Lists<V> {
    /// Where those of each pixel of the padded frame begin, (padded H) x S x (padded W) and the end.
    pub starts: Vec<u32>,
    /// The sum of all bytes before each pixel, likewise.
    pub mass: Vec<u64>,
    /// Of each, column x C + channel, times [`LANES`].
    pub rows: Vec<u32>,
    pub values: Vec<V>,
}

impl<V> Default for Lists<V> {
    fn default() -> Self {
        Self { starts: Vec::new(), mass: Vec::new(), rows: Vec::new(), values: Vec::new() }
    }
}

impl<V: Copy + Default> Lists<V> {
    /// Lists the first `steps` steps of `bytes`, but for those that are `nothing`. `some` lists 64 of them, the first of which has the
    /// given row, at the beginning of what it gets, where there is room for 64; it returns how many it found, and their sum. There are
    /// `arrivals` in all.
    #[inline(always)]
    pub fn fill(
        &mut self,
        frame: &Frame,
        bytes: &[u8],
        (steps, arrivals): (usize, usize),
        nothing: u8,
        mut some: impl FnMut(&[u8; 64], u32, &mut [u32; 64], &mut [V; 64]) -> (usize, u64),
        value: impl Fn(u8) -> V,
    ) {
        let channels = frame.input.2;
        self.starts.clear();
        self.mass.clear();
        // Blocks of 64 are listed whole; what is beyond their arrivals is overwritten by the next one.
        let most = arrivals + 64;
        if self.rows.len() < most {
            self.rows.resize(most, 0);
            self.values.resize(most, V::default());
        }
        let (mut n, mut mass) = (0usize, 0u64);
        for row in bytes[..frame.len()].chunks_exact(frame.step()).enumerate() {
            let (line, values) = row;
            if line % BLOCK_STEPS >= steps {
                continue;
            }
            for (column, values) in values.chunks_exact(channels).enumerate() {
                self.starts.push(n as u32);
                self.mass.push(mass);
                let first = (column * channels) as u32;
                let (blocks, rest) = values.as_chunks::<64>();
                for (b, block) in blocks.iter().enumerate() {
                    let room = (self.rows[n..].first_chunk_mut(), self.values[n..].first_chunk_mut());
                    let (Some(rows), Some(values)) = room else {
                        unreachable!("there are more than {arrivals}")
                    };
                    let (count, sum) = some(block, (first + 64 * b as u32) * LANES as u32, rows, values);
                    n += count;
                    mass += sum;
                }
                for (c, &byte) in rest.iter().enumerate() {
                    if byte != nothing {
                        self.rows[n] = (first + (channels - rest.len() + c) as u32) * LANES as u32;
                        self.values[n] = value(byte);
                        mass += u64::from(byte);
                        n += 1;
                    }
                }
            }
        }
        self.starts.push(n as u32);
        self.mass.push(mass);
    }

    /// As [`Lists::fill`]; `mark` says which of 64 bytes are something, the first by the lowest bit.
    #[inline(always)]
    pub fn fill_marked(
        &mut self,
        frame: &Frame,
        bytes: &[u8],
        steps: (usize, usize),
        nothing: u8,
        mark: impl Fn(&[u8; 64]) -> u64,
        value: impl Fn(u8) -> V,
    ) {
        let some = |bytes: &[u8; 64], first: u32, rows: &mut [u32; 64], values: &mut [V; 64]| {
            let (mut set, mut n, mut sum) = (mark(bytes), 0, 0);
            while set != 0 {
                let c = set.trailing_zeros();
                let byte = bytes[c as usize];
                (rows[n], values[n]) = (first + c * LANES as u32, value(byte));
                sum += u64::from(byte);
                n += 1;
                set &= set - 1;
            }
            (n, sum)
        };
        self.fill(frame, bytes, steps, nothing, some, &value);
    }

    /// Lists the first `steps` steps of other values. Their sums stay unknown.
    pub fn fill_with<E: Copy>(
        &mut self,
        frame: &Frame,
        values: &[E],
        steps: usize,
        something: impl Fn(E) -> Option<V>,
    ) {
        self.starts.clear();
        self.rows.clear();
        self.values.clear();
        for (line, values) in values[..frame.len()].chunks_exact(frame.step()).enumerate() {
            if line % BLOCK_STEPS >= steps {
                continue;
            }
            for (n, &value) in values.iter().enumerate() {
                if n % frame.input.2 == 0 {
                    self.starts.push(self.rows.len() as u32);
                }
                if let Some(value) = something(value) {
                    self.rows.push((n * LANES) as u32);
                    self.values.push(value);
                }
            }
        }
        self.starts.push(self.rows.len() as u32);
    }
}
