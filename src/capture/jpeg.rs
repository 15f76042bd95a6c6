//! Parses a JPEG as far as needed: whether it is whole, its size in pixels, and where it ends.
//!
//! A JPEG is a chain of segments, `FF` code length payload, and after each `SOS` segment a scan of
//! entropy-coded data, which has no length but in which every `FF` is followed by `00` or a restart
//! marker. [`Walk`] follows that chain instead of searching for bytes: a thumbnail inside an `APPn`
//! segment has its own `FFD9`. Marker codes are those of ITU-T T.81, table B.1.

mod fit;
mod tables;

pub use fit::{Fit, fit};
pub use tables::STANDARD as STANDARD_TABLES;

use std::fmt;

const SOI: u8 = 0xD8;
const EOI: u8 = 0xD9;
const SOS: u8 = 0xDA;
const TEM: u8 = 0x01;
const RST0: u8 = 0xD0;
const RST7: u8 = 0xD7;

/// Size of a picture in pixels; neither is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Pixels in a line.
    pub width: u16,
    /// Lines.
    pub height: u16,
}

/// Why bytes are not a whole JPEG.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// They do not begin with `SOI`.
    NoStart,
    /// They do not end with `EOI`.
    NoEnd,
    /// The chain of segments is broken.
    BadMarker,
    /// They end inside the header.
    Truncated,
    /// No frame header before the first scan.
    NoSize,
    /// The frame header says 0 pixels or 0 lines.
    ZeroSize,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoStart => "no SOI marker at its start",
            Self::NoEnd => "no EOI marker at its end",
            Self::BadMarker => "a broken chain of segments",
            Self::Truncated => "an incomplete header",
            Self::NoSize => "no frame header",
            Self::ZeroSize => "a size of zero",
        })
    }
}

impl std::error::Error for Fault {}

/// The size in a JPEG's frame header. Reads nothing behind that header.
///
/// # Errors
/// Every [`Fault`] but `NoEnd`.
pub fn size(jpeg: &[u8]) -> Result<Size, Fault> {
    let mut walk = Walk::default();
    loop {
        let marker = walk.next_marker(jpeg)?.ok_or(Fault::Truncated)?;
        match marker.code {
            // C4, C8 and CC sit among the frame headers but are DHT, JPG and DAC.
            0xC4 | 0xC8 | 0xCC => {}
            0xC0..=0xCF => return frame_size(jpeg.get(marker.segment..).unwrap_or_default()),
            SOS | EOI => return Err(Fault::NoSize),
            _ => {}
        }
    }
}

/// Reads the size from a frame header that begins with its length.
fn frame_size(header: &[u8]) -> Result<Size, Fault> {
    let &[l1, l0, _precision, h1, h0, w1, w0, ..] = header else {
        return Err(Fault::Truncated);
    };
    if u16::from_be_bytes([l1, l0]) < 8 {
        return Err(Fault::BadMarker);
    }
    let width = u16::from_be_bytes([w1, w0]);
    let height = u16::from_be_bytes([h1, h0]);
    if width == 0 || height == 0 {
        return Err(Fault::ZeroSize);
    }
    Ok(Size { width, height })
}

/// Where a JPEG ends within `bytes`: behind its `EOI`, with any padding left out.
///
/// Cameras pad pictures with zeros and `-c copy` passes the padding on within the part; some HTTP
/// cameras count the line end that follows as part of the picture.
///
/// # Errors
/// `NoEnd` when there is no `EOI` before the padding.
pub fn end(bytes: &[u8]) -> Result<usize, Fault> {
    let last = bytes
        .iter()
        .rposition(|byte| !matches!(byte, 0 | b'\r' | b'\n'));
    let end = last.map_or(0, |last| last + 1);
    match bytes.get(..end) {
        Some([.., 0xFF, EOI]) => Ok(end),
        _ => Err(Fault::NoEnd),
    }
}

/// The result of a step of a [`Walk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// All bytes so far are correct, and the end is not among them.
    NeedMore,
    /// The JPEG is this many bytes long.
    End(usize),
    /// This is not a JPEG, or it is damaged.
    Broken(Fault),
}

/// Finds the end of a JPEG of unknown length, while its bytes come in.
#[derive(Debug, Clone, Copy, Default)]
pub struct Walk {
    /// Everything before this position is checked. Beyond the bytes while a segment is incomplete.
    at: usize,
    in_scan: bool,
}

/// A marker other than the standalone ones inside a scan.
struct Marker {
    code: u8,
    /// Where its segment's length begins.
    segment: usize,
}

impl Walk {
    /// Continues where the last call stopped. `bytes` is the JPEG from its first byte, as much as
    /// has come in: what an earlier call got, and more.
    pub fn advance(&mut self, bytes: &[u8]) -> Progress {
        loop {
            match self.next_marker(bytes) {
                Ok(Some(Marker { code: EOI, .. })) => return Progress::End(self.at),
                Ok(Some(_)) => {}
                Ok(None) => return Progress::NeedMore,
                Err(fault) => return Progress::Broken(fault),
            }
        }
    }

    /// The next marker; the walk then stands behind its segment. `None`: more bytes are needed.
    fn next_marker(&mut self, bytes: &[u8]) -> Result<Option<Marker>, Fault> {
        if self.at == 0 {
            match bytes {
                [0xFF, SOI, ..] => self.at = 2,
                [] | [0xFF] => return Ok(None),
                _ => return Err(Fault::NoStart),
            }
        }
        loop {
            let mut rest = bytes.get(self.at..).unwrap_or_default();
            if self.in_scan {
                let data = rest.iter().take_while(|&&byte| byte != 0xFF).count();
                self.at += data;
                rest = rest.get(data..).unwrap_or_default();
            }
            let segment = self.at + 2;
            match *rest {
                [] | [0xFF] => return Ok(None),
                // Any number of FF bytes may precede a marker.
                [0xFF, 0xFF, ..] => self.at += 1,
                [0xFF, 0x00, ..] if self.in_scan => self.at = segment,
                [0xFF, TEM | RST0..=RST7, ..] => self.at = segment,
                [0xFF, 0x00..=0xBF | SOI, ..] => return Err(Fault::BadMarker),
                [0xFF, code @ EOI, ..] => {
                    self.at = segment;
                    return Ok(Some(Marker { code, segment }));
                }
                [0xFF, code, l1, l0, ..] => {
                    // The length counts its own two bytes.
                    self.at = segment + usize::from(u16::from_be_bytes([l1, l0]));
                    self.in_scan = code == SOS;
                    return Ok(Some(Marker { code, segment }));
                }
                [0xFF, ..] => return Ok(None),
                _ => return Err(Fault::BadMarker),
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A segment with its length.
    pub(crate) fn segment(code: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len() + 2).unwrap().to_be_bytes();
        [&[0xFF, code], &length[..], payload].concat()
    }

    /// A frame header of one component.
    pub(crate) fn frame_header(code: u8, width: u16, height: u16) -> Vec<u8> {
        let [h1, h0] = height.to_be_bytes();
        let [w1, w0] = width.to_be_bytes();
        segment(code, &[8, h1, h0, w1, w0, 1, 1, 0x11, 0])
    }

    /// A scan: its header, then `data` with every FF stuffed.
    pub(crate) fn scan(data: &[u8]) -> Vec<u8> {
        let mut out = segment(SOS, &[1, 1, 0, 0, 63, 0]);
        for &byte in data {
            out.push(byte);
            if byte == 0xFF {
                out.push(0);
            }
        }
        out
    }

    /// A thumbnail, a whole JPEG inside an APP1 segment.
    pub(crate) fn thumbnail() -> Vec<u8> {
        let inner = picture(&[frame_header(0xC0, 16, 12), scan(&[1, 2, 3])]);
        segment(0xE1, &[b"Exif\0\0", &inner[..]].concat())
    }

    /// `SOI`, what is given, `EOI`.
    pub(crate) fn picture(middle: &[Vec<u8>]) -> Vec<u8> {
        [&[0xFF, SOI], &middle.concat()[..], &[0xFF, EOI]].concat()
    }

    fn vga() -> Vec<u8> {
        picture(&[frame_header(0xC0, 640, 480), scan(&[1, 0xFF, 2])])
    }

    const VGA: Size = Size {
        width: 640,
        height: 480,
    };

    #[test]
    fn every_kind_of_frame_header_gives_the_size() {
        for code in 0xC0..=0xCF {
            let jpeg = picture(&[frame_header(code, 640, 480), scan(&[0])]);
            let expected = match code {
                0xC4 | 0xC8 | 0xCC => Err(Fault::NoSize),
                _ => Ok(VGA),
            };
            assert_eq!(size(&jpeg), expected, "{code:X}");
        }
    }

    #[test]
    fn the_size_is_not_the_thumbnails() {
        let jpeg = picture(&[thumbnail(), frame_header(0xC2, 640, 480), scan(&[0])]);
        assert_eq!(size(&jpeg), Ok(VGA));
    }

    #[test]
    fn fill_bytes_and_standalone_markers_are_passed_over() {
        let fill = vec![0xFF; 5];
        let jpeg = picture(&[fill, vec![0xFF, TEM], frame_header(0xC0, 640, 480)]);
        assert_eq!(size(&jpeg), Ok(VGA));
    }

    #[test]
    fn a_picture_without_a_size_is_refused_with_the_reason() {
        assert_eq!(size(b""), Err(Fault::Truncated));
        assert_eq!(size(b"\x89PNG"), Err(Fault::NoStart));
        assert_eq!(
            size(&picture(&[frame_header(0xC0, 0, 9)])),
            Err(Fault::ZeroSize)
        );
        assert_eq!(
            size(&picture(&[frame_header(0xC0, 9, 0)])),
            Err(Fault::ZeroSize)
        );
        assert_eq!(size(&picture(&[])), Err(Fault::NoSize));
        let lying = [0xFF, SOI, 0xFF, 0xE0, 0, 1];
        assert_eq!(size(&lying), Err(Fault::BadMarker));
        let short_frame_header = picture(&[segment(0xC0, &[8, 0, 1, 0]), vec![1; 9]]);
        assert_eq!(size(&short_frame_header), Err(Fault::BadMarker));
    }

    #[test]
    fn padding_behind_the_end_is_left_out() {
        let jpeg = vga();
        assert_eq!(end(&jpeg), Ok(jpeg.len()));
        let padded = [&jpeg[..], &[0, 0, 0, b'\r', b'\n']].concat();
        assert_eq!(end(&padded), Ok(jpeg.len()));
        assert_eq!(end(&[&jpeg[..], b"x"].concat()), Err(Fault::NoEnd));
        assert_eq!(end(&[0; 9]), Err(Fault::NoEnd));
        assert_eq!(end(b""), Err(Fault::NoEnd));
    }

    #[test]
    fn a_walk_ends_at_the_pictures_own_end() {
        let progressive = picture(&[
            thumbnail(),
            frame_header(0xC2, 640, 480),
            scan(&[1, 0xFF, 2]),
            vec![0xFF, RST0, 7, 0xFF, RST7, 8],
            segment(0xC4, &[9; 30]),
            scan(&[3; 300]),
            vec![0xFF, 0xFF],
        ]);
        let stream = [&progressive[..], &vga()].concat();
        assert_eq!(
            Walk::default().advance(&stream),
            Progress::End(progressive.len())
        );
    }

    #[test]
    fn a_walk_says_what_is_broken() {
        let broken = |bytes: &[u8]| Walk::default().advance(bytes);
        assert_eq!(broken(b"GIF89a"), Progress::Broken(Fault::NoStart));
        for inside in [SOI, 0x02, 0xBF] {
            let jpeg = picture(&[scan(&[1]), vec![0xFF, inside]]);
            assert_eq!(broken(&jpeg), Progress::Broken(Fault::BadMarker));
        }
        assert_eq!(
            broken(&picture(&[vec![7]])),
            Progress::Broken(Fault::BadMarker)
        );
    }

    proptest! {
        #[test]
        fn a_walk_in_steps_finds_the_same_end(
            data in prop::collection::vec(any::<u8>(), 0..200),
            behind in prop::collection::vec(any::<u8>(), 0..20),
            steps in prop::collection::vec(1..40usize, 1..20),
        ) {
            let jpeg = picture(&[
                thumbnail(), frame_header(0xC2, 8, 8), scan(&data), scan(&data),
            ]);
            let stream = [&jpeg[..], &behind].concat();
            let mut walk = Walk::default();
            let mut seen = 0;
            for step in steps.into_iter().cycle() {
                match walk.advance(&stream[..seen]) {
                    Progress::NeedMore => prop_assert!(seen < jpeg.len()),
                    progress => {
                        prop_assert_eq!(progress, Progress::End(jpeg.len()));
                        break;
                    }
                }
                seen = (seen + step).min(stream.len());
            }
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(
            prop_oneof![Just(0xFFu8), 0xC0..=0xDFu8, any::<u8>()], 0..200,
        )) {
            let _ = (size(&bytes), end(&bytes), Walk::default().advance(&bytes));
            let _ = fit(&bytes, 1 << 20);
            bytes.splice(0..0, [0xFF, SOI]);
            let _ = (size(&bytes), end(&bytes), Walk::default().advance(&bytes));
            let _ = fit(&bytes, 1 << 20);
        }
    }
}
