//! FFmpeg's stderr, line by line: what affects the session, what is logged, and the last errors.

use super::remarks::Remark;
use crate::redact::{self, Hidden};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Remarks that wait. More than pictures fit into the pipe, since a picture has at least 2 kB.
const REMARKS_KEPT: usize = 4096;

/// Warnings that give the reason for the end of a session; the errors after them are general.
const TELLING_WARNINGS: [&str; 2] = ["Failed reading RTSP data", "HTTP error"];

/// The last lines of a child's stderr. All lines go to the debug log, up to a rate.
#[derive(Debug)]
pub(super) struct LastWords {
    camera: Option<Arc<str>>,
    hidden: Hidden,
    unfinished: Vec<u8>,
    lines: VecDeque<(Instant, String)>,
    period: Instant,
    logged: u32,
    /// Remarks that affect the session and wait to be taken.
    remarks: VecDeque<Remark>,
}

/// FFmpeg 7 writes the cause first, and then up to ten lines about its consequences.
const LINES_KEPT: usize = 16;
/// FFmpeg's own lines are shorter. A longer one is cut.
const LINE_BYTES: usize = 512;
/// How much of a line is searched for secrets, before it is cut: if a secret were cut first, the
/// search would not find the rest of it.
const LINE_BYTES_SEARCHED: usize = 8 * LINE_BYTES;
/// Lines a camera may log in each [`LOG_PERIOD`].
const LINES_LOGGED: u32 = 10;
const LOG_PERIOD: Duration = Duration::from_secs(10);

impl LastWords {
    pub(super) fn new(camera: Option<Arc<str>>, hidden: Hidden) -> Self {
        Self {
            camera,
            hidden,
            unfinished: Vec::new(),
            lines: VecDeque::with_capacity(LINES_KEPT),
            period: Instant::now(),
            logged: 0,
            remarks: VecDeque::new(),
        }
    }

    /// The camera's id, for the log.
    pub(super) fn camera(&self) -> &str {
        self.camera.as_deref().unwrap_or("-")
    }

    /// Takes the oldest remark that affects the session.
    pub(super) fn take_remark(&mut self) -> Option<Remark> {
        self.remarks.pop_front()
    }

    /// Whether a remark waits after which no picture may come.
    pub(super) fn is_urgent(&self) -> bool {
        self.remarks.iter().any(|remark| {
            matches!(remark, Remark::Size(..) | Remark::Opened(_)) || remark.video_codec().is_some()
        })
    }

    /// Takes bytes of stderr: whole lines or parts of them.
    pub(super) fn hear(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n' || byte == b'\r') {
            let room = LINE_BYTES_SEARCHED.saturating_sub(self.unfinished.len());
            self.unfinished.extend(piece.iter().take(room));
            if matches!(piece.last(), Some(b'\n' | b'\r')) {
                match self.finish_line() {
                    // A flood of remarks: the newest are dropped.
                    Some(_) if self.remarks.len() >= REMARKS_KEPT => {}
                    Some(remark) => self.remarks.push_back(remark),
                    None => {}
                }
            }
        }
    }

    /// Ends the current line: keeps and logs it, or returns what it means for the session.
    fn finish_line(&mut self) -> Option<Remark> {
        let line = std::mem::take(&mut self.unfinished);
        let remark = Remark::of(String::from_utf8_lossy(&line).trim());
        self.unfinished = line;
        self.unfinished.clear();
        match remark {
            Remark::Error(text) => {
                let text = self.public(&text);
                self.log(&text);
                self.keep(text);
                None
            }
            Remark::Warning(text) => {
                let text = self.public(&text);
                self.log(&text);
                if TELLING_WARNINGS.iter().any(|words| text.contains(words)) {
                    self.keep(text);
                }
                None
            }
            Remark::Damaged(ref text) | Remark::Lost(ref text) => {
                let text = self.public(text);
                self.log(&text);
                self.keep(text);
                Some(remark)
            }
            Remark::Other => None,
            steering @ (Remark::Decoded(_)
            | Remark::Opened(_)
            | Remark::Decoder(_)
            | Remark::Stream(_)
            | Remark::Picture(_)
            | Remark::Size(..)) => Some(steering),
        }
    }

    /// The line without secrets, at most [`LINE_BYTES`] long.
    fn public(&self, line: &str) -> String {
        let mut line = redact::words(&without_addresses(line), &self.hidden);
        line.truncate(line.floor_char_boundary(LINE_BYTES));
        line
    }

    fn keep(&mut self, line: String) {
        if line.is_empty() {
            return;
        }
        if self.lines.len() == LINES_KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back((Instant::now(), line));
    }

    fn log(&mut self, line: &str) {
        let Some(camera) = &self.camera else { return };
        if line.is_empty() {
            return;
        }
        if self.period.elapsed() >= LOG_PERIOD {
            if self.logged > LINES_LOGGED {
                let more = self.logged - LINES_LOGGED;
                log::debug!(camera_id = camera; "FFmpeg wrote {more} more lines");
            }
            self.period = Instant::now();
            self.logged = 0;
        }
        self.logged = self.logged.saturating_add(1);
        if self.logged <= LINES_LOGGED {
            log::debug!(camera_id = camera; "FFmpeg: {line}");
        }
    }

    /// The last lines that were errors, without secrets, each with its age.
    pub(super) fn lines(&mut self) -> Vec<(Duration, String)> {
        let _ = self.finish_line();
        let lines = self.lines.iter();
        lines
            .map(|(at, line)| (at.elapsed(), line.clone()))
            .collect()
    }
}

/// `[rtsp @ 0x55d0c1] refused` becomes `[rtsp] refused`: the address in memory makes the same
/// failure look different each time.
fn without_addresses(line: &str) -> String {
    let mut pieces = line.split(" @ 0x");
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        out += piece.trim_start_matches(|c: char| c.is_ascii_hexdigit());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_whole_and_without_secrets() {
        let mut words = LastWords::new(None, Hidden::default());
        words.hear(b"first\nsec");
        words.hear(b"ond rtsp://u:p@h/\r\n[tcp @ 0x55580afc5c00] third, unfinished");
        let lines: Vec<_> = words.lines().into_iter().map(|(_, line)| line).collect();
        assert_eq!(
            lines,
            ["first", "second rtsp://***@h/", "[tcp] third, unfinished"]
        );
    }

    #[test]
    fn a_flood_without_line_breaks_is_cut() {
        let mut words = LastWords::new(None, Hidden::default());
        for _ in 0..1000 {
            words.hear(&[b'x'; 1000]);
        }
        let lines = words.lines();
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].1.len(), LINE_BYTES);
    }
}
