//! The one place that keeps secrets out of everything that leaves the process.
//!
//! Secrets are registered while the configuration is read; [`clean`] is applied where text leaves:
//! log lines, error messages, `check`, FFmpeg's stderr. It removes what was registered, and, known or
//! not, the credentials of any URL and of any HTTP or RTSP header `Authorization`.

use parking_lot::RwLock;
use std::borrow::Cow;

/// What stands in a secret's place.
pub const MASK: &str = "***";

/// Shorter secrets are not searched for: replacing every `a` would make logs unreadable and tell
/// the secret by its gaps. They are still hidden inside URLs.
const SHORTEST: usize = 3;

static SECRETS: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// Never lets `secret` out again: as it is, percent-encoded, or within quotes in JSON or Rust.
pub fn register(secret: &str) {
    let mut secrets = SECRETS.write();
    let quoted = secret.replace('\\', "\\\\").replace('"', "\\\"");
    for form in [secret.to_owned(), percent_encode(secret), quoted] {
        if form.len() >= SHORTEST && !secrets.contains(&form) {
            secrets.push(form);
        }
    }
    // The longest first, so that a secret that holds another one leaves no rest.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
}

/// Forgets every secret. A fuzzer registers new ones without end, each of which slows [`clean`] down.
#[cfg(fuzzing)]
pub fn forget() {
    SECRETS.write().clear();
}

/// `text` without secrets.
pub fn clean(text: &str) -> Cow<'_, str> {
    let mut out = Cow::Borrowed(text);
    for secret in SECRETS.read().iter() {
        if out.contains(secret.as_str()) {
            out = Cow::Owned(out.replace(secret.as_str(), MASK));
        }
    }
    for hide in [hide_userinfo, hide_authorization] {
        if let Some(hidden) = hide(&out) {
            out = Cow::Owned(hidden);
        }
    }
    out
}

/// Replaces what follows `Authorization:` up to the end of the line or the string: FFmpeg prints its
/// requests at its loudest, and a user may give the header by FFmpeg's option `-headers`.
fn hide_authorization(text: &str) -> Option<String> {
    const NAME: &[u8] = b"authorization:";
    let mut out: Option<String> = None;
    let mut copied = 0;
    // Not a search in a lower-case copy: each line of the log comes through here.
    for (found, name) in text.as_bytes().windows(NAME.len()).enumerate() {
        let start = found + NAME.len();
        if !name.eq_ignore_ascii_case(NAME) || start < copied {
            continue;
        }
        // Digest has quotes of its own.
        let value = text[start..].trim_start();
        let is_digest = value
            .get(..6)
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("digest"));
        let ends: &[char] = match is_digest {
            true => &['\r', '\n'],
            false => &['\r', '\n', '"', '\'', '\\'],
        };
        let end = text[start..].find(ends).map_or(text.len(), |at| start + at);
        let out = out.get_or_insert_default();
        out.push_str(&text[copied..start]);
        out.push(' ');
        out.push_str(MASK);
        copied = end;
    }
    let mut out = out?;
    out.push_str(&text[copied..]);
    Some(out)
}

/// Replaces `user:password@` after every `://`, if there is one.
fn hide_userinfo(text: &str) -> Option<String> {
    let mut out: Option<String> = None;
    let mut copied = 0;
    let mut from = 0;
    while let Some(found) = text[from..].find("://") {
        let start = from + found + "://".len();
        let authority_end = text[start..]
            .find(|c: char| matches!(c, '/' | '?' | '#' | '"' | '\'') || c.is_whitespace())
            .map_or(text.len(), |at| start + at);
        if let Some(at) = text[start..authority_end].rfind('@')
            && &text[start..start + at] != MASK
        {
            let out = out.get_or_insert_default();
            out.push_str(&text[copied..start]);
            out.push_str(MASK);
            copied = start + at;
        }
        from = start;
    }
    let mut out = out?;
    out.push_str(&text[copied..]);
    Some(out)
}

/// Percent-encodes all but the unreserved characters of RFC 3986: fit for a URL's userinfo.
pub fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => {
                use std::fmt::Write;
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_of_any_url_are_hidden() {
        assert_eq!(
            clean("a rtsp://u:p@h:554/x?y=z@q b"),
            "a rtsp://***@h:554/x?y=z@q b"
        );
        assert_eq!(
            clean("'amqp://u:p@ss@h' and http://k@h/"),
            "'amqp://***@h' and http://***@h/"
        );
        assert_eq!(clean("rtsp://h/path@x"), "rtsp://h/path@x");
    }

    #[test]
    fn a_registered_secret_is_hidden_in_every_form() {
        register("s3cr3t/&word");
        assert_eq!(clean("x s3cr3t/&word y s3cr3t%2F%26word"), "x *** y ***");
        register("qu\"ot\\ed");
        let (json, debug) = (
            serde_json::json!("qu\"ot\\ed"),
            format!("{:?}", "qu\"ot\\ed"),
        );
        assert_eq!(clean(&json.to_string()), "\"***\"");
        assert_eq!(clean(&debug), "\"***\"");
    }

    #[test]
    fn an_authorization_is_hidden_up_to_its_end() {
        assert_eq!(
            clean("GET / authorization: Basic dTpw==\r\nAccept: */*"),
            "GET / authorization: ***\r\nAccept: */*"
        );
        assert_eq!(
            clean("- 'Authorization: Bearer abc' # \"Authorization:x\""),
            "- 'Authorization: ***' # \"Authorization: ***\""
        );
        let digest = "Authorization: Digest username=\"admin\", response=\"0af\"";
        assert_eq!(
            clean(&format!("{digest}\r\nCSeq: 3")),
            "Authorization: ***\r\nCSeq: 3"
        );
        assert_eq!(clean("an authorization"), "an authorization");
    }

    #[test]
    fn cleaning_twice_changes_nothing() {
        for text in ["rtsp://u:p@h/", "Authorization: x"] {
            let once = clean(text).into_owned();
            assert_eq!(clean(&once), once);
        }
    }
}
