//! The unconfirmed frames or units of one channel, and the accounting of what becomes of them.
//!
//! Two threads share it. The publisher thread adds a frame and sends it. The connection's I/O
//! thread records the broker's answer when it reads it, and wakes the publisher only if the
//! publisher waits for one.

use super::Publisher;
use super::notice::{Notices, Published};
use super::source::Item;
use super::sync::Unparker;
use super::window::{self, Window};
use crate::amqp::{
    AnswerWaiter, AnswerWaiters, Confirm, Listener, Ordered, Rank, Share, Unconfirmed, WaitSlot,
};
use crate::clock::{Stamp, process_us};
use crate::config::{Amqp, Camera};
use crate::frame::Unit;
use crate::handoff::gops::{Gop, GopReceiver};
use crate::idle::{Idleness, Stream};
use crate::message;
use crate::metrics::{CameraMetrics, PublisherCounters};
use std::sync::Arc;
use std::time::Instant;

/// The unconfirmed frames of one channel.
#[derive(Debug)]
pub(super) struct InFlight {
    camera: Arc<Camera>,
    amqp: Arc<Amqp>,
    metrics: Arc<CameraMetrics>,
    /// Where units come from, each of which hangs on the ones before it.
    units: Option<Arc<GopReceiver<Unit>>>,
    notices: Option<Notices>,
    /// Which learns whether this stream has a consumer.
    idleness: Option<(Arc<Idleness>, Stream)>,
    wait_slot: Arc<WaitSlot>,
    share: Arc<Share>,
    publisher: Unparker,
    answer_waiters: Arc<AnswerWaiters>,
    /// Held while frame events are on; disables confirm batching.
    _no_batching: Option<AnswerWaiter>,
    /// Never held while a message is sent.
    inner: Ordered<Inner>,
}

#[derive(Debug)]
struct Inner {
    unconfirmed: Unconfirmed<Sent>,
    window: Window,
    /// The broker has answered at least once.
    answered: bool,
    /// Held while the publisher parks until the next answer; disables confirm batching.
    wake_publisher: Option<AnswerWaiter>,
    /// The channel has ended, or its publisher has.
    over: bool,
}

impl Inner {
    fn room(&self) -> bool {
        self.unconfirmed.len() < self.window.limit()
    }
}

#[derive(Debug)]
struct Sent {
    /// Its number in the connection's budget.
    ticket: u64,
    epoch: i64,
    seq: u64,
    bytes: u64,
    width: u16,
    height: u16,
    captured: Stamp,
    at: Instant,
    returned: bool,
    /// Of a unit.
    gop: Option<Gop>,
}

/// What the publisher decides by.
pub(super) struct View {
    /// The window is not full.
    pub(super) room: bool,
    /// Nothing is unconfirmed.
    pub(super) empty: bool,
    /// The broker answered something.
    pub(super) answered: bool,
    /// The channel has ended.
    pub(super) over: bool,
}

impl InFlight {
    /// For a new channel. While a publisher waits for an answer, it is registered in
    /// `answer_waiters`, so that the I/O thread does not batch confirms.
    pub(super) fn new(publisher: &Publisher, answer_waiters: &Arc<AnswerWaiters>) -> Self {
        let Publisher {
            camera,
            amqp,
            route,
            ..
        } = publisher;
        Self {
            camera: Arc::clone(camera),
            amqp: Arc::clone(amqp),
            metrics: Arc::clone(&publisher.metrics),
            units: publisher.source.units().map(Arc::clone),
            notices: publisher.notices.clone(),
            idleness: publisher
                .idleness
                .as_ref()
                .map(|it| (Arc::clone(it), publisher.source.stream())),
            wait_slot: Arc::clone(publisher.connection.wait_slot()),
            share: Arc::clone(&publisher.share),
            publisher: publisher.parker.unparker().clone(),
            answer_waiters: Arc::clone(answer_waiters),
            _no_batching: publisher.notices.as_ref().map(|_| answer_waiters.wait()),
            inner: Ordered::new(
                Rank::InFlight,
                Inner {
                    unconfirmed: Unconfirmed::with_capacity(window::MAX),
                    window: Window::new(amqp.max_in_flight, route.fps, route.max_age),
                    answered: false,
                    wake_publisher: None,
                    over: false,
                },
            ),
        }
    }

    /// The state now. The next answer wakes the publisher if there is no room, or if `awaited`.
    pub(super) fn look(&self, awaited: bool) -> View {
        let mut inner = self.inner.lock();
        let room = inner.room();
        if !awaited && room {
            inner.wake_publisher = None;
        } else if inner.wake_publisher.is_none() {
            inner.wake_publisher = Some(self.answer_waiters.wait());
        }
        View {
            room,
            empty: inner.unconfirmed.is_empty(),
            answered: inner.answered,
            over: inner.over,
        }
    }

    fn counters(&self) -> &PublisherCounters {
        match &self.units {
            None => &self.metrics.publisher,
            Some(_) => &self.metrics.video.publisher,
        }
    }

    /// A unit of this group of pictures does not arrive: what hangs on it is not sent.
    pub(super) fn broken(&self, gop: Option<Gop>) {
        if let (Some(units), Some(gop)) = (&self.units, gop) {
            units.broken(gop);
        }
    }

    /// Adds an item, before it is sent: the answer may come faster than the call returns.
    pub(super) fn put(&self, item: &Item, ticket: u64, now: Instant) {
        let ((epoch, seq), (width, height)) = (item.number(), item.size());
        let mut inner = self.inner.lock();
        inner.unconfirmed.push(Sent {
            ticket,
            epoch,
            seq,
            bytes: item.bytes().len() as u64,
            width,
            height,
            captured: item.captured(),
            at: now,
            returned: false,
            gop: item.gop(),
        });
        if inner.unconfirmed.len() == 1 {
            self.wait_slot.waits_since(Some(now));
        }
    }

    /// Removes what was added last: it is too old to be sent. A broker that breaks the protocol may
    /// have answered it already; it has that outcome then.
    pub(super) fn take_back_too_old(&self) {
        let taken_back = self.inner.lock().unconfirmed.take_back();
        if let Some(sent) = taken_back {
            self.share.forget(sent.ticket);
            self.counters().too_old.increment();
            self.broken(sent.gop);
        }
        self.note_wait();
    }

    /// Tells the link since when the oldest frame waits for its confirm.
    pub(super) fn note_wait(&self) {
        let inner = self.inner.lock();
        let oldest = inner.unconfirmed.oldest();
        self.wait_slot.waits_since(oldest.map(|sent| sent.at));
    }

    /// Ends the accounting: later answers count for nothing.
    pub(super) fn close(&self) {
        if let Some((idleness, stream)) = &self.idleness {
            idleness.lost(*stream);
        }
        let mut inner = self.inner.lock();
        inner.over = true;
        inner.wake_publisher = None;
        let last = inner.unconfirmed.iter_mut().last();
        self.broken(last.and_then(|sent| sent.gop));
        let tickets = inner.unconfirmed.iter_mut().map(|sent| sent.ticket);
        self.share.channel_ended(tickets, Instant::now());
        inner.unconfirmed.clear();
    }

    fn settle(&self, sent: &Sent, acked: bool, now: Instant) {
        let counters = self.counters();
        log::trace!(camera_id = self.camera.id;
            "{} {} is {}",
            if sent.gop.is_some() { "unit" } else { "frame" },
            sent.seq,
            if acked { "acked" } else { "nacked" });
        // Of a camera that may be idle, each unit looks for a queue; a consumer that comes joins in
        // the middle of a group, as it does without `mandatory`.
        if !acked || sent.returned && self.idleness.is_none() {
            self.broken(sent.gop);
        }
        if let Some((idleness, stream)) = &self.idleness {
            match sent.returned {
                true => idleness.returned(*stream, now),
                // A nack comes from a queue that is full.
                false => idleness.taken(*stream),
            }
        }
        match (acked, sent.returned) {
            (false, _) => counters.nacked.increment(),
            (true, true) => {
                counters
                    .last_returned_us
                    .set(process_us(sent.captured.monotonic));
                counters.returned.increment();
            }
            (true, false) => {
                counters.published_bytes.add(sent.bytes);
                counters.published.increment();
                counters
                    .last_published_us
                    .set(process_us(sent.captured.monotonic));
                let age = sent.captured.age(now);
                counters.capture_to_confirm.observe_duration(age);
                let answered = now.saturating_duration_since(sent.at);
                counters.publish_to_confirm.observe_duration(answered);
                if age > self.amqp.slow_publish {
                    counters.slow.increment();
                }
                if let Some(notices) = &self.notices {
                    notices.give(Published {
                        camera_id: Arc::clone(&self.camera.id),
                        epoch: sent.epoch,
                        seq: sent.seq,
                        captured_unix_us: sent.captured.unix_us,
                        width: sent.width,
                        height: sent.height,
                        bytes: sent.bytes,
                    });
                }
            }
        }
    }
}

impl Listener for InFlight {
    fn confirmed(&self, confirm: Confirm) {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        if inner.over {
            return;
        }
        let full = !inner.room();
        let Inner {
            unconfirmed,
            window,
            ..
        } = &mut *inner;
        unconfirmed.answered(confirm.tag, confirm.multiple, |sent| {
            window.confirmed(sent.at, full, now);
            self.share.confirmed(sent.ticket, now);
            self.settle(&sent, confirm.acked, now);
        });
        let oldest = unconfirmed.oldest();
        self.wait_slot.waits_since(oldest.map(|sent| sent.at));
        self.wait_slot.progress(now);
        inner.answered = true;
        if inner.wake_publisher.take().is_some() {
            drop(inner);
            self.publisher.unpark();
        }
    }

    fn returned(&self, message_id: &str) {
        let id = match self.units {
            None => message::parse_message_id(message_id),
            Some(_) => message::parse_unit_id(message_id),
        };
        for sent in self.inner.lock().unconfirmed.iter_mut() {
            sent.returned |= id == Some((sent.epoch, sent.seq));
        }
    }

    fn ended(&self) {
        self.inner.lock().over = true;
        self.publisher.unpark();
    }
}

/// Closes the accounting when the publisher leaves the channel, by a panic as well.
pub(super) struct ClosedWhenDropped(pub(super) Arc<InFlight>);

impl Drop for ClosedWhenDropped {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests;
