//! Which datagrams are lost: independent losses, and bursts after Gilbert's two states.

use rand::RngExt;
use rand::rngs::SmallRng;

use crate::config::Loss;

/// The state of a lossy way.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    in_burst: bool,
}

impl Losses {
    /// Whether the next datagram is lost.
    ///
    /// It takes one number from `random` whatever the loss is, so that a change of the
    /// configuration does not shift what comes after.
    pub(crate) fn lost(&mut self, loss: Loss, random: &mut SmallRng) -> bool {
        let random: f64 = random.random();
        match loss {
            Loss::None => {
                self.in_burst = false;
                false
            }
            Loss::Random(share) => {
                self.in_burst = false;
                random < share
            }
            Loss::Burst { share, mean_length } => {
                let leave = 1.0 / mean_length.max(1.0);
                // In balance, share * leave = (1 - share) * enter.
                let enter = leave * share / (1.0 - share).max(f64::EPSILON);
                self.in_burst = if self.in_burst {
                    random >= leave
                } else {
                    random < enter
                };
                self.in_burst
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn fates(loss: Loss, count: usize) -> Vec<bool> {
        let mut random = SmallRng::seed_from_u64(5);
        let mut losses = Losses::default();
        (0..count).map(|_| losses.lost(loss, &mut random)).collect()
    }

    fn share(fates: &[bool]) -> f64 {
        fates.iter().filter(|lost| **lost).count() as f64 / fates.len() as f64
    }

    #[test]
    fn random_losses_have_their_share() {
        let share = share(&fates(Loss::Random(0.05), 100_000));
        assert!((0.047..0.053).contains(&share), "{share}");
        assert_eq!(self::share(&fates(Loss::None, 1_000)), 0.0);
    }

    #[test]
    fn bursts_have_their_share_and_length() {
        let loss = Loss::Burst {
            share: 0.2,
            mean_length: 4.0,
        };
        let fates = fates(loss, 200_000);
        let share = share(&fates);
        assert!((0.19..0.21).contains(&share), "{share}");
        let bursts = fates.windows(2).filter(|pair| !pair[0] && pair[1]).count();
        let length = share * fates.len() as f64 / bursts as f64;
        assert!((3.8..4.2).contains(&length), "{length}");
    }
}
