//! Which camera's frame goes next on a connection that cannot carry them all.
//!
//! A frame waits in its own mailbox, where a newer one replaces it, until the connection's budget
//! (`budget.rs`) has room and it is the camera's turn. It is the turn of the camera that has sent
//! the fewest bytes lately (start-time fair queuing). Cameras that offer more than their share get
//! the same number of bytes each; a camera that offers less gets all of it. A camera cannot save up
//! turns.

use super::budget::{Budget, Opening};
use super::lock::{Ordered, Rank};
use crossbeam_utils::sync::Unparker;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The scheduler of one connection.
#[derive(Debug)]
pub struct Scheduler {
    order: Ordered<Order>,
}

impl Scheduler {
    /// `max_age` is how old a frame may get. Without `budget` every camera may send at any time:
    /// the user has set how much may be unconfirmed.
    pub fn new(budget: bool, max_age: Duration) -> Arc<Self> {
        Arc::new(Self {
            order: Ordered::new(
                Rank::Scheduler,
                Order::new(budget.then(|| Budget::new(max_age))),
            ),
        })
    }

    /// Bytes a second that the uplink carries, as far as the confirms show.
    pub fn rate(&self) -> Option<f64> {
        self.order.lock().budget.as_ref().and_then(Budget::rate)
    }

    /// For how long in all at least one frame has waited for its turn.
    pub fn waited(&self, now: Instant) -> Duration {
        self.order.lock().waited(now)
    }
}

#[cfg(test)]
impl Scheduler {
    /// Bytes that the budget counts as unconfirmed.
    pub(crate) fn bytes_in_flight(&self) -> u64 {
        let order = self.order.lock();
        order.budget.as_ref().map_or(0, Budget::bytes_in_flight)
    }
}

/// One camera's share of a connection. Dropping it leaves the scheduler.
#[derive(Debug)]
pub struct Share {
    scheduler: Arc<Scheduler>,
    number: usize,
}

impl Share {
    /// Adds a camera. `waker` wakes its publisher when its turn may have come.
    pub fn new(scheduler: &Arc<Scheduler>, waker: Unparker) -> Self {
        Self {
            number: scheduler.order.lock().join(Some(waker)),
            scheduler: Arc::clone(scheduler),
        }
    }

    /// Takes the next frame, if it is this camera's turn. `waits` says whether one waits, `take`
    /// takes it and returns its size in bytes. Both run under the scheduler's lock.
    pub fn take<T>(
        &self,
        now: Instant,
        waits: impl FnOnce() -> bool,
        take: impl FnOnce() -> Option<(T, u64)>,
    ) -> Next<T> {
        self.scheduler
            .order
            .lock()
            .take(self.number, now, waits, take)
    }

    /// This camera has nothing to send now.
    pub fn pass(&self, now: Instant) {
        self.scheduler.order.lock().pass(self.number, now);
    }

    /// The frame of this ticket is not sent after all.
    pub fn forget(&self, ticket: u64) {
        let mut order = self.scheduler.order.lock();
        order.forget(ticket);
        order.give_back(self.number);
        order.wake_first();
    }

    /// The channel has ended: the frames of these tickets will not be confirmed, and nothing is to
    /// be sent.
    pub fn channel_ended(&self, tickets: impl Iterator<Item = u64>, now: Instant) {
        let mut order = self.scheduler.order.lock();
        tickets.for_each(|ticket| order.forget(ticket));
        order.reset_if_idle();
        order.pass(self.number, now);
        order.wake_first();
    }

    /// The broker answered the frame of this ticket.
    pub fn confirmed(&self, ticket: u64, now: Instant) {
        let mut order = self.scheduler.order.lock();
        order.confirmed(ticket, now);
        order.wake_first();
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.scheduler
            .order
            .lock()
            .leave(self.number, Instant::now());
    }
}

/// What a publisher is to do.
#[derive(Debug, PartialEq)]
pub enum Next<T> {
    /// Send this.
    Send {
        /// What was taken.
        item: T,
        /// Its ticket in the budget.
        ticket: u64,
        /// The uplink will have carried it after this time.
        carried: Duration,
    },
    /// Nothing waits.
    Nothing,
    /// Ask again at this time, or when woken.
    Wait(Option<Instant>),
}

/// The order itself; pure but for the wakers.
#[derive(Debug)]
pub(super) struct Order {
    budget: Option<Budget>,
    /// By number. A number is reused when its camera has left.
    cameras: Vec<Option<Camera>>,
    /// Virtual time, in bytes: how much a camera that always had a frame waiting has been given.
    clock: u64,
    /// Cameras that wait.
    waiting: usize,
    waiting_since: Option<Instant>,
    waited: Duration,
}

#[derive(Debug)]
struct Camera {
    /// The earliest virtual time at which its next frame starts.
    given: u64,
    /// Bytes of its last frame.
    last: u64,
    /// The virtual start of its frame, if one waits.
    waits: Option<u64>,
    waker: Option<Unparker>,
}

impl Order {
    pub(super) fn new(budget: Option<Budget>) -> Self {
        Self {
            budget,
            cameras: vec![],
            clock: 0,
            waiting: 0,
            waiting_since: None,
            waited: Duration::ZERO,
        }
    }

    pub(super) fn join(&mut self, waker: Option<Unparker>) -> usize {
        let camera = Some(Camera {
            given: 0,
            last: 0,
            waits: None,
            waker,
        });
        let number = self.cameras.iter().position(Option::is_none);
        let number = number.unwrap_or(self.cameras.len());
        match self.cameras.get_mut(number) {
            Some(free) => *free = camera,
            None => self.cameras.push(camera),
        }
        number
    }

    fn leave(&mut self, number: usize, now: Instant) {
        self.pass(number, now);
        if let Some(camera) = self.cameras.get_mut(number) {
            *camera = None;
        }
    }

    pub(super) fn waited(&self, now: Instant) -> Duration {
        let since = self.waiting_since;
        let lasts = since.map(|since| now.saturating_duration_since(since));
        self.waited + lasts.unwrap_or_default()
    }

    pub(super) fn take<T>(
        &mut self,
        number: usize,
        now: Instant,
        waits: impl FnOnce() -> bool,
        take: impl FnOnce() -> Option<(T, u64)>,
    ) -> Next<T> {
        let limited = self.waiting > 0;
        let opening = match &mut self.budget {
            Some(budget) => budget.opening(limited, now),
            None => Opening::Now(Duration::ZERO),
        };
        let Some(start) = self.start(number) else {
            return Next::Nothing;
        };
        let first = self.first().is_none_or(|it| (start, number) <= it);
        if let (true, Opening::Now(wait)) = (first, opening) {
            let taken = take();
            self.set_waits(number, None, now);
            let Some((item, bytes)) = taken else {
                self.wake_first();
                return Next::Nothing;
            };
            self.clock = self.clock.max(start);
            if let Some(camera) = self.camera(number) {
                camera.given = start + bytes;
                camera.last = bytes;
            }
            let budget = self.budget.as_mut();
            let (ticket, own) = budget.map_or((0, Duration::ZERO), |budget| {
                (budget.sent(bytes, limited, now), budget.carries(bytes))
            });
            self.wake_first();
            return Next::Send {
                item,
                ticket,
                carried: wait + own,
            };
        }
        if !waits() {
            self.pass(number, now);
            return Next::Nothing;
        }
        self.set_waits(number, Some(start), now);
        match opening {
            Opening::At(at) if first => Next::Wait(Some(at)),
            Opening::Now(_) => {
                // The camera whose turn it is has been woken, or is woken now, and asks again.
                self.wake_first();
                Next::Wait(None)
            }
            _ => Next::Wait(None),
        }
    }

    pub(super) fn pass(&mut self, number: usize, now: Instant) {
        let was_waiting = self.camera(number).is_some_and(|it| it.waits.is_some());
        if was_waiting {
            self.set_waits(number, None, now);
            self.wake_first();
        }
    }

    pub(super) fn forget(&mut self, ticket: u64) {
        if let Some(budget) = &mut self.budget {
            budget.forget(ticket);
        }
    }

    /// The last frame of this camera is not sent: its next one starts where that one did.
    pub(super) fn give_back(&mut self, number: usize) {
        if let Some(camera) = self.camera(number) {
            camera.given = camera.given.saturating_sub(camera.last);
        }
    }

    fn reset_if_idle(&mut self) {
        if let Some(budget) = &mut self.budget
            && budget.is_idle()
        {
            budget.reset();
        }
    }

    pub(super) fn confirmed(&mut self, ticket: u64, now: Instant) {
        if let Some(budget) = &mut self.budget {
            budget.confirmed(ticket, now);
        }
    }

    /// Virtual start and number of the camera that is next among those that wait.
    pub(super) fn first(&self) -> Option<(u64, usize)> {
        if self.waiting == 0 {
            return None;
        }
        let cameras = self.cameras.iter().enumerate();
        let waiting = cameras.filter_map(|(n, it)| Some((it.as_ref()?.waits?, n)));
        waiting.min()
    }

    fn wake_first(&self) {
        let first = self.first().and_then(|(_, n)| self.cameras.get(n));
        let waker = first.and_then(|camera| camera.as_ref()?.waker.as_ref());
        if let Some(waker) = waker {
            waker.unpark();
        }
    }

    fn camera(&mut self, number: usize) -> Option<&mut Camera> {
        self.cameras.get_mut(number).and_then(Option::as_mut)
    }

    /// Virtual start of a camera's next frame.
    fn start(&mut self, number: usize) -> Option<u64> {
        let clock = self.clock;
        let camera = self.camera(number)?;
        // A frame that comes slightly late keeps its turn.
        let earliest = clock.saturating_sub(camera.last);
        Some(camera.waits.unwrap_or(camera.given.max(earliest)))
    }

    fn set_waits(&mut self, number: usize, start: Option<u64>, now: Instant) {
        let Some(camera) = self.camera(number) else {
            return;
        };
        let before = std::mem::replace(&mut camera.waits, start);
        self.waiting += usize::from(start.is_some());
        self.waiting -= usize::from(before.is_some());
        if self.waiting > 0 {
            self.waiting_since.get_or_insert(now);
        } else if let Some(since) = self.waiting_since.take() {
            self.waited += now.saturating_duration_since(since);
        }
    }
}

#[cfg(test)]
mod simulation;
