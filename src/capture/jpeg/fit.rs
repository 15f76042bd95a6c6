//! Whether a camera's JPEG can be published as it is. Pure.

use super::{EOI, Fault, SOS, Size, Walk, frame_size};

/// `DHT`: Huffman tables.
const DHT: u8 = 0xC4;
/// `JPG`, which is reserved, and `DAC`, which is for arithmetic coding. Their codes are between
/// those of frame headers.
const NO_FRAME: [u8; 2] = [0xC8, 0xCC];
/// Frame headers: baseline and extended, both sequential, and progressive; all with Huffman coding.
const SEQUENTIAL: [u8; 2] = [0xC0, 0xC1];
const PROGRESSIVE: u8 = 0xC2;
const APP0: u8 = 0xE0;

/// What a camera's JPEG needs so that every decoder takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Nothing.
    AsItIs,
    /// The standard Huffman tables, before the byte at this position.
    Tables(usize),
    /// To be decoded and encoded again: few decoders know this kind of JPEG.
    Unusual,
}

/// What `jpeg` needs. Its chain of segments is followed to the end, so that the halves of two
/// pictures are not taken for one. Damage inside a scan shows to a decoder only.
///
/// A picture of more than `max_pixels` is unusual, since decoders may refuse it.
///
/// # Errors
/// Why it is no whole JPEG.
pub fn fit(jpeg: &[u8], max_pixels: u32) -> Result<Fit, Fault> {
    let mut walk = Walk::default();
    let (mut frame, mut scan) = (None, None);
    let (mut has_tables, mut unusual) = (false, false);
    loop {
        let marker = walk.next_marker(jpeg)?.ok_or(Fault::NoEnd)?;
        let segment = jpeg.get(marker.segment..).unwrap_or_default();
        match marker.code {
            DHT => has_tables = true,
            code if NO_FRAME.contains(&code) => unusual = true,
            code @ 0xC0..=0xCF => {
                frame = Some((code, frame_size(segment)?));
                unusual |= !has_usual_components(segment);
            }
            APP0 => unusual |= is_interlaced(segment),
            SOS => scan = scan.or(Some((marker.segment - 2, has_tables))),
            EOI => break,
            _ => {}
        }
    }
    let (code, Size { width, height }) = frame.ok_or(Fault::NoSize)?;
    let (scan, has_tables) = scan.ok_or(Fault::Truncated)?;
    unusual |= u32::from(width) * u32::from(height) > max_pixels;
    // Another picture follows: the second field of an interlaced one, or a preview.
    unusual |= walk.at < jpeg.len();
    Ok(match (code, has_tables) {
        _ if unusual => Fit::Unusual,
        (0xC0..=PROGRESSIVE, true) => Fit::AsItIs,
        (code, false) if SEQUENTIAL.contains(&code) => Fit::Tables(scan),
        _ => Fit::Unusual,
    })
}

/// 8 bits, grey or three colours, and colours as fine as the brightness, or half as fine in one or
/// both directions. `header` begins with its length.
fn has_usual_components(header: &[u8]) -> bool {
    let [_, _, 8, _, _, _, _, count, components @ ..] = header else {
        return false;
    };
    // Of each component: id, sampling factors, number of its quantisation table.
    match (count, components) {
        (1, [_, _, _, ..]) => true,
        (3, [_, luma, _, _, red, _, _, blue, _, ..]) => {
            let small = |it: &u8| matches!(it >> 4, 1 | 2) && matches!(it & 15, 1 | 2);
            let no_finer = |it: &u8| it >> 4 <= luma >> 4 && it & 15 <= luma & 15;
            [luma, red, blue].into_iter().all(small) && no_finer(red) && no_finer(blue)
        }
        _ => false,
    }
}

/// Whether an `APP0` segment is that of AVI1 for a field of a picture: two of them are one picture.
fn is_interlaced(segment: &[u8]) -> bool {
    matches!(segment, [_, _, b'A', b'V', b'I', b'1', field, ..] if *field > 0)
}

#[cfg(test)]
mod tests {
    use super::super::tables::STANDARD;
    use super::super::tests::{frame_header, picture, scan, segment};
    use super::*;

    const MAX: u32 = 1 << 20;

    /// A frame header of three components with these sampling factors.
    fn colours(code: u8, precision: u8, factors: [u8; 3]) -> Vec<u8> {
        let [luma, red, blue] = factors;
        let components = [1, luma, 0, 2, red, 1, 3, blue, 1];
        segment(
            code,
            &[&[precision, 1, 0, 1, 0, 3], &components[..]].concat(),
        )
    }

    fn tables() -> Vec<u8> {
        STANDARD.to_vec()
    }

    #[test]
    fn what_every_decoder_takes_is_published_as_it_is() {
        for code in [0xC0, 0xC1, 0xC2] {
            let grey = picture(&[tables(), frame_header(code, 640, 480), scan(&[1, 0xFF])]);
            assert_eq!(fit(&grey, MAX), Ok(Fit::AsItIs), "{code:x}");
            // 4:2:0, 4:2:2 in two spellings, 4:4:0, 4:4:4.
            for factors in [
                [0x22, 0x11, 0x11],
                [0x21, 0x11, 0x11],
                [0x22, 0x12, 0x12],
                [0x12, 0x11, 0x11],
                [0x11, 0x11, 0x11],
            ] {
                let jpeg = picture(&[colours(code, 8, factors), tables(), scan(&[7; 90])]);
                assert_eq!(fit(&jpeg, MAX), Ok(Fit::AsItIs), "{code:x} {factors:x?}");
            }
        }
    }

    #[test]
    fn tables_that_are_missing_go_before_the_first_scan() {
        let head = [segment(0xE0, b"AVI1\0\0\0\0"), frame_header(0xC0, 64, 64)];
        let jpeg = picture(&[head.concat(), scan(&[1]), scan(&[2])]);
        let at = 2 + head.concat().len();
        assert_eq!(fit(&jpeg, MAX), Ok(Fit::Tables(at)));
        let whole = [&jpeg[..at], &STANDARD[..], &jpeg[at..]].concat();
        assert_eq!(fit(&whole, MAX), Ok(Fit::AsItIs));
    }

    #[test]
    fn what_few_decoders_know_is_encoded_again() {
        let usual = || frame_header(0xC0, 64, 64);
        let of = |middle: &[Vec<u8>]| picture(&[tables(), middle.concat(), scan(&[1])]);
        let unusual = [
            ("12 bits", of(&[colours(0xC1, 12, [0x22, 0x11, 0x11])])),
            ("4:1:1", of(&[colours(0xC0, 8, [0x41, 0x11, 0x11])])),
            ("fine colours", of(&[colours(0xC0, 8, [0x11, 0x22, 0x11])])),
            ("arithmetic", of(&[frame_header(0xC9, 64, 64)])),
            ("lossless", of(&[frame_header(0xC3, 64, 64)])),
            ("DAC", of(&[usual(), segment(0xCC, &[0, 1])])),
            ("a field", of(&[segment(0xE0, b"AVI1\x01\0"), usual()])),
            ("large", of(&[frame_header(0xC0, 65535, 65535)])),
            ("two", [of(&[usual()]), of(&[usual()])].concat()),
            (
                "progressive without tables",
                picture(&[frame_header(0xC2, 64, 64), scan(&[1])]),
            ),
            (
                "CMYK",
                of(&[segment(
                    0xC0,
                    &[&[8, 0, 64, 0, 64, 4], &[1, 0x11, 0].repeat(4)[..]].concat(),
                )]),
            ),
        ];
        for (what, jpeg) in unusual {
            assert_eq!(fit(&jpeg, MAX), Ok(Fit::Unusual), "{what}");
        }
    }

    #[test]
    fn a_picture_that_is_not_whole_is_refused() {
        let usual = frame_header(0xC0, 64, 64);
        let jpeg = picture(&[tables(), usual.clone(), scan(&[9; 99])]);
        let half = &jpeg[..jpeg.len() - 50];
        assert_eq!(fit(half, MAX), Err(Fault::NoEnd));
        // Half of one, and the next: it ends well.
        let spliced = [half, &jpeg].concat();
        assert_eq!(fit(&spliced, MAX), Err(Fault::BadMarker));
        assert_eq!(fit(&picture(&[usual]), MAX), Err(Fault::Truncated));
        assert_eq!(fit(&picture(&[scan(&[1])]), MAX), Err(Fault::NoSize));
    }
}
