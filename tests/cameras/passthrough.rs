//! With passthrough, whatever arrives of a camera's own video can be decoded.

use crate::clip::{Codec, Film};
use crate::picture::Look;
use crate::rtsp::{Camera, Play};
use crate::support::consumer::Consumer;
use crate::support::daemon::{Account, Daemon};
use crate::support::rabbit::Rabbit;
use crate::support::units::{Run, decode_strictly, runs};
use crate::support::{http, wait_until};
use crate::trial::ffmpeg;
use crate::web::{Page, Site};
use std::time::Duration;

/// For 20 s of video on a loaded machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Starts a daemon with this camera, waits until what came is `enough`, and decodes it.
#[track_caller]
fn watch(name: &str, url: &str, transport: &str, enough: impl Fn(&[Run]) -> bool) -> Account {
    let rabbit = Rabbit::shared();
    let consumer = Consumer::start(rabbit.port(), &format!("video.{name}"));
    let mut daemon = Daemon::start(&format!(
        "amqp: {{url: \"{}\"}}\nffmpeg: {{path: \"{}\"}}\npassthrough: true\npictures: none\n\
         video: {{exchange: video.{name}}}\n{}cameras:\n  \
         - {{id: door, url: \"{url}\", transport: {transport}}}\n",
        rabbit.url(),
        ffmpeg(),
        http::ON,
    ));
    wait_until(LIMIT, "enough units", || {
        enough(&runs(&consumer.of("door")))
    });
    let exit = daemon.terminate();
    let report = exit.report();
    report.check_accounting();
    decode_strictly(&runs(&consumer.of("door")));
    report.total.clone()
}

#[track_caller]
fn packets_are_lost(codec: Codec, transport: &str) {
    let clip = Film {
        codec,
        look: Look {
            width: 720,
            height: 400,
            ..Look::SMALL
        },
        seconds: 30,
        ..Film::H264
    }
    .clip();
    let camera = Camera::start(Play {
        loss: 0.01,
        ..Play::new([clip])
    });
    let name = format!("loss.{codec:?}.{transport}");
    let account = watch(&name, &camera.url(), transport, |runs| runs.len() > 4);
    let video = account.video.as_ref().unwrap();
    assert!(video.dropped["corrupt"] > 0, "{video:?}");
    assert_eq!(account.restarts_in_all(), 0);
}

#[test]
fn h264_can_be_decoded_though_packets_are_lost() {
    packets_are_lost(Codec::H264, "tcp");
}

#[test]
fn h265_over_udp_can_be_decoded_though_packets_are_lost() {
    packets_are_lost(Codec::H265, "udp");
}

#[test]
fn segments_of_hls_arrive_whole() {
    let film = Film {
        seconds: 60,
        ..Film::H264
    };
    let site = Site::start(Page::Hls(film, 2));
    let whole = |runs: &[Run]| runs.iter().any(|run| run.len() > 150);
    let account = watch("hls", &site.url("live.m3u8"), "tcp", whole);
    // That it serves segments may be found out by a first session.
    assert!(account.restarts_in_all() <= 1, "{account:?}");
}
