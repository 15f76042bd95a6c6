//! Encodes a message as AMQP frames.

use super::frame::{BASIC_PUBLISH, HEADER, METHOD, write_frame, write_sized};
use crate::message::{self, Headers, VideoHeaders};
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
            short(out, headers.content_type());
            write_sized::<4>(out, |out| {
                text(out, "camera_id", &headers.camera_id);
                long(out, "seq", headers.seq);
                long(out, "epoch", headers.epoch);
                long(out, "captured_at_us", headers.captured_at_us);
                int(out, "width", headers.width);
                int(out, "height", headers.height);
                if let Some(video) = &headers.video {
                    table_of_video(out, video);
                }
            });
            out.push(message::DELIVERY_MODE);
            write_sized::<1>(out, |out| {
                // A Vec takes all that is written to it.
                let _ = write!(out, "{}", headers.message_id());
            });
            out.extend(headers.timestamp().to_be_bytes());
            short(out, headers.kind());
            short(out, message::APP_ID);
        });
    }
}

fn table_of_video(out: &mut Vec<u8>, video: &VideoHeaders) {
    field(out, "key", b't', &[u8::from(video.key)]);
    long(out, "gop", video.gop);
    int(out, "gop_index", video.gop_index);
    long(out, "pts_us", video.pts_us);
    text(out, "codec", video.codec.name());
}

/// An entry of a table: its name, AMQP's letter for its type, its value.
fn field(out: &mut Vec<u8>, name: &str, kind: u8, value: &[u8]) {
    short(out, name);
    out.push(kind);
    out.extend_from_slice(value);
}

fn long(out: &mut Vec<u8>, name: &str, value: i64) {
    field(out, name, b'l', &value.to_be_bytes());
}

fn int(out: &mut Vec<u8>, name: &str, value: i32) {
    field(out, name, b'I', &value.to_be_bytes());
}

fn text(out: &mut Vec<u8>, name: &str, value: &str) {
    field(out, name, b'S', &[]);
    write_sized::<4>(out, |out| out.extend_from_slice(value.as_bytes()));
}

/// A short string. The configuration limits everything that becomes one to 255 bytes.
fn short(out: &mut Vec<u8>, text: &str) {
    write_sized::<1>(out, |out| out.extend_from_slice(text.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frames_message_has_exactly_these_bytes() {
        let headers = Headers {
            camera_id: "door".into(),
            seq: 2,
            epoch: 3,
            captured_at_us: 5_000_001,
            width: 640,
            height: 360,
            video: None,
        };
        let message = Message {
            exchange: "cameras",
            routing_key: "camera.door",
            mandatory: true,
            headers: &headers,
            body: &[0; 258],
        };
        let mut head = vec![];
        message.head(9, &mut head);
        let table = [
            &b"\x09camera_idS\0\0\0\x04door"[..],
            b"\x03seql\0\0\0\0\0\0\0\x02",
            b"\x05epochl\0\0\0\0\0\0\0\x03",
            b"\x0ecaptured_at_usl\0\0\0\0\0\x4c\x4b\x41",
            b"\x05widthI\0\0\x02\x80",
            b"\x06heightI\0\0\x01\x68",
        ]
        .concat();
        assert_eq!(table.len(), 0x5e);
        let content = [
            &b"\0\x3c\0\0\0\0\0\0\0\0\x01\x02\xb0\xe8\x0aimage/jpeg\0\0\0\x5e"[..],
            &table,
            b"\x01\x08door/3/2\0\0\0\0\0\0\0\x05\x05frame\x0aedge-video",
        ]
        .concat();
        let expected = [
            &b"\x01\0\x09\0\0\0\x1b\0\x3c\0\x28\0\0\x07cameras\x0bcamera.door\x01\xce"[..],
            b"\x02\0\x09\0\0\0",
            &[u8::try_from(content.len()).unwrap()],
            &content,
            b"\xce",
        ]
        .concat();
        assert_eq!(
            head.escape_ascii().to_string(),
            expected.escape_ascii().to_string()
        );
    }
}
