//! Runs the commands and queues of the guides in `docs/` as they are, against a real broker.

use crate::support::consumer::Consumer;
use crate::support::daemon::Daemon;
use crate::support::rabbit::Rabbit;
use crate::support::{SOON, fake_config, wait_until};
use amiquip::{
    AmqpValue, Channel, Connection, ExchangeDeclareOptions, ExchangeType, FieldTable,
    QueueDeclareOptions,
};
use std::collections::BTreeMap;
use std::path::Path;

/// The guide's code blocks of this language.
pub(crate) fn blocks(guide: &str, language: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs")
        .join(guide);
    let text = std::fs::read_to_string(path).unwrap();
    let blocks = text.split("```").skip(1).step_by(2);
    let opening = format!("{language}\n");
    let of_language = blocks.filter_map(|block| block.strip_prefix(&opening));
    of_language.map(str::to_owned).collect()
}

/// The arguments of the guide's commands for `rabbitmqctl`.
fn commands(guide: &str) -> Vec<Vec<String>> {
    blocks(guide, "sh")
        .iter()
        .flat_map(|block| block.lines())
        .filter_map(|line| line.strip_prefix("sudo rabbitmqctl "))
        .map(|line| {
            // Every second part is in quotes.
            let parts = line.split('\'').enumerate();
            let words = parts.flat_map(|(n, part)| match n % 2 {
                0 => part.split_whitespace().map(str::to_owned).collect(),
                _ => vec![part.to_owned()],
            });
            words.collect()
        })
        .collect()
}

/// Runs the command; returns what it printed.
fn run(rabbit: &Rabbit, command: &[String]) -> String {
    let words: Vec<_> = command.iter().map(String::as_str).collect();
    rabbit.ctl(&words)
}

/// A daemon of the guide's user, with events.
fn start(rabbit: &Rabbit, exchange: &str, events: &str) -> Daemon {
    let url = rabbit.url_with("board", "board-password", "/");
    let cameras = ["door", "gate"].map(|id| (id, format!("stream,fps=10,tag={id}")));
    let more = format!("metadata: {{enabled: true, exchange: {events}}}");
    Daemon::start(&fake_config(&url, exchange, &more, &cameras))
}

/// Whether this user may bind a queue of its own with this key.
fn may_bind(rabbit: &Rabbit, user: &str, queue: &str, exchange: &str, key: &str) -> bool {
    let url = rabbit.url_with(user, &format!("{}-password", short(user)), "/");
    let mut connection = Connection::insecure_open(&url).unwrap();
    let channel = connection.open_channel(None).unwrap();
    let options = QueueDeclareOptions {
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    let queue = channel.queue_declare(queue, options).unwrap();
    channel
        .queue_bind(queue.name(), exchange, key, FieldTable::new())
        .is_ok()
}

/// `home-assistant` has the password `home-password`.
fn short(user: &str) -> &str {
    user.split('-').next().unwrap()
}

/// Declares the queue of a call such as `channel.queue_declare("NAME", durable=True, arguments={
/// "x-max-length": 1})`; the arguments of Python are JSON. Returns its name.
fn declare(channel: &Channel, call: &str) -> String {
    let call = call.strip_prefix("channel.queue_declare(").unwrap();
    let (name, rest) = call.split_once(", durable=True, arguments=").unwrap();
    let name = name.trim_matches('"');
    let arguments: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(rest.trim_end().strip_suffix(')').unwrap()).unwrap();
    let arguments = arguments.into_iter().map(|(key, value)| {
        let value = match value.as_i64() {
            Some(number) => AmqpValue::LongLongInt(number),
            None => AmqpValue::LongString(value.as_str().unwrap().to_owned()),
        };
        (key, value)
    });
    let options = QueueDeclareOptions {
        durable: true,
        arguments: arguments.collect(),
        ..QueueDeclareOptions::default()
    };
    let queue = channel.queue_declare(name, options).unwrap();
    channel
        .queue_bind(queue.name(), "cameras", "camera.*", FieldTable::new())
        .unwrap();
    name.to_owned()
}

/// The counts of messages in the queues.
fn counts(rabbit: &Rabbit) -> BTreeMap<String, u64> {
    let table = rabbit.ctl(&["list_queues", "name", "messages", "--no-table-headers"]);
    let row = |line: &str| {
        let (name, count) = line.split_once('\t')?;
        Some((name.to_owned(), count.parse().ok()?))
    };
    table.lines().filter_map(row).collect()
}

#[test]
fn the_users_of_the_rabbitmq_guide_may_do_what_it_says_and_no_more() {
    let rabbit = Rabbit::start();
    for command in commands("rabbitmq.md") {
        let first_words: Vec<_> = command.iter().take(2).map(String::as_str).collect();
        let first_words = first_words.join(" ");
        if first_words == "set_permissions board" && command[2] == "^$" {
            // The daemon declares its exchanges first, as the guide says before this command.
            let daemon = start(&rabbit, "cameras", "camera.metadata");
            daemon.wait_for_log("door: live", SOON);
            wait_until(SOON, "both exchanges", || {
                let exchanges = rabbit.ctl(&["list_exchanges", "name"]);
                ["cameras", "camera.metadata"]
                    .iter()
                    .all(|name| exchanges.lines().any(|line| line == *name))
            });
        }
        run(&rabbit, &command);
        let bind = |key| may_bind(&rabbit, "viewer", "viewer.try", "cameras", key);
        match first_words.as_str() {
            "set_permissions viewer" | "clear_topic_permissions viewer" => {
                assert!(bind("camera.*") && bind("#"), "{first_words}");
            }
            "set_topic_permissions viewer" => {
                assert!(bind("camera.door"));
                assert!(!bind("camera.yard") && !bind("camera.*") && !bind("#"));
            }
            _ => {}
        }
    }
    assert!(!may_bind(
        &rabbit,
        "viewer",
        "viewer.try",
        "camera.metadata",
        "#"
    ));
    // The board may only write now.
    let pictures = Consumer::start(rabbit.port(), "cameras");
    let events = Consumer::start(rabbit.port(), "camera.metadata");
    let mut daemon = start(&rabbit, "cameras", "camera.metadata");
    pictures.wait_for("door", 5, SOON);
    events.wait_until(SOON, "an event", |arrived| !arrived.is_empty());
    daemon.terminate().report().check_accounting();
}

#[test]
fn the_queues_and_policies_of_the_rabbitmq_guide_hold_their_limits() {
    let rabbit = Rabbit::start();
    let exchange = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let mut admin = Connection::insecure_open(&rabbit.url()).unwrap();
    admin
        .open_channel(None)
        .unwrap()
        .exchange_declare(ExchangeType::Topic, "cameras", exchange)
        .unwrap();
    for command in commands("rabbitmq.md") {
        run(&rabbit, &command);
    }
    let url = rabbit.url_with("viewer", "viewer-password", "/");
    let mut connection = Connection::insecure_open(&url).unwrap();
    let channel = connection.open_channel(None).unwrap();
    let queues = blocks("rabbitmq.md", "python");
    let names: Vec<_> = queues.iter().map(|call| declare(&channel, call)).collect();
    assert_eq!(
        names,
        [
            "viewer.latest",
            "viewer.work",
            "viewer.short",
            "viewer.past"
        ]
    );

    // Before the short one expires, which nobody consumes from.
    let table = rabbit.ctl(&["list_queues", "name", "policy"]);
    let mut lines: Vec<_> = table.lines().skip(1).collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "viewer.latest\tpictures",
            "viewer.past\t",
            "viewer.short\tpictures",
            "viewer.work\tpictures",
        ]
    );

    rabbit.ctl(&["set_permissions", "board", ".*", ".*", "^$"]);
    let mut daemon = start(&rabbit, "cameras", "camera.metadata");
    wait_until(SOON, "more pictures than the short queues hold", || {
        counts(&rabbit)["viewer.past"] > 30
    });
    let now = counts(&rabbit);
    assert_eq!(now["viewer.latest"], 1);
    assert!(
        now["viewer.work"] <= 6 && now["viewer.short"] <= 10,
        "{now:?}"
    );
    daemon.terminate().report().check_accounting();
    wait_until(SOON, "old pictures to go", || {
        counts(&rabbit)["viewer.work"] == 0
    });
    assert!(counts(&rabbit)["viewer.past"] > 30);
}

#[test]
fn the_users_of_the_home_assistant_guide_share_amq_topic_with_pictures_and_events() {
    let rabbit = Rabbit::start();
    for command in commands("home-assistant.md") {
        run(&rabbit, &command);
    }
    let one_level = Consumer::start_with(rabbit.port(), "amq.topic", "camera.*", false);
    let all = Consumer::start_with(rabbit.port(), "amq.topic", "camera.#", false);
    let mut daemon = start(&rabbit, "amq.topic", "amq.topic");
    one_level.wait_for("door", 5, SOON);
    let is_event = |key: &str| key.starts_with("camera.metadata.event.");
    all.wait_until(SOON, "an event", |arrived| {
        arrived.iter().any(|it| is_event(&it.routing_key))
    });
    daemon.terminate().report().check_accounting();
    assert!(one_level.all().iter().all(|it| !is_event(&it.routing_key)));

    let bind = |key| {
        may_bind(
            &rabbit,
            "home-assistant",
            "mqtt-subscription-try",
            "amq.topic",
            key,
        )
    };
    for key in [
        "camera.door",
        "camera.*",
        "camera.metadata.event.system",
        "camera.metadata.event.status",
        "homeassistant.*.*.config",
    ] {
        assert!(bind(key), "{key}");
    }
    for key in ["camera.#", "#", "other.door"] {
        assert!(!bind(key), "{key}");
    }
}
