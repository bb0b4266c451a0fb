#![doc = include_str!("../README.md")]
//!
//! * [`session`]: seed, device, what may be replaced, and who listens.
//! * `config`, `run`: what a YAML file asks for, and doing it. [`defaults`]: what is done unless told otherwise.
//! * `cells`: a study, many runs over seeds, routes and numbers of timesteps.
//! * `training`, `conversion`, [`measure`], [`spikes`], [`timing`]: the single stages, by the [`engine`] that is chosen; [`measured`]: what
//!   a measurement leaves in tables.
//! * [`stream`]: recordings classified one by one as they arrive, and how long that took ([`latency`]).
//! * [`results`]: the folder that `evaluate --out` and `spikes --out` add to, with the tables of a run folder.
//! * [`energy`]: energies from a folder's activity. [`folder`], [`place`]: writing, replacing and locking files.
//! * [`load`]: recordings and networks from files. [`notes`]: what numbers alone do not say.

#[cfg(feature = "libtorch")]
pub mod cells;
#[cfg(feature = "libtorch")]
pub mod config;
#[cfg(feature = "libtorch")]
pub mod conversion;
pub mod defaults;
pub mod energy;
pub mod engine;
pub mod export;
pub mod folder;
pub mod front;
pub mod latency;
pub mod load;
pub mod measure;
pub mod measured;
pub mod notes;
pub mod place;
pub mod results;
#[cfg(feature = "libtorch")]
pub mod run;
pub mod session;
pub mod spikes;
pub mod stream;
pub mod timing;
#[cfg(feature = "libtorch")]
pub mod training;
