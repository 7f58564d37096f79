//! Reliable data on its way through the engine: which senders are read,
//! and which receivers hold them up.
//!
//! The reliable messages of a connection are read while its room keeps up and none of those
//! that it sends to is behind. What is not read closes the SCTP window of the sender, so that
//! it is slowed and nothing is lost. A receiver on another shard holds a sender up through the
//! relay.

use std::time::Instant;

use bytes::Bytes;

use crate::allocation::allocator::Allocator;
use crate::api::command::{DataChannel, DataSource};
use crate::api::event::Event;
use crate::api::ids::{RoomId, TransportId};
use crate::connections::Connections;
use crate::state::Media;
use crate::state::table::PeerIx;

impl Connections {
    /// Sends a message to connections. Those that do not keep up hold up its sender.
    pub(crate) fn send_data(
        &mut self,
        media: &mut Media,
        allocator: &mut Allocator,
        now: Instant,
        transports: &[TransportId],
        (channel, payload): (DataChannel, &Bytes),
        from: Option<DataSource>,
    ) {
        for &transport in transports {
            let Some(peer) = media.peers.find(transport) else {
                continue;
            };
            media.statistics.messages_out += 1;
            let state = &mut media.peers[peer];
            state.transport.send_data(now, channel, payload);
            let is_behind = channel == DataChannel::Reliable && state.transport.holds_up();
            if is_behind
                && let Some(from) = from
                && !state.data_flow.holds_up.contains(&from)
            {
                state.data_flow.holds_up.push(from);
                self.hold(media, allocator, now, from, 1);
            }
            self.settle(media, allocator, now, peer);
        }
    }

    /// After anything happened to a peer's transport: what it has to say to its room, and whom
    /// it need not hold up any longer.
    pub(crate) fn settle_data(
        &mut self,
        media: &mut Media,
        allocator: &mut Allocator,
        now: Instant,
        peer: PeerIx,
    ) {
        let state = &mut media.peers[peer];
        if !state.transport.holds_up() {
            self.release_senders(media, allocator, now, peer);
        }
        self.read_lossy(media, now, peer);
        self.read_reliable(media, now, peer);
    }

    /// Those that a peer holds up are read again.
    pub(crate) fn release_senders(
        &mut self,
        media: &mut Media,
        allocator: &mut Allocator,
        now: Instant,
        peer: PeerIx,
    ) {
        let state = &mut media.peers[peer];
        for from in std::mem::take(&mut state.data_flow.holds_up) {
            self.hold(media, allocator, now, from, -1);
        }
    }

    /// One more receiver, or one less, holds up a sender, wherever that is.
    fn hold(
        &mut self,
        media: &mut Media,
        allocator: &mut Allocator,
        now: Instant,
        from: DataSource,
        change: i32,
    ) {
        if media.peers.find(from.transport).is_some() {
            self.change_holds(media, allocator, now, from.transport, change);
        } else {
            // One that has ended here is known there neither.
            media.relay.hold(now, from.shard, from.transport, change);
        }
    }

    /// The number of receivers that hold up a connection here changes.
    pub(crate) fn change_holds(
        &mut self,
        media: &mut Media,
        allocator: &mut Allocator,
        now: Instant,
        transport: TransportId,
        change: i32,
    ) {
        let Some(peer) = media.peers.find(transport) else {
            return;
        };
        let flow = &mut media.peers[peer].data_flow;
        flow.held_up_by += change;
        if flow.held_up_by <= 0 && change < 0 {
            self.settle(media, allocator, now, peer);
        }
    }

    /// A room has passed messages on that it was given.
    pub(crate) fn data_taken(
        &mut self,
        media: &mut Media,
        allocator: &mut Allocator,
        now: Instant,
        room: RoomId,
        cost: usize,
    ) {
        let mut waiting = self.room_windows.take(room, cost);
        // The first in the list is the one that filled the window: it comes last now.
        if !waiting.is_empty() {
            waiting.rotate_left(1);
        }
        for transport in waiting {
            if let Some(peer) = media.peers.find(transport) {
                media.peers[peer].data_flow.awaits_room = false;
                self.settle(media, allocator, now, peer);
            }
        }
    }

    /// Lossy messages are always read, and dropped when the room does not keep up.
    fn read_lossy(&mut self, media: &mut Media, now: Instant, peer: PeerIx) {
        let state = &mut media.peers[peer];
        while let Some((channel, payload)) = state.transport.poll_lossy(now) {
            media.statistics.messages_in += 1;
            if self.room_windows.is_open(state.room) {
                let event = Event::Data {
                    transport: state.id,
                    channel,
                    payload,
                };
                self.room_windows.give(state.room, event.window_cost());
                media.events.push(state.room, event);
            }
        }
    }

    fn read_reliable(&mut self, media: &mut Media, now: Instant, peer: PeerIx) {
        let state = &mut media.peers[peer];
        while state.data_flow.held_up_by <= 0 && state.transport.has_reliable() {
            if !self.room_windows.is_open(state.room) {
                if !state.data_flow.awaits_room {
                    state.data_flow.awaits_room = true;
                    self.room_windows.wait(state.room, state.id);
                }
                return;
            }
            let Some((channel, payload)) = state.transport.poll_reliable(now) else {
                return;
            };
            media.statistics.messages_in += 1;
            let event = Event::Data {
                transport: state.id,
                channel,
                payload,
            };
            self.room_windows.give(state.room, event.window_cost());
            media.events.push(state.room, event);
        }
    }
}
