//! Choosing CPU or CUDA.
//!
//! The linker drops `libtorch_cuda`, because nothing refers to it by symbol; so it is loaded here, and only
//! where the machine has an NVIDIA driver. The same binary then runs on a machine without one.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use tch::{Cuda, Device};

use crate::ModelError;

/// What the user asked for with `--device`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// CUDA where there is one, otherwise the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// This CUDA device.
    Cuda(usize),
}

impl FromStr for Request {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|n| n.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| format!("unknown device '{text}': expected auto, cpu, cuda or cuda:N")),
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(n) => write!(f, "cuda:{n}"),
        }
    }
}

/// Waits until a device has done what it was given to do, so that a clock means something.
pub fn synchronize(device: Device) {
    if let Device::Cuda(index) = device {
        Cuda::synchronize(index as i64);
    }
}

/// The device to compute on.
///
/// # Errors
/// CUDA was asked for by name and there is none, with the reason.
pub fn select(request: Request) -> Result<Device, ModelError> {
    match request {
        Request::Cpu => Ok(Device::Cpu),
        Request::Auto => Ok(if cuda().is_ok() { Device::Cuda(0) } else { Device::Cpu }),
        Request::Cuda(index) => {
            let count = cuda().map_err(|why| {
                ModelError::Device(format!(
                    "device cuda:{index} was asked for, but CUDA is not available: {why}; use --device cpu, or auto to take CUDA only where it is"
                ))
            })?;
            if index < count {
                Ok(Device::Cuda(index))
            } else {
                Err(ModelError::Device(format!(
                    "device cuda:{index} was asked for, but this machine has {count} CUDA device(s), numbered from 0"
                )))
            }
        }
    }
}

/// Why there is no CUDA.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Lacking {
    /// No NVIDIA driver, with the loader's words.
    Driver(String),
    /// A driver, and a libtorch without what CUDA needs, with the loader's words.
    Library(String),
    /// Both, and no device that libtorch can use.
    Device,
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Driver(why) => write!(f, "no NVIDIA driver found ({why})"),
            Self::Library(why) => write!(
                f,
                "this machine has an NVIDIA driver, but the CUDA part of libtorch does not load ({why}); install one \
                 that has it with `scripts/libtorch --cuda` and build again"
            ),
            Self::Device => f.write_str("libtorch sees no CUDA device"),
        }
    }
}

/// What whoever leaves the choice to the program should know about it: that a GPU stays idle for want of a libtorch
/// that can use it.
pub fn warning(request: Request) -> Option<String> {
    match request {
        Request::Auto => warning_of(&cuda()),
        Request::Cpu | Request::Cuda(_) => None,
    }
}

fn warning_of(found: &Result<usize, Lacking>) -> Option<String> {
    match found {
        Err(lacking @ Lacking::Library(_)) => {
            Some(format!("warning: computing on the CPU: {lacking}; --device cpu leaves out this warning"))
        }
        _ => None,
    }
}

/// Number of usable CUDA devices, or why there are none.
fn cuda() -> Result<usize, Lacking> {
    static FOUND: OnceLock<Result<usize, Lacking>> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            load("libcuda.so.1").map_err(|e| Lacking::Driver(e.to_string()))?;
            load("libtorch_cuda.so").map_err(|e| Lacking::Library(e.to_string()))?;
            match Cuda::device_count() {
                n if n > 0 && Cuda::is_available() => Ok(n as usize),
                _ => Err(Lacking::Device),
            }
        })
        .clone()
}

/// Loads a shared library for the rest of the process.
fn load(name: &str) -> Result<(), libloading::Error> {
    // SAFETY: both libraries only register themselves when loaded, as they would had they been linked.
    let library = unsafe { Library::open(Some(name), RTLD_NOW | RTLD_GLOBAL)? };
    // Unloading libtorch_cuda would leave its registrations dangling.
    std::mem::forget(library);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_read_and_print() {
        for text in ["auto", "cpu", "cuda:3"] {
            assert_eq!(text.parse::<Request>().unwrap().to_string(), text);
        }
        assert_eq!("cuda".parse::<Request>(), Ok(Request::Cuda(0)));
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:x"] {
            assert!(text.parse::<Request>().unwrap_err().contains("expected auto"), "{text}");
        }
    }

    #[test]
    fn a_gpu_that_stays_idle_is_told() {
        let warning = warning_of(&Err(Lacking::Library("libcudnn.so.9: cannot open".into()))).unwrap();
        for part in ["NVIDIA driver", "libcudnn.so.9", "scripts/libtorch --cuda", "--device cpu"] {
            assert!(warning.contains(part), "{warning}");
        }
        for nothing_to_do in [Ok(1), Err(Lacking::Driver("not found".into())), Err(Lacking::Device)] {
            assert_eq!(warning_of(&nothing_to_do), None);
        }
        assert_eq!(super::warning(Request::Cpu), None);
    }

    #[test]
    fn the_cpu_is_always_there() {
        assert_eq!(select(Request::Cpu).unwrap(), Device::Cpu);
        select(Request::Auto).unwrap();
    }

    #[test]
    fn a_device_beyond_the_last_is_refused() {
        let error = select(Request::Cuda(4096)).unwrap_err().to_string();
        assert!(error.contains("cuda:4096"), "{error}");
    }
}
