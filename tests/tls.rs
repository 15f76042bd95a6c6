//! `amqps`: the broker is who it says it is, or nothing is told to it.

use crate::support::consumer::Consumer;
use crate::support::daemon::Daemon;
use crate::support::rabbit::Rabbit;
use crate::support::tls::Tls;
use crate::support::{SOON, TempDir, fake_config, free_port};

#[test]
fn frames_go_to_the_right_broker_over_tls_and_to_no_other() {
    let dir = TempDir::new("tls");
    let certificates = Tls::new(dir.path());
    let tls_port = free_port();
    // Of clients it wants a certificate of the same authority.
    let rabbit = Rabbit::start_with(&format!(
        "{}\nssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true",
        certificates.rabbit_config(tls_port),
    ));
    let start = |port: u16, ca: &str| {
        let url = format!("amqps://guest:guest@127.0.0.1:{port}/");
        let tls = format!(
            "amqp:\n  tls: {{ca_file: {}, cert_file: {}, key_file: {}}}\n",
            certificates.path(ca),
            certificates.path("board.pem"),
            certificates.path("board.key"),
        );
        let cameras = [("cam1", "stream,tag=cam1".to_owned())];
        Daemon::start(&fake_config(&url, "tls.frames", "", &cameras).replacen("amqp:\n", &tls, 1))
    };

    let consumer = Consumer::start(rabbit.port(), "tls.frames");
    let mut daemon = start(tls_port, "ca.pem");
    consumer.wait_for("cam1", 10, SOON);
    daemon.terminate().report().check_accounting();

    for (server, ca, port, says) in [
        (
            "good",
            "other-ca.pem",
            tls_port,
            "self-signed certificate in certificate chain",
        ),
        ("misnamed", "ca.pem", tls_port, "IP address mismatch"),
        ("expired", "ca.pem", tls_port, "certificate has expired"),
        ("good", "ca.pem", rabbit.port(), "TLS handshake failed"),
    ] {
        certificates.serve(&rabbit, server);
        let mut daemon = start(port, ca);
        let line = daemon.wait_for_log("TLS handshake failed", SOON);
        assert!(line.contains(says), "{line}");
        assert!(
            line.contains(&format!("WARN  broker 127.0.0.1:{port}: ")),
            "{line}"
        );
        let exit = daemon.terminate();
        exit.report().check_accounting();
        assert_eq!(exit.report().total.published, 0);
    }
}
