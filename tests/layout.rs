//! Who may know whom: the structure in ARCHITECTURE.md, read from the source itself.

use std::path::{Path, PathBuf};

/// Files below `src` and their code lines, without comments and without their unit tests.
fn sources() -> Vec<(String, Vec<String>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut files: Vec<PathBuf> = vec![];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                &mut folders
            } else {
                &mut files
            }
            .push(path);
        }
    }
    let is_test = |file: &PathBuf| {
        let path = file.strip_prefix(&root).unwrap();
        path.ends_with("tests.rs") || path.components().any(|it| it.as_os_str() == "tests")
    };
    files
        .into_iter()
        .filter(|file| !is_test(file))
        .map(|file| {
            let name = file.strip_prefix(&root).unwrap().display().to_string();
            let text = std::fs::read_to_string(&file).unwrap();
            let code = text
                .split("#[cfg(test)]\nmod tests {")
                .next()
                .unwrap_or_default();
            let lines = code
                .lines()
                .map(str::trim)
                .filter(|line| !line.starts_with("//"));
            (name, lines.map(str::to_owned).collect())
        })
        .collect()
}

fn users(word: &str) -> Vec<String> {
    let mut users: Vec<_> = sources()
        .into_iter()
        .filter(|(_, lines)| lines.iter().any(|line| line.contains(word)))
        .map(|(name, _)| name)
        .collect();
    users.sort();
    users
}

/// Modules of our own that a file names.
fn imports(lines: &[String]) -> Vec<String> {
    lines
        .iter()
        .flat_map(|line| line.split("crate::").skip(1))
        .map(|rest| {
            rest.chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect()
        })
        .collect()
}

#[test]
fn each_foreign_thing_has_one_file() {
    assert_eq!(users("amiquip::"), ["broker.rs"]);
    assert_eq!(users("mio::"), ["broker.rs", "broker/wire.rs"]);
    assert_eq!(users("serde_yaml::"), ["config/raw.rs"]);
    assert_eq!(users("Command::new"), ["capture/child.rs"]);
    assert_eq!(users("signal_hook::iterator"), ["daemon.rs", "watch.rs"]);
    assert_eq!(users("env_filter::"), ["logging.rs"]);
    assert_eq!(users("jiff::"), ["clock.rs"]);
    assert_eq!(users("io::stderr()"), ["logging.rs", "main.rs"]);
    assert_eq!(users("openssl::"), ["config/tls.rs"]);
    assert_eq!(users("lexopt::"), ["main.rs"]);
    assert_eq!(users("httparse::"), ["http/request.rs"]);
    assert_eq!(users("sd_notify::"), ["systemd.rs"]);
    // So that the model check sees all that the hand-over is made of.
    let handoff = |word| {
        users(word)
            .into_iter()
            .filter(|name| name.starts_with("handoff"))
    };
    assert!(handoff("crossbeam_").eq(["handoff.rs"]));
    assert!(handoff("parking_lot").eq(["handoff.rs"]));
}

#[test]
fn capture_and_publish_do_not_know_each_other() {
    for (name, lines) in sources() {
        let imports = imports(&lines);
        let knows = |module: &str| imports.iter().any(|import| import == module);
        if name.starts_with("capture") {
            assert!(!knows("publish") && !knows("broker"), "{name}: {imports:?}");
        }
        if name.starts_with("publish") || name.starts_with("broker") {
            assert!(!knows("capture"), "{name}: {imports:?}");
        }
        // Events come from frames and hold none of them up: only the daemon knows both.
        if knows("events") {
            assert!(
                name.starts_with("events") || name.starts_with("daemon"),
                "{name}"
            );
        }
    }
}

#[test]
fn what_all_share_knows_nothing_of_the_rest() {
    let allowed: &[(&str, &[&str])] = &[
        ("clock.rs", &[]),
        ("shutdown.rs", &[]),
        ("metrics.rs", &[]),
        ("metrics/account.rs", &[]),
        ("repeat.rs", &[]),
        ("status.rs", &[]),
        ("redact.rs", &[]),
        ("system.rs", &[]),
        ("backoff.rs", &[]),
        ("breaker.rs", &["backoff", "config"]),
        ("frame.rs", &["clock", "handoff"]),
        ("message.rs", &["frame"]),
        ("events/body.rs", &["clock", "message", "publish", "redact"]),
        (
            "events/board.rs",
            &["clock", "message", "overview", "status"],
        ),
        ("uplink.rs", &[]),
        ("publish/budget.rs", &[]),
        ("publish/turns.rs", &[]),
        ("publish/notice.rs", &["metrics"]),
        ("publish/refusals.rs", &["backoff", "repeat"]),
        ("publish/unconfirmed.rs", &[]),
        ("handoff.rs", &[]),
        ("handoff/hurry.rs", &[]),
        ("handoff/mailbox.rs", &[]),
        ("handoff/peek.rs", &[]),
        ("handoff/pool.rs", &[]),
    ];
    let sources = sources();
    for (name, may_know) in allowed {
        let (_, lines) = sources.iter().find(|(file, _)| file == name).unwrap();
        for import in imports(lines) {
            assert!(may_know.contains(&import.as_str()), "{name} knows {import}");
        }
    }
    for (name, lines) in sources
        .iter()
        .filter(|(name, _)| name.starts_with("config"))
    {
        for import in imports(lines) {
            assert!(
                ["config", "redact"].contains(&import.as_str()),
                "{name} knows {import}"
            );
        }
    }
}

#[test]
fn there_is_no_unsafe_code_and_no_async_runtime() {
    for (name, lines) in sources() {
        for line in lines {
            assert!(
                !line.contains("unsafe ") && !line.contains("async fn"),
                "{name}: {line}"
            );
        }
    }
    let lock = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock"));
    let lock = lock.unwrap();
    for runtime in ["tokio", "async-std", "smol", "async-executor"] {
        assert!(
            !lock.contains(&format!("name = \"{runtime}\"")),
            "{runtime} is in the tree"
        );
    }
}
