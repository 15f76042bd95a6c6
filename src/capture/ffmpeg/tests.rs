//! Tests of FFmpeg's arguments.

use super::*;
use crate::config::{Decode, Frozen, Hardware, Idle, Pictures, Secret, Source};

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
        passthrough: false,
        pictures: Pictures::All,
        video_routing_key: "video.cam".into(),
        decode: Decode::Software,
        frozen: Frozen::default(),
        idle: Idle::default(),
        one_every: None,
        fps: 15,
        quality: 5,
        quality_is_chosen: false,
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
    decoded(camera, version, &Decoding::Software)
}

fn decoded(camera: &Camera, version: Version, decoding: &Decoding) -> String {
    arguments(camera, version, &Learnt::default(), decoding, None).join(" ")
}

#[test]
fn rtsp_gets_transport_timeout_and_video_only() {
    let mut camera = camera(SourceKind::Rtsp, "rtsp://h/1");
    let line_5_1 = line(&camera, V5_1);
    assert!(line_5_1.contains(
        "-rtsp_transport tcp -reorder_queue_size 2 -timeout 2300000 -allowed_media_types video"
    ));
    assert!(line_5_1.contains("-i rtsp://h/1 -an -sn -dn "));
    assert!(line_5_1.contains("-fps_mode passthrough"));
    camera.transport = Transport::Auto;
    let line_4_3 = line(&camera, Version { major: 4, minor: 3 });
    assert!(!line_4_3.contains("-rtsp_transport"));
    assert!(line_4_3.contains("-stimeout 2300000") && line_4_3.contains("-vsync passthrough"));
}

#[test]
fn each_kind_of_source_may_open_its_own_protocols_unless_the_user_says_otherwise() {
    let allowed = |kind| {
        let args = arguments(
            &camera(kind, "x"),
            V5_1,
            &Learnt::default(),
            &Decoding::Software,
            None,
        );
        let at = args.iter().position(|arg| arg == "-protocol_whitelist");
        at.map(|at| args[at + 1].clone())
    };
    let rtsp = "rtp,udp,tcp,tls,http,https,httpproxy";
    assert_eq!(allowed(SourceKind::Rtsp).as_deref(), Some(rtsp));
    let rtmp = "rtmp,rtmps,tcp,tls";
    assert_eq!(allowed(SourceKind::Rtmp).as_deref(), Some(rtmp));
    let http = "http,https,httpproxy,tcp,tls,crypto";
    assert_eq!(allowed(SourceKind::Http).as_deref(), Some(http));
    let file = "file,crypto,data";
    assert_eq!(allowed(SourceKind::File).as_deref(), Some(file));
    assert_eq!(allowed(SourceKind::V4l2), None);
    assert_eq!(allowed(SourceKind::Lavfi), None);
    let mut list = camera(SourceKind::File, "/x.sdp");
    list.input_args = vec!["-protocol_whitelist".into(), "file,rtp,udp".into()];
    assert!(line(&list, V5_1).contains("-protocol_whitelist file,rtp,udp -i /x.sdp"));
}

#[test]
fn a_survey_wants_all_streams_at_any_speed_and_decodes_none() {
    let of = |kind, address| {
        survey_arguments(&camera(kind, address), V5_1, &Learnt::default()).join(" ")
    };
    let rtsp = of(SourceKind::Rtsp, "rtsp://h/1");
    let copy = "-an -sn -dn -c:v copy -f framecrc -flush_packets 1 pipe:1";
    assert!(rtsp.ends_with(&format!("-i rtsp://h/1 {copy}")), "{rtsp}");
    assert!(!rtsp.contains("-allowed_media_types"), "{rtsp}");
    let film = of(SourceKind::File, "/x.mp4");
    assert!(!film.contains("-re ") && !film.contains("-stream_loop"));
    assert!(of(SourceKind::Lavfi, "testsrc2").contains(" -c:v rawvideo "));
}

#[test]
fn a_source_in_segments_is_read_at_its_own_speed_once_that_is_known() {
    let at = |address| camera(SourceKind::Http, address);
    let paced = |camera: &Camera, learnt: &Learnt| {
        let args = arguments(camera, V5_1, learnt, &Decoding::Software, None);
        args.contains(&"-re".to_owned())
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
        line(&camera(SourceKind::File, "/x.mp4"), V5_1).contains("-re -stream_loop -1 -i /x.mp4")
    );
    let paths = ["3".to_owned(), "4".to_owned()];
    let (film, new) = (camera(SourceKind::File, "/x.mp4"), Learnt::default());
    let copied = arguments(&film, V5_1, &new, &Decoding::Software, Some(&paths)).join(" ");
    assert!(copied.contains(" -re -i /x.mp4 "), "{copied}");
    assert!(
        line(&camera(SourceKind::Lavfi, "testsrc2"), V5_1).contains("-re -f lavfi -i testsrc2")
    );
}

#[test]
fn of_an_idle_camera_only_keyframes_are_decoded_and_few_pass() {
    let camera = camera(SourceKind::Rtsp, "rtsp://h/1");
    let awake = line(&camera, V5_1);
    let idle = line(&camera.while_idle(), V5_1);
    assert!(!awake.contains("-skip_frame") && idle.contains("-skip_frame nokey"));
    assert!(
        idle.contains("max(lt(ld(0)-ld(1),5),gt(ld(0)-ld(4)+1.5*(ld(0)-ld(2)),10))"),
        "{idle}"
    );
    assert!(!awake.contains("ld(4)"), "{awake}");
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
        assert_eq!(outputs, sizes(camera, version, &Decoding::Software));
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
fn pictures_are_compared_once_and_only_if_frozen_ones_are_to_be_found() {
    let mut camera = camera(SourceKind::Rtsp, "rtsp://h/1");
    let compared = |camera: &Camera| {
        let line = line(camera, V5_1);
        (
            line.matches("freezedetect").count(),
            line.contains("[shown]"),
        )
    };
    assert_eq!(compared(&camera), (0, false));
    camera.frozen.after = Some(Duration::from_secs(40));
    assert_eq!(
        (sizes(&camera, V5_1, &Decoding::Software), compared(&camera)),
        (2, (1, true))
    );
    (camera.width, camera.height) = (Some(640), Some(360));
    assert_eq!(
        (sizes(&camera, V5_1, &Decoding::Software), compared(&camera)),
        (1, (1, true))
    );
    camera.pictures = Pictures::None;
    assert_eq!(compared(&camera), (0, false));
}

#[test]
fn jpegs_are_copied_once_they_are_known() {
    let camera = camera(SourceKind::Http, "http://h/1");
    let mut learnt = Learnt::default();
    assert!(learnt.decodes(&camera, Some("mpjpeg"), "mjpeg (native)"));
    let line = arguments(&camera, V5_1, &learnt, &Decoding::Software, None).join(" ");
    let output = "-i http://h/1 -an -sn -dn -c:v copy -f mpjpeg -flush_packets 1 pipe:1";
    assert!(line.ends_with(output), "{line}");
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

#[test]
fn pictures_of_a_hardware_decoder_are_brought_into_memory_after_the_limit_of_the_rate() {
    let mut camera = camera(SourceKind::Rtsp, "rtsp://h/1");
    camera.input_args = vec!["-hwaccel_device".into(), "/dev/dri/renderD129".into()];
    let with = |hardware, name: Option<&str>| {
        let decoding = Decoding::Hardware(hardware, name.map(str::to_owned));
        decoded(&camera, V5_1, &decoding)
    };
    let vaapi = with(Hardware::Vaapi, None);
    let input = "-hwaccel_flags allow_profile_mismatch -hwaccel vaapi -hwaccel_output_format \
                     vaapi -threads 1";
    assert!(vaapi.contains(input), "{vaapi}");
    assert!(vaapi.contains(" -hwaccel_device /dev/dri/renderD129 -i rtsp://h/1 "));
    assert!(vaapi.contains("',hwdownload,format=nv12,scale='0+0*print("));
    assert!(!vaapi.contains("-reinit_filter"), "one size only: {vaapi}");
    assert_eq!(vaapi.matches(" -f mpjpeg ").count(), 1);
    let qsv = with(Hardware::Qsv, Some("hevc_qsv"));
    assert!(qsv.contains("-hwaccel qsv -hwaccel_output_format qsv -c:v hevc_qsv -threads 1"));
    let drm = with(Hardware::Drm, None);
    assert!(drm.contains(",hwdownload,format=yuv420p,scale="));
    // It brings them into memory itself, and so of any size.
    let v4l2m2m = with(Hardware::V4l2m2m, Some("h264_v4l2m2m"));
    assert!(v4l2m2m.contains("-c:v h264_v4l2m2m -threads 1"));
    assert!(!v4l2m2m.contains("hwdownload") && v4l2m2m.contains("-reinit_filter 0"));
    assert_eq!(v4l2m2m.matches(" -f mpjpeg ").count(), 2);
}

#[test]
fn a_session_that_asks_for_the_codec_decodes_nothing() {
    let asking = decoded(&camera(SourceKind::File, "/x"), V5_1, &Decoding::Asking);
    assert!(
        asking.ends_with(" -i /x -map 0:v:0 -c copy -f null -"),
        "{asking}"
    );
}
