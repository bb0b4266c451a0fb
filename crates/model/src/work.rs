//! What is not zero in an ANN, and the multiply-accumulates that it causes.

use escape_network::sequential::Sequential;
use escape_network::stage::{Arrived, LayerWork, Op, Stage};
use tch::{Device, Kind, Tensor};

use crate::ModelError;

/// Counts what arrives at a network's layers with weights.
#[derive(Debug)]
pub struct Counter {
    /// The layers, with the fan-outs of their input.
    stages: Vec<(Stage, FanOut)>,
    /// What arrived at each.
    arrived: Vec<Arrived>,
}

/// How many neurons a value of a layer's input reaches.
#[derive(Debug)]
struct FanOut {
    /// By any weight, of each pixel: H x W, or 1 of a linear layer.
    all: Tensor,
    /// By a weight that is not zero, of each value: C x H x W.
    nonzero: Tensor,
    /// Such weights.
    nonzero_weights: u64,
}

impl Counter {
    /// For a network's layers with weights as [`Sequential::stages`] has them; `None` for a network that has none such. `nonzero`
    /// says of each weight of the k-th of them, in PyTorch's order, whether it is not zero.
    ///
    /// # Errors
    /// Libtorch's: no memory; those of `nonzero`.
    pub fn new(
        network: &Sequential,
        device: Device,
        mut nonzero: impl FnMut(usize, &Stage) -> Result<Vec<bool>, ModelError>,
    ) -> Result<Option<Self>, ModelError> {
        let Ok(stages) = network.stages() else { return Ok(None) };
        let tensor = |fan_out: Vec<u32>| -> Result<Tensor, ModelError> {
            let fan_out: Vec<i64> = fan_out.into_iter().map(i64::from).collect();
            Ok(Tensor::f_from_slice(&fan_out)?.f_to_device(device)?)
        };
        let mut k = 0;
        let with_fan_out = |stage: Stage| -> Result<(Stage, FanOut), ModelError> {
            let nonzero = nonzero(k, &stage)?;
            k += 1;
            let nonzero_weights = nonzero.iter().filter(|there| **there).count() as u64;
            let (all, nonzero) = (tensor(stage.fan_out())?, tensor(stage.fan_out_of(&nonzero))?);
            Ok((stage, FanOut { all, nonzero, nonzero_weights }))
        };
        let stages: Vec<_> = stages.into_iter().map(with_fan_out).collect::<Result<_, _>>()?;
        let arrived = vec![Arrived::default(); stages.len()];
        Ok(Some(Self { stages, arrived }))
    }

    /// Adds what arrives at a layer, B x C x H x W or as many values.
    ///
    /// # Errors
    /// Libtorch's: another number of values, no memory.
    pub fn add(&mut self, stage: usize, x: &Tensor) -> Result<(), ModelError> {
        let Some((shape, fan_out)) = self.stages.get(stage) else { return Ok(()) };
        let pixels = match shape.op {
            Op::Conv(_) => shape.input.height * shape.input.width,
            Op::Linear => 1,
        };
        // In how many recordings each value is not zero; and each pixel's sum over channels. Features in a row have no pixels.
        let present = x.f_ne(0.0)?.f_view([-1, shape.input.count() as i64])?;
        let present = present.f_sum_dim_intlist(0i64, false, Kind::Int64)?;
        let by_pixel = match shape.op {
            Op::Conv(_) => {
                present.f_view([-1, pixels as i64])?.f_sum_dim_intlist(0i64, false, Kind::Int64)?
            }
            Op::Linear => present.f_sum(Kind::Int64)?.f_view([1i64])?,
        };
        let total = |counts: &Tensor| -> Result<u64, ModelError> {
            Ok(u64::try_from(counts.f_sum(Kind::Int64)?.f_int64_value(&[])?).unwrap_or(0))
        };
        let arrived = &mut self.arrived[stage];
        arrived.values += total(&by_pixel)?;
        arrived.macs += total(&by_pixel.f_mul(&fan_out.all)?)?;
        arrived.macs_of_nonzero_weights += total(&present.f_mul(&fan_out.nonzero)?)?;
        Ok(())
    }

    /// As [`Counter::add`], of what a layer of the network gives, whatever it is: counts where layers with weights come next.
    /// The recordings themselves are what comes before layer 0.
    ///
    /// # Errors
    /// As [`Counter::add`].
    pub fn add_before(&mut self, layer: usize, x: &Tensor) -> Result<(), ModelError> {
        match self.stages.iter().position(|(stage, _)| stage.weights_at == layer) {
            Some(stage) => self.add(stage, x),
            None => Ok(()),
        }
    }

    /// The layers with what arrived at each.
    pub fn into_layers(self) -> Vec<LayerWork> {
        let of_layer = |((stage, fan_out), arrived): ((Stage, FanOut), Arrived)| LayerWork {
            stage,
            arrived,
            nonzero_weights: fan_out.nonzero_weights,
        };
        self.stages.into_iter().zip(self.arrived).map(of_layer).collect()
    }
}
