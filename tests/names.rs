//! Names of brokers: a name server that does not answer, and a name whose first address does not.

use crate::support::consumer::Consumer;
use crate::support::daemon::{Daemon, Setup};
use crate::support::etc::Etc;
use crate::support::http::ON;
use crate::support::rabbit::Rabbit;
use crate::support::{SOON, fake_config, wait_until};
use std::time::{Duration, Instant};

fn start(etc: &Etc, config: &str) -> Daemon {
    Setup::new(config)
        .program(etc.program())
        .watch_stop()
        .start()
}

fn cameras() -> [(&'static str, String); 1] {
    [("cam1", "stream,tag=cam1".to_owned())]
}

#[test]
fn a_reload_mends_the_name_of_a_broker_while_the_name_server_is_silent() {
    let rabbit = Rabbit::shared();
    let etc = Etc::silent_name_server(53);
    let consumer = Consumer::start(rabbit.port(), "names.mended");
    let config = |url: &str| fake_config(url, "names.mended", ON, &cameras());
    let mut daemon = start(&etc, &config("amqp://broker.test/"));
    wait_until(SOON, "the name to be looked up", || {
        daemon.thread_names().contains(&"resolve".to_owned())
    });
    daemon.wait_for_log("cam1: live", SOON);
    let ready = daemon.http().get("/readyz");
    assert_eq!(ready.status, 503);

    daemon.reload(&config(&rabbit.url()));
    consumer.wait_for("cam1", 5, SOON);
    assert_eq!(daemon.overdue(), Vec::<String>::new());
    let exit = daemon.terminate();
    assert_eq!(exit.code(), Some(0));
    exit.report().check_accounting();
}

#[test]
fn it_stops_in_time_while_the_name_server_is_silent() {
    let etc = Etc::silent_name_server(54);
    let config = fake_config("amqp://broker.test/", "names.stop", "", &cameras());
    let mut daemon = start(&etc, &config);
    wait_until(SOON, "the name to be looked up", || {
        daemon.thread_names().contains(&"resolve".to_owned())
    });
    daemon.wait_for_log("cam1: live", SOON);
    let line = daemon.wait_for_log("the name server does not answer", SOON);
    assert!(
        line.contains("broker broker.test:5672: the name server does not answer; retrying"),
        "{line}"
    );
    let lookups = daemon
        .thread_names()
        .into_iter()
        .filter(|name| name == "resolve");
    assert!(lookups.count() <= 1, "one lookup of a name at a time");
    let exit = daemon.terminate();
    assert_eq!(exit.code(), Some(0));
    assert!(exit.took < Duration::from_secs(3), "{:?}", exit.took);
    exit.report().check_accounting();
}

#[test]
fn a_silent_name_server_does_not_delay_the_next_url() {
    let rabbit = Rabbit::shared();
    let etc = Etc::silent_name_server(55);
    let consumer = Consumer::start(rabbit.port(), "names.next");
    let urls = format!("[\"amqp://broker.test/\", \"{}\"]", rabbit.url());
    let config = fake_config("URL", "names.next", "", &cameras())
        .replacen("url: URL", &format!("urls: {urls}"), 1)
        // How long the first address would take if the daemon waited for it.
        .replacen("  exchange:", "  connect_timeout: 60s\n  exchange:", 1);
    let mut daemon = start(&etc, &config);
    let began = Instant::now();
    consumer.wait_for("cam1", 5, SOON);
    assert!(began.elapsed() < SOON);
    let line = daemon.wait_for_log("the name server does not answer", SOON);
    assert!(
        line.ends_with(&format!(
            "broker broker.test:5672: the name server does not answer; using 127.0.0.1:{} instead",
            rabbit.port()
        )),
        "{line}"
    );
    daemon.terminate().report().check_accounting();
}

#[test]
fn a_name_whose_first_address_takes_connections_and_says_nothing_is_reached_at_its_second() {
    let rabbit = Rabbit::shared();
    // Either address may be first: each gets its share of the time.
    let etc = Etc::twin_name(56, rabbit.port());
    let consumer = Consumer::start(rabbit.port(), "names.twin");
    let url = rabbit.url().replace("127.0.0.1", "twin.test");
    let mut daemon = start(&etc, &fake_config(&url, "names.twin", "", &cameras()));
    let began = Instant::now();
    consumer.wait_for("cam1", 1, SOON);
    eprintln!("frames after {:?}", began.elapsed());
    assert_eq!(daemon.log_with("retrying").len(), 0, "in one attempt");
    daemon.terminate().report().check_accounting();
}
