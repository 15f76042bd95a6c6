//! How a picture looks in AMQP frames.

use crate::message::{self, Headers};
use std::io::Write;

pub(super) const METHOD: u8 = 1;
pub(super) const HEADER: u8 = 2;
pub(super) const BODY: u8 = 3;
pub(super) const END: u8 = 0xce;
/// Type, channel and size, before a frame's payload.
pub(super) const FRAME_START: usize = 7;
/// That, and the end mark behind it.
pub(super) const FRAME_OVERHEAD: usize = FRAME_START + 1;

/// A picture with all that is said of it.
pub(super) struct Message<'a> {
    pub(super) exchange: &'a str,
    pub(super) routing_key: &'a str,
    pub(super) mandatory: bool,
    pub(super) headers: &'a Headers<'a>,
    pub(super) body: &'a [u8],
}

impl Message<'_> {
    /// `basic.publish` and the content header.
    pub(super) fn head(&self, channel: u16, out: &mut Vec<u8>) {
        frame(out, METHOD, channel, |out| {
            // basic.publish, and a field that is no longer used.
            out.extend([0, 60, 0, 40, 0, 0]);
            short(out, self.exchange);
            short(out, self.routing_key);
            out.push(u8::from(self.mandatory));
        });
        let headers = self.headers;
        frame(out, HEADER, channel, |out| {
            // Class basic, and a weight that is no longer used.
            out.extend([0, 60, 0, 0]);
            out.extend((self.body.len() as u64).to_be_bytes());
            // Content type, headers, delivery mode, message id, timestamp, type, app id: in this order.
            out.extend(0b1011_0000_1110_1000u16.to_be_bytes());
            short(out, message::CONTENT_TYPE);
            sized::<4>(out, |out| {
                short(out, "camera_id");
                out.push(b'S');
                sized::<4>(out, |out| {
                    out.extend_from_slice(headers.camera_id.as_bytes());
                });
                for (name, value) in [
                    ("seq", headers.seq),
                    ("epoch", headers.epoch),
                    ("captured_at_us", headers.captured_at_us),
                ] {
                    short(out, name);
                    out.push(b'l');
                    out.extend(value.to_be_bytes());
                }
                for (name, value) in [("width", headers.width), ("height", headers.height)] {
                    short(out, name);
                    out.push(b'I');
                    out.extend(value.to_be_bytes());
                }
            });
            out.push(message::DELIVERY_MODE);
            sized::<1>(out, |out| {
                // A Vec takes all that is written to it.
                let _ = write!(out, "{}", headers.message_id());
            });
            out.extend(headers.timestamp().to_be_bytes());
            short(out, message::TYPE);
            short(out, message::APP_ID);
        });
    }
}

pub(super) fn frame(out: &mut Vec<u8>, kind: u8, channel: u16, payload: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    out.extend(channel.to_be_bytes());
    sized::<4>(out, payload);
    out.push(END);
}

pub(super) fn frame_start(out: &mut Vec<u8>, kind: u8, channel: u16, size: usize) {
    out.push(kind);
    out.extend(channel.to_be_bytes());
    // No frame is larger than `frame_max`, which has four bytes.
    out.extend(u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes());
}

/// A short string. Everything that becomes one is held to 255 bytes when the configuration is loaded.
fn short(out: &mut Vec<u8>, text: &str) {
    sized::<1>(out, |out| out.extend_from_slice(text.as_bytes()));
}

/// Puts the length of what `content` appends before it, in `N` bytes.
fn sized<const N: usize>(out: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend([0; N]);
    content(out);
    let length = (out.len() - at - N).to_be_bytes();
    if let (Some(place), Some(length)) = (out.get_mut(at..at + N), length.last_chunk::<N>()) {
        place.copy_from_slice(length);
    }
}
