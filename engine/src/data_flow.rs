//! Reliable data on its way through the engine: who is read, and who is held up by whom.
//!
//! The reliable messages of a connection are read while its room keeps up and none of those
//! that it sends to is behind. What is not read closes the SCTP window of the sender, so that
//! it is slowed and nothing is lost. A receiver on another shard holds a sender up through the
//! relay.

use std::time::Instant;

use bytes::Bytes;
use rustc_hash::FxHashMap;

use crate::api::command::{DataChannel, DataSource};
use crate::api::event::Event;
use crate::api::ids::{RoomId, TransportId};
use crate::engine::Engine;
use crate::state::table::PeerIx;

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
    fn is_open(&self, room: RoomId) -> bool {
        let window = self.0.get(&room);
        window.is_none_or(|window| window.given < ROOM_WINDOW)
    }

    fn give(&mut self, room: RoomId, cost: usize) {
        self.0.entry(room).or_default().given += cost;
    }

    /// The room has passed messages on. Those that wait for that, when there is space again.
    fn take(&mut self, room: RoomId, cost: usize) -> Vec<TransportId> {
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

    fn wait(&mut self, room: RoomId, transport: TransportId) {
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
    held_up_by: i32,
    /// The senders that this connection holds up.
    holds_up: Vec<DataSource>,
    /// It is in its room's list of those that wait.
    awaits_room: bool,
}

impl Engine {
    /// Sends a message to connections. Those that do not keep up hold up its sender.
    pub(crate) fn send_data(
        &mut self,
        now: Instant,
        transports: &[TransportId],
        channel: DataChannel,
        payload: &Bytes,
        from: Option<DataSource>,
    ) {
        for &transport in transports {
            let Some(peer) = self.find_peer(transport) else {
                continue;
            };
            self.statistics.messages_out += 1;
            let state = &mut self.peers[peer];
            state.transport.send_data(now, channel, payload);
            let is_behind = channel == DataChannel::Reliable && state.transport.holds_up();
            if is_behind
                && let Some(from) = from
                && !state.data_flow.holds_up.contains(&from)
            {
                state.data_flow.holds_up.push(from);
                self.hold(now, from, 1);
            }
            self.settle_transport(now, peer);
        }
    }

    /// After anything happened to a peer's transport: what it has to say to its room, and whom
    /// it need not hold up any longer.
    pub(crate) fn settle_data(&mut self, now: Instant, peer: PeerIx) {
        let state = &mut self.peers[peer];
        if !state.transport.holds_up() {
            self.release_senders(now, peer);
        }
        self.read_lossy(now, peer);
        self.read_reliable(now, peer);
    }

    /// Those that a peer holds up are read again.
    pub(crate) fn release_senders(&mut self, now: Instant, peer: PeerIx) {
        let state = &mut self.peers[peer];
        for from in std::mem::take(&mut state.data_flow.holds_up) {
            self.hold(now, from, -1);
        }
    }

    /// One more receiver, or one less, holds up a sender, wherever that is.
    fn hold(&mut self, now: Instant, from: DataSource, change: i32) {
        if self.find_peer(from.transport).is_some() {
            self.change_holds(now, from.transport, change);
        } else {
            // One that has ended here is known there neither.
            self.relay.hold(now, from.shard, from.transport, change);
        }
    }

    /// The number of receivers that hold up a connection here changes.
    pub(crate) fn change_holds(&mut self, now: Instant, transport: TransportId, change: i32) {
        let Some(peer) = self.find_peer(transport) else {
            return;
        };
        let flow = &mut self.peers[peer].data_flow;
        flow.held_up_by += change;
        if flow.held_up_by <= 0 && change < 0 {
            self.settle_transport(now, peer);
        }
    }

    /// A room has passed messages on that it was given.
    pub(crate) fn data_taken(&mut self, now: Instant, room: RoomId, cost: usize) {
        let mut waiting = self.room_windows.take(room, cost);
        // The first in the list is the one that filled the window: it comes last now.
        if !waiting.is_empty() {
            waiting.rotate_left(1);
        }
        for transport in waiting {
            if let Some(peer) = self.find_peer(transport) {
                self.peers[peer].data_flow.awaits_room = false;
                self.settle_transport(now, peer);
            }
        }
    }

    /// Lossy messages are always read, and dropped when the room does not keep up.
    fn read_lossy(&mut self, now: Instant, peer: PeerIx) {
        let state = &mut self.peers[peer];
        while let Some((channel, payload)) = state.transport.poll_lossy(now) {
            self.statistics.messages_in += 1;
            if self.room_windows.is_open(state.room) {
                let event = Event::Data {
                    transport: state.id,
                    channel,
                    payload,
                };
                self.room_windows.give(state.room, event.window_cost());
                self.events.push(state.room, event);
            }
        }
    }

    fn read_reliable(&mut self, now: Instant, peer: PeerIx) {
        let state = &mut self.peers[peer];
        while state.data_flow.held_up_by <= 0 && state.transport.has_reliable() {
            if !self.room_windows.is_open(state.room) {
                if !state.data_flow.awaits_room {
                    state.data_flow.awaits_room = true;
                    self.room_windows.wait(state.room, state.id);
                }
                return;
            }
            let Some(payload) = state.transport.poll_reliable(now) else {
                return;
            };
            self.statistics.messages_in += 1;
            let event = Event::Data {
                transport: state.id,
                channel: DataChannel::Reliable,
                payload,
            };
            self.room_windows.give(state.room, event.window_cost());
            self.events.push(state.room, event);
        }
    }
}
