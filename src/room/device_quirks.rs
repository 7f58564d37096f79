//! Devices that fail with a codec although they offer it.
//!
//! The table is that of the public protocol's server (`pkg/clientconfiguration/conf.go`), which
//! collects what users have reported. A codec in it is not agreed on when such a client publishes;
//! what it decodes is its own to say.

use moim_engine::codec::Codec;
use moim_signaling::wire::{self, ClientConfiguration, ClientInfo, DisabledCodecs};

/// Clients of one kind, and what they cannot encode.
struct Quirk {
    applies: fn(&ClientInfo) -> bool,
    /// MIME types, as of [`Codec::mime_type`].
    unusable: &'static [&'static str],
}

const AV1: &str = Codec::Av1.mime_type();
const VP9: &str = Codec::Vp9.mime_type();
const H264: &str = "video/H264";

const QUIRKS: [Quirk; 4] = [
    Quirk {
        applies: |client| is(&client.browser, "safari"),
        unusable: &[AV1],
    },
    Quirk {
        applies: |client| {
            is(&client.browser, "safari") && is_later(&client.browser_version, [18, 3])
        },
        unusable: &[VP9],
    },
    Quirk {
        applies: |client| is(&client.os, "android") && is(&client.device_model, "xiaomi 2201117ti"),
        unusable: &[H264],
    },
    Quirk {
        applies: |client| {
            let firefox = is(&client.browser, "firefox") || is(&client.browser, "firefox mobile");
            firefox && (is(&client.os, "linux") || is(&client.os, "android"))
        },
        unusable: &[H264],
    },
];

fn is(said: &str, name: &str) -> bool {
    said.eq_ignore_ascii_case(name)
}

/// Whether a version, numbers between points, comes after another.
fn is_later(version: &str, than: [u32; 2]) -> bool {
    let numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    numbers.take(3).gt(than)
}

/// MIME types of the codecs with which a client is not to publish.
pub(super) fn unusable_codecs(client: &ClientInfo) -> Vec<&'static str> {
    let quirks = QUIRKS.iter().filter(|quirk| (quirk.applies)(client));
    quirks.flat_map(|quirk| quirk.unusable).copied().collect()
}

/// The client configuration that names the codecs it must not publish.
pub(super) fn client_configuration(unusable: &[&'static str]) -> Option<ClientConfiguration> {
    let publish = unusable.iter().map(|mime| wire::Codec {
        mime: (*mime).to_owned(),
        ..Default::default()
    });
    let disabled = DisabledCodecs {
        publish: publish.collect(),
        ..Default::default()
    };
    (!unusable.is_empty()).then(|| ClientConfiguration {
        disabled_codecs: Some(disabled),
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_client_goes_without_what_it_fails_with() {
        let cases: [(&str, &str, &str, &str, &[&str]); 8] = [
            ("android", "Xiaomi 2201117TI", "", "", &[H264]),
            ("android", "Pixel 9", "", "", &[]),
            ("Linux", "", "Firefox", "140.0", &[H264]),
            ("android", "", "firefox mobile", "", &[H264]),
            ("windows", "", "firefox", "140.0", &[]),
            ("macos", "", "Safari", "18.3", &[AV1]),
            ("macos", "", "Safari", "18.3.1", &[AV1, VP9]),
            ("ios", "", "safari", "26.0", &[AV1, VP9]),
        ];
        for (os, model, browser, version, expected) in cases {
            let client = ClientInfo {
                os: os.into(),
                device_model: model.into(),
                browser: browser.into(),
                browser_version: version.into(),
                ..Default::default()
            };
            assert_eq!(unusable_codecs(&client), expected, "{client:?}");
        }
        assert!(unusable_codecs(&ClientInfo::default()).is_empty());
    }

    #[test]
    fn the_names_are_those_of_codecs() {
        for name in QUIRKS.iter().flat_map(|quirk| quirk.unusable) {
            assert!(Codec::ALL.iter().any(|codec| codec.mime_type() == *name));
        }
    }
}
