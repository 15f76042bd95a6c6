//! What all faults have in common: six cameras that are well, a fault, its end, and then the same
//! questions each time.
//!
//! ```text
//! plan(fault) -> start() -> break_by() -> says() -> mend_by() -> check()
//!                all well   the fault     the log   its end     the questions
//! ```

mod plan;

pub use plan::{Node, Plan, plan};

use crate::support::consumer::{Consumer, Delivery};
use crate::support::daemon::{Account, Daemon, Exit};
use crate::support::http;
use crate::support::proxy::Proxy;
use crate::support::rabbit::Rabbit;
use crate::support::{SOON, unix_us, wait_for, wait_until};
use crate::table::Row;
use amiquip::{Connection, FieldTable};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// `amqp.max_age`: an older frame is late.
const MAX_AGE: Duration = Duration::from_secs(1);
/// Frames of each camera before the fault and after it: three seconds, so that all is warm and
/// what grows has grown.
const WARM: usize = 45;
/// Frames of each camera from which a percentile is taken.
const CALM: usize = 20;
/// For the first frames of six cameras on a loaded machine.
const START: Duration = Duration::from_secs(60);
/// A daemon may keep so much more memory than before.
const RSS_KB: u64 = 2048;
/// Microseconds within which everything arrives that a fault held back.
const AFTERMATH_US: i64 = 5_000_000;
/// The machine's own noise in a 99th percentile.
const NOISE: Duration = Duration::from_millis(20);

/// The cameras of a laboratory.
pub const SIX: [&str; 6] = ["cam1", "cam2", "cam3", "cam4", "cam5", "cam6"];

/// What a daemon takes of the system.
#[derive(Debug, Clone, PartialEq)]
struct State {
    threads: Vec<String>,
    fds: usize,
    children: usize,
    rss_kb: u64,
}

impl State {
    fn of(daemon: &Daemon) -> Self {
        Self {
            threads: daemon.thread_names(),
            fds: daemon.fds(),
            children: daemon.children().len(),
            rss_kb: daemon.rss_kb(),
        }
    }
}

/// A daemon with its cameras and broker, to be broken.
pub struct Lab {
    pub daemon: Daemon,
    pub proxy: Proxy,
    pub consumer: Option<Consumer>,
    pub exchange: String,
    pub config: String,
    plan: Plan,
    /// 99th percentile of all ages before the fault.
    calm: Option<Duration>,
    before: Option<State>,
    /// The lines that tell the fault, for the table.
    log: Vec<String>,
    broken_at: i64,
    mended_at: Option<i64>,
    /// 99th percentile of the other cameras' ages during the fault.
    others: Option<Duration>,
    /// Camera, epoch and number of every frame that the consumer got.
    received: BTreeSet<(String, i64, i64)>,
    late: usize,
    counts_late_from: Option<i64>,
    /// Frames may have been published while nobody listened.
    deaf: bool,
    began: Instant,
}

impl Lab {
    pub fn rabbit(&self) -> &Rabbit {
        self.plan.node.get()
    }

    pub fn rabbit_mut(&mut self) -> &mut Rabbit {
        self.plan.node.get_mut()
    }

    pub fn dir(&self) -> PathBuf {
        self.plan.dir()
    }

    fn ids(&self) -> Vec<&'static str> {
        self.plan.cameras.iter().map(|camera| camera.0).collect()
    }

    fn others(&self) -> Vec<&'static str> {
        let mut ids = self.ids();
        ids.retain(|id| !self.plan.ailing.is_empty() && !self.plan.ailing.contains(id));
        ids
    }

    /// Waits until all are well, and notes how that is.
    #[track_caller]
    pub fn become_well(&mut self) {
        self.await_frames(WARM, 0, START);
        // The first frames come while six FFmpegs start.
        let from = unix_us();
        self.await_frames(CALM, from, START);
        self.calm = Some(self.latency(&self.ids(), from));
        self.before = Some(State::of(&self.daemon));
    }

    /// After its end: the daemon once more, with books of its own.
    pub fn start_again(&mut self) {
        self.daemon = self.plan.setup(&self.config).start();
        self.deaf = true;
    }

    /// The process id of a played camera's FFmpeg.
    #[track_caller]
    pub fn ffmpeg_of(&self, id: &str) -> u32 {
        let plays = |pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            line.contains(&format!("tag={id}")) && !line.contains("--exec-child-of")
        };
        wait_for(SOON, "the camera's FFmpeg", || {
            self.daemon.children().into_iter().find(plays)
        })
    }

    /// The fault.
    #[track_caller]
    pub fn break_by(&mut self, fault: impl FnOnce(&mut Self)) {
        self.broken_at = unix_us();
        fault(self);
    }

    /// The cameras that the fault is about play this.
    #[track_caller]
    pub fn play(&self, play: &str) {
        let ids = match self.plan.ailing.is_empty() {
            true => self.ids(),
            false => self.plan.ailing.clone(),
        };
        for id in ids {
            // Never half a word in the file.
            let new = self.dir().join(format!("{id}.new"));
            std::fs::write(&new, play).unwrap();
            std::fs::rename(&new, self.dir().join(id)).unwrap();
        }
    }

    /// Waits for this line in the log; it goes into the table.
    #[track_caller]
    pub fn says(&mut self, text: &str) -> String {
        self.says_within(text, SOON)
    }

    /// The same, in one of several wordings: which comes first is a matter of chance.
    #[track_caller]
    pub fn says_one_of(&mut self, texts: &[&str]) -> String {
        let said = |lab: &Self| {
            let log = lab.daemon.log();
            log.into_iter()
                .find(|line| texts.iter().any(|text| line.contains(text)))
        };
        let line = wait_for(SOON, &format!("{texts:?} in the log"), || said(self));
        let line = self.as_shown(&line);
        self.log.push(line.clone());
        line
    }

    #[track_caller]
    pub fn says_within(&mut self, text: &str, limit: Duration) -> String {
        let line = self.daemon.wait_for_log(text, limit);
        let line = self.as_shown(&line);
        self.log.push(line.clone());
        line
    }

    /// A line as it stands in the table: without the names of this run.
    fn as_shown(&self, line: &str) -> String {
        let dir = self.dir().display().to_string();
        let line = as_shown(&line.replace(&dir, "…"));
        // Where in Rust's library a panic was provoked is no news.
        match line.split_once(" panicked at ") {
            Some((who, _)) => format!("{who} panicked at …"),
            None => line.replace(&self.exchange, "cameras"),
        }
    }

    /// Nobody hears the daemon from here on, until [`listen`](Self::listen).
    pub fn be_deaf(&mut self) {
        self.collect();
        self.consumer = None;
        self.deaf = true;
    }

    /// What is published to another exchange arrives as well.
    pub fn bind(&self, source: &str) {
        let mut connection = Connection::insecure_open(&self.rabbit().url()).unwrap();
        let channel = connection.open_channel(None).unwrap();
        channel
            .exchange_bind(self.exchange.as_str(), source, "#", FieldTable::new())
            .unwrap();
    }

    /// Waits until the fault has lasted for so long.
    pub fn lasts(&self, time: Duration) {
        let end = self.broken_at + i64::try_from(time.as_micros()).unwrap();
        let left = micros(end - unix_us());
        wait_until(left + SOON, "time to pass", || unix_us() >= end);
    }

    /// What is published may reach nobody for a while.
    pub fn may_miss(&mut self) {
        self.deaf = true;
    }

    /// Hears what is published from here on.
    pub fn listen(&mut self) {
        self.consumer = Some(self.plan.listen(&self.exchange));
    }

    /// The other cameras go on as they did: none is started anew, and their frames arrive as early
    /// as before.
    #[track_caller]
    pub fn others_go_on(&mut self) {
        let others = self.others();
        let calm = self.calm.unwrap();
        let mut from = self.broken_at;
        let deadline = Instant::now() + START;
        loop {
            for id in &others {
                self.await_camera(id, CALM, from, START);
            }
            let during = self.latency(&others, from);
            let share = self.share(&others, from);
            if during <= calm + NOISE && share >= 0.95 {
                self.others = Some(during);
                return;
            }
            // What disturbs them goes on as long as the fault does; a hiccup of the machine is
            // over.
            assert!(
                Instant::now() < deadline,
                "the others: p99 was {calm:?} before, is {during:?}; {share:.2} of the frames arrive"
            );
            from = unix_us();
        }
    }

    /// The end of the fault: from now on everything has to become well by itself.
    #[track_caller]
    pub fn mend_by(&mut self, mend: impl FnOnce(&mut Self)) {
        mend(self);
        self.mended_at = Some(unix_us());
    }

    /// Frames that arrive late count from the fault's end only: during the fault it is its nature.
    pub fn late_counts_from_now(&mut self) {
        self.counts_late_from = Some(unix_us());
    }

    /// The questions. `limit` is how long the recovery may take.
    #[track_caller]
    pub fn check(mut self, limit: Duration) {
        let mended_at = self.mended_at.unwrap_or(self.broken_at);
        self.await_frames(1, mended_at, limit);
        let first = |id: &str| {
            let frames = self.consumer.as_ref().unwrap().of(id);
            let fresh = frames
                .iter()
                .filter(|frame| frame.captured_at_us() > mended_at);
            fresh.map(|frame| frame.arrived_us).min().unwrap()
        };
        let last = self.ids().iter().map(|id| first(id)).max().unwrap();
        let recovery = micros(last - mended_at);

        self.await_frames(WARM, mended_at + 1, START);
        let others_after = self.latency_becomes_calm();
        // Before anything is asked over HTTP: a connection that has just been used has a
        // descriptor.
        let state = self.state_becomes_as_before();
        self.nothing_is_stuck();
        self.assert_log_is_brief();

        let exit = self.daemon.terminate();
        assert_eq!(exit.code(), Some(0));
        // A process that left its FFmpeg's session lives as long as it likes.
        wait_until(START, "the end of all that it started", || {
            self.daemon.offspring().is_empty()
        });
        self.assert_books(&exit);
        let before = match self.before.take() {
            Some(before) => before,
            None => self.state_without_fault(&state),
        };
        self.row(
            lost(&exit.report().total),
            recovery,
            [before.rss_kb, state.rss_kb],
            [
                self.calm.unwrap_or(others_after),
                self.others.unwrap_or(others_after),
            ],
        );
    }

    /// SIGTERM, now: it ends in time, with its books closed and nothing left behind. Returns the
    /// broker.
    #[track_caller]
    pub fn ends(mut self, limit: Duration) -> Node {
        let rss = self.daemon.rss_kb();
        let exit = self.daemon.terminate();
        assert_eq!(exit.code(), Some(0));
        assert!(exit.took < limit, "{:?}", exit.took);
        // The last of them may still be dying.
        wait_until(SOON, "the end of all that it started", || {
            self.daemon.offspring().is_empty()
        });
        exit.report().check_accounting();
        let line = &self.daemon.log_with("SIGTERM: stopping")[0];
        self.log.push(as_shown(line));
        self.row(
            lost(&exit.report().total),
            exit.took,
            [rss, 0],
            [Duration::ZERO; 2],
        );
        self.plan.node
    }

    fn row(&self, lost: String, recovery: Duration, rss_kb: [u64; 2], p99: [Duration; 2]) {
        Row {
            file: self.plan.at.0.to_owned(),
            line: self.plan.at.1,
            fault: self.plan.fault.to_owned(),
            log: self.log.clone(),
            lost,
            recovery: recovery.as_secs_f64(),
            rss_mb: rss_kb.map(|kb| kb as f64 / 1024.0),
            p99_ms: p99.map(|age| age.as_secs_f64() * 1000.0),
        }
        .write();
    }

    /// Waits for so many frames of each camera that were captured after `since`.
    #[track_caller]
    pub fn await_frames(&self, n: usize, since: i64, limit: Duration) {
        let deadline = Instant::now() + limit;
        for id in self.ids() {
            let left = deadline.saturating_duration_since(Instant::now());
            self.await_camera(id, n, since, left);
        }
    }

    #[track_caller]
    pub fn await_camera(&self, id: &str, n: usize, since: i64, limit: Duration) {
        let consumer = self.consumer.as_ref().unwrap();
        let what = format!("{n} frames of {id}");
        consumer.wait_until(limit, &what, |arrived| {
            let fresh = arrived
                .iter()
                .filter(|frame| frame.captured_at_us() > since && frame.camera_id() == id);
            fresh.count() >= n
        });
    }

    /// Waits for a frame of at least so many bytes.
    #[track_caller]
    pub fn await_large(&self, bytes: usize) {
        let consumer = self.consumer.as_ref().unwrap();
        consumer.wait_until(SOON, "a large frame", |arrived| {
            arrived.iter().any(|frame| frame.len >= bytes)
        });
    }

    /// 99th percentile of the ages of these cameras' frames that were captured after `since`.
    fn latency(&self, ids: &[&'static str], since: i64) -> Duration {
        let frames = self.consumer.as_ref().unwrap().all();
        let mut ages: Vec<_> = frames
            .iter()
            .filter(|frame| frame.captured_at_us() > since && ids.contains(&frame.camera_id()))
            .map(|frame| frame.age())
            .collect();
        ages.sort();
        ages.get(ages.len() * 99 / 100).copied().unwrap_or_default()
    }

    /// The smallest share of their frames that one of these cameras had published since then.
    fn share(&self, ids: &[&'static str], since: i64) -> f64 {
        let frames = self.consumer.as_ref().unwrap().all();
        let share = |id: &&str| {
            let of = frames.iter().filter(|frame| frame.camera_id() == *id);
            let fresh = of.filter(|frame| frame.captured_at_us() > since);
            let seqs: Vec<_> = fresh.map(|frame| frame.seq()).collect();
            let captured = seqs.last().unwrap() - seqs[0] + 1;
            seqs.len() as f64 / captured as f64
        };
        ids.iter().map(share).fold(1.0, f64::min)
    }

    /// After the fault frames arrive as early as before it.
    #[track_caller]
    fn latency_becomes_calm(&self) -> Duration {
        let ids = self.ids();
        let Some(calm) = self.calm else {
            return self.latency(&ids, self.mended_at.unwrap_or_default());
        };
        let deadline = Instant::now() + START;
        loop {
            let from = unix_us();
            self.await_frames(CALM, from, START);
            let after = self.latency(&ids, from);
            if after <= calm + NOISE {
                return after;
            }
            assert!(
                Instant::now() < deadline,
                "p99 was {calm:?} before the fault, is {after:?} after it"
            );
        }
    }

    /// What the fault left in flight has found its end in the books: a broker that is well confirms
    /// in a few milliseconds, so between two frames nothing flies.
    #[track_caller]
    fn nothing_is_stuck(&self) {
        wait_until(SOON, "a moment without a frame in flight", || {
            let flying = http::values(&self.metrics(), "edge_video_frames_in_flight");
            flying.values().sum::<f64>() == 0.0
        });
    }

    #[track_caller]
    fn state_becomes_as_before(&self) -> State {
        if let Some(before) = &self.before {
            let mut now = State::of(&self.daemon);
            let deadline = Instant::now() + SOON;
            wait_until(SOON, "the state before the fault", || {
                now = State::of(&self.daemon);
                let same = before.same(&now, self.plan.rss_kb);
                assert!(
                    same || Instant::now() < deadline - Duration::from_secs(1),
                    "before {before:?}, after {now:?}"
                );
                same
            });
        }
        assert!(self.daemon.zombies().is_empty());
        State::of(&self.daemon)
    }

    /// A daemon that never saw the fault is what the one that began with it is compared with.
    #[track_caller]
    fn state_without_fault(&mut self, after: &State) -> State {
        self.be_deaf();
        self.listen();
        self.daemon = self.plan.setup(&self.config).start();
        self.await_frames(WARM, 0, START);
        let healthy = State::of(&self.daemon);
        assert!(
            healthy.same(after, self.plan.rss_kb),
            "without {healthy:?}, after {after:?}"
        );
        self.daemon.terminate();
        healthy
    }

    /// Once a minute at most: the same warning about the same camera or broker.
    #[track_caller]
    fn assert_log_is_brief(&self) {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for line in self.daemon.log() {
            let line = as_shown(&line);
            if line.starts_with("WARN") || line.starts_with("ERROR") {
                let line = without_counts(&line);
                let camera = line.split(": ").next().unwrap_or_default().to_owned();
                let text: String = line.chars().filter(|c| !c.is_ascii_digit()).collect();
                let key = format!("{camera}: {text}");
                *counts.entry(key).or_default() += 1;
            }
        }
        // Each connection speaks for itself.
        let most = (1 + self.began.elapsed().as_secs() / 60) * self.plan.connections;
        for (line, count) in counts {
            assert!(count <= most, "{count} times in the log: {line}");
        }
    }

    /// Every frame is accounted for, what the consumer got agrees with it, and nothing came late.
    #[track_caller]
    fn assert_books(&mut self, exit: &Exit) {
        let report = exit.report();
        report.check_accounting();
        if !self.deaf {
            let account = &report.total;
            let published = usize::try_from(account.published).unwrap();
            let unknown = usize::try_from(account.dropped("unknown")).unwrap();
            wait_until(SOON, "every published frame to arrive", || {
                self.collect();
                self.received.len() >= published
            });
            let received = self.received.len();
            // A frame that one queue rejects may reach another.
            let nacked = usize::try_from(account.dropped("nacked")).unwrap();
            assert!(
                received <= published + unknown + nacked,
                "{received} frames arrived: {account:?}"
            );
        }
        self.collect();
        let most = self.ids().len() * self.plan.window;
        // A camera's fault holds no frame back, so there a late one says that the machine is busy.
        let concerns_all = self.plan.ailing.is_empty();
        assert!(
            !concerns_all || self.late <= most,
            "{} frames came late",
            self.late
        );
        for id in self.others() {
            let other = report.camera(id);
            assert_eq!(other.restarts_in_all(), 0, "{other:?}");
        }
    }

    /// Takes over what the consumer got.
    pub fn collect(&mut self) {
        let Some(consumer) = &self.consumer else {
            return;
        };
        let from = self.counts_late_from.unwrap_or(self.broken_at);
        for frame in consumer.take() {
            let id = (frame.camera_id().to_owned(), frame.epoch(), frame.seq());
            // What a fault holds back comes at its end.
            let mended = self.mended_at.unwrap_or(i64::MAX - AFTERMATH_US);
            let arrived = from..mended + AFTERMATH_US;
            let held_back = frame.captured_at_us() <= mended;
            let late = held_back && arrived.contains(&frame.arrived_us) && frame.age() > MAX_AGE;
            self.late += usize::from(late);
            assert!(self.received.insert(id.clone()), "{id:?} came twice");
        }
    }

    /// Metrics in Prometheus' text.
    #[track_caller]
    pub fn metrics(&self) -> String {
        self.daemon.http().get("/metrics").text().to_owned()
    }

    /// A metric that no camera has.
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        http::value(&self.metrics(), &format!("edge_video_{name}"))
    }

    /// All frames that arrived since the start or the last [`listen`](Self::listen).
    pub fn frames(&self) -> Vec<Arc<Delivery>> {
        self.consumer.as_ref().unwrap().all()
    }
}

impl State {
    /// Within so many KB.
    fn same(&self, now: &Self, rss_kb: u64) -> bool {
        (&self.threads, self.fds, self.children) == (&now.threads, now.fds, now.children)
            && now.rss_kb <= self.rss_kb + rss_kb
    }
}

/// A line without ` (12 more in the last 3 minutes)`: how often it was kept back.
fn without_counts(line: &str) -> String {
    let Some((before, rest)) = line.split_once(" more in the last ") else {
        return line.to_owned();
    };
    let before = before
        .rsplit_once(" (")
        .map_or(before, |(before, _)| before);
    let after = rest.split_once(')').map_or("", |(_, after)| after);
    format!("{before}{after}")
}

fn micros(us: i64) -> Duration {
    Duration::from_micros(u64::try_from(us).unwrap_or_default())
}

/// `31 of 900: 30 overwritten, 1 unknown`
pub fn lost(account: &Account) -> String {
    let reasons: Vec<_> = account
        .dropped
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    match reasons.is_empty() {
        true => format!("none of {}", account.captured),
        false => format!(
            "{} of {}: {}",
            account.dropped_in_all(),
            account.captured,
            reasons.join(", ")
        ),
    }
}

/// A line as it stands in the table: without time, ports and folders of this run.
pub fn as_shown(line: &str) -> String {
    let line = match line.split_once("Z ") {
        Some((time, rest)) if time.starts_with("20") => rest,
        _ => line,
    };
    let line = match line.contains("  the uplink ") {
        true => without_numbers(line),
        false => line.replace(env!("CARGO_TARGET_TMPDIR"), "…"),
    };
    let mut shown = String::new();
    let mut pieces = line.split("127.0.0.1:");
    shown += pieces.next().unwrap_or_default();
    for piece in pieces {
        shown += "127.0.0.1:…";
        shown += piece.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    shown
}

/// They are this run's, and another release's row is to say the same.
fn without_numbers(line: &str) -> String {
    let mut words = vec![];
    for word in line.split(' ') {
        words.push(match word.parse::<f64>() {
            Ok(_) => "…",
            Err(_) => word,
        });
    }
    words.join(" ")
}
