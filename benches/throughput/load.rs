//! The load generator: stands in for FFmpeg and its camera, as `ffmpeg.path`.
//!
//! Its input is `bench:camera=N,fps=F,of=CAMERAS,cpus=0+1,file=PICTURE`: that picture without end,
//! with a stamp in each, written as FFmpeg does. `fps=0`: as fast as the reader takes them. The
//! cameras of a run take their pictures at different moments, like real ones.
//!
//! With `unit=BYTES` in place of the file these are H.264 access units of that size. They go to the
//! two paths that follow `-f framecrc` and `-f data` in the arguments, as from an FFmpeg that
//! copies a stream.

use super::case::CAMERA_FPS;
use super::stamp::{self, Stamp};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// FFmpeg writes in pieces of at most this.
const PIECE: usize = 32 * 1024;
const BOUNDARY: &[u8] = b"--ffmpeg\r\n";

/// A camera does not wait for its reader: a picture that is written later than this is stamped with
/// the moment at which it was due. (Above a camera's rate, a picture is stamped when it is
/// written.)
const LATE: Duration = Duration::from_millis(20);

/// Units from one key unit to the next: 2 s of most cameras.
const GOP: u32 = 30;

/// What each unit begins with: a NAL unit with supplemental information, which holds the stamp.
const BEFORE_STAMP: &[u8] = &[0, 0, 0, 1, 6, 5];

/// One camera's input. `cpus` are the processors of the load; the measured program has others.
/// `content` is `file=PICTURE` or `unit=BYTES`.
pub fn input(camera: usize, of: usize, fps: u32, cpus: Option<&str>, content: &str) -> String {
    let cpus = cpus.unwrap_or_default().replace(',', "+");
    format!("bench:camera={camera},fps={fps},of={of},cpus={cpus},{content}")
}

/// Whether this input is one of units.
pub fn is_of_units(input: &str) -> bool {
    input.contains(",unit=")
}

/// Arguments that make this program play `input` to these paths: an index, and the units.
pub fn copy_arguments<'a>(input: &'a str, [index, bytes]: [&'a str; 2]) -> [&'a str; 8] {
    ["-i", input, "-f", "framecrc", index, "-f", "data", bytes]
}

/// Confines this process to these processors, if any are named.
pub fn stay_on(cpus: &str) {
    let mut set = CpuSet::new();
    cpus.split([',', '+'])
        .filter_map(|cpu| cpu.parse().ok())
        .for_each(|cpu| set.set(cpu));
    if set.count() > 0 {
        let _ = sched_setaffinity(None, &set);
    }
}

/// What follows `-i`, if this is a call as FFmpeg.
pub fn wanted(args: &[String]) -> Option<&str> {
    let at = args.iter().position(|arg| arg == "-i")?;
    let (_, play) = args.get(at + 1)?.split_once("bench:")?;
    Some(play)
}

/// Answers a question about what this FFmpeg is, if it is one.
pub fn answer(args: &[String]) -> bool {
    let asks = |what: &str| args.iter().any(|arg| arg == what);
    if asks("-version") {
        println!("ffmpeg version 5.1 Copyright (c) the load generator of `make bench`");
    } else if asks("-muxers") {
        println!("File formats:\n --\n  E mpjpeg          MIME multipart JPEG");
    } else {
        return false;
    }
    true
}

/// Plays until the reader has closed the pipe.
pub fn play(args: &[String], input: &str) {
    let key = |name: &str| {
        input
            .split(',')
            .find_map(|word| word.split_once('=').filter(|(key, _)| *key == name))
            .map(|(_, value)| value)
    };
    let number = |name: &str| key(name).unwrap().parse::<u32>().unwrap();
    stay_on(key("cpus").unwrap());
    let pace = Pace {
        camera: number("camera"),
        of: number("of"),
        fps: number("fps"),
        start: Instant::now(),
    };
    // Its end is that of the reader.
    let _ = match key("file") {
        Some(file) => play_pictures(&pace, &std::fs::read(file).unwrap()),
        None => play_units(&pace, number("unit") as usize, args),
    };
}

/// When a camera takes its pictures.
struct Pace {
    camera: u32,
    of: u32,
    fps: u32,
    start: Instant,
}

impl Pace {
    /// Waits until picture `number` is due, and returns its stamp.
    fn wait(&self, number: u32) -> Stamp {
        let mut late = Duration::ZERO;
        let Self { fps, camera, .. } = *self;
        if fps > 0 {
            let phase = f64::from(camera) / f64::from(self.of);
            let after = (f64::from(number - 1) + phase) / f64::from(fps);
            let due = self.start + Duration::from_secs_f64(after);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            late = Instant::now().saturating_duration_since(due);
            if late < LATE || fps > CAMERA_FPS {
                late = Duration::ZERO;
            }
        }
        Stamp {
            camera,
            number,
            taken: stamp::now_us() - i64::try_from(late.as_micros()).unwrap(),
        }
    }
}

fn play_pictures(pace: &Pace, picture: &[u8]) -> io::Result<()> {
    let jpeg = stamp::make_room(picture);
    let head = format!(
        "Content-type: image/jpeg\r\nContent-length: {}\r\n\r\n",
        jpeg.len()
    );
    let picture = head.len()..head.len() + jpeg.len();
    let mut part = [head.as_bytes(), &jpeg, b"\r\n", BOUNDARY].concat();
    // Not Rust's own handle, which cuts what it gets at line ends.
    let mut out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    write(&mut out, BOUNDARY)?;
    for number in 1.. {
        pace.wait(number).write(&mut part[picture.clone()]);
        write(&mut out, &part)?;
    }
    Ok(())
}

fn play_units(pace: &Pace, bytes: usize, args: &[String]) -> io::Result<()> {
    let output = |format: &str| {
        let at = args.windows(2).position(|pair| pair == ["-f", format]);
        let path = at.and_then(|at| args.get(at + 2));
        let path = path.unwrap_or_else(|| panic!("no output of {format} in {args:?}"));
        OpenOptions::new().write(true).open(path)
    };
    let (mut index, mut data) = (output("framecrc")?, output("data")?);
    index.write_all(HEADER.as_bytes())?;
    let (mut key, mut other) = (unit(KEY_UNIT, bytes), unit(OTHER_UNIT, bytes));
    let mut line = String::new();
    for number in 1.. {
        let is_key = number % GOP == 1;
        let unit = if is_key { &mut key } else { &mut other };
        let stamp = pace.wait(number);
        stamp.write(unit);
        line.clear();
        let (time, flags) = (
            i64::from(number) * 90_000 / i64::from(pace.fps.max(1)),
            if is_key { "" } else { ", F=0x0" },
        );
        let _ = writeln!(
            line,
            "0, {time:10}, {time:10}, {:8}, {bytes:8}, 0x12a5ba3f{flags}",
            90_000 / pace.fps.max(1)
        );
        index.write_all(line.as_bytes())?;
        write(&mut data, unit)?;
    }
    Ok(())
}

/// Writes in FFmpeg's pieces.
fn write(out: &mut File, bytes: &[u8]) -> io::Result<()> {
    bytes
        .chunks(PIECE)
        .try_for_each(|piece| out.write_all(piece))
}

const HEADER: &str = "#software: Lavf59.27.100
#tb 0: 1/90000
#media_type 0: video
#codec_id 0: h264
#dimensions 0: 1920x1080
#sar 0: 1/1
";

/// Parameter sets and the start of a slice.
const KEY_UNIT: &[u8] = &[
    0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x28, 0xda, 1, 0xe0, 0x08, 0x9f, 0x97, 1, 0x10, //
    0, 0, 0, 1, 0x68, 0xce, 0x0f, 0xc8, //
    0, 0, 0, 1, 0x65,
];
const OTHER_UNIT: &[u8] = &[0, 0, 0, 1, 0x41];

/// A unit of this size, with room for a stamp. What is in its slice does not matter.
fn unit(content: &[u8], bytes: usize) -> Vec<u8> {
    let mut unit = [BEFORE_STAMP, &[b'0'; stamp::LENGTH], &[0x80], content].concat();
    unit.resize(bytes, 0x5a);
    unit
}
