//! In what shape a server's media came: to how many, how often, and what came together. The floor
//! is played in it.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// So many bursts, drawn at random, stand for all.
const SAMPLE: usize = 256;
/// A burst is counted when it has this many packets, whether or not a pause follows.
const LONGEST: usize = 512;
/// The kernel takes no more segments at once.
const MAX_SEGMENTS: usize = 64;
/// Nor more bytes.
pub(crate) const MAX_RUN: usize = 60_000;

/// What came to one receiver together: the sizes of the packets in the clear, bytes.
pub(crate) type Burst = Vec<u16>;

/// All that came, by what came together.
pub(crate) struct Bursts {
    count: u64,
    sample: Vec<Burst>,
    random: SmallRng,
}

impl Default for Bursts {
    fn default() -> Bursts {
        Bursts {
            count: 0,
            sample: Vec::new(),
            random: SmallRng::seed_from_u64(1),
        }
    }
}

impl Bursts {
    /// A packet of `len` bytes arrived at a receiver, after a pause or not; `burst` is what came to
    /// it since the last pause.
    pub(crate) fn packet(&mut self, burst: &mut Burst, len: usize, paused: bool) {
        if paused || burst.len() >= LONGEST {
            self.add(burst);
            burst.clear();
        }
        burst.push(len.min(usize::from(u16::MAX)) as u16);
    }

    fn add(&mut self, burst: &Burst) {
        if burst.is_empty() {
            return;
        }
        self.count += 1;
        if self.sample.len() < SAMPLE {
            self.sample.push(burst.clone());
            return;
        }
        // Each burst is as likely to be in the sample as any other.
        let place = self.random.random_range(0..self.count);
        if let Some(kept) = self.sample.get_mut(place as usize) {
            kept.clone_from(burst);
        }
    }
}

/// How a server's packets came.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Shape {
    /// Subscribers that received media.
    pub(crate) destinations: usize,
    /// Time between two bursts to one of them.
    pub(crate) interval: Duration,
    /// Packets of a burst, on average.
    pub(crate) packets: f64,
    /// Segmented sends that a burst takes, on average.
    pub(crate) runs: f64,
    /// Bytes of a packet in the clear, on average.
    pub(crate) bytes: f64,
    /// Bursts, each as the runs in which the kernel takes it: sizes of packets in the clear.
    #[serde(skip)]
    pub(crate) bursts: Vec<Vec<Vec<usize>>>,
}

impl Shape {
    /// The shape of what `receivers` connections got in this time; `None` when nothing arrived.
    pub(crate) fn of(bursts: &Bursts, receivers: usize, time: Duration) -> Option<Shape> {
        let Bursts { count, sample, .. } = bursts;
        if *count == 0 {
            return None;
        }
        let bursts: Vec<_> = sample.iter().map(runs).collect();
        let packets: usize = sample.iter().map(Vec::len).sum();
        let bytes: usize = sample.iter().flatten().map(|len| usize::from(*len)).sum();
        let sends: usize = bursts.iter().map(Vec::len).sum();
        Some(Shape {
            destinations: receivers.max(1),
            interval: time.mul_f64(receivers as f64 / *count as f64),
            packets: packets as f64 / sample.len() as f64,
            runs: sends as f64 / sample.len() as f64,
            bytes: bytes as f64 / packets as f64,
            bursts,
        })
    }
}

/// The few runs that a burst can be sent in: packets of equal size, and one that is smaller at the
/// end (UDP_SEGMENT takes no others). Those of which there are few end the runs of others.
fn runs(burst: &Burst) -> Vec<Vec<usize>> {
    let mut sizes: Vec<usize> = burst.iter().map(|len| usize::from(*len)).collect();
    sizes.sort_unstable_by(|one, other| other.cmp(one));
    let mut runs: Vec<Vec<usize>> = Vec::new();
    let mut ended = 0;
    for equal in sizes.chunk_by(|one, next| one == next) {
        if equal.len() <= runs.len() - ended {
            for size in equal {
                runs[ended].push(*size);
                ended += 1;
            }
        } else {
            // With room for the one at the end.
            let most = (MAX_SEGMENTS - 1).min(MAX_RUN / equal[0].max(1));
            runs.extend(equal.chunks(most.max(1)).map(<[usize]>::to_vec));
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_is_what_came_together_and_how_often() {
        let mut bursts = Bursts::default();
        let second = Duration::from_secs(1);
        assert!(Shape::of(&bursts, 50, second).is_none());
        let mut burst = Burst::new();
        for _ in 0..50 * 30 {
            for (place, len) in [900, 1_180, 1_180, 1_180].into_iter().enumerate() {
                bursts.packet(&mut burst, len, place == 0);
            }
        }
        bursts.packet(&mut burst, 1, true);
        let shape = Shape::of(&bursts, 50, second).expect("a shape");
        assert_eq!(
            (shape.destinations, shape.packets, shape.runs),
            (50, 4.0, 1.0)
        );
        assert_eq!(shape.bytes, 1_110.0);
        assert_eq!(shape.interval.as_millis(), 33);
        assert_eq!(shape.bursts[7], [[1_180, 1_180, 1_180, 900]]);
    }

    #[test]
    fn what_never_pauses_is_counted_too_and_the_sample_stays_small() {
        let mut bursts = Bursts::default();
        let mut burst = Burst::new();
        for _ in 0..=LONGEST * SAMPLE * 2 {
            bursts.packet(&mut burst, 100, false);
        }
        assert_eq!(bursts.count, 2 * SAMPLE as u64);
        assert_eq!((bursts.sample.len(), burst.len()), (SAMPLE, 1));
    }

    #[test]
    fn a_burst_takes_few_runs() {
        assert_eq!(
            runs(&vec![100, 900, 100, 900, 500]),
            [vec![900, 900, 500], vec![100, 100]]
        );
        assert_eq!(runs(&vec![3, 1, 2, 4]), [[4, 3], [2, 1]]);
        let long = runs(&vec![1_200; 100]);
        assert_eq!(long.iter().map(Vec::len).collect::<Vec<_>>(), [50, 50]);
        assert_eq!(runs(&vec![100; 65]).len(), 2);
    }
}
