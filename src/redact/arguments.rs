//! Which of FFmpeg's arguments may be shown, by the option that they follow.

use super::{MASK, address};

/// Options whose values hold no secret. What is not listed is masked: FFmpeg has hundreds of
/// options, and headers, passwords, cookies, keys, user names and tokens are among them under many
/// names.
const HARMLESS: &[&str] = &[
    "-allowed_media_types",
    "-analyzeduration",
    "-bsf:v",
    "-buffer_size",
    "-c",
    "-c:v",
    "-codec:v",
    "-enc_time_base",
    "-err_detect",
    "-f",
    "-fflags",
    "-filter:v",
    "-flags",
    "-flush_packets",
    "-fps_mode",
    "-fpsprobesize",
    "-framerate",
    "-huffman",
    "-hwaccel",
    "-hwaccel_device",
    "-hwaccel_output_format",
    "-input_format",
    "-itsoffset",
    "-lavfi",
    "-loglevel",
    "-map",
    "-max_delay",
    "-max_pixels",
    "-pix_fmt",
    "-pixel_format",
    "-probesize",
    "-protocol_whitelist",
    "-q:v",
    "-r",
    "-readrate",
    "-reorder_queue_size",
    "-rtsp_flags",
    "-rtsp_transport",
    "-rw_timeout",
    "-s",
    "-skip_frame",
    "-ss",
    "-stimeout",
    "-stream_loop",
    "-strict",
    "-t",
    "-thread_queue_size",
    "-threads",
    "-timeout",
    "-tls_verify",
    "-use_wallclock_as_timestamps",
    "-v",
    "-vf",
    "-video_size",
    "-vsync",
];

/// Options without a value.
const FLAGS: &[&str] = &[
    "-an",
    "-autorotate",
    "-copyts",
    "-dn",
    "-hide_banner",
    "-noautorotate",
    "-nostats",
    "-nostdin",
    "-re",
    "-sn",
    "-start_at_zero",
    "-version",
    "-vn",
    "-xerror",
    "-y",
];

/// What an argument is, by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// An option's name, or a value that holds no secret.
    Harmless,
    /// What FFmpeg is to open.
    Address,
    /// The value of any other option, or of none.
    Secret,
}

/// Each of `args` with its place.
pub(super) fn places(args: &[String]) -> impl Iterator<Item = (&str, Place)> {
    let mut next = None;
    args.iter().map(move |arg| {
        let place = next.take().unwrap_or(match is_option(arg) {
            true => Place::Harmless,
            false => Place::Secret,
        });
        // After an option that is unknown even an argument with a dash may be its value, but that
        // of a known one begins again.
        let begins = place == Place::Harmless && is_option(arg);
        let known = |list: &[&str]| list.contains(&arg.as_str());
        if begins && !known(FLAGS) {
            next = Some(match arg.as_str() {
                "-i" => Place::Address,
                _ if known(HARMLESS) => Place::Harmless,
                _ => Place::Secret,
            });
        }
        (arg.as_str(), place)
    })
}

/// `-name`, `-name:stream`
fn is_option(arg: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':');
    arg.strip_prefix('-').is_some_and(|name| {
        name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.bytes().all(fits)
    })
}

/// FFmpeg's arguments as anybody may see them.
pub fn arguments(args: &[String]) -> Vec<String> {
    places(args)
        .map(|(arg, place)| match place {
            Place::Harmless if !arg.contains("://") => arg.to_owned(),
            Place::Address => address(arg).into_owned(),
            Place::Harmless | Place::Secret => MASK.to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(args: &str) -> String {
        let args: Vec<String> = args.split(' ').map(str::to_owned).collect();
        arguments(&args).join(" ")
    }

    #[test]
    fn values_are_shown_only_of_options_that_hold_no_secret() {
        for (args, expected) in [
            (
                "-rtsp_transport udp -re -threads 2",
                "-rtsp_transport udp -re -threads 2",
            ),
            (
                "-headers X-Key:1 -re -password camera",
                "-headers *** -re -password ***",
            ),
            (
                "-user_agent a -cookies b -new c",
                "-user_agent *** -cookies *** -new ***",
            ),
            ("-password -secret -f rtsp", "-password *** -f rtsp"),
            ("-c:v mjpeg -b:v 1M secret", "-c:v mjpeg -b:v *** ***"),
            ("-i rtsp://u:p@h/a/b -f -1", "-i rtsp://***@h/a/*** -f -1"),
            ("-vf movie=http://h/?k=1", "-vf ***"),
            ("-Secret%1 -se/cret", "*** ***"),
            ("-ss -5 -itsoffset -an -re", "-ss -5 -itsoffset -an -re"),
        ] {
            assert_eq!(shown(args), expected);
        }
    }
}
