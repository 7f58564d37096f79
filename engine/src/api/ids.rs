//! Typed numbers for the things an engine holds.
//!
//! The control plane hands them out from process-wide counters, so a command can name a thing
//! before the engine has seen it; a number is never used twice in one process.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u32);
    };
}

id!(
    /// One room as the media plane knows it: where events are delivered.
    RoomId
);
id!(
    /// One peer connection: ICE, DTLS, SRTP, data channels.
    TransportId
);
id!(
    /// One published track with all its layers.
    TrackId
);
id!(
    /// One track sent to one subscriber.
    SubscriptionId
);
id!(
    /// One shard of this process, from 0.
    ShardId
);
