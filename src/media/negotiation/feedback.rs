//! The kinds of RTCP feedback that an m-line may ask for (RFC 4585, section 4.2).

/// Feedback on the arrival of each packet of a connection
/// (draft-holmer-rmcat-transport-wide-cc-extensions-01).
pub(super) const TRANSPORT_CC: &str = "transport-cc";
/// The receiver's own estimate (draft-alvestrand-rmcat-remb-03), from those without the former.
pub(super) const REMB: &str = "goog-remb";
/// The kinds of RTCP feedback that we know.
pub(super) const FEEDBACK: [&str; 5] = ["nack", "nack pli", "ccm fir", TRANSPORT_CC, REMB];
