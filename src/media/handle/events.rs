//! What happens in a room's media, on its way from the shards to the room.
//!
//! The number of events that wait is bounded by the channel, and the bytes of messages among
//! them by each shard's engine: it gives a room only so much before the room has passed on what
//! it was given.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use moim_engine::event::Event;

/// Capacity, in events, of the channel from the shards to one room.
pub(super) const CAPACITY: usize = 4_096;

/// A shard's end of a room's events.
#[derive(Debug, Clone)]
pub struct EventSender {
    shard: usize,
    events: mpsc::Sender<(usize, Event)>,
}

/// The room's end. It ends when all shards on which the room is have ended.
#[derive(Debug)]
pub struct RoomEvents {
    events: mpsc::Receiver<(usize, Event)>,
    taken: Arc<Taken>,
}

/// Keeps the way to a room's events without keeping them from ending.
#[derive(Debug)]
pub(super) struct WeakEventSender(mpsc::WeakSender<(usize, Event)>);

/// What the room has taken of its events and the shards do not know of, in bytes as
/// [`Event::window_cost`] counts them, by the index of the shard.
#[derive(Debug)]
pub(in crate::media) struct Taken(Box<[AtomicUsize]>);

impl Taken {
    /// What the room has taken of a shard's events since this was last asked.
    pub(in crate::media) fn reset(&self, shard: usize) -> usize {
        self.0[shard].swap(0, Ordering::Relaxed)
    }
}

/// The two ends of a channel for `capacity` events of a room that is on the shard with the
/// index `home` of `shards`, and what tells the shards that its events were taken.
pub(in crate::media) fn events(
    capacity: usize,
    shards: usize,
    home: usize,
) -> (EventSender, RoomEvents, Arc<Taken>) {
    let (sender, receiver) = mpsc::channel(capacity);
    let taken = Arc::new(Taken((0..shards).map(|_| AtomicUsize::new(0)).collect()));
    let sender = EventSender {
        shard: home,
        events: sender,
    };
    let events = RoomEvents {
        events: receiver,
        taken: taken.clone(),
    };
    (sender, events, taken)
}

impl EventSender {
    /// Tells the room. Gives the event back when the room has no space for it now; a room that
    /// is over takes everything.
    ///
    /// # Errors
    /// The event, when there is no space.
    #[allow(clippy::result_large_err)] // It is moved either way.
    pub fn try_send(&self, event: Event) -> Result<(), Event> {
        match self.events.try_send((self.shard, event)) {
            Ok(()) | Err(TrySendError::Closed(_)) => Ok(()),
            Err(TrySendError::Full((_, event))) => Err(event),
        }
    }

    pub(super) fn downgrade(&self) -> WeakEventSender {
        WeakEventSender(self.events.downgrade())
    }
}

impl WeakEventSender {
    /// The end for the shard with this index.
    pub(super) fn upgrade(&self, shard: usize) -> Option<EventSender> {
        let events = self.0.upgrade()?;
        Some(EventSender { shard, events })
    }
}

impl RoomEvents {
    /// The next event; `None` when the shards have ended. What messages there are among the
    /// events counts as passed on at the next [`RoomMedia::flush`](super::RoomMedia::flush),
    /// and only then are more messages read.
    pub async fn recv(&mut self) -> Option<Event> {
        let event = self.events.recv().await;
        self.take(event)
    }

    /// The next event, if one waits.
    pub fn try_recv(&mut self) -> Option<Event> {
        let event = self.events.try_recv().ok();
        self.take(event)
    }

    fn take(&self, event: Option<(usize, Event)>) -> Option<Event> {
        let (shard, event) = event?;
        let cost = event.window_cost();
        if cost > 0 {
            self.taken.0[shard].fetch_add(cost, Ordering::Relaxed);
        }
        Some(event)
    }
}
