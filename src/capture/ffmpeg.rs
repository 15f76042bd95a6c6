//! FFmpeg's arguments for each kind of source and each version of FFmpeg. Pure.

use super::decode::Decoding;
use super::installed::Version;
use super::learnt::Learnt;
use super::still::STANDS;
use crate::config::{Camera, Pictures, SourceKind, Transport};
use crate::frame::Codec;
use std::time::Duration;

/// FFmpeg's arguments for one camera. It writes one stream of pictures, at most `fps`, as `mpjpeg`
/// parts to stdout, and the lines that [`Remark`](super::remarks::Remark) reads to stderr. If there
/// is a `tap`, it copies the camera's stream to these paths: an index, and the bytes.
pub fn arguments(
    camera: &Camera,
    version: Version,
    learnt: &Learnt,
    decoding: &Decoding,
    tap: Option<&[String; 2]>,
) -> Vec<String> {
    let mut args = Args::default();
    // Not `-nostdin`: with it FFmpeg 7.0 ignores SIGTERM. Its stdin is empty anyway.
    args.push(&["-hide_banner", "-nostats"]);
    args.push(&["-loglevel", "repeat+level+info"]);
    if camera.pictures == Pictures::Keyframes {
        args.push(&["-skip_frame", "nokey"]);
    }
    args.push(&decoding.input());
    let goal = match tap {
        None => Goal::Pictures,
        Some(_) => Goal::Copy,
    };
    input(&mut args, camera, version, learnt, decoding, goal);
    if *decoding == Decoding::Asking {
        args.push(&["-map", "0:v:0", "-c", "copy", "-f", "null", "-"]);
        return args.0;
    }
    if let Some(paths) = tap {
        copy(&mut args, learnt, paths);
    }
    if camera.pictures != Pictures::None {
        match learnt.is_copied() {
            true => copied_output(&mut args),
            false => output(&mut args, camera, version, decoding),
        }
    }
    args.0
}

/// FFmpeg's arguments for a look at what a camera sends: it names the streams on stderr, and writes
/// a line for each picture of the one that it would decode to stdout, in its `framecrc` format. The
/// time stamps are the camera's.
pub fn survey_arguments(camera: &Camera, version: Version, learnt: &Learnt) -> Vec<String> {
    let mut args = Args::default();
    args.push(&["-hide_banner", "-nostats"]);
    args.push(&["-loglevel", "repeat+level+info", "-copyts"]);
    input(
        &mut args,
        camera,
        version,
        learnt,
        &Decoding::Software,
        Goal::Survey,
    );
    // What a filter graph makes is no stream of bytes that FFmpeg 7 could copy.
    let codec = match camera.source.kind {
        SourceKind::Lavfi => "rawvideo",
        _ => "copy",
    };
    args.push(&["-an", "-sn", "-dn", "-c:v", codec]);
    args.push(&["-f", "framecrc", "-flush_packets", "1", "pipe:1"]);
    args.0
}

/// Copies the stream, which is not decoded. FFmpeg writes a line to the index and then the access
/// unit of which it tells to the bytes; formats that hold both in one, such as MPEG-TS, hold each
/// unit back until the next one comes.
fn copy(args: &mut Args, learnt: &Learnt, [index, bytes]: &[String; 2]) {
    let filters = match learnt.length_prefixed() {
        None => "dump_extra=freq=keyframe",
        Some(Codec::H264) => "h264_mp4toannexb,dump_extra=freq=keyframe",
        Some(Codec::H265) => "hevc_mp4toannexb,dump_extra=freq=keyframe",
    };
    // The pipes exist, so FFmpeg would ask whether to overwrite them.
    args.push(&["-y"]);
    // The index first: of both outputs, FFmpeg writes to the first one first.
    for (format, path) in [("framecrc", index), ("data", bytes)] {
        args.push(&["-map", "0:v:0", "-c", "copy", "-bsf:v", filters]);
        args.push(&["-flush_packets", "1", "-f", format, path]);
    }
}

/// 8K UHD, more than any camera sends. A JPEG of 1.5 MB can announce so many pixels that FFmpeg
/// allocates 450 MB.
pub const MAX_PIXELS: u32 = 7680 * 4320;

/// What FFmpeg is to make of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    Pictures,
    /// Its own video, and perhaps pictures.
    Copy,
    /// An account of all that it sends.
    Survey,
}

/// The protocols over which FFmpeg may open this kind of source, and what the source refers to: a
/// server must not make FFmpeg read this machine's files by sending a playlist that names them.
/// `None` for what FFmpeg opens without a protocol.
fn protocols(kind: SourceKind) -> Option<&'static str> {
    match kind {
        // Over HTTP only if `input_args` ask for it (`-rtsp_transport http`).
        SourceKind::Rtsp => Some("rtp,udp,tcp,tls,http,https,httpproxy"),
        SourceKind::Rtmp => Some("rtmp,rtmps,tcp,tls"),
        // `crypto` for encrypted HLS; `httpproxy` for https:// behind a proxy.
        SourceKind::Http => Some("http,https,httpproxy,tcp,tls,crypto"),
        // What FFmpeg allows a file by default, for each demuxer.
        SourceKind::File => Some("file,crypto,data"),
        SourceKind::V4l2 | SourceKind::Lavfi => None,
    }
}

fn input(
    args: &mut Args,
    camera: &Camera,
    version: Version,
    learnt: &Learnt,
    decoding: &Decoding,
    goal: Goal,
) {
    // One decoding thread: each further one adds a frame of delay, and there is no core for it.
    args.push(&["-threads", "1", "-max_pixels", &MAX_PIXELS.to_string()]);
    if sizes(camera, version, decoding) > 1 {
        // The filters handle a change of size or pixel format themselves, see `slot`.
        args.push(&["-reinit_filter", "0"]);
    }
    if let Some(protocols) = protocols(camera.source.kind) {
        args.push(&["-protocol_whitelist", protocols]);
    }
    match camera.source.kind {
        SourceKind::Rtsp => {
            live(args);
            rtsp(args, camera, version, learnt);
            if goal != Goal::Survey {
                // So that the camera does not send audio at all.
                args.push(&["-allowed_media_types", "video"]);
            }
        }
        SourceKind::Rtmp | SourceKind::Http => {
            if learnt.in_segments(camera) {
                args.push(&["-re"]);
            } else {
                live(args);
                // Formats without a header are probed for this long, in microseconds. What is not
                // decoded needs a keyframe until then.
                let probed = match goal {
                    Goal::Pictures | Goal::Copy => "1000000",
                    Goal::Survey => "5000000",
                };
                args.push(&["-analyzeduration", probed]);
                // JPEGs one after another are recognised once this is full, in bytes. The default
                // of 1 MiB is 12 s of a small camera; other formats show in their first kilobytes.
                args.push(&["-formatprobesize", "65536"]);
            }
            // No option of the protocol if the user chose the demuxer: some open the source
            // themselves and refuse the option. The watchdog works in any case.
            let chosen = |arg: &String| arg == "-f" || arg == "-loop";
            if !camera.input_args.iter().any(chosen) {
                // Cameras that sleep need longer for the first picture than between two.
                let longest = camera.stale_timeout.max(camera.first_frame_timeout);
                args.push(&["-rw_timeout", &microseconds(longest)]);
                if learnt.is_bare_jpegs() {
                    args.push(&["-f", "mjpeg"]);
                }
            }
        }
        SourceKind::V4l2 => {
            live(args);
            args.push(&["-f", "v4l2"]);
        }
        // FFmpeg 5.1 copies a film only once: its bit stream filters take nothing after the first
        // end.
        SourceKind::File => match goal {
            Goal::Pictures => args.push(&["-re", "-stream_loop", "-1"]),
            Goal::Copy => args.push(&["-re"]),
            Goal::Survey => {}
        },
        SourceKind::Lavfi => {
            if goal != Goal::Survey {
                args.push(&["-re"]);
            }
            args.push(&["-f", "lavfi"]);
        }
    }
    args.extend(&camera.input_args);
    args.push(&["-i", camera.source.address.expose()]);
}

fn rtsp(args: &mut Args, camera: &Camera, version: Version, learnt: &Learnt) {
    match camera.transport {
        // With a queue of two packets, which adds no delay, FFmpeg reports packets that the camera
        // left out. The H.264 decoder does not report a lost picture. Over UDP FFmpeg has a queue
        // anyway.
        Transport::Tcp => args.push(&["-rtsp_transport", "tcp", "-reorder_queue_size", "2"]),
        Transport::Udp => args.push(&["-rtsp_transport", "udp"]),
        Transport::Auto => {}
    }
    // Before 5.0, `-timeout` meant to wait for the camera to connect to us.
    let timeout = if version >= V5_0 {
        "-timeout"
    } else {
        "-stimeout"
    };
    args.push(&[timeout, &microseconds(rtsp_timeout(camera, learnt))]);
}

/// FFmpeg ends after two reads that time out, and then logs off from the camera, which matters
/// because many cameras serve few sessions. This must happen shortly before the watchdog, which
/// kills FFmpeg.
fn rtsp_timeout(camera: &Camera, learnt: &Learnt) -> Duration {
    const BEFORE_WATCHDOG: Duration = Duration::from_millis(200);
    if learnt.is_slow_to_start() {
        return camera.first_frame_timeout;
    }
    let half = camera.stale_timeout / 2;
    half.saturating_sub(BEFORE_WATCHDOG).max(half / 2)
}

fn microseconds(duration: Duration) -> String {
    duration.as_micros().to_string()
}

const V5_0: Version = Version { major: 5, minor: 0 };
const V5_1: Version = Version { major: 5, minor: 1 };

/// What FFmpeg reads while it probes a live source is decoded, since it contains the keyframe.
/// Without probing the frame rate, which is not needed, this is 0.2 to 0.6 s of the stream instead
/// of 2 s.
fn live(args: &mut Args) {
    args.push(&["-fpsprobesize", "0", "-flags", "low_delay"]);
}

/// How many sizes of pictures one FFmpeg can publish. A camera that alternates between two, such as
/// by day and by night, needs no restart. Each further size would cost a filter graph for every
/// picture.
const SIZES: usize = 2;

/// How many sizes of the camera's pictures one FFmpeg can publish. The user's own arguments for the
/// output may contain filters, which know one size. With FFmpeg 4.2 both outputs get all pictures;
/// versions between 4.2 and 5.1 were not tried. Pictures in a hardware's memory come with another
/// context for each size, for which FFmpeg makes the filters anew.
pub fn sizes(camera: &Camera, version: Version, decoding: &Decoding) -> usize {
    let one = camera.has_fixed_size() || !camera.output_args.is_empty() || version < V5_1;
    match one || decoding.download().is_some() {
        true => 1,
        false => SIZES,
    }
}

fn output(args: &mut Args, camera: &Camera, version: Version, decoding: &Decoding) {
    // Each frame that passes the filters, once. The default for mpjpeg repeats the last frame while
    // the source is slow, so that an old picture would be published as a new one.
    let rate_mode = if version >= V5_1 {
        "-fps_mode"
    } else {
        "-vsync"
    };
    // FFmpeg's encoder keeps its first size, so each size has an output of its own.
    let sizes = sizes(camera, version, decoding);
    for output in 1..=sizes {
        // Without `-map` FFmpeg takes the largest video stream.
        args.push(&["-an", "-sn", "-dn"]);
        // 4:2:0 at full range is what every JPEG decoder accepts.
        let (mut filters, format) = match sizes {
            1 => (one_size(camera, decoding), "yuvj420p"),
            _ => (slot(camera, output), "+"),
        };
        // All pictures pass the filters of each output up to here, so one of them compares.
        if output == 1 && camera.frozen.after.is_some() {
            filters = compared(&filters, decoding);
        }
        args.push(&["-vf", &filters, "-pix_fmt", format]);
        args.push(&[rate_mode, "passthrough", "-enc_time_base", "1:90000"]);
        args.push(&["-c:v", "mjpeg"]);
        args.push(&["-q:v", &camera.quality.to_string(), "-threads", "1"]);
        args.extend(&camera.output_args);
        args.push(&["-f", "mpjpeg", "-flush_packets", "1", "pipe:1"]);
    }
}

/// `filters`, beside which each picture is compared with the ones before it: `freezedetect` tells
/// when one has not changed for a second, and when it changes again (see `Remark::Picture`).
///
/// It compares copies of 80x44 pixels. So it works for any size, noise and what an encoder makes of
/// the same picture from one keyframe to the next are averaged away, and a clock that the camera
/// writes into its picture is less than the limit: a mean difference of 0.5 % of the range.
fn compared(filters: &str, decoding: &Decoding) -> String {
    let steps = [
        Some("settb=1/1000000,setpts='time(0)*1000000'"),
        decoding.download(),
        Some("scale=80:44:flags=area,format=gray"),
    ];
    let steps: Vec<_> = steps.into_iter().flatten().collect();
    format!(
        "split[still][shown];[still]{},freezedetect=n=0.005:d={},nullsink;[shown]{filters}",
        steps.join(","),
        STANDS.as_secs()
    )
}

/// The camera's JPEGs as they are. Their rate is limited where they are read.
fn copied_output(args: &mut Args) {
    args.push(&["-an", "-sn", "-dn", "-c:v", "copy"]);
    args.push(&["-f", "mpjpeg", "-flush_packets", "1", "pipe:1"]);
}

/// Filters for an FFmpeg that makes them anew when the size or the pixel format changes; their time
/// and counters then start at 0.
fn one_size(camera: &Camera, decoding: &Decoding) -> String {
    // The width is evaluated when the filters are made, and printed then (see `Remark::Size`).
    let told = "+0*print(iw*65536+ih+0.5,32)";
    // Only what passes is brought into the system's memory.
    let steps = [Some(paced(camera)), decoding.download().map(str::to_owned)];
    let steps = steps.into_iter().flatten();
    let steps = steps.chain([jpeg_colours(camera, told)]);
    steps.collect::<Vec<_>>().join(",")
}

/// Filters that live as long as FFmpeg, and pass only pictures of the size that came as the
/// `output`th.
///
/// Filters keep the size for which they were made. Only `scale` with `eval=frame` passes a new size
/// on to the next filter. So there is one before the filter that compares sizes and one before the
/// encoder; both leave pictures as they are. `metadata` drops all pictures while it is enabled,
/// since none has the key.
fn slot(camera: &Camera, output: usize) -> String {
    const TELL_SIZE: &str = "scale=0:0:eval=frame";
    format!(
        "{TELL_SIZE},metadata=select:key=none:enable='{}',{},{}:eval=frame,format=yuvj420p,{TELL_SIZE}",
        other_size(output),
        paced(camera),
        jpeg_colours(camera, "")
    )
}

/// The expression that is true for pictures that are not for the `output`th output. Its registers:
/// 0 is the picture's size, 1 and 2 are the sizes of the outputs, 9 is the output for this picture,
/// or 0.
///
/// The filters of both outputs compute the same. Those of the first print each new size (see
/// `Remark::Size`).
fn other_size(output: usize) -> String {
    let told = match output {
        1 => "0*print(ld(0)+0.5,32)+",
        _ => "",
    };
    [
        "st(0,w*65536+h)".to_owned(),
        format!(
            "if(eq(ld(0),ld(1)),st(9,1),if(eq(ld(0),ld(2)),st(9,2),{told}\
             if(not(ld(1)),0*st(1,ld(0))+st(9,1),if(not(ld(2)),0*st(2,ld(0))+st(9,2),st(9,0)))))"
        ),
        format!("not(eq(ld(9),{output}))"),
    ]
    .join(";")
}

/// Passes at most `fps` pictures a second, each with the time of its arrival.
///
/// Times are the machine's, not the stream's: many cameras have wrong time stamps.
fn paced(camera: &Camera) -> String {
    // Equal or falling time stamps would end FFmpeg; 100 µs are several units of the encoder's
    // time.
    let stamps = "if(isnan(PREV_OUTPTS),time(0)*1000000,max(time(0)*1000000,PREV_OUTPTS+100))";
    let select = match camera.one_every {
        None => select(camera.fps),
        Some(every) => select_one_every(every),
    };
    format!("select='{select}',settb=1/1000000,setpts='{stamps}'")
}

/// Scales to the configured size and converts to the colours of a JPEG, in one pass. `told` is
/// appended to the width.
fn jpeg_colours(camera: &Camera, told: &str) -> String {
    // -2: an even number that keeps the aspect ratio, as 4:2:0 needs. 0: the size as it is.
    let free = match (camera.width, camera.height) {
        (None, None) => "0",
        _ => "-2",
    };
    let side = |pixels: Option<u32>| pixels.map_or(free.to_owned(), |n| n.to_string());
    let (width, height) = (side(camera.width), side(camera.height));
    format!("scale='{width}{told}':{height}:out_color_matrix=bt601:out_range=pc")
}

/// The expression that says which pictures pass; FFmpeg evaluates it for each decoded picture. Its
/// registers:
///
/// | register | what |
/// |---|---|
/// | 0 | the time now, s |
/// | 1 | credit: grows by `fps` a second, up to half a second of it, so that a burst passes |
/// | 2 | when the last picture came |
/// | 3 | whether this one passes |
///
/// It also prints the number that [`Remark`](super::remarks::Remark) reads.
fn select(fps: u32) -> String {
    let burst = (f64::from(fps) / 2.0).max(2.0);
    [
        "st(0,time(0))".to_owned(),
        format!("st(1,min({burst},ld(1)+{fps}*clip(ld(0)-ld(2),0,1)))"),
        "st(2,ld(0))".to_owned(),
        "st(3,gte(ld(1),1))".to_owned(),
        "st(1,ld(1)-ld(3))".to_owned(),
        PRINT.to_owned(),
        "ld(3)".to_owned(),
    ]
    .join(";")
}

/// The same for a camera that is idle: passes all pictures in the first 5 s, and then about one in
/// `every`. The first two or three pictures of a session may count as old (see `lag.rs`), and are
/// then not published.
///
/// A consumer that comes is noticed by the next picture that passes, and the session that follows
/// begins with the keyframe after it. That one has to come within `every`, so a picture passes if
/// it would come too late after the next one, judged by the distance of the last two. Not twice,
/// but 1.5 times that distance: with the usual keyframe intervals of 1 and 2 s, jitter then decides
/// nothing. Its registers:
///
/// | register | what |
/// |---|---|
/// | 0 | the time now, s |
/// | 1 | when the first picture came |
/// | 2 | when the last picture came |
/// | 3 | whether this one passes |
/// | 4 | when the last one passed |
fn select_one_every(every: Duration) -> String {
    [
        "st(0,time(0))".to_owned(),
        "st(1,if(ld(1),ld(1),ld(0)))".to_owned(),
        format!(
            "st(3,max(lt(ld(0)-ld(1),5),gt(ld(0)-ld(4)+1.5*(ld(0)-ld(2)),{})))",
            every.as_secs_f64()
        ),
        "st(2,ld(0))".to_owned(),
        "st(4,if(ld(3),ld(0),ld(4)))".to_owned(),
        PRINT.to_owned(),
        "ld(3)".to_owned(),
    ]
    .join(";")
}

/// Prints the number that [`Remark`](super::remarks::Remark) reads.
const PRINT: &str = "print(4*floor(if(isnan(t),0,t)*1000000)+2*ld(3)+key,32)";

#[derive(Default)]
struct Args(Vec<String>);

impl Args {
    fn push(&mut self, args: &[&str]) {
        self.0.extend(args.iter().map(|&arg| arg.to_owned()));
    }

    fn extend(&mut self, args: &[String]) {
        self.0.extend_from_slice(args);
    }
}

#[cfg(test)]
mod tests;
