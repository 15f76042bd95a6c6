//! The stamp that each picture carries in a comment segment, and each access unit in its first NAL
//! unit: which camera, which picture, when.

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
pub const LENGTH: usize = MAGIC.len() + 4 + 10 + 16;
/// Start of image, marker and length of the segment come before it; in a unit a start code and the
/// first two bytes of the NAL unit.
const AT: usize = 2 + 4;

/// Puts room for a stamp into a JPEG, right behind its start.
pub fn make_room(jpeg: &[u8]) -> Vec<u8> {
    let length = u16::try_from(LENGTH + 2).unwrap().to_be_bytes();
    let segment = [&[0xff, 0xfe], &length[..], &[b'0'; LENGTH]].concat();
    [&jpeg[..2], &segment, &jpeg[2..]].concat()
}

impl Stamp {
    /// Into a JPEG or a unit of the load generator, which has room for it.
    pub fn write(&self, picture: &mut [u8]) {
        picture[AT..AT + LENGTH].copy_from_slice(self.text().as_bytes());
    }

    /// As it is written.
    pub fn text(&self) -> String {
        let magic = str::from_utf8(MAGIC).unwrap();
        format!(
            "{magic}{:04}{:010}{:016}",
            self.camera, self.number, self.taken
        )
    }

    /// Out of the first bytes of a JPEG or a unit.
    pub fn read(picture: &[u8]) -> Option<Self> {
        let mut windows = picture.windows(MAGIC.len());
        let at = windows.position(|window| window == MAGIC)?;
        let digits = picture.get(at..at + LENGTH)?.strip_prefix(MAGIC)?;
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
