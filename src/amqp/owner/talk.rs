//! Messages between a connection's owner, its users and the main thread.

use crate::amqp::client::Channel;
use crate::amqp::link::Link;
use crate::amqp::scheduler::Scheduler;
use crossbeam_channel::Sender;
use crossbeam_utils::sync::Unparker;
use std::sync::Arc;

/// Cameras that one line of the log names.
const NAMES_MAX: usize = 8;

/// What a connection carries, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carries {
    /// Pictures.
    Frames,
    /// Events about cameras.
    Events,
}

impl Carries {
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Frames => "",
            Self::Events => "events: ",
        }
    }

    /// What happens to it meanwhile, while the broker is away or blocked.
    pub(super) fn meanwhile(self) -> &'static str {
        match self {
            Self::Frames => "keeping only the newest frame of each camera",
            Self::Events => "sending the state of each camera afterwards",
        }
    }
}

/// From the owner to a user.
#[derive(Debug)]
pub enum Control {
    /// The channel that it asked for.
    Channel(Box<Channel>),
    /// The broker blocked or unblocked publishing: look at the link.
    Look,
    /// The broker refuses the login, for this reason. The request for a channel stays open.
    Refused(String),
    /// From the main thread: use this connection instead.
    Move(SharedConnection),
}

/// A connection as its users share it.
#[derive(Debug, Clone)]
pub struct SharedConnection {
    /// What its users share with the owner.
    pub link: Arc<Link>,
    /// To the owner.
    pub requests: Sender<Request>,
    /// Which of them sends next.
    pub scheduler: Arc<Scheduler>,
}

/// From an owner to the main thread.
#[derive(Debug)]
pub enum OwnerReport {
    /// A handshake has begun: look at the link's deadlines.
    Look,
    /// The broker grants these users no channel on this connection.
    Surplus {
        /// The users without a channel.
        callers: Vec<Caller>,
        /// How many users have one.
        granted: usize,
    },
}

/// The way to the main thread.
pub struct MainThread(pub(super) Box<dyn Fn(OwnerReport) + Send>);

impl MainThread {
    /// `tell` must not block.
    pub fn new(tell: impl Fn(OwnerReport) + Send + 'static) -> Self {
        Self(Box::new(tell))
    }
}

impl std::fmt::Debug for MainThread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MainThread")
    }
}

/// From a user to the owner.
#[derive(Debug)]
pub enum Request {
    /// It asks for a channel.
    Channel(Caller),
    /// It has ended.
    Gone(Caller),
}

/// A user as the owner and the main thread know it.
#[derive(Debug, Clone)]
pub struct Caller {
    name: Arc<str>,
    control: Sender<Control>,
    /// Wakes it, if it parks.
    waker: Option<Unparker>,
}

impl Caller {
    /// A user that receives from the other end of `control`, and is woken by `waker` if it parks.
    pub fn new(name: Arc<str>, control: Sender<Control>, waker: Option<Unparker>) -> Self {
        Self {
            name,
            control,
            waker,
        }
    }

    /// Its camera's id.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Sends it a message. A channel for a user that has ended is dropped, and so closed.
    pub fn tell(&self, word: Control) {
        let _ = self.control.send(word);
        if let Some(waker) = &self.waker {
            waker.unpark();
        }
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        self.control.same_channel(&other.control)
    }
}

/// `gate, yard and 3 more`
pub fn names(callers: &[Caller]) -> String {
    let mut names: Vec<_> = callers.iter().map(|caller| &*caller.name).collect();
    names.sort_unstable();
    let (some, rest) = names.split_at(names.len().min(NAMES_MAX));
    match rest.len() {
        0 => some.join(", "),
        more => format!("{} and {more} more", some.join(", ")),
    }
}
