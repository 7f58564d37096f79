//! Events on their way to the rooms: never waiting, never growing without bound, and losing
//! nothing silently.
//!
//! What a slow room does not take is kept for it. The bytes of messages are bounded by the
//! engine, which gives a room no more before it has passed on what it has; their number, and
//! that of all other events, is bounded here. A room that would miss an event that it relies on
//! is ended.

use std::collections::{HashMap, VecDeque};

use crate::media::handle::EventSender;
use moim_engine::ids::RoomId;
use moim_engine::{Event, RoomEvent};

/// Events kept for a room whose channel is full. Messages are at most as many (see
/// [`Event::window_cost`]), so that this leaves space for as many other events, which come a few
/// a second and participant.
const MAX_KEPT: usize = 8_192;

struct Mailbox {
    sender: EventSender,
    kept: VecDeque<Event>,
    /// What is kept is the last there is.
    ending: bool,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivered {
    /// The room has it or will have it, or there is no such room.
    Taken,
    /// It was dropped, as its kind may be when a room is slow.
    Dropped,
    /// The room was to miss it, and is ended instead.
    Ended,
}

/// Where each room's events go.
#[derive(Default)]
pub(super) struct Delivery {
    rooms: HashMap<RoomId, Mailbox>,
    dropped: u64,
}

impl Delivery {
    pub(super) fn open(&mut self, room: RoomId, sender: EventSender) {
        let kept = VecDeque::new();
        let ending = false;
        let mailbox = Mailbox {
            sender,
            kept,
            ending,
        };
        self.rooms.insert(room, mailbox);
    }

    pub(super) fn close(&mut self, room: RoomId) {
        self.rooms.remove(&room);
    }

    /// Tells every room that its media is gone.
    pub(super) fn end_all(&mut self) {
        self.rooms.values_mut().for_each(Mailbox::end);
        self.retry();
    }

    /// Events that no room would take.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether something waits for a room to read.
    pub(super) fn is_waiting(&self) -> bool {
        self.rooms.values().any(|mailbox| !mailbox.kept.is_empty())
    }

    pub(super) fn deliver(&mut self, RoomEvent { room, event }: RoomEvent) -> Delivered {
        let mailbox = self.rooms.get_mut(&room).filter(|mailbox| !mailbox.ending);
        let delivered = mailbox.map_or(Delivered::Taken, |mailbox| mailbox.deliver(event));
        if delivered != Delivered::Taken {
            self.dropped += 1;
        }
        delivered
    }

    /// Tries again what waits.
    pub(super) fn retry(&mut self) {
        for mailbox in self.rooms.values_mut() {
            while let Some(event) = mailbox.kept.pop_front() {
                if let Err(event) = mailbox.sender.try_send(event) {
                    mailbox.kept.push_front(event);
                    break;
                }
            }
        }
    }
}

impl Mailbox {
    fn deliver(&mut self, event: Event) -> Delivered {
        // Order is kept: behind what waits, everything waits.
        let refused = if self.kept.is_empty() {
            self.sender.try_send(event).err()
        } else {
            Some(event)
        };
        match refused {
            None => Delivered::Taken,
            Some(event) if event.may_be_lost() => Delivered::Dropped,
            Some(event) if self.kept.len() < MAX_KEPT => {
                self.kept.push_back(event);
                Delivered::Taken
            }
            Some(_) => {
                self.end();
                Delivered::Ended
            }
        }
    }

    /// The room hears that its media is gone, and nothing after that.
    fn end(&mut self) {
        self.kept.clear();
        self.kept.push_back(Event::ShardEnded);
        self.ending = true;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::media::handle::RoomEvents;
    use crate::media::handle::events::events;
    use moim_engine::command::DataChannel;
    use moim_engine::ids::TransportId;

    fn data(number: u32, channel: DataChannel) -> RoomEvent {
        RoomEvent {
            room: RoomId(1),
            event: Event::Data {
                transport: TransportId(number.into()),
                channel,
                payload: Bytes::new(),
            },
        }
    }

    /// A room that takes `capacity` events before it is slow.
    fn room(capacity: usize) -> (Delivery, RoomEvents) {
        let (sender, receiver, _) = events(capacity, 1, 0);
        let mut delivery = Delivery::default();
        delivery.open(RoomId(1), sender);
        (delivery, receiver)
    }

    #[test]
    fn a_room_that_is_slow_gets_reliable_events_later_and_in_order() {
        let (mut delivery, mut receiver) = room(2);
        for number in 0..6 {
            delivery.deliver(data(number, DataChannel::Reliable));
            delivery.deliver(data(100, DataChannel::Lossy));
        }
        let mut numbers = Vec::new();
        loop {
            while let Some(Event::Data { transport, .. }) = receiver.try_recv() {
                numbers.push(transport.0);
            }
            if !delivery.is_waiting() {
                break;
            }
            delivery.retry();
        }
        numbers.retain(|number| *number != 100);
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
        assert!(delivery.dropped() >= 5);
    }

    #[test]
    fn a_room_that_never_reads_costs_a_bounded_memory_and_is_told_that_it_missed_something() {
        let (mut delivery, mut receiver) = room(1);
        let mut ended = 0;
        for number in 0..20_000 {
            let delivered = delivery.deliver(data(number, DataChannel::Reliable));
            assert_ne!(
                delivered,
                Delivered::Dropped,
                "message {number} was lost silently"
            );
            ended += u32::from(delivered == Delivered::Ended);
            assert!(delivery.rooms[&RoomId(1)].kept.len() <= MAX_KEPT);
        }
        assert_eq!(ended, 1, "it is ended once");
        let mut last = None;
        while let Some(event) = receiver.try_recv() {
            last = Some(event);
            delivery.retry();
        }
        assert!(matches!(last, Some(Event::ShardEnded)), "{last:?}");
    }

    #[test]
    fn a_connection_that_comes_up_is_told_to_a_room_that_was_flooded() {
        let (mut delivery, mut receiver) = room(1);
        for number in 0..4_096 {
            delivery.deliver(data(number, DataChannel::Reliable));
            delivery.deliver(data(number, DataChannel::Lossy));
        }
        let event = Event::TransportConnected(TransportId(9));
        let room = RoomId(1);
        let delivered = delivery.deliver(RoomEvent { room, event });
        assert_eq!(delivered, Delivered::Taken);
        let mut connected = false;
        while let Some(event) = receiver.try_recv() {
            connected |= matches!(event, Event::TransportConnected(TransportId(9)));
            delivery.retry();
        }
        assert!(connected);
    }

    #[test]
    fn every_room_hears_of_the_end_even_one_that_is_slow_and_nothing_after_it() {
        let (mut delivery, mut receiver) = room(1);
        for number in 0..3 {
            delivery.deliver(data(number, DataChannel::Reliable));
        }
        delivery.end_all();
        delivery.deliver(data(9, DataChannel::Reliable));
        assert!(matches!(receiver.try_recv(), Some(Event::Data { .. })));
        assert!(delivery.is_waiting());
        delivery.retry();
        assert!(matches!(receiver.try_recv(), Some(Event::ShardEnded)));
        delivery.retry();
        assert!(receiver.try_recv().is_none());
        assert!(!delivery.is_waiting());
    }
}
