//! What all work shares: a seed, a device, what may be replaced, and whom to tell.

use std::sync::Arc;

#[cfg(feature = "libtorch")]
use std::sync::Once;

#[cfg(feature = "libtorch")]
use escape_model::device;

/// Where to compute.
#[cfg(feature = "libtorch")]
pub type Device = tch::Device;

/// Where to compute: without libtorch there is the CPU.
#[cfg(not(feature = "libtorch"))]
#[derive(Clone, Copy, Debug)]
pub enum Device {
    /// The processor.
    Cpu,
}

/// Wrong usage or configuration, as opposed to work that failed; the command line exits with 2 for it.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// A [`Usage`] error.
pub fn usage(text: impl Into<String>) -> anyhow::Error {
    Usage(text.into()).into()
}

/// Hears what happens while work goes on. This crate prints nothing.
pub trait Listener: Send + Sync {
    /// A remark for the reader, not a result.
    fn note(&self, text: &str);

    /// Work begins that is called `what` and has `total` units.
    fn progress(&self, what: &str, total: usize) -> Box<dyn Progress>;

    /// As [`Listener::progress`], of one of several works that go on beside each other.
    fn one_of_several(&self, what: &str, total: usize) -> Box<dyn Progress>;
}

/// Hears how far some work has come. Dropped when it ends.
pub trait Progress: Send {
    /// `more` units, or a part of one, are done. False asks to stop.
    fn part(&mut self, more: f64) -> bool;

    /// A remark while the work goes on.
    fn note(&self, text: &str);

    /// `more` units are done. False asks to stop.
    fn tick(&mut self, more: usize) -> bool {
        self.part(more as f64)
    }
}

/// Nobody who listens; work is never stopped.
pub struct Silence;

impl Listener for Silence {
    fn note(&self, _text: &str) {}

    fn progress(&self, _what: &str, _total: usize) -> Box<dyn Progress> {
        Box::new(Self)
    }

    fn one_of_several(&self, _what: &str, _total: usize) -> Box<dyn Progress> {
        Box::new(Self)
    }
}

impl Progress for Silence {
    fn part(&mut self, _more: f64) -> bool {
        true
    }

    fn note(&self, _text: &str) {}
}

/// Settings that hold for all of a process's work.
#[derive(Clone)]
pub struct Session {
    /// Seed of everything random.
    pub seed: u64,
    /// What is there already may be replaced.
    pub force: bool,
    /// The command line, for manifests.
    pub command: Vec<String>,
    /// Where to compute, if it is available.
    #[cfg(feature = "libtorch")]
    pub device: device::Request,
    /// Who hears what happens.
    pub listener: Arc<dyn Listener>,
}

impl Session {
    /// The same with another seed.
    pub fn with_seed(&self, seed: u64) -> Self {
        Self { seed, ..self.clone() }
    }

    /// The device to compute on, found when first needed: loading CUDA takes seconds.
    ///
    /// # Errors
    /// The device that was asked for is not there.
    pub fn device(&self) -> anyhow::Result<Device> {
        #[cfg(feature = "libtorch")]
        {
            static WARNED: Once = Once::new();
            let device = device::select(self.device)?;
            WARNED.call_once(|| {
                if let Some(warning) = device::warning(self.device) {
                    self.note(warning);
                }
            });
            Ok(device)
        }
        #[cfg(not(feature = "libtorch"))]
        Ok(Device::Cpu)
    }

    /// The device as manifests name it.
    ///
    /// # Errors
    /// The device that was asked for is not there.
    pub fn device_name(&self) -> anyhow::Result<String> {
        Ok(format!("{:?}", self.device()?))
    }

    /// A remark for the reader, not a result.
    pub fn note(&self, text: impl AsRef<str>) {
        self.listener.note(text.as_ref());
    }

    /// Tells that work begins that is called `what` and has `total` units.
    pub fn progress(&self, what: &str, total: usize) -> Box<dyn Progress> {
        self.listener.progress(what, total)
    }
}

/// The libtorch that this program is built with, for manifests.
pub const LIBTORCH: Option<&str> = if cfg!(feature = "libtorch") { Some("2.11.0") } else { None };

/// What to take where libtorch is needed and this program has none.
#[cfg(not(feature = "libtorch"))]
pub const WHOLE_PROGRAM: &str = "the whole program, which is built without --no-default-features";
