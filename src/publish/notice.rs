//! Reports of published frames, from the publishers to the events thread.

use crate::metrics::Metrics;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::sync::Arc;

/// At most this many reports wait: those of 68 cameras at 15 frames/s for one second, in 64 KiB.
const WAITING_MAX: usize = 1024;

/// A frame that the broker acked.
#[derive(Debug, Clone)]
pub struct Published {
    /// Shared with the configuration: a copy allocates nothing.
    pub camera_id: Arc<str>,
    /// See [`Frame::epoch`](crate::frame::Frame::epoch).
    pub epoch: i64,
    /// See [`Frame::seq`](crate::frame::Frame::seq).
    pub seq: u64,
    /// Capture, Unix µs.
    pub captured_unix_us: i64,
    /// Pixels.
    pub width: u16,
    /// Pixels.
    pub height: u16,
    /// Size of the JPEG.
    pub bytes: u64,
}

/// A publisher's end of the queue. It never blocks and never allocates: a report that finds no room
/// is counted as lost.
#[derive(Debug, Clone)]
pub struct Notices {
    queue: Sender<Published>,
    metrics: Arc<Metrics>,
}

impl Notices {
    /// The sending end, to be cloned for each publisher, and the receiving end.
    pub fn new(metrics: Arc<Metrics>) -> (Self, Receiver<Published>) {
        let (queue, published) = bounded(WAITING_MAX);
        (Self { queue, metrics }, published)
    }

    /// Reports a frame.
    pub fn give(&self, published: Published) {
        if self.queue.try_send(published).is_err() {
            self.metrics.events.lost(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_counts_and_never_waits() {
        let metrics = Arc::new(Metrics::default());
        let (notices, published) = Notices::new(Arc::clone(&metrics));
        let frame = |seq| Published {
            camera_id: "cam1".into(),
            epoch: 1,
            seq,
            captured_unix_us: 0,
            width: 320,
            height: 240,
            bytes: 20_000,
        };
        let all = WAITING_MAX as u64 + 7;
        (1..=all).for_each(|seq| notices.give(frame(seq)));
        assert_eq!(metrics.events.lost_in_all(), 7);
        let seqs: Vec<_> = published.try_iter().map(|it| it.seq).collect();
        assert!(seqs.into_iter().eq(1..=WAITING_MAX as u64), "the first");
        notices.give(frame(all + 1));
        assert_eq!(published.try_iter().count(), 1);
        drop(published);
        notices.give(frame(all + 2));
        assert_eq!(metrics.events.lost_in_all(), 8, "nobody listens");
    }
}
