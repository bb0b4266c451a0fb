//! Magnitude pruning: the smallest weights of a layer are set to zero and stay there (Han et al., "Learning both weights and connections
//! for efficient neural networks", NIPS 2015), more and more of them while the network is trained (Zhu and Gupta, "To prune, or not to
//! prune", arXiv 1710.01878, 2017). What is left are fewer weights to store and fewer operations, on hardware that skips zeros.
//!
//! Pruned are the weights of every layer but the last; biases and batch norms are not. What is pruned is what is zero: a checkpoint
//! says no more of it, and a network that was pruned before stays so.
//!
//! Letters: s share, p progress of the pruning, n weights of a layer.

use escape_network::sequential::{Role, Sequential};
use tch::{Kind, Tensor};

use crate::ModelError;
use crate::ann::{Ann, to_vec};

/// How often the pruned share grows.
pub const MOMENTS: usize = 32;

/// How much is pruned, and when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pruning {
    /// Share of each layer's weights that is zero in the end, above 0 and below 1.
    pub share: f64,
    /// Epochs of the whole training.
    pub epochs: usize,
}

/// How many of the [`MOMENTS`] have come after `step` of `total` optimiser steps: they are equally spaced from a sixth to half of the
/// training, so that the network has learned something before and can make up for it afterwards.
pub fn moments_after(step: usize, total: usize) -> usize {
    // p = (step/total - 1/6) / (1/2 - 1/6), in whole numbers.
    (MOMENTS * (6 * step).saturating_sub(total) / (2 * total).max(1)).min(MOMENTS)
}

/// The share that is pruned after so many of the [`MOMENTS`], of which `share` is the last: s (1 - (1 - p)^3), Zhu and Gupta's
/// equation 1 from an initial share of 0.
pub fn share_after(moments: usize, share: f64) -> f64 {
    let left = 1.0 - moments as f64 / MOMENTS as f64;
    share * (1.0 - left.powi(3))
}

/// How many of `weights` weights a share is; ties go to the even number, as in PyTorch.
pub fn count(share: f64, weights: usize) -> usize {
    (share * weights as f64).round_ties_even() as usize
}

/// The places of the `count` weights of the smallest magnitude, in no order; of equal ones the first are taken. It is what
/// `torch.nn.utils.prune.l1_unstructured` takes, which leaves open which of equal ones.
pub fn smallest(weights: &[f32], count: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..weights.len()).collect();
    if count < places.len() {
        let key = |&i: &usize| (weights[i].abs().to_bits(), i);
        // Bits of numbers of at least 0 are in the order of the numbers.
        places.select_nth_unstable_by_key(count, key);
        places.truncate(count);
    }
    places
}

/// Makes sure that a network has weights to prune, besides the last layer's, and keeps some in each layer.
///
/// # Errors
/// It has none, or the share is all of a layer's.
pub fn check(network: &Sequential, share: f64) -> Result<(), ModelError> {
    let parameters = network.parameters();
    let weights: Vec<_> = parameters.iter().filter(|p| p.role == Role::Weight).collect();
    let pruned = match weights.split_last() {
        Some((_, pruned)) if !pruned.is_empty() => pruned,
        _ => {
            return Err(ModelError::Data(
                "pruning leaves the last layer as it is: expected a network of at least two layers with weights, got one; train it \
                 without --prune (`prune` in a configuration)"
                    .into(),
            ));
        }
    };
    for parameter in pruned {
        let there = parameter.count();
        if count(share, there) == there {
            return Err(ModelError::Data(format!(
                "pruning by {share} would leave none of the {there} weights of {}, and nothing would go through it; choose a \
                 smaller share",
                parameter.name
            )));
        }
    }
    Ok(())
}

/// A layer's weights, of which some are held at zero.
#[derive(Debug)]
pub struct Held {
    /// Shares its memory with the parameter that is learned.
    weight: Tensor,
    /// True where a weight is held.
    zeros: Tensor,
}

impl Held {
    /// Holds those that are zero in `values`, which are as many as `weight` has, in its order.
    ///
    /// # Errors
    /// Libtorch's: another number of values.
    pub fn zeros_of(weight: &Tensor, values: &[f32]) -> Result<Self, ModelError> {
        let zeros: Vec<bool> = values.iter().map(|v| *v == 0.0).collect();
        let zeros = Tensor::f_from_slice(&zeros)?.f_view_as(weight)?.f_to_device(weight.device())?;
        Ok(Self { weight: weight.f_detach()?, zeros })
    }

    /// Holds those that are zero now, and no others.
    fn renew(&mut self) -> Result<(), ModelError> {
        self.zeros = self.weight.f_eq(0.0)?;
        Ok(())
    }

    /// Holds the `count` smallest, where fewer are held.
    fn grow(&mut self, count: usize) -> Result<(), ModelError> {
        if self.held()? >= count {
            return Ok(());
        }
        let mut values = to_vec(&self.weight)?;
        smallest(&values, count).into_iter().for_each(|i| values[i] = 0.0);
        *self = Self::zeros_of(&self.weight, &values)?;
        self.restore()
    }

    /// Sets those that are held to zero again, after an update that has moved them.
    ///
    /// # Errors
    /// Libtorch's.
    pub fn restore(&mut self) -> Result<(), ModelError> {
        let _ = self.weight.f_masked_fill_(&self.zeros, 0.0)?;
        Ok(())
    }

    /// How many are held.
    ///
    /// # Errors
    /// Libtorch's.
    pub fn held(&self) -> Result<usize, ModelError> {
        Ok(self.zeros.f_sum(Kind::Int64)?.f_int64_value(&[])? as usize)
    }

    /// How many weights there are.
    pub fn weights(&self) -> usize {
        self.weight.numel()
    }
}

/// The pruning of one network while it is trained.
#[derive(Debug)]
pub struct Pruner {
    how: Pruning,
    /// How many of the [`MOMENTS`] were seen to.
    moments: usize,
    layers: Vec<Held>,
}

impl Pruner {
    /// Of a network whose parameters stay where they are.
    ///
    /// # Errors
    /// Those of [`check`], or one of libtorch's.
    pub fn new(ann: &Ann, how: Pruning) -> Result<Self, ModelError> {
        check(ann.network(), how.share)?;
        let parameters = ann.network().parameters();
        let weights = parameters.iter().zip(ann.parameters()).filter(|(p, _)| p.role == Role::Weight);
        let mut weights: Vec<&Tensor> = weights.map(|(_, (_, weight))| weight).collect();
        weights.pop();
        let held = |weight: &Tensor| Held::zeros_of(weight, &to_vec(weight)?);
        let layers = weights.into_iter().map(held).collect::<Result<_, ModelError>>()?;
        Ok(Self { how, moments: 0, layers })
    }

    /// Takes what is zero as pruned: at the start of every epoch, where a training can be resumed, so that a resumed one holds the
    /// same weights as one that was never interrupted.
    ///
    /// # Errors
    /// Libtorch's.
    pub fn start_epoch(&mut self) -> Result<(), ModelError> {
        self.layers.iter_mut().try_for_each(Held::renew)
    }

    /// Sees to it that what is pruned is zero after optimiser step `step`, counted from 1 over all epochs of `steps` steps, and
    /// prunes further where it is time to.
    ///
    /// # Errors
    /// Libtorch's.
    pub fn after_step(&mut self, step: usize, steps: usize) -> Result<(), ModelError> {
        self.layers.iter_mut().try_for_each(Held::restore)?;
        let moments = moments_after(step, self.how.epochs * steps);
        if moments > self.moments {
            self.moments = moments;
            let share = share_after(moments, self.how.share);
            self.layers.iter_mut().try_for_each(|layer| layer.grow(count(share, layer.weights())))?;
        }
        Ok(())
    }

    /// Whether the whole share is pruned.
    ///
    /// # Errors
    /// Libtorch's.
    pub fn is_done(&self) -> Result<bool, ModelError> {
        for layer in &self.layers {
            if layer.held()? < count(self.how.share, layer.weights()) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Zhu and Gupta 2017, equation 1, between a sixth and half of 600 steps, every ten thirds of which are a moment.
    #[test]
    fn the_share_grows_between_a_sixth_and_half_of_the_training() {
        for (step, moments) in
            [(0, 0), (100, 0), (106, 0), (107, 1), (200, 16), (299, 31), (300, 32), (600, 32)]
        {
            assert_eq!(moments_after(step, 600), moments, "step {step}");
        }
        let shares: Vec<f64> = (0..=600).map(|step| share_after(moments_after(step, 600), 0.8)).collect();
        assert!(shares.is_sorted() && shares[100] == 0.0 && shares[300] == 0.8, "{shares:?}");
        assert!((shares[200] - 0.8 * (1.0 - 0.125)).abs() < 1e-12, "{}", shares[200]);
        // However short a training is, it ends with the whole share.
        for total in 1..50 {
            assert_eq!(moments_after(total, total), MOMENTS);
            assert_eq!(moments_after(total.div_ceil(2), total), MOMENTS, "{total}");
        }
        assert_eq!(moments_after(0, 0), 0);
    }

    #[test]
    fn the_smallest_are_pruned_and_the_first_of_equals() {
        let sorted = |weights: &[f32], count| {
            let mut places = smallest(weights, count);
            places.sort_unstable();
            places
        };
        let weights = [0.3, -0.1, 0.2, -0.2, 0.0, -0.0, f32::MIN_POSITIVE / 4.0];
        assert_eq!(sorted(&weights, 3), [4, 5, 6]);
        assert_eq!(sorted(&weights, 5), [1, 2, 4, 5, 6]);
        assert_eq!(sorted(&weights, 0), [0usize; 0]);
        assert_eq!(sorted(&weights, 9).len(), 7);
        // As Python's round.
        assert_eq!([count(0.5, 5), count(0.5, 7), count(0.3, 9), count(0.9, 1)], [2, 4, 3, 1]);
    }

    #[test]
    fn what_is_held_is_zero_again_after_an_update() {
        let weight = Tensor::from_slice(&[0.0f32, 2.0, -1.0, 4.0]).view([2, 2]).set_requires_grad(true);
        let mut held = Held::zeros_of(&weight, &to_vec(&weight).unwrap()).unwrap();
        let update = |by: f64| drop(weight.detach().f_add_scalar_(by).unwrap());
        update(0.5);
        held.restore().unwrap();
        assert_eq!(to_vec(&weight).unwrap(), [0.0, 2.5, -0.5, 4.5]);
        held.grow(2).unwrap();
        assert_eq!(to_vec(&weight).unwrap(), [0.0, 2.5, 0.0, 4.5]);
        // No fewer than are held already.
        held.grow(1).unwrap();
        update(1.0);
        held.restore().unwrap();
        assert_eq!(to_vec(&weight).unwrap(), [0.0, 3.5, 0.0, 5.5]);
        assert_eq!((held.held().unwrap(), held.weights()), (2, 4));
    }
}
