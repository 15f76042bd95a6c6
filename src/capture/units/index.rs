//! Reads the lines of FFmpeg's index.
//!
//! A few lines are kept unread until the unit before them is complete, so that the memory for them
//! is fixed.

use super::error::UnitError;
use crate::frame::Codec;

/// Bytes of the index that wait here, and the longest line. FFmpeg's own buffer for a line has 256
/// bytes in 5.1 to 7.1; side data could make lines of later versions longer.
pub(super) const CAPACITY: usize = 4 * 1024;

/// The longest name of a codec that is told.
const LONGEST_NAME: usize = 32;

/// The lines of the index that have not been read yet.
#[derive(Debug)]
pub(super) struct Index {
    bytes: Box<[u8]>,
    /// The unread ones in it.
    start: usize,
    end: usize,
    header: Header,
}

/// What is known of the stream.
#[derive(Debug, Default)]
struct Header {
    time_base: Option<TimeBase>,
    codec: Option<Codec>,
    dimensions: Option<(u16, u16)>,
}

/// The unit of the times in the index, as a part of a second; both positive.
#[derive(Debug, Clone, Copy)]
pub(in crate::capture) struct TimeBase {
    numerator: i32,
    denominator: i32,
}

/// What the header says of the units.
#[derive(Debug, Clone, Copy)]
pub(super) struct Format {
    pub(super) codec: Codec,
    pub(super) width: u16,
    pub(super) height: u16,
}

/// A unit as the index announces it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    pub(super) format: Format,
    pub(super) key: bool,
    /// FFmpeg knows that it is damaged.
    pub(super) corrupt: bool,
    pub(super) dts_us: Option<i64>,
    pub(super) pts_us: i64,
    /// In bytes, at least 1.
    pub(super) size: usize,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            bytes: vec![0; CAPACITY].into(),
            start: 0,
            end: 0,
            header: Header::default(),
        }
    }
}

impl Index {
    /// Where the next bytes belong.
    pub(super) fn room(&mut self) -> &mut [u8] {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// `count` bytes of the room have come.
    pub(super) fn filled(&mut self, count: usize) {
        self.end = self.end.saturating_add(count).min(CAPACITY);
    }

    /// Whether a whole line is here.
    pub(super) fn has_line(&self) -> bool {
        let unread = self.bytes.get(self.start..self.end).unwrap_or_default();
        unread.contains(&b'\n')
    }

    /// The next unit, if its line is here. After an error always the same one.
    pub(super) fn next(&mut self) -> Result<Option<Line>, UnitError> {
        loop {
            let unread = self.bytes.get(self.start..self.end).unwrap_or_default();
            let Some(length) = unread.iter().position(|byte| *byte == b'\n') else {
                return match unread.len() < CAPACITY {
                    true => Ok(None),
                    false => Err(UnitError::Torn("a line is longer than 4 KiB")),
                };
            };
            let line = unread.get(..length).unwrap_or_default();
            let line = self.header.read(line)?;
            self.start += length + 1;
            if line.is_some() {
                return Ok(line);
            }
        }
    }
}

impl Header {
    /// Reads a line. `None` for one that is of no unit, or of a unit without bytes.
    fn read(&mut self, line: &[u8]) -> Result<Option<Line>, UnitError> {
        const NEITHER: UnitError = UnitError::Torn("a line is neither a header's nor a unit's");
        let line = std::str::from_utf8(line).map_err(|_| NEITHER)?;
        if let Some(entry) = line.strip_prefix('#') {
            // Of anything else, such as `#software: Lavf59.27.100`, nothing is needed.
            if let Some((name, value)) = entry.split_once(" 0: ") {
                self.entry(name, value)?;
            }
            return Ok(None);
        }
        let announced = Announced::parse(line).ok_or(NEITHER)?;
        let (Some(time_base), Some(codec), Some((width, height))) =
            (self.time_base, self.codec, self.dimensions)
        else {
            return Err(UnitError::Torn(
                "a unit comes before time base, codec and dimensions",
            ));
        };
        let dts_us = announced.dts.map(|time| time_base.micros(time));
        let pts_us = announced.pts.map(|time| time_base.micros(time));
        Ok((announced.size > 0).then(|| Line {
            format: Format {
                codec,
                width,
                height,
            },
            key: announced.key,
            corrupt: announced.corrupt,
            dts_us,
            pts_us: pts_us.or(dts_us).unwrap_or_default(),
            size: announced.size,
        }))
    }

    fn entry(&mut self, name: &str, value: &str) -> Result<(), UnitError> {
        match name {
            "tb" => {
                let time_base = TimeBase::parse(value);
                let wrong = UnitError::Torn("the time base is not a positive fraction");
                self.time_base = Some(time_base.ok_or(wrong)?);
            }
            "codec_id" => {
                self.codec = Some(match value {
                    "h264" => Codec::H264,
                    "hevc" => Codec::H265,
                    other => {
                        let letters = other.chars().filter(char::is_ascii_graphic);
                        let codec = letters.take(LONGEST_NAME).collect();
                        return Err(UnitError::NotVideo { codec });
                    }
                });
            }
            "dimensions" => {
                let sides = value.split_once('x');
                let sides = sides.and_then(|(width, height)| Some((side(width)?, side(height)?)));
                let wrong = UnitError::Torn("the dimensions are not from 1 to 65535 pixels");
                self.dimensions = Some(sides.ok_or(wrong)?);
            }
            _ => {}
        }
        Ok(())
    }
}

fn side(text: &str) -> Option<u16> {
    text.parse().ok().filter(|side| *side > 0)
}

impl TimeBase {
    pub(in crate::capture) fn parse(text: &str) -> Option<Self> {
        let (numerator, denominator) = text.split_once('/')?;
        let positive = |text: &str| text.parse().ok().filter(|number| *number > 0);
        Some(Self {
            numerator: positive(numerator)?,
            denominator: positive(denominator)?,
        })
    }

    /// In µs, rounded down; what does not fit is the largest or smallest that does.
    pub(in crate::capture) fn micros(self, time: i64) -> i64 {
        // At most 63 + 20 + 31 bits.
        let micros = i128::from(time) * 1_000_000 * i128::from(self.numerator);
        let micros = micros.div_euclid(i128::from(self.denominator));
        micros.clamp(i64::MIN.into(), i64::MAX.into()) as i64
    }
}

/// What a unit's line says.
pub(in crate::capture) struct Announced {
    pub(in crate::capture) dts: Option<i64>,
    pub(in crate::capture) pts: Option<i64>,
    /// In bytes.
    pub(in crate::capture) size: usize,
    pub(in crate::capture) key: bool,
    corrupt: bool,
}

impl Announced {
    /// `stream, dts, pts, duration, size, checksum[, F=flags][, S=side data ...]`
    pub(in crate::capture) fn parse(line: &str) -> Option<Self> {
        /// `AV_PKT_FLAG_KEY`
        const KEY: u32 = 1;
        /// `AV_PKT_FLAG_CORRUPT`
        const CORRUPT: u32 = 2;
        let hex = |digits| u32::from_str_radix(digits, 16).ok();
        let mut fields = line.split(',').map(str::trim);
        if fields.next() != Some("0") {
            return None;
        }
        let (dts, pts) = (time(fields.next()?)?, time(fields.next()?)?);
        let _duration: i64 = fields.next()?.parse().ok()?;
        // An `int` in FFmpeg.
        let size: i32 = fields.next()?.parse().ok()?;
        let _checksum = fields.next()?.strip_prefix("0x").and_then(hex)?;
        // FFmpeg leaves the flags out if the unit is key and nothing else.
        let flags = match fields.next() {
            None => KEY,
            Some(field) if field.starts_with("S=") => KEY,
            Some(field) => hex(field.strip_prefix("F=0x")?)?,
        };
        Some(Self {
            dts,
            pts,
            size: usize::try_from(size).ok()?,
            key: flags & KEY != 0,
            corrupt: flags & CORRUPT != 0,
        })
    }
}

/// A time, or that there is none.
fn time(field: &str) -> Option<Option<i64>> {
    /// `AV_NOPTS_VALUE`, as a number or in words.
    const NONE: i64 = i64::MIN;
    match field {
        "NOPTS" => Some(None),
        field => field
            .parse()
            .ok()
            .map(|time| (time != NONE).then_some(time)),
    }
}
