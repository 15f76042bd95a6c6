//! The played cameras themselves are right: plain FFmpeg reads every picture whole.

use crate::clip::{Clip, Codec, Film};
use crate::picture::{self, Chroma, Look, Matrix};
use crate::rtsp::{Camera, Join, Play};
use crate::support::jpeg;
use crate::trial::ffmpeg;
use std::process::Command;
use std::sync::Arc;

fn words(text: &str) -> std::str::Split<'_, char> {
    text.split(' ')
}

/// The first pictures of a camera by FFmpeg alone, as JPEGs of FFmpeg's best quality.
#[track_caller]
fn pictures(url: &str, transport: &str, n: usize) -> Vec<jpeg::Picture> {
    let output = Command::new(ffmpeg())
        .args(words(
            "-hide_banner -nostdin -loglevel error -rtsp_transport",
        ))
        .args([transport, "-i", url, "-frames:v", &n.to_string()])
        // By their count: the stamps of a stream's first pictures may be equal.
        .args(words("-fps_mode passthrough -enc_time_base 1:90000 -vf"))
        .arg("settb=1/90000,setpts=N*6000,scale=out_color_matrix=bt601:out_range=pc")
        .args(words(
            "-pix_fmt yuvj444p -c:v mjpeg -q:v 2 -f image2pipe pipe:1",
        ))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let jpegs = crate::clip::jpegs(&output.stdout);
    assert_eq!(jpegs.len(), n, "{said}");
    jpegs
        .iter()
        .map(|unit| jpeg::decode(&unit.parts[0]).unwrap())
        .collect()
}

/// Every picture is whole, and follows the one before.
#[track_caller]
fn are_whole(clips: &[Arc<Clip>], pictures: &[jpeg::Picture]) {
    let mut worst: (f64, f64) = (0.0, 0.0);
    let mut last = None;
    for picture in pictures {
        let number = picture::number(picture).expect("a number");
        assert!(
            last.is_none_or(|last| number > last),
            "{number} after {last:?}"
        );
        last = Some(number);
        let at = |clip: &&Arc<Clip>| {
            u32::from(number - clip.film.first) < clip.film.fps * clip.film.seconds
        };
        let look = clips
            .iter()
            .rev()
            .filter(|clip| clip.film.first <= number)
            .find(at)
            .unwrap()
            .film
            .look;
        worst.0 = worst.0.max(look.worst_block(number, picture));
        worst.1 = worst.1.max(look.colour_error(picture));
    }
    // Far from what counts as damage, and below what a colour may be off.
    assert!(
        worst.0 < 8.0 && worst.1 < 3.5,
        "a block is off by {}, a patch by {}",
        worst.0,
        worst.1
    );
}

#[test]
fn a_clip_is_read_whole_over_tcp_and_udp() {
    for codec in [Codec::H264, Codec::H265] {
        let clip = Film {
            codec,
            ..Film::H264
        }
        .clip();
        for transport in ["tcp", "udp"] {
            let camera = Camera::start(Play::new([clip.clone()]));
            are_whole(
                std::slice::from_ref(&clip),
                &pictures(&camera.url(), transport, 20),
            );
            assert_eq!(camera.asked().last().unwrap(), "TEARDOWN");
        }
    }
}

#[test]
#[ignore = "make cameras"]
fn every_look_is_read_in_its_colours() {
    for codec in [Codec::H264, Codec::H265] {
        for matrix in [Matrix::Bt601, Matrix::Bt709] {
            for full_range in [false, true] {
                for chroma in [Chroma::C420, Chroma::C422, Chroma::C444] {
                    let look = Look {
                        matrix,
                        full_range,
                        chroma,
                        ..Look::SMALL
                    };
                    let clip = Film {
                        codec,
                        look,
                        ..Film::H264
                    }
                    .clip();
                    let camera = Camera::start(Play::new([clip.clone()]));
                    are_whole(
                        std::slice::from_ref(&clip),
                        &pictures(&camera.url(), "tcp", 5),
                    );
                }
            }
        }
    }
}

#[test]
#[ignore = "make cameras"]
fn a_session_that_joins_in_the_middle_has_no_keyframe_at_first() {
    let clip = Film {
        interval: 30,
        ..Film::H264
    }
    .clip();
    let camera = Camera::start(Play {
        join: Join::Middle(1.0),
        ..Play::new([clip.clone()])
    });
    are_whole(
        std::slice::from_ref(&clip),
        &pictures(&camera.url(), "tcp", 10),
    );
    let sent = camera.sent();
    assert!(
        !sent[0].key && (15..18).contains(&sent[0].number),
        "{:?}",
        sent[0]
    );
}
