//! Plays a good or a faulty FFmpeg in the tests.
//!
//! The daemon runs it as `ffmpeg.path`. The input says what it plays: `fake:MODE,key=value,...`,
//! anywhere in the argument of `-i`. So a camera's URL may be `lavfi:fake:stream,fps=5` or
//! `rtsp://user:secret@127.0.0.1/fake:exit,code=3`.
//!
//! | mode | what it does |
//! |---|---|
//! | `stream` | pictures at a steady rate, for ever or `n` of them, then exit 0 |
//! | `hang` | `n` pictures, then silence, alive |
//! | `silent` | no picture ever, alive |
//! | `exit` | `n` pictures, then exits with `code` |
//! | `garbage` | random bytes, 32 KiB at a time |
//! | `truncate` | every `k`-th part ends half-way, its full length announced |
//! | `lie` | every `k`-th part announces `by` bytes too many (or too few, if negative) |
//! | `no_length` | parts without Content-length, as old builds write them |
//! | `huge` | every `k`-th picture has `huge` bytes |
//! | `stderr_flood` | streams, and writes `rate` MB/s of messages beside; 0 = as fast as stderr takes them |
//! | `leak` | streams, and takes `mb` MB of memory, `rate` MB a second |
//! | `ignore_term` | streams and ignores SIGTERM |
//! | `grandchild` | as `hang`; a process in another session holds stdout open for `hold` seconds |
//! | `trickle` | announces a picture and sends 5 bytes of it every 100 ms |
//! | `secret` | prints its whole command line on stderr and exits with 1 |
//! | `resize` | streams; every `n` pictures the size changes to `width2` x `height2` or back |
//!
//! | key | default | |
//! |---|---|---|
//! | `tag` | `cam` | the camera's name in the watermark, at best its id |
//! | `fps` | 15 | 0 = as fast as stdout takes it |
//! | `size` | 20000 | bytes of a picture |
//! | `traps` | 1 | 0 = nothing in a picture looks like the end of a part |
//! | `width`, `height` | 320, 240 | at least 64 blocks of 8x8 pixels, for the watermark |
//! | `n` (or `count`) | by mode | pictures |
//! | `burst` | 0 | so many pictures come at once at the start |
//! | `k` | 5 | |
//! | `by` | 7 | |
//! | `huge` | 20000000 | |
//! | `mb` | 100 | |
//! | `rate` | 1, 50 | of `stderr_flood`, of `leak` |
//! | `code` | 1 | |
//! | `hold` | 60 | |
//! | `ignore_term` | 0 | 1 = ignores SIGTERM, in every mode |
//! | `starts` | | a file that gets one line per start: Unix µs, process id, arguments |
//! | `after`, `then` | | from the start after `after` earlier ones in `starts` the mode is `then` |
//! | `control` | | a file: what it holds, `MODE,key=value,...`, is played instead, at once |
//! | `hardware` | | the hardware decoders that there are; see [`decoder`] |
//! | `units` | `good` | what is copied beside, if it is to be copied: `torn`, `stalled`: see [`units`] |
//!
//! SIGTERM ends it with 255 as it does FFmpeg. As in FFmpeg, the signal is not handled while a
//! write blocks. `-version` prints `$FFMPEG_TEST_VERSION`, if set, in place of 5.1's first line.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

#[path = "fake_decoder.rs"]
mod decoder;
mod fake_jpeg;
#[path = "fake_units.rs"]
mod units;

use signal_hook::consts::{SIGINT, SIGTERM};
use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// FFmpeg writes in pieces of at most this.
const PIECE: usize = 32 * 1024;
/// Comes first, and after every part.
const BOUNDARY: &[u8] = b"--ffmpeg\r\n";
/// How often a sleeper looks for SIGTERM.
const NAP: Duration = Duration::from_millis(10);

/// Why playing ends.
enum End {
    /// With this exit code.
    Exit(u8),
    /// Something else is to be played.
    Turn,
}

type Step = Result<(), End>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match input(&args) {
        Some(input) => {
            let code = Session::new(input, &args).run();
            ExitCode::from(code)
        }
        None => answer(&args),
    }
}

/// What follows `-i`.
fn input(args: &[String]) -> Option<&str> {
    let at = args.iter().position(|arg| arg == "-i")?;
    args.get(at + 1).map(String::as_str)
}

/// Questions about what this FFmpeg is and can do.
fn answer(args: &[String]) -> ExitCode {
    let has = |option: &str| args.iter().any(|arg| arg == option);
    if has("-version") {
        println!(
            "{}",
            std::env::var("FFMPEG_TEST_VERSION").unwrap_or_else(|_| {
                "ffmpeg version 5.1.9-0+deb12u1 Copyright (c) 2000-2026 the FFmpeg developers"
                    .to_owned()
            })
        );
        println!("built with gcc 12 (Debian 12.2.0-14+deb12u1)\nconfiguration: --enable-gpl");
    } else if has("-muxers") || has("-formats") {
        println!(
            "File formats:\n D. = Demuxing supported\n .E = Muxing supported\n --\n  \
             E mjpeg           raw MJPEG video\n  E mpjpeg          MIME multipart JPEG"
        );
    } else if has("-demuxers") {
        println!(
            "File formats:\n D. = Demuxing supported\n .E = Muxing supported\n --\n \
             D  lavfi           Libavfilter virtual input device\n \
             D  rtsp            RTSP input"
        );
    } else if has("-hwaccels") {
        println!("{}", decoder::METHODS);
    } else if has("-decoders") {
        println!("{}", decoder::DECODERS);
    } else if has("-encoders") {
        println!("Encoders:\n ------\n VFS..D mjpeg                MJPEG (Motion JPEG)");
    } else if has("-protocols") {
        println!(
            "Supported file protocols:\nInput:\n  file\n  http\n  https\n  rtmp\n  rtmps\n  rtp\n  \
             tcp\n  tls\n  udp\nOutput:\n  file\n  pipe"
        );
    } else if has("-h") {
        println!(
            "Demuxer rtsp [RTSP input]:\nRTSP demuxer AVOptions:\n  \
             -rtsp_transport    <flags>      ED......... set RTSP transport protocols\n  \
             -listen_timeout    <int>        .D......... set maximum timeout (in seconds) to wait \
             for incoming connections\n  \
             -timeout           <int64>      .D......... set timeout (in microseconds) of socket \
             I/O operations"
        );
    } else {
        eprintln!("At least one output file must be specified");
        return ExitCode::from(1);
    }
    ExitCode::SUCCESS
}

/// Keys of what is to be played.
type Keys = HashMap<String, String>;

/// `MODE,key=value,...`
fn parse(play: &str) -> (String, Keys) {
    let mut words = play.split(',');
    let mode = words.next().unwrap_or_default().to_owned();
    let keys = words
        .filter_map(|word| word.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    (mode, keys)
}

/// One run with an input.
struct Session {
    mode: String,
    keys: Keys,
    /// What the input itself says.
    input: (String, Keys),
    /// What the file `control` says.
    control: String,
    /// Floods stderr as long as this is so.
    flooding: Arc<AtomicBool>,
    /// Copies the stream, if it is to be copied.
    units: Option<units::Player>,
    args: Vec<String>,
    stop: Arc<AtomicBool>,
    /// Not Rust's own handle, which cuts what it gets at line ends.
    out: File,
    tag: String,
    size: usize,
    traps: bool,
    width: u16,
    height: u16,
    /// Pictures made so far.
    number: u32,
    /// When the present mode began, and the pictures made before.
    started: Instant,
    before: u32,
}

impl Session {
    fn new(input: &str, args: &[String]) -> Self {
        let (_, play) = input
            .split_once("fake:")
            .unwrap_or_else(|| panic!("the input must hold fake:MODE, not {input}"));
        let (mut mode, keys) = parse(play);
        if let Some(file) = keys.get("starts")
            && let earlier = note_start(file, args)
            && let Some(then) = keys.get("then")
            && earlier >= number(&keys, "after", 0)
        {
            mode.clone_from(then);
        }
        let mut session = Self {
            tag: String::new(),
            size: 0,
            traps: true,
            width: 0,
            height: 0,
            input: (mode, keys),
            mode: String::new(),
            keys: Keys::new(),
            control: String::new(),
            flooding: Arc::default(),
            units: units::Player::start(args),
            args: args.to_vec(),
            stop: Arc::new(AtomicBool::new(false)),
            out: File::from(std::io::stdout().as_fd().try_clone_to_owned().unwrap()),
            number: 0,
            started: Instant::now(),
            before: 0,
        };
        session.turn();
        session
    }

    /// Plays what the file `control` says, or else the input.
    fn turn(&mut self) {
        self.control = self.read_control();
        let (mode, keys) = self.input.clone();
        (self.mode, self.keys) = match self.control.as_str() {
            "" => (mode, keys),
            other => {
                let (mode, more) = parse(other);
                (mode, keys.into_iter().chain(more).collect())
            }
        };
        let keys = &self.keys;
        self.tag = keys.get("tag").map_or("cam", String::as_str).to_owned();
        self.size = number(keys, "size", 20_000);
        self.traps = number(keys, "traps", 1) == 1;
        self.width = number(keys, "width", 320);
        self.height = number(keys, "height", 240);
        (self.started, self.before) = (Instant::now(), self.number);
        self.flooding.store(false, Ordering::Relaxed);
        if let Some(units) = &self.units {
            units.play(keys.get("units").map_or("good", String::as_str));
        }
    }

    fn read_control(&self) -> String {
        let file = self.input.1.get("control");
        file.and_then(|file| std::fs::read_to_string(file).ok())
            .unwrap_or_default()
    }

    fn run(mut self) -> u8 {
        let ignores = self.mode == "ignore_term" || self.key("ignore_term", 0) == 1;
        // If SIGTERM is ignored, the flag is not read; the handler only prevents the default
        // action.
        let flag = if ignores {
            Arc::default()
        } else {
            Arc::clone(&self.stop)
        };
        for signal in [SIGTERM, SIGINT] {
            signal_hook::flag::register(signal, Arc::clone(&flag)).unwrap();
        }
        loop {
            match self.play() {
                Ok(()) => return 0,
                Err(End::Exit(code)) => return code,
                Err(End::Turn) => self.turn(),
            }
        }
    }

    fn play(&mut self) -> Step {
        if let Some(hardware) = self.keys.get("hardware")
            && let Some(code) = decoder::begin(&self.args, hardware)
        {
            return Err(End::Exit(code));
        }
        if self.args.ends_with(&["-f", "null", "-"].map(str::to_owned)) {
            // A session that only asks what the input is.
            return self.silence();
        }
        match self.mode.as_str() {
            "stream" | "ignore_term" => self.parts(self.count(u32::MAX), Self::plain),
            "hang" => {
                self.parts(self.count(0), Self::plain)?;
                self.silence()
            }
            "silent" => self.silence(),
            "exit" => {
                self.parts(self.count(0), Self::plain)?;
                Err(End::Exit(self.key("code", 1)))
            }
            "garbage" => self.garbage(),
            "truncate" => self.parts(self.count(u32::MAX), Self::truncated),
            "lie" => self.parts(self.count(u32::MAX), Self::lying),
            "no_length" => self.parts(self.count(u32::MAX), Self::without_length),
            "huge" => self.parts(self.count(u32::MAX), Self::huge),
            "stderr_flood" => {
                self.flooding = Arc::new(AtomicBool::new(true));
                std::thread::spawn({
                    let (flooding, rate) = (Arc::clone(&self.flooding), self.key("rate", 1));
                    move || flood_stderr(&flooding, rate)
                });
                self.parts(self.count(u32::MAX), Self::plain)
            }
            "leak" => {
                let (mb, rate) = (self.key("mb", 100), self.key("rate", 50));
                std::thread::spawn(move || leak(mb, rate));
                self.parts(self.count(u32::MAX), Self::plain)
            }
            "grandchild" => {
                self.grandchild();
                self.parts(self.count(0), Self::plain)?;
                self.silence()
            }
            "trickle" => self.trickle(),
            "secret" => {
                eprintln!(
                    "[in#0 @ 0x55d0] Error opening input: {}",
                    self.args.join(" ")
                );
                Err(End::Exit(1))
            }
            "resize" => self.resize(),
            other => panic!("unknown mode {other}"),
        }
    }

    /// `count` parts at the pace that is asked for.
    fn parts(&mut self, count: u32, part: fn(&mut Self) -> Vec<u8>) -> Step {
        for _ in 0..count {
            let bytes = part(self);
            self.pace()?;
            if self.number == 1 {
                self.write(BOUNDARY)?;
            }
            self.write(&bytes)?;
        }
        Ok(())
    }

    fn plain(&mut self) -> Vec<u8> {
        let jpeg = self.picture(self.size);
        framed(&jpeg, Some(jpeg.len()))
    }

    fn truncated(&mut self) -> Vec<u8> {
        let jpeg = self.picture(self.size);
        let bad = self.every_kth();
        let end = if bad { jpeg.len() / 2 } else { jpeg.len() };
        framed(&jpeg[..end], Some(jpeg.len()))
    }

    fn lying(&mut self) -> Vec<u8> {
        let jpeg = self.picture(self.size);
        let by = if self.every_kth() {
            self.key("by", 7isize)
        } else {
            0
        };
        framed(&jpeg, Some(jpeg.len().saturating_add_signed(by)))
    }

    fn without_length(&mut self) -> Vec<u8> {
        framed(&self.picture(self.size), None)
    }

    fn huge(&mut self) -> Vec<u8> {
        // The number of the picture that is about to be made.
        let bad = (self.number + 1).is_multiple_of(self.key("k", 5));
        let size = if bad {
            self.key("huge", 20_000_000)
        } else {
            self.size
        };
        let jpeg = self.picture(size);
        framed(&jpeg, Some(jpeg.len()))
    }

    fn resize(&mut self) -> Step {
        let every = self.key("n", 10);
        let mut other = (self.key("width2", 640), self.key("height2", 480));
        loop {
            self.parts(every, Self::plain)?;
            std::mem::swap(&mut self.width, &mut other.0);
            std::mem::swap(&mut self.height, &mut other.1);
        }
    }

    fn garbage(&mut self) -> Step {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        loop {
            let bytes: Vec<u8> = std::iter::repeat_with(|| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            })
            .take(PIECE)
            .collect();
            self.write(&bytes)?;
            self.sleep(Duration::from_millis(10))?;
        }
    }

    fn trickle(&mut self) -> Step {
        let part = [BOUNDARY, &self.plain()].concat();
        for piece in part.chunks(5).cycle() {
            self.write(piece)?;
            self.sleep(Duration::from_millis(100))?;
        }
        Ok(())
    }

    /// It gets our stdout, and a session, process group and parent of its own. So it survives us,
    /// and a reader of our output sees no end of file.
    fn grandchild(&self) {
        let hold: u32 = self.key("hold", 60);
        let status = Command::new("setsid")
            .args(["--fork", "sleep", &hold.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
    }

    fn silence(&self) -> Step {
        loop {
            self.sleep(Duration::from_secs(1))?;
        }
    }

    /// The next picture.
    fn picture(&mut self, size: usize) -> Vec<u8> {
        self.number += 1;
        fake_jpeg::encode(
            &self.tag,
            self.number,
            (self.width, self.height),
            size,
            self.traps,
        )
    }

    /// Whether the picture just made is to be a bad one.
    fn every_kth(&self) -> bool {
        self.number.is_multiple_of(self.key("k", 5))
    }

    /// Waits until the picture just made is due.
    fn pace(&self) -> Step {
        let fps: f64 = self.key("fps", 15.0);
        let made = self.number - self.before;
        let paced = made.saturating_sub(self.key("burst", 0).max(1));
        if fps > 0.0 {
            let due = self.started + Duration::from_secs_f64(f64::from(paced) / fps);
            self.sleep(due.saturating_duration_since(Instant::now()))?;
        }
        self.look()
    }

    fn sleep(&self, time: Duration) -> Step {
        let until = Instant::now() + time;
        loop {
            self.look()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(NAP));
        }
    }

    /// Ends the session after SIGTERM, and what is played when something else is to be.
    fn look(&self) -> Step {
        if self.stop.load(Ordering::Relaxed) {
            // FFmpeg writes this at level info, so not at a lower log level.
            if !self
                .args
                .iter()
                .any(|arg| arg == "-loglevel" || arg == "-v")
            {
                eprintln!("Exiting normally, received signal 15.");
            }
            return Err(End::Exit(255));
        }
        match self.read_control() == self.control {
            true => Ok(()),
            false => Err(End::Turn),
        }
    }

    fn write(&self, bytes: &[u8]) -> Step {
        for piece in bytes.chunks(PIECE) {
            match (&self.out).write_all(piece) {
                Ok(()) => self.look()?,
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                    eprintln!("av_interleaved_write_frame(): Broken pipe");
                    return Err(End::Exit(1));
                }
                Err(error) => panic!("stdout: {error}"),
            }
        }
        Ok(())
    }

    fn count(&self, default: u32) -> u32 {
        self.key("n", self.key("count", default))
    }

    fn key<T: std::str::FromStr>(&self, key: &str, default: T) -> T {
        number(&self.keys, key, default)
    }
}

fn number<T: std::str::FromStr>(keys: &HashMap<String, String>, key: &str, default: T) -> T {
    match keys.get(key) {
        Some(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{key}={text} is no such number")),
        None => default,
    }
}

/// One part as FFmpeg's mpjpeg muxer writes it: the boundary stands at its end, and once before the
/// first one.
fn framed(jpeg: &[u8], length: Option<usize>) -> Vec<u8> {
    let mut out = Vec::with_capacity(jpeg.len() + 80);
    out.extend(b"Content-type: image/jpeg\r\n");
    if let Some(length) = length {
        out.extend(format!("Content-length: {length}\r\n").bytes());
    }
    out.extend(b"\r\n");
    out.extend(jpeg);
    out.extend(b"\r\n");
    out.extend(BOUNDARY);
    out
}

/// Adds a line to the file of starts; returns how many there were.
fn note_start(file: &str, args: &[String]) -> usize {
    let earlier = std::fs::read_to_string(file).map_or(0, |text| text.lines().count());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let line = format!(
        "{} {} {}\n",
        now.as_micros(),
        std::process::id(),
        args.join(" ")
    );
    let mut file = File::options()
        .create(true)
        .append(true)
        .open(file)
        .unwrap();
    file.write_all(line.as_bytes()).unwrap();
    earlier
}

fn flood_stderr(flooding: &AtomicBool, rate: u32) {
    let line = format!("[mjpeg @ 0x55d0] {}\n", "overread 8 ".repeat(9));
    let lines = line.repeat(10_000 / line.len());
    while flooding.load(Ordering::Relaxed) {
        eprint!("{lines}");
        if let Some(nap) = Duration::from_millis(10).checked_div(rate) {
            std::thread::sleep(nap);
        }
    }
}

fn leak(mb: usize, rate: u32) {
    let mut leaked = Vec::new();
    for _ in 0..mb {
        // Not zeros, for which the kernel would allocate no memory.
        leaked.push(std::hint::black_box(vec![1u8; 1_000_000]));
        std::thread::sleep(Duration::from_secs(1) / rate);
    }
    std::thread::park();
}
