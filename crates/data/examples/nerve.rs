//! Simulate without the rest of the program, and say how fast:
//! `cargo run --release -p escape-data --example nerve -- OUT.npz [CONFIG.yaml] [SAMPLES] [SEED]`
#![allow(clippy::print_stderr)]

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use escape_data::nerve::{NerveConfig, simulate};
use escape_data::write_npz;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let out = arguments.first().ok_or("expected OUT.npz [CONFIG.yaml] [SAMPLES] [SEED]")?;
    let mut config = match arguments.get(1) {
        Some(path) => NerveConfig::read(Path::new(path))?,
        None => NerveConfig::default(),
    };
    config.samples = arguments.get(2).map_or(Ok(config.samples), |n| n.parse())?;
    let seed = arguments.get(3).map_or(Ok(0), |n| n.parse())?;
    let start = Instant::now();
    let dataset = simulate(&config, seed, &|_| {})?;
    let seconds = start.elapsed().as_secs_f64();
    let samples = config.samples;
    eprintln!("{samples} recordings in {seconds:.2} s: {:.0} a second", samples as f64 / seconds);
    write_npz(Path::new(out), &dataset)?;
    Ok(())
}
