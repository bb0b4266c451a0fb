//! Shapes of what layers take and give, and how large they may be.

use std::fmt;

/// Rows and columns.
pub type Size = (usize, usize);

/// Channels, rows and columns of what a layer gets or gives. Features in a row are channels of 1 x 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// C.
    pub channels: usize,
    /// H.
    pub height: usize,
    /// W.
    pub width: usize,
}

impl Shape {
    /// C x H x W.
    pub const fn new(channels: usize, height: usize, width: usize) -> Self {
        Self { channels, height, width }
    }

    /// So many features.
    pub const fn features(n: usize) -> Self {
        Self::new(n, 1, 1)
    }

    /// Rows and columns of a recording of this shape: the rows of several channels lie under one another.
    pub const fn recording(&self) -> Size {
        (self.channels.saturating_mul(self.height), self.width)
    }

    /// C H W; what does not fit is the largest number there is, which no limit allows.
    pub const fn count(&self) -> usize {
        self.channels.saturating_mul(self.height).saturating_mul(self.width)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {} x {}", self.channels, self.height, self.width)
    }
}

/// Values of any layer's input, output or parameters, at most: a gigabyte of float32.
pub const MOST_VALUES: usize = 1 << 28;
/// Parameters in all, at most: four gigabytes of float32.
pub const MOST_PARAMETERS: usize = 1 << 30;
/// Layers, at most.
pub const MOST_LAYERS: usize = 1000;
