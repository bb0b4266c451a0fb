//! What every command needs: where to print, how to show progress, when to stop.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use escape_study::session::{Listener, Progress, Session, Silence};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::args::Global;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether Ctrl-C asked to stop.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// Ends the process, wherever its other threads are. What `exit` runs would take libtorch apart under a thread that is at work
/// with it, which would tell of that as of a failure of its own.
pub fn end_at_once(code: i32) -> ! {
    // SAFETY: takes no memory and runs no other code.
    unsafe { libc::_exit(code) }
}

/// What every command needs.
pub struct Context {
    /// What its work shares.
    pub session: Session,
    /// The seed came from the command line.
    pub seed_given: bool,
    /// Threads that the command line asks for.
    #[cfg(feature = "libtorch")]
    pub threads: Option<usize>,
    pub json: bool,
    pub quiet: bool,
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
        #[cfg(feature = "libtorch")]
        if std::env::var_os("NVIDIA_TF32_OVERRIDE").is_none() {
            // SAFETY: nothing else runs yet. CUDA would otherwise round convolutions' inputs to 10 bits,
            // and the same network would spike differently than on a CPU.
            unsafe { std::env::set_var("NVIDIA_TF32_OVERRIDE", "0") };
        }
        if let Some(threads) = global.threads {
            #[cfg(feature = "libtorch")]
            tch::set_num_threads(threads as i32);
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads as usize)
                .build_global()
                .context("cannot start the worker threads")?;
        }
        // The first Ctrl-C ends the work at the next batch, with everything saved; the second at once.
        ctrlc::set_handler(|| {
            if INTERRUPTED.swap(true, Ordering::SeqCst) {
                end_at_once(130);
            }
        })
        .context("cannot watch for Ctrl-C")?;
        let session = Session {
            seed: global.seed.unwrap_or(0),
            force: global.force,
            command: std::env::args().collect(),
            #[cfg(feature = "libtorch")]
            device: global.device,
            listener: Arc::new(Terminal {
                quiet: global.quiet,
                bars: std::io::stderr().is_terminal().then(MultiProgress::new),
            }),
        };
        Ok(Self {
            session,
            seed_given: global.seed.is_some(),
            #[cfg(feature = "libtorch")]
            threads: global.threads.map(|n| n as usize),
            json: global.json,
            quiet: global.quiet,
        })
    }

    /// What work shares, with a configuration's seed unless the command line gave one.
    pub fn session_with_seed(&self, seed: u64) -> Session {
        if self.seed_given { self.session.clone() } else { self.session.with_seed(seed) }
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
}

/// Notes and progress on standard error: a bar with the time left on a terminal, now and then a line elsewhere.
struct Terminal {
    quiet: bool,
    /// The bars, one under the other, of a terminal.
    bars: Option<MultiProgress>,
}

impl Listener for Terminal {
    fn note(&self, text: &str) {
        if self.quiet {
            return;
        }
        let line = || writeln!(std::io::stderr(), "{text}");
        let _ = match &self.bars {
            Some(bars) => bars.suspend(line),
            None => line(),
        };
    }

    fn one_of_several(&self, what: &str, total: usize) -> Box<dyn Progress> {
        // Elsewhere than on a terminal the lines of all would run into each other.
        match self.bars.as_ref().filter(|_| !self.quiet) {
            Some(_) => self.progress(what, total),
            None => Silence.progress(what, total),
        }
    }

    fn progress(&self, what: &str, total: usize) -> Box<dyn Progress> {
        let state = State { what: what.to_string(), total, done: 0.0, start: Instant::now(), heard: 0.0 };
        if self.quiet {
            return Box::new(Shown { state: Arc::new(Mutex::new(state)), bar: None, end: None });
        }
        if let Some(bars) = &self.bars {
            let bar = bars.add(ProgressBar::new(BAR));
            let template = "{msg:24} {bar:32} {prefix}  {elapsed} gone, {eta} left";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_message(what.to_string());
            bar.set_prefix(format!("0/{total}"));
            bar.enable_steady_tick(Duration::from_millis(500));
            return Box::new(Shown { state: Arc::new(Mutex::new(state)), bar: Some(bar), end: None });
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
        Box::new(Shown { state, bar: None, end: started.is_ok().then_some(end) })
    }
}

/// Progress as a terminal or a log shows it.
struct Shown {
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

impl Progress for Shown {
    fn part(&mut self, more: f64) -> bool {
        if let Ok(mut state) = self.state.lock() {
            state.done += more;
            state.heard = state.start.elapsed().as_secs_f64();
            if let Some(bar) = &self.bar {
                bar.set_position((state.done / state.total.max(1) as f64 * BAR as f64) as u64);
                bar.set_prefix(format!("{}/{}", state.whole(), state.total));
            }
        }
        !interrupted()
    }

    fn note(&self, text: &str) {
        match (&self.bar, &self.end) {
            (Some(bar), _) => bar.println(text),
            (None, Some(_)) => {
                let _ = writeln!(std::io::stderr(), "{text}");
            }
            (None, None) => {}
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
