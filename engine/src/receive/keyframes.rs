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
    let number = layer;
    let Some(layer) = track.layers.get_mut(usize::from(layer)) else {
        return;
    };
    let publisher = match track.feed {
        Feed::Peer(peer) => peer,
        Feed::Shard(_) if layer.begins_keyframe => return,
        Feed::Shard(home) => return media.relay.want_keyframe(now, home, track.id, number),
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::api::codec::{Codec, MediaKind};
    use crate::api::command::TrackSource;
    use crate::api::ids::TransportId;
    use crate::test_room::{TestPacket, TestRoom, vp8};

    const RIDS: [&str; 3] = ["q", "h", "f"];

    /// A publisher of one screen, in simulcast or not, whose encoder sends keyframes only when asked.
    struct Screen {
        room: TestRoom,
        publisher: TransportId,
        rids: &'static [&'static str],
        pictures: u16,
        answered: usize,
        keyframes: usize,
    }

    impl Screen {
        fn new(rids: &'static [&'static str]) -> Screen {
            let mut room = TestRoom::new();
            let publisher = room.connect(1);
            let source = TrackSource {
                mid: "0".into(),
                rids: rids.iter().map(|rid| (*rid).to_owned()).collect(),
                ssrcs: Vec::new(),
            };
            room.publish_from(publisher, 1, MediaKind::Video, source);
            Screen {
                room,
                publisher,
                rids,
                pictures: 0,
                answered: 0,
                keyframes: 0,
            }
        }

        fn subscribe(&mut self, number: u32) -> TransportId {
            let subscriber = self.room.connect(number);
            self.room.subscribe(subscriber, 1, 900 + number);
            subscriber
        }

        fn requests(&self) -> usize {
            self.room.keyframe_requests(self.publisher).len()
        }

        /// A picture of each encoding.
        fn picture(&mut self) {
            let asked = self.requests();
            let keyframe = self.pictures == 0 || asked > self.answered;
            self.answered = asked;
            self.keyframes += usize::from(keyframe);
            self.pictures += 1;
            let rids = if self.rids.is_empty() {
                &[""]
            } else {
                self.rids
            };
            for (ssrc, rid) in (1..).zip(rids) {
                let packet = TestPacket {
                    ssrc,
                    rid,
                    sequence: self.pictures,
                    timestamp: 9_000 * u32::from(self.pictures),
                    codec: Codec::Vp8,
                    payload: &vp8(self.pictures, keyframe),
                    ..TestPacket::default()
                };
                self.room.send(self.publisher, &packet);
            }
        }

        fn play(&mut self, pictures: u32, interval: Duration) {
            for _ in 0..pictures {
                self.picture();
                self.room.run(interval);
            }
        }
    }

    #[test]
    fn a_newcomer_to_a_picture_that_stands_still_gets_a_keyframe() {
        for rids in [&[][..], &RIDS] {
            let mut screen = Screen::new(rids);
            screen.subscribe(2);
            screen.play(20, Duration::from_millis(100));
            screen.room.run(Duration::from_secs(12));
            let asked = screen.requests();
            let newcomer = screen.subscribe(3);
            screen.room.run(Duration::from_secs(1));
            assert!(screen.requests() > asked, "the publisher is asked");
            screen.picture();
            screen.room.run(Duration::from_millis(100));
            assert!(!screen.room.got(newcomer, 903).is_empty());
            let asked = screen.requests();
            screen.room.run(Duration::from_secs(20));
            assert_eq!(screen.requests(), asked, "nothing more is needed");
        }
    }

    #[test]
    fn a_publisher_that_has_stopped_is_asked_ever_less_often() {
        let mut screen = Screen::new(&[]);
        screen.play(20, Duration::from_millis(100));
        screen.room.run(Duration::from_secs(12));
        screen.subscribe(3);
        screen.room.run(Duration::from_secs(600));
        let asked = screen.room.keyframe_requests(screen.publisher);
        assert!((20..60).contains(&asked.len()), "{} requests", asked.len());
        let first = asked[1] - asked[0];
        assert!(first <= Duration::from_secs(1), "{first:?}");
    }

    #[test]
    fn slow_pictures_are_forwarded_and_need_no_keyframes() {
        for rids in [&[][..], &RIDS] {
            let mut screen = Screen::new(rids);
            let viewer = screen.subscribe(2);
            screen.play(10, Duration::from_millis(200));
            let keyframes = screen.keyframes;
            let before = screen.room.got(viewer, 902).len();
            screen.play(10, Duration::from_millis(2_500));
            assert_eq!(screen.room.got(viewer, 902).len() - before, 10);
            assert_eq!(screen.keyframes, keyframes);
        }
    }
}
