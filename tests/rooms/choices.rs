//! Where the choices of a meeting come from.

use std::convert::Infallible;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng, TryRng};

/// A seeded generator, or the bytes of a fuzzer's input, one a choice.
#[derive(Debug)]
pub(crate) enum Choices {
    /// Without an end.
    Seeded(Box<StdRng>),
    /// The bytes that are left. When none are, every choice is the first.
    Input(std::vec::IntoIter<u8>),
}

impl Choices {
    pub(crate) fn seeded(seed: u64) -> Choices {
        Choices::Seeded(Box::new(StdRng::seed_from_u64(seed)))
    }

    pub(crate) fn input(bytes: &[u8]) -> Choices {
        Choices::Input(Vec::from(bytes).into_iter())
    }

    /// Whether nothing is left to choose by.
    pub(crate) fn is_exhausted(&self) -> bool {
        matches!(self, Choices::Input(left) if left.len() == 0)
    }
}

/// `rand` decides by the highest bits of a number, which are the byte's.
impl TryRng for Choices {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(match self {
            Choices::Seeded(rng) => rng.next_u32(),
            Choices::Input(left) => u32::from(left.next().unwrap_or(0)) << 24,
        })
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(match self {
            Choices::Seeded(rng) => rng.next_u64(),
            Choices::Input(left) => u64::from(left.next().unwrap_or(0)) << 56,
        })
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        match self {
            Choices::Seeded(rng) => rng.fill_bytes(bytes),
            Choices::Input(left) => bytes.fill_with(|| left.next().unwrap_or(0)),
        }
        Ok(())
    }
}
