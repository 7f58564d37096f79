//! One peer connection as the packet path sees it: keys, stream table, send queue.

use std::mem::offset_of;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::allocation::rate_meter::RateMeter;
use crate::api::command::{Payload, ReceiveMapping};
use crate::api::ids::{RoomId, TransportId};
use crate::api::io::LocalSocket;
use crate::bandwidth::BandwidthEstimator;
use crate::receive::received_streams::ReceivedStreams;
use crate::receive::transport_cc::TransportCcRecorder;
use crate::send::pacer::Pacer;
use crate::send::retransmissions::Retransmissions;
use crate::send::send_batch::Path;
use crate::send::send_queue::{Form, LastQueued, QueuedPacket, SendQueue};
use crate::state::active_probe::ActiveProbe;
use crate::state::allocated::Allocated;
use crate::state::data_flow::DataFlow;
use crate::state::table::{SubscriptionIx, TrackIx};
use crate::state::timers::Armed;
use crate::transport::Transport;
use crate::wire::rtp::extensions::ExtensionMap;
use crate::wire::srtp::{MAX_OVERHEAD, SrtpReceiver, SrtpSender};
use moim_native::prefetch::prefetch_head;

/// Round-trip time assumed until a report tells better.
const INITIAL_RTT: Duration = Duration::from_millis(100);
/// Reports are due this often while packets flow. Our choice, as browsers do for video.
pub(crate) const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// A longer one counts as this much.
const MAX_RTT: Duration = Duration::from_secs(2);
/// A path that loses a greater share of its packets than this is a lossy one: 2 %, below which
/// libwebrtc's loss-based control raises the rate.
const LOSSY: f64 = 0.02;

/// Keys of both directions.
#[repr(C)]
pub(crate) struct Srtp {
    pub(crate) sender: SrtpSender,
    pub(crate) receiver: SrtpReceiver,
}

/// How what a peer publishes is read.
#[derive(Default)]
pub(crate) struct ReceiveFormat {
    payload_types: PayloadTypes,
    pub(crate) extensions: ExtensionMap,
}

/// What each payload type carries.
struct PayloadTypes([Option<Payload>; 128]);

impl Default for PayloadTypes {
    fn default() -> Self {
        PayloadTypes([None; 128])
    }
}

/// One peer connection. What a packet on its way out touches comes first, in the order in which it
/// does, and then what its reports do: with hundreds of subscribers each line of memory is waited
/// for.
#[repr(C, align(64))]
pub(crate) struct Peer {
    pub(crate) queue: SendQueue,
    pub(crate) pacer: Pacer,
    /// Bits a second at which packets leave, as of [`Peer::set_pace`]: what that depends on lies
    /// far away.
    pace: Option<u64>,
    pub(crate) report_due: Option<Instant>,
    /// Where the peer's datagrams go, once that is known.
    pub(crate) path: Option<Path>,
    /// Whether this peer is in the list of those with packets to send.
    pub(crate) in_ready_list: bool,
    /// The peer reports what arrives, or what it can take: the estimate means something.
    pub(crate) gives_feedback: bool,
    pub(crate) bandwidth: Box<BandwidthEstimator>,
    pub(crate) probe: Option<Box<ActiveProbe>>,
    pub(crate) srtp: Option<Srtp>,

    pub(crate) id: TransportId,
    pub(crate) room: RoomId,
    pub(crate) armed: Armed,
    pub(crate) transport: Box<Transport>,
    /// Socket on which the peer's last check arrived.
    pub(crate) local: LocalSocket,
    pub(crate) allocated: Allocated,
    /// Indexes of the subscriptions that this peer receives.
    pub(crate) subscriptions: Vec<SubscriptionIx>,

    pub(crate) retransmissions: Retransmissions,
    /// The rate at which audio is sent, which is not part of what video tracks share.
    pub(crate) audio_rate: RateMeter,
    /// Addresses under which the engine finds this peer.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Our username fragments by which the engine finds this peer: the one from before the last ICE
    /// restart, and the present one.
    pub(crate) ufrags: [Option<Box<[u8]>>; 2],
    pub(crate) format: Box<ReceiveFormat>,
    pub(crate) streams: ReceivedStreams,
    /// Indexes of the tracks that this peer publishes.
    pub(crate) tracks: Vec<TrackIx>,
    pub(crate) transport_cc: TransportCcRecorder,
    /// SSRC under which we send feedback.
    pub(crate) feedback_ssrc: u32,
    pub(crate) feedback_due: Option<Instant>,
    /// When something is to be sent of a track that is silent.
    pub(crate) silence_due: Option<Instant>,
    pub(crate) rtt: Duration,
    /// Where it stands in the flow of reliable data.
    pub(crate) data_flow: DataFlow,
}

impl Peer {
    pub(crate) fn new(
        id: TransportId,
        room: RoomId,
        transport: Transport,
        feedback_ssrc: u32,
        now: Instant,
    ) -> Peer {
        Peer {
            id,
            room,
            transport: Box::new(transport),
            srtp: None,
            path: None,
            local: LocalSocket::default(),
            queue: SendQueue::default(),
            pacer: Pacer::default(),
            bandwidth: Box::new(BandwidthEstimator::new(now)),
            gives_feedback: false,
            pace: None,
            allocated: Allocated::default(),
            retransmissions: Retransmissions::default(),
            audio_rate: RateMeter::default(),
            probe: None,
            in_ready_list: false,
            addresses: Vec::new(),
            ufrags: [None, None],
            format: Box::default(),
            streams: ReceivedStreams::default(),
            tracks: Vec::new(),
            subscriptions: Vec::new(),
            transport_cc: TransportCcRecorder::default(),
            feedback_ssrc,
            feedback_due: None,
            silence_due: None,
            report_due: None,
            rtt: INITIAL_RTT,
            armed: None,
            data_flow: DataFlow::default(),
        }
    }

    /// Asks for the memory of this alone, as far as sending touches it.
    pub(crate) fn prefetch_head(&self) {
        prefetch_head(self, offset_of!(Peer, id));
    }

    /// As [`Self::prefetch_head`], as far as reports touch it.
    pub(crate) fn prefetch_front(&self) {
        prefetch_head(self, offset_of!(Peer, retransmissions));
    }

    /// Asks for what sending touches elsewhere. This itself is to be there.
    pub(crate) fn prefetch_for_sending(&self) {
        self.bandwidth.prefetch_head();
        if let Some(srtp) = &self.srtp {
            srtp.sender.prefetch();
        }
    }

    /// Asks for what a report touches elsewhere. This itself is to be there.
    pub(crate) fn prefetch_for_report(&self) {
        self.bandwidth.prefetch_for_report();
        if let Some(srtp) = &self.srtp {
            srtp.receiver.prefetch_for_rtcp();
        }
    }

    /// A round trip was measured.
    pub(crate) fn note_rtt(&mut self, rtt: Duration) {
        self.rtt = (self.rtt * 7 + rtt.min(MAX_RTT)) / 8;
    }

    pub(crate) fn set_mapping(&mut self, mapping: &ReceiveMapping) {
        let mut payload_types = PayloadTypes::default();
        for &(payload_type, payload) in &mapping.payload_types {
            if let Some(entry) = payload_types.0.get_mut(usize::from(payload_type)) {
                *entry = Some(payload);
            }
        }
        *self.format = ReceiveFormat {
            payload_types,
            extensions: ExtensionMap::new(&mapping.extensions),
        };
    }

    /// After anything happened to the transport: notes where it leads. True when that is another
    /// host than before, and so another network; a port alone changes in the midst of the same.
    pub(crate) fn update_path(&mut self) -> bool {
        let local = self.local;
        let remote = self.transport.remote();
        let before = self.path.map(|path| path.destination.ip());
        self.path = remote.map(|destination| Path { destination, local });
        let moved = before.is_some() && before != remote.map(|destination| destination.ip());
        if moved {
            self.bandwidth.on_path_change();
            self.set_pace();
            self.probe = None;
        }
        moved
    }

    /// Whether the path to this peer loses packets at random, and not because too much is sent.
    pub(crate) fn has_random_loss(&self) -> bool {
        self.bandwidth.loss() > LOSSY && self.bandwidth.may_probe()
    }

    /// Bits a second that may be sent to this peer in all; `None` while there is no bound.
    pub(crate) fn estimate(&self) -> Option<u64> {
        self.gives_feedback.then(|| self.bandwidth.estimate())
    }

    /// Bits a second at which packets leave; `None` while there is no bound.
    pub(crate) fn pace(&self) -> Option<u64> {
        debug_assert_eq!(self.pace, self.find_pace(), "a change was not told of");
        self.pace
    }

    /// What is known of the network, or what is sent, has changed.
    pub(crate) fn set_pace(&mut self) {
        self.pace = self.find_pace();
    }

    /// With room to spare packets leave much faster than they come, so that a frame is over well
    /// before the next one. Where the network is the limit they leave hardly faster: the keyframe
    /// of a larger layer would only wait in the network instead, and the queue that it makes there
    /// be taken for a sign that the layer does not fit.
    fn find_pace(&self) -> Option<u64> {
        let estimate = self.estimate()?;
        Some(if !self.bandwidth.may_probe() {
            estimate
        } else if self.allocated.satisfied {
            estimate * 5 / 2
        } else {
            estimate.max(self.allocated.sent * 11 / 10)
        })
    }

    /// Queues a packet, or makes it wait for its time when it is `paced`; `last` is its stream's.
    /// False when there is no room.
    pub(crate) fn enqueue(
        &mut self,
        now: Instant,
        packet: QueuedPacket,
        last: &mut LastQueued,
        paced: bool,
    ) -> bool {
        if !self.in_ready_list {
            let pace = self.pace();
            self.pacer.refill(now, pace);
        }
        if paced && !self.pacer.is_open() {
            return self.pacer.delay(packet);
        }
        if !paced && packet.form == Form::Media {
            self.audio_rate.add(usize::from(packet.len) + MAX_OVERHEAD);
        }
        self.pacer.spend(packet.len);
        self.queue.push(packet, last)
    }

    /// Whether there is anything to send.
    pub(crate) fn has_packets(&self) -> bool {
        !self.queue.is_empty()
            || self.pacer.is_delaying()
            || self.probe.is_some()
            || (self.gives_feedback && self.bandwidth.has_probe())
    }

    /// Lets go of what is queued of a track.
    pub(crate) fn cancel(&mut self, track: TrackIx) {
        self.queue.cancel(track);
        self.pacer.cancel(track);
    }

    pub(crate) fn payload(&self, payload_type: u8) -> Option<Payload> {
        self.format.payload_types.0[usize::from(payload_type & 0x7f)]
    }
}
