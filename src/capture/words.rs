//! What the end of an FFmpeg session means in the user's terms. Pure.
//!
//! FFmpeg's lines differ by release: 5.1 says `rtsp://h/1: Connection refused`, 7.1
//! `[in#0] Error opening input: Connection refused`. So only the part that all have is looked for.
//! `words/ends.txt` has the lines of both, as real sessions printed them, for the tests.

use crate::config::{SourceKind, Transport};
use std::time::Duration;

mod answer;
#[cfg(test)]
mod tests;

/// FFmpeg says why it ends within a few milliseconds of its end; a busy board takes longer. What it
/// said before that is not the cause.
const RECENT: Duration = Duration::from_secs(3);

/// A session with pictures for less than this from an image format was one picture: two requests to
/// a camera that sends a stream of JPEGs last longer.
const ONE_PICTURE: Duration = Duration::from_secs(1);

/// How the end of a session begins that FFmpeg gave up because nothing came.
pub const NO_PICTURE_FOR: &str = "no picture for";

/// How the end of a session is called after one picture, where a camera should send a stream.
pub const ONE_JPEG: &str = "this address sends one JPEG, not a stream";

/// How the line begins that a process says which could not become FFmpeg.
pub const CANNOT_RUN: &str = "cannot run ";

/// Lines of FFmpeg's quoted when none is known: what failed, and where.
const QUOTED: usize = 2;

/// How a session went, as far as the reader saw it.
#[derive(Debug, Clone, Copy)]
pub struct Session<'a> {
    /// Kind of the source.
    pub kind: SourceKind,
    /// How an RTSP camera was asked to send.
    pub transport: Transport,
    /// Whether the address has a user name.
    pub login: bool,
    /// `exit code 1`, `signal 9`, ...
    pub exit: &'a str,
    /// FFmpeg's errors, oldest first, each with its age when FFmpeg ended.
    pub lines: &'a [(Duration, String)],
    /// FFmpeg's name of the input format, once it opened the input.
    pub format: Option<&'a str>,
    /// From the first picture to the newest; `None` when no picture came.
    pub live_for: Option<Duration>,
    /// From FFmpeg's start to its end.
    pub lasted: Duration,
    /// The camera's `stale_timeout`.
    pub stale_timeout: Duration,
}

/// The end of a session in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// For the log: what happened, why, what to do.
    pub full: String,
    /// What happened, for the status page and the events.
    pub brief: String,
}

/// What the end of `session` means.
pub fn explain(session: &Session<'_>) -> Explained {
    let said = recent(session.lines);
    let text = said.join("\n");
    let found = not_run(&said)
        .or_else(|| arguments(&said))
        .or_else(|| answer::login(session, &text))
        .or_else(|| answer::error(session, &said))
        .or_else(|| media(session, &said))
        .or_else(|| network(session, &text))
        .or_else(|| device(&text))
        .or_else(|| nothing_found(session, &text))
        .or_else(|| closed(session, &text));
    found.unwrap_or_else(|| {
        let ended = format!("FFmpeg ended ({})", session.exit);
        match quote(session.lines) {
            said if said.is_empty() => ended,
            said => format!("{ended}: {said}"),
        }
        .into()
    })
}

/// FFmpeg's newest errors that say something, ` | ` between them; empty if none is recent.
pub fn quote(lines: &[(Duration, String)]) -> String {
    // What FFmpeg 7 adds to each failure.
    const HOLLOW: [&str; 7] = [
        "Error opening input file",
        "Error opening output file",
        "Error parsing options for output file",
        "Task finished with error code",
        "Terminating thread with return code",
        "Could not open encoder before EOF",
        "Nothing was written into output file",
    ];
    let mut telling = recent(lines);
    telling.retain(|line| !HOLLOW.iter().any(|hollow| line.contains(hollow)));
    telling.dedup();
    let from = telling.len().saturating_sub(QUOTED);
    telling.split_off(from).join(" | ")
}

pub(super) fn recent(lines: &[(Duration, String)]) -> Vec<&str> {
    let recent = lines.iter().filter(|(age, _)| *age <= RECENT);
    recent.map(|(_, line)| line.as_str()).collect()
}

fn explained(brief: &str, rest: &str) -> Explained {
    Explained {
        full: format!("{brief}{rest}"),
        brief: brief.to_owned(),
    }
}

impl From<String> for Explained {
    fn from(full: String) -> Self {
        let brief = full.clone();
        Self { full, brief }
    }
}

/// `Unknown decoder 'x'` of the line that holds one of `phrases`, without `[h264]` before it.
pub(super) fn line_with<'a>(said: &[&'a str], phrases: &[&str]) -> Option<&'a str> {
    let line = said
        .iter()
        .find(|line| phrases.iter().any(|phrase| line.contains(phrase)))?;
    let line = line.trim_end_matches('.');
    Some(line.rsplit_once("] ").map_or(line, |(_, text)| text))
}

/// FFmpeg was not started: our own words, in its place, have the cause and what to do.
fn not_run(said: &[&str]) -> Option<Explained> {
    let line = said.iter().find(|line| line.starts_with(CANNOT_RUN))?;
    Some((*line).to_owned().into())
}

/// FFmpeg does not take what the configuration asks of it.
fn arguments(said: &[&str]) -> Option<Explained> {
    let about = |line: &str, rest: &str| {
        let line = line.trim_end_matches('.');
        explained(&format!("FFmpeg refuses its arguments: {line}"), rest)
    };
    let option = |line: &&str| {
        line.contains("Unrecognized option")
            || line.contains("Option ") && line.contains(" not found.")
    };
    if let Some(line) = said.iter().find(|line| option(line)) {
        return Some(about(line, "; check input_args and output_args"));
    }
    if let Some(line) = line_with(said, &["No such filter", "No option name near"]) {
        return Some(about(line, "; check the filters in url and output_args"));
    }
    if let Some(line) = line_with(said, &["Unknown decoder", "Unknown encoder"]) {
        return Some(about(
            line,
            "; check input_args and output_args, or install a complete FFmpeg",
        ));
    }
    let line = line_with(said, &["No device available for decoder"])?;
    Some(explained(
        &format!("the hardware decoder cannot be used: {line}"),
        "; remove -hwaccel from input_args",
    ))
}

/// The camera is there, what it sends is of no use.
fn media(session: &Session<'_>, said: &[&str]) -> Option<Explained> {
    let has = |phrase: &str| said.iter().any(|line| line.contains(phrase));
    if let Some(line) = line_with(said, &["not on whitelist"]) {
        let line = line.trim_end_matches('!');
        return Some(explained(
            "the source refers to an address that FFmpeg may not open",
            &format!(": {line}; if it is right, set -protocol_whitelist in input_args"),
        ));
    }
    if has("matches no streams") || has("does not contain any stream") {
        return Some(explained(
            "no video at this address",
            ": it has only sound or metadata; check the path in the url",
        ));
    }
    if has("dimensions not set") {
        return Some(explained(
            "no keyframe came while FFmpeg looked for the size of the pictures",
            ": set the camera's I-frame interval to 1 or 2 s",
        ));
    }
    let unknown = ["Decoder (codec ", "but no decoder found for"];
    if let Some(line) = line_with(said, &unknown) {
        return Some(explained(
            "FFmpeg here cannot decode the camera's video",
            &format!(": {line}; set the camera to H.264, H.265 or MJPEG"),
        ));
    }
    if has("Expected boundary '--' not found") {
        return Some(explained(
            "the camera's MJPEG stream has wrong boundaries or lengths",
            ": add \"-f\", \"mjpeg\" to input_args",
        ));
    }
    if has("moov atom not found") {
        return Some(explained(
            "the file is cut off or empty",
            ": FFmpeg finds no index in it (moov atom not found); replace it",
        ));
    }
    let format = session.format.unwrap_or_default();
    let picture = matches!(format, "image2" | "mjpeg") || format.ends_with("_pipe");
    let single = session.live_for.is_none_or(|live| live < ONE_PICTURE);
    let ended_well = session.exit == "exit code 0" && !has("Connection ");
    (picture && single && ended_well).then(|| match session.kind {
        SourceKind::File => explained(
            "this file is one picture, not a video",
            ": to repeat it, add \"-loop\", \"1\" to input_args",
        ),
        _ => explained(
            ONE_JPEG,
            ": to have it polled, set neither quality, width, height, input_args, output_args, \
             frozen.after nor adaptive_quality; or use the camera's RTSP or MJPEG address",
        ),
    })
}

/// No connection, or one that broke.
fn network(session: &Session<'_>, text: &str) -> Option<Explained> {
    let has = |phrase: &str| text.contains(phrase);
    let it = |brief: &str, rest: &str| Some(explained(brief, rest));
    if has("Unable to open an input RTP port") || has("bind failed") {
        return it(
            "no free UDP port for the camera's video",
            ": this host cannot open one; set transport: tcp",
        );
    }
    if has("Failed to resolve hostname") {
        return it(
            "the host name cannot be resolved",
            ": check the host in the url and this host's DNS",
        );
    }
    if has("Connection refused") {
        return it(
            "connection refused",
            ": nothing listens on this port of the camera; check host and port in the url, and \
             whether the camera is still starting",
        );
    }
    if has("certificate failed verification") || has("certificate verify failed") {
        return it(
            "the camera's TLS certificate is not trusted",
            ": name its CA with -ca_file in input_args",
        );
    }
    if has("[tls") || has("Error in the pull function") {
        return it(
            "the TLS handshake failed",
            ": the camera does not speak TLS on this port, or only an old version; check scheme and \
             port in the url",
        );
    }
    if has("Connection reset by peer") {
        return Some(hung_up(session, "reset the connection"));
    }
    if has("Connection timed out") {
        return Some(silence(session));
    }
    if has("No route to host") || has("Network is unreachable") {
        return it(
            "no route to the camera's network",
            ": check the host in the url, and whether the camera is on",
        );
    }
    None
}

/// The camera hung up: `how` it did.
fn hung_up(session: &Session<'_>, how: &str) -> Explained {
    match session.live_for {
        Some(live) => format!("the camera {how} after {} of pictures", span(live)),
        None => format!("the camera {how} before the first picture"),
    }
    .into()
}

/// The connection is open, and nothing comes.
fn silence(session: &Session<'_>) -> Explained {
    let stale = session.stale_timeout.as_secs_f64();
    match (session.live_for, session.format) {
        (Some(_), _) => explained(
            &format!("{NO_PICTURE_FOR} {stale} s"),
            ": the camera stopped sending and kept the connection open; if it sends pictures more \
             rarely, raise stale_timeout",
        ),
        (None, Some(_)) if session.kind == SourceKind::Rtsp => explained(
            "the camera sends no picture",
            match session.transport {
                Transport::Tcp => ": it accepted the session and stays silent; restart the camera",
                Transport::Udp | Transport::Auto => {
                    ": it accepted the session, but no UDP packet arrives; set transport: tcp"
                }
            },
        ),
        (None, _) => explained(
            "the camera does not answer",
            ": connection timed out; check host and port in the url, and whether the camera is on",
        ),
    }
}

/// Devices and files.
fn device(text: &str) -> Option<Explained> {
    let causes = [
        (
            "Device or resource busy",
            "the device is busy",
            ": another program uses it; end that program",
        ),
        (
            "Inappropriate ioctl",
            "this device is not a camera",
            ": check the url, for example by ls /dev/v4l/by-id",
        ),
        (
            "No such device",
            "no such device",
            ": it was unplugged, or is not a camera; check the url",
        ),
        (
            "Permission denied",
            "permission denied",
            ": the service's user may not read it; for a device add the user to the group video",
        ),
        (
            "No such file or directory",
            "no such file or device",
            ": check the url, and whether the device is plugged in",
        ),
        (
            "Is a directory",
            "this is a directory, not a video",
            ": write the path of a file into the url",
        ),
    ];
    let found = causes.iter().find(|(phrase, ..)| text.contains(phrase));
    found.map(|(_, brief, rest)| explained(brief, rest))
}

/// FFmpeg found nothing that it knows.
fn nothing_found(session: &Session<'_>, text: &str) -> Option<Explained> {
    if !text.contains("Invalid data found") || session.live_for.is_some() {
        return None;
    }
    let waited = session.lasted * 2 + Duration::from_millis(400) >= session.stale_timeout;
    Some(match session.kind {
        // FFmpeg says the same whether the camera closed, reset, or did not answer.
        SourceKind::Rtsp if waited => silence(session),
        SourceKind::Rtsp => explained(
            "the camera does not answer in RTSP",
            ": check the port in the url, and whether RTSP is enabled in the camera",
        ),
        SourceKind::Http => explained(
            "this address sends no video",
            ": FFmpeg finds none in what the server answers, which may be a web page; open the \
             address in a browser, or check its path",
        ),
        _ => explained("it sends no video that FFmpeg knows", ": check the url"),
    })
}

/// The stream ended in an orderly way.
fn closed(session: &Session<'_>, text: &str) -> Option<Explained> {
    let ended = ["Stream ends prematurely", "End of file"];
    let ended = ended.iter().any(|phrase| text.contains(phrase));
    let well = session.exit == "exit code 0" && session.live_for.is_some();
    if !ended && (!well || text.contains("Invalid data found")) {
        return None;
    }
    Some(match session.kind {
        SourceKind::Rtsp | SourceKind::Rtmp | SourceKind::Http => {
            hung_up(session, "closed the connection")
        }
        SourceKind::File | SourceKind::V4l2 | SourceKind::Lavfi => {
            let after = span(session.live_for.unwrap_or_default());
            format!("the source ended after {after} of pictures").into()
        }
    })
}

/// `7 s`, `25 s`, `3 min`, `5 h`. In steps, so that a camera that hangs up again and again gives
/// the same line, which the log sums up.
fn span(time: Duration) -> String {
    let secs = (time.as_secs_f64()).round() as u64;
    match secs {
        0..10 => format!("{secs} s"),
        10..58 => format!("{} s", (secs + 2) / 5 * 5),
        58..3600 => format!("{} min", (secs + 30) / 60),
        _ => format!("{} h", (secs + 1800) / 3600),
    }
}
