//! The ways between shards: bounded queues of batches there, and the empty batches back.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Instant;

use moim_engine::Engine;
use moim_engine::RelayBatch;
use moim_engine::ids::ShardId;

/// Batches that wait for a shard. What does not fit gathers in the engine, up to its bound.
pub(super) const DEPTH: usize = 8;

/// A batch, and since when it waits to be read.
type Crossing = (Instant, RelayBatch);

/// One shard's ends of the queues between it and another shard.
pub(super) struct Link {
    /// The other shard.
    pub(super) shard: ShardId,
    outgoing: SyncSender<Crossing>,
    /// Our batches, which the other shard has read and emptied.
    spent: Receiver<RelayBatch>,
    incoming: Receiver<Crossing>,
    returning: SyncSender<RelayBatch>,
    waker: Arc<mio::Waker>,
    /// An empty batch, to exchange for the engine's next one.
    spare: RelayBatch,
    /// A batch for which the queue had no room.
    held: Option<Crossing>,
}

impl Link {
    /// Sends what the engine has for the other shard, and wakes that once.
    pub(super) fn send(&mut self, now: Instant, engine: &mut Engine) {
        while let Some(batch) = self.next(now, engine) {
            match self.outgoing.try_send(batch) {
                // Fails only when the shard is gone.
                Ok(()) => drop(self.waker.wake()),
                Err(TrySendError::Full(batch)) => {
                    self.held = Some(batch);
                    return;
                }
                // Nobody is there to miss it.
                Err(TrySendError::Disconnected(_)) => {}
            }
        }
    }

    /// What the other shard has sent, and when.
    pub(super) fn receive(&self) -> Option<Crossing> {
        self.incoming.try_recv().ok()
    }

    /// Gives a batch back after it was read.
    pub(super) fn give_back(&self, mut batch: RelayBatch) {
        batch.clear();
        // Where there is no room the other shard has enough of them.
        let _ = self.returning.try_send(batch);
    }

    /// Whether something waits for the other shard to read.
    pub(super) fn is_waiting(&self) -> bool {
        self.held.is_some()
    }

    fn next(&mut self, now: Instant, engine: &mut Engine) -> Option<Crossing> {
        if let Some(batch) = self.held.take() {
            return Some(batch);
        }
        if !engine.poll_relay(self.shard, &mut self.spare) {
            return None;
        }
        let spare = self.spent.try_recv().unwrap_or_default();
        Some((now, std::mem::replace(&mut self.spare, spare)))
    }
}

/// The links of each shard with all the others. The wakers are those of the shards.
pub(super) fn links(wakers: &[Arc<mio::Waker>]) -> Vec<Vec<Link>> {
    let mut links: Vec<Vec<Link>> = wakers.iter().map(|_| Vec::new()).collect();
    for second in 0..wakers.len() {
        for first in 0..second {
            let (forth, from_first) = sync_channel(DEPTH);
            let (back, from_second) = sync_channel(DEPTH);
            let (return_forth, spent_first) = sync_channel(DEPTH);
            let (return_back, spent_second) = sync_channel(DEPTH);
            links[first].push(Link {
                shard: ShardId(second as u32),
                outgoing: forth,
                spent: spent_first,
                incoming: from_second,
                returning: return_back,
                waker: wakers[second].clone(),
                spare: RelayBatch::default(),
                held: None,
            });
            links[second].push(Link {
                shard: ShardId(first as u32),
                outgoing: back,
                spent: spent_second,
                incoming: from_first,
                returning: return_forth,
                waker: wakers[first].clone(),
                spare: RelayBatch::default(),
                held: None,
            });
        }
    }
    links
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use moim_engine::codec::{MediaKind, PayloadTypes};
    use moim_engine::command::{
        Command, IceCredentials, NewSubscription, NewTrack, NewTransport, SubscriptionSettings,
        TrackSource,
    };
    use moim_engine::ids::{RoomId, SubscriptionId, TrackId, TransportId};
    use moim_engine::io::EngineConfig;
    use moim_engine::transport::ServerCertificate;

    /// An engine with one connection, and a track whose home is the shard with number 1.
    fn engine(now: Instant) -> Engine {
        let config = EngineConfig {
            seed: 1,
            certificate: Arc::new(ServerCertificate::generate().unwrap()),
            wall_clock: Duration::ZERO,
        };
        let mut engine = Engine::new(config, now);
        let (room, home) = (RoomId(1), ShardId(1));
        let transport = Box::new(NewTransport {
            transport: TransportId(1),
            room,
            local_ice: IceCredentials {
                ufrag: "abcd".into(),
                pwd: "a-password-that-is-long-enough".into(),
            },
            opens_data_channels: false,
        });
        engine.handle_command(now, Command::AddTransport(transport));
        let track = Box::new(NewTrack {
            track: TrackId(1),
            transport: TransportId(2),
            kind: MediaKind::Video,
            screen: false,
            encrypted: false,
            source: TrackSource::default(),
        });
        engine.handle_command(now, Command::MirrorTrack { track, room, home });
        engine
    }

    /// Makes the engine have something to say to the track's home.
    fn subscribe(engine: &mut Engine, now: Instant, number: u32) {
        let subscription = SubscriptionId(number.into());
        let new = NewSubscription {
            shown_as: None,
            subscription,
            track: TrackId(1),
            transport: TransportId(1),
            ssrc: 1,
            rtx_ssrc: None,
            transport_cc: true,
            payload_types: PayloadTypes::as_offered().without_red(),
            settings: SubscriptionSettings::default(),
        };
        engine.handle_command(now, Command::AddSubscription(new));
        engine.handle_command(now, Command::RemoveSubscription(subscription));
        engine.handle_timeout(now + Duration::from_millis(1));
    }

    #[test]
    fn a_full_queue_holds_a_batch_back_and_loses_none() {
        let poll = mio::Poll::new().unwrap();
        let waker = Arc::new(mio::Waker::new(poll.registry(), mio::Token(0)).unwrap());
        let mut links = links(&[waker.clone(), waker]);
        let (mut here, there) = (links[0].remove(0), links[1].remove(0));
        assert_eq!((here.shard, there.shard), (ShardId(1), ShardId(0)));
        let mut now = Instant::now();
        let mut engine = engine(now);
        for number in 0..=DEPTH as u32 {
            assert!(!here.is_waiting(), "before batch {number}");
            now += Duration::from_millis(5);
            subscribe(&mut engine, now, number);
            here.send(now, &mut engine);
        }
        assert!(here.is_waiting());
        let mut received = 0;
        while let Some((_, batch)) = there.receive() {
            assert!(!batch.is_empty());
            there.give_back(batch);
            received += 1;
            here.send(now, &mut engine);
        }
        assert_eq!(received, DEPTH + 1);
        assert!(!here.is_waiting());
        assert!(here.receive().is_none(), "nothing comes the other way");
    }
}
