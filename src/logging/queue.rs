//! The log's queue: records that wait for stderr, and their buffers, which are used again.

use super::format::Format;
use super::limit::{FOREIGN_BYTES, Limit, is_foreign};
use crate::clock::{Utc, unix_us};
use crate::redact;
use crossbeam_channel::{Receiver, RecvError, Sender, bounded};
use log::{Level, Record, kv};
use std::fmt::{self, Write as _};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Records that may wait for stderr: a burst of some lines from each of 200 cameras. 64 bytes each,
/// and the buffers of as many as ever waited at once.
pub const QUEUE_RECORDS: usize = 1024;

/// A buffer that has grown beyond this is not kept, or one flood of long records would hold its
/// memory forever. Only the final report and long lists of complaints are longer.
const BUFFER_BYTES: usize = 4096;

/// A new buffer's size: most records need no more.
const BUFFER_BYTES_AT_FIRST: usize = 256;

/// What was logged, in one buffer: target, camera and message, one after the other.
#[derive(Debug)]
pub struct Entry {
    pub(super) at: Utc,
    pub(super) level: Level,
    text: String,
    camera_from: usize,
    message_from: usize,
}

impl Entry {
    pub(super) fn new(
        mut text: String,
        level: Level,
        target: &str,
        camera: Option<kv::Value<'_>>,
        message: fmt::Arguments<'_>,
    ) -> Self {
        text.clear();
        text.push_str(target);
        let camera_from = text.len();
        // Writing into a string fails only if what is written says so itself; then it is cut there.
        if let Some(camera) = camera {
            let _ = write!(text, "{camera}");
        }
        let message_from = text.len();
        let _ = text.write_fmt(message);
        Self {
            at: Utc(unix_us()),
            level,
            text,
            camera_from,
            message_from,
        }
    }

    pub(super) fn target(&self) -> &str {
        self.text.get(..self.camera_from).unwrap_or_default()
    }

    /// `None` for what is of no camera.
    pub(super) fn camera(&self) -> Option<&str> {
        let camera = self.text.get(self.camera_from..self.message_from);
        camera.filter(|id| !id.is_empty())
    }

    /// Who logged it: the target, and the camera that it is of.
    pub(super) fn origin(&self) -> &str {
        self.text.get(..self.message_from).unwrap_or_default()
    }

    fn message(&self) -> &str {
        self.text.get(self.message_from..).unwrap_or_default()
    }
}

enum Item {
    Entry(Entry),
    Flush(Sender<()>),
}

/// Where records are put. A clone is the same queue.
#[derive(Debug, Clone)]
pub struct Queue {
    items: Sender<Item>,
    free: Receiver<String>,
    dropped: Arc<AtomicU64>,
}

/// Where they come out.
#[derive(Debug)]
pub struct Writer {
    items: Receiver<Item>,
    free: Sender<String>,
    dropped: Arc<AtomicU64>,
    format: Format,
    line: Vec<u8>,
    limit: Limit,
    /// How many of the dropped records the log has reported.
    told: u64,
    /// Records written since there is something to tell.
    since: usize,
    /// The last write failed, maybe within a line.
    torn: bool,
}

/// A queue that keeps at most `kept` buffers for use again: [`QUEUE_RECORDS`], or 0 to see what
/// that is good for.
pub fn queue(format: Format, kept: usize) -> (Queue, Writer) {
    let (items, waiting) = bounded(QUEUE_RECORDS);
    let (give_back, free) = bounded(kept);
    let dropped = Arc::default();
    let writer = Writer {
        items: waiting,
        free: give_back,
        dropped: Arc::clone(&dropped),
        format,
        line: Vec::new(),
        limit: Limit::new(),
        told: 0,
        since: 0,
        torn: false,
    };
    let queue = Queue {
        items,
        free,
        dropped,
    };
    (queue, writer)
}

impl Queue {
    /// Takes a record in, or drops and counts it when the queue is full. Never waits; allocates
    /// only while more records wait than ever before, or for one longer than those before.
    pub fn put(&self, record: &Record<'_>) {
        // Looked at first, so that a record that will be dropped costs nothing.
        if self.items.is_full() {
            return self.drop_one();
        }
        let buffer = self.free.try_recv();
        let entry = Entry::new(
            buffer.unwrap_or_else(|_| String::with_capacity(BUFFER_BYTES_AT_FIRST)),
            record.level(),
            record.target(),
            record.key_values().get(kv::Key::from("camera_id")),
            *record.args(),
        );
        if self.items.try_send(Item::Entry(entry)).is_err() {
            self.drop_one();
        }
    }

    fn drop_one(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Records that stderr did not take.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until all that was put in so far is written, but not longer than `timeout`.
    pub fn flush(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let (done, flushed) = bounded(1);
        if self
            .items
            .send_deadline(Item::Flush(done), deadline)
            .is_ok()
        {
            let _ = flushed.recv_deadline(deadline);
        }
    }
}

impl Writer {
    /// Writes until every [`Queue`] is gone.
    pub fn run(&mut self, out: &mut dyn Write) {
        loop {
            match self.items.recv() {
                Ok(item) => self.handle(item, out),
                Err(RecvError) => return,
            }
        }
    }

    /// Writes what waits.
    pub fn run_once(&mut self, out: &mut dyn Write) {
        while let Ok(item) = self.items.try_recv() {
            self.handle(item, out);
        }
    }

    fn handle(&mut self, item: Item, out: &mut dyn Write) {
        match item {
            Item::Entry(entry) => {
                if !self.write(&entry, out) {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                }
                if entry.text.capacity() <= BUFFER_BYTES {
                    let _ = self.free.try_send(entry.text);
                }
                // What waits was logged before the drop, so it comes first. In a flood without end
                // that is when as many were written as the queue holds.
                self.since += usize::from(self.untold() > 0);
                if self.items.is_empty() || self.since >= QUEUE_RECORDS {
                    self.tell(out);
                }
            }
            Item::Flush(done) => {
                self.tell(out);
                let _ = done.send(());
            }
        }
    }

    fn untold(&self) -> u64 {
        let dropped = self.dropped.load(Ordering::Relaxed);
        dropped.saturating_sub(self.told)
    }

    /// Says how many records are missing, if any are.
    fn tell(&mut self, out: &mut dyn Write) {
        let missing = self.untold();
        if missing == 0 {
            return;
        }
        let entry = Entry::new(
            String::new(),
            Level::Warn,
            "edge_video::logging",
            None,
            format_args!("{missing} log records dropped: stderr was not read"),
        );
        if self.write(&entry, out) {
            self.told += missing;
            self.since = 0;
        }
    }

    /// Whether `out` took all of it, or it is kept back because the same was written lately.
    fn write(&mut self, entry: &Entry, out: &mut dyn Write) -> bool {
        let message = entry.message();
        let end = match is_foreign(entry.target()) {
            true => message.floor_char_boundary(FOREIGN_BYTES),
            false => message.len(),
        };
        let mut message = redact::clean(message.get(..end).unwrap_or_default());
        match self.limit.say(entry, &message, Instant::now()) {
            None => return true,
            Some(again) if again.is_empty() => {}
            Some(again) => message.to_mut().push_str(&again),
        }
        self.line.clear();
        if self.torn {
            self.line.push(b'\n');
        }
        let written = self
            .format
            .write(entry, &message, &mut self.line)
            .and_then(|()| out.write_all(&self.line));
        self.torn = written.is_err();
        !self.torn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn put(queue: &Queue, message: fmt::Arguments<'_>) {
        queue.put(
            &Record::builder()
                .level(Level::Info)
                .target("edge_video::x")
                .args(message)
                .build(),
        );
    }

    fn lines(out: &[u8]) -> Vec<&str> {
        std::str::from_utf8(out).unwrap().lines().collect()
    }

    /// Takes nothing while `full`, then only some bytes.
    #[derive(Default)]
    struct Disk {
        full: bool,
        bytes: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            if self.full {
                // As a disk that has room for a part of it.
                if self.bytes.last() != Some(&b'~') {
                    self.bytes.push(b'~');
                    return Ok(1);
                }
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.bytes.extend(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_queue_drops_and_counts_and_never_waits() {
        let (queue, mut writer) = queue(Format::Journal, QUEUE_RECORDS);
        for n in 0..QUEUE_RECORDS + 43 {
            put(&queue, format_args!("{n}"));
        }
        assert_eq!(queue.dropped(), 43);
        let mut out = Vec::new();
        writer.run_once(&mut out);
        put(&queue, format_args!("more"));
        writer.run_once(&mut out);
        let lines = lines(&out);
        assert_eq!(lines.len(), QUEUE_RECORDS + 2);
        assert_eq!(
            lines[QUEUE_RECORDS - 1..],
            [
                "<6>INFO  1023",
                "<4>WARN  43 log records dropped: stderr was not read",
                "<6>INFO  more"
            ],
            "said once, in its place"
        );
    }

    #[test]
    fn in_a_flood_without_end_the_missing_are_told_of_all_the_same() {
        let (queue, mut writer) = queue(Format::Journal, QUEUE_RECORDS);
        let (mut out, mut put_in) = (Vec::new(), 0);
        for _ in 0..3 * QUEUE_RECORDS {
            while !queue.items.is_full() {
                put(&queue, format_args!("x"));
                put_in += 1;
            }
            put(&queue, format_args!("x"));
            put_in += 1;
            let item = writer.items.try_recv().unwrap();
            writer.handle(item, &mut out);
        }
        assert!(!queue.items.is_empty());
        let told = |out: &[u8]| {
            lines(out)
                .iter()
                .filter(|line| line.contains("WARN"))
                .count()
        };
        assert_eq!(told(&out), 3);
        writer.run_once(&mut out);
        let written = lines(&out).len() - told(&out);
        assert_eq!(written as u64 + queue.dropped(), put_in);
    }

    #[test]
    fn a_record_that_a_full_disk_did_not_take_is_counted_and_tears_no_other() {
        let (queue, mut writer) = queue(Format::Journal, QUEUE_RECORDS);
        let mut disk = Disk::default();
        put(&queue, format_args!("a"));
        writer.run_once(&mut disk);
        disk.full = true;
        put(&queue, format_args!("b"));
        put(&queue, format_args!("c"));
        writer.run_once(&mut disk);
        assert_eq!(queue.dropped(), 2);
        disk.full = false;
        put(&queue, format_args!("d"));
        writer.run_once(&mut disk);
        assert_eq!(
            lines(&disk.bytes),
            [
                "<6>INFO  a",
                "~",
                "<6>INFO  d",
                "<4>WARN  2 log records dropped: stderr was not read"
            ]
        );
    }

    #[test]
    fn a_flush_says_what_is_missing_and_ends_in_time_when_nobody_writes() {
        let (queue, mut writer) = queue(Format::Journal, QUEUE_RECORDS);
        queue.flush(Duration::ZERO);
        writer.dropped.store(7, Ordering::Relaxed);
        let mut out = Vec::new();
        writer.run_once(&mut out);
        assert_eq!(
            lines(&out),
            ["<4>WARN  7 log records dropped: stderr was not read"]
        );
        for _ in 0..QUEUE_RECORDS {
            put(&queue, format_args!("x"));
        }
        queue.flush(Duration::ZERO);
    }

    #[test]
    fn a_long_record_is_written_whole_and_its_buffer_not_kept() {
        let (queue, mut writer) = queue(Format::Journal, QUEUE_RECORDS);
        let long = "x".repeat(100_000);
        put(&queue, format_args!("{long}"));
        let mut out = Vec::new();
        writer.run_once(&mut out);
        assert_eq!(lines(&out), [format!("<6>INFO  {long}")]);
        assert!(queue.free.is_empty());
        put(&queue, format_args!("short"));
        writer.run_once(&mut out);
        assert_eq!(queue.free.len(), 1);
    }
}
