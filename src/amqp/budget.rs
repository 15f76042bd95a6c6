//! How many bytes of one connection may be unconfirmed at once; pure.
//!
//! What has been handed to the connection cannot be taken back, so what waits there makes frames old. The
//! budget keeps that queue as short as a time, not as a count: the next frame goes when the uplink needs at
//! most [`SLACK`] for what is still to be carried. How fast the uplink is follows from the confirms alone,
//! because the kernel, a router or a tunnel may hold megabytes that no local call can see.
//!
//! TCP keeps the order, so a confirm says that every frame sent before has been carried too. A broker that
//! withholds the confirms of one camera therefore takes nothing from the others.

use super::unconfirmed::Unconfirmed;
use std::time::{Duration, Instant};

/// The queue in the uplink. Long enough that the uplink stays busy while a confirm is late and a thread
/// wakes up; short against `max_age`.
const SLACK: Duration = Duration::from_millis(300);
/// Of `max_age`, where that is short: a frame must not be too old because of the queue alone.
const SLACK_OF_MAX_AGE: f64 = 0.3;
/// Of `max_age` a frame's own bytes count for at most so much: one that takes longer still goes while it is
/// young, or an uplink that is slow enough would carry nothing at all.
const OWN_OF_MAX_AGE: f64 = 0.5;
/// A confirm so much later than calculated, and later by [`TOLERANCE`], shows that the rate is too high. A
/// busy broker is late by tens of milliseconds without an uplink that is slow.
const LATE: Duration = Duration::from_millis(50);
const TOLERANCE: f64 = 1.25;
/// So far the rate goes towards a measurement that is lower, at each confirm while frames wait for it.
const LEAK: f64 = 0.1;
/// How long the round trip is believed. While frames wait, it shows only when the queue has drained.
const BASE_LASTS: Duration = Duration::from_secs(10);
/// A drained queue leaves the uplink idle for less than the latency of a frame that goes alone, so it
/// happens at most every so many of them: 2.5 % of the uplink.
const BASE_LASTS_LATENCIES: u32 = 40;
/// Latencies that differ by less show the same round trip.
const SAME_BASE: Duration = Duration::from_millis(10);
/// Bytes per second, against a division by zero.
const SLOWEST: f64 = 100.0;

/// Whether a frame may go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Opening {
    /// Now; the uplink will begin to carry it after this time.
    Now(Duration),
    /// Then, if no confirm comes before.
    At(Instant),
    /// After the next confirm.
    AtConfirm,
}

/// The budget of one connection.
#[derive(Debug)]
pub(super) struct Budget {
    slack: Duration,
    /// What a frame's own bytes count for at most.
    own_most: Duration,
    /// Bytes per second, as the confirms show.
    rate: Option<f64>,
    base: Option<Base>,
    /// One frame is to go alone, to show the round trip.
    draining: bool,
    /// When it last went. What follows it does not change its latency.
    went_alone: Option<Instant>,
    in_flight: u64,
    unconfirmed: Unconfirmed<Sent>,
    last_confirm: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    tag: u64,
    bytes: u64,
    sent: Instant,
    /// Frames waited for the budget: the uplink was busy.
    limited: bool,
    /// The latest moment of its confirm, if the rate is right.
    late: Option<Instant>,
    /// Nothing else was unconfirmed.
    alone: bool,
    /// Bytes unconfirmed, with its own: so many were carried from `since` to its confirm.
    bytes_in_flight: u64,
    /// The last confirm before, or when it was sent if it was alone.
    since: Instant,
    /// When the oldest of those bytes were sent. As fast as they were sent is a lower bound of the rate.
    oldest_sent: Instant,
}

/// The latency of a frame that met no queue.
#[derive(Debug, Clone, Copy)]
struct Base {
    latency: Duration,
    bytes: u64,
    at: Instant,
}

impl Base {
    /// The round trip, without what the frame's own bytes took.
    fn round_trip(&self, rate: f64) -> Duration {
        self.latency.saturating_sub(time(self.bytes, rate))
    }
}

impl Budget {
    /// For frames that may reach `max_age`.
    pub(super) fn new(max_age: Duration) -> Self {
        Self {
            slack: SLACK.min(max_age.mul_f64(SLACK_OF_MAX_AGE)),
            own_most: max_age.mul_f64(OWN_OF_MAX_AGE),
            rate: None,
            base: None,
            draining: false,
            went_alone: None,
            in_flight: 0,
            // A wide window's worth; it grows with the cameras.
            unconfirmed: Unconfirmed::with_capacity(64),
            last_confirm: None,
        }
    }

    /// Whether nothing is unconfirmed.
    pub(super) fn is_idle(&self) -> bool {
        self.unconfirmed.is_empty()
    }

    #[cfg(test)]
    pub(super) fn bytes_in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Forgets what it knows of the uplink: the next connection may take another way.
    pub(super) fn reset(&mut self) {
        self.rate = None;
        self.base = None;
        self.draining = false;
        self.went_alone = None;
        self.in_flight = 0;
        self.unconfirmed.clear();
        self.last_confirm = None;
    }

    /// Whether a frame may go. `limited` says whether frames wait because of this budget.
    pub(super) fn opening(&mut self, limited: bool, now: Instant) -> Opening {
        self.notice_silence(now);
        let Some(head) = self.unconfirmed.oldest() else {
            return Opening::Now(Duration::ZERO);
        };
        let (Some(rate), Some(base)) = (self.rate, self.base) else {
            return Opening::AtConfirm;
        };
        let round_trip = base.round_trip(rate);
        let lasts = BASE_LASTS.max(base.latency * BASE_LASTS_LATENCIES);
        let looked = self.went_alone.map_or(base.at, |at| at.max(base.at));
        self.draining |= limited && now.saturating_duration_since(looked) > lasts;
        if self.draining {
            return Opening::AtConfirm;
        }
        // The uplink carries the oldest frame since it was sent, or since the one before was through;
        // of that we hear half a round trip later, and what we send gets there half a one later.
        let mut carries = now.saturating_duration_since(head.sent);
        if let Some(last) = self.last_confirm {
            carries = carries.min(now.saturating_duration_since(last) + round_trip);
        }
        let most = head.bytes as f64 + rate * round_trip.as_secs_f64();
        let carried = (rate * carries.as_secs_f64()).min(most);
        let in_flight = self.in_flight as f64;
        let wait = (in_flight - carried).max(0.0) / rate;
        let slack = self.slack.as_secs_f64();
        if wait <= slack {
            Opening::Now(Duration::from_secs_f64(wait))
        } else if in_flight - most <= rate * slack {
            Opening::At(now + Duration::from_secs_f64(wait - slack))
        } else {
            Opening::AtConfirm
        }
    }

    /// How long the uplink carries a frame of so many bytes, as far as that makes it too old.
    pub(super) fn carries(&self, bytes: u64) -> Duration {
        let own = self.rate.map(|rate| time(bytes, rate));
        own.unwrap_or_default().min(self.own_most)
    }

    /// A frame of so many bytes goes to the connection now. Returns its number.
    pub(super) fn sent(&mut self, bytes: u64, limited: bool, now: Instant) -> u64 {
        if std::mem::take(&mut self.draining) {
            self.went_alone = Some(now);
        }
        self.in_flight += bytes;
        let known = self.rate.zip(self.base);
        let calculated =
            known.map(|(rate, base)| base.round_trip(rate) + time(self.in_flight, rate));
        let (oldest, tag) = (
            self.unconfirmed.oldest().copied(),
            self.unconfirmed.next_tag(),
        );
        self.unconfirmed.push(Sent {
            tag,
            bytes,
            sent: now,
            limited,
            late: calculated.map(|calculated| now + calculated.mul_f64(TOLERANCE) + LATE),
            alone: oldest.is_none(),
            bytes_in_flight: self.in_flight,
            since: oldest.and(self.last_confirm).unwrap_or(now),
            oldest_sent: oldest.map_or(now, |oldest| oldest.sent),
        });
        tag
    }

    /// The frame of that number was not sent after all, or its channel is gone.
    pub(super) fn forget(&mut self, tag: u64) {
        let in_flight = &mut self.in_flight;
        self.unconfirmed
            .answered(tag, false, |gone| *in_flight -= gone.bytes);
    }

    /// The broker answers to the frame of that number.
    pub(super) fn confirmed(&mut self, tag: u64, now: Instant) {
        let Self {
            in_flight,
            unconfirmed,
            ..
        } = self;
        let mut last = None;
        unconfirmed.answered(tag, true, |frame| {
            *in_flight -= frame.bytes;
            last = Some(frame);
        });
        // Another frame, or none, if what was sent after this one was confirmed before it.
        if let Some(frame) = last.filter(|frame| frame.tag == tag) {
            self.learn(&frame, now);
            self.last_confirm = Some(now);
        }
    }

    fn learn(&mut self, frame: &Sent, now: Instant) {
        let latency = now.saturating_duration_since(frame.sent);
        let carried = now.saturating_duration_since(frame.since);
        let sent = frame.sent.saturating_duration_since(frame.oldest_sent);
        let measured = speed(frame.bytes_in_flight, carried.max(sent));
        let late = frame.late.is_some_and(|late| now > late);
        let rate = match self.rate {
            None => measured,
            Some(_) if late && !frame.alone => measured,
            Some(rate) if late => {
                let round_trip = self.base.map(|base| base.round_trip(rate));
                let carried = latency.saturating_sub(round_trip.unwrap_or_default());
                speed(frame.bytes, carried).min(rate)
            }
            Some(rate) if measured >= rate => measured,
            Some(rate) if frame.limited && !frame.alone => rate + (measured - rate) * LEAK,
            Some(rate) => rate,
        };
        self.rate = Some(rate);
        let own = Base {
            latency,
            bytes: frame.bytes,
            at: now,
        };
        match &mut self.base {
            Some(base) if !frame.alone || now.saturating_duration_since(base.at) < BASE_LASTS => {
                let (known, seen) = (base.round_trip(rate), own.round_trip(rate));
                if seen < known {
                    *base = own;
                } else if seen <= known + SAME_BASE {
                    base.at = now;
                }
            }
            base => *base = Some(own),
        }
    }

    /// A confirm that is late shows how slow the uplink is before it comes.
    fn notice_silence(&mut self, now: Instant) {
        let (Some(head), Some(rate), Some(base)) =
            (self.unconfirmed.oldest(), self.rate, self.base)
        else {
            return;
        };
        let carry = time(head.bytes, rate);
        let round_trip = base.round_trip(rate);
        let mut begun = head.sent + round_trip;
        if let Some(last) = self.last_confirm {
            begun = begun.max(last);
        }
        let carrying = now.saturating_duration_since(begun);
        if carrying > (carry + round_trip).mul_f64(TOLERANCE) + LATE {
            self.rate = Some(speed(head.bytes, carrying).min(rate));
        }
    }
}

/// Bytes per second.
fn speed(bytes: u64, took: Duration) -> f64 {
    (bytes as f64 / took.as_secs_f64().max(1e-6)).max(SLOWEST)
}

/// How long so many bytes take.
fn time(bytes: u64, rate: f64) -> Duration {
    Duration::from_secs_f64(bytes as f64 / rate)
}
