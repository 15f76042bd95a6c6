//! How late a camera's pictures reach us: the stream's time against ours. Pure.
//!
//! A picture that FFmpeg decodes late, or that the network brings late, looks like any other. Its
//! lag shows in the stream's time stamps, which fall behind our clock. They cannot simply be
//! believed: many cameras send stamps that are equal, run at half speed or jump back. So each
//! growth of the lag needs a cause:
//!
//! - The pictures stopped for a while: the network, FFmpeg or the machine stood still. Believed.
//! - They come evenly, while the stamps advance more slowly than our clock: FFmpeg is too slow, or
//!   the stamps are wrong. Bytes that wait unread in FFmpeg's sockets, or threads that are always
//!   at work, tell that it is FFmpeg. Without such a sign it is the stamps, unless they kept pace
//!   with our clock before.
//!
//! A session starts with its own age as the lag, because what FFmpeg read while it probed the
//! stream may be that old. This ends when FFmpeg has been seen to wait for the camera, or when
//! pictures have kept pace with our clock for a while.

use super::backlog::Store;
use std::time::Duration;

/// A pause between two pictures is a stop when it is longer than this and than [`STOP_INTERVALS`]
/// usual ones. The jitter of a camera on Wi-Fi stays below.
const STOP: f64 = 0.5;
const STOP_INTERVALS: f64 = 3.0;

/// If the stamps advance by this many seconds more than our clock and the lag from one picture to
/// the next, they were reset.
const JUMP: f64 = 2.0;

/// Part of the passing time by which the lag is forgotten, and to which stamps must keep pace to be
/// trusted. Cameras that count stamps by a nominal frame rate are off by up to one part in a
/// hundred.
const DRIFT: f64 = 0.01;

/// Stamps are trusted when they have kept pace for this many seconds, apart from the jitter of a
/// healthy stream.
const TRUSTED_AFTER: f64 = 5.0;
const JITTER: f64 = 0.1;

/// This many seconds after FFmpeg has opened the stream, the data it read while probing is decoded.
const PROBED: f64 = 0.5;

/// The sockets must be found empty for this many seconds. Between two reads of a backlog they may
/// be empty for an instant, and what FFmpeg read while probing is not in them.
const DRAINED_FOR: f64 = 0.2;

/// Pictures whose stamps advance this many times faster than our clock were stored somewhere.
const IN_STORE: f64 = 1.5;

/// After a stop the camera may have pictures in store as well, and send them little faster than it
/// takes new ones. So pace and sockets are looked at for longer.
const CALM: f64 = 2.0;
const CALM_PACE: f64 = 1.1;

/// The lag of one session's pictures. All times are seconds since the session's start.
#[derive(Debug)]
pub struct Lag {
    /// From here on FFmpeg's sockets are looked at.
    doubtful: f64,
    opened: Option<f64>,
    last: Option<Seen>,
    /// Between two pictures, lately; 0 before the second.
    interval: f64,
    /// Growth whose cause is known, and the rest.
    known: f64,
    unexplained: f64,
    /// FFmpeg has been seen to wait for the camera, or has caught up with it.
    settled: bool,
    /// The first picture since which FFmpeg seems to wait for the camera.
    waiting: Option<Seen>,
    /// All its threads have been seen asleep since then.
    asleep: bool,
    /// The picture from which on the pace is measured, see [`Lag::keeps_pace`].
    paced: Option<Seen>,
    /// FFmpeg's sockets have been seen empty since that picture.
    drained: bool,
    /// The first picture after the stamps' last jump.
    steady: Option<Seen>,
    trusted: bool,
    /// The stamps are wrong: they showed a lag while FFmpeg was waiting for the camera.
    wrong: bool,
}

/// A picture on both clocks.
#[derive(Debug, Clone, Copy)]
struct Seen {
    at: f64,
    stream: f64,
}

impl Lag {
    /// For a session whose pictures are dropped when they are later than `limit`.
    pub fn new(limit: Duration) -> Self {
        Self {
            doubtful: limit.as_secs_f64() / 2.0,
            opened: None,
            last: None,
            interval: 0.0,
            known: 0.0,
            unexplained: 0.0,
            settled: false,
            waiting: None,
            asleep: false,
            paced: None,
            drained: false,
            steady: None,
            trusted: false,
            wrong: false,
        }
    }

    /// FFmpeg has opened the stream.
    pub fn opened(&mut self, at: Duration) {
        self.opened = Some(at.as_secs_f64());
    }

    /// Whether FFmpeg was seen to wait for the camera.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// FFmpeg was seen to wait for the camera, elsewhere in this session.
    pub fn note_settled(&mut self) {
        if !self.settled {
            self.settle();
        }
    }

    /// Whether most of the lag came at once, as the pictures stopped for a while.
    pub fn came_at_once(&self) -> bool {
        self.settled && self.known > self.unexplained
    }

    /// How late a picture is. It was read `at` after the start of the session, and its time in the
    /// stream is `stream`, in seconds. `store` returns what FFmpeg still holds; it is called only
    /// when that decides.
    pub fn of(&mut self, at: Duration, stream: f64, store: impl FnOnce() -> Store) -> Duration {
        let at = at.as_secs_f64();
        let seen = Seen { at, stream };
        match self.last.replace(seen) {
            Some(last) => self.add(last, seen),
            None => {
                self.known = at;
                self.steady = Some(seen);
            }
        }
        let total = self.known + self.unexplained;
        self.settled |= total == 0.0;
        if total <= self.doubtful {
            self.note_pace(seen);
        }
        let in_doubt = !self.settled || total > self.doubtful && !self.trusted;
        if in_doubt {
            match store() {
                Store::Unread => self.waiting = None,
                store => {
                    self.drained = true;
                    self.forgive(seen, store == Store::Nothing);
                }
            }
            if !self.settled && self.keeps_pace(seen) {
                self.settle();
            }
        } else {
            self.waiting = None;
        }
        Duration::from_secs_f64(self.known + self.unexplained)
    }

    /// Takes back what is no lag if FFmpeg has been waiting for the camera for a while. The signs
    /// of waiting are empty sockets (the caller has checked this), sleeping threads, and pictures
    /// that come no faster than their stamps: those in store do.
    fn forgive(&mut self, seen: Seen, asleep: bool) {
        let is_first = self.interval == 0.0;
        let mut first = *self.waiting.get_or_insert(seen);
        let in_store = seen.stream - first.stream > (seen.at - first.at) * IN_STORE;
        if in_store {
            first = seen;
            self.waiting = Some(seen);
        }
        // Sleep before this window says nothing about it.
        self.asleep = asleep || self.asleep && first.at < seen.at;
        let (passed, advanced) = (seen.at - first.at, seen.stream - first.stream);
        // No first picture is held back for this long after probing.
        let probed = is_first && self.opened.is_some_and(|opened| seen.at - opened > PROBED);
        // Stamps that are known to be wrong show no lag, so empty sockets are enough then.
        if !self.asleep && !self.wrong || !probed && passed < DRAINED_FOR {
            return;
        }
        self.wrong |= self.settled && self.unexplained > self.known;
        self.unexplained = 0.0;
        self.asleep = false;
        if !self.settled || passed >= CALM && advanced <= passed * CALM_PACE {
            self.settle();
        }
    }

    /// Whether the pictures have kept pace with our clock for a while. An FFmpeg with pictures in
    /// store gives them faster, or more slowly if it is too slow. On a busy machine its threads may
    /// never be seen asleep, but its sockets are empty now and then.
    fn keeps_pace(&mut self, seen: Seen) -> bool {
        let first = *self.paced.get_or_insert(seen);
        let (passed, advanced) = (seen.at - first.at, seen.stream - first.stream);
        let in_store = advanced > passed * IN_STORE;
        if !in_store && passed < CALM {
            return false;
        }
        self.paced = Some(seen);
        let drained = std::mem::take(&mut self.drained);
        drained && advanced <= passed * CALM_PACE && passed <= advanced * CALM_PACE
    }

    fn settle(&mut self) {
        self.known = 0.0;
        self.unexplained = 0.0;
        self.settled = true;
    }

    /// Adds what this picture changes.
    fn add(&mut self, last: Seen, seen: Seen) {
        let passed = (seen.at - last.at).max(0.0);
        let advanced = seen.stream - last.stream;
        let stopped = self.interval > 0.0 && passed > STOP.max(self.interval * STOP_INTERVALS);
        if !stopped {
            let weight = if self.interval > 0.0 { 0.1 } else { 1.0 };
            self.interval += weight * (passed - self.interval);
        }
        // A camera that could not send for a while leaves out what it has not sent: then the lag
        // shrinks.
        let lag = self.known + self.unexplained;
        let jumped = advanced < 0.0 || advanced > passed + lag + JUMP;
        if jumped {
            self.steady = Some(seen);
            self.trusted = false;
            self.wrong = false;
        }
        // Stamps that were set anew say nothing about this picture.
        let behind = match (jumped, stopped) {
            (false, _) => passed - advanced,
            (true, true) => passed,
            (true, false) => 0.0,
        };
        if stopped {
            self.known += behind.max(0.0);
        } else {
            self.unexplained += behind.max(0.0);
        }
        let less = passed * DRIFT + (-behind).max(0.0);
        let rest = (less - self.unexplained).max(0.0);
        self.unexplained = (self.unexplained - less).max(0.0);
        self.known = (self.known - rest).max(0.0);
    }

    fn note_pace(&mut self, seen: Seen) {
        if let Some(first) = self.steady {
            let ours = seen.at - first.at;
            let off = (seen.stream - first.stream - ours).abs();
            if ours >= TRUSTED_AFTER {
                self.trusted = off <= ours * DRIFT + JITTER;
                self.wrong &= !self.trusted;
            }
        }
    }
}

#[cfg(test)]
mod tests;
