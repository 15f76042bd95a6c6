//! The loop of everyone who publishes over a channel: ask the connection's owner for a channel, use
//! it, ask again when it has ended, and pause after a refusal.

use super::client::Channel;
use super::error::Error;
use super::handle::{ConnectionHandle, OwnerGone};
use super::owner::{Control, SharedConnection};
use super::refusals::Refusals;
use log::Level;
use std::fmt;
use std::time::Duration;

/// There is nothing left to send.
#[derive(Debug, PartialEq, Eq)]
pub struct Done;

impl From<OwnerGone> for Done {
    fn from(_: OwnerGone) -> Self {
        Self
    }
}

/// A user of channels: the publisher of a camera, the events thread.
pub trait ChannelUser {
    /// Its side of its connection.
    fn connection(&self) -> &ConnectionHandle;

    /// The same, for moving to another connection.
    fn connection_mut(&mut self) -> &mut ConnectionHandle;

    /// The exchange that it publishes to.
    fn exchange(&self) -> &str;

    /// Waits for the next message from the connection's owner. Woken by the end of the work.
    ///
    /// # Errors
    /// [`Done`] when there is nothing left to send, or the owner has ended.
    fn hear(&mut self) -> Result<Control, Done>;

    /// Its next channel belongs to that connection.
    fn moves_to(&mut self, shared: &SharedConnection);

    /// Uses a new channel until there is nothing left to send.
    ///
    /// # Errors
    /// Why the channel ended.
    fn send_over(&mut self, channel: &Channel, refusals: &mut Refusals) -> Result<Done, Error>;

    /// Accounts for messages that will get no answer: their channel has ended, or a panic ended its
    /// use.
    fn settle(&mut self);

    /// Whether a channel that ended with `error` can be replaced at once.
    fn learns_from(&self, error: &Error) -> bool;

    /// Waits. Woken by the end of the work.
    ///
    /// # Errors
    /// [`Done`] when there is nothing left to send.
    fn pause(&mut self, delay: Duration) -> Result<(), Done>;

    /// Writes to the log, with the user's name.
    fn say(&self, level: Level, text: fmt::Arguments<'_>);

    /// Runs until there is nothing left to send, or the connection's owner has ended.
    fn use_channels(&mut self) {
        // After a panic it waits for nothing yet.
        self.connection().waits_since(None);
        self.settle();
        let mut refusals = Refusals::default();
        while let Ok(channel) = self.next_channel() {
            let sent = self.send_over(&channel, &mut refusals);
            self.settle();
            self.connection().close(channel);
            let refused = match sent {
                Ok(Done) => return,
                Err(error) if self.learns_from(&error) => continue,
                Err(error) if error.kind.is_refusal() => error,
                // The owner reports the end of the whole connection.
                Err(_) => continue,
            };
            if self.refused(&refused, &mut refusals).is_err() {
                return;
            }
        }
    }

    /// Asks the connection's owner for a channel and waits for it.
    ///
    /// # Errors
    /// As [`hear`](Self::hear).
    fn next_channel(&mut self) -> Result<Channel, Done> {
        self.connection().ask_for_channel()?;
        loop {
            match self.hear()? {
                Control::Channel(channel) => return Ok(*channel),
                Control::Move(shared) => {
                    self.moves_to(&shared);
                    self.connection_mut().move_to(shared)?;
                }
                Control::Refused(why) => self.connection().refused(&why),
                Control::Look => {}
            }
        }
    }

    /// The broker refused what the channel was used for: shows, logs and pauses.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    fn refused(&mut self, error: &Error, refusals: &mut Refusals) -> Result<(), Done> {
        let exchange = self.exchange();
        let text = format!("the broker refuses exchange \"{exchange}\": {error}");
        self.connection().refused(&text);
        let (pause, say) = refusals.refused(&error.text);
        if let Some(again) = say {
            self.say(Level::Error, format_args!("{text}{again}"));
        }
        self.pause(pause)
    }

    /// The broker answered a message.
    fn accepted(&self, refusals: &mut Refusals) {
        self.connection().accepted();
        if refusals.over() {
            let exchange = self.exchange();
            self.say(
                Level::Info,
                format_args!("the broker accepts exchange \"{exchange}\""),
            );
        }
    }
}
