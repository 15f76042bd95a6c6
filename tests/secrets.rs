//! A password is never shown: not in the log, not by `check`, not in an error message.

use crate::support::daemon::Setup;
use crate::support::fake_ffmpeg_path;
use crate::support::http::Http;
use crate::support::program::{Call, Ended, Program};
use crate::support::rabbit::{self, Rabbit};
use crate::support::sources::{Mount, Rtsp};
use crate::support::{SOON, fake_config, free_port, wait_until};
use rustix::process::Signal;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::OnceLock;

/// Each password begins and ends with these, so that no encoding and no cut hides a part of it.
const HEAD: &str = "Zk7qPv";
const TAIL: &str = "w9XvBd";

/// A password with every character that must be quoted in URLs, JSON, YAML and Rust. Each place has
/// its own.
fn secret(place: &str) -> String {
    format!("{HEAD}{place}\"\\@/:é %&{TAIL}")
}

fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => out.push(char::from(byte)),
            // In lower case, unlike the program's own escapes.
            _ => write!(out, "%{byte:02x}").unwrap(),
        }
    }
    out
}

/// As a YAML string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[track_caller]
fn assert_clean(what: &str, text: &str) {
    for (n, line) in text.lines().enumerate() {
        for part in [HEAD, TAIL] {
            assert!(!line.contains(part), "{what}, line {n}: {line}");
        }
    }
}

#[track_caller]
fn assert_ended_clean(what: &str, ended: &Ended) {
    assert_clean(what, &ended.stdout);
    assert_clean(what, &ended.stderr);
}

/// A user of the shared broker whose password is `secret("broker")`.
fn broker_user() -> &'static str {
    const USER: &str = "secrets";
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| {
        let rabbit = Rabbit::shared();
        rabbit.ctl(&["add_user", USER, &secret("broker")]);
        rabbit.ctl(&["set_permissions", USER, ".*", ".*", ".*"]);
    });
    USER
}

/// Cameras that all fail by printing their whole command line, each with a password in another
/// place.
const CAMERAS: [&str; 9] = [
    "in-url",
    "unescaped",
    "by-key",
    "by-file",
    "in-query",
    "in-path",
    "by-env",
    "by-credential",
    "in-header",
];

fn cameras() -> String {
    let host = "127.0.0.1/fake:secret,";
    format!(
        "cameras:
  - {{id: in-url, url: 'rtsp://u:{in_url}@{host}'}}
  - {{id: unescaped, url: 'rtsp://u:{HEAD}#@?:{TAIL}@{host}'}}
  - {{id: by-key, url: 'rtsp://{host}', username: u, password: {by_key}}}
  - {{id: by-file, url: 'http://{host}', username: u, password_file: password}}
  - {{id: in-query, url: 'http://{host}?user=u&password={in_query}&x=1'}}
  - {{id: in-path, url: 'rtmp://{host}/user=u_password={HEAD}{TAIL}_channel=1'}}
  - {{id: by-env, url: 'rtsp://u:${{CAMERA_ENV}}@{host}'}}
  - {{id: by-credential, url: 'lavfi:fake:secret', input_args: [-x, '${{CAMERA_CREDENTIAL}}']}}
  - {{id: in-header, url: 'http://{host}', input_args: [-headers, 'Authorization: Bearer {HEAD}-{TAIL}']}}
",
        in_url = encoded(&secret("in-url")),
        by_key = quoted(&secret("by-key")),
        in_query = encoded(&secret("in-query")),
    )
}

/// With this `amqp` section, all files and variables in place.
fn call(args: &[&str], amqp: &str, log_format: &str) -> Call {
    let config = format!(
        "amqp:\n{amqp}\n  exchange: secrets\nffmpeg: {{path: {}}}\nlog: {{level: trace, format: {log_format}}}\n{}",
        fake_ffmpeg_path().display(),
        cameras(),
    );
    let call = Call::new(args)
        .config(&config)
        .file("password", &format!("{}\n", secret("by-file")))
        .file("broker-password", &format!("{}\r\n", secret("broker")))
        .file("credentials/CAMERA_CREDENTIAL", &secret("by-credential"))
        .file("credentials/BROKER", &format!("{}\n", secret("broker")));
    let credentials = call.dir().join("credentials").display().to_string();
    call.env("CREDENTIALS_DIRECTORY", &credentials)
        .env("CAMERA_ENV", &encoded(&secret("by-env")))
        .env("BROKER_URL", &amqp_url(&encoded(&secret("broker"))))
        // A level that the program must limit: at it the client library prints logins.
        .env(
            "RUST_LOG",
            "trace,amiquip=trace,amiquip::io_loop=trace,amiquip::io_loop::handshake_state=trace",
        )
}

fn amqp_url(password: &str) -> String {
    rabbit::url(Rabbit::shared().port(), broker_user(), password, "/")
}

/// An `amqp` section for each place in which its password can be, and whether it is the right one.
fn brokers() -> Vec<(&'static str, String, bool)> {
    let url = rabbit::url(Rabbit::shared().port(), "x", "x", "/").replace("x:x@", "");
    let user = broker_user();
    let (right, wrong) = (secret("broker"), secret("wrong"));
    vec![
        (
            "in the URL",
            format!("  url: {}", amqp_url(&encoded(&right))),
            true,
        ),
        (
            "wrong in the URL",
            format!("  url: {}", amqp_url(&encoded(&wrong))),
            false,
        ),
        (
            "by key",
            format!(
                "  url: {url}\n  username: {user}\n  password: {}",
                quoted(&right)
            ),
            true,
        ),
        (
            "wrong by key",
            format!(
                "  url: {url}\n  username: {user}\n  password: {}",
                quoted(&wrong)
            ),
            false,
        ),
        (
            "by file",
            format!("  url: {url}\n  username: {user}\n  password_file: broker-password"),
            true,
        ),
        ("by environment", "  url: ${BROKER_URL}".to_owned(), true),
        (
            "by credential",
            format!("  url: {url}\n  username: {user}\n  password: ${{BROKER}}"),
            true,
        ),
    ]
}

#[test]
fn the_log_at_its_loudest_tells_no_password() {
    for (n, (place, amqp, right)) in brokers().into_iter().enumerate() {
        let format = ["text", "json"][n % 2];
        let what = format!("broker's password {place}, {format}");
        let program = call(&["run"], &amqp, format).start();
        let said = if right {
            "connected to broker"
        } else {
            "wrong user name or password"
        };
        program.wait_for_stderr(said, SOON);
        for camera in CAMERAS {
            let failed = |program: &Program| {
                program.stderr().lines().any(|line| {
                    line.contains(camera) && line.contains("FFmpeg ended (exit code 1): [in#0] ")
                })
            };
            wait_until(SOON, &format!("the failure of {camera}"), || {
                failed(&program)
            });
        }
        let ended = program.end(Signal::TERM);
        assert_eq!(ended.code(), Some(0), "{what}");
        assert!(
            ended
                .stderr
                .contains(" -i rtsp://***@127.0.0.1/fake:secret, ")
        );
        assert!(
            ended
                .stderr
                .contains(" -i http://127.0.0.1/fake:secret,?***")
        );
        assert_ended_clean(&what, &ended);
        assert!(
            !ended.stderr.contains("amiquip"),
            "{what}: {}",
            ended
                .stderr
                .lines()
                .find(|line| line.contains("amiquip"))
                .unwrap()
        );
    }
}

/// Names of URL parameters for a login, of several camera makers.
const PARAMETERS: [&str; 16] = [
    "loginpas",
    "psw",
    "apikey",
    "api_key",
    "access_token",
    "sig",
    "signature",
    "session",
    "sid",
    "hash",
    "pin",
    "credentials",
    "usr_pw",
    "X-Amz-Signature",
    "code",
    "p",
];

#[test]
fn what_an_address_holds_behind_its_first_segment_is_shown_nowhere() {
    let port = free_port();
    let mut config = format!(
        "amqp: {{url: 'amqp://127.0.0.1:{}/'}}
ffmpeg: {{path: {}}}
http: {{listen: '127.0.0.1:{port}'}}
cameras:
  - {{id: path, url: 'rtmp://127.0.0.1/fake:secret,/live/{HEAD}{TAIL}'}}
  - {{id: fragment, url: 'http://127.0.0.1/fake:secret,#{HEAD}{TAIL}'}}
  - {{id: option, url: 'lavfi:fake:secret', input_args: [-password, {HEAD}{TAIL}, -re]}}
  - {{id: cookies, url: 'lavfi:fake:secret', output_args: [-cookies, 'a={HEAD}{TAIL}; path=/']}}
",
        free_port(),
        fake_ffmpeg_path().display(),
    );
    for name in PARAMETERS {
        let url = format!("http://127.0.0.1/fake:secret,?{name}={HEAD}{TAIL}");
        writeln!(config, "  - {{id: {name}, url: '{url}'}}").unwrap();
    }
    let checked = Call::new(&["check"]).config(&config).run();
    assert_eq!(checked.code(), Some(0), "{}", checked.stderr);
    assert_ended_clean("check", &checked);
    for shown in [
        "url: rtmp://127.0.0.1/fake:secret,/***\n",
        "url: http://127.0.0.1/fake:secret,#***\n",
        "input_args:\n      - -password\n      - '***'\n      - -re\n",
        "output_args:\n      - -cookies\n      - '***'\n",
        "id: loginpas\n    url: http://127.0.0.1/fake:secret,?***\n",
    ] {
        assert!(checked.stdout.contains(shown), "{}", checked.stdout);
    }

    // The fake FFmpeg repeats its command line.
    for args in [&["probe"][..], &["probe", "--json"]] {
        let probed = Call::new(args).config(&config).start().wait(3 * SOON);
        assert_eq!(probed.code(), Some(1), "{}", probed.stderr);
        assert!(
            probed
                .stdout
                .contains(" -i rtmp://127.0.0.1/fake:secret,/***")
        );
        assert!(
            probed
                .stdout
                .contains("url: rtmp://127.0.0.1/fake:secret,/${PATH_PATH}")
        );
        assert_ended_clean("probe", &probed);
    }

    let program = Call::new(&["run"])
        .config(&config)
        .env("RUST_LOG", "debug")
        .start();
    let http = Http::new((Ipv4Addr::LOCALHOST, port).into());
    for id in PARAMETERS
        .into_iter()
        .chain(["path", "fragment", "option", "cookies"])
    {
        program.wait_for_stderr(&format!(" {id}: FFmpeg ended (exit code 1): [in#0] "), SOON);
    }
    for path in [
        "/",
        "/status",
        "/metrics",
        "/readyz",
        "/cameras/path/snapshot.jpg",
    ] {
        assert_clean(path, http.get(path).text());
    }
    assert_ended_clean("run", &program.end(Signal::TERM));
}

#[test]
fn ffmpeg_gets_nothing_of_the_environment_but_what_it_needs() {
    let rabbit = Rabbit::shared();
    let cameras = [("cam1", "stream".to_owned())];
    let daemon = Setup::new(&fake_config(&rabbit.url(), "secrets.env", "", &cameras))
        .env("BROKER_PASSWORD", &secret("env"))
        .env("LIBVA_DRIVER_NAME", "none")
        .start();
    daemon.wait_for_log("cam1: live", SOON);
    let children = daemon.children();
    assert_eq!(children.len(), 1);
    let environment = std::fs::read(format!("/proc/{}/environ", children[0])).unwrap();
    let environment = String::from_utf8(environment).unwrap();
    assert_clean("FFmpeg's environment", &environment);
    let has = |start: &str| environment.split('\0').any(|var| var.starts_with(start));
    assert!(
        has("PATH=") && has("LIBVA_DRIVER_NAME=none"),
        "{environment}"
    );
}

#[test]
fn an_ordinary_word_as_password_neither_damages_the_log_nor_is_told_by_it() {
    let rtsp = Rtsp::start_with(&[Mount::new("camera", "ball")], Some(("u", "right")));
    let url = rtsp.bare_url("camera");
    let with = |password: &str| url.replace("rtsp://", &format!("rtsp://u:{password}@"));
    let config = format!(
        "amqp: {{url: 'amqp://127.0.0.1:{}/'}}
log: {{level: debug}}
cameras:
  - {{id: word, url: '{}'}}
  - {{id: number, url: '{}'}}
",
        free_port(),
        with("camera"),
        with("127"),
    );
    let program = Call::new(&["run"]).config(&config).start();
    for id in ["word", "number"] {
        program.wait_for_stderr(
            &format!(" {id}: the camera refused the login (401 Unauthorized)"),
            SOON,
        );
    }
    let ended = program.end(Signal::TERM);
    let lines = ended.stderr.lines();
    let named = lines.filter(|line| line.contains(" FFmpeg: ") && line.contains("rtsp://"));
    let named: Vec<_> = named.collect();
    assert!(named.len() >= 2, "{}", ended.stderr);
    for line in named {
        let shown = url.replace("rtsp://", "rtsp://***@");
        assert!(line.contains(&shown), "{line}");
        assert_eq!(
            line.matches("***").count(),
            line.matches(&shown).count(),
            "{line}"
        );
        assert!(
            !line.contains("u:camera") && !line.contains("u:127"),
            "{line}"
        );
    }
    assert!(
        ended.stderr.contains("broker 127.0.0.1:"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_long_line_is_not_cut_within_a_password() {
    let mut config = format!(
        "amqp: {{url: 'amqp://127.0.0.1:{}/'}}\nffmpeg: {{path: {}}}\ncameras:\n",
        free_port(),
        fake_ffmpeg_path().display(),
    );
    // The password is moved across every position at which a line could be cut, in two ways of
    // hiding it.
    let paddings: Vec<_> = (0..80).map(|n| n * 5).collect();
    for padding in &paddings {
        let url = match padding % 2 {
            0 => format!("rtsp://u:{HEAD}0123456789{TAIL}@host{padding}/fake:secret"),
            _ => format!("rtsp://host{padding}/fake:secret,?password={HEAD}0123456789{TAIL}"),
        };
        writeln!(
            config,
            "  - {{id: cam{padding}, url: '{url}', input_args: [{}]}}",
            "x".repeat(padding + 1)
        )
        .unwrap();
    }
    let program = Call::new(&["run"])
        .config(&config)
        .env("RUST_LOG", "debug")
        .start();
    for padding in &paddings {
        program.wait_for_stderr(
            &format!(" cam{padding}: FFmpeg ended (exit code 1): [in#0] "),
            SOON,
        );
    }
    let ended = program.end(Signal::TERM);
    assert_eq!(ended.code(), Some(0));
    assert_ended_clean("a long line", &ended);
}

#[test]
fn real_ffmpeg_with_a_refused_password_tells_it_to_nobody() {
    let rtsp = Rtsp::start_with(&[Mount::new("camera", "ball")], Some(("u", "right")));
    let url = rtsp.bare_url("camera");
    let with_userinfo = url.replace(
        "rtsp://",
        &format!("rtsp://u:{}@", encoded(&secret("in-url"))),
    );
    let config = format!(
        "amqp: {{url: 'amqp://127.0.0.1:{}/'}}
log: {{format: json}}
cameras:
  - {{id: by-key, url: '{url}', username: u, password: {}}}
  - {{id: in-url, url: '{with_userinfo}'}}
  - {{id: in-query, url: '{url}?password={HEAD}{TAIL}'}}
  # At this level FFmpeg prints its requests, logins included.
  - {{id: loud, url: '{with_userinfo}', output_args: [-loglevel, trace]}}
  - {{id: loud-query, url: '{url}?password={HEAD}{TAIL}', output_args: [-loglevel, trace]}}
",
        free_port(),
        quoted(&secret("by-key")),
    );
    let program = Call::new(&["run"])
        .config(&config)
        .env("RUST_LOG", "trace")
        .start();
    for id in ["by-key", "in-url", "in-query", "loud", "loud-query"] {
        let refused = |line: &str| {
            line.contains(id) && line.contains("401 Unauthorized") && line.contains("\"warn\"")
        };
        wait_until(SOON, &format!("the refusal of {id}"), || {
            program.stderr().lines().any(refused)
        });
    }
    let ended = program.end(Signal::TERM);
    assert_eq!(ended.code(), Some(0));
    assert_ended_clean("real FFmpeg", &ended);
    let basic = base64(format!("u:{}", secret("in-url")).as_bytes());
    assert!(!ended.stderr.contains(&basic[..12]), "the login in base 64");
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for piece in bytes.chunks(3) {
        let bits = piece
            .iter()
            .fold(0u32, |bits, byte| bits << 8 | u32::from(*byte))
            << (8 * (3 - piece.len()));
        for place in 0..=piece.len() {
            let digit = bits >> (18 - 6 * place) & 63;
            out.push(char::from(DIGITS[digit as usize]));
        }
    }
    out
}

#[test]
fn check_shows_no_password() {
    for (place, amqp, _) in brokers() {
        let ended = call(&["check"], &amqp, "json").run();
        assert_eq!(ended.code(), Some(0), "{place}: {}", ended.stderr);
        assert!(ended.stdout.contains("***@127.0.0.1"), "{}", ended.stdout);
        assert_ended_clean(place, &ended);
    }
}

#[test]
fn messages_about_a_refused_configuration_tell_no_password() {
    let raw = secret("refused");
    let (in_url, yaml) = (encoded(&raw), quoted(&raw));
    let camera = |keys: &str| format!("cameras: [{{id: a, {keys}}}]");
    for config in [
        format!("amqp: {{url: 'amqp://u:{in_url}@h:99999/'}}"),
        format!("amqp: {{url: 'http://u:{in_url}@h/'}}"),
        format!("amqp: {{url: 'amqp://u:{HEAD}/{TAIL}@h/'}}"),
        format!("amqp: {{url: 'amqp://u:{in_url}@h/?heartbeat={HEAD}'}}"),
        format!("amqp: {{url: 'amqp://u:{in_url}@h/', username: u, password: {yaml}}}"),
        format!("amqp: {{password: {yaml}}}"),
        format!("amqp: {{username: u, passwort: {yaml}}}"),
        format!("amqp: {{username: u, password: [{yaml}]}}"),
        format!("amqp: {{username: u, password: {yaml}, password: {yaml}}}"),
        format!("amqp: {{url: {yaml}}}"),
        "amqp: {username: u, password: \"${BROKEN\", max_age: \"${SECRET}\"}".to_owned(),
        "amqp: {username: u, password: '${LINES}'}".to_owned(),
        "amqp: {url: 'amqp://u:${SECRET}@h/'}".to_owned(),
        "amqp: {username: u, password_file: two-lines}".to_owned(),
        "amqp: {connections: '${SECRET}', mandatory: '${SECRET}'}\nfps: '${SECRET}'\nhttp: {listen: '${SECRET}'}".to_owned(),
        camera(&format!("url: 'gopher://u:{in_url}@h/'")),
        camera(&format!("url: 'rtsp://u:{in_url}@/'")),
        camera(&format!("url: 'rtsp://h:1x/?password={in_url}'")),
        camera(&format!("url: 'rtsp://h/', password: {yaml}")),
        camera(&format!("url: '/film.mp4', username: u, password: {yaml}")),
        camera(&format!("url: 'rtsp://h/', transport: 'rtsp://u:{in_url}@h/'")),
        camera("url: 'rtsp://h/', fps: '${CREDENTIAL}', id: '${CREDENTIAL}'"),
        format!("amqp:\n  password: {yaml}\n url: 'amqp://u:{in_url}@h/'"),
        format!("amqp: {{password: {yaml}\n"),
        format!("amqp: *{HEAD}{TAIL}"),
        format!("amqp: !{HEAD}{TAIL} x"),
    ] {
        let call = Call::new(&["check"])
            .file("config.yaml", &config)
            .file("two-lines", &format!("{raw}\n{raw}\n"))
            .file("credentials/CREDENTIAL", &raw);
        let credentials = call.dir().join("credentials").display().to_string();
        let ended = call
            .env("CREDENTIALS_DIRECTORY", &credentials)
            .env("SECRET", &raw)
            .env("LINES", &format!("{raw}\n{raw}"))
            .run();
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(78), ""), "{config}");
        assert_ended_clean(&config, &ended);
    }
}

#[test]
fn messages_about_wrong_usage_tell_no_password() {
    let url = format!("amqp://u:{}@h/", encoded(&secret("usage")));
    for args in [
        &["run", &url][..],
        &[&url],
        &["check", &url],
        &["run", "--amqp", &url],
        &["--help", &url],
        &["--config", "x", "--version", &url],
        &[&format!("--help={url}")],
        &[&format!("--amqp={url}")],
    ] {
        assert_ended_clean(&format!("{args:?}"), &Call::new(args).run());
    }
}

#[test]
fn messages_of_watch_tell_no_password() {
    let wrong = encoded(&secret("wrong"));
    let refused = amqp_url(&wrong);
    let down = rabbit::url(free_port(), "u", &wrong, "/");
    for (url, code, says) in [
        (refused, Some(1), "wrong user name or password"),
        (format!("amqp://u:{wrong}@127.0.0.1:1x/"), Some(1), "port"),
        (format!("http://u:{wrong}@127.0.0.1/"), Some(1), "scheme"),
        (format!("amqp://u:{HEAD}/{TAIL}@h/"), Some(1), "%2F"),
        (
            format!("amqp://u:{wrong}@no.such.host.invalid/"),
            None,
            "does not resolve",
        ),
        (down, None, "connection refused"),
    ] {
        for by_option in [true, false] {
            let cameras = "cameras: [{id: a, url: /a.mp4}]";
            let args: &[&str] = if by_option {
                &["watch", "--amqp", &url]
            } else {
                &["watch"]
            };
            let config = match by_option {
                true => cameras.to_owned(),
                false => format!("amqp: {{url: '{url}'}}\n{cameras}"),
            };
            let program = Call::new(args)
                .file("config.yaml", &config)
                .env("RUST_LOG", "trace")
                .start();
            program.wait_for_stderr(says, SOON);
            let ended = match code {
                Some(_) => program.wait(SOON),
                None => program.end(Signal::INT),
            };
            let code = match code {
                // In the file, the file is refused.
                Some(1) if !by_option && says != "wrong user name or password" => 78,
                Some(code) => code,
                None => 0,
            };
            assert_eq!(ended.code(), Some(code), "{}", ended.stderr);
            assert_ended_clean(&url, &ended);
        }
    }
}
