//! Typed numbers for the things an engine holds.
//!
//! The control plane hands them out from counters, so a command can name a thing before the engine
//! has seen it; a number is never used twice in one process. The node that handed an id out is part of
//! it, so that one node can name what another one has.

/// Bits of an id below the node's number.
const NUMBER_BITS: u32 = 48;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// The upper 16 bits are the number of the node that handed it out, the lower 48 its own.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u64);

        impl $name {
            /// The id with this number, below 2^48, of a node. A larger number is cut to 48 bits.
            pub const fn new(node: u16, number: u64) -> Self {
                let number = number & ((1 << NUMBER_BITS) - 1);
                $name((node as u64) << NUMBER_BITS | number)
            }

            /// The number of the node that handed it out.
            pub const fn node(self) -> u16 {
                (self.0 >> NUMBER_BITS) as u16
            }
        }
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

/// One shard of this process, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_its_node_and_differs_from_that_of_any_other() {
        let last = (1 << NUMBER_BITS) - 1;
        for node in [0, 1, u16::MAX] {
            for number in [0, 1, last] {
                assert_eq!(TrackId::new(node, number).node(), node);
            }
        }
        assert_ne!(TrackId::new(0, 7), TrackId::new(1, 7));
        assert_eq!(TrackId::new(0, 7), TrackId(7));
    }
}
