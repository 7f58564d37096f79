//! Which scripts may read what (<https://fetch.spec.whatwg.org/#http-cors-protocol>).
//!
//! Clients are pages of any origin, and whom to let in is decided by tokens, which no browser
//! sends by itself: everything is open to all origins but what needs no token, which is the
//! metrics and the tokens of development mode.

use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, OPTIONS, PATCH, DELETE");
const ANY: HeaderValue = HeaderValue::from_static("*");
const ORIGIN: HeaderValue = HeaderValue::from_static("Origin");
/// How long a browser may remember a preflight's answer, seconds: a day.
const MAX_AGE: HeaderValue = HeaderValue::from_static("86400");
/// Paths whose answers no other origin may read.
const OWN: [&str; 2] = ["/api/", "/metrics"];

/// Which origins may read the answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origins {
    /// All, so also the one that asks, if the request names it.
    Any {
        /// The request's `Origin`.
        asking: Option<HeaderValue>,
    },
    /// The server's own only.
    Own,
}

impl Origins {
    pub(super) fn of<B>(request: &Request<B>) -> Origins {
        let path = request.uri().path();
        if OWN.iter().any(|own| path.starts_with(own)) {
            Origins::Own
        } else {
            let asking = request.headers().get(header::ORIGIN).cloned();
            Origins::Any { asking }
        }
    }

    /// The answer to a preflight request; `None` when it is no such.
    pub(super) fn preflight<B>(&self, request: &Request<B>) -> Option<Response> {
        if *self == Origins::Own || request.method() != Method::OPTIONS {
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
        self.clone().open(&mut response);
        Some(response)
    }

    /// Lets scripts read an answer. The origin that asks is named, as clients of the public
    /// protocol expect; a cache keeps the answer for that one alone.
    pub(super) fn open(self, response: &mut Response) {
        let Origins::Any { asking } = self else {
            return;
        };
        let headers: &mut HeaderMap = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, asking.unwrap_or(ANY));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, ANY);
        headers.append(header::VARY, ORIGIN);
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn allowed(method: Method, path: &str, origin: Option<&str>) -> Option<String> {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(origin) = origin {
            request = request.header(header::ORIGIN, origin);
        }
        let request = request.body(Body::empty()).unwrap();
        let origins = Origins::of(&request);
        let response = origins.preflight(&request).unwrap_or_else(|| {
            let mut response = StatusCode::NOT_FOUND.into_response();
            origins.open(&mut response);
            response
        });
        let headers = response.headers();
        let allowed = headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN)?;
        assert_eq!(headers[header::VARY], "Origin");
        Some(allowed.to_str().unwrap().to_owned())
    }

    #[test]
    fn the_origin_that_asks_is_named_whatever_the_answer_is() {
        for method in [Method::POST, Method::GET, Method::OPTIONS] {
            for path in ["/", "/rtc/validate", "/twirp/livekit.RoomService/ListRooms"] {
                let named = allowed(method.clone(), path, Some("testhost.com"));
                assert_eq!(named.as_deref(), Some("testhost.com"), "{method} {path}");
                assert_eq!(allowed(method.clone(), path, None).as_deref(), Some("*"));
            }
        }
    }

    #[test]
    fn what_needs_no_token_is_for_the_own_origin_alone() {
        for path in ["/metrics", "/api/token"] {
            for method in [Method::POST, Method::GET, Method::OPTIONS] {
                assert_eq!(allowed(method, path, Some("https://other.example")), None);
            }
        }
    }
}
