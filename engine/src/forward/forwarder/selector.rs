//! Which packets of one stream a subscriber gets, so that the decoder has all it needs of the
//! layer that flows and can change to another one without a flaw.
//!
//! Invariant: of every layer in `whole` all frames since the last keyframe (or the point from
//! which they are not needed any more) have been let through. A change of layer goes only to a
//! member of it, and at the start of a picture, so it needs no keyframe.

use crate::wire::payload::layers::{LayerId, LayerSet};
use crate::wire::payload::reader::PacketLayers;

/// The layer of one stream that flows, and the one that should.
#[derive(Debug, Clone, Copy)]
pub(super) struct LayerSelector {
    current: LayerId,
    target: LayerId,
    whole: LayerSet,
    lower_layers: LowerLayers,
}

/// Whether the layer that flows takes the frames of smaller layers with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LowerLayers {
    /// In this picture it does: it is a keyframe.
    Keyframe,
    /// Always.
    Needed,
    /// In keyframes only.
    Independent,
}

impl LayerSelector {
    pub(super) fn new() -> LayerSelector {
        LayerSelector {
            current: LayerId::MAX,
            target: LayerId::MAX,
            whole: LayerSet::EMPTY,
            lower_layers: LowerLayers::Independent,
        }
    }

    pub(super) fn current(&self) -> LayerId {
        self.current
    }

    pub(super) fn set_target(&mut self, target: LayerId) {
        self.target = target;
    }

    /// Whether only a keyframe leads to the target's size. Its frame rate is reached without.
    pub(super) fn needs_keyframe(&self) -> bool {
        self.current.spatial != self.target.spatial
            && !self
                .whole
                .iter()
                .any(|id| id.spatial == self.target.spatial)
    }

    /// Begins with a keyframe: every layer is there.
    pub(super) fn start(&mut self) {
        self.whole = LayerSet::ALL;
        self.lower_layers = LowerLayers::Keyframe;
        self.current = self.target;
    }

    /// Whether the next packet in the stream's order goes on.
    pub(super) fn select(&mut self, packet: &PacketLayers) -> bool {
        if packet.keyframe {
            self.whole = LayerSet::ALL;
        } else if self.whole.intersects(packet.switch_from) {
            self.whole = self.whole.union(packet.switch_to);
        }
        if packet.starts_picture {
            self.current = self.best();
            self.lower_layers = match packet.needed_by.contains(self.current) {
                _ if packet.keyframe => LowerLayers::Keyframe,
                true => LowerLayers::Needed,
                false => LowerLayers::Independent,
            };
        }
        if packet.needed_by.contains(self.current) {
            return true;
        }
        self.dropped(packet);
        false
    }

    /// Packets are missing before one of the same picture as the last one, or of another. They
    /// will go on if they come and the layer that flows needs them; what only other layers need
    /// will not.
    pub(super) fn missing(&mut self, same_picture: bool) {
        let LayerId { spatial, temporal } = self.current;
        let lowest = match self.lower_layers {
            LowerLayers::Needed => 0,
            LowerLayers::Keyframe if same_picture => 0,
            LowerLayers::Keyframe | LowerLayers::Independent => spatial,
        };
        let certain = (lowest..=spatial)
            .flat_map(|spatial| (0..=temporal).map(move |temporal| LayerId { spatial, temporal }))
            .map(LayerSet::only)
            .fold(LayerSet::EMPTY, LayerSet::union);
        self.whole = self.whole.intersection(certain);
    }

    /// A packet did not go on.
    pub(super) fn dropped(&mut self, packet: &PacketLayers) {
        self.whole = self.whole.without(packet.needed_by);
    }

    /// The best that can be had now: the highest within the target; where all are larger, as
    /// after a target below what flows when the smaller layers have not been sent, the cheapest.
    fn best(&self) -> LayerId {
        let within =
            |id: &LayerId| id.spatial <= self.target.spatial && id.temporal <= self.target.temporal;
        let mut whole = self.whole.iter();
        let best = whole.clone().rev().find(within).or_else(|| whole.next());
        best.unwrap_or(self.current)
    }
}
