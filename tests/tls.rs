//! `amqps`: the broker proves its identity, or the daemon sends it nothing.

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
            (Some(0), "checking config.yaml\nOK: 1 camera, 1 broker\n"),
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

/// A broker that requires client certificates of the same authority.
fn with_client_certificates(certificates: &Tls, tls_port: u16) -> Rabbit {
    Rabbit::start_with(&format!(
        "{}\nssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true",
        certificates.rabbit_config(tls_port),
    ))
}

#[test]
fn frames_go_to_the_right_broker_over_tls_and_to_no_other() {
    let dir = TempDir::new("tls");
    let certificates = Tls::new(dir.path());
    let tls_port = free_port();
    let rabbit = with_client_certificates(&certificates, tls_port);
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
    // A reload with files that no connection could use changes nothing.
    daemon.reload(&config(tls_port, "empty.pem", "board-encrypted.key"));
    daemon.wait_for_log("empty.pem: no certificate in it", SOON);
    daemon.wait_for_log("board-encrypted.key: the key in it is encrypted", SOON);
    consumer.take();
    consumer.wait_for("cam1", 10, SOON);
    assert!(daemon.log_with("retrying").is_empty());
    let connected = daemon.log_with("connected to broker");
    assert_eq!(connected.len(), 1, "its connection is kept: {connected:?}");
    daemon.terminate().report().check_accounting();

    certificates.serve(&rabbit, "foreign");
    let mut daemon = start(tls_port, "ca.pem");
    refuses(
        &mut daemon,
        tls_port,
        &[&format!(
            "the broker's certificate is not from the CA in {}; set amqp.tls.ca_file to the right \
             CA",
            certificates.path("ca.pem")
        )],
    );
}

/// What the log says of a broker's certificate.
const CERTIFICATES: [(&str, &str, &str); 7] = [
    (
        "good",
        "ca_file: DIR/other-ca.pem, ",
        "the broker's certificate is not from the CA in DIR/other-ca.pem; set amqp.tls.ca_file to \
         the right CA",
    ),
    (
        "good",
        "",
        "the broker's certificate is from a CA that this machine does not trust; set \
         amqp.tls.ca_file to that CA, or install ca-certificates if it is a public one",
    ),
    (
        "misnamed",
        "ca_file: DIR/ca.pem, ",
        "the broker's certificate is not for \"127.0.0.1\"; write a host into the URL that the \
         certificate names, or add this one to its subjectAltName",
    ),
    (
        "expired",
        "ca_file: DIR/ca.pem, ",
        "the broker's certificate, or its CA's, has expired; renew it, or correct this machine's \
         clock",
    ),
    (
        "early",
        "ca_file: DIR/ca.pem, ",
        "the broker's certificate is not valid yet; correct this machine's clock",
    ),
    (
        "alone",
        "ca_file: DIR/ca.pem, ",
        "the broker's certificate is self-signed and not trusted; set amqp.tls.ca_file to it",
    ),
    (
        "alone",
        "",
        "the broker's certificate is self-signed and not trusted; set amqp.tls.ca_file to it",
    ),
];

#[test]
fn why_a_tls_connection_fails_is_said_in_words_with_what_to_do() {
    let dir = TempDir::new("tls-words");
    let certificates = Tls::new(dir.path());
    let tls_port = free_port();
    let rabbit = with_client_certificates(&certificates, tls_port);
    let plain_port = rabbit.port();
    let folder = dir.path().display().to_string();
    let start = |scheme: &str, port: u16, tls: &str| {
        let url = format!("{scheme}://guest:guest@127.0.0.1:{port}/");
        let cameras = [("cam1", "stream,tag=cam1".to_owned())];
        let tls = format!("amqp:\n{}", tls.replace("DIR", &folder));
        Daemon::start(&fake_config(&url, "tls.words", "", &cameras).replacen("amqp:\n", &tls, 1))
    };
    for (server, ca, says) in CERTIFICATES {
        certificates.serve(&rabbit, server);
        let tls = format!("  tls: {{{ca}cert_file: DIR/board.pem, key_file: DIR/board.key}}\n");
        let mut daemon = start("amqps", tls_port, &tls);
        refuses(&mut daemon, tls_port, &[&says.replace("DIR", &folder)]);
    }
    certificates.serve(&rabbit, "good");
    let ca = "  tls: {ca_file: DIR/ca.pem}\n";
    let says =
        "no TLS on this port; check the port (5671 is usual for TLS), or use amqp:// in the URL";
    refuses(&mut start("amqps", plain_port, ca), plain_port, &[says]);
    let says = "the broker requires TLS on this port: use amqps:// in the URL";
    refuses(&mut start("amqp", tls_port, ""), tls_port, &[says]);

    // RabbitMQ checks a client's certificate after the handshake. It sends an alert and resets the
    // connection. If the reset arrives before our login is sent, sending fails, and the alert is
    // not read. So two texts are possible.
    let wants = "the broker requires a client certificate; set amqp.tls.cert_file and \
                 amqp.tls.key_file";
    let reset = "the broker reset the connection after the TLS handshake; it may require a client \
                 certificate: set amqp.tls.cert_file and amqp.tls.key_file";
    refuses(&mut start("amqps", tls_port, ca), tls_port, &[wants, reset]);
    let strange = "  tls: {ca_file: DIR/ca.pem, cert_file: DIR/sec1.pem, key_file: DIR/sec1.key}\n";
    let not_ours = "the broker does not accept our client certificate; check that amqp.tls.cert_file \
                    is from a CA that the broker trusts";
    let reset = "the broker reset the connection after the TLS handshake; it may not accept our client \
                 certificate: check amqp.tls.cert_file";
    refuses(
        &mut start("amqps", tls_port, strange),
        tls_port,
        &[not_ours, reset],
    );
}

/// The log says exactly one of these of the broker, and nothing is published.
#[track_caller]
fn refuses(daemon: &mut Daemon, port: u16, says: &[&str]) {
    let line = daemon.wait_for_log("retrying", SOON);
    let begins = |says: &&str| line.contains(&format!("WARN  broker 127.0.0.1:{port}: {says}; "));
    assert!(says.iter().any(begins), "{line}\nnot: {says:?}");
    let exit = daemon.terminate();
    exit.report().check_accounting();
    assert_eq!(exit.report().total.published, 0);
}
