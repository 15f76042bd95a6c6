//! What a session shows of codec and decoder.

use super::{Session, Why};
use crate::capture::decode::Decoding;

impl Session<'_> {
    /// FFmpeg names a video stream's codec: first the input's, and then those of what it writes.
    pub(super) fn hear_codec(&mut self, codec: &str) -> Option<Why> {
        if self.heard.codec.is_some() {
            return None;
        }
        self.heard.codec = Some(codec.to_owned());
        let asked = self.reader.ladder.decoding() == Decoding::Asking;
        self.reader.ladder.heard_codec(codec);
        asked.then_some(Why::Relearn)
    }

    /// FFmpeg sends a picture. A hardware decoder's come from it and from nothing else.
    pub(super) fn decoded(&mut self) {
        if !self.heard.decoded {
            self.heard.decoded = true;
            self.reader.ladder.had_picture();
            self.reader.status.decodes_with(self.reader.decoder());
        }
    }

    /// `h264 (native)`, `h264 (native) with vaapi`.
    pub(super) fn decoder_in_full(&self) -> String {
        let decoder = self.heard.decoder.as_deref().unwrap_or("?");
        match self.reader.ladder.decoding() {
            Decoding::Hardware(hardware, _) => format!("{decoder} with {}", hardware.name()),
            Decoding::Software | Decoding::Asking => decoder.to_owned(),
        }
    }
}
