//! Random networks of every kind of layer, the same for the same seed. Shared by the tests of several crates.

use escape_network::rng::Stream;
use escape_network::sequential::{Conv2d, Layer, Named, Padding, Pool, Pooling, Sequential, Shape, Size};

/// Numbers drawn one after the other.
struct Draw(Stream);

impl Draw {
    fn whole(&mut self, least: usize, most: usize) -> usize {
        self.0.whole([least as u32, most as u32]) as usize
    }

    fn chance(&mut self, p: f64) -> bool {
        self.0.uniform() < p
    }

    fn size(&mut self, least: usize, most: usize) -> Size {
        (self.whole(least, most), self.whole(least, most))
    }

    fn conv(&mut self, channels: usize) -> Conv2d {
        let dividing: Vec<usize> = (1..=channels).filter(|n| channels.is_multiple_of(*n)).collect();
        let groups = dividing[self.whole(0, dividing.len() - 1)];
        let kernel = self.size(1, 4);
        let padding = match self.whole(0, 2) {
            0 => Padding::default(),
            1 => Padding::same(kernel),
            _ => {
                let [top, bottom, left, right] = [(); 4].map(|()| self.whole(0, 2));
                Padding { top, bottom, left, right }
            }
        };
        let out = groups * self.whole(1, 3);
        Conv2d { out, kernel, stride: self.size(1, 2), padding, groups, bias: self.chance(0.5) }
    }

    fn pool(&mut self) -> Pool {
        let pooling = match self.chance(0.5) {
            true => Pooling::Max,
            false => Pooling::Average { count_padding: self.chance(0.5) },
        };
        let kernel = self.size(1, 3);
        let stride = if self.chance(0.5) { kernel } else { self.size(1, 3) };
        let padding = match self.chance(0.7) {
            true => Padding::default(),
            // Up to half of a kernel, on each side its own for maxima, as Keras has it.
            false if pooling == Pooling::Max && self.chance(0.5) => Padding {
                top: self.whole(0, kernel.0 / 2),
                bottom: self.whole(0, kernel.0 / 2),
                left: self.whole(0, kernel.1 / 2),
                right: self.whole(0, kernel.1 / 2),
            },
            false => Padding::symmetric((self.whole(0, kernel.0 / 2), self.whole(0, kernel.1 / 2))),
        };
        Pool { pooling, kernel, stride, padding, ceil: self.chance(0.3) }
    }

    fn network(&mut self) -> (Shape, Vec<Layer>) {
        let input = Shape::new(self.whole(1, 3), self.whole(4, 14), self.whole(4, 14));
        let mut layers = Vec::new();
        let mut channels = input.channels;
        for _ in 0..self.whole(0, 3) {
            let conv = self.conv(channels);
            channels = conv.out;
            layers.push(Layer::Conv2d(conv));
            if self.chance(0.4) {
                layers.push(Layer::BatchNorm { eps: 1e-3, affine: self.chance(0.7) });
            }
            let early = self.chance(0.2);
            if early {
                layers.push(Layer::Pool(self.pool()));
            }
            layers.push(Layer::Relu);
            if !early && self.chance(0.5) {
                layers.push(Layer::Pool(self.pool()));
            }
            if self.chance(0.2) {
                layers.push(Layer::Dropout { p: 0.3 });
            }
        }
        if self.chance(0.2) {
            layers.push(Layer::AdaptiveAvgPool { out: self.size(1, 3) });
        }
        layers.push(Layer::Flatten);
        for _ in 0..self.whole(0, 2) {
            layers.push(Layer::Linear { out: self.whole(1, 12), bias: self.chance(0.5) });
            if self.chance(0.3) {
                layers.push(Layer::BatchNorm { eps: 1e-3, affine: true });
            }
            layers.push(Layer::Relu);
        }
        layers.push(Layer::Linear { out: self.whole(2, 6), bias: self.chance(0.5) });
        (input, layers)
    }
}

/// The `index`-th random network that `fits`.
pub fn random(index: u64, fits: impl Fn(&Sequential) -> bool) -> Sequential {
    let mut draw = Draw(Stream::new(77, index));
    loop {
        let (input, layers) = draw.network();
        let named = |(i, layer): (usize, Layer)| Named { name: format!("net.{i}"), layer };
        let layers = layers.into_iter().enumerate().map(named).collect();
        // Sizes that do not fit each other are drawn again.
        if let Ok(network) = Sequential::new(input, layers, Vec::new())
            && fits(&network)
        {
            return network;
        }
    }
}
