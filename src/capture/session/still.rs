//! What becomes of a session whose picture is frozen.

use super::{Session, Why};
use crate::backoff::random;
use crate::capture::remarks::Remark;
use crate::capture::still;
use crate::capture::video;
use crate::clock::span_text;
use crate::config::Pictures;
use crate::metrics::Restart;
use std::time::{Duration, Instant};

impl Session<'_> {
    /// FFmpeg has said this.
    pub(super) fn hear_of_motion(&mut self, remark: &Remark, now: Instant) {
        let Some(still) = &mut self.reader.still else {
            return;
        };
        match remark {
            Remark::Picture(motion) => still.hear(*motion, now),
            // With one output, the filters have been made anew.
            Remark::Size(..) if self.outputs == 1 => still.forget_pictures(),
            _ => {}
        }
    }

    /// A unit has come. Returns why the session ends, if it does.
    pub(super) fn look_at_units(&mut self, news: &video::News, now: Instant) -> Option<Why> {
        if self.reader.camera.pictures != Pictures::None {
            return None;
        }
        if let Some(motion) = news.motion {
            self.reader.still.as_mut()?.hear(motion, now);
        }
        news.unit.and_then(|_| self.look_at_picture(now))
    }

    /// A picture or, where nothing is decoded, a unit has come. Returns why the session ends, if it
    /// does.
    pub(super) fn look_at_picture(&mut self, now: Instant) -> Option<Why> {
        let reader = &mut *self.reader;
        let (still, id) = (reader.still.as_mut()?, &reader.camera.id);
        match still.picture(now) {
            Some(still::News::Frozen(since)) => {
                log::warn!(camera_id = id;
                    "{}: the camera hangs, or its scene is static; if it is static, raise frozen.after",
                    unchanged_for(now - since));
                reader.status.frozen(Some(since));
            }
            Some(still::News::Moves(time)) => {
                log::info!(camera_id = id; "the picture changes again, after {}", whole(time));
                reader.status.frozen(None);
            }
            None => {}
        }
        let since = still.restart(now, random)?;
        Some(Why::Hung(Restart::Stalled, unchanged_for(now - since)))
    }
}

fn unchanged_for(time: Duration) -> String {
    format!("the picture has not changed for {}", whole(time))
}

/// In whole seconds.
fn whole(time: Duration) -> String {
    span_text(time.as_secs() as f64)
}
