//! Orders on standard input, one JSON object a line, and the answers on standard output.
//!
//! `{"downlink": {"rate": 800000, "queue": 200, "delay": 20}}` replaces what the downlink is;
//! what is not named gets its default. `uplink` likewise; `{}` changes nothing. Each line is
//! answered, once it is obeyed, with the statistics of both links, or with `{"error": "..."}`.

use std::error::Error;
use std::io::{self, BufRead, Write};
use std::sync::mpsc;
use std::time::Duration;

use moim_network::{LinkConfig, Loss, Queue, Statistics};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::relay::{Order, Orders};

/// One line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    uplink: Option<Description>,
    downlink: Option<Description>,
}

/// A link as it is written. Times are in milliseconds.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Description {
    /// Bits a second, with IP and UDP headers; 0 lets nothing through, none is unlimited.
    rate: Option<u64>,
    /// The longest wait in front of the bottleneck.
    queue: u64,
    /// Controlled delay (RFC 8289) instead of drop-tail.
    codel: bool,
    delay: u64,
    jitter: u64,
    /// The share that is lost, 0 to 1.
    loss: f64,
    /// Datagrams lost in a row on average; losses are independent without it.
    burst: Option<f64>,
    /// The share that comes late, and that comes twice, 0 to 1.
    reorder: f64,
    duplicate: f64,
}

impl Default for Description {
    fn default() -> Description {
        Description {
            rate: None,
            queue: 200,
            codel: false,
            delay: 0,
            jitter: 0,
            loss: 0.0,
            burst: None,
            reorder: 0.0,
            duplicate: 0.0,
        }
    }
}

impl From<Description> for LinkConfig {
    fn from(described: Description) -> LinkConfig {
        let limit = Duration::from_millis(described.queue);
        LinkConfig {
            rate: described.rate,
            queue: if described.codel {
                Queue::CoDel { limit }
            } else {
                Queue::DropTail { limit }
            },
            delay: Duration::from_millis(described.delay),
            jitter: Duration::from_millis(described.jitter),
            loss: match described.burst {
                Some(mean_length) => Loss::Burst {
                    share: described.loss,
                    mean_length,
                },
                None if described.loss > 0.0 => Loss::Random(described.loss),
                None => Loss::None,
            },
            reorder: described.reorder,
            duplicate: described.duplicate,
        }
    }
}

/// Reads orders and answers them until standard input ends.
pub(crate) fn obey(orders: &Orders) -> io::Result<()> {
    for line in io::stdin().lock().lines() {
        let answer = match answer(orders, &line?) {
            Ok(statistics) => statistics,
            Err(error) => json!({ "error": error.to_string() }),
        };
        let mut out = io::stdout().lock();
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

fn answer(orders: &Orders, line: &str) -> Result<Value, Box<dyn Error>> {
    let Line { uplink, downlink } = serde_json::from_str(line)?;
    let (answer, statistics) = mpsc::channel();
    orders.give(Order {
        uplink: uplink.map(LinkConfig::from),
        downlink: downlink.map(LinkConfig::from),
        answer,
    })?;
    let (uplink, downlink) = statistics.recv()?;
    Ok(json!({ "uplink": write(&uplink), "downlink": write(&downlink) }))
}

fn write(statistics: &Statistics) -> Value {
    json!({
        "sent": statistics.sent,
        "dropped": statistics.dropped,
        "lost": statistics.lost,
        "delivered": statistics.delivered,
        "delivered_bytes": statistics.delivered_bytes,
        "reordered": statistics.reordered,
        "duplicated": statistics.duplicated,
    })
}
