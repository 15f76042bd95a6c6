//! What a played RTSP camera says of its streams.

use crate::clip::{Clip, Codec};
use crate::rtsp::Play;
use std::sync::Arc;

/// The answer to DESCRIBE, of a camera that has been playing for so many seconds.
pub fn sdp(play: &Play, played: f64) -> String {
    let mut out = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n\
                   a=control:*\r\n"
        .to_owned();
    if play.streams.is_empty() {
        out += "m=audio 0 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=control:track0\r\n";
    }
    for (index, clips) in play.streams.iter().enumerate() {
        let clip = current(clips, played);
        let sets: Vec<_> = clip.parameter_sets().into_iter().map(base64).collect();
        let (name, format) = match (clip.film.codec, play.sprop) {
            (Codec::H264, true) => {
                let sets = sets.join(",");
                (
                    "H264",
                    format!("packetization-mode=1;sprop-parameter-sets={sets}"),
                )
            }
            (Codec::H264, false) => ("H264", "packetization-mode=1".to_owned()),
            (_, true) => {
                let [vps, sps, pps] = &sets[..] else {
                    panic!("{} parameter sets", sets.len())
                };
                (
                    "H265",
                    format!("sprop-vps={vps};sprop-sps={sps};sprop-pps={pps}"),
                )
            }
            (_, false) => ("H265", "profile-id=1".to_owned()),
        };
        out += &format!(
            "m=video 0 RTP/AVP 96\r\na=rtpmap:96 {name}/90000\r\na=fmtp:96 {format}\r\n\
             a=control:track{index}\r\n"
        );
    }
    out
}

/// The clip that is played then.
fn current(clips: &[Arc<Clip>], played: f64) -> &Clip {
    let lasts = |clip: &Clip| clip.units.len() as f64 / f64::from(clip.film.fps);
    let all: f64 = clips.iter().map(|clip| lasts(clip)).sum();
    let mut left = played % all;
    for clip in clips {
        if left < lasts(clip) {
            return clip;
        }
        left -= lasts(clip);
    }
    &clips[0]
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let n = chunk
            .iter()
            .chain([0, 0].iter())
            .take(3)
            .fold(0, |n, b| n << 8 | usize::from(*b));
        for digit in 0..4 {
            let known = digit <= chunk.len();
            text.push(if known {
                DIGITS[n >> (18 - 6 * digit) & 63].into()
            } else {
                '='
            });
        }
    }
    text
}
