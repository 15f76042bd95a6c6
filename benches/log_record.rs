//! Time and allocations of a log record: in the thread that logs it, and on the whole way to
//! stderr, with reused buffers and without.

#![allow(missing_docs, reason = "a benchmark")]

use divan::{AllocProfiler, Bencher};
use edge_video::logging::format::Format;
use edge_video::logging::queue::{QUEUE_RECORDS, Queue, queue};
use log::{Level, Record};
use std::io;
use std::time::Duration;

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// Number of reused buffers.
const POOLS: [usize; 2] = [QUEUE_RECORDS, 0];

/// A typical message about a camera, with a typical length.
fn log(queue: &Queue) {
    let why = "[rtsp] method DESCRIBE failed: 404 Not Found";
    queue.put(
        &Record::builder()
            .level(Level::Warn)
            .target("edge_video::capture")
            .key_values(&("camera_id", "front-door"))
            .args(format_args!(
                "FFmpeg ended (exit code {}): {why}; starting again in {:.1} s",
                1, 1.5
            ))
            .build(),
    );
}

/// The part of the thread that logs. The queue is emptied between samples, so no record is dropped.
#[divan::bench(args = POOLS, sample_size = 512)]
fn put(bencher: Bencher<'_, '_>, kept: usize) {
    let (queue, mut writer) = queue(Format::Text, kept);
    // As many buffers as a sample needs.
    (0..QUEUE_RECORDS).for_each(|_| log(&queue));
    bencher
        .with_inputs(|| writer.run_once(&mut io::sink()))
        .bench_local_values(|()| log(&queue));
    assert_eq!(queue.dropped(), 0);
}

/// The same while the writer sleeps and must be woken, as in a quiet log.
#[divan::bench(sample_size = 1, sample_count = 1000)]
fn put_and_wake_the_writer(bencher: Bencher<'_, '_>) {
    let (queue, mut writer) = queue(Format::Text, QUEUE_RECORDS);
    std::thread::spawn(move || writer.run(&mut io::sink()));
    bencher
        .with_inputs(|| {
            queue.flush(Duration::from_secs(1));
            std::thread::sleep(Duration::from_millis(1));
        })
        .bench_local_values(|()| log(&queue));
}

/// A record that finds the queue full.
#[divan::bench]
fn put_into_a_full_queue(bencher: Bencher<'_, '_>) {
    let (queue, _writer) = queue(Format::Text, QUEUE_RECORDS);
    (0..QUEUE_RECORDS).for_each(|_| log(&queue));
    bencher.bench_local(|| log(&queue));
}

fn put_and_write(bencher: Bencher<'_, '_>, format: Format, kept: usize) {
    let (queue, mut writer) = queue(format, kept);
    bencher.bench_local(|| {
        log(&queue);
        writer.run_once(&mut io::sink());
    });
    assert_eq!(queue.dropped(), 0);
}

#[divan::bench(args = POOLS)]
fn put_and_write_text(bencher: Bencher<'_, '_>, kept: usize) {
    put_and_write(bencher, Format::Text, kept);
}

#[divan::bench(args = POOLS)]
fn put_and_write_json(bencher: Bencher<'_, '_>, kept: usize) {
    put_and_write(bencher, Format::Json, kept);
}
