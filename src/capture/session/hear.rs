//! What FFmpeg says in a session.

use super::{FIRST_KEYFRAME, Session, Why};
use crate::capture::remarks::Remark;
use std::time::Instant;

impl Session<'_> {
    /// Takes what FFmpeg has said.
    pub(super) fn hear(&mut self) -> Option<Why> {
        while let Some(remark) = self.splitter.get_mut().child.take_remark() {
            let now = Instant::now();
            // Of pictures that FFmpeg copies, it decodes one, to learn what they are.
            if self.copied.is_none() || matches!(remark, Remark::Opened(_)) {
                self.judge.hear(&remark, now);
            }
            if remark.is_of_missed_packets()
                && let Some(video) = &mut self.video
            {
                video.missed_packets();
            }
            if !self.live && !self.reader.only_one && !matches!(remark, Remark::Decoded(_)) {
                // A stream comes. It may be without a keyframe for a while.
                let output = self.splitter.get_mut();
                output.deadline = output.deadline.max(self.started + FIRST_KEYFRAME);
            }
            if let Remark::Size(width, height) = remark
                && let Some(why) = self.note_size((width, height))
            {
                return Some(why);
            }
            if let Some(codec) = remark.video_codec()
                && let Some(why) = self.hear_codec(codec)
            {
                return Some(why);
            }
            self.hear_of_motion(&remark, now);
            if let Remark::Decoder(decoder) = &remark {
                self.heard.decoder = Some(decoder.clone());
                if self.reader.learnt.decodes_with(decoder) || self.is_to_be_copied(decoder) {
                    return Some(Why::Relearn);
                }
            }
            if let Remark::Opened(format) = remark {
                if let Some(video) = &mut self.video {
                    video.opened(now);
                }
                if self.reader.learnt.opened(&self.reader.camera, &format) {
                    return Some(Why::Relearn);
                }
                self.heard.format = Some(format);
            }
        }
        None
    }

    /// The camera's pictures have this size. Each that one FFmpeg can publish has an encoder, which
    /// keeps it.
    fn note_size(&mut self, new: (u32, u32)) -> Option<Why> {
        if self.sizes.contains(&new) || self.reader.camera.has_fixed_size() {
            return None;
        }
        let before = self.sizes.last().copied();
        self.sizes.push(new);
        let too_many = self.sizes.len() > self.outputs;
        before
            .filter(|_| too_many)
            .map(|old| Why::Resized(old, new))
    }
}
