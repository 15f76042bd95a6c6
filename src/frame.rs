//! A captured frame on its way from FFmpeg to the broker.

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
