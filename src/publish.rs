//! A camera's publisher thread: takes the newest frame, hands it to the broker, and keeps the books of
//! what became of it.
//!
//! It never touches FFmpeg, and waits for four things at once without polling: a frame, a confirm,
//! its connection's owner, and the end of its reader.

pub mod connection;
pub mod link;
pub mod notice;
pub mod refusals;
pub mod seat;
pub mod unconfirmed;
pub mod window;

use crate::broker::{Channel, Confirm, ConfirmPayload, Error, ErrorKind};
use crate::clock::{Stamp, process_us};
use crate::config::{Amqp, Camera};
use crate::frame::Frame;
use crate::handoff::mailbox::MailboxReceiver;
use crate::message::{self, Headers};
use crate::metrics::CameraMetrics;
use connection::Control;
use crossbeam_channel::{never, select};
use notice::{Notices, Published};
use refusals::Refusals;
use seat::{OwnerGone, Seat};
use std::sync::Arc;
use std::time::{Duration, Instant};
use unconfirmed::Unconfirmed;
use window::Window;

/// The publisher thread's state.
#[derive(Debug)]
pub struct Publisher {
    /// Whose frames.
    pub camera: Arc<Camera>,
    /// Window, ages and time-outs.
    pub amqp: Arc<Amqp>,
    /// Where the frames come from.
    pub mailbox: MailboxReceiver<Frame>,
    /// The books.
    pub metrics: Arc<CameraMetrics>,
    /// At its connection.
    pub seat: Seat,
    /// To whoever announces what was published, if somebody does.
    pub notices: Option<Notices>,
}

/// The reader has ended and nothing waits any more.
struct Done;

impl From<OwnerGone> for Done {
    fn from(_: OwnerGone) -> Self {
        Self
    }
}

impl Publisher {
    /// Runs until the reader has ended and the last frame is accounted for.
    pub fn run(&mut self) {
        // After a panic: what was in flight then has no known fate, and nothing is waited for.
        self.settle_unknown();
        self.seat.waits_since(None);
        let mut refusals = Refusals::default();
        loop {
            let Ok(channel) = self.next_channel() else {
                break;
            };
            let published = self
                .seat
                .declare(&channel, &self.camera.exchange)
                .and_then(|()| self.publish_all(&channel, &mut refusals));
            self.settle_unknown();
            self.seat.close(channel);
            // The end of the whole connection is its owner's to tell.
            let refused = match published {
                Ok(Done) => break,
                Err(error) if error.kind == ErrorKind::Channel => error,
                Err(_) => continue,
            };
            let (pause, say) = refusals.refused(&refused.text);
            if let Some(again) = say {
                log::error!(camera_id = self.camera.id;
                    "the broker refuses exchange \"{}\": {refused}{again}", self.camera.exchange);
            }
            if self.pause(pause).is_err() {
                break;
            }
        }
    }

    /// Asks the connection's owner for a channel and waits for it. Woken by the end of the reader.
    fn next_channel(&self) -> Result<Channel, Done> {
        self.seat.ask_for_channel()?;
        loop {
            select! {
                recv(self.seat.control()) -> control => match control {
                    Ok(Control::Channel(channel)) => return Ok(channel),
                    Ok(Control::Look) => {}
                    Err(_) => return Err(Done),
                },
                recv(self.mailbox.closed()) -> _ => return Err(Done),
            }
        }
    }

    /// Publishes until the reader has ended and every frame is confirmed.
    fn publish_all(&self, channel: &Channel, refusals: &mut Refusals) -> Result<Done, Error> {
        let mut flight = Flight {
            publisher: self,
            unconfirmed: Unconfirmed::with_capacity(window::MAX),
            window: Window::new(self.amqp.max_in_flight, self.camera.fps, self.amqp.max_age),
        };
        let (not_now, mut reader_lives) = (never(), true);
        loop {
            let may_send = flight.room() && !self.seat.blocked();
            if may_send && let Some(frame) = self.mailbox.take() {
                if let Err(error) = flight.send(channel, frame) {
                    // What was confirmed before the end is not unknown.
                    while let Ok(confirm) = channel.confirms().try_recv() {
                        flight.confirmed(channel, confirm);
                    }
                    return Err(error);
                }
                continue;
            }
            if !reader_lives && flight.unconfirmed.is_empty() {
                return Ok(Done);
            }
            let frame = match may_send && reader_lives {
                true => self.mailbox.woken(),
                false => &not_now,
            };
            select! {
                recv(frame) -> woken => reader_lives = woken.is_ok(),
                recv(channel.confirms()) -> confirm => match confirm {
                    Ok(confirm) => {
                        flight.confirmed(channel, confirm);
                        if refusals.over() {
                            log::info!(camera_id = self.camera.id;
                                "the broker takes exchange \"{}\" now", self.camera.exchange);
                        }
                    }
                    Err(_) => return Err(channel.why_ended()),
                },
                recv(self.seat.control()) -> control => match control {
                    Ok(Control::Look) => {}
                    // Asked for before a panic, and no longer needed.
                    Ok(Control::Channel(spare)) => self.seat.close(spare),
                    Err(_) => return Err(channel.why_ended()),
                },
            }
        }
    }

    /// Woken by the end of the reader.
    fn pause(&self, delay: Duration) -> Result<(), Done> {
        match self.mailbox.closed().recv_timeout(delay) {
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => Ok(()),
            _ => Err(Done),
        }
    }

    /// Nobody will learn what became of the frames in flight; a newer frame supersedes them.
    fn settle_unknown(&self) {
        let books = &self.metrics.publisher;
        books.unknown.add(books.in_flight());
    }
}

/// The unconfirmed frames of one channel.
struct Flight<'a> {
    publisher: &'a Publisher,
    unconfirmed: Unconfirmed<Sent>,
    window: Window,
}

struct Sent {
    epoch: i64,
    seq: u64,
    bytes: u64,
    width: u16,
    height: u16,
    captured: Stamp,
    at: Instant,
    returned: bool,
}

impl Flight<'_> {
    fn room(&self) -> bool {
        self.unconfirmed.len() < self.window.limit()
    }

    fn send(&mut self, channel: &Channel, frame: Frame) -> Result<(), Error> {
        let Publisher {
            camera,
            amqp,
            metrics,
            ..
        } = self.publisher;
        metrics.publisher.taken.increment();
        let now = Instant::now();
        if frame.captured.age(now) > amqp.max_age {
            metrics.publisher.too_old.increment();
            return Ok(());
        }
        let waited = frame.captured.age(now);
        metrics
            .publisher
            .capture_to_publish
            .observe_duration(waited);
        let jpeg = frame.jpeg.picture();
        self.unconfirmed.push(Sent {
            epoch: frame.epoch,
            seq: frame.seq,
            bytes: jpeg.len() as u64,
            width: frame.width,
            height: frame.height,
            captured: frame.captured,
            at: now,
            returned: false,
        });
        if self.unconfirmed.len() == 1 {
            self.publisher.seat.waits_since(Some(now));
        }
        log::trace!(camera_id = camera.id; "frame {} goes to the broker", frame.seq);
        channel.publish(
            &camera.exchange,
            &camera.routing_key,
            amqp.mandatory,
            &Headers::of(&camera.id, &frame),
            jpeg,
        )
    }

    fn confirmed(&mut self, channel: &Channel, confirm: Confirm) {
        let now = Instant::now();
        let (
            ConfirmPayload {
                delivery_tag,
                multiple,
            },
            acked,
        ) = match confirm {
            Confirm::Ack(payload) => (payload, true),
            Confirm::Nack(payload) => (payload, false),
        };
        while let Some(id) = channel.next_return() {
            self.mark_returned(&id);
        }
        let full = !self.room();
        let (publisher, window) = (self.publisher, &mut self.window);
        self.unconfirmed.answered(delivery_tag, multiple, |sent| {
            window.confirmed(sent.at, full, now);
            publisher.settle(&sent, acked, now);
        });
        let oldest = self.unconfirmed.oldest();
        self.publisher.seat.waits_since(oldest.map(|sent| sent.at));
    }

    fn mark_returned(&mut self, message_id: &str) {
        let id = message::parse_message_id(message_id);
        for sent in self.unconfirmed.iter_mut() {
            sent.returned |= id == Some((sent.epoch, sent.seq));
        }
    }
}

impl Publisher {
    fn settle(&self, sent: &Sent, acked: bool, now: Instant) {
        let books = &self.metrics.publisher;
        log::trace!(camera_id = self.camera.id;
            "frame {} is {}", sent.seq, if acked { "acked" } else { "nacked" });
        match (acked, sent.returned) {
            (false, _) => books.nacked.increment(),
            (true, true) => books.returned.increment(),
            (true, false) => {
                books.published_bytes.add(sent.bytes);
                books.published.increment();
                books
                    .last_published_us
                    .set(process_us(sent.captured.monotonic));
                let age = sent.captured.age(now);
                books.capture_to_confirm.observe_duration(age);
                let answered = now.saturating_duration_since(sent.at);
                books.publish_to_confirm.observe_duration(answered);
                if age > self.amqp.slow_publish {
                    books.slow.increment();
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
