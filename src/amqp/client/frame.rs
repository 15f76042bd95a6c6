//! AMQP frames: their parts, and how they are read and written.

pub(super) const METHOD: u8 = 1;
pub(super) const HEADER: u8 = 2;
pub(super) const BODY: u8 = 3;
pub(super) const HEARTBEAT: u8 = 8;
pub(super) const END: u8 = 0xce;
/// Type, channel and size, before a frame's payload.
pub(super) const FRAME_START: usize = 7;
/// That, and the end mark behind it.
pub(super) const FRAME_OVERHEAD: usize = FRAME_START + 1;

/// Class and method, as the first bytes of a method frame's payload.
pub(super) const TUNE_OK: [u8; 4] = [0, 10, 0, 31];
pub(super) const CHANNEL_OPEN: [u8; 4] = [0, 20, 0, 10];
pub(super) const CHANNEL_CLOSE: [u8; 4] = [0, 20, 0, 40];
pub(super) const CHANNEL_CLOSE_OK: [u8; 4] = [0, 20, 0, 41];
pub(super) const BASIC_PUBLISH: [u8; 4] = [0, 60, 0, 40];
pub(super) const BASIC_RETURN: [u8; 4] = [0, 60, 0, 50];
pub(super) const BASIC_DELIVER: [u8; 4] = [0, 60, 0, 60];
pub(super) const BASIC_ACK: [u8; 4] = [0, 60, 0, 80];
pub(super) const BASIC_NACK: [u8; 4] = [0, 60, 0, 120];

/// One AMQP frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Method, content header, content body or heartbeat.
    pub kind: u8,
    /// Number of the channel; 0 means the connection itself.
    pub channel: u16,
    /// What is between its start and its end mark.
    pub payload: &'a [u8],
    /// The whole frame.
    pub bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The first frame in `bytes`, if it is complete, and the bytes behind it.
    pub fn first(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let ([kind, c0, c1, s0, s1, s2, s3], _) = bytes.split_first_chunk::<FRAME_START>()?;
        let size = u32::from_be_bytes([*s0, *s1, *s2, *s3]) as usize;
        let (bytes, behind) = bytes.split_at_checked(size.checked_add(FRAME_OVERHEAD)?)?;
        let frame = Self {
            kind: *kind,
            channel: u16::from_be_bytes([*c0, *c1]),
            payload: bytes.get(FRAME_START..FRAME_START + size)?,
            bytes,
        };
        Some((frame, behind))
    }

    /// Class and method, and the arguments, of a method frame.
    pub(super) fn method(&self) -> Option<((u16, u16), &'a [u8])> {
        let (ids, args) = self.payload.split_first_chunk::<4>()?;
        let [c0, c1, m0, m1] = *ids;
        let method = (u16::from_be_bytes([c0, c1]), u16::from_be_bytes([m0, m1]));
        (self.kind == METHOD).then_some((method, args))
    }
}

/// Appends a frame whose payload `payload` appends.
pub(super) fn write_frame(
    out: &mut Vec<u8>,
    kind: u8,
    channel: u16,
    payload: impl FnOnce(&mut Vec<u8>),
) {
    out.push(kind);
    out.extend(channel.to_be_bytes());
    write_sized::<4>(out, payload);
    out.push(END);
}

/// Appends what comes before a payload of `size` bytes.
pub(super) fn write_frame_start(out: &mut Vec<u8>, kind: u8, channel: u16, size: usize) {
    out.push(kind);
    out.extend(channel.to_be_bytes());
    // No frame is larger than `frame_max`, which has four bytes.
    out.extend(u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes());
}

/// Puts the length of what `content` appends before it, in `N` bytes.
pub(super) fn write_sized<const N: usize>(out: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend([0; N]);
    content(out);
    let length = (out.len() - at - N).to_be_bytes();
    if let (Some(place), Some(length)) = (out.get_mut(at..at + N), length.last_chunk::<N>()) {
        place.copy_from_slice(length);
    }
}
