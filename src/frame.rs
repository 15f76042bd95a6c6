//! A captured picture on its way from FFmpeg to the broker.

use crate::clock::Stamp;
use crate::handoff::pool::Buffer;

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
