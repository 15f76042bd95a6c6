//! The stamp that each picture carries in a comment segment: which camera, which picture, when.

use std::time::{SystemTime, UNIX_EPOCH};

/// Written in decimal digits, so that nothing in it looks like a JPEG marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    pub camera: u32,
    /// Counts from 1.
    pub number: u32,
    /// Unix µs at which the picture was taken.
    pub taken: i64,
}

const MAGIC: &[u8] = b"EDGEVIDEOBENCH";
/// Magic, camera, number, time.
const LENGTH: usize = MAGIC.len() + 4 + 10 + 16;
/// Start of image, marker and length of the segment come before it.
const AT: usize = 2 + 4;

/// Puts room for a stamp into a JPEG, right behind its start.
pub fn make_room(jpeg: &[u8]) -> Vec<u8> {
    let length = u16::try_from(LENGTH + 2).unwrap().to_be_bytes();
    let segment = [&[0xff, 0xfe], &length[..], &[b'0'; LENGTH]].concat();
    [&jpeg[..2], &segment, &jpeg[2..]].concat()
}

impl Stamp {
    /// Into a JPEG with room for it.
    pub fn write(&self, jpeg: &mut [u8]) {
        let digits = format!("{:04}{:010}{:016}", self.camera, self.number, self.taken);
        jpeg[AT..AT + MAGIC.len()].copy_from_slice(MAGIC);
        jpeg[AT + MAGIC.len()..AT + LENGTH].copy_from_slice(digits.as_bytes());
    }

    /// Out of the first bytes of a JPEG.
    pub fn read(jpeg: &[u8]) -> Option<Self> {
        let digits = jpeg.get(AT..AT + LENGTH)?.strip_prefix(MAGIC)?;
        let number = |range| std::str::from_utf8(digits.get::<std::ops::Range<usize>>(range)?).ok();
        Some(Self {
            camera: number(0..4)?.parse().ok()?,
            number: number(4..14)?.parse().ok()?,
            taken: number(14..30)?.parse().ok()?,
        })
    }
}

/// Microseconds since 1970.
pub fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_micros()).unwrap()
}
