//! The reader's decoder: which one the next session uses, and what its failure changes.

use super::child::End;
use super::decode::{self, Decoding};
use super::session::Heard;
use super::words::Explained;
use super::{Ended, Reader};
use crate::config::Decode;
use crate::metrics::Restart;

impl Reader {
    /// How the next session decodes. Asks FFmpeg what it has, if that is not known and matters.
    ///
    /// # Errors
    /// A sentence for the log if FFmpeg does not answer.
    pub(super) fn decoding(&mut self) -> Result<Decoding, String> {
        if self.ladder.is_unknown() {
            let available = self.ffmpeg.available(&self.stop)?;
            self.ladder.start(&available);
        }
        Ok(match self.is_idle() {
            // Some hardware decoders decode every picture, also if only keyframes are wanted.
            true => Decoding::Software,
            false => self.ladder.decoding(),
        })
    }

    fn is_idle(&self) -> bool {
        self.camera.one_every.is_some()
    }

    /// What decodes the camera's pictures, for the user.
    pub(super) fn decoder(&self) -> &'static str {
        match self.camera.decoder_argument() {
            // FFmpeg may continue in software: what it really uses is not known.
            Some(_) => "input_args",
            None => self.ladder.name(),
        }
    }

    /// `, decoded by vaapi`, if the camera's `decode` leaves a question. `what` came first.
    pub(super) fn decoder_in_words(&self, what: &str) -> String {
        match self.camera.decode {
            Decode::Auto | Decode::Only(_) if what == "frame" => {
                format!(", decoded by {}", self.decoder())
            }
            _ => String::new(),
        }
    }

    /// Whether a session without a picture ended because of its hardware decoder, in FFmpeg's
    /// words.
    pub(super) fn decoder_refused(&mut self, end: &End, heard: &Heard) -> Option<Ended> {
        if heard.decoded || self.is_idle() {
            return None;
        }
        let Decoding::Hardware(hardware, _) = self.ladder.decoding() else {
            return None;
        };
        let why = decode::refusal(&end.status, &end.last_words)?;
        let name = hardware.name();
        Some(self.next_decoder(&why).unwrap_or_else(|| {
            let brief = format!("the decoder {name} cannot be used");
            let full = format!(
                "{brief}: {why}; install its driver, let the service's user open its device, or \
                 set decode: auto"
            );
            Ended::Failed(Restart::Exited, Explained { full, brief })
        }))
    }

    /// The same if FFmpeg has opened the stream and brings no picture: hardware decoders that do
    /// not know a stream may also wait without end.
    pub(super) fn decoder_is_silent(
        &mut self,
        reason: Restart,
        why: &str,
        heard: &Heard,
    ) -> Option<Ended> {
        if heard.decoded || heard.format.is_none() || reason != Restart::NoFirstFrame {
            return None;
        }
        self.ladder.had_no_picture();
        if self.ladder.is_proven() || self.is_idle() {
            return None;
        }
        self.next_decoder(why)
    }

    /// The same if FFmpeg has ended for another reason, again and again.
    pub(super) fn decoder_is_useless(&mut self, why: &str, heard: &Heard) -> Option<Ended> {
        let opened = heard.format.is_some() && !self.is_idle();
        let in_vain = !heard.decoded && opened && self.ladder.had_no_picture();
        in_vain.then(|| self.next_decoder(why)).flatten()
    }

    /// The decoder in use does not bring a picture of this camera. With `decode: auto` the next one
    /// is tried at once.
    fn next_decoder(&mut self, why: &str) -> Option<Ended> {
        let failed = self.ladder.name();
        if !self.ladder.failed() {
            return None;
        }
        self.metrics.reader.restarted(Restart::Exited);
        let next = match self.ladder.decoding() {
            Decoding::Software => "decoding in software instead".to_owned(),
            _ => format!("trying {} instead", self.ladder.name()),
        };
        log::warn!(camera_id = self.camera.id; "the decoder {failed} cannot be used: {why}; {next}");
        Some(Ended::Again)
    }
}
