//! The events thread: tells programs elsewhere how the cameras are, and what was published.
//!
//! It has a connection of its own, so whatever the broker does to it, no frame waits. Nobody waits for
//! it either: readers ring a bell, publishers use a bounded queue.
//!
//! States are kept until the broker confirms them, and all are told anew over each new channel, so that
//! a consumer sees the truth. Frame events are sent once.

mod board;
mod body;

use crate::amqp::{Channel, Confirm, Control, Error, OwnerGone, Refusals, Seat, Unconfirmed};
use crate::clock::Stamp;
use crate::config::Metadata;
use crate::metrics::Metrics;
use crate::overview::Overview;
use crate::publish::notice::Published;
use board::{Board, REFUSED_PAUSE, Told};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, never, select, unbounded};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Frame events that may be unconfirmed, which bounds what a state has to queue behind. Carries 100 cameras
/// with 15 frames/s each to a broker 170 ms away.
const WINDOW: usize = 256;

/// After the order to stop, the last states are sent and confirmed within this: a LAN takes a few ms, the
/// other end of the world 300.
const LAST_WORDS: Duration = Duration::from_millis(350);

/// What the thread is told; dropping it is the order to stop.
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
    /// Other cameras. Its end is the order to stop.
    overviews: Receiver<Arc<Overview>>,
    /// The bell: some camera's status has changed.
    changed: Receiver<()>,
    /// From the publishers.
    published: Receiver<Published>,
    metrics: Arc<Metrics>,
    /// At its connection.
    seat: Seat,
}

/// Stopping.
struct Done;

impl From<OwnerGone> for Done {
    fn from(_: OwnerGone) -> Self {
        Self
    }
}

/// One unconfirmed event.
struct Sent {
    at: Instant,
    /// `None`: a frame.
    told: Option<Told>,
}

/// What the thread listens to.
#[derive(Debug)]
pub struct Ears {
    /// The bell: some camera's status has changed.
    pub changed: Receiver<()>,
    /// Frames that the broker acked.
    pub published: Receiver<Published>,
}

impl Events {
    /// Of the cameras in `overview`.
    pub fn new(
        metadata: Metadata,
        overview: Arc<Overview>,
        ears: Ears,
        seat: Seat,
    ) -> (Self, Handle) {
        let (tell, overviews) = unbounded();
        let events = Self {
            metadata,
            metrics: Arc::clone(&overview.metrics),
            board: Board::new(overview, Instant::now()),
            overviews,
            changed: ears.changed,
            published: ears.published,
            seat,
        };
        (events, Handle(tell))
    }

    /// Runs until the handle is dropped and the last states are told, or cannot be.
    pub fn run(&mut self) {
        // After a panic.
        self.seat.waits_since(None);
        self.tell_until_done();
        let left = self.published.try_iter().count();
        self.metrics.events.lost(left as u64);
    }

    fn tell_until_done(&mut self) {
        let mut refusals = Refusals::default();
        while let Ok(channel) = self.next_channel() {
            let mut open = Unconfirmed::with_capacity(WINDOW);
            let told = self
                .seat
                .declare(&channel, &self.metadata.exchange)
                .and_then(|()| self.tell(&channel, &mut open, &mut refusals));
            let frames = open.iter_mut().filter(|sent| sent.told.is_none()).count();
            self.metrics.events.lost(frames as u64);
            self.seat.close(channel);
            // The end of the whole connection is its owner's to tell.
            let refused = match told {
                Ok(Done) => return,
                Err(error) if error.kind.is_refusal() => error,
                Err(_) => continue,
            };
            let (pause, say) = refusals.refused(&refused.text);
            if let Some(again) = say {
                log::error!(
                    "events: the broker refuses exchange \"{}\": {refused}{again}",
                    self.metadata.exchange
                );
            }
            if self.pause(pause).is_err() {
                return;
            }
        }
    }

    /// Asks the connection's owner for a channel and waits for it. Woken by the order to stop.
    fn next_channel(&mut self) -> Result<Channel, Done> {
        self.seat.ask_for_channel()?;
        loop {
            select! {
                recv(self.seat.control()) -> control => match control {
                    Ok(Control::Channel(channel)) => return Ok(*channel),
                    Ok(Control::Look | Control::Refused(_) | Control::Move(_)) => {}
                    Err(_) => return Err(Done),
                },
                recv(self.overviews) -> overview => match overview {
                    Ok(overview) => self.board.follow(overview, Instant::now()),
                    Err(_) => return Err(Done),
                },
            }
        }
    }

    /// Tells until the order to stop, and then the last states.
    fn tell(
        &mut self,
        channel: &Channel,
        open: &mut Unconfirmed<Sent>,
        refusals: &mut Refusals,
    ) -> Result<Done, Error> {
        let (hear, confirms) = unbounded();
        channel.listen(Arc::new(hear));
        // Always: the thread that reads the answers sends the events, too.
        let _awaiting = channel.awaited().wait();
        let overviews = self.overviews.clone();
        let (no_frames, no_overviews) = (never(), never());
        let mut look_at = Instant::now();
        let mut stop_at = None;
        self.board.tell_all_anew();
        loop {
            let now = Stamp::now();
            if stop_at.is_some_and(|stop_at| stop_at <= now.monotonic) {
                return Ok(Done);
            }
            let blocked = self.seat.blocked();
            if !blocked && look_at <= now.monotonic {
                let (due, again) = self.board.look(now);
                look_at = again;
                for (told, event) in due {
                    self.send(channel, open, Some(told), &event)?;
                }
            }
            let room = !blocked && open.len() < WINDOW;
            if room && let Ok(published) = self.published.try_recv() {
                self.send(channel, open, None, &body::frame(&published))?;
                continue;
            }
            if stop_at.is_some() && !blocked && open.is_empty() {
                return Ok(Done);
            }
            // Blocked: nothing can be sent, so there is nothing to look for.
            let until = match blocked {
                true => stop_at,
                false => Some(stop_at.map_or(look_at, |stop_at| look_at.min(stop_at))),
            };
            let timer = until.map_or_else(never, crossbeam_channel::at);
            let frames = if room { &self.published } else { &no_frames };
            let news = if stop_at.is_none() {
                &overviews
            } else {
                &no_overviews
            };
            select! {
                recv(self.changed) -> _ => look_at = now.monotonic,
                recv(frames) -> published => if let Ok(published) = published {
                    self.send(channel, open, None, &body::frame(&published))?;
                },
                recv(confirms) -> confirm => match confirm {
                    Ok(confirm) => if self.confirmed(open, confirm, refusals) {
                        look_at = look_at.min(now.monotonic + REFUSED_PAUSE);
                    },
                    Err(_) => return Err(channel.why_ended()),
                },
                recv(self.seat.control()) -> control => match control {
                    Ok(Control::Look | Control::Refused(_) | Control::Move(_)) => {}
                    // Asked for before a panic, and no longer needed.
                    Ok(Control::Channel(spare)) => self.seat.close(*spare),
                    Err(_) => return Err(channel.why_ended()),
                },
                recv(news) -> overview => {
                    look_at = now.monotonic;
                    match overview {
                        Ok(overview) => self.board.follow(overview, now.monotonic),
                        Err(_) => {
                            // From here: `now` is from before the wait.
                            stop_at = Some(Instant::now() + LAST_WORDS);
                            self.board.stop();
                        }
                    }
                },
                recv(timer) -> _ => {}
            }
        }
    }

    fn send(
        &self,
        channel: &Channel,
        open: &mut Unconfirmed<Sent>,
        told: Option<Told>,
        event: &crate::message::Event,
    ) -> Result<(), Error> {
        let at = Instant::now();
        open.push(Sent { at, told });
        self.seat.waits_since(open.oldest().map(|sent| sent.at));
        channel.publish_event(&self.metadata.exchange, event)
    }

    /// Returns whether a state was refused.
    fn confirmed(
        &mut self,
        open: &mut Unconfirmed<Sent>,
        confirm: Confirm,
        refusals: &mut Refusals,
    ) -> bool {
        let mut refused = false;
        let now = Instant::now();
        let (board, events) = (&mut self.board, &self.metrics.events);
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
        self.seat.waits_since(open.oldest().map(|sent| sent.at));
        if refusals.over() {
            log::info!(
                "events: the broker takes exchange \"{}\" now",
                self.metadata.exchange
            );
        }
        refused
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
}
