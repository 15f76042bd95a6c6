//! The cameras' own video: whatever happens, what arrives can be decoded, and it is live again
//! within one group of pictures.

use crate::lab::{Node, SIX, as_shown};
use crate::support::consumer::{Consumer, Delivery};
use crate::support::daemon::Daemon;
use crate::support::guarded::pid_of;
use crate::support::proxy::Proxy;
use crate::support::rabbit;
use crate::support::units::{decode_strictly, runs};
use crate::support::{Lateness, SOON, TempDir, fake_ffmpeg_path, unix_us, wait_until};
use crate::table::Row;
use rustix::process::{Signal, kill_process};
use std::collections::BTreeMap;
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// From a keyframe to the next.
const GOP: Duration = Duration::from_secs(2);
/// What is live.
const LIVE: Duration = Duration::from_millis(500);
/// For the first units of six cameras on a loaded machine.
const START: Duration = Duration::from_secs(60);

/// A film that lasts longer than any test, with the pictures of a calm room: some 20 kB/s.
fn film(kilobits: u32) -> PathBuf {
    static FILMS: OnceLock<TempDir> = OnceLock::new();
    let dir = FILMS.get_or_init(|| TempDir::new("films"));
    static MADE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one = MADE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let path = dir.path().join(format!("{kilobits}.mp4"));
    if !path.exists() {
        make(&path, kilobits);
    }
    path
}

fn make(path: &Path, kilobits: u32) {
    let rate = format!("{kilobits}k");
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-f", "lavfi", "-i"])
        .arg("testsrc2=size=320x240:rate=15:duration=240,noise=alls=20:allf=t")
        .args([
            "-pix_fmt",
            "yuv420p",
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
        ])
        .args(["-g", "30", "-bf", "2", "-sc_threshold", "0", "-b:v", &rate])
        .args(["-maxrate", &rate, "-bufsize", &rate])
        .arg(path)
        .status()
        .unwrap();
    assert!(made.success());
}

/// Six cameras whose video is all that is published.
struct VideoLab {
    fault: &'static str,
    at: &'static Location<'static>,
    node: Node,
    proxy: Proxy,
    daemon: Daemon,
    exchange: String,
    consumer: Option<Consumer>,
    heard: Vec<Arc<Delivery>>,
    log: Vec<String>,
    rss_kb: u64,
    mended_at: i64,
    recovery: Duration,
    /// Decoders know the units.
    real: bool,
    machine: Lateness,
}

/// With a real FFmpeg for each.
#[track_caller]
fn real(fault: &'static str, node: Node, kilobits: u32, more: &str) -> VideoLab {
    let film = film(kilobits).display().to_string();
    let cameras = SIX.map(|id| (id, film.clone()));
    VideoLab::start(
        fault,
        node,
        true,
        &format!("pictures: none\n{more}"),
        &cameras,
    )
}

impl VideoLab {
    #[track_caller]
    fn start(
        fault: &'static str,
        node: Node,
        real: bool,
        more: &str,
        cameras: &[(&str, String)],
    ) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let exchange = format!("faults.video.{}.{number}", std::process::id());
        let proxy = Proxy::start(node.get().port());
        let consumer = Consumer::start(node.get().port(), &exchange);
        let url = match node {
            Node::Shared(_) => rabbit::url(proxy.port(), "guest", "guest", "/"),
            Node::Mine(_) | Node::Own(_) => node.get().url(),
        };
        let ffmpeg = match real {
            true => "ffmpeg".to_owned(),
            false => fake_ffmpeg_path().display().to_string(),
        };
        let mut config = format!(
            "amqp: {{url: \"{url}\"}}\nffmpeg: {{path: {ffmpeg}}}\npassthrough: true\n\
             video: {{exchange: {exchange}}}\n{more}\ncameras:\n"
        );
        for (id, url) in cameras {
            config += &format!("  - {{id: {id}, url: \"{url}\"}}\n");
        }
        let mut lab = Self {
            fault,
            at: Location::caller(),
            node,
            proxy,
            daemon: Daemon::start(&config),
            exchange,
            consumer: Some(consumer),
            heard: vec![],
            log: vec![],
            rss_kb: 0,
            mended_at: 0,
            recovery: Duration::ZERO,
            real,
            machine: Lateness::start(),
        };
        lab.await_units(45, 0, START);
        lab.rss_kb = lab.daemon.rss_kb();
        lab
    }

    /// So many units of each camera that were captured after `since`.
    #[track_caller]
    fn await_units(&mut self, n: usize, since: i64, limit: Duration) {
        wait_until(limit, &format!("{n} units of each camera"), || {
            self.collect();
            let mut counts = BTreeMap::from(SIX.map(|id| (id, 0)));
            for unit in self.heard.iter().rev() {
                if unit.captured_at_us() > since {
                    *counts.get_mut(unit.camera_id()).unwrap() += 1;
                }
            }
            counts.values().all(|count| *count >= n)
        });
    }

    fn collect(&mut self) {
        if let Some(consumer) = &self.consumer {
            self.heard.extend(consumer.take());
        }
    }

    fn listen(&mut self) {
        self.collect();
        self.consumer = Some(Consumer::start(self.node.get().port(), &self.exchange));
    }

    fn endure(&mut self, time: Duration) {
        let end = unix_us() + i64::try_from(time.as_micros()).unwrap();
        wait_until(time + SOON, "time to pass", || unix_us() >= end);
    }

    #[track_caller]
    fn says(&mut self, text: &str) {
        let line = self.daemon.wait_for_log(text, START);
        self.log.push(as_shown(&line));
    }

    /// The end of the fault. Within `limit` the first unit of each camera that was captured since
    /// then has come, and it is live.
    #[track_caller]
    fn mend_by(&mut self, limit: Duration, mend: impl FnOnce(&mut Self)) {
        mend(self);
        self.mended_at = unix_us();
        let late = self.machine.so_far();
        self.await_units(1, self.mended_at, START);
        self.await_units(45, self.mended_at, START);
        let late = self.machine.so_far() - late;
        let firsts = SIX.map(|id| {
            let since = self.mended_at;
            let fresh = |it: &&Arc<Delivery>| it.camera_id() == id && it.captured_at_us() > since;
            Arc::clone(self.heard.iter().find(fresh).unwrap())
        });
        let last = firsts.iter().map(|unit| unit.arrived_us).max().unwrap();
        self.recovery = Duration::from_micros(u64::try_from(last - self.mended_at).unwrap());
        let oldest = firsts.iter().map(|unit| unit.age()).max().unwrap();
        eprintln!(
            "{}: live after {:?}, the first units were at most {oldest:?} old; machine late by \
             {late:?}",
            self.fault, self.recovery
        );
        assert!(self.recovery < limit + late, "{:?}", self.recovery);
        // What waits while the connection is made anew, half a second, is not late.
        let live = if limit > GOP { 2 * LIVE } else { LIVE };
        assert!(oldest < live + late, "{oldest:?}");
    }

    /// All that arrived can be decoded; what the user sees goes into the table.
    #[track_caller]
    fn check(mut self) -> BTreeMap<&'static str, Vec<Arc<Delivery>>> {
        let rss_kb = self.daemon.rss_kb();
        let exit = self.daemon.terminate();
        assert_eq!(exit.code(), Some(0));
        exit.report().check_accounting();
        wait_until(SOON, "the end of all that it started", || {
            self.daemon.offspring().is_empty()
        });
        self.endure(Duration::from_millis(200));
        self.collect();
        let mut of = BTreeMap::new();
        let (mut lost, mut sent, mut gaps) = (0, 0, 0);
        for id in SIX {
            let own = self.heard.iter().filter(|it| it.camera_id() == id);
            let units: Vec<_> = own.cloned().collect();
            let runs = runs(&units);
            if self.real {
                decode_strictly(&runs);
            }
            gaps += runs.len() - 1;
            let mut last = BTreeMap::new();
            for unit in &units {
                last.insert(unit.epoch(), unit.seq());
            }
            let numbers: i64 = last.values().sum();
            sent += numbers;
            lost += numbers - i64::try_from(units.len()).unwrap();
            of.insert(id, units);
        }
        let mut ages: Vec<_> = self.heard.iter().map(|unit| unit.age()).collect();
        ages.sort();
        let p99 = ages[ages.len() * 99 / 100].as_secs_f64() * 1000.0;
        Row {
            file: self.at.file().to_owned(),
            line: self.at.line(),
            fault: self.fault.to_owned(),
            log: self.log,
            lost: format!("{lost} units of {sent}, in {gaps} gaps; 0 broken"),
            recovery: self.recovery.as_secs_f64(),
            rss_mb: [self.rss_kb, rss_kb].map(|kb| kb as f64 / 1024.0),
            p99_ms: [p99; 2],
        }
        .write();
        of
    }
}

/// SIGSTOP for so long.
#[track_caller]
fn frozen(fault: &'static str, time: Duration) {
    let mut lab = real(fault, Node::mine(), 200, "");
    lab.node.get().freeze();
    lab.says(
        "no publisher confirm within amqp.confirm_timeout; retrying, keeping only the newest \
         frame of each camera",
    );
    lab.endure(time.saturating_sub(Duration::from_secs(5)));
    lab.mend_by(GOP, |lab| lab.node.get().thaw());
    lab.check();
}

#[test]
fn video_after_a_freeze_of_ten_seconds_is_live_within_one_gop() {
    frozen("video: frozen (SIGSTOP) for 10 s", Duration::from_secs(10));
}

#[test]
fn video_after_a_freeze_of_forty_seconds_is_live_within_one_gop() {
    frozen("video: frozen (SIGSTOP) for 40 s", Duration::from_secs(40));
}

#[test]
fn video_after_a_restart_of_the_broker_is_live_again() {
    let mut lab = real("video: restarted in good order", Node::mine(), 200, "");
    lab.collect();
    lab.consumer = None;
    lab.node.get_mut().stop_gracefully();
    lab.says("; retrying, keeping only the newest frame of each camera");
    lab.mend_by(GOP + Duration::from_secs(3), |lab| {
        lab.node.get_mut().start_again();
        lab.listen();
    });
    lab.check();
}

#[test]
fn video_after_an_alarm_is_live_within_one_gop() {
    let mut lab = real("video: memory alarm for 8 s", Node::mine(), 200, "");
    let ctl = ["set_vm_memory_high_watermark", "0.0000001"];
    lab.node.get().ctl(&ctl);
    lab.says("has blocked publishing (low on memory)");
    lab.endure(Duration::from_secs(8));
    // The command that ends the alarm takes a second itself.
    lab.mend_by(GOP, |lab| {
        lab.node.get().ctl(&["set_vm_memory_high_watermark", "0.6"]);
    });
    lab.says("has unblocked publishing");
    assert!(lab.daemon.log_with("retrying").is_empty());
    lab.check();
}

#[test]
fn video_on_a_slow_uplink_is_decodable_and_no_older_than_max_age() {
    let node = Node::Shared(rabbit::Rabbit::shared());
    let fault = "video: 6 cameras of 75 kB/s on 300 kB/s for 40 s";
    let mut lab = real(fault, node, 600, "");
    lab.proxy.uplink(300_000);
    let since = unix_us();
    lab.says("  the uplink ");
    lab.endure(Duration::from_secs(30));
    lab.collect();
    let late = lab.machine.so_far();
    for id in SIX {
        let slow = |it: &&Arc<Delivery>| it.camera_id() == id && it.captured_at_us() > since;
        let units: Vec<_> = lab.heard.iter().filter(slow).collect();
        let oldest = units.iter().map(|unit| unit.age()).max().unwrap();
        let bytes: usize = units.iter().map(|unit| unit.len).sum();
        eprintln!(
            "{id}: {} units, {bytes} bytes, at most {oldest:?}",
            units.len()
        );
        // video.max_age, and what the time that the uplink takes was off by.
        assert!(oldest < Duration::from_millis(4300) + late, "{oldest:?}");
        assert!(units.len() > 60, "{id}: {} units", units.len());
    }
    lab.mend_by(GOP, |lab| lab.proxy.uplink(10_000_000));
    lab.check();
}

#[test]
fn video_of_a_killed_ffmpeg_begins_with_a_key_unit_and_the_others_go_on() {
    let node = Node::Shared(rabbit::Rabbit::shared());
    let more = "circuit_breaker: {initial_backoff: 100ms}\n";
    let mut lab = real("video: FFmpeg killed in mid-unit", node, 600, more);
    // The first that was started is not known by its camera: they all play the same film.
    let ffmpeg = lab.daemon.children()[0];
    lab.mend_by(GOP, |_| kill_process(pid_of(ffmpeg), Signal::KILL).unwrap());
    lab.says("; starting again in 0.1 s");
    assert_eq!(lab.daemon.log_with("starting again in").len(), 1);
    let of = lab.check();
    let epochs = |units: &[Arc<Delivery>]| {
        let mut epochs: Vec<_> = units.iter().map(|unit| unit.epoch()).collect();
        epochs.dedup();
        epochs.len()
    };
    let mut sessions: Vec<_> = of.values().map(|units| epochs(units)).collect();
    sessions.sort_unstable();
    assert_eq!(sessions, [1, 1, 1, 1, 1, 2]);
}

/// cam3's copy is played so.
#[track_caller]
fn played(fault: &'static str, play: &str, says: &str) {
    let dir = TempDir::new("units");
    let url = |id: &str| {
        let control = dir.path().join(id);
        format!("lavfi:fake:stream,tag={id},control={}", control.display())
    };
    let cameras = SIX.map(|id| (id, url(id)));
    let node = Node::Shared(rabbit::Rabbit::shared());
    let more = "circuit_breaker: {initial_backoff: 100ms}\n";
    let mut lab = VideoLab::start(fault, node, false, more, &cameras);
    std::fs::write(dir.path().join("cam3"), format!("stream,units={play}")).unwrap();
    lab.says(says);
    lab.mend_by(GOP, |_| {
        std::fs::remove_file(dir.path().join("cam3")).unwrap()
    });
    assert_eq!(lab.daemon.log_with("starting again in").len(), 1);
    lab.check();
}

#[test]
fn video_whose_index_is_torn_begins_anew_with_a_key_unit() {
    let says = "WARN  cam3: FFmpeg's index is torn: ";
    played("video: the index pipe is torn", "torn", says);
}

#[test]
fn video_whose_bytes_stop_in_mid_unit_begins_anew_with_a_key_unit() {
    let says = "WARN  cam3: pictures come, but no access unit for 5 s";
    played("video: the byte pipe stalls in mid-unit", "stalled", says);
}
