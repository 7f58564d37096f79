//! One track that a participant gets: from the offer, over the answer, to what is forwarded.

use moim_engine::codec::{Codec, PayloadTypes};
use moim_engine::command::SubscriptionSettings;
use moim_engine::ids::{SubscriptionId, TrackId};
use moim_signaling::wire::{UpdateTrackSettings, VideoQuality};

use super::publication::Publication;

/// One participant's subscription to one track.
#[derive(Debug, Clone)]
pub(super) struct Subscription {
    pub(super) id: SubscriptionId,
    pub(super) ssrc: u32,
    pub(super) rtx_ssrc: Option<u32>,
    pub(super) progress: Progress,
    /// In which size and how often it is wanted.
    pub(super) settings: SubscriptionSettings,
    /// Its network does not carry it, and whether the client knows; `None`: unknown.
    pub(super) paused: bool,
    pub(super) paused_told: Option<bool>,
}

/// How far a subscription has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Progress {
    /// It is in an offer, or will be in the next one.
    Offered,
    /// An encoding of the track is forwarded.
    Forwarded {
        /// What the answer agreed to.
        agreed: Agreed,
        /// Which encoding.
        encoding: TrackId,
    },
    /// The client decodes only a codec that the publisher announced and does not send yet.
    WaitsForBackup {
        /// What the answer agreed to.
        agreed: Agreed,
    },
    /// The client took none of the track's codecs.
    Refused {
        /// It was told so.
        told: bool,
    },
}

/// What a client's answer says of an m-line that it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Agreed {
    /// Under which payload types it takes each codec, retransmissions and redundant audio.
    pub(super) payload_types: PayloadTypes,
    /// It reports arrivals by transport-wide sequence numbers.
    pub(super) transport_cc: bool,
}

/// What can be forwarded to somebody who agreed to some codecs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// This encoding.
    Encoding(TrackId),
    /// A backup codec that has to be asked for.
    Backup,
    /// Nothing.
    Nothing,
}

impl Agreed {
    /// Whether the client decodes what is encoded with a codec.
    pub(super) fn takes(&self, codec: Codec) -> bool {
        self.payload_types.media(codec).is_some()
    }

    /// The first of the track's encodings that can be decoded.
    pub(super) fn choose(&self, publication: &Publication) -> Choice {
        let decodes = |codec: Codec| self.takes(codec);
        let published = publication
            .encodings
            .iter()
            .find(|encoding| decodes(encoding.codec));
        match published {
            Some(encoding) => Choice::Encoding(encoding.id),
            None if publication.codecs().into_iter().any(decodes) => Choice::Backup,
            None => Choice::Nothing,
        }
    }
}

impl Subscription {
    /// Whether it makes the publisher send this codec, and how many layers of it from the
    /// lowest up.
    pub(super) fn wanted_layers(&self, publication: &Publication, codec: Codec) -> u8 {
        if !self.settings.enabled {
            return 0;
        }
        let first = publication.encodings.first().map(|encoding| encoding.codec);
        let wanted = match &self.progress {
            // Until it is known what the client decodes, the first codec is meant.
            Progress::Offered => first.map(|first| first.mime_type()) == Some(codec.mime_type()),
            Progress::Forwarded { encoding, .. } => publication
                .encoding(*encoding)
                .is_some_and(|sent| sent.codec.mime_type() == codec.mime_type()),
            Progress::WaitsForBackup { agreed } => agreed
                .payload_types
                .codecs()
                .any(|decoded| decoded.mime_type() == codec.mime_type()),
            Progress::Refused { .. } => false,
        };
        if wanted {
            self.settings.max_layer.saturating_add(1)
        } else {
            0
        }
    }
}

/// In which size and how often a track is wanted: as the client said, else by default.
pub(super) fn settings(
    said: Option<&UpdateTrackSettings>,
    publication: &Publication,
    adaptive_stream: bool,
    allow_pause: bool,
) -> SubscriptionSettings {
    let Some(said) = said else {
        return SubscriptionSettings {
            // A client that says what it shows starts small and is shown more as it says so.
            max_layer: if adaptive_stream { 0 } else { 2 },
            allow_pause,
            ..SubscriptionSettings::default()
        };
    };
    let off = said.quality == VideoQuality::Off as i32;
    let max_layer = if said.width > 0 || said.height > 0 {
        publication.layer_of_height(said.height)
    } else {
        publication.layer_of_quality(said.quality)
    };
    SubscriptionSettings {
        enabled: !said.disabled && !off,
        max_layer,
        max_frame_rate: said.fps.min(u32::from(u8::MAX)) as u8,
        priority: said.priority.min(u32::from(u8::MAX)) as u8,
        allow_pause,
    }
}
