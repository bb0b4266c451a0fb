//! What a set of recordings holds, in numbers. N recordings, H contacts, W samples.

use rayon::prelude::*;
use serde::Serialize;

use crate::recordings::{Dataset, Recordings};
use crate::{CLASS_NAMES, CLASSES};

/// A [`Dataset`] in numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DatasetSummary {
    /// Sampling rate, in hertz.
    pub sample_rate_hz: f64,
    /// Name of each class, in the order of the class counts.
    pub class_names: [&'static str; CLASSES],
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
    pub class_counts: [usize; CLASSES],
    /// Smallest value.
    pub min: Option<f64>,
    /// Largest value.
    pub max: Option<f64>,
    /// Mean.
    pub mean: Option<f64>,
    /// Standard deviation (of the population: divided by the number of values).
    pub sd: Option<f64>,
    /// Recordings whose H x W values are all equal: dead channels, or a failed export.
    pub constant_recordings: usize,
}

/// One recording in numbers.
struct Parts {
    min: f32,
    max: f32,
    sum: f64,
}

impl Recordings {
    /// These recordings in numbers. They do not depend on the number of threads.
    pub fn summary(&self) -> SplitSummary {
        let size = self.size().max(1);
        // Recording by recording, then added up in their order.
        let parts: Vec<Parts> = self
            .x
            .par_chunks_exact(size)
            .map(|x| Parts {
                min: x.iter().fold(f32::INFINITY, |m, &v| m.min(v)),
                max: x.iter().fold(f32::NEG_INFINITY, |m, &v| m.max(v)),
                sum: x.iter().map(|&v| f64::from(v)).sum(),
            })
            .collect();
        let count = Some(self.x.len() as f64).filter(|&n| n > 0.0);
        let mean = count.map(|n| parts.iter().map(|p| p.sum).sum::<f64>() / n);
        let squares = |mean: f64| -> f64 {
            let of = |x: &[f32]| x.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>();
            self.x.par_chunks_exact(size).map(of).collect::<Vec<_>>().into_iter().sum()
        };
        SplitSummary {
            recordings: self.len(),
            contacts: self.contacts,
            samples: self.samples,
            class_counts: self.class_counts(),
            min: count.map(|_| parts.iter().fold(f64::INFINITY, |m, p| m.min(p.min.into()))),
            max: count.map(|_| parts.iter().fold(f64::NEG_INFINITY, |m, p| m.max(p.max.into()))),
            mean,
            sd: mean.zip(count).map(|(mean, n)| (squares(mean) / n).sqrt()),
            constant_recordings: parts.iter().filter(|p| p.min == p.max).count(),
        }
    }
}

impl Dataset {
    /// This data set in numbers.
    pub fn summary(&self) -> DatasetSummary {
        DatasetSummary {
            sample_rate_hz: self.sample_rate_hz,
            class_names: CLASS_NAMES,
            train: self.train.summary(),
            test: self.test.summary(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_by_hand() {
        let x = vec![0.5, -0.5, 1.0, 0.0, 0.25, 0.25, 0.25, 0.25];
        let train = Recordings::new(x, vec![2, 0], 2, 2).unwrap();
        let test = train.head(0);
        let summary = Dataset { train, test, sample_rate_hz: 30e3 }.summary();
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
