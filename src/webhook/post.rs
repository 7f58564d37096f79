//! One `POST` over HTTP/1.1, on a connection of its own: a receiver gets a few a second at most.
//!
//! The address that the connection goes to is the one that was checked: the name is resolved
//! here, and redirects are not followed.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderValue, Request, StatusCode, Uri, header};
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use super::address::is_public;

/// A receiver has this long to answer, the connection included.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer's head, of which only the status counts.
const MAX_ANSWER: usize = 16 << 10;

/// A receiver's URL, read and checked.
#[derive(Clone)]
pub(super) struct Target {
    host: String,
    port: u16,
    tls: Option<TlsConnector>,
    /// What stands in the request line.
    path: String,
    /// What stands in the `Host` header.
    authority: HeaderValue,
    /// Its name may resolve to an address that is not public.
    may_be_private: bool,
}

impl std::fmt::Display for Target {
    /// Without the path and the query, which may hold a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Why a URL is none of a receiver.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It is no URL.
    #[error("it must be a URL that begins with http:// or https://")]
    Url,
    /// The machine has no certificates to verify others with.
    #[error("https needs the certificates of authorities, of which this machine has none")]
    Roots,
}

/// Why a `POST` did not reach a receiver.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
    #[error("its name does not resolve: {0}")]
    Resolve(std::io::Error),
    #[error(
        "its name resolves to an address that is not public; `webhook.allow_private_addresses` \
         allows that"
    )]
    Private,
    #[error("it takes no connection: {0}")]
    Connect(std::io::Error),
    #[error("HTTP fails: {0}")]
    Http(#[from] hyper::Error),
    #[error("it does not answer within 10 s")]
    Slow,
    #[error("the request cannot be written")]
    Request,
}

impl Target {
    /// Reads a URL.
    ///
    /// # Errors
    /// When it is none of a receiver.
    pub(super) fn read(url: &str, allow_private: bool) -> Result<Target, UrlError> {
        let uri: Uri = url.parse().map_err(|_| UrlError::Url)?;
        let (tls, usual_port) = match uri.scheme_str() {
            Some("http") => (None, 80),
            Some("https") => (Some(connector()?), 443),
            _ => return Err(UrlError::Url),
        };
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or(UrlError::Url)?;
        let port = uri.port_u16().unwrap_or(usual_port);
        let authority = match uri.port_u16() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        // What the configuration names by its address is meant.
        let is_meant = bare.parse::<IpAddr>().is_ok() || bare.eq_ignore_ascii_case("localhost");
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Target {
            host: bare.to_owned(),
            port,
            tls,
            path: path.to_owned(),
            authority: HeaderValue::try_from(authority).map_err(|_| UrlError::Url)?,
            may_be_private: allow_private || is_meant,
        })
    }

    /// Sends a body, and gives the status that it is answered with.
    ///
    /// # Errors
    /// When there is no answer.
    pub(super) async fn post(&self, token: &str, body: Bytes) -> Result<StatusCode, PostError> {
        let request = Request::post(self.path.as_str())
            .header(header::HOST, &self.authority)
            .header(header::CONTENT_TYPE, "application/webhook+json")
            .header(header::AUTHORIZATION, token)
            .header(header::USER_AGENT, "moim")
            .header(header::CONNECTION, "close")
            .body(Full::new(body))
            .map_err(|_| PostError::Request)?;
        timeout(TIMEOUT, self.connect_and_send(request))
            .await
            .unwrap_or(Err(PostError::Slow))
    }

    async fn connect_and_send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<StatusCode, PostError> {
        let stream = self.connect().await?;
        let Some(tls) = &self.tls else {
            return send(stream, request).await;
        };
        let name = ServerName::try_from(self.host.clone()).map_err(|_| PostError::Request)?;
        let stream = tls.connect(name, stream).await;
        send(stream.map_err(PostError::Connect)?, request).await
    }

    async fn connect(&self) -> Result<TcpStream, PostError> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port));
        let found: Vec<SocketAddr> = found.await.map_err(PostError::Resolve)?.collect();
        let allowed = found
            .into_iter()
            .filter(|address| self.may_be_private || is_public(address.ip()));
        let mut outcome = Err(PostError::Private);
        for address in allowed {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => outcome = Err(PostError::Connect(error)),
            }
        }
        outcome
    }
}

async fn send<S>(stream: S, request: Request<Full<Bytes>>) -> Result<StatusCode, PostError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_ANSWER)
        .handshake(TokioIo::new(stream))
        .await?;
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(sender.send_request(request));
    let answer = tokio::select! {
        answer = &mut answer => answer,
        ended = &mut connection => {
            ended?;
            answer.await
        }
    };
    Ok(answer?.status())
}

/// Verifies receivers by the authorities that the machine trusts.
fn connector() -> Result<TlsConnector, UrlError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(UrlError::Roots);
    }
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| UrlError::Roots)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        for (url, host, port, path, authority) in [
            ("http://a.example", "a.example", 80, "/", "a.example"),
            (
                "http://a.example:8080/x?y=z",
                "a.example",
                8080,
                "/x?y=z",
                "a.example:8080",
            ),
            (
                "http://user:pass@a.example/",
                "a.example",
                80,
                "/",
                "a.example",
            ),
            ("http://[::1]:81/h", "::1", 81, "/h", "[::1]:81"),
        ] {
            let target = Target::read(url, false).ok().unwrap();
            assert_eq!((target.host.as_str(), target.port), (host, port), "{url}");
            assert_eq!(
                (target.path.as_str(), target.authority.to_str().unwrap()),
                (path, authority)
            );
        }
        for url in [
            "",
            "a.example",
            "ftp://a.example",
            "http://",
            "/hook",
            "http:// a",
        ] {
            assert_eq!(Target::read(url, false).err(), Some(UrlError::Url), "{url}");
        }
    }

    #[tokio::test]
    async fn a_name_may_not_stand_for_a_private_address() {
        let read = |url, allow| Target::read(url, allow).ok().unwrap();
        // What is named by its address is meant; no one listens on port 1.
        for (target, private) in [
            (read("http://127.0.0.1:1", false), false),
            (read("http://localhost:1", false), false),
            (
                Target {
                    may_be_private: false,
                    ..read("http://localhost:1", false)
                },
                true,
            ),
            (
                Target {
                    may_be_private: false,
                    ..read("http://localhost:1", true)
                },
                true,
            ),
        ] {
            let error = target.post("", Bytes::new()).await.err().unwrap();
            assert_eq!(matches!(error, PostError::Private), private, "{error}");
        }
        assert!(read("http://receiver.internal", true).may_be_private);
        assert!(!read("http://receiver.internal", false).may_be_private);
    }
}
