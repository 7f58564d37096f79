//! Loss and jitter of one received stream (RFC 3550, sections 6.4 and A.8).

use std::time::{Duration, Instant};

use crate::wire::rtcp::ReportBlock;

/// Counters of one stream.
#[derive(Debug, Default)]
pub(crate) struct ReceiveStatistics {
    first: Option<u64>,
    highest: u64,
    packets: u64,
    /// Values at the last report.
    reported_expected: u64,
    reported_packets: u64,
    /// Jitter in 1/16 of an RTP tick.
    jitter: u32,
    /// Arrival and timestamp of the last packet.
    last: Option<(Instant, u32)>,
    last_sr: Option<(u32, Instant)>,
}

impl ReceiveStatistics {
    /// A packet arrived. `clock_rate` is in ticks a second.
    pub(crate) fn on_packet(
        &mut self,
        sequence: u64,
        timestamp: u32,
        now: Instant,
        clock_rate: u32,
    ) {
        self.first.get_or_insert(sequence);
        self.highest = self.highest.max(sequence);
        self.packets += 1;
        if let Some((at, last_timestamp)) = self.last {
            let elapsed = now.saturating_duration_since(at).as_micros() as i64;
            let arrival = elapsed * i64::from(clock_rate) / 1_000_000;
            let sent = i64::from(timestamp.wrapping_sub(last_timestamp) as i32);
            let difference = (arrival - sent).unsigned_abs().min(u64::from(clock_rate));
            // The running mean of A.8 in integers.
            self.jitter = self
                .jitter
                .wrapping_add(difference as u32)
                .wrapping_sub((self.jitter + 8) >> 4);
        }
        self.last = Some((now, timestamp));
    }

    /// Packets that have been sent, by their numbers, and that have arrived.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.expected(), self.packets)
    }

    /// How unevenly packets arrive, in RTP ticks.
    pub(crate) fn jitter(&self) -> u32 {
        self.jitter >> 4
    }

    fn expected(&self) -> u64 {
        self.first
            .map_or(0, |first| self.highest - first.min(self.highest) + 1)
    }

    /// A sender report arrived; it is answered in the next report.
    pub(crate) fn on_sender_report(&mut self, ntp: u64, now: Instant) {
        self.last_sr = Some(((ntp >> 16) as u32, now));
    }

    /// The report about everything since the last one.
    pub(crate) fn report(&mut self, ssrc: u32, now: Instant) -> ReportBlock {
        let expected = self.expected();
        let new_expected = expected.saturating_sub(self.reported_expected);
        let new_packets = self.packets - self.reported_packets;
        let new_lost = new_expected.saturating_sub(new_packets);
        self.reported_expected = expected;
        self.reported_packets = self.packets;
        let (last_sr, delay) = self.last_sr.map_or((0, Duration::ZERO), |(ntp, at)| {
            (ntp, now.saturating_duration_since(at))
        });
        ReportBlock {
            ssrc,
            fraction_lost: (new_lost * 256)
                .checked_div(new_expected)
                .unwrap_or(0)
                .min(255) as u8,
            cumulative_lost: (expected as i64 - self.packets as i64)
                .clamp(-0x0080_0000, 0x007f_ffff) as i32,
            highest_sequence: self.highest as u32,
            jitter: self.jitter(),
            last_sr,
            delay_since_sr: (delay.as_micros() as u64 * 65_536 / 1_000_000) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock;

    #[test]
    fn loss_is_reported_since_the_last_report_and_in_all() {
        let now = test_clock::start();
        let mut statistics = ReceiveStatistics::default();
        for sequence in (100..200).filter(|sequence| sequence % 4 != 1) {
            statistics.on_packet(sequence, 0, now, 90_000);
        }
        let report = statistics.report(9, now);
        assert_eq!(report.cumulative_lost, 25);
        assert_eq!(report.fraction_lost, 64);
        assert_eq!(report.highest_sequence, 199);
        for sequence in 200..300 {
            statistics.on_packet(sequence, 0, now, 90_000);
        }
        let report = statistics.report(9, now);
        assert_eq!((report.fraction_lost, report.cumulative_lost), (0, 25));
    }

    #[test]
    fn an_even_stream_has_no_jitter_and_an_uneven_one_has() {
        let mut now = test_clock::start();
        let mut even = ReceiveStatistics::default();
        let mut uneven = ReceiveStatistics::default();
        for count in 0..200u32 {
            now += Duration::from_millis(20);
            even.on_packet(u64::from(count), count * 960, now, 48_000);
            let late = Duration::from_millis(u64::from(count % 2) * 10);
            uneven.on_packet(u64::from(count), count * 960, now + late, 48_000);
        }
        assert_eq!(even.report(1, now).jitter, 0);
        let jitter = uneven.report(1, now).jitter;
        assert!((400..=500).contains(&jitter), "{jitter} ticks for 480");
    }

    #[test]
    fn a_sender_report_is_answered_with_its_age() {
        let now = test_clock::start();
        let mut statistics = ReceiveStatistics::default();
        statistics.on_sender_report(0x1234_5678_9abc_def0, now);
        let report = statistics.report(1, now + Duration::from_millis(500));
        assert_eq!(report.last_sr, 0x5678_9abc);
        assert_eq!(report.delay_since_sr, 32_768);
    }
}
