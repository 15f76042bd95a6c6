//! Events report the state of the cameras and what was published, and never delay a frame.

use crate::support::consumer::{Consumer, Delivery};
use crate::support::daemon::{Daemon, Setup};
use crate::support::http::ON;
use crate::support::rabbit::Rabbit;
use crate::support::{Lateness, SOON, TempDir, fake_config, patient, wait_for, wait_until};
use amiquip::{AmqpValue, ExchangeDeclareOptions, ExchangeType, FieldTable, QueueDeclareOptions};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

const STATUS: &str = "camera.metadata.event.status";
const SYSTEM: &str = "camera.metadata.event.system";
const FRAME: &str = "camera.metadata.event";

/// Sessions without the backoff of the circuit breaker.
const NO_BREAKER: &str = "circuit_breaker: {enabled: false, initial_backoff: 100ms}";

/// Frames go to `exchange`, events to `exchange.events`.
fn config(url: &str, exchange: &str, keys: &str, more: &str, cameras: &[(&str, String)]) -> String {
    let more = format!("metadata: {{enabled: true, exchange: {exchange}.events{keys}}}\n{more}");
    patient(&fake_config(url, exchange, &more, cameras))
}

fn cameras<const N: usize>(ids: [&'static str; N], play: &str) -> Vec<(&'static str, String)> {
    ids.into_iter()
        .map(|id| (id, format!("{play},tag={id}")))
        .collect()
}

/// The events with that routing key, in order.
fn events(consumer: &Consumer, key: &str) -> Vec<Value> {
    let all = consumer.all();
    let of_key = all.iter().filter(|it| it.routing_key == key);
    of_key.map(|it| body(it)).collect()
}

fn body(delivery: &Delivery) -> Value {
    serde_json::from_slice(delivery.jpeg()).unwrap()
}

/// The reported states of a camera that has not failed before its first frame, each with its number
/// of failures. Without the state at its start: its frames may come before the exchange exists.
fn states(consumer: &Consumer, id: &str) -> Vec<(String, u64)> {
    let starts = ("inactive".to_owned(), 0);
    let events = events(consumer, STATUS);
    let of_camera = events.iter().filter(|event| event["camera_id"] == id);
    of_camera
        .map(|event| {
            let state = event["state"].as_str().unwrap();
            let failures = event["consecutive_failures"].as_u64().unwrap();
            (state.to_owned(), failures)
        })
        .skip_while(|state| *state == starts)
        .collect()
}

/// Waits for an event about the camera and returns it.
#[track_caller]
fn wait_for_state(consumer: &Consumer, id: &str, state: &str) -> Value {
    wait_for(SOON, &format!("{id} to be {state}"), || {
        let events = events(consumer, STATUS);
        let mut found = events.into_iter().rev();
        found.find(|event| event["camera_id"] == id && event["state"] == state)
    })
}

/// The last reported counts: all, active, inactive.
fn counts(consumer: &Consumer) -> Option<[u64; 3]> {
    let last = events(consumer, SYSTEM).pop()?;
    let count = |name: &str| last[name].as_u64().unwrap();
    Some(["total_cameras", "active_cameras", "inactive_cameras"].map(count))
}

/// The value of a metric without labels.
fn metric(daemon: &Daemon, name: &str) -> u64 {
    let metrics = daemon.http().get("/metrics");
    let mut lines = metrics.text().lines();
    let line = lines.find_map(|line| line.strip_prefix(&format!("edge_video_{name} ")));
    line.unwrap().parse().unwrap()
}

#[test]
fn a_camera_that_comes_hangs_and_recovers_is_told_each_time_and_counted() {
    let rabbit = Rabbit::shared();
    let pictures = Consumer::start(rabbit.port(), "events.hung");
    let told = Consumer::start(rabbit.port(), "events.hung.events");
    let dir = TempDir::new("events-hung");
    let control = dir.path().join("control");
    // It ignores SIGTERM, so that its silence is reported before its end.
    let hung = format!(
        "stream,tag=hung,ignore_term=1,control={}",
        control.display()
    );
    let plays = [("hung", hung), ("well", "stream,tag=well".to_owned())];
    let config = config(&rabbit.url(), "events.hung", "", NO_BREAKER, &plays).replacen(
        "{id: hung,",
        "{id: hung, stale_timeout: 3s,",
        1,
    );
    let mut daemon = Daemon::start(&config);
    let active = wait_for_state(&told, "hung", "active");
    assert_eq!(active["message"], "live");
    assert_eq!(active["last_error"], Value::Null);
    std::fs::write(&control, "hang,n=0").unwrap();
    let gone = wait_for(SOON, "the silence to be told", || {
        let events = events(&told, STATUS);
        let mut found = events.into_iter();
        found.find(|event| event["message"] == "no frame for 3 s")
    });
    assert_eq!(gone["state"], "inactive");
    let failed = wait_for(SOON, "the failure to be told", || {
        let events = events(&told, STATUS);
        let mut found = events.into_iter();
        found.find(|event| event["consecutive_failures"] == 1)
    });
    std::fs::write(&control, "").unwrap();
    assert_eq!(failed["state"], "inactive");
    assert_eq!(failed["last_error"], "no frame for 3 s");
    wait_until(SOON, "its return to be told", || {
        states(&told, "hung").last() == Some(&("active".to_owned(), 0))
    });
    let expected = [
        ("active", 0),
        ("inactive", 0),
        ("inactive", 1),
        ("active", 0),
    ];
    let expected = expected.map(|(state, failures)| (state.to_owned(), failures));
    assert_eq!(states(&told, "hung"), expected);
    assert_eq!(states(&told, "well").len(), 1, "it came, and no more");

    // It is reported before a new session sends frames.
    let frames = wait_for(SOON, "frames of a second session", || {
        let frames = pictures.of("hung");
        let second = frames.iter().position(|it| it.epoch() != frames[0].epoch());
        second.map(|at| [&frames[at - 1], &frames[at]].map(|it| it.captured_at_us()))
    });
    let [silent_since, back_since] = frames;
    let gone_at = told.all();
    let gone_at = gone_at
        .iter()
        .find(|it| it.routing_key == STATUS && body(it)["message"] == "no frame for 3 s");
    let gone_at = gone_at.unwrap().arrived_us;
    assert!(gone_at >= silent_since + 3_000_000);
    assert!(gone_at < back_since);

    // Counts follow the states that they count.
    wait_until(SOON, "all counts", || {
        let counts = events(&told, SYSTEM).into_iter();
        let active: Vec<_> = counts
            .filter_map(|it| it["active_cameras"].as_u64())
            .collect();
        active.ends_with(&[2, 1, 2])
    });
    assert_eq!(counts(&told), Some([2, 2, 0]));
    daemon.terminate().report().check_accounting();
}

#[test]
fn an_event_has_the_properties_of_the_contract() {
    let rabbit = Rabbit::shared();
    let told = Consumer::start(rabbit.port(), "events.form.events");
    let config = config(
        &rabbit.url(),
        "events.form",
        ", frames: true",
        "",
        &cameras(["cam1"], "stream"),
    );
    let _daemon = Daemon::start(&config);
    wait_for_state(&told, "cam1", "active");
    told.wait_until(SOON, "a frame event", |all| {
        all.iter().any(|it| it.routing_key == FRAME)
    });
    for delivery in told.all() {
        let (event, properties) = (body(&delivery), &delivery.properties);
        let kind = match delivery.routing_key.as_str() {
            STATUS => "camera_status",
            SYSTEM => "system_status",
            FRAME => "frame",
            other => panic!("{other}"),
        };
        assert_eq!(event["event_type"], kind);
        assert_eq!(properties.type_().as_deref(), Some(kind));
        let content_type = properties.content_type().as_deref();
        assert_eq!(content_type, Some("application/json"));
        assert_eq!(properties.app_id().as_deref(), Some("edge-video"));
        assert_eq!(*properties.delivery_mode(), Some(1));
        let age = delivery.arrived_us / 1_000_000 - properties.timestamp().unwrap().cast_signed();
        assert!((0..60).contains(&age), "{age} s");
        let time = event["timestamp"].as_str().unwrap();
        assert_eq!((time.len(), &time[10..11], &time[23..]), (24, "T", "Z"));
    }
}

#[test]
fn each_published_frame_has_one_event_and_no_other_has() {
    let rabbit = Rabbit::shared();
    let pictures = Consumer::start(rabbit.port(), "events.frames");
    let told = Consumer::start(rabbit.port(), "events.frames.events");
    let dir = TempDir::new("events-frames");
    let control = dir.path().join("control");
    let mut plays = cameras(["cam1", "cam2"], "stream,fps=30,size=30000");
    plays.push(("cam3", "resize,n=10,tag=cam3".to_owned()));
    plays.push(("cam4", "truncate,tag=cam4".to_owned()));
    for (_, play) in &mut plays {
        *play += &format!(",control={}", control.display());
    }
    let more = format!("fps: 30\n{ON}");
    let config = config(
        &rabbit.url(),
        "events.frames",
        ", frames: true",
        &more,
        &plays,
    );
    let mut daemon = Daemon::start(&config);
    for (id, _) in &plays {
        pictures.wait_for(id, 60, SOON);
    }
    // The end does not wait long for a frozen broker.
    std::fs::write(&control, "silent").unwrap();
    daemon.wait_until_all_is_answered();
    let exit = daemon.terminate();
    exit.report().check_accounting();
    let published = exit.report().total.published;
    wait_until(SOON, "all events", || {
        events(&told, FRAME).len() as u64 >= published && pictures.count() as u64 >= published
    });
    let frame = |it: &Delivery| {
        (
            it.camera_id().to_owned(),
            it.epoch(),
            it.seq(),
            it.len as u64,
            i64::from(it.width()),
            i64::from(it.height()),
        )
    };
    let event = |it: &Value| {
        let number = |name: &str| it[name].as_i64().unwrap();
        assert_eq!(it["encoding"], "jpeg");
        (
            it["camera_id"].as_str().unwrap().to_owned(),
            number("epoch"),
            number("seq"),
            it["size_bytes"].as_u64().unwrap(),
            number("width"),
            number("height"),
        )
    };
    let told = events(&told, FRAME);
    assert_eq!(told.len() as u64, published, "one each");
    let frames: BTreeSet<_> = pictures.all().iter().map(|it| frame(it)).collect();
    let told: BTreeSet<_> = told.iter().map(event).collect();
    assert_eq!(told, frames);
}

#[test]
fn without_metadata_nothing_of_it_is_there() {
    let rabbit = Rabbit::shared();
    let consumer = Consumer::start(rabbit.port(), "events.off");
    let more = "metadata: {enabled: false, exchange: events.off.events, frames: true}";
    let cameras = cameras(["cam1"], "stream");
    let daemon = Daemon::start(&fake_config(&rabbit.url(), "events.off", more, &cameras));
    consumer.wait_for("cam1", 30, SOON);
    let exchanges = rabbit.ctl(&["list_exchanges", "name"]);
    assert!(exchanges.contains("events.off\n"), "{exchanges}");
    assert!(!exchanges.contains("events.off.events"), "{exchanges}");
    let threads = daemon.thread_names();
    assert!(
        !threads.iter().any(|name| name.contains("events")),
        "{threads:?}"
    );
}

#[test]
fn an_exchange_that_may_not_be_declared_is_said_once_and_frames_go_on_and_what_is_lost_is_counted()
{
    let rabbit = Rabbit::shared();
    let exchange = "events.absent.events";
    rabbit.ctl(&["add_user", "events-absent", "no-secret"]);
    let may = |what: &str| {
        rabbit.ctl(&["set_permissions", "events-absent", what, what, ".*"]);
    };
    may("^events[.]absent$");
    let url = rabbit.url_with("events-absent", "no-secret", "/");
    let pictures = Consumer::start_with(rabbit.port(), "events.absent", "#", false);
    let config = config(
        &url,
        "events.absent",
        ", frames: true",
        &format!("fps: 30\n{ON}"),
        &cameras(["cam1", "cam2", "cam3", "cam4", "cam5"], "stream,fps=30"),
    );
    let mut daemon = Daemon::start(&config);
    let line = daemon.wait_for_log("the broker refuses exchange", SOON);
    assert!(
        line.contains(
            "ERROR events: the broker refuses exchange \"events.absent.events\": ACCESS_REFUSED"
        ),
        "{line}"
    );
    // The queue has room for some seconds of frames; further ones are counted as lost.
    wait_until(SOON, "lost events", || {
        metric(&daemon, "events_lost_total") > 100
    });
    let lines = daemon.log_with("events: ");
    assert_eq!(lines.len(), 2, "connected, refused: {lines:?}");
    // Once the exchange may be declared, events come without help.
    may("^events[.]absent");
    daemon.wait_for_log(
        "events: the broker accepts exchange \"events.absent.events\"",
        2 * SOON,
    );
    let told = Consumer::start_with(rabbit.port(), exchange, "#", true);
    told.wait_until(SOON, "frame events", |all| all.len() > 100);
    assert!(pictures.count() > 1000);
    let exit = daemon.terminate();
    exit.report().check_accounting();
    let total = &exit.report().total;
    assert_eq!((total.restarts_in_all(), total.dropped("unknown")), (0, 0));
    // On a busy machine some frames may be overwritten; none is dropped for another reason.
    let overwritten = total.dropped("overwritten") + total.dropped("too_old");
    assert_eq!(total.dropped_in_all(), overwritten, "{total:?}");
}

#[test]
fn a_user_who_may_not_send_events_is_told_so_and_frames_go_on() {
    let rabbit = Rabbit::shared();
    rabbit.ctl(&["add_user", "events-user", "no-secret"]);
    let may = |what: &str| {
        rabbit.ctl(&["set_permissions", "events-user", what, what, ".*"]);
    };
    may("^events[.]user$");
    let pictures = Consumer::start_with(rabbit.port(), "events.user", "#", false);
    let url = rabbit.url_with("events-user", "no-secret", "/");
    let config = config(&url, "events.user", "", "", &cameras(["cam1"], "stream"));
    let mut daemon = Daemon::start(&config);
    let line = daemon.wait_for_log("the broker refuses exchange", SOON);
    assert!(
        line.contains(
            "ERROR events: the broker refuses exchange \"events.user.events\": ACCESS_REFUSED"
        ),
        "{line}"
    );
    may("^events[.]user");
    daemon.wait_for_log("events: the broker accepts exchange", 2 * SOON);
    let before = pictures.count();
    pictures.wait_for("cam1", before + 15, SOON);
    assert_eq!(daemon.log_with("refuses exchange").len(), 1);
    assert_eq!(
        daemon.log_with("connected to broker").len(),
        2,
        "no reconnect"
    );
    daemon.terminate().report().check_accounting();
}

#[test]
fn what_a_full_queue_refuses_is_lost_if_a_frame_event_and_sent_again_if_a_state() {
    let rabbit = Rabbit::shared();
    let mut connection = amiquip::Connection::insecure_open(&rabbit.url()).unwrap();
    let channel = connection.open_channel(None).unwrap();
    let (exchange, key) = ("events.nacks.events", "#");
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    channel
        .exchange_declare(ExchangeType::Topic, exchange, durable)
        .unwrap();
    let mut full = FieldTable::new();
    full.insert("x-max-length".into(), AmqpValue::LongInt(0));
    let reject = AmqpValue::LongString("reject-publish".into());
    full.insert("x-overflow".into(), reject);
    let queue = QueueDeclareOptions {
        exclusive: true,
        arguments: full,
        ..QueueDeclareOptions::default()
    };
    let queue = channel.queue_declare("", queue).unwrap();
    channel
        .queue_bind(queue.name(), exchange, key, FieldTable::new())
        .unwrap();
    let pictures = Consumer::start_with(rabbit.port(), "events.nacks", "#", false);
    let told = Consumer::start(rabbit.port(), exchange);
    let config = config(
        &rabbit.url(),
        "events.nacks",
        ", frames: true",
        ON,
        &cameras(["cam1"], "stream"),
    );
    let mut daemon = Daemon::start(&config);
    pictures.wait_for("cam1", 30, SOON);
    wait_until(SOON, "lost frame events", || {
        metric(&daemon, "events_lost_total") >= 30
    });
    assert_eq!(metric(&daemon, "events_published_total"), 0);
    // Nothing has changed, but the broker did not confirm it.
    wait_until(SOON, "the state again", || {
        let again = ("active".to_owned(), 0);
        states(&told, "cam1")
            .iter()
            .filter(|it| **it == again)
            .count()
            > 2
    });
    channel
        .queue_unbind(queue.name(), exchange, key, FieldTable::new())
        .unwrap();
    let lost = metric(&daemon, "events_lost_total");
    wait_until(SOON, "events that are confirmed", || {
        metric(&daemon, "events_published_total") > 30
    });
    assert!(metric(&daemon, "events_lost_total") < lost + 10);
    wait_until(SOON, "the counts", || counts(&told) == Some([1, 1, 0]));
    let exit = daemon.terminate();
    exit.report().check_accounting();
    assert_eq!(exit.report().total.dropped("nacked"), 0);
}

#[test]
fn after_a_restart_of_the_broker_all_states_are_told_anew() {
    let mut rabbit = Rabbit::start();
    // Durable, so that it is there before the daemon is back.
    let mut connection = amiquip::Connection::insecure_open(&rabbit.url()).unwrap();
    let channel = connection.open_channel(None).unwrap();
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let exchange = "events.restart.events";
    channel
        .exchange_declare(ExchangeType::Topic, exchange, durable)
        .unwrap();
    let queue = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel.queue_declare("kept", queue).unwrap();
    channel
        .queue_bind("kept", exchange, "#", FieldTable::new())
        .unwrap();
    let told = Consumer::start(rabbit.port(), exchange);
    let config = config(
        &rabbit.url(),
        "events.restart",
        "",
        "",
        &cameras(["cam1", "cam2"], "stream"),
    )
    // Long enough that no state changes meanwhile.
    .replace("{id:", "{stale_timeout: 10m, id:");
    let mut daemon = Daemon::start(&config);
    for id in ["cam1", "cam2"] {
        wait_for_state(&told, id, "active");
    }
    let (threads, fds) = (daemon.threads(), daemon.fds());
    drop((told, connection));
    rabbit.restart();
    let mut connection = amiquip::Connection::insecure_open(&rabbit.url()).unwrap();
    let channel = connection.open_channel(None).unwrap();
    let mut active = BTreeSet::new();
    wait_until(SOON, "both cameras told as active", || {
        while let Some(got) = channel.basic_get("kept", true).unwrap() {
            let event: Value = serde_json::from_slice(&got.delivery.body).unwrap();
            if event["state"] == "active" {
                active.insert(event["camera_id"].as_str().unwrap().to_owned());
            }
        }
        active.len() == 2
    });
    wait_until(SOON, "the same threads and descriptors", || {
        (daemon.threads(), daemon.fds()) == (threads, fds)
    });
    let lines = daemon.log_with("events: broker");
    assert!(lines.len() <= 3, "not said per attempt: {lines:?}");
    daemon.terminate().report().check_accounting();
}

#[test]
fn a_password_is_in_no_event() {
    let rabbit = Rabbit::shared();
    let told = Consumer::start(rabbit.port(), "events.secret.events");
    let config = config(&rabbit.url(), "events.secret", "", NO_BREAKER, &[])
        + "  - {id: cam1, url: \"rtsp://admin:Rt7-hidden-19@127.0.0.1/fake:secret,\"}\n";
    let mut daemon = Daemon::start(&config);
    let event = wait_for(SOON, "a failure", || {
        let events = events(&told, STATUS);
        let mut found = events.into_iter();
        found.find(|event| event["consecutive_failures"].as_u64() > Some(0))
    });
    let error = event["last_error"].as_str().unwrap();
    assert!(error.contains("rtsp://***@127.0.0.1/"), "{error}");
    daemon.terminate();
    for delivery in told.all() {
        let text = String::from_utf8_lossy(delivery.jpeg()).into_owned();
        assert!(!text.contains("hidden"), "{text}");
    }
}

#[test]
fn a_camera_that_is_left_alone_or_taken_away_is_offline() {
    let rabbit = Rabbit::shared();
    let told = Consumer::start(rabbit.port(), "events.offline.events");
    let plays = [
        ("bad", "exit,n=0".to_owned()),
        ("good", "stream,tag=good".to_owned()),
        ("gone", "stream,tag=gone".to_owned()),
    ];
    let more = "circuit_breaker: {max_failures: 2, initial_backoff: 1m}";
    let with = config(&rabbit.url(), "events.offline", "", more, &plays);
    let mut daemon = Daemon::start(&with);
    let bad = wait_for_state(&told, "bad", "offline");
    assert_eq!(bad["consecutive_failures"], 2);
    let message = bad["message"].as_str().unwrap();
    assert!(
        message.starts_with("next try in ") && message.contains(" after 2 failures: FFmpeg ended"),
        "{message}"
    );
    wait_for_state(&told, "gone", "active");
    wait_until(SOON, "the counts", || counts(&told) == Some([3, 2, 1]));

    // The same configuration with another camera in the place of one.
    let with = std::fs::read_to_string(daemon.config_path()).unwrap();
    std::fs::write(daemon.config_path(), with.replace("id: gone", "id: new")).unwrap();
    daemon.signal(Signal::HUP);
    let gone = wait_for_state(&told, "gone", "offline");
    assert_eq!(gone["message"], "removed");
    wait_for_state(&told, "new", "active");
    wait_until(SOON, "the counts", || counts(&told) == Some([3, 2, 1]));
    assert_eq!(states(&told, "good").len(), 1, "left alone");
    daemon.terminate().report().check_accounting();
    wait_until(SOON, "the last words", || counts(&told) == Some([3, 0, 3]));
    assert_eq!(states(&told, "gone").len(), 2, "forgotten");
    assert_eq!(states(&told, "good").len(), 2, "offline at the end");
}

#[test]
fn its_last_word_is_that_every_camera_is_offline() {
    let rabbit = Rabbit::shared();
    let told = Consumer::start(rabbit.port(), "events.stop.events");
    let ids = ["cam1", "cam2", "cam3", "cam4", "cam5", "cam6"];
    let config = config(
        &rabbit.url(),
        "events.stop",
        ", frames: true",
        "",
        &cameras(ids, "stream"),
    );
    let mut daemon = Setup::new(&config).watch_stop().start();
    for id in ids {
        wait_for_state(&told, id, "active");
    }
    let machine = Lateness::start();
    let exit = daemon.terminate();
    let late = machine.so_far();
    assert_eq!(exit.code(), Some(0));
    exit.report().check_accounting();
    assert_eq!(daemon.overdue(), Vec::<String>::new());
    let last_words = |id: &str| {
        let events = events(&told, STATUS);
        let last = events.iter().rfind(|event| event["camera_id"] == id);
        last.is_some_and(|it| it["state"] == "offline" && it["message"] == "stopping")
    };
    wait_until(SOON, "the last words", || {
        counts(&told) == Some([6, 0, 6]) && ids.iter().all(|id| last_words(id))
    });
    eprintln!("{:?}, machine late by {late:?}", exit.took);
    assert!(
        exit.took < Duration::from_millis(500) + late,
        "{:?}",
        exit.took
    );
}

#[test]
fn a_frozen_broker_does_not_hold_up_the_end() {
    let rabbit = Rabbit::start();
    let told = Consumer::start(rabbit.port(), "events.frozen.events");
    let config = config(
        &rabbit.url(),
        "events.frozen",
        ", frames: true",
        "",
        &cameras(["cam1", "cam2"], "ignore_term"),
    );
    let mut daemon = Setup::new(&config).watch_stop().start();
    for id in ["cam1", "cam2"] {
        wait_for_state(&told, id, "active");
    }
    rabbit.freeze();
    let exit = daemon.terminate();
    rabbit.thaw();
    assert_eq!(exit.code(), Some(0));
    exit.report().check_accounting();
    let overdue = daemon.overdue();
    let [publishers, events] = overdue.as_slice() else {
        panic!("{overdue:?}");
    };
    let names = ["cam1", "cam2"].map(|id| format!("pub-{id}"));
    assert!(
        names.iter().all(|name| publishers.contains(name)),
        "{publishers}"
    );
    assert!(
        events.ends_with("still running after 400ms: events"),
        "{events}"
    );
    eprintln!("{:?}", exit.took);
    // Two seconds of it are the program's own limits.
    assert!(exit.took < Duration::from_secs(3), "{:?}", exit.took);
}
