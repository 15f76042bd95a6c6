//! Asks the camera for pictures, over one connection as long as the camera keeps it.

use super::answer::{Body, Head};
use super::login::Login;
use super::url::Url;
use crate::os_error::error_text;
use native_tls::{TlsConnector, TlsStream};
use std::io::{self, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Redirections for one picture, and a login at each end. Browsers follow 20; cameras need one.
const REQUESTS: usize = 6;
/// A longer answer that is no picture is not read: the connection is given up.
const LONGEST_WORDS: usize = 64 * 1024;

/// What a request brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Got {
    /// A picture, or what the camera calls one, whole or cut off.
    Picture,
    /// It has this many bytes, which were not read.
    TooLarge(usize),
}

/// Who asks.
#[derive(Debug)]
pub(super) struct Client {
    url: Url,
    login: Option<Login>,
    link: Option<Link>,
    timeout: Duration,
    max_bytes: usize,
}

/// A connection.
#[derive(Debug)]
struct Link {
    /// To whom: host, port, TLS.
    to: (String, u16, bool),
    wire: BufReader<Wire>,
    /// It has carried an answer before.
    used: bool,
}

#[derive(Debug)]
enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Client {
    pub(super) fn new(url: Url, timeout: Duration, max_bytes: usize) -> Self {
        Self {
            url,
            login: None,
            link: None,
            timeout,
            max_bytes,
        }
    }

    /// Asks for a picture, and puts what comes into `picture`.
    ///
    /// # Errors
    /// A line in FFmpeg's words.
    pub(super) fn picture(&mut self, picture: &mut Vec<u8>) -> Result<Got, String> {
        let mut url = self.url.clone();
        let mut logged_in = false;
        for _ in 0..REQUESTS {
            let (head, got) = self.ask(&url, picture)?;
            match head.status {
                200..=299 => return Ok(got),
                301..=303 | 307 | 308 => {
                    let to = head.location.and_then(|to| url.resolve(&to));
                    url = to.ok_or("HTTP redirection to no address that can be polled")?;
                }
                401 if !logged_in && url.login.is_some() => {
                    logged_in = true;
                    self.login = Login::asked(&head.challenges);
                    if self.login.is_none() {
                        return Err(refusal(401));
                    }
                }
                status => return Err(refusal(status)),
            }
        }
        Err("HTTP redirections without end".to_owned())
    }

    fn ask(&mut self, url: &Url, picture: &mut Vec<u8>) -> Result<(Head, Got), String> {
        let request = self.request(url);
        let to = (url.host.clone(), url.port, url.tls);
        loop {
            let kept = self.link.take().filter(|link| link.to == to);
            let mut link = match kept {
                Some(link) => link,
                None => Link {
                    wire: BufReader::new(connect(url, self.timeout)?),
                    to: to.clone(),
                    used: false,
                },
            };
            let sent = link.wire.get_mut().write_all(request.as_bytes());
            let head = match sent.and_then(|()| Head::read(&mut link.wire)) {
                Ok(head) => head,
                // The camera closed it meanwhile, as it may at any time between two requests.
                Err(error) if link.used && was_closed(&error) => continue,
                Err(error) => return Err(in_words(&error)),
            };
            picture.clear();
            let good = (200..=299).contains(&head.status);
            let most = if good { self.max_bytes } else { LONGEST_WORDS };
            let body = head.body(&mut link.wire, picture, most);
            let got = match body.map_err(|error| in_words(&error))? {
                Body::Whole { kept } => {
                    link.used = true;
                    self.link = kept.then_some(link);
                    Got::Picture
                }
                Body::CutOff => Got::Picture,
                Body::TooLarge(length) => {
                    picture.clear();
                    Got::TooLarge(length)
                }
            };
            return Ok((head, got));
        }
    }

    fn request(&mut self, url: &Url) -> String {
        let login = url.login.as_ref().and_then(|(user, password)| {
            let login = self.login.as_mut()?;
            login.answer((user, password), &url.target)
        });
        let login = login.map_or_else(String::new, |it| format!("Authorization: {it}\r\n"));
        format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: edge-video/{}\r\nAccept: image/jpeg, */*\r\n\
             Connection: keep-alive\r\n{login}\r\n",
            url.target,
            url.authority,
            env!("CARGO_PKG_VERSION")
        )
    }
}

fn connect(url: &Url, timeout: Duration) -> Result<Wire, String> {
    let unknown = || "Failed to resolve hostname".to_owned();
    let addresses = (&*url.host, url.port).to_socket_addrs();
    let mut last = unknown();
    for address in addresses.map_err(|_| unknown())? {
        let connected = TcpStream::connect_timeout(&address, timeout).and_then(|stream| {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(timeout))?;
            stream.set_write_timeout(Some(timeout))?;
            Ok(stream)
        });
        match connected {
            Ok(stream) if url.tls => return encrypted(&url.host, stream),
            Ok(stream) => return Ok(Wire::Plain(stream)),
            Err(error) => last = in_words(&error),
        }
    }
    Err(last)
}

/// Cameras sign their own certificates, so FFmpeg does not check any unless it is told to.
fn encrypted(host: &str, stream: TcpStream) -> Result<Wire, String> {
    let failed = |why: String| format!("[tls] {why}");
    let connector = TlsConnector::builder()
        .danger_accept_invalid_certs(true)
        .danger_accept_invalid_hostnames(true)
        .build()
        .map_err(|error| failed(error.to_string()))?;
    let stream = connector.connect(host, stream);
    let stream = stream.map_err(|error| failed(error.to_string()))?;
    Ok(Wire::Tls(Box::new(stream)))
}

impl Read for Wire {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buf),
            Self::Tls(stream) => stream.read(buf),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(buf),
            Self::Tls(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

fn was_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(
        error.kind(),
        UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe
    )
}

/// FFmpeg's words, which `capture/words.rs` understands.
fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "Connection timed out".to_owned(),
        io::ErrorKind::UnexpectedEof => "Stream ends prematurely".to_owned(),
        _ => error_text(error),
    }
}

fn refusal(status: u16) -> String {
    let reason = match status {
        400 => " Bad Request",
        401 => " Unauthorized",
        403 => " Forbidden",
        404 => " Not Found",
        429 => " Too Many Requests",
        500 => " Internal Server Error",
        503 => " Service Unavailable",
        _ => "",
    };
    let class = match status {
        500..=599 => "Server returned 5XX: ",
        _ => "",
    };
    format!("{class}HTTP error {status}{reason}")
}
