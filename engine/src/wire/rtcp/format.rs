//! Numbers and fields that reading and writing RTCP share (RFC 3550, RFC 4585, RFC 5104).

pub(super) const SENDER_REPORT: u8 = 200;
pub(super) const RECEIVER_REPORT: u8 = 201;
pub(super) const TRANSPORT_FEEDBACK: u8 = 205;
pub(super) const PAYLOAD_FEEDBACK: u8 = 206;
/// Generic NACK (RFC 4585, section 6.2.1).
pub(super) const NACK: u8 = 1;
/// Picture loss indication (RFC 4585, section 6.3.1).
pub(super) const PLI: u8 = 1;
/// Full intra request (RFC 5104, section 4.3.1).
pub(super) const FIR: u8 = 4;
/// Transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01).
pub(super) const TRANSPORT_WIDE: u8 = 15;
/// Application layer feedback (RFC 4585, section 6.4), of which we know REMB.
pub(super) const APPLICATION: u8 = 15;
pub(super) const REPORT_BLOCK_LEN: usize = 24;

/// One report block (RFC 3550, section 6.4.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ReportBlock {
    pub(crate) ssrc: u32,
    /// Share of packets lost since the last report, in 1/256.
    pub(crate) fraction_lost: u8,
    /// Packets lost since the start, 24 bits signed.
    pub(crate) cumulative_lost: i32,
    pub(crate) highest_sequence: u32,
    /// In RTP ticks.
    pub(crate) jitter: u32,
    /// Middle 32 bits of the NTP time of the last sender report.
    pub(crate) last_sr: u32,
    /// Since then, in 1/65536 s.
    pub(crate) delay_since_sr: u32,
}
