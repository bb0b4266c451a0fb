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
    /// It multiplies only those values of an analog input that are not zero, where they were counted.
    pub skips_input: bool,
}

impl Model {
    /// A spiking network in whole numbers of its own number of bits, or in fp32, which leaves out what is zero in its input: what is compared with
    /// ANNs in their own bits that skip zeros.
    pub const fn own(bits: Option<u32>, traffic: Traffic) -> Self {
        Self { name: "own bits", bits, traffic, skips_input: true }
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

    /// Words fetched of `weights` for `operations` over so many steps.
    pub(crate) fn fetched(&self, operations: f64, weights: u64, steps: f64) -> f64 {
        match self.traffic {
            Traffic::None => 0.0,
            Traffic::Reused => operations.min(weights as f64 * steps),
            Traffic::ByEvent => operations,
            Traffic::LayerByLayer => operations.min(weights as f64),
        }
    }
}

/// The models reported: `fp32` and `int8` (arithmetic only), `fp32+memory` and `int8+memory` (weights reused), and
/// `int8+events` (weights fetched by each arriving spike).
pub const fn models() -> [Model; 5] {
    const fn model(name: &'static str, bits: Option<u32>, traffic: Traffic) -> Model {
        Model { name, bits, traffic, skips_input: false }
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
