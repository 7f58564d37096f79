//! The datagrams that leave next, laid out as the runs that one system call can send.
//!
//! A run is a stretch of datagrams of equal size to one destination, of which the last may be
//! shorter (what UDP segmentation offload takes). Packets are written straight into their place,
//! so nothing is copied again before the kernel.

use std::net::SocketAddr;

use crate::api::io::{LocalSocket, Transmit};

/// The kernel takes at most this many segments in one call.
const MAX_SEGMENTS: u16 = 64;
/// Largest payload of one segmented send: a UDP datagram's bound.
const MAX_RUN_BYTES: usize = 65_000;
/// A batch is handed out when it has this many runs: the price of a system call is small by then.
const ENOUGH_RUNS: usize = 32;
/// A batch is handed out when it has this many bytes: the kernel is to find them in the processor's
/// second cache.
const ENOUGH_BYTES: usize = 4 * MAX_RUN_BYTES;

/// Where datagrams go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) destination: SocketAddr,
    /// From which socket.
    pub(crate) local: LocalSocket,
}

/// One stretch of equal datagrams.
#[derive(Debug, Clone, Copy)]
struct Run {
    path: Path,
    start: usize,
    end: usize,
    segment_size: usize,
    segments: u16,
    /// A shorter datagram has been added, after which no other may follow.
    closed: bool,
}

/// Runs of datagrams.
#[derive(Debug, Default)]
pub(crate) struct SendBatch {
    /// Longer than what is written: room that was there once is not made, and cleared, again.
    bytes: Vec<u8>,
    written: usize,
    runs: Vec<Run>,
    /// What is there has been handed out.
    handed_out: bool,
}

/// The runs of a batch, as they are sent.
#[derive(Debug, Clone)]
pub struct Transmits<'a> {
    bytes: &'a [u8],
    runs: std::slice::Iter<'a, Run>,
}

impl<'a> Iterator for Transmits<'a> {
    type Item = Transmit<'a>;

    fn next(&mut self) -> Option<Transmit<'a>> {
        let run = self.runs.next()?;
        Some(Transmit {
            destination: run.path.destination,
            local: run.path.local,
            segment_size: (run.segments > 1).then_some(run.segment_size),
            contents: &self.bytes[run.start..run.end],
        })
    }
}

impl SendBatch {
    /// Bytes of memory held.
    pub(crate) fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    /// Lets `write` put one datagram of at most `room` bytes in place; it returns the length
    /// that it used, 0 for none.
    pub(crate) fn push(&mut self, path: Path, room: usize, write: impl FnOnce(&mut [u8]) -> usize) {
        self.forget_handed_out();
        let start = self.written;
        if self.bytes.len() < start + room {
            self.bytes.resize(start + room, 0);
        }
        let written = write(&mut self.bytes[start..start + room]).min(room);
        if written == 0 {
            return;
        }
        let end = start + written;
        self.written = end;
        if let Some(run) = self.runs.last_mut()
            && !run.closed
            && run.path == path
            && written <= run.segment_size
            && run.segments < MAX_SEGMENTS
            && end - run.start <= MAX_RUN_BYTES
        {
            run.closed = written < run.segment_size;
            run.segments += 1;
            run.end = end;
            return;
        }
        self.runs.push(Run {
            path,
            start,
            end,
            segment_size: written,
            segments: 1,
            closed: false,
        });
    }

    /// It is time to send what is there.
    pub(crate) fn is_full(&self) -> bool {
        self.runs.len() >= ENOUGH_RUNS || self.written >= ENOUGH_BYTES
    }

    /// Hands out what is there, which is forgotten with the next push; `None` when nothing is.
    pub(crate) fn hand_out(&mut self) -> Option<Transmits<'_>> {
        self.handed_out = true;
        (!self.runs.is_empty()).then(|| Transmits {
            bytes: &self.bytes,
            runs: self.runs.iter(),
        })
    }

    /// Makes room after [`SendBatch::hand_out`]; gives memory back when a burst has grown it far.
    pub(crate) fn forget_handed_out(&mut self) {
        if !std::mem::take(&mut self.handed_out) {
            return;
        }
        self.runs.clear();
        self.written = 0;
        if self.bytes.capacity() > 2 * ENOUGH_BYTES {
            self.bytes.truncate(ENOUGH_BYTES);
            self.bytes.shrink_to(ENOUGH_BYTES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(port: u16) -> Path {
        Path {
            destination: SocketAddr::from(([127, 0, 0, 1], port)),
            local: LocalSocket(0),
        }
    }

    fn push(batch: &mut SendBatch, length: usize) {
        push_to(batch, 1, length);
    }

    fn push_to(batch: &mut SendBatch, port: u16, length: usize) {
        batch.push(path(port), 1500, |buffer| {
            buffer[..length].fill(length as u8);
            length
        });
    }

    fn runs(batch: &mut SendBatch) -> Vec<(usize, Option<usize>)> {
        let transmits = batch.hand_out().into_iter().flatten();
        transmits
            .map(|transmit| (transmit.contents.len(), transmit.segment_size))
            .collect()
    }

    #[test]
    fn equal_datagrams_form_one_run() {
        let mut batch = SendBatch::default();
        for _ in 0..5 {
            push(&mut batch, 100);
        }
        assert_eq!(runs(&mut batch), [(500, Some(100))]);
    }

    #[test]
    fn a_shorter_datagram_closes_its_run() {
        let mut batch = SendBatch::default();
        for length in [100, 100, 60, 60, 100] {
            push(&mut batch, length);
        }
        assert_eq!(
            runs(&mut batch),
            [(260, Some(100)), (60, None), (100, None)]
        );
    }

    #[test]
    fn a_run_has_one_destination() {
        let mut batch = SendBatch::default();
        for port in [1, 1, 2, 2] {
            push_to(&mut batch, port, 100);
        }
        assert_eq!(runs(&mut batch), [(200, Some(100)), (200, Some(100))]);
    }

    #[test]
    fn a_run_stays_within_the_kernels_bounds() {
        let mut batch = SendBatch::default();
        for _ in 0..130 {
            push(&mut batch, 1200);
        }
        for (length, _) in runs(&mut batch) {
            assert!(length <= MAX_RUN_BYTES);
            assert!(length / 1200 <= MAX_SEGMENTS as usize);
        }
    }

    #[test]
    fn a_datagram_that_is_not_written_leaves_no_trace() {
        let mut batch = SendBatch::default();
        batch.push(path(1), 1500, |_| 0);
        assert!(batch.hand_out().is_none());
    }

    #[test]
    fn what_is_pushed_after_a_batch_was_handed_out_begins_another() {
        let mut batch = SendBatch::default();
        for length in [100, 50] {
            push(&mut batch, length);
            push(&mut batch, length);
            assert_eq!(runs(&mut batch), [(2 * length, Some(length))]);
        }
    }

    #[test]
    fn a_batch_is_full_by_its_runs_or_by_its_bytes() {
        let mut batch = SendBatch::default();
        for port in 0..ENOUGH_RUNS as u16 {
            assert!(!batch.is_full());
            push_to(&mut batch, port, 20);
        }
        assert!(batch.is_full());
        assert_eq!(runs(&mut batch).len(), ENOUGH_RUNS);
        batch.forget_handed_out();
        for _ in 0..ENOUGH_BYTES / 1_200 {
            assert!(!batch.is_full());
            push(&mut batch, 1_200);
        }
        push(&mut batch, 1_200);
        assert!(batch.is_full());
    }
}
