//! Which peer a datagram belongs to, and what the peers' transports (ICE, DTLS, SCTP) send and tell.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rustc_hash::FxHashMap;

use crate::allocation::allocator::Allocator;
use crate::allocation::policy::Reason;
use crate::api::command::{Fingerprint, IceCredentials, NewTransport};
use crate::api::event::Event;
use crate::api::ids::TransportId;
use crate::api::io::LocalSocket;
use crate::send::send_batch::Path;
use crate::state::Media;
use crate::state::data_flow::RoomWindows;
use crate::state::peer::{Peer, Srtp};
use crate::state::table::PeerIx;
use crate::state::timers::TimerOwner;
use crate::transport::byte_queue::{ByteQueue, Contents};
use crate::transport::{ServerCertificate, Transport, TransportEvent, username_fragment};
use crate::wire::srtp::{SrtpKeys, SrtpReceiver, SrtpSender};

/// Bytes of datagrams of ICE, DTLS and SCTP that wait to leave. They leave before the next input;
/// what does not fit is as if lost on the network, and is sent again if it matters.
const MAX_CONTROL: usize = 16 << 20;

/// A datagram of ICE, DTLS or SCTP that is to be sent.
struct ControlDatagram {
    path: Path,
    contents: Bytes,
}

impl Contents for ControlDatagram {
    fn contents_len(&self) -> usize {
        self.contents.len()
    }
}

/// The peers by what their datagrams show of them, and the datagrams of their transports.
pub(crate) struct Connections {
    certificate: Arc<ServerCertificate>,
    by_address: FxHashMap<SocketAddr, PeerIx>,
    by_ufrag: FxHashMap<Box<[u8]>, PeerIx>,
    control: ByteQueue<ControlDatagram>,
    /// How far the rooms are with the messages that they were given.
    pub(crate) room_windows: RoomWindows,
}

impl Connections {
    /// None yet. `certificate` is what the peers expect by its fingerprint.
    pub(crate) fn new(certificate: Arc<ServerCertificate>) -> Connections {
        Connections {
            certificate,
            by_address: FxHashMap::default(),
            by_ufrag: FxHashMap::default(),
            control: ByteQueue::new(MAX_CONTROL),
            room_windows: RoomWindows::default(),
        }
    }

    /// The peer whose datagrams come from an address.
    pub(crate) fn peer_at(&self, source: SocketAddr) -> Option<PeerIx> {
        self.by_address.get(&source).copied()
    }

    /// Adds a peer. `feedback_ssrc` is the SSRC under which it gets feedback.
    pub(crate) fn add(
        &mut self,
        media: &mut Media,
        allocator: &mut Allocator,
        now: Instant,
        new: &NewTransport,
        feedback_ssrc: u32,
    ) {
        let transport = Transport::new(new, self.certificate.clone(), now);
        let peer = Peer::new(new.transport, new.room, transport, feedback_ssrc, now);
        let peer = media.peers.insert(new.transport, peer);
        self.remember_ufrag(&mut media.peers[peer], peer, &new.local_ice);
        self.settle(media, allocator, now, peer);
    }

    /// Removes a peer that publishes and receives nothing any more.
    pub(crate) fn remove(
        &mut self,
        media: &mut Media,
        allocator: &mut Allocator,
        now: Instant,
        transport: TransportId,
    ) {
        let Some(peer) = media.peers.find(transport) else {
            return;
        };
        self.release_senders(media, allocator, now, peer);
        media.peers[peer].transport.close(now);
        self.queue_control(media, peer);
        let Some((_, state)) = media.peers.remove(transport) else {
            return;
        };
        for address in state.addresses {
            if self.by_address.get(&address) == Some(&peer) {
                self.by_address.remove(&address);
            }
        }
        for ufrag in state.ufrags.into_iter().flatten() {
            self.by_ufrag.remove(&ufrag);
        }
        media.ready.forget(peer);
    }

    /// What the other end of a connection presents: its ICE credentials and the fingerprint of its
    /// certificate.
    pub(crate) fn set_remote(
        &mut self,
        media: &mut Media,
        allocator: &mut Allocator,
        now: Instant,
        transport: TransportId,
        (ice, fingerprint): (&IceCredentials, Fingerprint),
    ) {
        if let Some(peer) = media.peers.find(transport) {
            let transport = &mut media.peers[peer].transport;
            transport.set_remote(now, ice, fingerprint);
            self.settle(media, allocator, now, peer);
        }
    }

    /// A connection's ICE begins again with these credentials of ours.
    pub(crate) fn restart_ice(
        &mut self,
        media: &mut Media,
        transport: TransportId,
        local: &IceCredentials,
    ) {
        let Some(peer) = media.peers.find(transport) else {
            return;
        };
        let state = &mut media.peers[peer];
        self.remember_ufrag(state, peer, local);
        state.transport.restart_ice(local);
    }

    /// Checks with this username fragment are for `peer` from now on. Those from before an ICE
    /// restart are valid until a check with the new ones passes; what was before them is not.
    fn remember_ufrag(&mut self, state: &mut Peer, peer: PeerIx, local: &IceCredentials) {
        let ufrag: Box<[u8]> = local.ufrag.as_bytes().into();
        let [former, current] = &mut state.ufrags;
        if current.as_ref() == Some(&ufrag) {
            return;
        }
        let expired = std::mem::replace(former, current.replace(ufrag.clone()));
        if let Some(expired) = expired {
            self.by_ufrag.remove(&expired);
        }
        self.by_ufrag.insert(ufrag, peer);
    }

    /// A STUN message. False when it belongs to no peer.
    pub(crate) fn handle_stun(
        &mut self,
        media: &mut Media,
        allocator: &mut Allocator,
        now: Instant,
        (source, local): (SocketAddr, LocalSocket),
        datagram: &[u8],
    ) -> bool {
        let owner = username_fragment(datagram).and_then(|ufrag| self.by_ufrag.get(ufrag));
        let Some(&peer) = owner.or_else(|| self.by_address.get(&source)) else {
            return false;
        };
        let state = &mut media.peers[peer];
        state.transport.handle_stun(now, source, datagram);
        if state.transport.is_validated(source) {
            state.local = local;
            if self.by_address.get(&source) != Some(&peer) {
                self.remember_address(state, peer, source);
            }
        }
        self.settle(media, allocator, now, peer);
        true
    }

    /// Datagrams from `source` belong to `peer` from now on. Addresses that are no longer
    /// validated are forgotten.
    fn remember_address(&mut self, state: &mut Peer, peer: PeerIx, source: SocketAddr) {
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

    /// Takes what a peer's transport has to send and to tell, and arms its timer. To be called
    /// whenever something has happened to the transport.
    pub(crate) fn settle(
        &mut self,
        media: &mut Media,
        allocator: &mut Allocator,
        now: Instant,
        peer: PeerIx,
    ) {
        while let Some(event) = media.peers[peer].transport.poll_event() {
            handle_event(media, allocator, now, peer, event);
        }
        self.settle_data(media, allocator, now, peer);
        self.queue_control(media, peer);
        let state = &mut media.peers[peer];
        if state.update_path() {
            // What the former path carried says nothing of this one.
            allocator.allocate(media, now, peer, Reason::Settings);
        }
        let state = &mut media.peers[peer];
        if let Some(when) = state.transport.poll_timeout() {
            media
                .timers
                .arm(TimerOwner::Peer(peer), &mut state.armed, when);
        }
    }

    fn queue_control(&mut self, media: &mut Media, peer: PeerIx) {
        let state = &mut media.peers[peer];
        while let Some((destination, contents)) = state.transport.poll_transmit() {
            let path = Path {
                destination,
                local: state.local,
            };
            if !self.control.push(ControlDatagram { path, contents }) {
                media.statistics.datagrams_dropped += 1;
            }
        }
    }

    /// Moves the transports' datagrams to those that are handed out next, as many as fit.
    pub(crate) fn write_control(&mut self, media: &mut Media) {
        while !media.outgoing.is_full()
            && let Some(ControlDatagram { path, contents }) = self.control.pop()
        {
            media.outgoing.push(path, contents.len(), |out| {
                out.copy_from_slice(&contents);
                contents.len()
            });
        }
    }
}

fn handle_event(
    media: &mut Media,
    allocator: &mut Allocator,
    now: Instant,
    peer: PeerIx,
    event: TransportEvent,
) {
    let state = &mut media.peers[peer];
    let (id, room) = (state.id, state.room);
    let event = match event {
        TransportEvent::SecureWith {
            profile,
            keying_material,
        } => {
            let Some(keys) = SrtpKeys::from_exporter(profile, &keying_material) else {
                return;
            };
            state.srtp = Some(Srtp {
                sender: SrtpSender::new(profile, keys.local_key, keys.local_salt),
                receiver: SrtpReceiver::new(profile, keys.remote_key, keys.remote_salt),
            });
            media.emit(room, Event::TransportConnected(id));
            return allocator.allocate(media, now, peer, Reason::Settings);
        }
        TransportEvent::DataStalled(stalled) => Event::DataStalled {
            transport: id,
            stalled,
        },
        TransportEvent::Silent => Event::TransportSilent(id),
        TransportEvent::Back => Event::TransportBack(id),
        TransportEvent::Failed(reason) => Event::TransportFailed {
            transport: id,
            reason,
        },
    };
    media.emit(room, event);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::command::Command;
    use crate::test_room::TestRoom;

    #[test]
    fn restarts_of_ice_leave_no_more_than_the_former_credentials() {
        let mut room = TestRoom::new();
        let transport = room.connect(1);
        for number in 0..1_000 {
            let local_ice = IceCredentials {
                ufrag: format!("restart{number}"),
                pwd: "a-password-that-is-long-enough".into(),
            };
            room.command(Command::RestartIce {
                transport,
                local_ice,
            });
            assert!(room.engine.connections.by_ufrag.len() <= 2);
        }
        for valid in [&b"restart998"[..], b"restart999"] {
            assert!(room.engine.connections.by_ufrag.contains_key(valid));
        }
        room.command(Command::RemoveTransport(transport));
        assert!(room.engine.connections.by_ufrag.is_empty());
    }
}
