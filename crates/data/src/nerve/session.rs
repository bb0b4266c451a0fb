//! Which recordings of an animal's session form the two splits.
//!
//! A session has the recordings of each class in the order in which they were made. Fold k tests on the k-th third
//! of every class and trains on the rest: what drifts along the session differs between the splits. The test split
//! has the classes as often as they occur; in the training split recordings of the rarer classes are repeated until
//! all classes are equally frequent.

use escape_network::arch::CLASSES;
use escape_network::rng::Stream;

/// Folds, and parts of a session.
pub(super) const FOLDS: usize = 3;

/// One recording of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Take {
    pub class: usize,
    /// Its number among the recordings of its class, in the order in which they were made.
    pub index: usize,
    /// Which recording of that moment it is, see [`NerveConfig::training_rounds`](super::NerveConfig::training_rounds).
    pub round: usize,
}

impl Take {
    /// The number by which its random stream is known.
    pub fn number(self) -> usize {
        self.round << ROUND_AT | self.index
    }
}

/// Where in a recording's number its round is: above all that a session can count, below the class, see
/// [`stream`](super::streams::stream).
const ROUND_AT: u32 = 32;
/// The most rounds that leaves room for.
pub(super) const ROUNDS: usize = 15;

/// How many recordings there are.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Session {
    /// Recordings of each class.
    pub counts: [usize; CLASSES],
    /// Test recordings of each class: a third, or none of a session's only one.
    test: [usize; CLASSES],
    train: usize,
    fold: usize,
}

/// The largest fraction of all recordings that the test split can be: where the most frequent class need not be
/// repeated in the training split. With test recordings T, its share w and 2 w T recordings to train on, the
/// training split has 6 w T.
pub(super) fn largest_test_fraction(weights: [f64; CLASSES]) -> f64 {
    let total: f64 = weights.iter().sum();
    let share = weights.iter().fold(0.0f64, |most, w| most.max(w / total));
    let classes = weights.iter().filter(|&&w| w > 0.0).count() as f64;
    1.0 / (1.0 + 2.0 * share * classes)
}

/// Test recordings of so many in all.
pub(super) fn tests(samples: usize, test_fraction: f64) -> usize {
    ((samples as f64 * test_fraction).round() as usize).min(samples)
}

impl Session {
    /// The session behind `samples` recordings in all, `test_fraction` of them for testing, whose classes occur in
    /// the proportions of `weights`; `fold` is 1 to [`FOLDS`].
    pub(super) fn new(samples: usize, test_fraction: f64, weights: [f64; CLASSES], fold: usize) -> Self {
        let tests = tests(samples, test_fraction);
        let total: f64 = weights.iter().sum();
        // Largest remainders first; equal ones in the order of the classes.
        let exact = weights.map(|w| w / total * tests as f64);
        let mut test = exact.map(|v| v as usize);
        let mut order: Vec<usize> = (0..CLASSES).collect();
        order.sort_by(|&a, &b| exact[b].fract().total_cmp(&exact[a].fract()));
        let given: usize = test.iter().sum();
        order.iter().cycle().take(tests.saturating_sub(given)).for_each(|&class| test[class] += 1);
        // A class too rare for a test recording still has one to train on.
        let counts = std::array::from_fn(|class| {
            if weights[class] > 0.0 { test[class].saturating_mul(FOLDS).max(1) } else { 0 }
        });
        Self { counts, test, train: samples - tests, fold }
    }

    /// Recordings of the training split and of the test split.
    pub(super) fn sizes(&self) -> [usize; 2] {
        [self.train, self.test.iter().sum()]
    }

    /// How far the session is at a recording, from 0 to 1.
    pub(super) fn progressed(&self, take: Take) -> f64 {
        (take.index as f64 + 0.5) / self.counts[take.class] as f64
    }

    /// The test split: every third, classes interleaved, in random order within a class.
    pub(super) fn test(&self, random: &mut Stream) -> Vec<Take> {
        let pools = std::array::from_fn(|class| {
            let count = self.test[class];
            let first = count * (self.fold - 1);
            shuffled((first..first + count).collect(), random)
        });
        interleaved(pools)
    }

    /// The training split: each recording outside the test third, the rarer classes' more than once, classes
    /// interleaved, in random order within a class.
    pub(super) fn train(&self, random: &mut Stream) -> Vec<Take> {
        let classes = self.counts.iter().filter(|&&count| count > 0).count().max(1);
        let mut extra = self.train % classes;
        let pools = std::array::from_fn(|class| {
            if self.counts[class] == 0 {
                return Vec::new();
            }
            let wanted = self.train / classes + usize::from(extra > 0);
            extra = extra.saturating_sub(1);
            let count = self.test[class];
            let tested = count * (self.fold - 1)..count * self.fold;
            let kept: Vec<usize> = (0..self.counts[class]).filter(|i| !tested.contains(i)).collect();
            let mut pool = Vec::with_capacity(wanted);
            // Whole rounds, so that no recording is repeated twice more often than another.
            while pool.len() < wanted {
                let round = shuffled(kept.clone(), random);
                let missing = wanted - pool.len();
                pool.extend(round.into_iter().take(missing));
            }
            shuffled(pool, random)
        });
        interleaved(pools)
    }
}

/// A random order (Fisher and Yates).
fn shuffled(mut items: Vec<usize>, random: &mut Stream) -> Vec<usize> {
    for last in (1..items.len()).rev() {
        items.swap(last, random.whole([0, last as u32]) as usize);
    }
    items
}

/// The recordings of all pools, each class as evenly spread as it can be, in the order of its pool.
fn interleaved(pools: [Vec<usize>; CLASSES]) -> Vec<Take> {
    let total: usize = pools.iter().map(Vec::len).sum();
    let mut given = [0usize; CLASSES];
    let next = |n: usize| {
        let mut best = 0;
        let mut most = f64::NEG_INFINITY;
        for class in 0..CLASSES {
            let owed = pools[class].len() as f64 / total as f64 * (n + 1) as f64 - given[class] as f64;
            if given[class] < pools[class].len() && owed > most + 1e-9 {
                (best, most) = (class, owed);
            }
        }
        let index = pools[best][given[best]];
        given[best] += 1;
        Take { class: best, index, round: 0 }
    };
    (0..total).map(next).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const WEIGHTS: [f64; 3] = [0.43, 0.27, 0.30];

    fn counts(takes: &[Take]) -> [usize; CLASSES] {
        let mut counts = [0; CLASSES];
        takes.iter().for_each(|take| counts[take.class] += 1);
        counts
    }

    #[test]
    fn folds_are_thirds_of_every_class_that_share_nothing_with_their_training_split() {
        let mut tested = HashMap::new();
        for fold in 1..=3 {
            let session = Session::new(400, 0.25, WEIGHTS, fold);
            assert_eq!((session.sizes(), session.counts), ([300, 100], [129, 81, 90]));
            let (train, test) = (session.train(&mut Stream::new(0, 0)), session.test(&mut Stream::new(0, 1)));
            assert_eq!((counts(&train), counts(&test)), ([100; 3], [43, 27, 30]));
            for class in 0..CLASSES {
                let third = session.counts[class] / 3;
                let mut indices: Vec<usize> =
                    test.iter().filter(|t| t.class == class).map(|t| t.index).collect();
                indices.sort_unstable();
                assert!(indices.into_iter().eq((fold - 1) * third..fold * third), "contiguous");
                // All others are trained on, the rarer classes' equally often up to one.
                let mut times = HashMap::new();
                train
                    .iter()
                    .filter(|t| t.class == class)
                    .for_each(|t| *times.entry(t.index).or_insert(0) += 1);
                assert_eq!(times.len(), 2 * third);
                let (fewest, most) = (times.values().min().unwrap(), times.values().max().unwrap());
                assert!(most - fewest <= 1, "class {class}: {fewest} to {most} times");
            }
            assert!(test.iter().all(|take| !train.contains(take)));
            test.iter().for_each(|&take| *tested.entry(take).or_insert(0) += 1);
        }
        assert_eq!(tested.len(), 300);
        assert!(tested.values().all(|&times| times == 1));
    }

    #[test]
    fn beginnings_have_the_proportions_of_the_whole() {
        let session = Session::new(4000, 0.25, WEIGHTS, 1);
        for (takes, shares) in [
            (session.train(&mut Stream::new(0, 0)), [1.0 / 3.0; 3]),
            (session.test(&mut Stream::new(0, 0)), WEIGHTS),
        ] {
            for n in [1, 10, 64, 333, takes.len()] {
                for (count, share) in counts(&takes[..n]).into_iter().zip(shares) {
                    assert!((count as f64 - share * n as f64).abs() <= 1.5, "{count} of {n}, share {share}");
                }
            }
        }
    }

    #[test]
    fn small_and_one_sided_sessions() {
        for samples in 1..60 {
            for fold in 1..=3 {
                let session = Session::new(samples, 0.25, WEIGHTS, fold);
                let (train, test) =
                    (session.train(&mut Stream::new(0, 0)), session.test(&mut Stream::new(0, 0)));
                assert_eq!([train.len(), test.len()], session.sizes(), "{samples} recordings, fold {fold}");
                assert_eq!(train.len() + test.len(), samples);
                assert!(test.iter().all(|take| !train.contains(take)));
            }
        }
        let session = Session::new(40, 0.2, [0.0, 1.0, 0.0], 2);
        assert_eq!(counts(&session.train(&mut Stream::new(0, 0))), [0, 32, 0]);
        assert_eq!(counts(&session.test(&mut Stream::new(0, 0))), [0, 8, 0]);
    }

    #[test]
    fn the_largest_test_fraction_repeats_nothing_of_the_commonest_class() {
        assert!((largest_test_fraction([1.0; 3]) - 1.0 / 3.0).abs() < 1e-12);
        assert!((largest_test_fraction([0.5, 0.3, 0.2]) - 0.25).abs() < 1e-12);
        let session = Session::new(4000, 0.25, [0.5, 0.3, 0.2], 1);
        assert_eq!(session.train / 3, session.counts[0] - session.test[0]);
    }
}
