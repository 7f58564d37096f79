//! Which scripts may read what (<https://fetch.spec.whatwg.org/#http-cors-protocol>).
//!
//! Clients are pages of any origin, and whom to let in is decided by tokens, which no browser
//! sends by itself: everything is open to all origins but what needs no token, which is the
//! metrics and the tokens of development mode.

use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, OPTIONS, PATCH, DELETE");
const ANY: HeaderValue = HeaderValue::from_static("*");
/// How long a browser may remember a preflight's answer, seconds: a day.
const MAX_AGE: HeaderValue = HeaderValue::from_static("86400");
/// Paths whose answers no other origin may read.
const OWN: [&str; 2] = ["/api/", "/metrics"];

/// Which origins may read the answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origins {
    /// All.
    Any,
    /// The server's own only.
    Own,
}

impl Origins {
    pub(super) fn of<B>(request: &Request<B>) -> Origins {
        let path = request.uri().path();
        if OWN.iter().any(|own| path.starts_with(own)) {
            Origins::Own
        } else {
            Origins::Any
        }
    }

    /// The answer to a preflight request; `None` when it is no such.
    pub(super) fn preflight<B>(self, request: &Request<B>) -> Option<Response> {
        if self == Origins::Own || request.method() != Method::OPTIONS {
            return None;
        }
        let mut response = StatusCode::NO_CONTENT.into_response();
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        // A wildcard does not cover `Authorization`: what was asked for is named.
        let asked = request
            .headers()
            .get(header::ACCESS_CONTROL_REQUEST_HEADERS);
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            asked.cloned().unwrap_or(ANY),
        );
        self.open(&mut response);
        Some(response)
    }

    /// Lets scripts read an answer.
    pub(super) fn open(self, response: &mut Response) {
        if self == Origins::Own {
            return;
        }
        let headers: &mut HeaderMap = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, ANY);
    }
}
