//! What the engine knows of its peers, tracks and subscriptions.

pub(crate) mod active_probe;
pub(crate) mod allocated;
pub(crate) mod layer_rates;
pub(crate) mod membership;
pub(crate) mod packet;
pub(crate) mod packet_cache;
pub(crate) mod peer;
pub(crate) mod repeat;
pub(crate) mod subscription;
pub(crate) mod table;
pub(crate) mod timers;
pub(crate) mod track;

use crate::api::ids::{SubscriptionId, TrackId, TransportId};
use peer::Peer;
use subscription::Subscription;
use table::{PeerIx, SubscriptionIx, Table, TrackIx};
use track::Track;

/// The peer connections.
pub(crate) type Peers = Table<TransportId, PeerIx, Peer>;
/// The published tracks, and those of other shards that are mirrored here.
pub(crate) type Tracks = Table<TrackId, TrackIx, Track>;
/// The tracks on their way to a subscriber.
pub(crate) type Subscriptions = Table<SubscriptionId, SubscriptionIx, Subscription>;
