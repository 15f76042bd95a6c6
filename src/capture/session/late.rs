//! What comes late or not at all: when that is told, and when it ends the session.

use super::{Lateness, Session, Skipped, TOLD_AFTER, Why};
use crate::capture::judge::Cause;
use crate::config::Pictures;
use crate::metrics::Restart;
use std::time::{Duration, Instant};

impl Session<'_> {
    pub(super) fn note_late(&mut self, lag: Duration, cause: Cause, now: Instant) {
        let late = self.late.get_or_insert(Lateness {
            since: now,
            pictures: 0,
            most: Duration::ZERO,
            cause,
        });
        late.pictures += 1;
        if lag > late.most {
            late.most = lag;
            late.cause = cause;
        }
        if now - late.since >= TOLD_AFTER {
            self.tell_late(now);
        }
    }

    /// Says that pictures were late, at most once a minute. A session begins with late ones. In
    /// that of an idle camera they are seconds apart, and if they stay late, the watchdog tells.
    pub(super) fn tell_late(&mut self, now: Instant) {
        let Some(late) = &self.late else { return };
        let is_idle = self.reader.camera.one_every.is_some();
        if !self.live && (is_idle || now - late.since < TOLD_AFTER) {
            return;
        }
        let why = late.cause.words();
        if let Some(again) = self.reader.late_said.say(why, now) {
            log::warn!(camera_id = self.reader.camera.id;
                "pictures are up to {:.1} s late and are dropped, {} so far: {why}{again}",
                late.most.as_secs_f64(), late.pictures);
        }
    }

    pub(super) fn timed_out(&self) -> Why {
        if let Some(late) = &self.late {
            let seconds = self.stale_timeout.as_secs_f64();
            return Why::Hung(
                Restart::Stalled,
                format!(
                    "no picture younger than amqp.max_age for {seconds} s; the last was {:.1} s \
                     late: {}",
                    late.most.as_secs_f64(),
                    late.cause.words()
                ),
            );
        }
        let lives_by_units = self.video.is_some() && self.reader.camera.pictures != Pictures::All;
        let awaited = match lives_by_units {
            true => "access unit",
            false => "frame",
        };
        if let Some(lag) = self.units_late.filter(|_| lives_by_units) {
            let seconds = self.stale_timeout.as_secs_f64();
            let why = format!(
                "no access unit younger than video.max_age for {seconds} s; the last was {:.1} s late: {}",
                lag.as_secs_f64(),
                Cause::Ffmpeg.words()
            );
            return Why::Hung(Restart::Stalled, why);
        }
        let (reason, what, timeout) = if self.live {
            (Restart::Stalled, "no", self.stale_timeout)
        } else {
            let waited = self.started.elapsed().as_secs();
            let least = self.reader.camera.first_frame_timeout;
            let waited = least.max(Duration::from_secs(waited));
            (Restart::NoFirstFrame, "no first", waited)
        };
        let but = match self.skipped {
            Skipped {
                oversize: 0,
                corrupt: 0,
            } => String::new(),
            Skipped {
                oversize,
                corrupt: 0,
            } => format!(
                "; frames larger than max_frame_bytes ({}): {oversize}; raise it, or raise \
                 quality for smaller frames",
                self.reader.max_frame_bytes
            ),
            Skipped { oversize, corrupt } => {
                format!("; damaged frames: {}", oversize + corrupt)
            }
        };
        let seconds = (timeout.as_secs_f64() * 10.0).round() / 10.0;
        Why::Hung(reason, format!("{what} {awaited} for {seconds} s{but}"))
    }
}
