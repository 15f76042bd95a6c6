//! Parses the lines that FFmpeg writes to stderr. Pure.
//!
//! FFmpeg runs with `-loglevel repeat+level+info`, so that each line names its level and none is
//! left out for being equal to the one before. Four kinds of line steer the session: the line that
//! our filter writes for each decoded picture (see `ffmpeg::filters`), the format of the input,
//! that a picture is damaged, and that pictures do not change.

use super::still::Motion;

/// What a line means.
#[derive(Debug, PartialEq)]
pub enum Remark {
    /// The filter has seen a decoded picture.
    Decoded(Decoded),
    /// The decoder that was chosen, for instance `h264 (native)`.
    Decoder(String),
    /// The filters see pictures of this size for the first time, or were made for it.
    Size(u32, u32),
    /// The filter that compares pictures has seen this.
    Picture(Motion),
    /// The decoder knows that the picture that it decodes is damaged; in its words.
    Damaged(String),
    /// The decoder could make no picture of what came; in its words. Those that build on it are
    /// damaged.
    Lost(String),
    /// The input is open; FFmpeg's name of its format, for instance `rtsp` or `hls,applehttp`.
    Opened(String),
    /// A stream of the input or the output, as FFmpeg lists it, `0: Video: h264 (Main), ...`, or
    /// what it makes of one without decoding it, `0 -> #0:0 (copy)`.
    Stream(String),
    /// An error or a fatal one, without its level.
    Error(String),
    /// A warning, without its level.
    Warning(String),
    /// Something else.
    Other,
}

/// A decoded picture, as the filter saw it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decoded {
    /// Its time in the stream, seconds.
    pub stream: f64,
    /// The filter let it pass: it becomes a picture on stdout.
    pub passed: bool,
    /// A decoder can start here.
    pub key: bool,
}

/// Words of decoders about a picture that they output all the same. Lines that cameras cause
/// without harm (`SEI type 5 truncated`, `mmco: unref short failure`) are not among them.
const DAMAGE: [&str; 11] = [
    "corrupt decoded frame",
    "Could not find ref with POC",
    "error while decoding MB",
    "concealing ",
    "Missing reference picture",
    "reference picture missing during reorder",
    "Error parsing NAL unit",
    "EOI missing, emulating",
    "error count:",
    "error y=",
    "overread ",
];

/// Words of the RTP layer about packets that did not come.
const MISSED: &str = "RTP: missed";

/// Words about what gives no picture: lost on the way, or not to be decoded.
const LOSS: [&str; 7] = [
    MISSED,
    "no frame!",
    "decode_slice_header error",
    "non-existing PPS",
    "PPS id out of range",
    "missing picture in access unit",
    "Error while decoding stream",
];

/// Words about a change of size or format, for each picture. Our filters follow it.
const FOLLOWED: [&str; 2] = [
    "filter context - w: ",
    "Changing video frame properties on the fly",
];

/// FFmpeg's levels.
const LEVELS: [&str; 8] = [
    "[info] ",
    "[warning] ",
    "[error] ",
    "[fatal] ",
    "[panic] ",
    "[verbose] ",
    "[debug] ",
    "[trace] ",
];

impl Remark {
    /// FFmpeg's name of a stream's codec, if it is one of video.
    pub fn video_codec(&self) -> Option<&str> {
        let Self::Stream(stream) = self else {
            return None;
        };
        let (_, video) = stream.split_once(": Video: ")?;
        video.split([' ', ',']).next()
    }

    /// Whether packets of the stream did not come.
    pub fn is_of_missed_packets(&self) -> bool {
        matches!(self, Self::Lost(text) if text.contains(MISSED))
    }

    /// The meaning of a line without its line end. A line without a level is one of an error: what
    /// is not FFmpeg says nothing else.
    pub fn of(line: &str) -> Self {
        let (origin, rest) = origin(line);
        let Some(level) = LEVELS.iter().find(|level| rest.starts_with(**level)) else {
            return Self::Error(line.to_owned());
        };
        let text = rest.get(level.len()..).unwrap_or_default();
        if origin.is_empty()
            && let Some(decoded) = Decoded::parse(text)
        {
            return Self::Decoded(decoded);
        }
        if origin.is_empty()
            && let Some((width, height)) = size(text)
        {
            return Self::Size(width, height);
        }
        if let Some(motion) = motion(text) {
            return Self::Picture(motion);
        }
        if DAMAGE.iter().any(|words| text.contains(words)) {
            return Self::Damaged(format!("{origin}{text}"));
        }
        if LOSS.iter().any(|words| text.contains(words)) {
            return Self::Lost(format!("{origin}{text}"));
        }
        if FOLLOWED.iter().any(|words| text.starts_with(words)) {
            return Self::Other;
        }
        if let Some(input) = text.strip_prefix("Input #0, ")
            && let Some((format, _)) = input.split_once(", from ")
        {
            return Self::Opened(format.to_owned());
        }
        if let Some(stream) = text.strip_prefix("  Stream #0:") {
            if let Some((_, decoder)) = stream.split_once(" -> #0:0 (")
                && let Some((decoder, _)) = decoder.split_once(" -> ")
            {
                return Self::Decoder(decoder.to_owned());
            }
            return Self::Stream(stream.to_owned());
        }
        let text = format!("{origin}{text}");
        match level.trim_end() {
            "[error]" | "[fatal]" | "[panic]" => Self::Error(text),
            "[warning]" => Self::Warning(text),
            _ => Self::Other,
        }
    }
}

impl Decoded {
    /// The number that the filter prints: four times the microseconds of the stream's time, 2 if
    /// the picture passed, 1 if it is a key.
    fn parse(text: &str) -> Option<Self> {
        let number: f64 = text.strip_suffix(".000000")?.parse().ok()?;
        // A larger one has lost its last bits.
        if !number.is_finite() || number.abs() >= 2f64.powi(53) {
            return None;
        }
        let number = number as i64;
        Some(Self {
            stream: number.div_euclid(4) as f64 / 1e6,
            passed: number.rem_euclid(4) & 2 != 0,
            key: number.rem_euclid(4) & 1 != 0,
        })
    }
}

/// The number that the filter prints when it is made: 65536 times the width, the height and a half.
fn size(text: &str) -> Option<(u32, u32)> {
    let number: u32 = text.strip_suffix(".500000")?.parse().ok()?;
    Some((number >> 16, number & 0xffff))
}

/// What `freezedetect` says. The time behind it has lost its last digits before FFmpeg 7.
fn motion(text: &str) -> Option<Motion> {
    let what = text.strip_prefix("lavfi.freezedetect.")?;
    match what.split_once(": ")?.0 {
        "freeze_start" => Some(Motion::Stands),
        "freeze_end" => Some(Motion::Moves),
        _ => None,
    }
}

/// Splits `[h264 @ 0x55d0c1] rest` behind the bracket, and nested ones. Empty without any.
fn origin(line: &str) -> (&str, &str) {
    let mut rest = line;
    while rest.starts_with('[')
        && let Some((name, behind)) = rest.split_once("] ")
        && name.contains(" @ 0x")
    {
        rest = behind;
    }
    line.split_at(line.len() - rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_a_session_are_understood() {
        let decoded = |stream, passed, key| {
            Remark::Decoded(Decoded {
                stream,
                passed,
                key,
            })
        };
        let cases = [
            ("[info] 3.000000", decoded(0.0, true, true)),
            ("[info] 266664.000000", decoded(0.066_666, false, false)),
            ("[info] -4.000000", decoded(-1e-6, false, false)),
            (
                "[info] Input #0, rtsp, from 'rtsp://h/1':",
                Remark::Opened("rtsp".into()),
            ),
            (
                "[info] Input #0, mov,mp4,m4a,3gp,3g2,mj2, from '/x, from y.mp4':",
                Remark::Opened("mov,mp4,m4a,3gp,3g2,mj2".into()),
            ),
            (
                "[hevc @ 0x5611e972a780] [error] Could not find ref with POC 21",
                Remark::Damaged("[hevc @ 0x5611e972a780] Could not find ref with POC 21".into()),
            ),
            (
                "[warning] rtsp://127.0.0.1:1/cam: corrupt decoded frame in stream 0",
                Remark::Damaged("rtsp://127.0.0.1:1/cam: corrupt decoded frame in stream 0".into()),
            ),
            (
                "[vist#0:0/h264 @ 0x55] [dec:h264 @ 0x56] [warning] corrupt decoded frame",
                Remark::Damaged(
                    "[vist#0:0/h264 @ 0x55] [dec:h264 @ 0x56] corrupt decoded frame".into(),
                ),
            ),
            (
                "[rtsp @ 0x55eedf570d40] [error] method DESCRIBE failed: 404 Not Found",
                Remark::Error(
                    "[rtsp @ 0x55eedf570d40] method DESCRIBE failed: 404 Not Found".into(),
                ),
            ),
            ("[fatal] Out", Remark::Error("Out".into())),
            (
                "[swscaler @ 0x1] [warning] deprecated pixel format used",
                Remark::Warning("[swscaler @ 0x1] deprecated pixel format used".into()),
            ),
            (
                "cannot run ffmpeg: No such file",
                Remark::Error("cannot run ffmpeg: No such file".into()),
            ),
            (
                "[info]   Stream #0:1 -> #0:0 (h264 (native) -> mjpeg (native))",
                Remark::Decoder("h264 (native)".into()),
            ),
            (
                "[info]   Stream #0:1 -> #0:0 (copy)",
                Remark::Stream("1 -> #0:0 (copy)".into()),
            ),
            (
                "[info]   Stream #0:1[0x101](und): Audio: aac (LC), 44100 Hz, mono",
                Remark::Stream("1[0x101](und): Audio: aac (LC), 44100 Hz, mono".into()),
            ),
            ("[info] 41943400.500000", Remark::Size(640, 360)),
            (
                "[freezedetect @ 0x564e8c7c1a80] [info] lavfi.freezedetect.freeze_start: 1.7958e+09",
                Remark::Picture(Motion::Stands),
            ),
            (
                "[freezedetect @ 0x7fc1ac0016c0] [info] lavfi.freezedetect.freeze_duration: 1.06667",
                Remark::Other,
            ),
            (
                "[freezedetect @ 0x7fc1ac0016c0] [info] lavfi.freezedetect.freeze_end: 1795795101.677987",
                Remark::Picture(Motion::Moves),
            ),
            ("[info] 12", Remark::Other),
            (
                "[graph 0 input from stream 0:0 @ 0x55] [warning] Changing video frame properties on the fly \
                 is not supported by all filters.",
                Remark::Other,
            ),
            ("", Remark::Error(String::new())),
        ];
        for (line, meaning) in cases {
            assert_eq!(Remark::of(line), meaning, "{line}");
        }
    }

    #[test]
    fn the_codec_of_a_stream_of_video_is_known() {
        let codec = |line| Remark::of(line).video_codec().map(str::to_owned);
        let hevc = "[info]   Stream #0:0[0x1](und): Video: hevc (Main) (hev1 / 0x31766568), \
                    yuv420p(tv), 320x240, 15 fps";
        assert_eq!(codec(hevc).as_deref(), Some("hevc"));
        let h264 = "[info]   Stream #0:1: Video: h264, none, 90k tbr, 90k tbn";
        assert_eq!(codec(h264).as_deref(), Some("h264"));
        assert_eq!(
            codec("[info]   Stream #0:2: Audio: aac (LC), 44100 Hz"),
            None
        );
    }

    #[test]
    fn a_number_that_is_none_is_no_picture() {
        for number in ["nan", "inf", "-inf", "1e300", "99999999999999999999", ""] {
            let line = format!("[info] {number}.000000");
            assert!(!matches!(Remark::of(&line), Remark::Decoded(_)), "{line}");
        }
    }
}
