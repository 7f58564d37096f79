//! What the fuzz targets of `tests/fuzz` call: each function hands arbitrary bytes to one
//! reader and checks what holds whatever they are.

use axum::extract::ws::Message;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use prost::Message as _;

use crate::encoding::{Incoming, decode};
use crate::token::ApiKeys;
use crate::wire::{DataPacket, SignalRequest};

/// A time that the tokens among the seeds are valid at, in unix seconds.
const NOW: u64 = 1_800_000_000;
/// The secret of the only API key, which is named `devkey`.
const SECRET: &str = "a secret that no input knows";

/// A frame of a client: protobuf, or JSON if the bytes are text. What was read can be
/// written and read again. (Compared by length: a float may be NaN, and a map has no order.)
pub fn signal_message(frame: &[u8]) {
    if let Ok(Incoming::Request(request, _)) = decode(Message::Binary(frame.to_vec().into())) {
        let again = SignalRequest::decode(&request.encode_to_vec()[..]).expect("what was written");
        assert_eq!(again.encoded_len(), request.encoded_len());
    }
    if let Ok(text) = std::str::from_utf8(frame) {
        let _ = decode(Message::Text(text.into()));
    }
}

/// A message on a data channel.
pub fn data_packet(message: &[u8]) {
    if let Ok(packet) = DataPacket::decode(message) {
        let again = DataPacket::decode(&packet.encode_to_vec()[..]).expect("what was written");
        assert_eq!(again.encoded_len(), packet.encoded_len());
    }
}

/// A token: as it is, and as the claims of one that is signed. Nobody without the secret is let in.
pub fn token(input: &[u8]) {
    let keys: ApiKeys = [("devkey".to_owned(), SECRET.to_owned())]
        .into_iter()
        .collect();
    let text = String::from_utf8_lossy(input);
    assert!(keys.verify(&text, NOW).is_err());
    if let Ok((key, claims)) = keys.verify(&signed(input), NOW) {
        assert_eq!(key, "devkey");
        let _ = (claims.identity(), claims.kind(), claims.permissions());
    }
}

fn signed(claims: &[u8]) -> String {
    let mut token = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(claims, &mut token);
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = crypto::sign(token.as_bytes(), &key, Algorithm::HS256).expect("a signature");
    token + "." + &signature
}

/// What a target runs on each input.
pub type Target = fn(&[u8]);

/// The functions by the names of their targets.
pub const TARGETS: [(&str, Target); 3] = [
    ("signal_message", signal_message),
    ("data_packet", data_packet),
    ("token", token),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_passes() {
        for (name, run) in TARGETS {
            let folder = format!("{}/../tests/fuzz/seeds/{name}", env!("CARGO_MANIFEST_DIR"));
            let seeds = std::fs::read_dir(&folder).expect(&folder);
            let mut count = 0;
            for seed in seeds {
                run(&std::fs::read(seed.unwrap().path()).unwrap());
                count += 1;
            }
            assert!(count > 0, "no seed in {folder}");
        }
    }
}
