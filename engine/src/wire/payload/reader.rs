//! Reads once a track what forwarding has to know of a packet, whatever its codec.

use super::counters::PictureCounters;
use super::dependency_descriptor::{DescriptorReader, Mandatory};
use super::layers::{LayerId, LayerSet};
use super::vp8::Vp8Descriptor;
use super::vp9::Vp9Descriptor;
use super::{av1, h264};
use crate::api::codec::Codec;

/// What forwarding has to know of a packet and the frame that it belongs to. A frame is of one
/// layer; the frames of one instant in all spatial layers are a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PacketLayers {
    /// The frame's layer.
    pub(crate) id: LayerId,
    /// Layers that need the frame. Of padding, by which a publisher probes its network, none.
    pub(crate) needed_by: LayerSet,
    /// Who gets one of these layers whole may go on with those of `switch_to` from here.
    pub(crate) switch_from: LayerSet,
    pub(crate) switch_to: LayerSet,
    pub(crate) starts_picture: bool,
    pub(crate) ends_frame: bool,
    /// A decoder can start with this packet, in any layer.
    pub(crate) keyframe: bool,
    /// Spatial layers that the stream has from now on, where the packet says so.
    pub(crate) structure: Option<u8>,
    pub(crate) counters: PictureCounters,
    pub(crate) numbering: Numbering,
}

/// How the frames of a stream are numbered, which decides what a receiver takes for a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbering {
    /// Not at all.
    None,
    /// Receivers wait for the picture of a missing PictureID: who drops a picture has to close
    /// the gap (VP8).
    Dense,
    /// All frames of a picture have its PictureID, by which they refer to each other: gaps are
    /// told apart from losses by layer, and stay (VP9).
    Picture,
    /// As `Picture`, with a number for each frame (dependency descriptor).
    Frame,
}

impl PacketLayers {
    /// A packet of a stream without layers.
    pub(crate) fn whole(keyframe: bool) -> PacketLayers {
        PacketLayers {
            id: LayerId::default(),
            needed_by: LayerSet::ALL,
            switch_from: LayerSet::EMPTY,
            switch_to: LayerSet::EMPTY,
            starts_picture: keyframe,
            ends_frame: false,
            keyframe,
            structure: None,
            counters: PictureCounters::default(),
            numbering: Numbering::None,
        }
    }

    /// A packet without payload, by which a publisher probes its network.
    pub(crate) fn padding() -> PacketLayers {
        PacketLayers {
            needed_by: LayerSet::EMPTY,
            ..PacketLayers::whole(false)
        }
    }
}

/// Reads the packets of one stream of video.
#[derive(Debug, Default)]
pub(crate) struct LayerReader {
    descriptors: DescriptorReader,
    /// Timestamp of the newest picture.
    timestamp: Option<u32>,
    /// The highest sequence number.
    sequence: Option<u64>,
}

impl LayerReader {
    /// Looks at a packet's payload, its dependency descriptor, its extended sequence number and
    /// its timestamp.
    pub(crate) fn read(
        &mut self,
        codec: Codec,
        sequence: u64,
        timestamp: u32,
        payload: &[u8],
        dependency_descriptor: Option<&[u8]>,
    ) -> PacketLayers {
        if payload.is_empty() {
            return PacketLayers {
                needed_by: LayerSet::EMPTY,
                ..untold()
            };
        }
        let new_picture = self
            .timestamp
            .is_none_or(|newest| (timestamp.wrapping_sub(newest) as i32) > 0);
        if new_picture {
            self.timestamp = Some(timestamp);
        }
        let adjoins = self.sequence.is_some() && self.sequence == sequence.checked_sub(1);
        self.sequence = self.sequence.max(Some(sequence));
        let mut layers = match codec {
            Codec::Opus | Codec::Pcmu | Codec::Pcma => PacketLayers::whole(true),
            Codec::Vp8 => Vp8Descriptor::parse(payload).map_or_else(untold, of_vp8),
            Codec::Vp9 => Vp9Descriptor::parse(payload).map_or_else(untold, of_vp9),
            // Any slice of a keyframe looks like its start, and parameter sets before it may be
            // lost or late. They are sure to come first, as does what follows on the packet
            // before the picture.
            Codec::H264(_) => {
                let first = new_picture && adjoins;
                PacketLayers::whole(
                    h264::has_parameter_set(payload) || (first && h264::starts_keyframe(payload)),
                )
            }
            Codec::Av1 => PacketLayers::whole(av1::starts_keyframe(payload)),
        };
        if let Some(descriptor) = dependency_descriptor {
            self.apply(&mut layers, descriptor);
        }
        // The first frame of a picture that has come need not be its first one.
        let first = layers.id.spatial == 0 && new_picture;
        layers.starts_picture = layers.keyframe || (layers.starts_picture && first);
        layers
    }

    /// A dependency descriptor knows better than the payload, which may be encrypted.
    fn apply(&mut self, layers: &mut PacketLayers, bytes: &[u8]) {
        if let Some(mandatory) = Mandatory::parse(bytes) {
            layers.counters.frame_number = mandatory.frame_number;
        }
        let Some(read) = self.descriptors.read(bytes) else {
            return;
        };
        let starts = read.mandatory.starts_frame;
        layers.id = read.layers.id;
        layers.needed_by = read.layers.needed_by;
        layers.switch_from = LayerSet::EMPTY;
        layers.switch_to = LayerSet::EMPTY;
        if starts {
            layers.switch_from = read.layers.needed_by;
            layers.switch_to = read.layers.switch_to;
        }
        layers.starts_picture = starts;
        layers.ends_frame = read.mandatory.ends_frame;
        layers.keyframe = starts && read.has_structure;
        layers.structure = read.spatial_layers;
        if layers.numbering != Numbering::Dense {
            layers.numbering = Numbering::Frame;
        }
    }
}

/// A payload that cannot be read belongs to everybody.
fn untold() -> PacketLayers {
    PacketLayers::whole(false)
}

fn of_vp8(descriptor: Vp8Descriptor) -> PacketLayers {
    let id = LayerId::new(0, descriptor.temporal);
    let mut layers = PacketLayers {
        id,
        needed_by: LayerSet::from(id),
        starts_picture: descriptor.starts_frame,
        keyframe: descriptor.starts_keyframe,
        counters: descriptor.counters(),
        numbering: match descriptor.picture_id {
            Some(_) => Numbering::Dense,
            None => Numbering::None,
        },
        ..untold()
    };
    // The frames of this layer that follow may need each other and the layers below: one can
    // step up to it from the next lower one.
    if descriptor.layer_sync && descriptor.starts_frame && id.temporal > 0 {
        let below = LayerId::new(0, id.temporal - 1);
        layers.switch_from = LayerSet::row(below).without(LayerSet::row(id));
        layers.switch_to = LayerSet::only(id);
        for spatial in 1..super::layers::MAX_SPATIAL {
            let (below, id) = (LayerId { spatial, ..below }, LayerId { spatial, ..id });
            layers.switch_from = layers.switch_from.union(LayerSet::only(below));
            layers.switch_to = layers.switch_to.union(LayerSet::only(id));
        }
    }
    layers
}

fn of_vp9(descriptor: Vp9Descriptor) -> PacketLayers {
    PacketLayers {
        id: descriptor.id,
        needed_by: descriptor.needed_by,
        switch_from: descriptor.switch.0,
        switch_to: descriptor.switch.1,
        starts_picture: descriptor.starts_frame,
        ends_frame: descriptor.ends_frame,
        keyframe: descriptor.starts_keyframe,
        structure: descriptor.structure,
        counters: descriptor.counters(),
        numbering: match descriptor.picture_id {
            Some(_) => Numbering::Picture,
            None => Numbering::None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::H264Format;

    const PARAMETER_SET: &[u8] = &[0x67, 1];
    const KEY_SLICE: &[u8] = &[0x65, 1];

    fn starts(reader: &mut LayerReader, sequence: u64, timestamp: u32, payload: &[u8]) -> bool {
        let layers = reader.read(
            Codec::H264(H264Format::USUAL),
            sequence,
            timestamp,
            payload,
            None,
        );
        layers.keyframe
    }

    #[test]
    fn a_slice_is_no_start_while_parameter_sets_may_be_missing_before_it() {
        let mut reader = LayerReader::default();
        assert!(!starts(&mut reader, 7, 0, &[0x61, 1]));
        assert!(!starts(&mut reader, 9, 3_000, KEY_SLICE));
        assert!(starts(&mut reader, 8, 3_000, PARAMETER_SET), "it was late");
    }

    #[test]
    fn a_slice_that_follows_on_another_picture_is_a_start() {
        let mut reader = LayerReader::default();
        starts(&mut reader, 7, 0, &[0x61, 1]);
        assert!(starts(&mut reader, 8, 3_000, KEY_SLICE));
        assert!(!starts(&mut reader, 9, 3_000, KEY_SLICE), "the second one");
    }
}
