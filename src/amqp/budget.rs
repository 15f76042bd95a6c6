//! How many bytes of one connection may be unconfirmed at once; pure.
//!
//! What has been given to the connection cannot be taken back, so what waits there makes frames
//! old. The budget limits that queue by time, not by count: the next frame goes when the uplink
//! needs at most [`SLACK`] for what it still has to carry. The rate of the uplink follows from the
//! confirms alone, because the kernel, a router or a tunnel may hold megabytes that no local call
//! shows.
//!
//! TCP keeps the order, so a confirm shows that every frame sent before has been carried too. A
//! broker that withholds the confirms of one camera therefore takes nothing from the others.

use super::unconfirmed::Unconfirmed;
use std::time::{Duration, Instant};

/// The queue in the uplink. Long enough that the uplink stays busy while a confirm is late and a
/// thread wakes up; short against `max_age`.
const SLACK: Duration = Duration::from_millis(300);
/// The same as a share of `max_age`, where that is less: the queue alone must not make a frame too
/// old.
const SLACK_OF_MAX_AGE: f64 = 0.3;
/// A frame's own bytes count for at most this share of `max_age`. A frame that takes longer still
/// goes while it is young; otherwise a very slow uplink would carry nothing.
const OWN_OF_MAX_AGE: f64 = 0.5;
/// A confirm that is later than calculated by [`TOLERANCE`] and this shows that the rate is too
/// high. A busy broker is late by tens of milliseconds while the uplink is fast.
const LATE: Duration = Duration::from_millis(50);
const TOLERANCE: f64 = 1.25;
/// How far the rate moves towards a lower measurement, per confirm, while frames wait.
const LEAK: f64 = 0.1;
/// How long a measured round trip is used. While frames wait, it shows only when the queue has
/// drained.
const BASE_LASTS: Duration = Duration::from_secs(10);
/// Draining the queue leaves the uplink idle for less than the latency of a lone frame. So it
/// happens at most once per this many latencies: 2.5 % of the uplink.
const BASE_LASTS_LATENCIES: u32 = 40;
/// Latencies that differ by less than this show the same round trip.
const SAME_BASE: Duration = Duration::from_millis(10);
/// The lowest rate, in bytes per second, against a division by zero.
const SLOWEST: f64 = 100.0;

/// Whether a frame may go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Opening {
    /// Now. The uplink begins to carry it after this time.
    Now(Duration),
    /// At this time, if no confirm comes before.
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
    /// The next frame goes alone, to show the round trip.
    draining: bool,
    /// When a frame last went alone. What follows it does not change its latency.
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
    /// Its confirm is late after this time, if the rate is right.
    late: Option<Instant>,
    /// Nothing else was unconfirmed.
    alone: bool,
    /// All unconfirmed bytes, its own included: carried between `since` and its confirm.
    bytes_in_flight: u64,
    /// The last confirm before it, or when it was sent if it was alone.
    since: Instant,
    /// When the oldest of those bytes were sent. The rate is at least as high as they were sent.
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

    /// Bytes a second that the uplink carries, as far as the confirms show: what is sent does not
    /// fill every uplink.
    pub(super) fn rate(&self) -> Option<f64> {
        self.rate
    }

    #[cfg(test)]
    pub(super) fn bytes_in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Forgets all about the uplink: the next connection may take another route.
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
        // The uplink carries the oldest frame since it was sent, or since the one before was
        // through. The confirm takes half a round trip to us, and what we send half a one to the
        // uplink's end.
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

    /// How long the uplink needs for a frame of this size, as far as that counts against its age.
    pub(super) fn carries(&self, bytes: u64) -> Duration {
        let own = self.rate.map(|rate| time(bytes, rate));
        own.unwrap_or_default().min(self.own_most)
    }

    /// A frame of this size goes to the connection now. Returns its ticket.
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

    /// The frame of this ticket is not sent after all, or its channel has ended.
    pub(super) fn forget(&mut self, tag: u64) {
        let in_flight = &mut self.in_flight;
        self.unconfirmed
            .answered(tag, false, |gone| *in_flight -= gone.bytes);
    }

    /// The broker answered the frame of this ticket.
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
        // It is another frame, or none, if a later one was confirmed before it.
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

    /// A late confirm shows how slow the uplink is before it comes.
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

/// How long `bytes` bytes take at `rate`.
fn time(bytes: u64, rate: f64) -> Duration {
    Duration::from_secs_f64(bytes as f64 / rate)
}
