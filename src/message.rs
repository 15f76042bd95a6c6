//! The public form of a message: the properties and headers around the JPEG or the access unit. The
//! publisher writes it, `edge-video watch` reads it.

use crate::frame::{Codec, Frame, Unit};
use std::borrow::Cow;
use std::fmt::{self, Display};

/// `content_type` of a frame; a unit has its codec's.
pub const CONTENT_TYPE: &str = "image/jpeg";
/// `app_id` of every message.
pub const APP_ID: &str = "edge-video";
/// `type` of a frame.
pub const TYPE: &str = "frame";
/// `type` of a unit of video.
pub const UNIT_TYPE: &str = "access_unit";

/// Transient: a picture is not worth a disk write.
pub const DELIVERY_MODE: u8 = 1;

/// `content_type` of every event.
pub const EVENT_CONTENT_TYPE: &str = "application/json";
/// Routing key of the events about a camera's state.
pub const STATUS_KEY: &str = "camera.metadata.event.status";
/// Routing key of the events about all cameras.
pub const SYSTEM_KEY: &str = "camera.metadata.event.system";
/// Routing key of the events about single frames.
pub const FRAME_KEY: &str = "camera.metadata.event";

/// An event about the cameras, as a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventMessage {
    /// `event_type` in the body, `type` of the message.
    pub kind: &'static str,
    /// One of the three keys.
    pub routing_key: &'static str,
    /// Unix seconds, for the `timestamp` property.
    pub timestamp: u64,
    /// The body.
    pub json: Vec<u8>,
}

/// The headers: six of every message, and more of a unit of video.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers<'a> {
    /// As configured.
    pub camera_id: Cow<'a, str>,
    /// Counts the frames, or the units, captured in this epoch from 1; a gap means that some were
    /// dropped.
    pub seq: i64,
    /// Unix ms at which this FFmpeg session started.
    pub epoch: i64,
    /// Unix µs at which the first byte was read from FFmpeg.
    pub captured_at_us: i64,
    /// Pixels.
    pub width: i32,
    /// Pixels.
    pub height: i32,
    /// The further headers of a unit of video; a frame has none.
    pub video: Option<VideoHeaders>,
}

/// The further headers of a unit of video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VideoHeaders {
    /// Whether a decoder can start here.
    pub key: bool,
    /// Number of the group of pictures in this epoch, from 1.
    pub gop: i64,
    /// Number of the unit in its group of pictures; 0 is the key unit.
    pub gop_index: i32,
    /// The camera's presentation time in µs; only differences have a meaning.
    pub pts_us: i64,
    /// How it is encoded.
    pub codec: Codec,
}

impl<'a> Headers<'a> {
    /// The headers of `frame`.
    pub fn of(camera_id: &'a str, frame: &Frame) -> Self {
        Self {
            camera_id: camera_id.into(),
            seq: frame.seq.cast_signed(),
            epoch: frame.epoch,
            captured_at_us: frame.captured.unix_us,
            width: frame.width.into(),
            height: frame.height.into(),
            video: None,
        }
    }

    /// The headers of `unit`.
    pub fn of_unit(camera_id: &'a str, unit: &Unit) -> Self {
        Self {
            camera_id: camera_id.into(),
            seq: unit.seq.cast_signed(),
            epoch: unit.epoch,
            captured_at_us: unit.captured.unix_us,
            width: unit.width.into(),
            height: unit.height.into(),
            video: Some(VideoHeaders {
                key: unit.key,
                gop: unit.gop,
                gop_index: unit.gop_index,
                pts_us: unit.pts_us,
                codec: unit.codec,
            }),
        }
    }

    /// For the `content_type` property.
    pub fn content_type(&self) -> &'static str {
        self.video
            .map_or(CONTENT_TYPE, |video| video.codec.content_type())
    }

    /// For the `type` property.
    pub fn kind(&self) -> &'static str {
        self.video.map_or(TYPE, |_| UNIT_TYPE)
    }

    /// `{camera_id}/{epoch}/{seq}`, of a unit `{camera_id}/{epoch}/v{seq}`.
    pub fn message_id(&self) -> impl Display {
        let v = if self.video.is_some() { "v" } else { "" };
        fmt::from_fn(move |f| write!(f, "{}/{}/{v}{}", self.camera_id, self.epoch, self.seq))
    }

    /// Unix seconds of the capture, for the `timestamp` property.
    pub fn timestamp(&self) -> u64 {
        u64::try_from(self.captured_at_us / 1_000_000).unwrap_or(0)
    }
}

/// The epoch and the seq in a frame's `message_id`.
pub fn parse_message_id(id: &str) -> Option<(i64, u64)> {
    let (epoch, seq) = epoch_and_seq(id)?;
    Some((epoch, seq.parse().ok()?))
}

/// The epoch and the seq in the `message_id` of a unit of video.
pub fn parse_unit_id(id: &str) -> Option<(i64, u64)> {
    let (epoch, seq) = epoch_and_seq(id)?;
    Some((epoch, seq.strip_prefix('v')?.parse().ok()?))
}

/// The last two parts of at least three.
fn epoch_and_seq(id: &str) -> Option<(i64, &str)> {
    let mut parts = id.rsplit('/');
    let seq = parts.next()?;
    let epoch = parts.next()?.parse().ok()?;
    parts.next().map(|_camera| (epoch, seq))
}

/// The codec that the header `codec` names.
pub fn codec_named(name: &[u8]) -> Option<Codec> {
    let mut codecs = [Codec::H264, Codec::H265].into_iter();
    codecs.find(|codec| codec.name().as_bytes() == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Stamp;

    #[test]
    fn a_message_id_names_camera_epoch_and_seq() {
        let headers = Headers {
            camera_id: "door-1".into(),
            seq: 7,
            epoch: 1_795_305_599_000,
            captured_at_us: 1_795_305_599_123_456,
            ..Headers::default()
        };
        assert_eq!(headers.message_id().to_string(), "door-1/1795305599000/7");
        assert_eq!(
            parse_message_id(&headers.message_id().to_string()),
            Some((1_795_305_599_000, 7))
        );
        assert_eq!(headers.timestamp(), 1_795_305_599);
        assert_eq!(parse_message_id("1/2"), None);
        assert_eq!(parse_message_id("x/y/z"), None);
    }

    #[test]
    fn the_message_of_a_unit_says_what_it_is_and_is_not_taken_for_a_frame() {
        let unit = Unit {
            epoch: 1_795_305_599_000,
            seq: 31,
            gop: 2,
            gop_index: 0,
            key: true,
            pts_us: -40_000,
            captured: Stamp {
                unix_us: 1_795_305_599_123_456,
                ..Stamp::now()
            },
            width: 1920,
            height: 1080,
            codec: Codec::H265,
        };
        let headers = Headers::of_unit("door-1", &unit);
        let id = headers.message_id().to_string();
        assert_eq!(id, "door-1/1795305599000/v31");
        assert_eq!(parse_unit_id(&id), Some((1_795_305_599_000, 31)));
        assert_eq!(parse_message_id(&id), None);
        for id in [
            "door-1/1795305599000/31",
            "v31",
            "1/v31",
            "a/b/v31",
            "a/1/v",
        ] {
            assert_eq!(parse_unit_id(id), None, "{id}");
        }
        assert_eq!(
            (headers.content_type(), headers.kind()),
            ("video/h265", "access_unit")
        );
        assert_eq!(headers.timestamp(), 1_795_305_599);
        let expected = Headers {
            camera_id: "door-1".into(),
            seq: 31,
            epoch: 1_795_305_599_000,
            captured_at_us: 1_795_305_599_123_456,
            width: 1920,
            height: 1080,
            video: Some(VideoHeaders {
                key: true,
                gop: 2,
                gop_index: 0,
                pts_us: -40_000,
                codec: Codec::H265,
            }),
        };
        assert_eq!(headers, expected);
    }
}
