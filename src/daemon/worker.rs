//! Runs a thread's work, and starts it again after a panic, so that no camera is left without its
//! threads.

use super::MainEvent;
use crate::metrics::Metrics;
use crate::shutdown::Stop;
use crossbeam_channel::{Receiver, Sender};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A worker that panics is started again after this, so that a panic in a loop does not spin.
pub(super) const PANIC_PAUSE: Duration = Duration::from_secs(1);
/// After this many panics within [`PANIC_PERIOD`] a worker is not started again.
pub(super) const PANICS_MAX: usize = 5;
pub(super) const PANIC_PERIOD: Duration = Duration::from_secs(600);

/// Around a thread's work: a panic is counted and the work begun again, and its end is told.
pub(super) struct Worker {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) events: Sender<MainEvent>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) stop: Arc<Stop>,
    pub(super) pause: Duration,
}

impl Worker {
    /// Once `gate` is opened. Nothing is done when it is dropped instead.
    pub(super) fn run(&self, gate: &Receiver<()>, work: impl FnMut()) {
        if gate.recv().is_ok() {
            self.work(work);
        }
        let _ = self.events.send(MainEvent::Ended(self.id));
    }

    fn work(&self, mut work: impl FnMut()) {
        let mut panics: Vec<Instant> = vec![];
        // A panic leaves the work's own state behind, and `run` of each begins by settling it.
        while catch_unwind(AssertUnwindSafe(&mut work)).is_err() {
            *self.metrics.worker_panics.lock() += 1;
            panics.retain(|panic| panic.elapsed() < PANIC_PERIOD);
            panics.push(Instant::now());
            if panics.len() >= PANICS_MAX {
                let _ = self.events.send(MainEvent::Broken(self.name.clone()));
                break;
            }
            self.stop.sleep(self.pause);
        }
        // What the work holds (a mailbox, a channel) is gone from here on, before the end is told.
    }
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::*;
    use crossbeam_channel::{Receiver, bounded, unbounded};

    fn worker(pause: Duration) -> (Worker, Receiver<MainEvent>, Arc<Metrics>) {
        let (events, heard) = unbounded();
        let metrics = Arc::new(Metrics::default());
        let worker = Worker {
            id: 7,
            name: "read-cam1".into(),
            events,
            metrics: Arc::clone(&metrics),
            stop: Stop::new().unwrap(),
            pause,
        };
        (worker, heard, metrics)
    }

    fn opened() -> Receiver<()> {
        let (open, gate) = bounded(1);
        open.send(()).unwrap();
        gate
    }

    #[test]
    fn a_worker_that_panics_is_counted_and_begun_again() {
        let (worker, heard, metrics) = worker(Duration::ZERO);
        let mut runs = 0;
        worker.run(&opened(), || {
            runs += 1;
            assert!(runs > 2, "a panic on purpose");
        });
        assert_eq!(runs, 3);
        assert_eq!(*metrics.worker_panics.lock(), 2);
        assert!(matches!(heard.try_recv(), Ok(MainEvent::Ended(7))));
    }

    #[test]
    fn a_worker_whose_gate_stays_shut_does_nothing_and_ends() {
        let (worker, heard, _) = worker(Duration::ZERO);
        let (open, gate) = bounded(1);
        drop(open);
        worker.run(&gate, || panic!("it works"));
        assert!(matches!(heard.try_recv(), Ok(MainEvent::Ended(7))));
        assert!(heard.try_recv().is_err());
    }

    #[test]
    fn a_worker_that_panics_again_and_again_is_beyond_repair() {
        let (worker, heard, metrics) = worker(Duration::ZERO);
        worker.run(&opened(), || panic!("a panic on purpose"));
        assert_eq!(*metrics.worker_panics.lock(), PANICS_MAX as u64);
        assert!(matches!(heard.try_recv(), Ok(MainEvent::Broken(name)) if name == "read-cam1"));
        assert!(matches!(heard.try_recv(), Ok(MainEvent::Ended(..))));
        assert_eq!(Outcome::Panicked.exit_code(), 70);
    }
}
