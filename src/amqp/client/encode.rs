//! Encodes a message as AMQP frames.

use super::frame::{BASIC_PUBLISH, HEADER, METHOD, write_frame, write_sized};
use crate::message::{self, Headers};
use std::io::Write;

/// A message to be published.
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
        write_frame(out, METHOD, channel, |out| {
            out.extend(BASIC_PUBLISH);
            // A reserved field.
            out.extend([0, 0]);
            short(out, self.exchange);
            short(out, self.routing_key);
            out.push(u8::from(self.mandatory));
        });
        let headers = self.headers;
        write_frame(out, HEADER, channel, |out| {
            // Class basic, and a reserved weight.
            out.extend([0, 60, 0, 0]);
            out.extend((self.body.len() as u64).to_be_bytes());
            // Content type, headers, delivery mode, message id, timestamp, type, app id: in this
            // order.
            out.extend(0b1011_0000_1110_1000u16.to_be_bytes());
            short(out, message::CONTENT_TYPE);
            write_sized::<4>(out, |out| {
                short(out, "camera_id");
                out.push(b'S');
                write_sized::<4>(out, |out| {
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
            write_sized::<1>(out, |out| {
                // A Vec takes all that is written to it.
                let _ = write!(out, "{}", headers.message_id());
            });
            out.extend(headers.timestamp().to_be_bytes());
            short(out, message::TYPE);
            short(out, message::APP_ID);
        });
    }
}

/// A short string. The configuration limits everything that becomes one to 255 bytes.
fn short(out: &mut Vec<u8>, text: &str) {
    write_sized::<1>(out, |out| out.extend_from_slice(text.as_bytes()));
}
