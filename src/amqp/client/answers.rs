//! Delivers the broker's answers on amiquip's I/O thread, without amiquip: acks, nacks and returned
//! messages to their publisher, deliveries to their consumer.
//!
//! Through amiquip each answer would cost an allocation and a wake-up of the publisher, which
//! seldom has to react to it. amiquip also queues without limit what nobody reads, so answers
//! without a listener are dropped here.

use super::bindings::Bindings;
use super::bounds::sized;
use super::frame::{
    BASIC_ACK, BASIC_DELIVER, BASIC_NACK, BASIC_RETURN, BODY, Frame, HEADER, METHOD,
};
use super::inbox::{Gathering, Inbox};
use crate::amqp::lock::{Ordered, Rank};
use crossbeam_channel::Sender;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The broker's answer to one or several messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirm {
    /// Delivery tag: a channel's publishes are counted from 1.
    pub tag: u64,
    /// The answer is also for all unanswered messages before it.
    pub multiple: bool,
    /// Ack, not nack.
    pub acked: bool,
}

/// Receives the answers of one channel. Called on the connection's I/O thread, so it must not
/// block.
pub trait Listener: Send + Sync {
    /// The broker answered one or several messages.
    fn confirmed(&self, confirm: Confirm);

    /// A message reached no queue. Comes before its confirm.
    fn returned(&self, message_id: &str);

    /// The channel has ended, and amiquip knows why. No call follows.
    fn ended(&self);
}

/// Passes confirms on. Disconnected when the channel has ended.
impl Listener for Sender<Confirm> {
    fn confirmed(&self, confirm: Confirm) {
        let _ = self.send(confirm);
    }

    fn returned(&self, _: &str) {}

    fn ended(&self) {}
}

/// The listeners of a connection, by channel. A listener is dropped when its channel has ended.
pub struct Listeners(pub(super) Ordered<Listening>);

#[derive(Default)]
pub(super) struct Listening {
    /// The connection has ended.
    over: bool,
    by_channel: BTreeMap<u16, Arc<dyn Listener>>,
    consumers: BTreeMap<u16, (Gathering, Arc<Inbox>)>,
    bindings: BTreeMap<u16, Bindings>,
}

impl Default for Listeners {
    fn default() -> Self {
        Self(Ordered::new(Rank::Listeners, Listening::default()))
    }
}

impl std::fmt::Debug for Listeners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set()
            .entries(self.0.lock().by_channel.keys())
            .finish()
    }
}

impl Listeners {
    /// Sends the answers of this channel to `listener` from now on.
    pub fn listen(&self, channel: u16, listener: Arc<dyn Listener>) {
        let mut listening = self.0.lock();
        if listening.over {
            listener.ended();
        } else {
            listening.by_channel.insert(channel, listener);
        }
    }

    /// Puts what is delivered on this channel into `inbox` from now on.
    pub fn consume(&self, channel: u16, inbox: Arc<Inbox>) {
        let mut listening = self.0.lock();
        if listening.over {
            inbox.end();
        } else {
            let consumer = (Gathering::default(), inbox);
            listening.consumers.insert(channel, consumer);
        }
    }

    /// What is delivered on this channel are reports of new bindings.
    pub(super) fn hear_bindings(&self, channel: u16, bindings: Bindings) {
        let mut listening = self.0.lock();
        if !listening.over {
            listening.bindings.insert(channel, bindings);
        }
    }

    /// This channel has ended.
    pub(super) fn end(&self, channel: u16) {
        let mut listening = self.0.lock();
        if let Some(listener) = listening.by_channel.remove(&channel) {
            listener.ended();
        }
        if let Some((_, inbox)) = listening.consumers.remove(&channel) {
            inbox.end();
        }
        listening.bindings.remove(&channel);
    }

    /// The connection has ended.
    pub(super) fn end_all(&self) {
        let mut listening = self.0.lock();
        listening.over = true;
        for listener in std::mem::take(&mut listening.by_channel).into_values() {
            listener.ended();
        }
        for (_, inbox) in std::mem::take(&mut listening.consumers).into_values() {
            inbox.end();
        }
        listening.bindings.clear();
    }
}

/// What a frame was.
pub(super) enum Heard {
    /// A confirm.
    Answer,
    /// Part of a delivered or returned message.
    Message,
    /// Not for a listener: it goes to amiquip.
    Nothing,
}

impl Listening {
    /// Delivers a frame, if it is an answer or part of a message.
    pub(super) fn hear(&mut self, frame: &Frame<'_>) -> Heard {
        let listener = self.by_channel.get(&frame.channel);
        match (frame.kind, frame.payload.split_first_chunk()) {
            (METHOD, Some((method @ (&BASIC_ACK | &BASIC_NACK), args))) => {
                if let (Some(listener), Some((tag, [bits, ..]))) =
                    (listener, args.split_first_chunk())
                {
                    listener.confirmed(Confirm {
                        tag: u64::from_be_bytes(*tag),
                        multiple: bits & 1 != 0,
                        acked: *method == BASIC_ACK,
                    });
                }
                Heard::Answer
            }
            (METHOD, Some((&BASIC_RETURN | &BASIC_DELIVER, _))) => Heard::Message,
            (HEADER | BODY, _) => {
                self.content(frame);
                Heard::Message
            }
            _ => Heard::Nothing,
        }
    }

    /// Part of a message that returns to its publisher, or of one for a consumer, or of a report of
    /// a new binding. No channel has two of them.
    fn content(&mut self, frame: &Frame<'_>) {
        if let Some(bindings) = self.bindings.get(&frame.channel) {
            if frame.kind == HEADER {
                bindings.header(frame.payload);
            }
        } else if let Some((gathering, inbox)) = self.consumers.get_mut(&frame.channel) {
            match frame.kind {
                HEADER => gathering.header(frame.payload, inbox),
                _ => gathering.body(frame.payload, inbox),
            }
        } else if frame.kind == HEADER
            && let Some(listener) = self.by_channel.get(&frame.channel)
            && let Some(id) = message_id(frame.payload)
        {
            listener.returned(id);
        }
    }
}

/// The message id in a content header.
fn message_id(header: &[u8]) -> Option<&str> {
    // Class, a field that is not used, and the body's size; then a bit for each property that
    // follows.
    let (_, rest) = header.split_at_checked(12)?;
    let (flags, mut rest) = rest.split_first_chunk()?;
    let has = |bit: u16| u16::from_be_bytes(*flags) >> bit & 1 != 0;
    // What may come before the message id: content type and encoding, headers, delivery mode,
    // priority, correlation id, reply to, expiration. The number is the width of its length, 0 for
    // a single byte.
    let before = [1, 1, 4, 0, 0, 1, 1, 1];
    for (bit, width) in (8..16).rev().zip(before) {
        if has(bit) {
            (_, rest) = value(rest, width)?;
        }
    }
    let (id, _) = has(7).then(|| value(rest, 1))??;
    std::str::from_utf8(id).ok()
}

/// A property, and what is behind it. `width` is that of its length; 0 means a single byte.
fn value(bytes: &[u8], width: usize) -> Option<(&[u8], &[u8])> {
    match width {
        0 => bytes.split_at_checked(1),
        _ => sized(bytes, width),
    }
}
