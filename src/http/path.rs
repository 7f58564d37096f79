//! Paths as clients and proxies make them.
//!
//! SDKs append `/rtc` to the URL that they were given: `wss://host/` becomes `//rtc`, and
//! `wss://host/meet` becomes `/meet/rtc` where a proxy passes its prefix on. The SDKs of the
//! server API do the same with `/twirp`.

use axum::http::{Request, Uri, header};

/// The paths of the signaling service, of which the first is a WebSocket's.
const SIGNALING: [&str; 4] = ["/rtc", "/rtc/v1", "/rtc/validate", "/rtc/v1/validate"];

/// What all paths of the server API begin with.
const API: &str = "/twirp/livekit.";

/// Gives a request the path that it means.
pub(super) fn normalize<B>(request: &mut Request<B>) {
    let is_upgrade = request.headers().contains_key(header::UPGRADE);
    let Some(path) = normalized(request.uri().path(), is_upgrade) else {
        return;
    };
    let path_and_query = match request.uri().query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = path_and_query.parse().ok();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

/// The path without empty segments, and of signaling and the server API without a prefix; `None`
/// when it is so already.
fn normalized(path: &str, is_upgrade: bool) -> Option<String> {
    let mut clean = String::with_capacity(path.len());
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        clean.push('/');
        clean.push_str(segment);
    }
    // A room of the meeting page may be called `rtc`: there only an upgrade is meant for us.
    let is_ours =
        |known: &&&str| clean.ends_with(**known) && (is_upgrade || known.ends_with("/validate"));
    // The longest that fits: `/rtc/v1/validate` ends with no other one.
    let known = SIGNALING
        .iter()
        .filter(is_ours)
        .max_by_key(|known| known.len());
    if let Some(known) = known {
        clean = (*known).to_owned();
    }
    if let Some(prefix) = clean.find(API) {
        clean.drain(..prefix);
    }
    if clean.is_empty() {
        clean.push('/');
    }
    (clean != path).then_some(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_reach_signaling_by_any_path() {
        for (path, upgrade, expected) in [
            ("/rtc", true, None),
            ("/rtc", false, None),
            ("//rtc", true, Some("/rtc")),
            ("//rtc", false, Some("/rtc")),
            ("///rtc//", true, Some("/rtc")),
            ("/meet/rtc", true, Some("/rtc")),
            ("/a/b/rtc/", true, Some("/rtc")),
            ("/meet/rtc/v1", true, Some("/rtc/v1")),
            ("/meet/rtc/validate", false, Some("/rtc/validate")),
            ("//rtc/v1/validate/", false, Some("/rtc/v1/validate")),
            ("/r/rtc", false, None),
            ("/r/rtc", true, Some("/rtc")),
            ("/r/arctic", true, None),
            ("/meetrtc", true, None),
            ("/", false, None),
            ("//", false, Some("/")),
            ("/assets//x.js", false, Some("/assets/x.js")),
            ("/metrics/", false, Some("/metrics")),
            ("*", false, Some("/*")),
            ("/twirp/livekit.X/Y", false, None),
            ("//twirp/livekit.X/Y", false, Some("/twirp/livekit.X/Y")),
            ("/meet/twirp/livekit.X/Y", false, Some("/twirp/livekit.X/Y")),
            ("/r/twirp", false, None),
        ] {
            let found = normalized(path, upgrade);
            assert_eq!(found.as_deref(), expected, "{path} {upgrade}");
        }
    }

    #[test]
    fn the_query_stays() {
        let mut request = Request::new(());
        *request.uri_mut() = "//rtc/validate/?a=//b&c".parse().unwrap();
        normalize(&mut request);
        assert_eq!(request.uri(), "/rtc/validate?a=//b&c");
    }
}
