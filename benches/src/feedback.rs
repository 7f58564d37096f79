//! What a receiver tells the sender, as browsers do: receiver reports once a second (RFC 3550,
//! section 6.4.2), and when each packet arrived every 100 ms
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01). A server that estimates bandwidth gives
//! the lowest layers to whoever says nothing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use moim_engine::receive::transport_cc::TransportCcRecorder;
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::shared::marshal::Marshal;

use crate::receive::Streams;

const REPORT_INTERVAL: Duration = Duration::from_secs(1);
const TRANSPORT_CC_INTERVAL: Duration = Duration::from_millis(100);
/// Largest RTCP packet, SRTCP's trailer not counted.
pub(crate) const MAX_RTCP: usize = 1_150;
/// As many as the header of a report can count.
const MAX_REPORT_BLOCKS: usize = 31;
/// We are one sender of RTCP on each connection.
const SENDER: u32 = 1;

/// The feedback of one subscriber connection. Its rounds are counted from its own beginning, so
/// that those of many clients come at any time and not with the frames that all of them get.
#[derive(Debug)]
pub(crate) struct Feedback {
    since: Instant,
    recorder: TransportCcRecorder,
    transport_cc_due: Option<Instant>,
    report_due: Option<Instant>,
    /// Of each SSRC: middle 32 bits of the NTP time of its last sender report, and when that came.
    sender_reports: HashMap<u32, (u32, Instant)>,
    last_media: u32,
}

impl Feedback {
    /// Feedback in rounds that began `since` then.
    pub(crate) fn new(since: Instant) -> Feedback {
        Feedback {
            since,
            recorder: TransportCcRecorder::default(),
            transport_cc_due: None,
            report_due: None,
            sender_reports: HashMap::new(),
            last_media: 0,
        }
    }

    /// The end of the round in which `now` is.
    fn round(&self, now: Instant, interval: Duration) -> Instant {
        let gone = now.saturating_duration_since(self.since).as_nanos() / interval.as_nanos();
        self.since + interval * (gone as u32 + 1)
    }

    /// A packet has arrived; `transport_cc` is its transport-wide sequence number.
    pub(crate) fn packet(&mut self, now: Instant, ssrc: u32, transport_cc: Option<u16>) {
        let due = self.round(now, REPORT_INTERVAL);
        self.report_due.get_or_insert(due);
        if let Some(number) = transport_cc {
            self.recorder.record(number, now);
            self.last_media = ssrc;
            let due = self.round(now, TRANSPORT_CC_INTERVAL);
            self.transport_cc_due.get_or_insert(due);
        }
    }

    /// A sender report has arrived.
    pub(crate) fn sender_report(&mut self, now: Instant, ssrc: u32, ntp: u64) {
        self.sender_reports.insert(ssrc, ((ntp >> 16) as u32, now));
    }

    /// When [`Feedback::write`] has something to say.
    pub(crate) fn due(&self) -> Option<Instant> {
        [self.transport_cc_due, self.report_due]
            .into_iter()
            .flatten()
            .min()
    }

    /// Hands out the RTCP packets that are due.
    pub(crate) fn write(
        &mut self,
        now: Instant,
        streams: &mut Streams,
        mut send: impl FnMut(&[u8]),
    ) {
        if self.transport_cc_due.is_some_and(|due| due <= now) {
            self.transport_cc_due = None;
            let mut packet = [0; MAX_RTCP];
            while let len @ 1.. = self
                .recorder
                .write_feedback(SENDER, self.last_media, &mut packet)
            {
                send(&packet[..len]);
            }
        }
        if self.report_due.is_some_and(|due| due <= now) {
            self.report_due = None;
            let mut blocks = streams.reports();
            for block in &mut blocks {
                if let Some((ntp, at)) = self.sender_reports.get(&block.ssrc) {
                    let held = now.saturating_duration_since(*at);
                    block.last_sender_report = *ntp;
                    block.delay = (held.as_micros() as u64 * 65_536 / 1_000_000) as u32;
                }
            }
            for reports in blocks.chunks(MAX_REPORT_BLOCKS) {
                let report = ReceiverReport {
                    ssrc: SENDER,
                    reports: reports.to_vec(),
                    ..Default::default()
                };
                if let Ok(packet) = report.marshal() {
                    send(&packet);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rtc::rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
    use rtc::shared::marshal::Unmarshal;

    use super::*;

    fn written(feedback: &mut Feedback, now: Instant, streams: &mut Streams) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        feedback.write(now, streams, |packet| packets.push(packet.to_vec()));
        packets
    }

    #[test]
    fn arrivals_are_told_after_100_ms_and_once() {
        let start = Instant::now();
        let (mut feedback, mut streams) = (Feedback::new(start), Streams::default());
        for number in [7, 8, 10] {
            feedback.packet(start, 5, Some(number));
        }
        let due = start + TRANSPORT_CC_INTERVAL;
        assert_eq!(feedback.due(), Some(due));
        assert!(written(&mut feedback, start, &mut streams).is_empty());
        let packets = written(&mut feedback, due, &mut streams);
        let read = TransportLayerCc::unmarshal(&mut &packets[0][..]).expect("feedback");
        assert_eq!(
            (
                read.base_sequence_number,
                read.packet_status_count,
                read.media_ssrc
            ),
            (7, 4, 5)
        );
        assert!(written(&mut feedback, due, &mut streams).is_empty());
    }

    #[test]
    fn rounds_go_on_from_the_beginning_whenever_packets_come() {
        let start = Instant::now();
        let mut feedback = Feedback::new(start);
        feedback.packet(start + TRANSPORT_CC_INTERVAL * 7 / 2, 5, Some(1));
        assert_eq!(feedback.due(), Some(start + TRANSPORT_CC_INTERVAL * 4));
    }

    #[test]
    fn a_report_counts_losses_and_answers_the_sender_report() {
        let start = Instant::now();
        let (mut feedback, mut streams) = (Feedback::new(start), Streams::default());
        for sequence in [0, 1, 2, 4] {
            streams.receive(9, sequence, 100, false);
            feedback.packet(start, 9, None);
        }
        feedback.sender_report(start + REPORT_INTERVAL / 2, 9, 0x1234_5678_9abc_def0);
        let packets = written(&mut feedback, start + REPORT_INTERVAL, &mut streams);
        let read = ReceiverReport::unmarshal(&mut &packets[0][..]).expect("a report");
        let block = &read.reports[0];
        assert_eq!((block.ssrc, block.total_lost), (9, 1));
        assert_eq!(block.fraction_lost, 51);
        assert_eq!(block.last_sender_report, 0x5678_9abc);
        assert_eq!(block.delay, 32_768);
        assert_eq!(feedback.due(), None);
    }
}
