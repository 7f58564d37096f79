//! The task that owns one room: the shell of the sans-I/O [`Room`]. It takes messages, media
//! events and the time in turn, and after each round passes on what the room gives.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use moim_engine::event::Event;
use moim_signaling::outbox::{Outbox, OutboxError, outbox};
use moim_signaling::wire::{SignalResponse, signal_response};
use moim_signaling::{Join, Refusal, SessionEnd};
use tokio::sync::{mpsc, oneshot};
use tracing::Instrument;

use super::clock::Now;
use super::core::{About, Delivery, Room};
use super::id::SeatId;
use super::join::Seated;
use super::mailbox::{Joined, RoomMessage, RoomSeat};
use super::order::{Answer, OrderError};
use super::rpcs::CallId;
use super::shared::Shared;
use crate::media::handle::RoomEvents;

/// Messages and events that are handled before the participants hear of them, so that a burst
/// becomes one offer and not many.
const ROUND: usize = 64;

/// Starts a room's task. It holds its own sender weakly, so that the channel ends with the
/// registry's and the sessions' ones.
pub(super) fn spawn(
    shared: Arc<Shared>,
    about: About,
    sender: mpsc::WeakSender<RoomMessage>,
    inbox: mpsc::Receiver<RoomMessage>,
) {
    // Of no session, although the first one to join starts it.
    let span = tracing::info_span!(parent: None, "room", room = %about.name);
    let (task, events) = RoomTask::start(shared, about, sender);
    tokio::spawn(task.run(inbox, events).instrument(span));
}

struct RoomTask {
    shared: Arc<Shared>,
    name: String,
    sender: mpsc::WeakSender<RoomMessage>,
    room: Room,
    outboxes: HashMap<SeatId, Outbox>,
    /// Those who wait for answers that the room has put off.
    waiting: HashMap<CallId, oneshot::Sender<Result<Answer, OrderError>>>,
}

impl RoomTask {
    fn start(
        shared: Arc<Shared>,
        about: About,
        sender: mpsc::WeakSender<RoomMessage>,
    ) -> (RoomTask, RoomEvents) {
        let name = about.name.clone();
        let (media, events) = shared.media.place_room();
        let room = Room::new(about, media, rand::random(), Now::read());
        let task = RoomTask {
            shared,
            name,
            sender,
            room,
            outboxes: HashMap::new(),
            waiting: HashMap::new(),
        };
        (task, events)
    }

    async fn run(mut self, mut inbox: mpsc::Receiver<RoomMessage>, mut events: RoomEvents) {
        self.end_round().await;
        loop {
            let timeout = self.room.timeout();
            tokio::select! {
                message = inbox.recv() => match message {
                    Some(message) => self.handle_messages(message, &mut inbox),
                    None => break,
                },
                event = events.recv() => match event {
                    Some(event) => self.handle_events(event, &mut events),
                    None => {
                        tracing::error!("the room's media shard has ended");
                        self.room.close(Now::read());
                        self.end_round().await;
                        break;
                    }
                },
                () = until(timeout) => self.room.handle_timeout(Now::read()),
            }
            self.end_round().await;
            if self.room.is_over(Now::read()) {
                break;
            }
        }
        // First nobody can find the room any more, then it stops listening; a join that is on
        // its way learns so from its answer that never comes.
        let sender = &self.sender;
        let is_ours = |known: &mpsc::Sender<RoomMessage>| {
            sender
                .upgrade()
                .is_some_and(|ours| ours.same_channel(known))
        };
        self.shared
            .rooms
            .remove_if(&self.name, |_, known| is_ours(known));
        inbox.close();
        while let Ok(message) = inbox.try_recv() {
            drop(message);
        }
        self.room.finish();
        self.pass_on_facts();
    }

    fn handle_messages(&mut self, first: RoomMessage, inbox: &mut mpsc::Receiver<RoomMessage>) {
        self.handle_message(first);
        for _ in 1..ROUND {
            match inbox.try_recv() {
                Ok(message) => self.handle_message(message),
                Err(_) => break,
            }
        }
    }

    fn handle_events(&mut self, first: Event, events: &mut RoomEvents) {
        let now = Now::read();
        self.room.handle_media(now, first);
        for _ in 1..ROUND {
            match events.try_recv() {
                Some(event) => self.room.handle_media(now, event),
                None => break,
            }
        }
    }

    fn handle_message(&mut self, message: RoomMessage) {
        let now = Now::read();
        match message {
            RoomMessage::Join { join, reply } => {
                let joined = self.join(now, *join);
                // Nobody waits any more: the connection broke meanwhile.
                if let Err(Ok((
                    RoomSeat {
                        seat: Some(seat), ..
                    },
                    _,
                ))) = reply.send(joined)
                {
                    self.room.session_ended(now, seat, SessionEnd::Lost);
                }
            }
            RoomMessage::Admits { identity, reply } => {
                let _ = reply.send(self.room.admits(&identity));
            }
            RoomMessage::Request { seat, request } => {
                self.room.handle_request(now, seat, *request);
            }
            RoomMessage::SessionEnded { seat, end } => {
                self.outboxes.remove(&seat);
                self.room.session_ended(now, seat, end);
            }
            RoomMessage::Administer { order, reply } => match self.room.administer(now, *order) {
                Ok(Answer::Later(call)) => {
                    self.waiting.insert(call, reply);
                }
                answer => {
                    let _ = reply.send(answer);
                }
            },
            RoomMessage::Close => self.room.close(now),
        }
    }

    fn join(&mut self, now: Now, join: Join) -> Joined {
        let gone = || Refusal::Unavailable("the room is just ending; try again in a moment".into());
        let room = self.sender.upgrade().ok_or_else(gone)?;
        let (outbox, responses) = outbox();
        match self.room.join(now, join)? {
            Seated::Seat(seat) => {
                self.outboxes.insert(seat, outbox);
                let seat = Some(seat);
                Ok((RoomSeat { room, seat }, responses))
            }
            Seated::Dismissed(leave) => {
                let message = signal_response::Message::Leave(*leave);
                // The channel is new and empty: there is room.
                let _ = outbox.send(response(message));
                Ok((RoomSeat { room, seat: None }, responses))
            }
        }
    }

    /// Passes on what a round of inputs came to.
    async fn end_round(&mut self) {
        self.room.end_round(Now::read());
        for delivery in self.room.take_deliveries() {
            match delivery {
                Delivery::Messages(seat, messages) => self.deliver(seat, messages),
                Delivery::End(seat) => {
                    self.outboxes.remove(&seat);
                }
            }
        }
        for (call, answer) in self.room.take_answers() {
            if let Some(reply) = self.waiting.remove(&call) {
                let _ = reply.send(answer);
            }
        }
        self.pass_on_facts();
        self.room.media().flush().await;
    }

    /// A client that does not read has its outbox taken away, by which its session ends; nobody
    /// waits, and a resume brings it up to date.
    fn deliver(&mut self, seat: SeatId, messages: Vec<signal_response::Message>) {
        let Some(outbox) = self.outboxes.get(&seat) else {
            return;
        };
        for message in messages {
            match outbox.send(response(message)) {
                Ok(()) => {}
                Err(error) => {
                    if error == OutboxError::Full {
                        tracing::info!(?seat, "a client does not read its messages");
                    }
                    self.outboxes.remove(&seat);
                    self.room.session_ended(Now::read(), seat, SessionEnd::Lost);
                    return;
                }
            }
        }
    }

    fn pass_on_facts(&mut self) {
        while let Some(fact) = self.room.take_fact() {
            self.shared.metrics.count(&fact);
            for reader in &self.shared.readers {
                reader.read(&|| self.room.info(), &fact);
            }
        }
    }
}

fn response(message: signal_response::Message) -> SignalResponse {
    SignalResponse {
        message: Some(message),
    }
}

async fn until(timeout: Option<Instant>) {
    match timeout {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
