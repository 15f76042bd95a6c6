//! The address of a camera in its parts. Pure.

/// An address. Its parts are fit for a request: without blanks and line ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) tls: bool,
    /// Host and port as written, for the request.
    pub(super) authority: String,
    /// Without the brackets of an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
    /// Path and query.
    pub(super) target: String,
    /// User name and password.
    pub(super) login: Option<(String, String)>,
}

impl Url {
    /// `http://USER:PASSWORD@HOST:PORT/PATH?QUERY`. The last `@` before the first `/` ends the
    /// login, as in the configuration.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (scheme, after) = text.split_once("://")?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let slash = after.find('/').unwrap_or(after.len());
        let (login, after) = match after[..slash].rfind('@') {
            Some(at) => (Some(&after[..at]), &after[at + 1..]),
            None => (None, after),
        };
        let end = after.find(['/', '?', '#']).unwrap_or(after.len());
        let (authority, target) = after.split_at(end);
        let (host, port) = match authority.strip_prefix('[') {
            Some(bracketed) => {
                let (host, port) = bracketed.split_once(']')?;
                (host, port.strip_prefix(':'))
            }
            None => match authority.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let port = match port {
            None | Some("") if tls => 443,
            None | Some("") => 80,
            Some(port) => port.parse().ok()?,
        };
        let fit = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        let login = login.map(|login| {
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            (decoded(user), decoded(password))
        });
        (!host.is_empty() && fit(authority)).then(|| Self {
            tls,
            authority: authority.to_owned(),
            host: host.to_owned(),
            port,
            target: fit_target(target),
            login,
        })
    }

    /// Where a redirection leads to. The login goes with it to the same host only.
    pub(super) fn resolve(&self, location: &str) -> Option<Self> {
        let scheme = if self.tls { "https" } else { "http" };
        if location.contains("://") || location.starts_with("//") {
            let absolute = match location.starts_with("//") {
                true => format!("{scheme}:{location}"),
                false => location.to_owned(),
            };
            let mut url = Self::parse(&absolute)?;
            let same = (&url.host, url.port, url.tls) == (&self.host, self.port, self.tls);
            url.login = self.login.clone().filter(|_| same);
            return Some(url);
        }
        let path = self.target.split('?').next().unwrap_or_default();
        let target = match location.chars().next() {
            Some('/') => location.to_owned(),
            Some('?') => format!("{path}{location}"),
            _ => {
                let folder = path.rfind('/').map_or("/", |slash| &path[..=slash]);
                format!("{folder}{location}")
            }
        };
        Some(Self {
            target: fit_target(&target),
            ..self.clone()
        })
    }
}

/// A request's target: begins with a slash, has no fragment, and what would end it is encoded.
fn fit_target(target: &str) -> String {
    let target = target.split('#').next().unwrap_or_default();
    let mut fit = String::new();
    if !target.starts_with('/') {
        fit.push('/');
    }
    for byte in target.bytes() {
        match byte.is_ascii_graphic() {
            true => fit.push(byte.into()),
            false => fit.push_str(&format!("%{byte:02X}")),
        }
    }
    fit
}

/// `%40` becomes `@`.
fn decoded(text: &str) -> String {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let digits = piece
            .get(..2)
            .filter(|it| it.bytes().all(|b| b.is_ascii_hexdigit()));
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend_from_slice(piece.get(2..).unwrap_or_default().as_bytes());
            }
            None => {
                bytes.push(b'%');
                bytes.extend_from_slice(piece.as_bytes());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart() {
        let url = Url::parse("http://u%40x:p@ss%2F%zz@192.0.2.7:8080/a b.jpg?x=1#top").unwrap();
        assert_eq!((url.tls, url.port), (false, 8080));
        assert_eq!(
            (&*url.host, &*url.authority),
            ("192.0.2.7", "192.0.2.7:8080")
        );
        assert_eq!(url.target, "/a%20b.jpg?x=1");
        assert_eq!(url.login, Some(("u@x".to_owned(), "p@ss/%zz".to_owned())));
        let url = Url::parse("HTTPS://[fe80::1]").unwrap();
        assert_eq!(
            (&*url.host, &*url.authority, url.port),
            ("fe80::1", "[fe80::1]", 443)
        );
        assert_eq!((&*url.target, url.login), ("/", None));
        assert_eq!(Url::parse("http://h?q").unwrap().target, "/?q");
        for wrong in [
            "rtsp://h/",
            "h/x",
            "http:///x",
            "http://h:x/",
            "http://a\r\nb/",
        ] {
            assert_eq!(Url::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_redirection_is_followed_and_takes_the_login_to_the_same_host_only() {
        let from = Url::parse("http://u:p@h/cgi/a?b").unwrap();
        let to = |location| {
            let url = from.resolve(location).unwrap();
            (url.authority + &url.target, url.login.is_some())
        };
        assert_eq!(to("/x"), ("h/x".to_owned(), true));
        assert_eq!(to("x.jpg"), ("h/cgi/x.jpg".to_owned(), true));
        assert_eq!(to("?c"), ("h/cgi/a?c".to_owned(), true));
        assert_eq!(to("http://h:80/x"), ("h:80/x".to_owned(), true));
        assert_eq!(to("http://other/x"), ("other/x".to_owned(), false));
        assert_eq!(to("//other/x"), ("other/x".to_owned(), false));
        assert_eq!(to("https://h/x"), ("h/x".to_owned(), false));
        assert_eq!(from.resolve("ftp://h/x"), None);
    }
}
