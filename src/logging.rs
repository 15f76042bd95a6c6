//! The log: `env_filter` decides what is logged, and one thread writes it.
//!
//! A capture or publisher thread puts its record into a bounded queue, in a buffer that was used
//! before, and continues. If stderr is blocked and the queue full, the record is dropped and
//! counted, and the count is logged once the queue moves again. The writing thread holds back
//! repetitions (`limit`), shortens URLs and formats each record.

pub mod format;
mod limit;
pub mod queue;

use crate::config::{self, LogFormat};
use crate::redact;
use env_filter::Filter;
use format::Format;
use log::{Level, Log, Metadata, Record};
use queue::{QUEUE_RECORDS, Queue, queue};
use std::io::{self, Write};
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::time::Duration;

/// How long the end of the program, and of a thread that panics, waits for stderr to take the last
/// lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Of the writing thread, which builds its lines on the heap.
const STACK_BYTES: usize = 128 * 1024;

/// The writing thread's name.
const WRITER: &str = "log";

/// Target of the final accounting.
pub const REPORT: &str = "edge_video::report";

static QUEUE: OnceLock<Queue> = OnceLock::new();

/// Log records that were dropped because stderr did not take them.
pub fn dropped() -> u64 {
    QUEUE.get().map_or(0, Queue::dropped)
}

/// Waits until all that was logged so far is written, for a second at most.
pub fn flush() {
    if let Some(queue) = QUEUE.get() {
        queue.flush(FLUSH_TIMEOUT);
    }
}

/// Starts the log. `RUST_LOG` takes precedence over the configured level.
///
/// # Errors
/// When the writing thread cannot be started.
pub fn start(config: &config::Log) -> io::Result<()> {
    let format = match config.format {
        LogFormat::Text if under_journald() => Format::Journal,
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    let (queue, mut writer) = queue(format, QUEUE_RECORDS);
    std::thread::Builder::new()
        .name(WRITER.into())
        .stack_size(STACK_BYTES)
        .spawn(move || writer.run(&mut io::stderr()))?;
    let mut filter = env_filter::Builder::new();
    match std::env::var("RUST_LOG") {
        Ok(filters) => filter.parse(&filters),
        Err(_) => filter.filter_level(config.level),
    };
    let filter = filter.build();
    let level = filter.filter();
    let logger = Logger {
        filter,
        queue: queue.clone(),
    };
    if log::set_boxed_logger(Box::new(logger)).is_ok() {
        log::set_max_level(level);
        let _ = QUEUE.set(queue);
    }
    std::panic::set_hook(Box::new(say_panic));
    Ok(())
}

fn say_panic(panic: &PanicHookInfo<'_>) {
    let place = panic
        .location()
        .map_or_else(String::new, |at| format!(" at {at}"));
    let what = panic.payload_as_str().unwrap_or("no message");
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("without a name");
    if name == WRITER {
        // No thread writes from here on.
        let what = redact::clean(what);
        let _ = writeln!(
            io::stderr(),
            "the log's writer panicked{place}: {what}; nothing more is \
                                        logged"
        );
        return;
    }
    log::error!("thread {name} panicked{place}: {what}");
    // The panic may be the program's end.
    flush();
}

/// What `log`'s macros call.
struct Logger {
    filter: Filter,
    queue: Queue,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        passes_cap(metadata) && self.filter.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if passes_cap(record.metadata()) && self.filter.matches(record) {
            self.queue.put(record);
        }
    }

    fn flush(&self) {
        self.queue.flush(FLUSH_TIMEOUT);
    }
}

/// Lets only the errors of the AMQP client and of the event loop under it through, whatever
/// `RUST_LOG` says: at debug amiquip prints the broker's password in forms that no search finds.
/// (As a filter of `env_filter` this would give way to a longer module path in `RUST_LOG`.) What
/// amiquip warns about we say ourselves, with the camera's name.
fn passes_cap(metadata: &Metadata<'_>) -> bool {
    let origin = metadata.target().split("::").next().unwrap_or_default();
    metadata.level() == Level::Error || !matches!(origin, "amiquip" | "mio" | "mio_extras")
}

/// Whether stderr is the journal. systemd says which stream that is (systemd.exec(5)); the variable
/// alone is inherited also by who writes elsewhere.
fn under_journald() -> bool {
    let Ok(journal) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    rustix::fs::fstat(io::stderr())
        .is_ok_and(|stderr| journal == format!("{}:{}", stderr.st_dev, stderr.st_ino))
}
