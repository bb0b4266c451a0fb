//! The artificial networks as tensors.
//!
//! Letters: B batch, C channels, H contacts, W samples.

use std::path::Path;

use escape_network::rng::Stream;
use tch::{Device, Kind, Tensor};

use crate::ModelError;
use escape_checkpoint::{Checkpoint, TensorData, detect, matched_weights};
use escape_network::arch::{Architecture, Layer};

/// A network of the family with its parameters, float32, on one device.
#[derive(Debug)]
pub struct Ann {
    arch: Architecture,
    layers: Vec<Layer>,
    /// Name and value, in the order of [`Architecture::parameters`].
    parameters: Vec<(String, Tensor)>,
    input: (usize, usize),
}

impl Ann {
    /// A fresh network with PyTorch's default initial values: every weight and bias uniform within
    /// +-1/sqrt(fan-in) (He et al. 2015 with a = sqrt 5). A function of `seed` alone.
    ///
    /// # Errors
    /// Libtorch's: no memory on the device.
    pub fn new(
        arch: Architecture,
        contacts: usize,
        samples: usize,
        seed: u64,
        device: Device,
    ) -> Result<Self, ModelError> {
        let layers = arch.layers(contacts, samples);
        let mut parameters = Vec::new();
        let mut bound = 0.0;
        for (i, (name, shape)) in arch.parameters(contacts, samples).into_iter().enumerate() {
            // A bias follows its weight and shares its bound.
            if shape.len() > 1 {
                bound = 1.0 / (shape[1..].iter().product::<usize>() as f64).sqrt();
            }
            let mut random = Stream::new(seed, i as u64);
            let values: Vec<f32> = (0..shape.iter().product())
                .map(|_| ((random.uniform() * 2.0 - 1.0) * bound) as f32)
                .collect();
            parameters.push((name, to_tensor(&values, &shape, device)?));
        }
        Ok(Self { arch, layers, parameters, input: (contacts, samples) })
    }

    /// The network in a checkpoint, for recordings of `contacts` x `samples`.
    ///
    /// # Errors
    /// The file's names fit no member of the family, or a shape does not fit the recordings; the message
    /// lists every key.
    pub fn from_checkpoint(
        checkpoint: &Checkpoint,
        path: &Path,
        contacts: usize,
        samples: usize,
        device: Device,
    ) -> Result<Self, ModelError> {
        let arch = detect(checkpoint);
        let weights = matched_weights(checkpoint, path, arch, contacts, samples)?;
        let parameters = weights
            .into_iter()
            .map(|(name, data)| Ok((name, to_tensor(&data.to_f32(), &data.shape, device)?)))
            .collect::<Result<_, ModelError>>()?;
        Ok(Self { arch, layers: arch.layers(contacts, samples), parameters, input: (contacts, samples) })
    }

    /// Which member of the family it is.
    pub fn architecture(&self) -> Architecture {
        self.arch
    }

    /// Its layers.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Contacts and samples of the recordings it takes.
    pub fn input(&self) -> (usize, usize) {
        self.input
    }

    /// Name and value of every parameter.
    pub fn parameters(&self) -> &[(String, Tensor)] {
        &self.parameters
    }

    /// Where it computes.
    pub fn device(&self) -> Device {
        self.parameters[0].1.device()
    }

    /// Marks every parameter as one to differentiate by.
    pub fn require_gradients(&mut self) {
        for (_, p) in &mut self.parameters {
            *p = p.set_requires_grad(true);
        }
    }

    /// Copies the parameters whose names start with `features.` from an earlier stage of incremental
    /// training; returns how many were taken over.
    ///
    /// # Errors
    /// A shape differs, or libtorch fails.
    pub fn inherit_trunk(&mut self, stage: &Self) -> Result<usize, ModelError> {
        let mut taken = 0;
        for (name, value) in &mut self.parameters {
            if let Some((_, old)) =
                stage.parameters.iter().find(|p| name.starts_with("features.") && p.0 == *name)
            {
                *value = old.f_detach_copy()?.f_to_device(value.device())?;
                taken += 1;
            }
        }
        Ok(taken)
    }

    /// Takes all weights over from a network of the same architecture, as a training that goes on does.
    ///
    /// # Errors
    /// A shape differs, or libtorch fails.
    pub fn inherit(&mut self, other: &Self) -> Result<(), ModelError> {
        for ((name, value), (_, old)) in self.parameters.iter_mut().zip(&other.parameters) {
            if value.size() != old.size() {
                return Err(ModelError::Data(format!(
                    "{name}: expected {:?}, got {:?}",
                    value.size(),
                    old.size()
                )));
            }
            *value = old.f_detach_copy()?.f_to_device(value.device())?;
        }
        Ok(())
    }

    /// The weights as a checkpoint's list, on the CPU.
    ///
    /// # Errors
    /// Libtorch's.
    pub fn weights(&self) -> Result<Vec<(String, TensorData)>, ModelError> {
        self.parameters.iter().map(|(name, value)| Ok((name.clone(), from_tensor(value)?))).collect()
    }

    /// Logits, B x classes, of recordings `x`, B x 1 x H x W. With `dropout` half of the hidden features
    /// are dropped, in networks that do so.
    ///
    /// # Errors
    /// Recordings of another shape than the network takes, or no memory.
    pub fn forward(&self, x: &Tensor, dropout: bool) -> Result<Tensor, ModelError> {
        self.forward_with(x, dropout, |_, _| Ok(()))
    }

    /// As [`Ann::forward`], and shows each layer's activations (after ReLU, before pooling; for the last
    /// layer the logits) to `look`.
    ///
    /// # Errors
    /// As [`Ann::forward`], and those of `look`.
    pub fn forward_with(
        &self,
        x: &Tensor,
        dropout: bool,
        mut look: impl FnMut(usize, &Tensor) -> Result<(), ModelError>,
    ) -> Result<Tensor, ModelError> {
        let per_layer = if self.arch.has_bias() { 2 } else { 1 };
        let last = self.layers.len() - 1;
        let mut x = x.f_view_(x.size())?;
        for (i, layer) in self.layers.iter().enumerate() {
            let weight = &self.parameters[i * per_layer].1;
            let bias = self.arch.has_bias().then(|| &self.parameters[i * per_layer + 1].1);
            x = if i < self.arch.convolutions() {
                convolve(layer, &x, weight, bias)?
            } else {
                if dropout && i == last && self.arch.has_dropout() {
                    x = x.f_dropout(0.5, true)?;
                }
                x.f_flatten(1, -1)?.f_linear(weight, bias)?
            };
            if i < last {
                x = x.f_relu()?;
            }
            look(i, &x)?;
            x = self.pool(layer, &x)?;
        }
        Ok(x)
    }

    /// What the layer above sees of a layer's activations: their maximum or mean over its pooling windows, or themselves.
    ///
    /// # Errors
    /// [`ModelError`] if the activations are not B x C x H x W where there is something to pool.
    pub fn pool(&self, layer: &Layer, activations: &Tensor) -> Result<Tensor, ModelError> {
        let size = [layer.pool as i64; 2];
        Ok(match layer.pool {
            1 => activations.shallow_clone(),
            _ if self.arch.max_pooling() => activations.f_max_pool2d(size, size, [0, 0], [1, 1], false)?,
            _ => activations.f_avg_pool2d(size, size, [0, 0], false, true, None::<i64>)?,
        })
    }
}

/// A convolution with `same` padding: B x C x H x W to B x C' x H x W. The zeros are set here, as libtorch
/// does for even kernels, because it also warns about them on standard error.
///
/// # Errors
/// Libtorch's: shapes that do not fit, no memory.
pub fn convolve(
    layer: &Layer,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor, ModelError> {
    let (before, after) = layer.padding();
    let border = [before, after, before, after].map(|n| n as i64);
    Ok(x.f_constant_pad_nd(border)?.f_conv2d(weight, bias, [1, 1], [0, 0], [1, 1], 1)?)
}

/// A float32 tensor on `device` from row-major values.
///
/// # Errors
/// Another number of values than the shape has, or libtorch's.
pub fn to_tensor(values: &[f32], shape: &[usize], device: Device) -> Result<Tensor, ModelError> {
    let shape: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
    Ok(Tensor::f_from_slice(values)?.f_reshape(shape)?.f_to_device(device)?)
}

/// The values of a tensor, float32 row-major on the host, ready for a checkpoint.
///
/// # Errors
/// Libtorch's.
pub fn from_tensor(tensor: &Tensor) -> Result<TensorData, ModelError> {
    let shape: Vec<usize> = tensor.size().iter().map(|&n| n as usize).collect();
    Ok(TensorData::from_f32(&shape, &to_vec(tensor)?))
}

/// The values of a tensor as float32, row-major, on the host.
///
/// # Errors
/// Libtorch's.
pub fn to_vec(tensor: &Tensor) -> Result<Vec<f32>, ModelError> {
    let flat = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?;
    let mut values = vec![0f32; flat.numel()];
    let count = values.len();
    flat.f_copy_data(&mut values, count)?;
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_classifies_a_batch() {
        let x = Tensor::ones([2, 1, 56, 100], (Kind::Float, Device::Cpu));
        for arch in Architecture::ALL {
            let net = Ann::new(arch, 56, 100, 5, Device::Cpu).unwrap();
            let mut shapes = Vec::new();
            let logits = net
                .forward_with(&x, false, |i, a| {
                    shapes.push((i, a.size()[1]));
                    Ok(())
                })
                .unwrap();
            assert_eq!(logits.size(), [2, 3]);
            assert_eq!(shapes.len(), arch.convolutions() + 2);
            assert!(to_vec(&logits).unwrap().iter().all(|v| v.is_finite()));
        }
    }

    #[test]
    fn initial_values_follow_the_seed_and_fill_their_bound() {
        let net = |seed| Ann::new(Architecture::Original, 56, 100, seed, Device::Cpu).unwrap();
        let first = |n: &Ann, i: usize| to_vec(&n.parameters()[i].1).unwrap();
        assert_eq!(first(&net(1), 0), first(&net(1), 0));
        assert_ne!(first(&net(1), 0), first(&net(2), 0));
        let weights = first(&net(1), 2);
        let bound = 1.0 / (64.0f32 * 16.0).sqrt();
        let largest = weights.iter().fold(0f32, |m, w| m.max(w.abs()));
        assert!(largest <= bound && largest > 0.99 * bound, "{largest} against {bound}");
        let mean_square = weights.iter().map(|w| w * w).sum::<f32>() / weights.len() as f32;
        assert!((mean_square / (bound * bound / 3.0) - 1.0).abs() < 0.02);
    }

    #[test]
    fn a_stage_hands_its_trunk_on() {
        let stage = Ann::new(Architecture::Ig2, 56, 100, 1, Device::Cpu).unwrap();
        let mut full = Ann::new(Architecture::Original, 56, 100, 2, Device::Cpu).unwrap();
        let head = to_vec(&full.parameters()[6].1).unwrap();
        assert_eq!(full.inherit_trunk(&stage).unwrap(), 4);
        for i in 0..4 {
            assert_eq!(to_vec(&full.parameters()[i].1).unwrap(), to_vec(&stage.parameters()[i].1).unwrap());
        }
        assert_eq!(to_vec(&full.parameters()[6].1).unwrap(), head);
    }
}
