//! Reproducible random orders, independent of device and threads.

use escape_data::rng::Stream;

/// The numbers 0..n in random order (Fisher and Yates), a function of seed and epoch alone. n is at most
/// 2^32.
pub fn permutation(n: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut random = Stream::new(seed, epoch);
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, random.whole([0, i as u32]) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permutation_has_every_number_once_and_changes_with_the_epoch() {
        let a = permutation(1000, 3, 0);
        let mut sorted = a.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
        assert_eq!(a, permutation(1000, 3, 0));
        assert_ne!(a, permutation(1000, 3, 1));
        assert_ne!(a, permutation(1000, 4, 0));
        assert_eq!(permutation(0, 0, 0), Vec::<usize>::new());
    }
}
