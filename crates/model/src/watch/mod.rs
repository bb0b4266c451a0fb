//! Whether a training goes wrong, told while it happens; plain arithmetic, no tensors.

use std::collections::VecDeque;
use std::fmt;

use escape_network::metrics::predicted;

pub mod layers;

use layers::{LayerTrouble, Told};

/// Recordings that the last batches must hold before anything is made of them; of their loss, as many as an epoch has
/// where those are fewer.
const WINDOW: usize = 128;
/// Factor between the loss of these batches and the loss before that is called an explosion.
const EXPLOSION: f64 = 3.0;
/// Factor between the losses of the first and the last of three times [`WINDOW`] recordings that is called a rise; so few recordings
/// differ by a fifth in healthy trainings.
const RISE: f64 = 1.5;

/// What goes wrong in a training.
#[derive(Clone, Debug, PartialEq)]
pub enum Trouble {
    /// The loss is a multiple of what it was.
    Loss {
        /// Epoch, from 1.
        epoch: usize,
        /// Step within it, from 1.
        step: usize,
        /// Mean loss of the last batches.
        recent: f64,
        /// Loss before: of the best epoch so far, and at least that of a guess.
        before: f64,
    },
    /// The loss is higher than a guess's and the best epoch's, and rises.
    Rising {
        /// Epoch, from 1.
        epoch: usize,
        /// Step within it, from 1.
        step: usize,
        /// Mean losses of three times 128 recordings, the last ones last.
        losses: [f64; 3],
    },
    /// A network that knew something is no better than naming one class throughout.
    Guessing {
        /// Epoch, from 1.
        epoch: usize,
        /// Step within it, from 1.
        step: usize,
        /// Accuracy over the last batches.
        accuracy: f64,
        /// Share of their most frequent class.
        share: f64,
        /// Balanced accuracy of the best epoch so far.
        before: f64,
    },
    /// One class is predicted for everything.
    OneClass {
        /// Epoch, from 1.
        epoch: usize,
        /// What the class is called.
        class: String,
        /// Recordings that the epoch was judged by.
        samples: usize,
    },
    /// A layer of a spiking network does not learn as it should.
    Layer {
        /// Epoch, from 1.
        epoch: usize,
        /// Step within it, from 1.
        step: usize,
        /// The layer.
        layer: String,
        /// What is wrong with it.
        trouble: LayerTrouble,
    },
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loss { epoch, step, recent, before } => write!(
                f,
                "epoch {epoch}, step {step}: the loss explodes, {recent:.3} after {before:.3}; a smaller --lr may help"
            ),
            Self::Rising { epoch, step, losses: [first, second, third] } => write!(
                f,
                "epoch {epoch}, step {step}: the loss rises, from {first:.3} over {second:.3} to {third:.3}, and is above a \
                 guess's and the best epoch's; a smaller --lr may help"
            ),
            Self::Guessing { epoch, step, accuracy, share, before } => write!(
                f,
                "epoch {epoch}, step {step}: training accuracy fell to {accuracy:.3}, no better than naming the most \
                 frequent class ({share:.3}); balanced accuracy was {before:.3} before; a smaller --lr may help"
            ),
            Self::OneClass { epoch, class, samples } => write!(
                f,
                "epoch {epoch}: every one of the {samples} recordings it is judged by is taken for {class}"
            ),
            Self::Layer { epoch, step, layer, trouble } => {
                write!(f, "epoch {epoch}, step {step}: {}", Told(layer, *trouble))
            }
        }
    }
}

/// One batch in the window.
#[derive(Debug)]
struct Batch {
    samples: usize,
    loss: f64,
    correct: usize,
    /// Recordings of each class.
    actual: Vec<usize>,
}

/// Follows a training batch by batch. Each kind of trouble is told once an epoch.
#[derive(Debug, Default)]
pub struct Watch {
    window: VecDeque<Batch>,
    /// Loss and balanced accuracy of the best epoch so far.
    before: Option<(f64, f64)>,
    epoch: usize,
    /// Recordings of an epoch; 0 if unknown.
    recordings: usize,
    /// Recordings and summed loss since the last of `losses`.
    block: (usize, f64),
    /// Mean losses of the last blocks of [`WINDOW`] recordings, at most three.
    losses: VecDeque<f64>,
    loss_told: bool,
    guessing_told: bool,
}

impl Watch {
    /// Takes loss and balanced accuracy of the best epoch so far for what is to be kept up.
    pub fn expect(&mut self, loss: f64, balanced_accuracy: f64) {
        self.before = Some((loss, balanced_accuracy));
    }

    /// So many recordings make an epoch.
    pub fn epoch_of(&mut self, recordings: usize) {
        self.recordings = recordings;
    }

    /// One batch: mean loss, and logits, B x classes row-major, of recordings of these classes.
    pub fn batch(
        &mut self,
        (epoch, step): (usize, usize),
        loss: f64,
        logits: &[f32],
        labels: &[i64],
    ) -> Vec<Trouble> {
        if epoch != self.epoch {
            (self.epoch, self.loss_told, self.guessing_told) = (epoch, false, false);
        }
        let classes = (logits.len() / labels.len().max(1)).max(1);
        let mut batch = Batch {
            samples: labels.len(),
            loss: loss * labels.len() as f64,
            correct: 0,
            actual: vec![0; classes],
        };
        for (row, &label) in logits.chunks_exact(classes).zip(labels) {
            batch.correct += usize::from(predicted(row) == label as usize);
            batch.actual[label as usize] += 1;
        }
        self.window.push_back(batch);
        let total = |window: &VecDeque<Batch>| window.iter().map(|b| b.samples).sum::<usize>();
        while self.window.front().is_some_and(|first| total(&self.window) - first.samples >= WINDOW) {
            self.window.pop_front();
        }
        let mut found = Vec::new();
        let before = self.before.map_or(0.0, |b| b.0).max((classes as f64).ln());
        if let Some(recent) = self.recent_loss().filter(|recent| *recent > EXPLOSION * before)
            && !self.loss_told
        {
            self.loss_told = true;
            found.push(Trouble::Loss { epoch, step, recent, before });
        }
        if let Some(losses) = self.rising(labels.len(), loss).filter(|losses| losses[2] > before)
            && !self.loss_told
        {
            self.loss_told = true;
            found.push(Trouble::Rising { epoch, step, losses });
        }
        let samples = total(&self.window);
        if samples < WINDOW {
            return found;
        }
        let n = samples as f64;
        let accuracy = self.window.iter().map(|b| b.correct).sum::<usize>() as f64 / n;
        let largest =
            (0..classes).map(|class| self.window.iter().map(|b| b.actual[class]).sum::<usize>()).max();
        let share = largest.unwrap_or(0) as f64 / n;
        let guess = 1.0 / classes as f64;
        if let Some((_, before)) = self.before {
            // Standard error of an accuracy that is guessed over the window.
            let error = (share * (1.0 - share) / n).sqrt();
            if !self.guessing_told && share < 1.0 && accuracy <= share + error && before > guess + 4.0 * error
            {
                self.guessing_told = true;
                found.push(Trouble::Guessing { epoch, step, accuracy, share, before });
            }
        }
        found
    }

    /// The mean losses of three blocks of recordings, where these are complete with this batch and the loss rose all the while.
    fn rising(&mut self, samples: usize, loss: f64) -> Option<[f64; 3]> {
        self.block.0 += samples;
        self.block.1 += loss * samples as f64;
        if self.block.0 < WINDOW {
            return None;
        }
        self.losses.push_back(self.block.1 / self.block.0 as f64);
        self.block = (0, 0.0);
        while self.losses.len() > 3 {
            self.losses.pop_front();
        }
        let losses: Vec<f64> = self.losses.iter().copied().collect();
        let three: [f64; 3] = losses.try_into().ok()?;
        (three[0] < three[1] && three[1] < three[2] && three[2] > RISE * three[0]).then_some(three)
    }

    /// Mean loss of the last batches, once they hold enough recordings.
    fn recent_loss(&self) -> Option<f64> {
        let least = if self.recordings == 0 { WINDOW } else { WINDOW.min(self.recordings) };
        let (mut samples, mut loss) = (0, 0.0);
        for batch in self.window.iter().rev() {
            (samples, loss) = (samples + batch.samples, loss + batch.loss);
            if samples >= least {
                return Some(loss / samples as f64);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 32 recordings of the three classes in turn, `right` of them recognised.
    fn batch(right: usize) -> (Vec<f32>, Vec<i64>) {
        let labels: Vec<i64> = (0..32).map(|i| i % 3).collect();
        let named = |i: usize| if i < right { labels[i] as usize } else { (labels[i] as usize + 1) % 3 };
        let logits = (0..32).flat_map(|i| [0, 1, 2].map(|k| if k == named(i) { 1.0 } else { 0.0 })).collect();
        (logits, labels)
    }

    #[test]
    fn a_healthy_training_says_nothing() {
        let mut watch = Watch::default();
        watch.expect(0.7, 0.75);
        let (logits, labels) = batch(24);
        for step in 0..50 {
            assert_eq!(watch.batch((1, step), 0.7 + 0.02 * step as f64, &logits, &labels), []);
        }
        // From scratch, guessing is where one starts.
        let mut watch = Watch::default();
        let (logits, labels) = batch(10);
        assert!((0..50).all(|step| watch.batch((1, step), 1.1, &logits, &labels).is_empty()));
    }

    #[test]
    fn an_explosion_and_a_fall_are_told_once_an_epoch() {
        let mut watch = Watch::default();
        watch.expect(0.7, 0.75);
        let (logits, labels) = batch(10);
        let mut told = Vec::new();
        for epoch in 1..=2 {
            for step in 1..=20 {
                told.extend(watch.batch((epoch, step), 9.0, &logits, &labels));
            }
        }
        assert_eq!(told.len(), 4, "{told:?}");
        // The window of 128 is full at the fourth batch.
        assert!(matches!(told[0], Trouble::Loss { epoch: 1, step: 4, .. }));
        assert!(matches!(told[1], Trouble::Guessing { epoch: 1, step: 4, .. }));
        assert!(matches!(told[2], Trouble::Loss { epoch: 2, step: 1, .. }));
        assert!(told[1].to_string().contains("0.312"), "{}", told[1]);
    }

    /// 20 recordings an epoch never fill the window by themselves.
    #[test]
    fn an_explosion_of_a_small_training_is_told() {
        let logits: Vec<f32> = (0..10).flat_map(|_| [0.0, 0.0, 1.0]).collect();
        let labels = vec![0i64; 10];
        let told = |recordings: usize| {
            let mut watch = Watch::default();
            watch.epoch_of(recordings);
            watch.expect(0.7, 0.75);
            let mut told = watch.batch((1, 1), 0.7, &logits, &labels);
            told.extend(watch.batch((1, 2), 0.7, &logits, &labels));
            assert_eq!(told, [], "a healthy epoch");
            told.extend(watch.batch((2, 1), 9.0, &logits, &labels));
            told.extend(watch.batch((2, 2), 9.0, &logits, &labels));
            told
        };
        let found = told(20);
        assert!(matches!(found[..], [Trouble::Loss { epoch: 2, step: 1, .. }]), "{found:?}");
        assert_eq!(told(1000), []);
    }

    #[test]
    fn a_loss_that_rises_above_a_guess_is_told_once_an_epoch() {
        let told = |per_step: f64, start: f64| {
            let mut watch = Watch::default();
            watch.expect(0.7, 0.4);
            let (logits, labels) = batch(20);
            (1..=24)
                .flat_map(|step| watch.batch((1, step), start + per_step * step as f64, &logits, &labels))
                .collect::<Vec<_>>()
        };
        // Four batches of 32 make a block: 1.14, 1.46 and 1.78 at 0.08 a step.
        let found = told(0.08, 0.94);
        assert!(matches!(found[..], [Trouble::Rising { epoch: 1, step: 12, .. }]), "{found:?}");
        assert!(found[0].to_string().contains("from 1.140 over 1.460 to 1.780"), "{}", found[0]);
        // It falls, rises hardly (the blocks of a healthy training differ as much), or stays below that of a guess.
        for (per_step, start) in [(-0.04, 2.0), (0.005, 1.5), (0.037, 1.34), (0.01, 0.5)] {
            assert_eq!(told(per_step, start), [], "{per_step} {start}");
        }
    }

    #[test]
    fn a_layers_trouble_is_told_with_its_place() {
        let trouble = LayerTrouble::Threshold { before: 1.0, now: 0.05 };
        let told = Trouble::Layer { epoch: 2, step: 7, layer: "conv1".into(), trouble };
        assert!(told.to_string().starts_with("epoch 2, step 7: the threshold of conv1 collapses"), "{told}");
    }
}
