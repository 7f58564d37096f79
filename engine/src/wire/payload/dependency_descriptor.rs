//! The dependency descriptor header extension: which layers a frame belongs to, who needs it
//! and where one can switch, without a look into the payload (AV1 RTP specification, appendix
//! A). It is AV1's, and serves any codec, encrypted payloads too.
//!
//! A keyframe brings a structure of templates; the frames after it name one of them. The
//! structure is turned into [`LayerSet`]s once, when it arrives.
//!
//! Descriptors go on as they came, but for the frame's number. The set of active decode targets
//! is therefore the publisher's, also for a subscriber who gets fewer layers (section A.4 wants
//! to have that told). To tell it would lengthen the extension of nearly every packet, and
//! libwebrtc's receivers do not read it: they go by the differences of frame numbers.

use super::bit_reader::BitReader;
use super::layers::{LayerId, LayerSet};

/// Bounds given by the widths of the fields.
const MAX_TEMPLATES: usize = 64;
const MAX_DECODE_TARGETS: usize = 32;

/// What the frame is for a decode target (section A.8.4).
const NOT_PRESENT: u32 = 0;
const SWITCH: u32 = 2;

/// The fields that every packet has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mandatory {
    pub(crate) starts_frame: bool,
    pub(crate) ends_frame: bool,
    template: u8,
    pub(crate) frame_number: u16,
}

impl Mandatory {
    pub(crate) fn parse(descriptor: &[u8]) -> Option<Mandatory> {
        let &[flags, high, low] = descriptor.first_chunk()?;
        Some(Mandatory {
            starts_frame: flags & 0x80 != 0,
            ends_frame: flags & 0x40 != 0,
            template: flags & 0x3f,
            frame_number: u16::from_be_bytes([high, low]),
        })
    }
}

/// The frame number of a descriptor; 0 of one that is too short to have one.
pub(crate) fn frame_number(descriptor: &[u8]) -> u16 {
    Mandatory::parse(descriptor).map_or(0, |mandatory| mandatory.frame_number)
}

/// Sets the frame number in the bytes of a descriptor.
pub(crate) fn patch_frame_number(descriptor: &mut [u8], frame_number: u16) {
    if let Some(place) = descriptor.get_mut(1..3) {
        place.copy_from_slice(&frame_number.to_be_bytes());
    }
}

/// What a frame is to the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct FrameLayers {
    pub(crate) id: LayerId,
    /// Layers that need the frame.
    pub(crate) needed_by: LayerSet,
    /// Layers that can be decoded from this frame on, once it is decoded itself.
    pub(crate) switch_to: LayerSet,
}

/// The structure of templates of a coded video sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Structure {
    template_offset: u8,
    templates: [FrameLayers; MAX_TEMPLATES],
    template_count: usize,
    /// Which layers are served by each decode target.
    served: [LayerSet; MAX_DECODE_TARGETS],
    decode_targets: usize,
    spatial_layers: u8,
}

/// Reads the descriptors of one stream.
#[derive(Debug, Default)]
pub(crate) struct DescriptorReader {
    structure: Option<Box<Structure>>,
    /// The frame that began last. Its own indications stand on its first packet.
    last: Option<(u16, FrameLayers)>,
}

/// A descriptor as its stream's structure explains it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) mandatory: Mandatory,
    pub(crate) layers: FrameLayers,
    /// A structure comes with this packet: it is the first of a keyframe.
    pub(crate) has_structure: bool,
    /// Spatial layers that the stream has from now on, where the packet says so.
    pub(crate) spatial_layers: Option<u8>,
}

impl DescriptorReader {
    /// `None` when the bytes are no descriptor, or when no structure that explains them is
    /// known.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Option<Descriptor> {
        let mandatory = Mandatory::parse(bytes)?;
        let mut bits = BitReader::new(bytes.get(3..)?);
        let mut custom_indications = false;
        let (mut has_structure, mut spatial_layers) = (false, None);
        if bytes.len() > 3 {
            let with_structure = bits.flag()?;
            let with_active_targets = bits.flag()?;
            custom_indications = bits.flag()?;
            let _custom_frame_differences = bits.flag()?;
            let _custom_chains = bits.flag()?;
            has_structure = with_structure;
            if with_structure {
                let structure = Structure::parse(&mut bits)?;
                spatial_layers = Some(structure.spatial_layers);
                match &mut self.structure {
                    Some(known) => **known = structure,
                    None => self.structure = Some(Box::new(structure)),
                }
                self.last = None;
            }
            if with_active_targets {
                let structure = self.structure.as_ref()?;
                let active = bits.bits(structure.decode_targets as u32)?;
                spatial_layers = Some(structure.active_spatial_layers(active));
            }
        }
        let structure = self.structure.as_ref()?;
        let template = (mandatory.template + 64 - structure.template_offset) % 64;
        let mut layers =
            *structure.templates[..structure.template_count].get(usize::from(template))?;
        if custom_indications {
            layers = structure.indications(&mut bits, layers.id)?;
        } else if let Some((frame_number, known)) = self.last
            && frame_number == mandatory.frame_number
            && !mandatory.starts_frame
        {
            layers = known;
        }
        if mandatory.starts_frame {
            self.last = Some((mandatory.frame_number, layers));
        }
        Some(Descriptor {
            mandatory,
            layers,
            has_structure,
            spatial_layers,
        })
    }
}

impl Structure {
    fn parse(bits: &mut BitReader<'_>) -> Option<Structure> {
        let mut structure = Structure {
            template_offset: bits.bits(6)? as u8,
            templates: [FrameLayers::default(); MAX_TEMPLATES],
            template_count: 0,
            served: [LayerSet::EMPTY; MAX_DECODE_TARGETS],
            decode_targets: bits.bits(5)? as usize + 1,
            spatial_layers: 0,
        };
        structure.parse_layers(bits)?;
        let count = structure.template_count;
        let targets = structure.decode_targets;
        // A target's layers are known only when all templates have been read.
        let mut indications = [[0u8; MAX_DECODE_TARGETS]; MAX_TEMPLATES];
        for template in &mut indications[..count] {
            for indication in &mut template[..targets] {
                *indication = bits.bits(2)? as u8;
            }
        }
        structure.serve(&indications);
        for (layers, indications) in structure.templates[..count].iter_mut().zip(&indications) {
            let indications = indications[..targets].iter().map(|&value| u32::from(value));
            *layers = explain(&structure.served, layers.id, indications);
        }
        structure.skip_differences_and_chains(bits)?;
        if bits.flag()? {
            for _ in 0..structure.spatial_layers {
                bits.bits(32)?;
            }
        }
        Some(structure)
    }

    /// The layers of the templates (section A.8.2.3).
    fn parse_layers(&mut self, bits: &mut BitReader<'_>) -> Option<()> {
        let (mut spatial, mut temporal) = (0u8, 0u8);
        loop {
            let template = self.templates.get_mut(self.template_count)?;
            template.id = LayerId::new(spatial, temporal);
            self.template_count += 1;
            match bits.bits(2)? {
                0 => {}
                1 => temporal += 1,
                2 => {
                    temporal = 0;
                    spatial += 1;
                }
                _ => break,
            }
        }
        self.spatial_layers = spatial + 1;
        Some(())
    }

    /// Finds for every layer the decode target that serves it: the highest that is not above it.
    fn serve(&mut self, indications: &[[u8; MAX_DECODE_TARGETS]; MAX_TEMPLATES]) {
        let mut highest = [LayerId::default(); MAX_DECODE_TARGETS];
        for (template, indications) in self.templates[..self.template_count]
            .iter()
            .zip(indications)
        {
            for (target, &indication) in highest.iter_mut().zip(indications) {
                if u32::from(indication) != NOT_PRESENT {
                    target.spatial = target.spatial.max(template.id.spatial);
                    target.temporal = target.temporal.max(template.id.temporal);
                }
            }
        }
        let highest = &highest[..self.decode_targets];
        for id in LayerSet::ALL.iter() {
            let within = (0..highest.len())
                .filter(|&target| {
                    highest[target].spatial <= id.spatial && highest[target].temporal <= id.temporal
                })
                .max_by_key(|&target| highest[target]);
            let lowest = || (0..highest.len()).min_by_key(|&target| highest[target]);
            if let Some(target) = within.or_else(lowest) {
                self.served[target] = self.served[target].union(LayerSet::only(id));
            }
        }
    }

    /// Frame differences and chains, which forwarding does without (sections A.8.2.5 and 6).
    fn skip_differences_and_chains(&self, bits: &mut BitReader<'_>) -> Option<()> {
        for _ in 0..self.template_count {
            while bits.flag()? {
                bits.bits(4)?;
            }
        }
        let chains = bits.non_symmetric(self.decode_targets as u32 + 1)?;
        if chains == 0 {
            return Some(());
        }
        for _ in 0..self.decode_targets {
            bits.non_symmetric(chains)?;
        }
        for _ in 0..self.template_count {
            for _ in 0..chains {
                bits.bits(4)?;
            }
        }
        Some(())
    }

    /// Spatial layers of those decode targets that are active, by a mask with the first target
    /// in the lowest bit.
    fn active_spatial_layers(&self, active: u32) -> u8 {
        let lowest = self.served[..self.decode_targets]
            .iter()
            .enumerate()
            .filter(|(target, _)| active >> target & 1 == 1)
            .filter_map(|(_, served)| served.lowest_spatial());
        lowest.max().map_or(1, |spatial| spatial + 1)
    }

    /// Indications that the frame has instead of its template's.
    fn indications(&self, bits: &mut BitReader<'_>, id: LayerId) -> Option<FrameLayers> {
        let mut read = [0; MAX_DECODE_TARGETS];
        for indication in &mut read[..self.decode_targets] {
            *indication = bits.bits(2)?;
        }
        let read = read[..self.decode_targets].iter().copied();
        Some(explain(&self.served, id, read))
    }
}

/// What a frame with these indications, one a decode target, is to the layers.
fn explain(
    served: &[LayerSet; MAX_DECODE_TARGETS],
    id: LayerId,
    indications: impl Iterator<Item = u32>,
) -> FrameLayers {
    let mut layers = FrameLayers {
        id,
        ..FrameLayers::default()
    };
    for (served, indication) in served.iter().zip(indications) {
        if indication != NOT_PRESENT {
            layers.needed_by = layers.needed_by.union(*served);
        }
        if indication == SWITCH {
            layers.switch_to = layers.switch_to.union(*served);
        }
    }
    layers
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Writes bits, the most significant first.
    #[derive(Default)]
    pub(crate) struct BitWriter(Vec<bool>);

    impl BitWriter {
        pub(crate) fn bits(&mut self, value: u32, count: u32) {
            self.0
                .extend((0..count).rev().map(|bit| value >> bit & 1 == 1));
        }

        pub(crate) fn bytes(&self) -> Vec<u8> {
            let byte = |bits: &[bool]| {
                (0..8).fold(0, |byte, bit| {
                    byte << 1 | u8::from(bits.get(bit) == Some(&true))
                })
            };
            self.0.chunks(8).map(byte).collect()
        }
    }

    /// A template: spatial and temporal layer, indications as the specification prints them,
    /// frame differences.
    pub(crate) type Template = (u8, u8, &'static str, &'static [u32]);

    /// Three temporal layers.
    pub(crate) const L1T3: &[Template] = &[
        (0, 0, "SSS", &[]),
        (0, 0, "SSS", &[4]),
        (0, 1, "-DS", &[2]),
        (0, 2, "--D", &[1]),
    ];

    /// Two spatial layers that depend on each other in keyframes only, two temporal ones each.
    pub(crate) const L2T2_KEY: &[Template] = &[
        (0, 0, "SSSS", &[]),
        (0, 0, "SS--", &[4]),
        (0, 1, "-D--", &[2]),
        (1, 0, "--SS", &[1]),
        (1, 0, "--SS", &[4]),
        (1, 1, "---D", &[2]),
    ];

    /// Two spatial layers of which the upper one needs the lower one, two temporal ones each.
    pub(crate) const L2T2: &[Template] = &[
        (0, 0, "SSSS", &[]),
        (0, 0, "SSRR", &[4]),
        (0, 1, "-D-R", &[2]),
        (1, 0, "--SS", &[1]),
        (1, 0, "--SS", &[4, 1]),
        (1, 1, "---D", &[2, 1]),
    ];

    pub(crate) fn indication(letter: u8) -> u32 {
        match letter {
            b'D' => 1,
            b'S' => 2,
            b'R' => 3,
            _ => 0,
        }
    }

    /// The mandatory fields, and with `structure` the templates.
    pub(crate) fn descriptor(
        starts: bool,
        ends: bool,
        template: usize,
        offset: u8,
        frame_number: u16,
        structure: Option<&[Template]>,
    ) -> Vec<u8> {
        let mut bits = BitWriter::default();
        bits.bits(u32::from(starts), 1);
        bits.bits(u32::from(ends), 1);
        bits.bits((template as u32 + u32::from(offset)) % 64, 6);
        bits.bits(u32::from(frame_number), 16);
        let Some(templates) = structure else {
            return bits.bytes();
        };
        bits.bits(0b10000, 5);
        bits.bits(u32::from(offset), 6);
        let targets = templates[0].2.len() as u32;
        bits.bits(targets - 1, 5);
        for (this, next) in templates.iter().zip(&templates[1..]) {
            let step = match (next.0 != this.0, next.1 != this.1) {
                (true, _) => 2,
                (_, true) => 1,
                _ => 0,
            };
            bits.bits(step, 2);
        }
        bits.bits(3, 2);
        for template in templates {
            for letter in template.2.bytes() {
                bits.bits(indication(letter), 2);
            }
        }
        for template in templates {
            for difference in template.3 {
                bits.bits(1, 1);
                bits.bits(difference - 1, 4);
            }
            bits.bits(0, 1);
        }
        // No chains, no resolutions. ns(n) of 0 is all zeros, one bit shorter than n is wide.
        bits.bits(0, (targets + 1).ilog2());
        bits.bits(0, 1);
        bits.bytes()
    }

    #[test]
    fn a_template_tells_who_needs_the_frame() {
        let mut reader = DescriptorReader::default();
        let key = reader.read(&descriptor(true, true, 0, 7, 100, Some(L2T2_KEY)));
        let key = key.unwrap();
        assert_eq!((key.has_structure, key.spatial_layers), (true, Some(2)));
        assert_eq!(key.layers.needed_by, LayerSet::ALL);
        let mut read = |template| {
            let bytes = descriptor(true, true, template, 7, 101, None);
            reader.read(&bytes).unwrap().layers
        };
        let base = read(1);
        assert_eq!(base.id, LayerId::new(0, 0));
        assert_eq!(base.needed_by, LayerSet::row(LayerId::new(0, 0)));
        let upper = read(5);
        assert_eq!(upper.id, LayerId::new(1, 1));
        assert_eq!(upper.needed_by, LayerSet::from(LayerId::new(1, 1)));
        assert_eq!(upper.switch_to, LayerSet::EMPTY);
    }

    #[test]
    fn a_layer_without_an_active_target_is_not_there() {
        let mut reader = DescriptorReader::default();
        reader.read(&descriptor(true, true, 0, 0, 1, Some(L2T2)));
        let mut bits = BitWriter::default();
        bits.bits(0b11, 2);
        bits.bits(1, 6);
        bits.bits(2, 16);
        bits.bits(0b01000, 5);
        bits.bits(0b0011, 4);
        let read = reader.read(&bits.bytes()).unwrap();
        assert_eq!((read.has_structure, read.spatial_layers), (false, Some(1)));
    }

    #[test]
    fn without_a_structure_nothing_is_known() {
        let mut reader = DescriptorReader::default();
        assert_eq!(reader.read(&descriptor(true, true, 0, 0, 1, None)), None);
        reader.read(&descriptor(true, true, 0, 0, 1, Some(L1T3)));
        assert!(
            reader
                .read(&descriptor(true, true, 3, 0, 2, None))
                .is_some()
        );
        assert_eq!(reader.read(&descriptor(true, true, 4, 0, 3, None)), None);
    }

    #[test]
    fn a_frames_own_indications_hold_for_all_its_packets() {
        let mut reader = DescriptorReader::default();
        reader.read(&descriptor(true, true, 0, 0, 1, Some(L1T3)));
        let mut bits = BitWriter::default();
        bits.bits(0b10, 2);
        bits.bits(2, 6);
        bits.bits(2, 16);
        bits.bits(0b00100, 5);
        for letter in "--S".bytes() {
            bits.bits(indication(letter), 2);
        }
        let own = reader.read(&bits.bytes()).unwrap().layers;
        let top = LayerSet::from(LayerId::new(0, 2));
        assert_eq!((own.needed_by, own.switch_to), (top, top));
        let rest = reader
            .read(&descriptor(false, true, 2, 0, 2, None))
            .unwrap();
        assert_eq!(rest.layers, own);
    }

    #[test]
    fn hostile_descriptors_never_panic() {
        use rand::{RngExt, SeedableRng, rngs::SmallRng};
        let mut rng = SmallRng::seed_from_u64(4);
        let mut reader = DescriptorReader::default();
        for round in 0..200_000 {
            let mut bytes = [0u8; 200];
            rng.fill(&mut bytes[..]);
            // A structure, and often one that reads to its end.
            if round % 2 == 0 {
                bytes[3] |= 0x80;
                bytes = bytes.map(|byte| byte & rng.random::<u8>());
                bytes[3] |= 0x80;
            }
            let len = rng.random_range(0..200);
            reader.read(&bytes[..len]);
        }
        let mut valid = descriptor(true, true, 0, 0, 1, Some(L2T2));
        for len in 0..valid.len() - 1 {
            assert_eq!(DescriptorReader::default().read(&valid[..len]), None);
        }
        for bit in 0..8 * valid.len() {
            valid[bit / 8] ^= 0x80 >> (bit % 8);
            reader.read(&valid);
            valid[bit / 8] ^= 0x80 >> (bit % 8);
        }
    }
}
