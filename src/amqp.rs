//! Everything that knows the broker: connections and their owners, channels, refusals, delivery
//! tags, and the scheduler of a connection that several cameras share.
//!
//! Other rooms use only what is exported here. This room knows neither publishers nor events. Only
//! [`client`] knows the client library.

mod budget;
mod channel_user;
pub mod client;
mod dial;
mod error;
mod handle;
mod link;
mod lock;
mod owner;
mod refusals;
mod resolve;
mod scheduler;
mod socket;
mod unconfirmed;

pub use channel_user::{ChannelUser, Done};
#[cfg(test)]
pub(crate) use client::played;
pub use client::{
    AnswerWaiter, AnswerWaiters, BindingListener, Channel, Confirm, Connection, Listener, Received,
};
pub use dial::dial;
pub use error::{Error, ErrorKind};
pub use handle::{ConnectionHandle, ConnectionUser};
pub use link::{Link, WaitSlot};
pub use lock::{Ordered, Rank};
#[cfg(test)]
pub(crate) use owner::tests as owner_tests;
pub use owner::{
    Caller, Carries, Control, MainThread, Owner, OwnerReport, Request, SharedConnection, names,
};
pub use refusals::Refusals;
pub use scheduler::{Next, Scheduler, Share};
pub use socket::Socket;
pub use unconfirmed::Unconfirmed;
