//! A log record costs no allocation, once the buffers exist. A test binary of its own, because it
//! counts every allocation.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

use edge_video::logging::format::Format;
use edge_video::logging::queue::{QUEUE_RECORDS, Queue, Writer, queue};
use log::{Level, Record};
use std::io;

/// A typical message about a camera, with a typical length.
fn log(queue: &Queue, seq: u64) {
    let why = "[rtsp] method DESCRIBE failed: 404 Not Found";
    queue.put(
        &Record::builder()
            .level(Level::Warn)
            .target("edge_video::capture")
            .key_values(&("camera_id", "front-door"))
            .args(format_args!(
                "FFmpeg ended (exit code 1) after frame {seq}: {why}; starting again in {:.1} s",
                1.5
            ))
            .build(),
    );
}

/// Allocations for `records` records that one thread logs and writes.
fn allocations(queue: &Queue, writer: &mut Writer, records: u64) -> u64 {
    let info = allocation_counter::measure(|| {
        for seq in 0..records {
            log(queue, seq);
            if seq % 100 == 99 {
                writer.run_once(&mut io::sink());
            }
        }
    });
    info.count_total
}

#[test]
fn a_record_costs_no_allocation_neither_where_it_is_logged_nor_where_it_is_written() {
    for format in [Format::Text, Format::Journal, Format::Json] {
        let (queue, mut writer) = queue(format, QUEUE_RECORDS);
        assert!(allocations(&queue, &mut writer, 100) > 0, "to begin with");
        assert_eq!(allocations(&queue, &mut writer, 10_000), 0, "{format:?}");
        assert_eq!(queue.dropped(), 0);
    }
}

#[test]
fn without_kept_buffers_each_record_costs_one_at_least() {
    let (queue, mut writer) = queue(Format::Text, 0);
    allocations(&queue, &mut writer, 100);
    assert!(allocations(&queue, &mut writer, 10_000) >= 10_000);
}

#[test]
fn a_record_that_is_dropped_costs_no_allocation() {
    let (queue, mut writer) = queue(Format::Text, QUEUE_RECORDS);
    for seq in 0..QUEUE_RECORDS as u64 {
        log(&queue, seq);
    }
    let info = allocation_counter::measure(|| {
        for seq in 0..10_000 {
            log(&queue, seq);
        }
    });
    assert_eq!((info.count_total, queue.dropped()), (0, 10_000));
    writer.run_once(&mut io::sink());
    // The queue is full once, so that later it needs no further buffers.
    for seq in 0..QUEUE_RECORDS as u64 {
        let info = allocation_counter::measure(|| log(&queue, seq));
        assert_eq!(info.count_total, 0, "record {seq}");
    }
}
