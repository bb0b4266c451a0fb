//! Reproducible random orders, independent of device and threads.

use crate::rng::Stream;

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

/// As many places of `labels` as there are, each class equally often (within one), in random order: of a rare class
/// each occurs several times, of a frequent one not every one. A function of labels, seed and epoch alone.
pub fn balanced(labels: &[i64], seed: u64, epoch: u64) -> Vec<usize> {
    let order = permutation(labels.len(), seed, epoch);
    let mut classes: Vec<i64> = labels.to_vec();
    classes.sort_unstable();
    classes.dedup();
    let members: Vec<Vec<usize>> = classes
        .iter()
        .map(|class| order.iter().copied().filter(|&i| labels[i] == *class).collect())
        .collect();
    let count = members.len().max(1);
    let drawn = (0..labels.len()).map(|n| members[n % count][n / count % members[n % count].len()]);
    let drawn: Vec<usize> = drawn.collect();
    // The draws go through the classes in turn; where each stands is drawn anew.
    order.iter().map(|&place| drawn[place]).collect()
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

    #[test]
    fn balanced_orders_hold_every_class_equally_often() {
        // 70 of class 0, 20 of class 1, 10 of class 2.
        let labels: Vec<i64> = (0..100)
            .map(|i| {
                if i < 70 {
                    0
                } else if i < 90 {
                    1
                } else {
                    2
                }
            })
            .collect();
        let order = balanced(&labels, 3, 0);
        let of = |class: i64| order.iter().filter(|&&i| labels[i] == class).copied().collect::<Vec<_>>();
        assert_eq!([0, 1, 2].map(|class| of(class).len()), [34, 33, 33]);
        let different = |mut places: Vec<usize>| {
            places.sort_unstable();
            places.dedup();
            places.len()
        };
        assert_eq!([0, 1, 2].map(|class| different(of(class))), [34, 20, 10]);
        assert_eq!(order, balanced(&labels, 3, 0));
        assert_ne!(order, balanced(&labels, 3, 1));
        assert_eq!(balanced(&[], 0, 0), Vec::<usize>::new());
        assert_eq!(balanced(&[2, 2], 0, 0).len(), 2);
    }
}
