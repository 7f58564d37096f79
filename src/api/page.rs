//! The meeting page, from inside the binary, and health for everybody who is not a browser.

use axum::Router;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};

/// What the page may do: nothing that does not come from here.
const POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; \
    style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' blob:; \
    worker-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

#[cfg(feature = "page")]
#[derive(rust_embed::RustEmbed)]
#[folder = "web/dist"]
struct Assets;

pub(super) fn router() -> Router {
    Router::new()
        // Load balancers and scripts ask with any method.
        .route("/", any(front))
        .route("/r/{room}", get(front))
        .route("/assets/{*path}", get(asset))
}

/// Browsers get the page, load balancers and client SDKs an `OK`.
async fn front(headers: HeaderMap) -> Response {
    let accepts_html = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"));
    if !accepts_html {
        return "OK".into_response();
    }
    match load("index.html") {
        Some(page) => secured(page, "text/html; charset=utf-8", "no-cache"),
        None => secured(
            b"<!doctype html><title>moim</title><p>This server was built without its meeting \
              page (cargo feature <code>page</code>). Clients connect all the same."
                .to_vec(),
            "text/html; charset=utf-8",
            "no-cache",
        ),
    }
}

async fn asset(axum::extract::Path(path): axum::extract::Path<String>) -> Response {
    let path = format!("assets/{path}");
    let Some(file) = load(&path) else {
        return (StatusCode::NOT_FOUND, "404 page not found\n").into_response();
    };
    let kind = mime_guess::from_path(&path).first_or_octet_stream();
    // Their names carry a hash of their contents.
    secured(
        file,
        kind.essence_str(),
        "public, max-age=31536000, immutable",
    )
}

#[cfg(feature = "page")]
fn load(path: &str) -> Option<Vec<u8>> {
    Assets::get(path).map(|file| file.data.into_owned())
}

#[cfg(not(feature = "page"))]
fn load(_path: &str) -> Option<Vec<u8>> {
    None
}

fn secured(body: Vec<u8>, content_type: &str, cache: &'static str) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(content_type) {
        headers.insert(header::CONTENT_TYPE, value);
    }
    let fixed: [(HeaderName, &'static str); 6] = [
        (header::CACHE_CONTROL, cache),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (HeaderName::from_static("x-frame-options"), "DENY"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_browsers_get_the_page() {
        let mut headers = HeaderMap::new();
        let response = front(headers.clone()).await;
        assert!(
            !response
                .headers()
                .contains_key(header::CONTENT_SECURITY_POLICY)
        );
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/html,*/*"));
        let response = front(headers).await;
        assert_eq!(
            response.headers()[header::X_CONTENT_TYPE_OPTIONS],
            "nosniff"
        );
        assert!(
            response
                .headers()
                .contains_key(header::CONTENT_SECURITY_POLICY)
        );
    }
}
