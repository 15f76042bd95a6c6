//! What the installed FFmpeg can do on this machine, for `edge-video probe`.

use super::installed::Ffmpeg;
use crate::shutdown::Stop;
use std::path::Path;

/// The codecs that cameras send.
const CODECS: [&str; 3] = ["h264", "hevc", "mjpeg"];

/// Ways to decode in hardware that are tried, if FFmpeg is built with them.
const METHODS: [&str; 7] = ["vaapi", "qsv", "cuda", "drm", "vdpau", "vulkan", "rkmpp"];

/// Where there may be a device for `drm`; FFmpeg looks for it in none of them by itself.
const DRM_DEVICES: [&str; 2] = ["/dev/dri/card0", "/dev/dri/card1"];

/// What the installed FFmpeg can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Abilities {
    /// Its release, for instance `5.1.9-0+deb12u1`.
    pub version: String,
    /// Its decoders for H.264, H.265 and MJPEG, such as `h264` and `h264_v4l2m2m`.
    pub decoders: Vec<String>,
    /// Hardware that has been tried.
    pub tried: Vec<String>,
    /// Hardware that can be used; some of `tried`.
    pub answering: Vec<String>,
    codecs: Vec<String>,
}

impl Abilities {
    /// Asks FFmpeg, and tries each hardware.
    ///
    /// # Errors
    /// A sentence for the user if FFmpeg does not run.
    pub fn of(ffmpeg: &Ffmpeg, stop: &Stop) -> Result<Self, String> {
        // Refuses what is not FFmpeg.
        ffmpeg.version(stop)?;
        let ask = |question| ffmpeg.ask(stop, &["-hide_banner", question]);
        let (version, _) = ffmpeg.ask(stop, &["-version"])?;
        let (decoders, _) = ask("-decoders")?;
        let (methods, _) = ask("-hwaccels")?;
        let decoders = video_decoders(&decoders);
        let tried = methods_to_try(&methods, |path| Path::new(path).exists());
        let mut answering = Vec::new();
        for (method, device) in &tried {
            // Only a device that opens lets FFmpeg come as far as its output.
            let (output, _) = ffmpeg.ask(
                stop,
                &[
                    "-hide_banner",
                    "-init_hw_device",
                    device,
                    "-f",
                    "lavfi",
                    "-i",
                    "color=size=16x16:duration=0.04",
                    "-f",
                    "framecrc",
                    "pipe:1",
                ],
            )?;
            if !output.is_empty() && !answering.contains(method) {
                answering.push(method.clone());
            }
        }
        let mut tried: Vec<_> = tried.into_iter().map(|(method, _)| method).collect();
        tried.dedup();
        let usual = |it: &&(String, String)| CODECS.contains(&&*it.1);
        let names = decoders.iter().filter(usual).map(|it| it.0.clone());
        Ok(Self {
            version: release(&version),
            decoders: names.collect(),
            tried,
            answering,
            codecs: decoders.into_iter().map(|it| it.1).collect(),
        })
    }

    /// Whether video of this codec, in FFmpeg's name, can be decoded.
    pub fn can_decode(&self, codec: &str) -> bool {
        self.codecs.iter().any(|known| known == codec)
    }
}

/// `5.1.9-0+deb12u1` of `ffmpeg version 5.1.9-0+deb12u1 Copyright (c) ...`.
fn release(text: &str) -> String {
    let mut words = text.lines().next().unwrap_or_default().split(' ').skip(2);
    words.next().unwrap_or_default().to_owned()
}

/// Name and codec of each video decoder that FFmpeg lists.
fn video_decoders(text: &str) -> Vec<(String, String)> {
    let decoder = |line: &str| {
        let (flags, rest) = line.trim_start().split_once(' ')?;
        let (name, description) = rest.split_once(' ')?;
        if !flags.starts_with('V') || name == "=" {
            return None;
        }
        // A decoder that is not called as its codec names it.
        let codec = description.trim_end().rsplit_once("(codec ");
        let codec = codec.and_then(|(_, codec)| codec.strip_suffix(')'));
        Some((name.to_owned(), codec.unwrap_or(name).to_owned()))
    };
    text.lines().filter_map(decoder).collect()
}

/// Of the methods that FFmpeg lists those to try, each with the device to open.
fn methods_to_try(text: &str, exists: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let listed = |method: &&str| text.lines().any(|line| line.trim() == *method);
    let devices = |method: &'static str| match method {
        "drm" => {
            let devices = DRM_DEVICES.into_iter().filter(|path| exists(path));
            devices.map(|path| format!("drm=drm:{path}")).collect()
        }
        _ => vec![method.to_owned()],
    };
    METHODS
        .into_iter()
        .filter(listed)
        .flat_map(|method| {
            devices(method)
                .into_iter()
                .map(|it| (method.to_owned(), it))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_read_as_it_is_written() {
        let line = "ffmpeg version 5.1.9-0+deb12u1 Copyright (c) 2000-2026\nbuilt with gcc";
        assert_eq!(release(line), "5.1.9-0+deb12u1");
        assert_eq!(release(""), "");
    }

    #[test]
    fn decoders_are_listed_with_their_codecs() {
        let text = "\
Decoders:
 V..... = Video
 A..... = Audio
 ------
 VFS..D h264                 H.264 / AVC / MPEG-4 AVC / MPEG-4 part 10
 V..... h264_v4l2m2m         V4L2 mem2mem H.264 decoder wrapper (codec h264)
 VF.... libdav1d             dav1d AV1 decoder by VideoLAN (codec av1)
 A....D aac                  AAC (Advanced Audio Coding)
";
        let found = video_decoders(text);
        let pairs: Vec<_> = found.iter().map(|(a, b)| (&**a, &**b)).collect();
        let expected = [
            ("h264", "h264"),
            ("h264_v4l2m2m", "h264"),
            ("libdav1d", "av1"),
        ];
        assert_eq!(pairs, expected);
    }

    #[test]
    fn hardware_is_tried_that_ffmpeg_is_built_with_and_drm_where_there_is_a_device() {
        let text = "Hardware acceleration methods:\nvdpau\nvaapi\ndrm\nopencl\n\n";
        let tried = methods_to_try(text, |path| path == "/dev/dri/card1");
        let tried: Vec<_> = tried.iter().map(|(_, device)| &**device).collect();
        assert_eq!(tried, ["vaapi", "drm=drm:/dev/dri/card1", "vdpau"]);
        assert!(methods_to_try("drm\n", |_| false).is_empty());
    }
}
