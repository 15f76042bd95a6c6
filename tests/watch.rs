//! `edge-video watch`, against a daemon and a broker that are real.

use crate::support::consumer::Consumer;
use crate::support::daemon::Daemon;
use crate::support::guarded::{self, Guarded};
use crate::support::jpeg::watermark;
use crate::support::program::{Call, Listener};
use crate::support::rabbit::Rabbit;
use crate::support::{SOON, fake_config, holds_within, wait_until};
use rustix::process::Signal;
use std::io::Read;
use std::ops::Range;
use std::process::Stdio;
use std::time::Duration;

fn two_cameras() -> Vec<(&'static str, String)> {
    ["cam1", "cam2"]
        .map(|id| (id, format!("stream,tag={id},size=30000")))
        .to_vec()
}

/// Declared as the daemon does, since `watch` declares no exchange.
fn declare(rabbit: &Rabbit, exchange: &str) {
    Consumer::start(rabbit.port(), exchange).stop();
}

/// The columns of a camera's lines in the tables so far.
fn lines(stdout: &str, id: &str) -> Vec<Vec<String>> {
    stdout
        .lines()
        .filter(|line| line.split_whitespace().next() == Some(id))
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect()
}

#[test]
fn the_table_shows_each_camera_with_size_rate_and_age() {
    let rabbit = Rabbit::shared();
    let config = fake_config(&rabbit.url(), "watch.table", "", &two_cameras());
    declare(rabbit, "watch.table");
    let mut daemon = Daemon::start(&config);
    let watch = Call::new(&["watch", "--config", "config.yaml"])
        .file("config.yaml", &config)
        .start();
    for id in ["cam1", "cam2"] {
        // The first period begins before the first frame, and the machine may pause during another.
        let as_it_is = holds_within(SOON, || {
            lines(&watch.stdout(), id).iter().skip(1).any(|line| {
                let word = |n: usize| line.get(n).map(String::as_str);
                let is = |n: usize, wanted: Range<f64>| {
                    word(n).is_some_and(|word| word.parse().is_ok_and(|it| wanted.contains(&it)))
                };
                // Frames/s, KB, age in ms.
                let numbers = is(2, 10.0..20.0) && is(3, 29.0..31.0) && is(4, 0.0..1000.0);
                word(1) == Some("320x240") && numbers
            })
        });
        assert!(as_it_is, "{}", watch.stdout());
    }
    let ended = watch.end(Signal::INT);
    assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""));
    daemon.terminate().report().check_accounting();
}

#[test]
fn named_cameras_alone_are_shown_and_saved_from_a_broker_named_by_url() {
    let rabbit = Rabbit::shared();
    let config = fake_config(&rabbit.url(), "watch.save", "", &two_cameras());
    declare(rabbit, "watch.save");
    let mut daemon = Daemon::start(&config);
    let url = rabbit.url();
    // No configuration is there at all.
    let args = [
        "watch",
        "cam2",
        "--save",
        "pictures",
        "--amqp",
        &url,
        "--exchange",
        "watch.save",
    ];
    let watch = Call::new(&args).start();
    let picture = watch.dir().join("pictures/cam2.jpg");
    wait_until(SOON, "a picture", || picture.exists());
    let first = std::fs::read(&picture).unwrap();
    assert_eq!(watermark(&first).unwrap().camera, "cam2");
    wait_until(SOON, "a newer picture", || {
        std::fs::read(&picture).unwrap() != first
    });
    assert!(!watch.dir().join("pictures/cam1.jpg").exists());
    assert!(lines(&watch.stdout(), "cam1").is_empty());
    assert_eq!(watch.end(Signal::TERM).code(), Some(0));
    daemon.terminate();
}

#[test]
fn a_broker_that_is_down_is_said_once_and_waited_for() {
    let mut rabbit = Rabbit::start();
    declare(&rabbit, "watch.down");
    rabbit.stop_gracefully();
    let url = rabbit.url();
    let args = ["watch", "--amqp", &url, "--exchange", "watch.down"];
    let watch = Call::new(&args).start();
    let says = format!(
        "broker 127.0.0.1:{}: connection refused; retrying",
        rabbit.port()
    );
    watch.wait_for_stderr(&says, SOON);
    rabbit.start_again();
    watch.wait_for_stdout("no frame yet", SOON);
    let mut daemon = Daemon::start(&fake_config(&url, "watch.down", "", &two_cameras()));
    wait_until(SOON, "frames", || {
        !lines(&watch.stdout(), "cam1").is_empty()
    });
    let ended = watch.end(Signal::INT);
    assert_eq!(
        ended.stderr.matches("connection refused").count(),
        1,
        "{}",
        ended.stderr
    );
    daemon.terminate();
}

#[test]
fn a_wrong_password_ends_it_with_a_clear_word() {
    let rabbit = Rabbit::shared();
    let url = rabbit.url_with("guest", "mistaken-w0rd", "/");
    let ended = Call::new(&["watch", "--amqp", &url]).run();
    let says = format!(
        "edge-video: broker 127.0.0.1:{}: the broker closed the connection during the login: wrong \
         user name or password\n",
        rabbit.port()
    );
    assert_eq!((ended.code(), ended.stderr), (Some(1), says));
}

#[test]
fn a_frozen_broker_does_not_hold_it() {
    let rabbit = Rabbit::start();
    let mut daemon = Daemon::start(&fake_config(
        &rabbit.url(),
        "watch.frozen",
        "",
        &two_cameras(),
    ));
    let consumer = Consumer::start(rabbit.port(), "watch.frozen");
    consumer.wait_for("cam1", 1, SOON);
    let url = rabbit.url();
    let watch = Call::new(&["watch", "--amqp", &url, "--exchange", "watch.frozen"]).start();
    wait_until(SOON, "frames", || {
        !lines(&watch.stdout(), "cam1").is_empty()
    });
    rabbit.freeze();
    let ended = watch.end(Signal::INT);
    rabbit.thaw();
    assert_eq!(ended.code(), Some(0));
    assert!(ended.took < Duration::from_secs(5), "{:?}", ended.took);
    assert!(holds_within(SOON, || daemon.is_running()));
    daemon.terminate();
}

#[test]
fn a_broker_that_is_frozen_at_the_start_is_not_taken_for_one_that_refuses() {
    let rabbit = Rabbit::start();
    declare(&rabbit, "cameras");
    rabbit.freeze();
    let url = rabbit.url();
    let mut watch = Call::new(&["watch", "--amqp", &url]).start();
    watch.wait_for_stderr("no answer to the AMQP handshake", SOON);
    assert!(watch.is_running());
    rabbit.thaw();
    watch.wait_for_stdout("no frame yet", SOON);
    assert_eq!(watch.end(Signal::INT).code(), Some(0));
}

#[test]
fn a_second_signal_ends_a_watch_whose_output_nobody_reads() {
    let rabbit = Rabbit::shared();
    declare(rabbit, "watch.deaf");
    let (_reader, writer) = rustix::pipe::pipe().unwrap();
    // Full, so that the first table blocks.
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while rustix::io::write(&writer, &[b'\n'; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    let mut command = guarded::command(env!("CARGO_BIN_EXE_edge-video"), None);
    command
        .args(["watch", "--amqp", &rabbit.url(), "--exchange", "watch.deaf"])
        .stdout(Stdio::from(writer))
        .stderr(Stdio::null());
    let mut watch = Guarded::spawn(&mut command);
    wait_until(SOON, "a write that blocks", || {
        std::fs::read_to_string(format!("/proc/{}/wchan", watch.pid()))
            .is_ok_and(|wchan| wchan.contains("pipe"))
    });
    watch.signal(Signal::INT);
    // Another signal, since two equal ones may be merged.
    watch.signal(Signal::TERM);
    assert_eq!(watch.wait(SOON).code(), Some(0));
}

#[test]
fn a_mistyped_exchange_is_refused_and_not_created() {
    let rabbit = Rabbit::shared();
    let url = rabbit.url();
    let ended = Call::new(&["watch", "--amqp", &url, "--exchange", "watch.mistypd"]).run();
    let says = format!(
        "edge-video: broker 127.0.0.1:{}: there is no exchange \"watch.mistypd\": check --exchange; \
         `edge-video run` creates the exchange it publishes to\n",
        rabbit.port()
    );
    assert_eq!((ended.code(), ended.stderr), (Some(1), says));
    let exchanges = rabbit.ctl(&["list_exchanges", "name"]);
    assert!(!exchanges.contains("watch.mistypd"), "{exchanges}");
}

#[test]
fn the_exchange_of_a_configuration_is_waited_for() {
    let rabbit = Rabbit::shared();
    let config = fake_config(&rabbit.url(), "watch.later", "", &two_cameras());
    let watch = Call::new(&["watch", "--config", "config.yaml"])
        .file("config.yaml", &config)
        .start();
    let says = "there is no exchange \"watch.later\"; retrying";
    watch.wait_for_stderr(says, SOON);
    declare(rabbit, "watch.later");
    watch.wait_for_stdout("no frame yet", SOON);
    let ended = watch.end(Signal::INT);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert_eq!(ended.code(), Some(0));
}

#[test]
fn a_user_who_may_only_read_is_told_what_a_consumer_needs() {
    let rabbit = Rabbit::shared();
    declare(rabbit, "watch.reader");
    let user = "watch-reader";
    rabbit.ctl(&["add_user", user, "pw"]);
    let url = rabbit.url_with(user, "pw", "/");
    let args = ["watch", "--amqp", &url, "--exchange", "watch.reader"];
    rabbit.ctl(&["set_permissions", user, "", "", ".*"]);
    let ended = Call::new(&args).run();
    let (stderr, port) = (&ended.stderr, rabbit.port());
    let begins = format!("edge-video: broker 127.0.0.1:{port}: ACCESS_REFUSED - ");
    let ends = "; a consumer needs read on the exchange, and configure, write and read on its queue \
                amq.gen-*\n";
    assert!(
        stderr.starts_with(&begins) && stderr.ends_with(ends),
        "{stderr}"
    );
    assert_eq!(ended.code(), Some(1));
    // Exactly that suffices.
    let own = "^amq\\.gen-.*";
    let readable = "^(amq\\.gen-.*|watch\\.reader)$";
    rabbit.ctl(&["set_permissions", user, own, own, readable]);
    let watch = Call::new(&args).start();
    watch.wait_for_stdout("no frame yet", SOON);
    assert_eq!(watch.end(Signal::INT).code(), Some(0));
}

#[test]
fn outputs_that_nobody_reads_any_more_end_or_bother_nothing() {
    let mut rabbit = Rabbit::start();
    declare(&rabbit, "watch.gone");
    let url = rabbit.url();
    let args = ["watch", "--amqp", &url, "--exchange", "watch.gone"];
    // As in `watch | head`.
    let ended = Call::new(&args).stdout(Listener::Gone).run();
    assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""));
    // stderr is closed: it shows the table, also after a reconnect.
    rabbit.stop_gracefully();
    let watch = Call::new(&args).stderr(Listener::Gone).start();
    rabbit.start_again();
    watch.wait_for_stdout("no frame yet", SOON);
    assert_eq!(watch.end(Signal::INT).code(), Some(0));
    // A disk that is full.
    let mut command = guarded::command(env!("CARGO_BIN_EXE_edge-video"), None);
    let full = std::fs::File::options().write(true).open("/dev/full");
    let (mut reader, writer) = std::io::pipe().unwrap();
    command.args(args).stdout(full.unwrap()).stderr(writer);
    let mut watch = Guarded::spawn(&mut command);
    drop(command);
    assert_eq!(watch.wait(SOON).code(), Some(1));
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    assert!(
        said.starts_with("edge-video: cannot write the table: No space left on device"),
        "{said}"
    );
}

#[test]
fn the_broker_is_named_without_its_password_on_the_command_line() {
    let rabbit = Rabbit::shared();
    declare(rabbit, "watch.named");
    let args = ["watch", "--exchange", "watch.named"];
    let with_file = ["--amqp-file", "url"];
    let url = format!("{}\n", rabbit.url());
    let dead = "amqp://guest:s3cret-word@127.0.0.1:1/";
    for call in [
        Call::new(&args).env("EDGE_VIDEO_AMQP", &rabbit.url()),
        Call::new(&[&args[..], &with_file].concat())
            .file("url", &url)
            // The command line takes precedence.
            .env("EDGE_VIDEO_AMQP", dead),
    ] {
        let watch = call.start();
        watch.wait_for_stdout("no frame yet", SOON);
        assert_eq!(watch.end(Signal::INT).code(), Some(0));
    }
    for (call, says) in [
        (
            Call::new(&args).env("EDGE_VIDEO_AMQP", "http://u:s3cret-word@h/"),
            "EDGE_VIDEO_AMQP:1:",
        ),
        (
            Call::new(&[&args[..], &with_file].concat()),
            "edge-video: cannot read url: No such file or directory",
        ),
    ] {
        let ended = call.run();
        assert_eq!(ended.code(), Some(1));
        assert!(ended.stderr.contains(says), "{}", ended.stderr);
        assert!(!ended.stderr.contains("s3cret-word"), "{}", ended.stderr);
    }
}
