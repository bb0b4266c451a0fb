//! Figures and the page of a run folder: `cargo run -p escape-report --example report -- runs/demo`
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        println!("expected a run folder");
        return Ok(());
    };
    println!("{:?}", escape_report::build(&folder)?);
    Ok(())
}
