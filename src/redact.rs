//! Keeps secrets out of everything that leaves the process: by the place a text comes from, not by
//! the look of it.
//!
//! - An address is shown by [`address`]: scheme, host, port and the first segment of the path.
//! - FFmpeg's arguments are shown by [`arguments`]: the value of an option that is not known to be
//!   harmless is masked.
//! - Passwords have the type `config::Secret`, which cannot be printed.
//! - FFmpeg and the broker may repeat what they were given: [`words`] takes it out, given as
//!   [`Hidden`] what they know.
//! - [`clean`] is for text of any other origin: it cuts URLs and HTTP logins.

mod arguments;
mod hidden;

pub use arguments::arguments;
pub use hidden::{Hidden, words};

use std::borrow::Cow;

/// What stands in a secret's place.
pub const MASK: &str = "***";

/// An address as anybody may see it: scheme, host, port and the first segment of the path. Behind
/// it `***` stands for the rest, and for the credentials before the host. A text that is not a URL,
/// such as the path of a file, is shown as it is, unless a URL is within it.
///
/// Some cameras have `user=admin_password=...` as their first segment, so a segment with a `=` is
/// masked too.
pub fn address(text: &str) -> Cow<'_, str> {
    let Some((scheme, after)) = text.split_once("://").filter(|(s, _)| is_scheme(s)) else {
        // A filter graph may hold one with an escaped colon.
        return match text.contains("://") || text.contains("\\://") {
            true => Cow::Borrowed(MASK),
            false => Cow::Borrowed(text),
        };
    };
    if after.is_empty() {
        return Cow::Borrowed(text);
    }
    // A password may hold any of `@?#` unescaped, so the last @ before the first slash ends it.
    let slash = after.find('/').unwrap_or(after.len());
    let at = after[..slash].rfind('@');
    let from_host = &after[at.map_or(0, |at| at + 1)..];
    let authority_end = from_host.find(['/', '?', '#']).unwrap_or(from_host.len());
    let (authority, rest) = from_host.split_at(authority_end);
    // Without credentials an @ further on may end a password that holds a slash.
    if !is_authority(authority) || (at.is_none() && rest.contains('@')) {
        return Cow::Owned(format!("{scheme}://{MASK}"));
    }
    let userinfo = if at.is_some() { "***@" } else { "" };
    Cow::Owned(format!("{scheme}://{userinfo}{authority}{}", target(rest)))
}

/// What follows the host in a URL, as [`address`] shows it.
fn target(rest: &str) -> String {
    let Some(path) = rest.strip_prefix('/') else {
        // A query or fragment, or nothing.
        return masked_tail(rest);
    };
    let end = path.find(['/', '?', '#']).unwrap_or(path.len());
    let (segment, tail) = path.split_at(end);
    let segment = match segment.contains(['=', '&', ';']) {
        true => MASK,
        false => segment,
    };
    format!("/{segment}{}", masked_tail(tail))
}

/// The delimiter that `tail` begins with, and the mask for what follows it.
fn masked_tail(tail: &str) -> String {
    match tail.split_at_checked(1) {
        None | Some((_, "")) => tail.to_owned(),
        Some((delimiter, _)) => format!("{delimiter}{MASK}"),
    }
}

/// RFC 3986.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.bytes().all(is_scheme_byte)
}

fn is_scheme_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}

/// `host`, `host:port` or `[address]:port`: anything else may be a part of a password.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        Some((host, "")) => (host, ""),
        Some((host, port)) => (host, port.strip_prefix(':').unwrap_or("x")),
        None => text.split_once(':').unwrap_or((text, "")),
    };
    let in_brackets = text.starts_with('[');
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '%');
    !host.is_empty()
        && host.chars().all(|c| fits(c) || (in_brackets && c == ':'))
        && port.bytes().all(|byte| byte.is_ascii_digit())
}

/// `text` with every URL in it cut as by [`address`], and without what follows `Authorization:` on
/// its line. For text of any origin; what is no URL and no login stays as it is.
pub fn clean(text: &str) -> Cow<'_, str> {
    let mut out = Cow::Borrowed(text);
    for hide in [cut_urls, hide_authorization] {
        if let Some(hidden) = hide(&out) {
            out = Cow::Owned(hidden);
        }
    }
    out
}

/// Cuts every URL, if there is one to cut.
fn cut_urls(text: &str) -> Option<String> {
    let mut out: Option<String> = None;
    let (mut copied, mut from) = (0, 0);
    while let Some(colon) = text[from..].find("://").map(|at| from + at) {
        let scheme = text[from..colon].bytes().rev();
        let start = colon - scheme.take_while(|byte| is_scheme_byte(*byte)).count();
        let after = colon + "://".len();
        let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | '`');
        let end = text[after..].find(ends).map_or(text.len(), |at| after + at);
        // Without one character of the sentence's own punctuation.
        let rest = &text[after..end];
        let rest = rest
            .strip_suffix([':', '.', ',', ';', ')', ']', '|'])
            .unwrap_or(rest);
        let url = &text[start..after + rest.len()];
        let shown = address(url);
        // A scheme alone is no address.
        if shown != url && !rest.is_empty() {
            let out = out.get_or_insert_default();
            out.push_str(&text[copied..start]);
            out.push_str(&shown);
            copied = start + url.len();
        }
        from = end;
    }
    let mut out = out?;
    out.push_str(&text[copied..]);
    Some(out)
}

/// Replaces what follows `Authorization:` up to the end of the line or the string: FFmpeg prints
/// its requests at its loudest.
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

/// Percent-decoded, or `None` if a `%` is not followed by two hexadecimal digits or the result is
/// not UTF-8.
pub fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let high = char::from(bytes.next()?).to_digit(16)?;
        let low = char::from(bytes.next()?).to_digit(16)?;
        out.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_up_to_its_first_path_segment() {
        for (text, shown) in [
            ("rtsp://", "rtsp://"),
            ("rtsp://h", "rtsp://h"),
            ("rtsp://h:554/", "rtsp://h:554/"),
            ("rtsp://h/cam", "rtsp://h/cam"),
            ("rtsp://u:p@h:1/x/y", "rtsp://***@h:1/x/***"),
            ("rtsp://u:a@b#c?d@h/x/", "rtsp://***@h/x/"),
            ("http://h/cgi?loginuse=a&loginpas=b", "http://h/cgi?***"),
            ("http://h?tok", "http://h?***"),
            ("http://h/a#frag", "http://h/a#***"),
            ("rtmp://h/live/key?x#y", "rtmp://h/live/***"),
            (
                "rtsp://h/user=a_password=b_channel=1.sdp?r",
                "rtsp://h/***?***",
            ),
            (
                "rtsp://[fe80::1%25eth0]:8554/x",
                "rtsp://[fe80::1%25eth0]:8554/x",
            ),
            // What may be a part of a password is not shown as a host.
            ("rtsp://u:12/34@h/x", "rtsp://***"),
            ("rtsp://u:pa/ss", "rtsp://***"),
            ("rtsp://u:p@/x", "rtsp://***"),
            ("/films/a b.mp4", "/films/a b.mp4"),
            ("testsrc2=size=320x240", "testsrc2=size=320x240"),
            ("movie=rtsp\\://u:p@h", "***"),
            ("movie='http://h/?key=1'", "***"),
        ] {
            assert_eq!(address(text), shown);
            assert_eq!(address(shown), shown, "shown again");
        }
    }

    #[test]
    fn urls_in_any_text_are_cut() {
        for (text, shown) in [
            ("a rtsp://u:p@h:554/x?y=z@q b", "a rtsp://***@h:554/x?*** b"),
            (
                "'amqp://u:p@ss@h' and http://k@h/",
                "'amqp://***@h' and http://***@h/",
            ),
            ("http://h/a/b: refused", "http://h/a/***: refused"),
            (
                "rtsp://, rtsps:// or http://H:1/.",
                "rtsp://, rtsps:// or http://H:1/.",
            ),
            (
                "http://h/a, then http://h/a/b",
                "http://h/a, then http://h/a/***",
            ),
            ("://", "://"),
            ("127 times a camera", "127 times a camera"),
        ] {
            assert_eq!(clean(text), shown);
            assert_eq!(clean(shown), shown, "cleaned again");
        }
    }

    #[test]
    fn an_authorization_is_hidden_up_to_its_end() {
        for (text, shown) in [
            (
                "GET / authorization: Basic dTpw==\r\nAccept: */*",
                "GET / authorization: ***\r\nAccept: */*",
            ),
            (
                "- 'Authorization: Bearer abc' # \"Authorization:x\"",
                "- 'Authorization: ***' # \"Authorization: ***\"",
            ),
            (
                "Authorization: Digest username=\"admin\", response=\"0af\"\r\nCSeq: 3",
                "Authorization: ***\r\nCSeq: 3",
            ),
            ("an authorization", "an authorization"),
        ] {
            assert_eq!(clean(text), shown);
            assert_eq!(clean(shown), shown, "cleaned again");
        }
    }

    #[test]
    fn percent_encoding_is_undone() {
        assert_eq!(percent_decode("a%2Fb%c3%A9+"), Some("a/bé+".to_owned()));
        for broken in ["%", "%1", "%zz", "%é", "%ff"] {
            assert_eq!(percent_decode(broken), None, "{broken}");
        }
    }
}
