//! All rooms of the server by name.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use moim_signaling::outbox::OutboxReceiver;
use moim_signaling::token::TokenIssuer;
use moim_signaling::wire::Room;
use moim_signaling::{Join, Refusal, Rooms};
use tokio::sync::{mpsc, oneshot};

use super::id::random_text;
use super::journal::FactReader;
use super::mailbox::{INBOX_CAPACITY, RoomMessage, RoomSeat};
use super::metrics::RoomMetrics;
use super::order::{Answer, Order, OrderError, ParticipantOrder, RoomChanges};
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
    /// A server without rooms. The readers are told what happens in those that come.
    pub fn new(
        settings: RoomSettings,
        issuer: TokenIssuer,
        media: Media,
        readers: Vec<Arc<dyn FactReader>>,
    ) -> Registry {
        Registry(Arc::new(Shared {
            settings,
            issuer,
            media,
            metrics: Arc::default(),
            readers,
            node_id: format!("ND_{}", random_text(&mut rand::rng(), 12)),
            revocations: Mutex::default(),
            rooms: DashMap::new(),
            closing: AtomicBool::new(false),
        }))
    }

    /// Counts over all rooms.
    pub fn metrics(&self) -> &RoomMetrics {
        &self.0.metrics
    }

    /// Whether somebody may join: the server is not about to stop.
    pub fn takes_joins(&self) -> bool {
        !self.0.closing.load(Ordering::Relaxed)
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
        give(&self.existing(room)?, order).await
    }

    /// Describes the rooms that exist, or those of them that are named, in the order of their
    /// names.
    pub async fn list(&self, named: &[String]) -> Vec<Room> {
        let mut names: Vec<String> = if named.is_empty() {
            self.0.rooms.iter().map(|room| room.key().clone()).collect()
        } else {
            named.to_vec()
        };
        names.sort_unstable();
        names.dedup();
        let mut rooms = Vec::with_capacity(names.len());
        for name in names {
            if let Some(Ok(Answer::Room(room))) = self.administer(&name, Order::Describe).await {
                rooms.push(*room);
            }
        }
        rooms
    }

    /// Makes a room, or changes the one that has this name.
    ///
    /// # Errors
    /// When the server takes no more rooms, or the room does not take the change.
    pub async fn create(&self, name: &str, changes: RoomChanges) -> Result<Room, CreateError> {
        changes.check()?;
        for _ in 0..JOIN_ATTEMPTS {
            let (room, is_new) = self.find_or_create(name, Asked::ByRequest(&changes))?;
            let order = if is_new {
                Order::Describe
            } else {
                Order::Configure(changes.clone())
            };
            match give(&room, order).await {
                Some(Ok(Answer::Room(room))) => return Ok(*room),
                Some(Err(error)) if error != OrderError::Ending => return Err(error.into()),
                _ => {}
            }
        }
        Err(OrderError::Ending.into())
    }

    /// Whether a join makes a room that is not there.
    pub fn creates_on_join(&self) -> bool {
        self.0.settings.auto_create
    }

    /// Takes somebody's tokens for a room no more that became valid before a time in unix seconds.
    pub fn revoke(&self, room: &str, identity: &str, before: u64) {
        let revocations = self.0.revocations.lock();
        let mut revocations = revocations.unwrap_or_else(PoisonError::into_inner);
        revocations.revoke(room, identity, before);
    }

    /// Moves a participant to another room, which is made when there is none. Its client is told
    /// and joins there, with its tracks. `None` when there is no room to move it from.
    ///
    /// # Errors
    /// When the participant is not there, or the other room does not take it.
    pub async fn move_participant(
        &self,
        from: &str,
        identity: &str,
        to: &str,
    ) -> Option<Result<(), CreateError>> {
        let from = self.existing(from)?;
        let identity = identity.to_owned();
        Some(self.move_between(&from, identity, to).await)
    }

    async fn move_between(
        &self,
        from: &mpsc::Sender<RoomMessage>,
        identity: String,
        to: &str,
    ) -> Result<(), CreateError> {
        let ordered = |answer: Option<_>| answer.unwrap_or(Err(OrderError::Ending));
        let looked_for = Order::Participant {
            identity: identity.clone(),
            order: ParticipantOrder::Describe,
        };
        ordered(give(from, looked_for).await)?;
        let room = self.create(to, RoomChanges::default()).await?;
        let (to, _) = self.find_or_create(to, Asked::ByRequest(&RoomChanges::default()))?;
        admission(&to, &identity).await?;
        let participants = match ordered(give(&to, Order::ListParticipants).await)? {
            Answer::Participants(participants) => participants,
            _ => Vec::new(),
        };
        let order = ParticipantOrder::Move {
            room: Box::new(room),
            participants,
        };
        let order = Order::Participant { identity, order };
        ordered(give(from, order).await)?;
        Ok(())
    }

    /// Sends everybody out of a room, and returns when it has ended. False when there is none.
    pub async fn delete(&self, name: &str) -> bool {
        let Some(room) = self.existing(name) else {
            return false;
        };
        let existed = give(&room, Order::Delete).await.is_some();
        room.closed().await;
        existed
    }

    fn existing(&self, name: &str) -> Option<mpsc::Sender<RoomMessage>> {
        self.0.rooms.get(name).map(|room| room.value().clone())
    }

    /// The room with this name, and whether it is new: it is made when there is none, by a join
    /// only if rooms are made so, with what `asked` says of it. One that has ended counts as none.
    fn find_or_create(
        &self,
        name: &str,
        asked: Asked<'_>,
    ) -> Result<(mpsc::Sender<RoomMessage>, bool), Refusal> {
        if self.0.closing.load(Ordering::Relaxed) {
            let text = "the server is shutting down; try again in a moment";
            return Err(Refusal::Unavailable(text.into()));
        }
        // Counted before the entry is locked; joins at the same moment may exceed it by a few.
        let has_place = self.0.rooms.len() < self.0.settings.max_rooms;
        match self.0.rooms.entry(name.to_owned()) {
            Entry::Occupied(entry) if !entry.get().is_closed() => Ok((entry.get().clone(), false)),
            _ if !asked.makes_room(&self.0.settings) => Err(no_such_room()),
            Entry::Vacant(_) if !has_place => Err(too_many_rooms()),
            entry => {
                let (sender, inbox) = mpsc::channel(INBOX_CAPACITY);
                entry.insert(sender.clone());
                let about = self.0.about(name, asked.changes());
                task::spawn(self.0.clone(), about, sender.downgrade(), inbox);
                Ok((sender, true))
            }
        }
    }
}

/// Who looks for a room.
enum Asked<'a> {
    /// A request to make it.
    ByRequest(&'a RoomChanges),
    /// Somebody who joins it.
    ByJoin(&'a Join),
}

impl Asked<'_> {
    /// Whether the room is made when there is none.
    fn makes_room(&self, settings: &RoomSettings) -> bool {
        match self {
            Asked::ByRequest(_) => true,
            Asked::ByJoin(join) => {
                let grant = join.claims.video.as_ref();
                settings.auto_create || grant.is_some_and(|grant| grant.room_create)
            }
        }
    }

    /// What the new room is. A token may say it, within the bounds of requests.
    fn changes(&self) -> RoomChanges {
        match self {
            Asked::ByRequest(changes) => (*changes).clone(),
            Asked::ByJoin(join) => {
                let said = join.claims.room_config.as_ref().map(RoomChanges::from);
                said.filter(|said| said.check().is_ok()).unwrap_or_default()
            }
        }
    }
}

/// Why a room is not made or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// The server makes no room now.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The room does not take the change.
    #[error(transparent)]
    Order(#[from] OrderError),
}

/// Gives an order to a room. `None` when it has ended.
async fn give(
    room: &mpsc::Sender<RoomMessage>,
    order: Order,
) -> Option<Result<Answer, OrderError>> {
    let (reply, answer) = oneshot::channel();
    let order = Box::new(order);
    room.send(RoomMessage::Administer { order, reply })
        .await
        .ok()?;
    Some(answer.await.unwrap_or(Err(OrderError::Ending)))
}

/// Whether a room would take somebody. One that has ended makes way for a new one.
async fn admission(room: &mpsc::Sender<RoomMessage>, identity: &str) -> Result<(), Refusal> {
    let (reply, answer) = oneshot::channel();
    let identity = identity.to_owned();
    if room
        .send(RoomMessage::Admits { identity, reply })
        .await
        .is_err()
    {
        return Ok(());
    }
    answer.await.unwrap_or(Ok(()))
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
        self.0.check_revocation(join)?;
        let Some(room) = self.existing(&join.room) else {
            if !Asked::ByJoin(join).makes_room(&self.0.settings) {
                return Err(no_such_room());
            }
            if self.0.rooms.len() >= self.0.settings.max_rooms {
                return Err(too_many_rooms());
            }
            return Ok(());
        };
        admission(&room, &join.identity).await
    }

    async fn join(&self, join: Join) -> Result<(RoomSeat, OutboxReceiver), Refusal> {
        self.0.check_revocation(&join)?;
        for _ in 0..JOIN_ATTEMPTS {
            let (room, _) = self.find_or_create(&join.room, Asked::ByJoin(&join))?;
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
