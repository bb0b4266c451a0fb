//! Activity counts to energy: the published model and itemised ones.
//!
//! Everything here is arithmetic on counts: how many neurons a layer has, how often they fired, how many
//! accumulates the arriving spikes caused. No network runs, and nothing is measured on a chip.
//!
//! Units: energies are **picojoules per sample** (one recording classified once) unless a name says otherwise;
//! spikes and operations are counts per sample, summed over all T steps of the simulation.
//!
//! - [`published`] is the formula of the study (github.com/shafinulh/ESCAPE_NET_SNN, 2022) to the letter: the three convolutions only, the layer's own output
//!   rate as its work, MACs without their addition. The study prints its constants as mJ; they are pJ.
//! - [`energy`] counts what a spiking network really does, for one [`Model`] out of [`models`]: accumulates caused by
//!   *arriving* spikes, one membrane update per neuron and step, every layer, and on request the traffic to the memories.
//!   [`ann_energy`] does so for the ANN, in fp32 or quantised, with or without what is zero; what an operation costs is in
//!   [`Constants`], which come from a YAML file.
//! - [`per_step`] spreads the spiking network's energy over its steps.
//!
//! ```
#![doc = include_str!("../examples/published.rs")]
//! ```

mod activity;
mod constants;
mod itemised;
mod model;
mod published;

pub use activity::{
    AnnActivity, AnnBits, AnnLayer, EnergyError, LayerActivity, LayerKind, NetworkActivity, Nonzero,
};
pub use constants::{Arithmetic, Constants, ConstantsError, SHIPPED};
pub use itemised::{Component, Entry, LayerStep, ann_energy, energy, per_step, total};
pub use model::{ANN, Model, Traffic, ann_name, ann_of, models, stored_bits};
pub use published::{
    PUBLISHED, PUBLISHED_AC_PJ, PUBLISHED_MAC_PJ, PUBLISHED_MACS, Published, is_published, published,
    published_entries,
};
