//! The datagrams that leave next, laid out as the runs that one system call can send.
//!
//! A run is a stretch of datagrams of equal size to one destination, of which the last may be
//! shorter (what UDP segmentation offload takes). Packets are written straight into their place,
//! so nothing is copied again before the kernel.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::io::LocalSocket;

/// The kernel takes at most this many segments in one call.
const MAX_SEGMENTS: u16 = 64;
/// Largest payload of one segmented send: a UDP datagram's bound.
const MAX_RUN_BYTES: usize = 65_000;

/// Where datagrams go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) destination: SocketAddr,
    /// From which socket.
    pub(crate) local: LocalSocket,
}

/// One stretch of equal datagrams.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) path: Path,
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
    runs: VecDeque<Run>,
}

impl SendBatch {
    /// Bytes of memory held.
    pub(crate) fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    /// Lets `write` put one datagram of at most `room` bytes in place; it returns the length
    /// that it used, 0 for none.
    pub(crate) fn push(&mut self, path: Path, room: usize, write: impl FnOnce(&mut [u8]) -> usize) {
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
        if let Some(run) = self.runs.back_mut()
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
        self.runs.push_back(Run {
            path,
            start,
            end,
            segment_size: written,
            segments: 1,
            closed: false,
        });
    }

    /// Takes the next run. Its bytes stay valid until [`SendBatch::clear`] or a push.
    pub(crate) fn pop(&mut self) -> Option<Run> {
        self.runs.pop_front()
    }

    /// The datagrams of a run, and their size when there is more than one.
    pub(crate) fn contents(&self, run: Run) -> (&[u8], Option<usize>) {
        let size = (run.segments > 1).then_some(run.segment_size);
        (&self.bytes[run.start..run.end], size)
    }

    /// Forgets all datagrams; gives memory back when a burst has grown it far.
    pub(crate) fn clear(&mut self) {
        self.runs.clear();
        self.written = 0;
        if self.bytes.capacity() > 4 * MAX_RUN_BYTES {
            self.bytes.truncate(MAX_RUN_BYTES);
            self.bytes.shrink_to(MAX_RUN_BYTES);
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
        let mut out = Vec::new();
        while let Some(run) = batch.pop() {
            let (contents, size) = batch.contents(run);
            out.push((contents.len(), size));
        }
        out
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
        assert!(batch.pop().is_none());
    }
}
