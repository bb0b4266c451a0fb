//! The artificial networks as tensors.
//!
//! Letters: B batch, C channels, H rows (contacts), W columns (samples), K classes.

use std::path::Path;

use escape_checkpoint::{Checkpoint, TensorData, matched_weights, network_of};
use escape_network::rng::Stream;
use escape_network::sequential::{Conv2d, Layer, Padding, Parameter, Pool, Pooling, Role, Sequential};
use tch::{Device, Kind, Tensor};

use crate::ModelError;

/// Share of a batch's statistics in the running ones of a batch norm, PyTorch's `momentum`.
const MOMENTUM: f64 = 0.1;

/// A feed-forward network with its parameters, float32, on one device.
#[derive(Debug)]
pub struct Ann {
    network: Sequential,
    /// What each parameter is, in the order of [`Sequential::parameters`],
    described: Vec<Parameter>,
    /// and its name and value.
    parameters: Vec<(String, Tensor)>,
}

impl Ann {
    /// A fresh network with PyTorch's default initial values: weights and biases uniform within +-1/sqrt(fan-in) (He et al.
    /// 2015 with a = sqrt 5), batch norms at 1 and 0. A function of `seed` alone.
    ///
    /// # Errors
    /// Libtorch's: no memory on the device.
    pub fn new(network: Sequential, seed: u64, device: Device) -> Result<Self, ModelError> {
        let described = network.parameters();
        let mut parameters = Vec::new();
        let mut bound = 0.0;
        for (i, Parameter { name, shape, role, .. }) in described.iter().enumerate() {
            let mut random = Stream::new(seed, i as u64);
            let count = shape.iter().product::<usize>();
            let values: Vec<f32> = match role {
                Role::Weight | Role::Bias => {
                    // A bias follows its weight and shares its bound.
                    if *role == Role::Weight {
                        bound = 1.0 / (shape[1..].iter().product::<usize>() as f64).sqrt();
                    }
                    (0..count).map(|_| ((random.uniform() * 2.0 - 1.0) * bound) as f32).collect()
                }
                Role::Scale | Role::Variance => vec![1.0; count],
                Role::Shift | Role::Mean => vec![0.0; count],
            };
            parameters.push((name.clone(), to_tensor(&values, shape, device)?));
        }
        Ok(Self { network, described, parameters })
    }

    /// The network in a checkpoint, for recordings of `contacts` x `samples`.
    ///
    /// # Errors
    /// The file's names fit no network that is known, or a shape does not fit the recordings; the message
    /// lists every key.
    pub fn from_checkpoint(
        checkpoint: &Checkpoint,
        path: &Path,
        contacts: usize,
        samples: usize,
        device: Device,
    ) -> Result<Self, ModelError> {
        Self::of(network_of(checkpoint, path, contacts, samples)?, checkpoint, path, device)
    }

    /// A network with the weights in a checkpoint.
    ///
    /// # Errors
    /// A name or shape that is not the network's; the message lists every key.
    pub fn of(
        network: Sequential,
        checkpoint: &Checkpoint,
        path: &Path,
        device: Device,
    ) -> Result<Self, ModelError> {
        let parameters = matched_weights(checkpoint, path, &network)?
            .into_iter()
            .map(|(name, data)| Ok((name, to_tensor(&data.to_f32(), &data.shape, device)?)))
            .collect::<Result<_, ModelError>>()?;
        Ok(Self { described: network.parameters(), network, parameters })
    }

    /// Its layers.
    pub fn network(&self) -> &Sequential {
        &self.network
    }

    /// Name and value of every parameter, what a batch norm measures included.
    pub fn parameters(&self) -> &[(String, Tensor)] {
        &self.parameters
    }

    /// The parameters that training learns.
    pub fn learned(&self) -> Vec<&Tensor> {
        let all = self.described.iter().zip(&self.parameters);
        all.filter(|(described, _)| described.role.is_learned()).map(|(_, (_, value))| value).collect()
    }

    /// A layer's parameter of a role, if it has one.
    pub fn parameter(&self, layer: usize, role: Role) -> Option<&Tensor> {
        let found = self.described.iter().position(|p| p.layer == layer && p.role == role)?;
        Some(&self.parameters[found].1)
    }

    /// Whether each weight of a layer is not zero, in PyTorch's order.
    ///
    /// # Errors
    /// Libtorch's.
    pub fn nonzero(&self, layer: usize) -> Result<Vec<bool>, ModelError> {
        let weights = self.parameter(layer, Role::Weight).map_or(Ok(Vec::new()), to_vec)?;
        Ok(weights.into_iter().map(|weight| weight != 0.0).collect())
    }

    /// Where it computes.
    pub fn device(&self) -> Device {
        self.parameters[0].1.device()
    }

    /// Marks every parameter that is learned as one to differentiate by.
    pub fn require_gradients(&mut self) {
        for (described, (_, value)) in self.described.iter().zip(&mut self.parameters) {
            if described.role.is_learned() {
                *value = value.set_requires_grad(true);
            }
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
                replace(name, value, old)?;
                taken += 1;
            }
        }
        Ok(taken)
    }

    /// Takes all weights over from a network with the same parameters, as a training that goes on does.
    ///
    /// # Errors
    /// A shape differs, or libtorch fails.
    pub fn inherit(&mut self, other: &Self) -> Result<(), ModelError> {
        for ((name, value), (_, old)) in self.parameters.iter_mut().zip(&other.parameters) {
            replace(name, value, old)?;
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

    /// Logits, B x K, of recordings `x`, B x 1 x H x W or with as many values. In `training` values are dropped, and batch
    /// norms use the batch's statistics and add them to their running ones.
    ///
    /// # Errors
    /// Recordings of another shape than the network takes, or no memory.
    pub fn forward(&self, x: &Tensor, training: bool) -> Result<Tensor, ModelError> {
        self.forward_with(x, training, |_, _| Ok(()))
    }

    /// What the batch norm in a layer's place makes of `x`; in `training` it learns from it.
    pub(crate) fn normalised(
        &self,
        layer: usize,
        eps: f64,
        x: &Tensor,
        training: bool,
    ) -> Result<Tensor, ModelError> {
        let of = |role| self.parameter(layer, role);
        let (scale, shift) = (of(Role::Scale), of(Role::Shift));
        let (mean, variance) = (of(Role::Mean), of(Role::Variance));
        Ok(x.f_batch_norm(scale, shift, mean, variance, training, MOMENTUM, eps, false)?)
    }

    /// As [`Ann::forward`], and shows what each layer gives to `look`.
    ///
    /// # Errors
    /// As [`Ann::forward`], and those of `look`.
    pub fn forward_with(
        &self,
        x: &Tensor,
        training: bool,
        mut look: impl FnMut(usize, &Tensor) -> Result<(), ModelError>,
    ) -> Result<Tensor, ModelError> {
        let input = self.network.input();
        let mut x = x.f_view([-1, input.channels as i64, input.height as i64, input.width as i64])?;
        for (i, named) in self.network.layers().iter().enumerate() {
            let of = |role| self.parameter(i, role);
            let weight =
                || of(Role::Weight).ok_or_else(|| ModelError::Data(format!("{}: no weights", named.name)));
            x = match named.layer {
                Layer::Conv2d(conv) => convolve(&conv, &x, weight()?, of(Role::Bias))?,
                Layer::Linear { .. } => x.f_linear(weight()?, of(Role::Bias))?,
                Layer::BatchNorm { eps, .. } => self.normalised(i, eps, &x, training)?,
                Layer::Relu => x.f_relu()?,
                Layer::Pool(of) => pool(&of, &x)?,
                Layer::AdaptiveAvgPool { out: (rows, columns) } => {
                    x.f_adaptive_avg_pool2d([rows as i64, columns as i64])?
                }
                Layer::Flatten => x.f_flatten(1, -1)?,
                Layer::Dropout { p } if training => x.f_dropout(p, true)?,
                Layer::Dropout { .. } => x,
            };
            look(i, &x)?;
        }
        Ok(x)
    }
}

/// Puts a copy of `old` in the place of `value`.
fn replace(name: &str, value: &mut Tensor, old: &Tensor) -> Result<(), ModelError> {
    if value.size() != old.size() {
        return Err(ModelError::Data(format!("{name}: expected {:?}, got {:?}", value.size(), old.size())));
    }
    *value = old.f_detach_copy()?.f_to_device(value.device())?;
    Ok(())
}

/// libtorch's order of a border: left, right, top, bottom.
fn border(padding: Padding) -> [i64; 4] {
    [padding.left, padding.right, padding.top, padding.bottom].map(|n| n as i64)
}

fn pair((rows, columns): (usize, usize)) -> [i64; 2] {
    [rows as i64, columns as i64]
}

/// A convolution, with its padding: B x C x H x W to B x C' x H' x W'. The zeros are set here, as libtorch
/// does for even kernels, because it also warns about them on standard error.
///
/// # Errors
/// Libtorch's: shapes that do not fit, no memory.
pub fn convolve(
    conv: &Conv2d,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor, ModelError> {
    convolve_padded(conv, &x.f_constant_pad_nd(border(conv.padding))?, weight, bias)
}

/// As [`convolve`], of frames that carry the zeros already.
///
/// # Errors
/// Libtorch's: shapes that do not fit, no memory.
pub fn convolve_padded(
    conv: &Conv2d,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor, ModelError> {
    Ok(x.f_conv2d(weight, bias, pair(conv.stride), [0, 0], [1, 1], conv.groups as i64)?)
}

/// Pools B x C x H x W over windows, or C x H x W.
///
/// # Errors
/// Libtorch's: shapes that do not fit, no memory.
pub fn pool(pool: &Pool, x: &Tensor) -> Result<Tensor, ModelError> {
    let Pool { pooling, kernel, stride, padding, ceil } = *pool;
    let (size, stride) = (pair(kernel), pair(stride));
    let symmetric = padding == Padding::symmetric((padding.top, padding.left));
    let around = if symmetric { pair((padding.top, padding.left)) } else { [0, 0] };
    match pooling {
        Pooling::Max => {
            let padded = match symmetric {
                true => x.shallow_clone(),
                false => x.f_pad(border(padding), "constant", f64::NEG_INFINITY)?,
            };
            Ok(padded.f_max_pool2d(size, stride, around, [1, 1], ceil)?)
        }
        Pooling::Average { count_padding } if symmetric => {
            Ok(x.f_avg_pool2d(size, stride, around, ceil, count_padding, None::<i64>)?)
        }
        Pooling::Average { count_padding } => {
            let mean = |x: &Tensor| {
                let padded = x.f_constant_pad_nd(border(padding))?;
                padded.f_avg_pool2d(size, stride, [0, 0], ceil, false, None::<i64>)
            };
            let means = mean(x)?;
            // The share of each window that is no padding.
            Ok(if count_padding { means } else { means.f_div(&mean(&x.f_ones_like()?)?)? })
        }
    }
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
    use escape_network::arch::Architecture;
    use escape_network::family::Family;

    fn published(arch: Architecture, seed: u64) -> Ann {
        Ann::new(Family::published(arch).network(56, 100).unwrap(), seed, Device::Cpu).unwrap()
    }

    #[test]
    fn every_member_classifies_a_batch() {
        let x = Tensor::ones([2, 1, 56, 100], (Kind::Float, Device::Cpu));
        for arch in Architecture::ALL {
            let net = published(arch, 5);
            let mut shapes = Vec::new();
            let logits = net
                .forward_with(&x, false, |i, a| {
                    let count: i64 = a.size()[1..].iter().product();
                    shapes.push((i, count as usize));
                    Ok(())
                })
                .unwrap();
            assert_eq!(logits.size(), [2, 3]);
            let said = (0..net.network().layers().len()).map(|i| (i, net.network().output_of(i).count()));
            assert_eq!(shapes, said.collect::<Vec<_>>());
            assert!(to_vec(&logits).unwrap().iter().all(|v| v.is_finite()));
        }
    }

    #[test]
    fn initial_values_follow_the_seed_and_fill_their_bound() {
        let net = |seed| published(Architecture::Original, seed);
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
        let stage = published(Architecture::Ig2, 1);
        let mut full = published(Architecture::Original, 2);
        let head = to_vec(&full.parameters()[6].1).unwrap();
        assert_eq!(full.inherit_trunk(&stage).unwrap(), 4);
        for i in 0..4 {
            assert_eq!(to_vec(&full.parameters()[i].1).unwrap(), to_vec(&stage.parameters()[i].1).unwrap());
        }
        assert_eq!(to_vec(&full.parameters()[6].1).unwrap(), head);
    }
}
