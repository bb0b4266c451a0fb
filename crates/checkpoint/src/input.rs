//! What a network knows of the recordings that it takes: their shape, their sampling rate, and the simulated nerve that
//! it was trained on. H contacts, W samples.

use std::path::Path;

use escape_network::arch::SAMPLES;

use crate::{Checkpoint, Value};

/// Key of the shape in a checkpoint: channels, contacts, samples; the study's dictionary has none of these.
pub const SHAPE_KEY: &str = "input_shape";
/// Key of the sampling rate, in hertz.
pub const RATE_KEY: &str = "sample_rate_hz";
/// Key of the simulated nerve, a text such as `seed 1, animal 2`.
pub const NERVE_KEY: &str = "nerve";

/// What a network knows of the recordings that it takes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KnownInput {
    /// Contacts and samples.
    pub shape: Option<(usize, usize)>,
    /// Sampling rate, in hertz.
    pub sample_rate_hz: Option<f64>,
    /// The simulated nerve that it was trained on.
    pub nerve: Option<String>,
}

impl KnownInput {
    /// What a checkpoint says. Keys of other types than ours are somebody else's.
    pub fn of(checkpoint: &Checkpoint) -> Self {
        let extra = |key: &str| checkpoint.extra.iter().find(|entry| entry.0 == key).map(|entry| &entry.1);
        let whole = |value: &Value| value.as_i64().and_then(|n| usize::try_from(n).ok());
        let shape = match extra(SHAPE_KEY) {
            Some(Value::List(sizes) | Value::Tuple(sizes)) => match &sizes[..] {
                [_, contacts, samples] => whole(contacts).zip(whole(samples)),
                _ => None,
            },
            _ => None,
        };
        Self {
            shape,
            sample_rate_hz: extra(RATE_KEY)
                .and_then(Value::as_f64)
                .filter(|rate| rate.is_finite() && *rate > 0.0),
            nerve: extra(NERVE_KEY).and_then(Value::as_str).map(str::to_owned),
        }
    }

    /// What a network knows that was made from one that knows this, with recordings that `calibration` describes but not
    /// trained on them.
    pub fn converted_with(&self, calibration: &Self) -> Self {
        Self {
            shape: calibration.shape,
            sample_rate_hz: self.sample_rate_hz.or(calibration.sample_rate_hz),
            nerve: self.nerve.clone(),
        }
    }

    /// Puts what is known into a checkpoint, and takes out what is not.
    pub fn store(&self, checkpoint: &mut Checkpoint) {
        checkpoint.extra.retain(|(key, _)| ![SHAPE_KEY, RATE_KEY, NERVE_KEY].contains(&key.as_str()));
        let mut add = |key: &str, value: Option<Value>| {
            checkpoint.extra.extend(value.map(|value| (key.to_owned(), value)));
        };
        let list = |(contacts, samples): (usize, usize)| {
            Value::List([1, contacts, samples].map(|n| Value::Int(n as i64)).to_vec())
        };
        add(SHAPE_KEY, self.shape.map(list));
        add(RATE_KEY, self.sample_rate_hz.map(Value::Float));
        add(NERVE_KEY, self.nerve.clone().map(Value::Str));
    }

    /// Why recordings of `contacts` x `samples` are none for this network, and what to do; `None` if they may be. A
    /// network that does not know its shape is the study's, for 100 samples: 100 contacts x 56 samples would fit its
    /// weights as well, because 14 x 25 features are as many as 25 x 14.
    pub fn misfit(&self, path: &Path, contacts: usize, samples: usize) -> Option<String> {
        let (takes, hint) = match self.shape {
            Some(shape) if shape == (contacts, samples) => return None,
            Some((rows, columns)) => (
                format!("{rows} contacts x {columns} samples"),
                if (rows, columns) == (samples, contacts) {
                    SWAP.to_owned()
                } else if rows * columns == contacts * samples {
                    format!("say how long a window is with --samples {columns}")
                } else if columns != samples {
                    format!(
                        "cut windows of {columns} samples, or train a network for these with `escape-snn train`"
                    )
                } else {
                    "give it recordings of the same cuff, or train a network for these with `escape-snn train`"
                        .to_owned()
                },
            ),
            None if samples == SAMPLES => return None,
            None => (
                format!("windows of {SAMPLES} samples"),
                match contacts == SAMPLES {
                    true => SWAP.to_owned(),
                    false => format!(
                        "cut windows of {SAMPLES} samples, or train a network for these with `escape-snn train`"
                    ),
                },
            ),
        };
        Some(format!(
            "{}: the network takes recordings of {takes}, but these have {contacts} contacts x {samples} samples; {hint}",
            path.display()
        ))
    }

    /// Whether recordings that do not fit may do so if they are read in another way.
    pub fn other_reading(&self, contacts: usize, samples: usize) -> bool {
        match self.shape {
            Some((rows, columns)) => {
                (rows, columns) != (contacts, samples) && rows * columns == contacts * samples
            }
            None => contacts == SAMPLES && samples != SAMPLES,
        }
    }

    /// What somebody should know who gives this network recordings of a sampling rate, and of a simulated nerve if they
    /// are of one.
    pub fn remarks(&self, sample_rate_hz: f64, nerve: Option<&str>) -> Vec<String> {
        let mut remarks = Vec::new();
        if let Some(rate) = self.sample_rate_hz
            && (rate - sample_rate_hz).abs() > 1e-6 * rate.abs()
        {
            remarks.push(format!(
                "the network was trained on recordings of {rate} Hz, these are of {sample_rate_hz} Hz: it sees every signal \
                 at another speed; resample them"
            ));
        }
        if let (Some(trained), Some(nerve)) = (&self.nerve, nerve)
            && trained != nerve
        {
            remarks.push(format!(
                "the network was trained on another nerve ({trained}) than these recordings are of ({nerve}), and \
                 will be less accurate; `data simulate` makes recordings of that nerve with its seed and animal"
            ));
        }
        remarks
    }
}

/// What to do where rows and columns have changed places.
const SWAP: &str = "contacts and samples seem to be the other way round: read them with --axes N,S,C (in MATLAB's \
                    order C,S,N or S,C,N)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_read() {
        let known = KnownInput {
            shape: Some((3, 100)),
            sample_rate_hz: Some(24e3),
            nerve: Some("seed 7, animal 2".to_owned()),
        };
        let mut checkpoint = Checkpoint::default();
        checkpoint.extra.push(("preset".to_owned(), "default".into()));
        assert_eq!(KnownInput::of(&checkpoint), KnownInput::default());
        known.store(&mut checkpoint);
        known.store(&mut checkpoint);
        assert_eq!((KnownInput::of(&checkpoint), checkpoint.extra.len()), (known.clone(), 4));
        KnownInput::default().store(&mut checkpoint);
        assert_eq!(checkpoint.extra.len(), 1);
        // Somebody else's keys.
        checkpoint.extra.push((SHAPE_KEY.to_owned(), "56x100".into()));
        checkpoint.extra.push((RATE_KEY.to_owned(), Value::Float(-1.0)));
        assert_eq!(KnownInput::of(&checkpoint), KnownInput::default());
    }

    #[test]
    fn misfits_say_what_to_do() {
        let known = KnownInput { shape: Some((56, 100)), ..KnownInput::default() };
        let said =
            |input: &KnownInput, contacts, samples| input.misfit(Path::new("n.pth"), contacts, samples);
        assert_eq!(said(&known, 56, 100), None);
        for (contacts, samples, part) in [
            (100, 56, "--axes"),
            (28, 200, "--samples 100"),
            (57, 100, "same cuff"),
            (56, 101, "cut windows"),
        ] {
            let text = said(&known, contacts, samples).unwrap();
            assert!(text.contains("56 contacts x 100 samples") && text.contains(part), "{text}");
        }
        let unknown = KnownInput::default();
        assert_eq!(said(&unknown, 64, 100), None);
        assert!(said(&unknown, 100, 56).unwrap().contains("--axes N,S,C"));
        assert!(said(&unknown, 56, 101).unwrap().contains("100 samples"));
    }

    #[test]
    fn other_rates_and_nerves_are_remarked_on() {
        let nerve = "seed 1, animal 2";
        let known = KnownInput { sample_rate_hz: Some(30e3), nerve: Some(nerve.to_owned()), shape: None };
        assert!(known.remarks(30e3, Some(nerve)).is_empty());
        assert!(known.remarks(30e3, None).is_empty());
        let said = known.remarks(24e3, Some("seed 3, animal 2"));
        assert!(
            said[0].contains("30000 Hz") && said[1].contains("another nerve (seed 1, animal 2)"),
            "{said:?}"
        );
        assert!(KnownInput::default().remarks(24e3, Some(nerve)).is_empty());
    }
}
