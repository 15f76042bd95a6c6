//! The account of one camera, or of all: its counts, read at one moment.

use serde::Serialize;

/// The counts of one camera, or of all, at one moment.
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

impl Account {
    /// What came since `earlier`; what is in flight and waiting is of now.
    pub fn since(&self, earlier: &Self) -> Self {
        let new = |now: u64, before: u64| now.saturating_sub(before);
        let (restarts, before) = (&self.restarts, &earlier.restarts);
        Self {
            captured: new(self.captured, earlier.captured),
            published: new(self.published, earlier.published),
            dropped: self.dropped.since(&earlier.dropped),
            in_flight: self.in_flight,
            waiting: self.waiting,
            bytes: new(self.bytes, earlier.bytes),
            slow: new(self.slow, earlier.slow),
            restarts: Restarts {
                exited: new(restarts.exited, before.exited),
                stalled: new(restarts.stalled, before.stalled),
                no_first_frame: new(restarts.no_first_frame, before.no_first_frame),
                corrupt: new(restarts.corrupt, before.corrupt),
                parameters: new(restarts.parameters, before.parameters),
                memory: new(restarts.memory, before.memory),
                config: new(restarts.config, before.config),
                idle: new(restarts.idle, before.idle),
            },
        }
    }
}

impl Account {
    /// Without the frames that reached no queue, of a camera for which that is no problem.
    pub fn without_returned(&self) -> Self {
        let mut account = self.clone();
        account.captured -= std::mem::take(&mut account.dropped.returned).min(account.captured);
        account
    }
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
    pub parameters: u64,
    pub memory: u64,
    pub config: u64,
    pub idle: u64,
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

    /// What came since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            overwritten: self.overwritten.saturating_sub(earlier.overwritten),
            too_old: self.too_old.saturating_sub(earlier.too_old),
            throttled: self.throttled.saturating_sub(earlier.throttled),
            oversize: self.oversize.saturating_sub(earlier.oversize),
            corrupt: self.corrupt.saturating_sub(earlier.corrupt),
            nacked: self.nacked.saturating_sub(earlier.nacked),
            returned: self.returned.saturating_sub(earlier.returned),
            unknown: self.unknown.saturating_sub(earlier.unknown),
            shutdown: self.shutdown.saturating_sub(earlier.shutdown),
        }
    }

    /// `12 overwritten, 3 too_old`; empty without any.
    pub fn in_words(&self) -> String {
        in_words(&self.by_reason())
    }
}

/// `12 overwritten, 3 too_old`, leaving out what did not happen.
pub(super) fn in_words(counts: &[(&'static str, u64)]) -> String {
    let some: Vec<_> = counts
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    some.join(", ")
}

impl Restarts {
    /// Reason and count, in the order of the public contract.
    pub fn by_reason(&self) -> [(&'static str, u64); 8] {
        [
            ("exited", self.exited),
            ("stalled", self.stalled),
            ("no_first_frame", self.no_first_frame),
            ("corrupt", self.corrupt),
            ("parameters", self.parameters),
            ("memory", self.memory),
            ("config", self.config),
            ("idle", self.idle),
        ]
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.by_reason().iter().map(|(_, count)| count).sum()
    }

    /// Those that show a problem: all but the ones of a camera that became idle, or no longer is.
    pub fn of_problems(&self) -> u64 {
        self.total() - self.idle
    }

    /// `2 stalled, 1 exited`; empty without any.
    pub fn in_words(&self) -> String {
        in_words(&self.by_reason())
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
        self.dropped += &other.dropped;
        let (a, b) = (&mut self.restarts, &other.restarts);
        a.exited += b.exited;
        a.stalled += b.stalled;
        a.no_first_frame += b.no_first_frame;
        a.corrupt += b.corrupt;
        a.parameters += b.parameters;
        a.memory += b.memory;
        a.config += b.config;
        a.idle += b.idle;
    }
}

impl std::ops::AddAssign<&Dropped> for Dropped {
    fn add_assign(&mut self, other: &Dropped) {
        self.overwritten += other.overwritten;
        self.too_old += other.too_old;
        self.throttled += other.throttled;
        self.oversize += other.oversize;
        self.corrupt += other.corrupt;
        self.nacked += other.nacked;
        self.returned += other.returned;
        self.unknown += other.unknown;
        self.shutdown += other.shutdown;
    }
}
