//! The engine behind a pipe: one publisher with one video track, one subscriber of it, a virtual
//! clock. Whoever writes to standard input is both clients' media and network.
//!
//! The first line is a [`Setup`]; each further one is a [`Step`], answered by a line with what
//! the engine sent meanwhile. ICE, DTLS and SRTP are done here, so what goes through the pipe is
//! plain RTP and RTCP, in hexadecimal digits.

mod client;
mod session;

use std::io::{BufRead, Write};

use moim_engine::codec::Codec;
use moim_engine::command::SubscriptionSettings;
use serde::{Deserialize, Serialize};

use session::Session;

/// What is published.
#[derive(Deserialize)]
struct Setup {
    /// Seed of the engine.
    seed: u64,
    /// `vp8`, `vp9`, `h264` or `av1`.
    codec: String,
    /// RIDs of the streams, lowest first; none for a single stream.
    rids: Vec<String>,
}

/// What happens at one instant.
#[derive(Deserialize)]
struct Step {
    /// The time, in microseconds since the start. It never runs backwards.
    at: u64,
    /// Datagrams from the publisher and the subscriber.
    #[serde(default)]
    publisher: Vec<String>,
    #[serde(default)]
    subscriber: Vec<String>,
    /// What the subscriber wants from now on.
    wish: Option<Wanted>,
    /// The publisher mutes the track, or does so no longer.
    muted: Option<bool>,
}

/// See [`SubscriptionSettings`].
#[derive(Deserialize)]
struct Wanted {
    enabled: bool,
    max_layer: u8,
    max_frame_rate: u8,
}

/// Datagrams for the publisher and the subscriber, in the order in which they were sent.
#[derive(Serialize)]
struct Sent {
    publisher: Vec<String>,
    subscriber: Vec<String>,
}

fn main() -> anyhow::Result<()> {
    let mut lines = std::io::stdin().lock().lines();
    let mut out = std::io::stdout().lock();
    let Some(first) = lines.next() else {
        return Ok(());
    };
    let setup: Setup = serde_json::from_str(&first?)?;
    let Some(codec) = Codec::named(&setup.codec) else {
        anyhow::bail!("no such codec: {}", setup.codec);
    };
    let mut session = Session::new(setup.seed, codec, setup.rids)?;
    for line in lines {
        let step: Step = serde_json::from_str(&line?)?;
        session.advance(step.at);
        if let Some(wanted) = step.wish {
            session.wish(SubscriptionSettings {
                enabled: wanted.enabled,
                max_layer: wanted.max_layer,
                max_frame_rate: wanted.max_frame_rate,
                ..SubscriptionSettings::default()
            });
        }
        if let Some(muted) = step.muted {
            session.mute(muted);
        }
        for datagram in &step.publisher {
            session.publisher_sends(unhex(datagram)?);
        }
        for datagram in &step.subscriber {
            session.subscriber_sends(unhex(datagram)?);
        }
        let (publisher, subscriber) = session.take_sent();
        let sent = Sent {
            publisher: publisher.iter().map(|bytes| hex(bytes)).collect(),
            subscriber: subscriber.iter().map(|bytes| hex(bytes)).collect(),
        };
        writeln!(out, "{}", serde_json::to_string(&sent)?)?;
        out.flush()?;
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or_default();
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0x0f]);
    digits.map(digit).collect()
}

fn unhex(digits: &str) -> anyhow::Result<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair: &[u8]| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?);
    pairs.map(byte).collect()
}
