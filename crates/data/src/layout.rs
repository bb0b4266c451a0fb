//! Which dimension of an array is which, and putting its values in their place. N recordings, H contacts, W samples.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::arrays::{Array, Convention};
use escape_network::arch::SAMPLES;

/// What a dimension counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Axis {
    Recordings,
    Contacts,
    Samples,
}

/// The dimensions of an array in its own program's order: N recordings, C contacts, S samples; written `N,C,S`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Axes([Axis; 3]);

impl Axes {
    const NUMPY: Self = Self([Axis::Recordings, Axis::Contacts, Axis::Samples]);
    /// A column a recording, contact after contact.
    const MATLAB: Self = Self([Axis::Samples, Axis::Contacts, Axis::Recordings]);

    /// Contacts and samples changed over.
    pub(crate) fn swapped(self) -> Self {
        Self(self.0.map(|axis| match axis {
            Axis::Contacts => Axis::Samples,
            Axis::Samples => Axis::Contacts,
            Axis::Recordings => Axis::Recordings,
        }))
    }

    /// Those that a program's arrays have where nothing else is said.
    pub(crate) fn usual(convention: Convention) -> Self {
        match convention {
            Convention::Matlab => Self::MATLAB,
            Convention::NumPy => Self::NUMPY,
        }
    }
}

impl fmt::Display for Axes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c] = self.0.map(|axis| match axis {
            Axis::Recordings => 'N',
            Axis::Contacts => 'C',
            Axis::Samples => 'S',
        });
        write!(f, "{a},{b},{c}")
    }
}

impl FromStr for Axes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "expected each of N (recordings), C (contacts) and S (samples) once, N,S,C say, got {text:?}"
            )
        };
        let letters: Vec<Axis> = text
            .split(',')
            .map(|part| match part.trim() {
                "N" | "n" => Ok(Axis::Recordings),
                "C" | "c" => Ok(Axis::Contacts),
                "S" | "s" => Ok(Axis::Samples),
                _ => Err(wrong()),
            })
            .collect::<Result<_, _>>()?;
        let axes: [Axis; 3] = letters.try_into().map_err(|_| wrong())?;
        let [a, b, c] = axes;
        if a == b || b == c || a == c { Err(wrong()) } else { Ok(Self(axes)) }
    }
}

impl TryFrom<String> for Axes {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Axes> for String {
    fn from(axes: Axes) -> Self {
        axes.to_string()
    }
}

/// What is known of the window of a recording.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Window {
    pub(crate) contacts: Option<usize>,
    pub(crate) samples: Option<usize>,
}

/// Where each value of an array belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    /// N, H, W.
    pub(crate) shape: [usize; 3],
    /// Values of a recording, if contacts and samples share a dimension and 100 samples were assumed.
    pub(crate) assumed: Option<usize>,
    /// Whether contacts and samples share a dimension.
    pub(crate) flat: bool,
    /// Whether the values of a recording are taken to stand sample after sample in the file.
    pub(crate) by_sample: bool,
    pub(crate) axes: Axes,
    /// Size of each dimension and the distance of its steps among N x H x W, the fastest stored first.
    steps: [(usize, usize); 3],
}

/// Why an array cannot be recordings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// The shapes that would do.
    Shape(String),
    /// Anything else, as a sentence's end.
    Problem(String),
}

impl Layout {
    /// How the values of an array are to be understood. `axes` and `window` are what somebody said.
    pub(crate) fn of(
        (name, array): (&str, &Array),
        convention: Convention,
        axes: Option<Axes>,
        window: Window,
    ) -> Result<Self, Misfit> {
        let given = axes;
        let axes = axes.unwrap_or(Axes::usual(convention));
        let expected = || {
            match (convention, given) {
            (_, Some(axes)) => format!(
                "{axes} (N recordings, C contacts, S samples), as --axes says, or two dimensions if C and S stand side by side"
            ),
            (Convention::Matlab, None) => format!(
                "(contacts * {SAMPLES}) x recordings, 5600 x N for 56 contacts; transpose it if it is the other way \
                 round, or say so with --axes N,S,C (each row contact after contact) or N,C,S (sample after sample); of \
                 three dimensions say which is which with --axes, C,S,N say"
            ),
            (Convention::NumPy, None) => "N x H x W or N x 1 x H x W (recordings x contacts x samples), H and W at \
                 least 1; say which is which with --axes if they are in another order, and the length of a window with \
                 --samples if the rows are flat"
                .to_owned(),
        }
        };
        let misfit = || Misfit::Shape(expected());
        let dims: Vec<usize> = array
            .dims
            .iter()
            .map(|&dim| usize::try_from(dim))
            .collect::<Result<_, _>>()
            .map_err(|_| misfit())?;
        if dims.contains(&0) && dims.iter().all(|&dim| dim == 0) {
            // MATLAB's [].
            let steps = [(0, 0); 3];
            return Ok(Self { shape: [0; 3], assumed: None, flat: false, by_sample: false, axes, steps });
        }
        let told = given.is_some() || window.contacts.or(window.samples).is_some();
        let mut assumed = None;
        let sizes = match dims[..] {
            [a, b, c] if convention == Convention::NumPy || given.is_some() => [a, b, c],
            [a, 1, b, c] if convention == Convention::NumPy || given.is_some() => [a, b, c],
            [a, b, c, 1] | [a, b, 1, c] if given.is_some() => [a, b, c],
            [first, second] if convention == Convention::Matlab || told => {
                let joined = |axis: Axis| matches!(axis, Axis::Contacts | Axis::Samples);
                let (at, rows) = match axes.0.map(joined) {
                    [true, true, false] => (0, first),
                    [false, true, true] => (1, second),
                    _ => return Err(misfit()),
                };
                let samples = match window {
                    Window { samples: Some(samples), .. } => samples,
                    Window { contacts: Some(contacts), .. } if contacts > 0 => {
                        if !rows.is_multiple_of(contacts) {
                            return Err(Misfit::Problem(format!(
                                "a recording has {rows} values, which {contacts} contacts do not divide; say the length \
                                 of a window with --samples"
                            )));
                        }
                        rows / contacts
                    }
                    _ => {
                        assumed = Some(rows);
                        SAMPLES
                    }
                };
                if samples == 0 || rows == 0 || !rows.is_multiple_of(samples) {
                    return Err(match assumed {
                        Some(_) => misfit(),
                        None => Misfit::Problem(format!(
                            "a recording has {rows} values, which windows of {samples} samples do not divide; say their \
                             length with --samples"
                        )),
                    });
                }
                let pair = match axes.0[at] {
                    Axis::Samples => [samples, rows / samples],
                    _ => [rows / samples, samples],
                };
                match at {
                    0 => [pair[0], pair[1], second],
                    _ => [first, pair[0], pair[1]],
                }
            }
            _ => return Err(misfit()),
        };
        let size = |wanted: Axis| {
            axes.0.iter().zip(sizes).find(|(axis, _)| **axis == wanted).map_or(0, |(_, size)| size)
        };
        let shape @ [_, contacts, samples] =
            [size(Axis::Recordings), size(Axis::Contacts), size(Axis::Samples)];
        // Also when N is 0: nothing else bounds H x W then.
        let area = contacts.checked_mul(samples).filter(|&area| area > 0).ok_or_else(misfit)?;
        let flat = dims.len() == 2;
        if let Some(wanted) = window.samples.filter(|&wanted| wanted != samples) {
            let swapped = if wanted == contacts { swap_hint(axes) } else { String::new() };
            return Err(Misfit::Problem(format!(
                "windows of {wanted} samples are asked for, but {name} has {samples} samples a contact{swapped}"
            )));
        }
        if let Some(declared) = window.contacts.filter(|&declared| declared != contacts) {
            let swapped = if declared == samples { swap_hint(axes) } else { String::new() };
            return Err(Misfit::Problem(format!(
                "contacts is {declared}, but {name} has {contacts} rows a recording{swapped}"
            )));
        }
        let step = |axis: Axis| match axis {
            Axis::Recordings => area,
            Axis::Contacts => samples,
            Axis::Samples => 1,
        };
        let mut steps: [(usize, usize); 3] = std::array::from_fn(|i| (sizes[i], step(axes.0[i])));
        if !array.column_major {
            steps.reverse();
        }
        let at = |wanted: Axis| axes.0.iter().position(|axis| *axis == wanted);
        let by_sample = (at(Axis::Contacts) < at(Axis::Samples)) == array.column_major;
        Ok(Self { shape, assumed, flat, by_sample, axes, steps })
    }

    /// Where value number `index` of the array as it is stored belongs among N x H x W.
    pub(crate) fn target(&self, index: usize) -> usize {
        let [(a, step_a), (b, step_b), (_, step_c)] = self.steps;
        index % a * step_a + index / a % b * step_b + index / (a * b) * step_c
    }

    /// Put a run of values, the first of which is number `start` of the array as it is stored, into `x`, N x H x W.
    pub(crate) fn place(&self, start: usize, values: &[f64], x: &mut [f32]) {
        let [(a, step_a), (b, step_b), (_, step_c)] = self.steps;
        if self.is_identity() {
            x[start..start + values.len()].iter_mut().zip(values).for_each(|(to, &v)| *to = v as f32);
            return;
        }
        let (mut i, mut j, mut k) = (start % a, start / a % b, start / (a * b));
        let mut rest = values;
        while !rest.is_empty() {
            let run = (a - i).min(rest.len());
            let from = i * step_a + j * step_b + k * step_c;
            let (now, later) = rest.split_at(run);
            for (to, &v) in x[from..].iter_mut().step_by(step_a).zip(now) {
                *to = v as f32;
            }
            rest = later;
            (i, j) = (0, j + 1);
            if j == b {
                (j, k) = (0, k + 1);
            }
        }
    }

    fn is_identity(&self) -> bool {
        let [_, contacts, samples] = self.shape;
        self.steps.map(|(_, step)| step) == [1, samples, contacts * samples]
    }
}

/// What to say where contacts and samples seem to be the other way round.
fn swap_hint(axes: Axes) -> String {
    format!("; if they are the other way round, say so with --axes {}", axes.swapped())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arrays::Kind;

    /// Value of recording n, contact c, sample s.
    fn value(n: usize, c: usize, s: usize) -> f64 {
        (n * 100 + c * 10 + s) as f64
    }

    fn array(dims: &[u64], column_major: bool) -> Array {
        Array { dims: dims.to_vec(), column_major, kind: Kind::Numbers }
    }

    fn window(contacts: Option<usize>, samples: Option<usize>) -> Window {
        Window { contacts, samples }
    }

    /// Every order of 2 recordings, 3 contacts and 4 samples, in both memory orders, flat where it can be, in runs of
    /// every length.
    #[test]
    fn every_order_is_put_right() {
        let mut want = vec![0.0; 24];
        for (n, c, s) in (0..24).map(|i| (i / 12, i / 4 % 3, i % 4)) {
            want[(n * 3 + c) * 4 + s] = value(n, c, s) as f32;
        }
        for text in ["N,C,S", "N,S,C", "C,N,S", "C,S,N", "S,N,C", "S,C,N"] {
            let axes: Axes = text.parse().unwrap();
            assert_eq!(axes.to_string(), text);
            let sizes = axes.0.map(|axis| match axis {
                Axis::Recordings => 2,
                Axis::Contacts => 3,
                Axis::Samples => 4,
            });
            for column_major in [false, true] {
                let mut stored = Vec::new();
                for i in 0..24 {
                    let mut rest = i;
                    let mut index = [0; 3];
                    let order = if column_major { [0, 1, 2] } else { [2, 1, 0] };
                    for at in order {
                        index[at] = rest % sizes[at];
                        rest /= sizes[at];
                    }
                    let of = |wanted: Axis| index[axes.0.iter().position(|a| *a == wanted).unwrap()];
                    stored.push(value(of(Axis::Recordings), of(Axis::Contacts), of(Axis::Samples)));
                }
                let dims = sizes.map(|size| size as u64);
                let mut shapes = vec![dims.to_vec(), vec![dims[0], 1, dims[1], dims[2]]];
                match axes.0.iter().position(|a| *a == Axis::Recordings) {
                    Some(0) => shapes.push(vec![2, 12]),
                    Some(2) => shapes.push(vec![12, 2]),
                    _ => {}
                }
                for dims in shapes {
                    let told = window(None, (dims.len() == 2).then_some(4));
                    let array = array(&dims, column_major);
                    let layout = Layout::of(("x", &array), Convention::NumPy, Some(axes), told).unwrap();
                    assert_eq!(layout.shape, [2, 3, 4]);
                    for step in [1, 5, 7, 24] {
                        let mut x = vec![0.0; 24];
                        let runs = stored.chunks(step).enumerate();
                        runs.for_each(|(i, run)| layout.place(i * step, run, &mut x));
                        assert_eq!(x, want, "{text} {dims:?} {column_major} {step}");
                        let at = |i: usize| f64::from(x[layout.target(i)]);
                        assert!((0..24).all(|i| at(i) == stored[i]), "{text} {dims:?} {column_major}");
                    }
                }
            }
        }
        for wrong in ["", "N,C", "N,C,C", "N,C,S,S", "NCS", "X,C,S"] {
            assert!(wrong.parse::<Axes>().unwrap_err().contains("each of N"), "{wrong}");
        }
    }

    #[test]
    fn flat_recordings_have_a_window() {
        let of = |dims: &[u64], told| Layout::of(("x", &array(dims, true)), Convention::Matlab, None, told);
        let plain = of(&[600, 5], Window::default()).unwrap();
        assert_eq!((plain.shape, plain.assumed), ([5, 6, 100], Some(600)));
        let told = of(&[600, 5], window(None, Some(200))).unwrap();
        assert_eq!((told.shape, told.assumed), ([5, 3, 200], None));
        assert_eq!(of(&[600, 5], window(Some(3), None)).unwrap().shape, [5, 3, 200]);
        let error = of(&[600, 5], window(None, Some(70))).unwrap_err();
        assert!(
            matches!(error, Misfit::Problem(text) if text.contains("600 values") && text.contains("70 samples"))
        );
        assert!(matches!(of(&[5, 650], Window::default()), Err(Misfit::Shape(_))));
        assert_eq!(of(&[0, 0], Window::default()).unwrap().shape, [0; 3]);
        // Three dimensions are what they are.
        let of = |told| Layout::of(("x", &array(&[5, 100, 56], false)), Convention::NumPy, None, told);
        let error = of(window(None, Some(100))).unwrap_err();
        assert!(
            matches!(error, Misfit::Problem(text) if text.contains("56 samples a contact") && text.contains("--axes N,S,C"))
        );
    }
}
