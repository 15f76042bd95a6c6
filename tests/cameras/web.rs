//! A played HTTP camera: Motion JPEG in its dialects, snapshots, live FLV and MPEG-TS, HLS.

use crate::clip::{Clip, Film};
use crate::rtsp::Sent;
use crate::support::{TempDir, unix_us};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Segments in a playlist.
const LISTED: u64 = 3;

/// FFmpeg 5.1 with `-re` sends a packet when the one before it is due, and it counts from the first
/// decoding time, which is up to a picture earlier. No picture may come before it was taken.
const EARLY_PICTURES: i64 = 2;

/// How pictures follow each other on a connection.
#[derive(Debug, Clone, Copy)]
pub struct Dialect {
    /// Whether a boundary comes before the first picture.
    pub first_boundary: bool,
    /// By how much `Content-Length` is wrong; `None`: there is none.
    pub length_off: Option<i32>,
    /// Chunked transfer encoding.
    pub chunked: bool,
    /// JPEGs alone, nothing between them.
    pub bare: bool,
    /// Each picture whose number this divides is cut in half.
    pub cut: Option<u16>,
    /// As webcams send them: without Huffman tables.
    pub without_tables: bool,
    /// Marked as the first field of an interlaced picture, as in AVI1.
    pub field: bool,
}

impl Dialect {
    pub const PLAIN: Self = Self {
        first_boundary: true,
        length_off: Some(0),
        chunked: false,
        bare: false,
        cut: None,
        without_tables: false,
        field: false,
    };
}

/// What is served.
#[derive(Debug, Clone)]
pub enum Page {
    Mjpeg(Arc<Clip>, Dialect),
    /// One picture for each request: the current one.
    Snapshot(Arc<Clip>),
    /// A film in real time, as `flv` or `mpegts`.
    Live(Film, &'static str),
    /// Segments of so many seconds.
    Hls(Film, u64),
}

/// A camera that runs. Dropping it closes its connections.
#[derive(Debug)]
pub struct Site {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    page: Page,
    /// Nothing is answered for so long after the first request.
    wakes: Duration,
    asked: Mutex<Option<Instant>>,
    began: Instant,
    sent: Mutex<Vec<Sent>>,
    segments: Option<TempDir>,
    connections: Mutex<Vec<TcpStream>>,
    closed: AtomicBool,
}

impl Site {
    pub fn start(page: Page) -> Self {
        Self::start_asleep(page, Duration::ZERO)
    }

    /// A battery camera, which takes so long to wake up.
    pub fn start_asleep(page: Page, wakes: Duration) -> Self {
        let segments = match page {
            Page::Hls(film, seconds) => Some(segments(film, seconds)),
            _ => None,
        };
        let (listener, port) = crate::rtsp::listen();
        let shared = Arc::new(Shared {
            page,
            wakes,
            asked: Mutex::default(),
            began: Instant::now(),
            sent: Mutex::default(),
            segments,
            connections: Mutex::default(),
            closed: AtomicBool::new(false),
        });
        std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || serve(&listener, &shared)
        });
        Self { port, shared }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    pub fn sent(&self) -> Vec<Sent> {
        self.shared.sent.lock().unwrap().clone()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        // Wakes the listener.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        for connection in self.shared.connections.lock().unwrap().iter() {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

fn serve(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.closed.load(Ordering::Relaxed) {
            return;
        }
        let stream = stream.unwrap();
        let connection = stream.try_clone().unwrap();
        shared.connections.lock().unwrap().push(connection);
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            // A client that goes away ends its connection.
            let _ = shared.answer(&stream);
            let _ = stream.shutdown(Shutdown::Both);
        });
    }
}

/// Segments of four laps of the film, so that none has a gap in its time.
fn segments(film: Film, seconds: u64) -> TempDir {
    let dir = TempDir::new("hls");
    let output = Command::new("ffmpeg")
        .args([
            "-hide_banner",
            "-nostdin",
            "-loglevel",
            "error",
            "-stream_loop",
            "3",
            "-i",
        ])
        .arg(film.mp4())
        .args(["-c", "copy", "-f", "hls", "-hls_time", &seconds.to_string()])
        .args([
            "-hls_list_size",
            "0",
            "-hls_segment_filename",
            "%d.ts",
            "all.m3u8",
        ])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    dir
}

/// From 6.1 on FFmpeg's `-re` is half a second ahead of the time; older ones do not know the
/// option. (0 would mean the default.)
fn no_burst() -> &'static [&'static str] {
    let help = Command::new("ffmpeg")
        .args(["-hide_banner", "-h", "long"])
        .output()
        .unwrap();
    match String::from_utf8_lossy(&help.stdout).contains("-readrate_initial_burst") {
        true => &["-readrate_initial_burst", "0.001"],
        false => &[],
    }
}

type Io<T> = std::io::Result<T>;

impl Shared {
    fn answer(&self, stream: &TcpStream) -> Io<()> {
        stream.set_nodelay(true)?;
        let mut requests = BufReader::new(stream.try_clone()?);
        let mut request = String::new();
        requests.read_line(&mut request)?;
        let mut line = String::from(" ");
        while !line.trim_end().is_empty() {
            line.clear();
            requests.read_line(&mut line)?;
        }
        let path = request
            .split(' ')
            .nth(1)
            .unwrap_or("/")
            .trim_start_matches('/')
            .to_owned();
        let first = *self.asked.lock().unwrap().get_or_insert_with(Instant::now);
        std::thread::sleep((first + self.wakes).saturating_duration_since(Instant::now()));
        match &self.page {
            Page::Mjpeg(clip, dialect) => self.mjpeg(stream, clip, *dialect),
            Page::Snapshot(clip) => {
                let at = self.began.elapsed().as_secs_f64() * f64::from(clip.film.fps);
                let unit = &clip.units[at as usize % clip.units.len()];
                whole(stream, "image/jpeg", &unit.parts[0])
            }
            Page::Live(film, format) => self.live(stream, *film, format),
            Page::Hls(film, seconds) => self.hls(stream, *film, *seconds, &path),
        }
    }

    fn mjpeg(&self, mut stream: &TcpStream, clip: &Clip, dialect: Dialect) -> Io<()> {
        let kind = match dialect.bare {
            true => "image/jpeg",
            false => "multipart/x-mixed-replace; boundary=frame",
        };
        let encoding = if dialect.chunked {
            "Transfer-Encoding: chunked\r\n"
        } else {
            ""
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{encoding}Connection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        if dialect.first_boundary && !dialect.bare {
            put(stream, dialect, b"--frame\r\n")?;
        }
        let zero = Instant::now();
        // A pause between the two clocks makes pictures older, never of the future.
        let zero_us = unix_us() - i64::try_from(zero.elapsed().as_micros()).unwrap();
        for at in 0.. {
            let since = f64::from(at) / f64::from(clip.film.fps);
            let due = zero + Duration::from_secs_f64(since);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let place = at as usize % clip.units.len();
            let number = clip.number(place);
            let taken_us = zero_us + (since * 1e6) as i64;
            self.sent.lock().unwrap().push(Sent {
                taken_us,
                number,
                key: true,
            });
            put(
                stream,
                dialect,
                &part(&clip.units[place].parts[0], number, dialect),
            )?;
        }
        Ok(())
    }

    /// FFmpeg's remux, as fast as the film goes.
    fn live(&self, mut stream: &TcpStream, film: Film, format: &str) -> Io<()> {
        let kind = if format == "flv" {
            "video/x-flv"
        } else {
            "video/mp2t"
        };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        let mut ffmpeg = Command::new("ffmpeg")
            .args(["-hide_banner", "-nostdin", "-loglevel", "error", "-re"])
            .args(no_burst())
            .arg("-i")
            .arg(film.mp4())
            .args(["-c", "copy", "-f", format, "-flush_packets", "1", "pipe:1"])
            .stdout(Stdio::piped())
            .spawn()?;
        self.film_began(
            film,
            unix_us() - EARLY_PICTURES * 1_000_000 / i64::from(film.fps),
        );
        let mut film = ffmpeg.stdout.take().unwrap();
        let mut bytes = [0; 65536];
        let sent = loop {
            match film.read(&mut bytes) {
                Ok(0) => break Ok(()),
                Ok(read) => match stream.write_all(&bytes[..read]) {
                    Ok(()) => {}
                    Err(error) => break Err(error),
                },
                Err(error) => break Err(error),
            }
        };
        ffmpeg.kill()?;
        ffmpeg.wait()?;
        sent
    }

    fn film_began(&self, film: Film, at_us: i64) {
        let pictures = 0..u16::try_from(film.fps * film.seconds).unwrap();
        let sent = pictures.map(|picture| Sent {
            taken_us: at_us + i64::from(picture) * 1_000_000 / i64::from(film.fps),
            number: film.first + picture,
            key: false,
        });
        self.sent.lock().unwrap().extend(sent);
    }

    /// The camera began so long ago that its playlist is full.
    fn hls(&self, stream: &TcpStream, film: Film, seconds: u64, path: &str) -> Io<()> {
        let dir = self.segments.as_ref().unwrap().path();
        if path.ends_with(".ts") {
            return match std::fs::read(dir.join(path)) {
                Ok(segment) => whole(stream, "video/mp2t", &segment),
                Err(_) => refuse(stream, "404 Not Found"),
            };
        }
        let ended = LISTED + self.began.elapsed().as_secs() / seconds;
        let from = ended - LISTED;
        if self.sent.lock().unwrap().is_empty() {
            let before = i64::try_from(LISTED * seconds).unwrap() * 1_000_000;
            let began = i64::try_from(self.began.elapsed().as_micros()).unwrap();
            self.film_began(film, unix_us() - began - before);
        }
        let mut list = format!(
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:{seconds}\n#EXT-X-MEDIA-SEQUENCE:{from}\n"
        );
        for segment in from..ended {
            list += &format!("#EXTINF:{seconds}.000,\n/{segment}.ts\n");
        }
        whole(stream, "application/vnd.apple.mpegurl", list.as_bytes())
    }
}

/// One picture as this dialect has it.
fn part(jpeg: &[u8], number: u16, dialect: Dialect) -> Vec<u8> {
    let is_cut = dialect
        .cut
        .is_some_and(|every| number.is_multiple_of(every));
    let jpeg = if is_cut {
        &jpeg[..jpeg.len() / 2]
    } else {
        jpeg
    };
    let mut jpeg = match dialect.without_tables {
        true => without_tables(jpeg),
        false => jpeg.to_vec(),
    };
    if dialect.field {
        jpeg.splice(2..2, *b"\xff\xe0\x00\x0eAVI1\x01\0\0\0\0\0\0\0");
    }
    if dialect.bare {
        return jpeg;
    }
    let length = match dialect.length_off {
        None => String::new(),
        Some(off) => format!("Content-Length: {}\r\n", jpeg.len() as i64 + i64::from(off)),
    };
    let head = format!("Content-Type: image/jpeg\r\n{length}\r\n");
    [head.as_bytes(), &jpeg, b"\r\n--frame\r\n"].concat()
}

/// The same picture without its segments of Huffman tables.
fn without_tables(jpeg: &[u8]) -> Vec<u8> {
    const DHT: u8 = 0xc4;
    const SOS: u8 = 0xda;
    let (mut kept, mut rest) = (jpeg[..2].to_vec(), &jpeg[2..]);
    while rest[1] != SOS {
        let length = 2 + usize::from(u16::from_be_bytes([rest[2], rest[3]]));
        if rest[1] != DHT {
            kept.extend(&rest[..length]);
        }
        rest = &rest[length..];
    }
    kept.extend(rest);
    kept
}

fn put(mut stream: &TcpStream, dialect: Dialect, bytes: &[u8]) -> Io<()> {
    match dialect.chunked {
        true => {
            let size = format!("{:x}\r\n", bytes.len());
            stream.write_all(&[size.as_bytes(), bytes, b"\r\n"].concat())
        }
        false => stream.write_all(bytes),
    }
}

fn whole(mut stream: &TcpStream, kind: &str, body: &[u8]) -> Io<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat())
}

fn refuse(mut stream: &TcpStream, status: &str) -> Io<()> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())
}
