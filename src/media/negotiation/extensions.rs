//! The RTP header extensions by their names, and which are wanted where.

use moim_engine::codec::MediaKind;
use moim_engine::command::HeaderExtension;
use moim_engine::subscriber_extension_id;

/// Names on the wire.
const NAMES: [(HeaderExtension, &str); 10] = [
    (HeaderExtension::Mid, "urn:ietf:params:rtp-hdrext:sdes:mid"),
    (
        HeaderExtension::Rid,
        "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
    ),
    (
        HeaderExtension::RepairedRid,
        "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
    ),
    (
        HeaderExtension::AudioLevel,
        "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
    ),
    (
        HeaderExtension::TransportCc,
        "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
    ),
    (
        HeaderExtension::DependencyDescriptor,
        "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension",
    ),
    (
        HeaderExtension::AbsCaptureTime,
        "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time",
    ),
    (
        HeaderExtension::AbsSendTime,
        "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
    ),
    (
        HeaderExtension::VideoOrientation,
        "urn:3gpp:video-orientation",
    ),
    (
        HeaderExtension::PlayoutDelay,
        "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
    ),
];

/// The extension that a name stands for.
pub(super) fn by_name(name: &str) -> Option<HeaderExtension> {
    NAMES
        .iter()
        .find(|(_, known)| *known == name)
        .map(|(extension, _)| *extension)
}

/// The name on the wire.
pub(super) fn name(extension: HeaderExtension) -> &'static str {
    NAMES
        .iter()
        .find(|(known, _)| *known == extension)
        .map_or("", |(_, name)| name)
}

/// Whether we want an extension from publishers.
pub(super) fn wanted(extension: HeaderExtension, kind: MediaKind) -> bool {
    match extension {
        HeaderExtension::Mid | HeaderExtension::AbsCaptureTime | HeaderExtension::TransportCc => {
            true
        }
        HeaderExtension::AudioLevel => kind == MediaKind::Audio,
        HeaderExtension::AbsSendTime => false,
        HeaderExtension::Rid
        | HeaderExtension::RepairedRid
        | HeaderExtension::DependencyDescriptor
        | HeaderExtension::VideoOrientation
        | HeaderExtension::PlayoutDelay => kind == MediaKind::Video,
    }
}

/// What subscribers are offered: id and name.
pub(super) fn offered(kind: MediaKind) -> impl Iterator<Item = (u8, &'static str)> {
    let extensions: &[HeaderExtension] = match kind {
        MediaKind::Audio => &[
            HeaderExtension::AbsCaptureTime,
            HeaderExtension::TransportCc,
            HeaderExtension::AudioLevel,
        ],
        MediaKind::Video => &[
            HeaderExtension::DependencyDescriptor,
            HeaderExtension::AbsCaptureTime,
            HeaderExtension::TransportCc,
            HeaderExtension::VideoOrientation,
            HeaderExtension::PlayoutDelay,
        ],
    };
    extensions
        .iter()
        .filter_map(|extension| Some((subscriber_extension_id(*extension)?, name(*extension))))
}
