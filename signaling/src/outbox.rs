//! The queue of responses from a room to one session, bounded in messages and in bytes.
//!
//! A room never waits for a client: when the queue is full, the session is told so, drops what
//! is queued and ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use prost::Message as _;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::wire::SignalResponse;

/// Most messages that are queued for one session.
pub const MAX_MESSAGES: usize = 1_024;
/// Bytes, as encoded, from which on a session's queue takes no further message. The last one
/// may reach past it, so that a `JoinResponse` of any size finds room in an empty queue.
pub const MAX_BYTES: usize = 4 << 20;
/// What a queued message costs beside its fields, bytes.
const OVERHEAD: usize = size_of::<Queued>();

/// Makes an empty queue.
pub fn outbox() -> (Outbox, OutboxReceiver) {
    let (sender, receiver) = mpsc::channel(MAX_MESSAGES);
    let level = Arc::new(Level::default());
    let outbox = Outbox {
        sender,
        level: level.clone(),
    };
    (outbox, OutboxReceiver { receiver, level })
}

#[derive(Debug, Default)]
struct Level {
    bytes: AtomicUsize,
    has_overflowed: AtomicBool,
}

#[derive(Debug)]
struct Queued {
    response: SignalResponse,
    bytes: usize,
}

/// Why a message was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutboxError {
    /// The client has not read so much that the queue is full; its session ends.
    #[error("the client does not read its messages")]
    Full,
    /// The session has ended.
    #[error("the session has ended")]
    Closed,
}

/// A room's end of the queue. The session ends when it is dropped, after the messages that are
/// queued.
#[derive(Debug)]
pub struct Outbox {
    sender: mpsc::Sender<Queued>,
    level: Arc<Level>,
}

impl Outbox {
    /// Queues a message, without waiting.
    ///
    /// # Errors
    /// When the queue is full or its session has ended. No later message will be queued either.
    pub fn send(&self, response: SignalResponse) -> Result<(), OutboxError> {
        if self.level.has_overflowed.load(Ordering::Acquire) {
            return Err(OutboxError::Full);
        }
        if self.level.bytes.load(Ordering::Relaxed) >= MAX_BYTES {
            return Err(self.overflow());
        }
        let bytes = OVERHEAD + response.encoded_len();
        self.level.bytes.fetch_add(bytes, Ordering::Relaxed);
        match self.sender.try_send(Queued { response, bytes }) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => Err(self.overflow()),
            Err(TrySendError::Closed(_)) => Err(OutboxError::Closed),
        }
    }

    fn overflow(&self) -> OutboxError {
        self.level.has_overflowed.store(true, Ordering::Release);
        OutboxError::Full
    }
}

/// Why there are no more messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutboxEnd {
    /// The room has dropped its end: it has said everything.
    Dropped,
    /// The queue was full. What was queued is not worth sending: the client has to begin again.
    Overflowed,
}

/// A session's end of the queue.
#[derive(Debug)]
pub struct OutboxReceiver {
    receiver: mpsc::Receiver<Queued>,
    level: Arc<Level>,
}

impl OutboxReceiver {
    /// The next message. Loses none when the future is dropped.
    ///
    /// # Errors
    /// When there are no more.
    pub async fn receive(&mut self) -> Result<SignalResponse, OutboxEnd> {
        let queued = self.receiver.recv().await;
        if self.level.has_overflowed.load(Ordering::Acquire) {
            return Err(OutboxEnd::Overflowed);
        }
        let queued = queued.ok_or(OutboxEnd::Dropped)?;
        self.level.bytes.fetch_sub(queued.bytes, Ordering::Relaxed);
        Ok(queued.response)
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::wire::signal_response::Message;

    fn token(len: usize) -> SignalResponse {
        SignalResponse {
            message: Some(Message::RefreshToken("t".repeat(len))),
        }
    }

    #[tokio::test]
    async fn messages_come_out_in_order_and_then_the_end() {
        let (outbox, mut receiver) = outbox();
        for len in [3, 1, 2] {
            outbox.send(token(len)).unwrap();
        }
        drop(outbox);
        for len in [3, 1, 2] {
            assert_eq!(receiver.receive().await, Ok(token(len)));
        }
        assert_eq!(receiver.receive().await, Err(OutboxEnd::Dropped));
    }

    #[tokio::test]
    async fn what_is_queued_is_bounded_in_bytes_and_in_messages() {
        let seed = rand::random();
        let mut rng = StdRng::seed_from_u64(seed);
        for _ in 0..20 {
            let (outbox, mut receiver) = outbox();
            let largest = rng.random_range(1..1 << 20);
            let (mut bytes, mut messages) = (0, 0);
            let refused = loop {
                let response = token(rng.random_range(0..largest));
                let len = response.encoded_len();
                if let Err(error) = outbox.send(response) {
                    break error;
                }
                (bytes, messages) = (bytes + len, messages + 1);
            };
            assert_eq!(refused, OutboxError::Full, "seed {seed}");
            assert!(bytes < MAX_BYTES + largest + 16 && messages <= MAX_MESSAGES);
            assert!(bytes + messages * OVERHEAD >= MAX_BYTES || messages == MAX_MESSAGES);
            // Neither side goes on.
            assert_eq!(outbox.send(token(0)), Err(OutboxError::Full));
            assert_eq!(receiver.receive().await, Err(OutboxEnd::Overflowed));
        }
    }

    #[tokio::test]
    async fn a_client_that_reads_gets_any_amount() {
        let (outbox, mut receiver) = outbox();
        for _ in 0..50 {
            outbox.send(token(MAX_BYTES - 1_000)).unwrap();
            outbox.send(token(8 << 20)).unwrap();
            assert!(receiver.receive().await.is_ok());
            assert!(receiver.receive().await.is_ok());
        }
    }

    #[test]
    fn a_session_that_has_ended_takes_nothing() {
        let (outbox, receiver) = outbox();
        drop(receiver);
        assert_eq!(outbox.send(token(1)), Err(OutboxError::Closed));
    }
}
