//! What arrives at a layer: its input plane by plane, and the same as lists of what is not zero.
//!
//! Letters: S steps of a block, H rows, W columns, C channels; channels come last.

use escape_network::sequential::Padding;

use super::packed::LANES;

/// How a layer's input lies in memory: S x (padded H) x (padded W) x C values.
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
    /// Of an input with `padding` around it, that windows up to the `needed` rows and columns look at.
    pub fn new(input: (usize, usize, usize), padding: Padding, needed: (usize, usize)) -> Self {
        let rows = (input.0 + padding.top + padding.bottom).max(needed.0);
        let columns = (input.1 + padding.left + padding.right).max(needed.1);
        Self { input, padded: (rows, columns), top: padding.top, left: padding.left }
    }

    /// Values of one row.
    pub fn row(&self) -> usize {
        self.padded.1 * self.input.2
    }

    /// Values of one step.
    pub fn len(&self) -> usize {
        self.padded.0 * self.row()
    }

    /// Where an input pixel's channels begin.
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
    /// Others, and recordings.
    Words(Vec<i16>),
}

/// What is not zero in a plane, pixel by pixel.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// Where those of each pixel of the padded frame begin, S x (pixels + 1), among all.
    pub starts: Vec<u32>,
    /// The sum of all counts before each pixel, likewise.
    pub mass: Vec<u32>,
    /// Column x C + channel of each, in units of [`LANES`](super::packed::LANES).
    pub rows: Vec<u32>,
    pub counts: Vec<u8>,
}

impl Lists {
    /// Lists what is in the first `steps` frames of `bytes`; `mark` says which of 64 values are not zero.
    #[inline(always)]
    pub fn fill(&mut self, frame: &Frame, bytes: &[u8], steps: usize, mark: impl Fn(&[u8; 64]) -> u64) {
        let channels = frame.input.2;
        let pixels = frame.padded.0 * frame.padded.1;
        self.starts.clear();
        self.mass.clear();
        // As many as there can be, so that none has to be asked for.
        let most = steps * frame.input.0 * frame.input.1 * channels;
        if self.rows.len() < most {
            self.rows.resize(most, 0);
            self.counts.resize(most, 0);
        }
        let (mut n, mut mass) = (0usize, 0u32);
        for step in bytes.chunks_exact(frame.len()).take(steps) {
            for (pixel, values) in step.chunks_exact(channels).enumerate() {
                self.starts.push(n as u32);
                self.mass.push(mass);
                let first = (pixel % frame.padded.1 * channels) as u32;
                let mut blocks = values.chunks_exact(64);
                for (b, block) in blocks.by_ref().enumerate() {
                    let Some(block) = block.first_chunk() else { continue };
                    let mut set = mark(block);
                    while set != 0 {
                        let c = set.trailing_zeros();
                        let count = block[c as usize];
                        self.rows[n] = (first + 64 * b as u32 + c) * LANES as u32;
                        self.counts[n] = count;
                        mass += u32::from(count);
                        n += 1;
                        set &= set - 1;
                    }
                }
                let done = (channels - blocks.remainder().len()) as u32;
                for (c, &count) in blocks.remainder().iter().enumerate() {
                    if count != 0 {
                        self.rows[n] = (first + done + c as u32) * LANES as u32;
                        self.counts[n] = count;
                        mass += u32::from(count);
                        n += 1;
                    }
                }
            }
            self.starts.push(n as u32);
            self.mass.push(mass);
        }
        debug_assert_eq!(self.starts.len(), steps * (pixels + 1));
    }
}
