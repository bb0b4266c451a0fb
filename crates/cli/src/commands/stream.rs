//! `escape-snn stream`

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
#[cfg(unix)]
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};
use escape_data::frames::{FrameFormat, FrameLayout, Frames};
use escape_data::recordings_format;
use escape_study::load::{input_of, network, simulation_of};
use escape_study::session::usage;
use escape_study::stream::{Answer, Ended, Schedule, Stream, Summary, milliseconds};
use serde::Serialize;

use crate::args::{Input, StreamArgs};
use crate::context::{Context, interrupted};

/// A recording's answer.
#[derive(Serialize)]
struct Class<'a> {
    index: u64,
    class: usize,
    class_name: &'a str,
    scores: &'a [f32],
    latency_ms: f64,
}

/// The answer to a frame that is no recording.
#[derive(Serialize)]
struct Bad {
    index: u64,
    error: String,
}

/// The last line, with `--json`.
#[derive(Serialize)]
struct Last<'a> {
    summary: &'a Summary,
}

pub fn run(context: &Context, args: StreamArgs) -> Result<()> {
    let session = &context.session;
    if args.realtime && !matches!(args.input, Input::File(_)) {
        return Err(usage(
            "--realtime gives a file's recordings the times at which a nerve sends them; those of standard input and tcp come \
             when they come: leave it out, or give a file with --input FILE",
        ));
    }
    let source = Source::open(&args.input)?;
    let checkpoint = network(session, &args.checkpoint, &args.selection.selection())?;
    let (contacts, samples) = input_of(session, &checkpoint, &args.checkpoint)?;
    let asked = args.simulation.asked();
    let chosen = simulation_of(session, &checkpoint, &args.checkpoint, asked, (contacts, samples))?;
    let named = match &args.input {
        Input::File(path) => FrameFormat::of_name(path),
        Input::Standard | Input::Tcp(_) => None,
    };
    let format = args.format.or(named).unwrap_or(FrameFormat::I16);
    let layout = FrameLayout { format, scaling: args.scaling, contacts, samples };
    let scaled = if layout.scaled() { "scaled to [-1, 1] one by one" } else { "taken as they are" };
    session.note(format!("note: frames are {layout}, {scaled}; T = {}", chosen.steps));
    let mut stream = Stream::new(session, chosen)?;
    let mut first_error = None;
    let served = serve(&mut stream, source, layout, args.realtime, &mut first_error);
    let summary = stream.summary();
    if context.json {
        // Of the answers' reader, who may have gone: then nobody misses it.
        let mut line = serde_json::to_vec(&Last { summary: &summary })?;
        line.push(b'\n');
        let _ = write_out(&line);
    }
    if !context.quiet {
        let _ = writeln!(io::stderr(), "{}", text(&summary));
    }
    match (served?, first_error) {
        (_, Some(first)) if summary.frames == summary.errors => {
            Err(anyhow!("none of {} frames was a recording; the first: {first}", summary.frames))
        }
        _ => Ok(()),
    }
}

/// Answers every frame of a source; keeps what was wrong with the first that was no recording.
fn serve(
    stream: &mut Stream,
    source: Source,
    layout: FrameLayout,
    realtime: bool,
    first_error: &mut Option<String>,
) -> Result<Ended> {
    let mut line = Vec::new();
    let mut answer = |answer: &Answer<'_>| {
        line.clear();
        let Answer { index, received, found } = answer;
        match found {
            Ok(found) => {
                let (class_name, latency_ms) = (found.name, milliseconds(received.elapsed()));
                let class =
                    Class { index: *index, class: found.class, class_name, scores: found.scores, latency_ms };
                serde_json::to_writer(&mut line, &class)?;
            }
            Err(why) => {
                let error = why.to_string();
                serde_json::to_writer(&mut line, &Bad { index: *index, error: error.clone() })?;
                first_error.get_or_insert(error);
            }
        }
        line.push(b'\n');
        write_out(&line)
    };
    let mut go = |source: Box<dyn Read>, name: &str| {
        let schedule = realtime.then(|| Schedule::from(Instant::now()));
        let served = stream.serve(&mut Frames::new(source, layout), schedule, &interrupted, &mut answer);
        served.with_context(|| name.to_owned())
    };
    match source {
        Source::Bytes(source, name) => go(source, &name),
        Source::Clients(listener) => loop {
            match listener.accept() {
                Err(_) if interrupted() => return Ok(Ended::Stopped),
                // A client that gave up before it was its turn.
                Err(why) if why.kind() == ErrorKind::ConnectionAborted => {}
                Err(why) => return Err(why).context("no client could be accepted"),
                Ok((client, name)) => match go(client, &name)? {
                    Ended::Source => {}
                    ended => return Ok(ended),
                },
            }
        },
    }
}

/// Writes whole lines to standard output, at once.
fn write_out(lines: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let named = |why: io::Error| match why.kind() {
        ErrorKind::BrokenPipe => why,
        kind => io::Error::new(kind, format!("standard output: {why}")),
    };
    out.write_all(lines).and_then(|()| out.flush()).map_err(named)
}

/// Where frames come from.
enum Source {
    /// One stream of bytes, and what to call it.
    Bytes(Box<dyn Read>, String),
    /// Several, one after the other.
    Clients(Listener),
}

impl Source {
    /// Opens what was asked for, and refuses what cannot be frames.
    fn open(input: &Input) -> Result<Self> {
        match input {
            Input::Standard => {
                if io::stdin().is_terminal() {
                    return Err(usage(
                        "standard input is a terminal, and frames are bytes; give a file with --input FILE, or a program's \
                         output: PROGRAM | escape-snn stream",
                    ));
                }
                let name = "standard input".to_owned();
                Ok(Self::Bytes(standard_input()?, name))
            }
            Input::File(path) => {
                let name = path.display().to_string();
                check(path)?;
                let file = File::open(path).map_err(|why| usage(format!("{name}: cannot be read: {why}")))?;
                Ok(Self::Bytes(Box::new(Watched(file)), name))
            }
            Input::Tcp(port) => Ok(Self::Clients(Listener::open(*port)?)),
        }
    }
}

/// Refuses a path at which there are no raw frames.
fn check(path: &Path) -> Result<()> {
    let name = path.display();
    if path.is_dir() {
        return Err(usage(format!("{name}: this is a folder, expected a file of frames")));
    }
    if !path.exists() {
        return Err(usage(format!("{name}: no such file; check the path")));
    }
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
    if path.is_file()
        && let Some(what) = of_other_kind(path)
    {
        return Err(usage(format!(
            "{name}: this is {what}, and stream takes raw frames, which `escape-snn data convert` makes of recordings"
        )));
    }
    let recordings = match &ending[..] {
        // Numbers may look like anything.
        "f32" | "i16" => None,
        "npz" | "npy" | "mat" => Some(format!(".{ending}")),
        _ if path.is_file() => recordings_format(path).map(str::to_owned),
        // A pipe would lose what is looked at.
        _ => None,
    };
    match recordings {
        Some(what) => Err(usage(format!(
            "{name}: these are recordings ({what}), and stream takes raw frames; make some with `escape-snn data convert {name} \
             frames.f32`"
        ))),
        None => Ok(()),
    }
}

/// What a file is by its first bytes, if that is something else than recordings that [`check`] knows and than numbers.
fn of_other_kind(path: &Path) -> Option<&'static str> {
    let mut first = [0; 4];
    File::open(path).and_then(|mut file| file.read_exact(&mut first)).ok()?;
    match first {
        [b'P', b'K', 3, 4] if recordings_format(path).is_none() => Some("a zip archive, a checkpoint say"),
        [0x1f, 0x8b, 8, _] => Some("compressed (gzip)"),
        _ => None,
    }
}

/// Standard input without a buffer of its own, so that waiting for its bytes sees all of them.
#[cfg(unix)]
fn standard_input() -> Result<Box<dyn Read>> {
    let input = File::from(io::stdin().as_fd().try_clone_to_owned().context("standard input")?);
    match input.metadata().is_ok_and(|input| input.is_dir()) {
        true => Err(usage("standard input is a folder, expected frames")),
        false => Ok(Box::new(Watched(input))),
    }
}

#[cfg(not(unix))]
fn standard_input() -> Result<Box<dyn Read>> {
    Ok(Box::new(Watched(io::stdin())))
}

/// A source of bytes whose reader does not wait beyond Ctrl-C.
struct Watched<R>(R);

#[cfg(unix)]
impl<R: Read + AsFd> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        wait(&self.0)?;
        end_with_connection(self.0.read(buffer))
    }
}

/// Elsewhere Ctrl-C is heard of with the next bytes.
#[cfg(not(unix))]
impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        end_with_connection(self.0.read(buffer))
    }
}

/// A client that breaks off sends nothing more.
fn end_with_connection(read: io::Result<usize>) -> io::Result<usize> {
    match read {
        Err(why) if matches!(why.kind(), ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted) => Ok(0),
        read => read,
    }
}

/// Waits until there is something to read, or an end; Ctrl-C makes it an error.
#[cfg(unix)]
fn wait(source: &impl AsFd) -> io::Result<()> {
    /// Milliseconds between two looks at Ctrl-C.
    const LOOK: i32 = 100;
    loop {
        if interrupted() {
            return Err(io::Error::other("interrupted"));
        }
        let mut asked = libc::pollfd { fd: source.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor, which `source` keeps open.
        match unsafe { libc::poll(&mut asked, 1, LOOK) } {
            0 => {}
            1.. => return Ok(()),
            _ => match io::Error::last_os_error() {
                why if why.kind() == ErrorKind::Interrupted => {}
                why => return Err(why),
            },
        }
    }
}

/// Listens on this machine only.
struct Listener(TcpListener);

impl Listener {
    fn open(port: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|why| {
            let text = match why.kind() {
                ErrorKind::AddrInUse => {
                    "another program listens there; take another port, or 0 for a free one".to_owned()
                }
                ErrorKind::PermissionDenied => {
                    "this port is the system's (those below 1024 are); take another one, or 0 for a free one"
                        .to_owned()
                }
                _ => why.to_string(),
            };
            usage(format!("--input tcp:{port}: {text}"))
        })?;
        // Also with --quiet: nobody could find it otherwise.
        let _ = writeln!(io::stderr(), "listening on {}", listener.local_addr()?);
        Ok(Self(listener))
    }

    /// The next client, and what to call it.
    fn accept(&self) -> io::Result<(Box<dyn Read>, String)> {
        #[cfg(unix)]
        wait(&self.0)?;
        let (client, address) = self.0.accept()?;
        Ok((Box::new(Watched(client)), address.to_string()))
    }
}

fn text(summary: &Summary) -> String {
    let Summary { frames, errors, latency_ms, period_ms, over_period, late, seconds } = summary;
    let plural = if *frames == 1 { "" } else { "s" };
    let mut text = format!("{frames} frame{plural} in {seconds:.1} s, {errors} of them bad");
    if let (Some(median), Some(p99), Some(worst)) = (latency_ms.median, latency_ms.p99, latency_ms.worst) {
        text += &format!(
            "; latency {median:.2} ms in the median, {p99:.2} ms for 99 of 100, {worst:.2} ms at worst; {over_period} took longer \
             than the {period_ms:.1} ms from one nerve event to the next"
        );
    }
    if let Some(late) = late {
        text += &format!("; {late} came after the next recording");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use escape_study::stream::LatencySummary;

    #[test]
    fn a_summary_tells_latencies_where_there_are_any() {
        let none = LatencySummary { median: None, p99: None, worst: None };
        let mut summary = Summary {
            frames: 0,
            errors: 0,
            latency_ms: none,
            period_ms: 23.256,
            over_period: 0,
            late: None,
            seconds: 0.25,
        };
        assert_eq!(text(&summary), "0 frames in 0.2 s, 0 of them bad");
        summary.latency_ms = LatencySummary { median: Some(5.0), p99: Some(7.5), worst: Some(30.0) };
        (summary.over_period, summary.late) = (1, Some(2));
        let text = text(&summary);
        assert!(
            text.contains("5.00 ms in the median") && text.contains("1 took longer than the 23.3 ms"),
            "{text}"
        );
        assert!(text.ends_with("2 came after the next recording"), "{text}");
    }
}
