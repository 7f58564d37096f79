//! The first request head of a connection.
//!
//! A browser can put an access token into nothing but the URL of a WebSocket, and a token may
//! carry 512 KiB of metadata; `http::Uri` ends at 64 KiB. A token in a longer request target is
//! moved into the `Authorization` header, where clients that can put it there have it anyway.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use moim_signaling::token::MAX_TOKEN;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Longest request head that is read, bytes: a token and what stands beside it.
pub(super) const MAX_HEAD: usize = MAX_TOKEN + SMALL_HEAD;
/// What moving a token into a header adds to a head, bytes.
pub(super) const SLACK: usize = 1 << 10;
/// A head up to this many bytes is read at once; of longer ones only a few at a time.
const SMALL_HEAD: usize = 64 << 10;
/// Longer heads that may be in memory at a time: 64 MiB in all.
const LARGE_HEADS: usize = 64;
/// Longest request target that `http::Uri` holds, bytes, with a margin.
const MAX_TARGET: usize = 60_000;
/// The query parameter that is moved.
const PARAMETER: &[u8] = b"access_token=";

/// A head, and what was read after it.
pub(super) struct Head {
    /// As hyper is to read it.
    pub(super) bytes: Bytes,
    /// Held while a long head is in memory.
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

/// Why no head was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeadError {
    /// The connection has ended before.
    #[error("the connection has ended")]
    Ended,
    /// It did not come in time.
    #[error("the request did not come in time")]
    Slow,
    /// It is too long.
    #[error("a request head may have at most {MAX_HEAD} bytes")]
    TooLong,
    /// Too many long ones are being read.
    #[error("too many requests with long tokens; try again in a moment")]
    Busy,
}

impl HeadError {
    /// The status line's rest; `None` where nobody is there to be answered.
    pub(super) fn status(self) -> Option<&'static str> {
        match self {
            HeadError::Ended => None,
            HeadError::Slow => Some("408 Request Timeout"),
            HeadError::TooLong => Some("431 Request Header Fields Too Large"),
            HeadError::Busy => Some("503 Service Unavailable"),
        }
    }
}

/// Permits for long heads.
#[derive(Debug, Clone)]
pub(super) struct LargeHeads(Arc<Semaphore>);

impl Default for LargeHeads {
    fn default() -> Self {
        LargeHeads(Arc::new(Semaphore::new(LARGE_HEADS)))
    }
}

/// Reads until the end of a head.
///
/// # Errors
/// When it does not come whole, is too long, or finds no permit.
pub(super) async fn read_head(
    stream: &mut (impl AsyncRead + Unpin),
    large_heads: &LargeHeads,
) -> Result<Head, HeadError> {
    let mut bytes = BytesMut::with_capacity(2 << 10);
    let mut permit = None;
    let mut searched = 0;
    loop {
        let read = stream.read_buf(&mut bytes).await;
        if read.map_err(|_| HeadError::Ended)? == 0 {
            return Err(HeadError::Ended);
        }
        // The end may have begun in what was read before.
        let from = searched.max(2) - 2;
        if let Some(end) = end_of_head(bytes.get(from..).unwrap_or_default()) {
            return Ok(Head {
                bytes: move_token(bytes.freeze(), from + end),
                permit,
            });
        }
        searched = bytes.len();
        if searched >= MAX_HEAD {
            return Err(HeadError::TooLong);
        }
        if searched >= SMALL_HEAD && permit.is_none() {
            let acquired = large_heads.0.clone().try_acquire_owned();
            permit = Some(acquired.map_err(|_| HeadError::Busy)?);
        }
    }
}

/// Where the first empty line ends. Bare line feeds end a line as well (RFC 9112, section 2.2),
/// as they do for hyper: nothing behind what hyper takes for the head may be taken for a part of
/// it.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    (0..bytes.len()).find_map(|at| match bytes.get(at..)? {
        [b'\n', b'\n', ..] => Some(at + 2),
        [b'\n', b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

/// Moves the token of a request target that is too long into a header. Everything else is as it
/// was.
fn move_token(bytes: Bytes, head_len: usize) -> Bytes {
    match token_of(&bytes, head_len) {
        Some(Token { from, to, line_end }) => {
            let mut moved = BytesMut::with_capacity(bytes.len() + SLACK);
            moved.extend_from_slice(&bytes[..from]);
            moved.extend_from_slice(&bytes[to..line_end]);
            moved.extend_from_slice(b"\r\nAuthorization: Bearer ");
            moved.extend_from_slice(&bytes[from + PARAMETER.len()..to]);
            moved.extend_from_slice(&bytes[line_end..]);
            moved.freeze()
        }
        None => bytes,
    }
}

/// Where the token's parameter begins and ends, and the request line ends.
struct Token {
    from: usize,
    to: usize,
    line_end: usize,
}

fn token_of(bytes: &[u8], head_len: usize) -> Option<Token> {
    let head = bytes.get(..head_len)?;
    let line = head.split(|byte| *byte == b'\n').next()?;
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let line_end = line.len();
    let target = line.iter().position(|byte| *byte == b' ')? + 1;
    let target_end = target + line.get(target..)?.iter().position(|byte| *byte == b' ')?;
    if target_end - target <= MAX_TARGET || has_authorization(head.get(line_end..)?) {
        return None;
    }
    let query = target
        + line
            .get(target..target_end)?
            .iter()
            .position(|byte| *byte == b'?')?
        + 1;
    let mut from = query;
    for parameter in line.get(query..target_end)?.split(|byte| *byte == b'&') {
        let to = from + parameter.len();
        if let Some(token) = parameter.strip_prefix(PARAMETER) {
            // Only what a JWT consists of: nothing that could end the header or begin another.
            let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
            return token
                .iter()
                .all(is_token)
                .then_some(Token { from, to, line_end });
        }
        from = to + 1;
    }
    None
}

fn has_authorization(headers: &[u8]) -> bool {
    const NAME: &[u8] = b"authorization:";
    headers
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.get(..NAME.len()))
        .any(|name| name.eq_ignore_ascii_case(NAME))
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    async fn read(mut bytes: &[u8]) -> Result<Bytes, HeadError> {
        read_head(&mut bytes, &LargeHeads::default())
            .await
            .map(|head| head.bytes)
    }

    fn text(bytes: &Bytes) -> String {
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_long_token_is_moved_and_nothing_else_changes() {
        for len in [60_000, 700_000, MAX_TOKEN] {
            let token = "eyJ.-_".repeat(len / 6);
            for (before, after) in [("", ""), ("a=1&", ""), ("", "&b=2"), ("a=1&", "&b=2&c")] {
                let head = format!(
                    "GET /rtc?{before}access_token={token}{after} HTTP/1.1\r\nHost: x\r\n\r\nrest"
                );
                let expected = format!(
                    "GET /rtc?{before}{after} HTTP/1.1\r\nAuthorization: Bearer {token}\r\n\
                     Host: x\r\n\r\nrest"
                );
                assert_eq!(text(&read(head.as_bytes()).await.unwrap()), expected);
            }
        }
    }

    #[tokio::test]
    async fn other_heads_are_left_as_they_are() {
        let long = "a".repeat(70_000);
        for head in [
            "GET /rtc?access_token=short HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
            format!("GET /{long} HTTP/1.1\r\n\r\n"),
            format!("GET /?x={long} HTTP/1.1\r\n\r\n"),
            format!("GET /?access_token={long}%0d%0aX:1 HTTP/1.1\r\n\r\n"),
            format!("GET /?access_token={long} HTTP/1.1\r\nauthORIZATION: Bearer b\r\n\r\n"),
            format!("{long}\r\n\r\n"),
            format!("GET /?access_token={long} HTTP/1.1\nauthorization: b\n\r\n"),
            " \r\n\r\n".to_owned(),
            "\r\n\r\n".to_owned(),
            format!("GET / HTTP/1.1\r\nAuthorization: Bearer {long}\r\n\r\nbody"),
            "GET / HTTP/1.1\nHost: x\n\n".to_owned(),
        ] {
            assert_eq!(text(&read(head.as_bytes()).await.unwrap()), head);
        }
    }

    #[tokio::test]
    async fn a_token_stays_in_its_own_request_however_lines_end() {
        let token = "a".repeat(70_000);
        for (line, empty) in [("\n", "\n"), ("\n", "\r\n"), ("\r\n", "\n")] {
            let after = "GET / HTTP/1.1\r\nHost: y\r\n\r\n";
            let before = format!("GET /?access_token={token} HTTP/1.1{line}");
            let head = format!("{before}Host: x{line}{empty}{after}");
            let expected = format!(
                "GET /? HTTP/1.1\r\nAuthorization: Bearer {token}{line}Host: x{line}{empty}{after}"
            );
            assert_eq!(text(&read(head.as_bytes()).await.unwrap()), expected);
        }
    }

    #[tokio::test]
    async fn a_head_without_an_end_is_bounded() {
        let endless = vec![b'a'; 2 * MAX_HEAD];
        assert_eq!(read(&endless).await, Err(HeadError::TooLong));
        assert_eq!(read(b"GET / HTTP/1.1\r\nHost").await, Err(HeadError::Ended));
        let heads = LargeHeads(Arc::new(Semaphore::new(1)));
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(3 * SMALL_HEAD));
        let first = read_head(&mut long.as_bytes(), &heads).await.unwrap();
        let second = read_head(&mut long.as_bytes(), &heads).await;
        assert_eq!(second.err(), Some(HeadError::Busy));
        drop(first);
        assert!(read_head(&mut long.as_bytes(), &heads).await.is_ok());
    }

    #[tokio::test]
    async fn random_heads_keep_their_bytes() {
        const PARTS: [&str; 12] = [
            "GET",
            " ",
            "/rtc",
            "?",
            "&",
            "access_token=",
            "\r\n",
            "\n",
            "a",
            ":",
            "%0d",
            "=",
        ];
        for seed in 0..500 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut head = String::new();
            for _ in 0..rng.random_range(1..30) {
                let part = PARTS[rng.random_range(0..PARTS.len())];
                let times = if rng.random_ratio(1, 20) {
                    70_000 / part.len()
                } else {
                    1
                };
                head += &part.repeat(times);
            }
            // Behind an earlier end is a body, of which only a part may have been read.
            if head.contains("\n\n") || head.contains("\n\r\n") || head.ends_with('\n') {
                continue;
            }
            head += "\r\n\r\n";
            let read = text(&read(head.as_bytes()).await.unwrap());
            let kept = read.replace("\r\nAuthorization: Bearer ", "").len();
            assert!(
                read == head || kept + PARAMETER.len() == head.len(),
                "seed {seed}: {head:.200}"
            );
        }
    }
}
