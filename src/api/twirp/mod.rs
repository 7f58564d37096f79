//! The server API: Twirp (<https://twitchtv.github.io/twirp/docs/spec_v7.html>), which is
//! `POST /twirp/livekit.SERVICE/METHOD` with a message in the body, and a message in the answer.

mod access;
mod agent_dispatch;
mod call;
mod encoding;
mod error;
mod limits;
mod record;
mod room_service;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Request, method};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use moim_signaling::token::ApiKeys;

use access::Caller;
use call::Call;
use encoding::Encoding;
use error::{Code, TwirpError};
use record::Attempt;

use crate::agents::Agents;
use crate::room::Registry;
use crate::store::Store;

/// Bytes of a request's body. The largest that means something carries 512 KiB of metadata, each
/// byte of which JSON may write as six.
const MAX_BODY: usize = 4 << 20;

/// Services of LiveKit that are not here, with what they do.
const ABSENT: [(&str, &str); 5] = [
    ("livekit.Egress", "recording and streaming (egress)"),
    ("livekit.Ingress", "ingress from RTMP, WHIP and URLs"),
    ("livekit.SIP", "telephony (SIP)"),
    ("livekit.Connector", "connectors to other platforms"),
    ("livekit.CloudAgent", "the hosting of agents"),
];

#[derive(Clone)]
struct Api {
    rooms: Registry,
    agents: Agents,
    keys: ApiKeys,
    store: Option<Store>,
}

pub(super) fn router(
    rooms: Registry,
    agents: Agents,
    keys: ApiKeys,
    store: Option<Store>,
) -> Router {
    Router::new()
        .route("/twirp/{service}/{method}", any(answer))
        .with_state(Api {
            rooms,
            agents,
            keys,
            store,
        })
}

async fn answer(
    State(api): State<Api>,
    Path((service, method)): Path<(String, String)>,
    request: Request<Body>,
) -> Response {
    match api.call(&service, &method, request).await {
        Ok(response) => response,
        Err(error) => {
            tracing::debug!(%service, %method, %error, "a call was not answered");
            error.into_response()
        }
    }
}

impl Api {
    async fn call(
        &self,
        service: &str,
        method: &str,
        request: Request<Body>,
    ) -> Result<Response, TwirpError> {
        let (head, body) = request.into_parts();
        let route_error =
            |msg: String| TwirpError::route(msg, head.method.as_str(), head.uri.path());
        let unknown = || route_error(format!("no handler for path {:?}", head.uri.path()));
        if head.method != method::Method::POST {
            let method = &head.method;
            let text = format!("unsupported method {method:?} (only POST is allowed)");
            return Err(route_error(text));
        }
        let name = method;
        let method = match service {
            room_service::NAME => room_service::Method::named(name).map(Method::Rooms),
            agent_dispatch::NAME => agent_dispatch::Method::named(name).map(Method::Agents),
            _ => return Err(absent(service).unwrap_or_else(unknown)),
        };
        let method = method.ok_or_else(unknown)?;
        let encoding = Encoding::of(&head.headers)
            .map_err(|kind| route_error(format!("unexpected Content-Type: {kind:?}")))?;
        // Before the body: strangers have nothing read.
        let caller = Caller::of(&self.keys, &head.headers, &head.uri)?;
        let body = axum::body::to_bytes(body, MAX_BODY).await;
        let body = body.map_err(|_| {
            let text = format!("the request body is not readable, or larger than {MAX_BODY} bytes");
            TwirpError::new(Code::Malformed, text)
        })?;
        let call = Call {
            caller,
            encoding,
            body,
        };
        let origin = head.extensions.get().copied();
        let attempt = self
            .store
            .as_ref()
            .map(|store| Attempt::of(store, (service, name), origin, &call));
        let answered = match method {
            Method::Rooms(method) => method.answer(&self.rooms, call).await,
            Method::Agents(method) => method.answer(self, call).await,
        };
        match attempt {
            Some(attempt) => attempt.keep(answered).await,
            None => answered,
        }
    }
}

fn absent(service: &str) -> Option<TwirpError> {
    let (_, what) = ABSENT.iter().find(|(name, _)| *name == service)?;
    let text = format!("this server does not have {what}: there is no service {service}");
    Some(TwirpError::new(Code::Unimplemented, text))
}

/// A method of one of the services.
enum Method {
    Rooms(room_service::Method),
    Agents(agent_dispatch::Method),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_the_services_is_answered() {
        for (service, count) in [(room_service::NAME, 14), (agent_dispatch::NAME, 3)] {
            let described = encoding::POOL.get_service_by_name(service).unwrap();
            assert_eq!(described.methods().count(), count, "{service}");
            for method in described.methods() {
                let name = method.name();
                let known = match service {
                    room_service::NAME => room_service::Method::named(name).is_some(),
                    _ => agent_dispatch::Method::named(name).is_some(),
                };
                assert!(known, "{service}/{name}");
            }
        }
    }

    #[test]
    fn an_absent_service_says_what_is_missing() {
        let error = absent("livekit.Egress").unwrap();
        assert!(error.to_string().contains("recording"));
        let body = serde_json::to_value(&error).unwrap();
        assert_eq!(body["code"], "unimplemented");
        assert_eq!(absent("livekit.Unheard"), None);
    }

    #[test]
    fn errors_have_the_form_of_twirp() {
        let error = TwirpError::argument("name length exceeds limits", "256");
        let body = serde_json::to_value(&error).unwrap();
        let expected = serde_json::json!({
            "code": "invalid_argument",
            "msg": "name length exceeds limits 256",
            "meta": {"argument": "name length exceeds limits"},
        });
        assert_eq!(body, expected);
        let body = serde_json::to_value(TwirpError::no_room()).unwrap();
        let expected = serde_json::json!({
            "code": "not_found",
            "msg": "requested room does not exist",
        });
        assert_eq!(body, expected);
    }
}
