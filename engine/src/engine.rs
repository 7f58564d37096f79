//! The engine: what comes in is given to the part whose it is, and what goes out is collected.
//!
//! The way of a packet: [`Engine::handle_datagram`] finds the peer, `receive/ingress.rs` makes one
//! plaintext packet of it and keeps it, `forward/fan_out.rs` queues it for each subscriber, and
//! `send/write.rs` writes what is queued for [`Engine::poll_transmits`] to hand out.

use std::net::SocketAddr;
use std::time::Instant;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::allocation::allocator::Allocator;
use crate::api::codec::MediaKind;
use crate::api::command::Command;
use crate::api::event::RoomEvent;
use crate::api::ids::{RoomId, ShardId, TrackId, TransportId};
use crate::api::io::{EngineConfig, EngineStatistics, LocalSocket};
use crate::connections::Connections;
use crate::forward::active_speakers::ActiveSpeakers;
use crate::forward::fan_out::fan_out;
use crate::forward::last_n::LastN;
use crate::forward::relay::relay_packet;
use crate::forward::relay_batch::RelayBatch;
use crate::forward::relayed::handle_relay;
use crate::membership;
use crate::quality_report::measure_quality;
use crate::receive::feedback::send_feedback;
use crate::receive::ingress::{self, Ingress, MAX_DATAGRAM};
use crate::receive::rtcp::handle_rtcp;
use crate::send::prefetch::Prefetcher;
use crate::send::reports::send_reports;
use crate::send::send_batch::Transmits;
use crate::send::silence::send_silence;
use crate::send::wall_clock::WallClock;
use crate::send::write::write_released;
use crate::state::Media;
use crate::state::packet::{Audience, Received};
use crate::state::table::{PeerIx, TrackIx};
use crate::state::timers::TimerOwner;
use crate::wire::rtp::{self, PacketClass};

/// The media engine of one shard.
pub struct Engine {
    pub(crate) media: Media,
    pub(crate) connections: Connections,
    ingress: Ingress,
    pub(crate) last_n: LastN,
    pub(crate) speakers: ActiveSpeakers,
    pub(crate) allocator: Allocator,
    prefetcher: Prefetcher,
    clock: WallClock,
    rng: SmallRng,
}

impl Engine {
    /// An engine without peers. `now` is the start of its time.
    pub fn new(config: EngineConfig, now: Instant) -> Engine {
        Engine {
            media: Media::default(),
            connections: Connections::new(config.certificate),
            ingress: Ingress::default(),
            last_n: LastN::default(),
            speakers: ActiveSpeakers::default(),
            allocator: Allocator::new(now),
            prefetcher: Prefetcher::default(),
            clock: WallClock::new(now, config.wall_clock),
            rng: SmallRng::seed_from_u64(config.seed),
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
        let (media, allocator) = (&mut self.media, &mut self.allocator);
        if datagram.len() > MAX_DATAGRAM {
            media.statistics.datagrams_dropped += 1;
            return;
        }
        let known = self.connections.peer_at(source);
        match (rtp::classify(first), known) {
            (PacketClass::Rtp, Some(peer)) if rtp::is_rtcp(datagram) => {
                return handle_rtcp(media, allocator, now, arrived, peer, datagram);
            }
            (PacketClass::Rtp, Some(peer)) => self.handle_rtp(now, arrived, peer, datagram),
            (PacketClass::Stun, _) => {
                let from = (source, local);
                let connections = &mut self.connections;
                if !connections.handle_stun(media, allocator, now, from, datagram) {
                    media.statistics.datagrams_dropped += 1;
                }
            }
            (PacketClass::Dtls, Some(peer)) => {
                let transport = &mut media.peers[peer].transport;
                transport.handle_dtls(now, source, datagram);
                self.connections.settle(media, allocator, now, peer);
            }
            _ => media.statistics.datagrams_dropped += 1,
        }
        self.media.backdate_deadline(arrived);
    }

    /// An RTP packet of a peer, on its way to the subscribers.
    pub(crate) fn handle_rtp(
        &mut self,
        now: Instant,
        arrived: Instant,
        peer: PeerIx,
        datagram: &mut [u8],
    ) {
        let media = &mut self.media;
        let Some(authentic) = ingress::authenticate(media, now, peer, datagram) else {
            media.statistics.datagrams_dropped += 1;
            return;
        };
        let packet = &datagram[..authentic.len];
        let extensions = ingress::note_arrival(media, now, arrived, peer, &authentic, packet);
        let track = authentic.owner.track;
        let ingress = &mut self.ingress;
        ingress.recover_audio(media, &self.last_n, now, &authentic, packet);
        let allocator = &mut self.allocator;
        let received = ingress.receive(media, allocator, now, &authentic, packet, &extensions);
        let Some(received) = received else {
            return;
        };
        // An Opus packet is a frame (RFC 7587, section 4.2).
        let ends_frame = authentic.header.marker || received.codec.kind() == MediaKind::Audio;
        let completed = ends_frame.then_some(arrived);
        let used = if media.tracks[track].muted {
            false
        } else {
            let level = extensions.audio_level.map(|level| level.dbov);
            self.forward(now, track, &received, level, completed)
        };
        let packet = self.ingress.packet(&received);
        self.media.keep(now, track, &received, packet, used);
    }

    /// Forwards a packet of this level, in -dBov, to those who are to have it. `completed` is when a
    /// frame that it ends arrived. Whether the packet may have to be retransmitted.
    fn forward(
        &mut self,
        now: Instant,
        track: TrackIx,
        received: &Received,
        dbov: Option<u8>,
        completed: Option<Instant>,
    ) -> bool {
        let media = &mut self.media;
        let mut audience = Audience::Everyone;
        if let Some(dbov) = dbov {
            self.speakers.hear(media, now, track, dbov);
            let last_n = &mut self.last_n;
            audience = last_n.audience_of(media, now, track, dbov, &received.source);
        }
        let packet = self.ingress.packet(received);
        relay_packet(media, now, track, received, audience, packet);
        let used = fan_out(media, now, track, received, audience);
        if let Some(arrived) = completed
            && (used || audience == Audience::Everyone)
        {
            media.ready.completed(now, arrived);
        }
        // A voice that is held now may be admitted with its next packet, and those before it.
        let track = &media.tracks[track];
        used || track.kind == MediaKind::Audio || !track.relayed_to.is_empty()
    }

    /// An order from the control plane.
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        let (media, allocator) = (&mut self.media, &mut self.allocator);
        let connections = &mut self.connections;
        match command {
            Command::AddTransport(new) => {
                let feedback_ssrc = self.rng.random();
                connections.add(media, allocator, now, &new, feedback_ssrc);
            }
            Command::SetRemote {
                transport,
                ice,
                fingerprint,
            } => {
                let remote = (&ice, fingerprint);
                connections.set_remote(media, allocator, now, transport, remote);
            }
            Command::RestartIce {
                transport,
                local_ice,
            } => connections.restart_ice(media, transport, &local_ice),
            Command::RemoveTransport(transport) => self.remove_transport(now, transport),
            Command::SetReceive { transport, mapping } => {
                membership::set_mapping(media, transport, &mapping);
            }
            Command::AddTrack(new) => membership::add_track(media, now, &new),
            Command::MirrorTrack { track, room, home } => {
                membership::mirror_track(media, &track, room, home);
            }
            Command::SetTrackSource { track, source } => {
                membership::set_track_source(media, now, track, source);
            }
            Command::RemoveTrack(track) => self.remove_track(now, track),
            Command::SetTrackMuted { track, muted } => {
                membership::set_track_muted(media, allocator, now, track, muted);
                self.last_n.update_subscribers(media, now, track);
            }
            Command::AddSubscription(new) => {
                membership::add_subscription(media, allocator, &mut self.rng, now, &new);
                self.last_n.update_peer(media, now, new.transport);
            }
            Command::RemoveSubscription(subscription) => {
                let peer = membership::remove_subscription(media, now, subscription);
                self.update_last_n(now, peer);
            }
            Command::SetPayloadTypes {
                subscription,
                payload_types,
            } => membership::set_payload_types(media, subscription, payload_types),
            Command::SetSubscription {
                subscription,
                settings,
            } => {
                let peer =
                    membership::set_subscription(media, allocator, now, subscription, settings);
                self.update_last_n(now, peer);
            }
            Command::SetLastN { room, slots } => {
                self.last_n.set(room, slots);
                self.last_n.update_room(media, now, room);
            }
            Command::CloseRoom(room) => self.close_room(now, room),
            Command::MeasureQuality { room, transports } => {
                measure_quality(media, now, room, &transports);
            }
            Command::SendData {
                transports,
                channel,
                payload,
                from,
            } => {
                let message = (channel, &payload);
                connections.send_data(media, allocator, now, &transports, message, from);
            }
            Command::DataTaken { room, cost } => {
                connections.data_taken(media, allocator, now, room, cost);
            }
        }
    }

    /// A subscription of this peer has changed, if there was one.
    fn update_last_n(&mut self, now: Instant, peer: Option<PeerIx>) {
        if let Some(transport) = peer.map(|peer| self.media.peers[peer].id) {
            self.last_n.update_peer(&mut self.media, now, transport);
        }
    }

    fn remove_track(&mut self, now: Instant, track: TrackId) {
        if let Some(index) = self.media.tracks.find(track) {
            // What has ended is wanted by nobody.
            self.media.tracks[index].muted = true;
            self.last_n.update_subscribers(&mut self.media, now, track);
        }
        if let Some((room, index)) = membership::remove_track(&mut self.media, now, track) {
            self.last_n.forget(room, index);
            self.speakers.forget(&mut self.media, room, index, track);
        }
    }

    fn remove_transport(&mut self, now: Instant, transport: TransportId) {
        let Some(peer) = self.media.peers.find(transport) else {
            return;
        };
        for track in self.media.peers[peer].tracks.clone() {
            self.remove_track(now, self.media.tracks[track].id);
        }
        let media = &mut self.media;
        for subscription in media.peers[peer].subscriptions.clone() {
            membership::remove_subscription(media, now, media.subscriptions[subscription].id);
        }
        self.connections
            .remove(media, &mut self.allocator, now, transport);
    }

    /// Ends what a room has here.
    fn close_room(&mut self, now: Instant, room: RoomId) {
        let peers = self.media.peers.values().filter(|peer| peer.room == room);
        for transport in peers.map(|peer| peer.id).collect::<Vec<_>>() {
            self.remove_transport(now, transport);
        }
        // What is left is mirrored: its connections are on other shards.
        let tracks = self.media.tracks.values();
        let tracks = tracks.filter(|track| track.room == room);
        for track in tracks.map(|track| track.id).collect::<Vec<_>>() {
            self.remove_track(now, track);
        }
        self.last_n.set(room, None);
        self.connections.room_windows.remove(room);
    }

    /// Time has come to [`Engine::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        self.media.ready.handle_timeout(now);
        self.media.relay.handle_timeout(now);
        while let Some((when, owner)) = self.media.timers.pop_due(now) {
            match owner {
                TimerOwner::Peer(peer) => {
                    let Some(state) = self.media.peers.get_mut(peer) else {
                        continue;
                    };
                    if state.armed == Some(when) {
                        state.armed = None;
                        self.peer_timeout(now, peer);
                    }
                }
                TimerOwner::Room(room) => {
                    self.speakers
                        .handle_timeout(&mut self.media, now, room, when);
                }
            }
        }
    }

    fn peer_timeout(&mut self, now: Instant, peer: PeerIx) {
        let (media, allocator) = (&mut self.media, &mut self.allocator);
        media.peers[peer].transport.handle_timeout(now);
        self.connections.settle(media, allocator, now, peer);
        send_feedback(media, now, peer);
        send_silence(media, now, peer);
        send_reports(media, allocator, &self.clock, now, peer);
        allocator.bandwidth_timeout(media, now, peer);
        media.arm_media_timers(peer);
    }

    /// When [`Engine::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadline = self.flush_deadline();
        deadline.into_iter().chain(self.media.timers.next()).min()
    }

    /// When queued media is to be sent at the latest; until then it waits for more packets to share
    /// a send with. `None` when nothing is queued.
    pub fn flush_deadline(&self) -> Option<Instant> {
        let relay = self.media.relay.due();
        self.media.ready.due().into_iter().chain(relay).min()
    }

    /// Prefetches the peers whose RTCP reports are among these datagrams, which are to be handled
    /// next. For media nothing is prefetched: the few peers that publish stay in the cache.
    pub fn prefetch_for_reports<'a>(
        &mut self,
        datagrams: impl Iterator<Item = (SocketAddr, &'a [u8])>,
    ) {
        self.prefetcher
            .prefetch_for_reports(&self.media, &self.connections, datagrams);
    }

    /// The next datagrams to send, which leave at `now`; `None` when all are handed out.
    pub fn poll_transmits(&mut self, now: Instant) -> Option<Transmits<'_>> {
        self.media.outgoing.forget_handed_out();
        self.connections.write_control(&mut self.media);
        write_released(&mut self.media, now);
        self.media.outgoing.hand_out()
    }

    /// The next happening for a room.
    pub fn poll_event(&mut self) -> Option<RoomEvent> {
        self.media.events.pop()
    }

    /// Exchanges an empty batch for what is to cross to another shard now. False, and `batch`
    /// stays as it is, when nothing is.
    pub fn poll_relay(&mut self, to: ShardId, batch: &mut RelayBatch) -> bool {
        self.media.relay.take_released(to, batch)
    }

    /// What another shard's engine gave in its [`Engine::poll_relay`] for this one, which `arrived`
    /// before `now`.
    pub fn handle_relay(
        &mut self,
        now: Instant,
        arrived: Instant,
        from: ShardId,
        batch: &RelayBatch,
    ) {
        handle_relay(
            &mut self.media,
            &mut self.connections,
            &mut self.allocator,
            &mut self.last_n,
            (now, arrived),
            from,
            batch,
        );
    }

    /// What the network of a subscriber is taken to carry in all, in bits a second; `None` for
    /// one that gives no feedback, which is sent whatever it wants.
    pub fn estimate(&self, transport: TransportId) -> Option<u64> {
        let peer = self.media.peers.find(transport)?;
        self.media.peers[peer].estimate()
    }

    /// Counters since the start, gauges as of now.
    pub fn statistics(&self) -> EngineStatistics {
        self.media.statistics()
    }
}
