//! Spatial and temporal layers: one of them, and sets of them.
//!
//! A set answers in one `and` what forwarding asks of every packet for every subscriber: does
//! someone who gets this layer need it?

/// Spatial layers that are told apart; those above count as the highest of these.
pub(crate) const MAX_SPATIAL: u8 = 4;
/// Temporal layers that are told apart; those above count as the highest of these.
pub(crate) const MAX_TEMPORAL: u8 = 4;

/// A layer of a video: everything up to it, in size and in frame rate. Of a simulcast track
/// `spatial` is the stream, lowest first; of one with scalable coding it is the layer within the
/// only stream. Ordered by what it costs: size before frame rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct LayerId {
    /// 0 smallest.
    pub(crate) spatial: u8,
    /// 0 lowest frame rate.
    pub(crate) temporal: u8,
}

impl LayerId {
    /// The highest that can be told.
    pub(crate) const MAX: LayerId = LayerId {
        spatial: MAX_SPATIAL - 1,
        temporal: MAX_TEMPORAL - 1,
    };

    /// Numbers above what is told apart become the highest that is.
    pub(crate) fn new(spatial: u8, temporal: u8) -> LayerId {
        LayerId {
            spatial: spatial.min(MAX_SPATIAL - 1),
            temporal: temporal.min(MAX_TEMPORAL - 1),
        }
    }

    /// Position in a table of all layers, below [`LayerSet::LEN`].
    pub(crate) fn index(self) -> usize {
        usize::from(self.spatial * MAX_TEMPORAL + self.temporal)
    }
}

/// Bits of one spatial layer.
const ROW: u16 = (1 << MAX_TEMPORAL) - 1;

/// A set of layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LayerSet(u16);

impl LayerSet {
    pub(crate) const EMPTY: LayerSet = LayerSet(0);
    pub(crate) const ALL: LayerSet = LayerSet(u16::MAX);
    /// How many layers there can be.
    pub(crate) const LEN: usize = (MAX_SPATIAL * MAX_TEMPORAL) as usize;

    /// The layers of this spatial layer from this temporal layer up.
    pub(crate) fn row(id: LayerId) -> LayerSet {
        let temporal = (ROW << id.temporal) & ROW;
        LayerSet(temporal << (id.spatial * MAX_TEMPORAL))
    }

    /// The layers that contain this one: neither smaller nor with fewer frames.
    pub(crate) fn from(id: LayerId) -> LayerSet {
        (id.spatial..MAX_SPATIAL)
            .map(|spatial| LayerSet::row(LayerId { spatial, ..id }))
            .fold(LayerSet::EMPTY, LayerSet::union)
    }

    /// One layer alone.
    pub(crate) fn only(id: LayerId) -> LayerSet {
        LayerSet(1 << id.index())
    }

    pub(crate) fn contains(self, id: LayerId) -> bool {
        self.0 & LayerSet::only(id).0 != 0
    }

    pub(crate) fn intersects(self, other: LayerSet) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) fn union(self, other: LayerSet) -> LayerSet {
        LayerSet(self.0 | other.0)
    }

    pub(crate) fn intersection(self, other: LayerSet) -> LayerSet {
        LayerSet(self.0 & other.0)
    }

    pub(crate) fn without(self, other: LayerSet) -> LayerSet {
        LayerSet(self.0 & !other.0)
    }

    /// Spatial layer of the lowest member.
    pub(crate) fn lowest_spatial(self) -> Option<u8> {
        (self.0 != 0).then(|| self.0.trailing_zeros() as u8 / MAX_TEMPORAL)
    }

    /// All members, the lowest first.
    pub(crate) fn iter(self) -> impl DoubleEndedIterator<Item = LayerId> + Clone {
        (0..MAX_SPATIAL * MAX_TEMPORAL)
            .map(|index| LayerId {
                spatial: index / MAX_TEMPORAL,
                temporal: index % MAX_TEMPORAL,
            })
            .filter(move |id| self.contains(*id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_from_a_layer_has_those_that_contain_it() {
        let set = LayerSet::from(LayerId::new(1, 1));
        for id in LayerSet::ALL.iter() {
            assert_eq!(set.contains(id), id.spatial >= 1 && id.temporal >= 1);
        }
        assert_eq!(set.lowest_spatial(), Some(1));
        assert_eq!(LayerSet::EMPTY.lowest_spatial(), None);
    }

    #[test]
    fn numbers_beyond_the_table_become_the_highest() {
        assert_eq!(LayerId::new(7, 7), LayerId::MAX);
        assert_eq!(LayerSet::from(LayerId::MAX).iter().count(), 1);
    }
}
