//! What the owner of a connection, those who use it and the main thread say to each other.

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

    /// What becomes of it while the broker takes nothing.
    pub(super) fn meanwhile(self) -> &'static str {
        match self {
            Self::Frames => "newest frames only",
            Self::Events => "then telling how each camera is",
        }
    }
}

/// What a publisher hears from its connection's owner.
#[derive(Debug)]
pub enum Control {
    /// The channel that it asked for.
    Channel(Box<Channel>),
    /// The broker blocked or unblocked the connection: look at the link.
    Look,
    /// The broker refuses the channel that it asked for, for this reason; it is asked for again.
    Refused(String),
    /// Another connection: ask there.
    Move(SharedConnection),
}

/// Where a publisher asks for its channels.
#[derive(Debug, Clone)]
pub struct SharedConnection {
    /// What it shares with the owner.
    pub link: Arc<Link>,
    /// To the owner.
    pub requests: Sender<Request>,
    /// Whose turn it is there.
    pub scheduler: Arc<Scheduler>,
}

/// What an owner says to the main thread.
#[derive(Debug)]
pub enum OwnerReport {
    /// A handshake has begun: look when it must be over.
    Look,
    /// The broker grants these publishers no channel on this connection.
    Surplus {
        /// Those without a channel.
        callers: Vec<Caller>,
        /// How many have one.
        granted: usize,
    },
}

/// The way to the main thread.
pub struct MainThread(pub(super) Box<dyn Fn(OwnerReport) + Send>);

impl MainThread {
    /// The main thread hears through `tell`, which must not wait.
    pub fn new(tell: impl Fn(OwnerReport) + Send + 'static) -> Self {
        Self(Box::new(tell))
    }
}

impl std::fmt::Debug for MainThread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MainThread")
    }
}

/// What a publisher says to its connection's owner.
#[derive(Debug)]
pub enum Request {
    /// It wants a channel.
    Channel(Caller),
    /// It has ended.
    Gone(Caller),
}

/// A publisher as its connection's owner knows and answers it.
#[derive(Debug, Clone)]
pub struct Caller {
    name: Arc<str>,
    control: Sender<Control>,
    /// If it parks; else it waits for what it is told.
    waker: Option<Unparker>,
}

impl Caller {
    /// One that hears from `control`, and is woken by `waker` if it parks.
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

    /// One that has ended hears nothing; a channel for it is closed by being dropped.
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
