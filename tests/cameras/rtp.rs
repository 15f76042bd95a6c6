//! Access units as RTP packets, and what a camera's clock makes of their time stamps.

use crate::clip::{Codec, Unit};

/// Payload bytes of a packet at most: what an Ethernet frame holds, with room for headers.
const PAYLOAD: usize = 1400;
/// RTP's clock for video.
const CLOCK: f64 = 90_000.0;
/// Below 2^32, as most cameras begin anywhere.
const START: u32 = 1_234_567_890;

/// How the camera's clock goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Stamps {
    Right,
    /// Every picture has the same.
    Equal,
    /// So many seconds a second.
    Speed(f64),
    /// Right, but for up to so many seconds to both sides.
    Jitter(f64),
    /// Every `.0` seconds it is put back by `.1` seconds.
    Back(f64, f64),
    /// The 32 bits overflow so many seconds after the start.
    Wrap(f64),
}

impl Stamps {
    /// The stamp of a picture `seconds` after the first; `chance` is a number from -1 to 1.
    fn at(self, seconds: f64, chance: f64) -> u32 {
        let ticks = |seconds: f64| ((seconds * CLOCK).round() as i64) as u32;
        match self {
            Self::Right => START.wrapping_add(ticks(seconds)),
            Self::Equal => START,
            Self::Speed(speed) => START.wrapping_add(ticks(seconds * speed)),
            Self::Jitter(most) => START.wrapping_add(ticks(seconds + chance * most)),
            Self::Back(every, by) => {
                START.wrapping_add(ticks(seconds - (seconds / every).floor() * by))
            }
            Self::Wrap(after) => ticks(seconds - after),
        }
    }
}

/// A camera's side of an RTP stream.
#[derive(Debug)]
pub struct Stream {
    codec: Codec,
    stamps: Stamps,
    sequence: u16,
    chance: Chance,
}

impl Stream {
    pub fn new(codec: Codec, stamps: Stamps) -> Self {
        // The sequence number wraps early on.
        Self {
            codec,
            stamps,
            sequence: 65_000,
            chance: Chance(7),
        }
    }

    /// The packets of a picture, `seconds` after the stream's first.
    pub fn packets(&mut self, unit: &Unit, seconds: f64) -> Vec<Vec<u8>> {
        let chance = self.chance.next() * 2.0 - 1.0;
        let stamp = self.stamps.at(seconds, chance);
        let payloads: Vec<_> = unit
            .parts
            .iter()
            .flat_map(|nal| payloads(nal, self.codec))
            .collect();
        let last = payloads.len() - 1;
        let packets = payloads.into_iter().enumerate();
        packets
            .map(|(index, payload)| self.packet(&payload, stamp, index == last))
            .collect()
    }

    fn packet(&mut self, payload: &[u8], stamp: u32, marker: bool) -> Vec<u8> {
        let mut packet = vec![0x80, 96 | u8::from(marker) << 7];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(stamp.to_be_bytes());
        packet.extend(0x0ca3_e2a5_u32.to_be_bytes());
        packet.extend(payload);
        self.sequence = self.sequence.wrapping_add(1);
        packet
    }
}

/// A NAL unit whole, or in fragments (RFC 6184, FU-A; RFC 7798, FU).
fn payloads(nal: &[u8], codec: Codec) -> Vec<Vec<u8>> {
    if nal.len() <= PAYLOAD {
        return vec![nal.to_vec()];
    }
    let (header, kind, body) = match codec {
        Codec::H264 => (vec![nal[0] & 0xe0 | 28], nal[0] & 0x1f, &nal[1..]),
        _ => (
            vec![nal[0] & 0x81 | 49 << 1, nal[1]],
            nal[0] >> 1 & 0x3f,
            &nal[2..],
        ),
    };
    let chunks: Vec<_> = body.chunks(PAYLOAD - header.len() - 1).collect();
    let last = chunks.len() - 1;
    let fragment = |(index, chunk): (usize, &&[u8])| {
        let edges = u8::from(index == 0) << 7 | u8::from(index == last) << 6;
        [header.as_slice(), &[edges | kind], chunk].concat()
    };
    chunks.iter().enumerate().map(fragment).collect()
}

/// Numbers from 0 to 1 by chance, the same ones in each run (xorshift).
#[derive(Debug)]
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}
