//! Helpers of the tests: a private broker, a consumer, the daemon, a fake FFmpeg, real sources, and
//! a proxy that disturbs the network.
//!
//! Everything is on loopback, and everything that is started here ends with the test process,
//! however that ends: see [`guarded`]. A test waits for conditions, never for a time: see
//! [`wait_until`].

// Each test binary uses only some of the helpers.
#![allow(dead_code)]

pub mod chromium;
pub mod consumer;
pub mod daemon;
pub mod dev;
pub mod etc;
mod fake_jpeg;
pub mod guarded;
pub mod hostile;
pub mod http;
pub mod jpeg;
pub mod program;
pub mod proxy;
pub mod rabbit;
pub mod shop;
pub mod sources;
pub mod tls;
pub mod units;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Interval at which a condition is checked.
const POLL: Duration = Duration::from_millis(20);

/// Limit for waits whose length is not tested: long enough for a loaded machine.
pub const SOON: Duration = Duration::from_secs(20);

/// Waits until `cond` holds; panics with `what` when that takes longer than `limit`.
#[track_caller]
pub fn wait_until(limit: Duration, what: &str, cond: impl FnMut() -> bool) {
    assert!(
        holds_within(limit, cond),
        "waited {limit:?} in vain: {what}"
    );
}

/// Waits until `get` gives something and returns it; panics with `what` after `limit`.
#[track_caller]
pub fn wait_for<T>(limit: Duration, what: &str, mut get: impl FnMut() -> Option<T>) -> T {
    let mut got = None;
    wait_until(limit, what, || {
        got = get();
        got.is_some()
    });
    got.unwrap()
}

/// Whether `cond` comes to hold within `limit`.
pub fn holds_within(limit: Duration, mut cond: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if cond() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(POLL);
    }
}

/// Measures how late the machine itself wakes up a thread, which a bound on time has to allow for.
#[derive(Debug)]
pub struct Lateness {
    from: Instant,
    shared: Arc<(AtomicU64, AtomicBool)>,
}

impl Lateness {
    /// From now on.
    pub fn start() -> Self {
        const NAP: Duration = Duration::from_millis(1);
        let shared = Arc::new((AtomicU64::new(0), AtomicBool::new(false)));
        std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let (late_us, end) = &*shared;
                while !end.load(Ordering::Relaxed) {
                    let before = Instant::now();
                    std::thread::sleep(NAP);
                    let late = before.elapsed().saturating_sub(NAP);
                    // An idle machine is late by a tenth of this.
                    if late > NAP {
                        late_us.fetch_add(late.as_micros() as u64, Ordering::Relaxed);
                    }
                }
            }
        });
        Self {
            from: Instant::now(),
            shared,
        }
    }

    /// All that one thread was late since the start; it did nothing but short naps.
    pub fn so_far(&self) -> Duration {
        let late = Duration::from_micros(self.shared.0.load(Ordering::Relaxed));
        late.min(self.from.elapsed())
    }
}

impl Drop for Lateness {
    fn drop(&mut self) {
        self.shared.1.store(true, Ordering::Relaxed);
    }
}

/// Microseconds since 1970, for comparison with `captured_at_us`.
pub fn unix_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_micros()).unwrap()
}

/// A free TCP port on loopback; never the same one twice in this process.
///
/// It lies below the range from which the kernel picks the ports of outgoing connections: another
/// process could take a port from there while its server restarts.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap();
    // Test runs at the same time start at different ports.
    let start = std::process::id().wrapping_mul(97) % 12_000;
    for offset in 0..12_000 {
        let port = 20_000 + u16::try_from((start + offset) % 12_000).unwrap();
        if !given.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            given.insert(port);
            return port;
        }
    }
    panic!("no free port");
}

/// Whether a process listens on this port. Does not connect, since some servers here serve one
/// client and then end.
pub fn listening(port: u16) -> bool {
    const LISTEN: &str = "0A";
    ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .iter()
        .any(|table| {
            let table = std::fs::read_to_string(table).unwrap_or_default();
            table.lines().skip(1).any(|line| {
                let mut fields = line.split_whitespace().skip(1);
                let local = fields.next().unwrap_or_default();
                local.ends_with(&format!(":{port:04X}")) && fields.nth(1) == Some(LISTEN)
            })
        })
}

/// The fake FFmpeg, for `ffmpeg.path`. What it can play is told at the top of its source.
pub fn fake_ffmpeg_path() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    // target/debug/deps/integration-... -> target/debug/examples/fake-ffmpeg
    let path = exe.ancestors().nth(2).unwrap().join("examples/fake-ffmpeg");
    // `cargo test --test integration` does not build examples, and an old one may lack modes.
    let modified = |path: &Path| path.metadata().and_then(|meta| meta.modified()).ok();
    let built = modified(&path);
    let sources = ["fake_ffmpeg.rs", "fake_jpeg.rs", "fake_units.rs"].map(|name| {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/support")
            .join(name)
    });
    assert!(
        built.is_some() && sources.iter().all(|source| modified(source) <= built),
        "{} is missing or too old: run `cargo build --examples`",
        path.display()
    );
    path
}

/// A folder that is removed when dropped.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// Makes an empty one.
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{pid}-{count}"));
        // Left by a killed process that had the same id.
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A configuration of cameras that the fake FFmpeg plays, given as `id` and `MODE,key=value,...`;
/// `more` are further lines at the top level.
pub fn fake_config(
    amqp_url: &str,
    exchange: &str,
    more: &str,
    cameras: &[(&str, String)],
) -> String {
    let mut config = format!(
        "amqp:\n  url: {amqp_url}\n  exchange: {exchange}\nffmpeg:\n  path: {}\n{more}\ncameras:\n",
        fake_ffmpeg_path().display(),
    );
    for (id, play) in cameras {
        config += &format!("  - {{id: {id}, url: \"lavfi:fake:{play}\"}}\n");
    }
    config
}

/// The configuration for a test that does not care whether the broker pauses for some seconds:
/// connections are kept, and no frame becomes `unknown`.
pub fn patient(config: &str) -> String {
    config.replacen("  exchange:", "  confirm_timeout: 60s\n  exchange:", 1)
}
