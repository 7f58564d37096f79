//! Which RID of a simulcast track is the smallest.

use super::*;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng, rngs::SmallRng};

/// A simulcast offer that lists RIDs in this order, with `a=rid` lines.
fn offer(listed: &[&str], rid_lines: &[String]) -> String {
    let start = BROWSER.find("a=rid:").unwrap();
    let without: String = BROWSER
        .lines()
        .filter(|line| !line.starts_with("a=rid:") && !line.starts_with("a=simulcast:"))
        .map(|line| format!("{line}\r\n"))
        .collect();
    assert!(start > 0);
    format!(
        "{without}{}\r\na=simulcast:send {}\r\n",
        rid_lines.join("\r\n"),
        listed.join(";")
    )
}

fn rids(offer: &str, announced: &[AnnouncedLayer]) -> Vec<String> {
    let mut decide = |_: &OfferedTrack| {
        TrackDecision::Accept(TrackParameters {
            layers: announced.to_vec(),
            ..TrackParameters::default()
        })
    };
    let answer = PublisherNegotiation::new(local())
        .answer(offer, fresh_ice(), &mut decide)
        .unwrap();
    answer.tracks.last().unwrap().source.rids.clone()
}

#[test]
fn layers_are_in_the_order_of_what_is_said_of_their_sizes() {
    const NAMES: [&str; 9] = ["q", "h", "f", "0", "1", "2", "lo", "mi", "hi-res_1"];
    let seed = 8_853;
    let mut rng = SmallRng::seed_from_u64(seed);
    for round in 0..500 {
        let mut names = NAMES;
        names.shuffle(&mut rng);
        let smallest_first = &names[..rng.random_range(1..4)];
        let mut listed = smallest_first.to_vec();
        listed.shuffle(&mut rng);
        let size = |rid: &str| {
            let place = smallest_first.iter().position(|name| *name == rid).unwrap();
            (160 << place, 90 << place)
        };
        let plain: Vec<String> = listed
            .iter()
            .map(|rid| format!("a=rid:{rid} send"))
            .collect();
        let restricted: Vec<String> = listed
            .iter()
            .map(|rid| {
                let (width, height) = size(rid);
                format!("a=rid:{rid} send max-width={width};max-height={height}")
            })
            .collect();
        let sized: Vec<AnnouncedLayer> = listed
            .iter()
            .map(|rid| AnnouncedLayer {
                rid: (*rid).to_owned(),
                pixels: size(rid).0 * size(rid).1,
                quality: 0,
            })
            .collect();
        let by_quality: Vec<AnnouncedLayer> = smallest_first
            .iter()
            .zip(0..)
            .map(|(rid, quality)| AnnouncedLayer {
                rid: (*rid).to_owned(),
                pixels: 0,
                quality,
            })
            .collect();
        let context = format!("seed {seed}, round {round}: {listed:?}");
        assert_eq!(
            rids(&offer(&listed, &restricted), &[]),
            smallest_first,
            "{context}"
        );
        assert_eq!(
            rids(&offer(&listed, &plain), &sized),
            smallest_first,
            "{context}"
        );
        assert_eq!(
            rids(&offer(&listed, &plain), &by_quality),
            smallest_first,
            "{context}"
        );
    }
}

#[test]
fn without_sizes_the_usual_names_count_and_else_the_list() {
    let cases: [(&[&str], &[&str]); 6] = [
        (&["f", "h", "q"], &["q", "h", "f"]),
        (&["f", "h"], &["h", "f"]),
        (&["0", "1", "2"], &["2", "1", "0"]),
        (&["lo", "mi", "hi"], &["lo", "mi", "hi"]),
        (&["~f", "q"], &["q", "f"]),
        (&["hi", "q"], &["hi", "q"]),
    ];
    for (listed, expected) in cases {
        let lines: Vec<String> = listed
            .iter()
            .map(|rid| format!("a=rid:{rid} send"))
            .collect();
        assert_eq!(rids(&offer(listed, &lines), &[]), expected, "{listed:?}");
    }
}
