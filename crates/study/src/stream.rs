//! Recordings classified one by one, as they arrive.

use std::io::{self, ErrorKind, Read};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use escape_data::frames::{FrameError, Frames, Received};
use escape_network::metrics::predicted;
use escape_snn_core::encode::Encoder;
use escape_snn_core::engine::{Batch, Engine};
use serde::Serialize;

use crate::engine::{AnyEngine, interrupted};
use crate::latency::Latencies;
use crate::load::Simulation;
use crate::session::Session;

/// Nerve events a second in the recordings of the study: how often an answer is due.
pub const EVENTS_PER_SECOND: u64 = 43;

/// When events come that follow each other evenly. Each moment is counted from the start, so that none drifts.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    start: Instant,
}

impl Schedule {
    /// Of events of which the first comes at `start`.
    pub fn from(start: Instant) -> Self {
        Self { start }
    }

    /// When an event comes, counted from 0.
    pub fn time(&self, event: u64) -> Instant {
        self.start + after(event)
    }

    /// Waits until an event has come, and says when it came.
    fn wait(&self, event: u64) -> Instant {
        let time = self.time(event);
        std::thread::sleep(time.saturating_duration_since(Instant::now()));
        time
    }
}

/// How long after the first an event comes.
fn after(event: u64) -> Duration {
    let nanoseconds = u128::from(event % EVENTS_PER_SECOND) * 1_000_000_000 / u128::from(EVENTS_PER_SECOND);
    Duration::new(event / EVENTS_PER_SECOND, nanoseconds as u32)
}

/// The time from one event to the next.
pub fn period() -> Duration {
    after(1)
}

/// What became of one frame.
#[derive(Debug)]
pub struct Answer<'a> {
    /// Number of the frame, from 0.
    pub index: u64,
    /// When its last byte was read; on a schedule, when it came.
    pub received: Instant,
    /// Its class, or why it has none.
    pub found: Result<Found<'a>, FrameError>,
}

/// The class of a recording.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// Its number, the first with the highest score.
    pub class: usize,
    /// What it is called.
    pub name: &'a str,
    /// The readout after the last timestep, one number a class.
    pub scores: &'a [f32],
}

/// How serving one source ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With the source.
    Source,
    /// Because it was asked to.
    Stopped,
    /// With whoever took the answers.
    Reader,
}

/// What a stream has come to.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Frames that came.
    pub frames: u64,
    /// Those that were no recordings.
    pub errors: u64,
    /// How long answers took.
    pub latency_ms: LatencySummary,
    /// Time from one nerve event to the next.
    pub period_ms: f64,
    /// Answers that took longer.
    pub over_period: u64,
    /// On a schedule: answers that came after the next recording had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late: Option<u64>,
    /// From when the network was ready to now.
    pub seconds: f64,
}

/// How long answers took, in milliseconds; nothing before the first.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LatencySummary {
    /// Half of them took less, within 1 %.
    pub median: Option<f64>,
    /// 99 of 100 took less, within 1 %.
    pub p99: Option<f64>,
    /// The largest.
    pub worst: Option<f64>,
}

/// A network that answers.
pub struct Stream {
    engine: AnyEngine,
    encoder: Encoder,
    steps: usize,
    classes: Vec<String>,
    frames: u64,
    errors: u64,
    latencies: Latencies,
    over_period: u64,
    late: Option<u64>,
    start: Instant,
}

impl Stream {
    /// Makes a network ready, and simulates it once on silence, so that the first answer takes no longer than others.
    ///
    /// # Errors
    /// Those of [`AnyEngine::new`] and of the engine.
    pub fn new(session: &Session, chosen: Simulation) -> Result<Self> {
        let Simulation { network, encoding, steps, engine } = chosen;
        let encoder = network.rules.encoder(encoding, session.seed);
        let classes = (0..network.classes()).map(|class| network.network.class_name(class)).collect();
        let silence = vec![0.0; network.input().count()];
        let engine = AnyEngine::new(engine, network, encoding, session.device()?)?;
        engine.run(Batch { x: &silence, first: 0 }, &mut encoder.clone(), steps, &mut ())?;
        Ok(Self {
            engine,
            encoder,
            steps,
            classes,
            frames: 0,
            errors: 0,
            latencies: Latencies::default(),
            over_period: 0,
            late: None,
            start: Instant::now(),
        })
    }

    /// Answers every frame of a source, until it ends, `stop` says so or `answer` finds that nobody reads on. A frame that is
    /// no recording is answered with why, and the next one follows. With a schedule a frame comes when that says, whether
    /// the answer before is out or not.
    ///
    /// # Errors
    /// The source's, the engine's, and those of `answer` but for [`ErrorKind::BrokenPipe`].
    pub fn serve<R: Read>(
        &mut self,
        frames: &mut Frames<R>,
        schedule: Option<Schedule>,
        stop: &dyn Fn() -> bool,
        answer: &mut dyn FnMut(&Answer<'_>) -> io::Result<()>,
    ) -> Result<Ended> {
        if schedule.is_some() {
            self.late.get_or_insert(0);
        }
        let mut event = 0;
        loop {
            let received = frames.receive();
            let now = Instant::now();
            match received {
                _ if stop() => return Ok(Ended::Stopped),
                Ok(Received::End) => return Ok(Ended::Source),
                received => received.with_context(|| format!("frame {} could not be read", self.frames))?,
            };
            let received = schedule.map_or(now, |schedule| schedule.wait(event));
            let index = self.frames;
            self.frames += 1;
            let outcome;
            let found = match frames.recording() {
                Ok(x) => {
                    let batch = Batch { x, first: index as usize };
                    let mut go_on = |_: usize| !stop();
                    outcome = match self.engine.run(batch, &mut self.encoder, self.steps, &mut go_on) {
                        Err(why) if interrupted(&why) => {
                            self.frames -= 1;
                            return Ok(Ended::Stopped);
                        }
                        outcome => outcome?,
                    };
                    let scores = outcome.logits(self.steps);
                    let class = predicted(scores);
                    Ok(Found { class, name: &self.classes[class], scores })
                }
                Err(why) => Err(why),
            };
            let answered = found.is_ok();
            self.errors += u64::from(!answered);
            match answer(&Answer { index, received, found }) {
                Err(why) if why.kind() == ErrorKind::BrokenPipe => return Ok(Ended::Reader),
                written => {
                    written.with_context(|| format!("the answer to frame {index} could not be written"))?
                }
            }
            event += 1;
            if !answered {
                continue;
            }
            let now = Instant::now();
            let latency = now.saturating_duration_since(received);
            self.latencies.add(latency);
            self.over_period += u64::from(latency > period());
            if let (Some(schedule), Some(late)) = (schedule, &mut self.late) {
                *late += u64::from(now > schedule.time(event));
            }
        }
    }

    /// What it has come to so far.
    pub fn summary(&self) -> Summary {
        let latencies = &self.latencies;
        Summary {
            frames: self.frames,
            errors: self.errors,
            latency_ms: LatencySummary {
                median: latencies.quantile(0.5).map(milliseconds),
                p99: latencies.quantile(0.99).map(milliseconds),
                worst: latencies.worst().map(milliseconds),
            },
            period_ms: milliseconds(period()),
            over_period: self.over_period,
            late: self.late,
            seconds: self.start.elapsed().as_secs_f64(),
        }
    }
}

/// A duration in milliseconds, to the microsecond.
pub fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::defaults::EngineName;
    use crate::session::Silence;
    use escape_data::Rescale;
    use escape_data::frames::{FrameFormat, FrameLayout};
    use escape_network::sequential::{Layer, Named, Sequential, Shape};
    use escape_snn_core::encode::Encoding;
    use escape_snn_core::network::{SpikingLayer, SpikingNetwork};
    use escape_snn_core::neuron::Neuron;
    use escape_snn_core::rules::Rules;

    /// Scores the two values of a recording, each by its own class.
    fn stream() -> Stream {
        let named = |name: &str, layer| Named { name: name.into(), layer };
        let layers = vec![named("", Layer::Flatten), named("a", Layer::Linear { out: 2, bias: false })];
        let network = Sequential::new(Shape::new(1, 1, 2), layers, Vec::new()).unwrap();
        let layers = network.stages().unwrap().into_iter().map(|shape| SpikingLayer {
            shape,
            weights: vec![1.0, 0.0, 0.0, 1.0].into(),
            bias: Vec::new(),
            neuron: Neuron::new(1.0, 1.0).unwrap(),
        });
        let network = SpikingNetwork { rules: Rules::DEFAULT, layers: layers.collect(), network };
        let chosen = Simulation { network, encoding: Encoding::Direct, steps: 2, engine: EngineName::Event };
        let session = Session {
            seed: 0,
            force: false,
            command: Vec::new(),
            #[cfg(feature = "libtorch")]
            device: escape_model::device::Request::Cpu,
            listener: Arc::new(Silence),
        };
        Stream::new(&session, chosen).unwrap()
    }

    /// Frames of one contact and two samples.
    fn frames(values: &[f32]) -> Frames<io::Cursor<Vec<u8>>> {
        let layout =
            FrameLayout { format: FrameFormat::F32, scaling: Rescale::None, contacts: 1, samples: 2 };
        Frames::new(io::Cursor::new(values.iter().flat_map(|v| v.to_le_bytes()).collect()), layout)
    }

    #[test]
    fn every_frame_is_answered_in_order() {
        let mut stream = stream();
        let mut said = Vec::new();
        let mut answer = |answer: &Answer<'_>| {
            let found = answer
                .found
                .as_ref()
                .map(|found| (found.class, found.name.to_owned(), found.scores.to_vec()));
            said.push((answer.index, found.map_err(Clone::clone)));
            Ok(())
        };
        let mut frames = frames(&[1.0, 0.0, 0.5, 0.5, -1.0, 1.0]);
        assert_eq!(stream.serve(&mut frames, None, &|| false, &mut answer).unwrap(), Ended::Source);
        assert_eq!(said.len(), 3);
        assert_eq!(said[0], (0, Ok((0, "class 0".to_owned(), vec![2.0, 0.0]))));
        assert_eq!(said[1], (1, Err(FrameError::Constant { value: 0.5 })));
        assert_eq!(said[2], (2, Ok((1, "class 1".to_owned(), vec![-2.0, 2.0]))));
        let summary = stream.summary();
        assert_eq!((summary.frames, summary.errors, summary.late), (3, 1, None));
        assert!(summary.latency_ms.median.is_some());
    }

    #[test]
    fn on_a_schedule_waiting_for_the_answer_before_counts() {
        let mut stream = stream();
        let mut answer = |_: &Answer<'_>| {
            std::thread::sleep(Duration::from_millis(40));
            Ok(())
        };
        let schedule = Schedule::from(Instant::now());
        let mut frames = frames(&[1.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
        stream.serve(&mut frames, Some(schedule), &|| false, &mut answer).unwrap();
        let summary = stream.summary();
        assert_eq!((summary.over_period, summary.late), (3, Some(3)));
        // The third comes after 46.5 ms and is answered after 120.
        assert!(summary.latency_ms.worst.unwrap() > 73.0, "{summary:?}");
    }

    #[test]
    fn a_stream_ends_when_asked_to_or_unread() {
        let mut stream = stream();
        let mut unread = |_: &Answer<'_>| Err(ErrorKind::BrokenPipe.into());
        assert_eq!(
            stream.serve(&mut frames(&[1.0, 0.0]), None, &|| false, &mut unread).unwrap(),
            Ended::Reader
        );
        assert_eq!(
            stream.serve(&mut frames(&[1.0, 0.0]), None, &|| true, &mut unread).unwrap(),
            Ended::Stopped
        );
        let mut full = |_: &Answer<'_>| Err(ErrorKind::StorageFull.into());
        let why = stream.serve(&mut frames(&[1.0, 0.0]), None, &|| false, &mut full).unwrap_err();
        assert!(why.to_string().contains("answer to frame 1"), "{why}");
    }

    #[test]
    fn events_do_not_drift() {
        assert_eq!(after(43 * 60), Duration::from_secs(60));
        assert_eq!(period(), Duration::from_nanos(23_255_813));
        for event in [42, 43, 1_000_000_007] {
            let gap = after(event + 1) - after(event);
            assert!(gap.abs_diff(period()) <= Duration::from_nanos(1), "{gap:?}");
        }
        let schedule = Schedule::from(Instant::now());
        assert!(schedule.wait(1) <= Instant::now());
    }

    #[test]
    fn milliseconds_are_told_to_the_microsecond() {
        assert_eq!(milliseconds(Duration::from_nanos(1_234_567)), 1.235);
    }
}
