//! Keyframe requests to publishers.

use std::time::Instant;

use crate::send::rtcp::send_rtcp;
use crate::state::Media;
use crate::state::table::TrackIx;
use crate::state::track::Feed;
use crate::wire::rtcp;

/// Asks the publisher for a keyframe of a layer, unless it was asked a moment ago. It is
/// asked again until one arrives.
pub(crate) fn want_keyframe(media: &mut Media, now: Instant, track_index: TrackIx, layer: u8) {
    let track = &mut media.tracks[track_index];
    if !track.needs_keyframe() {
        return;
    }
    let publisher = match track.feed {
        Feed::Peer(peer) => peer,
        Feed::Shard(home) => return media.relay.want_keyframe(now, home, track.id, layer),
    };
    let Some(layer) = track.layers.get_mut(usize::from(layer)) else {
        return;
    };
    let due = layer.want_keyframe(now);
    let again = layer.next_keyframe_request();
    if let (true, Some(ssrc)) = (due, layer.ssrc) {
        media.statistics.keyframe_requests_out += 1;
        send_rtcp(media, publisher, |sender, out| {
            rtcp::write_pli(out, sender, ssrc)
        });
    }
    if let Some(again) = again {
        let state = &mut media.peers[publisher];
        state.feedback_due = Some(state.feedback_due.map_or(again, |due| due.min(again)));
        media.arm_media_timers(publisher);
    }
}
