//! A room of fifty, one of whom has next to nothing.

use std::ops::Range;
use std::time::Duration;

use moim_engine::command::SubscriptionSettings;

use crate::gallery::{MS, SECOND, link, wide};
use crate::meeting::{Audio, ClientId, Meeting, Track, Video};
use crate::plot::Plot;

const SEATS: usize = 50;
/// Cameras that each participant shows: one large, the others small.
const SHOWN: usize = 6;

#[test]
fn one_slow_link_of_fifty_is_nobody_elses_concern() {
    let mut meeting = Meeting::new(300);
    let mut clients = Vec::new();
    let mut cameras = Vec::new();
    let mut voices = Vec::new();
    let mut slow = None;
    for seat in 0..SEATS {
        let down = if seat == 0 {
            link(300, 20 * MS)
        } else {
            wide(20 * MS)
        };
        let (up, down) = (meeting.link(wide(20 * MS)), meeting.link(down));
        slow.get_or_insert(down);
        let client = meeting.join(&[up], &[down]);
        clients.push(client);
        cameras.push(meeting.publish(client, Video::Simulcast));
        // Those who do not speak are muted, but for a few.
        if seat % 8 == 0 {
            let audio = Audio {
                red: false,
                speaking: seat == 8,
            };
            voices.push((seat, meeting.publish_audio(client, audio)));
        }
        meeting.run(3 * MS);
    }
    meeting.run(500 * MS);
    for (seat, &client) in clients.iter().enumerate() {
        for &(_, voice) in voices.iter().filter(|(of, _)| *of != seat) {
            meeting.subscribe(client, voice);
        }
        for (place, of) in shows(seat).enumerate() {
            let wish = SubscriptionSettings {
                max_layer: if place == 0 { 2 } else { 0 },
                ..Default::default()
            };
            meeting.subscribe_as(client, cameras[of], wish);
        }
    }
    meeting.run(12 * SECOND);
    let end = meeting.elapsed();
    let slow = slow.expect("the first link");
    Plot::new(&meeting, "slow-of-fifty", "One of fifty has 300 kbit/s")
        .rates(&meeting, slow, &[])
        .estimate(&meeting, clients[0])
        .queueing(&meeting, slow)
        .layers(
            &meeting,
            &[
                ("slow, large", clients[0], cameras[1]),
                ("slow, small", clients[0], cameras[2]),
                ("another, large", clients[1], cameras[2]),
            ],
        )
        .write();
    let from = end - 8 * SECOND;
    assert_others_see_all(&meeting, &clients, &cameras, from..end);
    // Who has little hears what is said.
    let speaker = voices[1].1;
    let heard = meeting.received(clients[0], speaker).heard.len();
    let all = meeting.received(clients[10], speaker).heard.len();
    assert!(heard * 100 >= all * 98, "{heard} of {all} frames");
    let queueing = meeting.log(slow).queueing_quantile(0.95, from, end);
    assert!(queueing < 100 * MS, "{queueing:?}");
}

/// Whose cameras the participant on a seat shows; the first one is large.
fn shows(seat: usize) -> impl Iterator<Item = usize> {
    (1..=SHOWN).map(move |after| (seat + after) % SEATS)
}

/// Everybody but the one on the slow link gets every packet, without a freeze.
fn assert_others_see_all(
    meeting: &Meeting,
    clients: &[ClientId],
    cameras: &[Track],
    time: Range<Duration>,
) {
    for seat in 1..SEATS {
        for of in shows(seat) {
            let received = meeting.received(clients[seat], cameras[of]);
            assert_eq!(
                received.packets.len() as u64,
                received.expected,
                "lost at {seat}"
            );
            let gap = meeting
                .shown(clients[seat], cameras[of])
                .longest_gap_in(time.start, time.end);
            assert!(gap < 200 * MS, "{seat} of {of}: {gap:?}");
        }
        // The large one is the top layer.
        let large = meeting.shown(clients[seat], cameras[(seat + 1) % SEATS]);
        assert_eq!(large.layers.last().map(|layer| layer.1), Some(2));
    }
}
