//! Decodes pictures, and reads which camera they are from.

use super::fake_jpeg::{BLOCK, COMMENT, MARK_BLOCKS, tag_hash};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// A decoded picture.
#[derive(Debug)]
pub struct Picture {
    pub width: usize,
    pub height: usize,
    /// Red, green, blue, row by row.
    pub rgb: Vec<u8>,
}

/// The watermark of a picture of the fake FFmpeg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watermark {
    pub camera: String,
    pub number: u32,
}

/// Decodes a picture; the error says what is wrong with it.
pub fn decode(jpeg: &[u8]) -> Result<Picture, String> {
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(jpeg), options);
    let rgb = decoder.decode().map_err(|error| error.to_string())?;
    let (width, height) = decoder.dimensions().ok_or("no size")?;
    Ok(Picture { width, height, rgb })
}

/// Whether it is a whole picture, from first byte to last.
pub fn decodes(jpeg: &[u8]) -> bool {
    jpeg.ends_with(&[0xff, 0xd9]) && decode(jpeg).is_ok()
}

/// The watermark, from the comment and from the pixels; an error if the picture does not decode, is
/// not from the fake FFmpeg, or is mixed from two pictures, so that the two differ.
pub fn watermark(jpeg: &[u8]) -> Result<Watermark, String> {
    let comment = comment(jpeg)?;
    let in_pixels = watermark_in_pixels(&decode(jpeg)?)?;
    let in_comment = (tag_hash(&comment.camera), comment.number);
    if in_pixels == in_comment {
        Ok(comment)
    } else {
        Err(format!("{comment:?}, but pixels say {in_pixels:?}"))
    }
}

/// The colour of a picture, for sources that show one colour only, as red, green, blue: the mean of
/// the middle half, rounded off by whatever the encoder did.
pub fn dominant_color(jpeg: &[u8]) -> Result<[u8; 3], String> {
    let picture = decode(jpeg)?;
    let mut sums = [0u64; 3];
    let mut count = 0;
    for y in picture.height / 4..picture.height * 3 / 4 {
        for x in picture.width / 4..picture.width * 3 / 4 {
            let at = (y * picture.width + x) * 3;
            for (sum, value) in sums.iter_mut().zip(&picture.rgb[at..at + 3]) {
                *sum += u64::from(*value);
            }
            count += 1;
        }
    }
    if count == 0 {
        return Err("too small".to_owned());
    }
    Ok(sums.map(|sum| u8::try_from(sum / count).unwrap()))
}

/// Whether two colours are the same but for what an encoder does to them.
pub fn same_color(a: [u8; 3], b: [u8; 3]) -> bool {
    a.iter().zip(&b).all(|(a, b)| a.abs_diff(*b) <= 12)
}

/// The comment is the first segment.
fn comment(jpeg: &[u8]) -> Result<Watermark, String> {
    let rest = jpeg
        .strip_prefix(&[0xff, 0xd8, 0xff, 0xfe])
        .ok_or("no comment at the start")?;
    let length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
    let text = rest
        .get(2..length)
        .and_then(|text| std::str::from_utf8(text).ok())
        .ok_or("broken comment")?;
    let (camera, number) = text
        .strip_prefix(COMMENT)
        .and_then(|text| text.split_once(" n="))
        .ok_or_else(|| format!("another comment: {text}"))?;
    Ok(Watermark {
        camera: camera.to_owned(),
        number: number.trim_end().parse().map_err(|_| "no number")?,
    })
}

fn watermark_in_pixels(picture: &Picture) -> Result<(u32, u32), String> {
    let columns = picture.width.div_ceil(BLOCK);
    if columns * picture.height.div_ceil(BLOCK) < MARK_BLOCKS {
        return Err("too small for a watermark".to_owned());
    }
    let mut mark = 0u64;
    for block in 0..MARK_BLOCKS {
        // The middle of the block, or the last pixel there is.
        let x = (block % columns * BLOCK + BLOCK / 2).min(picture.width - 1);
        let y = (block / columns * BLOCK + BLOCK / 2).min(picture.height - 1);
        let green = picture.rgb[(y * picture.width + x) * 3 + 1];
        mark = mark << 1 | u64::from(green > 127);
    }
    Ok(((mark >> 32) as u32, mark as u32))
}
