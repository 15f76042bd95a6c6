//! The load generator: stands in for FFmpeg and its camera, as `ffmpeg.path`.
//!
//! Its input is `bench:camera=N,fps=F,of=CAMERAS,cpus=0+1,file=PICTURE`: that picture without end,
//! with a stamp in each, written as FFmpeg does. `fps=0`: as fast as the reader takes them. The
//! cameras of a run take their pictures at different moments, like real ones.

use super::case::CAMERA_FPS;
use super::stamp::{self, Stamp};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// FFmpeg writes in pieces of at most this.
const PIECE: usize = 32 * 1024;
const BOUNDARY: &[u8] = b"--ffmpeg\r\n";

/// A camera does not wait for its reader: a picture that is written later than this is stamped with
/// the moment at which it was due. (Above a camera's rate, a picture is stamped when it is
/// written.)
const LATE: Duration = Duration::from_millis(20);

/// One camera's input. `cpus` are the processors of the load; the measured program has others.
pub fn input(camera: usize, of: usize, fps: u32, cpus: Option<&str>, picture: &str) -> String {
    let cpus = cpus.unwrap_or_default().replace(',', "+");
    format!("bench:camera={camera},fps={fps},of={of},cpus={cpus},file={picture}")
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
pub fn play(input: &str) {
    let key = |name: &str| {
        input
            .split(',')
            .find_map(|word| word.split_once('=').filter(|(key, _)| *key == name))
            .unwrap()
            .1
    };
    let (camera, fps): (u32, u32) = (key("camera").parse().unwrap(), key("fps").parse().unwrap());
    let of: u32 = key("of").parse().unwrap();
    stay_on(key("cpus"));
    let jpeg = stamp::make_room(&std::fs::read(key("file")).unwrap());
    let head = format!(
        "Content-type: image/jpeg\r\nContent-length: {}\r\n\r\n",
        jpeg.len()
    );
    let picture = head.len()..head.len() + jpeg.len();
    let mut part = [head.as_bytes(), &jpeg, b"\r\n", BOUNDARY].concat();
    // Not Rust's own handle, which cuts what it gets at line ends.
    let mut out = File::from(std::io::stdout().as_fd().try_clone_to_owned().unwrap());
    let mut write = |bytes: &[u8]| {
        bytes
            .chunks(PIECE)
            .try_for_each(|piece| out.write_all(piece))
    };
    if write(BOUNDARY).is_err() {
        return;
    }
    let start = Instant::now();
    for number in 1.. {
        let mut late = Duration::ZERO;
        if fps > 0 {
            let phase = f64::from(camera) / f64::from(of);
            let due =
                start + Duration::from_secs_f64((f64::from(number - 1) + phase) / f64::from(fps));
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            late = Instant::now().saturating_duration_since(due);
            if late < LATE || fps > CAMERA_FPS {
                late = Duration::ZERO;
            }
        }
        let taken = stamp::now_us() - i64::try_from(late.as_micros()).unwrap();
        Stamp {
            camera,
            number,
            taken,
        }
        .write(&mut part[picture.clone()]);
        if write(&part).is_err() {
            return;
        }
    }
}
