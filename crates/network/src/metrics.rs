//! Accuracy, loss and confusion of a set of predictions; plain arithmetic, no tensors.

/// Which cross-entropy a network is trained and judged with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Cross-entropy of the logits.
    CrossEntropy,
    /// The study's: cross-entropy of the softmax's output, that is a softmax on top of the softmax.
    SoftmaxCrossEntropy,
}

/// Class probabilities of one sample's logits.
pub fn softmax(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().fold(f64::NEG_INFINITY, |m, &v| m.max(f64::from(v)));
    let powers: Vec<f64> = logits.iter().map(|&v| (f64::from(v) - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|p| p / sum).collect()
}

/// -ln of the probability given to `label`.
pub fn cross_entropy(logits: &[f32], label: usize) -> f64 {
    let largest = logits.iter().fold(f64::NEG_INFINITY, |m, &v| m.max(f64::from(v)));
    let sum: f64 = logits.iter().map(|&v| (f64::from(v) - largest).exp()).sum();
    sum.ln() + largest - f64::from(logits[label])
}

/// The first class with the largest logit.
pub fn predicted(logits: &[f32]) -> usize {
    (1..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best })
}

/// Running totals over samples of K classes; K is the number of their logits.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    samples: usize,
    loss: f64,
    /// K x K, or empty before the first sample.
    confusion: Vec<Vec<u64>>,
}

impl Metrics {
    /// Adds one sample: its logits and its class.
    pub fn add(&mut self, logits: &[f32], label: usize, loss: Loss) {
        self.samples += 1;
        if self.confusion.is_empty() {
            self.confusion = vec![vec![0; logits.len()]; logits.len()];
        }
        self.confusion[label][predicted(logits)] += 1;
        self.loss += match loss {
            Loss::CrossEntropy => cross_entropy(logits, label),
            Loss::SoftmaxCrossEntropy => {
                let probabilities: Vec<f32> = softmax(logits).into_iter().map(|p| p as f32).collect();
                cross_entropy(&probabilities, label)
            }
        };
    }

    /// K; 0 before the first sample.
    pub fn classes(&self) -> usize {
        self.confusion.len()
    }

    /// Samples so far.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Correct samples so far.
    pub fn correct(&self) -> u64 {
        (0..self.classes()).map(|k| self.confusion[k][k]).sum()
    }

    /// Fraction of samples predicted right; NaN without samples.
    pub fn accuracy(&self) -> f64 {
        self.correct() as f64 / self.samples as f64
    }

    /// Mean over the classes that occur of the share of their samples predicted right (recall); NaN without
    /// samples. Always naming one of K classes gives 1/K, however many samples that class has.
    pub fn balanced_accuracy(&self) -> f64 {
        self.mean_over_classes(|actual, _, hits| hits / actual)
    }

    /// Mean over the classes that occur of F1, the harmonic mean of precision and recall: 2 hits / (actual +
    /// predicted); NaN without samples. A class that is never predicted has 0.
    pub fn macro_f1(&self) -> f64 {
        self.mean_over_classes(|actual, predicted, hits| 2.0 * hits / (actual + predicted))
    }

    /// The one class that every sample was predicted to be, if there are at least two samples of at least two
    /// classes and only one was ever named.
    pub fn only_class_predicted(&self) -> Option<usize> {
        let occurs = |class: &usize| self.actual(*class) > 0;
        let named = |class: &usize| self.predicted(*class) > 0;
        let mut all = (0..self.classes()).filter(named);
        match (all.next(), all.next()) {
            (Some(class), None) if (0..self.classes()).filter(occurs).count() > 1 => Some(class),
            _ => None,
        }
    }

    /// The share of the samples that belong to the most frequent class: the accuracy of always naming it. NaN
    /// without samples.
    pub fn largest_class_share(&self) -> f64 {
        let largest = (0..self.classes()).map(|class| self.actual(class)).max().unwrap_or(0);
        largest as f64 / self.samples as f64
    }

    /// Standard error of the accuracy, that of a share p of n independent samples: sqrt(p (1 - p) / n). NaN
    /// without samples.
    pub fn standard_error(&self) -> f64 {
        let p = self.accuracy();
        (p * (1.0 - p) / self.samples as f64).sqrt()
    }

    fn actual(&self, class: usize) -> u64 {
        self.confusion[class].iter().sum()
    }

    fn predicted(&self, class: usize) -> u64 {
        self.confusion.iter().map(|row| row[class]).sum()
    }

    /// The mean of f(actual, predicted, hits) over the classes that occur.
    fn mean_over_classes(&self, f: impl Fn(f64, f64, f64) -> f64) -> f64 {
        let occurring = (0..self.classes()).filter(|&class| self.actual(class) > 0);
        let values = occurring.map(|class| {
            f(self.actual(class) as f64, self.predicted(class) as f64, self.confusion[class][class] as f64)
        });
        let values: Vec<f64> = values.collect();
        values.iter().sum::<f64>() / values.len() as f64
    }

    /// Mean loss; NaN without samples.
    pub fn loss(&self) -> f64 {
        self.loss / self.samples as f64
    }

    /// Samples by actual (row) and predicted (column) class.
    pub fn confusion(&self) -> &[Vec<u64>] {
        &self.confusion
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cross_entropy_of_known_logits() {
        assert!((cross_entropy(&[0.0, 0.0, 0.0], 1) - 3f64.ln()).abs() < 1e-12);
        // Large logits must not overflow.
        assert!((cross_entropy(&[1000.0, 0.0, 0.0], 1) - 1000.0).abs() < 1e-9);
        assert!((softmax(&[1.0, 2.0, 3.0])[2] - 0.665_240_955_774_821_8).abs() < 1e-12);
    }

    #[test]
    fn totals_add_up() {
        let mut m = Metrics::default();
        m.add(&[2.0, 1.0, 0.0], 0, Loss::CrossEntropy);
        m.add(&[0.0, 1.0, 0.0], 2, Loss::SoftmaxCrossEntropy);
        assert_eq!((m.samples(), m.correct()), (2, 1));
        assert_eq!(m.confusion(), &[[1, 0, 0], [0, 0, 0], [0, 1, 0]]);
        assert_eq!(m.accuracy(), 0.5);
        let second = cross_entropy(&[0.211_941_57, 0.576_116_9, 0.211_941_57], 2);
        assert!((m.loss() - (cross_entropy(&[2.0, 1.0, 0.0], 0) + second) / 2.0).abs() < 1e-6);
    }

    /// By hand: recalls 2/4, 3/3, 0/1; F1 2*2/(4+2), 2*3/(3+6), 0.
    #[test]
    fn rare_classes_count_as_much_as_frequent_ones() {
        let mut m = Metrics::default();
        let logits = |class: usize| [0, 1, 2].map(|k| if k == class { 1.0 } else { 0.0 });
        for (actual, predicted) in [(0, 0), (0, 0), (0, 1), (0, 1), (1, 1), (1, 1), (1, 1), (2, 1)] {
            m.add(&logits(predicted), actual, Loss::CrossEntropy);
        }
        assert!((m.balanced_accuracy() - 0.5).abs() < 1e-12);
        assert!((m.macro_f1() - (2.0 / 3.0 + 2.0 / 3.0) / 3.0).abs() < 1e-12);
        assert_eq!((m.only_class_predicted(), m.largest_class_share()), (None, 0.5));
        assert!((m.standard_error() - (0.625 * 0.375 / 8.0f64).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn one_class_throughout_is_noticed() {
        let mut m = Metrics::default();
        m.add(&[0.0, 1.0, 0.0], 1, Loss::CrossEntropy);
        assert_eq!(m.only_class_predicted(), None, "all samples are of that class");
        m.add(&[0.0, 1.0, 0.0], 0, Loss::CrossEntropy);
        assert_eq!(m.only_class_predicted(), Some(1));
        // Class 2 does not occur and does not count.
        assert_eq!((m.balanced_accuracy(), m.macro_f1()), (0.5, (2.0 / 3.0) / 2.0));
        m.add(&[1.0, 0.0, 0.0], 0, Loss::CrossEntropy);
        assert_eq!(m.only_class_predicted(), None);
    }

    #[test]
    fn a_tie_goes_to_the_first_class() {
        assert_eq!(predicted(&[1.0, 1.0, 0.0]), 0);
        assert_eq!(predicted(&[0.0, 1.0, 1.0]), 1);
    }
}
