//! The counters of each camera: what happened to every frame, counted exactly. The reader and the
//! publisher increment them. `/metrics` shows them (`http/exposition.rs`).
//!
//! Each counter has one writer, so counting is a plain load and store, and the reader's counters do
//! not share a cache line with the publisher's. What is *waiting* and *in flight* is not stored but
//! follows from the counts, so that at any moment
//! `captured = published + dropped + in flight + waiting`.

mod account;
mod camera;
mod counter;
mod histogram;
mod video;

pub use account::{Account, Dropped, Restarts};
pub use camera::{CameraMetrics, PublisherCounters, ReaderCounters, Restart};
pub use counter::{Counter, Gauge};
pub use histogram::{BUCKETS, Distribution, Histogram, LATENCY_BOUNDS, SIZE_BOUNDS};
pub use video::{OTHER_CODEC, UnitCounters, UnitsDropped, VideoAccount, VideoMetrics};

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The atomics that the counters are made of. In one place, because `races/in_flight.rs` compiles
/// the same source with a model of them.
mod sync {
    pub(super) use std::sync::atomic::AtomicU64;
}

/// Counters of the events about cameras.
#[derive(Debug, Default)]
pub struct EventCounters {
    /// Acked by the broker. Written by the events thread.
    pub published: Counter,
    lost: AtomicU64,
}

impl EventCounters {
    /// Counts `n` events that will never be sent, or whose outcome is unknown. Any thread may call
    /// it.
    pub fn lost(&self, n: u64) {
        self.lost.fetch_add(n, Ordering::Relaxed);
    }

    /// How many were lost.
    pub fn lost_in_all(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// The counters of the whole program.
#[derive(Debug, Default)]
pub struct Metrics {
    cameras: Mutex<Vec<(Arc<str>, Arc<CameraMetrics>)>>,
    /// Worker threads that panicked and were started again. Rare, so a lock does.
    pub worker_panics: Mutex<u64>,
    /// Events about cameras.
    pub events: EventCounters,
}

impl Metrics {
    /// The counters of this camera. They go on when it is stopped and started again.
    pub fn camera(&self, id: &Arc<str>) -> Arc<CameraMetrics> {
        let mut cameras = self.cameras.lock();
        if let Some((_, metrics)) = cameras.iter().find(|(known, _)| known == id) {
            return Arc::clone(metrics);
        }
        let metrics = Arc::new(CameraMetrics::default());
        cameras.push((Arc::clone(id), Arc::clone(&metrics)));
        metrics
    }

    /// Settles what is open once every thread has ended.
    pub fn settle(&self) {
        for (_, camera) in &*self.cameras.lock() {
            camera.settle();
        }
    }

    /// The account of the units of each camera that had any, and of all.
    pub fn video_accounts(&self) -> (Vec<(Arc<str>, VideoAccount)>, VideoAccount) {
        let cameras: Vec<_> = self
            .cameras
            .lock()
            .iter()
            .map(|(id, metrics)| (Arc::clone(id), metrics.video_snapshot()))
            .filter(|(_, account)| account.captured > 0)
            .collect();
        let mut total = VideoAccount::default();
        for (_, account) in &cameras {
            total += account;
        }
        (cameras, total)
    }

    /// The account of each camera that was ever run, and of all.
    pub fn accounts(&self) -> (Vec<(Arc<str>, Account)>, Account) {
        let cameras: Vec<_> = self
            .cameras
            .lock()
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
    fn what_is_settled_leaves_nothing_open() {
        let metrics = Metrics::default();
        let camera = metrics.camera(&"cam".into());
        camera.reader.captured.add(5);
        camera.publisher.taken.add(3);
        camera.publisher.published.add(1);
        metrics.settle();
        let (_, total) = metrics.accounts();
        assert_eq!((total.in_flight, total.waiting), (0, 0));
        assert_eq!((total.dropped.unknown, total.dropped.shutdown), (2, 2));
    }
}
