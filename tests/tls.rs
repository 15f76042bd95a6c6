//! `amqps`: the broker is who it says it is, or nothing is told to it.

use crate::support::consumer::Consumer;
use crate::support::daemon::Daemon;
use crate::support::rabbit::Rabbit;
use crate::support::{SOON, TempDir, fake_config, free_port};
use std::path::Path;
use std::process::Command;

fn openssl(dir: &Path, args: &str) {
    let output = Command::new("openssl")
        .args(args.split_whitespace())
        .current_dir(dir)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {args}: {said}");
}

/// `NAME.pem` and `NAME.key` of an authority.
fn authority(dir: &Path, name: &str) {
    openssl(
        dir,
        &format!(
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} -keyout {name}.key -out {name}.pem"
        ),
    );
}

/// `NAME.pem` and `NAME.key`, for an address or name, by the authority `ca`.
fn certificate(dir: &Path, name: &str, alt_name: &str, days: i32) {
    let extensions = format!("subjectAltName={alt_name}");
    std::fs::write(dir.join("extensions"), extensions).unwrap();
    openssl(
        dir,
        &format!("req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"),
    );
    openssl(
        dir,
        &format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days {days} \
             -extfile extensions -out {name}.pem"
        ),
    );
}

/// Makes `NAME` the broker's certificate.
fn install(dir: &Path, name: &str) {
    for ending in ["pem", "key"] {
        let file = dir.join(format!("{name}.{ending}"));
        std::fs::copy(file, dir.join(format!("server.{ending}"))).unwrap();
    }
}

#[test]
fn frames_go_to_the_right_broker_over_tls_and_to_no_other() {
    let dir = TempDir::new("tls");
    let dir = dir.path();
    authority(dir, "ca");
    authority(dir, "other-ca");
    certificate(dir, "good", "IP:127.0.0.1", 2);
    certificate(dir, "misnamed", "DNS:broker.example", 2);
    certificate(dir, "expired", "IP:127.0.0.1", -1);
    certificate(dir, "board", "DNS:board", 2);

    let tls_port = free_port();
    let path = |name: &str| dir.join(name).display().to_string();
    install(dir, "good");
    // Of clients it wants a certificate of the same authority.
    let rabbit = Rabbit::start_with(&format!(
        "listeners.ssl.1 = 127.0.0.1:{tls_port}\n\
         ssl_options.cacertfile = {}\nssl_options.certfile = {}\nssl_options.keyfile = {}\n\
         ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true",
        path("ca.pem"),
        path("server.pem"),
        path("server.key"),
    ));
    let serve = |name: &str| {
        install(dir, name);
        rabbit.ctl(&["eval", "ssl:clear_pem_cache()."]);
    };
    let start = |port: u16, ca: &str| {
        let url = format!("amqps://guest:guest@127.0.0.1:{port}/");
        let tls = format!(
            "amqp:\n  tls: {{ca_file: {}, cert_file: {}, key_file: {}}}\n",
            path(ca),
            path("board.pem"),
            path("board.key"),
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
        serve(server);
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
