//! One layer's neurons over one block of timesteps.

use escape_snn_core::engine::Spike;
use escape_snn_core::neuron::{Dynamics, Plane};

/// One layer's neurons over one block.
pub(crate) struct Scan<'a> {
    pub(crate) dynamics: Dynamics,
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
