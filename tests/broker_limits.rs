//! A broker that grants less than requested: channels, connections, rights, sizes. The daemon uses
//! what it grants, and reports a refusal for exactly the cameras that it concerns.

use crate::support::consumer::Consumer;
use crate::support::daemon::Daemon;
use crate::support::http::{Http, ON, value};
use crate::support::rabbit::Rabbit;
use crate::support::{SOON, fake_config, patient, wait_until};
use serde_json::Value;
use std::collections::BTreeSet;

const FIVE: [&str; 5] = ["cam1", "cam2", "cam3", "cam4", "cam5"];

fn streams(ids: &[&'static str]) -> Vec<(&'static str, String)> {
    let play = |id: &&'static str| (*id, format!("stream,tag={id}"));
    ids.iter().map(play).collect()
}

/// What `/status` shows of each camera.
fn shown(http: Http) -> Vec<(String, Value)> {
    let status = http.get("/status").json();
    let cameras = status["cameras"].as_array().unwrap().iter();
    let of = |camera: &Value| (camera["id"].as_str().unwrap().to_owned(), camera.clone());
    cameras.map(of).collect()
}

/// The cameras that the page shows as refused by the broker with this text, and the others.
fn refused(http: Http, words: &str) -> (Vec<String>, Vec<String>) {
    let is_refused = |camera: &Value| {
        let says = camera["words"].as_str().unwrap();
        says.starts_with("live, but not published: ") && says.contains(words)
    };
    let cameras = shown(http).into_iter();
    let (refused, fine): (Vec<_>, Vec<_>) = cameras.partition(|(_, camera)| is_refused(camera));
    let ids = |of: Vec<(String, Value)>| of.into_iter().map(|(id, _)| id).collect();
    (ids(refused), ids(fine))
}

/// How many connections have an owner. amiquip's timer thread has the same name.
fn owners(daemon: &Daemon) -> usize {
    let names = BTreeSet::from_iter(daemon.thread_names());
    let number = |name: &String| name.strip_prefix("amqp-").map(str::parse::<usize>);
    let owners = names
        .iter()
        .filter(|name| matches!(number(name), Some(Ok(_))));
    owners.count()
}

#[test]
fn cameras_beyond_the_channels_of_a_connection_get_another_one() {
    let rabbit = Rabbit::start_with("channel_max = 3");
    let consumer = Consumer::start(rabbit.port(), "limits.channels");
    let config =
        |ids: &[&'static str]| fake_config(&rabbit.url(), "limits.channels", ON, &streams(ids));
    let mut daemon = Daemon::start(&patient(&config(&FIVE[..3])));
    for id in &FIVE[..3] {
        consumer.wait_for(id, 5, SOON);
    }
    assert_eq!(owners(&daemon), 1);

    // One more camera by SIGHUP stops no other camera, and the log says once where it went.
    daemon.reload(&patient(&config(&FIVE[..4])));
    let said = "the broker allows only 3 channels on connection amqp-0: amqp-1 carries cam4";
    daemon.wait_for_log(said, SOON);
    consumer.wait_for("cam4", 5, SOON);
    // The next camera goes there at once.
    daemon.reload(&patient(&config(&FIVE)));
    consumer.take();
    for id in FIVE {
        consumer.wait_for(id, 15, SOON);
    }
    assert_eq!(daemon.log_with("channels on connection").len(), 1);
    assert_eq!(owners(&daemon), 2);
    let http = daemon.http();
    assert_eq!(http.get("/readyz").status, 200);
    assert_eq!(http.get("/status").json()["broker"]["connections"], 2);
    assert!(refused(http, "").0.is_empty());
    let exit = daemon.terminate();
    assert_eq!(exit.code(), Some(0));
    exit.report().check_accounting();
    assert_eq!(exit.report().total.restarts_in_all(), 0);
    assert_eq!(exit.report().total.dropped("unknown"), 0, "nobody noticed");
}

#[test]
fn a_restart_of_a_broker_with_few_channels_leaves_as_many_threads_and_descriptors() {
    let mut rabbit = Rabbit::start_with("channel_max = 2");
    let config = fake_config(&rabbit.url(), "limits.restart", ON, &streams(&FIVE));
    let mut daemon = Daemon::start(&config);
    let flows = |rabbit: &Rabbit| {
        let consumer = Consumer::start(rabbit.port(), "limits.restart");
        for id in FIVE {
            consumer.wait_for(id, 15, SOON);
        }
    };
    flows(&rabbit);
    assert_eq!(owners(&daemon), 3, "two, two and one");
    let before = (daemon.threads(), daemon.fds());
    for _ in 0..2 {
        rabbit.restart();
        flows(&rabbit);
        assert_eq!((daemon.threads(), daemon.fds()), before);
    }
    daemon.terminate().report().check_accounting();
}

/// Two of five cameras are refused until `lift`, and are named with this text of the broker. The
/// other three publish meanwhile.
fn two_of_five_are_refused(rabbit: &Rabbit, exchange: &str, words: &str, lift: impl FnOnce()) {
    let consumer = Consumer::start(rabbit.port(), exchange);
    let url = rabbit.url_with("limited", "secret-of-mine", "/");
    let config = patient(&fake_config(&url, exchange, ON, &streams(&FIVE)));
    let mut daemon = Daemon::start(&config);
    let http = daemon.http();
    wait_until(2 * SOON, "two to be refused and three to publish", || {
        let (refused, fine) = refused(http, words);
        (refused.len(), fine.len()) == (2, 3)
    });
    let (refused_ids, fine) = refused(http, words);
    consumer.take();
    for id in &fine {
        consumer.wait_for(id, 45, SOON);
    }
    let arrived: BTreeSet<_> = consumer
        .take()
        .iter()
        .map(|frame| frame.camera_id().to_owned())
        .collect();
    assert!(arrived.iter().eq(&fine), "{arrived:?}");
    for (id, camera) in shown(http) {
        let is_refused = refused_ids.contains(&id);
        let error = camera["last_error"].as_str().unwrap_or_default().to_owned();
        assert!(!is_refused || error.contains(words), "{id}: {error}");
    }
    wait_until(SOON, "both to be named", || {
        let lines = daemon.log_with(words);
        let names = |line: &String| line.split("not published: ").nth(1).map(str::to_owned);
        let named: Vec<_> = lines.iter().filter_map(names).collect();
        refused_ids
            .iter()
            .all(|id| named.iter().any(|names| names.contains(id.as_str())))
    });
    let ready = http.get("/readyz");
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains(words), "{}", ready.text());

    lift();
    for id in FIVE {
        consumer.wait_for(id, 5, 3 * SOON);
    }
    wait_until(SOON, "readiness", || http.get("/readyz").status == 200);
    let exit = daemon.terminate();
    exit.report().check_accounting();
    assert_eq!(exit.report().total.restarts_in_all(), 0);
}

fn limited_user(rabbit: &Rabbit, limits: &str) {
    rabbit.ctl(&["add_user", "limited", "secret-of-mine"]);
    rabbit.ctl(&["set_permissions", "limited", ".*", ".*", ".*"]);
    rabbit.ctl(&["set_user_limits", "limited", limits]);
}

#[test]
fn a_limit_of_the_users_channels_refuses_exactly_the_cameras_beyond_it() {
    let rabbit = Rabbit::start();
    limited_user(&rabbit, r#"{"max-channels": 3}"#);
    // RabbitMQ 4.0 puts its node's name where 3.10 has the user's.
    let user = if rabbit.release().starts_with("3.") {
        "limited"
    } else {
        rabbit.node_name()
    };
    let words = format!(
        "number of channels opened for user '{user}' has reached the maximum allowed user limit of (3)"
    );
    two_of_five_are_refused(&rabbit, "limits.user", &words, || {
        rabbit.ctl(&["clear_user_limits", "limited", "all"]);
    });
}

#[test]
fn a_limit_of_the_users_connections_refuses_exactly_the_cameras_on_those_beyond_it() {
    let rabbit = Rabbit::start_with("channel_max = 3");
    limited_user(&rabbit, r#"{"max-connections": 1}"#);
    let words = "refused for user 'limited': user connection limit (1) is reached";
    two_of_five_are_refused(&rabbit, "limits.connections", words, || {
        rabbit.ctl(&["clear_user_limits", "limited", "all"]);
    });
}

#[test]
fn a_limit_of_the_virtual_hosts_connections_refuses_exactly_the_cameras_beyond_it() {
    let rabbit = Rabbit::start_with("channel_max = 3");
    limited_user(&rabbit, "{}");
    // The consumer uses one of them.
    rabbit.ctl(&["set_vhost_limits", r#"{"max-connections": 2}"#]);
    let words = "connection limit (2) is reached";
    two_of_five_are_refused(&rabbit, "limits.vhost", words, || {
        rabbit.ctl(&["clear_vhost_limits"]);
    });
}

#[test]
fn a_user_who_may_only_write_publishes_to_an_exchange_that_is_there() {
    let rabbit = Rabbit::shared();
    let consumer = Consumer::start(rabbit.port(), "limits.write");
    rabbit.ctl(&["add_user", "writer", "writes-only"]);
    rabbit.ctl(&["set_permissions", "writer", "^$", "^limits[.]write$", "^$"]);
    let url = rabbit.url_with("writer", "writes-only", "/");
    let mut config = fake_config(&url, "limits.write", ON, &streams(&["cam1", "cam2"]));
    config = config.replace("tag=cam2\"", "tag=cam2\", exchange: limits.nowhere");
    let mut daemon = Daemon::start(&config);
    consumer.wait_for("cam1", 15, SOON);
    let line = daemon.wait_for_log("the broker refuses exchange", SOON);
    // RabbitMQ 4 names the kind of access.
    let without_kind = line.replace("- configure access to", "- access to");
    assert!(
        without_kind.contains(
            "cam2: the broker refuses exchange \"limits.nowhere\": ACCESS_REFUSED - access to \
             exchange 'limits.nowhere' in vhost '/' refused for user 'writer'"
        ),
        "{line}"
    );
    assert_eq!(
        daemon.log_with("refuses exchange \"limits.write\"").len(),
        0
    );
    daemon.terminate().report().check_accounting();
}

#[test]
fn an_exchange_that_was_declared_otherwise_is_published_to() {
    let rabbit = Rabbit::shared();
    let mut connection = amiquip::Connection::insecure_open(&rabbit.url()).unwrap();
    let channel = connection.open_channel(None).unwrap();
    channel
        .exchange_declare(
            amiquip::ExchangeType::Topic,
            "limits.otherwise",
            amiquip::ExchangeDeclareOptions {
                arguments: amiquip::FieldTable::from([(
                    "alternate-exchange".to_owned(),
                    amiquip::AmqpValue::LongString("amq.fanout".to_owned()),
                )]),
                ..amiquip::ExchangeDeclareOptions::default()
            },
        )
        .unwrap();
    let config = fake_config(&rabbit.url(), "limits.otherwise", ON, &streams(&["cam1"]));
    let mut daemon = Daemon::start(&config);
    let http = daemon.http();
    wait_until(SOON, "frames to be published", || {
        let text = http.get("/metrics").text().to_owned();
        value(&text, "edge_video_frames_published_total") >= 15.0
    });
    assert_eq!(daemon.log_with("refuses").len(), 0);
    daemon.terminate().report().check_accounting();
}

#[test]
fn a_frame_larger_than_the_broker_takes_is_dropped_once_the_limit_is_known() {
    let rabbit = Rabbit::start_with("max_message_size = 100000");
    let consumer = Consumer::start(rabbit.port(), "limits.size");
    let play = "huge,k=5,huge=200000,tag=cam1".to_owned();
    let config = fake_config(&rabbit.url(), "limits.size", ON, &[("cam1", play)]);
    let mut daemon = Daemon::start(&patient(&config));
    let said = "the broker accepts no message larger than 100000 bytes (its max_message_size): \
                larger frames are dropped as oversize; raise that limit, or lower the size or \
                quality of the pictures";
    daemon.wait_for_log(said, SOON);
    // A fifth of the frames is too large; each of the others arrives.
    consumer.take();
    let frames = consumer.wait_for("cam1", 60, 2 * SOON);
    let gaps: Vec<_> = frames
        .windows(2)
        .map(|two| two[1].seq() - two[0].seq())
        .collect();
    assert!(gaps.iter().all(|gap| (1..=2).contains(gap)), "{gaps:?}");
    assert_eq!(daemon.log_with("accepts no message larger").len(), 1);
    assert_eq!(daemon.log_with("refuses exchange").len(), 0);
    let exit = daemon.terminate();
    let report = exit.report();
    report.check_accounting();
    assert!(report.total.dropped("oversize") >= 10, "{report:?}");
    // Frames in flight when the broker closed the channel, including the refused one.
    assert!(report.total.dropped("unknown") <= 2, "{report:?}");
}
