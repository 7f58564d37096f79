//! The engine: what it holds, what comes in, what goes out.
//!
//! The way of a packet: [`Engine::handle_datagram`] finds the peer (here), `receive/ingress.rs` makes
//! one plaintext packet of it and keeps it, `forward/fan_out.rs` queues it for each subscriber, and
//! `send/write.rs` writes what has gathered for [`Engine::poll_transmits`] to hand out.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rustc_hash::FxHashMap;

use crate::allocation::policy::{Candidate, Reason};
use crate::api::command::Command;
use crate::api::event::{Event, RoomEvent};
use crate::api::ids::{RoomId, TransportId};
use crate::api::io::{EngineConfig, EngineStatistics, LocalSocket};
use crate::bandwidth::coupling::Coupling;
use crate::data_flow::RoomWindows;
use crate::event_queue::EventQueue;
use crate::forward::last_n::slots::AudioSlots;
use crate::forward::relay_batch::Relay;
use crate::forward::room_speakers::RoomSpeakers;
use crate::send::ready_list::ReadyList;
use crate::send::send_batch::{Path, SendBatch, Transmits};
use crate::state::peer::{Peer, Srtp};
use crate::state::table::PeerIx;
use crate::state::timers::{TimerOwner, Timers};
use crate::state::{Peers, Subscriptions, Tracks};
use crate::transport::byte_queue::{ByteQueue, Contents};
use crate::transport::{TransportEvent, username_fragment};
use crate::wire::rtp::{self, PacketClass};
use crate::wire::srtp::{SrtpKeys, SrtpReceiver, SrtpSender};

/// Largest datagram that is looked at.
pub(crate) const MAX_DATAGRAM: usize = 2_048;

/// Bytes of datagrams of ICE, DTLS and SCTP that wait to leave. They leave before the next
/// input; what does not fit is as if lost on the network, and is sent again if it matters.
const MAX_CONTROL: usize = 16 << 20;

/// A datagram of ICE, DTLS or SCTP that waits to leave.
struct ControlDatagram {
    path: Path,
    contents: Bytes,
}

impl Contents for ControlDatagram {
    fn contents_len(&self) -> usize {
        self.contents.len()
    }
}

/// The media engine of one shard.
pub struct Engine {
    pub(crate) config: EngineConfig,
    pub(crate) started: Instant,
    pub(crate) rng: SmallRng,
    pub(crate) peers: Peers,
    pub(crate) tracks: Tracks,
    pub(crate) subscriptions: Subscriptions,
    by_address: FxHashMap<SocketAddr, PeerIx>,
    by_ufrag: FxHashMap<Box<[u8]>, PeerIx>,
    pub(crate) speakers: FxHashMap<RoomId, RoomSpeakers>,
    /// The rooms in which not all audio tracks are forwarded.
    pub(crate) last_n: FxHashMap<RoomId, AudioSlots>,
    pub(crate) timers: Timers,
    pub(crate) events: EventQueue,
    pub(crate) room_windows: RoomWindows,
    control: ByteQueue<ControlDatagram>,
    pub(crate) ready: ReadyList,
    pub(crate) relay: Relay,
    /// What leaves next.
    pub(crate) outgoing: SendBatch,
    pub(crate) statistics: EngineStatistics,
    /// Peers who share a link.
    pub(crate) coupling: Coupling,
    /// The tracks of the peer that is being allocated; kept for its memory.
    pub(crate) candidates: Vec<Candidate>,
    /// Tags of packets that feedback tells are missing; kept for its memory.
    pub(crate) missing: Vec<u64>,
    /// The peers whose reports are handled next; kept for its memory.
    pub(crate) reporting: Vec<PeerIx>,
    /// The packet being forwarded, in the form that subscribers get.
    pub(crate) scratch: Box<[u8; MAX_DATAGRAM]>,
}

/// What the way out touches, borrowed apart: one track is read while many peers are written.
pub(crate) struct FanOut<'a> {
    pub(crate) tracks: &'a Tracks,
    pub(crate) subscriptions: &'a mut Subscriptions,
    pub(crate) peers: &'a mut Peers,
    pub(crate) statistics: &'a mut EngineStatistics,
    pub(crate) events: &'a mut EventQueue,
    pub(crate) timers: &'a mut Timers,
    pub(crate) ready: &'a mut ReadyList,
    pub(crate) relay: &'a mut Relay,
}

impl Engine {
    /// An engine without peers. `now` is the start of its time.
    pub fn new(config: EngineConfig, now: Instant) -> Engine {
        Engine {
            rng: SmallRng::seed_from_u64(config.seed),
            config,
            started: now,
            peers: Peers::default(),
            tracks: Tracks::default(),
            subscriptions: Subscriptions::default(),
            by_address: FxHashMap::default(),
            by_ufrag: FxHashMap::default(),
            speakers: FxHashMap::default(),
            last_n: FxHashMap::default(),
            timers: Timers::default(),
            events: EventQueue::default(),
            room_windows: RoomWindows::default(),
            control: ByteQueue::new(MAX_CONTROL),
            ready: ReadyList::default(),
            relay: Relay::default(),
            outgoing: SendBatch::default(),
            statistics: EngineStatistics::default(),
            coupling: Coupling::default(),
            candidates: Vec::new(),
            missing: Vec::new(),
            reporting: Vec::new(),
            scratch: Box::new([0; MAX_DATAGRAM]),
        }
    }

    /// One datagram from the network, which arrives now. It is decrypted in place.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        source: SocketAddr,
        local: LocalSocket,
        datagram: &mut [u8],
    ) {
        self.handle_datagram_received_at(now, now, source, local, datagram);
    }

    /// As [`Self::handle_datagram`], for a datagram that `arrived` at the socket before `now`.
    pub fn handle_datagram_received_at(
        &mut self,
        now: Instant,
        arrived: Instant,
        source: SocketAddr,
        local: LocalSocket,
        datagram: &mut [u8],
    ) {
        let Some(&first) = datagram.first() else {
            return;
        };
        if datagram.len() > MAX_DATAGRAM {
            self.statistics.datagrams_dropped += 1;
            return;
        }
        let known = self.peer_at(source);
        match (rtp::classify(first), known) {
            (PacketClass::Rtp, Some(peer)) if rtp::is_rtcp(datagram) => {
                return self.handle_rtcp(now, arrived, peer, datagram);
            }
            (PacketClass::Rtp, Some(peer)) => self.handle_rtp(now, arrived, peer, datagram),
            (PacketClass::Stun, _) => self.handle_stun(now, source, local, datagram),
            (PacketClass::Dtls, Some(peer)) => {
                self.peers[peer]
                    .transport
                    .handle_dtls(now, source, datagram);
                self.settle_transport(now, peer);
            }
            _ => self.statistics.datagrams_dropped += 1,
        }
        self.backdate_deadline(arrived);
    }

    /// Counts the coalescing deadlines from when what was just handled `arrived` at the socket, and
    /// not from when it was read, so that waiting in the socket adds no delay.
    pub(crate) fn backdate_deadline(&mut self, arrived: Instant) {
        self.ready.backdate_deadline(arrived);
        self.relay.backdate_deadline(arrived);
    }

    /// An order from the control plane.
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::AddTransport(new) => self.add_transport(now, &new),
            Command::SetRemote {
                transport,
                ice,
                fingerprint,
            } => {
                if let Some(peer) = self.find_peer(transport) {
                    self.peers[peer]
                        .transport
                        .set_remote(now, &ice, fingerprint);
                    self.settle_transport(now, peer);
                }
            }
            Command::RestartIce {
                transport,
                local_ice,
            } => {
                if let Some(peer) = self.find_peer(transport) {
                    let ufrag = local_ice.ufrag.as_bytes().into();
                    self.by_ufrag.insert(ufrag, peer);
                    self.peers[peer].transport.restart_ice(&local_ice);
                }
            }
            Command::RemoveTransport(transport) => self.remove_transport(now, transport),
            Command::SetReceive { transport, mapping } => {
                if let Some(peer) = self.find_peer(transport) {
                    self.peers[peer].set_mapping(&mapping);
                }
            }
            Command::AddTrack(new) => self.add_track(&new),
            Command::MirrorTrack { track, room, home } => self.mirror_track(&track, room, home),
            Command::SetTrackSource { track, source } => self.set_track_source(track, source),
            Command::RemoveTrack(track) => self.remove_track(now, track),
            Command::SetTrackMuted { track, muted } => self.set_track_muted(now, track, muted),
            Command::AddSubscription(new) => self.add_subscription(now, &new),
            Command::RemoveSubscription(subscription) => {
                self.remove_subscription(now, subscription);
            }
            Command::SetSubscription {
                subscription,
                settings,
            } => {
                self.set_subscription(now, subscription, settings);
            }
            Command::SetLastN { room, slots } => self.set_last_n(room, slots),
            Command::CloseRoom(room) => self.close_room(now, room),
            Command::MeasureQuality { room, transports } => {
                self.measure_quality(now, room, &transports);
            }
            Command::SendData {
                transports,
                channel,
                payload,
                from,
            } => self.send_data(now, &transports, channel, &payload, from),
            Command::DataTaken { room, cost } => self.data_taken(now, room, cost),
        }
    }

    /// Ends what a room has here.
    fn close_room(&mut self, now: Instant, room: RoomId) {
        let peers = self.peers.values().filter(|peer| peer.room == room);
        for transport in peers.map(|peer| peer.id).collect::<Vec<_>>() {
            self.remove_transport(now, transport);
        }
        // What is left is mirrored: its connections are on other shards.
        let tracks = self.tracks.values().filter(|track| track.room == room);
        for track in tracks.map(|track| track.id).collect::<Vec<_>>() {
            self.remove_track(now, track);
        }
        self.set_last_n(room, None);
        self.room_windows.remove(room);
    }

    /// Time has come to [`Engine::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        self.ready.handle_timeout(now);
        self.relay.handle_timeout(now);
        while let Some((when, owner)) = self.timers.pop_due(now) {
            match owner {
                TimerOwner::Peer(peer) => {
                    let Some(state) = self.peers.get_mut(peer) else {
                        continue;
                    };
                    if state.armed == Some(when) {
                        state.armed = None;
                        self.peer_timeout(now, peer);
                    }
                }
                TimerOwner::Room(room) => self.speakers_timeout(now, RoomId(room), when),
            }
        }
    }

    /// When [`Engine::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadline = self.flush_deadline();
        deadline.into_iter().chain(self.timers.next()).min()
    }

    /// When queued media is to be sent at the latest; until then it waits for more packets to share
    /// a send with. `None` when nothing is queued.
    pub fn flush_deadline(&self) -> Option<Instant> {
        let relay = self.relay.due();
        self.ready.due().into_iter().chain(relay).min()
    }

    /// The next datagrams to send, which leave at `now`; `None` when all are handed out.
    pub fn poll_transmits(&mut self, now: Instant) -> Option<Transmits<'_>> {
        self.outgoing.forget_handed_out();
        while !self.outgoing.is_full()
            && let Some(ControlDatagram { path, contents }) = self.control.pop()
        {
            self.outgoing.push(path, contents.len(), |out| {
                out.copy_from_slice(&contents);
                contents.len()
            });
        }
        self.write_released(now);
        self.outgoing.hand_out()
    }

    /// The next happening for a room.
    pub fn poll_event(&mut self) -> Option<RoomEvent> {
        self.events.pop()
    }

    /// Counters since the start, gauges as of now.
    pub fn statistics(&self) -> EngineStatistics {
        let caches: usize = self
            .tracks
            .values()
            .flat_map(|track| &track.layers)
            .map(|layer| layer.cache.memory())
            .sum();
        let queues: usize = self
            .peers
            .values()
            .map(|p| p.queue.memory() + p.pacer.memory() + p.retransmissions.memory())
            .sum();
        EngineStatistics {
            transports: self.peers.len() as u64,
            tracks: self.tracks.len() as u64,
            subscriptions: self.subscriptions.len() as u64,
            buffer_bytes: (caches + queues + self.outgoing.memory() + self.relay.memory()) as u64,
            ..self.statistics
        }
    }

    /// The peer whose datagrams come from there.
    pub(crate) fn peer_at(&self, source: SocketAddr) -> Option<PeerIx> {
        self.by_address.get(&source).copied()
    }

    pub(crate) fn find_peer(&self, transport: TransportId) -> Option<PeerIx> {
        self.peers.find(transport)
    }

    pub(crate) fn emit(&mut self, room: RoomId, event: Event) {
        self.events.push(room, event);
    }

    /// The parts that fan-out needs side by side.
    pub(crate) fn fan_out_parts(&mut self) -> FanOut<'_> {
        FanOut {
            tracks: &self.tracks,
            subscriptions: &mut self.subscriptions,
            peers: &mut self.peers,
            statistics: &mut self.statistics,
            events: &mut self.events,
            timers: &mut self.timers,
            ready: &mut self.ready,
            relay: &mut self.relay,
        }
    }

    fn add_transport(&mut self, now: Instant, new: &crate::api::command::NewTransport) {
        let transport = crate::transport::Transport::new(new, self.config.certificate.clone(), now);
        let feedback_ssrc = self.rng.random();
        let peer = Peer::new(new.transport, new.room, transport, feedback_ssrc, now);
        let peer = self.peers.insert(new.transport, peer);
        self.by_ufrag
            .insert(new.local_ice.ufrag.as_bytes().into(), peer);
        self.settle_transport(now, peer);
    }

    fn remove_transport(&mut self, now: Instant, transport: TransportId) {
        let Some(peer) = self.peers.find(transport) else {
            return;
        };
        let state = &self.peers[peer];
        for track in state.tracks.clone() {
            let id = self.tracks[track].id;
            self.remove_track(now, id);
        }
        for subscription in self.peers[peer].subscriptions.clone() {
            let id = self.subscriptions[subscription].id;
            self.remove_subscription(now, id);
        }
        self.release_senders(now, peer);
        self.peers[peer].transport.close(now);
        self.queue_control(peer);
        let Some((_, state)) = self.peers.remove(transport) else {
            return;
        };
        for address in state.addresses {
            if self.by_address.get(&address) == Some(&peer) {
                self.by_address.remove(&address);
            }
        }
        self.by_ufrag.retain(|_, owner| *owner != peer);
        self.ready.forget(peer);
    }

    fn handle_stun(
        &mut self,
        now: Instant,
        source: SocketAddr,
        local: LocalSocket,
        datagram: &[u8],
    ) {
        let owner = username_fragment(datagram).and_then(|ufrag| self.by_ufrag.get(ufrag));
        let Some(&peer) = owner.or_else(|| self.by_address.get(&source)) else {
            self.statistics.datagrams_dropped += 1;
            return;
        };
        let state = &mut self.peers[peer];
        state.transport.handle_stun(now, source, datagram);
        if state.transport.is_validated(source) {
            state.local = local;
            if self.by_address.get(&source) != Some(&peer) {
                self.remember_address(peer, source);
            }
        }
        self.settle_transport(now, peer);
    }

    /// Datagrams from `source` belong to `peer` from now on. Addresses that are no longer
    /// validated are forgotten.
    fn remember_address(&mut self, peer: PeerIx, source: SocketAddr) {
        let state = &mut self.peers[peer];
        let by_address = &mut self.by_address;
        state.addresses.retain(|address| {
            let keep = state.transport.is_validated(*address);
            if !keep && by_address.get(address) == Some(&peer) {
                by_address.remove(address);
            }
            keep
        });
        state.addresses.retain(|address| *address != source);
        state.addresses.push(source);
        by_address.insert(source, peer);
    }

    /// After anything happened to a peer's transport: its datagrams, events and timer.
    pub(crate) fn settle_transport(&mut self, now: Instant, peer: PeerIx) {
        while let Some(event) = self.peers[peer].transport.poll_event() {
            self.transport_event(now, peer, event);
        }
        self.settle_data(now, peer);
        self.queue_control(peer);
        let state = &mut self.peers[peer];
        if state.update_path() {
            // What the former path carried says nothing of this one.
            self.allocate(now, peer, Reason::Settings);
        }
        let state = &mut self.peers[peer];
        if let Some(when) = state.transport.poll_timeout() {
            self.timers
                .arm(TimerOwner::Peer(peer), &mut state.armed, when);
        }
    }

    fn queue_control(&mut self, peer: PeerIx) {
        let state = &mut self.peers[peer];
        while let Some((destination, contents)) = state.transport.poll_transmit() {
            let path = Path {
                destination,
                local: state.local,
            };
            if !self.control.push(ControlDatagram { path, contents }) {
                self.statistics.datagrams_dropped += 1;
            }
        }
    }

    fn transport_event(&mut self, now: Instant, peer: PeerIx, event: TransportEvent) {
        let state = &mut self.peers[peer];
        let (id, room) = (state.id, state.room);
        match event {
            TransportEvent::SecureWith {
                profile,
                keying_material,
            } => {
                let keys = SrtpKeys::from_exporter(profile, &keying_material);
                let Some(keys) = keys else {
                    return;
                };
                state.srtp = Some(Srtp {
                    sender: SrtpSender::new(profile, keys.local_key, keys.local_salt),
                    receiver: SrtpReceiver::new(profile, keys.remote_key, keys.remote_salt),
                });
                self.emit(room, Event::TransportConnected(id));
                self.allocate(now, peer, Reason::Settings);
            }
            TransportEvent::DataStalled(stalled) => self.emit(
                room,
                Event::DataStalled {
                    transport: id,
                    stalled,
                },
            ),
            TransportEvent::Silent => self.emit(room, Event::TransportSilent(id)),
            TransportEvent::Back => self.emit(room, Event::TransportBack(id)),
            TransportEvent::Failed(reason) => self.emit(
                room,
                Event::TransportFailed {
                    transport: id,
                    reason,
                },
            ),
        }
    }

    fn peer_timeout(&mut self, now: Instant, peer: PeerIx) {
        self.peers[peer].transport.handle_timeout(now);
        self.settle_transport(now, peer);
        self.send_feedback(now, peer);
        self.send_reports(now, peer);
        self.bandwidth_timeout(now, peer);
        self.arm_media_timers(peer);
    }

    /// Arms a peer for its feedback and reports.
    pub(crate) fn arm_media_timers(&mut self, peer: PeerIx) {
        let state = &mut self.peers[peer];
        let due = [state.feedback_due, state.report_due];
        for when in due.into_iter().flatten() {
            self.timers
                .arm(TimerOwner::Peer(peer), &mut state.armed, when);
        }
    }
}
