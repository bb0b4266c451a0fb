//! Ways of counting, and names of networks.

use crate::constants::{Arithmetic, Constants};

/// Name of the full-precision ANN in tables.
pub const ANN: &str = "ann";
/// Bits of a membrane potential, at least.
const LEAST_BITS: u32 = 8;
/// What follows the name of an ANN that skips what is zero.
const SKIP: &str = "-skip";

/// Name, in tables, of an ANN: `ann` in fp32, `ann-5bit` quantised to 5 bits, with `-skip` where it computes with what is
/// not zero only.
pub fn ann_name(bits: Option<u32>, skips: bool) -> String {
    let bits = bits.map_or_else(String::new, |bits| format!("-{bits}bit"));
    format!("{ANN}{bits}{}", if skips { SKIP } else { "" })
}

/// The ANN that a name of [`ann_name`] stands for: its bits, none in fp32, and whether it skips zeros. `None` for the name of
/// anything else.
pub fn ann_of(network: &str) -> Option<(Option<u32>, bool)> {
    let (network, skips) = network.strip_suffix(SKIP).map_or((network, false), |rest| (rest, true));
    if network == ANN {
        return Some((None, skips));
    }
    let bits = network.strip_prefix(ANN)?.strip_prefix('-')?.strip_suffix("bit")?.parse().ok()?;
    Some((Some(bits), skips))
}

/// Whether weights are counted that come from memory, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// Arithmetic only.
    None,
    /// With memory; a weight that was fetched serves all of a step, so that none is fetched twice in one.
    Reused,
    /// With memory; each spike that arrives fetches the weights that it meets anew.
    ByEvent,
    /// With memory; a layer goes through all its steps before the next one's turn, as the exported program does: a weight that was
    /// fetched serves all of them, and no membrane potential is stored.
    LayerByLayer,
}

/// An itemised model: how the spiking network computes, and whether memory counts. ANNs compute in their own number format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Model {
    /// Name in tables.
    pub name: &'static str,
    /// Bits of the spiking network's whole numbers; none: it computes in fp32.
    pub bits: Option<u32>,
    /// What is counted of memory.
    pub traffic: Traffic,
    /// What is zero costs nothing, where it was counted: values of an analog input are not multiplied with; nor are weights, nor
    /// added, and of a layer with many of them only the others are stored, behind a map of one bit for each weight. So of ANNs
    /// that skip zeros.
    pub sparse: bool,
}

impl Model {
    /// Every network in whole numbers of its own number of bits, or in fp32, on hardware that skips zeros of all kinds: how spiking
    /// networks and ANNs are compared.
    pub const fn own(bits: Option<u32>, traffic: Traffic) -> Self {
        Self { name: "own bits", bits, traffic, sparse: true }
    }

    /// The spiking network's arithmetic; `value_bits` are those of what its weights are multiplied with, if anything.
    pub(crate) fn arithmetic(&self, constants: &Constants, value_bits: u32) -> Arithmetic {
        self.bits.map_or(constants.fp32(), |bits| constants.integer(bits, value_bits))
    }

    /// Arithmetic of its membrane potentials: of fewer than 8 bits they would not hold their sums. A factor that they are multiplied
    /// with, where they leak, has as many.
    pub(crate) fn potential(&self, constants: &Constants) -> Arithmetic {
        let whole = |bits: u32| constants.integer(bits.max(LEAST_BITS), bits.max(LEAST_BITS));
        self.bits.map_or(constants.fp32(), whole)
    }

    /// Picojoules to fetch the weights of a layer, `weights` of so many bits each, for `operations` over so many steps. `nonzero` are
    /// the weights that are not zero and the operations with them, by which a sparse model may store and fetch them.
    pub(crate) fn fetching_pj(
        &self,
        constants: &Constants,
        (weights, bits): (u64, u32),
        operations: f64,
        nonzero: Option<(u64, f64)>,
        steps: f64,
    ) -> f64 {
        let bits = f64::from(bits);
        let all = weights as f64;
        let plain = self.fetched(operations, weights, steps) * bits * constants.bit_pj(all * bits);
        let Some((nonzero, operations)) = nonzero.filter(|_| self.sparse) else { return plain };
        let stored = stored_bits(weights, Some(nonzero), bits);
        // With each weight comes its share of the map.
        let each = bits + all / (nonzero as f64).max(1.0);
        plain.min(self.fetched(operations, nonzero, steps) * each * constants.bit_pj(stored))
    }

    /// Picojoules to fetch each weight of a layer once, or each that is not zero.
    pub(crate) fn fetching_once_pj(
        &self,
        constants: &Constants,
        weights: (u64, u32),
        nonzero: Option<u64>,
    ) -> f64 {
        let traffic = if self.traffic == Traffic::None { Traffic::None } else { Traffic::LayerByLayer };
        let nonzero = nonzero.map(|nonzero| (nonzero, nonzero as f64));
        Self { traffic, ..*self }.fetching_pj(constants, weights, weights.0 as f64, nonzero, 1.0)
    }

    /// Words fetched of `weights` for `operations` over so many steps.
    fn fetched(&self, operations: f64, weights: u64, steps: f64) -> f64 {
        match self.traffic {
            Traffic::None => 0.0,
            Traffic::Reused => operations.min(weights as f64 * steps),
            Traffic::ByEvent => operations,
            Traffic::LayerByLayer => operations.min(weights as f64),
        }
    }
}

/// Bits that a layer's weights are stored in, of `bits` each: all of them, or a map of those that are not zero, and those, whichever
/// is less.
pub fn stored_bits(weights: u64, nonzero: Option<u64>, bits: f64) -> f64 {
    let all = weights as f64;
    nonzero.map_or(f64::INFINITY, |nonzero| all + nonzero as f64 * bits).min(all * bits)
}

/// The models reported: `fp32` and `int8` (arithmetic only), `fp32+memory` and `int8+memory` (weights reused), and
/// `int8+events` (weights fetched by each arriving spike).
pub const fn models() -> [Model; 5] {
    const fn model(name: &'static str, bits: Option<u32>, traffic: Traffic) -> Model {
        Model { name, bits, traffic, sparse: false }
    }
    [
        model("fp32", None, Traffic::None),
        model("int8", Some(8), Traffic::None),
        model("fp32+memory", None, Traffic::Reused),
        model("int8+memory", Some(8), Traffic::Reused),
        model("int8+events", Some(8), Traffic::ByEvent),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_zeros_are_not_stored() {
        // Of 1,000 weights of 4 bits a map takes 1,000 bits, a quarter of all.
        assert_eq!(stored_bits(1000, None, 4.0), 4000.0);
        assert_eq!(stored_bits(1000, Some(1000), 4.0), 4000.0);
        assert_eq!(stored_bits(1000, Some(750), 4.0), 4000.0);
        assert_eq!(stored_bits(1000, Some(400), 4.0), 2600.0);
        assert_eq!(stored_bits(1000, Some(0), 4.0), 1000.0);
    }

    #[test]
    fn fetching_takes_the_cheaper_way() {
        let constants = Constants::default();
        let model = |sparse, traffic| Model { sparse, ..Model::own(Some(4), traffic) };
        let pj = |model: Model, nonzero| model.fetching_pj(&constants, (1000, 4), 1e6, nonzero, 8.0);
        // 10 pJ for 64 bits of a small memory.
        let bit = 10.0 / 64.0;
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9 * b, "{a} is not {b}");
        close(pj(model(true, Traffic::LayerByLayer), None), 4000.0 * bit);
        close(pj(model(true, Traffic::LayerByLayer), Some((400, 4e5))), 2600.0 * bit);
        close(pj(model(true, Traffic::LayerByLayer), Some((900, 9e5))), 4000.0 * bit);
        close(pj(model(false, Traffic::LayerByLayer), Some((400, 4e5))), 4000.0 * bit);
        // 4 bits a weight, and 2.5 of the map.
        close(pj(model(true, Traffic::ByEvent), Some((400, 4e5))), 4e5 * 6.5 * bit);
        // Few operations fetch few weights, either way.
        let few = model(true, Traffic::LayerByLayer).fetching_pj(
            &constants,
            (1000, 4),
            100.0,
            Some((400, 40.0)),
            8.0,
        );
        close(few, 40.0 * 6.5 * bit);
        assert_eq!(pj(model(true, Traffic::LayerByLayer), Some((0, 0.0))), 0.0);
        assert_eq!(pj(model(true, Traffic::None), Some((400, 4e5))), 0.0);
    }

    #[test]
    fn names_of_anns_are_told_from_others() {
        for (bits, skips) in [(None, false), (None, true), (Some(8), false), (Some(3), true)] {
            assert_eq!(ann_of(&ann_name(bits, skips)), Some((bits, skips)));
        }
        assert_eq!(ann_name(Some(8), true), "ann-8bit-skip");
        for other in ["annealed", "ann-large", "ann-bit", "ann-8bits", "skip", "direct-skip"] {
            assert_eq!(ann_of(other), None, "{other}");
        }
    }
}
