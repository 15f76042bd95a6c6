//! Parses the URLs of brokers and cameras, as leniently as cameras need.

use std::net::Ipv6Addr;

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

    let (host, port) = host_and_port(authority, after.contains('@'))?;
    if host.is_empty() {
        return Err("the host is missing; write SCHEME://HOST/");
    }
    if host.contains(char::is_whitespace) {
        return Err("the host contains a blank; write SCHEME://HOST/");
    }
    let port = port.map_or(Ok(None), port_number)?;
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

/// Host and port of an authority without its credentials, as written. The host of an IPv6 address
/// comes without its brackets. An `at_sign` anywhere in the URL: colons may belong to a password.
fn host_and_port(authority: &str, at_sign: bool) -> Result<(&str, Option<&str>), &'static str> {
    match authority.strip_prefix('[') {
        Some(bracketed) => {
            let (host, port) = bracketed
                .split_once(']')
                .ok_or("the bracket around the IPv6 address is not closed")?;
            let address = host.split('%').next().unwrap_or(host);
            if address.parse::<Ipv6Addr>().is_err() {
                return Err("the brackets contain no IPv6 address; write [::1]");
            }
            if port.is_empty() {
                return Ok((host, None));
            }
            let port = port.strip_prefix(':');
            let port = port.ok_or("a port needs a colon before it; write [::1]:5672")?;
            Ok((host, Some(port)))
        }
        None => match authority.split_once(':') {
            Some((_, port)) if port.contains(':') && !at_sign => {
                Err("an IPv6 address needs brackets; write [::1]")
            }
            Some((host, port)) => Ok((host, Some(port))),
            None => Ok((authority, None)),
        },
    }
}

fn port_number(port: &str) -> Result<Option<u16>, &'static str> {
    if port.is_empty() {
        return Ok(None);
    }
    match port.parse() {
        Ok(port) if port > 0 => Ok(Some(port)),
        _ => Err(
            "the port is not a number from 1 to 65535; if this is part of a password that contains \
             a /, write the / as %2F",
        ),
    }
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
            ("rtsp://[::1/", "not closed"),
            ("rtsp://[h]/", "no IPv6"),
            ("rtsp://[::1]x/", "needs a colon"),
        ] {
            assert!(
                split(text).is_err_and(|error| error.contains(why)),
                "{text}"
            );
        }
    }
}
