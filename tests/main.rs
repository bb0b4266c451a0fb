//! The program as a user calls it. One test binary; its modules:

// A test fails by panicking, its helpers too; and says so when it was skipped.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

// Checkpoints in other formats, what is said of them, and a process that is killed while it writes one.
mod checkpoints;
// Wrong usage, missing files, foreign checkpoints: what is said, and with which exit code.
mod errors;
// Single commands that add up to what a run does, and what is never replaced.
mod commands;
// Options of reading recordings, notes, translations and pictures.
mod recordings;
// docs/json.md has every key that --json prints.
mod json;
// Routes from an ANN to a spiking network: gains, fitted thresholds, what does not fit together.
mod conversion;
// A spiking network as a program in C, compiled and run.
mod export;
// Weights that become zero in training and stay so.
mod pruning;
// Networks that are not of the family.
mod networks;
// Batch size and threads change nothing in the default preset.
mod invariance;
// The program from Python, as docs/use-from-elsewhere.md has it.
mod elsewhere;
// Training, fine-tuning and runs that were interrupted go on where they were.
mod resume;
// Thresholds, logits, spikes and losses against the installed PyTorch.
mod published;
// A whole run, and what it leaves in its folder.
mod run;
// Whole studies: many runs, killed, grown, failing.
mod study;
// Spaces of settings, teachers, and fronts of accuracy against energy.
mod search;

// What scripts/libtorch chooses and installs, with stand-ins for libtorch and pip.
mod scripts;

// What the tests share.
mod support;

#[path = "parity/mod.rs"]
mod parity;
