//! `check --connect`: a line for each broker and each camera, and an exit code.

use crate::support::program::{Call, Ended};
use crate::support::rabbit::Rabbit;
use crate::support::sources::{Mount, Rtsp};
use crate::support::{SOON, TempDir, free_port, wait_until};
use rustix::process::Signal;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

/// Twenty seconds per try, and more for a busy machine.
const ALL: Duration = Duration::from_secs(60);

fn check(config: &str) -> Ended {
    let call = Call::new(&["check", "--connect"]);
    call.file("config.yaml", config).start().wait(ALL)
}

/// The lines of the log, without times, which are longer on a busy machine.
fn lines(ended: &Ended) -> Vec<String> {
    let times = [
        (", first frame after ", " ms"),
        (": no first frame for ", " s"),
    ];
    let without = |line: &str| {
        let mut all = times.iter();
        let time = all.find_map(|(before, unit)| Some((line.split_once(before)?.0, before, unit)));
        match time {
            Some((line, before, unit)) => format!("{line}{before}…{unit}"),
            None => line.to_owned(),
        }
    };
    ended.stderr.lines().map(without).collect()
}

/// Whether a process has `text` in its command line.
fn runs(text: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let mut lines = processes.filter_map(|it| std::fs::read(it.path().join("cmdline")).ok());
    lines.any(|line| String::from_utf8_lossy(&line).contains(text))
}

#[test]
fn all_that_works_is_told_and_nothing_is_declared() {
    let rabbit = Rabbit::shared();
    let rtsp = Rtsp::start_with(&[Mount::new("door", "ball")], Some(("viewer", "s3cret")));
    let config = |exchange: &str, url: &str| {
        format!(
            "amqp: {{url: '{url}', exchange: {exchange}}}\n\
             cameras:\n- {{id: door, url: '{}'}}\n- {{id: off, url: /missing, enabled: false}}\n",
            rtsp.url("door")
        )
    };
    let broker = format!(
        "127.0.0.1:{} (RabbitMQ {})",
        rabbit.port(),
        rabbit.release()
    );
    let expected = |broker: String| {
        [
            "checking config.yaml",
            &format!("ok: connected to broker {broker}"),
            "ok: door: live: 320x240, decoded by h264 (native), first frame after … ms",
            "OK: 1 camera (1 more disabled), 1 broker",
        ]
        .map(str::to_owned)
    };
    let ended = check(&config("amq.topic", &rabbit.url()));
    assert_eq!(
        (ended.code(), lines(&ended)),
        (Some(0), expected(broker.clone()).to_vec())
    );
    assert!(ended.stdout.contains("- id: door\n"), "{}", ended.stdout);

    // If the user may not declare the exchange, the output says what the daemon needs. If the
    // exchange exists, it says nothing.
    rabbit.ctl(&["add_user", "publisher", "pw"]);
    rabbit.ctl(&["set_permissions", "-p", "/", "publisher", "^$", ".*", "^$"]);
    let url = rabbit.url_with("publisher", "pw", "/");
    let ended = check(&config("amq.topic", &url));
    assert_eq!(
        (ended.code(), lines(&ended)),
        (Some(0), expected(broker.clone()).to_vec())
    );
    let ended = check(&config("connect.absent", &url));
    let absent = format!(
        "{broker}; exchange connect.absent does not exist yet: the daemon will declare it, and its user \
         needs the configure permission for that"
    );
    assert_eq!(
        (ended.code(), lines(&ended)),
        (Some(0), expected(absent).to_vec())
    );
    let exchanges = rabbit.ctl(&["list_exchanges", "name"]);
    assert!(!exchanges.contains("connect.absent"), "{exchanges}");
}

/// The lines for two that work and for twelve faults.
fn twelve_faults(rabbit: &Rabbit, closed: u16, silent: u16) -> [String; 17] {
    let port = rabbit.port();
    [
        "checking config.yaml".to_owned(),
        "warning: config.yaml:16: cameras[5].url: /nowhere/film.mp4 does not exist; the camera \
         fails until it does"
            .to_owned(),
        format!(
            "ok: connected to broker 127.0.0.1:{port} (RabbitMQ {})",
            rabbit.release()
        ),
        format!("FAILED: broker 127.0.0.1:{closed}: connection refused"),
        format!(
            "FAILED: broker 127.0.0.1:{port}: the broker closed the connection during the login: \
             wrong user name or password"
        ),
        format!(
            "FAILED: broker 127.0.0.1:{port}/nowhere: the broker refused the connection: \
             NOT_ALLOWED - vhost nowhere not found"
        ),
        format!(
            "FAILED: broker 127.0.0.1:{port}: no TLS on this port; check the port (5671 is usual for \
             TLS), or use amqp:// in the URL"
        ),
        format!("FAILED: broker 127.0.0.1:{silent}: no answer from the broker"),
        "ok: good: live: 320x240, decoded by h264 (native), first frame after … ms".to_owned(),
        "FAILED: login: the camera refused the login (401 Unauthorized): check username and password; if \
         they are right, the camera may ask for digest with SHA-256, which FFmpeg does not know: allow \
         MD5 digest in the camera's settings"
            .to_owned(),
        "FAILED: path: the camera has no stream at this path (404 Not Found): check the path in the url"
            .to_owned(),
        "FAILED: closed: connection refused: nothing listens on this port of the camera; check host and \
         port in the url, and whether the camera is still starting"
            .to_owned(),
        "FAILED: silent: no first frame for … s".to_owned(),
        "FAILED: missing: no such file or device: check the url, and whether the device is plugged in"
            .to_owned(),
        "FAILED: text: the file is cut off or empty: FFmpeg finds no index in it (moov atom not found); \
         replace it"
            .to_owned(),
        "FAILED: graph: FFmpeg refuses its arguments: No such filter: 'nonsense'; check the filters in \
         url and output_args"
            .to_owned(),
        "FAILED: 7 of 8 cameras, 5 of 6 brokers".to_owned(),
    ]
}

#[test]
fn each_fault_is_told_in_a_line_of_its_own() {
    let rabbit = Rabbit::shared();
    let rtsp = Rtsp::start_with(&[Mount::new("door", "ball")], Some(("viewer", "s3cret")));
    let dir = TempDir::new("connect");
    let text = dir.path().join("notes.mp4").display().to_string();
    std::fs::write(&text, "no film\n").unwrap();
    let (port, closed, camera) = (rabbit.port(), free_port(), rtsp.port());
    // The kernel accepts, and nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().port();
    let config = format!(
        "amqp:\n  urls:\n  - {good}\n  - amqp://guest:guest@127.0.0.1:{closed}/\n  \
         - amqp://guest:wr0ng@127.0.0.1:{port}/\n  - amqp://guest:guest@127.0.0.1:{port}/nowhere\n  \
         - amqps://guest:guest@127.0.0.1:{port}/\n  - amqp://guest:guest@127.0.0.1:{silent}/\n  \
         exchange: amq.topic\n\
         cameras:\n\
         - {{id: good, url: '{door}'}}\n\
         - {{id: login, url: 'rtsp://viewer:wr0ng@127.0.0.1:{camera}/door'}}\n\
         - {{id: path, url: 'rtsp://viewer:s3cret@127.0.0.1:{camera}/nowhere'}}\n\
         - {{id: closed, url: 'rtsp://127.0.0.1:{closed}/door'}}\n\
         - {{id: silent, url: 'rtsp://127.0.0.1:{silent}/door', first_frame_timeout: 1s}}\n\
         - {{id: missing, url: /nowhere/film.mp4}}\n\
         - {{id: text, url: '{text}'}}\n\
         - {{id: graph, url: 'lavfi:nonsense'}}\n",
        good = rabbit.url(),
        door = rtsp.url("door"),
    );
    let ended = check(&config);
    let expected = twelve_faults(rabbit, closed, silent);
    assert_eq!(lines(&ended), expected);
    assert_eq!(ended.code(), Some(1));
    for secret in ["wr0ng", "s3cret"] {
        assert!(!ended.stderr.contains(secret) && !ended.stdout.contains(secret));
    }
}

#[test]
fn a_signal_ends_it_at_once_and_its_ffmpeg_with_it() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}/silent");
    let config = format!(
        "amqp: {{url: 'amqp://guest:guest@127.0.0.1:{port}/'}}\n\
         cameras: [{{id: silent, url: 'rtsp://{address}'}}]\n"
    );
    for signal in [Signal::INT, Signal::TERM] {
        let call = Call::new(&["check", "--connect"]);
        let program = call.file("config.yaml", &config).start();
        wait_until(SOON, "FFmpeg to ask the camera", || runs(&address));
        let ended = program.end(signal);
        assert_eq!(ended.status.signal(), Some(signal.as_raw()));
        assert!(ended.took < Duration::from_secs(2), "{:?}", ended.took);
        wait_until(SOON, "FFmpeg to end", || !runs(&address));
    }
}
