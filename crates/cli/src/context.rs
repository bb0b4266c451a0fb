//! What every command needs: the device, where to print, how to show progress, when to stop.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use escape_model::device;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use tch::Device;

use crate::args::Global;

/// Wrong usage or configuration: exit code 2.
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

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Settings that hold for the whole process.
#[derive(Clone, Copy)]
pub struct Context {
    device: device::Request,
    pub seed: u64,
    /// The seed came from the command line.
    seed_given: bool,
    pub json: bool,
    quiet: bool,
    /// What is there already may be replaced.
    pub force: bool,
}

/// Keeps large blocks of memory in the process instead of handing each back to the system: tensors of tens of
/// megabytes come and go with every block of timesteps, and the kernel would clear their pages anew each time
/// (measured on two cores: a third of the time of inference and of training).
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn keep_memory() {
    // SAFETY: plain settings of the allocator, made before any other thread runs.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn keep_memory() {}

impl Context {
    pub fn new(global: &Global) -> Result<Self> {
        keep_memory();
        if std::env::var_os("NVIDIA_TF32_OVERRIDE").is_none() {
            // SAFETY: nothing else runs yet. CUDA would otherwise round convolutions' inputs to 10 bits,
            // and the same network would spike differently than on a CPU.
            unsafe { std::env::set_var("NVIDIA_TF32_OVERRIDE", "0") };
        }
        if let Some(threads) = global.threads {
            tch::set_num_threads(threads as i32);
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads as usize)
                .build_global()
                .context("cannot start the worker threads")?;
        }
        // The first Ctrl-C ends the work at the next batch, with everything saved; the second at once.
        ctrlc::set_handler(|| {
            if INTERRUPTED.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
        })
        .context("cannot watch for Ctrl-C")?;
        Ok(Self {
            device: global.device,
            seed: global.seed.unwrap_or(0),
            seed_given: global.seed.is_some(),
            json: global.json,
            quiet: global.quiet,
            force: global.force,
        })
    }

    /// The same with a configuration's seed, unless the command line gave one.
    pub fn with_seed(&self, seed: u64) -> Self {
        Self { seed: if self.seed_given { self.seed } else { seed }, ..*self }
    }

    /// The device to compute on, found when first needed: loading CUDA takes seconds.
    pub fn device(&self) -> Result<Device> {
        static WARNED: Once = Once::new();
        let device = device::select(self.device)?;
        WARNED.call_once(|| {
            if let Some(warning) = device::warning(self.device) {
                self.note(warning);
            }
        });
        Ok(device)
    }

    /// A remark for the reader, not a result.
    pub fn note(&self, text: impl AsRef<str>) {
        if !self.quiet {
            let _ = writeln!(std::io::stderr(), "{}", text.as_ref());
        }
    }

    /// The result: `value` as one line of JSON with `--json`, otherwise the text.
    pub fn result(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<()> {
        let mut out = std::io::stdout().lock();
        if self.json {
            serde_json::to_writer(&mut out, value).map_err(std::io::Error::from)?;
            writeln!(out)?;
        } else {
            writeln!(out, "{}", text().trim_end())?;
        }
        Ok(out.flush()?)
    }

    /// Shows how far `what` has come: a bar with the time left on a terminal, now and then a line elsewhere.
    pub fn progress(&self, what: &str, total: usize) -> Progress {
        let state = State { what: what.to_string(), total, done: 0.0, start: Instant::now(), heard: 0.0 };
        if self.quiet {
            return Progress { state: Arc::new(Mutex::new(state)), bar: None, end: None };
        }
        if std::io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(Some(BAR), ProgressDrawTarget::stderr());
            let template = "{msg:24} {bar:32} {prefix}  {elapsed} gone, {eta} left";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_message(what.to_string());
            bar.set_prefix(format!("0/{total}"));
            bar.enable_steady_tick(Duration::from_millis(500));
            return Progress { state: Arc::new(Mutex::new(state)), bar: Some(bar), end: None };
        }
        let state = Arc::new(Mutex::new(state));
        let (end, ended) = mpsc::channel();
        let shown = state.clone();
        // Lines come by the clock, not when something is done: a single step may take minutes.
        let lines = move || {
            let mut wait = FIRST_LINE;
            while let Err(mpsc::RecvTimeoutError::Timeout) = ended.recv_timeout(wait) {
                if let Ok(state) = shown.lock() {
                    let _ = writeln!(std::io::stderr(), "{}", state.line());
                }
                wait = LINE_EVERY;
            }
        };
        let started = std::thread::Builder::new().spawn(lines);
        Progress { state, bar: None, end: started.is_ok().then_some(end) }
    }
}

/// See [`Context::progress`].
pub struct Progress {
    state: Arc<Mutex<State>>,
    bar: Option<ProgressBar>,
    /// Dropped, it ends the lines.
    end: Option<mpsc::Sender<()>>,
}

struct State {
    what: String,
    total: usize,
    /// Units; parts of one count too.
    done: f64,
    start: Instant,
    /// Seconds from the start to when the latest unit was done.
    heard: f64,
}

/// Parts of a bar on a terminal.
const BAR: u64 = 1000;
/// Time to the first line of progress where there is no terminal, and between the others.
const FIRST_LINE: Duration = Duration::from_secs(8);
const LINE_EVERY: Duration = Duration::from_secs(10);

impl State {
    /// Units that are done, and whether all are: parts of one may not add up to the last digit.
    fn whole(&self) -> usize {
        ((self.done + 1e-6) as usize).min(self.total)
    }

    fn line(&self) -> String {
        let spent = self.start.elapsed().as_secs_f64();
        let left = self.heard / self.done * (self.total as f64 - self.done) - (spent - self.heard);
        // Nothing is done yet, or the unit at hand takes longer than those before.
        let left = if left.is_finite() && left > 0.0 { format!(", {left:.0} s left") } else { String::new() };
        format!("{}: {}/{}, {spent:.0} s gone{left}", self.what, self.whole(), self.total)
    }
}

impl Progress {
    /// `more` units are done. False once the user asked to stop.
    pub fn tick(&mut self, more: usize) -> bool {
        self.part(more as f64)
    }

    /// `more` units, or a part of one, are done. False once the user asked to stop.
    pub fn part(&mut self, more: f64) -> bool {
        if let Ok(mut state) = self.state.lock() {
            state.done += more;
            state.heard = state.start.elapsed().as_secs_f64();
            if let Some(bar) = &self.bar {
                bar.set_position((state.done / state.total.max(1) as f64 * BAR as f64) as u64);
                bar.set_prefix(format!("{}/{}", state.whole(), state.total));
            }
        }
        !INTERRUPTED.load(Ordering::SeqCst)
    }

    /// A remark while it goes on.
    pub fn note(&self, text: &str) {
        match (&self.bar, &self.end) {
            (Some(bar), _) => bar.println(text),
            (None, Some(_)) => {
                let _ = writeln!(std::io::stderr(), "{text}");
            }
            (None, None) => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Makes sure, before long work, that a file can be written where it is wanted, and that none is there that nobody
/// asked to replace.
pub fn check_file(context: &Context, path: &Path) -> Result<()> {
    if path.is_dir() {
        return Err(usage(format!("{}: this is a folder; name a file to write", path.display())));
    }
    let folder = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        return Err(usage(format!("{}: no folder {}; make it first", path.display(), folder.display())));
    }
    if !context.force && path.exists() {
        return Err(usage(format!(
            "{}: is there already; name another file to write, or replace it with --force",
            path.display()
        )));
    }
    probe(folder).with_context(|| not_writable(path))
}

/// Makes sure that a result does not replace what it is made from.
pub fn check_apart(out: &Path, inputs: &[&Path]) -> Result<()> {
    let real = |p: &Path| p.canonicalize().ok();
    match inputs.iter().find(|i| real(out).is_some_and(|o| real(i) == Some(o))) {
        Some(input) => Err(usage(format!(
            "{}: this is {}, which is read here; name another file to write",
            out.display(),
            input.display()
        ))),
        None => Ok(()),
    }
}

/// Makes sure that a folder for results is there or can be made, and that files can be written in it. Nothing is
/// made yet: a command that is refused for its input leaves nothing behind. What the folder holds already is looked
/// at by whoever knows what would be replaced, see [`check_results`].
pub fn check_folder(path: &Path) -> Result<()> {
    let there = path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("."));
    if !there.is_dir() {
        return Err(usage(format!("{}: {} is a file; name a folder", path.display(), there.display())));
    }
    probe(there).with_context(|| not_writable(path))
}

/// Makes sure that a folder holds none of the files that are to be written into it, unless they may be replaced.
/// `what` they are together, and `otherwise` what can be done besides replacing them and choosing another folder.
pub fn check_results(
    context: &Context,
    folder: &Path,
    files: &[&str],
    what: &str,
    otherwise: &str,
) -> Result<()> {
    match files.iter().find(|file| folder.join(file).exists()) {
        Some(file) if !context.force => Err(usage(format!(
            "{}: holds {what} already ({file}); {otherwise}choose another folder, or replace it with --force",
            folder.display()
        ))),
        _ => Ok(()),
    }
}

/// Makes a folder for results, right before they come.
pub fn make_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).with_context(|| not_writable(path))
}

fn not_writable(path: &Path) -> String {
    format!("{}: cannot be written; choose another place", path.display())
}

fn probe(folder: &Path) -> std::io::Result<()> {
    tempfile::tempfile_in(folder).map(drop)
}

/// Recordings that must be there: a file, or a folder of `.npy` files.
pub fn existing_data(path: &Path) -> Result<PathBuf> {
    if path.is_dir() { Ok(path.to_path_buf()) } else { existing(path) }
}

/// A file that must be there.
pub fn existing(path: &Path) -> Result<PathBuf> {
    if path.is_file() {
        return Ok(path.to_path_buf());
    }
    let why = if path.is_dir() {
        "this is a folder, expected a file"
    } else if path.exists() {
        "this is a device or pipe, expected a file"
    } else {
        "no such file"
    };
    Err(anyhow::anyhow!("{}: {why}; check the path", path.display()))
}
