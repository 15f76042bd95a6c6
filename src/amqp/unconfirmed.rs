//! The unconfirmed messages of one channel, by delivery tag. Pure.

use std::collections::VecDeque;

/// In order of their delivery tags, which count from 1.
#[derive(Debug)]
pub struct Unconfirmed<T> {
    /// The last one's tag is `next_tag - 1`; `None` once settled.
    messages: VecDeque<Option<T>>,
    next_tag: u64,
}

impl<T> Unconfirmed<T> {
    /// Empty, with room for `capacity` messages.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            messages: VecDeque::with_capacity(capacity),
            next_tag: 1,
        }
    }

    /// The tag that the next message gets.
    pub fn next_tag(&self) -> u64 {
        self.next_tag
    }

    /// Adds the next message of the channel.
    pub fn push(&mut self, message: T) {
        self.messages.push_back(Some(message));
        self.next_tag += 1;
    }

    /// Removes the last message, which is not sent; its tag goes to the next one.
    pub fn take_back(&mut self) -> Option<T> {
        let last = self.messages.pop_back()?;
        self.next_tag -= 1;
        last
    }

    /// How many. A confirm out of order leaves a gap, which counts until the messages before it are
    /// confirmed.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The oldest, if it is unconfirmed.
    pub fn oldest(&self) -> Option<&T> {
        self.messages.front().and_then(Option::as_ref)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.messages.iter().flatten()
    }

    /// The same, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.messages.iter_mut().flatten()
    }

    /// Removes all: they will not be confirmed.
    pub fn clear(&mut self) {
        self.messages.clear();
    }

    /// The broker answered the message of that tag, or with `multiple` all up to it. Removes them
    /// and passes each to `each`, in order.
    pub fn answered(&mut self, tag: u64, multiple: bool, mut each: impl FnMut(T)) {
        let first_tag = self.next_tag - self.messages.len() as u64;
        let Some(last) = tag.checked_sub(first_tag) else {
            return;
        };
        let last = usize::try_from(last).unwrap_or(usize::MAX);
        let first = if multiple { 0 } else { last };
        for n in first..=last.min(self.messages.len().saturating_sub(1)) {
            if let Some(message) = self.messages.get_mut(n).and_then(Option::take) {
                each(message);
            }
        }
        while let Some(None) = self.messages.front() {
            self.messages.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(open: &mut Unconfirmed<char>, tag: u64, multiple: bool) -> String {
        let mut answered = String::new();
        open.answered(tag, multiple, |message| answered.push(message));
        answered
    }

    #[test]
    fn answers_reach_their_messages_in_any_order() {
        let mut open = Unconfirmed::with_capacity(4);
        "abcdef".chars().for_each(|message| open.push(message));
        assert_eq!(answered(&mut open, 2, false), "b");
        assert_eq!((open.len(), open.oldest()), (6, Some(&'a')));
        assert_eq!(answered(&mut open, 3, true), "ac", "b is settled");
        assert_eq!((open.len(), open.oldest()), (3, Some(&'d')));
        assert_eq!(answered(&mut open, 3, true), "", "an answer twice");
        assert_eq!(answered(&mut open, 99, false), "", "an answer too many");
        assert_eq!(answered(&mut open, 6, true), "def");
        assert!(open.is_empty());
        open.push('g');
        assert_eq!(answered(&mut open, 7, false), "g");
    }

    #[test]
    fn what_is_taken_back_gives_its_tag_to_the_next() {
        let mut open = Unconfirmed::with_capacity(4);
        open.take_back();
        "abc".chars().for_each(|message| open.push(message));
        open.take_back();
        assert_eq!(answered(&mut open, 2, true), "ab");
        open.push('d');
        assert_eq!(answered(&mut open, 3, false), "d");
    }
}
