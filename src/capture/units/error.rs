//! Why a session can bring no more units.

use crate::frame::Codec;
use std::fmt;

/// Why a session can bring no more units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitError {
    /// What FFmpeg wrote makes no sense.
    Torn(&'static str),
    /// The stream is no H.264 or H.265. A session without a copy of it can still bring pictures.
    NotVideo {
        /// FFmpeg's name of its codec; short, letters and digits.
        codec: String,
    },
    /// The units have lengths where Annex B has start codes. The bit stream filter
    /// `h264_mp4toannexb` or `hevc_mp4toannexb` changes that.
    LengthPrefixed(Codec),
    /// A key unit has parameter sets that the first one did not have: picture size or profile may
    /// have changed. The index tells these once a session.
    ParametersChanged,
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Torn(what) => write!(f, "FFmpeg's index is torn: {what}"),
            Self::NotVideo { codec } => write!(
                f,
                "the stream is {codec}, but only H.264 and H.265 can be passed through"
            ),
            Self::LengthPrefixed(codec) => {
                write!(f, "the stream's {} has no start codes", codec.name())
            }
            Self::ParametersChanged => f.write_str("the stream's parameter sets have changed"),
        }
    }
}

impl std::error::Error for UnitError {}
