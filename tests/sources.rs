//! Pictures from every kind of source, through the real FFmpeg.

use crate::support::SOON;
use crate::support::consumer::Consumer;
use crate::support::daemon::Daemon;
use crate::support::jpeg::{decode, decodes};
use crate::support::rabbit::Rabbit;
use crate::support::sources::{Film, Mount, Rtsp, Source};
use std::ops::Range;

fn config(amqp_url: &str, exchange: &str, cameras: &str) -> String {
    format!("amqp:\n  url: {amqp_url}\n  exchange: {exchange}\ncameras:\n{cameras}")
}

/// Waits for `n` frames on end with so many per second by their times of capture, of which less
/// than one in twenty is missing. Not any `n`: the machine may stand still for a moment.
fn wait_for_rate(consumer: &Consumer, id: &str, n: usize, wanted: Range<f64>) {
    let what = format!("{n} frames of {id} with {wanted:?} frames/s");
    consumer.wait_until(3 * SOON, &what, |arrived| {
        let of_it = arrived.iter().rev().filter(|frame| frame.camera_id() == id);
        let newest: Vec<_> = of_it.take(n).collect();
        let [last, .., first] = newest[..] else {
            return false;
        };
        let span = (last.captured_at_us() - first.captured_at_us()) as f64 / 1e6;
        let captured = last.seq() - first.seq() + 1;
        newest.len() == n
            && wanted.contains(&((n - 1) as f64 / span))
            && n as f64 >= 0.95 * captured as f64
    });
}

#[test]
fn five_kinds_of_source_at_once_lose_less_than_one_frame_in_twenty() {
    const IDS: [&str; 5] = ["rtsp", "rtmp", "http", "file", "lavfi"];
    let rabbit = Rabbit::shared();
    let rtsp = Rtsp::start(&[Mount::new("camera", "ball")]);
    let (rtmp, http, film) = (Source::rtmp(15), Source::http(15), Film::make());
    let consumer = Consumer::start(rabbit.port(), "sources.five");
    let cameras = format!(
        "  - {{id: rtsp, url: \"{}\"}}\n  - {{id: rtmp, url: \"{}\"}}\n  - {{id: http, url: \"{}\"}}\n  \
         - {{id: file, url: \"{}\"}}\n  - {{id: lavfi, url: \"lavfi:testsrc2=size=640x360:rate=15\"}}\n",
        rtsp.url("camera"),
        rtmp.url(),
        http.url(),
        film.path().display(),
    );
    let mut daemon = Daemon::start(&config(&rabbit.url(), "sources.five", &cameras));
    for id in IDS {
        consumer.wait_for(id, 30, 3 * SOON);
    }
    // Steady from here on: four seconds in a row from each.
    consumer.take();
    for id in IDS {
        wait_for_rate(&consumer, id, 60, 14.0..15.7);
    }
    let exit = daemon.terminate();
    exit.report().check_accounting();
    for id in IDS {
        let account = exit.report().camera(id);
        assert_eq!(account.dropped("corrupt"), 0, "{id}: {account:?}");
        for frame in consumer.of(id) {
            assert!(decodes(frame.jpeg()), "{id}: frame {}", frame.seq());
            let picture = decode(frame.jpeg()).unwrap();
            let told = (frame.width() as usize, frame.height() as usize);
            assert_eq!((picture.width, picture.height), told);
        }
    }
}

#[test]
fn an_rtsp_login_works_by_keys_and_a_wrong_one_is_said_in_words() {
    let rabbit = Rabbit::shared();
    let rtsp = Rtsp::start_with(
        &[Mount::new("camera", "ball")],
        Some(("viewer", "p@ss-w0rd")),
    );
    let url = rtsp.bare_url("camera");
    let consumer = Consumer::start(rabbit.port(), "sources.login");
    let cameras = format!(
        "  - {{id: right, url: \"{url}\", username: viewer, password: \"p@ss-w0rd\"}}\n  \
         - {{id: wrong, url: \"{url}\", username: viewer, password: mistaken-w0rd}}\n"
    );
    let mut daemon = Daemon::start(&config(&rabbit.url(), "sources.login", &cameras));
    consumer.wait_for("right", 15, 2 * SOON);
    let line = daemon.wait_for_log("wrong: the camera refused the login", SOON);
    assert!(line.contains("401 Unauthorized"), "{line}");
    daemon.terminate().report().check_accounting();
    assert!(daemon.log_with("mistaken-w0rd").is_empty());
}

#[test]
fn an_rtsp_camera_over_udp_dies_and_comes_back() {
    let rabbit = Rabbit::shared();
    let mut rtsp = Rtsp::start(&[Mount::new("camera", "ball")]);
    let consumer = Consumer::start(rabbit.port(), "sources.udp");
    let cameras = format!(
        "  - {{id: udp, url: \"{}\", transport: udp, stale_timeout: 2s}}\n",
        rtsp.url("camera")
    );
    let mut daemon = Daemon::start(&config(&rabbit.url(), "sources.udp", &cameras));
    consumer.wait_for("udp", 30, 2 * SOON);
    rtsp.kill();
    let said = daemon.wait_for_log("WARN  udp: ", SOON);
    assert!(said.contains("starting again in"), "{said}");
    rtsp.start_again();
    consumer.take();
    consumer.wait_for("udp", 15, 2 * SOON);
    daemon.terminate().report().check_accounting();
}

#[test]
fn pictures_are_scaled_thinned_and_never_repeated() {
    let rabbit = Rabbit::shared();
    let film = Film::make();
    let consumer = Consumer::start(rabbit.port(), "sources.shape");
    let source = "lavfi:testsrc2=size=640x360:rate=15";
    let cameras = format!(
        "  - {{id: narrow, url: \"{source}\", width: 320}}\n  - {{id: fine, url: \"{source}\", quality: 2}}\n  \
         - {{id: coarse, url: \"{source}\", quality: 31}}\n  - {{id: thinned, url: \"{source}\", fps: 5}}\n  \
         - {{id: slow, url: \"lavfi:testsrc2=size=640x360:rate=7\"}}\n  - {{id: film, url: \"{}\"}}\n",
        film.path().display()
    );
    let mut daemon = Daemon::start(&config(&rabbit.url(), "sources.shape", &cameras));
    for id in ["narrow", "fine", "coarse"] {
        consumer.wait_for(id, 1, 2 * SOON);
    }
    // More frames than the film has: it is played in a loop.
    for (id, n, fps) in [("thinned", 20, 5.0), ("slow", 28, 7.0), ("film", 60, 15.0)] {
        wait_for_rate(&consumer, id, n, 0.95 * fps..1.05 * fps);
    }
    let exit = daemon.terminate();
    exit.report().check_accounting();
    let size = |id: &str| {
        let frames = consumer.of(id);
        (frames[0].width(), frames[0].height(), frames[0].len)
    };
    assert_eq!((size("narrow").0, size("narrow").1), (320, 180));
    assert!(size("fine").2 > 2 * size("coarse").2);
    let slow = consumer.of("slow");
    for pair in slow.windows(2) {
        assert_ne!(
            pair[0].jpeg(),
            pair[1].jpeg(),
            "an old picture shown as a new one"
        );
    }
    assert_eq!(exit.report().camera("film").restarts_in_all(), 0);
}
