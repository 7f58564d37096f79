//! What shows a subscriber a track that is silent from the start.
//!
//! Some clients, those on Pion above all, make a track of what they are offered only when its
//! first packet arrives, so that one that is muted does not exist for them. To such a subscriber
//! a few seconds of nothing are sent: of video packets that are padding alone, of audio frames
//! that decode to silence. They take sequence numbers of the subscription, whose media goes on
//! after them without a gap, and end when it comes.

use std::time::Instant;

use crate::api::codec::{Codec, MediaKind};
use crate::send::send_queue::{Form, QueuedPacket};
use crate::state::Media;
use crate::state::peer::Peer;
use crate::state::silence::{WAIT, interval};
use crate::state::subscription::Subscription;
use crate::state::table::{PeerIx, SubscriptionIx};
use crate::state::timers::TimerOwner;
use crate::wire::rtp::extensions::BARE_HEADER;

/// Payload of a video packet, which is padding: its last byte tells how much it is (RFC 3550,
/// section 5.1).
const PADDING: usize = 20;

/// A frame of 20 ms in which nothing is heard: Opus in CELT mode, full band, stereo (RFC 6716,
/// section 3.1), with the silence flag set (section 4.3).
const OPUS: &[u8] = &[0xf8, 0xff, 0xfe];
/// 20 ms at 8 kHz of a zero as G.711 writes it, µ-law and A-law.
const PCMU: &[u8] = &[0xff; 160];
const PCMA: &[u8] = &[0xd5; 160];

/// The payload of a frame in which nothing is heard; empty for video.
pub(crate) fn silent_frame(codec: Codec) -> &'static [u8] {
    match codec {
        Codec::Opus => OPUS,
        Codec::Pcmu => PCMU,
        Codec::Pcma => PCMA,
        Codec::Vp8 | Codec::Vp9 | Codec::Av1 | Codec::H264(_) => &[],
    }
}

/// Sends a peer what is due of the silence of its tracks.
pub(crate) fn send_silence(media: &mut Media, now: Instant, peer: PeerIx) {
    let Media {
        peers,
        subscriptions,
        statistics,
        timers,
        ready,
        ..
    } = media;
    let state = &mut peers[peer];
    if state.silence_due.is_none_or(|due| due > now) {
        return;
    }
    let mut next = None;
    for place in 0..state.subscriptions.len() {
        let index = state.subscriptions[place];
        let subscription = &mut subscriptions[index];
        if let Some(packet) = next_packet(state, index, subscription, now)
            && state.enqueue(now, packet, &mut subscription.last_queued, false)
        {
            statistics.packets_out += 1;
            statistics.bytes_out += u64::from(packet.len);
            // They are in the count of what was sent, and no reason for a report.
            subscription.packets = subscription.packets.wrapping_add(1);
            subscription.packets_reported = subscription.packets_reported.wrapping_add(1);
        }
        let due = subscription.silence.as_ref().map(|silence| silence.due);
        next = [next, due].into_iter().flatten().min();
    }
    state.silence_due = next;
    if let Some(due) = next {
        timers.arm(TimerOwner::Peer(peer), &mut state.armed, due);
    }
    ready.push_peer(now, peer, state);
}

/// The next packet of a subscription's silence, if one is due.
fn next_packet(
    state: &Peer,
    index: SubscriptionIx,
    subscription: &mut Subscription,
    now: Instant,
) -> Option<QueuedPacket> {
    let silence = subscription.silence.as_mut()?;
    let is_over = subscription.forwarder.has_begun() || silence.left == 0;
    if is_over || !subscription.settings.enabled {
        subscription.silence = None;
        return None;
    }
    if silence.due > now {
        return None;
    }
    let codec = silence.codec;
    if state.srtp.is_none() || state.path.is_none() {
        silence.due = now + WAIT;
        return None;
    }
    silence.left -= 1;
    // Frames that were missed because the timer fired late are not sent later.
    silence.due = (silence.due + interval(codec)).max(now);
    let payload_type = subscription.payload_types.media(codec)?;
    let (sequence, timestamp) = subscription.forwarder.fill(now)?;
    let (form, payload) = match codec.kind() {
        MediaKind::Video => (Form::Padding, PADDING),
        MediaKind::Audio => (Form::Silence(codec), silent_frame(codec).len()),
    };
    Some(QueuedPacket {
        subscription: index,
        track: subscription.track,
        layer: 0,
        source: 0,
        sequence,
        timestamp,
        ssrc: subscription.ssrc,
        payload_type,
        counters: None,
        ends_picture: codec.kind() == MediaKind::Video,
        form,
        reported: subscription.transport_cc,
        red_stripped: false,
        len: (BARE_HEADER + payload) as u16,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::state::silence::MAX_DURATION;
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::api::codec::PayloadTypes;
    use crate::api::command::{Command, NewSubscription, SubscriptionSettings};
    use crate::api::ids::{SubscriptionId, TrackId, TransportId};
    use crate::test_room::{Got, TestPacket, TestRoom, vp8};

    const SSRC: u32 = 77;

    struct Case {
        room: TestRoom,
        publisher: TransportId,
        subscriber: TransportId,
        codec: Codec,
        sent: u16,
    }

    impl Case {
        fn new(codec: Codec) -> Case {
            let mut room = TestRoom::new();
            let (publisher, subscriber) = (room.connect(1), room.connect(2));
            room.publish(publisher, 1, codec.kind());
            room.command(Command::AddSubscription(NewSubscription {
                subscription: SubscriptionId(1),
                track: TrackId(1),
                transport: subscriber,
                ssrc: SSRC,
                rtx_ssrc: None,
                transport_cc: false,
                payload_types: PayloadTypes::as_offered(),
                settings: SubscriptionSettings::default(),
                shown_as: Some(codec),
            }));
            Case {
                room,
                publisher,
                subscriber,
                codec,
                sent: 0,
            }
        }

        /// A frame of the publisher's, of which the sequence number is `number` and the
        /// timestamp far away from any that stood for silence.
        fn send(&mut self, number: u16, skipped: u16) {
            self.sent = self.sent.wrapping_add(1 + skipped);
            let picture = vp8(self.sent, number == 0);
            let video = self.codec.kind() == MediaKind::Video;
            self.room.send(
                self.publisher,
                &TestPacket {
                    codec: self.codec,
                    sequence: self.sent,
                    timestamp: 0x8000_0000 + u32::from(number) * 960,
                    payload: if video { &picture } else { b"voice" },
                    ..TestPacket::default()
                },
            );
        }

        fn got(&self) -> Vec<Got> {
            self.room.got(self.subscriber, SSRC)
        }
    }

    #[test]
    fn a_silent_picture_is_padding_with_a_marker_for_five_seconds() {
        let mut case = Case::new(Codec::Vp8);
        case.room.run(WAIT - Duration::from_millis(1));
        assert!(case.got().is_empty());
        case.room.run(2 * MAX_DURATION);
        let got = case.got();
        assert_eq!(got.len(), 50);
        for packet in &got {
            assert!(packet.header.marker && packet.payload.is_empty());
            assert_eq!(packet.header.payload_type, Codec::Vp8.payload_type());
        }
    }

    #[test]
    fn a_silent_voice_is_frames_of_silence_twenty_milliseconds_apart() {
        for codec in [Codec::Opus, Codec::Pcmu, Codec::Pcma] {
            let mut case = Case::new(codec);
            case.room.run(2 * MAX_DURATION);
            let got = case.got();
            assert_eq!(got.len(), 250);
            for pair in got.windows(2) {
                let ticks = pair[1]
                    .header
                    .timestamp
                    .wrapping_sub(pair[0].header.timestamp);
                assert_eq!(ticks, codec.clock_rate() / 50);
                assert_eq!(pair[1].payload, silent_frame(codec));
                assert_eq!(pair[1].header.payload_type, codec.payload_type());
            }
        }
    }

    #[test]
    fn a_track_that_sends_or_is_not_wanted_is_not_filled() {
        let mut case = Case::new(Codec::Opus);
        case.send(0, 0);
        case.room.run(MAX_DURATION);
        assert_eq!(case.got().len(), 1);
        let mut case = Case::new(Codec::Opus);
        case.room.command(Command::SetSubscription {
            subscription: SubscriptionId(1),
            settings: SubscriptionSettings {
                enabled: false,
                ..SubscriptionSettings::default()
            },
        });
        case.room.run(MAX_DURATION);
        assert!(case.got().is_empty());
    }

    #[test]
    fn media_goes_on_after_silence_as_if_it_were_one_stream() {
        for seed in 0..300 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let codec = [Codec::Opus, Codec::Vp8][rng.random_range(0..2)];
            let mut case = Case::new(codec);
            case.sent = rng.random();
            case.room
                .run(Duration::from_millis(rng.random_range(0..6_000)));
            let frames = rng.random_range(1..50);
            for number in 0..frames as u16 {
                // No subscriber misses what the publisher's network lost before the start.
                let skipped = if number == 0 {
                    rng.random_range(0..9)
                } else {
                    0
                };
                case.send(number, skipped);
                case.room
                    .run(Duration::from_millis(rng.random_range(1..40)));
            }
            case.room.run(MAX_DURATION);
            let got = case.got();
            for (place, pair) in got.windows(2).enumerate() {
                let [first, second] = [&pair[0].header, &pair[1].header];
                let distance = second.sequence.wrapping_sub(first.sequence);
                assert_eq!(distance, 1, "seed {seed}, packet {place}");
                let ticks = second.timestamp.wrapping_sub(first.timestamp);
                assert!((1..1 << 20).contains(&ticks), "seed {seed}, packet {place}");
            }
            let is_silent =
                |packet: &Got| packet.payload.is_empty() || packet.payload == silent_frame(codec);
            let media = got.iter().skip_while(|packet| is_silent(packet));
            assert!(!media.clone().any(is_silent), "seed {seed}");
            assert_eq!(media.count(), frames, "seed {seed}");
        }
    }
}
