//! Reads FFmpeg's list of a source's streams. Pure.

/// More streams are not kept: a camera has two or three.
pub(super) const MOST: usize = 32;

/// The longest word of a description that is kept; FFmpeg's own are shorter.
const LONGEST_WORD: usize = 48;

/// One stream of a source.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    /// FFmpeg's number of it.
    pub index: u32,
    /// What it is.
    pub content: Content,
}

/// What a stream is.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Video, in FFmpeg's names.
    Video {
        /// Such as `h264`, `hevc` or `mjpeg`.
        codec: String,
        /// Such as `Main`.
        profile: Option<String>,
        /// Such as `yuv420p`.
        pixel_format: Option<String>,
        /// Width and height in pixels.
        size: Option<(u32, u32)>,
        /// Pictures a second, as the stream itself announces it.
        announced_fps: Option<f64>,
    },
    /// Sound, in FFmpeg's names.
    Audio {
        /// Such as `aac` or `pcm_mulaw`.
        codec: String,
        /// Such as `LC`.
        profile: Option<String>,
        /// In Hz.
        sample_rate: Option<u32>,
        /// Such as `mono` or `stereo`.
        channels: Option<String>,
    },
    /// Anything else, such as `Data` or `Subtitle`, and its codec.
    Other(String, String),
}

impl Stream {
    /// From a line such as `0[0x1](und): Video: h264 (Main), yuv420p, 640x360, 15 fps`.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let digits = line.find(|c: char| !c.is_ascii_digit())?;
        let index = line.get(..digits)?.parse().ok()?;
        let (_, description) = line.split_once(": ")?;
        let (kind, description) = description.split_once(": ")?;
        let mut parts = parts(description).into_iter();
        let (codec, profile) = name_and_profile(parts.next()?);
        let rest: Vec<&str> = parts.collect();
        let content = match kind {
            "Video" => Content::Video {
                codec,
                profile,
                pixel_format: rest.first().copied().and_then(pixel_format),
                size: rest.iter().find_map(|part| size(part)),
                announced_fps: rest
                    .iter()
                    .find_map(|part| number(part, " fps"))
                    .filter(|fps: &f64| fps.is_finite()),
            },
            "Audio" => {
                let rate = rest.iter().position(|part| part.ends_with(" Hz"));
                let channels = rate.and_then(|at| rest.get(at + 1));
                Content::Audio {
                    codec,
                    profile,
                    sample_rate: rest.iter().find_map(|part| number(part, " Hz")),
                    channels: channels.map(|part| word(part)),
                }
            }
            kind => Content::Other(word(kind), codec),
        };
        Some(Self { index, content })
    }
}

/// The parts between commas that are not within brackets.
fn parts(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut from) = (Vec::new(), 0_u32, 0);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                parts.push(text.get(from..at).unwrap_or_default().trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text.get(from..).unwrap_or_default().trim());
    parts
}

/// `h264` and `Main` of `h264 (Main) (avc1 / 0x31637661)`. The tag is no profile.
fn name_and_profile(text: &str) -> (String, Option<String>) {
    let mut pieces = text.split(" (");
    let name = pieces.next().unwrap_or_default();
    let mut pieces = pieces.filter_map(|piece| piece.strip_suffix(')'));
    let profile = pieces.find(|piece| !piece.contains(" / 0x"));
    (word(name), profile.map(word))
}

/// `yuv420p` of `yuv420p(tv, bt709)`. `none` while FFmpeg does not know it.
fn pixel_format(part: &str) -> Option<String> {
    let name = part.split('(').next().unwrap_or_default();
    let fits = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    (fits && !name.is_empty() && name != "none").then(|| word(name))
}

/// 640 and 360 of `640x360 [SAR 1:1 DAR 16:9]`.
fn size(part: &str) -> Option<(u32, u32)> {
    let (width, height) = part.split(' ').next()?.split_once('x')?;
    let side = |text: &str| text.parse().ok().filter(|side| *side > 0);
    Some((side(width)?, side(height)?))
}

fn number<N: std::str::FromStr>(part: &str, unit: &str) -> Option<N> {
    part.strip_suffix(unit)?.parse().ok()
}

/// A word as it may be shown: without control characters, and not too long.
fn word(text: &str) -> String {
    let plain = text.chars().filter(|c| !c.is_control());
    plain.take(LONGEST_WORD).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn video(codec: &str, profile: Option<&str>, pixels: Option<&str>, fps: Option<f64>) -> Stream {
        Stream {
            index: 0,
            content: Content::Video {
                codec: codec.into(),
                profile: profile.map(str::to_owned),
                pixel_format: pixels.map(str::to_owned),
                size: Some((320, 240)),
                announced_fps: fps,
            },
        }
    }

    fn audio(codec: &str, profile: Option<&str>, rate: u32) -> Stream {
        Stream {
            index: 1,
            content: Content::Audio {
                codec: codec.into(),
                profile: profile.map(str::to_owned),
                sample_rate: Some(rate),
                channels: Some("mono".into()),
            },
        }
    }

    #[test]
    fn streams_are_read_as_ffmpeg_5_and_7_list_them() {
        let base = Some("Constrained Baseline");
        for (line, expected) in [
            (
                "0: Video: h264 (Constrained Baseline), yuv420p(tv, smpte170m, progressive), \
                 320x240 [SAR 1:1 DAR 4:3], 15 fps, 15 tbr, 90k tbn",
                video("h264", base, Some("yuv420p"), Some(15.0)),
            ),
            (
                "0[0x1](und): Video: h264 (Constrained Baseline) (avc1 / 0x31637661), \
                 yuv420p(progressive), 320x240 [SAR 1:1 DAR 4:3], 555 kb/s, 14.99 fps, 15 tbr",
                video("h264", base, Some("yuv420p"), Some(14.99)),
            ),
            (
                "0: Video: hevc (Main), yuv420p(tv, smpte170m), 320x240 [SAR 1:1 DAR 4:3], 15 fps",
                video("hevc", Some("Main"), Some("yuv420p"), Some(15.0)),
            ),
            (
                "0: Video: mjpeg (Baseline), yuvj420p(pc, bt470bg/unknown/unknown), 320x240 \
                 [SAR 1:1 DAR 4:3], 25 tbr, 25 tbn",
                video("mjpeg", Some("Baseline"), Some("yuvj420p"), None),
            ),
            (
                "0: Video: h264, none, 320x240, 90k tbr",
                video("h264", None, None, None),
            ),
            (
                "1: Audio: pcm_mulaw, 8000 Hz, mono, s16, 64 kb/s",
                audio("pcm_mulaw", None, 8000),
            ),
            (
                "1[0x2](und): Audio: aac (LC) (mp4a / 0x6134706D), 44100 Hz, mono, fltp",
                audio("aac", Some("LC"), 44100),
            ),
            (
                "2: Data: none",
                Stream {
                    index: 2,
                    content: Content::Other("Data".into(), "none".into()),
                },
            ),
        ] {
            assert_eq!(Stream::parse(line), Some(expected), "{line}");
        }
    }

    #[test]
    fn a_strange_line_is_no_stream_or_a_short_one() {
        for line in [
            "",
            "x: Video: h264",
            "0",
            "0: Video",
            "99999999999: Video: a",
        ] {
            assert_eq!(Stream::parse(line), None, "{line}");
        }
        let long = format!("0: Data: {}\u{7}", "x".repeat(5000));
        let expected = Content::Other("Data".into(), "x".repeat(LONGEST_WORD));
        assert_eq!(Stream::parse(&long).unwrap().content, expected);
        let unsized_ = Stream::parse("0: Video: h264, )))(, 0x0, -x5, nan fps").unwrap();
        let Content::Video {
            size,
            announced_fps,
            ..
        } = unsized_.content
        else {
            panic!("no video");
        };
        assert_eq!((size, announced_fps), (None, None));
    }
}
