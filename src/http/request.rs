//! Parses the head of a request with httparse, and checks it. Pure.

use std::net::{IpAddr, SocketAddr};

/// A larger head is refused.
pub(super) const HEAD_BYTES: usize = 8 * 1024;
const HEADERS: usize = 64;

/// A request that may be answered.
#[derive(Debug, PartialEq)]
pub(super) struct Request {
    /// HEAD, not GET.
    pub head_only: bool,
    pub path: String,
    /// After the `?`, undecoded.
    pub query: String,
    pub if_none_match: Option<String>,
    /// Another request may follow.
    pub keep_alive: bool,
}

/// A request that may not: status and reason.
#[derive(Debug, PartialEq)]
pub(super) struct Refusal {
    pub status: u16,
    pub why: &'static str,
}

fn refuse<T>(status: u16, why: &'static str) -> Result<T, Refusal> {
    Err(Refusal { status, why })
}

/// What stands at the start of `bytes`: `None` while the head is not whole, else the request and
/// the length of its head.
pub(super) fn parse(bytes: &[u8], hosts: &Hosts) -> Result<Option<(Request, usize)>, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= HEAD_BYTES => length,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES => return Ok(None),
        Ok(_) => return refuse(431, "a request may have 8 KB at most"),
        Err(httparse::Error::TooManyHeaders) => return refuse(431, "too many header fields"),
        Err(httparse::Error::Version) => {
            return refuse(
                505,
                "only HTTP/1.0 and HTTP/1.1 are \
                                                             supported",
            );
        }
        Err(_) => return refuse(400, "this is not an HTTP request"),
    };
    // All values of a header; one that is not UTF-8 is as bad as none.
    let values = |name: &str| {
        let headers = head.headers.iter();
        headers
            .filter(|header| header.name.eq_ignore_ascii_case(name))
            .map(|header| {
                std::str::from_utf8(header.value)
                    .unwrap_or("\u{fffd}")
                    .trim()
            })
            .collect::<Vec<_>>()
    };
    let host = match (values("host").as_slice(), head.version) {
        ([host], _) if is_host(host) => Some(*host),
        // HTTP/1.0 knows no Host, and no browser speaks it: no page elsewhere asks like this.
        ([], Some(0)) => None,
        _ => return refuse(400, "the request needs exactly one Host header"),
    };
    // A target in absolute form names the host itself, and its Host header is ignored (RFC 9112,
    // 3.2.2).
    let target = Target::parse(head.path.unwrap_or_default());
    let open = target.as_ref().is_some_and(|target| target.is_open());
    let authority = target.as_ref().and_then(|target| target.authority);
    if !open && authority.or(host).is_some_and(|host| !hosts.allow(host)) {
        return refuse(
            421,
            "this Host is not served here; use the address of this machine, or add the name to \
             http.hosts",
        );
    }
    let head_only = match head.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return refuse(405, "only GET and HEAD are supported"),
    };
    let no_body = values("content-length").iter().all(|length| *length == "0");
    if !no_body || !values("transfer-encoding").is_empty() {
        return refuse(400, "a request must not have a body");
    }
    let Some(Target { path, query, .. }) = target else {
        return refuse(400, "the request must name a path");
    };
    let connection = values("connection").join(",").to_ascii_lowercase();
    let says = |word: &str| connection.split(',').any(|option| option.trim() == word);
    let request = Request {
        head_only,
        path: path.to_owned(),
        query: query.to_owned(),
        if_none_match: values("if-none-match").first().map(ToString::to_string),
        keep_alive: head.version == Some(1) && !says("close"),
    };
    Ok(Some((request, length)))
}

/// What a request asks for.
#[derive(Debug, PartialEq)]
struct Target<'a> {
    /// Host and port, in absolute form only.
    authority: Option<&'a str>,
    path: &'a str,
    query: &'a str,
}

impl<'a> Target<'a> {
    /// `/path?query`, or the same behind `http://host:port`.
    fn parse(text: &'a str) -> Option<Self> {
        let (authority, rest) = match text.split_at_checked("http://".len()) {
            Some((scheme, after)) if scheme.eq_ignore_ascii_case("http://") => {
                let end = after.find(['/', '?']).unwrap_or(after.len());
                let (authority, rest) = after.split_at(end);
                if authority.is_empty() || !is_host(authority) {
                    return None;
                }
                (Some(authority), rest)
            }
            _ if text.starts_with('/') => (None, text),
            _ => return None,
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        Some(Self {
            authority,
            path: if path.is_empty() { "/" } else { path },
            query,
        })
    }

    /// Whether anybody may read the answer: a probe asks by whichever name or address it knows, and
    /// whether we live is no secret.
    fn is_open(&self) -> bool {
        matches!(self.path, "/livez" | "/readyz")
    }
}

/// Whether `text` has the form of a host, with or without a port.
fn is_host(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]%~".contains(&byte);
    text.bytes().all(fits)
}

/// Which Host headers are ours.
///
/// A web page from elsewhere can make its reader's browser ask this server: under a name of its own
/// that it lets point here (DNS rebinding), and then it may read the answer. So the name must be
/// one that no other machine can own, or one that the owner of this machine has named.
#[derive(Debug)]
pub(super) struct Hosts {
    /// The address that we listen on, or any if unspecified.
    listen: IpAddr,
    /// This machine's name.
    name: String,
    /// Further names, from `http.hosts`.
    more: Vec<String>,
}

impl Hosts {
    pub(super) fn new(listen: SocketAddr, name: &str, more: &[String]) -> Self {
        Self {
            listen: listen.ip(),
            name: name.to_owned(),
            more: more.to_vec(),
        }
    }

    /// `host` may have a port. Which one does not matter: a page under another port of this machine
    /// may not read our answers anyway, and behind a forwarded port it would be another one.
    fn allow(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        // A dot at the end only says that the name is whole.
        let name = name.strip_suffix('.').unwrap_or(name);
        let is = |own: &str| !own.is_empty() && name.eq_ignore_ascii_case(own);
        if is("localhost") || is(&self.name) || is(&format!("{}.local", self.name)) {
            return true;
        }
        if self.more.iter().any(|own| is(own)) {
            return true;
        }
        let address = name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'));
        match address.unwrap_or(name).parse::<IpAddr>() {
            Ok(address) if address.to_canonical().is_loopback() => true,
            // An address, unlike a name, cannot be made to point here; and which one of ours it is
            // may be unknown to us, as behind a container's forwarded port.
            Ok(address) => self.listen.is_unspecified() || address == self.listen,
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hosts(listen: &str) -> Hosts {
        let more = ["cams.lan".to_owned(), "10.0.0.7".to_owned()];
        Hosts::new(listen.parse().unwrap(), "board", &more)
    }

    fn parse(text: &str) -> Result<Option<(Request, usize)>, Refusal> {
        super::parse(text.as_bytes(), &hosts("127.0.0.1:2112"))
    }

    fn status(text: &str) -> u16 {
        parse(text).unwrap_err().status
    }

    #[test]
    fn a_request_is_read() {
        let text = "GET /status?points=3 HTTP/1.1\r\nHost: localhost:2112\r\nIf-None-Match: \"1-2\"\r\n\r\nGET";
        let (request, length) = parse(text).unwrap().unwrap();
        assert_eq!(length, text.len() - 3);
        assert_eq!(
            (request.path.as_str(), request.query.as_str()),
            ("/status", "points=3")
        );
        assert_eq!(request.if_none_match.as_deref(), Some("\"1-2\""));
        assert!(request.keep_alive && !request.head_only);
        let (request, _) = parse("HEAD / HTTP/1.1\r\nhost: [::1]\r\nConnection: x, Close\r\n\r\n")
            .unwrap()
            .unwrap();
        assert!(request.head_only && !request.keep_alive);
        let (request, _) = parse("GET / HTTP/1.0\r\nHost: board\r\n\r\n")
            .unwrap()
            .unwrap();
        assert!(!request.keep_alive);
        assert_eq!(parse("GET / HTTP/1.1\r\nHost: lo"), Ok(None));
    }

    #[test]
    fn a_request_without_host_is_answered_as_rfc_9112_says() {
        let path = |text: &str| {
            let request = parse(text).map(|parsed| parsed.unwrap().0);
            request.map(|request| (request.path, request.query))
        };
        let is = |path: &str, query: &str| Ok((path.to_owned(), query.to_owned()));
        assert_eq!(path("GET /metrics HTTP/1.0\r\n\r\n"), is("/metrics", ""));
        assert_eq!(
            path("GET http://localhost:2112/a?b HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
            is("/a", "b"),
            "the host of the target counts"
        );
        assert_eq!(path("GET HTTP://localhost HTTP/1.0\r\n\r\n"), is("/", ""));
        assert_eq!(path("GET http://[::1]?c HTTP/1.0\r\n\r\n"), is("/", "c"));
        for (text, refused) in [
            ("GET /livez HTTP/1.1\r\n\r\n", 400),
            ("GET http://localhost/ HTTP/1.1\r\n\r\n", 400),
            (
                "GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
                421,
            ),
            ("GET http://evil.example/ HTTP/1.0\r\n\r\n", 421),
            ("GET / HTTP/1.0\r\nHost: evil.example\r\n\r\n", 421),
            ("GET http://u@localhost/ HTTP/1.0\r\n\r\n", 400),
            ("GET http:///x HTTP/1.0\r\n\r\n", 400),
            ("GET https://localhost/ HTTP/1.0\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: local host\r\n\r\n", 400),
            ("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ] {
            assert_eq!(status(text), refused, "{text}");
        }
    }

    #[test]
    fn probes_are_answered_under_any_name() {
        for path in ["/livez", "/readyz", "/livez?x"] {
            let text = format!("GET {path} HTTP/1.1\r\nHost: 203.0.113.9:80\r\n\r\n");
            assert!(parse(&text).is_ok(), "{path}");
        }
        for path in ["/", "/livez/", "/status", "/readyz/../status"] {
            let text = format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\n\r\n");
            assert_eq!(status(&text), 421, "{path}");
        }
    }

    #[test]
    fn what_is_not_served_is_refused_with_its_status() {
        assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(status("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), 400);
        assert_eq!(status("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n"), 421);
        assert_eq!(status("POST / HTTP/1.1\r\nHost: localhost\r\n\r\n"), 405);
        assert_eq!(
            status("GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n"),
            400
        );
        assert_eq!(
            status("GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"),
            400
        );
        assert_eq!(status("GET x/ HTTP/1.1\r\nHost: localhost\r\n\r\n"), 400);
        assert_eq!(status("GET / HTTP/2.0\r\nHost: localhost\r\n\r\n"), 505);
        assert_eq!(status("\u{16}\u{3}\u{1}"), 400);
        let long = format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\nX: {}",
            "x".repeat(9000)
        );
        assert_eq!(status(&long), 431);
        assert_eq!(status(&format!("{long}\r\n\r\n")), 431);
        let many = format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n",
            "X: y\r\n".repeat(70)
        );
        assert_eq!(status(&many), 431);
    }

    #[test]
    fn only_names_that_nobody_else_can_own_are_ours() {
        let allow = |listen: &str, host: &str| hosts(listen).allow(host);
        for host in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1:2112",
            "127.9.9.9",
            "[::1]:2112",
            "board",
            "Board.local:1",
            "board.",
            "cams.lan:2112",
            "CAMS.lan.",
            "10.0.0.7",
        ] {
            assert!(allow("127.0.0.1:2112", host), "{host}");
            assert!(allow("0.0.0.0:2112", host), "{host}");
        }
        for host in [
            "",
            ":",
            "evil.example",
            "localhost.evil.example",
            "board.evil.example",
            "cams.lan.evil.example",
            "x.cams.lan",
            "lan",
            "127.0.0.1.nip.io",
            "localhost:80:80",
            "[::1",
            "evil.example:2112",
            "localhost@evil.example",
        ] {
            assert!(!allow("127.0.0.1:2112", host), "{host}");
            assert!(!allow("[::]:2112", host), "{host}");
        }
        assert!(!allow("127.0.0.1:2112", "192.0.2.7"));
        assert!(allow("192.0.2.7:2112", "192.0.2.7:2112"));
        assert!(!allow("192.0.2.7:2112", "192.0.2.8"));
        assert!(allow("0.0.0.0:2112", "192.0.2.7"));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = super::parse(&bytes, &hosts("0.0.0.0:1"));
        }
    }
}
