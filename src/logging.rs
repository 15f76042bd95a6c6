//! The log: `env_logger` decides and formats, one thread writes.
//!
//! A capture or publisher thread hands its line to a bounded queue and goes on; when stderr is
//! blocked and the queue is full the line is dropped and counted, and the count is said once the
//! queue moves again. Secrets are taken out here, of every line, whoever wrote it.

use crate::config::{self, LogFormat};
use crate::redact;
use crossbeam_channel::{Receiver, Sender, bounded};
use env_logger::{Builder, Target};
use log::{Level, Log, Metadata, Record, kv};
use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Lines that may wait for stderr: a burst of some lines from each of 200 cameras. About 150 KB.
const QUEUE_LINES: usize = 1024;

/// How long the end of the program waits for stderr to take the last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

static DROPPED: AtomicU64 = AtomicU64::new(0);
static QUEUE: OnceLock<Sender<Item>> = OnceLock::new();

enum Item {
    Line(Vec<u8>),
    Flush(Sender<()>),
}

/// Log lines that were dropped because stderr did not take them.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Starts the log. `RUST_LOG` wins over the configured level.
///
/// # Errors
/// When the writing thread cannot be started.
pub fn start(config: &config::Log) -> io::Result<()> {
    let (queue, lines) = bounded(QUEUE_LINES);
    let gap = match config.format {
        LogFormat::Text => gap_as_text,
        LogFormat::Json => gap_as_json,
    };
    std::thread::Builder::new()
        .name("log".into())
        .stack_size(128 * 1024)
        .spawn(move || write_lines(&lines, gap, &mut io::stderr().lock()))?;
    let mut builder = Builder::new();
    match std::env::var("RUST_LOG") {
        Ok(filters) => builder.parse_filters(&filters),
        Err(_) => builder.filter_level(config.level),
    };
    match config.format {
        LogFormat::Text if under_journald() => builder.format(text_without_time),
        LogFormat::Text => builder.format(text),
        LogFormat::Json => builder.format(json),
    };
    let logger = builder
        .target(Target::Pipe(Box::new(Enqueue(queue.clone()))))
        .build();
    let level = logger.filter();
    if log::set_boxed_logger(Box::new(Capped(logger))).is_ok() {
        log::set_max_level(level);
        let _ = QUEUE.set(queue);
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map_or_else(String::new, |at| format!(" at {at}"));
        let thread = std::thread::current();
        log::error!(
            "thread {} panicked{place}: {}",
            thread.name().unwrap_or("without a name"),
            panic.payload_as_str().unwrap_or("no message"),
        );
    }));
    Ok(())
}

/// Lets only the errors of the AMQP client and of the event loop under it through, whatever `RUST_LOG`
/// says: at debug amiquip prints the broker's password in forms that no search finds. (As a filter
/// of `env_logger` this would give way to a longer module path in `RUST_LOG`.) What amiquip warns
/// about we say ourselves, with the camera's name.
struct Capped(env_logger::Logger);

impl Capped {
    fn passes(metadata: &Metadata<'_>) -> bool {
        let origin = metadata.target().split("::").next().unwrap_or_default();
        metadata.level() == Level::Error || !matches!(origin, "amiquip" | "mio" | "mio_extras")
    }
}

impl Log for Capped {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        Self::passes(metadata) && self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if Self::passes(record.metadata()) {
            self.0.log(record);
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}

/// Waits until all that was logged so far is written, for half a second at most.
pub fn flush() {
    if let Some(queue) = QUEUE.get() {
        let (done, flushed) = bounded(1);
        if queue.send_timeout(Item::Flush(done), FLUSH_TIMEOUT).is_ok() {
            let _ = flushed.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

/// systemd sets this when it connects stderr to the journal (systemd.exec(5)).
fn under_journald() -> bool {
    std::env::var_os("JOURNAL_STREAM").is_some()
}

/// `gap` words how many lines are missing.
fn write_lines(lines: &Receiver<Item>, gap: fn(u64) -> String, out: &mut dyn Write) {
    let mut told = 0;
    for item in lines {
        match item {
            // A stderr that is gone leaves nobody to tell.
            Item::Line(line) => drop(out.write_all(&line)),
            Item::Flush(done) => drop(done.send(())),
        }
        let dropped = dropped();
        if dropped > told && lines.is_empty() {
            let _ = writeln!(out, "{}", gap(dropped - told));
            told = dropped;
        }
    }
}

/// What `env_logger` takes for the stream it writes to.
struct Enqueue(Sender<Item>);

impl Write for Enqueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.0.try_send(Item::Line(line.to_owned())).is_err() {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `time LEVEL camera: message`, and outside the program's own modules the target.
fn text(out: &mut env_logger::fmt::Formatter, record: &Record<'_>) -> io::Result<()> {
    let time = out.timestamp_millis();
    write!(out, "{time} ")?;
    text_without_time(out, record)
}

/// The same for journald, which has the time already.
fn text_without_time(out: &mut env_logger::fmt::Formatter, record: &Record<'_>) -> io::Result<()> {
    write!(out, "{:<5} ", record.level())?;
    if let Some(camera) = camera(record) {
        write!(out, "{camera}: ")?;
    } else if record.target() == REPORT || !record.target().starts_with("edge_video") {
        write!(out, "{}: ", record.target())?;
    }
    writeln!(out, "{}", OneLine(&message(record)))
}

/// What a record says, without secrets: before a format adds its own words and quotes to it.
fn message(record: &Record<'_>) -> String {
    redact::clean(&record.args().to_string()).into_owned()
}

/// One JSON object a line: `ts` (RFC 3339, UTC), `level`, `target`, `camera_id`, `msg`.
fn json(out: &mut env_logger::fmt::Formatter, record: &Record<'_>) -> io::Result<()> {
    let line = serde_json::json!({
        "ts": out.timestamp_micros().to_string(),
        "level": record.level().as_str().to_ascii_lowercase(),
        "target": record.target(),
        "camera_id": camera(record),
        "msg": message(record),
    });
    writeln!(out, "{line}")
}

fn gap_as_text(lines: u64) -> String {
    format!("WARN  {lines} log lines were dropped: stderr was blocked")
}

fn gap_as_json(lines: u64) -> String {
    let text = format!("{lines} log lines were dropped: stderr was blocked");
    let record = serde_json::json!({"level": "warn", "target": "edge_video::logging", "msg": text});
    record.to_string()
}

/// Target of the final accounting.
pub const REPORT: &str = "edge_video::report";

fn camera(record: &Record<'_>) -> Option<String> {
    record
        .key_values()
        .get(kv::Key::from("camera_id"))
        .map(|id| id.to_string())
}

/// Text with its line breaks shown, so that one record stays one line.
struct OneLine<'a>(&'a str);

impl std::fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (n, line) in self.0.lines().enumerate() {
            if n > 0 {
                f.write_str(" | ")?;
            }
            f.write_str(line)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_several_lines_stays_one_line() {
        assert_eq!(OneLine("a\nb\r\nc").to_string(), "a | b | c");
    }

    #[test]
    fn a_full_queue_drops_and_counts_and_never_waits() {
        let (queue, lines) = bounded(1);
        let mut pipe = Enqueue(queue);
        let before = dropped();
        for _ in 0..3 {
            pipe.write_all(b"x\n").unwrap();
        }
        assert_eq!(dropped() - before, 2);
        drop(pipe);
        let mut out = Vec::new();
        write_lines(&lines, gap_as_text, &mut out);
        let out = String::from_utf8(out).unwrap();
        assert!(out.starts_with("x\nWARN  "), "{out}");
    }
}
