//! Tests with `refusals.txt`: how FFmpeg 5.1 and 7.1 end on a machine without the hardware, with
//! the arguments of `ffmpeg.rs`. After `= ` comes what we make of it. `in software instead` has the
//! filters of a hardware decoder and none of its options, as when FFmpeg falls back by itself.

use super::*;
use crate::config::{Secret, Source, SourceKind, Transport};

const REFUSED: &str = include_str!("refusals.txt");

/// What FFmpeg 5.1 and 7.1 of Debian list, shortened.
const METHODS: &str = "Hardware acceleration methods:\nvdpau\ncuda\nvaapi\nqsv\ndrm\nopencl\n\n";
const DECODERS: &str = "Decoders:
 V..... = Video
 A..... = Audio
 ------
 VFS..D h264                 H.264 / AVC / MPEG-4 AVC / MPEG-4 part 10
 V..... h264_v4l2m2m         V4L2 mem2mem H.264 decoder wrapper (codec h264)
 V....D hevc_qsv             HEVC video (Intel Quick Sync Video acceleration) (codec hevc)
 A....D aac                  AAC (Advanced Audio Coding)
";

fn camera(decode: Decode, pictures: Pictures) -> Camera {
    Camera {
        id: "cam".into(),
        source: Source {
            kind: SourceKind::Rtsp,
            address: Secret::new("rtsp://h/1"),
            host: None,
        },
        exchange: "cameras".into(),
        routing_key: "camera.cam".into(),
        passthrough: false,
        pictures,
        video_routing_key: "video.cam".into(),
        decode,
        frozen: crate::config::Frozen::default(),
        quality_is_chosen: false,
        idle: crate::config::Idle::default(),
        one_every: None,
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

fn ladder(decode: Decode) -> Ladder {
    Ladder::new(&camera(decode, Pictures::All))
}

fn available(devices: &[&str]) -> Available {
    Available {
        devices: devices.iter().map(|&it| it.to_owned()).collect(),
        ..Available::parse(METHODS, DECODERS)
    }
}

/// The names of what an `auto` camera tries if each fails, one session each.
fn tried(available: &Available) -> Vec<&'static str> {
    let mut ladder = ladder(Decode::Auto);
    assert!(ladder.is_unknown());
    ladder.start(available);
    ladder.heard_codec("h264");
    let mut tried = vec![ladder.name()];
    while ladder.failed() {
        tried.push(ladder.name());
    }
    assert_eq!(ladder.decoding(), Decoding::Software, "{tried:?}");
    assert!(!ladder.failed() && !ladder.is_unknown(), "the end is final");
    tried
}

#[test]
fn every_ladder_has_what_may_work_here_once_and_ends_in_software() {
    for (devices, expected) in [
        (
            &["null", "video0", "dri/card0"] as &[_],
            &["software"] as &[_],
        ),
        (&["dri/renderD128"], &["vaapi", "qsv", "software"]),
        (&["nvidia0"], &["cuda", "software"]),
        // A Raspberry Pi 4: its GPU's render node decodes nothing.
        (
            &["dri/renderD128", "video10", "video19"],
            &["vaapi", "qsv", "drm", "v4l2m2m", "software"],
        ),
        // FFmpeg here has no rkmpp.
        (&["mpp_service", "rga"], &["software"]),
    ] {
        assert_eq!(tried(&available(devices)), expected, "{devices:?}");
    }
    let mut rockchip = available(&["rga"]);
    rockchip.methods.push("rkmpp".to_owned());
    assert_eq!(tried(&rockchip), ["rkmpp", "software"]);
    let without_ffmpegs = Available {
        devices: available(&["dri/renderD128", "video10"]).devices,
        ..Available::default()
    };
    assert_eq!(tried(&without_ffmpegs), ["software"]);
    // Every subset of what there may be.
    let all = ["dri/renderD128", "nvidia0", "video10", "rga"];
    for bits in 0..1u32 << all.len() {
        let some = |n: &usize| bits >> n & 1 == 1;
        let devices = (0..all.len()).filter(some).map(|n| all[n]);
        let tried = tried(&available(&devices.collect::<Vec<_>>()));
        assert!(tried.len() <= ORDER.len() + 1, "{tried:?}");
    }
}

#[test]
fn a_decoder_that_the_user_has_named_stays_and_software_asks_for_nothing() {
    for (name, decode) in Decode::ALL {
        let mut ladder = ladder(decode);
        assert_eq!(ladder.is_unknown(), decode == Decode::Auto);
        if let Decode::Only(_) = decode {
            assert!(!ladder.failed());
            assert_eq!(ladder.name(), name);
            assert_ne!(ladder.decoding(), Decoding::Software);
        }
    }
    assert_eq!(ladder(Decode::Software).decoding(), Decoding::Software);
}

#[test]
fn few_pictures_or_none_are_decoded_in_software() {
    let decodes = |decode, pictures| Ladder::new(&camera(decode, pictures)).decoding();
    let vaapi = Decode::Only(Hardware::Vaapi);
    assert_eq!(
        decodes(Decode::Auto, Pictures::Keyframes),
        Decoding::Software
    );
    assert_eq!(
        decodes(vaapi, Pictures::Keyframes),
        Decoding::Hardware(Hardware::Vaapi, None)
    );
    assert_eq!(decodes(vaapi, Pictures::None), Decoding::Software);
}

#[test]
fn a_decoder_that_must_be_named_asks_for_the_codec_first_and_again_after_a_session_in_vain() {
    let mut ladder = ladder(Decode::Only(Hardware::V4l2m2m));
    let named = |codec: &str| {
        let name = format!("{codec}_v4l2m2m");
        Decoding::Hardware(Hardware::V4l2m2m, Some(name))
    };
    assert_eq!(ladder.decoding(), Decoding::Asking);
    ladder.heard_codec("h264");
    assert_eq!(ladder.decoding(), named("h264"));
    assert!(!ladder.had_no_picture());
    assert_eq!(ladder.decoding(), Decoding::Asking);
    ladder.heard_codec("hevc");
    assert_eq!(ladder.decoding(), named("hevc"));
    // One that need not be named loses nothing.
    let mut ladder = self::ladder(Decode::Only(Hardware::Vaapi));
    ladder.heard_codec("h264");
    assert!(!ladder.had_no_picture());
    assert_eq!(ladder.codec.as_deref(), Some("h264"));
}

#[test]
fn sessions_in_vain_for_unknown_reasons_are_the_decoders_failure_after_the_third_on_end() {
    let mut ladder = ladder(Decode::Auto);
    ladder.start(&available(&["dri/renderD128"]));
    assert!(!ladder.had_no_picture() && !ladder.had_no_picture());
    assert!(ladder.had_no_picture() && ladder.failed());
    assert_eq!(ladder.name(), "qsv");
    assert!(!ladder.had_no_picture(), "the next one has as many");
}

fn lines(of: &[&str]) -> Vec<(Duration, String)> {
    of.iter()
        .map(|&line| (Duration::ZERO, line.to_owned()))
        .collect()
}

#[test]
fn each_decoder_that_is_missing_is_known_by_ffmpegs_words() {
    let mut cases = 0;
    for case in REFUSED.split("\n\n").filter(|case| !case.trim().is_empty()) {
        cases += 1;
        let (head, rest) = case.split_once('\n').unwrap();
        let (said, expected) = rest.trim_end().rsplit_once("\n= ").unwrap();
        let lines = lines(&said.lines().collect::<Vec<_>>());
        let (_, exit) = head.rsplit_once(": ").unwrap();
        assert_eq!(refusal(exit, &lines).as_deref(), Some(expected), "{head}");
    }
    assert_eq!(cases, 18);
    // Not played: they need the hardware.
    for (said, expected) in [
        (
            "[h264] Failed setup for format vaapi: hwaccel initialisation returned error.",
            "Failed setup for format vaapi: hwaccel initialisation returned error",
        ),
        (
            "Device setup failed for decoder on input stream #0:0 : Permission denied",
            "Device setup failed for decoder on input stream #0:0 : Permission denied",
        ),
    ] {
        let then = "Impossible to convert between the formats supported by the filter 'a' and 'b'";
        let lines = lines(&[said, then]);
        assert_eq!(refusal("exit code 1", &lines).as_deref(), Some(expected));
    }
    let crash = refusal("signal 11", &[]);
    assert_eq!(crash.as_deref(), Some("FFmpeg crashed (signal 11)"));
    assert_eq!(refusal("signal 9", &[]), None, "killed");
}

#[test]
fn a_camera_that_fails_is_not_the_decoders_failure() {
    let ends = include_str!("../words/ends.txt");
    for case in ends.split("\n\n") {
        let (head, rest) = case.split_once('\n').unwrap();
        let of_arguments = ["== hwaccel,", "== nodecoder,"];
        let (said, _) = rest.trim_end().rsplit_once("= ").unwrap();
        let lines = lines(&said.lines().collect::<Vec<_>>());
        let theirs = of_arguments.iter().any(|it| head.starts_with(it));
        assert_eq!(refusal("exit code 1", &lines).is_some(), theirs, "{head}");
    }
}

#[test]
fn lists_of_ffmpeg_are_read() {
    let available = Available::parse(METHODS, DECODERS);
    assert_eq!(
        available.methods,
        ["vdpau", "cuda", "vaapi", "qsv", "drm", "opencl"]
    );
    let decoders = ["h264", "h264_v4l2m2m", "hevc_qsv"];
    assert!(
        decoders
            .iter()
            .all(|it| available.decoders.contains(&(*it).to_owned()))
    );
    assert!(!available.decoders.contains(&"aac".to_owned()));
    assert_eq!(Available::parse("", ""), Available::default());
}

#[test]
fn a_decoder_that_has_shown_a_picture_is_kept_while_none_comes() {
    let mut ladder = ladder(Decode::Auto);
    ladder.start(&available(&["dri/renderD128"]));
    let first = ladder.name();
    ladder.had_picture();
    assert!(ladder.is_proven());
    assert!((0..10).all(|_| !ladder.had_no_picture()));
    assert_eq!(ladder.name(), first);
    // Its own refusal counts all the same, and says nothing of the next one.
    assert!(ladder.failed() && !ladder.is_proven());
}
