//! What the splitter returns: a picture, a skipped part, or the reason why no part follows.

use super::super::jpeg;
use super::super::pipe::Arrival;
use std::fmt;
use std::io;

/// What came next in the stream. Each part of it gives exactly one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A whole picture, marked in the buffer.
    Frame {
        /// When the read returned that brought this part's first byte.
        first_byte: Arrival,
        /// From the picture's own header.
        size: jpeg::Size,
    },
    /// A part that is not delivered. The buffer holds no picture.
    Skipped(Skip),
}

/// Why a part was not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// Larger than the largest frame allowed.
    Oversize,
    /// The stream ended inside it: a child that was killed leaves one.
    Truncated,
    /// Its header is damaged.
    BadHeader,
    /// No boundary where its length says it ends.
    BadFraming,
    /// Framed well, but not a whole JPEG.
    BadPicture(jpeg::Fault),
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Oversize => f.write_str("larger than max_frame_bytes"),
            Self::Truncated => f.write_str("the stream ended within the picture"),
            Self::BadHeader => f.write_str("damaged part header"),
            Self::BadFraming => f.write_str("no boundary where its length says it ends"),
            Self::BadPicture(fault) => write!(f, "not a whole JPEG: {fault}"),
        }
    }
}

/// Why there is no next part.
#[derive(Debug)]
pub enum SplitError {
    /// The stream ended, between two parts or after a part that was reported as skipped.
    Eof,
    /// The reader failed. After a time-out (`TimedOut`, `WouldBlock`) reading can go on.
    Io(io::Error),
    /// No boundary within four times the largest frame: this is not mpjpeg.
    Lost,
}

impl fmt::Display for SplitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Eof => f.write_str("end of stream"),
            Self::Io(error) => error.fmt(f),
            Self::Lost => f.write_str("no part boundary found: not an mpjpeg stream"),
        }
    }
}

impl std::error::Error for SplitError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Eof | Self::Lost => None,
        }
    }
}
