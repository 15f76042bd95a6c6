//! Hostile brokers, other servers and publishers: whatever they send, the process survives, logs
//! the reason in one line, and nothing grows.

use crate::support::consumer::Consumer;
use crate::support::daemon::Daemon;
use crate::support::hostile::{self, Hostile, KINDS, long, method};
use crate::support::program::Call;
use crate::support::proxy::Proxy;
use crate::support::rabbit::{self, Rabbit};
use crate::support::tls::Tls;
use crate::support::{SOON, TempDir, fake_config, wait_until};
use rustix::process::Signal;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// A configuration with several brokers.
fn config_of(urls: &[String], exchange: &str, more: &str, cameras: &[(&str, String)]) -> String {
    let urls: Vec<_> = urls.iter().map(|url| format!("\"{url}\"")).collect();
    let url = "amqp://guest:guest@127.0.0.1:1/";
    fake_config(url, exchange, "", cameras).replacen(
        &format!("url: {url}"),
        &format!("urls: [{}]{more}", urls.join(", ")),
        1,
    )
}

#[test]
fn each_peer_that_is_no_good_broker_is_refused_in_words_and_the_process_lives() {
    let cameras = [("cam1", "stream".to_owned())];
    for (kind, says) in KINDS {
        let hostile = Hostile::start(kind);
        let mut daemon = Daemon::start(&config_of(&[hostile.url()], "hostile", "", &cameras));
        let line = daemon.wait_for_log(&format!("127.0.0.1:{}: ", hostile.port()), SOON);
        let rest = "; retrying, keeping only the newest frame of each camera";
        assert!(
            line.ends_with(&format!(": {says}{rest}")),
            "{kind:?}: {line}"
        );
        wait_until(SOON, "another try", || hostile.served() > 2);
        let said = daemon.log_with("retrying");
        assert_eq!(said.len(), 1, "{said:?}");
        let exit = daemon.terminate();
        exit.report().check_accounting();
    }
}

#[test]
fn a_thousand_hostile_connections_of_ten_kinds_leave_nothing_behind() {
    const IDS: [&str; 6] = ["cam1", "cam2", "cam3", "cam4", "cam5", "cam6"];
    let rabbit = Rabbit::shared();
    let proxy = Proxy::start(rabbit.port());
    let hostile = KINDS.map(|(kind, _)| Hostile::start(kind));
    let real = rabbit::url(proxy.port(), "guest", "guest", "/");
    let mut urls = vec![real];
    urls.extend(hostile.iter().map(Hostile::url));
    let cameras = IDS.map(|id| (id, format!("stream,tag={id}")));
    // A connection for each camera, so that a thousand take seconds.
    let config = config_of(&urls, "hostile.many", "\n  connections: 0", &cameras);
    let mut daemon = Daemon::start(&config);
    let consumer = Consumer::start(rabbit.port(), "hostile.many");
    let flows = |consumer: &Consumer, frames: usize| {
        for id in IDS {
            consumer.wait_for(id, frames, SOON);
        }
    };
    let served = || hostile.iter().map(Hostile::served).sum::<usize>();
    // Once before measuring: the first use of some code allocates memory that stays.
    let mut state = None;
    for connections in [60, 1000] {
        let before = served();
        proxy.refuse();
        let many = || served() - before >= connections;
        wait_until(Duration::from_secs(120), "hostile connections", many);
        assert!(daemon.is_running());
        consumer.take();
        proxy.pass();
        let back = Instant::now();
        flows(&consumer, 1);
        let back = back.elapsed();
        // Two seconds of frames, as before.
        flows(&consumer, 30);
        let counts = (daemon.threads(), daemon.fds(), daemon.children().len());
        let rss = daemon.rss_kb();
        eprintln!("{connections}: frames after {back:?}, {counts:?}, {rss} kB");
        match state {
            None => state = Some((counts, rss)),
            Some((counts_before, rss_before)) => {
                assert_eq!(counts, counts_before, "threads, descriptors, children");
                assert!(rss < rss_before + 2048, "{rss_before} kB grew to {rss} kB");
                assert!(back < Duration::from_secs(3), "frames after {back:?}");
            }
        }
    }
    let exit = daemon.terminate();
    exit.report().check_accounting();
    assert_eq!(
        exit.report().total.restarts_in_all(),
        0,
        "no camera noticed"
    );
}

#[test]
fn a_broker_that_lets_us_in_and_ends_each_connection_keeps_us_from_no_other() {
    let first = Hostile::start_with(hostile::welcome_twice);
    let rabbit = Rabbit::shared();
    let cameras = [("cam1", "stream,tag=cam1".to_owned())];
    let urls = [first.url(), rabbit.url()];
    let mut daemon = Daemon::start(&config_of(&urls, "hostile.first", "", &cameras));
    let consumer = Consumer::start(rabbit.port(), "hostile.first");
    consumer.wait_for("cam1", 15, SOON);
    assert_eq!(first.served(), 1, "after it the next one is tried first");
    assert_eq!(daemon.log_with("ERROR amiquip").len(), 1);
    daemon.terminate().report().check_accounting();
}

#[test]
fn a_broker_is_held_to_its_bounds_under_tls_too_and_a_port_without_tls_is_named() {
    let dir = TempDir::new("hostile-tls");
    let certificates = Tls::new(dir.path());
    let read = |name: &str| std::fs::read(certificates.path(name)).unwrap();
    let identity = native_tls::Identity::from_pkcs8(&read("good.pem"), &read("good.key")).unwrap();
    let acceptor = native_tls::TlsAcceptor::new(identity).unwrap();
    let nested = Hostile::start_with(move |stream| {
        let Ok(mut session) = acceptor.accept(stream) else {
            return;
        };
        if session.read_exact(&mut [0; 8]).is_ok() {
            let _ = session.write_all(&hostile::start(&hostile::nested_tables(15_000)));
            while session.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {}
        }
    });
    let plain = Hostile::start_with(|stream| {
        let _ = stream.write_all(b"AMQP\0\0\x09\x01");
        while stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {}
    });
    for (peer, says) in [
        (&nested, KINDS[0].1),
        (
            &plain,
            "no TLS on this port; check the port (5671 is usual for TLS), or use amqp:// in the URL",
        ),
    ] {
        let url = peer.url().replacen("amqp:", "amqps:", 1);
        let tls = format!("\n  tls: {{ca_file: {}}}", certificates.path("ca.pem"));
        let cameras = [("cam1", "stream".to_owned())];
        let mut daemon = Daemon::start(&config_of(&[url], "hostile", &tls, &cameras));
        let line = daemon.wait_for_log(&format!("127.0.0.1:{}: ", peer.port()), SOON);
        assert!(line.contains(says), "{line}");
        daemon.terminate().report().check_accounting();
    }
}

/// Logs in and publishes a message with this content header, as no client library would.
fn publish_raw(port: u16, exchange: &str, header: &[u8], body: &[u8]) {
    let short = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let content = |kind: u8, payload: &[u8]| [&[kind, 0, 1], &long(payload)[..], &[0xce]].concat();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let login = [
        long(b""),
        short("PLAIN"),
        long(b"\0guest\0guest"),
        short("en_US"),
    ];
    let publish = [&b"\0\0"[..], &short(exchange), &short("camera.cam1"), b"\0"].concat();
    let sent = [
        b"AMQP\0\0\x09\x01".to_vec(),
        method(0, 10, 11, &login.concat()),
        method(0, 10, 31, &[7, 255, 0, 2, 0, 0, 0, 0]),
        method(0, 10, 40, b"\x01/\0\0"),
        method(1, 20, 10, b"\0"),
        method(1, 60, 40, &publish),
        content(2, header),
        content(3, body),
        // The answer shows that the broker has read everything before it.
        method(1, 20, 40, &[0; 7]),
    ];
    stream.write_all(&sent.concat()).unwrap();
    let closed = method(1, 20, 41, b"");
    let (mut heard, mut buffer) = (vec![], [0; 4096]);
    wait_until(SOON, "the broker to have read the message", || {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "the broker hung up: {}", heard.escape_ascii());
        heard.extend(&buffer[..count]);
        heard.ends_with(&closed)
    });
}

#[test]
fn a_watch_outlives_what_any_publisher_may_send() {
    let rabbit = Rabbit::shared();
    let cameras = [("cam1", "stream,tag=cam1".to_owned())];
    let config = fake_config(&rabbit.url(), "hostile.watch", "", &cameras);
    Consumer::start(rabbit.port(), "hostile.watch").stop();
    let mut daemon = Daemon::start(&config);
    let watch = Call::new(&["watch", "--config", "config.yaml"])
        .file("config.yaml", &config)
        .start();
    watch.wait_for_stdout("cam1", SOON);
    let properties = |size: u64, table: &[u8]| {
        let size = size.to_be_bytes();
        [&[0, 60, 0, 0], &size[..], &[0x20, 0], &long(table)].concat()
    };
    let nested = [
        &b"\x09camera_idS\0\0\0\x06nested"[..],
        &hostile::nested_arrays(5000),
    ]
    .concat();
    publish_raw(
        rabbit.port(),
        "hostile.watch",
        &properties(3, &nested),
        b"abc",
    );
    watch.wait_for_stdout("nested", SOON);
    let escapes = b"\x09camera_idS\0\0\0\x0b\x1b[2Jforeign";
    publish_raw(
        rabbit.port(),
        "hostile.watch",
        &properties(3, escapes),
        b"abc",
    );
    watch.wait_for_stdout("?[2Jforeign", SOON);
    let ended = watch.end(Signal::INT);
    assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""));
    assert!(!ended.stdout.contains('\x1b'), "{}", ended.stdout);
    daemon.terminate().report().check_accounting();
}
