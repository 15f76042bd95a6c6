//! What FFmpeg is told, for each kind of source and each version of FFmpeg. Pure.

use super::installed::Version;
use super::learnt::Learnt;
use crate::config::{Camera, SourceKind, Transport};
use std::time::Duration;

/// FFmpeg's arguments for one camera: one picture stream, cut to at most `fps`, as `mpjpeg` parts on stdout, and
/// on stderr the lines that [`Remark`](super::remarks::Remark) knows.
pub fn arguments(camera: &Camera, version: Version, learnt: &Learnt) -> Vec<String> {
    let mut args = Args::default();
    // Not `-nostdin`: with it FFmpeg 7.0 is deaf to SIGTERM. Its stdin is empty anyway.
    args.push(&["-hide_banner", "-nostats"]);
    args.push(&["-loglevel", "repeat+level+info"]);
    input(&mut args, camera, version, learnt);
    output(&mut args, camera, version);
    args.0
}

/// 8K UHD, more than any camera has. A JPEG of 1.5 MB can announce so many pixels that FFmpeg takes 450 MB.
const MAX_PIXELS: &str = "33177600";

fn input(args: &mut Args, camera: &Camera, version: Version, learnt: &Learnt) {
    // One decoding thread: frame threads add a frame of delay each, and a core each is not there.
    args.push(&["-threads", "1", "-max_pixels", MAX_PIXELS]);
    if sizes(camera, version) > 1 {
        // The filters follow a change of size or pixel format themselves, see `slot`.
        args.push(&["-reinit_filter", "0"]);
    }
    match camera.source.kind {
        SourceKind::Rtsp => {
            live(args);
            match camera.transport {
                // A queue of two packets holds up nothing, and FFmpeg tells of packets that the camera left out:
                // of a lost picture H.264's decoder says nothing. Over UDP it has a queue anyway.
                Transport::Tcp => {
                    args.push(&["-rtsp_transport", "tcp", "-reorder_queue_size", "2"]);
                }
                Transport::Udp => args.push(&["-rtsp_transport", "udp"]),
                Transport::Auto => {}
            }
            // Audio is not even set up at the camera.
            args.push(&["-allowed_media_types", "video"]);
            // Before 5.0 `-timeout` meant: listen for the camera to connect.
            let timeout = if version >= V5_0 {
                "-timeout"
            } else {
                "-stimeout"
            };
            args.push(&[timeout, &microseconds(rtsp_timeout(camera, learnt))]);
        }
        SourceKind::Rtmp | SourceKind::Http => {
            if learnt.in_segments(camera) {
                args.push(&["-re"]);
            } else {
                live(args);
                // Formats without a header are probed to this end.
                args.push(&["-analyzeduration", "1000000"]);
            }
            // Not a protocol's option where the user chose the demuxer: some open the source by themselves
            // and do not know it. The watchdog is there in any case.
            let chosen = |arg: &String| arg == "-f" || arg == "-loop";
            if !camera.input_args.iter().any(chosen) {
                // Cameras that sleep take longer to the first picture than between two.
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
        SourceKind::File => args.push(&["-re", "-stream_loop", "-1"]),
        SourceKind::Lavfi => args.push(&["-re", "-f", "lavfi"]),
    }
    args.extend(&camera.input_args);
    args.push(&["-i", camera.source.address.expose()]);
}

/// FFmpeg gives up after two reads that time out, and then logs off from the camera; many serve only
/// so many sessions. It has to be done shortly before the watchdog, which ends it without.
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

/// What FFmpeg reads while it probes a live source is decoded, since the keyframe is in it. Not probing the frame
/// rate, which nobody needs, makes that 0.2 to 0.6 s of the stream in place of 2.
fn live(args: &mut Args) {
    args.push(&["-fpsprobesize", "0", "-flags", "low_delay"]);
}

/// How many sizes of pictures one FFmpeg can publish. A camera that alternates between two, by day and by
/// night, needs no restart; each one more costs a filter graph that looks at every picture.
const SIZES: usize = 2;

/// How many sizes of the camera's pictures one FFmpeg can publish. The user's own arguments for the output may
/// have filters, which know one size. With FFmpeg 4.2 both outputs get all pictures; what is between 4.2 and 5.1
/// was not tried.
pub fn sizes(camera: &Camera, version: Version) -> usize {
    match camera.has_fixed_size() || !camera.output_args.is_empty() || version < V5_1 {
        true => 1,
        false => SIZES,
    }
}

fn output(args: &mut Args, camera: &Camera, version: Version) {
    // Every frame that the filters let through, none twice: the default for mpjpeg repeats the last
    // frame while the source is slow, an old picture shown as new.
    let rate_mode = if version >= V5_1 {
        "-fps_mode"
    } else {
        "-vsync"
    };
    // FFmpeg's encoder keeps its first size, so each size has an output of its own.
    let sizes = sizes(camera, version);
    for output in 1..=sizes {
        // Without `-map` FFmpeg takes the largest video stream.
        args.push(&["-an", "-sn", "-dn"]);
        // 4:2:0 at full range is what every JPEG decoder takes.
        if sizes == 1 {
            args.push(&["-vf", &one_size(camera), "-pix_fmt", "yuvj420p"]);
        } else {
            args.push(&["-vf", &slot(camera, output), "-pix_fmt", "+"]);
        }
        args.push(&[rate_mode, "passthrough", "-enc_time_base", "1:90000"]);
        args.push(&["-c:v", "mjpeg"]);
        args.push(&["-q:v", &camera.quality.to_string(), "-threads", "1"]);
        args.extend(&camera.output_args);
        args.push(&["-f", "mpjpeg", "-flush_packets", "1", "pipe:1"]);
    }
}

/// Filters that FFmpeg makes anew, with time and counters at 0, when the size or the pixel format changes.
fn one_size(camera: &Camera) -> String {
    // The size is evaluated when the filters are made: then it is told (see `Remark::Size`).
    let told = "+0*print(iw*65536+ih+0.5,32)";
    format!("{},{}", paced(camera), jpeg_colours(camera, told))
}

/// Filters that live as long as FFmpeg and pass only pictures of the size that came as the `output`th.
///
/// Such filters know the size that they were made for, and `scale` with `eval=frame` alone tells the next
/// one of a change, so there is one before the filter that compares sizes and one before the encoder. Both pass
/// pictures as they are. `metadata` drops pictures without a key that none has, while it is enabled.
fn slot(camera: &Camera, output: usize) -> String {
    const TELL_SIZE: &str = "scale=0:0:eval=frame";
    format!(
        "{TELL_SIZE},metadata=select:key=none:enable='{}',{},{}:eval=frame,format=yuvj420p,{TELL_SIZE}",
        other_size(output),
        paced(camera),
        jpeg_colours(camera, "")
    )
}

/// The expression that is true for pictures of another size than that of the `output`th output. Its registers:
/// 0 is the size, 1 and 2 are the sizes of the outputs, 9 is the picture's output, 0 if there is none for it.
///
/// Each output's filters find the same. The first one's tell each new size (see `Remark::Size`).
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

/// At most `fps` pictures a second, with the time that they came.
///
/// All that lasts longer than one picture is measured with the machine's clock: many cameras have wrong time
/// stamps.
fn paced(camera: &Camera) -> String {
    // Equal or falling time stamps would end FFmpeg; 100 us are several units of the encoder's time.
    let stamps = "if(isnan(PREV_OUTPTS),time(0)*1000000,max(time(0)*1000000,PREV_OUTPTS+100))";
    format!(
        "select='{}',settb=1/1000000,setpts='{stamps}'",
        select(camera.fps)
    )
}

/// In the size that the user wants and in the colours of a JPEG, in one pass. `told` is added to the width.
fn jpeg_colours(camera: &Camera, told: &str) -> String {
    // -2: what keeps the aspect, even, as 4:2:0 wants it. 0: the size as it is.
    let free = match (camera.width, camera.height) {
        (None, None) => "0",
        _ => "-2",
    };
    let side = |pixels: Option<u32>| pixels.map_or(free.to_owned(), |n| n.to_string());
    let (width, height) = (side(camera.width), side(camera.height));
    format!("scale='{width}{told}':{height}:out_color_matrix=bt601:out_range=pc")
}

/// The expression that tells which pictures pass; FFmpeg evaluates it for each decoded one. Its registers:
///
/// | register | what |
/// |---|---|
/// | 0 | the time now, s |
/// | 1 | pictures that may pass: grows by `fps` a second, up to half a second's worth, so that those that come in a burst pass |
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
        "print(4*floor(if(isnan(t),0,t)*1000000)+2*ld(3)+key,32)".to_owned(),
        "ld(3)".to_owned(),
    ]
    .join(";")
}

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
mod tests {
    use super::*;
    use crate::config::{Secret, Source};

    fn camera(kind: SourceKind, address: &str) -> Camera {
        Camera {
            id: "cam".into(),
            source: Source {
                kind,
                address: Secret::new(address),
                host: None,
            },
            exchange: "cameras".into(),
            routing_key: "camera.cam".into(),
            fps: 15,
            quality: 5,
            width: None,
            height: None,
            transport: Transport::Tcp,
            stale_timeout: Duration::from_secs(5),
            first_frame_timeout: Duration::from_secs(20),
            input_args: vec![],
            output_args: vec![],
            enabled: true,
        }
    }

    fn line(camera: &Camera, version: Version) -> String {
        arguments(camera, version, &Learnt::default()).join(" ")
    }

    #[test]
    fn rtsp_gets_transport_timeout_and_video_only() {
        let mut camera = camera(SourceKind::Rtsp, "rtsp://h/1");
        let line_5_1 = line(&camera, V5_1);
        assert!(line_5_1.contains(
            "-rtsp_transport tcp -reorder_queue_size 2 -allowed_media_types video -timeout 2300000"
        ));
        assert!(line_5_1.contains("-i rtsp://h/1 -an -sn -dn "));
        assert!(line_5_1.contains("-fps_mode passthrough"));
        camera.transport = Transport::Auto;
        let line_4_3 = line(&camera, Version { major: 4, minor: 3 });
        assert!(!line_4_3.contains("-rtsp_transport"));
        assert!(line_4_3.contains("-stimeout 2300000") && line_4_3.contains("-vsync passthrough"));
    }

    #[test]
    fn a_source_in_segments_is_read_at_its_own_speed_once_that_is_known() {
        let at = |address| camera(SourceKind::Http, address);
        let paced = |camera: &Camera, learnt: &Learnt| {
            arguments(camera, V5_1, learnt).contains(&"-re".to_owned())
        };
        let mut learnt = Learnt::default();
        assert!(paced(&at("http://h/live/index.M3U8?token=x"), &learnt));
        let hidden = at("http://h/stream?of=x.m3u8");
        assert!(!paced(&hidden, &learnt));
        assert!(!learnt.opened(&hidden, "mpjpeg"));
        assert!(learnt.opened(&hidden, "hls,applehttp"));
        assert!(paced(&hidden, &learnt));
        assert!(!learnt.opened(&hidden, "hls,applehttp"), "it is known");
    }

    #[test]
    fn a_camera_that_sleeps_has_its_time_over_http_and_a_chosen_demuxer_no_strange_option() {
        let mut camera = camera(SourceKind::Http, "http://h/1");
        assert!(line(&camera, V5_1).contains(" -rw_timeout 20000000 "));
        camera.input_args = vec!["-f".into(), "image2".into(), "-loop".into(), "1".into()];
        assert!(!line(&camera, V5_1).contains("-rw_timeout"));
    }

    #[test]
    fn files_and_test_pictures_play_at_their_own_speed() {
        assert!(
            line(&camera(SourceKind::File, "/x.mp4"), V5_1)
                .contains("-re -stream_loop -1 -i /x.mp4")
        );
        assert!(
            line(&camera(SourceKind::Lavfi, "testsrc2"), V5_1).contains("-re -f lavfi -i testsrc2")
        );
    }

    #[test]
    fn scaling_keeps_the_aspect_when_one_side_is_given() {
        let mut camera = camera(SourceKind::V4l2, "/dev/video0");
        let scale = |width, height| format!("scale='{width}':{height}:out_color_matrix");
        assert!(line(&camera, V5_1).contains(&scale("0", "0")));
        camera.width = Some(640);
        assert!(line(&camera, V5_1).contains(&scale("640", "-2")));
        camera.height = Some(360);
        let told = "640+0*print(iw*65536+ih+0.5,32)";
        assert!(line(&camera, V5_1).contains(&scale(told, "360")));
    }

    #[test]
    fn each_size_has_an_output_unless_there_is_one_or_ffmpeg_or_the_user_wants_one() {
        let mut camera = camera(SourceKind::Rtsp, "rtsp://h/1");
        let outputs = |camera: &Camera, version| {
            let outputs = line(camera, version).matches(" -f mpjpeg ").count();
            assert_eq!(outputs, sizes(camera, version));
            outputs
        };
        assert_eq!(outputs(&camera, V5_1), 2);
        assert_eq!(outputs(&camera, V5_0), 1);
        camera.width = Some(640);
        assert_eq!(outputs(&camera, V5_1), 2);
        camera.height = Some(360);
        assert_eq!(outputs(&camera, V5_1), 1);
        camera.width = None;
        camera.output_args = vec!["-vf".into(), "hflip".into()];
        assert_eq!(outputs(&camera, V5_1), 1);
    }

    #[test]
    fn the_users_arguments_come_where_they_can_win() {
        let mut camera = camera(SourceKind::Rtsp, "rtsp://h/1");
        camera.input_args = vec!["-hwaccel".into(), "vaapi".into()];
        camera.output_args = vec!["-q:v".into(), "9".into()];
        let line = line(&camera, V5_1);
        assert!(line.contains("-hwaccel vaapi -i rtsp://h/1"));
        assert!(line.contains("-threads 1 -q:v 9 -f mpjpeg"));
    }
}
