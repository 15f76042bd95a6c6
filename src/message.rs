//! The public form of a message: the properties and headers around the JPEG. The publisher writes
//! it, `edge-video watch` reads it.

use crate::frame::Frame;
use std::borrow::Cow;
use std::fmt::{self, Display};

/// `content_type` of every message.
pub const CONTENT_TYPE: &str = "image/jpeg";
/// `app_id` of every message.
pub const APP_ID: &str = "edge-video";
/// `type` of every message.
pub const TYPE: &str = "frame";

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

/// The six headers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers<'a> {
    /// As configured.
    pub camera_id: Cow<'a, str>,
    /// Counts the frames captured in this epoch from 1; a gap means frames dropped.
    pub seq: i64,
    /// Unix ms at which this FFmpeg session started.
    pub epoch: i64,
    /// Unix µs at which the frame's first byte was read from FFmpeg.
    pub captured_at_us: i64,
    /// Pixels.
    pub width: i32,
    /// Pixels.
    pub height: i32,
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
        }
    }

    /// `{camera_id}/{epoch}/{seq}`
    pub fn message_id(&self) -> impl Display {
        fmt::from_fn(|f| write!(f, "{}/{}/{}", self.camera_id, self.epoch, self.seq))
    }

    /// Unix seconds of the capture, for the `timestamp` property.
    pub fn timestamp(&self) -> u64 {
        u64::try_from(self.captured_at_us / 1_000_000).unwrap_or(0)
    }
}

/// The epoch and the seq in a `message_id`.
pub fn parse_message_id(id: &str) -> Option<(i64, u64)> {
    let mut parts = id.rsplit('/');
    let seq = parts.next()?.parse().ok()?;
    let epoch = parts.next()?.parse().ok()?;
    parts.next().map(|_camera| (epoch, seq))
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
