//! A probe: packets sent at a rate above the estimate, to see whether they arrive at it.

/// Names a probe, so that its packets are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ProbeId(pub(super) u32);

/// A run of packets to send.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Probe {
    /// For [`super::BandwidthEstimator::on_sent`].
    pub(crate) id: ProbeId,
    /// At which rate, media sent meanwhile included, in bits per second.
    pub(crate) bps: u64,
    /// The least number of packets and of bytes; small packets are better than many bytes.
    pub(crate) packets_min: u32,
    /// See `packets_min`.
    pub(crate) bytes_min: u32,
}
