//! The fuzz target of what is read of a request before hyper and the router see it.

use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use axum::http::{HeaderMap, HeaderValue, Request, Uri, header};

use super::address::TrustedProxies;
use super::path::normalize;
use super::request_head::{LargeHeads, MAX_HEAD, SLACK, read_head};

/// A byte of an input that stands for text longer than what `http::Uri` holds: so a short input
/// reaches what is done with long tokens.
const LONG_TEXT: u8 = 0xff;
/// Bytes of that text.
const LONG_TEXT_LEN: usize = 60_000;
/// Most places of an input where it may stand.
const MAX_LONG_TEXTS: usize = 3;
/// The line that a token is moved into, which follows the request line.
const MOVED: &[u8] = b"\r\nAuthorization: Bearer ";

/// A request head: how it is read, the path that it means, and whose address it names.
pub fn request_head(input: &[u8]) {
    let bytes = expand(input);
    if let Some(head) = read_whole(&bytes) {
        assert!(head.len() <= MAX_HEAD + SLACK);
        // What came after the head may not have been read.
        if !bytes.starts_with(&head) {
            // A token was moved into a header line of its own.
            let token = head.windows(MOVED.len()).position(|window| window == MOVED);
            let start = token.expect("the line that was added");
            assert!(!head[..start].contains(&b'\n'));
            assert!(head.len() < bytes.len() + SLACK);
        }
    }
    path(&bytes);
    address(&bytes);
}

/// The input with the long text where it stands for it.
fn expand(input: &[u8]) -> Vec<u8> {
    let mut left = MAX_LONG_TEXTS;
    let mut bytes = Vec::with_capacity(input.len());
    for &byte in input {
        if byte == LONG_TEXT && left > 0 {
            left -= 1;
            bytes.resize(bytes.len() + LONG_TEXT_LEN, b'a');
        } else {
            bytes.push(byte);
        }
    }
    bytes
}

fn read_whole(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let heads = LargeHeads::default();
    let read = pin!(read_head(&mut bytes, &heads));
    // Bytes in memory are there at once.
    match read.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(read) => Some(read.ok()?.bytes.to_vec()),
        Poll::Pending => panic!("a head in memory is not read at once"),
    }
}

fn path(bytes: &[u8]) {
    let target = bytes.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    let Ok(uri) = Uri::try_from(target) else {
        return;
    };
    let query = uri.query().map(str::to_owned);
    for upgrades in [false, true] {
        let mut request = Request::new(());
        *request.uri_mut() = uri.clone();
        if upgrades {
            let websocket = HeaderValue::from_static("websocket");
            request.headers_mut().insert(header::UPGRADE, websocket);
        }
        normalize(&mut request);
        let once = request.uri().clone();
        assert_eq!(once.query(), query.as_deref());
        normalize(&mut request);
        assert_eq!(once, *request.uri(), "a path that is normal stays as it is");
    }
}

fn address(bytes: &[u8]) {
    const TRUSTED: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 5));
    let proxies = TrustedProxies(vec![TRUSTED]);
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append("x-forwarded-for", value);
        }
    }
    let _ = proxies.client_of(TRUSTED, &headers);
    assert_eq!(proxies.client_of(STRANGER, &headers), STRANGER);
}
