//! A publisher's side of its connection: it asks the owner for a channel, hears from it, and notes since
//! when it waits for the broker.

use super::connection::{Caller, Control, Request};
use super::link::{Link, Place};
use crate::broker::{Channel, Error};
use crossbeam_channel::{Receiver, Sender, unbounded};
use crossbeam_utils::sync::Unparker;
use std::sync::Arc;
use std::time::Instant;

/// Given back when it is dropped, by a panic as well: the owner then knows of no such publisher any more.
#[derive(Debug)]
pub struct Seat {
    link: Arc<Link>,
    place: Arc<Place>,
    requests: Sender<Request>,
    /// From the owner.
    control: Receiver<Control>,
    own: Caller,
}

/// The owner has ended.
#[derive(Debug)]
pub struct OwnerGone;

impl Seat {
    /// At the connection of `link`, whose owner hears `requests`. `waker` is for one that parks.
    pub fn new(link: Arc<Link>, requests: Sender<Request>, waker: Option<Unparker>) -> Self {
        let (own, control) = unbounded();
        let own = Caller::new(own, waker);
        Self {
            place: Arc::new(Place::new(Arc::clone(&link))),
            link,
            requests,
            control,
            own,
        }
    }

    /// Whether the broker said that it takes no messages for now.
    pub fn blocked(&self) -> bool {
        self.link.blocked()
    }

    /// What the owner says.
    pub fn control(&self) -> &Receiver<Control> {
        &self.control
    }

    /// Asks for a channel, which [`control`](Self::control) brings.
    pub fn ask_for_channel(&self) -> Result<(), OwnerGone> {
        let asked = Request::Channel(self.own.clone());
        self.requests.send(asked).map_err(|_| OwnerGone)
    }

    /// We wait for an answer or a confirm since then.
    pub fn waits_since(&self, since: Option<Instant>) {
        self.place.waits_since(since);
    }

    /// Where it is noted since when we wait.
    pub fn place(&self) -> &Arc<Place> {
        &self.place
    }

    /// Declares an exchange, which waits for the broker's answer.
    pub fn declare(&self, channel: &Channel, exchange: &str) -> Result<(), Error> {
        self.waits_since(Some(Instant::now()));
        let declared = channel.declare_exchange(exchange);
        self.waits_since(None);
        declared
    }

    /// Closes a channel, which waits for the broker's answer while the connection lives.
    pub fn close(&self, channel: Channel) {
        self.waits_since(Some(Instant::now()));
        drop(channel);
        self.waits_since(None);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let _ = self.requests.send(Request::Gone(self.own.clone()));
    }
}
