//! Cuts the video that FFmpeg copies into access units. Pure.
//!
//! FFmpeg writes two pipes: the index, in its `framecrc` format, and the bytes, without any mark
//! between the units.
//!
//! ```text
//! #tb 0: 1/90000                                  the header: time base, codec and dimensions
//! #codec_id 0: h264
//! #dimensions 0: 640x360
//! 0,          0,          0,     6000,    24811, 0x12a5ba3f             a key unit of 24811 bytes
//! 0,       6000,       6000,     6000,     1530, 0xb9a1ff50, F=0x0      any other unit
//! ```
//!
//! The caller reads a pipe straight into the room that it is given here, and never beyond the end
//! of a unit. Where there is no room it does not read, so that a full pipe holds FFmpeg back.
//! FFmpeg writes all bytes of a line before it waits to write a later line, so this cannot block
//! both.

mod annex_b;
mod error;
mod index;
#[cfg(test)]
mod tests;

pub use error::UnitError;
pub(super) use index::{Announced, TimeBase};

use super::pipe::Arrival;
use crate::frame::Codec;
use annex_b::ParameterSets;
use index::{Index, Line};

/// How much of a unit that is too large is read at once. A pipe holds this much.
const DISCARDED_AT_ONCE: usize = 64 * 1024;

/// The memory for a unit grows by pages, so that slightly larger units do not each need more.
const PAGE: usize = 4 * 1024;

/// The access units of one FFmpeg session.
#[derive(Debug)]
pub struct Units {
    max_unit_bytes: usize,
    index: Index,
    current: Option<Current>,
    /// The bytes of the current unit. As long as the largest unit, and used for all of them.
    staging: Vec<u8>,
    check: Check,
}

/// The unit whose bytes are being read.
#[derive(Debug)]
struct Current {
    line: Line,
    filled: usize,
    first_byte: Option<Arrival>,
}

/// What came next in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// A whole unit.
    Unit(Complete<'a>),
    /// A unit larger than the largest one allowed. Its bytes were discarded, so the rest of its
    /// group of pictures cannot be decoded.
    Oversize {
        /// Whether it was a key unit.
        key: bool,
        /// In bytes.
        size: usize,
    },
}

/// A whole access unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Complete<'a> {
    /// Whether it can be decoded without earlier units.
    pub key: bool,
    /// FFmpeg knows that it is damaged.
    pub corrupt: bool,
    /// The camera's decoding time in µs, if it has one. It may be negative and may jump.
    pub dts_us: Option<i64>,
    /// The camera's presentation time in µs; without one the decoding time, without both 0.
    pub pts_us: i64,
    /// Pixels.
    pub width: u16,
    /// Pixels.
    pub height: u16,
    /// How it is encoded.
    pub codec: Codec,
    /// When the read returned that brought its first byte.
    pub first_byte: Arrival,
    /// In Annex B format: each NAL unit has a start code in front.
    pub bytes: &'a [u8],
}

impl Complete<'_> {
    /// Whether it has a slice. A camera that dies leaves the beginning of its next unit, which
    /// FFmpeg hands on.
    pub fn has_picture(&self) -> bool {
        annex_b::has_picture(self.codec, self.bytes)
    }
}

impl Units {
    /// For units of at most `max_unit_bytes` bytes, which is also the most memory that this holds
    /// (apart from a few KiB).
    pub fn new(max_unit_bytes: usize) -> Self {
        Self {
            max_unit_bytes: max_unit_bytes.max(1),
            index: Index::default(),
            current: None,
            staging: Vec::new(),
            check: Check::default(),
        }
    }

    /// Where to put the next bytes of the index pipe. Empty while enough lines wait for their
    /// bytes: then the pipe is not to be read.
    pub fn index_room(&mut self) -> &mut [u8] {
        self.index.room()
    }

    /// The first `count` bytes of [`Self::index_room`] have come.
    pub fn index_filled(&mut self, count: usize) {
        self.index.filled(count);
    }

    /// Where to put the next bytes of the byte pipe: at most to the end of the current unit. Empty
    /// while no line of the index waits for bytes: then the pipe is not to be read.
    ///
    /// This reads the next line, which makes room for more of the index. So if this is called
    /// before [`Self::index_room`], at least one of them is not empty.
    ///
    /// # Errors
    /// [`UnitError`]: the session is over.
    pub fn room(&mut self) -> Result<&mut [u8], UnitError> {
        let current = match &mut self.current {
            Some(current) => current,
            empty => match self.index.next()? {
                Some(line) => empty.insert(Current {
                    line,
                    filled: 0,
                    first_byte: None,
                }),
                None => return Ok(&mut []),
            },
        };
        let size = current.line.size;
        let place = match size <= self.max_unit_bytes {
            true => current.filled..size,
            false => 0..(size - current.filled).min(self.max_unit_bytes.min(DISCARDED_AT_ONCE)),
        };
        if self.staging.len() < place.end {
            let grown = place.end.next_multiple_of(PAGE).min(self.max_unit_bytes);
            self.staging.reserve_exact(grown - self.staging.len());
            self.staging.resize(grown, 0);
        }
        Ok(self.staging.get_mut(place).unwrap_or_default())
    }

    /// Whether the next line of the index is here, at least.
    pub fn has_line(&self) -> bool {
        self.index.has_line()
    }

    /// The first `count` bytes of [`Self::room`] have come, at `arrival`. Returns what is complete.
    ///
    /// # Errors
    /// [`UnitError`]: the session is over, and the unit is not returned.
    pub fn filled(
        &mut self,
        count: usize,
        arrival: Arrival,
    ) -> Result<Option<Part<'_>>, UnitError> {
        let Some(current) = &mut self.current else {
            return Ok(None);
        };
        let Line {
            format, key, size, ..
        } = current.line;
        if count == 0 {
            return Ok(None);
        }
        let first_byte = *current.first_byte.get_or_insert(arrival);
        current.filled = current.filled.saturating_add(count).min(size);
        if current.filled < size {
            return Ok(None);
        }
        let Line {
            corrupt,
            dts_us,
            pts_us,
            ..
        } = current.line;
        self.current = None;
        if size > self.max_unit_bytes {
            return Ok(Some(Part::Oversize { key, size }));
        }
        let bytes = self.staging.get(..size).unwrap_or_default();
        self.check.unit(format.codec, key, bytes)?;
        Ok(Some(Part::Unit(Complete {
            key,
            corrupt,
            dts_us,
            pts_us,
            width: format.width,
            height: format.height,
            codec: format.codec,
            first_byte,
            bytes,
        })))
    }

    /// Gives back all memory but that of the unit that is being read, when memory is short.
    pub fn release(&mut self) {
        let current = self.current.as_ref().filter(|it| it.filled > 0);
        let used = current.map_or(0, |it| it.line.size);
        if used <= self.max_unit_bytes {
            self.staging.truncate(used);
            self.staging.shrink_to_fit();
        } else {
            self.staging = Vec::new();
        }
    }

    /// How much memory units take here, in bytes.
    pub fn held(&self) -> usize {
        self.staging.capacity()
    }
}

/// What each unit must be. Units before the first key unit are not looked at: they cannot be
/// decoded, and a stream that is joined in mid-unit may begin with the rest of one.
#[derive(Debug, Default)]
struct Check {
    /// Those of the first key unit.
    sets: Option<ParameterSets>,
}

impl Check {
    fn unit(&mut self, codec: Codec, key: bool, bytes: &[u8]) -> Result<(), UnitError> {
        let whole = annex_b::begins_with_start_code(bytes);
        match &self.sets {
            // FFmpeg puts the session's parameter sets in front of each key unit, in the form that
            // the stream has, and in the other form they never begin like a start code.
            None if key && !whole => return Err(UnitError::LengthPrefixed(codec)),
            None if key => self.sets = Some(ParameterSets::of(codec, bytes)),
            None => {}
            // A wrong size in the index shows here, at no cost.
            Some(_) if !whole => {
                return Err(UnitError::Torn("a unit does not begin with a start code"));
            }
            Some(sets) if key && !sets.include_those_of(codec, bytes) => {
                return Err(UnitError::ParametersChanged);
            }
            Some(_) => {}
        }
        Ok(())
    }
}
