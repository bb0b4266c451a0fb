//! In which order libtorch adds up on this machine.

use std::sync::OnceLock;

use escape_model::ModelError;
use escape_model::ann::{convolve, to_tensor, to_vec};
use escape_network::rng::Stream;
use escape_network::sequential::{Conv2d, Layer, Named, Padding, Sequential, Shape};
use tch::Device;

use super::arrivals::{Frames, Order};
use super::synapses::{Geometry, Way};

/// Whether currents on the host are libtorch's to the last bit on this machine. The order of libtorch's sums is not the same
/// on every processor, and a last bit can make or suppress a spike.
pub fn sums_as_libtorch() -> bool {
    of_libtorch().is_some()
}

/// The order in which currents on the host are libtorch's to the last bit, if there is one.
pub(super) fn of_libtorch() -> Option<Order> {
    static KNOWN: OnceLock<Option<Order>> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        [Order::AVX2, Order::AVX512].into_iter().find(|&order| compare(order).unwrap_or(false))
    })
}

/// Layers like those of ESCAPE-NET, each both ways.
fn compare(order: Order) -> Result<bool, ModelError> {
    let padded =
        |out, kernel: (usize, usize)| Conv2d { padding: Padding::same(kernel), ..Conv2d::new(out, kernel) };
    for (input, layer) in [
        (Shape::new(1, 16, 24), Layer::Conv2d(padded(64, (8, 8)))),
        (Shape::new(64, 12, 14), Layer::Conv2d(padded(64, (4, 4)))),
        (Shape::new(64, 6, 7), Layer::Linear { out: 64, bias: false }),
    ] {
        if !alike(order, input, layer)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn alike(order: Order, input: Shape, layer: Layer) -> Result<bool, ModelError> {
    const FRAMES: usize = 16;
    let linear = matches!(layer, Layer::Linear { .. });
    let named = |name: &str, layer| Named { name: name.into(), layer };
    let readout = [Layer::Relu, Layer::Flatten].map(|layer| named("", layer));
    let layers = (linear.then(|| named("", Layer::Flatten)).into_iter())
        .chain([named("layer", layer)])
        .chain(readout.into_iter().take(if linear { 1 } else { 2 }))
        .chain([named("readout", Layer::Linear { out: 2, bias: false })]);
    let refused = |why: &dyn std::fmt::Display| ModelError::Data(why.to_string());
    let network = Sequential::new(input, layers.collect(), Vec::new()).map_err(|why| refused(&why))?;
    let stages = network.stages().map_err(|why| refused(&why))?;
    let Some(stage) = stages.first() else { return Ok(false) };
    let mut random = Stream::new(1, 0);
    let weights: Vec<f32> = (0..stage.weights()).map(|_| random.normal() as f32).collect();
    // Shares of spikes, as a mean over 2 x 2 gives them.
    let mut spikes = || (random.uniform() * 8.0 - 4.0).max(0.0).floor() as f32 / 4.0;
    let x: Vec<f32> = (0..FRAMES * input.count()).map(|_| spikes()).collect();
    let geometry = Geometry::new(stage, input);
    let mut rows = vec![0.0; weights.len()];
    geometry.in_rows(&weights, Way::Forward, &mut rows);
    let frames = Frames::of_planes(order, &x, (input.height, input.width), input.channels);
    let Shape { channels, height, width } = stage.output;
    let mut own = vec![0.0; FRAMES * stage.output.count()];
    for (n, row) in own.chunks_exact_mut(width * channels).enumerate() {
        match linear {
            true => geometry.gather_features(&rows, (&frames, n), row),
            false => geometry.gather(Way::Forward, &rows, (&frames, n / height), n % height, row),
        }
    }
    let weights = to_tensor(&weights, &stage.weight_shape(), Device::Cpu)?;
    let none: Option<&tch::Tensor> = None;
    let theirs = match linear {
        true => to_tensor(&x, &[FRAMES, input.count()], Device::Cpu)?.f_linear(&weights, none)?,
        false => {
            let x = to_tensor(&x, &[FRAMES, input.channels, input.height, input.width], Device::Cpu)?;
            convolve(&geometry.conv, &x, &weights, None)?.f_permute([0, 2, 3, 1])?
        }
    };
    Ok(to_vec(&theirs)? == own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_found_out_without_failing() {
        // Which one it is depends on the machine.
        let found = [Order::AVX2, Order::AVX512].into_iter().find(|&order| compare(order).unwrap());
        assert_eq!(found, of_libtorch());
        assert_eq!(found.is_some(), sums_as_libtorch());
    }
}
