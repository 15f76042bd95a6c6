//! What FFmpeg really writes.

use super::*;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs FFmpeg in `folder`.
fn ffmpeg(folder: &Path, arguments: &str) {
    let mut command = Command::new("ffmpeg");
    command
        .current_dir(folder)
        .args(["-nostdin", "-loglevel", "error", "-y"]);
    let output = command.args(arguments.split_whitespace()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {said}");
}

/// A folder with a clip of 30 pictures with B frames, and a key picture each 10.
struct Clip(PathBuf);

impl Clip {
    fn new(encoder: &str, options: &str) -> Self {
        let name = format!("edge-video-units-{encoder}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let clip = Self(folder);
        let source = "-f lavfi -i testsrc2=size=160x120:rate=15 -frames:v 30";
        ffmpeg(
            &clip.0,
            &format!("{source} -c:v {encoder} -bf 2 -g 10 {options} clip.mp4"),
        );
        clip
    }

    /// Index and bytes, as a session has them.
    fn copy(&self, filters: &str) -> (Vec<u8>, Vec<u8>) {
        let copy = format!("-map 0:v:0 -c copy -bsf:v {filters} -flush_packets 1");
        ffmpeg(
            &self.0,
            &format!("-i clip.mp4 {copy} -f framecrc index {copy} -f data bytes"),
        );
        (self.read("index"), self.read("bytes"))
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.join(name)).unwrap()
    }
}

impl Drop for Clip {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Cuts in several ways.
fn cut_all(index: &[u8], bytes: &[u8]) -> Vec<Cut> {
    let cut = |reads: &[usize]| cut_in(&mut Units::new(MAX), index, bytes, reads);
    let (parts, error) = cut(&[usize::MAX]);
    assert_eq!(error, None);
    for reads in [&[1][..], &[40, 1000, 7], &[4096, 65536]] {
        assert!(cut(reads) == (parts.clone(), None), "{reads:?}");
    }
    parts
}

fn keys(parts: &[Cut]) -> Vec<usize> {
    let is_key = |part: &Cut| matches!(part, Cut::Unit { key: true, .. });
    (0..parts.len()).filter(|at| is_key(&parts[*at])).collect()
}

#[test]
fn the_units_are_byte_for_byte_what_ffmpeg_copies_with_b_frames() {
    if Command::new("ffmpeg").arg("-version").output().is_err() {
        eprintln!("skipped: no ffmpeg here");
        return;
    }
    for (encoder, options, codec, muxer) in [
        ("libx264", "-sc_threshold 0", Codec::H264, "h264"),
        (
            "libx265",
            "-x265-params log-level=none:scenecut=0:open-gop=0",
            Codec::H265,
            "hevc",
        ),
    ] {
        let clip = Clip::new(encoder, options);
        let filters = format!("{muxer}_mp4toannexb,dump_extra=freq=keyframe");
        let (index, bytes) = clip.copy(&filters);
        let parts = cut_all(&index, &bytes);
        ffmpeg(
            &clip.0,
            &format!("-i clip.mp4 -c copy -bsf:v {filters} -f {muxer} copy"),
        );
        let together: Vec<_> = parts.iter().flat_map(Cut::bytes).copied().collect();
        assert!(together == clip.read("copy"), "{muxer}");
        assert_eq!(parts.len(), 30);
        assert_eq!(keys(&parts), [0, 10, 20]);
        let times = parts.iter().map(|part| match part {
            Cut::Unit {
                dts_us,
                pts_us,
                format,
                ..
            } => {
                assert_eq!(*format, (codec, 160, 120));
                (dts_us.unwrap(), *pts_us)
            }
            Cut::Oversize { .. } => panic!("oversize"),
        });
        let (dts, mut pts): (Vec<_>, Vec<_>) = times.unzip();
        assert!(dts.is_sorted() && !pts.is_sorted());
        pts.sort_unstable();
        let expected = (0..30).map(|number| number * 1_000_000 / 15);
        assert!(pts.into_iter().eq(expected));

        let (index, bytes) = clip.copy("dump_extra=freq=keyframe");
        let (parts, error) = cut_in(&mut Units::new(MAX), &index, &bytes, &[1000]);
        assert_eq!(
            (parts, error),
            (vec![], Some(UnitError::LengthPrefixed(codec)))
        );
    }
}

/// Written by FFmpeg 7.1 from clips of 10 pictures of 64x48 with B frames: index, and the copy by
/// its H.264 or H.265 muxer.
#[test]
fn the_units_are_byte_for_byte_what_ffmpeg_7_copies() {
    for (index, copy, codec, expected) in [
        (
            &include_bytes!("recorded/ffmpeg-7.1-h264.index")[..],
            &include_bytes!("recorded/ffmpeg-7.1-h264.bytes")[..],
            Codec::H264,
            [0, 5],
        ),
        (
            include_bytes!("recorded/ffmpeg-7.1-hevc.index"),
            include_bytes!("recorded/ffmpeg-7.1-hevc.bytes"),
            Codec::H265,
            [0, 3],
        ),
    ] {
        let parts = cut_all(index, copy);
        let together: Vec<_> = parts.iter().flat_map(Cut::bytes).copied().collect();
        assert!(together == copy);
        assert_eq!((parts.len(), keys(&parts)), (10, expected.to_vec()));
        let known =
            |part: &Cut| matches!(part, Cut::Unit { format, .. } if *format == (codec, 64, 48));
        assert!(parts.iter().all(known));
    }
}
