//! The broker's refusals of one channel.

use crate::backoff::{Backoff, JITTER, random};
use crate::repeat::Repeat;
use std::time::{Duration, Instant};

/// Between attempts when the broker refuses a channel: a person must change something.
const RETRY_REFUSED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Said once a minute, answered with longer and longer pauses until a message is confirmed.
#[derive(Debug)]
pub struct Refusals {
    now: bool,
    said: Repeat,
    backoff: Backoff,
}

impl Default for Refusals {
    fn default() -> Self {
        Self {
            now: false,
            said: Repeat::default(),
            backoff: Backoff::new(RETRY_REFUSED.0, RETRY_REFUSED.1, 2.0, JITTER),
        }
    }
}

impl Refusals {
    /// The broker closed the channel for that reason. Returns how long to leave it in peace, and what to
    /// add to the reason if it is to be said now. Reasons that differ in numbers (a size, a tag) are one.
    pub fn refused(&mut self, why: &str) -> (Duration, Option<String>) {
        self.now = true;
        let again = self.said.say(&without_numbers(why), Instant::now());
        (self.backoff.next(random()), again)
    }

    /// Whether the last channel was refused, and nothing confirmed since.
    pub fn now(&self) -> bool {
        self.now
    }

    /// A message was confirmed; returns whether to say so.
    pub fn over(&mut self) -> bool {
        if !std::mem::take(&mut self.now) {
            return false;
        }
        self.backoff.reset();
        self.said.over()
    }
}

/// With `#` for each number.
fn without_numbers(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_ascii_digit() {
            true if plain.ends_with('#') => {}
            true => plain.push('#'),
            false => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_that_differ_in_numbers_are_said_once_and_others_each() {
        let mut refusals = Refusals::default();
        let mut said = |why| refusals.refused(why).1.is_some();
        assert!(said("delivery tag 17 is unknown"));
        assert!(!said("delivery tag 4 is unknown"));
        assert!(said("access refused"));
        assert!(!said("delivery tag 123 is unknown"));
    }
}
