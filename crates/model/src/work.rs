//! What is not zero in an ANN, and the multiply-accumulates that it causes.

use escape_network::sequential::Sequential;
use escape_network::stage::{Arrived, Op, Stage};
use tch::{Device, Kind, Tensor};

use crate::ModelError;

/// Counts what arrives at a network's layers with weights.
#[derive(Debug)]
pub struct Counter {
    /// The layers, and the fan-out of each pixel of their input, H x W or 1.
    stages: Vec<(Stage, Tensor)>,
    /// What arrived at each.
    arrived: Vec<Arrived>,
}

impl Counter {
    /// For a network's layers with weights as [`Sequential::stages`] has them; `None` for a network that has none such.
    ///
    /// # Errors
    /// Libtorch's: no memory.
    pub fn new(network: &Sequential, device: Device) -> Result<Option<Self>, ModelError> {
        let Ok(stages) = network.stages() else { return Ok(None) };
        let with_fan_out = |stage: Stage| -> Result<(Stage, Tensor), ModelError> {
            let fan_out: Vec<i64> = stage.fan_out().into_iter().map(i64::from).collect();
            let fan_out = Tensor::f_from_slice(&fan_out)?.f_to_device(device)?;
            Ok((stage, fan_out))
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
        // Values of each pixel of all channels and recordings; features in a row have no pixels.
        let present = x.f_ne(0.0)?;
        let by_pixel = match shape.op {
            Op::Conv(_) => {
                present.f_view([-1, pixels as i64])?.f_sum_dim_intlist(0i64, false, Kind::Int64)?
            }
            Op::Linear => present.f_sum(Kind::Int64)?.f_view([1i64])?,
        };
        let macs = by_pixel.f_mul(fan_out)?.f_sum(Kind::Int64)?;
        let arrived = &mut self.arrived[stage];
        arrived.values += u64::try_from(by_pixel.f_sum(Kind::Int64)?.f_int64_value(&[])?).unwrap_or(0);
        arrived.macs += u64::try_from(macs.f_int64_value(&[])?).unwrap_or(0);
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
    pub fn into_arrived(self) -> Vec<(Stage, Arrived)> {
        self.stages.into_iter().map(|(stage, _)| stage).zip(self.arrived).collect()
    }
}
