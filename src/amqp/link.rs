//! What a connection's owner, its publishers and the deadline keeper share.
//!
//! None of amiquip's waits has a time-out. So each thread writes down here since when it waits for
//! the broker, and one thread (the main one) cuts the connection's socket when that is too long,
//! which frees everybody who is blocked in it.

use super::client::BlockedNotices;
use super::lock::{Ordered, Rank};
use super::socket::Socket;
use crate::clock::micros_since;
use crossbeam_utils::CachePadded;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Since when one thread waits for the broker: microseconds since the link's origin, or [`IDLE`].
#[derive(Debug, Default)]
pub(super) struct Since(AtomicU64);

const IDLE: u64 = 0;

/// One connection, in use or being made anew; lives as long as it has cameras.
#[derive(Debug)]
pub struct Link {
    origin: Instant,
    socket: Ordered<Option<Socket>>,
    events: Ordered<Option<BlockedNotices>>,
    /// Taken under `socket`.
    why_cut: Mutex<Option<String>>,
    connected: AtomicBool,
    /// How often it was connected; the owner alone counts.
    connects: AtomicU64,
    /// Why it is not connected, for those who ask.
    why_down: Ordered<Option<String>>,
    blocked: AtomicBool,
    /// A wait counts from here when the broker has been blocked in between.
    unblocked_at: AtomicU64,
    /// A publisher's wait counts from here when the broker has confirmed a frame of any camera since: a slow
    /// uplink carries the frames of all cameras one after the other.
    progress_at: CachePadded<Since>,
    owner: Since,
    /// When the owner's handshake must be over: as [`Since`], but a deadline.
    opens_until: Since,
    /// Bytes of the largest message that the broker takes, as far as it has said.
    largest_message: AtomicU64,
    /// The same when it was last said in the log, 0 before.
    largest_said: AtomicU64,
    publishers: Ordered<Vec<Arc<CachePadded<Since>>>>,
    answer_timeout: Duration,
    confirm_timeout: Duration,
}

impl Link {
    /// A link without publishers. `answer_timeout` is for the owner's handshakes and channels,
    /// `confirm_timeout` for all that a publisher waits for.
    pub fn new(answer_timeout: Duration, confirm_timeout: Duration) -> Self {
        Self {
            origin: Instant::now(),
            socket: Ordered::new(Rank::Link, None),
            events: Ordered::new(Rank::Link, None),
            why_cut: Mutex::new(None),
            connected: AtomicBool::new(false),
            connects: AtomicU64::new(0),
            why_down: Ordered::new(Rank::Link, None),
            blocked: AtomicBool::new(false),
            unblocked_at: AtomicU64::new(IDLE),
            progress_at: CachePadded::default(),
            owner: Since::default(),
            opens_until: Since::default(),
            largest_message: AtomicU64::new(u64::MAX),
            largest_said: AtomicU64::new(0),
            publishers: Ordered::new(Rank::Link, vec![]),
            answer_timeout,
            confirm_timeout,
        }
    }

    /// Whether the broker is connected.
    pub fn connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    /// How often it was connected again after its first time.
    pub fn reconnects(&self) -> u64 {
        self.connects.load(Ordering::Relaxed).saturating_sub(1)
    }

    /// Why it is not connected, without secrets.
    pub fn why_down(&self) -> Option<String> {
        self.why_down.lock().clone()
    }

    /// Whether the broker said that it takes no messages for now.
    pub fn blocked(&self) -> bool {
        self.blocked.load(Ordering::Acquire)
    }

    /// Cuts the connection, if there is one; `why` is what its owner will say of it.
    pub fn cut(&self, why: &str) {
        if let Some(socket) = &*self.socket.lock() {
            self.why_cut.lock().get_or_insert_with(|| why.to_owned());
            socket.cut();
        }
    }

    /// Cuts the connection if someone has waited too long in it; returns the next moment at which
    /// that could be so. While the broker is blocked nobody waits too long: it said so itself, and
    /// a new connection would only be blocked as well.
    pub fn check(&self, now: Instant) -> Option<Instant> {
        if self.blocked()
            || self
                .events
                .lock()
                .as_ref()
                .is_some_and(BlockedNotices::unheard)
        {
            // Unheard: the owner is waiting for a channel that a blocked broker does not open.
            return None;
        }
        let unblocked = self.unblocked_at.load(Ordering::Relaxed);
        let due = |since: &Since, timeout: Duration| match since.0.load(Ordering::Relaxed) {
            IDLE => None,
            since => Some(self.origin + Duration::from_micros(since.max(unblocked)) + timeout),
        };
        let opened = match self.opens_until.0.load(Ordering::Relaxed) {
            IDLE => None,
            until => Some(self.origin + Duration::from_micros(until)),
        };
        let answer = due(&self.owner, self.answer_timeout);
        let progress = due(&self.progress_at, self.confirm_timeout);
        let answer = answer.into_iter().chain(opened).min();
        let confirm = self
            .publishers
            .lock()
            .iter()
            .filter_map(|since| due(since, self.confirm_timeout))
            .map(|due| progress.map_or(due, |progress| due.max(progress)))
            .min();
        if answer.is_some_and(|due| due <= now) {
            self.cut("no answer from the broker");
            return None;
        }
        if confirm.is_some_and(|due| due <= now) {
            self.cut("no publisher confirm in time");
            return None;
        }
        answer.into_iter().chain(confirm).min()
    }

    /// Bytes of the largest message that the broker is known to take.
    pub fn largest_message(&self) -> u64 {
        self.largest_message.load(Ordering::Relaxed)
    }

    /// The broker said that it takes no message of more than `bytes`. Returns whether that is to be
    /// said in the log.
    pub fn learn_largest_message(&self, bytes: u64) -> bool {
        self.largest_message.fetch_min(bytes, Ordering::Relaxed);
        self.largest_said.swap(bytes, Ordering::Relaxed) != bytes
    }

    /// Counts its connections, those that failed not.
    pub(super) fn connects(&self) -> u64 {
        self.connects.load(Ordering::Relaxed)
    }

    /// No wait that begins now is too long before this has passed, but for a handshake, of which the
    /// owner tells.
    pub fn shortest_timeout(&self) -> Duration {
        self.answer_timeout.min(self.confirm_timeout)
    }

    /// For the owner: from now on `socket` is what [`cut`](Self::cut) cuts.
    pub(super) fn use_socket(&self, socket: Socket) {
        *self.why_cut.lock() = None;
        *self.socket.lock() = Some(socket);
    }

    /// For the owner: the broker answers; `events` is what it says of its own accord.
    pub(super) fn connected_with(&self, events: BlockedNotices) {
        *self.events.lock() = Some(events);
        // Another broker, or the same one with another configuration.
        self.largest_message.store(u64::MAX, Ordering::Relaxed);
        self.connects.fetch_add(1, Ordering::Relaxed);
        *self.why_down.lock() = None;
        self.connected.store(true, Ordering::Release);
    }

    /// For the owner: why there is no connection.
    pub(super) fn set_why_down(&self, why: &str) {
        *self.why_down.lock() = Some(why.to_owned());
    }

    /// For the owner: the connection is over; returns why it was cut, if it was.
    pub(super) fn forget_socket(&self) -> Option<String> {
        *self.socket.lock() = None;
        *self.events.lock() = None;
        self.connected.store(false, Ordering::Release);
        self.set_blocked(false, Instant::now());
        self.owner_waits_since(None);
        self.why_cut.lock().take()
    }

    pub(super) fn set_blocked(&self, blocked: bool, now: Instant) {
        if !blocked {
            let now = micros_since(self.origin, now);
            self.unblocked_at.store(now, Ordering::Relaxed);
        }
        self.blocked.store(blocked, Ordering::Release);
    }

    pub(super) fn owner_waits_since(&self, since: Option<Instant>) {
        self.note(&self.owner, since);
    }

    /// For the owner: its handshake must be over by then.
    pub(super) fn owner_opens_until(&self, until: Option<Instant>) {
        self.note(&self.opens_until, until);
    }

    fn note(&self, slot: &Since, since: Option<Instant>) {
        let since = since.map_or(IDLE, |since| micros_since(self.origin, since));
        slot.0.store(since, Ordering::Relaxed);
    }
}

/// A publisher's place in its link, given back when it is dropped.
#[derive(Debug)]
pub struct WaitSlot {
    link: Arc<Link>,
    since: Arc<CachePadded<Since>>,
}

impl WaitSlot {
    /// One more publisher in `link`.
    pub fn new(link: Arc<Link>) -> Self {
        let since = Arc::default();
        link.publishers.lock().push(Arc::clone(&since));
        Self { link, since }
    }

    /// The broker has confirmed something to this publisher.
    pub fn progress(&self, now: Instant) {
        self.link.note(&self.link.progress_at, Some(now));
    }

    /// The publisher waits for an answer or a confirm since then.
    pub fn waits_since(&self, since: Option<Instant>) {
        self.link.note(&self.since, since);
    }
}

impl Drop for WaitSlot {
    fn drop(&mut self) {
        let mut wait_slots = self.link.publishers.lock();
        wait_slots.retain(|since| !Arc::ptr_eq(since, &self.since));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: Duration = Duration::from_secs(3);
    const CONFIRM: Duration = Duration::from_secs(5);
    /// What is kept is in microseconds.
    const ROUNDING: Duration = Duration::from_millis(1);

    #[test]
    fn the_earliest_deadline_is_the_next_to_look_at() {
        let link = Arc::new(Link::new(ANSWER, CONFIRM));
        let wait_slots = [(); 2].map(|()| WaitSlot::new(Arc::clone(&link)));
        let now = Instant::now();
        assert_eq!(link.check(now), None);
        wait_slots[0].waits_since(Some(now + CONFIRM));
        wait_slots[1].waits_since(Some(now));
        assert!(link.check(now).unwrap() <= now + CONFIRM + ROUNDING);
        link.owner_waits_since(Some(now));
        assert!(link.check(now).unwrap() <= now + ANSWER + ROUNDING);
        link.owner_waits_since(None);
        wait_slots[1].waits_since(None);
        assert!(link.check(now).unwrap() > now + 2 * CONFIRM - ROUNDING);
        assert_eq!(link.check(now + 2 * CONFIRM), None, "it has passed");
        drop(wait_slots);
        assert_eq!(link.check(now), None, "who has gone waits for nothing");
    }

    #[test]
    fn a_handshake_is_over_at_its_own_deadline_also_just_after_another_one() {
        let link = Link::new(ANSWER, CONFIRM);
        let now = Instant::now();
        link.forget_socket();
        let until = now + ANSWER / 4;
        link.owner_opens_until(Some(until));
        let due = link.check(now).unwrap();
        assert!(due <= until && due > until - ROUNDING, "{:?}", due - now);
        assert_eq!(link.check(until), None, "it has passed");
        link.owner_opens_until(None);
        assert_eq!(link.check(until), None);
    }

    #[test]
    fn the_largest_message_is_said_when_it_is_news() {
        let link = Link::new(ANSWER, CONFIRM);
        assert_eq!(link.largest_message(), u64::MAX);
        assert!(link.learn_largest_message(1000));
        assert!(!link.learn_largest_message(1000));
        assert_eq!(link.largest_message(), 1000);
        assert!(link.learn_largest_message(500));
        assert_eq!(link.largest_message(), 500);
    }

    #[test]
    fn a_confirm_of_one_camera_is_progress_of_all() {
        let link = Arc::new(Link::new(ANSWER, CONFIRM));
        let wait_slots = [(); 2].map(|()| WaitSlot::new(Arc::clone(&link)));
        let sent = Instant::now();
        wait_slots[0].waits_since(Some(sent));
        wait_slots[1].progress(sent + CONFIRM - ROUNDING);
        let next = link.check(sent + CONFIRM + ROUNDING).unwrap();
        assert!(next > sent + 2 * CONFIRM - 3 * ROUNDING);
        assert!(next <= sent + 2 * CONFIRM);
        wait_slots[0].waits_since(None);
        assert_eq!(link.check(sent), None, "nobody waits");
    }

    #[test]
    fn while_the_broker_is_blocked_nobody_waits_too_long() {
        let link = Arc::new(Link::new(ANSWER, CONFIRM));
        let wait_slot = WaitSlot::new(Arc::clone(&link));
        let sent = Instant::now();
        let unblocked = sent + 100 * CONFIRM;
        wait_slot.waits_since(Some(sent));
        link.set_blocked(true, sent);
        assert_eq!(link.check(unblocked), None);
        link.set_blocked(false, unblocked);
        let next = link.check(unblocked).unwrap();
        assert!(
            next > unblocked + CONFIRM - ROUNDING,
            "counts from the unblocking"
        );
    }
}
