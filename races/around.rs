//! What surrounds the accounting, as much as it uses of it: models of the rooms that it knows.

use crate::CameraMetrics;
use crate::mailbox::mailbox;
use crate::pool::Pool;
use crate::source::Source;
use crate::sync::{Mutex, Parker, Unparker};
use std::sync::Arc;
use std::time::Duration;

/// A publisher, by its parts that the accounting is made from.
pub(super) struct Publisher {
    pub(super) camera: Arc<config::Camera>,
    pub(super) amqp: Arc<config::Amqp>,
    pub(super) source: Source,
    pub(super) route: Route,
    pub(super) metrics: Arc<CameraMetrics>,
    pub(super) connection: Connection,
    pub(super) share: Arc<amqp::Share>,
    pub(super) parker: Parker,
    pub(super) notices: Option<notice::Notices>,
    pub(super) idleness: Option<Arc<idle::Idleness>>,
    pub(super) pool: Pool,
}

impl Publisher {
    /// Of frames, with that many unconfirmed at most.
    pub(super) fn new(window: usize) -> Self {
        let parker = Parker::new();
        let (_, frames) = mailbox(parker.unparker().clone());
        Self::of(Source::Frames(frames), window, parker, Arc::default())
    }

    pub(super) fn of(
        source: Source,
        window: usize,
        parker: Parker,
        metrics: Arc<CameraMetrics>,
    ) -> Self {
        Self {
            camera: Arc::new(config::Camera { id: "door".into() }),
            amqp: Arc::new(config::Amqp {
                max_in_flight: config::MaxInFlight::Fixed(window),
                slow_publish: Duration::MAX,
            }),
            source,
            route: Route {
                fps: 15,
                max_age: Duration::MAX,
            },
            metrics,
            connection: Connection(Arc::default()),
            share: Arc::default(),
            parker,
            notices: None,
            idleness: None,
            pool: Pool::new(),
        }
    }
}

pub(super) struct Route {
    pub(super) fps: u32,
    pub(super) max_age: Duration,
}

pub(super) struct Connection(Arc<amqp::WaitSlot>);

impl Connection {
    pub(super) fn wait_slot(&self) -> &Arc<amqp::WaitSlot> {
        &self.0
    }
}

/// The far side of a channel: how many messages it got.
pub(super) struct Broker {
    wire: Mutex<Wire>,
    waker: Unparker,
    reader: Parker,
}

struct Wire {
    messages: u64,
    cut: bool,
}

impl Broker {
    pub(super) fn new() -> Self {
        let reader = Parker::new();
        Self {
            waker: reader.unparker().clone(),
            reader,
            wire: Mutex::new(Wire {
                messages: 0,
                cut: false,
            }),
        }
    }

    /// One more message is sent.
    pub(super) fn gets(&self) {
        self.wire.lock().messages += 1;
        self.waker.unpark();
    }

    /// No further one will be. What was sent may still be answered.
    pub(super) fn cut(&self) {
        self.wire.lock().cut = true;
        self.waker.unpark();
    }

    /// Waits for the message of that tag; `false` if it will not be sent.
    pub(super) fn receives(&self, tag: u64) -> bool {
        loop {
            let wire = self.wire.lock();
            if wire.messages >= tag || wire.cut {
                return wire.messages >= tag;
            }
            drop(wire);
            self.reader.park();
        }
    }
}

pub(super) mod amqp {
    pub(crate) use crate::unconfirmed::Unconfirmed;
    use std::sync::{Arc, Mutex};
    use std::time::Instant;

    pub(crate) struct Confirm {
        pub(crate) tag: u64,
        pub(crate) multiple: bool,
        pub(crate) acked: bool,
    }

    pub(crate) trait Listener {
        fn confirmed(&self, confirm: Confirm);
        fn returned(&self, message_id: &str);
        fn ended(&self);
    }

    #[derive(Debug)]
    pub(crate) enum Rank {
        InFlight,
    }

    #[derive(Debug)]
    pub(crate) struct Ordered<T>(crate::sync::Mutex<T>);

    impl<T> Ordered<T> {
        pub(crate) fn new(Rank::InFlight: Rank, value: T) -> Self {
            Self(crate::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock()
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct AnswerWaiters;

    #[derive(Debug)]
    pub(crate) struct AnswerWaiter;

    impl AnswerWaiters {
        pub(crate) fn wait(self: &Arc<Self>) -> AnswerWaiter {
            AnswerWaiter
        }
    }

    /// The tickets whose outcome the budget was told. Never waited for, so not a model.
    #[derive(Debug, Default)]
    pub(crate) struct Share(Mutex<Vec<u64>>);

    impl Share {
        pub(crate) fn forget(&self, ticket: u64) {
            self.0.lock().unwrap().push(ticket);
        }

        pub(crate) fn channel_ended(&self, tickets: impl Iterator<Item = u64>, _: Instant) {
            tickets.for_each(|ticket| self.forget(ticket));
        }

        pub(crate) fn confirmed(&self, ticket: u64, _: Instant) {
            self.forget(ticket);
        }

        /// In order.
        pub(crate) fn told(&self) -> Vec<u64> {
            let mut tickets = self.0.lock().unwrap().clone();
            tickets.sort_unstable();
            tickets
        }
    }

    /// Only written.
    #[derive(Debug, Default)]
    pub(crate) struct WaitSlot;

    impl WaitSlot {
        pub(crate) fn progress(&self, _: Instant) {}

        pub(crate) fn waits_since(&self, _: Option<Instant>) {}
    }
}

pub(super) mod clock {
    use std::time::{Duration, Instant};

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Stamp {
        pub(crate) monotonic: Instant,
        pub(crate) unix_us: i64,
    }

    impl Stamp {
        pub(crate) fn now() -> Self {
            Self {
                monotonic: Instant::now(),
                unix_us: 0,
            }
        }

        pub(crate) fn age(&self, _: Instant) -> Duration {
            Duration::ZERO
        }
    }

    pub(crate) fn process_us(_: Instant) -> u64 {
        1
    }
}

pub(super) mod config {
    use std::sync::Arc;
    use std::time::Duration;

    #[derive(Debug)]
    pub(crate) struct Camera {
        pub(crate) id: Arc<str>,
    }

    #[derive(Debug)]
    pub(crate) struct Amqp {
        pub(crate) max_in_flight: MaxInFlight,
        pub(crate) slow_publish: Duration,
    }

    #[derive(Debug, Clone, Copy)]
    pub(crate) enum MaxInFlight {
        Auto,
        Fixed(usize),
    }
}

pub(super) mod handoff {
    pub(crate) use crate::{gops, mailbox, pool};
}

/// Histograms without counts: which bucket counts depends on the real clock, and a model must run
/// the same way each time.
pub(super) mod histogram {
    use std::time::Duration;

    pub(crate) const LATENCY_BOUNDS: () = ();
    pub(crate) const SIZE_BOUNDS: () = ();

    #[derive(Debug)]
    pub(crate) struct Histogram;

    impl Histogram {
        pub(crate) fn new((): &()) -> Self {
            Self
        }

        pub(crate) fn observe_duration(&self, _: Duration) {}
    }
}

pub(super) mod metrics {
    pub(crate) use crate::camera::{CameraMetrics, PublisherCounters};
}

/// No camera becomes idle.
pub(super) mod idle {
    use std::time::Instant;

    #[derive(Debug)]
    pub(crate) enum Idleness {}

    #[derive(Debug, Clone, Copy)]
    pub(crate) enum Stream {
        Frames,
        Units,
    }

    impl Idleness {
        pub(crate) fn taken(&self, _: Stream) {
            match *self {}
        }

        pub(crate) fn returned(&self, _: Stream, _: Instant) {
            match *self {}
        }

        pub(crate) fn lost(&self, _: Stream) {
            match *self {}
        }
    }
}

/// No frame is reported.
pub(super) mod notice {
    use std::sync::Arc;

    #[derive(Debug, Clone)]
    pub(crate) enum Notices {}

    pub(crate) struct Published {
        pub(crate) camera_id: Arc<str>,
        pub(crate) epoch: i64,
        pub(crate) seq: u64,
        pub(crate) captured_unix_us: i64,
        pub(crate) width: u16,
        pub(crate) height: u16,
        pub(crate) bytes: u64,
    }

    impl Notices {
        pub(crate) fn give(&self, _: Published) {
            match *self {}
        }
    }
}
