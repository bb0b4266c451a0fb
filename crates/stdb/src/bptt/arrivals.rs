//! Frames as lists of what is not zero in them, row by row. Channels come last here: H x W x C.

use std::ops::Range;

/// Something that is not zero in a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Arrival {
    /// Where in the row it is, W x C.
    pub place: u32,
    pub value: f32,
}

/// The order in which what reaches a neuron is added up: blocks of channels, in each the kernel's rows, its columns, the channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// Channels of a block, which are listed together.
    pub block: usize,
    /// Whether a block's products are added to one another before they are added to the blocks before.
    pub apart: bool,
}

impl Order {
    /// Of oneDNN's convolutions with AVX2.
    pub const AVX2: Self = Self { block: 8, apart: false };
    /// Of oneDNN's convolutions with AVX-512.
    pub const AVX512: Self = Self { block: 16, apart: true };
    /// Where no result has to be the same to the last bit: long lists, whose ends the processor foresees more often.
    pub const FREE: Self = Self { block: 64, apart: false };
}

/// Frames of H x W x C. Their rows come in any order.
#[derive(Debug)]
pub(super) struct Frames {
    pub order: Order,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    /// Where the starts of row y of frame t are, at t H + y.
    rows: Vec<usize>,
    /// For each row where what its pixels hold begins in `all`, the first block of channels of each pixel, then the second of
    /// each; and where the last one ends.
    starts: Vec<usize>,
    all: Vec<Arrival>,
}

/// A row of one frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    width: usize,
    starts: &'a [usize],
    all: &'a [Arrival],
}

impl<'a> Row<'a> {
    /// What a block of channels holds in some pixels, in order.
    #[inline(always)]
    pub fn block(&self, block: usize, pixels: Range<usize>) -> &'a [Arrival] {
        let starts = &self.starts[block * self.width..];
        &self.all[starts[pixels.start]..starts[pixels.end]]
    }
}

impl Frames {
    /// For so many frames, whose rows are to come.
    pub fn new(order: Order, count: usize, (height, width): (usize, usize), channels: usize) -> Self {
        let mut frames = Self {
            order,
            height,
            width,
            channels,
            rows: vec![usize::MAX; count * height],
            starts: Vec::new(),
            all: Vec::new(),
        };
        frames.starts.reserve(count * height * (width * frames.blocks() + 1));
        frames
    }

    /// Blocks of channels.
    pub fn blocks(&self) -> usize {
        self.channels.div_ceil(self.order.block)
    }

    /// Frames C x H x W, as recordings are.
    pub fn of_planes(order: Order, values: &[f32], size: (usize, usize), channels: usize) -> Self {
        let (height, width) = size;
        let plane = height * width;
        let count = values.len() / (channels * plane);
        let mut frames = Self::new(order, count, size, channels);
        let mut row = vec![0.0; width * channels];
        for (t, frame) in values.chunks_exact(channels * plane).enumerate() {
            for y in 0..height {
                for (x, pixel) in row.chunks_exact_mut(channels).enumerate() {
                    pixel.iter_mut().enumerate().for_each(|(c, v)| *v = frame[c * plane + y * width + x]);
                }
                frames.push(t, y, &row);
            }
        }
        frames
    }

    /// Row `y` of frame `t`, W x C.
    pub fn push(&mut self, t: usize, y: usize, values: &[f32]) {
        self.rows[t * self.height + y] = self.starts.len();
        let Self { all, starts, .. } = self;
        let block = self.order.block;
        let mut end = all.len();
        // Everything is written, and only what counts is kept: which it is cannot be foreseen.
        all.resize(end + values.len(), Arrival { place: 0, value: 0.0 });
        for first in (0..self.channels).step_by(block) {
            for (x, pixel) in values.chunks_exact(self.channels).enumerate() {
                starts.push(end);
                let some = &pixel[first..self.channels.min(first + block)];
                for (place, &value) in ((x * self.channels + first) as u32..).zip(some) {
                    all[end] = Arrival { place, value };
                    end += usize::from(value != 0.0);
                }
            }
        }
        starts.push(end);
        all.truncate(end);
    }

    pub fn row(&self, t: usize, y: usize) -> Row<'_> {
        let start = self.rows[t * self.height + y];
        let end = start + self.width * self.blocks();
        Row { width: self.width, starts: &self.starts[start..=end], all: &self.all }
    }

    /// Everything in row `y` of frame `t`: its place in the row, W x C, and its value; block by block.
    pub fn values_of_row(&self, t: usize, y: usize) -> impl Iterator<Item = (usize, f32)> {
        let Row { starts, all, .. } = self.row(t, y);
        let these = starts[0]..starts[starts.len() - 1];
        all[these].iter().map(|arrival| (arrival.place as usize, arrival.value))
    }

    /// Shows everything in row `y` of frame `t`: pixel, channel and value. A channel's pixels are in order.
    #[inline(always)]
    pub fn each_of_row(&self, t: usize, y: usize, mut look: impl FnMut(usize, usize, f32)) {
        let row = self.row(t, y);
        for block in 0..self.blocks() {
            for x in 0..self.width {
                for arrival in row.block(block, x..x + 1) {
                    look(x, arrival.place as usize - x * self.channels, arrival.value);
                }
            }
        }
    }
}

/// What is in one row, channel by channel.
#[derive(Debug, Default)]
pub(super) struct ByChannel {
    starts: Vec<usize>,
    /// Buffer.
    next: Vec<usize>,
    /// Pixel and value.
    all: Vec<(u32, f32)>,
}

impl ByChannel {
    /// Replaces what it holds by a row of one frame.
    pub fn set(&mut self, frames: &Frames, t: usize, y: usize) {
        let Self { starts, next, all } = self;
        // The rows of a recording's only channel are listed so already.
        if frames.channels == 1 {
            all.clear();
            all.extend(frames.values_of_row(t, y).map(|(x, value)| (x as u32, value)));
            starts.clear();
            starts.extend([0, all.len()]);
            return;
        }
        starts.clear();
        starts.resize(frames.channels + 1, 0);
        frames.each_of_row(t, y, |_, channel, _| starts[channel + 1] += 1);
        for channel in 0..frames.channels {
            starts[channel + 1] += starts[channel];
        }
        all.clear();
        all.resize(starts[frames.channels], (0, 0.0));
        next.clear();
        next.extend_from_slice(starts);
        frames.each_of_row(t, y, |x, channel, value| {
            all[next[channel]] = (x as u32, value);
            next[channel] += 1;
        });
    }

    pub fn of(&self, channel: usize) -> &[(u32, f32)] {
        &self.all[self.starts[channel]..self.starts[channel + 1]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_is_what_is_not_zero() {
        // Two frames of 2 channels, 1 x 3.
        let planes = [0.0, 1.0, 2.0, 3.0, 0.0, 4.0, 0.0, 0.0, 0.0, 0.0, 5.0, 0.0];
        let frames = Frames::of_planes(Order::FREE, &planes, (1, 3), 2);
        let listed = |t| {
            let mut all = Vec::new();
            frames.each_of_row(t, 0, |x, channel, value| all.push((x, channel, value)));
            all
        };
        assert_eq!(listed(0), [(0, 1, 3.0), (1, 0, 1.0), (2, 0, 2.0), (2, 1, 4.0)]);
        assert_eq!(listed(1), [(1, 1, 5.0)]);
        let mut by_channel = ByChannel::default();
        by_channel.set(&frames, 0, 0);
        assert_eq!(by_channel.of(0), [(1, 1.0), (2, 2.0)]);
        assert_eq!(by_channel.of(1), [(0, 3.0), (2, 4.0)]);
        by_channel.set(&frames, 1, 0);
        assert!(by_channel.of(0).is_empty());
        assert_eq!(by_channel.of(1), [(1, 5.0)]);
    }
}
