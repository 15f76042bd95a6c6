//! `amqps`: the broker is who it says it is, or nothing is told to it.

use crate::support::consumer::Consumer;
use crate::support::daemon::Daemon;
use crate::support::program::Call;
use crate::support::rabbit::Rabbit;
use crate::support::tls::Tls;
use crate::support::{SOON, TempDir, fake_config, free_port};

/// A configuration with an authority, a certificate and a key.
fn over_tls(port: u16, exchange: &str, [ca, cert, key]: &[String; 3]) -> String {
    let url = format!("amqps://guest:guest@127.0.0.1:{port}/");
    let tls = format!("amqp:\n  tls: {{ca_file: {ca}, cert_file: {cert}, key_file: {key}}}\n");
    let cameras = [("cam1", "stream,tag=cam1".to_owned())];
    fake_config(&url, exchange, "", &cameras).replacen("amqp:\n", &tls, 1)
}

#[test]
fn check_refuses_tls_files_that_no_connection_could_use() {
    let dir = TempDir::new("tls-files");
    let certificates = Tls::new(dir.path());
    let check = |files: [&str; 3]| {
        let files = files.map(|name| certificates.path(name));
        Call::new(&["check", "--config", "config.yaml"])
            .config(&over_tls(1, "tls.check", &files))
            .run()
    };
    for files in [
        ["ca.pem", "board.pem", "board.key"],
        ["ca.pem", "board.pem", "board-pkcs1.key"],
        ["ca.pem", "sec1.pem", "sec1.key"],
    ] {
        let ended = check(files);
        assert_eq!(
            (ended.code(), ended.stderr.as_str()),
            (Some(0), ""),
            "{files:?}"
        );
    }
    for (files, key, file, why) in [
        (
            ["empty.pem", "board.pem", "board.key"],
            "ca_file",
            "empty.pem",
            "no certificate in it; name a PEM file with the CA's certificate",
        ),
        (
            ["ca.pem", "board.key", "board.key"],
            "cert_file",
            "board.key",
            "no certificate in it; name a PEM file with the client's certificate",
        ),
        (
            ["ca.pem", "board.pem", "board.pem"],
            "key_file",
            "board.pem",
            "no private key in it; name a PEM file with the client's key",
        ),
        (
            ["ca.pem", "board.pem", "board-encrypted.key"],
            "key_file",
            "board-encrypted.key",
            "the key in it is encrypted; decrypt it once with: openssl pkey -in FILE -out NEW_FILE",
        ),
        (
            ["ca.pem", "board.pem", "good.key"],
            "key_file",
            "good.key",
            "not the key of the first certificate in cert_file; name the key that belongs to it",
        ),
    ] {
        let ended = check(files);
        let path = certificates.path(file);
        let says = format!("config.yaml:2: amqp.tls.{key}: {path}: {why}\n");
        assert_eq!((ended.code(), ended.stderr), (Some(78), says));
    }
}

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
    let config = |port: u16, ca: &str, key: &str| {
        let files = [ca, "board.pem", key].map(|name| certificates.path(name));
        over_tls(port, "tls.frames", &files)
    };
    let start = |port: u16, ca: &str| Daemon::start(&config(port, ca, "board.key"));

    let consumer = Consumer::start(rabbit.port(), "tls.frames");
    // The same key in another form.
    let mut daemon = Daemon::start(&config(tls_port, "ca.pem", "board-pkcs1.key"));
    consumer.wait_for("cam1", 10, SOON);
    daemon.terminate().report().check_accounting();
    consumer.take();
    let mut daemon = start(tls_port, "ca.pem");
    consumer.wait_for("cam1", 10, SOON);
    // What would end every connection changes nothing.
    daemon.reload(&config(tls_port, "empty.pem", "board-encrypted.key"));
    daemon.wait_for_log("empty.pem: no certificate in it", SOON);
    daemon.wait_for_log("board-encrypted.key: the key in it is encrypted", SOON);
    consumer.take();
    consumer.wait_for("cam1", 10, SOON);
    assert!(daemon.log_with("TLS handshake failed").is_empty());
    let connected = daemon.log_with("connected to broker");
    assert_eq!(connected.len(), 1, "its connection is kept: {connected:?}");
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
