//! Learning from a teacher: another network's logits beside the labels.
//!
//! Letters: N recordings, B batch, K classes.

use tch::{Kind, Tensor};

use crate::ModelError;

/// How a teacher's logits count (Hinton, Vinyals and Dean, arXiv 1503.02531, 2015, section 2). With z the student's logits and v the
/// teacher's, the loss is
///
/// ```text
/// (1 - share) cross-entropy(labels, z) + share tau^2 KL(softmax(v / tau) || softmax(z / tau))
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distillation {
    /// From 0, labels only, to 1, the teacher only.
    pub share: f64,
    /// tau: above 1 what the teacher takes for unlikely counts for more.
    pub temperature: f64,
}

impl Distillation {
    /// tau^2 KL, the mean over B recordings, of a student's logits from a teacher's, both B x K.
    ///
    /// # Errors
    /// Libtorch's: shapes that differ.
    pub fn distance(&self, student: &Tensor, teacher: &Tensor) -> Result<Tensor, ModelError> {
        let soft = |logits: &Tensor| logits.f_div_scalar(self.temperature)?.f_log_softmax(1, Kind::Float);
        let (student, teacher) = (soft(student)?, soft(teacher)?);
        let terms = teacher.f_exp()?.f_mul(&teacher.f_sub(&student)?)?;
        let mean = terms.f_sum(Kind::Float)?.f_div_scalar(student.size()[0] as f64)?;
        Ok(mean.f_mul_scalar(self.temperature * self.temperature)?)
    }

    /// The loss, of what labels and teacher say.
    ///
    /// # Errors
    /// Libtorch's.
    pub fn mixed(&self, labels: &Tensor, teacher: &Tensor) -> Result<Tensor, ModelError> {
        Ok(labels.f_mul_scalar(1.0 - self.share)?.f_add(&teacher.f_mul_scalar(self.share)?)?)
    }
}

/// A teacher's logits for every recording of a training split.
#[derive(Clone, Debug)]
pub struct Teacher {
    /// N x K.
    pub logits: Vec<f32>,
    /// K.
    pub classes: usize,
    /// How they count.
    pub how: Distillation,
}

impl Teacher {
    /// The logits for these recordings, B x K.
    pub fn of(&self, batch: &[usize]) -> Vec<f32> {
        batch.iter().flat_map(|&i| &self.logits[i * self.classes..][..self.classes]).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the formula by hand, in float64.
    #[test]
    fn the_distance_is_hintons() {
        let (student, teacher) = ([0.5f32, -1.0, 2.0, 0.0, 0.0, 1.0], [1.0f32, 0.0, 1.5, -2.0, 0.3, 0.1]);
        let how = Distillation { share: 0.7, temperature: 3.0 };
        let tensor = |v: &[f32]| Tensor::from_slice(v).view([2, 3]);
        let got = how.distance(&tensor(&student), &tensor(&teacher)).unwrap().double_value(&[]);
        let soft = |v: &[f32]| -> Vec<f64> {
            let e: Vec<f64> = v.iter().map(|v| (f64::from(*v) / 3.0).exp()).collect();
            e.iter().map(|x| x / e.iter().sum::<f64>()).collect()
        };
        let each = student
            .chunks(3)
            .zip(teacher.chunks(3))
            .map(|(z, v)| soft(v).iter().zip(soft(z)).map(|(p, q)| p * (p / q).ln()).sum::<f64>());
        let want = 9.0 * each.sum::<f64>() / 2.0;
        assert!((got - want).abs() < 1e-6 && want > 0.1, "{got} against {want}");
        let mixed = how.mixed(&Tensor::from(2.0f32), &Tensor::from(1.0f32)).unwrap().double_value(&[]);
        assert!((mixed - 1.3).abs() < 1e-6);
    }
}
