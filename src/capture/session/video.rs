//! The units in a session, beside its pictures.

use super::{Session, Why};
use crate::capture::units::UnitError;
use crate::capture::video::{Ended, News};
use crate::config::Pictures;
use crate::metrics::{OTHER_CODEC, Restart};
use crate::os_error::error_text;
use crate::repeat::Repeat;
use std::time::Instant;

/// Units that are read before FFmpeg's pictures have their turn.
const AT_ONCE: u32 = 64;

impl Session<'_> {
    /// Hands over the units that are there. Returns why the session ends, if it does.
    pub(super) fn hand_over_units(&mut self, said: &mut Repeat) -> Option<Why> {
        if self.judge.is_settled()
            && let Some(video) = &mut self.video
        {
            video.note_settled();
        }
        for _ in 0..AT_ONCE {
            let tap = self.splitter.get_mut().tap.as_mut()?;
            if !tap.ready {
                return None;
            }
            let (session, video) = (self.video.as_mut()?, self.reader.video.as_mut()?);
            let news = match session.pump(tap, video, &mut self.backlog) {
                Ok(news) => news,
                Err(ended) => return Some(self.without_units(ended)),
            };
            self.hear_of_units(&news, said);
            let why = self.memory_is_short();
            if let Some(why) = why.or_else(|| self.look_at_units(&news, Instant::now())) {
                return Some(why);
            }
            if !news.more {
                break;
            }
            // FFmpeg may have written a remark on the next unit since the poll.
            self.splitter.get_mut().child.hear();
            if let Some(why) = self.hear() {
                return Some(why);
            }
        }
        None
    }

    /// FFmpeg has ended: hands over what it has left in its pipes.
    pub(super) fn hand_over_last_units(&mut self, said: &mut Repeat) -> Option<Why> {
        loop {
            self.splitter.get_mut().tap.as_mut()?.ready = true;
            if let Some(why) = self.hand_over_units(said) {
                return Some(why);
            }
            if !self.splitter.get_mut().tap.as_ref()?.ready {
                return None;
            }
        }
    }

    fn hear_of_units(&mut self, news: &News, said: &mut Repeat) {
        if let Some(gop) = news.long_gop {
            log::warn!(camera_id = self.reader.camera.id;
                "the camera sends a keyframe every {:.1} s: a viewer that joins, and every consumer \
                 after a gap, waits as long for the next picture; set the keyframe interval (GOP, \
                 I-frame interval) in the camera to 1 or 2 s",
                gop.as_secs_f64());
        }
        if news.unit.is_some() || news.late.is_some() {
            self.units_late = news.late;
        }
        let Some(at) = news.unit else { return };
        self.last_unit = Some(at);
        if self.reader.camera.pictures != Pictures::All {
            let counters = &self.reader.metrics.video.reader;
            let size = (counters.width.get(), counters.height.get());
            self.is_live(size, "access unit", at, said);
        }
    }

    fn without_units(&mut self, ended: Ended) -> Why {
        let error = match ended {
            Ended::Units(error) => error,
            Ended::Io(error) => {
                let why = format!("cannot read the units from FFmpeg: {}", error_text(&error));
                return Why::Hung(Restart::Exited, why);
            }
        };
        match error {
            UnitError::Torn(_) => Why::Hung(Restart::Corrupt, error.to_string()),
            UnitError::ParametersChanged => Why::NewParameters,
            UnitError::LengthPrefixed(codec) => {
                self.reader.learnt.has_length_prefixed(codec);
                Why::Relearn
            }
            UnitError::NotVideo { .. } if self.reader.camera.pictures == Pictures::None => {
                Why::Hung(Restart::Exited, error.to_string())
            }
            UnitError::NotVideo { .. } => {
                log::warn!(camera_id = self.reader.camera.id;
                    "{error}; publishing pictures only");
                self.reader.learnt.has_no_video();
                self.reader.metrics.video.reader.codec.set(OTHER_CODEC);
                Why::Relearn
            }
        }
    }

    /// Why the session ends while pictures come and units do not.
    pub(super) fn units_are_missing(&self, now: Instant) -> Option<Why> {
        let last = self
            .video
            .as_ref()
            .map(|_| self.last_unit.unwrap_or(self.started))?;
        let timeout = match self.last_unit {
            Some(_) => self.stale_timeout,
            // The first may have to wait for a keyframe, as the first picture does.
            None => self
                .reader
                .camera
                .first_frame_timeout
                .max(super::FIRST_KEYFRAME),
        };
        (now.saturating_duration_since(last) > timeout).then(|| {
            let seconds = timeout.as_secs_f64();
            let why = format!("pictures come, but no access unit for {seconds} s");
            Why::Hung(Restart::Stalled, why)
        })
    }
}
