//! The readout, its loss, and the way back to its currents; on the host, for it has a neuron for each class.

use escape_model::ModelError;
use escape_model::ann::{to_tensor, to_vec};
use escape_model::distill::Distillation;
use escape_snn_core::neuron::{published_readout_step, softmax};
use escape_snn_core::rules::Readout;
use tch::{Device, Reduction, Tensor};

use super::{Part, Trainable};
use crate::scan::{NeuronFindings, back, parameters, table_values};
use crate::surrogate::Surrogate;

impl Trainable {
    /// The readout of B x T x K currents, its loss as that part of a batch, and the way back to the currents.
    pub(super) fn read_out(&self, current: &[f32], part: &Part<'_>) -> Result<ReadOut, ModelError> {
        let Part { labels, steps, .. } = *part;
        let k = self.network.layers.len() - 1;
        let dynamics = self.network.dynamics(k);
        let spiking = self.network.rules.readout == Readout::Spiking;
        let start = self.network.initial_potential(k);
        let classes = self.network.classes();
        let per_recording = steps * classes;
        let (mut m, mut spikes) = (vec![0f32; current.len()], vec![0f32; current.len()]);
        let mut values = Vec::with_capacity(labels.len() * classes);
        for b in 0..labels.len() {
            let mut u = vec![start; classes];
            for t in 0..steps {
                let at = b * per_recording + t * classes..b * per_recording + (t + 1) * classes;
                if spiking {
                    let current = &current[at.clone()];
                    published_readout_step(dynamics, &mut u, current, &mut m[at.clone()], &mut spikes[at]);
                } else {
                    u.iter_mut().zip(&current[at]).for_each(|(u, c)| *u += c);
                }
            }
            values.extend_from_slice(&u);
        }
        let (loss, to_values) = self.judge(&values, labels, part.taught, part.whole, steps)?;
        let mut out =
            ReadOut { loss, values, current_gradient: vec![0.0; current.len()], ..ReadOut::default() };
        for (b, later) in to_values.chunks_exact(classes).enumerate() {
            let sample = b * per_recording..(b + 1) * per_recording;
            let gradient = &mut out.current_gradient[sample.clone()];
            if spiking {
                out.neuron +=
                    self.readout_backward(&m[sample.clone()], &spikes[sample], later, gradient, steps);
            } else {
                gradient.chunks_exact_mut(classes).for_each(|g| g.copy_from_slice(later));
            }
        }
        Ok(out)
    }

    /// Cross-entropy of readout values, B x K, as part of a batch with the classes `whole`, and its gradient; mixed with the distance
    /// from a teacher, if there is one.
    ///
    /// By libtorch, in float32: of a sample that is already right beyond doubt, softmax minus one-hot is mere
    /// rounding, and Adam's first steps would make much of a different rounding than PyTorch's.
    pub(super) fn judge(
        &self,
        values: &[f32],
        labels: &[i64],
        taught: Option<(&[f32], Distillation)>,
        whole: &[i64],
        steps: usize,
    ) -> Result<(f64, Vec<f32>), ModelError> {
        let classes = self.network.classes();
        let logits = to_tensor(values, &[labels.len(), classes], Device::Cpu)?.set_requires_grad(true);
        let judged = match f64::from(self.network.rules.loss_scale.factor(steps)) / self.temperature {
            1.0 => logits.shallow_clone(),
            scale => logits.f_mul_scalar(scale)?,
        };
        let target = Tensor::f_from_slice(labels)?;
        let loss = |weights: Option<&Tensor>, reduction| {
            judged.f_cross_entropy_loss(&target, weights, reduction, -100, 0.0)
        };
        let share = match &self.class_weights {
            None if labels.len() == whole.len() => loss(None, Reduction::Mean)?,
            None => loss(None, Reduction::Mean)?.f_mul_scalar(labels.len() as f64 / whole.len() as f64)?,
            Some(weights) => {
                let total: f64 = whole.iter().map(|&label| f64::from(weights[label as usize])).sum();
                loss(Some(&Tensor::f_from_slice(weights)?), Reduction::Sum)?.f_div_scalar(total)?
            }
        };
        let share = match taught {
            None => share,
            Some((teacher, how)) => {
                let teacher = to_tensor(teacher, &[labels.len(), classes], Device::Cpu)?;
                let part = labels.len() as f64 / whole.len() as f64;
                how.mixed(&share, &how.distance(&judged, &teacher)?.f_mul_scalar(part)?)?
            }
        };
        let gradient = Tensor::f_run_backward(&[&share], &[&logits], false, false)?;
        Ok((share.f_double_value(&[])?, to_vec(&gradient[0])?))
    }

    /// One sample's way back through the study's readout: from dL/du after the last step to dL/dI, T x K.
    fn readout_backward(
        &self,
        m: &[f32],
        spikes: &[f32],
        later: &[f32],
        gradient: &mut [f32],
        steps: usize,
    ) -> NeuronFindings {
        let dynamics = self.network.dynamics(self.network.layers.len() - 1);
        let (height, classes) = (self.surrogate.height(), self.network.classes());
        let values = match self.surrogate.table(steps) {
            None => m.iter().map(|&m| Surrogate::triangle(m)).collect(),
            Some(table) => {
                let mut values = vec![0f32; m.len()];
                table_values(&table, m, (0, classes, classes), steps, &mut values, &mut Vec::new());
                values
            }
        };
        let mut later: Vec<f32> = later.to_vec();
        let mut found = NeuronFindings::default();
        for t in (0..steps).rev() {
            // u gains softmax(s): J = diag(p) - p p'.
            let p = softmax(&spikes[t * classes..(t + 1) * classes]);
            let mean: f32 = p.iter().zip(&later).map(|(p, l)| p * l).sum();
            for i in 0..classes {
                let at = t * classes + i;
                let through = p[i] * (later[i] - mean) * height * values[at];
                if self.neuron_parameters {
                    let (theta, decay) = parameters(dynamics, m[at], through, later[i]);
                    found.threshold += f64::from(theta);
                    found.decay += f64::from(decay);
                }
                (gradient[at], later[i]) = back(dynamics, through, later[i]);
            }
        }
        found
    }
}

/// The readout through its forward and its backward pass.
#[derive(Default)]
pub(super) struct ReadOut {
    pub(super) loss: f64,
    pub(super) values: Vec<f32>,
    /// dL/dI, B x T x K.
    pub(super) current_gradient: Vec<f32>,
    pub(super) neuron: NeuronFindings,
}
