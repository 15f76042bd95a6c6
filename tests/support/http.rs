//! A blocking HTTP client that can also misbehave.

use super::SOON;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// For a configuration: a status page on a free port.
pub const ON: &str = "http: {listen: '127.0.0.1:0'}\n";

/// The configuration, with the status page off unless it configures one: tests run at the same
/// time, and the default port can be used once.
pub fn or_off(config_yaml: &str) -> String {
    match config_yaml.lines().any(|line| line.starts_with("http:")) {
        true => config_yaml.to_owned(),
        false => format!("{config_yaml}\nhttp: {{enabled: false}}\n"),
    }
}

/// A server.
#[derive(Debug, Clone, Copy)]
pub struct Http {
    pub address: SocketAddr,
}

/// What it answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub fields: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    #[track_caller]
    pub fn field(&self, name: &str) -> &str {
        self.fields
            .get(name)
            .unwrap_or_else(|| panic!("no {name} in {:?}", self.fields))
    }
}

impl Http {
    pub fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    /// A connection without a request so far.
    pub fn connect(&self) -> BufReader<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.address, SOON).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.set_write_timeout(Some(SOON)).unwrap();
        BufReader::new(stream)
    }

    /// The answer to GET.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, "", b"")
    }

    /// The answer; `fields` are further header fields, each with its line end.
    #[track_caller]
    pub fn request(&self, method: &str, path: &str, fields: &str, body: &[u8]) -> Answer {
        let host = self.address;
        let length = match body.len() {
            0 => String::new(),
            length => format!("Content-Length: {length}\r\n"),
        };
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{length}");
        self.raw(
            &[format!("{head}{fields}\r\n").as_bytes(), body].concat(),
            method == "HEAD",
        )
    }

    /// The answer to these bytes.
    #[track_caller]
    pub fn raw(&self, request: &[u8], head_only: bool) -> Answer {
        let mut stream = self.connect();
        // A server that refuses early may close before everything is sent.
        let _ = stream.get_mut().write_all(request);
        read(&mut stream, head_only).unwrap()
    }
}

/// Reads one answer from a connection.
pub fn read(stream: &mut impl BufRead, head_only: bool) -> io::Result<Answer> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no status: {line:?}")))?;
    let fields = read_fields(stream)?;
    let mut body = Vec::new();
    match fields
        .get("content-length")
        .map(|length| length.parse::<u64>().unwrap())
    {
        _ if head_only || matches!(status, 204 | 304) => {}
        Some(length) => {
            stream.take(length).read_to_end(&mut body)?;
            if body.len() as u64 != length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        // A stream: the caller reads its body.
        None => {}
    }
    Ok(Answer {
        status,
        fields,
        body,
    })
}

fn read_fields(stream: &mut impl BufRead) -> io::Result<BTreeMap<String, String>> {
    let mut fields = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => {
                fields.insert(name.to_ascii_lowercase(), value.trim().to_owned());
            }
            None if line == "\r\n" => return Ok(fields),
            None => return Err(io::Error::other(format!("no header field: {line:?}"))),
        }
    }
}

/// Pictures of a `stream.mjpg`.
#[derive(Debug)]
pub struct Stream {
    stream: BufReader<TcpStream>,
    boundary: String,
}

impl Stream {
    /// Starts it; panics unless it is a stream.
    #[track_caller]
    pub fn open(http: Http, path: &str) -> Self {
        let mut stream = http.connect();
        write!(
            stream.get_mut(),
            "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        )
        .unwrap();
        let answer = read(&mut stream, false).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        let kind = answer.field("content-type");
        let boundary = kind.strip_prefix("multipart/x-mixed-replace; boundary=");
        let boundary = format!("--{}\r\n", boundary.unwrap());
        Self { stream, boundary }
    }

    /// The next picture; `None` when the stream has ended.
    pub fn next(&mut self) -> Option<Vec<u8>> {
        let mut line = String::new();
        while line.trim().is_empty() {
            line.clear();
            if self.stream.read_line(&mut line).unwrap() == 0 {
                return None;
            }
        }
        assert_eq!(line, self.boundary);
        let Ok(fields) = read_fields(&mut self.stream) else {
            return None;
        };
        assert_eq!(fields["content-type"], "image/jpeg");
        let mut picture = vec![0; fields["content-length"].parse().unwrap()];
        self.stream.read_exact(&mut picture).unwrap();
        Some(picture)
    }
}

/// Values of a metric in the Prometheus text by their labels.
pub fn values(text: &str, name: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let (full, value) = line.rsplit_once(' ').unwrap();
            let (own, labels) = full.split_once('{').unwrap_or((full, ""));
            (own == name).then(|| {
                let labels = labels.trim_end_matches('}').to_owned();
                (labels, value.parse().unwrap())
            })
        })
        .collect()
}

/// The only value of a metric.
#[track_caller]
pub fn value(text: &str, name: &str) -> f64 {
    let values = values(text, name);
    assert_eq!(values.len(), 1, "{name}: {values:?}");
    values.into_values().next().unwrap()
}

/// A client that reads little and rarely, until it is disconnected or dropped.
pub fn sip(stream: &TcpStream) -> io::Result<usize> {
    stream.set_read_timeout(Some(Duration::from_millis(1)))?;
    let mut reader = stream;
    reader.read(&mut [0; 16])
}
