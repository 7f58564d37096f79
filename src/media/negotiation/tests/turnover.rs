//! Tracks that come and go faster than offers are answered.

use std::collections::BTreeSet;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;

/// Tracks that are shown at once at most.
const SHOWN: usize = 4;

/// However tracks come and go between offers and answers: an answer speaks only of tracks that
/// its offer showed, what stays is accepted in the end, and m-lines do not pile up.
#[test]
fn m_lines_follow_the_tracks_that_are_shown_and_not_those_that_passed() {
    for seed in 0..200 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut negotiation = SubscriberNegotiation::new(local(), seed);
        let mut shown: Vec<u64> = Vec::new();
        let mut next = 1;
        let mut under_way: Option<(SubscriberOffer, BTreeSet<String>)> = None;
        for _ in 0..400 {
            match rng.random_range(0..10) {
                0..=3 if shown.len() < SHOWN => {
                    assert!(
                        negotiation.add_track(send(next, MediaKind::Video)),
                        "seed {seed}"
                    );
                    shown.push(next);
                    next += 1;
                }
                4..=7 if !shown.is_empty() => {
                    let gone = shown.swap_remove(rng.random_range(0..shown.len()));
                    negotiation.remove_track(gone);
                }
                8 if negotiation.needs_offer() => {
                    let offer = negotiation.offer().expect("one is needed");
                    let tracks = offer.mid_to_track_id.values().cloned().collect();
                    under_way = Some((offer, tracks));
                }
                9 => {
                    let Some((offer, tracks)) = under_way.take() else {
                        continue;
                    };
                    let answer = client_answer(&offer.sdp);
                    let answer = negotiation.answer(offer.id, &answer).expect("it fits");
                    assert!(answer.rejected.is_empty(), "seed {seed}");
                    for accepted in &answer.accepted {
                        let track = send(accepted.key, MediaKind::Video).track_id.to_string();
                        assert!(
                            tracks.contains(&track),
                            "seed {seed}: {track} was not offered"
                        );
                    }
                }
                _ => {}
            }
        }
        let offer = match under_way {
            Some((offer, _)) => Some(offer),
            None => negotiation.offer(),
        };
        let offer = offer.expect("an offer is under way, or can be made");
        let m_lines = lines(&offer.sdp, "m=video").count();
        // Those that are shown, as many whose end the client has not confirmed, and as many
        // that took their place meanwhile.
        assert!(m_lines <= 3 * SHOWN, "seed {seed}: {m_lines} m-lines");
    }
}
