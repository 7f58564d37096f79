//! Encoded pictures to publish, so that whoever watches a load test sees something: a directory
//! of IVF files with VP8, one a simulcast layer, named by its RID.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::sdp::RIDS;

/// Bytes of an IVF file's header and of the header of each of its frames.
const FILE_HEADER: usize = 32;
const FRAME_HEADER: usize = 12;

/// What cameras show, over and over.
#[derive(Debug)]
pub(crate) struct Clip {
    /// The time from one picture to the next.
    pub(crate) interval: Duration,
    /// The lowest first, one a RID.
    pub(crate) layers: Vec<Encoding>,
}

/// The pictures of one layer. The first one is a keyframe.
#[derive(Debug)]
pub(crate) struct Encoding {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pictures: Vec<Vec<u8>>,
}

impl Clip {
    /// Reads `q.ivf`, `h.ivf` and `f.ivf` of a directory.
    ///
    /// # Errors
    /// When one of them cannot be read, is not what a VP8 decoder can begin with, or has another
    /// frame rate than the others.
    pub(crate) fn open(directory: &Path) -> anyhow::Result<Clip> {
        let mut layers = Vec::new();
        let mut interval = Duration::ZERO;
        for rid in RIDS {
            let path = directory.join(rid).with_extension("ivf");
            let file = std::fs::read(&path)
                .map_err(anyhow::Error::from)
                .and_then(|bytes| Encoding::parse(&bytes));
            let (own, layer) = file.with_context(|| format!("--clip {}", path.display()))?;
            ensure!(
                layers.is_empty() || own == interval,
                "--clip {}: {own:?} a picture, the lower layers have {interval:?}",
                path.display()
            );
            interval = own;
            layers.push(layer);
        }
        Ok(Clip { interval, layers })
    }
}

impl Encoding {
    fn parse(file: &[u8]) -> anyhow::Result<(Duration, Encoding)> {
        ensure!(
            file.len() > FILE_HEADER && file.starts_with(b"DKIF") && &file[8..12] == b"VP80",
            "not an IVF file with VP8"
        );
        let word =
            |at: usize| u32::from_le_bytes([file[at], file[at + 1], file[at + 2], file[at + 3]]);
        let (rate, scale) = (word(16), word(20));
        let (mut pictures, mut times) = (Vec::new(), Vec::new());
        let mut rest = &file[FILE_HEADER..];
        while let Some((header, data)) = rest.split_at_checked(FRAME_HEADER) {
            let (size, time) = header.split_at(4);
            let size = u32::from_le_bytes(size.try_into()?) as usize;
            ensure!(size > 0 && size <= data.len(), "a picture is cut off");
            times.push(u64::from_le_bytes(time.try_into()?));
            let (picture, next) = data.split_at(size);
            pictures.push(picture.to_vec());
            rest = next;
        }
        ensure!(
            times.len() > 1 && times[1] > times[0] && rate > 0 && scale > 0,
            "there is no frame rate"
        );
        ensure!(
            is_keyframe(&pictures[0]),
            "the first picture is no keyframe"
        );
        let ticks = (times[1] - times[0]) as f64 * f64::from(scale);
        let interval = Duration::try_from_secs_f64(ticks / f64::from(rate))?;
        let (width, height) = (word(12) & 0xffff, word(12) >> 16);
        let encoding = Encoding {
            width,
            height,
            pictures,
        };
        Ok((interval, encoding))
    }

    /// A picture; after the last one the first follows.
    pub(crate) fn picture(&self, number: usize) -> &[u8] {
        &self.pictures[number % self.pictures.len()]
    }

    /// The number of the first keyframe from a picture on.
    pub(crate) fn keyframe_from(&self, number: usize) -> usize {
        let mut numbers = number..=number + self.pictures.len();
        let keyframe = numbers.find(|number| is_keyframe(self.picture(*number)));
        keyframe.unwrap_or(0)
    }

    /// How many pictures there are.
    pub(crate) fn len(&self) -> usize {
        self.pictures.len()
    }

    /// Bits a second when each picture takes `interval`.
    pub(crate) fn bitrate(&self, interval: Duration) -> u32 {
        let bytes: usize = self.pictures.iter().map(Vec::len).sum();
        let time = interval.as_secs_f64() * self.pictures.len() as f64;
        (8.0 * bytes as f64 / time) as u32
    }
}

/// By the first byte of a VP8 frame (RFC 6386, section 9.1).
pub(crate) fn is_keyframe(picture: &[u8]) -> bool {
    picture.first().is_some_and(|first| first & 1 == 0)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A file of pictures at 25 a second that consist of these bytes.
    fn file(pictures: &[&[u8]]) -> Vec<u8> {
        let mut file = b"DKIF\0\0\x20\0VP80".to_vec();
        for half in [320u16, 180] {
            file.extend_from_slice(&half.to_le_bytes());
        }
        for word in [50u32, 1, pictures.len() as u32, 0] {
            file.extend_from_slice(&word.to_le_bytes());
        }
        for (number, picture) in (0u64..).zip(pictures) {
            file.extend_from_slice(&(picture.len() as u32).to_le_bytes());
            file.extend_from_slice(&(2 * number).to_le_bytes());
            file.extend_from_slice(picture);
        }
        file
    }

    /// A clip of three layers of these pictures.
    pub(crate) fn clip(pictures: &[&[u8]]) -> Clip {
        let read = || Encoding::parse(&file(pictures)).expect("a file");
        Clip {
            interval: read().0,
            layers: RIDS.iter().map(|_| read().1).collect(),
        }
    }

    #[test]
    fn pictures_repeat_and_keyframes_are_found() {
        let (interval, encoding) = Encoding::parse(&file(&[&[0, 1], &[1], &[2], &[3]])).unwrap();
        assert_eq!(interval, Duration::from_millis(40));
        assert_eq!((encoding.width, encoding.height), (320, 180));
        assert_eq!(encoding.picture(4), [0, 1]);
        let found = [0, 1, 3, 5].map(|number| encoding.keyframe_from(number));
        assert_eq!(found, [0, 2, 4, 6]);
        assert_eq!(encoding.bitrate(interval), 250);
    }

    #[test]
    fn what_no_decoder_could_begin_with_is_refused() {
        let whole = file(&[&[0], &[1]]);
        assert!(Encoding::parse(&whole).is_ok());
        assert!(Encoding::parse(&whole[..whole.len() - 1]).is_err());
        assert!(Encoding::parse(&file(&[&[1], &[0]])).is_err());
        assert!(Encoding::parse(&file(&[&[0]])).is_err());
        assert!(Encoding::parse(b"DKIF").is_err());
    }
}
