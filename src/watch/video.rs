//! Shows the table of the video that arrived, and saves it.

use super::View;
use super::gops::Follower;
use super::recording::Recording;
use super::table::{MOST_CAMERAS, milliseconds, percentile, plain};
use crate::amqp::Received;
use crate::frame::Codec;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

/// Cameras whose video is saved, each in an open file: half of the descriptors that a process
/// usually may have.
const MOST_SAVED: usize = 512;

/// The video, by camera.
#[derive(Debug)]
pub(super) struct VideoTable {
    folder: Option<PathBuf>,
    cameras: BTreeMap<String, Line>,
    failure: Option<io::Error>,
}

#[derive(Debug, Default)]
struct Line {
    /// Arrival minus capture, µs, of each unit of this period.
    ages: Vec<i64>,
    bytes: usize,
    size: (i32, i32),
    codec: Option<Codec>,
    follower: Follower,
    saved: bool,
    recording: Recording,
}

impl VideoTable {
    /// The video is saved in `folder`, if there is one.
    pub(super) fn new(folder: Option<PathBuf>) -> Self {
        Self {
            folder,
            cameras: BTreeMap::new(),
            failure: None,
        }
    }
}

impl View for VideoTable {
    fn add(&mut self, received: Received, now_us: i64) -> bool {
        let Received { headers, jpeg } = received;
        let Some(video) = headers.video else {
            return false;
        };
        let id = &*headers.camera_id;
        let count = self.cameras.len();
        if !self.cameras.contains_key(id) {
            if count >= MOST_CAMERAS {
                return true;
            }
            let line = Line {
                saved: count < MOST_SAVED,
                ..Line::default()
            };
            if self.folder.is_some() && !line.saved {
                self.failure.get_or_insert_with(|| {
                    io::Error::other("only the first 512 cameras are saved")
                });
            }
            self.cameras.insert(id.to_owned(), line);
        }
        let Some(line) = self.cameras.get_mut(id) else {
            return true;
        };
        line.ages
            .push(now_us.saturating_sub(headers.captured_at_us));
        line.bytes += jpeg.len();
        line.size = (headers.width, headers.height);
        line.codec = Some(video.codec);
        let step = line.follower.arrived(&headers, &video);
        if let Some(folder) = self.folder.as_ref().filter(|_| line.saved)
            && let Err(error) = line.recording.write(folder, &headers, &video, step, &jpeg)
        {
            self.failure.get_or_insert(error);
        }
        true
    }

    fn connected(&mut self) {
        for line in self.cameras.values_mut() {
            line.follower.connected();
        }
    }

    fn next(&mut self, seconds: f64) -> String {
        let mut text = format!(
            "{:<20} {:>5} {:>9} {:>7} {:>8} {:>6} {:>10} {:>10} {:>6} {:>6}",
            "camera",
            "codec",
            "size",
            "units/s",
            "kbit/s",
            "GOP s",
            "age p50",
            "age p99",
            "gaps",
            "broken"
        );
        for (id, line) in &mut self.cameras {
            line.ages.sort_unstable();
            let gop = line.follower.gop_us.map_or_else(
                || "-".to_owned(),
                |us| format!("{:.1}", us as f64 / 1_000_000.0),
            );
            let _ = write!(
                text,
                "\n{:<20} {:>5} {:>9} {:>7.1} {:>8.0} {:>6} {:>10} {:>10} {:>6} {:>6}",
                plain(id, '?'),
                line.codec.map_or("-", Codec::name),
                format!("{}x{}", line.size.0, line.size.1),
                line.ages.len() as f64 / seconds,
                line.bytes as f64 * 8.0 / 1000.0 / seconds,
                gop,
                milliseconds(percentile(&line.ages, 50)),
                milliseconds(percentile(&line.ages, 99)),
                line.follower.gaps,
                line.follower.broken,
            );
            line.ages.clear();
            line.bytes = 0;
        }
        if self.cameras.is_empty() {
            text += "\nno video yet";
        }
        text
    }

    /// Each unit is written as it arrives.
    fn save(&mut self) -> io::Result<()> {
        self.failure.take().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests;
