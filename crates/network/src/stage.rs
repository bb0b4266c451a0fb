//! A network as a spiking one sees it: layers of neurons, each behind its weights, with what lies in between.

use crate::error::NetworkError;
use crate::sequential::{Conv2d, Layer, Named, Padding, Pool, Pooling, Sequential, Shape};

/// What the weights of a stage do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Convolve.
    Conv(Conv2d),
    /// Connect everything with everything.
    Linear,
}

/// Weights, the neurons behind them, and the pooling of what those send.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// `conv1`, `conv2`, .. and `linear1`, `linear2`, ..
    pub name: String,
    /// Prefix of its parameters in a state dictionary, `features.0` say.
    pub key: String,
    /// What its weights do.
    pub op: Op,
    /// What its weights take; features in a row for a linear stage.
    pub input: Shape,
    /// Its neurons.
    pub output: Shape,
    /// Whether neurons receive a constant besides, a bias or what a batch norm leaves.
    pub bias: bool,
    /// Pooling of what the neurons send.
    pub pool: Option<Pool>,
    /// What that leaves, which is what the next stage takes, if need be in a row.
    pub pooled: Shape,
    /// Its place among the network's layers: of the weights,
    pub weights_at: usize,
    /// of the batch norm behind them,
    pub norm_at: Option<usize>,
    /// and of the layer whose output, above 0, its neurons' rates stand for: the ReLU, but what is before it where a maximum
    /// comes in between; of the last stage, whose output the readout stands for, the weights or their norm.
    pub activations_at: usize,
}

/// What arrived at a stage, over any number of recordings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// Values that were not zero.
    pub values: u64,
    /// Multiply-accumulates with them: each value's fan-out, that is the kernel's taps inside the border times the output
    /// channels of its group.
    pub macs: u64,
    /// Those of them with a weight that is not zero.
    pub macs_of_nonzero_weights: u64,
}

/// A layer with what arrived at it.
#[derive(Clone, Debug)]
pub struct LayerWork {
    /// The layer.
    pub stage: Stage,
    /// What arrived at it, over all recordings.
    pub arrived: Arrived,
    /// How many of its weights are not zero.
    pub nonzero_weights: u64,
}

impl Stage {
    /// Outputs for one recording.
    pub fn neurons(&self) -> usize {
        self.output.count()
    }

    /// PyTorch's weight shape: `[out, in / groups, rows, columns]` or `[out, in]`.
    pub fn weight_shape(&self) -> Vec<usize> {
        match self.op {
            Op::Conv(Conv2d { out, kernel, groups, .. }) => {
                vec![out, self.input.channels / groups, kernel.0, kernel.1]
            }
            Op::Linear => vec![self.output.channels, self.input.channels],
        }
    }

    /// Number of weights, without biases.
    pub fn weights(&self) -> usize {
        self.weight_shape().iter().product()
    }

    /// Multiply-accumulates for one recording, those with the padding's zeros counted as well, as the study does.
    pub fn macs(&self) -> usize {
        self.weights() / self.output.channels * self.neurons()
    }

    /// The most spikes of one step that one value of what it sends can stand for: those of a mean's window.
    pub fn largest_count(&self) -> usize {
        match self.pool {
            Some(Pool { pooling: Pooling::Average { .. }, kernel, .. }) => kernel.0 * kernel.1,
            _ => 1,
        }
    }

    /// Zeros around its input.
    pub fn padding(&self) -> Padding {
        match self.op {
            Op::Conv(Conv2d { padding, .. }) => padding,
            Op::Linear => Padding::default(),
        }
    }

    /// For every input pixel, row by row: how many of this stage's neurons a spike there reaches (kernel taps that fall
    /// on an output, times output channels of its group). One entry for a linear stage.
    pub fn fan_out(&self) -> Vec<u32> {
        let Op::Conv(Conv2d { out, kernel, stride, padding, groups, .. }) = self.op else {
            return vec![self.output.channels as u32];
        };
        // Output o reads inputs o stride - before .. o stride - before + kernel.
        let taps = |length: usize, outputs: usize, kernel: usize, stride: usize, before: usize| -> Vec<u32> {
            let reaches = |i: usize, tap: usize| {
                let from = (i + before).checked_sub(tap)?;
                (from.is_multiple_of(stride) && from / stride < outputs).then_some(())
            };
            (0..length).map(|i| (0..kernel).filter(|&tap| reaches(i, tap).is_some()).count() as u32).collect()
        };
        let (input, output) = (self.input, self.output);
        let columns = taps(input.width, output.width, kernel.1, stride.1, padding.left);
        let rows = taps(input.height, output.height, kernel.0, stride.0, padding.top);
        let channels = (out / groups) as u32;
        rows.into_iter().flat_map(|r| columns.iter().map(move |c| r * c * channels)).collect()
    }

    /// For every value of its input, C x H x W: with how many weights that are not zero it is multiplied, inside the border.
    /// `nonzero` says of each weight, in PyTorch's order, whether it is one of those.
    pub fn fan_out_of(&self, nonzero: &[bool]) -> Vec<u32> {
        let Shape { channels, height, width } = self.input;
        let mut fan_out = vec![0; self.input.count()];
        let Op::Conv(Conv2d { out, kernel, stride, padding, groups, .. }) = self.op else {
            for row in nonzero.chunks_exact(fan_out.len()) {
                fan_out.iter_mut().zip(row).for_each(|(count, there)| *count += u32::from(*there));
            }
            return fan_out;
        };
        let (inputs, outputs, taps) = (channels / groups, out / groups, kernel.0 * kernel.1);
        // Places of a kernel's tap within the input, over all outputs along one side.
        let places = |tap: usize, outputs: usize, stride: usize, before: usize, length: usize| {
            (0..outputs)
                .filter_map(move |o| (o * stride + tap).checked_sub(before))
                .filter(move |at| *at < length)
        };
        for (channel, tap) in (0..channels).flat_map(|channel| (0..taps).map(move |tap| (channel, tap))) {
            let (group, input) = (channel / inputs, channel % inputs);
            let of_group = (group * outputs..(group + 1) * outputs)
                .filter(|o| nonzero[(o * inputs + input) * taps + tap]);
            let count = of_group.count() as u32;
            for row in places(tap / kernel.1, self.output.height, stride.0, padding.top, height) {
                for column in places(tap % kernel.1, self.output.width, stride.1, padding.left, width) {
                    fan_out[(channel * height + row) * width + column] += count;
                }
            }
        }
        fan_out
    }
}

/// Whether all windows of a mean are divided by the same number.
fn divides_alike(pool: &Pool, input: Shape, output: Shape) -> bool {
    let Pooling::Average { count_padding } = pool.pooling else { return true };
    let Padding { top, bottom, left, right } = pool.padding;
    let cut_off = |outputs: usize, kernel: usize, stride: usize, padded: usize| {
        (outputs - 1) * stride + kernel > padded
    };
    (count_padding || pool.padding == Padding::default())
        && !cut_off(output.height, pool.kernel.0, pool.stride.0, input.height + top + bottom)
        && !cut_off(output.width, pool.kernel.1, pool.stride.1, input.width + left + right)
}

/// What is known of a stage that is not complete yet.
struct Open {
    stage: Stage,
    relu: bool,
}

impl Sequential {
    /// The network as layers of neurons.
    ///
    /// # Errors
    /// A layer that has no spiking counterpart where it stands; the message names it, and what to do.
    pub fn stages(&self) -> Result<Vec<Stage>, NetworkError> {
        let mut done = Vec::new();
        let mut open: Option<Open> = None;
        let (mut convolutions, mut linears) = (0, 0);
        for (i, Named { name, layer }) in self.layers().iter().enumerate() {
            let refuse = |why: &str| NetworkError::no_spikes(i, layer.called(name), why);
            let (input, output) = (self.input_of(i), self.output_of(i));
            if layer.has_weights() {
                if let Some(Open { stage, relu }) = open.take() {
                    if !relu {
                        return Err(refuse(
                            "its input is not behind a ReLU, so no neurons lie between it and the layer before; put a ReLU there",
                        ));
                    }
                    done.push(stage);
                }
                let (kind, count, op, bias) = match *layer {
                    Layer::Conv2d(conv) => ("conv", &mut convolutions, Op::Conv(conv), conv.bias),
                    Layer::Linear { bias, .. } => ("linear", &mut linears, Op::Linear, bias),
                    _ => continue,
                };
                *count += 1;
                let stage = Stage {
                    name: format!("{kind}{count}"),
                    key: name.clone(),
                    op,
                    input,
                    output,
                    bias,
                    pool: None,
                    pooled: output,
                    weights_at: i,
                    norm_at: None,
                    activations_at: i,
                };
                open = Some(Open { stage, relu: false });
                continue;
            }
            let Some(Open { stage, relu }) = &mut open else {
                match layer {
                    Layer::Flatten | Layer::Dropout { .. } => continue,
                    _ => {
                        return Err(refuse(
                            "it stands before any weights; apply it to the recordings instead",
                        ));
                    }
                }
            };
            match *layer {
                Layer::Relu => {
                    *relu = true;
                    if stage.pool.is_none() {
                        stage.activations_at = i;
                    }
                }
                Layer::BatchNorm { .. } => {
                    if *relu || stage.pool.is_some() || stage.norm_at.is_some() {
                        return Err(refuse(
                            "only a batch norm right behind weights can be folded into them; put it before the activation",
                        ));
                    }
                    (stage.norm_at, stage.bias, stage.activations_at) = (Some(i), true, i);
                }
                Layer::Pool(pool) => {
                    if !*relu && pool.pooling != Pooling::Max {
                        return Err(refuse(
                            "averages of negative values are no rates; put the ReLU before it",
                        ));
                    }
                    if stage.pool.is_some() {
                        return Err(refuse("there is a pooling before it already; make one of both"));
                    }
                    if !divides_alike(&pool, input, output) {
                        return Err(refuse(
                            "its windows at the border are divided by other numbers than those inside; leave out padding and \
                             ceil, or let padding count",
                        ));
                    }
                    (stage.pool, stage.pooled) = (Some(pool), output);
                }
                Layer::AdaptiveAvgPool { out } => {
                    if !*relu {
                        return Err(refuse(
                            "averages of negative values are no rates; put the ReLU before it",
                        ));
                    }
                    if !input.height.is_multiple_of(out.0) || !input.width.is_multiple_of(out.1) {
                        return Err(refuse(
                            "its windows are of different sizes; choose a size that divides its input's",
                        ));
                    }
                    let kernel = (input.height / out.0, input.width / out.1);
                    if kernel != (1, 1) {
                        if stage.pool.is_some() {
                            return Err(refuse("there is a pooling before it already; make one of both"));
                        }
                        let average = Pooling::Average { count_padding: true };
                        (stage.pool, stage.pooled) = (Some(Pool::new(average, kernel)), output);
                    }
                }
                // In a row or in planes, the values are the same.
                Layer::Flatten | Layer::Dropout { .. } => {}
                Layer::Conv2d(_) | Layer::Linear { .. } => {}
            }
        }
        if let Some(Open { stage, relu }) = open {
            if relu || stage.pool.is_some() {
                return Err(NetworkError::NoReadout(stage.name));
            }
            done.push(stage);
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Architecture;
    use crate::family::Family;

    fn stages(input: Shape, layers: Vec<Layer>) -> Result<Vec<Stage>, String> {
        let named = |(i, layer): (usize, Layer)| Named { name: format!("{i}"), layer };
        let layers = layers.into_iter().enumerate().map(named).collect();
        Sequential::new(input, layers, Vec::new()).unwrap().stages().map_err(|e| e.to_string())
    }

    const CONV: Layer = Layer::Conv2d(Conv2d::new(2, (2, 2)));
    const LINEAR: Layer = Layer::Linear { out: 3, bias: false };

    #[test]
    fn sizes_are_those_of_the_study() {
        let of = |f: fn(&Stage) -> usize| -> Vec<usize> {
            Family::published(Architecture::Modified)
                .network(56, 100)
                .unwrap()
                .stages()
                .unwrap()
                .iter()
                .map(f)
                .collect()
        };
        assert_eq!(of(Stage::neurons), [358_400, 89_600, 22_400, 256, 3]);
        assert_eq!(of(Stage::weights), [4_096, 65_536, 16_384, 5_734_400, 768]);
        assert_eq!(of(Stage::macs), [22_937_600, 91_750_400, 5_734_400, 5_734_400, 768]);
    }

    #[test]
    fn every_window_of_every_channel_is_multiplied() {
        let conv = Conv2d { stride: (2, 1), padding: Padding::same((3, 4)), ..Conv2d::new(6, (3, 4)) };
        let stage =
            stages(Shape::new(4, 9, 10), vec![Layer::Conv2d(conv), Layer::Flatten]).unwrap().remove(0);
        assert_eq!(stage.macs(), 4 * 12 * 6 * 5 * 10);
    }

    #[test]
    fn what_lies_between_weights_belongs_to_the_neurons_before() {
        let norm = Layer::BatchNorm { eps: 1e-5, affine: true };
        let pool = Layer::Pool(Pool::new(Pooling::Max, (2, 2)));
        let adaptive = Layer::AdaptiveAvgPool { out: (1, 1) };
        let layers = vec![CONV, norm, pool, Layer::Relu, CONV, Layer::Relu, adaptive, Layer::Flatten, LINEAR];
        let found = stages(Shape::new(1, 9, 9), layers).unwrap();
        let [first, second, readout] = &found[..] else { panic!("{found:?}") };
        assert_eq!(
            (first.name.as_str(), first.bias, first.norm_at, first.activations_at),
            ("conv1", true, Some(1), 1)
        );
        assert_eq!((first.output, first.pooled), (Shape::new(2, 8, 8), Shape::new(2, 4, 4)));
        assert_eq!(second.pool.map(|p| p.kernel), Some((3, 3)));
        assert_eq!(
            (readout.name.as_str(), readout.input, readout.bias),
            ("linear1", Shape::features(2), false)
        );
    }

    #[test]
    fn what_has_no_spiking_counterpart_is_named() {
        let refused = |layers: Vec<Layer>, words: &[&str]| {
            let why = stages(Shape::new(1, 6, 6), layers).unwrap_err();
            assert!(words.iter().all(|word| why.contains(word)), "{why}");
        };
        let average = Layer::Pool(Pool::new(Pooling::Average { count_padding: true }, (2, 2)));
        let norm = Layer::BatchNorm { eps: 1e-5, affine: true };
        refused(vec![CONV, Layer::Flatten, LINEAR], &["layer 3 (2, linear)", "ReLU"]);
        refused(vec![Layer::Relu, CONV, Layer::Flatten], &["layer 1", "before any weights"]);
        refused(
            vec![CONV, average, Layer::Relu, Layer::Flatten, LINEAR],
            &["layer 2", "put the ReLU before it"],
        );
        refused(vec![CONV, Layer::Relu, norm, Layer::Flatten, LINEAR], &["layer 3", "folded"]);
        refused(vec![Layer::Flatten, LINEAR, Layer::Relu], &["linear1", "last"]);
        let ceil = Pool { ceil: true, ..Pool::new(Pooling::Average { count_padding: true }, (2, 2)) };
        refused(vec![CONV, Layer::Relu, Layer::Pool(ceil), Layer::Flatten, LINEAR], &["layer 3", "ceil"]);
        let uneven = Layer::AdaptiveAvgPool { out: (2, 2) };
        refused(vec![CONV, Layer::Relu, uneven, Layer::Flatten, LINEAR], &["different sizes"]);
    }

    #[test]
    fn fan_out_counts_each_tap_that_meets_an_output_once() {
        let conv = |out, kernel, stride, padding, groups| Conv2d {
            out,
            kernel,
            stride,
            padding,
            groups,
            bias: false,
        };
        let odd = Padding { top: 2, bottom: 0, left: 1, right: 3 };
        for conv in [
            conv(4, (8, 8), (1, 1), Padding::same((8, 8)), 1),
            conv(4, (3, 2), (2, 3), odd, 2),
            conv(2, (1, 5), (1, 4), Padding::default(), 1),
        ] {
            let layers = vec![Layer::Conv2d(conv), Layer::Flatten];
            let stage = stages(Shape::new(2, 9, 11), layers).unwrap().remove(0);
            // By brute force: walk every output and count which input it reads.
            let (input, output) = (stage.input, stage.output);
            let mut want = vec![0u32; input.height * input.width];
            for (y, x) in (0..output.height).flat_map(|y| (0..output.width).map(move |x| (y, x))) {
                for (i, j) in (0..conv.kernel.0).flat_map(|i| (0..conv.kernel.1).map(move |j| (i, j))) {
                    let r = (y * conv.stride.0 + i).wrapping_sub(conv.padding.top);
                    let c = (x * conv.stride.1 + j).wrapping_sub(conv.padding.left);
                    if r < input.height && c < input.width {
                        want[r * input.width + c] += (conv.out / conv.groups) as u32;
                    }
                }
            }
            assert_eq!(stage.fan_out(), want);
        }
    }
}
