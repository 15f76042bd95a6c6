//! What a played RTSP camera says of its streams.

use crate::clip::Codec;
use crate::rtsp::Play;

/// The answer to DESCRIBE.
pub fn sdp(play: &Play) -> String {
    let mut out = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n\
                   a=control:*\r\n"
        .to_owned();
    if play.streams.is_empty() {
        out += "m=audio 0 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=control:track0\r\n";
    }
    for (index, clips) in play.streams.iter().enumerate() {
        let sets: Vec<_> = clips[0].parameter_sets().into_iter().map(base64).collect();
        let (name, format) = match (clips[0].film.codec, play.sprop) {
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
