//! Frames as lists of what is not zero in them, pixel by pixel. Channels come last here: H x W x C.

/// What one channel of a pixel holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Arrival {
    pub channel: u32,
    pub value: f32,
}

/// Channels that are listed together: those whose products libtorch adds up before the next tap.
pub(super) const BLOCK: usize = 8;

/// Frames of H x W x C. Their rows come in any order.
#[derive(Debug)]
pub(super) struct Frames {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    /// Where the starts of row y of frame t are, at t H + y.
    rows: Vec<usize>,
    /// For each row where the blocks of channels of its pixels begin in `all`, and where the last one ends.
    starts: Vec<usize>,
    all: Vec<Arrival>,
}

/// A row of one frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    blocks: usize,
    starts: &'a [usize],
    all: &'a [Arrival],
}

impl<'a> Row<'a> {
    /// What a block of a pixel's channels holds.
    #[inline(always)]
    pub fn block(&self, x: usize, block: usize) -> &'a [Arrival] {
        let n = x * self.blocks + block;
        &self.all[self.starts[n]..self.starts[n + 1]]
    }

    /// What a pixel holds.
    #[inline(always)]
    pub fn at(&self, x: usize) -> &'a [Arrival] {
        &self.all[self.starts[x * self.blocks]..self.starts[(x + 1) * self.blocks]]
    }
}

impl Frames {
    /// For so many frames, whose rows are to come.
    pub fn new(count: usize, (height, width): (usize, usize), channels: usize) -> Self {
        let mut frames = Self {
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
        self.channels.div_ceil(BLOCK)
    }

    /// Frames C x H x W, as recordings are.
    pub fn of_planes(values: &[f32], size: (usize, usize), channels: usize) -> Self {
        let (height, width) = size;
        let plane = height * width;
        let count = values.len() / (channels * plane);
        let mut frames = Self::new(count, size, channels);
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
        let mut end = all.len();
        // Everything is written, and only what counts is kept: which it is cannot be foreseen.
        all.resize(end + values.len(), Arrival { channel: 0, value: 0.0 });
        for pixel in values.chunks_exact(self.channels) {
            for (block, values) in pixel.chunks(BLOCK).enumerate() {
                starts.push(end);
                for (channel, &value) in (block * BLOCK..).zip(values) {
                    all[end] = Arrival { channel: channel as u32, value };
                    end += usize::from(value != 0.0);
                }
            }
        }
        starts.push(end);
        all.truncate(end);
    }

    pub fn row(&self, t: usize, y: usize) -> Row<'_> {
        let (start, blocks) = (self.rows[t * self.height + y], self.blocks());
        Row { blocks, starts: &self.starts[start..=start + self.width * blocks], all: &self.all }
    }

    /// Everything in row `y` of frame `t`, with the pixel where it is.
    pub fn of_row(&self, t: usize, y: usize) -> impl Iterator<Item = (usize, Arrival)> {
        let row = self.row(t, y);
        (0..self.width).flat_map(move |x| row.at(x).iter().map(move |&arrival| (x, arrival)))
    }
}

/// What is in one row, channel by channel.
#[derive(Debug, Default)]
pub(super) struct ByChannel {
    starts: Vec<usize>,
    /// Pixel and value.
    all: Vec<(u32, f32)>,
}

impl ByChannel {
    /// Replaces what it holds by a row of one frame.
    pub fn set(&mut self, frames: &Frames, t: usize, y: usize) {
        let Self { starts, all } = self;
        starts.clear();
        starts.resize(frames.channels + 1, 0);
        for (_, arrival) in frames.of_row(t, y) {
            starts[arrival.channel as usize] += 1;
        }
        let mut end = 0;
        for start in starts.iter_mut() {
            end += *start;
            *start = end;
        }
        all.clear();
        all.resize(end, (0, 0.0));
        // From the last to the first, so that each channel's beginning is found where its end was, and pixels stay in order.
        let row = frames.row(t, y);
        for x in (0..frames.width).rev() {
            for arrival in row.at(x) {
                let place = &mut starts[arrival.channel as usize];
                *place -= 1;
                all[*place] = (x as u32, arrival.value);
            }
        }
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
        let frames = Frames::of_planes(&planes, (1, 3), 2);
        let listed = |t| frames.of_row(t, 0).map(|(x, a)| (x, a.channel, a.value)).collect::<Vec<_>>();
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
