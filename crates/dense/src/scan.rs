//! One layer's neurons over one block of timesteps.

use escape_model::ModelError;
use escape_snn_core::engine::Spike;
use escape_snn_core::integer;
use escape_snn_core::neuron::{self, Dynamics, Plane};
use tch::{Kind, Tensor};

use crate::host::slice_of;

/// One layer's neurons over one block.
pub(crate) struct Scan<'a> {
    pub(crate) rule: Rule<'a>,
    pub(crate) channels: usize,
    pub(crate) plane: Plane,
    /// Fan-out of each pixel of the next layer's input; a single entry where it is the same everywhere.
    pub(crate) fan_out: &'a [u32],
    pub(crate) batch: usize,
    pub(crate) steps: usize,
    /// The current is the same at every step, B frames instead of B x T.
    pub(crate) constant_current: bool,
    /// The layer, and the number of the block's first step, by which spikes of the first recording are named; `None` if
    /// nobody wants them.
    pub(crate) record: Option<(usize, usize)>,
}

/// What a layer's neurons do in a step.
#[derive(Clone, Copy)]
pub(crate) enum Rule<'a> {
    /// In float32.
    Real(Dynamics),
    /// In whole numbers: a threshold for each row of weights, and the decay; see [`integer`].
    Whole { thresholds: &'a [i32], decay: i32 },
}

/// Synaptic currents on the host.
#[derive(Clone, Copy)]
pub(crate) enum Currents<'a> {
    /// In float32, as nearly all are.
    Float(&'a [f32]),
    /// Whole numbers that float32 does not hold.
    Wide(&'a [i32]),
}

impl<'a> Currents<'a> {
    /// The values of a contiguous tensor on the CPU.
    pub(crate) fn of(frames: &'a Tensor) -> Result<Self, ModelError> {
        Ok(match frames.f_kind()? {
            Kind::Int => Self::Wide(slice_of(frames, Kind::Int)?),
            _ => Self::Float(slice_of(frames, Kind::Float)?),
        })
    }

    /// So many of them from a place on.
    pub(crate) fn part(self, start: usize, length: usize) -> Self {
        match self {
            Self::Float(values) => Self::Float(&values[start..][..length]),
            Self::Wide(values) => Self::Wide(&values[start..][..length]),
        }
    }

    /// All of them as whole numbers.
    pub(crate) fn whole(self) -> Vec<i32> {
        match self {
            Self::Float(values) => values.iter().map(|&v| v as i32).collect(),
            Self::Wide(values) => values.to_vec(),
        }
    }
}

/// A membrane potential, of whichever numbers.
pub(crate) trait Potential: Copy + Send + Sync {
    /// One step of the neurons of channel `channel` of `channels`.
    fn step(scan: &Scan<'_>, channel: usize, u: &mut [Self], current: Currents<'_>, spikes: &mut [f32]);
}

impl Potential for f32 {
    fn step(scan: &Scan<'_>, _: usize, u: &mut [f32], current: Currents<'_>, spikes: &mut [f32]) {
        if let (Rule::Real(dynamics), Currents::Float(current)) = (scan.rule, current) {
            neuron::step_all(dynamics, u, current, spikes);
        }
    }
}

impl Potential for i32 {
    fn step(scan: &Scan<'_>, channel: usize, u: &mut [i32], current: Currents<'_>, spikes: &mut [f32]) {
        let Rule::Whole { thresholds, decay } = scan.rule else { return };
        // The neurons of a linear layer are one plane, each of a row of its own.
        let thresholds = if scan.channels == 1 { thresholds } else { &thresholds[channel..=channel] };
        match current {
            Currents::Float(current) => integer::step_all(thresholds, decay, u, current, spikes),
            Currents::Wide(current) => integer::step_all_wide(thresholds, decay, u, current, spikes),
        }
    }
}

/// Spikes and arriving operations of one layer in one block, step by step.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) spikes: Vec<u64>,
    /// Operations that these spikes cause in the next layer.
    pub(crate) sent: Vec<u64>,
    /// Those of the first recording, if they are wanted.
    pub(crate) recorded: Vec<Spike>,
}

impl Tally {
    pub(crate) fn of(steps: usize) -> Self {
        Self { spikes: vec![0; steps], sent: vec![0; steps], recorded: Vec::new() }
    }
}
