//! A batch norm folded into the weights before it.

/// What a batch norm does in evaluation, channel by channel: (x - mean) / sqrt(variance + eps) * scale + shift (Ioffe and
/// Szegedy, "Batch normalization", ICML 2015, algorithm 2).
#[derive(Clone, Debug)]
pub struct BatchNorm<'a> {
    /// Running means.
    pub mean: &'a [f32],
    /// Running variances.
    pub variance: &'a [f32],
    /// Factors; empty: all 1.
    pub scale: &'a [f32],
    /// Constants; empty: all 0.
    pub shift: &'a [f32],
    /// Added to the variances.
    pub eps: f64,
}

impl BatchNorm<'_> {
    /// Folds it into the weights before it, one row of `weights` a channel, and their bias; returns the new bias. An empty
    /// `bias` is one of zeros. Computed in float64 and rounded once.
    pub fn fold(&self, weights: &mut [f32], bias: &[f32]) -> Vec<f32> {
        let channels = self.mean.len();
        let row = weights.len() / channels.max(1);
        let of = |values: &[f32], channel: usize, otherwise: f64| {
            values.get(channel).map_or(otherwise, |v| f64::from(*v))
        };
        (0..channels)
            .map(|c| {
                let factor = of(self.scale, c, 1.0) / (f64::from(self.variance[c]) + self.eps).sqrt();
                for w in &mut weights[c * row..(c + 1) * row] {
                    *w = (f64::from(*w) * factor) as f32;
                }
                ((of(bias, c, 0.0) - f64::from(self.mean[c])) * factor + of(self.shift, c, 0.0)) as f32
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folded_weights_do_what_weights_and_norm_did() {
        let norm = BatchNorm {
            mean: &[0.5, -1.0],
            variance: &[4.0, 0.25],
            scale: &[2.0, 1.5],
            shift: &[0.1, -0.2],
            eps: 1e-5,
        };
        let (before, bias) = ([0.3f32, -0.7, 1.1, 0.4], [0.2f32, -0.1]);
        let mut weights = before;
        let folded = norm.fold(&mut weights, &bias);
        let x = [0.9f32, -0.4];
        for c in 0..2 {
            let sum = |w: &[f32], b: f32| w.iter().zip(&x).map(|(w, x)| w * x).sum::<f32>() + b;
            let y = sum(&before[2 * c..2 * c + 2], bias[c]);
            let want = (y - norm.mean[c]) / (norm.variance[c] + 1e-5).sqrt() * norm.scale[c] + norm.shift[c];
            assert!((sum(&weights[2 * c..2 * c + 2], folded[c]) - want).abs() < 1e-6);
        }
        // Without factors, constants and a bias.
        let plain = BatchNorm { scale: &[], shift: &[], ..norm };
        let mut weights = before;
        let folded = plain.fold(&mut weights, &[]);
        assert!((folded[0] + 0.25).abs() < 1e-5 && (weights[0] - 0.15).abs() < 1e-6);
    }
}
