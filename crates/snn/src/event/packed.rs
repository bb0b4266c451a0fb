//! A layer's weights as events need them: for each tap of the kernel and each input channel a row of output channels.

use escape_network::sequential::{Conv2d, Padding, Size};
use escape_network::stage::Op;

use crate::integer::IntegerNetwork;

/// A layer as a convolution, weights in rows. A linear layer is one whose kernel is as large as its input.
#[derive(Debug)]
pub(super) struct Packed {
    /// Input rows, columns and channels.
    pub input: (usize, usize, usize),
    /// Output rows, columns and channels.
    pub output: (usize, usize, usize),
    pub kernel: Size,
    pub stride: Size,
    pub padding: Padding,
    /// Input channels of a group, and output channels: the length of a row.
    pub group: (usize, usize),
    /// Taps x input channels x output channels of the group.
    pub rows: Vec<i8>,
    /// A threshold for each output channel; empty for the readout.
    pub thresholds: Vec<i32>,
    /// A constant current for each output channel.
    pub bias: Vec<i32>,
    pub decay: i32,
    /// Arrivals at each input pixel, weighed by the neurons that they reach.
    pub fan_out: Vec<u32>,
}

impl Packed {
    pub fn new(network: &IntegerNetwork, k: usize) -> Self {
        let layer = &network.layers[k];
        let shape = &layer.shape;
        let convolution = match shape.op {
            Op::Conv(conv) => conv,
            Op::Linear => {
                // The planes that the layer below sends, if it sends planes.
                let below = k.checked_sub(1).map(|k| network.layers[k].shape.pooled);
                let planes = below.filter(|planes| planes.count() == shape.input.channels);
                let (rows, columns) = planes.map_or((1, 1), |planes| (planes.height, planes.width));
                Conv2d { bias: false, ..Conv2d::new(shape.output.channels, (rows, columns)) }
            }
        };
        let Conv2d { out, kernel, stride, padding, groups, .. } = convolution;
        let (height, width) = match shape.op {
            Op::Conv(_) => (shape.input.height, shape.input.width),
            Op::Linear => kernel,
        };
        let channels = shape.input.count() / (height * width);
        let (inputs, outputs) = (channels / groups, out / groups);
        let taps = kernel.0 * kernel.1;
        let mut rows = vec![0i8; taps * channels * outputs];
        for (o, i, tap) in
            (0..out).flat_map(|o| (0..inputs).flat_map(move |i| (0..taps).map(move |tap| (o, i, tap))))
        {
            let channel = o / outputs * inputs + i;
            rows[(tap * channels + channel) * outputs + o % outputs] =
                layer.weights[(o * inputs + i) * taps + tap];
        }
        let bias = if layer.bias.is_empty() { vec![0; out] } else { layer.bias.clone() };
        let output = match shape.op {
            Op::Conv(_) => (shape.output.height, shape.output.width, out),
            Op::Linear => (1, 1, out),
        };
        Self {
            input: (height, width, channels),
            output,
            kernel,
            stride,
            padding,
            group: (inputs, outputs),
            rows,
            thresholds: layer.thresholds.clone(),
            bias,
            decay: layer.decay,
            fan_out: shape.fan_out(),
        }
    }

    /// How many neurons an arrival at a pixel reaches.
    pub fn reaches(&self, pixel: usize) -> u64 {
        u64::from(if self.fan_out.len() == 1 { self.fan_out[0] } else { self.fan_out[pixel] })
    }
}
