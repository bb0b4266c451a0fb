//! A network as stages that work column by column over all timesteps: what is kept of each, and weights in the order in which they are
//! read.
//!
//! Letters: C channels, H rows, W columns, T timesteps.

use escape_network::sequential::{Conv2d, Padding, Pool, Pooling, Shape};
use escape_network::stage::Op;
use escape_snn_core::encode::Encoding;
use escape_snn_core::integer::{IntegerError, IntegerLayer, IntegerNetwork};

/// What no program is written for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// The recording would have to be drawn as Poisson spikes.
    #[error(
        "the network takes Poisson input, whose random numbers no implant draws; convert it with --encoder direct"
    )]
    Encoder,
    /// The readout is no linear layer.
    #[error("{layer}: the last layer is a convolution, a program is written for a linear readout")]
    Readout {
        /// The layer.
        layer: String,
    },
    /// A size that a number of 16 bits does not hold.
    #[error("{layer}: {what} is {got}, a program is written for at most {most}")]
    Size {
        /// The layer.
        layer: String,
        /// What is too large.
        what: &'static str,
        /// Its size.
        got: usize,
        /// What fits.
        most: usize,
    },
    /// Potentials may overflow over so many timesteps.
    #[error(transparent)]
    Steps(#[from] IntegerError),
    /// Nothing for a self-test.
    #[error("a program comes with a self-test, which needs at least one recording")]
    NoGolden,
    /// A prefix that is no name in C and Rust.
    #[error(
        "prefix '{0}': expected a lower-case letter, then lower-case letters, digits and _, at most 40 in all"
    )]
    Prefix(String),
    /// A prefix that no crate can be called.
    #[error("prefix '{0}': this word is Rust's own, and no crate can be called so; choose another")]
    Taken(String),
}

/// What a stage does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Convolution,
    Sum,
    Maximum,
    Linear,
}

/// What a stage keeps of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Values of the recording, which is constant.
    Recording,
    /// A train of each neuron: a bit for each timestep, 1 where it fired.
    Trains,
    /// Numbers of spikes in a mean's window, one for each timestep.
    Counts,
}

impl Kept {
    /// Elements of its array that a neuron takes, or a value of the recording.
    fn each(self, steps: usize) -> usize {
        match self {
            Self::Recording => 1,
            Self::Trains => steps.div_ceil(8),
            Self::Counts => steps,
        }
    }
}

/// A stage: weights and the neurons behind them, or a pooling.
#[derive(Debug)]
pub(crate) struct Stage {
    /// Of the layer; of a pooling, of the one before it.
    pub name: String,
    pub kind: Kind,
    pub input: Shape,
    pub output: Shape,
    pub kernel: (usize, usize),
    pub stride: (usize, usize),
    pub padding: Padding,
    pub groups: usize,
    /// Columns of the input that are kept.
    pub slots: usize,
    /// As what they are kept.
    pub kept: Kept,
    /// Where they begin in the array of all that is kept so.
    pub kept_at: usize,
    /// Which layer of spiking neurons.
    pub spiking: usize,
    /// As [`convolution`] and [`linear`] order them; empty of a pooling.
    pub weights: Vec<i8>,
    pub bias: Vec<i32>,
    /// A threshold for each output channel; empty of a readout and a pooling.
    pub thresholds: Vec<i32>,
    pub decay: i32,
}

impl Stage {
    /// What it sends; nothing if it is the readout.
    fn sends(&self) -> Kept {
        if self.kind == Kind::Sum { Kept::Counts } else { Kept::Trains }
    }

    /// Sums that it works with at a time, of each timestep or of one for all; a maximum notes a time for each spike.
    fn sums(&self, steps: usize) -> usize {
        match (self.kind, self.kept) {
            (Kind::Sum, _) => 0,
            (Kind::Maximum, _) => steps,
            (Kind::Convolution | Kind::Linear, Kept::Recording) => self.output.channels,
            (Kind::Convolution | Kind::Linear, Kept::Trains | Kept::Counts) => steps * self.output.channels,
        }
    }
}

/// A network to be written.
#[derive(Debug)]
pub(crate) struct Plan {
    pub stages: Vec<Stage>,
    pub steps: usize,
    pub input: Shape,
    pub input_bits: u32,
    pub largest_input: i32,
    pub classes: Vec<String>,
    /// Layers of neurons that spike.
    pub spiking: Vec<String>,
    /// Values of the recording that are kept.
    pub input_length: usize,
    /// Bytes of trains that are kept between stages.
    pub trains_length: usize,
    /// Counts that are kept between stages.
    pub counts_length: usize,
    /// Whether counts need 16 bits.
    pub wide: bool,
    /// The most sums of a convolution, or times of a maximum.
    pub sums: usize,
    /// The most sums of a linear stage that spikes.
    pub currents: usize,
}

/// What 16 bits hold; one less than their largest, so that a count of columns may go one beyond.
const MOST: usize = u16::MAX as usize - 1;

impl Plan {
    /// For `steps` timesteps of a network whose input is the recording itself.
    pub fn new(network: &IntegerNetwork, steps: usize) -> Result<Self, ExportError> {
        if network.encoding != Encoding::Direct {
            return Err(ExportError::Encoder);
        }
        network.check_steps(steps)?;
        let mut stages: Vec<Stage> = Vec::new();
        let (mut spiking, mut most_count) = (Vec::new(), 1);
        for layer in &network.layers {
            // What a linear layer takes in a row arrives column by column.
            let from = stages.last().map(|below| below.output);
            let stage = weights(layer, from.unwrap_or(layer.shape.input), spiking.len());
            let readout = layer.thresholds.is_empty();
            if readout && stage.kind != Kind::Linear {
                return Err(ExportError::Readout { layer: layer.shape.name.clone() });
            }
            stages.push(stage);
            if !readout {
                spiking.push(layer.shape.name.clone());
                most_count = most_count.max(layer.shape.largest_count());
                stages.extend(layer.shape.pool.map(|pool| pooling(layer, pool, spiking.len() - 1)));
            }
        }
        let lengths = lay_out(&mut stages, steps);
        let most_sums = |of: fn(&Stage) -> bool| {
            stages.iter().filter(|s| of(s)).map(|s| s.sums(steps)).max().unwrap_or(0)
        };
        let plan = Self {
            steps,
            input: stages[0].input,
            input_bits: network.precision.input_bits(),
            largest_input: network.precision.largest_input(),
            classes: (0..network.network.classes()).map(|c| network.network.class_name(c)).collect(),
            spiking,
            input_length: lengths[Kept::Recording as usize],
            trains_length: lengths[Kept::Trains as usize],
            counts_length: lengths[Kept::Counts as usize],
            wide: most_count > usize::from(u8::MAX),
            sums: most_sums(|s| s.kind != Kind::Linear),
            currents: most_sums(|s| s.kind == Kind::Linear && !s.thresholds.is_empty()),
            stages,
        };
        plan.check(most_count)?;
        Ok(plan)
    }

    fn check(&self, most_count: usize) -> Result<(), ExportError> {
        let fits = |layer: &str, what, got, most| match got <= most {
            true => Ok(()),
            false => Err(ExportError::Size { layer: layer.to_owned(), what, got, most }),
        };
        fits("the network", "the number of timesteps", self.steps, MOST)?;
        fits("the network", "a mean's window", most_count, MOST)?;
        for s in &self.stages {
            for (what, got) in [
                ("the number of channels", s.input.channels.max(s.output.channels)),
                ("the number of rows", s.input.height + s.padding.top + s.padding.bottom),
                ("the number of columns", s.input.width + s.padding.left + s.padding.right),
                ("a kernel", s.kernel.0.max(s.kernel.1)),
                ("a stride", s.stride.0.max(s.stride.1)),
            ] {
                fits(&s.name, what, got, MOST)?;
            }
            fits(&s.name, "the number of weights", s.weights.len(), i32::MAX as usize)?;
        }
        for length in [self.input_length, self.trains_length, self.counts_length, self.sums, self.currents] {
            fits("the network", "what is kept between columns", length, i32::MAX as usize)?;
        }
        Ok(())
    }

    /// Bytes of everything that is constant and grows with the network: weights, biases, thresholds.
    pub fn constant_bytes(&self) -> usize {
        self.stages.iter().map(|s| s.weights.len() + 4 * (s.bias.len() + s.thresholds.len())).sum()
    }

    /// Bytes that are kept between calls, as C lays them out, without counters. C has no empty array.
    pub fn state_bytes(&self) -> usize {
        let words = 4 * (self.classes.len() + self.sums.max(1) + self.currents.max(1));
        let halves = 2 * (self.stages.len() + 1 + self.input_length);
        let counts = self.counts_length.max(1) * if self.wide { 2 } else { 1 };
        // Counts of 16 bits begin at an even place, and the whole ends at one that four divides.
        (words + halves + counts + self.trains_length.max(1)).next_multiple_of(4)
    }
}

/// Says of each stage as what it keeps its input and where, and how long the arrays of each kind are that hold all of it.
fn lay_out(stages: &mut [Stage], steps: usize) -> [usize; 3] {
    let mut lengths = [0; 3];
    let mut kept = Kept::Recording;
    for stage in stages {
        let Shape { channels, height, .. } = stage.input;
        let length = &mut lengths[kept as usize];
        (stage.kept, stage.kept_at) = (kept, *length);
        *length += stage.slots * height * channels * kept.each(steps);
        kept = stage.sends();
    }
    lengths
}

/// Weights and neurons of a layer.
fn weights(layer: &IntegerLayer, input: Shape, spiking: usize) -> Stage {
    let shape = &layer.shape;
    let mut stage = Stage {
        name: shape.name.clone(),
        kind: Kind::Linear,
        input,
        output: shape.output,
        kernel: (1, 1),
        stride: (1, 1),
        padding: Padding::default(),
        groups: 1,
        slots: 1,
        kept: Kept::Recording,
        kept_at: 0,
        spiking,
        weights: Vec::new(),
        bias: layer.bias.clone(),
        thresholds: layer.thresholds.clone(),
        decay: layer.decay,
    };
    match shape.op {
        Op::Conv(conv) => {
            stage.kind = Kind::Convolution;
            (stage.kernel, stage.stride, stage.padding, stage.groups) =
                (conv.kernel, conv.stride, conv.padding, conv.groups);
            stage.slots = conv.kernel.1;
            stage.weights = convolution(&layer.weights, conv, shape.input.channels);
        }
        Op::Linear => stage.weights = linear(&layer.weights, input, shape.output.channels),
    }
    stage
}

/// The pooling of what a layer's neurons send.
fn pooling(layer: &IntegerLayer, pool: Pool, spiking: usize) -> Stage {
    Stage {
        name: layer.shape.name.clone(),
        kind: match pool.pooling {
            Pooling::Average { .. } => Kind::Sum,
            Pooling::Max => Kind::Maximum,
        },
        input: layer.shape.output,
        output: layer.shape.pooled,
        kernel: pool.kernel,
        stride: pool.stride,
        padding: pool.padding,
        groups: 1,
        slots: pool.kernel.1,
        kept: Kept::Recording,
        kept_at: 0,
        spiking,
        weights: Vec::new(),
        bias: Vec::new(),
        thresholds: Vec::new(),
        decay: 0,
    }
}

/// From out, in, rows, columns to columns, rows, groups, in, out: what one value that arrives is multiplied with lies together, and so do
/// the values of a column that a window reads.
fn convolution(weights: &[i8], conv: Conv2d, channels: usize) -> Vec<i8> {
    let Conv2d { out, kernel: (rows, columns), groups, .. } = conv;
    let (inputs, outputs) = (channels / groups, out / groups);
    let mut ordered = Vec::with_capacity(weights.len());
    for (c, r) in (0..columns).flat_map(|c| (0..rows).map(move |r| (c, r))) {
        for (g, i) in (0..groups).flat_map(|g| (0..inputs).map(move |i| (g, i))) {
            let of_output = |o| weights[(((g * outputs + o) * inputs + i) * rows + r) * columns + c];
            ordered.extend((0..outputs).map(of_output));
        }
    }
    ordered
}

/// From out, C, H, W to W, H, C, out.
fn linear(weights: &[i8], input: Shape, outputs: usize) -> Vec<i8> {
    let Shape { channels, height, width } = input;
    let mut ordered = Vec::with_capacity(weights.len());
    for (x, y) in (0..width).flat_map(|x| (0..height).map(move |y| (x, y))) {
        for c in 0..channels {
            ordered.extend((0..outputs).map(|o| weights[((o * channels + c) * height + y) * width + x]));
        }
    }
    ordered
}
