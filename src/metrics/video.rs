//! The counters of a camera's access units (passthrough), and their account.

use super::account::in_words;
use super::{Counter, Gauge, PublisherCounters};
use crossbeam_utils::CachePadded;
use serde::Serialize;

/// The source has no video that can be passed through.
pub const OTHER_CODEC: u64 = 3;

/// Counters of a camera's units that the reader thread writes.
#[derive(Debug, Default)]
pub struct UnitCounters {
    /// Units that FFmpeg sent.
    pub captured: Counter,
    /// Their bytes.
    pub bytes: Counter,
    /// Displaced by a newer group of pictures.
    pub overwritten: Counter,
    /// Larger than what may wait, or no room was left for it.
    pub oversize: Counter,
    /// Packets of it may be missing, or FFmpeg knows that it is damaged.
    pub corrupt: Counter,
    /// What it depends on was dropped before.
    pub no_key: Counter,
    /// Later than `video.max_age` behind the camera. Shown as `too_old`, in one sum with the
    /// publisher's counter.
    pub late: Counter,
    /// Capture of the last unit, by `clock::process_us`; 0 before the first.
    pub last_unit_us: Gauge,
    /// The same in Unix microseconds.
    pub last_unit_unix_us: Gauge,
    /// 1: H.264, 2: H.265, [`OTHER_CODEC`]; 0 before the first unit.
    pub codec: Gauge,
    /// Pixels.
    pub width: Gauge,
    /// Pixels.
    pub height: Gauge,
    /// Length of the last whole group of pictures in the camera's time, µs; 0 before its end.
    pub gop_us: Gauge,
}

/// All counters of a camera's units.
#[derive(Debug, Default)]
pub struct VideoMetrics {
    /// Written by the reader thread.
    pub reader: CachePadded<UnitCounters>,
    /// Written by the publisher of the units, and by its connection's I/O thread.
    pub publisher: CachePadded<PublisherCounters>,
}

impl VideoMetrics {
    pub(super) fn read(&self) -> VideoAccount {
        let (reader, publisher) = (&self.reader, &self.publisher);
        // Against the units' way, as for frames.
        let after = UnitsDropped {
            oversize: publisher.oversize.get(),
            too_old: publisher.too_old.get(),
            no_key: publisher.no_key.get(),
            nacked: publisher.nacked.get(),
            returned: publisher.returned.get(),
            unknown: publisher.unknown.get(),
            shutdown: publisher.shutdown.get(),
            overwritten: 0,
            corrupt: 0,
        };
        let published = publisher.published.get();
        let bytes = publisher.published_bytes.get();
        let settled = published + after.total();
        let taken = publisher.taken.get();
        let before = UnitsDropped {
            overwritten: reader.overwritten.get(),
            oversize: reader.oversize.get(),
            corrupt: reader.corrupt.get(),
            too_old: reader.late.get(),
            no_key: reader.no_key.get(),
            ..UnitsDropped::default()
        };
        let captured = reader.captured.get();
        let mut dropped = before.clone();
        dropped += &after;
        VideoAccount {
            captured,
            published,
            in_flight: taken.saturating_sub(settled),
            waiting: captured.saturating_sub(before.total() + taken),
            dropped,
            bytes,
        }
    }
}

/// The counts of one camera's units, or of all, at one moment.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct VideoAccount {
    /// Units that FFmpeg sent.
    pub captured: u64,
    /// Acked by the broker and not returned.
    pub published: u64,
    /// Dropped, by reason.
    pub dropped: UnitsDropped,
    /// In the publisher's hands or unconfirmed.
    pub in_flight: u64,
    /// In the queue.
    pub waiting: u64,
    /// Bytes of the published units.
    pub bytes: u64,
}

impl VideoAccount {
    /// What came since `earlier`; what is in flight and waiting is of now.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            captured: self.captured.saturating_sub(earlier.captured),
            published: self.published.saturating_sub(earlier.published),
            dropped: self.dropped.since(&earlier.dropped),
            in_flight: self.in_flight,
            waiting: self.waiting,
            bytes: self.bytes.saturating_sub(earlier.bytes),
        }
    }
}

impl VideoAccount {
    /// Without the units that reached no queue, of a camera for which that is no problem.
    pub fn without_returned(&self) -> Self {
        let mut account = self.clone();
        account.captured -= std::mem::take(&mut account.dropped.returned).min(account.captured);
        account
    }
}

/// Dropped units by reason.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
#[allow(
    missing_docs,
    reason = "the fields are the reasons of the public contract"
)]
pub struct UnitsDropped {
    pub overwritten: u64,
    pub oversize: u64,
    pub corrupt: u64,
    pub too_old: u64,
    pub no_key: u64,
    pub nacked: u64,
    pub returned: u64,
    pub unknown: u64,
    pub shutdown: u64,
}

impl UnitsDropped {
    /// Reason and count, in the order of the public contract.
    pub fn by_reason(&self) -> [(&'static str, u64); 9] {
        [
            ("overwritten", self.overwritten),
            ("oversize", self.oversize),
            ("corrupt", self.corrupt),
            ("too_old", self.too_old),
            ("no_key", self.no_key),
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
            oversize: self.oversize.saturating_sub(earlier.oversize),
            corrupt: self.corrupt.saturating_sub(earlier.corrupt),
            too_old: self.too_old.saturating_sub(earlier.too_old),
            no_key: self.no_key.saturating_sub(earlier.no_key),
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

impl std::ops::AddAssign<&VideoAccount> for VideoAccount {
    fn add_assign(&mut self, other: &VideoAccount) {
        self.captured += other.captured;
        self.published += other.published;
        self.in_flight += other.in_flight;
        self.waiting += other.waiting;
        self.bytes += other.bytes;
        self.dropped += &other.dropped;
    }
}

impl std::ops::AddAssign<&UnitsDropped> for UnitsDropped {
    fn add_assign(&mut self, other: &UnitsDropped) {
        self.overwritten += other.overwritten;
        self.oversize += other.oversize;
        self.corrupt += other.corrupt;
        self.too_old += other.too_old;
        self.no_key += other.no_key;
        self.nacked += other.nacked;
        self.returned += other.returned;
        self.unknown += other.unknown;
        self.shutdown += other.shutdown;
    }
}
