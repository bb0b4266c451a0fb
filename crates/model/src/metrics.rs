//! Accuracy, loss and confusion of a set of predictions; plain arithmetic, no tensors.

use escape_data::CLASSES;

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

/// Running totals over samples.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    samples: usize,
    loss: f64,
    confusion: [[u64; CLASSES]; CLASSES],
}

impl Metrics {
    /// Adds one sample: its logits and its class.
    pub fn add(&mut self, logits: &[f32], label: usize, loss: Loss) {
        self.samples += 1;
        self.confusion[label][predicted(logits)] += 1;
        self.loss += match loss {
            Loss::CrossEntropy => cross_entropy(logits, label),
            Loss::SoftmaxCrossEntropy => {
                let probabilities: Vec<f32> = softmax(logits).into_iter().map(|p| p as f32).collect();
                cross_entropy(&probabilities, label)
            }
        };
    }

    /// Samples so far.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Correct samples so far.
    pub fn correct(&self) -> u64 {
        (0..CLASSES).map(|k| self.confusion[k][k]).sum()
    }

    /// Fraction of samples predicted right; NaN without samples.
    pub fn accuracy(&self) -> f64 {
        self.correct() as f64 / self.samples as f64
    }

    /// Mean loss; NaN without samples.
    pub fn loss(&self) -> f64 {
        self.loss / self.samples as f64
    }

    /// Samples by actual (row) and predicted (column) class.
    pub fn confusion(&self) -> &[[u64; CLASSES]; CLASSES] {
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

    #[test]
    fn a_tie_goes_to_the_first_class() {
        assert_eq!(predicted(&[1.0, 1.0, 0.0]), 0);
        assert_eq!(predicted(&[0.0, 1.0, 1.0]), 1);
    }
}
