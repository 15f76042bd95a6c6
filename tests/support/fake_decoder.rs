//! Plays FFmpeg's hardware decoders: those that the key `hardware` names, separated by `+`, work; a
//! session with any other dies as the real FFmpeg 5.1 does on a machine without it, with the words
//! and the code that `src/capture/decode/refusals.txt` has of it.

use std::time::Duration;

const REFUSALS: &str = include_str!("../../src/capture/decode/refusals.txt");

/// How long FFmpeg 5.1 lives then.
const LIVES: Duration = Duration::from_millis(100);

/// What `-hwaccels` answers.
pub const METHODS: &str =
    "Hardware acceleration methods:\nvdpau\ncuda\nvaapi\nqsv\ndrm\nopencl\nvulkan";

/// What `-decoders` answers, shortened.
pub const DECODERS: &str = "Decoders:\n V..... = Video\n ------\n VFS..D h264                 H.264\n \
     V..... h264_v4l2m2m         V4L2 mem2mem H.264 decoder wrapper (codec h264)\n \
     V....D h264_qsv             H264 video (Intel Quick Sync Video acceleration) (codec h264)";

/// The hardware decoder that the arguments ask for.
fn asked(args: &[String]) -> Option<&str> {
    let after = |option: &str| {
        let at = args.iter().position(|arg| arg == option)?;
        args.get(at + 1).map(String::as_str)
    };
    after("-hwaccel").or_else(|| after("-c:v")?.ends_with("_v4l2m2m").then_some("v4l2m2m"))
}

/// What FFmpeg says of the input and its decoder, and the code with which it exits, if it does.
pub fn begin(args: &[String], hardware: &str) -> Option<u8> {
    let asked = asked(args);
    if asked != Some("rkmpp") {
        eprintln!("[info] Input #0, rtsp, from 'fake':");
        eprintln!(
            "[info]   Stream #0:0: Video: h264 (Main), yuv420p(progressive), 320x240, 15 fps"
        );
    }
    let asked = asked.filter(|asked| !hardware.split('+').any(|it| it == *asked))?;
    std::thread::sleep(LIVES);
    let head = format!("== {asked}, FFmpeg 5.1: exit code ");
    let (_, case) = REFUSALS.split_once(&head).expect("a decoder of the list");
    let (case, _) = case.split_once("\n= ").unwrap();
    let (code, lines) = case.split_once('\n').unwrap();
    for line in lines.lines() {
        match line.split_once("] ") {
            Some((origin, text)) => eprintln!("{origin} @ 0x55d0c1] [error] {text}"),
            None => eprintln!("[error] {line}"),
        }
    }
    Some(code.parse().unwrap())
}
