//! What HTTP clients can see, which ones, and that they cannot disturb the program.

use crate::support::consumer::{Consumer, Delivery};
use crate::support::daemon::{Daemon, Setup};
use crate::support::http::{Http, ON, Stream, read, sip, value, values};
use crate::support::jpeg::watermark;
use crate::support::rabbit::Rabbit;
use crate::support::{
    Lateness, SOON, TempDir, fake_config, free_port, holds_within, patient, wait_for, wait_until,
};
use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn streams(ids: &[&'static str], more: &str) -> Vec<(&'static str, String)> {
    ids.iter()
        .map(|id| (*id, format!("stream,tag={id}{more}")))
        .collect()
}

/// A daemon with live cameras, and its server.
fn live(exchange: &str, more: &str, ids: &[&'static str], play: &str) -> (Daemon, Http) {
    let rabbit = Rabbit::shared();
    let config = fake_config(&rabbit.url(), exchange, more, &streams(ids, play));
    let daemon = Setup::new(&patient(&config)).watch_stop().start();
    for id in ids {
        daemon.wait_for_log(&format!("{id}: live"), SOON);
    }
    let http = daemon.http();
    wait_until(SOON, "the broker", || http.get("/readyz").status == 200);
    (daemon, http)
}

/// The status of each answer.
fn ask_in_one_go<const N: usize>(stream: &mut BufReader<TcpStream>, paths: [&str; N]) -> [u16; N] {
    let requests = paths.map(|path| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    let client = stream.get_mut();
    client.write_all(requests.concat().as_bytes()).unwrap();
    paths.map(|_| read(stream, false).unwrap().status)
}

#[test]
fn each_path_answers_and_says_the_same() {
    let (mut daemon, http) = live("http.paths", ON, &["cam1", "cam2"], "");
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/page.json", "application/json"),
        ("/status", "application/json"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
        ("/livez", "text/plain; charset=utf-8"),
        ("/readyz", "text/plain; charset=utf-8"),
        ("/debug/threads", "text/plain; charset=utf-8"),
        ("/cameras/cam1/snapshot.jpg", "image/jpeg"),
    ] {
        let answer = http.get(path);
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.field("content-type"), kind, "{path}");
        assert_eq!(answer.field("x-content-type-options"), "nosniff");
        assert_eq!(answer.field("cross-origin-resource-policy"), "same-origin");
        let head = http.request("HEAD", path, "", b"");
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert_ne!(head.field("content-length"), "0", "{path}");
    }
    for path in [
        "/favicon.ico",
        "/status/",
        "//",
        "/cameras",
        "/cameras/",
        "/cameras/cam1",
        "/cameras/cam3/snapshot.jpg",
        "/cameras/cam1/snapshot.png",
        "/cameras/../metrics",
        "/cameras/%63am1/snapshot.jpg",
    ] {
        assert_eq!(http.get(path).status, 404, "{path}");
    }

    // The accounting is exact at any moment, in each format.
    for _ in 0..20 {
        let state = http.get("/status").json();
        for camera in state["cameras"]
            .as_array()
            .unwrap()
            .iter()
            .chain([&state["total"]])
        {
            let count = |key: &str| camera[key].as_u64().unwrap();
            let dropped = camera["dropped"].as_object().unwrap().values();
            let dropped: u64 = dropped.map(|count| count.as_u64().unwrap()).sum();
            assert_eq!(
                count("captured"),
                count("published") + dropped + count("in_flight") + count("waiting"),
                "{camera}"
            );
        }
    }
    let threads = http.get("/debug/threads");
    for name in [
        "read-cam1",
        "pub-cam1",
        "read-cam2",
        "pub-cam2",
        "amqp-0",
        "http",
        "log",
        "signals",
    ] {
        let lines = threads.text().lines();
        assert!(
            lines.into_iter().any(|line| line.starts_with(name)),
            "{name}: {}",
            threads.text()
        );
    }
    assert_eq!(threads.text().lines().count() - 1, daemon.threads());

    let metrics = http.get("/metrics");
    let captured = values(metrics.text(), "edge_video_frames_captured_total");
    assert!(captured["camera_id=\"cam1\""] > 0.0 && captured.len() == 2);
    assert_eq!(value(metrics.text(), "edge_video_broker_connected"), 1.0);
    assert!(value(metrics.text(), "edge_video_memory_used_bytes") > 2e6);
    assert_eq!(
        value(metrics.text(), "process_threads") as usize,
        daemon.threads()
    );
    // Each is a separate request, and a frame may be counted between the two.
    wait_until(SOON, "a latency for each frame published", || {
        let metrics = http.get("/metrics");
        let of_cam1 = |name| values(metrics.text(), name)["camera_id=\"cam1\""];
        let told = of_cam1("edge_video_publish_to_confirm_seconds_count");
        told > 0.0 && told == of_cam1("edge_video_frames_published_total")
    });
    daemon.terminate().report().check_accounting();
}

#[test]
fn promtool_has_nothing_to_complain_of() {
    let (_daemon, http) = live("http.promtool", ON, &["cam1"], "");
    let mut check = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool, which `make test` installs");
    check
        .stdin
        .take()
        .unwrap()
        .write_all(&http.get("/metrics").body)
        .unwrap();
    let said = check.wait_with_output().unwrap();
    let words = [said.stdout, said.stderr].concat();
    assert!(
        said.status.success() && words.is_empty(),
        "{}",
        String::from_utf8_lossy(&words)
    );
}

#[test]
fn a_prometheus_that_asks_by_host_name_is_answered_under_the_names_of_http_hosts() {
    let on = "http: {listen: '127.0.0.1:0', hosts: [board.lan]}\n";
    let (_daemon, http) = live("http.hosts", on, &["cam1"], "");
    let status = |request: String| http.raw(request.as_bytes(), false).status;
    let with = |path: &str, host: &str| {
        let fields = format!("Host: {host}\r\nConnection: close");
        status(format!("GET {path} HTTP/1.1\r\n{fields}\r\n\r\n"))
    };
    assert_eq!(with("/metrics", "board.lan:2112"), 200);
    assert_eq!(with("/metrics", "other.lan:2112"), 421);
    for probe in ["/livez", "/readyz"] {
        assert_eq!(with(probe, "other.lan"), 200, "{probe}");
    }
    assert_eq!(status("GET /metrics HTTP/1.0\r\n\r\n".to_owned()), 200);
    let proxied = |host| format!("GET http://{host}/metrics HTTP/1.0\r\n\r\n");
    assert_eq!(status(proxied("board.lan")), 200);
    assert_eq!(status(proxied("other.lan")), 421);
}

#[test]
fn what_is_not_for_everybody_is_refused() {
    let (_daemon, http) = live("http.refused", ON, &["cam1"], "");
    let port = http.address.port();
    let with_host = |host: &str| {
        let request = format!("GET /status HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        http.raw(request.as_bytes(), false)
    };
    for host in [
        "evil.example",
        "evil.example:80",
        "192.0.2.1",
        "localhost.evil.example",
    ] {
        let answer = with_host(host);
        assert_eq!(answer.status, 421, "{host}");
        assert!(!answer.text().contains("cam1"));
    }
    for host in [
        "localhost",
        "127.0.0.1",
        &format!("localhost:{port}"),
        "[::1]:1",
    ] {
        assert_eq!(with_host(host).status, 200, "{host}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "FOO"] {
        let answer = http.request(method, "/metrics", "", b"");
        assert_eq!(
            (answer.status, answer.field("allow")),
            (405, "GET, HEAD"),
            "{method}"
        );
    }
    // Larger than the kernel's buffers, so that the server blocks if the client does not read.
    let body = vec![b'x'; 100_000];
    assert_eq!(http.request("POST", "/", "", &body).status, 405);
    assert_eq!(http.request("GET", "/", "", b"x").status, 400);
    let large = format!("X-Large: {}\r\n", "x".repeat(9000));
    let answer = http.request("GET", "/", &large, b"");
    assert_eq!(answer.status, 431);
    assert_eq!(http.get(&format!("/{}", "x".repeat(9000))).status, 431);
    assert_eq!(http.get(&format!("/{}", "x".repeat(7000))).status, 404);
    assert_eq!(
        http.raw(b"\x16\x03\x01\x02\x00 hello, this is TLS\r\n\r\n", false)
            .status,
        400
    );
    assert_eq!(http.raw(b"GET / HTTP/1.1\r\n\r\n", false).status, 400);
}

#[test]
fn one_connection_serves_many_requests_also_before_they_are_answered() {
    let (_daemon, http) = live("http.keep-alive", ON, &["cam1"], "");
    let mut stream = http.connect();
    for _ in 0..3 {
        write!(
            stream.get_mut(),
            "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
        )
        .unwrap();
        assert_eq!(read(&mut stream, false).unwrap().text(), "ok\n");
    }
    let paths = [
        "/livez",
        "/cameras/cam1/snapshot.jpg",
        "/nowhere",
        "/readyz",
    ];
    assert_eq!(ask_in_one_go(&mut stream, paths), [200, 200, 404, 200]);
    // Byte by byte.
    for byte in b"GET /livez HTTP/1.0\r\nHost: localhost\r\n\r\n" {
        stream.get_mut().write_all(&[*byte]).unwrap();
    }
    assert_eq!(read(&mut stream, false).unwrap().text(), "ok\n");
    assert!(read(&mut stream, false).is_err(), "HTTP/1.0 ends here");
}

#[test]
fn a_request_that_came_with_one_that_is_answered_late_is_answered_as_well() {
    let rabbit = Rabbit::shared();
    // Its second frame comes after a minute.
    let cameras = [("slow", "stream,tag=slow,fps=0.016".to_owned())];
    let config = fake_config(&rabbit.url(), "http.late", ON, &cameras).replacen(
        "{id: slow,",
        "{id: slow, stale_timeout: 3s,",
        1,
    );
    let daemon = Daemon::start(&config);
    daemon.wait_for_log("slow: live", SOON);
    let mut stream = daemon.http().connect();
    let paths = ["/cameras/slow/snapshot.jpg", "/livez"];
    assert_eq!(ask_in_one_go(&mut stream, paths), [503, 200]);
}

#[test]
fn a_snapshot_is_the_newest_frame_and_a_stream_goes_on_from_there() {
    let rabbit = Rabbit::shared();
    let consumer = Consumer::start(rabbit.port(), "http.pictures");
    let (mut daemon, http) = live("http.pictures", ON, &["cam1", "cam2"], ",fps=10");
    let (mut last, mut compared) = (0, 0);
    for _ in 0..50 {
        let (answer, number) = wait_for(SOON, "the picture to move on", || {
            let newest = consumer.of("cam1").last().map_or(0, |it| it.seq());
            let answer = http.get("/cameras/cam1/snapshot.jpg");
            let mark = watermark(&answer.body).unwrap();
            assert_eq!(mark.camera, "cam1");
            let number = i64::from(mark.number);
            assert!(
                number >= last.max(newest),
                "{number} is older than {newest} or {last}"
            );
            (number > last).then_some((answer, number))
        });
        last = number;
        let (_, seq) = answer
            .field("etag")
            .trim_matches('"')
            .split_once('-')
            .unwrap();
        let seq: i64 = seq.parse().unwrap();
        let modified = answer.field("last-modified");
        assert!(modified.ends_with(" GMT"), "{modified}");
        // A newer frame may have replaced it on its way to the broker.
        let published = || consumer.of("cam1").into_iter().find(|it| it.seq() == seq);
        if holds_within(Duration::from_secs(1), || published().is_some()) {
            assert_eq!(published().unwrap().jpeg(), answer.body);
            compared += 1;
        }
        if compared == 5 {
            break;
        }
    }
    assert_eq!(compared, 5, "what is shown is what is published");

    let mut stream = Stream::open(http, "/cameras/cam2/stream.mjpg");
    let (mut seen, mut last, mut in_a_row) = (0, 0, 0);
    // If the machine pauses for the time of a frame, one is skipped.
    while in_a_row < 20 {
        seen += 1;
        assert!(seen <= 200, "a reader that keeps up gets every frame");
        let mark = watermark(&stream.next().unwrap()).unwrap();
        assert_eq!(mark.camera, "cam2");
        assert!(mark.number > last, "{} after {last}", mark.number);
        let follows = mark.number == last + 1;
        in_a_row = if follows { in_a_row + 1 } else { 1 };
        last = mark.number;
    }
    daemon.terminate().report().check_accounting();
    while stream.next().is_some() {}
}

#[test]
fn an_open_stream_does_not_hold_up_the_end() {
    let (mut daemon, http) = live("http.end", ON, &["cam1"], "");
    let mut stream = Stream::open(http, "/cameras/cam1/stream.mjpg");
    stream.next().unwrap();
    let machine = Lateness::start();
    let exit = daemon.terminate();
    let late = machine.so_far();
    exit.report().check_accounting();
    while stream.next().is_some() {}
    assert_eq!(daemon.overdue(), Vec::<String>::new());
    eprintln!("{:?}, machine late by {late:?}", exit.took);
    assert!(
        exit.took < Duration::from_millis(500) + late,
        "{:?}",
        exit.took
    );
}

#[test]
fn a_picture_that_is_known_and_still_the_newest_is_not_sent_again() {
    let (_daemon, http) = live("http.known", ON, &["cam1"], ",fps=1");
    // With a frame a second it may change between two requests, but not each time.
    let known = wait_for(SOON, "304", || {
        let first = http.get("/cameras/cam1/snapshot.jpg");
        let fields = format!("If-None-Match: \"x\", W/{}\r\n", first.field("etag"));
        let again = http.request("GET", "/cameras/cam1/snapshot.jpg", &fields, b"");
        match again.status {
            304 => Some((first, again)),
            _ => None,
        }
    });
    assert_eq!(known.0.field("etag"), known.1.field("etag"));
    assert!(known.1.body.is_empty());
}

#[test]
fn an_old_picture_is_never_shown_as_new() {
    let rabbit = Rabbit::shared();
    let dir = TempDir::new("http-old");
    let control = dir.path().join("control");
    let hung = format!("stream,tag=hung,control={}", control.display());
    let cameras = [
        ("hung", hung),
        ("mute", "silent".to_owned()),
        ("gone", "exit,n=0,code=3".to_owned()),
    ];
    let more =
        format!("{ON}circuit_breaker: {{initial_backoff: 10m, max_backoff: 10m, max_failures: 1}}");
    let config = fake_config(&rabbit.url(), "http.old", &more, &cameras).replacen(
        "{id: hung,",
        "{id: hung, stale_timeout: 3s,",
        1,
    );
    let daemon = Daemon::start(&config);
    daemon.wait_for_log("hung: live", SOON);
    let http = daemon.http();
    wait_until(SOON, "the broker", || http.get("/readyz").status == 200);
    let mut stream = Stream::open(http, "/cameras/hung/stream.mjpg");
    assert_eq!(http.get("/cameras/hung/snapshot.jpg").status, 200);
    std::fs::write(&control, "hang,n=0").unwrap();
    while stream.next().is_some() {}
    // The stream ended because the camera did.
    let answer = wait_for(SOON, "no picture any more", || {
        let answer = http.get("/cameras/hung/snapshot.jpg");
        (answer.status == 503 && answer.text().contains("next try in")).then_some(answer)
    });
    let text = answer.text();
    assert!(
        text.starts_with("no fresh picture: next try in ") && text.contains("no frame for 3 s"),
        "{text}"
    );
    assert_eq!(answer.field("retry-after"), "1");
    let answer = http.get("/cameras/mute/snapshot.jpg");
    assert_eq!(
        (answer.status, answer.text()),
        (503, "no fresh picture: waiting for its first frame\n")
    );
    let quiet = http.get("/cameras/mute/snapshot.jpg?t=1&missing=204");
    assert_eq!((quiet.status, quiet.body.len()), (204, 0));
    let answer = http.get("/cameras/gone/stream.mjpg");
    assert_eq!(answer.status, 503);
    assert!(
        answer.text().contains("FFmpeg ended (exit code 3)"),
        "{}",
        answer.text()
    );
    // None of this concerns /livez, and the broker is connected.
    assert_eq!(
        (http.get("/livez").status, http.get("/readyz").status),
        (200, 200)
    );
    let metrics = http.get("/metrics");
    let up = values(metrics.text(), "edge_video_camera_up");
    assert!(up.len() == 3 && up.values().all(|up| *up == 0.0), "{up:?}");
    let breaker = values(metrics.text(), "edge_video_circuit_breaker_state");
    assert_eq!(breaker["camera_id=\"gone\""], 2.0);
    let restarts = values(metrics.text(), "edge_video_ffmpeg_restarts_total");
    assert_eq!(restarts["camera_id=\"hung\",reason=\"stalled\""], 1.0);
    let state = http.get("/status").json();
    assert_eq!(state["verdict"], "2 of 3 cameras are down");
}

#[test]
fn pictures_are_for_whom_the_configuration_says() {
    let http_on = |more: &str| format!("http: {{listen: '0.0.0.0:0', pictures: {more}}}\n");
    let snapshot = "/cameras/cam1/snapshot.jpg";
    let away = own_address();
    for (pictures, here, elsewhere) in [
        ("never", 403, 403),
        ("loopback", 200, 403),
        ("always", 200, 200),
    ] {
        let (_daemon, http) = live(
            &format!("http.{pictures}"),
            &http_on(pictures),
            &["cam1"],
            "",
        );
        let here_http = Http::new(([127, 0, 0, 1], http.address.port()).into());
        assert_eq!(here_http.get(snapshot).status, here, "{pictures}");
        let shown = here_http.get("/status").json()["pictures"]
            .as_bool()
            .unwrap();
        assert_eq!(shown, here == 200, "{pictures}");
        let stream = here_http.request("HEAD", "/cameras/cam1/stream.mjpg", "", b"");
        assert_eq!(stream.status, here);
        if here == 403 {
            let answer = here_http.get(snapshot);
            assert_eq!(answer.text(), "pictures are not shown: see http.pictures\n");
            assert!(!here_http.get("/").text().contains(" src=\"/cameras"));
        }
        match away {
            Some(away) => {
                let there_http = Http::new((away, http.address.port()).into());
                assert_eq!(there_http.get(snapshot).status, elsewhere, "{pictures}");
                assert_eq!(there_http.get("/status").status, 200);
            }
            None => {
                eprintln!("this machine has no address but loopback: half of this is not tested")
            }
        }
    }
}

/// An address of this machine that is not loopback.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Sends nothing: asks for the route.
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

#[test]
fn it_is_ready_when_the_broker_is_there_and_says_why_not() {
    let port = free_port();
    let config = fake_config(
        &format!("amqp://127.0.0.1:{port}/"),
        "http.ready",
        ON,
        &streams(&["cam1"], ""),
    );
    let mut daemon = Daemon::start(&config);
    let http = daemon.http();
    let answer = wait_for(SOON, "the reason", || {
        let answer = http.get("/readyz");
        answer.text().contains("refused").then_some(answer)
    });
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.text(),
        format!("broker 127.0.0.1:{port}: connection refused\n")
    );
    assert_eq!(http.get("/livez").status, 200);
    wait_until(SOON, "the page to say so", || {
        http.get("/").text().contains("The broker is not connected")
    });
    let metrics = http.get("/metrics");
    assert_eq!(value(metrics.text(), "edge_video_broker_connected"), 0.0);
    // While it stops it is not ready any more, if it can still be asked.
    daemon.terminate();
    assert!(TcpStream::connect(http.address).is_err());
}

#[test]
fn a_port_that_is_taken_ends_it_with_a_clear_word() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap();
    let more = format!("http: {{listen: '{listen}'}}\n");
    let config = fake_config(
        "amqp://127.0.0.1:9/",
        "http.taken",
        &more,
        &streams(&["cam1"], ""),
    );
    let mut daemon = Daemon::start(&config);
    let exit = daemon.wait_exit(SOON);
    assert_eq!(exit.code(), Some(1));
    let line = daemon.wait_for_log("cannot run", SOON);
    assert!(
        line.contains(&format!(
            "no status page at {listen}: Address already in use; another edge-video may be \
             running: choose another port with http.listen, or set http.enabled: false"
        )),
        "{line}"
    );
    assert!(daemon.log_with("cam1: live").is_empty());
    // Right after its end a daemon gets its port again.
    drop(taken);
    for _ in 0..2 {
        let mut daemon = Daemon::start(&config);
        assert_eq!(daemon.http().get("/livez").status, 200);
        assert_eq!(daemon.terminate().code(), Some(0));
    }
}

#[test]
fn no_secret_is_seen() {
    let rabbit = Rabbit::shared();
    rabbit.ctl(&["add_user", "http-secret", "Zq8-brokerpw"]);
    let url = rabbit.url_with("http-secret", "Zq8-brokerpw", "/");
    let more = format!("{ON}circuit_breaker: {{enabled: false}}");
    let fake = fake_config(&url, "http.secret", &more, &[]);
    let config = fake
        + "  - {id: leaky, url: 'rtsp://127.0.0.1/fake:secret', username: admin, password: 'Zq8-camerapw%'}\n\
           \x20 - {id: inline, url: 'rtsp://admin:Zq8-inlinepw@127.0.0.1/fake:secret,token=Zq8'}\n";
    let daemon = Setup::new(&config).env("RUST_LOG", "debug").start();
    let http = daemon.http();
    wait_until(SOON, "errors to show", || {
        let cameras = http.get("/status").json();
        let cameras = cameras["cameras"].as_array().unwrap().clone();
        cameras
            .iter()
            .all(|camera| camera["last_error"].is_string())
            && http.get("/readyz").text().contains("broker")
    });
    for path in [
        "/",
        "/page.json",
        "/status",
        "/metrics",
        "/readyz",
        "/livez",
        "/debug/threads",
        "/cameras/leaky/snapshot.jpg",
        "/cameras/inline/stream.mjpg",
    ] {
        let answer = http.get(path);
        for secret in [
            "Zq8-brokerpw",
            "Zq8-camerapw",
            "Zq8-inlinepw",
            "http-secret:",
            "admin:",
        ] {
            assert!(
                !answer.text().contains(secret),
                "{secret} in {path}: {}",
                answer.text()
            );
        }
    }
    rabbit.ctl(&["delete_user", "http-secret"]);
}

#[test]
fn the_page_lets_nothing_in_and_asks_nothing_elsewhere() {
    let (_daemon, http) = live("http.policy", ON, &["cam1"], ",fps=2");
    let page = http.get("/");
    let policy = page.field("content-security-policy");
    assert!(
        policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert_eq!(page.field("cache-control"), "no-store");
    let nonce = |answer: &crate::support::http::Answer| {
        let policy = answer.field("content-security-policy").to_owned();
        policy
            .split("'nonce-")
            .nth(1)
            .unwrap()
            .split('\'')
            .next()
            .unwrap()
            .to_owned()
    };
    assert_ne!(
        nonce(&page),
        nonce(&http.get("/")),
        "a nonce is for one answer"
    );
    let text = page.text();
    assert_eq!(
        text.matches(&format!("nonce=\"{}\"", nonce(&page))).count(),
        2
    );
    for outside in ["http://", "https://"] {
        let places: Vec<_> = text
            .match_indices(outside)
            .map(|(at, _)| &text[at..(at + 30).min(text.len())])
            .collect();
        assert!(
            places
                .iter()
                .all(|place| place.starts_with("http://www.w3.org/2000/svg")),
            "{places:?}"
        );
    }
    // The facts are shown without the script. At a low frame rate, frames lost at a slow start are
    // not shown as a problem.
    for fact in [
        "The camera is live",
        "cam1",
        "320×240",
        "<span data-text=\"asked\">of 15",
        "connected to 127.0.0.1",
    ] {
        assert!(text.contains(fact), "{fact}");
    }
    assert!(text.contains("<noscript><meta http-equiv=\"refresh\""));
}

fn p99_us(deliveries: &[Arc<Delivery>]) -> i64 {
    let mut latencies: Vec<_> = deliveries
        .iter()
        .map(|delivery| delivery.arrived_us - delivery.captured_at_us())
        .collect();
    latencies.sort_unstable();
    latencies[latencies.len() * 99 / 100]
}

/// 200 clients that send nothing, 10 that send half a request, and 50 that request streams and
/// large answers again and again and hardly read them.
fn storm(http: Http) -> Vec<TcpStream> {
    let mut clients = Vec::new();
    let mut client = |says: &str| {
        let mut stream = http.connect().into_inner();
        let _ = stream.write_all(says.as_bytes());
        clients.push(stream);
    };
    for _ in 0..200 {
        client("");
    }
    for _ in 0..10 {
        client("GET /metrics HTTP/1.1\r\nHos");
    }
    for n in 0..50 {
        let path = match n % 5 {
            0 => "/metrics".to_owned(),
            1 => "/status".to_owned(),
            n => format!("/cameras/cam{}/stream.mjpg", n - 1),
        };
        client(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").repeat(20));
    }
    for client in &clients[210..] {
        let _ = sip(client);
    }
    clients
}

#[test]
fn two_hundred_idle_and_fifty_greedy_clients_disturb_nothing() {
    let rabbit = Rabbit::shared();
    let consumer = Consumer::start_with(rabbit.port(), "http.greedy", "#", false);
    let (ids, in_peace) = (["cam1", "cam2", "cam3", "cam4"], ["a", "b", "c", "d"]);
    let (mut daemon, http) = live("http.greedy", ON, &ids, ",size=30000");
    // A second daemon has the same cameras, broker and machine, but no clients.
    let quiet = streams(&in_peace, ",size=30000");
    let quiet = fake_config(&rabbit.url(), "http.greedy", "", &quiet);
    let mut quiet = Daemon::start(&patient(&quiet));
    let measure = |what: &str| {
        consumer.take();
        consumer.wait_until(SOON, what, |arrived| arrived.len() >= 700);
        let of = |frame: &Arc<Delivery>| ids.contains(&frame.camera_id());
        let (own, other): (Vec<_>, Vec<_>) = consumer.take().into_iter().partition(of);
        let groups = [own, other];
        assert!(groups.iter().all(|frames| frames.len() >= 300));
        groups.map(|frames| p99_us(&frames))
    };
    measure("warm-up");
    let (rss, threads) = (daemon.rss_kb(), daemon.threads());
    for _ in 0..3 {
        let (begun, cpu) = (Instant::now(), daemon.cpu_of("http"));
        let clients = storm(http);
        let [stormy, calm] = measure("frames while 260 clients annoy");
        let (lasted, cpu) = (begun.elapsed(), daemon.cpu_of("http") - cpu);
        let (machine, asked) = (Lateness::start(), Instant::now());
        for path in ["/livez", "/cameras/cam1/snapshot.jpg", "/metrics"] {
            assert_eq!(http.get(path).status, 200, "{path}");
        }
        let (waited, late) = (asked.elapsed(), machine.so_far());
        let grown = daemon.rss_kb().saturating_sub(rss);
        eprintln!(
            "p99 {calm} us in peace, {stormy} us annoyed; served in {waited:?}, machine late by \
             {late:?}; {grown} KB more; {cpu:?} of CPU in {lasted:?}"
        );
        // A third of what the answers to all requests of the clients would need.
        assert!(grown < 10 << 10, "{grown} KB more");
        assert!(cpu < lasted / 10, "{cpu:?} of CPU in {lasted:?}");
        assert_eq!(daemon.threads(), threads);
        assert!(waited < Duration::from_secs(2) + late, "{waited:?}");
        // On a shared machine latency varies by some milliseconds.
        assert!(
            stormy < calm * 2 + 20_000,
            "p99 {stormy} us, and {calm} us of the other daemon"
        );
        drop(clients);
    }
    quiet.terminate().report().check_accounting();
    daemon.terminate().report().check_accounting();
}

#[test]
fn nobody_looks_and_nothing_is_left_of_who_did() {
    let rabbit = Rabbit::shared();
    let config = fake_config(&rabbit.url(), "http.left", ON, &streams(&["cam1"], ""));
    let mut daemon = Daemon::start(&config);
    let consumer = Consumer::start(rabbit.port(), "http.left");
    consumer.wait_for("cam1", 5, SOON);
    // Before anybody has asked for anything.
    let (http, fds, threads) = (daemon.http(), daemon.fds(), daemon.threads());
    for _ in 0..50 {
        let mut stream = Stream::open(http, "/cameras/cam1/stream.mjpg");
        stream.next().unwrap();
    }
    wait_until(SOON, "all that was opened to be closed", || {
        daemon.fds() == fds && daemon.threads() == threads
    });
    daemon.terminate().report().check_accounting();
}

#[test]
fn a_summary_comes_at_its_time_and_names_who_has_a_problem() {
    let rabbit = Rabbit::shared();
    // At a low frame rate, frames lost at a slow start are not shown as a problem.
    let cameras = [
        ("well", "stream,tag=well,fps=2".to_owned()),
        ("gone", "exit,n=0,code=3".to_owned()),
    ];
    let config = fake_config(
        &rabbit.url(),
        "http.summary",
        "log: {summary: 1s}",
        &cameras,
    );
    let daemon = Daemon::start(&config);
    wait_until(SOON, "three summaries", || {
        let lines = daemon.log_with("1 of 2 cameras live; in 1 s ");
        let ready = |line: &&String| line.contains("; broker connected; memory ");
        lines.iter().filter(ready).count() >= 3
    });
    let of_summary = |line: &String| line.contains("; in 1 s ");
    assert!(daemon.log_with("gone: ").iter().any(of_summary));
    let well = daemon.log_with("well: ");
    let mut since_live = well.iter().skip_while(|line| !line.contains("well: live"));
    assert!(!since_live.any(of_summary), "{well:?}");
    let quiet = config.replace("{summary: 1s}", "{summary: off}");
    let mut daemon = Daemon::start(&quiet);
    daemon.wait_for_log("well: live", SOON);
    std::thread::sleep(Duration::from_millis(1500));
    daemon.terminate();
    assert!(daemon.log_with("cameras live").is_empty());
}
