//! What cameras send, and what arrives of it.

use super::live::Live;
use super::{ONLY_VIDEO, START, Watched, film};
use crate::support::consumer::Delivery;
use crate::support::sources::{Mount, Rtsp, Source};
use crate::support::units::{header, is_key};
use crate::support::{TempDir, jpeg, wait_until};
use amiquip::AmqpValue;
use std::collections::BTreeSet;
use std::sync::Arc;

/// H.264 with a keyframe each 15 frames.
const H264: &str = "-c:v libx264 -preset ultrafast -g 15";

#[test]
fn each_unit_of_an_rtsp_camera_can_be_decoded() {
    let mounts = [
        ("half", "x264enc tune=zerolatency key-int-max=7"),
        (
            "two",
            "x264enc key-int-max=30 bframes=2 b-adapt=false rc-lookahead=5",
        ),
        ("hevc", "x265enc tune=zerolatency key-int-max=7"),
        (
            "hevcb",
            "x265enc key-int-max=30 option-string=bframes=2:open-gop=0:rc-lookahead=5",
        ),
        (
            "refresh",
            "x264enc tune=zerolatency key-int-max=30 intra-refresh=true",
        ),
        ("ten", "x264enc tune=zerolatency key-int-max=150"),
    ];
    let server = Rtsp::start(&mounts.map(|(id, it)| Mount::new(id, "ball").encoder(it)));
    let cameras = mounts.map(|(id, _)| (id, server.url(id)));
    let mut watched = Watched::start("rtsp", ONLY_VIDEO, &cameras);
    for (id, _) in mounts {
        watched.wait_for_run(id, 75);
    }
    let exit = watched.ends();
    for (id, _) in mounts {
        let runs = watched.decodes(id);
        let codec = header(&runs[0][0], "codec");
        let expected = if id.starts_with("hevc") {
            "h265"
        } else {
            "h264"
        };
        assert_eq!(codec, AmqpValue::LongString(expected.to_owned()), "{id}");
        assert_eq!(exit.report().camera(id).restarts_in_all(), 0, "{id}");
        let units = runs.concat();
        let keys = units.iter().filter(|unit| is_key(unit)).count();
        let gop = match id {
            "half" | "hevc" => 7,
            "ten" => 150,
            _ => 30,
        };
        assert!(keys >= 75 / gop, "{id}: {keys} keys of {}", units.len());
    }
}

/// Who joins in mid-stream gets the next key unit first.
#[test]
fn a_camera_that_is_joined_in_the_middle_begins_with_its_next_key_unit() {
    let h264 = "-c:v libx264 -preset ultrafast -g 45 -bf 2";
    let h265 = "-c:v libx265 -preset ultrafast -x265-params keyint=45:open-gop=0:log-level=error";
    let live = [h264, h265].map(|it| Live::start(&format!("320x240 {it} -f mpegts")));
    let cameras = ["avc", "hevc"].map(|id| (id, live[usize::from(id == "hevc")].url()));
    let mut seqs = vec![];
    for n in 0..3 {
        let mut watched = Watched::start(&format!("middle{n}"), ONLY_VIDEO, &cameras);
        for (id, _) in &cameras {
            watched.units.wait_for(id, 50, START);
        }
        watched.ends();
        for (id, _) in &cameras {
            let first = &watched.decodes(id)[0][0];
            assert_eq!(header(first, "gop_index"), AmqpValue::LongInt(0));
            seqs.push(first.seq());
        }
    }
    eprintln!("the first units that arrived: {seqs:?}");
}

#[test]
fn pictures_come_beside_the_units_all_of_them_or_those_of_keyframes() {
    let server = Rtsp::start(&[Mount::new("camera", "ball")]);
    for (pictures, few) in [("all", false), ("keyframes", true)] {
        let name = format!("both-{pictures}");
        let more = format!("passthrough: true\npictures: {pictures}");
        let cameras = [("camera", server.url("camera"))];
        let mut watched = Watched::start(&name, &more, &cameras);
        watched.wait_for_run("camera", 75);
        watched.pictures.wait_for("camera", 4, START);
        watched.ends();
        watched.decodes("camera");
        let pictures = watched.pictures.of("camera");
        let epochs =
            |all: &[Arc<Delivery>]| -> BTreeSet<i64> { all.iter().map(|it| it.epoch()).collect() };
        let units = watched.units.of("camera");
        assert!(epochs(&pictures).is_subset(&epochs(&units)), "one session");
        assert!(pictures.iter().all(|it| jpeg::decodes(it.jpeg())));
        // Of one second each. A GOP may have been dropped whose picture was not.
        let seconds = units.last().unwrap().seq() / 15 + 2;
        eprintln!("{} pictures, {} units", pictures.len(), units.len());
        match few {
            true => assert!(pictures.len() as i64 <= seconds, "{seconds} s"),
            false => assert!(pictures.len() as i64 > 2 * seconds, "{seconds} s"),
        }
    }
}

#[test]
fn units_come_over_rtmp_and_http_and_from_files() {
    let folder = TempDir::new("video-sources");
    let flv = Live::start(&format!("320x240 {H264} -bf 2 -f flv"));
    let ts = Live::start(&format!("320x240 {H264} -bf 2 -f mpegts"));
    let hevc = Live::start(
        "320x240 -c:v libx265 -preset ultrafast -x265-params \
         keyint=15:open-gop=0:log-level=error -f mpegts",
    );
    let fragments = Live::start(&format!(
        "320x240 {H264} -movflags frag_keyframe+empty_moov -f mp4"
    ));
    let rtmp = Source::rtmp(15);
    let mp4 = film(folder.path(), "libx264", 10);
    let cameras = [
        ("flv", flv.url()),
        ("ts", ts.url()),
        ("hevc", hevc.url()),
        ("fragments", fragments.url()),
        ("rtmp", rtmp.url().to_owned()),
        ("mp4", mp4.display().to_string()),
    ];
    let mut watched = Watched::start("sources", ONLY_VIDEO, &cameras);
    for (id, _) in &cameras {
        watched.wait_for_run(id, 60);
    }
    let exit = watched.ends();
    for (id, _) in &cameras {
        watched.decodes(id);
        // FFmpeg as an RTMP server is away for a moment after each client.
        let most = u64::from(*id == "rtmp");
        let restarts = exit.report().camera(id).restarts_in_all();
        assert!(restarts <= most, "{id}: {restarts} restarts");
    }
    let said = watched.daemon.log_with("no start codes");
    assert_eq!(said, Vec::<String>::new(), "nobody need know");
}

#[test]
fn a_camera_without_h264_or_h265_is_told_so_and_its_pictures_go_on() {
    let mjpeg = Live::start("320x240 -c:v mjpeg -q:v 5 -f mpjpeg");
    let url = mjpeg.url();
    let lavfi = "lavfi:testsrc2=size=320x240:rate=15".to_owned();
    let cameras = [("mjpeg", url), ("test", lavfi)];
    // FFmpeg 5.1 and 7.1 name a test picture's codec so.
    let codecs = |id: &str| match id {
        "test" => ["rawvideo", "wrapped_avframe"],
        _ => ["mjpeg"; 2],
    };
    let says = |watched: &Watched, id: &str, then: &str| {
        let lines = codecs(id).map(|codec| {
            format!(
                "WARN  {id}: the stream is {codec}, but only H.264 and H.265 can be passed \
                 through{then}"
            )
        });
        let mut log = watched.daemon.log();
        log.retain(|said| lines.iter().any(|line| said.contains(line)));
        log.len()
    };
    let mut watched = Watched::start("none", "passthrough: true", &cameras);
    for (id, _) in &cameras {
        watched.pictures.wait_for(id, 30, START);
        let said = says(&watched, id, "; publishing pictures only");
        assert_eq!(said, 1, "{:?}", watched.daemon.log());
    }
    let exit = watched.ends();
    assert_eq!(exit.report().total.restarts("exited"), 0);
    assert_eq!(watched.units.count(), 0);

    let mut watched = Watched::start("error", ONLY_VIDEO, &cameras);
    for (id, _) in &cameras {
        wait_until(START, "the camera's error", || {
            says(&watched, id, "; starting again in ") == 1
        });
    }
    watched.ends();
    assert_eq!(watched.units.count() + watched.pictures.count(), 0);
}
