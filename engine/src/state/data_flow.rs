//! Where rooms and connections stand in the flow of data messages.

use rustc_hash::FxHashMap;

use crate::api::command::DataSource;
use crate::api::ids::{RoomId, TransportId};

/// Bytes of messages, as [`Event::window_cost`] counts them, that a room has been given here
/// and not passed on yet. It bounds what is on its way when a receiver falls behind.
const ROOM_WINDOW: usize = 1 << 20;

/// How far rooms are with the messages that they were given.
#[derive(Default)]
pub(crate) struct RoomWindows(FxHashMap<RoomId, RoomWindow>);

#[derive(Default)]
struct RoomWindow {
    given: usize,
    /// Connections that have something for the room and are not read meanwhile.
    waiting: Vec<TransportId>,
}

impl RoomWindows {
    pub(crate) fn is_open(&self, room: RoomId) -> bool {
        let window = self.0.get(&room);
        window.is_none_or(|window| window.given < ROOM_WINDOW)
    }

    pub(crate) fn give(&mut self, room: RoomId, cost: usize) {
        self.0.entry(room).or_default().given += cost;
    }

    /// The room has passed messages on. Those that wait for that, when there is space again.
    pub(crate) fn take(&mut self, room: RoomId, cost: usize) -> Vec<TransportId> {
        let Some(window) = self.0.get_mut(&room) else {
            return Vec::new();
        };
        window.given = window.given.saturating_sub(cost);
        let waiting = if window.given <= ROOM_WINDOW / 2 {
            std::mem::take(&mut window.waiting)
        } else {
            Vec::new()
        };
        if window.given == 0 {
            self.0.remove(&room);
        }
        waiting
    }

    pub(crate) fn wait(&mut self, room: RoomId, transport: TransportId) {
        self.0.entry(room).or_default().waiting.push(transport);
    }

    /// The room is over.
    pub(crate) fn remove(&mut self, room: RoomId) {
        self.0.remove(&room);
    }
}

/// Where a connection stands in the flow of reliable data.
#[derive(Default)]
pub(crate) struct DataFlow {
    /// Receivers that hold this connection up.
    pub(crate) held_up_by: i32,
    /// The senders that this connection holds up.
    pub(crate) holds_up: Vec<DataSource>,
    /// It is in its room's list of those that wait.
    pub(crate) awaits_room: bool,
}
