//! Time and allocations of each part of our code that a frame passes. `benches/throughput` measures
//! them together, with broker and pipe.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark")]

use crossbeam_utils::sync::Parker;
use divan::counter::{BytesCount, ItemsCount};
use divan::{AllocProfiler, Bencher, black_box};
use edge_video::capture::pipe::Arrival;
use edge_video::capture::splitter::Splitter;
use edge_video::clock::Stamp;
use edge_video::frame::Frame;
use edge_video::handoff::mailbox::mailbox;
use edge_video::handoff::pool::Pool;
use edge_video::message::{self, Headers};
use edge_video::metrics::{CameraMetrics, Metrics};
use std::fmt::Write;
use std::io::{self, Read};
use std::sync::Arc;

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// FFmpeg's stream: one picture again and again, without end.
struct Stream {
    bytes: Vec<u8>,
    at: usize,
    /// FFmpeg writes this much at once, and a read gets no more.
    piece: usize,
}

impl Stream {
    fn new(picture: usize, piece: usize) -> Self {
        // SOI, a frame header of 16 x 16 pixels, a scan, EOI.
        let mut jpeg = b"\xff\xd8\xff\xc0\x00\x0b\x08\x00\x10\x00\x10\x01\x01\x11\x00".to_vec();
        jpeg.extend(b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00");
        jpeg.resize(picture - 2, 0x55);
        jpeg.extend(b"\xff\xd9");
        let head = format!("Content-type: image/jpeg\r\nContent-length: {picture}\r\n\r\n");
        let bytes = [b"--ffmpeg\r\n", head.as_bytes(), &jpeg, b"\r\n"].concat();
        Self {
            bytes,
            at: 0,
            piece,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at == self.bytes.len() {
            self.at = 0;
        }
        let rest = &self.bytes[self.at..];
        let count = rest.len().min(buf.len()).min(self.piece);
        buf[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}

const PICTURES: [usize; 4] = [20_000, 60_000, 100_000, 340_000];

/// Includes the copy out of the stream, which stands for the kernel's copy out of the pipe.
#[divan::bench(args = PICTURES, consts = [32 * 1024, 1024 * 1024])]
fn splitter<const PIECE: usize>(bencher: Bencher<'_, '_>, picture: usize) {
    let pool = Pool::new();
    let mut splitter = Splitter::new(Stream::new(picture, PIECE), 8 << 20, |_| Arrival::now());
    let mut buffer = pool.take();
    bencher
        .counter(BytesCount::new(picture))
        .bench_local(|| black_box(splitter.next(&mut buffer).unwrap()));
}

/// Only that copy, as the lower limit.
#[divan::bench(args = PICTURES)]
fn copy(bencher: Bencher<'_, '_>, picture: usize) {
    let mut stream = Stream::new(picture, usize::MAX);
    let mut buffer = vec![0; picture + 100];
    bencher
        .counter(BytesCount::new(picture))
        .bench_local(|| black_box(stream.read(&mut buffer).unwrap()));
}

/// From the pool into the mailbox, out of it and back; `batch` frames come before one is taken.
#[divan::bench(args = [1, 2, 10])]
fn mailbox_and_pool(bencher: Bencher<'_, '_>, batch: usize) {
    let pool = Pool::new();
    let parker = Parker::new();
    let (tx, rx) = mailbox(parker.unparker().clone());
    bencher.counter(ItemsCount::new(batch)).bench_local(|| {
        for _ in 0..batch {
            drop(tx.put(pool.take()));
        }
        parker.park();
        black_box(rx.take())
    });
}

#[divan::bench]
fn message(bencher: Bencher<'_, '_>) {
    let frame = Frame {
        epoch: 1_795_305_599_000,
        seq: 123_456,
        captured: Stamp::now(),
        width: 1920,
        height: 1080,
        jpeg: Pool::new().take(),
    };
    let mut text = String::new();
    bencher.bench_local(|| {
        let headers = Headers::of(black_box("front-door"), black_box(&frame));
        text.clear();
        write!(text, "{}", headers.message_id()).unwrap();
        black_box((text.len(), headers.timestamp()))
    });
}

#[divan::bench]
fn message_id_of_a_return() -> Option<(i64, u64)> {
    message::parse_message_id(black_box("front-door/1795305599000/123456"))
}

/// Counting one published frame.
#[divan::bench]
fn metrics(bencher: Bencher<'_, '_>) {
    let metrics = CameraMetrics::default();
    bencher.bench_local(|| {
        let metrics = black_box(&metrics);
        metrics.reader.captured.increment();
        metrics.publisher.taken.increment();
        metrics.publisher.published_bytes.add(100_000);
        metrics.publisher.published.increment();
    });
}

/// Reading the accounting of this many cameras.
#[divan::bench(args = [1, 50, 200])]
fn metrics_snapshot(bencher: Bencher<'_, '_>, cameras: usize) {
    let metrics = Metrics::default();
    for n in 0..cameras {
        metrics.camera(&Arc::from(format!("camera{n}")));
    }
    bencher
        .counter(ItemsCount::new(cameras))
        .bench_local(|| black_box(metrics.accounts()));
}
