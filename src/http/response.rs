//! An answer's head and body, and sending it bit by bit to a client that may be slow.

use std::fmt::Write as _;
use std::io::{self, IoSlice, Write};
use std::sync::Arc;
use std::time::SystemTime;

/// On every answer. A page of someone else's must neither embed ours nor show our pictures.
const ALWAYS: &str = "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n\
    Cross-Origin-Resource-Policy: same-origin\r\nX-Frame-Options: DENY\r\n";

/// An answer.
#[derive(Debug)]
pub(super) struct Response {
    pub status: u16,
    pub content_type: &'static str,
    /// Further header fields, each with its line end.
    pub fields: String,
    pub body: Body,
}

/// Bytes to be sent.
#[derive(Debug)]
pub(super) enum Body {
    Own(Vec<u8>),
    /// Of a picture that others may be looking at as well.
    Shared(Arc<[u8]>),
}

impl Body {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

impl Response {
    pub(super) fn new(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            content_type,
            fields: String::new(),
            body: Body::Own(body.into()),
        }
    }

    /// A line for people.
    pub(super) fn text(status: u16, line: &str) -> Self {
        Self::new(status, "text/plain; charset=utf-8", format!("{line}\n"))
    }

    /// Adds a header field; neither part comes from a client.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        debug_assert!(!value.contains(['\r', '\n']));
        let _ = write!(self.fields, "{name}: {value}\r\n");
        self
    }

    /// What is sent for it.
    pub(super) fn into_output(self, head_only: bool, keep_alive: bool) -> Output {
        let kind = match self.status {
            204 => String::new(),
            _ => format!(
                "Content-Type: {}\r\nContent-Length: {}\r\n",
                self.content_type,
                self.body.bytes().len()
            ),
        };
        let head = head(self.status, keep_alive) + &format!("{kind}{}\r\n", self.fields,);
        // 304 tells the length of what it does not send.
        let no_body = head_only || matches!(self.status, 204 | 304);
        Output::new(
            head.into_bytes(),
            if no_body {
                Body::Own(Vec::new())
            } else {
                self.body
            },
        )
    }
}

/// Status line and the header fields of every answer, the empty line not yet.
pub(super) fn head(status: u16, keep_alive: bool) -> String {
    let phrase = match status {
        200 => "OK",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    };
    let date = httpdate::fmt_http_date(SystemTime::now());
    let connection = if keep_alive { "keep-alive" } else { "close" };
    format!("HTTP/1.1 {status} {phrase}\r\nDate: {date}\r\nConnection: {connection}\r\n{ALWAYS}")
}

/// Bytes on their way to a client.
#[derive(Debug)]
pub(super) struct Output {
    head: Vec<u8>,
    body: Body,
    end: &'static [u8],
    sent: usize,
}

impl Output {
    pub(super) fn new(head: Vec<u8>, body: Body) -> Self {
        Self {
            head,
            body,
            end: b"",
            sent: 0,
        }
    }

    /// Followed by `end`.
    pub(super) fn ending(self, end: &'static [u8]) -> Self {
        Self { end, ..self }
    }

    /// Bytes that are still to be sent.
    pub(super) fn left(&self) -> usize {
        self.head.len() + self.body.bytes().len() + self.end.len() - self.sent
    }

    /// Sends what `stream` takes; true once all is sent.
    pub(super) fn send(&mut self, stream: &mut impl Write) -> io::Result<bool> {
        while self.left() > 0 {
            let mut sent = self.sent;
            let parts = [self.head.as_slice(), self.body.bytes(), self.end].map(|part| {
                let left = part.get(sent.min(part.len())..).unwrap_or_default();
                sent = sent.saturating_sub(part.len());
                IoSlice::new(left)
            });
            match stream.write_vectored(&parts) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.sent += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes three bytes, then none for once.
    struct Slow(Vec<u8>, bool);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let n = bytes.len().min(3);
            self.0.extend(&bytes[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_slow_client_gets_all_of_it_in_order() {
        let response = Response::text(200, "abcdefgh").with("Allow", "GET");
        let mut output = response.into_output(false, true);
        let mut slow = Slow(Vec::new(), false);
        let mut rounds = 0;
        while !output.send(&mut slow).unwrap() {
            rounds += 1;
        }
        let text = String::from_utf8(slow.0).unwrap();
        assert!(
            rounds > 20 && text.starts_with("HTTP/1.1 200 OK\r\n"),
            "{text}"
        );
        assert!(
            text.contains("\r\nContent-Length: 9\r\nAllow: GET\r\n\r\nabcdefgh\n"),
            "{text}"
        );
        let head = Response::text(200, "abcdefgh").into_output(true, false);
        assert!(head.body.bytes().is_empty());
    }
}
