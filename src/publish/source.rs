//! What a publisher sends: a camera's frames out of their mailbox, or its access units out of their
//! GOP queue.

use crate::clock::Stamp;
use crate::frame::{Frame, Unit};
use crate::handoff::gops::{Drops, Gop, GopReceiver};
use crate::handoff::mailbox::MailboxReceiver;
use crate::idle::Stream;
use crate::message::Headers;
use crate::metrics::{CameraMetrics, PublisherCounters};
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

/// Where a publisher's messages wait.
#[derive(Debug)]
pub enum Source {
    /// The newest frame.
    Frames(MailboxReceiver<Frame>),
    /// The newest group of pictures.
    Units(Units),
}

/// Access units that wait, and the buffer into which each is copied to be sent.
#[derive(Debug)]
pub struct Units {
    queue: Arc<GopReceiver<Unit>>,
    buffer: RefCell<Vec<u8>>,
    metrics: Arc<CameraMetrics>,
}

impl Units {
    /// Counts in `metrics` what the queue drops when a unit is taken.
    pub fn new(queue: GopReceiver<Unit>, metrics: Arc<CameraMetrics>) -> Self {
        Self {
            queue: Arc::new(queue),
            buffer: RefCell::default(),
            metrics,
        }
    }

    fn take(&self, now: Instant) -> Option<Item> {
        let mut bytes = self.buffer.take();
        let (taken, drops) = self.queue.take(now, &mut bytes);
        let Drops {
            too_old, no_key, ..
        } = drops;
        let counters = &self.metrics.video.publisher;
        counters.taken.add(too_old + no_key);
        counters.too_old.add(too_old);
        counters.no_key.add(no_key);
        match taken {
            Some(placed) => Some(Item::Unit(placed.unit, placed.gop, bytes)),
            None => {
                self.buffer.replace(bytes);
                None
            }
        }
    }
}

/// What is sent as one message.
#[derive(Debug)]
pub(super) enum Item {
    Frame(Frame),
    /// An access unit, its group of pictures, and its bytes.
    Unit(Unit, Gop, Vec<u8>),
}

impl Source {
    /// Under which name its publisher asks for channels. No camera's id has a slash.
    pub fn user(&self, camera_id: &str) -> Arc<str> {
        match self {
            Self::Frames(_) => camera_id.into(),
            Self::Units(_) => format!("{camera_id}/video").into(),
        }
    }

    /// Whether something waits.
    pub(super) fn waiting(&self) -> bool {
        match self {
            Self::Frames(mailbox) => mailbox.waiting(),
            Self::Units(units) => units.queue.waiting(),
        }
    }

    /// Takes what is next.
    pub(super) fn take(&self, now: Instant) -> Option<Item> {
        match self {
            Self::Frames(mailbox) => mailbox.take().map(Item::Frame),
            Self::Units(units) => units.take(now),
        }
    }

    /// The item has been sent, or dropped: its buffer is free.
    pub(super) fn put_back(&self, item: Item) {
        if let (Self::Units(units), Item::Unit(.., bytes)) = (self, item) {
            units.buffer.replace(bytes);
        }
    }

    /// Whether the reader has ended. The last item may still wait.
    pub(super) fn closed(&self) -> bool {
        match self {
            Self::Frames(mailbox) => mailbox.closed(),
            Self::Units(units) => units.queue.closed(),
        }
    }

    /// The publisher's counters of this source.
    pub(super) fn counters<'a>(&self, metrics: &'a CameraMetrics) -> &'a PublisherCounters {
        match self {
            Self::Frames(_) => &metrics.publisher,
            Self::Units(_) => &metrics.video.publisher,
        }
    }

    /// Which of the camera's streams it is.
    pub(super) fn stream(&self) -> Stream {
        match self {
            Self::Frames(_) => Stream::Frames,
            Self::Units(_) => Stream::Units,
        }
    }

    /// For those who learn that a unit did not arrive, on which others hang.
    pub(super) fn units(&self) -> Option<&Arc<GopReceiver<Unit>>> {
        match self {
            Self::Frames(_) => None,
            Self::Units(units) => Some(&units.queue),
        }
    }
}

impl Item {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Frame(frame) => frame.jpeg.picture(),
            Self::Unit(.., bytes) => bytes,
        }
    }

    pub(super) fn captured(&self) -> Stamp {
        match self {
            Self::Frame(frame) => frame.captured,
            Self::Unit(unit, ..) => unit.captured,
        }
    }

    /// Its session and its number in it.
    pub(super) fn number(&self) -> (i64, u64) {
        match self {
            Self::Frame(frame) => (frame.epoch, frame.seq),
            Self::Unit(unit, ..) => (unit.epoch, unit.seq),
        }
    }

    /// Width and height.
    pub(super) fn size(&self) -> (u16, u16) {
        match self {
            Self::Frame(frame) => (frame.width, frame.height),
            Self::Unit(unit, ..) => (unit.width, unit.height),
        }
    }

    pub(super) fn gop(&self) -> Option<Gop> {
        match self {
            Self::Frame(_) => None,
            Self::Unit(_, gop, _) => Some(*gop),
        }
    }

    pub(super) fn headers<'a>(&self, camera_id: &'a str) -> Headers<'a> {
        match self {
            Self::Frame(frame) => Headers::of(camera_id, frame),
            Self::Unit(unit, ..) => Headers::of_unit(camera_id, unit),
        }
    }

    /// In the log.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Frame(_) => "frame",
            Self::Unit(..) => "unit",
        }
    }
}
