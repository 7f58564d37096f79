//! Reads bits, the most significant first.

/// What is left of some bytes, bit by bit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    /// Bits read so far.
    position: usize,
}

impl<'a> BitReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> BitReader<'a> {
        BitReader { bytes, position: 0 }
    }

    /// The next `count` bits, at most 32; `None` past the end.
    pub(crate) fn bits(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.position / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.position % 8) & 1);
            self.position += 1;
        }
        Some(value)
    }

    pub(crate) fn flag(&mut self) -> Option<bool> {
        self.bits(1).map(|bit| bit == 1)
    }

    /// One of `values` equally likely numbers, in as few bits as that takes: `ns(n)` of the AV1
    /// specification, section 4.10.7.
    pub(crate) fn non_symmetric(&mut self, values: u32) -> Option<u32> {
        let width = u32::BITS - values.leading_zeros();
        let short = (1 << width) - values;
        let value = self.bits(width - 1)?;
        if value < short {
            return Some(value);
        }
        Some((value << 1 | self.bits(1)?) - short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_in_order_and_end() {
        let mut reader = BitReader::new(&[0b1010_0000, 0xff]);
        assert_eq!(reader.bits(3), Some(0b101));
        assert_eq!(reader.flag(), Some(false));
        assert_eq!(reader.bits(12), Some(0x0ff));
        assert_eq!(reader.bits(0), Some(0));
        assert_eq!(reader.flag(), None);
    }

    #[test]
    fn a_number_of_five_takes_two_or_three_bits() {
        // 0, 1, 2 are 00, 01, 10; 3 and 4 are 110 and 111.
        let mut reader = BitReader::new(&[0b0001_1011, 0b0111_0000]);
        let read: Vec<_> = (0..5).map(|_| reader.non_symmetric(5)).collect();
        assert_eq!(read, [0, 1, 2, 3, 4].map(Some));
        assert_eq!(BitReader::new(&[]).non_symmetric(1), Some(0));
    }
}
