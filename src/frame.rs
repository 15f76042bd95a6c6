//! A captured frame, or a unit of encoded video, on its way from FFmpeg to the broker.

use crate::clock::Stamp;
use crate::handoff::pool::Buffer;
use std::sync::Arc;

/// One whole JPEG, with its session, number, capture time and size.
#[derive(Debug)]
pub struct Frame {
    /// Start of the FFmpeg session, Unix time in ms; orders the sessions of a camera.
    pub epoch: i64,
    /// Number of the frame in this epoch, from 1; a gap means dropped frames.
    pub seq: u64,
    /// When its first byte was read from FFmpeg.
    pub captured: Stamp,
    /// Pixels, from the JPEG's own header.
    pub width: u16,
    /// Pixels, from the JPEG's own header.
    pub height: u16,
    /// The JPEG. Its buffer returns to the camera's pool when the frame is dropped.
    pub jpeg: Buffer,
}

/// A copy of a frame, for the HTTP thread.
#[derive(Debug, Clone)]
pub struct Picture {
    /// See [`Frame::epoch`].
    pub epoch: i64,
    /// See [`Frame::seq`].
    pub seq: u64,
    /// See [`Frame::captured`].
    pub captured: Stamp,
    /// The JPEG.
    pub jpeg: Arc<[u8]>,
}

impl From<&Frame> for Picture {
    fn from(frame: &Frame) -> Self {
        Self {
            epoch: frame.epoch,
            seq: frame.seq,
            captured: frame.captured,
            jpeg: frame.jpeg.picture().into(),
        }
    }
}

/// How a camera's own video is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// H.264, also called AVC.
    H264,
    /// H.265, also called HEVC.
    H265,
}

impl Codec {
    /// The name in messages and on pages: `h264` or `h265`.
    pub fn name(self) -> &'static str {
        match self {
            Self::H264 => "h264",
            Self::H265 => "h265",
        }
    }

    /// The content type of a message: `video/h264` or `video/h265`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::H264 => "video/h264",
            Self::H265 => "video/h265",
        }
    }
}

/// One access unit, which is one encoded picture, without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit {
    /// See [`Frame::epoch`].
    pub epoch: i64,
    /// Number of the unit in this epoch, from 1; a gap means dropped units.
    pub seq: u64,
    /// Number of its group of pictures in this epoch, from 1; 0 before the first key unit.
    pub gop: i64,
    /// Number of the unit in its group of pictures; 0 is the key unit.
    pub gop_index: i32,
    /// Whether it can be decoded without earlier units.
    pub key: bool,
    /// The camera's presentation time in µs; only differences have a meaning.
    pub pts_us: i64,
    /// When its first byte was read from FFmpeg.
    pub captured: Stamp,
    /// Pixels.
    pub width: u16,
    /// Pixels.
    pub height: u16,
    /// How it is encoded.
    pub codec: Codec,
}

#[cfg(test)]
mod tests {
    use super::Codec;

    #[test]
    fn a_codec_has_the_names_of_the_interface() {
        let names = |codec: Codec| (codec.name(), codec.content_type());
        assert_eq!(names(Codec::H264), ("h264", "video/h264"));
        assert_eq!(names(Codec::H265), ("h265", "video/h265"));
    }
}
