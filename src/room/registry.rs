//! All rooms of the server by name.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use moim_signaling::outbox::OutboxReceiver;
use moim_signaling::token::TokenIssuer;
use moim_signaling::wire::Room;
use moim_signaling::{Join, Refusal, Rooms};
use tokio::sync::{mpsc, oneshot};

use super::admin::{Answer, Order, OrderError};
use super::id::random_text;
use super::mailbox::{INBOX_CAPACITY, RoomMessage, RoomSeat};
use super::metrics::RoomMetrics;
use super::settings::RoomSettings;
use super::shared::Shared;
use super::task;
use crate::media::handle::Media;

/// A join that finds its room just ending tries again this often.
const JOIN_ATTEMPTS: usize = 4;

/// The rooms of this server.
#[derive(Clone)]
pub struct Registry(Arc<Shared>);

impl Registry {
    /// A server without rooms.
    pub fn new(settings: RoomSettings, issuer: TokenIssuer, media: Media) -> Registry {
        Registry(Arc::new(Shared {
            settings,
            issuer,
            media,
            metrics: Arc::default(),
            node_id: format!("ND_{}", random_text(&mut rand::rng(), 12)),
            rooms: DashMap::new(),
            closing: AtomicBool::new(false),
        }))
    }

    /// Counts over all rooms.
    pub fn metrics(&self) -> &RoomMetrics {
        &self.0.metrics
    }

    /// Takes no more joins and sends everybody away.
    pub async fn close(&self) {
        self.0.closing.store(true, Ordering::Relaxed);
        let rooms: Vec<_> = self
            .0
            .rooms
            .iter()
            .map(|room| room.value().clone())
            .collect();
        for room in rooms {
            if room.send(RoomMessage::Close).await.is_ok() {
                room.closed().await;
            }
        }
    }

    /// Gives an order to a room. `None` when there is no such room.
    pub async fn administer(&self, room: &str, order: Order) -> Option<Result<Answer, OrderError>> {
        let room = self.existing(room)?;
        let (reply, answer) = oneshot::channel();
        let order = Box::new(order);
        let message = RoomMessage::Administer { order, reply };
        if room.send(message).await.is_err() {
            return None;
        }
        Some(answer.await.unwrap_or(Err(OrderError::Ending)))
    }

    /// Describes the rooms that exist, in the order of their names.
    pub async fn list(&self) -> Vec<Room> {
        let mut names: Vec<String> = self.0.rooms.iter().map(|room| room.key().clone()).collect();
        names.sort_unstable();
        let mut rooms = Vec::with_capacity(names.len());
        for name in names {
            if let Some(Ok(Answer::Room(room))) = self.administer(&name, Order::Describe).await {
                rooms.push(*room);
            }
        }
        rooms
    }

    fn existing(&self, name: &str) -> Option<mpsc::Sender<RoomMessage>> {
        self.0.rooms.get(name).map(|room| room.value().clone())
    }

    /// The room with this name, made when there is none. One that has ended counts as none.
    fn find_or_create(&self, name: &str) -> Result<mpsc::Sender<RoomMessage>, Refusal> {
        if self.0.closing.load(Ordering::Relaxed) {
            let text = "the server is shutting down; try again in a moment";
            return Err(Refusal::Unavailable(text.into()));
        }
        // Counted before the entry is locked; joins at the same moment may exceed it by a few.
        let has_place = self.0.rooms.len() < self.0.settings.max_rooms;
        match self.0.rooms.entry(name.to_owned()) {
            Entry::Occupied(entry) if !entry.get().is_closed() => Ok(entry.get().clone()),
            _ if !self.0.settings.auto_create => Err(no_such_room()),
            Entry::Vacant(_) if !has_place => Err(too_many_rooms()),
            entry => {
                let (sender, inbox) = mpsc::channel(INBOX_CAPACITY);
                entry.insert(sender.clone());
                task::spawn(self.0.clone(), name.to_owned(), sender.downgrade(), inbox);
                Ok(sender)
            }
        }
    }
}

fn too_many_rooms() -> Refusal {
    let text = "the server has as many rooms as it may have (limit.num_rooms); try again later";
    Refusal::Unavailable(text.into())
}

fn no_such_room() -> Refusal {
    // Clients look for this text to tell a missing room from a missing service.
    Refusal::NotFound("requested room does not exist".into())
}

impl Rooms for Registry {
    type Seat = RoomSeat;

    async fn admits(&self, join: &Join) -> Result<(), Refusal> {
        let Some(room) = self.existing(&join.room) else {
            if !self.0.settings.auto_create {
                return Err(no_such_room());
            }
            if self.0.rooms.len() >= self.0.settings.max_rooms {
                return Err(too_many_rooms());
            }
            return Ok(());
        };
        let (reply, answer) = oneshot::channel();
        let identity = join.identity.clone();
        if room
            .send(RoomMessage::Admits { identity, reply })
            .await
            .is_err()
        {
            return Ok(());
        }
        answer.await.unwrap_or(Ok(()))
    }

    async fn join(&self, join: Join) -> Result<(RoomSeat, OutboxReceiver), Refusal> {
        for _ in 0..JOIN_ATTEMPTS {
            let room = self.find_or_create(&join.room)?;
            let (reply, answer) = oneshot::channel();
            let join = Box::new(join.clone());
            if room.send(RoomMessage::Join { join, reply }).await.is_err() {
                continue;
            }
            if let Ok(outcome) = answer.await {
                if outcome.is_err() {
                    self.0.metrics.refused();
                }
                return outcome;
            }
        }
        let text = "the room is just ending; try again in a moment";
        Err(Refusal::Unavailable(text.into()))
    }
}
