//! Broker and network: whatever happens to them, frames flow again by themselves, the newest first.

use crate::lab::{Lab, Node, SIX, plan};
use crate::support::etc::Etc;
use crate::support::hostile::{self, Hostile, KINDS};
use crate::support::rabbit::{self, Rabbit};
use crate::support::{self, wait_until};
use amiquip::{
    AmqpValue, Connection, ExchangeDeclareOptions, ExchangeType, FieldTable, QueueDeclareOptions,
};
use std::time::Duration;

/// A broker that takes connections has frames after at most so long: the retries are half a second
/// apart, and it takes its time to come up.
const SOON: Duration = Duration::from_secs(3);
/// One that has only slept is up at once.
const AT_ONCE: Duration = Duration::from_secs(1);
/// After refusals: their retries are half a minute apart at most.
const AFTER_REFUSALS: Duration = Duration::from_secs(40);

/// A connection that ends without a word says so in one of two ways.
pub const CUT: [&str; 2] = [
    "): the connection was cut; retrying, keeping only the newest frame of each camera",
    "): connection reset by peer; retrying, keeping only the newest frame of each camera",
];

#[test]
fn a_broker_that_is_down_at_start_is_waited_for() {
    let mut plan = plan("down at the start").broker(Node::mine());
    plan.node().stop_gracefully();
    let mut lab = plan.start_ill();
    lab.says("connection refused; retrying, keeping only the newest frame of each camera");
    lab.mend_by(|lab| lab.rabbit_mut().start_again());
    lab.listen();
    lab.check(SOON);
}

#[test]
fn a_killed_broker_comes_back() {
    let mut lab = plan("killed (SIGKILL) and started again")
        .broker(Node::mine())
        .start();
    lab.be_deaf();
    lab.break_by(|lab| lab.rabbit_mut().kill());
    lab.says_one_of(&CUT);
    lab.says("connection refused; retrying, keeping only the newest frame of each camera");
    lab.mend_by(|lab| lab.rabbit_mut().start_again());
    lab.listen();
    lab.check(SOON);
}

#[test]
fn a_restarted_broker_comes_back() {
    let mut lab = plan("restarted in good order").broker(Node::mine()).start();
    lab.be_deaf();
    lab.break_by(|lab| lab.rabbit_mut().stop_gracefully());
    // Frames that arrive at the closed socket reset it, perhaps before the goodbye was read.
    let goodbye = "closed by the broker: CONNECTION_FORCED - broker forced connection closure with \
         reason 'shutdown'; retrying, keeping only the newest frame of each camera";
    lab.says_one_of(&[goodbye, CUT[0], CUT[1]]);
    lab.mend_by(|lab| lab.rabbit_mut().start_again());
    lab.listen();
    lab.check(SOON);
}

/// SIGSTOP for so long.
fn frozen(mut lab: Lab, time: Duration) {
    lab.break_by(|lab| lab.rabbit().freeze());
    let rss = lab.daemon.rss_kb();
    lab.says(
        "no publisher confirm within amqp.confirm_timeout; retrying, keeping only the newest \
              frame of each camera",
    );
    lab.lasts(time);
    let grown = lab.daemon.rss_kb().saturating_sub(rss);
    assert!(
        grown < 2048,
        "{rss} kB grew by {grown} kB while it was frozen"
    );
    lab.mend_by(|lab| lab.rabbit().thaw());
    lab.check(AT_ONCE);
}

#[test]
fn a_broker_that_is_frozen_for_ten_seconds_gets_fresh_frames() {
    let lab = plan("frozen (SIGSTOP) for 10 s")
        .broker(Node::mine())
        .start();
    frozen(lab, Duration::from_secs(10));
}

#[test]
fn a_broker_that_is_frozen_for_forty_seconds_gets_fresh_frames() {
    let lab = plan("frozen (SIGSTOP) for 40 s")
        .broker(Node::mine())
        .start();
    frozen(lab, Duration::from_secs(40));
}

/// An alarm that is set and cleared: the connection stays, and nobody gives it up.
#[track_caller]
fn alarm(fault: &'static str, set: &[&str], clear: &[&str], reason: &str) {
    let mut lab = plan(fault)
        .broker(Node::mine())
        .amqp("  confirm_timeout: 6s\n")
        .start();
    lab.break_by(|lab| {
        lab.rabbit().ctl(set);
    });
    lab.says(&format!(
        "has blocked publishing ({reason}); keeping only the newest frame of each camera"
    ));
    lab.lasts(Duration::from_secs(8));
    lab.mend_by(|lab| {
        lab.rabbit().ctl(clear);
    });
    lab.says("has unblocked publishing");
    assert_eq!(lab.metric("broker_reconnects_total"), 0.0);
    lab.check(SOON);
}

#[test]
fn a_memory_alarm_is_waited_out_on_the_same_connection() {
    alarm(
        "memory alarm for 8 s, `confirm_timeout` 6 s",
        &["set_vm_memory_high_watermark", "0.0000001"],
        &["set_vm_memory_high_watermark", "0.6"],
        "low on memory",
    );
}

#[test]
fn a_disk_alarm_is_waited_out_on_the_same_connection() {
    alarm(
        "disk alarm for 8 s, `confirm_timeout` 6 s",
        &["set_disk_free_limit", "9999GB"],
        &["set_disk_free_limit", "1MB"],
        "low on disk",
    );
}

/// The daemon's connection, as the broker names it: the one that declares our product.
fn close_connection(lab: &Lab) {
    // Behind its proxy it is the only one that is called so on this node.
    let list = lab
        .rabbit()
        .ctl(&["list_connections", "pid", "client_properties"]);
    // The node is called so too.
    let lines = list.lines().filter_map(|line| line.split_once('\t'));
    let mut ours = lines.filter(|(_, properties)| properties.contains("edge-video"));
    let (pid, _) = ours.next_back().expect("a connection of the daemon's");
    lab.rabbit().ctl(&["close_connection", pid, "maintenance"]);
}

#[test]
fn a_connection_closed_by_an_administrator_is_made_anew() {
    let mut lab = plan("connection closed by an administrator")
        .broker(Node::mine())
        .start();
    lab.break_by(|lab| close_connection(lab));
    lab.says(
        "closed by the broker: CONNECTION_FORCED - maintenance; retrying, \
         keeping only the newest frame of each camera",
    );
    lab.mend_by(|_| {});
    lab.check(SOON);
}

#[test]
fn a_reset_connection_is_made_anew() {
    let mut lab = plan("connection reset").start();
    lab.break_by(|lab| lab.proxy.reset());
    lab.says_one_of(&CUT);
    lab.mend_by(|_| {});
    lab.check(SOON);
}

#[test]
fn a_connection_on_which_packets_vanish_is_given_up_and_made_anew() {
    let mut lab = plan("packets vanish (half-open connection)").start();
    lab.break_by(|lab| lab.proxy.pause());
    lab.says(
        "no publisher confirm within amqp.confirm_timeout; retrying, keeping only the newest \
              frame of each camera",
    );
    lab.says("no answer from the broker; retrying, keeping only the newest frame of each camera");
    lab.mend_by(|lab| lab.proxy.pass());
    lab.check(SOON);
}

#[test]
fn a_slow_drip_carries_what_fits_on_the_same_connection_and_no_memory_is_spent_on_the_rest() {
    let mut lab = plan("20 KB/s for 20 s: a frame a second of the 90").start();
    let rss = lab.daemon.rss_kb();
    lab.break_by(|lab| lab.proxy.throttle(20_000));
    lab.says("WARN  the uplink is too slow: it carries ");
    // `says` returns the line without its numbers.
    lab.daemon.wait_for_log(", the cameras send 1.", SOON);
    lab.lasts(Duration::from_secs(20));
    assert_eq!(lab.metric("broker_reconnects_total"), 0.0);
    let grown = lab.daemon.rss_kb().saturating_sub(rss);
    assert!(grown < 2048, "{rss} kB grew by {grown} kB");
    lab.mend_by(|lab| lab.proxy.pass());
    lab.late_counts_from_now();
    lab.check(SOON);
}

#[test]
fn a_far_broker_gets_the_full_rate_of_all_six_cameras() {
    // 15 frames/s times 0.2 s are 3 frames on their way, and one more.
    let mut lab = plan("200 ms round trip: all six keep their 15 frames/s")
        .window(5)
        .start();
    lab.break_by(|lab| lab.proxy.delay(Duration::from_millis(100)));
    // The window grows by one a round trip. A machine that is busy for a moment is no reason to
    // fail.
    let full_rate = |lab: &Lab| {
        let from = support::unix_us();
        lab.await_frames(75, from, Duration::from_secs(30));
        let frames = lab.frames();
        SIX.iter().all(|id| {
            let frames = frames.iter().filter(|frame| frame.camera_id() == *id);
            let fresh = frames.filter(|frame| frame.captured_at_us() > from);
            let seqs: Vec<_> = fresh.map(|frame| frame.seq()).collect();
            let captured = seqs[seqs.len() - 1] - seqs[0] + 1;
            seqs.len() as f64 / captured as f64 > 0.97
        })
    };
    let minute = Duration::from_secs(60);
    wait_until(minute, "97 of 100 frames of each camera", || {
        full_rate(&lab)
    });
    lab.mend_by(|lab| lab.proxy.delay(Duration::ZERO));
    lab.check(SOON);
}

fn durable() -> ExchangeDeclareOptions {
    ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    }
}

#[test]
fn a_full_queue_that_rejects_costs_its_cameras_frames_only() {
    let mut lab = plan("queue with reject-publish: nacks for one camera")
        .ailing(&["cam3"], "")
        .start();
    let mut connection = Connection::insecure_open(&lab.rabbit().url()).unwrap();
    let channel = connection.open_channel(None).unwrap();
    let mut full = FieldTable::new();
    full.insert("x-max-length".into(), AmqpValue::LongInt(0));
    let reject = AmqpValue::LongString("reject-publish".into());
    full.insert("x-overflow".into(), reject);
    let options = QueueDeclareOptions {
        exclusive: true,
        arguments: full,
        ..Default::default()
    };
    let queue = channel.queue_declare("", options).unwrap();
    lab.break_by(|lab| {
        let (queue, key) = (queue.name(), "camera.cam3");
        channel
            .queue_bind(queue, lab.exchange.as_str(), key, FieldTable::new())
            .unwrap();
    });
    wait_until(Duration::from_secs(20), "ten nacks", || {
        let name = "edge_video_frames_dropped_total";
        let drops = support::http::values(&lab.metrics(), name);
        let nacked = |(labels, count): (&String, &f64)| {
            (labels.contains("cam3") && labels.contains("nacked")).then_some(*count)
        };
        drops.iter().filter_map(nacked).sum::<f64>() >= 10.0
    });
    lab.others_go_on();
    lab.mend_by(|_| queue.delete(Default::default()).map(drop).unwrap());
    lab.check(SOON);
}

#[test]
fn an_exchange_that_is_deleted_is_declared_again() {
    let mut lab = plan("exchange deleted while running").start();
    let mut connection = Connection::insecure_open(&lab.rabbit().url()).unwrap();
    let channel = connection.open_channel(None).unwrap();
    // With the exchange its bindings go, and so what the consumer listens to.
    lab.be_deaf();
    lab.break_by(|lab| {
        channel
            .exchange_delete(lab.exchange.as_str(), false)
            .unwrap();
    });
    lab.says("the broker refuses exchange");
    lab.mend_by(|_| {});
    lab.listen();
    lab.check(SOON);
}

/// Takes messages from other exchanges only.
fn internal() -> ExchangeDeclareOptions {
    ExchangeDeclareOptions {
        internal: true,
        ..durable()
    }
}

#[test]
fn an_exchange_that_takes_no_messages_is_said_once_a_minute_and_tried_again() {
    let exchange = "faults.internal".to_owned();
    let setting = format!(", exchange: {exchange}");
    let node = Rabbit::shared();
    let mut connection = Connection::insecure_open(&node.url()).unwrap();
    let channel = connection.open_channel(None).unwrap();
    channel
        .exchange_declare(ExchangeType::Topic, exchange.as_str(), durable())
        .unwrap();
    let mut lab = plan("internal exchange in the way of one camera")
        .ailing(&["cam3"], &setting)
        .also_hears(&exchange)
        .start();
    // Before the exchange is bound to ours again.
    lab.may_miss();
    lab.break_by(|lab| {
        channel.exchange_delete(exchange.as_str(), false).unwrap();
        channel
            .exchange_declare(ExchangeType::Topic, exchange.as_str(), internal())
            .unwrap();
        lab.proxy.reset();
    });
    lab.says(&format!(
        "ERROR cam3: the broker refuses exchange \"{exchange}\": ACCESS_REFUSED - cannot publish to \
         internal exchange '{exchange}' in vhost '/'"
    ));
    // The reset is over for the others.
    lab.break_by(|_| {});
    lab.others_go_on();
    lab.mend_by(|lab| {
        channel.exchange_delete(exchange.as_str(), false).unwrap();
        channel
            .exchange_declare(ExchangeType::Topic, exchange.as_str(), durable())
            .unwrap();
        lab.bind(&exchange);
    });
    lab.says_within(
        &format!("INFO  cam3: the broker accepts exchange \"{exchange}\""),
        AFTER_REFUSALS,
    );
    lab.check(AFTER_REFUSALS);
}

#[test]
fn an_exchange_that_is_declared_otherwise_is_published_to() {
    let exchange = "faults.otherwise".to_owned();
    let node = Rabbit::shared();
    let mut connection = Connection::insecure_open(&node.url()).unwrap();
    let channel = connection.open_channel(None).unwrap();
    channel
        .exchange_declare(ExchangeType::Topic, exchange.as_str(), durable())
        .unwrap();
    let mut lab = plan("exchange declared anew, not durable and with an alternate exchange")
        .ailing(&["cam3"], &format!(", exchange: {exchange}"))
        .also_hears(&exchange)
        .start();
    // Before the exchange is bound to ours again.
    lab.may_miss();
    lab.break_by(|lab| {
        channel.exchange_delete(exchange.as_str(), false).unwrap();
        let otherwise = ExchangeDeclareOptions {
            arguments: FieldTable::from([(
                "alternate-exchange".to_owned(),
                AmqpValue::LongString("amq.fanout".to_owned()),
            )]),
            ..ExchangeDeclareOptions::default()
        };
        channel
            .exchange_declare(ExchangeType::Topic, exchange.as_str(), otherwise)
            .unwrap();
        lab.bind(&exchange);
        lab.proxy.reset();
    });
    lab.mend_by(|_| {});
    lab.check(SOON);
}

#[test]
fn a_broker_with_few_channels_gets_another_connection_for_the_rest() {
    let rabbit = Rabbit::start_with("channel_max = 4");
    let mut lab = plan("4 channels a connection for six cameras; killed and started again")
        .broker(Node::Own(Box::new(rabbit)))
        .becomes_connections(2)
        .start_ill();
    lab.says("WARN  the broker allows only 4 channels on connection amqp-0: amqp-1 carries cam");
    lab.become_well();
    lab.be_deaf();
    lab.break_by(|lab| lab.rabbit_mut().kill());
    lab.says("connection refused; retrying, keeping only the newest frame of each camera");
    lab.mend_by(|lab| lab.rabbit_mut().start_again());
    lab.listen();
    lab.check(SOON);
}

#[test]
fn frames_above_the_brokers_largest_message_are_dropped_and_concern_their_camera_only() {
    let rabbit = Rabbit::start_with("max_message_size = 100000");
    let mut lab = plan("every fifth frame of one camera above `max_message_size`")
        .broker(Node::Own(Box::new(rabbit)))
        .ailing(&["cam3"], "")
        .start();
    lab.break_by(|lab| lab.play("huge,k=5,huge=200000"));
    lab.says("WARN  the broker accepts no message larger than 100000 bytes (its max_message_size)");
    lab.others_go_on();
    assert_eq!(lab.daemon.log_with("refuses").len(), 0);
    assert_eq!(lab.metric("broker_reconnects_total"), 0.0);
    lab.mend_by(|lab| lab.play("stream"));
    lab.check(SOON);
}

#[test]
fn a_silent_name_server_holds_up_no_reload() {
    let etc = Etc::silent_name_server(57);
    let mut lab = plan("SIGHUP with a broker's name, name server silent; SIGHUP with its address")
        .program(etc.program())
        .start();
    let good = lab.config.clone();
    let url = rabbit::url(lab.proxy.port(), "guest", "guest", "/");
    lab.break_by(|lab| {
        let config = good.replace(&url, "amqp://guest:guest@broker.test/");
        lab.daemon.reload(&config);
    });
    lab.says("WARN  broker broker.test:5672: the name server does not answer; retrying");
    lab.mend_by(|lab| lab.daemon.reload(&good));
    lab.check(SOON);
}

#[test]
fn an_address_that_says_nothing_is_passed_over() {
    let node = Rabbit::shared();
    let etc = Etc::twin_name(58, node.port());
    let lab = plan("name with two addresses, of which one takes connections and says nothing")
        .url(node.url().replace("127.0.0.1", "twin.test"))
        .program(etc.program())
        .start_ill();
    lab.check(Duration::from_secs(8));
}

/// Waits for so many attempts to connect, while the log is to say one thing once.
fn attempts(lab: &Lab, n: usize) {
    let before = lab.proxy.accepted();
    wait_until(AFTER_REFUSALS, "further attempts to connect", || {
        lab.proxy.accepted() >= before + n
    });
}

#[test]
fn a_wrong_password_is_said_once_a_minute_and_works_once_it_is_right() {
    let node = Rabbit::shared();
    let user = "board".to_owned();
    node.ctl(&["add_user", &user, "right"]);
    node.ctl(&["set_permissions", &user, ".*", ".*", ".*"]);
    let mut lab = plan("password changed at the broker, and changed back")
        .url(format!("amqp://{user}:right@127.0.0.1:{{proxy}}/"))
        .start();
    lab.break_by(|lab| {
        node.ctl(&["change_password", &user, "other"]);
        lab.proxy.reset();
    });
    let line = lab.says(
        "the broker closed the connection during the login: wrong user name or password; not \
         published: cam1, cam2, cam3, cam4, cam5, cam6; retrying, keeping only the newest frame of \
         each camera",
    );
    assert!(
        line.starts_with("WARN  broker 127.0.0.1:…: the broker closed"),
        "{line}"
    );
    attempts(&lab, 3);
    assert_eq!(lab.daemon.log_with("wrong user name or password").len(), 1);
    lab.mend_by(|_| {
        node.ctl(&["change_password", &user, "right"]);
    });
    lab.check(AFTER_REFUSALS);
}

#[test]
fn an_unknown_vhost_is_said_once_a_minute_and_works_once_it_is_there() {
    let node = Rabbit::shared();
    let vhost = "videos".to_owned();
    let mut lab = plan("virtual host that does not exist yet")
        .url(format!("amqp://guest:guest@127.0.0.1:{{proxy}}/{vhost}"))
        .vhost(&vhost)
        .start_ill();
    let line = lab.says("the broker refused the connection: NOT_ALLOWED - vhost ");
    assert_eq!(
        line,
        format!(
            "WARN  broker 127.0.0.1:…/{vhost}: the broker refused the connection: NOT_ALLOWED - \
             vhost {vhost} not found; not published: cam1, cam2, cam3, cam4, cam5, cam6; retrying, \
             keeping only the newest frame of each camera"
        )
    );
    attempts(&lab, 3);
    assert_eq!(lab.daemon.log_with("refused the connection").len(), 1);
    lab.mend_by(|_| {
        node.ctl(&["add_vhost", &vhost]);
        node.ctl(&["set_permissions", "-p", &vhost, "guest", ".*", ".*", ".*"]);
    });
    lab.listen();
    lab.check(AFTER_REFUSALS);
}

#[test]
fn with_the_first_of_two_brokers_gone_the_second_is_used() {
    let second = rabbit::url(Rabbit::shared().port(), "guest", "guest", "/");
    let mut lab = plan("first of two brokers refuses connections")
        .url(format!(
            "urls: [\"amqp://guest:guest@127.0.0.1:{{proxy}}/\", \"{second}\"]"
        ))
        .start();
    // After a connection of less than ten seconds the second would be tried first.
    lab.lasts(Duration::from_secs(11));
    lab.break_by(|lab| lab.proxy.refuse());
    lab.says_one_of(&CUT);
    lab.says("connection refused; using 127.0.0.1:");
    lab.mend_by(|_| {});
    lab.check(SOON);
}

/// Connections to peers that break the protocol, while the good broker refuses.
fn hostile_connections(lab: &Lab, hostile: &[Hostile], connections: usize) {
    let served = || hostile.iter().map(Hostile::served).sum::<usize>();
    let before = served();
    lab.proxy.refuse();
    wait_until(Duration::from_secs(240), "hostile connections", || {
        served() - before >= connections
    });
}

#[test]
fn a_thousand_hostile_connections_leave_nothing_behind() {
    let hostile = KINDS.map(|(kind, _)| Hostile::start(kind));
    let urls = hostile.iter().map(|peer| format!("\"{}\"", peer.url()));
    let urls = urls.collect::<Vec<_>>().join(", ");
    let mut lab = plan("1,000 connections to peers of ten kinds that break the protocol")
        .url(format!(
            "urls: [\"amqp://guest:guest@127.0.0.1:{{proxy}}/\", {urls}]"
        ))
        // A connection a camera, so that a thousand take seconds.
        .connections(SIX.len() as u64)
        .start_ill();
    lab.await_frames(1, 0, Duration::from_secs(60));
    // The first use of a thing costs memory that stays.
    hostile_connections(&lab, &hostile, 60);
    lab.proxy.pass();
    lab.become_well();
    lab.break_by(|lab| hostile_connections(lab, &hostile, 1000));
    lab.says_one_of(&CUT);
    // One line has them all.
    let line = lab.says(KINDS[0].1);
    for (_, says) in KINDS {
        assert!(line.contains(says), "{line}");
    }
    lab.mend_by(|lab| lab.proxy.pass());
    lab.check(SOON);
}

#[test]
fn a_log_that_two_brokers_would_fill_says_each_thing_once_a_minute() {
    let second = Hostile::start_with(hostile::welcome_twice);
    let mut lab =
        plan("memory alarm 5 times; then 50 connections that amiquip closes with an ERROR")
            .broker(Node::mine())
            .url(format!(
                "urls: [\"amqp://guest:guest@127.0.0.1:{{proxy}}/\", \"{}\"]",
                second.url()
            ))
            .start();
    lab.break_by(|lab| {
        for _ in 0..5 {
            let blocked = |is: f64| {
                wait_until(SOON, "the alarm or its end", || {
                    lab.metric("broker_blocked") == is
                });
            };
            lab.rabbit()
                .ctl(&["set_vm_memory_high_watermark", "0.0000001"]);
            blocked(1.0);
            lab.rabbit().ctl(&["set_vm_memory_high_watermark", "0.6"]);
            blocked(0.0);
        }
        lab.proxy.refuse();
    });
    lab.says("has blocked publishing (low on memory)");
    lab.says("has unblocked publishing");
    wait_until(Duration::from_secs(120), "50 connections", || {
        second.served() >= 50
    });
    lab.says(
        "ERROR amiquip::io_loop::connection_state: do not know how to handle channel 0 method",
    );
    lab.mend_by(|lab| lab.proxy.pass());
    // Each line is counted.
    lab.check(SOON);
}

#[test]
fn certificates_that_are_not_good_are_said_once_a_minute_until_they_are() {
    let dir = support::TempDir::new("tls");
    let tls = support::tls::Tls::new(dir.path());
    let port = support::free_port();
    let rabbit = Rabbit::start_with(&tls.rabbit_config(port));
    let ca = tls.path("ca.pem");
    let mut lab =
        plan("TLS: certificate of a wrong authority, then an expired one, then the right one")
            .broker(Node::Own(Box::new(rabbit)))
            .url(format!("amqps://guest:guest@127.0.0.1:{port}/"))
            .amqp(&format!("  tls: {{ca_file: {ca}}}\n"))
            .start();
    let start = "WARN  broker 127.0.0.1:…: the broker's certificate";
    lab.break_by(|lab| {
        tls.serve(lab.rabbit(), "foreign");
        close_connection(lab);
    });
    let line = lab.says_within("is not from the CA in", AFTER_REFUSALS);
    assert!(line.starts_with(start), "{line}");
    tls.serve(lab.rabbit(), "expired");
    let line = lab.says_within("has expired", AFTER_REFUSALS);
    assert!(line.starts_with(start), "{line}");
    lab.mend_by(|lab| tls.serve(lab.rabbit(), "good"));
    lab.check(AFTER_REFUSALS);
}

#[test]
fn a_frame_that_is_too_large_for_the_broker_is_refused_and_concerns_its_camera_only() {
    // Of which RabbitMQ 4 takes 16 MiB.
    let mut lab = plan("a frame of 17 MB a second, with `max_frame_bytes` 32MiB")
        .config("max_frame_bytes: 32MiB\n")
        .ailing(&["cam3"], "")
        .buffers_grow_by(100)
        .start();
    let newer = !lab.rabbit().release().starts_with("3.");
    lab.break_by(|lab| lab.play("huge,k=15,huge=17000000,traps=0"));
    if newer {
        lab.says("WARN  the broker accepts no message larger than 16777216 bytes");
        assert_eq!(lab.metric("broker_reconnects_total"), 0.0);
    } else {
        lab.await_large(17_000_000);
    }
    lab.mend_by(|lab| lab.play("stream"));
    lab.check(AFTER_REFUSALS);
}
