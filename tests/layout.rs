//! Who may know whom: the rooms in ARCHITECTURE.md, read from the source itself.
//!
//! A room is the first part of a path below `src`: `src/amqp.rs` and all in `src/amqp/`. Unit tests
//! may know everything, so they are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Which rooms a room may know, from those that know nothing to those that know most.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("backoff", &[]),
    ("clock", &[]),
    ("handoff", &[]),
    ("idle", &[]),
    ("metrics", &[]),
    ("os_error", &[]),
    ("quality", &[]),
    ("redact", &[]),
    ("repeat", &[]),
    ("shutdown", &[]),
    ("status", &[]),
    ("system", &[]),
    ("uplink", &[]),
    ("snapshot", &["os_error"]),
    ("config", &["os_error", "redact"]),
    ("breaker", &["backoff", "config"]),
    ("frame", &["clock", "handoff"]),
    ("message", &["frame"]),
    ("memory", &["config", "handoff", "system"]),
    ("logging", &["clock", "config", "redact", "repeat"]),
    (
        "capture",
        &[
            "backoff", "breaker", "clock", "config", "frame", "handoff", "idle", "memory",
            "metrics", "os_error", "quality", "redact", "repeat", "shutdown", "snapshot", "status",
            "system",
        ],
    ),
    (
        "amqp",
        &[
            "backoff", "clock", "config", "message", "os_error", "redact", "repeat", "shutdown",
            "status",
        ],
    ),
    (
        "publish",
        &[
            "amqp", "clock", "config", "frame", "handoff", "idle", "message", "metrics",
        ],
    ),
    (
        "overview",
        &[
            "amqp", "clock", "config", "frame", "handoff", "idle", "memory", "metrics", "quality",
            "status", "system", "uplink",
        ],
    ),
    (
        "events",
        &[
            "amqp", "clock", "config", "message", "metrics", "overview", "publish", "redact",
            "status",
        ],
    ),
    ("summary", &["metrics", "overview", "status"]),
    ("systemd", &["overview"]),
    (
        "http",
        &[
            "clock", "config", "frame", "handoff", "idle", "logging", "memory", "metrics",
            "os_error", "overview", "redact", "shutdown", "status", "system",
        ],
    ),
    (
        "watch",
        &[
            "amqp", "backoff", "clock", "config", "frame", "message", "os_error", "repeat",
            "shutdown",
        ],
    ),
    (
        "check",
        &[
            "amqp", "breaker", "capture", "config", "handoff", "memory", "metrics", "os_error",
            "quality", "repeat", "shutdown", "status",
        ],
    ),
    (
        "probe",
        &[
            "capture", "config", "os_error", "redact", "shutdown", "system",
        ],
    ),
    (
        "daemon",
        &[
            "amqp", "breaker", "capture", "config", "events", "handoff", "http", "idle", "logging",
            "memory", "metrics", "os_error", "overview", "publish", "quality", "repeat",
            "shutdown", "status", "summary", "system", "systemd", "uplink",
        ],
    ),
    // The program around the library: only its own files are looked at.
    ("main", &[]),
    ("lib", &[]),
];

/// What a part of a room may know, where that is less than the room may. Of its own room: anything.
const PART_MAY_KNOW: &[(&str, &[&str])] = &[
    ("amqp/budget", &[]),
    ("amqp/scheduler", &[]),
    ("amqp/unconfirmed", &[]),
    ("amqp/refusals", &["backoff", "repeat"]),
    ("amqp/client", &["config", "message", "redact"]),
    ("publish/notice", &["metrics"]),
    ("events/body", &["clock", "message", "publish", "redact"]),
    ("events/board", &["clock", "message", "overview", "status"]),
];

/// Crates that any room may use. Every other one belongs to one room.
const COMMON_CRATES: &[&str] = &[
    "crossbeam_channel",
    "crossbeam_utils",
    "log",
    "parking_lot",
    "rustix",
    "serde",
    "serde_json",
];

/// Where in its room a crate is known, where that is not all of the room.
const CRATE_STAYS_IN: &[(&str, &str)] = &[
    ("amiquip", "amqp/client"),
    ("env_filter", "logging.rs"),
    ("httparse", "http/request"),
    ("mio", "amqp/client"),
    ("openssl", "config/tls.rs"),
    ("serde_yaml", "config/raw"),
    ("signal_hook", "daemon"),
];

/// All that is allowed against the rules: what, where, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    (
        "native_tls",
        "config/tls.rs",
        "a TLS file is refused when the configuration is read",
    ),
    (
        "native_tls",
        "snapshot/client.rs",
        "a camera is polled by a process of its own",
    ),
    (
        "openssl",
        "snapshot/login.rs",
        "the digests of a camera's login",
    ),
    (
        "signal_hook",
        "watch.rs",
        "`edge-video watch` runs without the daemon",
    ),
    (
        "io::stderr()",
        "main.rs",
        "what is said before there is a log",
    ),
];

/// Lines of code in a file, without comments, empty lines and unit tests.
const FILE_MAX: usize = 400;
/// Excuses a longer one, in a line of its own, and gives the reason.
const LONGER: &str = "// Longer than 400 lines: ";
/// Lines of a function, from its `fn` to its last brace.
const FUNCTION_MAX: usize = 80;

fn is_exception(what: &str, file: &str) -> bool {
    EXCEPTIONS.iter().any(|it| (it.0, it.1) == (what, file))
}

/// A file below `src`, without its unit tests.
struct Source {
    /// Below `src`.
    name: String,
    room: String,
    text: String,
}

impl Source {
    /// Trimmed, without comments and empty lines.
    fn code(&self) -> impl Iterator<Item = &str> {
        let lines = self.text.lines().map(str::trim);
        lines.filter(|line| !line.is_empty() && !line.starts_with("//"))
    }

    fn uses(&self, word: &str) -> bool {
        let inside = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        self.code().any(|line| {
            line.match_indices(word)
                .any(|(at, _)| !line[..at].ends_with(inside))
        })
    }

    /// Rooms that its paths name, through `crate::` or through `super::` from its own module.
    fn rooms(&self) -> BTreeSet<String> {
        let code: String = self.code().collect::<Vec<_>>().join("\n");
        let module = self.name.trim_end_matches(".rs").split('/').count();
        let from_root = ["crate::".to_owned(), "super::".repeat(module)];
        from_root
            .iter()
            .flat_map(|root| code.split(root.as_str()).skip(1))
            .flat_map(first_names)
            .filter(|room| *room != self.room)
            .collect()
    }
}

/// `a` of `a::b`, and `a` and `c` of `{a::b, c::{d, e}}`.
fn first_names(path: &str) -> Vec<String> {
    let name = |text: &str| {
        let text = text.trim_start().chars();
        text.take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect::<String>()
    };
    let Some(group) = path.strip_prefix('{') else {
        return vec![name(path)];
    };
    let (mut names, mut depth) = (vec![name(group)], 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(name(&group[at + 1..])),
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn files() -> Vec<PathBuf> {
    let mut folders = vec![root()];
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
    files.retain(|file| file.extension().is_some_and(|it| it == "rs"));
    files.sort();
    files
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// All files but those whose modules only tests have.
fn sources() -> Vec<Source> {
    let mut sources = vec![];
    let mut tests: Vec<PathBuf> = vec![];
    for file in files() {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut lines = text.lines().map(str::trim);
        while let Some(line) = lines.next() {
            if line != "#[cfg(test)]" {
                continue;
            }
            let module = lines.next().and_then(|line| line.strip_suffix(';'));
            if let Some((_, module)) = module.and_then(|line| line.split_once("mod ")) {
                tests.push(file.with_extension("").join(module));
            }
        }
        let name = file.strip_prefix(root()).unwrap().display().to_string();
        let before_tests = text.split("#[cfg(test)]\nmod tests {").next();
        sources.push((
            file,
            Source {
                room: name.split(['/', '.']).next().unwrap().to_owned(),
                name,
                text: before_tests.unwrap_or_default().to_owned(),
            },
        ));
    }
    sources
        .into_iter()
        .filter(|(file, _)| {
            !tests
                .iter()
                .any(|it| file.with_extension("").starts_with(it))
        })
        .map(|(_, source)| source)
        .collect()
}

#[test]
fn a_room_knows_only_the_rooms_that_it_may() {
    let mut wrong = vec![];
    for source in sources() {
        let room = MAY_KNOW.iter().find(|(room, _)| *room == source.room);
        let (_, may_know) = room.unwrap_or_else(|| panic!("{} is in no table", source.room));
        let program = ["main", "lib"].contains(&&*source.room);
        let part = |(part, _): &&(&str, _)| source.name.starts_with(*part);
        let part = PART_MAY_KNOW.iter().find(part);
        for known in source.rooms() {
            let allowed = |may: &[&str]| may.contains(&&*known);
            if !program && (!allowed(may_know) || part.is_some_and(|(_, may)| !allowed(may))) {
                wrong.push(format!("{} knows {known}", source.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_rooms_know_each_other_in_a_circle() {
    let mut knows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources() {
        let rooms = source.rooms();
        knows.entry(source.room).or_default().extend(rooms);
    }
    // A room that knows none but those which are settled is settled itself.
    while !knows.is_empty() {
        let left: BTreeSet<_> = knows.keys().cloned().collect();
        let before = knows.len();
        knows.retain(|_, known| !known.is_disjoint(&left));
        assert!(knows.len() < before, "in circles: {knows:#?}");
    }
}

#[test]
fn the_broker_has_one_face() {
    for source in sources().iter().filter(|source| source.room != "amqp") {
        for line in source.code() {
            let below = line.split("crate::amqp::").skip(1);
            let inside = below.filter(|rest| rest.starts_with(|c: char| c.is_lowercase()));
            let inside = inside.filter(|rest| {
                let name = rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
                name.starts_with("::")
            });
            assert_eq!(inside.count(), 0, "{}: {line}", source.name);
        }
    }
}

#[test]
fn a_foreign_crate_is_known_in_one_room() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let manifest = std::fs::read_to_string(manifest).unwrap();
    let (_, dependencies) = manifest.split_once("\n[dependencies]\n").unwrap();
    let (dependencies, _) = dependencies.split_once("\n[").unwrap();
    let names = dependencies
        .lines()
        .filter_map(|line| line.split_once(" ="));
    let names = names.map(|(name, _)| name.replace('-', "_"));
    let sources = sources();
    for name in names.filter(|name| !COMMON_CRATES.contains(&&**name)) {
        let word = format!("{name}::");
        let users = sources.iter().filter(|source| source.uses(&word));
        let users: Vec<_> = users
            .filter(|source| !is_exception(&name, &source.name))
            .collect();
        let rooms: BTreeSet<_> = users.iter().map(|source| &source.room).collect();
        assert_eq!(rooms.len(), 1, "{name} is known in {rooms:?}");
        if let Some((_, place)) = CRATE_STAYS_IN.iter().find(|(stays, _)| *stays == name) {
            for user in users {
                assert!(user.name.starts_with(place), "{} knows {name}", user.name);
            }
        }
    }
}

#[test]
fn processes_and_stderr_have_one_place_each() {
    for (word, place) in [
        ("Command::new", "capture/child.rs"),
        ("io::stderr()", "logging.rs"),
    ] {
        let sources = sources();
        let users = sources.iter().filter(|source| source.uses(word));
        let users = users.map(|source| source.name.as_str());
        let users: Vec<_> = users.filter(|name| !is_exception(word, name)).collect();
        assert_eq!(users, [place], "{word}");
    }
}

#[test]
fn what_the_hand_over_is_made_of_is_in_one_file() {
    // So that the model check sees all of it.
    for word in ["crossbeam_utils::", "crossbeam_channel::", "parking_lot::"] {
        for source in sources().iter().filter(|it| it.room == "handoff") {
            assert!(
                source.name == "handoff.rs" || !source.uses(word),
                "{}",
                source.name
            );
        }
    }
}

#[test]
fn there_are_five_exceptions_at_most_and_each_is_needed() {
    assert!(EXCEPTIONS.len() <= 5);
    let sources = sources();
    for (what, file, why) in EXCEPTIONS {
        let word = match what.contains(':') {
            true => (*what).to_owned(),
            false => format!("{what}::"),
        };
        let used = sources.iter().any(|it| it.name == *file && it.uses(&word));
        assert!(used, "{file} does not use {what}: {why}");
    }
}

/// Name and number of lines of each function, as rustfmt lays them out.
fn functions(text: &str) -> Vec<(&str, usize)> {
    let lines: Vec<_> = text.lines().collect();
    let mut functions = vec![];
    for (start, line) in lines.iter().enumerate() {
        let Some((before, rest)) = line.split_once("fn ") else {
            continue;
        };
        let modifiers = ["pub", "const", "pub(super)", "pub(crate)", "extern"];
        let known = |word: &str| modifiers.contains(&word) || word.starts_with("pub(in");
        let mut words = before.split_whitespace();
        if !words.all(|word| known(word) || word.starts_with("crate::")) {
            continue;
        }
        let indent = &line[..line.len() - line.trim_start().len()];
        let end = format!("{indent}}}");
        let length = lines[start..].iter().position(|line| *line == end);
        let opens = lines[start..].iter().position(|line| line.ends_with('{'));
        // One that only is declared, or that is one line, has no such end before the next begins.
        let closes = |line: &&str| line.ends_with(';') || line.ends_with('}');
        let short = lines[start..].iter().position(closes);
        if let (Some(length), Some(opens), Some(short)) = (length, opens, short)
            && opens < short
        {
            let name = rest.split(['(', '<']).next().unwrap_or_default();
            functions.push((name, length + 1));
        }
    }
    functions
}

#[test]
fn no_file_has_more_than_400_lines_of_code_without_a_reason() {
    let sources = sources();
    let long = sources.iter().filter(|source| {
        let excused = source.text.lines().any(|line| line.starts_with(LONGER));
        source.code().count() > FILE_MAX && !excused
    });
    let long = long.map(|source| format!("{}: {}", source.name, source.code().count()));
    assert_eq!(long.collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn no_function_has_more_than_80_lines() {
    let sources = sources();
    let long = sources.iter().flat_map(|source| {
        let long = functions(&source.text).into_iter();
        let long = long.filter(|(_, length)| *length > FUNCTION_MAX);
        long.map(|(name, length)| format!("{}: {name}: {length}", source.name))
    });
    assert_eq!(long.collect::<Vec<_>>(), [""; 0]);
    let text = "    pub(super) fn a<T>(\n        b: T,\n    ) {\n        c();\n    }\n\
                fn d();\nfn e() {}\n";
    assert_eq!(functions(text), [("a", 5)]);
}

#[test]
fn there_is_no_unsafe_code_and_no_async_runtime() {
    for source in sources() {
        for line in source.code() {
            assert!(
                !line.contains("unsafe ") && !line.contains("async fn"),
                "{}: {line}",
                source.name
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

#[test]
fn paths_are_read_in_every_form() {
    let source = |name: &str, text: &str| Source {
        name: name.to_owned(),
        room: name.split(['/', '.']).next().unwrap().to_owned(),
        text: text.to_owned(),
    };
    let text = "use crate::{config::{self, Tls}, message,\n    redact as r};\n\
                // use crate::events;\n\
                fn f(a: crate::clock::Stamp) { super::super::super::metrics::g() }\n\
                use super::super::client; use super::error;";
    let rooms = source("amqp/client/wire.rs", text).rooms();
    let expected = ["clock", "config", "message", "metrics", "redact"];
    assert!(rooms.iter().eq(expected), "{rooms:?}");
    let rooms = source("events.rs", "use super::publish::notice;").rooms();
    assert!(rooms.iter().eq(["publish"]));
}
