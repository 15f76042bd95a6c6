//! Names of brokers: a name server that does not answer, and a name whose first address does not.

use crate::support::consumer::Consumer;
use crate::support::daemon::{Daemon, Setup};
use crate::support::http::ON;
use crate::support::rabbit::Rabbit;
use crate::support::{SOON, TempDir, fake_config, wait_until};
use std::fs;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

/// What the daemon sees as `/etc/resolv.conf` and `/etc/hosts`. The mounts are its own.
struct Etc {
    dir: TempDir,
}

impl Etc {
    fn new(resolv_conf: &str, hosts: &str) -> Self {
        let dir = TempDir::new("etc");
        let path = |name: &str| dir.path().join(name);
        fs::write(path("resolv.conf"), resolv_conf).unwrap();
        fs::write(path("hosts"), hosts).unwrap();
        let script = format!(
            "#!/bin/sh\nexec unshare --mount sh -c 'mount --bind {resolv} /etc/resolv.conf && \
             mount --bind {hosts} /etc/hosts && exec \"$0\" \"$@\"' {program} \"$@\"\n",
            resolv = path("resolv.conf").display(),
            hosts = path("hosts").display(),
            program = env!("CARGO_BIN_EXE_edge-video"),
        );
        fs::write(path("run"), script).unwrap();
        fs::set_permissions(path("run"), fs::Permissions::from_mode(0o755)).unwrap();
        Self { dir }
    }

    fn start(&self, config: &str) -> Daemon {
        Setup::new(config)
            .program(self.dir.path().join("run"))
            .start()
    }
}

/// An address of loopback that no other test run uses.
fn own_address(last: u8) -> Ipv4Addr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, high.max(1), low, last)
}

/// A name server that hears and never answers, and the resolv.conf that names it.
fn silent_name_server(last: u8) -> (UdpSocket, String) {
    let address = own_address(last);
    let socket = UdpSocket::bind((address, 53)).unwrap();
    (socket, format!("nameserver {address}\n"))
}

const LOCALHOST: &str = "127.0.0.1 localhost\n";

fn cameras() -> [(&'static str, String); 1] {
    [("cam1", "stream,tag=cam1".to_owned())]
}

#[test]
fn a_reload_mends_the_name_of_a_broker_while_the_name_server_is_silent() {
    let rabbit = Rabbit::shared();
    let (_server, resolv_conf) = silent_name_server(53);
    let etc = Etc::new(&resolv_conf, LOCALHOST);
    let consumer = Consumer::start(rabbit.port(), "names.mended");
    let config = |url: &str| fake_config(url, "names.mended", ON, &cameras());
    let mut daemon = etc.start(&config("amqp://broker.test/"));
    wait_until(SOON, "the name to be looked up", || {
        daemon.thread_names().contains(&"resolve".to_owned())
    });
    daemon.wait_for_log("cam1: live", SOON);
    let ready = daemon.http().get("/readyz");
    assert_eq!(ready.status, 503);

    daemon.reload(&config(&rabbit.url()));
    consumer.wait_for("cam1", 5, SOON);
    assert_eq!(daemon.log_with("threads do not end in time").len(), 0);
    let exit = daemon.terminate();
    assert_eq!(exit.code(), Some(0));
    exit.report().check_accounting();
}

#[test]
fn it_stops_in_time_while_the_name_server_is_silent() {
    let (_server, resolv_conf) = silent_name_server(54);
    let etc = Etc::new(&resolv_conf, LOCALHOST);
    let config = fake_config("amqp://broker.test/", "names.stop", "", &cameras());
    let mut daemon = etc.start(&config);
    wait_until(SOON, "the name to be looked up", || {
        daemon.thread_names().contains(&"resolve".to_owned())
    });
    daemon.wait_for_log("cam1: live", SOON);
    let line = daemon.wait_for_log("the name server does not answer", SOON);
    assert!(
        line.contains("broker broker.test:5672: the name server does not answer; trying again"),
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
    let (_server, resolv_conf) = silent_name_server(55);
    let etc = Etc::new(&resolv_conf, LOCALHOST);
    let consumer = Consumer::start(rabbit.port(), "names.next");
    let urls = format!("[\"amqp://broker.test/\", \"{}\"]", rabbit.url());
    let config = fake_config("URL", "names.next", "", &cameras())
        .replacen("url: URL", &format!("urls: {urls}"), 1)
        // So long would the first one take, were it waited for.
        .replacen("  exchange:", "  connect_timeout: 60s\n  exchange:", 1);
    let mut daemon = etc.start(&config);
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
    // Either may come first: each gets its share of the time.
    let mute = own_address(56);
    let _listener = TcpListener::bind((mute, rabbit.port())).unwrap();
    let hosts = format!("{LOCALHOST}{mute} twin.test\n127.0.0.1 twin.test\n");
    let etc = Etc::new("", &hosts);
    let consumer = Consumer::start(rabbit.port(), "names.twin");
    let url = rabbit.url().replace("127.0.0.1", "twin.test");
    let mut daemon = etc.start(&fake_config(&url, "names.twin", "", &cameras()));
    let began = Instant::now();
    consumer.wait_for("cam1", 1, SOON);
    eprintln!("frames after {:?}", began.elapsed());
    assert_eq!(daemon.log_with("trying again").len(), 0, "in one attempt");
    daemon.terminate().report().check_accounting();
}
