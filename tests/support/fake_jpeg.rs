//! Writes small baseline JPEGs. Their pixels and a comment contain the camera's name and the
//! picture's number.
//!
//! Every 8x8 block is of one colour, so that an encoder needs no transform: a block is its DC
//! coefficient and "end of block". The first 64 blocks are black or white and are the watermark's
//! bits; the rest has the camera's colour. [`super::jpeg`] reads them.

/// Blocks that carry the watermark: 32 bits of the tag's hash, then 32 of the number.
pub const MARK_BLOCKS: usize = 64;
/// Pixels of a block's side.
pub const BLOCK: usize = 8;
/// The comment starts with this.
pub const COMMENT: &str = "edge-video-fake camera=";

/// Longest content of a segment.
const SEGMENT_MAX: usize = 65_533;
/// Marker and length.
const SEGMENT_HEAD: usize = 4;
/// Missing bytes up to here lengthen the comment: no segment is as short.
const COMMENT_PADDING_MAX: usize = 1000;

/// Bytes that look like the end of a picture and of a part. A reader that searches for them instead
/// of counting bytes fails on every padded picture. Thumbnails in real pictures contain such bytes
/// too.
const TRAP: &[u8] = b"\xff\xd8\xff\xd9\r\n--ffmpeg\r\nContent-type: image/jpeg\r\n\r\n\xff\xd8";

/// A 32-bit FNV-1a hash: what stands for the tag in the pixels.
pub fn tag_hash(tag: &str) -> u32 {
    tag.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// The colour of a camera's pictures as Y, Cb, Cr, never black or white.
pub fn tag_color(tag: &str) -> [u8; 3] {
    let [a, b, c, _] = tag_hash(tag).to_be_bytes();
    [80 + a % 96, 64 + b % 128, 64 + c % 128]
}

/// The padding without traps: for parts that are damaged on purpose, where a reader must search and
/// would find the traps.
const HARMLESS: &[u8] = b" ";

/// Picture `number` of camera `tag`, exactly `size` bytes long if it can be as short; with or
/// without traps in its padding.
pub fn encode(
    tag: &str,
    number: u32,
    (width, height): (u16, u16),
    size: usize,
    traps: bool,
) -> Vec<u8> {
    let padding = if traps { TRAP } else { HARMLESS };
    let comment = format!("{COMMENT}{tag} n={number}");
    let pixels = scan(tag, number, width, height);
    let headers = tables_and_frame(width, height);
    let least = 2 + SEGMENT_HEAD + comment.len() + headers.len() + pixels.len() + 2;

    let mut out = Vec::with_capacity(size.max(least));
    out.extend([0xff, 0xd8]);
    let mut missing = size.saturating_sub(least);
    let spaces = if missing <= COMMENT_PADDING_MAX {
        missing
    } else {
        0
    };
    missing -= spaces;
    segment(&mut out, 0xfe, comment.as_bytes(), spaces, b" ");
    while missing > 0 {
        // The rest must be long enough for a segment.
        let length = if missing <= SEGMENT_MAX {
            missing
        } else {
            (missing - COMMENT_PADDING_MAX / 2).min(SEGMENT_MAX)
        };
        segment(&mut out, 0xef, b"", length - SEGMENT_HEAD, padding);
        missing -= length;
    }
    out.extend(headers);
    out.extend(pixels);
    out.extend([0xff, 0xd9]);
    out
}

/// Appends a marker segment: `content`, then `padding` bytes of the repeated `pattern`.
fn segment(out: &mut Vec<u8>, marker: u8, content: &[u8], padding: usize, pattern: &[u8]) {
    out.extend([0xff, marker]);
    // The length counts itself. It fits: no caller goes beyond SEGMENT_MAX.
    let length = (2 + content.len() + padding) as u16;
    out.extend(length.to_be_bytes());
    out.extend(content);
    out.extend(pattern.iter().cycle().take(padding));
}

fn tables_and_frame(width: u16, height: u16) -> Vec<u8> {
    let mut out = Vec::new();
    // Quantiser: 8 for the DC coefficient, which is 8 times the mean: so it is written as it is.
    segment(&mut out, 0xdb, &[0], 64, &[8]);
    let [h1, h0] = height.to_be_bytes();
    let [w1, w0] = width.to_be_bytes();
    // Baseline, 8 bits, three components with one block each.
    let frame = [8, h1, h0, w1, w0, 3, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0];
    segment(&mut out, 0xc0, &frame, 0, b" ");
    // DC: the nine categories 0-8 with four bits each, so that the code is the category.
    let mut dc = vec![0x00];
    dc.extend([0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    dc.extend(0..9);
    segment(&mut out, 0xc4, &dc, 0, b" ");
    // AC: "end of block" alone, with the one bit 0.
    let mut ac = vec![0x10, 1];
    ac.extend([0; 15]);
    ac.push(0x00);
    segment(&mut out, 0xc4, &ac, 0, b" ");
    // Scan over all components.
    segment(
        &mut out,
        0xda,
        &[3, 1, 0x00, 2, 0x00, 3, 0x00, 0, 63, 0],
        0,
        b" ",
    );
    out
}

fn scan(tag: &str, number: u32, width: u16, height: u16) -> Vec<u8> {
    let mark = u64::from(tag_hash(tag)) << 32 | u64::from(number);
    let blocks = usize::from(width).div_ceil(BLOCK) * usize::from(height).div_ceil(BLOCK);
    let color = tag_color(tag);
    let mut bits = Bits::default();
    let mut last = [0i32; 3];
    for block in 0..blocks {
        let value = if block >= MARK_BLOCKS {
            color
        } else if mark >> (MARK_BLOCKS - 1 - block) & 1 == 1 {
            [235, 128, 128]
        } else {
            [16, 128, 128]
        };
        for (value, last) in value.into_iter().zip(&mut last) {
            let level = i32::from(value) - 128;
            bits.dc(level - *last);
            *last = level;
            bits.push(0, 1);
        }
    }
    bits.finish()
}

/// Entropy-coded data under construction.
#[derive(Default)]
struct Bits {
    out: Vec<u8>,
    pending: u32,
    count: u32,
}

impl Bits {
    fn dc(&mut self, difference: i32) {
        let category = i32::BITS - difference.abs().leading_zeros();
        self.push(category, 4);
        // A negative value is written as its one's complement.
        let value = difference - i32::from(difference < 0);
        self.push(value as u32 & ((1 << category) - 1), category);
    }

    fn push(&mut self, value: u32, count: u32) {
        self.pending = self.pending << count | value;
        self.count += count;
        while self.count >= 8 {
            self.count -= 8;
            let byte = (self.pending >> self.count) as u8;
            self.out.push(byte);
            if byte == 0xff {
                // Not a marker.
                self.out.push(0);
            }
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.push(0x7f, 7);
        self.out
    }
}
