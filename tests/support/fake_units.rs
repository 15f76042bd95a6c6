//! Plays FFmpeg's copy of a camera's H.264: 15 access units a second, a key unit each 15, written
//! to the two paths that the arguments name: of the index (`framecrc`) and of the bytes (`data`).
//!
//! | play | what it does |
//! |---|---|
//! | `good` | goes on for ever |
//! | `torn` | a line of the index breaks off in its middle, and the next one follows |
//! | `stalled` | half of a unit's bytes come, and then nothing more of both |
//!
//! The bytes look like H.264 from outside, and no decoder can decode them.

use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const FPS: u32 = 15;
const GOP: u64 = 15;
const KEY_BYTES: usize = 12_000;
const BYTES: usize = 1_500;

/// What is copied is on a thread of its own, which ends with the process.
pub struct Player(Arc<Mutex<String>>);

impl Player {
    /// If these arguments want a copy.
    pub fn start(args: &[String]) -> Option<Self> {
        let path = |format: &str| {
            let at = args
                .windows(2)
                .position(|two| two[0] == "-f" && two[1] == format)?;
            let mut path = File::options();
            path.write(true).open(args.get(at + 2)?).ok()
        };
        let (index, bytes) = (path("framecrc")?, path("data")?);
        let play = Arc::new(Mutex::new("good".to_owned()));
        let shared = Arc::clone(&play);
        thread::spawn(move || copy(index, bytes, &shared));
        Some(Self(play))
    }

    pub fn play(&self, play: &str) {
        play.clone_into(&mut self.0.lock().unwrap());
    }
}

/// Ends when a pipe does.
fn copy(mut index: File, mut bytes: File, play: &Mutex<String>) -> Option<()> {
    let header = "#tb 0: 1/90000\n#media_type 0: video\n#codec_id 0: h264\n\
                  #dimensions 0: 320x240\n#sar 0: 1/1\n";
    index.write_all(header.as_bytes()).ok()?;
    let (started, mut tore) = (Instant::now(), false);
    for n in 0.. {
        let due = started + Duration::from_secs(n) / FPS;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let play = play.lock().unwrap().clone();
        let unit = unit(n);
        let flags = if n % GOP == 0 { "" } else { ", F=0x0" };
        let time = n * 90_000 / u64::from(FPS);
        let line = format!(
            "0, {time:10}, {time:10},     6000, {:8}, 0x12345678{flags}\n",
            unit.len()
        );
        let torn = play == "torn" && !std::mem::replace(&mut tore, true);
        let whole = if torn { 20 } else { line.len() };
        index.write_all(&line.as_bytes()[..whole]).ok()?;
        if play == "stalled" {
            bytes.write_all(&unit[..unit.len() / 2]).ok()?;
            loop {
                thread::park();
            }
        }
        bytes.write_all(&unit).ok()?;
    }
    None
}

/// A unit that tells its number.
fn unit(n: u64) -> Vec<u8> {
    let start = [0, 0, 0, 1];
    let key = n.is_multiple_of(GOP);
    let mut unit = vec![];
    if key {
        // Parameter sets: the same in each.
        for set in [[0x67, 0x42, 0xc0, 0x1e], [0x68, 0xce, 0x3c, 0x80]] {
            unit.extend(start);
            unit.extend(set);
        }
    }
    unit.extend(start);
    unit.push(if key { 0x65 } else { 0x41 });
    // No byte is 0, so that nothing looks like a start code.
    unit.extend(n.to_be_bytes().map(|byte| byte | 0x80));
    unit.resize(if key { KEY_BYTES } else { BYTES }, 0xaa);
    unit
}
