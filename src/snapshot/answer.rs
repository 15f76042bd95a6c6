//! A camera's answer to a request: its head, and its body in each of the three forms of HTTP/1.1.

use std::io::{self, BufRead, Read};

/// The longest head. Those of cameras have a few hundred bytes.
const LONGEST_HEAD: u64 = 16 * 1024;
/// Chunks have at most this long a line before them.
const LONGEST_LINE: u64 = 1024;

/// The head of an answer, as far as it matters.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    length: Option<usize>,
    chunked: bool,
    /// The connection ends with this answer.
    close: bool,
    pub(super) location: Option<String>,
    /// What `WWW-Authenticate` asks for.
    pub(super) challenges: Vec<String>,
}

/// How a body ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// Whole; whether the connection can be used again.
    Whole { kept: bool },
    /// The camera closed the connection inside.
    CutOff,
    /// It has this many bytes, or more.
    TooLarge(usize),
}

impl Head {
    /// Reads a head.
    ///
    /// # Errors
    /// Those of `from`, and if it is not one of HTTP/1. `UnexpectedEof` if nothing came at all.
    pub(super) fn read(from: &mut impl BufRead) -> io::Result<Self> {
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP");
        let mut from = from.take(LONGEST_HEAD);
        let mut line = Vec::new();
        if from.read_until(b'\n', &mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let first = String::from_utf8_lossy(&line).into_owned();
        let (version, rest) = first.split_once(' ').ok_or_else(wrong)?;
        let status = rest.trim().get(..3).and_then(|status| status.parse().ok());
        let mut head = Self {
            status: status
                .filter(|_| version.starts_with("HTTP/1."))
                .ok_or_else(wrong)?,
            close: version == "HTTP/1.0",
            ..Self::default()
        };
        loop {
            line.clear();
            from.read_until(b'\n', &mut line)?;
            if line.last() != Some(&b'\n') {
                return Err(wrong());
            }
            let text = String::from_utf8_lossy(&line);
            if text.trim().is_empty() {
                return Ok(head);
            }
            if let Some((name, value)) = text.split_once(':') {
                head.field(&name.to_ascii_lowercase(), value.trim());
            }
        }
    }

    fn field(&mut self, name: &str, value: &str) {
        let has = |word: &str| {
            let mut words = value.split(',');
            words.any(|it| it.trim().eq_ignore_ascii_case(word))
        };
        match name {
            "content-length" => self.length = value.parse().ok(),
            "transfer-encoding" => self.chunked = has("chunked"),
            "connection" if has("close") => self.close = true,
            "connection" if has("keep-alive") => self.close = false,
            "location" => self.location = Some(value.to_owned()),
            "www-authenticate" => self.challenges.push(value.to_owned()),
            _ => {}
        }
    }

    /// Reads the body into the empty `body`, at most `most` bytes.
    ///
    /// # Errors
    /// Those of `from`, and if a chunk has no length.
    pub(super) fn body(
        &self,
        from: &mut impl BufRead,
        body: &mut Vec<u8>,
        most: usize,
    ) -> io::Result<Body> {
        let kept = !self.close;
        match (self.chunked, self.length) {
            _ if matches!(self.status, 204 | 304) => Ok(Body::Whole { kept }),
            (true, _) => chunks(from, body, most, kept),
            (false, Some(length)) if length > most => Ok(Body::TooLarge(length)),
            (false, Some(length)) => match add(from, body, length)? {
                true => Ok(Body::Whole { kept }),
                false => Ok(Body::CutOff),
            },
            // Up to the end of the connection.
            (false, None) => {
                from.take(most as u64 + 1).read_to_end(body)?;
                match body.len() > most {
                    true => Ok(Body::TooLarge(body.len())),
                    false => Ok(Body::Whole { kept: false }),
                }
            }
        }
    }
}

fn chunks(
    from: &mut impl BufRead,
    body: &mut Vec<u8>,
    most: usize,
    kept: bool,
) -> io::Result<Body> {
    loop {
        let Some(line) = line(from)? else {
            return Ok(Body::CutOff);
        };
        let digits = line.split(';').next().unwrap_or_default().trim();
        let wrong = |_| io::Error::new(io::ErrorKind::InvalidData, "a chunk has no length");
        let length = usize::from_str_radix(digits, 16).map_err(wrong)?;
        if length == 0 {
            // Fields may follow, then an empty line.
            while let Some(line) = self::line(from)? {
                if line.trim().is_empty() {
                    return Ok(Body::Whole { kept });
                }
            }
            return Ok(Body::Whole { kept: false });
        }
        let all = body.len().saturating_add(length);
        if all > most {
            return Ok(Body::TooLarge(all));
        }
        if !add(from, body, length)? || self::line(from)?.is_none() {
            return Ok(Body::CutOff);
        }
    }
}

/// Adds this many bytes to `body`. `false`: fewer came.
fn add(from: &mut impl BufRead, body: &mut Vec<u8>, length: usize) -> io::Result<bool> {
    Ok(from.take(length as u64).read_to_end(body)? == length)
}

/// A line, as much of it as matters. `None`: the connection has ended.
fn line(from: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    from.take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    let whole = line.last() == Some(&b'\n');
    Ok(whole.then(|| String::from_utf8_lossy(&line).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Status, how the body ended, the body, and what is left of the answer.
    fn read(answer: &str, most: usize) -> io::Result<(u16, Body, String, String)> {
        let mut from = answer.as_bytes();
        let head = Head::read(&mut from)?;
        let mut body = Vec::new();
        let end = head.body(&mut from, &mut body, most)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((head.status, end, text(&body), text(from)))
    }

    #[test]
    fn a_body_comes_in_three_forms_and_the_next_answer_is_left_alone() {
        const KEPT: Body = Body::Whole { kept: true };
        const CLOSED: Body = Body::Whole { kept: false };
        let cases = [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP",
                KEPT,
                "abc",
                "HTTP",
            ),
            ("HTTP/1.1 200\ncontent-length:3\n\nabc", KEPT, "abc", ""),
            (
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na",
                CLOSED,
                "a",
                "",
            ),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na",
                CLOSED,
                "a",
                "",
            ),
            (
                "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\na",
                KEPT,
                "a",
                "",
            ),
            ("HTTP/1.1 200 OK\r\n\r\nabcd", CLOSED, "abcd", ""),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x\r\nd\r\n0\r\n\
                 X: y\r\n\r\nHTTP",
                KEPT,
                "abcd",
                "HTTP",
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
                Body::CutOff,
                "abc",
                "",
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
                Body::CutOff,
                "abc",
                "",
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabcdef",
                Body::TooLarge(6),
                "",
                "abcdef",
            ),
            (
                "HTTP/1.1 200 OK\r\n\r\nabcdefgh",
                Body::TooLarge(6),
                "abcdef",
                "gh",
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n9\r\n",
                Body::TooLarge(13),
                "abcd",
                "",
            ),
        ];
        for (answer, end, body, left) in cases {
            let expected = (200, end, body.to_owned(), left.to_owned());
            assert_eq!(read(answer, 5).unwrap(), expected, "{answer}");
        }
    }

    #[test]
    fn what_is_no_answer_is_refused_and_a_flood_is_bounded() {
        for answer in [
            "".to_owned(),
            "RTSP/1.0 200 OK\r\n\r\n".to_owned(),
            "HTTP/1.1 what\r\n\r\n".to_owned(),
            "HTTP/1.1 200 OK\r\nContent-Length: 3".to_owned(),
            format!("HTTP/1.1 200 OK\r\n{}", "X: y\r\n".repeat(9999)),
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_owned(),
        ] {
            assert!(read(&answer, 5).is_err(), "{answer:.40}");
        }
    }

    #[test]
    fn what_a_camera_asks_for_is_kept() {
        let mut answer: &[u8] =
            b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Digest realm=\"a\"\r\n\
                                  WWW-Authenticate: Basic realm=b\r\nLocation: /x\r\n\r\n";
        let head = Head::read(&mut answer).unwrap();
        assert_eq!(head.challenges, ["Digest realm=\"a\"", "Basic realm=b"]);
        assert_eq!(head.location.as_deref(), Some("/x"));
    }
}
