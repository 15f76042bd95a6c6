//! The events thread: publishes what state each camera is in, and which frames were published.
//!
//! It has a connection of its own, so the broker cannot delay frames by delaying events. No other
//! thread waits for it: readers signal through a channel with room for one, publishers use a
//! bounded queue.
//!
//! A state is kept until the broker confirms it, and all states are sent again over each new
//! channel. A frame event is sent once.

mod board;
mod body;

use crate::amqp::{
    Channel, ChannelUser, Confirm, ConnectionHandle, Control, Done, Error, Refusals,
    SharedConnection, Unconfirmed,
};
use crate::clock::Stamp;
use crate::config::Metadata;
use crate::metrics::Metrics;
use crate::overview::Overview;
use crate::publish::notice::Published;
use board::{Board, REFUSED_PAUSE, Told};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, never, select, unbounded};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The largest number of unconfirmed frame events, so that a state never waits behind more. It is
/// enough for 100 cameras at 15 frames/s and a broker with a latency of 170 ms.
const WINDOW: usize = 256;

/// Time for the last states after the order to stop. A LAN takes a few ms, the longest round trips
/// 300.
const LAST_WORDS: Duration = Duration::from_millis(350);

/// The daemon's handle. Dropping it is the order to stop.
#[derive(Debug)]
pub struct Handle(Sender<Arc<Overview>>);

impl Handle {
    /// From now on these are the cameras.
    pub fn show(&self, overview: Arc<Overview>) {
        let _ = self.0.send(overview);
    }
}

/// The events thread's state.
#[derive(Debug)]
pub struct Events {
    metadata: Metadata,
    board: Board,
    /// Changed cameras. Its end is the order to stop.
    overviews: Receiver<Arc<Overview>>,
    /// Some camera's status has changed.
    changed: Receiver<()>,
    /// From the publishers.
    published: Receiver<Published>,
    metrics: Arc<Metrics>,
    /// Its side of its connection.
    connection: ConnectionHandle,
    /// Unconfirmed events of the current channel.
    open: Unconfirmed<Sent>,
}

/// When the loop of one channel looks again, and when it stops.
struct Plan {
    /// When to look at the board.
    look_at: Instant,
    /// After the order to stop: until when to wait for confirms.
    stop_at: Option<Instant>,
}

/// What woke the events thread.
enum News {
    /// Nothing but a reason to go round the loop.
    Nothing,
    /// Some camera's status has changed.
    Changed,
    Published(Published),
    Confirm(Confirm),
    /// Requested before a panic; the thread has a channel already.
    Spare(Box<Channel>),
    Cameras(Arc<Overview>),
    Stop,
    /// The channel has ended, or the connection's owner.
    Ended,
}

/// One unconfirmed event.
#[derive(Debug)]
struct Sent {
    at: Instant,
    /// `None` for a frame.
    told: Option<Told>,
}

/// What the thread receives.
#[derive(Debug)]
pub struct Inputs {
    /// Some camera's status has changed.
    pub changed: Receiver<()>,
    /// Frames that the broker acked.
    pub published: Receiver<Published>,
}

impl Events {
    /// The events thread of the cameras in `overview`.
    pub fn new(
        metadata: Metadata,
        overview: Arc<Overview>,
        ears: Inputs,
        connection: ConnectionHandle,
    ) -> (Self, Handle) {
        let (tell, overviews) = unbounded();
        let events = Self {
            metadata,
            metrics: Arc::clone(&overview.metrics),
            board: Board::new(overview, Instant::now()),
            overviews,
            changed: ears.changed,
            published: ears.published,
            connection,
            open: Unconfirmed::with_capacity(WINDOW),
        };
        (events, Handle(tell))
    }

    /// Runs until the handle is dropped and the last states are confirmed, or cannot be.
    pub fn run(&mut self) {
        self.use_channels();
        let left = self.published.try_iter().count();
        self.metrics.events.lost(left as u64);
    }

    /// Publishes until the order to stop, and then the last states.
    fn tell(&mut self, channel: &Channel, refusals: &mut Refusals) -> Result<Done, Error> {
        let (hear, confirms) = unbounded();
        channel.listen(Arc::new(hear));
        // Held all the time: events go through amiquip's I/O thread, which must not pause.
        let _awaiting = channel.answer_waiters().wait();
        let mut plan = Plan {
            look_at: Instant::now(),
            stop_at: None,
        };
        self.board.tell_all_anew();
        loop {
            let now = Stamp::now();
            if plan.stop_at.is_some_and(|at| at <= now.monotonic) {
                return Ok(Done);
            }
            let blocked = self.connection.blocked();
            if !blocked && plan.look_at <= now.monotonic {
                let (due, again) = self.board.look(now);
                plan.look_at = again;
                for (told, event) in due {
                    self.send(channel, Some(told), &event)?;
                }
            }
            if plan.stop_at.is_some() && !blocked && self.has_told_all() {
                return Ok(Done);
            }
            let news = self.next_news(&confirms, blocked, &plan);
            self.take_in(news, channel, now.monotonic, &mut plan, refusals)?;
        }
    }

    /// Whether nothing waits to be sent or confirmed.
    fn has_told_all(&self) -> bool {
        self.open.is_empty() && self.published.is_empty()
    }

    /// Waits for the next thing to do. A frame that waits goes first.
    fn next_news(&self, confirms: &Receiver<Confirm>, blocked: bool, plan: &Plan) -> News {
        let room = !blocked && self.open.len() < WINDOW;
        if room && let Ok(published) = self.published.try_recv() {
            return News::Published(published);
        }
        // While blocked nothing can be sent, so only the end of the time to stop matters.
        let until = match (blocked, plan.stop_at) {
            (true, stop_at) => stop_at,
            (false, Some(stop_at)) => Some(stop_at.min(plan.look_at)),
            (false, None) => Some(plan.look_at),
        };
        let timer = until.map_or_else(never, crossbeam_channel::at);
        let (no_frames, no_overviews) = (never(), never());
        let frames = if room { &self.published } else { &no_frames };
        let overviews = match plan.stop_at {
            None => &self.overviews,
            Some(_) => &no_overviews,
        };
        select! {
            recv(self.changed) -> _ => News::Changed,
            recv(frames) -> published => published.map_or(News::Nothing, News::Published),
            recv(confirms) -> confirm => confirm.map_or(News::Ended, News::Confirm),
            recv(self.connection.control()) -> control => match control {
                Ok(Control::Look | Control::Refused(_) | Control::Move(_)) => News::Nothing,
                Ok(Control::Channel(spare)) => News::Spare(spare),
                Err(_) => News::Ended,
            },
            recv(overviews) -> overview => overview.map_or(News::Stop, News::Cameras),
            recv(timer) -> _ => News::Nothing,
        }
    }

    fn take_in(
        &mut self,
        news: News,
        channel: &Channel,
        now: Instant,
        plan: &mut Plan,
        refusals: &mut Refusals,
    ) -> Result<(), Error> {
        match news {
            News::Nothing => {}
            News::Changed => plan.look_at = now,
            News::Published(published) => self.send(channel, None, &body::frame(&published))?,
            News::Confirm(confirm) => {
                if self.confirmed(confirm, refusals) {
                    plan.look_at = plan.look_at.min(now + REFUSED_PAUSE);
                }
            }
            News::Spare(spare) => self.connection.close(*spare),
            News::Cameras(overview) => {
                plan.look_at = now;
                self.board.follow(overview, now);
            }
            News::Stop => {
                plan.look_at = now;
                // Not from `now`, which is from before the wait.
                plan.stop_at = Some(Instant::now() + LAST_WORDS);
                self.board.stop();
            }
            News::Ended => return Err(channel.why_ended()),
        }
        Ok(())
    }

    fn send(
        &mut self,
        channel: &Channel,
        told: Option<Told>,
        event: &crate::message::EventMessage,
    ) -> Result<(), Error> {
        let at = Instant::now();
        self.open.push(Sent { at, told });
        let oldest = self.open.oldest();
        self.connection.waits_since(oldest.map(|sent| sent.at));
        channel.publish_event(&self.metadata.exchange, event)
    }

    /// Returns whether a state was refused.
    fn confirmed(&mut self, confirm: Confirm, refusals: &mut Refusals) -> bool {
        let mut refused = false;
        let now = Instant::now();
        let Self {
            board,
            metrics,
            open,
            ..
        } = self;
        let events = &metrics.events;
        open.answered(confirm.tag, confirm.multiple, |sent| {
            match (&sent.told, confirm.acked) {
                (_, true) => events.published.increment(),
                (None, false) => events.lost(1),
                (Some(_), false) => refused = true,
            }
            if let Some(told) = &sent.told {
                board.answered(told, confirm.acked, now);
            }
        });
        self.connection
            .waits_since(open.oldest().map(|sent| sent.at));
        self.accepted(refusals);
        refused
    }
}

impl ChannelUser for Events {
    fn connection(&self) -> &ConnectionHandle {
        &self.connection
    }

    fn connection_mut(&mut self) -> &mut ConnectionHandle {
        &mut self.connection
    }

    fn exchange(&self) -> &str {
        &self.metadata.exchange
    }

    /// Woken by the order to stop.
    fn hear(&mut self) -> Result<Control, Done> {
        loop {
            select! {
                recv(self.connection.control()) -> control => return control.map_err(|_| Done),
                recv(self.overviews) -> overview => match overview {
                    Ok(overview) => self.board.follow(overview, Instant::now()),
                    Err(_) => return Err(Done),
                },
            }
        }
    }

    fn moves_to(&mut self, _: &SharedConnection) {}

    fn send_over(&mut self, channel: &Channel, refusals: &mut Refusals) -> Result<Done, Error> {
        self.connection.declare(channel, &self.metadata.exchange)?;
        self.tell(channel, refusals)
    }

    fn settle(&mut self) {
        let open = std::mem::replace(&mut self.open, Unconfirmed::with_capacity(WINDOW));
        let frames = open.iter().filter(|sent| sent.told.is_none()).count();
        self.metrics.events.lost(frames as u64);
    }

    /// No broker's limit is smaller than an event.
    fn learns_from(&self, _: &Error) -> bool {
        false
    }

    /// Woken by the order to stop.
    fn pause(&mut self, delay: Duration) -> Result<(), Done> {
        let until = Instant::now() + delay;
        loop {
            match self.overviews.recv_deadline(until) {
                Ok(overview) => self.board.follow(overview, Instant::now()),
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => return Err(Done),
            }
        }
    }

    fn say(&self, level: log::Level, text: fmt::Arguments<'_>) {
        log::log!(level, "events: {text}");
    }
}

#[cfg(test)]
mod tests;
