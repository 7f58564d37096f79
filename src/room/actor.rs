//! The task that owns one room: it takes messages, media events and the time in turn, and
//! after each round tells the participants what has changed.

use std::sync::Arc;
use std::time::Duration;

use moim_signaling::outbox::OutboxReceiver;
use moim_signaling::wire::SignalRequest;
use moim_signaling::{Join, Refusal, SessionEnd};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::Instrument;

use super::participant::ParticipantKey;
use super::registry::Shared;
use super::seat::RoomSeat;
use super::state::Room;
use crate::media::handle::RoomEvents;
use moim_engine::Event;

/// Timeouts are looked at this often.
const TICK: Duration = Duration::from_millis(500);
/// Messages and events handled before the participants hear of them, so that a burst becomes
/// one offer and not many.
const ROUND: usize = 64;

/// What a join is answered with.
pub(super) type Joined = Result<(RoomSeat, OutboxReceiver), Refusal>;

/// What a room is told.
#[derive(Debug)]
pub(super) enum RoomMessage {
    Join {
        join: Box<Join>,
        reply: oneshot::Sender<Joined>,
    },
    Admits {
        identity: String,
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    Request {
        participant: ParticipantKey,
        session: u32,
        request: Box<SignalRequest>,
    },
    SessionEnded {
        participant: ParticipantKey,
        session: u32,
        end: SessionEnd,
    },
    /// The server is going down.
    Close,
}

/// Starts a room's task. It holds its own sender weakly, so that the channel ends with the
/// registry's and the sessions' ones.
pub(super) fn spawn(
    shared: Arc<Shared>,
    name: String,
    sender: mpsc::WeakSender<RoomMessage>,
    inbox: mpsc::Receiver<RoomMessage>,
) {
    // Of no session, although the first one to join starts it.
    let span = tracing::info_span!(parent: None, "room", room = %name);
    tokio::spawn(run(shared, name, sender, inbox).instrument(span));
}

async fn run(
    shared: Arc<Shared>,
    name: String,
    sender: mpsc::WeakSender<RoomMessage>,
    mut inbox: mpsc::Receiver<RoomMessage>,
) {
    let (media, mut events) = shared.media.place_room();
    shared.metrics.add_rooms(1);
    tracing::info!("the room begins");
    let mut room = Room::new(shared.clone(), name.clone(), sender, media);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            message = inbox.recv() => match message {
                Some(message) => {
                    room.handle_message(message);
                    for _ in 1..ROUND {
                        match inbox.try_recv() {
                            Ok(message) => room.handle_message(message),
                            Err(_) => break,
                        }
                    }
                }
                None => break,
            },
            event = events.recv() => match event {
                Some(event) => handle_events(&mut room, event, &mut events),
                None => {
                    tracing::error!("the room's media shard has ended");
                    room.close();
                    break;
                }
            },
            _ = ticks.tick() => room.handle_tick(Instant::now()),
        }
        room.flush(Instant::now());
        room.media.flush().await;
        if room.is_over(Instant::now()) {
            break;
        }
    }
    // First nobody can find the room any more, then it stops listening; a join that is on its
    // way learns so from its answer that never comes.
    shared
        .rooms
        .remove_if(&name, |_, sender| room.is_sender(sender));
    inbox.close();
    while let Ok(message) = inbox.try_recv() {
        drop(message);
    }
    shared.metrics.add_rooms(-1);
    tracing::info!("the room ends");
}

fn handle_events(room: &mut Room, first: Event, events: &mut RoomEvents) {
    room.handle_event(first);
    for _ in 1..ROUND {
        match events.try_recv() {
            Some(event) => room.handle_event(event),
            None => break,
        }
    }
}
