//! What a subscriber's connection can carry, and what is sent over it in consequence.
//!
//! Feedback goes to the peer's estimator. When the estimate or what is wanted changes, the
//! video tracks of the peer are reallocated, and where that leaves a wish open, the estimator
//! hears of it, so that it probes for more.

use std::time::Instant;

use crate::allocation::choices::Choices;
use crate::allocation::policy::{Allocation, Candidate, Rank, Reason, allocate};
use crate::api::codec::MediaKind;
use crate::api::event::Event;
use crate::bandwidth::coupling;
use crate::bandwidth::coupling::Coupling;
use crate::forward::retransmit::send_missing;
use crate::receive::keyframes::want_keyframe;
use crate::state::Media;
use crate::state::allocated::{Allocated, LOOKED_AT_AGAIN};
use crate::state::table::PeerIx;
use crate::state::table::TrackIx;
use crate::state::timers::TimerOwner;
use crate::wire::payload::layers::LayerId;
use crate::wire::rtcp::TransportFeedback;

/// The estimate has changed when it differs by more than this from the one that was allocated,
/// in percent.
const CHANGED_PERCENT: u64 = 3;
/// Room to have for what is wanted, as encoders vary, in percent of it.
const ROOM_PERCENT: u64 = 130;
/// More loss than this is that of a full queue, which is over as soon as less is sent.
const MOST_LOSS: f64 = 0.2;
/// Without an estimate there is no bound.
const BOUNDLESS: u64 = u64::MAX / 1_000;
/// So many packets are sent again for one feedback packet at most.
const MAX_MISSING: usize = 64;

/// Divides what each peer's connection carries among the tracks that it is sent.
pub(crate) struct Allocator {
    /// Peers behind one bottleneck.
    coupling: Coupling,
    /// The tracks of the peer that is being allocated; kept for its memory.
    candidates: Vec<Candidate>,
    /// Tags of packets that feedback reports missing; kept for its memory.
    missing: Vec<u64>,
    /// The instant from which delays of all peers are counted when they are compared.
    epoch: Instant,
}

impl Allocator {
    /// An allocator of an engine that starts now.
    pub(crate) fn new(now: Instant) -> Allocator {
        Allocator {
            coupling: Coupling::default(),
            candidates: Vec::new(),
            missing: Vec::new(),
            epoch: now,
        }
    }

    /// Transport-wide feedback, which has waited to be read since it `arrived`.
    pub(crate) fn transport_feedback(
        &mut self,
        media: &mut Media,
        now: Instant,
        arrived: Instant,
        peer: PeerIx,
        feedback: &TransportFeedback<'_>,
    ) {
        let mut missing = std::mem::take(&mut self.missing);
        let state = &mut media.peers[peer];
        let has_random_loss = state.has_random_loss();
        state.bandwidth.on_feedback(now, arrived, feedback, |tag| {
            if has_random_loss && missing.len() < MAX_MISSING {
                missing.push(tag);
            }
        });
        if let Some(bits) = state.bandwidth.take_probe_backlog() {
            // Audio waits behind what a probe left in the network's queue; video can wait here.
            state.pacer.add_debt(bits);
        }
        let fell = state.bandwidth.take_fall();
        if let (true, Some(path)) = (fell, state.path) {
            let address = path.destination.ip();
            if self.coupling.on_fall(now, address, state.id) {
                state.bandwidth.compare_delays(now, self.epoch);
            }
        }
        self.estimate_changed(media, now, peer);
        if self.coupling.is_due(now) {
            self.share_links(media, now);
        }
        send_missing(media, now, peer, &missing);
        missing.clear();
        self.missing = missing;
    }

    /// Estimates of peers who share a link are made equal.
    fn share_links(&mut self, media: &mut Media, now: Instant) {
        let peers = &media.peers;
        let parts = self.coupling.compare(now, |id, site| {
            let peer = &peers[peers.find(id)?];
            let address = peer.path?.destination.ip();
            let last = &peer.allocated;
            let demand = last.wanted.max(last.sent);
            (coupling::site(address) == Some(site)).then(|| peer.bandwidth.member(now, demand))
        });
        let sharers = parts.len() as u32;
        for (id, bps) in parts {
            if let Some(peer) = media.peers.find(id) {
                media.peers[peer].bandwidth.share(bps, sharers);
                self.estimate_changed(media, now, peer);
                media.ready.push_peer(now, peer, &mut media.peers[peer]);
            }
        }
    }

    /// A peer tells its own estimate, in bits a second.
    pub(crate) fn receiver_estimate(
        &mut self,
        media: &mut Media,
        now: Instant,
        peer: PeerIx,
        bps: u64,
    ) {
        let state = &mut media.peers[peer];
        state.bandwidth.on_remb(now, bps);
        state.gives_feedback = true;
        self.estimate_changed(media, now, peer);
    }

    /// The estimator's own time has come, if it has.
    pub(crate) fn bandwidth_timeout(&mut self, media: &mut Media, now: Instant, peer: PeerIx) {
        let state = &mut media.peers[peer];
        if state.bandwidth.poll_timeout().is_some_and(|due| due <= now) {
            state.bandwidth.handle_timeout(now);
            self.estimate_changed(media, now, peer);
            media.ready.push_peer(now, peer, &mut media.peers[peer]);
        }
        arm_bandwidth(media, peer);
    }

    fn estimate_changed(&mut self, media: &mut Media, now: Instant, peer: PeerIx) {
        arm_bandwidth(media, peer);
        let state = &mut media.peers[peer];
        state.set_pace();
        let Some(estimate) = state.estimate() else {
            return;
        };
        let last = &state.allocated;
        let much = last.estimate * CHANGED_PERCENT / 100;
        let fell = estimate + much < last.estimate;
        let rose = estimate > last.estimate + much && !last.satisfied;
        let old = last
            .at
            .is_none_or(|at| now.saturating_duration_since(at) >= LOOKED_AT_AGAIN);
        let turned = state.bandwidth.is_overusing() && !last.overusing;
        if fell || rose || turned || (old && !last.satisfied) {
            self.allocate_again(media, now, peer);
        }
    }

    /// As [`Engine::allocate`], while nobody has changed a settings.
    pub(crate) fn allocate_again(&mut self, media: &mut Media, now: Instant, peer: PeerIx) {
        let reason = if media.peers[peer].bandwidth.is_overusing() {
            Reason::Congestion
        } else {
            Reason::Budget
        };
        self.allocate(media, now, peer, reason);
    }

    /// Chooses for each video track of a peer what is sent of it.
    pub(crate) fn allocate(
        &mut self,
        media: &mut Media,
        now: Instant,
        peer: PeerIx,
        reason: Reason,
    ) {
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.clear();
        collect_candidates(media, now, peer, &mut candidates);
        let state = &mut media.peers[peer];
        let audio_rate = state.audio_rate.rate(now);
        let estimate = state.estimate();
        let mut budget = estimate.map_or(BOUNDLESS, |all| {
            let video = all.saturating_sub(audio_rate);
            // What is lost is sent again, and takes its part.
            let loss = state.bandwidth.loss().min(MOST_LOSS);
            (video as f64 * (1.0 - loss)) as u64
        });
        if !state.bandwidth.is_answered() {
            // Before anything is known of the way, one picture is sent, however large.
            let smallest = candidates.iter().filter_map(Candidate::smallest);
            let smallest = smallest.filter(|bitrate| *bitrate > 0).min();
            budget = budget.max(smallest.unwrap_or(0));
        }
        let last = &state.allocated;
        let upgrades = match reason {
            Reason::Settings => usize::MAX,
            _ => last.upgrades(now, estimate.unwrap_or(BOUNDLESS)),
        };
        let allocation = allocate(&mut candidates, budget, reason, upgrades);
        let Allocation { chosen, wanted, .. } = allocation;
        let taken_back = match reason {
            Reason::Settings => None,
            Reason::Congestion if allocation.takes_back => Some(now),
            _ => last.taken_back,
        };
        let grew = allocation.grows.then_some(now).or(last.grew);
        let enough = (wanted + audio_rate) * ROOM_PERCENT / 100;
        let satisfied = chosen == wanted && estimate.is_none_or(|all| all >= enough);
        state.allocated = Allocated {
            at: Some(now),
            estimate: estimate.unwrap_or(BOUNDLESS),
            sent: chosen + audio_rate,
            wanted: wanted + audio_rate,
            overusing: state.bandwidth.is_overusing(),
            satisfied,
            taken_back,
            grew,
        };
        state
            .bandwidth
            .want(now, if satisfied { 0 } else { enough });
        state.set_pace();
        for candidate in &candidates {
            choose(media, now, candidate);
        }
        self.candidates = candidates;
    }

    /// Reallocates the subscribers of a track when layers of it have come or gone.
    pub(crate) fn look_at_layers(&mut self, media: &mut Media, now: Instant, track: TrackIx) {
        let state = &mut media.tracks[track];
        let alive = state.streams_alive(now);
        if std::mem::replace(&mut state.known_alive, alive) != alive {
            self.choose_layers(media, now, track);
        }
    }

    /// What there is of a track has changed: each of its subscribers is reallocated.
    pub(crate) fn choose_layers(&mut self, media: &mut Media, now: Instant, track: TrackIx) {
        for place in 0..media.tracks[track].subscriptions.len() {
            let index = media.tracks[track].subscriptions[place];
            let subscription = &mut media.subscriptions[index];
            if media.tracks[track].muted {
                subscription.forwarder.pause();
            }
            let peer = subscription.peer;
            self.allocate_again(media, now, peer);
        }
    }
}

fn arm_bandwidth(media: &mut Media, peer: PeerIx) {
    let state = &mut media.peers[peer];
    if let Some(when) = state.bandwidth.poll_timeout() {
        media
            .timers
            .arm(TimerOwner::Peer(peer), &mut state.armed, when);
    }
}

/// Finds the video tracks of a peer that want a share. Voices are sent whatever there is room for.
fn collect_candidates(
    media: &mut Media,
    now: Instant,
    peer: PeerIx,
    candidates: &mut Vec<Candidate>,
) {
    for &index in &media.peers[peer].subscriptions {
        let subscription = &mut media.subscriptions[index];
        let track = &media.tracks[subscription.track];
        let flows = subscription.settings.enabled && !track.muted;
        if track.kind == MediaKind::Audio {
            subscription.set_target(track, flows.then(LayerId::default));
        } else if flows {
            let rank = Rank::new(track.screen, subscription.settings.priority);
            let mut candidate = Candidate::new(index, rank, subscription.settings.allow_pause);
            candidate.paused = subscription.paused;
            for choice in Choices::new(track, &subscription.settings, now).iter() {
                let current = subscription.target == Some(choice.layer);
                candidate.add(choice.bitrate, current);
            }
            candidates.push(candidate);
        }
    }
}

/// Sends of a track what was chosen.
fn choose(media: &mut Media, now: Instant, candidate: &Candidate) {
    let index = candidate.subscription;
    let subscription = &mut media.subscriptions[index];
    let track = &media.tracks[subscription.track];
    let choices = Choices::new(track, &subscription.settings, now);
    let target = candidate.chosen.and_then(|choice| choices.get(choice));
    let paused = target.is_none() && !choices.is_empty();
    let changed = std::mem::replace(&mut subscription.paused, paused) != paused;
    subscription.set_target(track, target);
    let (id, room, track) = (subscription.id, track.room, subscription.track);
    if target.is_none() {
        subscription.forwarder.pause();
    }
    if let Some(stream) = subscription.forwarder.needs_keyframe() {
        want_keyframe(media, now, track, stream);
    }
    if changed {
        let subscription = id;
        media.emit(
            room,
            Event::StreamState {
                subscription,
                paused,
            },
        );
    }
}
