//! The scale on which a loss judges a readout.
//!
//! Letters: N recordings, T timesteps, K classes.
//!
//! Cross-entropy takes a readout for the logarithms of probabilities. The study's readout sums potentials over T steps, whose scale
//! has nothing to do with how sure the network may be: where it is tens of times too large, a recording that is right gives no
//! gradient, one that is wrong the same gradient however nearly it was right, and fine-tuning learns from its outliers alone.
//! Divided by the temperature that fits best, the decisions are the same and the loss is one that can be learned from.

use std::fmt;
use std::str::FromStr;

/// What a readout is divided by before the loss judges it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Temperature {
    /// By this.
    Is(f64),
    /// By what fits the network that is given, see [`fitted`].
    Auto,
}

impl Default for Temperature {
    fn default() -> Self {
        Self::Is(1.0)
    }
}

impl FromStr for Temperature {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let number = text.parse().ok().filter(|t: &f64| *t > 0.0 && t.is_finite());
        number.map(Self::Is).ok_or_else(|| format!("expected auto or a positive number, got '{text}'"))
    }
}

impl fmt::Display for Temperature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(number) => write!(f, "{number}"),
            Self::Auto => f.write_str("auto"),
        }
    }
}

/// The temperature with the least mean cross-entropy of logits (N x K) divided by it, for recordings of such classes (temperature
/// scaling: Guo et al., ICML 2017, section 4.2), between 2^-20 and 2^20; nothing where there are no recordings, or a logit is no finite number.
pub fn fitted(logits: &[f32], labels: &[i64]) -> Option<f64> {
    let classes = logits.len().checked_div(labels.len())?;
    if classes == 0 || logits.iter().any(|z| !z.is_finite()) {
        return None;
    }
    // The loss is convex in 1 / temperature: its slope there, the mean of E[z] - z_label, only grows.
    let slope = |temperature: f64| -> f64 {
        let of = |(z, &label): (&[f32], &i64)| {
            let most = z.iter().fold(f32::NEG_INFINITY, |m, v| m.max(*v));
            let weight = |v: f32| (f64::from(v - most) / temperature).exp();
            let (sum, mean) = z.iter().fold((0.0, 0.0), |(sum, mean), v| {
                let w = weight(*v);
                (sum + w, mean + w * f64::from(*v))
            });
            mean / sum - f64::from(z[label as usize])
        };
        logits.chunks_exact(classes).zip(labels).map(of).sum()
    };
    let (mut low, mut high) = (-20.0, 20.0);
    for _ in 0..50 {
        let middle = (low + high) / 2.0;
        // Too hot where sharper logits would do better.
        match slope(f64::exp2(middle)) < 0.0 {
            true => high = middle,
            false => low = middle,
        }
    }
    Some(f64::exp2((low + high) / 2.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean cross-entropy by its definition.
    fn loss(logits: &[f32], labels: &[i64], temperature: f64) -> f64 {
        let of = |(z, &label): (&[f32], &i64)| {
            let z: Vec<f64> = z.iter().map(|v| f64::from(*v) / temperature).collect();
            z.iter().map(|v| v.exp()).sum::<f64>().ln() - z[label as usize]
        };
        logits.chunks_exact(3).zip(labels).map(of).sum::<f64>() / labels.len() as f64
    }

    #[test]
    fn no_other_temperature_has_a_lower_loss_and_it_grows_with_the_logits() {
        // Two in three are right.
        let logits = [2.0, 0.0, -1.0, 0.5, 1.5, 0.0, 1.0, 0.0, 0.0];
        let labels = [0, 1, 2];
        let best = fitted(&logits, &labels).unwrap();
        for other in [0.5, 0.9, 1.1, 3.0] {
            assert!(loss(&logits, &labels, best) < loss(&logits, &labels, best * other), "{best} x {other}");
        }
        let tenfold = fitted(&logits.map(|z| 10.0 * z), &labels).unwrap();
        assert!((tenfold / best / 10.0 - 1.0).abs() < 1e-6, "{tenfold} against {best}");
    }

    #[test]
    fn what_cannot_be_fitted_is_said_or_stays_in_range() {
        assert_eq!(fitted(&[], &[]), None);
        assert_eq!(fitted(&[1.0, f32::NAN], &[0]), None);
        // All right: so sharp that nothing is left of the loss. All wrong: as flat as can be.
        let sharp = fitted(&[1.0, 0.0], &[0]).unwrap();
        assert!(loss(&[1.0, 0.0, -9.0], &[0], sharp) == 0.0 && sharp > 0.0, "{sharp}");
        assert!((fitted(&[1.0, 0.0], &[1]).unwrap() * f64::exp2(-20.0) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn temperatures_read_and_print() {
        for text in ["auto", "55.5", "1"] {
            assert_eq!(text.parse::<Temperature>().unwrap().to_string(), text);
        }
        for text in ["0", "-1", "inf", "nan", "warm"] {
            assert!(text.parse::<Temperature>().unwrap_err().contains(text));
        }
    }
}
