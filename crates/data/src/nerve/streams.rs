//! The random streams of a simulation: one for each thing that is drawn, so that none depends on another.

use escape_network::rng::Stream;

/// What a random stream is for; the first byte of its number.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    Recording = 0,
    Anatomy = 1,
    Fibre = 2,
    Contacts = 3,
    Order = 4,
}

/// The random stream of one purpose, animal, class (or split) and index.
pub(super) fn stream(seed: u64, purpose: Purpose, animal: u16, class: usize, index: usize) -> Stream {
    let number = (purpose as u64) << 56 | u64::from(animal) << 40 | (class as u64) << 36 | index as u64;
    Stream::new(seed, number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_different_purpose_never_meet() {
        let first = |p, animal, class, index| stream(9, p, animal, class, index).bits();
        let all = [
            first(Purpose::Recording, 2, 0, 0),
            first(Purpose::Recording, 2, 0, 1),
            first(Purpose::Recording, 2, 1, 0),
            first(Purpose::Recording, 3, 0, 0),
            first(Purpose::Anatomy, 2, 0, 0),
            first(Purpose::Fibre, 2, 0, 0),
            first(Purpose::Contacts, 2, 0, 0),
            first(Purpose::Order, 2, 0, 0),
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(!all[..i].contains(a));
        }
    }
}
