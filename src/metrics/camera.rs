//! The counters of one camera, and their account.

use super::{
    Account, Counter, Dropped, Gauge, Histogram, LATENCY_BOUNDS, Restarts, SIZE_BOUNDS,
    VideoAccount, VideoMetrics,
};
use crossbeam_utils::CachePadded;

/// Why FFmpeg was, or has to be, started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// It ended without being told to, or could not be started.
    Exited,
    /// It lives but sends no frame any more.
    Stalled,
    /// It lives but never sent a frame.
    NoFirstFrame,
    /// What it sends is not a stream of JPEG parts.
    Corrupt,
    /// Its pictures have one size more than FFmpeg has outputs for.
    Parameters,
    /// It was the largest while memory was short.
    Memory,
    /// Its camera's configuration changed.
    Config,
    /// Its camera became idle, or is idle no longer.
    Idle,
}

/// Counters of one camera's reader thread.
#[derive(Debug)]
pub struct ReaderCounters {
    /// Parts that FFmpeg sent, good or not.
    pub captured: Counter,
    /// Displaced in the mailbox by a newer frame.
    pub overwritten: Counter,
    /// Left out while memory is short.
    pub throttled: Counter,
    /// Larger than `max_frame_bytes`.
    pub oversize: Counter,
    /// Truncated or otherwise broken, or made from what FFmpeg knows to be damaged.
    pub corrupt: Counter,
    /// Later than `max_age` behind the camera. Shown as `too_old`, in one sum with the publisher's
    /// counter.
    pub late: Counter,
    /// See [`Restart::Exited`].
    pub restarts_exited: Counter,
    /// See [`Restart::Stalled`].
    pub restarts_stalled: Counter,
    /// See [`Restart::NoFirstFrame`].
    pub restarts_no_first_frame: Counter,
    /// See [`Restart::Corrupt`].
    pub restarts_corrupt: Counter,
    /// See [`Restart::Parameters`].
    pub restarts_parameters: Counter,
    /// See [`Restart::Memory`].
    pub restarts_memory: Counter,
    /// See [`Restart::Config`]. Written by the main thread, while no reader runs.
    pub restarts_config: Counter,
    /// See [`Restart::Idle`].
    pub restarts_idle: Counter,
    /// Bytes of the whole frames.
    pub frame_size: Histogram,
    /// Capture of the last whole frame, Unix microseconds; 0 before the first.
    pub last_frame_unix_us: Gauge,
    /// The same by `clock::process_us`, for its age.
    pub last_frame_us: Gauge,
    /// Epoch of the last session, Unix ms.
    pub epoch: Gauge,
    /// Pixels of the last whole frame.
    pub width: Gauge,
    /// Pixels of the last whole frame.
    pub height: Gauge,
    /// Process id of the running FFmpeg, or 0.
    pub ffmpeg_pid: Gauge,
    /// The circuit breaker: 0 closed, 1 half open, 2 open.
    pub breaker: Gauge,
}

impl Default for ReaderCounters {
    fn default() -> Self {
        Self {
            captured: Counter::default(),
            overwritten: Counter::default(),
            throttled: Counter::default(),
            oversize: Counter::default(),
            corrupt: Counter::default(),
            late: Counter::default(),
            restarts_exited: Counter::default(),
            restarts_stalled: Counter::default(),
            restarts_no_first_frame: Counter::default(),
            restarts_corrupt: Counter::default(),
            restarts_parameters: Counter::default(),
            restarts_memory: Counter::default(),
            restarts_config: Counter::default(),
            restarts_idle: Counter::default(),
            frame_size: Histogram::new(&SIZE_BOUNDS),
            last_frame_unix_us: Gauge::default(),
            last_frame_us: Gauge::default(),
            epoch: Gauge::default(),
            width: Gauge::default(),
            height: Gauge::default(),
            ffmpeg_pid: Gauge::default(),
            breaker: Gauge::default(),
        }
    }
}

impl ReaderCounters {
    /// Counts a restart under its reason.
    pub fn restarted(&self, reason: Restart) {
        match reason {
            Restart::Exited => &self.restarts_exited,
            Restart::Stalled => &self.restarts_stalled,
            Restart::NoFirstFrame => &self.restarts_no_first_frame,
            Restart::Corrupt => &self.restarts_corrupt,
            Restart::Parameters => &self.restarts_parameters,
            Restart::Memory => &self.restarts_memory,
            Restart::Config => &self.restarts_config,
            Restart::Idle => &self.restarts_idle,
        }
        .increment();
    }
}

/// Counters of one camera's publisher: its thread counts what goes out, the connection's I/O thread
/// what the broker answers, under one lock with what is in flight.
#[derive(Debug)]
pub struct PublisherCounters {
    /// Taken out of the mailbox.
    pub taken: Counter,
    /// Acked by the broker and not returned.
    pub published: Counter,
    /// Bytes of the published frames.
    pub published_bytes: Counter,
    /// Older than `max_age` when its turn came.
    pub too_old: Counter,
    /// Larger than the broker takes a message.
    pub oversize: Counter,
    /// A unit, and what it hangs on was dropped before.
    pub no_key: Counter,
    /// Refused by the broker.
    pub nacked: Counter,
    /// Reached no queue (`amqp.mandatory`, `idle.after`).
    pub returned: Counter,
    /// The connection died before the broker answered.
    pub unknown: Counter,
    /// Still waiting when the program stopped.
    pub shutdown: Counter,
    /// Published, but slower than `amqp.slow_publish`.
    pub slow: Counter,
    /// From the capture of a frame until the broker's client took it.
    pub capture_to_publish: Histogram,
    /// From there until the broker acked it.
    pub publish_to_confirm: Histogram,
    /// Both together.
    pub capture_to_confirm: Histogram,
    /// Capture of the last published frame, by `clock::process_us`; 0 before the first.
    pub last_published_us: Gauge,
    /// The same of the last returned one.
    pub last_returned_us: Gauge,
}

impl Default for PublisherCounters {
    fn default() -> Self {
        Self {
            taken: Counter::default(),
            published: Counter::default(),
            published_bytes: Counter::default(),
            too_old: Counter::default(),
            oversize: Counter::default(),
            no_key: Counter::default(),
            nacked: Counter::default(),
            returned: Counter::default(),
            unknown: Counter::default(),
            shutdown: Counter::default(),
            slow: Counter::default(),
            capture_to_publish: Histogram::new(&LATENCY_BOUNDS),
            publish_to_confirm: Histogram::new(&LATENCY_BOUNDS),
            capture_to_confirm: Histogram::new(&LATENCY_BOUNDS),
            last_published_us: Gauge::default(),
            last_returned_us: Gauge::default(),
        }
    }
}

impl PublisherCounters {
    /// Frames that left the mailbox and whose outcome is known.
    fn settled(&self) -> u64 {
        [
            &self.published,
            &self.too_old,
            &self.oversize,
            &self.no_key,
            &self.nacked,
            &self.returned,
            &self.unknown,
            &self.shutdown,
        ]
        .iter()
        .map(|counter| counter.get())
        .sum()
    }

    /// Frames that left the mailbox and whose outcome is not known yet.
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
    /// Written by the publisher thread, and by its connection's.
    pub publisher: CachePadded<PublisherCounters>,
    /// Of the camera's units.
    pub video: VideoMetrics,
}

/// How often a snapshot is taken again because a frame moved meanwhile. At 60 frames/s the first
/// try nearly always holds; the bound is for an unpaced benchmark.
const SNAPSHOT_TRIES: u32 = 100;

/// Reads until nothing has moved meanwhile.
fn steady<T: PartialEq>(read: impl Fn() -> T) -> T {
    let mut account = read();
    for _ in 0..SNAPSHOT_TRIES {
        let again = read();
        if again == account {
            break;
        }
        account = again;
    }
    account
}

impl CameraMetrics {
    /// The counts of the frames, read at one moment.
    pub fn snapshot(&self) -> Account {
        steady(|| self.read())
    }

    /// The counts of the units, read at one moment.
    pub fn video_snapshot(&self) -> VideoAccount {
        steady(|| self.video.read())
    }

    fn read(&self) -> Account {
        let (reader, publisher) = (&self.reader, &self.publisher);
        // Against the frame's way: what is read later can only be ahead, never behind, so neither
        // difference can be negative.
        let after = Dropped {
            too_old: publisher.too_old.get(),
            oversize: publisher.oversize.get(),
            nacked: publisher.nacked.get(),
            returned: publisher.returned.get(),
            unknown: publisher.unknown.get(),
            shutdown: publisher.shutdown.get(),
            ..Dropped::default()
        };
        let published = publisher.published.get();
        let bytes = publisher.published_bytes.get();
        let settled = published + after.total();
        let taken = publisher.taken.get();
        let before = Dropped {
            overwritten: reader.overwritten.get(),
            too_old: reader.late.get(),
            throttled: reader.throttled.get(),
            oversize: reader.oversize.get(),
            corrupt: reader.corrupt.get(),
            ..Dropped::default()
        };
        let captured = reader.captured.get();
        let mut dropped = before.clone();
        dropped += &after;
        Account {
            captured,
            published,
            in_flight: taken.saturating_sub(settled),
            waiting: captured.saturating_sub(before.total() + taken),
            dropped,
            bytes,
            slow: publisher.slow.get(),
            restarts: Restarts {
                exited: reader.restarts_exited.get(),
                stalled: reader.restarts_stalled.get(),
                no_first_frame: reader.restarts_no_first_frame.get(),
                corrupt: reader.restarts_corrupt.get(),
                parameters: reader.restarts_parameters.get(),
                memory: reader.restarts_memory.get(),
                config: reader.restarts_config.get(),
                idle: reader.restarts_idle.get(),
            },
        }
    }

    /// Settles what is open once both threads of the camera have ended, so that no other thread
    /// writes: a frame that still waits, and those of a publisher that did not come to settling
    /// them itself.
    pub fn settle(&self) {
        let account = self.snapshot();
        self.publisher.unknown.add(account.in_flight);
        self.publisher.taken.add(account.waiting);
        self.publisher.shutdown.add(account.waiting);
        let (account, publisher) = (self.video_snapshot(), &self.video.publisher);
        publisher.unknown.add(account.in_flight);
        publisher.taken.add(account.waiting);
        publisher.shutdown.add(account.waiting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_and_flies_follows_from_the_counts() {
        let metrics = CameraMetrics::default();
        metrics.reader.captured.add(11);
        metrics.reader.overwritten.add(1);
        metrics.reader.throttled.add(1);
        metrics.reader.corrupt.add(1);
        metrics.publisher.taken.add(7);
        metrics.publisher.published.add(3);
        metrics.publisher.nacked.add(1);
        metrics.publisher.oversize.add(1);
        let account = metrics.snapshot();
        assert_eq!((account.waiting, account.in_flight), (1, 2));
        assert_eq!(
            account.captured,
            account.published + account.dropped.total() + account.in_flight + account.waiting
        );
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
                // On a busy machine the others would wait for a time slice at each frame.
                std::thread::yield_now();
            }
        });
        let end = metrics.snapshot();
        assert_eq!((end.captured, end.waiting, end.in_flight), (FRAMES, 0, 0));
    }
}
