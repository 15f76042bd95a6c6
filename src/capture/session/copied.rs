//! Pictures that FFmpeg copies, as the camera sends them.

use super::{Reader, Session};
use crate::capture::ffmpeg::MAX_PIXELS;
use crate::capture::jpeg::{self, Fit};
use crate::capture::pacer::{OneEvery, Pacer};
use crate::capture::remarks::{Decoded, Remark};
use crate::capture::splitter::Skip;
use crate::handoff::pool::Buffer;
use std::time::Instant;

/// The rate that FFmpeg assumes for a stream of JPEGs, which has no time stamps.
const ASSUMED_FPS: f64 = 25.0;

/// So many parts without a picture at the start of a session are no accident.
const IN_VAIN: u64 = 5;

/// The copied pictures of a session.
#[derive(Debug)]
pub(super) struct Copied {
    pacer: Pace,
    /// How many the camera has sent.
    sent: u64,
}

/// Which pictures are published.
#[derive(Debug)]
enum Pace {
    Rate(Pacer),
    /// While the camera is idle.
    OneEvery(OneEvery),
}

/// What is to be done with a copied picture.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It goes the way of every picture.
    Picture,
    /// It is left out.
    LeftOut,
    /// FFmpeg must decode this camera's pictures and encode them again.
    Unusual,
}

impl Copied {
    /// For the next session, if its pictures are copied.
    pub(super) fn of(reader: &Reader) -> Option<Self> {
        let copied = reader.learnt.is_copied() || reader.learnt.is_polled();
        copied.then(|| Self {
            pacer: match reader.camera.one_every {
                None => Pace::Rate(Pacer::new(reader.camera.fps)),
                Some(every) => Pace::OneEvery(OneEvery::new(every)),
            },
            sent: 0,
        })
    }
}

impl Session<'_> {
    /// Whether FFmpeg, which decodes with `decoder`, is to copy the camera's JPEGs instead.
    pub(super) fn is_to_be_copied(&mut self, decoder: &str) -> bool {
        let (reader, format) = (&mut *self.reader, self.heard.format.as_deref());
        let news = reader.learnt.decodes(&reader.camera, format, decoder);
        if news && !reader.only_one {
            log::info!(camera_id = reader.camera.id;
                "the camera sends JPEGs: publishing them as they are; restarting FFmpeg");
        }
        news
    }

    /// Whether FFmpeg copies what only a decoder can read, or make fit: none of the first parts is
    /// a picture that can be published.
    pub(super) fn copies_in_vain(&mut self) -> bool {
        let learnt = &mut self.reader.learnt;
        // Those that are too large are smaller when they are encoded again.
        let skipped = self.skipped.corrupt + self.skipped.oversize;
        let in_vain = learnt.is_copied() && self.heard.pictures.is_none() && skipped >= IN_VAIN;
        if in_vain {
            learnt.has_unusual_jpegs();
        }
        in_vain
    }

    /// Makes the picture in `buffer` fit for every decoder. It was read at `now`.
    pub(super) fn take_copied(&mut self, buffer: &mut Buffer, now: Instant) -> Taken {
        let Some(copied) = &mut self.copied else {
            return Taken::Picture;
        };
        copied.sent += 1;
        let stream = copied.sent as f64 / ASSUMED_FPS;
        // What is above the rate is not looked at, and counts as little as what FFmpeg's filter
        // leaves out.
        let passes = match &mut copied.pacer {
            Pace::Rate(pacer) => pacer.passes(now),
            Pace::OneEvery(pacer) => pacer.passes(now),
        };
        if !passes {
            return Taken::LeftOut;
        }
        match jpeg::fit(buffer.picture(), MAX_PIXELS) {
            Ok(Fit::AsItIs) => {}
            Ok(Fit::Tables(at)) => buffer.insert(at, &jpeg::STANDARD_TABLES),
            Ok(Fit::Unusual) => {
                self.reader.learnt.has_unusual_jpegs();
                log::info!(camera_id = self.reader.camera.id;
                    "the camera's JPEGs are of a kind that few decoders know: encoding them again");
                return Taken::Unusual;
            }
            Err(fault) => {
                self.skip(Skip::BadPicture(fault));
                return Taken::LeftOut;
            }
        }
        // FFmpeg says nothing of a picture that it does not decode.
        let decoded = Decoded {
            stream,
            passed: true,
            key: true,
        };
        self.judge.hear(&Remark::Decoded(decoded), now);
        Taken::Picture
    }
}
