//! Faults of the broker: frames flow again without help, the newest first, and nothing grows.

use crate::support::consumer::Consumer;
use crate::support::daemon::{Daemon, Setup};
use crate::support::http::{ON, value};
use crate::support::proxy::Proxy;
use crate::support::rabbit::{self, Rabbit};
use crate::support::{
    Lateness, SOON, fake_config, free_port, holds_within, patient, unix_us, wait_until,
};
use std::time::{Duration, Instant};

fn cameras<const N: usize>(ids: [&'static str; N], play: &str) -> Vec<(&'static str, String)> {
    ids.into_iter()
        .map(|id| (id, format!("{play},tag={id}")))
        .collect()
}

const SIX: [&str; 6] = ["cam1", "cam2", "cam3", "cam4", "cam5", "cam6"];

/// Frames must flow this soon after the broker accepts connections again. Includes the consumer's
/// own connect.
const FLOWS_AGAIN: Duration = Duration::from_secs(2);

#[test]
fn a_broker_that_is_down_at_start_gets_frames_within_two_seconds_of_its_own_start() {
    let mut rabbit = Rabbit::start();
    let config = fake_config(&rabbit.url(), "broker.down", "", &cameras(SIX, "stream"));
    rabbit.stop_gracefully();
    let mut daemon = Daemon::start(&config);
    daemon.wait_for_log("connection refused; retrying", SOON);
    daemon.wait_for_log("cam6: live", SOON);
    rabbit.start_again();
    let (accepting, machine) = (Instant::now(), Lateness::start());
    let consumer = Consumer::start(rabbit.port(), "broker.down");
    let own = accepting.elapsed();
    for id in SIX {
        consumer.wait_for(id, 1, SOON);
    }
    let (flows_after, late) = (accepting.elapsed(), machine.so_far());
    assert_eq!(
        daemon.log_with("connection refused").len(),
        1,
        "said once, not per attempt"
    );
    daemon.terminate().report().check_accounting();
    eprintln!("frames after {flows_after:?}, consumer after {own:?}, machine late by {late:?}");
    assert!(flows_after < FLOWS_AGAIN + late);
}

#[test]
fn five_restarts_of_the_broker_leave_threads_descriptors_and_memory_as_they_were() {
    let mut rabbit = Rabbit::start();
    let config = fake_config(
        &rabbit.url(),
        "broker.restarts",
        "",
        &cameras(SIX, "stream"),
    );
    let mut daemon = Daemon::start(&config);
    let state = |daemon: &Daemon, rabbit: &Rabbit| {
        let since = Instant::now();
        let consumer = Consumer::start(rabbit.port(), "broker.restarts");
        for id in SIX {
            consumer.wait_for(id, 1, SOON);
        }
        let flows_after = since.elapsed();
        // Two seconds of frames, so that buffers have their final size.
        for id in SIX {
            consumer.wait_for(id, 30, SOON);
        }
        let counts = (daemon.threads(), daemon.fds(), daemon.children().len());
        (counts, daemon.rss_kb(), flows_after)
    };
    daemon.wait_for_log("connected to broker", SOON);
    let (counts, rss, _) = state(&daemon, &rabbit);
    let mut times = [(); 5].map(|()| {
        rabbit.restart();
        let (counts_now, rss_now, flows_after) = state(&daemon, &rabbit);
        assert_eq!(
            counts_now, counts,
            "threads, descriptors and child processes"
        );
        assert!(rss_now < rss + 2048, "{rss} kB grew to {rss_now} kB");
        flows_after
    });
    times.sort();
    assert!(times[2] < FLOWS_AGAIN, "the median of {times:?}");
    let exit = daemon.terminate();
    exit.report().check_accounting();
    assert_eq!(
        exit.report().total.restarts_in_all(),
        0,
        "no camera noticed"
    );
}

#[test]
fn after_a_frozen_broker_only_the_windows_arrive_late() {
    let rabbit = Rabbit::start();
    let consumer = Consumer::start(rabbit.port(), "broker.frozen");
    let config = fake_config(
        &rabbit.url(),
        "broker.frozen",
        "",
        // Five frames a second, so that this test's consumer keeps up on a busy machine.
        &cameras(SIX, "stream,size=100000,fps=5"),
    );
    let mut daemon = Daemon::start(&config);
    for id in SIX {
        consumer.wait_for(id, 15, SOON);
    }
    let rss = daemon.rss_kb();
    rabbit.freeze();
    daemon.wait_for_log("no publisher confirm within amqp.confirm_timeout", SOON);
    assert!(
        daemon.rss_kb() < rss + 2048,
        "{rss} kB grew to {} kB",
        daemon.rss_kb()
    );
    consumer.take();
    let thawed = unix_us();
    rabbit.thaw();
    for id in SIX {
        consumer.wait_until(SOON, "fresh frames again", |arrived| {
            arrived
                .iter()
                .any(|frame| frame.camera_id() == id && frame.age().as_millis() < 500)
        });
    }
    // A frame that is newer than max_age at the thaw may be late because the machine is slow.
    let late = consumer
        .take()
        .iter()
        .filter(|frame| frame.captured_at_us() < thawed - 1_000_000)
        .count() as u64;
    let exit = daemon.terminate();
    exit.report().check_accounting();
    // What was in flight when the connection was given up.
    let windows = exit.report().total.dropped("unknown");
    eprintln!("{late} frames are late, {windows} were in flight");
    assert!(
        late <= windows,
        "{late} frames are late, {windows} were in flight"
    );
    // At five frames a second, a window is larger than 2 only if every confirm takes 0.2 s.
    assert!(windows <= 2 * SIX.len() as u64, "{windows} were in flight");
}

/// Longer than a busy broker takes to answer.
const PATIENT: &str = "  confirm_timeout: 6s\n  connect_timeout: 6s\n";
/// A wait of this length has failed.
const BEYOND_PATIENCE: Duration = Duration::from_secs(7);

#[test]
fn under_a_memory_alarm_it_waits_and_does_not_reconnect() {
    let rabbit = Rabbit::start();
    let consumer = Consumer::start(rabbit.port(), "broker.alarm");
    let config = fake_config(&rabbit.url(), "broker.alarm", "", &cameras(SIX, "stream")).replacen(
        "amqp:\n",
        &format!("amqp:\n{PATIENT}"),
        1,
    );
    let mut daemon = Daemon::start(&config);
    for id in SIX {
        consumer.wait_for(id, 5, SOON);
    }
    rabbit.ctl(&["set_vm_memory_high_watermark", "0.0000001"]);
    daemon.wait_for_log("has blocked publishing (low on memory)", SOON);
    assert!(!holds_within(BEYOND_PATIENCE, || {
        !daemon.log_with("no publisher confirm").is_empty()
    }));
    rabbit.ctl(&["set_vm_memory_high_watermark", "0.6"]);
    daemon.wait_for_log("has unblocked publishing", SOON);
    consumer.take();
    for id in SIX {
        consumer.wait_for(id, 15, SOON);
    }
    assert_eq!(
        daemon.log_with("connected to broker").len(),
        1,
        "no reconnect"
    );
    assert_eq!(daemon.log_with("no publisher confirm").len(), 0);
    daemon.terminate().report().check_accounting();
}

#[test]
fn an_alarm_that_blinks_is_said_once_a_minute() {
    let rabbit = Rabbit::start();
    let config = fake_config(
        &rabbit.url(),
        "broker.blinks",
        ON,
        &cameras(["cam1"], "stream"),
    );
    let daemon = Daemon::start(&patient(&config));
    daemon.wait_for_log("cam1: live", SOON);
    let http = daemon.http();
    let blocked = || value(http.get("/metrics").text(), "edge_video_broker_blocked");
    for _ in 0..4 {
        rabbit.ctl(&["set_vm_memory_high_watermark", "0.0000001"]);
        wait_until(SOON, "the alarm", || blocked() == 1.0);
        rabbit.ctl(&["set_vm_memory_high_watermark", "0.6"]);
        wait_until(SOON, "its end", || blocked() == 0.0);
    }
    assert_eq!(daemon.log_with("has blocked publishing").len(), 1);
    assert_eq!(daemon.log_with("has unblocked publishing").len(), 1);
}

#[test]
fn a_connection_made_under_an_alarm_waits_too_and_every_camera_comes_back() {
    let rabbit = Rabbit::start();
    let consumer = Consumer::start(rabbit.port(), "broker.alarms");
    let config = fake_config(&rabbit.url(), "broker.alarms", "", &cameras(SIX, "stream")).replacen(
        "amqp:\n",
        &format!("amqp:\n{PATIENT}"),
        1,
    );
    let mut daemon = Daemon::start(&config);
    for id in SIX {
        consumer.wait_for(id, 5, SOON);
    }
    rabbit.ctl(&["set_vm_memory_high_watermark", "0.0000001"]);
    daemon.wait_for_log("has blocked publishing", SOON);
    rabbit.ctl(&["close_all_connections", "to see what a new one does"]);
    // The new connection is blocked at its first frame, perhaps before each camera has a channel.
    daemon.wait_for_log("closed by the broker: CONNECTION_FORCED", SOON);
    assert!(!holds_within(BEYOND_PATIENCE, || {
        !daemon.log_with("no answer from the broker").is_empty()
    }));
    rabbit.ctl(&["set_vm_memory_high_watermark", "0.6"]);
    let consumer = Consumer::start(rabbit.port(), "broker.alarms");
    for id in SIX {
        consumer.wait_for(id, 15, SOON);
    }
    let connected = daemon.log_with("connected to broker").len();
    assert!(connected <= 2, "{connected} connections");
    assert_eq!(daemon.log_with("no answer from the broker").len(), 0);
    assert_eq!(daemon.log_with("no publisher confirm").len(), 0);
    daemon.terminate().report().check_accounting();
}

#[test]
fn a_user_who_may_not_publish_is_told_so_and_never_that_all_is_well() {
    let rabbit = Rabbit::start();
    rabbit.ctl(&["add_user", "reader", "reads-only"]);
    rabbit.ctl(&["set_permissions", "reader", ".*", "^$", ".*"]);
    let url = rabbit.url_with("reader", "reads-only", "/");
    let config = fake_config(&url, "broker.readonly", "", &cameras(["cam1"], "stream"));
    let mut daemon = Daemon::start(&config);
    let line = daemon.wait_for_log("the broker refuses exchange", SOON);
    assert!(
        line.contains("cam1: the broker refuses exchange \"broker.readonly\": ACCESS_REFUSED"),
        "{line}"
    );
    rabbit.ctl(&["set_permissions", "reader", ".*", ".*", ".*"]);
    daemon.wait_for_log(
        "cam1: the broker accepts exchange \"broker.readonly\"",
        2 * SOON,
    );
    let refusals = daemon.log_with("the broker refuses exchange").len();
    let takes = daemon.log_with("accepts exchange").len();
    assert_eq!((refusals, takes), (1, 1));
    daemon.terminate().report().check_accounting();
}

#[test]
fn a_peer_that_lets_us_in_and_cuts_is_not_hammered() {
    let rabbit = Rabbit::shared();
    let proxy = Proxy::start(rabbit.port());
    let url = rabbit::url(proxy.port(), "guest", "guest", "/");
    let config = fake_config(&url, "broker.cuts", "", &cameras(["cam1"], "stream"));
    let mut daemon = Daemon::start(&config);
    daemon.wait_for_log("connected to broker", SOON);
    let began = Instant::now();
    for _ in 0..6 {
        wait_until(SOON, "the next connection", || proxy.connections() > 0);
        proxy.reset();
        proxy.pass();
    }
    // Backoffs of 0.1, 0.2, 0.4, 0.42 and 0.42 s, each up to a fifth shorter.
    assert!(
        began.elapsed() > Duration::from_millis(1200),
        "{:?}",
        began.elapsed()
    );
    // A cut during the login is another failure, which is said, and so is its end.
    let logins = daemon.log_with("during the login").len();
    let lines = daemon.log_with("connected to broker").len();
    assert!(lines <= 3 + logins, "{lines} lines, {logins} logins cut");
    daemon.terminate().report().check_accounting();
}

#[test]
fn a_far_broker_gets_the_full_rate_and_a_near_one_no_more_than_two_in_flight() {
    let rabbit = Rabbit::shared();
    let proxy = Proxy::start(rabbit.port());
    let consumer = Consumer::start_with(rabbit.port(), "broker.far", "#", false);
    proxy.delay(Duration::from_millis(100));
    let url = rabbit::url(proxy.port(), "guest", "guest", "/");
    let mut daemon = Daemon::start(&fake_config(
        &url,
        "broker.far",
        "",
        &cameras(SIX, "stream"),
    ));
    // The window starts at two, which carries two of three frames. After a few round trips it
    // carries all, for five seconds in a row unless the machine pauses.
    for id in SIX {
        consumer.wait_until(2 * SOON, "the full rate", |arrived| {
            let frames = arrived.iter().filter(|frame| frame.camera_id() == id);
            let seqs: Vec<_> = frames.map(|frame| frame.seq()).collect();
            let mut runs = seqs.windows(75);
            runs.any(|run| (75..=77).contains(&(run[74] - run[0] + 1)))
        });
    }
    daemon.terminate().report().check_accounting();
}

#[test]
fn a_refused_exchange_concerns_its_camera_only() {
    let rabbit = Rabbit::shared();
    let mut connection = amiquip::Connection::insecure_open(&rabbit.url()).unwrap();
    let channel = connection.open_channel(None).unwrap();
    channel
        .exchange_declare(
            amiquip::ExchangeType::Topic,
            "broker.internal",
            // An internal exchange: it takes messages from other exchanges only.
            amiquip::ExchangeDeclareOptions {
                internal: true,
                ..amiquip::ExchangeDeclareOptions::default()
            },
        )
        .unwrap();
    let consumer = Consumer::start(rabbit.port(), "broker.good");
    let mut config = fake_config(
        &rabbit.url(),
        "broker.good",
        ON,
        &cameras(["good", "bad"], "stream"),
    );
    config = config.replace("tag=bad\"", "tag=bad\", exchange: broker.internal");
    let mut daemon = Daemon::start(&patient(&config));
    let line = daemon.wait_for_log("the broker refuses exchange", SOON);
    assert!(
        line.contains("ERROR bad: the broker refuses exchange \"broker.internal\": ACCESS_REFUSED"),
        "{line}"
    );
    assert!(
        line.contains("cannot publish to internal exchange"),
        "{line}"
    );
    consumer.wait_for("good", 30, SOON);
    // Where it is looked for.
    let http = daemon.http();
    let camera = |id: &str| {
        let status = http.get("/status").json();
        let mut shown = status["cameras"].as_array().unwrap().iter();
        shown.find(|camera| camera["id"] == id).unwrap().clone()
    };
    let why = "the broker refuses exchange \"broker.internal\": ACCESS_REFUSED - cannot publish to \
               internal exchange 'broker.internal' in vhost '/'";
    assert_eq!(camera("bad")["last_error"], why);
    assert_eq!(
        camera("bad")["words"],
        format!("live, but not published: {why}")
    );
    assert_eq!(camera("good")["last_error"], serde_json::Value::Null);
    let ready = http.get("/readyz");
    assert_eq!(
        (ready.status, ready.text().trim()),
        (503, &*format!("bad: {why}"))
    );
    assert_eq!(
        daemon.log_with("connected to broker").len(),
        1,
        "the connection lives"
    );
    // Once the exchange is deleted, the camera publishes without help.
    channel.exchange_delete("broker.internal", false).unwrap();
    wait_until(
        Duration::from_secs(40),
        "the exchange as it should be",
        || {
            let channel = connection.open_channel(None).unwrap();
            channel.exchange_declare_passive("broker.internal").is_ok()
        },
    );
    let bad = Consumer::start(rabbit.port(), "broker.internal");
    bad.wait_for("bad", 5, SOON);
    wait_until(SOON, "readiness", || http.get("/readyz").status == 200);
    let refusals = daemon.log_with("the broker refuses exchange");
    assert!(refusals.iter().all(|line| line.contains(" bad: ")));
    // Not at the end of the program, which does not wait long for a frozen broker.
    let status = daemon.http().get("/status").json();
    let mut shown = status["cameras"].as_array().unwrap().iter();
    let good = shown.find(|camera| camera["id"] == "good").unwrap();
    assert_eq!(good["dropped"]["unknown"], 0, "{good}");
    daemon.terminate().report().check_accounting();
}

#[test]
fn a_camera_whose_exchange_is_refused_survives_an_alarm_that_comes_and_goes_meanwhile() {
    let rabbit = Rabbit::start();
    let mut connection = amiquip::Connection::insecure_open(&rabbit.url()).unwrap();
    let channel = connection.open_channel(None).unwrap();
    let exchange = "broker.internal.alarm";
    channel
        .exchange_declare(
            amiquip::ExchangeType::Topic,
            exchange,
            // An internal exchange: it takes messages from other exchanges only.
            amiquip::ExchangeDeclareOptions {
                internal: true,
                ..amiquip::ExchangeDeclareOptions::default()
            },
        )
        .unwrap();
    let mut config = fake_config(
        &rabbit.url(),
        "broker.alarmed",
        "",
        &cameras(["good", "bad"], "stream"),
    );
    config = config.replace("tag=bad\"", &format!("tag=bad\", exchange: {exchange}"));
    let mut daemon = Daemon::start(&config);
    daemon.wait_for_log("the broker refuses exchange", SOON);
    // At once, so that most of it arrives while the camera does not publish. Only a publisher that
    // publishes meanwhile sees it.
    wait_until(SOON, "an alarm that is heard", || {
        rabbit.ctl(&[
            "eval",
            "Alarm = {resource_limit, memory, node()}, \
             [begin rabbit_alarm:set_alarm({Alarm, []}), timer:sleep(500), \
             rabbit_alarm:clear_alarm(Alarm), timer:sleep(150) end || _ <- [1, 2, 3]].",
        ]);
        !daemon.log_with("has unblocked publishing").is_empty()
    });
    channel.exchange_delete(exchange, false).unwrap();
    daemon.wait_for_log("the broker accepts exchange", Duration::from_secs(40));
    daemon.terminate().report().check_accounting();
}

#[test]
fn nacked_and_returned_frames_are_not_published() {
    let rabbit = Rabbit::shared();
    let mut connection = amiquip::Connection::insecure_open(&rabbit.url()).unwrap();
    let channel = connection.open_channel(None).unwrap();
    let mut full = amiquip::FieldTable::new();
    full.insert("x-max-length".into(), amiquip::AmqpValue::LongInt(0));
    full.insert(
        "x-overflow".into(),
        amiquip::AmqpValue::LongString("reject-publish".into()),
    );
    let durable = amiquip::ExchangeDeclareOptions {
        durable: true,
        ..Default::default()
    };
    channel
        .exchange_declare(amiquip::ExchangeType::Topic, "broker.nacks", durable)
        .unwrap();
    let options = amiquip::QueueDeclareOptions {
        exclusive: true,
        arguments: full,
        ..Default::default()
    };
    let queue = channel.queue_declare("", options).unwrap();
    channel
        .queue_bind(
            queue.name(),
            "broker.nacks",
            "camera.nacked",
            amiquip::FieldTable::new(),
        )
        .unwrap();

    let config = fake_config(
        &rabbit.url(),
        "broker.nacks",
        "",
        &cameras(["nacked", "returned"], "stream"),
    )
    .replacen("amqp:\n", "amqp:\n  mandatory: true\n", 1);
    let mut daemon = Setup::new(&config)
        .env("RUST_LOG", "info,edge_video::publish=trace")
        .start();
    // The broker also acks a message that it returns.
    for answer in ["is nacked", "is acked"] {
        wait_until(SOON, answer, || daemon.log_with(answer).len() >= 30);
    }
    let exit = daemon.terminate();
    exit.report().check_accounting();
    for (id, reason) in [("nacked", "nacked"), ("returned", "returned")] {
        let account = exit.report().camera(id);
        assert_eq!(account.published, 0, "{account:?}");
        assert!(account.dropped(reason) >= 30, "{account:?}");
    }
}

#[test]
fn a_wrong_password_is_said_clearly_and_never_shown_and_works_once_it_is_right() {
    let rabbit = Rabbit::start();
    rabbit.ctl(&["add_user", "board", "not-yet-right"]);
    rabbit.ctl(&["set_permissions", "board", ".*", ".*", ".*"]);
    let url = rabbit.url_with("board", "pa55-w0rd", "/");
    let config = fake_config(&url, "broker.login", "", &cameras(["cam1"], "stream"));
    let mut daemon = Setup::new(&config).env("RUST_LOG", "trace").start();
    let line = daemon.wait_for_log("wrong user name or password", SOON);
    assert!(
        line.contains(&format!(
            "broker 127.0.0.1:{}: the broker closed the connection during the login",
            rabbit.port()
        )),
        "{line}"
    );
    rabbit.ctl(&["change_password", "board", "pa55-w0rd"]);
    daemon.wait_for_log("connected to broker", Duration::from_secs(40));
    let consumer = Consumer::start(rabbit.port(), "broker.login");
    consumer.wait_for("cam1", 5, SOON);
    daemon.terminate().report().check_accounting();
    assert_eq!(daemon.log_with("pa55-w0rd"), Vec::<String>::new());
}

#[test]
fn with_the_first_of_two_brokers_dead_the_second_is_used() {
    let rabbit = Rabbit::shared();
    let consumer = Consumer::start(rabbit.port(), "broker.second");
    let dead = rabbit::url(free_port(), "guest", "guest", "/");
    let config = fake_config(
        &rabbit.url(),
        "broker.second",
        "",
        &cameras(["cam1"], "stream"),
    )
    .replacen(
        &format!("url: {}", rabbit.url()),
        &format!("urls: [\"{dead}\", \"{}\"]", rabbit.url()),
        1,
    );
    let mut daemon = Daemon::start(&config);
    consumer.wait_for("cam1", 5, SOON);
    daemon.terminate().report().check_accounting();
}

#[test]
fn a_connection_that_vanishes_without_a_word_is_given_up_and_made_anew() {
    let rabbit = Rabbit::shared();
    let proxy = Proxy::start(rabbit.port());
    let consumer = Consumer::start(rabbit.port(), "broker.vanished");
    let url = rabbit::url(proxy.port(), "guest", "guest", "/");
    let config = fake_config(&url, "broker.vanished", "", &cameras(["cam1"], "stream")).replacen(
        "amqp:\n",
        "amqp:\n  confirm_timeout: 500ms\n  connect_timeout: 500ms\n",
        1,
    );
    let mut daemon = Daemon::start(&config);
    consumer.wait_for("cam1", 5, SOON);
    proxy.pause();
    daemon.wait_for_log("no publisher confirm within amqp.confirm_timeout", SOON);
    daemon.wait_for_log("no answer from the broker", SOON);
    consumer.take();
    proxy.pass();
    consumer.wait_for("cam1", 15, SOON);
    daemon.terminate().report().check_accounting();
}

#[test]
fn what_was_sent_into_a_link_that_is_given_up_never_arrives_late() {
    let rabbit = Rabbit::shared();
    let proxy = Proxy::start(rabbit.port());
    let consumer = Consumer::start(rabbit.port(), "broker.late");
    let url = rabbit::url(proxy.port(), "guest", "guest", "/");
    let cameras = cameras(["cam1"], "stream,size=1000000");
    let config = fake_config(&url, "broker.late", "", &cameras).replacen(
        "amqp:\n",
        "amqp:\n  confirm_timeout: 3s\n",
        1,
    );
    let mut daemon = Daemon::start(&config);
    consumer.wait_for("cam1", 5, SOON);
    // One frame takes 50 s, which is longer than any timeout.
    proxy.throttle(20_000);
    daemon.wait_for_log("no publisher confirm within amqp.confirm_timeout", SOON);
    wait_until(SOON, "another connection", || {
        daemon.log_with("connected to broker").len() == 2
    });
    wait_until(
        SOON,
        "the end of the old connection with all it held",
        || proxy.connections() == 1,
    );
    let reconnected = unix_us();
    proxy.pass();
    consumer.wait_until(SOON, "frames over the new connection", |arrived| {
        let new = arrived.iter();
        let new = new.filter(|frame| frame.captured_at_us() > reconnected);
        new.count() >= 15
    });
    let order: Vec<_> = consumer.stop().iter().map(|frame| frame.seq()).collect();
    assert!(order.is_sorted(), "{order:?}");
    daemon.terminate().report().check_accounting();
}
