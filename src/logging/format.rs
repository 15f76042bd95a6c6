//! Formats a record for stderr: always one line, whatever it contains.

use super::REPORT;
use super::queue::Entry;
use crate::clock::Utc;
use log::Level;
use serde::{Serialize, Serializer};
use std::fmt::{self, Write as _};
use std::io::{self, Write};

/// The form of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `time LEVEL camera: message`, and outside the program's own modules the target in the
    /// camera's place.
    Text,
    /// The same without the time, which the journal has, and with the priority in front, which the
    /// journal takes off (sd-daemon(3)).
    Journal,
    /// One JSON object: `ts` (RFC 3339, UTC), `level`, `target`, `camera_id`, `msg`.
    Json,
}

impl Format {
    /// Appends the line of `entry`, whose message without secrets is `message`.
    pub(super) fn write(self, entry: &Entry, message: &str, out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Text => {
                write!(out, "{:.3} ", entry.at)?;
                text(entry, message, out)
            }
            Self::Journal => {
                write!(out, "<{}>", priority(entry.level))?;
                text(entry, message, out)
            }
            Self::Json => {
                let line = Line {
                    ts: entry.at,
                    level: entry.level,
                    target: entry.target(),
                    camera_id: entry.camera(),
                    msg: message,
                };
                serde_json::to_writer(&mut *out, &line)?;
                out.write_all(b"\n")
            }
        }
    }
}

fn text(entry: &Entry, message: &str, out: &mut Vec<u8>) -> io::Result<()> {
    write!(out, "{:<5} ", entry.level)?;
    let target = entry.target();
    if let Some(camera) = entry.camera() {
        write!(out, "{}: ", OneLine(camera))?;
    } else if target == REPORT || !target.starts_with("edge_video") {
        write!(out, "{}: ", OneLine(target))?;
    }
    writeln!(out, "{}", OneLine(message))
}

/// Of syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(serialize_with = "micros")]
    ts: Utc,
    #[serde(serialize_with = "lower_case")]
    level: Level,
    target: &'a str,
    camera_id: Option<&'a str>,
    msg: &'a str,
}

fn micros<S: Serializer>(ts: &Utc, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{ts:.6}"))
}

fn lower_case<S: Serializer>(level: &Level, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    })
}

/// Text with its line breaks and control characters shown: one record stays one line, and what a
/// camera or broker says can neither pass for a line of ours nor steer a terminal.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.trim_end_matches(['\r', '\n']);
        while let Some(at) = rest.find(is_shown) {
            let (plain, special) = rest.split_at(at);
            f.write_str(plain)?;
            if special.starts_with(['\r', '\n']) {
                f.write_str(" | ")?;
                rest = special.strip_prefix("\r\n").unwrap_or(&special[1..]);
            } else {
                let mut chars = special.chars();
                for shown in chars.next().into_iter().flat_map(char::escape_default) {
                    f.write_char(shown)?;
                }
                rest = chars.as_str();
            }
        }
        f.write_str(rest)
    }
}

/// U+2028 and U+2029 are Unicode's own line and paragraph separators.
fn is_shown(c: char) -> bool {
    c.is_control() && c != '\t' || matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use log::kv::ToValue;
    use serde_json::Value;

    fn entry(level: Level, target: &str, camera: Option<&str>) -> Entry {
        let camera = camera.as_ref().map(ToValue::to_value);
        let mut entry = Entry::new(String::new(), level, target, camera, format_args!(""));
        entry.at = Utc(1_795_305_599_123_456);
        entry
    }

    fn line(format: Format, entry: &Entry, message: &str) -> String {
        let mut out = Vec::new();
        format.write(entry, message, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_has_time_level_camera_and_message() {
        let of_camera = entry(Level::Warn, "edge_video::capture", Some("door"));
        assert_eq!(
            line(Format::Text, &of_camera, "it ended"),
            "2026-11-21T23:59:59.123Z WARN  door: it ended\n"
        );
        let own = entry(Level::Error, "edge_video::daemon", None);
        assert_eq!(
            line(Format::Text, &own, "stopping"),
            "2026-11-21T23:59:59.123Z ERROR stopping\n"
        );
        let foreign = entry(Level::Info, "amiquip::io_loop", None);
        assert_eq!(
            line(Format::Text, &foreign, "x"),
            "2026-11-21T23:59:59.123Z INFO  amiquip::io_loop: x\n"
        );
        let report = entry(Level::Info, REPORT, None);
        assert_eq!(
            line(Format::Text, &report, "{}"),
            "2026-11-21T23:59:59.123Z INFO  edge_video::report: {}\n"
        );
    }

    #[test]
    fn for_the_journal_the_priority_stands_in_the_times_place() {
        for (level, expected) in [
            (Level::Error, "<3>ERROR door: x\n"),
            (Level::Warn, "<4>WARN  door: x\n"),
            (Level::Info, "<6>INFO  door: x\n"),
            (Level::Debug, "<7>DEBUG door: x\n"),
            (Level::Trace, "<7>TRACE door: x\n"),
        ] {
            let entry = entry(level, "edge_video", Some("door"));
            assert_eq!(line(Format::Journal, &entry, "x"), expected);
        }
    }

    #[test]
    fn json_is_one_object_with_all_its_fields() {
        let of_camera = entry(Level::Warn, "edge_video::capture", Some("door"));
        assert_eq!(
            line(Format::Json, &of_camera, "it ended"),
            "{\"ts\":\"2026-11-21T23:59:59.123456Z\",\"level\":\"warn\",\
             \"target\":\"edge_video::capture\",\"camera_id\":\"door\",\"msg\":\"it ended\"}\n"
        );
        let of_none = entry(Level::Info, "edge_video::daemon", None);
        assert_eq!(
            line(Format::Json, &of_none, "x"),
            "{\"ts\":\"2026-11-21T23:59:59.123456Z\",\"level\":\"info\",\
             \"target\":\"edge_video::daemon\",\"camera_id\":null,\"msg\":\"x\"}\n"
        );
    }

    #[test]
    fn json_holds_any_text_exactly() {
        let every_ascii: String = (0..128_u8).map(char::from).collect();
        // What comes from a camera may not be UTF-8 and is made so before it is logged.
        let mended = String::from_utf8_lossy(b"\xff\xfe caf\xe9 \xf0\x9f\x98");
        for text in [
            "\"quoted\" and \\ and </script>",
            "\u{85}\u{2028}\u{2029}\u{feff}\u{1f600}é",
            &every_ascii,
            &mended,
        ] {
            let line = line(Format::Json, &entry(Level::Info, "t", Some(text)), text);
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            assert!(line.ends_with('\n'));
            let object: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(object["msg"], text);
            assert_eq!(object["camera_id"], text);
        }
    }

    #[test]
    fn a_message_cannot_forge_a_line() {
        let forged = "lost\n2026-11-21T23:59:59.123Z ERROR door: forged\r\n<0>x\ry\n";
        let door = entry(Level::Info, "t", Some("do\nor"));
        assert_eq!(
            line(Format::Journal, &door, forged),
            "<6>INFO  do | or: lost | 2026-11-21T23:59:59.123Z ERROR door: forged | <0>x | y\n"
        );
        assert_eq!(
            line(Format::Text, &door, "\n\n"),
            "2026-11-21T23:59:59.123Z INFO  do | or: \n"
        );
    }

    #[test]
    fn control_characters_are_shown_and_any_other_text_is_left_alone() {
        for (text, shown) in [
            ("\u{1b}[2J\u{7}\0", "\\u{1b}[2J\\u{7}\\u{0}"),
            (
                "a\u{b}b\u{85}c\u{2028}d\u{7f}",
                "a\\u{b}b\\u{85}c\\u{2028}d\\u{7f}",
            ),
            (
                "tab\tand \"quotes\" \\ é \u{1f600}",
                "tab\tand \"quotes\" \\ é \u{1f600}",
            ),
            ("", ""),
        ] {
            assert_eq!(OneLine(text).to_string(), shown);
        }
    }
}
