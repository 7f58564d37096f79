//! The events that wait to be taken out of an engine.

use std::collections::VecDeque;

use crate::api::event::{Event, RoomEvent};
use crate::api::ids::RoomId;

/// Events that wait. The shell takes all of them after each round of datagrams and orders,
/// which cause a few thousand at most; the bytes of messages have a bound of their own.
const MAX_EVENTS: usize = 16_384;

/// The events that wait, oldest first.
#[derive(Default)]
pub(crate) struct EventQueue(VecDeque<RoomEvent>);

impl EventQueue {
    /// Puts an event at the end. When there is no space, one that may be lost is, and for
    /// any other the room hears that its media is gone, instead of missing something silently.
    pub(crate) fn push(&mut self, room: RoomId, event: Event) {
        if self.0.len() < MAX_EVENTS {
            self.0.push_back(RoomEvent { room, event });
        } else if !event.may_be_lost() {
            self.0.retain(|waiting| waiting.room != room);
            let event = Event::ShardEnded;
            self.0.push_back(RoomEvent { room, event });
        }
    }

    /// Takes the oldest one.
    pub(crate) fn pop(&mut self) -> Option<RoomEvent> {
        self.0.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ids::TransportId;

    #[test]
    fn a_flood_is_bounded_and_a_room_that_misses_something_is_told_so() {
        let mut queue = EventQueue::default();
        let (flooding, quiet) = (RoomId(1), RoomId(2));
        let connected = |number| Event::TransportConnected(TransportId(number));
        queue.push(quiet, connected(7));
        for number in 0..100_000 {
            queue.push(flooding, connected(number));
            assert!(queue.0.len() <= MAX_EVENTS);
        }
        queue.push(quiet, connected(8));
        let events: Vec<RoomEvent> = std::iter::from_fn(|| queue.pop()).collect();
        let of = |room| events.iter().filter(move |event| event.room == room);
        let ended = of(flooding).any(|event| matches!(event.event, Event::ShardEnded));
        assert!(ended, "its events were lost and nothing said so");
        let whole = [7, 8].map(TransportId);
        let heard: Vec<TransportId> = of(quiet)
            .filter_map(|event| match event.event {
                Event::TransportConnected(transport) => Some(transport),
                _ => None,
            })
            .collect();
        assert_eq!(heard, whole);
    }

    #[test]
    fn what_may_be_lost_ends_no_room() {
        let mut queue = EventQueue::default();
        for _ in 0..100_000 {
            queue.push(RoomId(1), Event::Speakers(Vec::new()));
        }
        let events = std::iter::from_fn(|| queue.pop());
        let mut kept = 0;
        for event in events {
            assert!(matches!(event.event, Event::Speakers(_)));
            kept += 1;
        }
        assert_eq!(kept, MAX_EVENTS);
    }
}
