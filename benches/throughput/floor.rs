//! The floor: the least that carries a picture from FFmpeg's pipe to the broker. One thread and one
//! connection per camera, one `writev` per message; no supervision, no counters, no headers, no
//! limit of the age. Also the same over TLS, and with the daemon's threads: one reads, one
//! publishes, one reads each confirm.
//!
//! For access units it reads the index and the bytes that FFmpeg writes to two pipes.

use super::amqp::{Client, Envelope};
use super::load;
use native_tls::{Certificate, TlsConnector};
use std::io::{self, PipeReader, PipeWriter, Read};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::process::{ChildStdout, Command, Stdio};
use std::sync::Mutex;

/// Which floor.
#[derive(Debug, Clone, Copy)]
pub enum Kind<'a> {
    Plain,
    InThreads,
    /// With the file of the broker's certificate.
    Tls(&'a str),
}

/// Carries the pictures of all cameras until it is killed.
pub fn run(port: u16, exchange: &str, kind: Kind<'_>, inputs: &[String]) {
    let (threads, tls) = match kind {
        Kind::Plain => (false, None),
        Kind::InThreads => (true, None),
        Kind::Tls(certificate) => (false, Some(connector(certificate))),
    };
    let tls = tls.as_ref();
    std::thread::scope(|scope| {
        for (number, input) in inputs.iter().enumerate() {
            scope.spawn(move || {
                let key = format!("camera.{number}");
                if let Err(error) = camera((port, tls), exchange, &key, threads, input) {
                    eprintln!("floor: camera {number}: {error}");
                }
            });
        }
    });
}

/// Trusts this certificate only. One for all connections, since each takes a megabyte.
fn connector(certificate: &str) -> TlsConnector {
    let certificate = std::fs::read(certificate).unwrap();
    TlsConnector::builder()
        .disable_built_in_roots(true)
        .add_root_certificate(Certificate::from_pem(&certificate).unwrap())
        .build()
        .unwrap()
}

fn camera(
    (port, tls): (u16, Option<&TlsConnector>),
    exchange: &str,
    key: &str,
    threads: bool,
    input: &str,
) -> io::Result<()> {
    let mut client = Client::connect(port, tls)?;
    if threads {
        client.select_confirms()?;
    }
    let pipes = Pipes::of(input)?;
    let confirms = client.handle()?;
    let mut envelope: Option<(usize, Envelope)> = None;
    let publish = move |jpeg: &[u8]| {
        let (_, envelope) = match envelope.take() {
            Some(known) if known.0 == jpeg.len() => envelope.insert(known),
            _ => envelope.insert((jpeg.len(), Client::envelope(exchange, key, jpeg.len()))),
        };
        client.publish(envelope, jpeg)
    };
    if threads {
        in_threads(pipes, confirms, publish)
    } else {
        in_one_thread(pipes, publish)
    }
}

fn in_one_thread(
    mut pipes: Pipes,
    mut publish: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut part = Part::default();
    loop {
        let picture = pipes.read(&mut part)?;
        publish(&part.bytes[picture])?;
    }
}

fn in_threads(
    mut pipes: Pipes,
    mut confirms: impl Read + Send,
    mut publish: impl FnMut(&[u8]) -> io::Result<()> + Send,
) -> ! {
    let slot = Mutex::new(None::<(Part, Range<usize>)>);
    let idle = Mutex::new(vec![Part::default(), Part::default()]);
    std::thread::scope(|scope| {
        scope.spawn(move || while confirms.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {});
        let publisher = scope.spawn(|| {
            loop {
                let next = slot.lock().unwrap().take();
                let Some((part, picture)) = next else {
                    std::thread::park();
                    continue;
                };
                publish(&part.bytes[picture]).unwrap();
                idle.lock().unwrap().push(part);
            }
        });
        loop {
            let mut part = idle.lock().unwrap().pop().unwrap_or_default();
            let picture = pipes.read(&mut part).unwrap();
            let displaced = slot.lock().unwrap().replace((part, picture));
            idle.lock().unwrap().extend(displaced.map(|(part, _)| part));
            publisher.thread().unpark();
        }
    })
}

/// What comes from the load generator.
enum Pipes {
    Pictures(ChildStdout),
    Units {
        index: PipeReader,
        bytes: PipeReader,
        line: Vec<u8>,
    },
}

impl Pipes {
    fn of(input: &str) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        if !load::is_of_units(input) {
            command.args(["-i", input]).stdout(Stdio::piped());
            let mut child = command.spawn()?;
            let mut pipe = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
            let _ = rustix::pipe::fcntl_setpipe_size(&pipe, 1 << 20);
            let mut boundary = [0; b"--ffmpeg\r\n".len()];
            pipe.read_exact(&mut boundary)?;
            return Ok(Self::Pictures(pipe));
        }
        let ((index, index_inlet), (bytes, bytes_inlet)) = (io::pipe()?, io::pipe()?);
        let _ = rustix::pipe::fcntl_setpipe_size(&bytes, 256 << 10);
        let path =
            |inlet: &PipeWriter| format!("/proc/{}/fd/{}", std::process::id(), inlet.as_raw_fd());
        let paths = [path(&index_inlet), path(&bytes_inlet)];
        command.args(load::copy_arguments(input, [&paths[0], &paths[1]]));
        command.spawn()?;
        // The load generator opens them by their paths, at any time.
        std::mem::forget((index_inlet, bytes_inlet));
        Ok(Self::Units {
            index,
            bytes,
            line: Vec::new(),
        })
    }

    /// The position of the next picture or unit in `part`.
    fn read(&mut self, part: &mut Part) -> io::Result<Range<usize>> {
        match self {
            Self::Pictures(pipe) => part.read(pipe),
            Self::Units { index, bytes, line } => {
                let size = next_size(index, line)?;
                if part.bytes.len() < size {
                    part.bytes.resize(size, 0);
                }
                bytes.read_exact(&mut part.bytes[..size])?;
                Ok(0..size)
            }
        }
    }
}

/// The size in the next line of the index that is one of a unit. `unread` is kept between calls.
fn next_size(index: &mut PipeReader, unread: &mut Vec<u8>) -> io::Result<usize> {
    loop {
        while let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
            let line = std::str::from_utf8(&unread[..end]).unwrap_or_default();
            let size = line
                .split(',')
                .nth(4)
                .and_then(|size| size.trim().parse().ok());
            unread.drain(..=end);
            if let Some(size) = size {
                return Ok(size);
            }
        }
        let mut bytes = [0; 512];
        match index.read(&mut bytes)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => unread.extend_from_slice(&bytes[..count]),
        }
    }
}

/// One part of the stream: header, picture, boundary line.
#[derive(Default)]
struct Part {
    bytes: Vec<u8>,
    usual: usize,
}

impl Part {
    /// The position of its picture.
    fn read(&mut self, pipe: &mut ChildStdout) -> io::Result<Range<usize>> {
        const BEHIND: usize = b"\r\n--ffmpeg\r\n".len();
        let (mut filled, mut wanted, mut start) = (0, self.usual.max(62), 0);
        loop {
            if self.bytes.len() < wanted {
                self.bytes.resize(wanted, 0);
            }
            match pipe.read(&mut self.bytes[filled..wanted])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => filled += count,
            }
            if start == 0 {
                let (body, length) = header(&self.bytes[..filled])
                    .ok_or_else(|| io::Error::other("not the load generator's stream"))?;
                start = body;
                wanted = body + length + BEHIND;
                self.usual = wanted;
            }
            if filled == wanted {
                return Ok(start..wanted - BEHIND);
            }
        }
    }
}

fn header(bytes: &[u8]) -> Option<(usize, usize)> {
    let end = bytes
        .windows(4)
        .take(100)
        .position(|at| at == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&bytes[..end]).ok()?;
    let length = text.split_once("Content-length: ")?.1.parse().ok()?;
    Some((end + 4, length))
}

/// Arguments that make this program the floor.
pub fn arguments(port: u16, exchange: &str, kind: Kind<'_>, inputs: &[String]) -> Vec<String> {
    let kind = match kind {
        Kind::Plain => "plain",
        Kind::InThreads => "in-threads",
        Kind::Tls(certificate) => certificate,
    };
    let mut args = vec!["floor".to_owned(), port.to_string(), exchange.to_owned()];
    args.push(kind.to_owned());
    args.extend_from_slice(inputs);
    args
}

/// Runs as the floor, if the arguments say so.
pub fn run_if_asked(args: &[String]) -> bool {
    let [floor, port, exchange, kind, inputs @ ..] = args else {
        return false;
    };
    if floor != "floor" {
        return false;
    }
    debug_assert!(
        inputs
            .iter()
            .all(|input| load::wanted(&["-i".into(), input.clone()]).is_some())
    );
    let kind = match kind.as_str() {
        "plain" => Kind::Plain,
        "in-threads" => Kind::InThreads,
        certificate => Kind::Tls(certificate),
    };
    run(port.parse().unwrap(), exchange, kind, inputs);
    true
}
