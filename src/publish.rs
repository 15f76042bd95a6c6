//! A camera's publisher thread: takes the newest frame, or the next access unit of the newest group
//! of pictures, sends it to the broker, and accounts for it.
//!
//! It never touches FFmpeg. It parks until one of four things wakes it: a frame, its connection's
//! owner, the end of its reader, or a confirm if it waits for one. It waits for a confirm while the
//! window is full and when only confirms are left. Between frames that come faster than a thread
//! wakes up it stays awake.

mod in_flight;
pub mod notice;
pub mod source;
pub mod window;

use crate::amqp::{
    Channel, ChannelUser, ConnectionHandle, Control, Done, Error, Next, Refusals, Share,
    SharedConnection,
};
use crate::config::{Amqp, Camera};
use crate::handoff::hurry::Hurry;
use crate::idle::Idleness;
use crate::metrics::{CameraMetrics, PublisherCounters};
use crossbeam_utils::sync::Parker;
use in_flight::{ClosedWhenDropped, InFlight};
use notice::Notices;
use source::{Item, Source};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What wakes a publisher. In one place, because `races/in_flight.rs` compiles the same source with
/// a model of it.
mod sync {
    pub(super) use crossbeam_utils::sync::Unparker;
}

/// The publisher thread's state.
#[derive(Debug)]
pub struct Publisher {
    /// Whose frames or units.
    pub camera: Arc<Camera>,
    /// Window and time-outs.
    pub amqp: Arc<Amqp>,
    /// Where they come from.
    pub source: Source,
    /// Where they go.
    pub route: Route,
    /// Its counters.
    pub metrics: Arc<CameraMetrics>,
    /// Its side of its connection.
    pub connection: ConnectionHandle,
    /// Its share of its connection.
    pub share: Arc<Share>,
    /// Parks the publisher; the others have its unparker.
    pub parker: Parker,
    /// Where published frames are reported, if frame events are on.
    pub notices: Option<Notices>,
    /// Which learns whether the camera has a consumer, if `idle.after` is set.
    pub idleness: Option<Arc<Idleness>>,
}

/// Where the messages of a publisher go, and how.
#[derive(Debug, Clone)]
pub struct Route {
    /// The exchange.
    pub exchange: String,
    /// The routing key of each message.
    pub routing_key: String,
    /// Of these, at most so many per second are expected: see [`window`].
    pub fps: u32,
    /// What is older is not sent.
    pub max_age: Duration,
}

impl Publisher {
    fn counters(&self) -> &PublisherCounters {
        self.source.counters(&self.metrics)
    }

    /// Runs until the reader has ended and the last frame is accounted for.
    pub fn run(&mut self) {
        self.use_channels();
    }

    /// Publishes until the reader has ended and every frame is confirmed.
    fn publish_all(&self, channel: &Channel, refusals: &mut Refusals) -> Result<Done, Error> {
        let in_flight = ClosedWhenDropped(Arc::new(InFlight::new(self, channel.answer_waiters())));
        channel.listen(Arc::clone(&in_flight.0) as _);
        self.connection.declare(channel, &self.route.exchange)?;
        let mut hurry = Hurry::default();
        loop {
            // Before the mailbox is read: the reader puts its last frame before it closes the
            // mailbox.
            let reader_ended = self.source.closed();
            let view = in_flight.0.look(reader_ended || refusals.now());
            if view.over {
                return Err(channel.why_ended());
            }
            if view.answered {
                self.accepted(refusals);
            }
            let may_send = view.room && !self.connection.blocked();
            let mut again_at = None;
            match self.next_item(may_send) {
                Next::Send { item, ticket, .. } if self.is_oversize(&item) => {
                    self.share.forget(ticket);
                    self.counters().oversize.increment();
                    in_flight.0.broken(item.gop());
                    self.source.put_back(item);
                    continue;
                }
                Next::Send {
                    item,
                    ticket,
                    carried,
                } => {
                    let now = Instant::now();
                    hurry.frame(now);
                    let sent =
                        self.send(channel, &in_flight.0, &item, ticket, (now, now + carried));
                    self.source.put_back(item);
                    sent?;
                    continue;
                }
                Next::Wait(at) => again_at = at,
                Next::Nothing => {}
            }
            if reader_ended && view.empty {
                return Ok(Done);
            }
            match self.connection.control().try_recv() {
                // Requested before a panic; this publisher has a channel already.
                Ok(Control::Channel(spare)) => {
                    self.connection.close(*spare);
                    in_flight.0.note_wait();
                }
                // Sent before the channel was.
                Ok(Control::Look | Control::Refused(_) | Control::Move(_)) => {}
                Err(_) if hurry.lasts(Instant::now) => std::thread::yield_now(),
                Err(_) => match again_at {
                    Some(at) => self.parker.park_deadline(at),
                    None => self.parker.park(),
                },
            }
        }
    }

    /// What is next, if something waits and the scheduler lets it go now.
    fn next_item(&self, may_send: bool) -> Next<Item> {
        if !may_send {
            self.share.pass(Instant::now());
            return Next::Nothing;
        }
        let (now, waits) = (Instant::now(), || self.source.waiting());
        let next = self.share.take(now, waits, || {
            let item = self.source.take(now)?;
            let bytes = item.bytes().len() as u64;
            Some((item, bytes))
        });
        if matches!(next, Next::Send { .. }) {
            self.counters().taken.increment();
        }
        next
    }

    fn is_oversize(&self, item: &Item) -> bool {
        item.bytes().len() as u64 > self.connection.largest_message()
    }

    /// `taken` is when the frame was taken from the mailbox, `carried` when the uplink will have
    /// carried its last byte.
    fn send(
        &self,
        channel: &Channel,
        in_flight: &InFlight,
        item: &Item,
        ticket: u64,
        (taken, carried): (Instant, Instant),
    ) -> Result<(), Error> {
        let (camera, route, counters) = (&self.camera, &self.route, self.counters());
        in_flight.put(item, ticket, taken);
        // Asked when the socket is free: it may have been busy for as long as an alarm lasted.
        let goes = || {
            let now = Instant::now();
            let age = item.captured().age(now);
            if item.captured().age(now.max(carried)) > route.max_age {
                in_flight.take_back_too_old();
                return false;
            }
            counters.capture_to_publish.observe_duration(age);
            log::trace!(camera_id = camera.id;
                "{} {} goes to the broker", item.word(), item.number().1);
            true
        };
        channel.publish(
            &route.exchange,
            &route.routing_key,
            self.amqp.mandatory || self.idleness.is_some(),
            &item.headers(&camera.id),
            item.bytes(),
            goes,
        )
    }
}

impl ChannelUser for Publisher {
    fn connection(&self) -> &ConnectionHandle {
        &self.connection
    }

    fn connection_mut(&mut self) -> &mut ConnectionHandle {
        &mut self.connection
    }

    fn exchange(&self) -> &str {
        &self.route.exchange
    }

    /// Woken by the end of the reader.
    fn hear(&mut self) -> Result<Control, Done> {
        loop {
            // All of them: one wake-up may stand for several.
            match self.connection.control().try_recv() {
                Ok(control) => return Ok(control),
                Err(_) if self.source.closed() => return Err(Done),
                Err(_) => self.parker.park(),
            }
        }
    }

    fn moves_to(&mut self, shared: &SharedConnection) {
        let waker = self.parker.unparker().clone();
        self.share = Arc::new(Share::new(&shared.scheduler, waker));
    }

    fn send_over(&mut self, channel: &Channel, refusals: &mut Refusals) -> Result<Done, Error> {
        self.publish_all(channel, refusals)
    }

    /// The broker no longer answers for frames in flight. They are not sent again: newer frames
    /// supersede them.
    fn settle(&mut self) {
        let counters = self.counters();
        counters.unknown.add(counters.in_flight());
    }

    fn learns_from(&self, error: &Error) -> bool {
        self.connection.learns_from(error)
    }

    /// Woken by the end of the reader.
    fn pause(&mut self, delay: Duration) -> Result<(), Done> {
        let until = Instant::now() + delay;
        while Instant::now() < until {
            if self.source.closed() {
                return Err(Done);
            }
            self.parker.park_deadline(until);
        }
        Ok(())
    }

    fn say(&self, level: log::Level, text: fmt::Arguments<'_>) {
        log::log!(level, camera_id = self.camera.id; "{text}");
    }
}

#[cfg(test)]
mod tests;
