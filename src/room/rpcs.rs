//! Calls of participants by the server API: a request goes out as a data packet, and the
//! participant's acknowledgement and response are for the server alone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use moim_signaling::wire::{DataPacket, RpcRequest, RpcResponse, data_packet, rpc_response};

use super::id::ParticipantKey;

/// Calls that wait in one room.
const MAX_CALLS: usize = 256;
/// A participant acknowledges a call within this time. LiveKit's value.
const ACK_TIMEOUT: Duration = Duration::from_secs(2);
/// A participant answers within this time unless the caller says otherwise. LiveKit's value.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time that a call may wait for its response.
const MAX_TIMEOUT: Duration = Duration::from_secs(25);
/// Bytes of a payload, and of a method's name with it. LiveKit's value.
const MAX_PAYLOAD: usize = 15_360;
/// Version of the calls between clients.
const VERSION: u32 = 1;
/// Longest text of a participant's error that is passed on, bytes.
const MAX_ERROR: usize = 1_024;

/// Which order an answer is for that was put off.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(String);

/// Why a participant's call has no result, in the words and with the numbers of the SDKs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It was not acknowledged.
    #[error("RpcError 1501: Connection timeout")]
    NotAcknowledged,
    /// It was not answered in time.
    #[error("RpcError 1502: Response timeout")]
    NotAnswered,
    /// The participant left meanwhile.
    #[error("RpcError 1503: Recipient disconnected")]
    Disconnected,
    /// The request is too large.
    #[error("RpcError 1402: Request payload too large")]
    TooLarge,
    /// The participant has no such method.
    #[error("RpcError 1400: Method not supported at destination")]
    NoMethod,
    /// Too many calls wait.
    #[error("too many calls of the room's participants wait for their answers")]
    TooMany,
    /// The participant answered with an error.
    #[error("RpcError {code}: {text}")]
    Answered {
        /// The error's number.
        code: u32,
        /// What it says, with its data.
        text: String,
    },
}

/// One call that waits.
#[derive(Debug)]
struct Waits {
    participant: ParticipantKey,
    acknowledged: bool,
    ack_due: Instant,
    response_due: Instant,
}

impl Waits {
    fn due(&self) -> Instant {
        if self.acknowledged {
            self.response_due
        } else {
            self.ack_due.min(self.response_due)
        }
    }
}

/// The calls of a room.
#[derive(Debug, Default)]
pub(super) struct Rpcs {
    waiting: BTreeMap<CallId, Waits>,
    ended: Vec<(CallId, Result<String, CallError>)>,
}

impl Rpcs {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting.values().map(Waits::due).min()
    }

    pub(super) fn take_ended(&mut self) -> Vec<(CallId, Result<String, CallError>)> {
        std::mem::take(&mut self.ended)
    }

    /// Begins a call: gives it an id of its own, and the packet that asks for it. A `timeout` of
    /// zero means the usual one.
    ///
    /// # Errors
    /// When it is too large, or too many calls wait.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        participant: ParticipantKey,
        mut request: RpcRequest,
        timeout: Duration,
    ) -> Result<(CallId, DataPacket), CallError> {
        if request.payload.len() + request.method.len() > MAX_PAYLOAD {
            return Err(CallError::TooLarge);
        }
        if self.waiting.len() >= MAX_CALLS {
            return Err(CallError::TooMany);
        }
        let timeout = match timeout {
            Duration::ZERO => RESPONSE_TIMEOUT,
            timeout => timeout.min(MAX_TIMEOUT),
        };
        request.response_timeout_ms = timeout.as_millis() as u32;
        request.version = VERSION;
        let call = CallId(request.id.clone());
        let packet = DataPacket {
            // Clients answer this identity: the call's own, which nobody else has.
            participant_identity: request.id.clone(),
            value: Some(data_packet::Value::RpcRequest(request)),
            ..Default::default()
        };
        let waits = Waits {
            participant,
            acknowledged: false,
            ack_due: now + ACK_TIMEOUT,
            response_due: now + timeout,
        };
        self.waiting.insert(call.clone(), waits);
        Ok((call, packet))
    }

    fn end(&mut self, call: &CallId, outcome: Result<String, CallError>) {
        if self.waiting.remove(call).is_some() {
            self.ended.push((call.clone(), outcome));
        }
    }

    /// Ends the calls that are due.
    pub(super) fn check(&mut self, now: Instant) {
        let due = |(_, waits): &(&CallId, &Waits)| waits.due() <= now;
        let due: Vec<CallId> = self
            .waiting
            .iter()
            .filter(due)
            .map(|(call, _)| call.clone())
            .collect();
        for call in due {
            let acknowledged = self.waiting.get(&call).is_some_and(|w| w.acknowledged);
            let error = if acknowledged {
                CallError::NotAnswered
            } else {
                CallError::NotAcknowledged
            };
            self.end(&call, Err(error));
        }
    }

    /// Ends the calls of a participant who is gone.
    pub(super) fn participant_left(&mut self, participant: ParticipantKey) {
        let calls = self.waiting.iter();
        let calls: Vec<CallId> = calls
            .filter(|(_, waits)| waits.participant == participant)
            .map(|(call, _)| call.clone())
            .collect();
        for call in calls {
            self.end(&call, Err(CallError::Disconnected));
        }
    }

    /// Takes what a participant sends when it belongs to a call of the server's.
    pub(super) fn take(&mut self, participant: ParticipantKey, packet: &DataPacket) -> bool {
        let id = match &packet.value {
            Some(data_packet::Value::RpcAck(ack)) => &ack.request_id,
            Some(data_packet::Value::RpcResponse(response)) => &response.request_id,
            _ => return false,
        };
        let call = CallId(id.clone());
        let Some(waits) = self.waiting.get_mut(&call) else {
            return false;
        };
        if waits.participant != participant {
            return false;
        }
        waits.acknowledged = true;
        if let Some(data_packet::Value::RpcResponse(response)) = &packet.value {
            self.end(&call, outcome_of(response));
        }
        true
    }
}

fn outcome_of(response: &RpcResponse) -> Result<String, CallError> {
    let error = match &response.value {
        Some(rpc_response::Value::Error(error)) => error,
        Some(rpc_response::Value::Payload(payload)) => {
            return Ok(payload.clone());
        }
        Some(rpc_response::Value::CompressedPayload(_)) | None => {
            return Ok(String::new());
        }
    };
    if error.code == 1_400 {
        return Err(CallError::NoMethod);
    }
    let text = if error.data.is_empty() {
        error.message.clone()
    } else {
        format!("{}: {}", error.message, error.data)
    };
    let text = text.chars().take(MAX_ERROR).collect();
    let code = error.code;
    Err(CallError::Answered { code, text })
}

#[cfg(test)]
mod tests {
    use moim_signaling::wire::{RpcAck, RpcError};

    use super::*;

    const WHO: ParticipantKey = ParticipantKey(1);

    fn waiting(now: Instant) -> (Rpcs, CallId) {
        let call = CallId("RPC_a".into());
        let waits = Waits {
            participant: WHO,
            acknowledged: false,
            ack_due: now + ACK_TIMEOUT,
            response_due: now + RESPONSE_TIMEOUT,
        };
        let mut rpcs = Rpcs::default();
        rpcs.waiting.insert(call.clone(), waits);
        (rpcs, call)
    }

    fn packet(value: data_packet::Value) -> DataPacket {
        DataPacket {
            value: Some(value),
            ..Default::default()
        }
    }

    fn ack() -> DataPacket {
        packet(data_packet::Value::RpcAck(RpcAck {
            request_id: "RPC_a".into(),
        }))
    }

    fn response(value: rpc_response::Value) -> DataPacket {
        packet(data_packet::Value::RpcResponse(RpcResponse {
            request_id: "RPC_a".into(),
            value: Some(value),
        }))
    }

    #[test]
    fn a_call_ends_once_by_its_response_or_its_time() {
        let now = Instant::now();
        let (mut rpcs, call) = waiting(now);
        assert!(!rpcs.take(ParticipantKey(2), &ack()) && rpcs.take(WHO, &ack()));
        rpcs.check(now + ACK_TIMEOUT);
        assert!(rpcs.take_ended().is_empty());
        let payload = response(rpc_response::Value::Payload("done".into()));
        assert!(rpcs.take(WHO, &payload) && !rpcs.take(WHO, &payload));
        let ended = vec![(call.clone(), Ok("done".to_owned()))];
        assert_eq!(rpcs.take_ended(), ended);
        rpcs.participant_left(WHO);
        assert!(rpcs.take_ended().is_empty());

        for (acknowledged, error) in [
            (false, CallError::NotAcknowledged),
            (true, CallError::NotAnswered),
        ] {
            let (mut rpcs, call) = waiting(now);
            if acknowledged {
                rpcs.take(WHO, &ack());
            }
            let due = rpcs.deadline().unwrap();
            rpcs.check(due);
            assert_eq!(rpcs.take_ended(), [(call, Err(error))]);
        }
    }

    #[test]
    fn what_a_participant_says_went_wrong_is_passed_on() {
        for (code, expected) in [
            (1_400, "RpcError 1400: Method not supported at destination"),
            (1_500, "RpcError 1500: broken: data"),
        ] {
            let error = RpcError {
                code,
                message: "broken".into(),
                data: "data".into(),
            };
            let (mut rpcs, _) = waiting(Instant::now());
            assert!(rpcs.take(WHO, &response(rpc_response::Value::Error(error))));
            let outcome = rpcs.take_ended().remove(0).1;
            assert_eq!(outcome.unwrap_err().to_string(), expected);
        }
    }
}
