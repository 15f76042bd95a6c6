//! What a connection's owner, its users and the main thread share.
//!
//! No call of amiquip has a timeout. So each thread notes here since when it waits for the broker.
//! The main thread cuts the connection's socket when that is too long, which wakes every thread
//! that is blocked in it.

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

/// One connection, over all its reconnects.
#[derive(Debug)]
pub struct Link {
    origin: Instant,
    socket: Ordered<Option<Socket>>,
    events: Ordered<Option<BlockedNotices>>,
    /// Taken under `socket`.
    why_cut: Mutex<Option<String>>,
    connected: AtomicBool,
    /// How often it has connected; only the owner changes it.
    connects: AtomicU64,
    /// Why it is not connected, for the status page and the log.
    why_down: Ordered<Option<String>>,
    blocked: AtomicBool,
    /// When the broker unblocked the connection last. A longer wait counts from here.
    unblocked_at: AtomicU64,
    /// When the broker last confirmed a frame of any camera. A longer wait of a publisher counts
    /// from here: a slow uplink carries the frames of all cameras one after the other.
    progress_at: CachePadded<Since>,
    owner: Since,
    /// Deadline of the owner's handshake, stored as a [`Since`].
    opens_until: Since,
    /// The largest message that the broker takes, in bytes, as far as it has stated one.
    largest_message: AtomicU64,
    /// The same as it was last logged, 0 before.
    largest_said: AtomicU64,
    publishers: Ordered<Vec<Arc<CachePadded<Since>>>>,
    answer_timeout: Duration,
    confirm_timeout: Duration,
}

impl Link {
    /// A link without users. `answer_timeout` limits the owner's handshakes and channels,
    /// `confirm_timeout` all that a user waits for.
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

    /// How often it has reconnected.
    pub fn reconnects(&self) -> u64 {
        self.connects.load(Ordering::Relaxed).saturating_sub(1)
    }

    /// Why it is not connected, without secrets.
    pub fn why_down(&self) -> Option<String> {
        self.why_down.lock().clone()
    }

    /// Whether the broker has blocked publishing.
    pub fn blocked(&self) -> bool {
        self.blocked.load(Ordering::Acquire)
    }

    /// Cuts the connection, if there is one. The owner gives `why` as the reason of its end.
    pub fn cut(&self, why: &str) {
        if let Some(socket) = &*self.socket.lock() {
            self.why_cut.lock().get_or_insert_with(|| why.to_owned());
            socket.cut();
        }
    }

    /// Cuts the connection if a thread has waited too long for it. Returns the next moment at which
    /// that could be so. The limit is off while the broker has blocked publishing: a new connection
    /// would be blocked as well.
    pub fn check(&self, now: Instant) -> Option<Instant> {
        if self.blocked()
            || self
                .events
                .lock()
                .as_ref()
                .is_some_and(BlockedNotices::unheard)
        {
            // Not heard by the owner yet: it waits for a channel, which a blocked broker does not
            // open.
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
            self.cut("no publisher confirm within amqp.confirm_timeout");
            return None;
        }
        answer.into_iter().chain(confirm).min()
    }

    /// The largest message that the broker is known to take, in bytes.
    pub fn largest_message(&self) -> u64 {
        self.largest_message.load(Ordering::Relaxed)
    }

    /// The broker stated a limit of `bytes` per message. Returns whether to log that.
    pub fn learn_largest_message(&self, bytes: u64) -> bool {
        self.largest_message.fetch_min(bytes, Ordering::Relaxed);
        self.largest_said.swap(bytes, Ordering::Relaxed) != bytes
    }

    /// Counts the connections that were made.
    pub(super) fn connects(&self) -> u64 {
        self.connects.load(Ordering::Relaxed)
    }

    /// The shortest wait that can be too long, handshakes aside, whose deadlines the owner
    /// announces.
    pub fn shortest_timeout(&self) -> Duration {
        self.answer_timeout.min(self.confirm_timeout)
    }

    /// For the owner: [`cut`](Self::cut) cuts `socket` from now on.
    pub(super) fn use_socket(&self, socket: Socket) {
        *self.why_cut.lock() = None;
        *self.socket.lock() = Some(socket);
    }

    /// For the owner: the broker accepted the login. `events` is where it reports blocking.
    pub(super) fn connected_with(&self, events: BlockedNotices) {
        *self.events.lock() = Some(events);
        // It may be another broker, or the same one with another configuration.
        self.largest_message.store(u64::MAX, Ordering::Relaxed);
        self.connects.fetch_add(1, Ordering::Relaxed);
        *self.why_down.lock() = None;
        self.connected.store(true, Ordering::Release);
    }

    /// For the owner: why it is not connected.
    pub(super) fn set_why_down(&self, why: &str) {
        *self.why_down.lock() = Some(why.to_owned());
    }

    /// For the owner: the connection has ended. Returns why it was cut, if it was.
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

    /// For the owner: the deadline of its handshake.
    pub(super) fn owner_opens_until(&self, until: Option<Instant>) {
        self.note(&self.opens_until, until);
    }

    fn note(&self, slot: &Since, since: Option<Instant>) {
        let since = since.map_or(IDLE, |since| micros_since(self.origin, since));
        slot.0.store(since, Ordering::Relaxed);
    }
}

/// Where one user notes since when it waits; removed when it is dropped.
#[derive(Debug)]
pub struct WaitSlot {
    link: Arc<Link>,
    since: Arc<CachePadded<Since>>,
}

impl WaitSlot {
    /// One more user of `link`.
    pub fn new(link: Arc<Link>) -> Self {
        let since = Arc::default();
        link.publishers.lock().push(Arc::clone(&since));
        Self { link, since }
    }

    /// The broker confirmed a frame of this user.
    pub fn progress(&self, now: Instant) {
        self.link.note(&self.link.progress_at, Some(now));
    }

    /// The user waits for an answer or a confirm since then, or not at all.
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
