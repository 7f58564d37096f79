//! Header extensions: what publishers' ids mean, and the one form in which subscribers get
//! them.

use std::ops::Range;

use super::header::RtpHeader;
use crate::api::command::HeaderExtension;

/// The ids offered to every subscriber.
pub(crate) mod ids {
    pub(crate) const DEPENDENCY_DESCRIPTOR: u8 = 1;
    pub(crate) const ABS_CAPTURE_TIME: u8 = 2;
    pub(crate) const TRANSPORT_CC: u8 = 3;
    pub(crate) const AUDIO_LEVEL: u8 = 5;
    pub(crate) const VIDEO_ORIENTATION: u8 = 6;
    pub(crate) const PLAYOUT_DELAY: u8 = 7;
}

/// The id of an extension towards subscribers.
pub(crate) fn subscriber_id(extension: HeaderExtension) -> Option<u8> {
    match extension {
        HeaderExtension::DependencyDescriptor => Some(ids::DEPENDENCY_DESCRIPTOR),
        HeaderExtension::AbsCaptureTime => Some(ids::ABS_CAPTURE_TIME),
        HeaderExtension::TransportCc => Some(ids::TRANSPORT_CC),
        HeaderExtension::AudioLevel => Some(ids::AUDIO_LEVEL),
        HeaderExtension::VideoOrientation => Some(ids::VIDEO_ORIENTATION),
        HeaderExtension::PlayoutDelay => Some(ids::PLAYOUT_DELAY),
        _ => None,
    }
}

/// Largest extension data that the one-byte form can carry.
const ONE_BYTE_MAX: usize = 16;
/// Profiles of the two forms (RFC 8285, sections 4.2 and 4.3).
const ONE_BYTE_PROFILE: u16 = 0xbede;
const TWO_BYTE_PROFILE: u16 = 0x1000;

/// Meaning of each extension id on one connection.
#[derive(Debug)]
pub(crate) struct ExtensionMap([Option<HeaderExtension>; 256]);

impl Default for ExtensionMap {
    fn default() -> Self {
        ExtensionMap([None; 256])
    }
}

impl ExtensionMap {
    pub(crate) fn new(pairs: &[(u8, HeaderExtension)]) -> ExtensionMap {
        let mut map = ExtensionMap::default();
        for &(id, extension) in pairs {
            map.0[usize::from(id)] = Some(extension);
        }
        map
    }
}

/// Loudness of an audio packet (RFC 6464).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AudioLevel {
    /// Level in -dBov: 0 loudest, 127 silence.
    pub(crate) dbov: u8,
}

/// The extensions of one packet that mean something to us.
#[derive(Debug, Default)]
pub(crate) struct ReceivedExtensions<'a> {
    pub(crate) mid: Option<&'a [u8]>,
    pub(crate) rid: Option<&'a [u8]>,
    pub(crate) repaired_rid: Option<&'a [u8]>,
    pub(crate) audio_level: Option<AudioLevel>,
    audio_level_data: Option<&'a [u8]>,
    pub(crate) transport_cc: Option<u16>,
    pub(crate) dependency_descriptor: Option<&'a [u8]>,
    abs_capture_time: Option<&'a [u8]>,
    video_orientation: Option<&'a [u8]>,
    playout_delay: Option<&'a [u8]>,
}

impl<'a> ReceivedExtensions<'a> {
    pub(crate) fn read(header: &RtpHeader, packet: &'a [u8], map: &ExtensionMap) -> Self {
        let mut read = ReceivedExtensions::default();
        for (id, data) in header.extensions(packet) {
            let Some(extension) = map.0[usize::from(id)] else {
                continue;
            };
            match extension {
                HeaderExtension::Mid => read.mid = Some(data),
                HeaderExtension::Rid => read.rid = Some(data),
                HeaderExtension::RepairedRid => read.repaired_rid = Some(data),
                HeaderExtension::AudioLevel => {
                    read.audio_level = data.first().map(|byte| AudioLevel { dbov: byte & 0x7f });
                    read.audio_level_data = Some(data);
                }
                HeaderExtension::TransportCc => {
                    read.transport_cc = data.first_chunk().copied().map(u16::from_be_bytes);
                }
                HeaderExtension::DependencyDescriptor => read.dependency_descriptor = Some(data),
                HeaderExtension::AbsCaptureTime => read.abs_capture_time = Some(data),
                HeaderExtension::VideoOrientation => read.video_orientation = Some(data),
                HeaderExtension::PlayoutDelay => read.playout_delay = Some(data),
                HeaderExtension::AbsSendTime => {}
            }
        }
        read
    }

    /// What goes on to subscribers, with the ids offered to them.
    fn forwarded(&self) -> impl Iterator<Item = (u8, &'a [u8])> {
        [
            (ids::DEPENDENCY_DESCRIPTOR, self.dependency_descriptor),
            (ids::ABS_CAPTURE_TIME, self.abs_capture_time),
            (ids::AUDIO_LEVEL, self.audio_level_data),
            (ids::VIDEO_ORIENTATION, self.video_orientation),
            (ids::PLAYOUT_DELAY, self.playout_delay),
        ]
        .into_iter()
        .filter_map(|(id, data)| Some((id, data?)))
        .filter(|(_, data)| !data.is_empty() && data.len() <= 255)
    }
}

/// The fields of a header that are the same for all subscribers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeaderTemplate {
    pub(crate) payload_type: u8,
    pub(crate) marker: bool,
}

/// Writes the header that subscribers get, sequence number, timestamp, SSRC and transport-wide
/// sequence number left zero; the last stands first among the elements, where
/// [`patch_transport_sequence`] finds it. The two-byte form is taken when an element is too long
/// for the one-byte form (allowed by a=extmap-allow-mixed). Elements that do not fit into `out`
/// are left out.
pub(crate) fn write_header(
    out: &mut [u8],
    template: &HeaderTemplate,
    extensions: &ReceivedExtensions<'_>,
) -> usize {
    out[..12].fill(0);
    out[0] = 0x80;
    out[1] = template.payload_type | (u8::from(template.marker) << 7);
    let two_byte = extensions
        .forwarded()
        .any(|(_, data)| data.len() > ONE_BYTE_MAX);
    let sequence = Some((ids::TRANSPORT_CC, &[0; 2][..]));
    let mut end = 16;
    for (id, data) in sequence.into_iter().chain(extensions.forwarded()) {
        let head = if two_byte { 2 } else { 1 };
        if end + head + data.len() + 3 > out.len() {
            continue;
        }
        if two_byte {
            out[end] = id;
            out[end + 1] = data.len() as u8;
        } else {
            out[end] = (id << 4) | (data.len() as u8 - 1);
        }
        end += head;
        out[end..end + data.len()].copy_from_slice(data);
        end += data.len();
    }
    while end % 4 != 0 {
        out[end] = 0;
        end += 1;
    }
    out[0] |= 0x10;
    let profile = if two_byte {
        TWO_BYTE_PROFILE
    } else {
        ONE_BYTE_PROFILE
    };
    out[12..14].copy_from_slice(&profile.to_be_bytes());
    out[14..16].copy_from_slice(&(((end - 16) / 4) as u16).to_be_bytes());
    end
}

/// Length of what [`write_bare_header`] writes.
pub(crate) const BARE_HEADER: usize = 20;

/// Writes the header of a packet that comes from no publisher. Returns its length.
pub(crate) fn write_bare_header(out: &mut [u8], payload_type: u8) -> usize {
    let template = HeaderTemplate {
        payload_type,
        marker: false,
    };
    let len = write_header(out, &template, &ReceivedExtensions::default());
    debug_assert_eq!(len, BARE_HEADER);
    len
}

/// Sets what differs between subscribers. `packet` has a whole header.
pub fn patch_header(packet: &mut [u8], sequence: u16, timestamp: u32, ssrc: u32) {
    packet[2..4].copy_from_slice(&sequence.to_be_bytes());
    packet[4..8].copy_from_slice(&timestamp.to_be_bytes());
    packet[8..12].copy_from_slice(&ssrc.to_be_bytes());
}

/// Sets the transport-wide sequence number in a header made by [`write_header`].
pub(crate) fn patch_transport_sequence(packet: &mut [u8], sequence: u16) {
    let one_byte = packet[12..14] == ONE_BYTE_PROFILE.to_be_bytes();
    let at = if one_byte { 17 } else { 18 };
    packet[at..at + 2].copy_from_slice(&sequence.to_be_bytes());
}

/// The dependency descriptor in a header that [`write_header`] has written.
pub(crate) fn dependency_descriptor(packet: &[u8]) -> Option<&[u8]> {
    packet.get(dependency_descriptor_place(packet)?)
}

/// As [`dependency_descriptor`], to be patched.
pub(crate) fn dependency_descriptor_mut(packet: &mut [u8]) -> Option<&mut [u8]> {
    packet.get_mut(dependency_descriptor_place(packet)?)
}

/// Where it is: behind the transport-wide sequence number.
fn dependency_descriptor_place(packet: &[u8]) -> Option<Range<usize>> {
    let block: &[u8; 10] = packet.get(12..)?.first_chunk()?;
    let (id, start, len) = match u16::from_be_bytes([block[0], block[1]]) {
        ONE_BYTE_PROFILE => (block[7] >> 4, 20, usize::from(block[7] & 0x0f) + 1),
        _ => (block[8], 22, usize::from(block[9])),
    };
    (id == ids::DEPENDENCY_DESCRIPTOR).then_some(start..start + len)
}

/// Sets the marker.
pub(crate) fn set_marker(packet: &mut [u8]) {
    packet[1] |= 0x80;
}

/// Sets the payload type and leaves the marker.
pub(crate) fn patch_payload_type(packet: &mut [u8], payload_type: u8) {
    packet[1] = (packet[1] & 0x80) | (payload_type & 0x7f);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(extensions: &ReceivedExtensions<'_>) -> Vec<u8> {
        let mut out = [0xffu8; 512];
        let template = HeaderTemplate {
            payload_type: 96,
            marker: true,
        };
        let len = write_header(&mut out, &template, extensions);
        patch_header(&mut out, 1, 2, 3);
        out[..len].to_vec()
    }

    #[test]
    fn publishers_ids_become_ours() {
        let map = ExtensionMap::new(&[
            (4, HeaderExtension::Mid),
            (1, HeaderExtension::AudioLevel),
            (3, HeaderExtension::TransportCc),
        ]);
        let packet = [
            0x90, 111, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0xbe, 0xde, 0, 2, 0x40, b'7', 0x10, 0x8a,
            0x31, 1, 2, 0,
        ];
        let header = RtpHeader::parse(&packet).unwrap();
        let read = ReceivedExtensions::read(&header, &packet, &map);
        assert_eq!(read.mid, Some(&b"7"[..]));
        assert_eq!(read.transport_cc, Some(0x0102));
        assert_eq!(read.audio_level, Some(AudioLevel { dbov: 10 }));
        let out = written(&read);
        let header = RtpHeader::parse(&out).unwrap();
        let extensions: Vec<_> = header.extensions(&out).collect();
        assert_eq!(
            extensions,
            [
                (ids::TRANSPORT_CC, &[0, 0][..]),
                (ids::AUDIO_LEVEL, &[0x8a][..])
            ]
        );
        assert_eq!((header.sequence, header.timestamp, header.ssrc), (1, 2, 3));
    }

    #[test]
    fn a_long_descriptor_takes_the_two_byte_form() {
        let long = [9u8; 40];
        let read = ReceivedExtensions {
            dependency_descriptor: Some(&long),
            playout_delay: Some(&[1, 2, 3]),
            ..Default::default()
        };
        let out = written(&read);
        let header = RtpHeader::parse(&out).unwrap();
        assert_eq!(header.header_len, out.len());
        assert_eq!(dependency_descriptor(&out), Some(&[9; 40][..]));
        let extensions: Vec<_> = header.extensions(&out).collect();
        assert_eq!(
            extensions,
            [
                (ids::TRANSPORT_CC, &[0, 0][..]),
                (ids::DEPENDENCY_DESCRIPTOR, &long[..]),
                (ids::PLAYOUT_DELAY, &[1, 2, 3][..])
            ]
        );
    }

    #[test]
    fn the_transport_wide_sequence_number_is_set_in_both_forms() {
        let long = [9u8; 40];
        for descriptor in [None, Some(&long[..])] {
            let mut out = written(&ReceivedExtensions {
                dependency_descriptor: descriptor,
                audio_level_data: Some(&[7]),
                ..Default::default()
            });
            patch_transport_sequence(&mut out, 0xabcd);
            let header = RtpHeader::parse(&out).unwrap();
            let found = header.extensions(&out).next();
            assert_eq!(found, Some((ids::TRANSPORT_CC, &[0xab, 0xcd][..])));
        }
    }

    #[test]
    fn the_descriptor_is_found_again_where_it_is() {
        let mut read = ReceivedExtensions {
            dependency_descriptor: Some(&[0x80, 1, 2]),
            video_orientation: Some(&[1]),
            ..Default::default()
        };
        let found = |read: &ReceivedExtensions<'_>| {
            let out = written(read);
            dependency_descriptor(&out).map(|descriptor| descriptor.to_vec())
        };
        assert_eq!(found(&read), Some(vec![0x80, 1, 2]));
        read.dependency_descriptor = None;
        assert_eq!(found(&read), None);
        read.video_orientation = None;
        assert_eq!(found(&read), None);
    }
}
