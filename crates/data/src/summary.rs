//! What a set of recordings holds, in numbers. N recordings, H contacts, W samples.

use rayon::prelude::*;
use serde::Serialize;

use crate::contacts::neighbours;
use crate::options::Neighbours;
use crate::range::Range;
use crate::recordings::{Dataset, Recordings};

/// A [`Dataset`] in numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DatasetSummary {
    /// Sampling rate, in hertz.
    pub sample_rate_hz: f64,
    /// Name of each class, in the order of the class counts.
    pub class_names: Vec<String>,
    /// The training recordings.
    pub train: SplitSummary,
    /// The test recordings.
    pub test: SplitSummary,
}

/// One split in numbers. Statistics are over all its N x H x W values and absent when there are none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SplitSummary {
    /// N.
    pub recordings: usize,
    /// H.
    pub contacts: usize,
    /// W.
    pub samples: usize,
    /// Recordings of each class.
    pub class_counts: Vec<usize>,
    /// Smallest value.
    pub min: Option<f64>,
    /// Largest value.
    pub max: Option<f64>,
    /// Mean.
    pub mean: Option<f64>,
    /// Standard deviation (of the population: divided by the number of values).
    pub sd: Option<f64>,
    /// How alike neighbouring samples and neighbouring contacts are; low values say that the order of the values may be
    /// wrong. Absent where there are none.
    pub neighbours: Option<Neighbours>,
    /// Recordings whose H x W values are all equal: dead channels, or a failed export.
    pub constant_recordings: usize,
}

/// Some values in numbers.
#[derive(Clone, Copy)]
struct Moments {
    count: f64,
    min: f32,
    max: f32,
    mean: f64,
    /// Sum of the squares of the deviations from the mean.
    squares: f64,
}

impl Moments {
    const NONE: Self =
        Self { count: 0.0, min: f32::INFINITY, max: f32::NEG_INFINITY, mean: 0.0, squares: 0.0 };

    fn of(values: &[f32]) -> Self {
        let count = values.len() as f64;
        let mean = sum(values, |v| v) / count;
        let squares = sum(values, |v| (v - mean).powi(2));
        let Range { min, max, .. } = Range::of(values);
        Self { count, min, max, mean, squares }
    }

    /// Of both together (Chan, Golub and LeVeque, 1979).
    fn with(self, other: Self) -> Self {
        let count = self.count + other.count;
        let apart = other.mean - self.mean;
        Self {
            count,
            min: self.min.min(other.min),
            max: self.max.max(other.max),
            mean: self.mean + apart * other.count / count,
            squares: self.squares + other.squares + apart.powi(2) * self.count * other.count / count,
        }
    }
}

/// The sum of a function of values, in lanes, which the compiler turns into vector instructions.
fn sum(values: &[f32], of: impl Fn(f64) -> f64) -> f64 {
    let mut lanes = [0.0; 8];
    let (chunks, rest) = values.as_chunks::<8>();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, &v)| *lane += of(v.into()));
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|&v| of(v.into())).sum::<f64>()
}

impl Recordings {
    /// These recordings in numbers, which do not depend on the number of threads.
    pub fn summary(&self) -> SplitSummary {
        let each: Vec<Moments> = self.x.par_chunks_exact(self.size().max(1)).map(Moments::of).collect();
        let all = each.iter().copied().fold(Moments::NONE, Moments::with);
        let known = |value: f64| (all.count > 0.0).then_some(value);
        SplitSummary {
            recordings: self.len(),
            contacts: self.contacts,
            samples: self.samples,
            class_counts: self.class_counts(),
            min: known(all.min.into()),
            max: known(all.max.into()),
            mean: known(all.mean),
            neighbours: neighbours(self, false).map(|[as_read, _]| as_read),
            sd: known((all.squares / all.count).sqrt()),
            constant_recordings: each.iter().filter(|m| m.min == m.max).count(),
        }
    }
}

impl Dataset {
    /// This data set in numbers.
    pub fn summary(&self) -> DatasetSummary {
        let of = |split: &Recordings| {
            let mut summary = split.summary();
            summary.class_counts.resize(self.classes.len(), 0);
            summary
        };
        DatasetSummary {
            sample_rate_hz: self.sample_rate_hz,
            class_names: self.classes.clone(),
            train: of(&self.train),
            test: of(&self.test),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Classes;

    #[test]
    fn statistics_by_hand() {
        let x = vec![0.5, -0.5, 1.0, 0.0, 0.25, 0.25, 0.25, 0.25];
        let train = Recordings::new(x, vec![2, 0], 2, 2).unwrap();
        let test = train.head(0);
        let summary =
            Dataset { train, test, classes: Classes::Open.names(), sample_rate_hz: 30e3, nerve: None }
                .summary();
        let train = &summary.train;
        assert_eq!((train.recordings, train.contacts, train.samples), (2, 2, 2));
        assert_eq!(train.class_counts, [1, 0, 1]);
        assert_eq!((train.min, train.max, train.mean), (Some(-0.5), Some(1.0), Some(0.25)));
        // Deviations 0.25, -0.75, 0.75, -0.25, then zeros: variance 1.25 / 8.
        assert!((train.sd.unwrap() - (1.25f64 / 8.0).sqrt()).abs() < 1e-15);
        assert_eq!(train.constant_recordings, 1);
        assert_eq!((summary.test.min, summary.test.sd), (None, None));

        let json = serde_json::to_value(&summary).unwrap();
        assert_eq!(json["train"]["class_counts"][2], 1);
        assert!(json["test"]["mean"].is_null());
    }
}
