//! Events on their way to the rooms: never waiting, never growing without bound.

use std::collections::{HashMap, VecDeque};

use crate::media::handle::EventSender;
use moim_engine::command::DataChannel;
use moim_engine::ids::RoomId;
use moim_engine::{Event, RoomEvent};

/// Events kept for a room whose channel is full.
const MAX_KEPT: usize = 4_096;

struct Mailbox {
    sender: EventSender,
    kept: VecDeque<Event>,
    /// What is kept is the last there is.
    ending: bool,
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
        for mailbox in self.rooms.values_mut() {
            mailbox.kept.clear();
            mailbox.kept.push_back(Event::ShardEnded);
            mailbox.ending = true;
        }
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

    pub(super) fn deliver(&mut self, RoomEvent { room, event }: RoomEvent) {
        let mailbox = self.rooms.get_mut(&room).filter(|mailbox| !mailbox.ending);
        let Some(mailbox) = mailbox else {
            return;
        };
        // Order is kept: behind what waits, everything waits.
        if mailbox.kept.is_empty() {
            if let Err(event) = mailbox.sender.try_send(event) {
                keep(mailbox, event, &mut self.dropped);
            }
        } else {
            keep(mailbox, event, &mut self.dropped);
        }
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

fn keep(mailbox: &mut Mailbox, event: Event, dropped: &mut u64) {
    let lossy = matches!(
        event,
        Event::Data {
            channel: DataChannel::Lossy | DataChannel::DataTrack,
            ..
        } | Event::Speakers(_)
            | Event::Quality(_)
            | Event::SubscriptionStarted(_)
    );
    if lossy || mailbox.kept.len() >= MAX_KEPT {
        *dropped += 1;
        return;
    }
    mailbox.kept.push_back(event);
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::media::handle::events::events;
    use moim_engine::ids::TransportId;

    fn data(number: u32, channel: DataChannel) -> RoomEvent {
        RoomEvent {
            room: RoomId(1),
            event: Event::Data {
                transport: TransportId(number),
                channel,
                payload: Bytes::new(),
            },
        }
    }

    #[test]
    fn a_room_that_is_slow_gets_reliable_events_later_and_in_order() {
        let (sender, mut receiver) = events(2);
        let mut delivery = Delivery::default();
        delivery.open(RoomId(1), sender);
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
    fn a_room_that_never_reads_costs_a_bounded_memory() {
        let (sender, _receiver) = events(1);
        let mut delivery = Delivery::default();
        delivery.open(RoomId(1), sender);
        for number in 0..20_000 {
            delivery.deliver(data(number, DataChannel::Reliable));
        }
        assert!(delivery.rooms[&RoomId(1)].kept.len() <= MAX_KEPT);
    }

    #[test]
    fn every_room_hears_of_the_end_even_one_that_is_slow_and_nothing_after_it() {
        let (sender, mut receiver) = events(1);
        let mut delivery = Delivery::default();
        delivery.open(RoomId(1), sender);
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
