//! Errors of a broker or the way to it: one sentence each, and how to react.

use crate::os_error;
use crate::redact;
use std::io;

/// Longest text of a broker's that is shown, in characters. AMQP's own texts have at most 255
/// bytes, but a list of login mechanisms, for example, may fill a frame.
pub(super) const LONGEST_TEXT: usize = 500;

/// Why no connection could be made, or why it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// One sentence for the log, without secrets.
    pub text: String,
    /// How to react.
    pub kind: ErrorKind,
}

/// How to react to an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The broker or the way to it is down: try again soon.
    Down,
    /// The broker refuses us: a person must change something, so try again slowly.
    Refused,
    /// The broker closed this one channel; the connection lives.
    Channel,
    /// The broker closed this one channel because of a message larger than these bytes, the most
    /// that it takes.
    TooLarge(u64),
    /// The broker closed this one channel: the exchange does not exist.
    Absent,
    /// The broker grants no further channel on this connection.
    Full,
    /// We are stopping.
    Stopped,
}

impl ErrorKind {
    /// Whether the broker refused what a channel was used for, which only a person can change.
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::Channel | Self::TooLarge(_))
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}

impl Error {
    pub(super) fn new(kind: ErrorKind, text: impl AsRef<str>) -> Self {
        Self {
            kind,
            text: plain(&redact::clean(text.as_ref()), LONGEST_TEXT),
        }
    }
}

/// A broker's words as one line of at most `most` characters, without control characters.
pub(super) fn plain(text: &str, most: usize) -> String {
    let text = text.chars().take(most);
    text.map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// The system's text for an error, as it stands within a sentence.
pub(super) fn error_text(error: &io::Error) -> String {
    let text = os_error::error_text(error);
    match error.raw_os_error() {
        Some(_) => text.to_lowercase(),
        None => text,
    }
}

impl Error {
    /// Names the broker that it is about.
    pub(super) fn named(self, broker: &str) -> Self {
        Self {
            text: format!("broker {broker}: {}", self.text),
            ..self
        }
    }
}
