//! From a camera's reader to its video publisher: the access units of the newest group of pictures
//! (GOP) wait in one ring of bytes.
//!
//! What leaves can always be decoded. A decoder starts at a key unit, and each other unit of a GOP
//! needs those before it. So a unit is never dropped alone: what hangs on it goes too, and after a
//! gap the next unit that leaves is a key unit. A key unit displaces what waits before it, if that
//! has waited for long or there is no room.
//!
//! One lock guards the ring, held while a unit is copied in or out. A GOP is reported broken under
//! a lock of its own, so that the thread that reads confirms never waits for a copy.

// With its path, since `races/loom.rs` includes this file from another folder.
#[path = "gops/tests.rs"]
#[cfg(test)]
mod tests;

use super::sync::{Mutex, Unparker};
use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// As many units wait at most, so that units of a few bytes, which `max_bytes` hardly limits, cost
/// a bounded amount of memory too. A camera sends at most 60 units/s, so these are 68 s of video,
/// far above any age at which they are still sent.
const MAX_UNITS: usize = 4096;

/// When a key unit comes and the head has waited for longer than this, the connection cannot keep
/// up, and the key unit displaces all before it. Units that come in one burst stay: a publisher
/// wakes up within a millisecond, and on a busy board within some tens.
const BEHIND: Duration = Duration::from_millis(250);

/// A group of pictures of a camera, in the order of sessions and of the groups in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gop {
    /// Unix milliseconds; of the FFmpeg session.
    pub epoch: i64,
    /// Counts in this epoch from 1. 0: what comes before the first key unit.
    pub number: i64,
}

/// A unit and its place in the stream, without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed<T> {
    /// The GOP that it belongs to.
    pub gop: Gop,
    /// Whether it begins this GOP.
    pub key: bool,
    /// When it was captured. Its age counts from here.
    pub since: Instant,
    /// What else is known of it.
    pub unit: T,
}

/// How many units one call dropped, by reason.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[must_use = "dropped units must be counted"]
pub struct Drops {
    /// A newer GOP came while they waited.
    pub overwritten: u64,
    /// There was no room for them.
    pub oversize: u64,
    /// They hang on a unit that was dropped, here or elsewhere.
    pub no_key: u64,
    /// They waited for too long.
    pub too_old: u64,
}

impl Drops {
    /// For all reasons together.
    pub fn total(&self) -> u64 {
        self.overwritten + self.oversize + self.no_key + self.too_old
    }
}

/// Makes a queue of at most `max_bytes` bytes that gives nothing older than `max_age`. Its receiver
/// is woken by `waker`. It is closed when the sender is dropped.
pub fn gops<T>(
    max_bytes: usize,
    max_age: Duration,
    waker: Unparker,
) -> (GopSender<T>, GopReceiver<T>) {
    let shared = Arc::new(Shared {
        queue: Mutex::new(Queue {
            bytes: VecDeque::new(),
            units: VecDeque::new(),
            open: None,
            release: false,
            closed: false,
        }),
        broken: Mutex::new(None),
    });
    (
        GopSender {
            shared: Arc::clone(&shared),
            max_bytes,
            waker,
        },
        GopReceiver { shared, max_age },
    )
}

#[derive(Debug)]
struct Shared<T> {
    queue: Mutex<Queue<T>>,
    /// The newest GOP that was reported broken and not yet dropped from the queue. Locked only for
    /// as long as it takes to read or write it, also while the queue is locked.
    broken: Mutex<Option<Gop>>,
}

#[derive(Debug)]
struct Queue<T> {
    /// The bytes of all that waits, without gaps.
    bytes: VecDeque<u8>,
    /// All that waits, each with its length in `bytes`. Of each GOP, its key unit and those behind
    /// it, or those behind one that has left.
    units: VecDeque<(Placed<T>, usize)>,
    /// The GOP whose key unit was accepted last, unless one of its units was dropped since. Only
    /// its units are accepted.
    open: Option<Gop>,
    /// Whether the storage is to be freed when nothing waits.
    release: bool,
    closed: bool,
}

impl<T> Queue<T> {
    /// Drops what waits before the first unit that `stays`, and returns how many units that were.
    fn drop_until(&mut self, stays: impl Fn(&Placed<T>) -> bool) -> u64 {
        let stays = |(unit, _): &(Placed<T>, usize)| stays(unit);
        let count = self
            .units
            .iter()
            .position(stays)
            .unwrap_or(self.units.len());
        let bytes: usize = self.units.drain(..count).map(|(_, bytes)| bytes).sum();
        self.bytes.drain(..bytes);
        self.shrink();
        count as u64
    }

    /// Drops what waits of the GOPs up to this one, and accepts no more of them.
    fn break_up_to(&mut self, broken: Gop) -> u64 {
        if self.open.is_some_and(|open| open <= broken) {
            self.open = None;
        }
        self.drop_until(|unit| unit.gop > broken)
    }

    /// Whether what waits has waited for long when `newest` comes.
    fn is_behind(&self, newest: Instant) -> bool {
        let head = self.units.front();
        head.is_some_and(|(head, _)| newest.saturating_duration_since(head.since) > BEHIND)
    }

    fn fits(&self, len: usize, max_bytes: usize) -> bool {
        len <= max_bytes.saturating_sub(self.bytes.len()) && self.units.len() < MAX_UNITS
    }

    /// A unit that fits.
    fn push(&mut self, unit: Placed<T>, bytes: &[u8], max_bytes: usize) {
        let needed = self.bytes.len() + bytes.len();
        if needed > self.bytes.capacity() {
            // Doubled, so that a camera's storage soon has its size; exact, since the deque alone
            // would go beyond `max_bytes`.
            let grown = needed.max(2 * self.bytes.capacity()).min(max_bytes);
            self.bytes.reserve_exact(grown - self.bytes.len());
        }
        self.bytes.extend(bytes);
        self.units.push_back((unit, bytes.len()));
    }

    fn pop(&mut self, into: &mut Vec<u8>) -> Option<Placed<T>> {
        let (unit, len) = self.units.pop_front()?;
        // `extend` alone may allocate twice as much.
        into.reserve_exact(len);
        let (front, back) = self.bytes.as_slices();
        let (first, second) = (front.len().min(len), len.saturating_sub(front.len()));
        into.extend_from_slice(&front[..first]);
        into.extend_from_slice(&back[..second]);
        self.bytes.drain(..len);
        self.shrink();
        Some(unit)
    }

    /// Frees the storage, if that was asked for and nothing waits in it.
    fn shrink(&mut self) {
        if self.release && self.units.is_empty() {
            self.release = false;
            self.bytes = VecDeque::new();
            self.units = VecDeque::new();
        }
    }
}

impl<T> Shared<T> {
    /// Drops what was reported broken.
    fn drop_broken(&self, queue: &mut Queue<T>) -> u64 {
        let broken = self.broken.lock().take();
        broken.map_or(0, |gop| queue.break_up_to(gop))
    }
}

/// The reader's side.
#[derive(Debug)]
pub struct GopSender<T> {
    shared: Arc<Shared<T>>,
    max_bytes: usize,
    waker: Unparker,
}

impl<T> GopSender<T> {
    /// Puts in the newest unit with its bytes, if what it hangs on was accepted and there is room.
    /// Returns what was dropped, this unit included. Waits only for a copy.
    pub fn put(&self, unit: Placed<T>, bytes: &[u8]) -> Drops {
        let mut drops = Drops::default();
        let mut wake = false;
        {
            let mut queue = self.shared.queue.lock();
            let waited = !queue.units.is_empty();
            drops.no_key = self.shared.drop_broken(&mut queue);
            if unit.key && bytes.len() <= self.max_bytes {
                queue.open = Some(unit.gop);
            }
            let hangs = !unit.key && queue.open != Some(unit.gop);
            let behind = unit.key && queue.is_behind(unit.since);
            let fits = queue.fits(bytes.len(), self.max_bytes);
            if !hangs && bytes.len() <= self.max_bytes && (behind || !fits) {
                drops.overwritten = queue.drop_until(|it| it.gop >= unit.gop);
            }
            if hangs {
                drops.no_key += 1;
            } else if !queue.fits(bytes.len(), self.max_bytes) {
                drops.oversize = 1;
                queue.open = None;
            } else {
                queue.push(unit, bytes, self.max_bytes);
                // Otherwise the receiver was woken for what waited: it is about to look, or has no
                // room.
                wake = !waited;
            }
        }
        if wake {
            self.waker.unpark();
        }
        drops
    }

    /// A unit of this GOP was dropped before it came here: those that come after it are dropped,
    /// up to the next key unit. What waits stays.
    pub fn skip(&self, gop: Gop) {
        let mut queue = self.shared.queue.lock();
        if queue.open.is_some_and(|open| open <= gop) {
            queue.open = None;
        }
    }
}

impl<T: Debug + Send + 'static> GopSender<T> {
    /// A handle to the memory that it uses.
    pub fn storage(&self) -> GopStorage {
        GopStorage(Arc::clone(&self.shared) as _)
    }
}

impl<T> Drop for GopSender<T> {
    fn drop(&mut self) {
        self.shared.queue.lock().closed = true;
        self.waker.unpark();
    }
}

/// The publisher's side.
#[derive(Debug)]
pub struct GopReceiver<T> {
    shared: Arc<Shared<T>>,
    max_age: Duration,
}

impl<T> GopReceiver<T> {
    /// Takes the next unit, if any, and fills `bytes` with its bytes. If it is older than `max_age`
    /// at `now`, it is dropped with all that hangs on it. Also returns what was dropped.
    pub fn take(&self, now: Instant, bytes: &mut Vec<u8>) -> (Option<Placed<T>>, Drops) {
        bytes.clear();
        let mut drops = Drops::default();
        let mut queue = self.shared.queue.lock();
        drops.no_key = self.shared.drop_broken(&mut queue);
        // Then what hangs on the head; what is left may be too old as well.
        while let Some((head, _)) = queue.units.front()
            && now.saturating_duration_since(head.since) > self.max_age
        {
            let gop = head.gop;
            drops.too_old += 1;
            drops.no_key += queue.break_up_to(gop) - 1;
        }
        (queue.pop(bytes), drops)
    }

    /// A unit of this GOP was taken, but did not arrive: what waits of it and of those before is
    /// dropped at the next [`take`](Self::take) or [`put`](GopSender::put), and its later units as
    /// they come. Does not wait, not even for a copy.
    pub fn broken(&self, gop: Gop) {
        let mut broken = self.shared.broken.lock();
        *broken = (*broken).max(Some(gop));
    }

    /// Whether a unit waits, perhaps one that only waits to be dropped.
    pub fn waiting(&self) -> bool {
        self.units() > 0
    }

    /// How many units wait.
    pub fn units(&self) -> usize {
        self.shared.queue.lock().units.len()
    }

    /// Whether the sender is dropped. Its last units may still wait.
    pub fn closed(&self) -> bool {
        self.shared.queue.lock().closed
    }
}

/// The memory that a queue uses, for the memory controller. A clone is another handle to the same.
#[derive(Debug, Clone)]
pub struct GopStorage(Arc<dyn Storage>);

impl GopStorage {
    /// Frees the storage as soon as nothing waits in it. It grows again to what the next units
    /// need.
    pub fn release(&self) {
        self.0.release();
    }

    /// Its size, bytes.
    pub fn size(&self) -> usize {
        self.0.size()
    }
}

/// A queue, whatever its units are.
trait Storage: Debug + Send + Sync {
    fn release(&self);
    fn size(&self) -> usize;
}

impl<T: Debug + Send> Storage for Shared<T> {
    fn release(&self) {
        let mut queue = self.queue.lock();
        queue.release = true;
        queue.shrink();
    }

    fn size(&self) -> usize {
        self.queue.lock().bytes.capacity()
    }
}
