//! Sending RTCP to a peer.

use crate::state::Media;
use crate::state::table::PeerIx;
use crate::wire::srtp::MAX_RTCP_OVERHEAD;

/// Largest RTCP datagram that we send in bytes, SRTCP's trailer not counted: it fits a path of 1,200
/// bytes with that.
pub(crate) const MAX_RTCP: usize = 1_150;

/// Encrypts what `write` puts into the buffer of what leaves next. `write` gets our
/// SSRC for feedback.
pub(crate) fn send_rtcp(
    media: &mut Media,
    peer: PeerIx,
    write: impl FnOnce(u32, &mut [u8]) -> usize,
) {
    let state = &mut media.peers[peer];
    let sender = state.feedback_ssrc;
    let (Some(path), Some(srtp)) = (state.path, &mut state.srtp) else {
        return;
    };
    let room = MAX_RTCP + MAX_RTCP_OVERHEAD;
    media.outgoing.push(path, room, |out| {
        let len = write(sender, &mut out[..MAX_RTCP]);
        if len == 0 {
            return 0;
        }
        srtp.sender.protect_rtcp(out, len)
    });
}
