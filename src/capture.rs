//! From FFmpeg's output to whole pictures.

pub mod jpeg;
pub mod splitter;
