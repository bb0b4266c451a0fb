//! Of the commands that need libtorch, in a program without it.

use std::ffi::OsString;
use std::str::FromStr;

use clap::Args;

/// Whatever was given to such a command.
#[derive(Args)]
pub struct NeedsLibtorch {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _given: Vec<OsString>,
}

pub type DemoArgs = NeedsLibtorch;
pub type RunArgs = NeedsLibtorch;
pub type StudyArgs = NeedsLibtorch;
pub type TrainArgs = NeedsLibtorch;
pub type ConvertArgs = NeedsLibtorch;
pub type FinetuneArgs = NeedsLibtorch;

/// The device: the CPU.
#[derive(Clone)]
pub struct Request;

impl FromStr for Request {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" | "cpu" => Ok(Self),
            _ => Err(format!("built without libtorch: expected auto or cpu, got {text}")),
        }
    }
}
