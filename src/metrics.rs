//! What happened to every frame, counted exactly.
//!
//! Each counter has one writer, so counting is a plain load and store, and the reader's counters do
//! not share a cache line with the publisher's. What is *waiting* and *in flight* is not stored but
//! follows from the counts, so that at any moment
//! `captured = published + dropped + in flight + waiting`.

use crossbeam_utils::CachePadded;
use parking_lot::Mutex;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts up. One thread writes, any thread reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`; only the counter's one writer may.
    pub fn add(&self, n: u64) {
        // Not fetch_add: with a single writer no locked instruction is needed. Release, so that
        // whoever reads this count also sees the counts made before it.
        self.0
            .store(self.0.load(Ordering::Relaxed) + n, Ordering::Release);
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// Why FFmpeg was, or has to be, started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// It ended by itself, or could not be started.
    Exited,
    /// It lives but sends no frame any more.
    Stalled,
    /// It lives but never sent a frame.
    NoFirstFrame,
    /// What it sends is not a stream of JPEG parts.
    Corrupt,
}

/// Counters of one camera's reader thread.
#[derive(Debug, Default)]
pub struct ReaderCounters {
    /// Parts that FFmpeg sent, good or not.
    pub captured: Counter,
    /// Displaced in the mailbox by a newer frame.
    pub overwritten: Counter,
    /// Larger than `max_frame_bytes`.
    pub oversize: Counter,
    /// Truncated or otherwise broken.
    pub corrupt: Counter,
    /// See [`Restart::Exited`].
    pub restarts_exited: Counter,
    /// See [`Restart::Stalled`].
    pub restarts_stalled: Counter,
    /// See [`Restart::NoFirstFrame`].
    pub restarts_no_first_frame: Counter,
    /// See [`Restart::Corrupt`].
    pub restarts_corrupt: Counter,
}

impl ReaderCounters {
    /// Counts a restart under its reason.
    pub fn restarted(&self, reason: Restart) {
        match reason {
            Restart::Exited => &self.restarts_exited,
            Restart::Stalled => &self.restarts_stalled,
            Restart::NoFirstFrame => &self.restarts_no_first_frame,
            Restart::Corrupt => &self.restarts_corrupt,
        }
        .increment();
    }
}

/// Counters of one camera's publisher thread.
#[derive(Debug, Default)]
pub struct PublisherCounters {
    /// Taken out of the mailbox.
    pub taken: Counter,
    /// Acked by the broker and not returned.
    pub published: Counter,
    /// Bytes of the published frames.
    pub published_bytes: Counter,
    /// Older than `max_age` when its turn came.
    pub too_old: Counter,
    /// Refused by the broker.
    pub nacked: Counter,
    /// Reached no queue (`amqp.mandatory`).
    pub returned: Counter,
    /// The connection died before the broker answered.
    pub unknown: Counter,
    /// Still waiting when the program stopped.
    pub shutdown: Counter,
    /// Published, but slower than `amqp.slow_publish`.
    pub slow: Counter,
}

impl PublisherCounters {
    /// Frames that left the mailbox and whose fate is known.
    fn settled(&self) -> u64 {
        [
            &self.published,
            &self.too_old,
            &self.nacked,
            &self.returned,
            &self.unknown,
            &self.shutdown,
        ]
        .iter()
        .map(|counter| counter.get())
        .sum()
    }

    /// Frames that left the mailbox and whose fate is open.
    pub fn in_flight(&self) -> u64 {
        let settled = self.settled();
        self.taken.get().saturating_sub(settled)
    }
}

/// All counters of one camera.
#[derive(Debug, Default)]
pub struct CameraMetrics {
    /// Written by the reader thread.
    pub reader: CachePadded<ReaderCounters>,
    /// Written by the publisher thread.
    pub publisher: CachePadded<PublisherCounters>,
}

/// How often a snapshot is taken again because a frame moved meanwhile. At 60 frames/s the first try
/// nearly always holds; the bound is for an unpaced benchmark.
const SNAPSHOT_TRIES: u32 = 100;

impl CameraMetrics {
    /// One consistent picture of the counts.
    pub fn snapshot(&self) -> Account {
        let mut account = self.read();
        for _ in 0..SNAPSHOT_TRIES {
            let again = self.read();
            if again == account {
                break;
            }
            account = again;
        }
        account
    }

    fn read(&self) -> Account {
        let (reader, publisher) = (&self.reader, &self.publisher);
        // Against the frame's way: what is read later can only be ahead, never behind, so neither
        // difference can be negative.
        let late = Dropped {
            too_old: publisher.too_old.get(),
            nacked: publisher.nacked.get(),
            returned: publisher.returned.get(),
            unknown: publisher.unknown.get(),
            shutdown: publisher.shutdown.get(),
            ..Dropped::default()
        };
        let published = publisher.published.get();
        let bytes = publisher.published_bytes.get();
        let settled = published + late.total();
        let taken = publisher.taken.get();
        let dropped = Dropped {
            overwritten: reader.overwritten.get(),
            oversize: reader.oversize.get(),
            corrupt: reader.corrupt.get(),
            ..late
        };
        let captured = reader.captured.get();
        Account {
            captured,
            published,
            in_flight: taken.saturating_sub(settled),
            waiting: captured
                .saturating_sub(dropped.overwritten + dropped.oversize + dropped.corrupt + taken),
            dropped,
            bytes,
            slow: publisher.slow.get(),
            restarts: Restarts {
                exited: reader.restarts_exited.get(),
                stalled: reader.restarts_stalled.get(),
                no_first_frame: reader.restarts_no_first_frame.get(),
                corrupt: reader.restarts_corrupt.get(),
                ..Restarts::default()
            },
        }
    }
}

/// The books of one camera, or of all.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Account {
    /// Frames that FFmpeg sent.
    pub captured: u64,
    /// Acked by the broker and not returned.
    pub published: u64,
    /// Dropped, by reason.
    pub dropped: Dropped,
    /// In the publisher's hands or unconfirmed.
    pub in_flight: u64,
    /// In the mailbox.
    pub waiting: u64,
    /// Bytes of the published frames.
    pub bytes: u64,
    /// Published, but slower than `amqp.slow_publish`.
    pub slow: u64,
    /// Restarts of FFmpeg, by reason.
    pub restarts: Restarts,
}

/// Dropped frames by reason.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
#[allow(
    missing_docs,
    reason = "the fields are the reasons of the public contract"
)]
pub struct Dropped {
    pub overwritten: u64,
    pub too_old: u64,
    pub throttled: u64,
    pub oversize: u64,
    pub corrupt: u64,
    pub nacked: u64,
    pub returned: u64,
    pub unknown: u64,
    pub shutdown: u64,
}

/// Restarts by reason.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
#[allow(
    missing_docs,
    reason = "the fields are the reasons of the public contract"
)]
pub struct Restarts {
    pub exited: u64,
    pub stalled: u64,
    pub no_first_frame: u64,
    pub corrupt: u64,
    pub memory: u64,
    pub config: u64,
}

impl Dropped {
    /// Reason and count, in the order of the public contract.
    pub fn by_reason(&self) -> [(&'static str, u64); 9] {
        [
            ("overwritten", self.overwritten),
            ("too_old", self.too_old),
            ("throttled", self.throttled),
            ("oversize", self.oversize),
            ("corrupt", self.corrupt),
            ("nacked", self.nacked),
            ("returned", self.returned),
            ("unknown", self.unknown),
            ("shutdown", self.shutdown),
        ]
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.by_reason().iter().map(|(_, count)| count).sum()
    }
}

impl Restarts {
    /// Reason and count, in the order of the public contract.
    pub fn by_reason(&self) -> [(&'static str, u64); 6] {
        [
            ("exited", self.exited),
            ("stalled", self.stalled),
            ("no_first_frame", self.no_first_frame),
            ("corrupt", self.corrupt),
            ("memory", self.memory),
            ("config", self.config),
        ]
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.by_reason().iter().map(|(_, count)| count).sum()
    }
}

impl std::ops::AddAssign<&Account> for Account {
    fn add_assign(&mut self, other: &Account) {
        self.captured += other.captured;
        self.published += other.published;
        self.in_flight += other.in_flight;
        self.waiting += other.waiting;
        self.bytes += other.bytes;
        self.slow += other.slow;
        let (a, b) = (&mut self.dropped, &other.dropped);
        a.overwritten += b.overwritten;
        a.too_old += b.too_old;
        a.throttled += b.throttled;
        a.oversize += b.oversize;
        a.corrupt += b.corrupt;
        a.nacked += b.nacked;
        a.returned += b.returned;
        a.unknown += b.unknown;
        a.shutdown += b.shutdown;
        let (a, b) = (&mut self.restarts, &other.restarts);
        a.exited += b.exited;
        a.stalled += b.stalled;
        a.no_first_frame += b.no_first_frame;
        a.corrupt += b.corrupt;
        a.memory += b.memory;
        a.config += b.config;
    }
}

/// The counters of the whole program.
#[derive(Debug, Default)]
pub struct Metrics {
    /// By camera, those of one connection after those of another.
    pub cameras: Vec<(Arc<str>, Arc<CameraMetrics>)>,
    /// Worker threads that panicked and were started again. Rare, so a lock does.
    pub worker_panics: Mutex<u64>,
}

impl Metrics {
    /// Settles what is open once every thread has ended, so that nobody else writes: a frame that
    /// still waits, and those of a publisher that did not come to settling them itself.
    pub fn close_books(&self) {
        for (_, camera) in &self.cameras {
            let books = &camera.publisher;
            let account = camera.snapshot();
            books.unknown.add(account.in_flight);
            books.taken.add(account.waiting);
            books.shutdown.add(account.waiting);
        }
    }

    /// The books of each camera, and of all.
    pub fn accounts(&self) -> (Vec<(Arc<str>, Account)>, Account) {
        let cameras: Vec<_> = self
            .cameras
            .iter()
            .map(|(id, metrics)| (Arc::clone(id), metrics.snapshot()))
            .collect();
        let mut total = Account::default();
        for (_, account) in &cameras {
            total += account;
        }
        (cameras, total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_and_flies_follows_from_the_counts() {
        let metrics = CameraMetrics::default();
        metrics.reader.captured.add(10);
        metrics.reader.overwritten.add(2);
        metrics.reader.corrupt.add(1);
        metrics.publisher.taken.add(6);
        metrics.publisher.published.add(3);
        metrics.publisher.nacked.add(1);
        let account = metrics.snapshot();
        assert_eq!((account.waiting, account.in_flight), (1, 2));
        assert_eq!(
            account.captured,
            account.published + account.dropped.total() + account.in_flight + account.waiting
        );
    }

    #[test]
    fn closing_the_books_leaves_nothing_open() {
        let camera = Arc::new(CameraMetrics::default());
        camera.reader.captured.add(5);
        camera.publisher.taken.add(3);
        camera.publisher.published.add(1);
        let metrics = Metrics {
            cameras: vec![("cam".into(), camera)],
            ..Metrics::default()
        };
        metrics.close_books();
        let (_, total) = metrics.accounts();
        assert_eq!((total.in_flight, total.waiting), (0, 0));
        assert_eq!((total.dropped.unknown, total.dropped.shutdown), (2, 2));
    }

    #[test]
    fn a_snapshot_taken_while_frames_move_is_never_off() {
        const FRAMES: u64 = 200_000;
        let metrics = CameraMetrics::default();
        let (tx, rx) = crossbeam_channel::bounded(1);
        std::thread::scope(|scope| {
            let metrics = &metrics;
            scope.spawn(move || {
                for _ in 0..FRAMES {
                    metrics.reader.captured.increment();
                    let _ = tx.send(());
                }
            });
            scope.spawn(move || {
                for () in rx {
                    metrics.publisher.taken.increment();
                    metrics.publisher.published.increment();
                }
            });
            loop {
                let a = metrics.read();
                // Read in the wrong order, a difference would be negative, and cut off at 0.
                let sum = a.published + a.dropped.total() + a.in_flight + a.waiting;
                assert_eq!(a.captured, sum, "{a:?}");
                if a.published == FRAMES {
                    break;
                }
            }
        });
        let end = metrics.snapshot();
        assert_eq!((end.captured, end.waiting, end.in_flight), (FRAMES, 0, 0));
    }
}
