//! Write a checkpoint, read it back, and see what keeps it from being a network of the family.
//! `cargo run -p escape-checkpoint --example weights`
#![allow(clippy::print_stdout)]

use std::error::Error;

use escape_checkpoint::{Checkpoint, TensorData, match_weights};
use escape_network::arch::Architecture;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::temp_dir().join(format!("escape-checkpoint-{}.pth", std::process::id()));
    let first = TensorData::from_f32(&[64, 1, 8, 8], &vec![0.01; 64 * 64]);
    let weights = vec![("features.0.weight".to_owned(), first)];
    Checkpoint { weights, ..Checkpoint::default() }.save(&path)?;

    let found = Checkpoint::load(&path)?;
    let expected = Architecture::Modified.parameters();
    let report = match_weights(&expected, &found.weights);
    println!("{report}");
    assert_eq!((report.missing.len(), report.unused.len()), (4, 0));
    std::fs::remove_file(path)?;
    Ok(())
}
