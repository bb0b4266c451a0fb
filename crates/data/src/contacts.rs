//! Broken and odd contacts, and the order of values. N recordings, H contacts, W samples.

use rayon::prelude::*;

use crate::options::{BadContacts, Neighbours};
use crate::range::Range;
use crate::recordings::Recordings;

/// Recordings that statistics are taken of at most, evenly spread over a split.
const LOOKED_AT: usize = 400;

/// What was found of each contact of a split: in how many recordings its row holds NaN or an infinity, and in how many
/// one value only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rows {
    pub(crate) not_finite: Vec<u32>,
    pub(crate) flat: Vec<u32>,
    recordings: usize,
}

impl Rows {
    /// Bytes of memory a contact.
    pub(crate) const EACH: usize = 2 * size_of::<u32>() + 2 * size_of::<usize>();

    pub(crate) fn of(r: &Recordings) -> Self {
        let mut rows =
            Self { not_finite: vec![0; r.contacts], flat: vec![0; r.contacts], recordings: r.len() };
        for row in r.x.chunks_exact(r.samples).enumerate() {
            let (contact, row) = (row.0 % r.contacts, row.1);
            if row.iter().any(|v| !v.is_finite()) {
                rows.not_finite[contact] += 1;
            } else if row.iter().all(|v| *v == row[0]) {
                rows.flat[contact] += 1;
            }
        }
        rows
    }

    /// Contacts that hold NaN or infinities in more than half of the recordings.
    pub(crate) fn mostly_not_finite(&self) -> Vec<usize> {
        let most = |contact: &usize| self.not_finite[*contact] as usize * 2 > self.recordings;
        (0..self.not_finite.len()).filter(most).collect()
    }

    /// Those, and contacts that are flat or worse in every recording.
    pub(crate) fn broken(&self) -> Vec<usize> {
        let broken = |contact: &usize| {
            let (bad, flat) = (self.not_finite[*contact] as usize, self.flat[*contact] as usize);
            bad * 2 > self.recordings || bad + flat == self.recordings
        };
        (0..self.not_finite.len()).filter(broken).collect()
    }
}

/// Replace the rows of `broken` contacts everywhere, and others that are not finite where they are; gives the number
/// of the latter. A recording without any sound row stays as it is. The values are final ones: scaled, if they are.
pub(crate) fn repair(r: &mut Recordings, broken: &[usize], how: BadContacts) -> usize {
    let (contacts, samples) = (r.contacts, r.samples);
    let of_one = |x: &mut [f32]| {
        let row = |x: &[f32], contact: usize| x[contact * samples..][..samples].iter().all(|v| v.is_finite());
        let sound = |x: &[f32], contact: usize| broken.binary_search(&contact).is_err() && row(x, contact);
        let bad: Vec<usize> = (0..contacts).filter(|&contact| !sound(x, contact)).collect();
        if bad.len() == contacts {
            return 0;
        }
        for &contact in &bad {
            let is_sound = |other: &usize| bad.binary_search(other).is_err();
            let above = (0..contact).rev().find(is_sound);
            let below = (contact + 1..contacts).find(is_sound);
            let near: Vec<usize> = above.into_iter().chain(below).collect();
            for sample in 0..samples {
                let at = |contact: usize| x[contact * samples + sample];
                x[contact * samples + sample] = match how {
                    BadContacts::Mean => near.iter().map(|&n| at(n)).sum::<f32>() / near.len() as f32,
                    _ => 0.0,
                };
            }
        }
        bad.len() - broken.len()
    };
    r.x.par_chunks_exact_mut(contacts * samples).map(of_one).sum()
}

/// Smallest and largest of a recording's values, but for rows of `broken` contacts and rows that are not finite; of all
/// values where no row is left.
pub(crate) fn sound_range(x: &[f32], samples: usize, broken: &[usize]) -> Range {
    let sound = |(contact, row): (usize, &[f32])| {
        let range = Range::of(row);
        (range.is_finite() && broken.binary_search(&contact).is_err()).then_some(range)
    };
    let ranges = x.chunks_exact(samples).enumerate().filter_map(sound);
    ranges.reduce(Range::with).unwrap_or_else(|| Range::of(x))
}

/// Contacts that are unlike the others.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Odd {
    pub(crate) flat: Vec<usize>,
    /// What the other contacts span of the range, where the flat ones set it: 1 is all of it.
    pub(crate) left: Option<f32>,
    pub(crate) stuck: Vec<usize>,
    pub(crate) noisy: Vec<usize>,
    pub(crate) dwarfing: Vec<usize>,
}

impl Odd {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Evenly spread recordings, at most [`LOOKED_AT`].
fn spread(r: &Recordings) -> impl Iterator<Item = &[f32]> {
    r.x.chunks_exact(r.size().max(1)).step_by(r.len().div_ceil(LOOKED_AT).max(1))
}

/// Look for odd contacts, but for those in `but`. Fewer than four contacts are not compared, nor more than 4,096.
pub(crate) fn odd(r: &Recordings, but: &[usize]) -> Odd {
    let (contacts, samples) = (r.contacts, r.samples);
    let mut odd = Odd::default();
    if !(4..=4096).contains(&contacts) || samples < 4 || r.is_empty() {
        return odd;
    }
    let mut strength = vec![0.0f64; contacts];
    let mut repeats = vec![0.0f64; contacts];
    let mut count = 0.0;
    for x in spread(r) {
        count += 1.0;
        for (contact, row) in x.chunks_exact(samples).enumerate() {
            let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / samples as f64;
            let square = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / samples as f64;
            strength[contact] += square.sqrt();
            let same = row.windows(2).filter(|pair| pair[0] == pair[1]).count();
            repeats[contact] += same as f64 / (samples - 1) as f64;
        }
    }
    let median = |values: &[f64]| {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    let (usual, usual_repeats) = (median(&strength), median(&repeats) / count);
    for contact in (0..contacts).filter(|contact| !but.contains(contact)) {
        let flat = |x: &[f32]| {
            let row = &x[contact * samples..][..samples];
            row.iter().all(|v| *v == row[0])
        };
        let share = repeats[contact] / count;
        let of_usual = strength[contact] / usual;
        if share == 1.0 && r.x.chunks_exact(r.size()).all(flat) {
            odd.flat.push(contact);
        } else if share > 0.5 && share > usual_repeats * 2.0 + 0.2 {
            odd.stuck.push(contact);
        } else if usual > 0.0 && of_usual > 10.0 {
            odd.dwarfing.push(contact);
        } else if usual > 0.0 && of_usual > 3.0 {
            odd.noisy.push(contact);
        }
    }
    odd.left = left_by(r, &odd.flat);
    odd
}

/// What the contacts but the flat ones span of the range of a recording, the median of some recordings, if that is less
/// than half of it.
fn left_by(r: &Recordings, flat: &[usize]) -> Option<f32> {
    const HALF: f32 = 0.5;
    if flat.is_empty() || flat.len() == r.contacts {
        return None;
    }
    let mut shares: Vec<f32> = spread(r)
        .map(|x| sound_range(x, r.samples, flat).span() / Range::of(x).span())
        .filter(|share| share.is_finite())
        .collect();
    shares.sort_by(f32::total_cmp);
    shares.get(shares.len() / 2).copied().filter(|&share| share < HALF)
}

/// How alike neighbouring values are, as they were read and if the file's values were taken in the other order: sample by
/// sample, or contact by contact if they were read sample by sample. `None` if there are no neighbours of both kinds.
pub(crate) fn neighbours(r: &Recordings, by_sample: bool) -> Option<[Neighbours; 2]> {
    let (contacts, samples) = (r.contacts, r.samples);
    if contacts < 2 || samples < 2 || r.is_empty() {
        return None;
    }
    // Products of neighbours along time and along contacts, and the squares of both.
    let mut sums = [[0.0f64; 3]; 4];
    let mut centred = Vec::with_capacity(r.size());
    // In the file's order, if that is another one.
    let mut filed = Vec::with_capacity(if by_sample { r.size() } else { 0 });
    for x in spread(r) {
        let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / x.len() as f64;
        centred.clear();
        centred.extend(x.iter().map(|&v| f64::from(v) - mean));
        filed.clear();
        if by_sample {
            filed.extend((0..x.len()).map(|i| centred[i % contacts * samples + i / contacts]));
        }
        // How far a neighbour is, in rows of what length, and in which order.
        let along_rows = [(1, samples), (samples, usize::MAX)];
        let other = match by_sample {
            true => along_rows.map(|kind| (kind, &filed)),
            false => [(contacts, usize::MAX), (1, contacts)].map(|kind| (kind, &centred)),
        };
        let kinds = along_rows.map(|kind| (kind, &centred)).into_iter().chain(other);
        for (((apart, row), values), sum) in kinds.zip(&mut sums) {
            for (i, pair) in values.iter().zip(&values[apart..]).enumerate() {
                if row == usize::MAX || (i + 1) % row != 0 {
                    sum[0] += pair.0 * pair.1;
                    sum[1] += pair.0 * pair.0;
                    sum[2] += pair.1 * pair.1;
                }
            }
        }
    }
    let [time, across, other_time, other_across] = sums.map(|[both, a, b]| {
        let size = (a * b).sqrt();
        if size > 0.0 { both / size } else { 0.0 }
    });
    Some([Neighbours { time, contacts: across }, Neighbours { time: other_time, contacts: other_across }])
}

/// Whether the other order fits so much better that it can hardly be chance.
pub(crate) fn other_fits_better([read, other]: [Neighbours; 2]) -> bool {
    other.time > 0.5
        && other.time > read.time
        && other.time + other.contacts > read.time + read.contacts + 0.25
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wave that runs along the contacts, in recordings of different phase.
    fn waves(n: usize, contacts: usize, samples: usize) -> Recordings {
        let value = |i: usize| {
            let (recording, contact, sample) =
                (i / (contacts * samples), i / samples % contacts, i % samples);
            ((sample as f32 + 2.0 * contact as f32) * 0.25 + recording as f32).sin()
        };
        let x = (0..n * contacts * samples).map(value).collect();
        Recordings::new(x, vec![0; n], contacts, samples).unwrap()
    }

    #[test]
    fn rows_are_repaired_from_their_neighbours() {
        let mut r = waves(3, 5, 8);
        let clean = r.clone();
        for n in 0..3 {
            r.x[n * 40 + 16 + 3] = f32::NAN; // contact 2
            r.x[n * 40..n * 40 + 8].fill(0.7); // contact 0
        }
        r.x[40 + 32] = f32::INFINITY; // contact 4 of recording 1
        let rows = Rows::of(&r);
        assert_eq!((rows.mostly_not_finite(), rows.broken()), (vec![2], vec![0, 2]));
        let mut mean = r.clone();
        assert_eq!(repair(&mut mean, &[0, 2], BadContacts::Mean), 1);
        let at = |r: &Recordings, n: usize, c: usize, s: usize| r.x[n * 40 + c * 8 + s];
        for s in 0..8 {
            let between = (at(&clean, 0, 1, s) + at(&clean, 0, 3, s)) / 2.0;
            assert_eq!(at(&mean, 0, 2, s), between);
            assert_eq!(at(&mean, 0, 0, s), at(&clean, 0, 1, s));
            assert_eq!(at(&mean, 1, 4, s), at(&clean, 1, 3, s));
            assert_eq!(at(&mean, 0, 4, s), at(&clean, 0, 4, s));
        }
        assert_eq!(repair(&mut r, &[0, 2], BadContacts::Zero), 1);
        assert!((0..8).all(|s| at(&r, 2, 0, s) == 0.0 && at(&r, 1, 4, s) == 0.0 && at(&r, 2, 4, s) != 0.0));
    }

    #[test]
    fn odd_contacts_are_told_apart() {
        let mut r = waves(20, 8, 50);
        assert!(odd(&r, &[]).is_empty());
        for n in 0..20 {
            let row = |c: usize| n * 400 + c * 50..n * 400 + (c + 1) * 50;
            r.x[row(0)].fill(n as f32);
            r.x[row(3)][5..45].fill(0.5);
            r.x[row(5)].iter_mut().for_each(|v| *v *= 5.0);
            r.x[row(6)].iter_mut().for_each(|v| *v *= 50.0);
        }
        let found = odd(&r, &[]);
        assert_eq!(
            found,
            Odd { flat: vec![0], left: None, stuck: vec![3], noisy: vec![5], dwarfing: vec![6] }
        );
        assert_eq!(odd(&r, &[0, 3, 5, 6]), Odd::default());
    }

    #[test]
    fn the_other_order_is_seen() {
        let right = waves(10, 12, 40);
        let found = neighbours(&right, false).unwrap();
        assert!(found[0].time > 0.9 && found[0].contacts > 0.8 && !other_fits_better(found), "{found:?}");
        // The same values sample by sample, taken for contact by contact.
        let turned: Vec<f32> =
            right.x.chunks_exact(480).flat_map(|x| (0..480).map(move |i| x[i % 12 * 40 + i / 12])).collect();
        let wrong = Recordings::new(turned, right.y.clone(), 12, 40).unwrap();
        let seen = neighbours(&wrong, false).unwrap();
        assert!(other_fits_better(seen), "{seen:?}");
        assert!(
            (seen[1].time - found[0].time).abs() < 1e-9
                && (seen[1].contacts - found[0].contacts).abs() < 1e-9
        );
        assert_eq!(neighbours(&waves(2, 1, 40), false), None);
        // Contact by contact in the file, and read sample by sample.
        let read: Vec<f32> =
            right.x.chunks_exact(480).flat_map(|x| (0..480).map(move |i| x[i % 40 * 12 + i / 40])).collect();
        let wrong = Recordings::new(read, right.y.clone(), 12, 40).unwrap();
        let seen = neighbours(&wrong, true).unwrap();
        assert!(other_fits_better(seen) && (seen[1].time - found[0].time).abs() < 1e-9, "{seen:?}");
        assert!(!other_fits_better(neighbours(&right, true).unwrap()));
    }

    #[test]
    fn a_flat_contact_may_set_the_scale() {
        let mut r = waves(9, 5, 40);
        for x in r.x.chunks_exact_mut(200) {
            x[80..120].fill(-3.0);
        }
        let found = odd(&r, &[]);
        assert_eq!(found.flat, [2]);
        // The waves span less than 2 of 4.
        assert!(found.left.is_some_and(|left| (0.4..0.5).contains(&left)), "{found:?}");
        let sound = sound_range(r.get(0), 40, &[2]);
        assert!(sound.min >= -1.0 && sound.max <= 1.0, "{sound:?}");
        // Rows that are not finite count as little; where nothing else is left, all do.
        r.x[0] = f32::NAN;
        assert_eq!(sound_range(r.get(0), 40, &[2, 3, 4]).min, Range::of(&r.get(0)[40..80]).min);
        assert!(!sound_range(r.get(0), 40, &[1, 2, 3, 4]).is_finite());
    }
}
