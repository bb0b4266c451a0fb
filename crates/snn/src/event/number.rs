//! In what numbers a layer is simulated: whole ones, see [`crate::integer`], or float32.

use std::fmt::Debug;
use std::ops::{AddAssign, Range};

use super::kernels::Instructions;
use super::packed::Packed;
use super::plane::{Lists, Values};

/// What sums, potentials and constants are.
pub(super) trait Number: Copy + Default + Debug + Send + Sync + AddAssign + 'static {
    /// Whether its kernels know groups of channels; others take the weights between groups for zeros.
    const GROUPS: bool;
    /// A layer's weights in the orders of the kernels.
    type Weights: Debug + Send + Sync;
    /// What is known of all neurons of a layer besides their thresholds.
    type Rule: Copy + Debug + Send + Sync;
    /// A value in a list.
    type Listed: Copy + Default + Debug + Send + Sync;

    /// Room for a recording.
    fn recording(length: usize) -> Values;

    /// Whether lists cost less than planes, for an input of which a share is not zero.
    fn lists_pay(packed: &Packed<Self>, share: f64) -> bool;

    /// Lists what is not zero in the first steps of an input: so many steps, so many in all.
    fn list(
        packed: &Packed<Self>,
        input: &Values,
        steps: (usize, usize),
        lists: &mut Lists<Self::Listed>,
        with: Instructions,
    );

    /// Whether sums of a whole row of pixels are best made together, rather than of a few that stay in cache.
    fn by_rows(packed: &Packed<Self>, lists: bool) -> bool;

    /// Adds what arrives to the sums of some pixels, P x S x L.
    fn sum(
        packed: &Packed<Self>,
        chunk: &Chunk,
        input: &Values,
        lists: Option<&Lists<Self::Listed>>,
        sums: &mut [Self],
        with: Instructions,
    );

    /// Steps neurons.
    fn fire(packed: &Packed<Self>, neurons: &mut Neurons<'_, Self>, with: Instructions);

    /// A step of the readout: potentials of all classes, what they receive, and which of them spike, if it is of those
    /// that do.
    fn read(packed: &Packed<Self>, u: &mut [Self], current: &[Self], spikes: &mut [f32]);

    /// A potential of the readout in the network of real numbers.
    fn logit(packed: &Packed<Self>, u: Self) -> f32;
}

/// Output pixels of a row over the steps of a block.
pub(super) struct Chunk {
    pub y: usize,
    pub columns: Range<usize>,
    pub steps: usize,
}

/// Neurons of P pixels over S steps.
pub(super) struct Neurons<'a, N> {
    /// Potentials, P x L.
    pub u: &'a mut [N],
    /// What they receive, P x S x L, or P x L if it is the same at every step.
    pub current: &'a [N],
    pub constant: bool,
    /// Their spikes, P x S x L.
    pub spikes: &'a mut [u8],
    /// Spikes of each step, to be added to.
    pub fired: &'a mut [u64],
}

/// Copies constants of all lanes; so few that a call for each would cost more.
#[inline(always)]
pub(super) fn fill<N: Copy>(to: &mut [N], from: &[N]) {
    const FEW: usize = super::packed::LANES;
    for (to, from) in to.as_chunks_mut::<FEW>().0.iter_mut().zip(from.as_chunks::<FEW>().0) {
        *to = *from;
    }
}
