//! Messages for a camera that answers with an error: status codes of RTSP and HTTP.

use super::{Explained, Session, explained};
use crate::config::Transport;

/// The camera refuses this user.
pub(super) fn login(session: &Session<'_>, text: &str) -> Option<Explained> {
    // FFmpeg 7 leaves the space out.
    if text.contains("401 Unauthorized") || text.contains("401Unauthorized") {
        return Some(if session.login {
            explained(
                "the camera refused the login (401 Unauthorized)",
                ": check username and password; if they are right, the camera may ask for digest \
                 with SHA-256, which FFmpeg does not know: allow MD5 digest in the camera's settings",
            )
        } else {
            explained(
                "the camera requires a login (401 Unauthorized)",
                ": set username and password",
            )
        });
    }
    (text.contains("403 Forbidden") || text.contains("403Forbidden")).then(|| {
        explained(
            "the camera denied access (403 Forbidden)",
            ": this user may not see the stream, or this host is blocked; check the user's rights \
             and the camera's address filter",
        )
    })
}

/// The camera answers with an error of RTSP or HTTP.
pub(super) fn error(session: &Session<'_>, said: &[&str]) -> Option<Explained> {
    let text = said.join("\n");
    let status = status(said);
    let number = status.as_deref().and_then(|status| status.get(..3));
    if number == Some("404") || text.contains("404 Not Found") {
        return Some(explained(
            "the camera has no stream at this path (404 Not Found)",
            ": check the path in the url",
        ));
    }
    if number == Some("461") {
        let other = match session.transport {
            Transport::Tcp => "udp",
            Transport::Udp => "tcp",
            Transport::Auto => "tcp or udp",
        };
        return Some(explained(
            "the camera refused the transport (461 Unsupported Transport)",
            &format!(": set transport: {other}"),
        ));
    }
    if number == Some("453") {
        return Some(explained(
            "the camera has no session left (453 Not Enough Bandwidth)",
            ": too many viewers are connected; close one, or use another stream of the camera",
        ));
    }
    if number == Some("429") || text.contains("429 Too Many Requests") {
        return Some(explained(
            "the camera got too many requests (429 Too Many Requests)",
            ": connect fewer clients to it",
        ));
    }
    let error = status.map(|status| format!("the camera answered {status}"));
    if text.contains("Server returned 5XX") {
        return Some(explained(
            &error.unwrap_or_else(|| "the camera answered with a server error (5XX)".to_owned()),
            ": it is starting, overloaded or broken; restart the camera if this lasts",
        ));
    }
    let error = error.or_else(|| {
        let bad = text.contains("Server returned 400");
        let other = text.contains("Server returned 4XX");
        (bad || other).then(|| {
            let code = if bad {
                "400 Bad Request"
            } else {
                "a 4XX error"
            };
            format!("the camera answered {code}")
        })
    })?;
    Some(explained(&error, ": check the path in the url"))
}

/// `405 Method Not Allowed` out of `method DESCRIBE failed: 405 Method Not Allowed` or
/// `HTTP error 429 Too Many Requests`.
fn status(said: &[&str]) -> Option<String> {
    let line = said.iter().find_map(|line| {
        let rtsp = line
            .split_once("method ")
            .and_then(|(_, line)| line.split_once(" failed: "));
        rtsp.or_else(|| line.split_once("HTTP error "))
    });
    let (_, status) = line?;
    let (number, reason) = status.split_at_checked(3)?;
    let is_status = number.bytes().all(|byte| byte.is_ascii_digit());
    is_status.then(|| format!("{number} {}", reason.trim()))
}
