//! Packets sent in one burst form a group; what counts is how much later than it was sent each
//! group arrives after the one before it (draft-ietf-rmcat-gcc-02, section 4.1).

use super::units::Micros;

/// Packets sent within this time of a group's first belong to it.
const BURST: Micros = 5_000;
/// So do packets that arrive this close together although they were sent further apart: a link
/// that had stood still lets them go at once, which says nothing about its queue.
const ARRIVED_TOGETHER: Micros = 5_000;
/// A group does not grow beyond this by arrival alone.
const MAX_ARRIVAL_SPAN: Micros = 100_000;
/// A clock that jumps further than this resets the groups.
const MAX_JUMP: Micros = 3_000_000;

#[derive(Debug, Clone, Copy)]
struct Group {
    first_sent: Micros,
    last_sent: Micros,
    first_arrival: Micros,
    last_arrival: Micros,
}

/// How two groups that follow each other were changed on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GroupDelta {
    /// By how much more the arrivals are apart than the departures: the growth of the queue.
    pub(super) delay: Micros,
    /// When the second group was there.
    pub(super) arrival: Micros,
}

/// Forms the groups.
#[derive(Debug, Default)]
pub(super) struct ArrivalGroups {
    complete: Option<Group>,
    current: Option<Group>,
}

impl ArrivalGroups {
    /// A packet arrived. Gives a measurement when it is the first after a complete group.
    pub(super) fn on_packet(&mut self, sent: Micros, arrival: Micros) -> Option<GroupDelta> {
        let Some(group) = &mut self.current else {
            self.current = Some(Group::new(sent, arrival));
            return None;
        };
        if (arrival - group.last_arrival).abs() > MAX_JUMP {
            *self = ArrivalGroups::default();
            return None;
        }
        if sent < group.first_sent {
            return None;
        }
        if group.takes(sent, arrival) {
            group.last_sent = group.last_sent.max(sent);
            group.last_arrival = group.last_arrival.max(arrival);
            return None;
        }
        let group = *group;
        self.current = Some(Group::new(sent, arrival));
        let before = self.complete.replace(group)?;
        let arrivals = group.last_arrival - before.last_arrival;
        (arrivals >= 0).then_some(GroupDelta {
            delay: arrivals - (group.last_sent - before.last_sent),
            arrival: group.last_arrival,
        })
    }

    /// Forgets the groups: what comes next is not compared with them.
    pub(super) fn reset(&mut self) {
        *self = ArrivalGroups::default();
    }
}

impl Group {
    fn new(sent: Micros, arrival: Micros) -> Group {
        Group {
            first_sent: sent,
            last_sent: sent,
            first_arrival: arrival,
            last_arrival: arrival,
        }
    }

    fn takes(&self, sent: Micros, arrival: Micros) -> bool {
        if sent - self.first_sent <= BURST {
            return true;
        }
        let since_last = arrival - self.last_arrival;
        let faster = since_last < sent - self.last_sent;
        faster && since_last <= ARRIVED_TOGETHER && arrival - self.first_arrival < MAX_ARRIVAL_SPAN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_growing_queue_shows_as_positive_delay() {
        let mut groups = ArrivalGroups::default();
        let mut deltas = Vec::new();
        for frame in 0..5 {
            for packet in 0..3 {
                let sent = frame * 30_000 + packet * 1_000;
                deltas.extend(groups.on_packet(sent, 50_000 + sent + frame * 2_000));
            }
        }
        // The last group is not complete yet, the first has none before it.
        assert_eq!(deltas.len(), 3);
        assert!(deltas.iter().all(|delta| delta.delay == 2_000));
    }

    #[test]
    fn what_a_stalled_link_releases_at_once_is_one_group() {
        let mut groups = ArrivalGroups::default();
        let mut deltas = Vec::new();
        for count in 0..10 {
            deltas.extend(groups.on_packet(count * 10_000, 200_000 + count * 100));
        }
        assert!(deltas.is_empty());
    }

    #[test]
    fn a_jump_of_the_clock_is_no_measurement() {
        let mut groups = ArrivalGroups::default();
        assert!(groups.on_packet(0, 0).is_none());
        assert!(groups.on_packet(10_000, 10_000).is_none());
        assert!(groups.on_packet(20_000, 90_000_000).is_none());
        assert!(groups.on_packet(30_000, i64::from(i32::MAX)).is_none());
    }
}
