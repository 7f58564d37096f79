//! What happens in a room's media, on its way from the shards to the room.

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use moim_engine::event::Event;

/// Capacity, in events, of the channel from the shards to one room.
pub(super) const CAPACITY: usize = 4_096;

/// A shard's end of a room's events.
#[derive(Debug, Clone)]
pub struct EventSender(mpsc::Sender<Event>);

/// The room's end. It ends when all shards on which the room is have ended.
#[derive(Debug)]
pub struct RoomEvents(mpsc::Receiver<Event>);

/// Keeps the way to a room's events without keeping them from ending.
#[derive(Debug)]
pub(super) struct WeakEventSender(mpsc::WeakSender<Event>);

/// The two ends of a channel for `capacity` events.
pub(in crate::media) fn events(capacity: usize) -> (EventSender, RoomEvents) {
    let (sender, receiver) = mpsc::channel(capacity);
    (EventSender(sender), RoomEvents(receiver))
}

impl EventSender {
    /// Tells the room. Gives the event back when the room has no space for it now; a room that
    /// is over takes everything.
    ///
    /// # Errors
    /// The event, when there is no space.
    #[allow(clippy::result_large_err)] // It is moved either way.
    pub fn try_send(&self, event: Event) -> Result<(), Event> {
        match self.0.try_send(event) {
            Ok(()) | Err(TrySendError::Closed(_)) => Ok(()),
            Err(TrySendError::Full(event)) => Err(event),
        }
    }

    pub(super) fn downgrade(&self) -> WeakEventSender {
        WeakEventSender(self.0.downgrade())
    }
}

impl WeakEventSender {
    pub(super) fn upgrade(&self) -> Option<EventSender> {
        self.0.upgrade().map(EventSender)
    }
}

impl RoomEvents {
    /// The next event; `None` when the shards have ended.
    pub async fn recv(&mut self) -> Option<Event> {
        self.0.recv().await
    }

    /// The next event, if one waits.
    pub fn try_recv(&mut self) -> Option<Event> {
        self.0.try_recv().ok()
    }
}
