//! A captured picture on its way from FFmpeg to the broker.

use crate::clock::Stamp;
use crate::handoff::pool::Buffer;
use std::sync::Arc;

/// One whole JPEG with what a consumer needs to place it.
#[derive(Debug)]
pub struct Frame {
    /// Unix milliseconds at which the FFmpeg session started; orders sessions of one camera.
    pub epoch: i64,
    /// Counts the frames captured in this epoch from 1; a gap means frames dropped.
    pub seq: u64,
    /// When its first byte was read from FFmpeg.
    pub captured: Stamp,
    /// Pixels, from the JPEG's own header.
    pub width: u16,
    /// Pixels, from the JPEG's own header.
    pub height: u16,
    /// The JPEG. Goes back to its camera's pool when the frame is dropped.
    pub jpeg: Buffer,
}

/// A copy of a frame, for those who look at it beside its way to the broker.
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
