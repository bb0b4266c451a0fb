//! What a set of recordings holds, in numbers. N recordings, H contacts, W samples.

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

impl Recordings {
    /// These recordings in numbers.
    pub fn summary(&self) -> SplitSummary {
        let count = Some(self.x.len() as f64).filter(|&n| n > 0.0);
        let mean = count.map(|n| self.x.iter().map(|&v| f64::from(v)).sum::<f64>() / n);
        let square = |mean: f64| self.x.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>();
        SplitSummary {
            recordings: self.len(),
            contacts: self.contacts,
            samples: self.samples,
            class_counts: self.class_counts(),
            min: count.map(|_| self.x.iter().fold(f64::INFINITY, |m, &v| m.min(v.into()))),
            max: count.map(|_| self.x.iter().fold(f64::NEG_INFINITY, |m, &v| m.max(v.into()))),
            mean,
            sd: mean.zip(count).map(|(mean, n)| (square(mean) / n).sqrt()),
            constant_recordings: self.iter().filter(|(x, _)| x.iter().all(|v| *v == x[0])).count(),
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
