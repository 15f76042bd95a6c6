//! A user's side of a shared connection: asks the owner for channels, receives what it says, and
//! notes since when it waits for the broker. A user is a publisher or the events thread.

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

/// Who uses a connection.
#[derive(Debug)]
pub struct ConnectionUser {
    /// Its camera's id, for the log.
    pub name: Arc<str>,
    /// Wakes it, if it parks.
    pub waker: Option<Unparker>,
    /// Where refusals are shown, if it is a camera's.
    pub status: Option<Arc<CameraStatus>>,
}

/// Dropping it, also by a panic, tells the owner that this user has gone.
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
    /// The connection (as [`Link::connects`] counts) on which a size limit was learnt last, and
    /// that limit in bytes.
    learnt: Cell<(u64, u64)>,
}

/// The owner has ended.
#[derive(Debug)]
pub struct OwnerGone;

impl ConnectionHandle {
    /// A handle to that connection.
    pub fn new(shared: SharedConnection, user: ConnectionUser) -> Self {
        let (own, control) = unbounded();
        Self {
            wait_slot: Arc::new(WaitSlot::new(Arc::clone(&shared.link))),
            shared,
            control,
            own: Caller::new(user.name, own, user.waker),
            status: user.status,
            refused: Cell::new(false),
            absent: Cell::new(false),
            learnt: Cell::new((0, 0)),
        }
    }

    fn link(&self) -> &Link {
        &self.shared.link
    }

    /// Whether the broker has blocked publishing on this connection.
    pub fn blocked(&self) -> bool {
        self.link().blocked()
    }

    /// Where the owner's answers arrive.
    pub fn control(&self) -> &Receiver<Control> {
        &self.control
    }

    /// Asks for a channel. It arrives through [`control`](Self::control).
    pub fn ask_for_channel(&self) -> Result<(), OwnerGone> {
        let asked = Request::Channel(self.own.clone());
        self.shared.requests.send(asked).map_err(|_| OwnerGone)
    }

    /// Leaves this connection, and asks the other one for a channel.
    pub fn move_to(&mut self, shared: SharedConnection) -> Result<(), OwnerGone> {
        self.leave();
        self.wait_slot = Arc::new(WaitSlot::new(Arc::clone(&shared.link)));
        self.shared = shared;
        self.ask_for_channel()
    }

    /// Notes since when the user waits for an answer or a confirm, or that it does not wait.
    pub fn waits_since(&self, since: Option<Instant>) {
        self.wait_slot.waits_since(since);
    }

    /// Where that is noted.
    pub fn wait_slot(&self) -> &Arc<WaitSlot> {
        &self.wait_slot
    }

    /// Makes sure that the exchange exists; blocks until the broker answers. It is looked for
    /// first, which needs no right, and declared only if it is absent.
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

    /// Whether a channel that ended with `error` can be replaced at once. That is so if the broker
    /// stated a new size limit: larger frames are dropped from now on, by all users of the
    /// connection.
    pub fn learns_from(&self, error: &Error) -> bool {
        let ErrorKind::TooLarge(bytes) = error.kind else {
            return false;
        };
        let link = self.link();
        let (connects, before) = self.learnt.replace((link.connects(), bytes));
        if link.learn_largest_message(bytes) {
            log::warn!(
                "the broker accepts no message larger than {bytes} bytes (its max_message_size): \
                 larger frames are dropped as oversize; raise that limit, or lower the size or \
                 quality of the pictures"
            );
        }
        connects != link.connects() || bytes < before
    }

    /// The largest message that the broker is known to take, in bytes.
    pub fn largest_message(&self) -> u64 {
        self.link().largest_message()
    }

    /// The broker refuses the login, the channel or a message; shows why in the camera's status.
    pub fn refused(&self, why: &str) {
        self.refused.set(true);
        if let Some(status) = &self.status {
            status.refused(Some(why));
        }
    }

    /// The broker took a message; removes the refusal from the camera's status.
    pub fn accepted(&self) {
        if self.refused.take()
            && let Some(status) = &self.status
        {
            status.refused(None);
        }
    }

    /// Closes a channel. Blocks until the broker answers, if the connection lives.
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
