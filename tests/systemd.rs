//! Reports to systemd, received on a socket in systemd's place.

use crate::support::daemon::{Daemon, Setup};
use crate::support::http::ON;
use crate::support::rabbit::Rabbit;
use crate::support::{SOON, TempDir, fake_config, free_port, wait_until};
use rustix::process::Signal;
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex};

/// Keeps what comes.
struct Systemd {
    dir: TempDir,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Systemd {
    fn new() -> Self {
        let dir = TempDir::new("notify");
        let socket = UnixDatagram::bind(dir.path().join("s")).unwrap();
        let heard = Arc::new(Mutex::new(vec![]));
        let keep = Arc::clone(&heard);
        // The thread ends with the process, since a datagram socket does not see the end of its
        // peers.
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(len) = socket.recv(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..len]).into_owned();
                keep.lock().unwrap().push(text);
            }
        });
        Self { dir, heard }
    }

    fn start(&self, config: &str, watchdog_us: &str) -> Daemon {
        Setup::new(config)
            .env("NOTIFY_SOCKET", self.dir.path().join("s").to_str().unwrap())
            .env("WATCHDOG_USEC", watchdog_us)
            .start()
    }

    fn count(&self, what: &str) -> usize {
        let heard = self.heard.lock().unwrap();
        heard.iter().filter(|it| it.starts_with(what)).count()
    }

    #[track_caller]
    fn wait_for(&self, what: &str, nth: usize) {
        wait_until(SOON, what, || self.count(what) >= nth);
    }
}

fn cameras(ids: &[&'static str]) -> Vec<(&'static str, String)> {
    let play = |id: &&'static str| (*id, format!("stream,tag={id}"));
    ids.iter().map(play).collect()
}

#[test]
fn it_is_ready_without_a_broker_and_says_how_things_are() {
    let systemd = Systemd::new();
    let broker = format!("amqp://127.0.0.1:{}/", free_port());
    let config = |ids: &[&'static str]| fake_config(&broker, "systemd.ready", "", &cameras(ids));
    let mut daemon = systemd.start(&config(&["cam1", "cam2"]), "60000000");
    systemd.wait_for("READY=1", 1);
    systemd.wait_for("STATUS=2 of 2 cameras live, broker not connected", 1);

    daemon.reload(&config(&["cam1", "cam2", "cam3"]));
    systemd.wait_for("RELOADING=1\nMONOTONIC_USEC=", 1);
    systemd.wait_for("READY=1", 2);
    systemd.wait_for("STATUS=3 of 3 cameras live, broker not connected", 1);
    daemon.reload("cameras: [");
    systemd.wait_for("RELOADING=1", 2);
    systemd.wait_for("READY=1", 3);

    assert_eq!(systemd.count("STOPPING=1"), 0);
    assert_eq!(daemon.terminate().code(), Some(0));
    systemd.wait_for("STOPPING=1", 1);
    assert_eq!(systemd.count("READY=1"), 3);
}

#[test]
fn the_watchdog_is_fed_while_the_program_turns_and_not_when_it_is_stopped() {
    let systemd = Systemd::new();
    let rabbit = Rabbit::shared();
    let config = fake_config(&rabbit.url(), "systemd.watchdog", ON, &cameras(&["cam1"]));
    let daemon = systemd.start(&config, "400000");
    systemd.wait_for("STATUS=1 of 1 cameras live, broker connected", 1);
    systemd.wait_for("WATCHDOG=1", 5);
    daemon.signal(Signal::STOP);
    wait_until(SOON, "the program to be stopped", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap();
        stat.contains(") T ")
    });
    // Earlier messages are read first.
    let socket = UnixDatagram::unbound().unwrap();
    let fed = [1, 2].map(|nth| {
        let path = systemd.dir.path().join("s");
        socket.send_to(b"MARK", path).unwrap();
        systemd.wait_for("MARK", nth);
        systemd.count("WATCHDOG=1")
    });
    assert_eq!(fed[0], fed[1]);
    daemon.signal(Signal::CONT);
    systemd.wait_for("WATCHDOG=1", fed[1] + 3);
}

#[test]
fn nobody_is_fed_who_did_not_ask() {
    let systemd = Systemd::new();
    let rabbit = Rabbit::shared();
    let config = fake_config(&rabbit.url(), "systemd.unasked", "", &cameras(&["cam1"]));
    let mut daemon = systemd.start(&config, "");
    systemd.wait_for("STATUS=1 of 1 cameras live, broker connected", 1);
    assert_eq!(daemon.terminate().code(), Some(0));
    systemd.wait_for("STOPPING=1", 1);
    assert_eq!(systemd.count("WATCHDOG=1"), 0);
}
