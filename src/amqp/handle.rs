//! A publisher's side of its connection: it asks the owner for a channel, hears from it, and notes since
//! when it waits for the broker.

use super::client::Channel;
use super::error::{Error, ErrorKind};
use super::link::{Link, WaitSlot};
use super::owner::{Caller, Control, Request, SharedConnection};
use crate::status::CameraStatus;
use crossbeam_channel::{Receiver, unbounded};
use crossbeam_utils::sync::Unparker;
use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

/// Who sits here, as others know it.
#[derive(Debug)]
pub struct ConnectionUser {
    /// Its camera's id, for the log.
    pub name: Arc<str>,
    /// If it parks.
    pub waker: Option<Unparker>,
    /// Where it is shown what the broker refuses, if it is a camera's.
    pub status: Option<Arc<CameraStatus>>,
}

/// Given back when it is dropped, by a panic as well: the owner then knows of no such publisher any more.
#[derive(Debug)]
pub struct ConnectionHandle {
    shared: SharedConnection,
    wait_slot: Arc<WaitSlot>,
    /// From the owner.
    control: Receiver<Control>,
    own: Caller,
    status: Option<Arc<CameraStatus>>,
    /// The broker refused something, and has not taken a message since.
    refused: Cell<bool>,
    /// The exchange was not there when it was last looked for.
    absent: Cell<bool>,
    /// The largest message that was learnt here, and on which of the link's connections.
    learnt: Cell<(u64, u64)>,
}

/// The owner has ended.
#[derive(Debug)]
pub struct OwnerGone;

impl ConnectionHandle {
    /// At that connection.
    pub fn new(shared: SharedConnection, sitter: ConnectionUser) -> Self {
        let (own, control) = unbounded();
        Self {
            wait_slot: Arc::new(WaitSlot::new(Arc::clone(&shared.link))),
            shared,
            control,
            own: Caller::new(sitter.name, own, sitter.waker),
            status: sitter.status,
            refused: Cell::new(false),
            absent: Cell::new(false),
            learnt: Cell::new((0, 0)),
        }
    }

    fn link(&self) -> &Link {
        &self.shared.link
    }

    /// Whether the broker said that it takes no messages for now.
    pub fn blocked(&self) -> bool {
        self.link().blocked()
    }

    /// What the owner says.
    pub fn control(&self) -> &Receiver<Control> {
        &self.control
    }

    /// Asks for a channel, which [`control`](Self::control) brings.
    pub fn ask_for_channel(&self) -> Result<(), OwnerGone> {
        let asked = Request::Channel(self.own.clone());
        self.shared.requests.send(asked).map_err(|_| OwnerGone)
    }

    /// From now on at another connection, where a channel is asked for.
    pub fn move_to(&mut self, shared: SharedConnection) -> Result<(), OwnerGone> {
        self.leave();
        self.wait_slot = Arc::new(WaitSlot::new(Arc::clone(&shared.link)));
        self.shared = shared;
        self.ask_for_channel()
    }

    /// We wait for an answer or a confirm since then.
    pub fn waits_since(&self, since: Option<Instant>) {
        self.wait_slot.waits_since(since);
    }

    /// Where it is noted since when we wait.
    pub fn wait_slot(&self) -> &Arc<WaitSlot> {
        &self.wait_slot
    }

    /// Makes sure that the exchange is there, which waits for the broker's answer. It is looked for
    /// first, which anybody may, and declared only if it is absent.
    ///
    /// # Errors
    /// [`ErrorKind::Absent`] when the next channel is to declare it.
    pub fn declare(&self, channel: &Channel, exchange: &str) -> Result<(), Error> {
        self.waits_since(Some(Instant::now()));
        let declared = match self.absent.take() {
            true => channel.declare_exchange(exchange),
            false => channel.find_exchange(exchange),
        };
        self.waits_since(None);
        let absent = matches!(&declared, Err(error) if error.kind == ErrorKind::Absent);
        self.absent.set(absent);
        declared
    }

    /// Whether a channel that ended for `error` may be replaced at once: it taught how large a message
    /// may be, so it will not end for the same again. All who share the connection learn it.
    pub fn learns_from(&self, error: &Error) -> bool {
        let ErrorKind::TooLarge(bytes) = error.kind else {
            return false;
        };
        let link = self.link();
        let (connects, before) = self.learnt.replace((link.connects(), bytes));
        if link.learn_largest_message(bytes) {
            log::warn!(
                "the broker takes no message larger than {bytes} bytes (its max_message_size): \
                 larger frames are dropped as oversize; raise that limit, or lower the size or \
                 quality of the pictures"
            );
        }
        connects != link.connects() || bytes < before
    }

    /// Bytes of the largest message that the broker is known to take.
    pub fn largest_message(&self) -> u64 {
        self.link().largest_message()
    }

    /// The broker refuses what we ask for or send: shown where the camera is.
    pub fn refused(&self, why: &str) {
        self.refused.set(true);
        if let Some(status) = &self.status {
            status.refused(Some(why));
        }
    }

    /// The broker takes messages.
    pub fn accepted(&self) {
        if self.refused.take()
            && let Some(status) = &self.status
        {
            status.refused(None);
        }
    }

    /// Closes a channel, which waits for the broker's answer while the connection lives.
    pub fn close(&self, channel: Channel) {
        self.waits_since(Some(Instant::now()));
        drop(channel);
        self.waits_since(None);
    }

    fn leave(&self) {
        let _ = self.shared.requests.send(Request::Gone(self.own.clone()));
    }
}

impl Drop for ConnectionHandle {
    fn drop(&mut self) {
        self.leave();
    }
}
