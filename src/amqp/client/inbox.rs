//! The bounded queue of received messages, for `edge-video watch`. amiquip's own queue has no
//! limit, and its parser trusts the headers, which any publisher can write.

use super::bounds::{Entry, entry, sized};
use crate::message::{Headers, VideoHeaders, codec_named};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Bytes that may wait for a slow consumer, and so the largest message that is taken. The same as
/// the largest `max_frame_bytes`. Above it the oldest messages are dropped.
pub(super) const BYTES: usize = 64 << 20;

/// A received message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// What its headers say; defaults where one is missing.
    pub headers: Headers<'static>,
    /// The JPEG, or the access unit of a message of video.
    pub jpeg: Vec<u8>,
}

/// Messages that wait for their consumer, the newest only.
#[derive(Debug)]
pub struct Inbox {
    /// Messages that may wait.
    messages: usize,
    waiting: Mutex<Waiting>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Received>,
    bytes: usize,
    over: bool,
}

impl Inbox {
    /// For at most so many messages, of 64 MiB together.
    pub fn new(messages: usize) -> Self {
        Self {
            messages,
            waiting: Mutex::default(),
            more: Condvar::new(),
        }
    }

    /// The oldest message, or `None` after `timeout` or once the connection has ended.
    pub fn next(&self, timeout: Duration) -> Option<Received> {
        let deadline = Instant::now() + timeout;
        let mut waiting = self.waiting.lock();
        while waiting.messages.is_empty() && !waiting.over {
            if self.more.wait_until(&mut waiting, deadline).timed_out() {
                break;
            }
        }
        let message = waiting.messages.pop_front()?;
        waiting.bytes -= message.jpeg.len();
        Some(message)
    }

    fn put(&self, message: Received) {
        let mut waiting = self.waiting.lock();
        waiting.bytes += message.jpeg.len();
        waiting.messages.push_back(message);
        while waiting.messages.len() > self.messages || waiting.bytes > BYTES {
            let oldest = waiting.messages.pop_front();
            waiting.bytes -= oldest.map_or(0, |oldest| oldest.jpeg.len());
        }
        self.more.notify_one();
    }

    /// The connection has ended.
    pub(super) fn end(&self) {
        self.waiting.lock().over = true;
        self.more.notify_one();
    }
}

/// Assembles a message from its frames.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    message: Option<Received>,
    /// Bytes of its body that are still to come.
    left: usize,
}

impl Gathering {
    /// The content header. A message that is too large is skipped.
    pub(super) fn header(&mut self, payload: &[u8], inbox: &Inbox) {
        self.message = None;
        let Some((size, headers)) = content(payload) else {
            return;
        };
        let Ok(size @ ..=BYTES) = usize::try_from(size) else {
            return;
        };
        let message = Received {
            headers: read_headers(headers),
            jpeg: Vec::new(),
        };
        self.left = size;
        if size == 0 {
            inbox.put(message);
        } else {
            self.message = Some(message);
        }
    }

    /// Part of the body. A part that exceeds the announced size ends the message.
    pub(super) fn body(&mut self, payload: &[u8], inbox: &Inbox) {
        let Some(mut message) = self.message.take() else {
            return;
        };
        let Some(left) = self.left.checked_sub(payload.len()) else {
            return;
        };
        self.left = left;
        if message.jpeg.is_empty() {
            // Memory only for what has arrived, not for what is announced.
            message.jpeg.reserve_exact(payload.len());
        }
        message.jpeg.extend_from_slice(payload);
        match left {
            0 => inbox.put(message),
            _ => self.message = Some(message),
        }
    }
}

/// From a content header: the size of the body, and the table of headers.
pub(super) fn content(payload: &[u8]) -> Option<(u64, &[u8])> {
    // Class and a field that is not used; then the size and a bit for each property that follows.
    let (_, rest) = payload.split_first_chunk::<4>()?;
    let (size, rest) = rest.split_first_chunk()?;
    let ([high, _], mut rest) = rest.split_first_chunk::<2>()?;
    // Content type and encoding.
    for bit in [0x80, 0x40] {
        if high & bit != 0 {
            (_, rest) = sized(rest, 1)?;
        }
    }
    let headers = match high & 0x20 {
        0 => &[],
        _ => sized(rest, 4)?.0,
    };
    Some((u64::from_be_bytes(*size), headers))
}

fn read_headers(mut table: &[u8]) -> Headers<'static> {
    let mut headers = Headers::default();
    let (mut codec, mut key) = (None, false);
    let (mut gop, mut gop_index, mut pts_us) = (0, 0, 0);
    while let Some((Entry { name, kind, bytes }, behind)) = entry(table) {
        table = behind;
        let number = match (kind, bytes.first_chunk(), bytes.first_chunk()) {
            (b'l' | b'L', Some(bytes), _) => i64::from_be_bytes(*bytes),
            (b'I', _, Some(bytes)) => i64::from(i32::from_be_bytes(*bytes)),
            _ => 0,
        };
        let small = i32::try_from(number).unwrap_or(0);
        match name {
            b"camera_id" if kind == b'S' => {
                headers.camera_id = String::from_utf8_lossy(bytes).into_owned().into();
            }
            b"seq" => headers.seq = number,
            b"epoch" => headers.epoch = number,
            b"captured_at_us" => headers.captured_at_us = number,
            b"width" => headers.width = small,
            b"height" => headers.height = small,
            b"key" if kind == b't' => key = bytes != [0],
            b"gop" => gop = number,
            b"gop_index" => gop_index = small,
            b"pts_us" => pts_us = number,
            b"codec" if kind == b'S' => codec = codec_named(bytes),
            _ => {}
        }
    }
    headers.video = codec.map(|codec| VideoHeaders {
        key,
        gop,
        gop_index,
        pts_us,
        codec,
    });
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Codec;

    fn received(size: usize) -> Received {
        Received {
            headers: Headers::default(),
            jpeg: vec![0; size],
        }
    }

    #[test]
    fn a_slow_consumer_gets_the_newest_messages_and_memory_stays_bounded() {
        let inbox = Inbox::new(256);
        for size in 0..256 + 5 {
            inbox.put(received(size));
        }
        assert_eq!(inbox.next(Duration::ZERO), Some(received(5)));
        let inbox = Inbox::new(256);
        for size in [BYTES / 2, BYTES / 2, 1] {
            inbox.put(received(size));
        }
        let mut sizes = std::iter::from_fn(|| inbox.next(Duration::ZERO)).map(|it| it.jpeg.len());
        assert!(sizes.by_ref().eq([BYTES / 2, 1]));
        assert_eq!(inbox.waiting.lock().bytes, 0);
    }

    #[test]
    fn a_consumer_that_waits_is_woken_by_a_message_and_by_the_end() {
        let (inbox, hour) = (Inbox::new(256), Duration::from_secs(3600));
        std::thread::scope(|scope| {
            let first = scope.spawn(|| inbox.next(hour));
            inbox.put(received(1));
            assert_eq!(first.join().unwrap(), Some(received(1)));
            let second = scope.spawn(|| inbox.next(hour));
            inbox.end();
            assert_eq!(second.join().unwrap(), None);
        });
    }

    fn header(size: u64, properties: &[u8]) -> Vec<u8> {
        [&[0, 60, 0, 0], &size.to_be_bytes()[..], properties].concat()
    }

    #[test]
    fn a_message_comes_in_parts_and_what_was_not_announced_ends_it() {
        let (mut gathering, inbox) = (Gathering::default(), Inbox::new(256));
        gathering.header(&header(5, &[0, 0]), &inbox);
        gathering.body(b"abc", &inbox);
        gathering.body(b"de", &inbox);
        let whole = inbox.next(Duration::ZERO).unwrap();
        assert_eq!(whole.jpeg, b"abcde");
        // Too long, without a header, cut off by another.
        gathering.header(&header(2, &[0, 0]), &inbox);
        gathering.body(b"abc", &inbox);
        gathering.body(b"ab", &inbox);
        gathering.header(&header(2, &[0, 0]), &inbox);
        gathering.header(&header(0, &[0, 0]), &inbox);
        gathering.body(b"ab", &inbox);
        assert_eq!(inbox.next(Duration::ZERO), Some(received(0)));
        assert_eq!(inbox.next(Duration::ZERO), None);
    }

    #[test]
    fn a_message_that_announces_more_than_is_taken_costs_no_memory() {
        let (mut gathering, inbox) = (Gathering::default(), Inbox::new(256));
        for size in [u64::MAX, 1 << 62, 1 << 40, BYTES as u64 + 1] {
            gathering.header(&header(size, &[0, 0]), &inbox);
            gathering.body(b"abc", &inbox);
            assert_eq!(gathering.message, None, "{size}");
        }
        gathering.header(&header(BYTES as u64, &[0, 0]), &inbox);
        gathering.body(b"abc", &inbox);
        let held = gathering.message.unwrap().jpeg.capacity();
        assert!(held < 1000, "{held}");
    }

    #[test]
    fn headers_of_any_publisher_are_read_as_far_as_they_make_sense() {
        let table = |entries: &[&[u8]]| entries.concat();
        let id = b"\x09camera_idS\0\0\0\x05do\xffor";
        let seq = b"\x03seql\0\0\0\0\0\0\0\x07";
        let width = b"\x05widthI\0\0\x02\x80";
        // A thousand arrays within one another are one value here.
        let mut nested = vec![b'V'];
        for _ in 0..1000 {
            let length = u32::try_from(nested.len()).unwrap();
            nested = [&b"A"[..], &length.to_be_bytes(), &nested].concat();
        }
        let nested = [&b"\x01n"[..], &nested].concat();
        let headers = read_headers(&table(&[id, &nested, seq, width]));
        assert_eq!(headers.camera_id, "do\u{fffd}or");
        assert_eq!((headers.seq, headers.width), (7, 640));
        // What is behind a value that cannot be read is not looked for.
        let headers = read_headers(&table(&[seq, b"\x01xz", width]));
        assert_eq!((headers.seq, headers.width), (7, 0));
        let headers = read_headers(&table(&[
            b"\x05widthl\x7f\0\0\0\0\0\0\0",
            b"\x03seqS\0\0\0\0",
        ]));
        assert_eq!((headers.width, headers.seq), (0, 0));
    }

    #[test]
    fn a_unit_of_video_is_known_by_a_codec_that_we_know() {
        let table = |codec: &str| {
            let length = u8::try_from(codec.len()).unwrap();
            [
                &b"\x05codecS\0\0\0"[..],
                &[length],
                codec.as_bytes(),
                b"\x03keyt\x01\x03gopl\0\0\0\0\0\0\0\x07",
                b"\x09gop_indexI\0\0\0\x03\x06pts_usl\xff\xff\xff\xff\xff\xff\xff\xfe",
            ]
            .concat()
        };
        let expected = VideoHeaders {
            key: true,
            gop: 7,
            gop_index: 3,
            pts_us: -2,
            codec: Codec::H265,
        };
        assert_eq!(read_headers(&table("h265")).video, Some(expected));
        assert_eq!(read_headers(&table("vp9")).video, None);
    }
}
