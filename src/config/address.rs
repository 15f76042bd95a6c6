//! URLs of brokers and cameras, taken apart as leniently as cameras need, and the secrets in them.

use crate::redact;
use std::net::Ipv6Addr;
use std::ops::Range;

/// A URL in its parts, all as written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Url<'a> {
    /// Before `://`.
    pub(super) scheme: &'a str,
    pub(super) userinfo: Option<Userinfo<'a>>,
    /// Without the brackets of an IPv6 address.
    pub(super) host: &'a str,
    pub(super) port: Option<u16>,
    /// Host and port as written.
    pub(super) authority: &'a str,
    /// Path, query and fragment: empty, or begins with `/`, `?` or `#`.
    pub(super) rest: &'a str,
}

/// `user`, `user:password`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Userinfo<'a> {
    pub(super) username: &'a str,
    pub(super) password: Option<&'a str>,
}

/// The scheme of `text`, if it has the form of a URL.
pub(super) fn scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once("://")?;
    let fits = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    fits.then_some(scheme)
}

/// Takes `text` apart. The last `@` before the first `/` ends the credentials: passwords of cameras
/// are full of unescaped `@`, `:`, `?` and `#`. An error never shows a part of the URL.
pub(super) fn split(text: &str) -> Result<Url<'_>, &'static str> {
    let scheme = scheme(text).ok_or("not a URL; write SCHEME://HOST/")?;
    let after = &text[scheme.len() + "://".len()..];
    let slash = after.find('/').unwrap_or(after.len());
    let (userinfo, host_start) = match after[..slash].rfind('@') {
        Some(at) => (Some(&after[..at]), at + 1),
        None => (None, 0),
    };
    let after_userinfo = &after[host_start..];
    let authority_end = after_userinfo
        .find(['/', '?', '#'])
        .unwrap_or(after_userinfo.len());
    let (authority, rest) = after_userinfo.split_at(authority_end);

    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => {
            let (host, port) = bracketed
                .split_once(']')
                .ok_or("the bracket around the IPv6 address is open")?;
            let address = host.split('%').next().unwrap_or(host);
            if address.parse::<Ipv6Addr>().is_err() {
                return Err("no IPv6 address in the brackets");
            }
            match port {
                "" => (host, None),
                _ => (
                    host,
                    Some(
                        port.strip_prefix(':')
                            .ok_or("not a port after the brackets")?,
                    ),
                ),
            }
        }
        None => match authority.split_once(':') {
            Some((_, port)) if port.contains(':') && after.find('@').is_none() => {
                return Err("an IPv6 address wants brackets; write [::1]");
            }
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if host.is_empty() {
        return Err("the host is missing; write SCHEME://HOST/");
    }
    if host.contains(char::is_whitespace) {
        return Err("a blank in the host; write SCHEME://HOST/");
    }
    let port = match port {
        None | Some("") => None,
        Some(port) => match port.parse::<u16>() {
            Ok(port) if port > 0 => Some(port),
            _ => {
                return Err(
                    "the port is not a number of 1 to 65535; if this is part of a \
                            password that holds a /, write the / as %2F",
                );
            }
        },
    };
    let userinfo = userinfo
        .filter(|userinfo| !userinfo.is_empty())
        .map(|userinfo| match userinfo.split_once(':') {
            Some((username, password)) => Userinfo {
                username,
                password: Some(password),
            },
            None => Userinfo {
                username: userinfo,
                password: None,
            },
        });
    Ok(Url {
        scheme,
        userinfo,
        host,
        port,
        authority,
        rest,
    })
}

/// Percent-decoded, or `None` if a `%` is not followed by two hexadecimal digits or the result is
/// not UTF-8.
pub(super) fn percent_decode(text: &str) -> Option<String> {
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

/// Parameters whose value is a secret, in queries and in the paths of some cameras.
const SECRET_NAMES: [&str; 8] = [
    "password", "passwd", "pwd", "pass", "token", "auth", "key", "secret",
];

/// Where in `rest`, a URL's path and query, the values of secret parameters are. Handles
/// `?user=admin&password=abc` and `/user=admin_password=abc_channel=1`.
fn secret_parameters(rest: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(equals) = rest[from..].find('=').map(|at| from + at) {
        let value = equals + 1;
        let before = rest[from..equals].trim_end_matches(|c: char| c.is_ascii_alphanumeric());
        let name = &rest[from + before.len()..equals];
        let in_query = rest[..value].contains('?');
        let plain_query = in_query && !before.ends_with('_');
        from = value;
        if !SECRET_NAMES
            .iter()
            .any(|secret| name.eq_ignore_ascii_case(secret))
        {
            continue;
        }
        let end = rest[value..]
            .find(|c: char| matches!(c, '&' | '#') || (!in_query && matches!(c, '/' | '?')))
            .map_or(rest.len(), |at| value + at);
        let end = match underscored_parameter(&rest[value..end]) {
            Some(at) if !plain_query => value + at,
            _ => end,
        };
        if value < end {
            found.push(value..end);
        }
        from = end;
    }
    found
}

/// Where in `text` something like `_channel=` begins.
fn underscored_parameter(text: &str) -> Option<usize> {
    text.match_indices('_').map(|(at, _)| at).find(|at| {
        let tail = &text[at + 1..];
        let value = tail.trim_start_matches(|c: char| c.is_ascii_alphanumeric());
        value.len() < tail.len() && value.starts_with('=')
    })
}

/// Registers all secrets of a URL, also of one that [`split`] refuses.
pub(super) fn register_secrets(text: &str) {
    let Some(scheme) = scheme(text) else { return };
    let after = &text[scheme.len() + "://".len()..];
    match split(text) {
        Ok(url) => {
            if let Some(password) = url.userinfo.and_then(|userinfo| userinfo.password) {
                register(password);
            }
            for range in secret_parameters(url.rest) {
                register(&url.rest[range]);
            }
        }
        Err(_) => {
            // Whatever may have been meant as a password: better too much than too little.
            if let Some((userinfo, _)) = after.rsplit_once('@')
                && let Some((_, password)) = userinfo.split_once(':')
            {
                register(password);
            }
            for range in secret_parameters(after) {
                register(&after[range]);
            }
        }
    }
}

/// Registers a secret of a URL as written and as meant. Not `guest`, the password that every broker
/// has from the start: hiding it would only make logs hard to read.
pub(super) fn register(secret: &str) {
    if secret == "guest" {
        return;
    }
    redact::register(secret);
    if let Some(decoded) = percent_decode(secret) {
        redact::register(&decoded);
    }
}

/// `text` with every secret masked if it is a URL, known or not.
pub(super) fn mask(text: &str) -> String {
    let Ok(url) = split(text) else {
        return redact::clean(text).into_owned();
    };
    let mut out = format!("{}://", url.scheme);
    if url.userinfo.is_some() {
        out.push_str(redact::MASK);
        out.push('@');
    }
    out.push_str(url.authority);
    let mut from = 0;
    for range in secret_parameters(url.rest) {
        out.push_str(&url.rest[from..range.start]);
        out.push_str(redact::MASK);
        from = range.end;
    }
    out.push_str(&url.rest[from..]);
    redact::clean(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parts<'a> = (
        Option<(&'a str, Option<&'a str>)>,
        &'a str,
        Option<u16>,
        &'a str,
    );

    fn parts(text: &str) -> Parts<'_> {
        let url = split(text).unwrap();
        let userinfo = url
            .userinfo
            .map(|userinfo| (userinfo.username, userinfo.password));
        (userinfo, url.host, url.port, url.rest)
    }

    #[test]
    fn urls_are_taken_apart() {
        assert_eq!(parts("rtsp://h"), (None, "h", None, ""));
        assert_eq!(
            parts("rtsp://h:554/a?b=c@d"),
            (None, "h", Some(554), "/a?b=c@d")
        );
        assert_eq!(parts("rtsp://u@h:/"), (Some(("u", None)), "h", None, "/"));
        assert_eq!(
            parts("rtsp://u:@h?x"),
            (Some(("u", Some(""))), "h", None, "?x")
        );
        assert_eq!(parts("rtsp://@h/"), (None, "h", None, "/"));
        assert_eq!(
            parts("rtsp://[fe80::1%25eth0]:8554/x"),
            (None, "fe80::1%25eth0", Some(8554), "/x")
        );
    }

    #[test]
    fn unescaped_passwords_are_understood() {
        assert_eq!(
            parts("rtsp://u:p@ss@h/x"),
            (Some(("u", Some("p@ss"))), "h", None, "/x")
        );
        assert_eq!(
            parts("rtsp://u:a:b#c?d@h:1/"),
            (Some(("u", Some("a:b#c?d"))), "h", Some(1), "/")
        );
    }

    #[test]
    fn broken_urls_are_refused() {
        for (text, why) in [
            ("h/x", "not a URL"),
            ("://h", "not a URL"),
            ("1x://h", "not a URL"),
            ("rtsp://", "host is missing"),
            ("rtsp:///x", "host is missing"),
            ("rtsp://u:p@/x", "host is missing"),
            ("rtsp://:554/x", "host is missing"),
            ("rtsp://a b/", "blank"),
            ("rtsp://h:0/", "port"),
            ("rtsp://h:65536/", "port"),
            ("rtsp://u:p/w@h/", "write the / as %2F"),
            ("rtsp://::1/", "brackets"),
            ("rtsp://[::1/", "open"),
            ("rtsp://[h]/", "no IPv6"),
            ("rtsp://[::1]x/", "not a port"),
        ] {
            assert!(
                split(text).is_err_and(|error| error.contains(why)),
                "{text}"
            );
        }
    }

    #[test]
    fn percent_encoding_is_undone() {
        assert_eq!(percent_decode("a%2Fb%c3%A9+"), Some("a/bé+".to_owned()));
        for broken in ["%", "%1", "%zz", "%é", "%ff"] {
            assert_eq!(percent_decode(broken), None, "{broken}");
        }
    }

    #[test]
    fn secrets_of_camera_urls_are_found() {
        for (text, masked) in [
            ("rtsp://u:p@h:1/x", "rtsp://***@h:1/x"),
            (
                "rtsp://h/a?user=b&password=c_d=e/f&g=h",
                "rtsp://h/a?user=b&password=***&g=h",
            ),
            (
                "rtsp://h/user=a_password=b_c_channel=1_s=0.sdp?r",
                "rtsp://h/user=a_password=***_channel=1_s=0.sdp?r",
            ),
            (
                "http://h/x?access_token=abc#d",
                "http://h/x?access_token=***#d",
            ),
            (
                "http://h/pwd=abc/d?PASSWD=e&Key=f",
                "http://h/pwd=***/d?PASSWD=***&Key=***",
            ),
            (
                "http://h/x?password=&monkey=f&compass=é",
                "http://h/x?password=&monkey=f&compass=é",
            ),
            ("http://h/é=password=ü_é=1", "http://h/é=password=***"),
        ] {
            assert_eq!(mask(text), masked);
        }
    }

    #[test]
    fn secrets_are_registered_in_both_forms() {
        register_secrets("rtsp://admin:qy%40zz-71@h/?token=tk-5501-w");
        register_secrets("rtsp://admin:bro/ken-8127@h/");
        assert_eq!(
            redact::clean("qy%40zz-71 qy@zz-71 tk-5501-w bro/ken-8127"),
            "*** *** *** ***"
        );
    }
}
