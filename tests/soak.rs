//! Six cameras for a long time, with one fault after another: `make soak MINUTES=60`.
//!
//! Faults come from a seed, which is printed; `make soak MINUTES=60 SEED=...` plays them again in
//! the same order. After each the same is checked: every camera's frames flow again, fresh and in
//! order, with as many threads, descriptors and children as before.

use crate::support::consumer::{Consumer, Delivery};
use crate::support::daemon::Daemon;
use crate::support::guarded::pid_of;
use crate::support::http::ON;
use crate::support::proxy::Proxy;
use crate::support::rabbit::{self, Rabbit};
use crate::support::{SOON, TempDir, fake_ffmpeg_path, unix_us, wait_until};
use rustix::process::{Signal, kill_process};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The first three have real FFmpegs, the others played ones.
const SIX: [&str; 6] = ["cam1", "cam2", "cam3", "cam4", "cam5", "cam6"];
const EXCHANGE: &str = "soak";
/// After the longest fault a camera waits at most 10 s for its next try, and then may need its
/// first_frame_timeout.
const RECOVERS: Duration = Duration::from_secs(60);
/// Memory growth from the middle to the end. By then each camera has had most faults: buffers and
/// the allocator's heaps have grown to what the largest frames need.
const RSS_SLACK_KB: u64 = 2048;
/// Frames that a window of this many, its upper bound, may hold unconfirmed.
const WINDOW: usize = 32;

/// Numbers from a seed: SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number
/// generators, 2014).
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    pub(super) fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    pub(super) fn seconds(&mut self, from: f64, to: f64) -> Duration {
        let share = (self.next() % 1000) as f64 / 1000.0;
        Duration::from_secs_f64(from + (to - from) * share)
    }
}

/// Everything that takes part.
struct Farm {
    rabbit: Rabbit,
    proxy: Proxy,
    daemon: Daemon,
    consumer: Consumer,
    ffmpeg: TempDir,
    /// The newest frame of each camera.
    newest: BTreeMap<String, (i64, i64)>,
    /// Frames that arrived, and those that were older than a second then.
    frames: usize,
    late: usize,
}

impl Farm {
    fn start() -> Self {
        let rabbit = Rabbit::start();
        let proxy = Proxy::start(rabbit.port());
        let consumer = Consumer::start_with(rabbit.port(), EXCHANGE, "#", false);
        let ffmpeg = TempDir::new("soak");
        let script = ffmpeg.path().join("ffmpeg");
        let fake = fake_ffmpeg_path();
        let text = format!(
            "#!/bin/sh\ncase \"$*\" in *fake:*) exec {} \"$@\" ;; esac\nexec ffmpeg \"$@\"\n",
            fake.display()
        );
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
        let config = Self::config(&proxy, &ffmpeg, &[]);
        Self {
            daemon: Daemon::start(&config),
            rabbit,
            proxy,
            consumer,
            ffmpeg,
            newest: BTreeMap::new(),
            frames: 0,
            late: 0,
        }
    }

    /// With another input for some cameras; an empty one leaves the camera out.
    fn config(proxy: &Proxy, ffmpeg: &TempDir, plays: &[(&str, &str)]) -> String {
        let url = rabbit::url(proxy.port(), "guest", "guest", "/");
        let mut config = format!(
            "amqp: {{url: '{url}', exchange: {EXCHANGE}}}\n\
             ffmpeg: {{path: {}/ffmpeg}}\n\
             circuit_breaker: {{max_backoff: 10s}}\n\
             {ON}cameras:\n",
            ffmpeg.path().display()
        );
        for (n, id) in SIX.iter().enumerate() {
            let own = match n {
                0..3 => "testsrc2=size=640x360:rate=15".to_owned(),
                _ => format!("fake:stream,tag={id},size=60000"),
            };
            match plays.iter().find(|(camera, _)| camera == id) {
                Some((_, "")) => {}
                Some((_, play)) => {
                    config += &format!("  - {{id: {id}, url: \"lavfi:fake:{play},tag={id}\"}}\n");
                }
                None => config += &format!("  - {{id: {id}, url: \"lavfi:{own}\"}}\n"),
            }
        }
        config
    }

    fn follow(&self, plays: &[(&str, &str)]) {
        let config = Self::config(&self.proxy, &self.ffmpeg, plays);
        self.daemon.reload(&config);
    }

    /// Takes what arrived and checks that it came in order.
    fn take(&mut self) -> Vec<Arc<Delivery>> {
        let frames = self.consumer.take();
        for frame in &frames {
            let number = (frame.epoch(), frame.seq());
            if let Some(before) = self.newest.insert(frame.camera_id().to_owned(), number) {
                let id = frame.camera_id();
                assert!(before < number, "{id}: {number:?} came after {before:?}");
            }
            self.late += usize::from(frame.age() > Duration::from_secs(1));
        }
        self.frames += frames.len();
        frames
    }

    /// Lets time pass with the fault. The program must feed the watchdog meanwhile.
    fn endure(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            assert_eq!(self.daemon.http().get("/livez").status, 200);
            self.take();
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Until a frame that was captured after this has come from each camera.
    fn recover(&mut self) -> Duration {
        let (since, start) = (unix_us(), Instant::now());
        let mut missing = BTreeSet::from(SIX);
        let mut reconnected = Instant::now();
        while !missing.is_empty() {
            if self.consumer.ended() && reconnected.elapsed() > Duration::from_secs(1) {
                self.take();
                self.consumer = Consumer::start_with(self.rabbit.port(), EXCHANGE, "#", false);
                reconnected = Instant::now();
            }
            for frame in self.take() {
                if frame.captured_at_us() > since {
                    missing.remove(frame.camera_id());
                }
            }
            assert!(
                start.elapsed() < RECOVERS,
                "no frame of {missing:?} within {RECOVERS:?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        start.elapsed()
    }

    fn ffmpeg_of(&mut self, random: &mut Random) -> u32 {
        let children = self.daemon.children();
        children[random.below(children.len())]
    }

    /// One fault from its start to its end; returns its name.
    fn fault(&mut self, random: &mut Random) -> String {
        let long = random.seconds(0.5, 12.0);
        let camera = random.one_of(&SIX);
        let s = long.as_secs_f64();
        match random.below(20) {
            0 => {
                self.proxy.pause();
                self.endure(long);
                self.proxy.pass();
                format!("packets vanish for {s:.1} s")
            }
            1 => {
                self.proxy.reset();
                "the broker's connection is reset".to_owned()
            }
            2 => {
                self.proxy.refuse();
                self.endure(long);
                self.proxy.pass();
                format!("the broker's port is refused for {s:.1} s")
            }
            3 => {
                let delay = random.one_of(&[20, 50, 100, 200]);
                self.proxy.delay(Duration::from_millis(delay));
                self.endure(long);
                self.proxy.pass();
                format!("{} ms round trip for {s:.1} s", 2 * delay)
            }
            4 => {
                let rate = random.one_of(&[20, 100, 500]);
                self.proxy.throttle(rate * 1000);
                self.endure(long);
                self.proxy.pass();
                format!("{rate} KB/s for {s:.1} s")
            }
            5 => {
                self.rabbit.kill();
                self.endure(long);
                self.rabbit.start_again();
                format!("the broker is killed, and started after {s:.1} s")
            }
            6 => {
                self.rabbit.restart();
                "the broker is restarted in good order".to_owned()
            }
            7 => {
                self.rabbit.freeze();
                self.endure(long);
                self.rabbit.thaw();
                format!("the broker is frozen for {s:.1} s")
            }
            8 => {
                let set = |mark| self.rabbit.ctl(&["set_vm_memory_high_watermark", mark]);
                set("0.0000001");
                set("0.6");
                "the broker's memory alarm".to_owned()
            }
            9 => {
                let all = ["close_all_connections", "an administrator's wish"];
                self.rabbit.ctl(&all);
                "the broker's administrator closes all connections".to_owned()
            }
            10 | 11 => {
                let signal = random.one_of(&[Signal::KILL, Signal::TERM, Signal::SEGV]);
                let pid = self.ffmpeg_of(random);
                let _ = kill_process(pid_of(pid), signal);
                format!("an FFmpeg gets {signal:?}")
            }
            12 | 13 => {
                let pid = self.ffmpeg_of(random);
                let _ = kill_process(pid_of(pid), Signal::STOP);
                wait_until(RECOVERS, "the watchdog", || {
                    !self.daemon.children().contains(&pid)
                });
                "an FFmpeg is stopped and stays alive".to_owned()
            }
            14..18 => {
                let play = random.one_of(&[
                    "hang,n=5",
                    "silent",
                    "exit,n=20",
                    "garbage",
                    "truncate,k=3,traps=0",
                    "lie,k=4,traps=0",
                    "no_length",
                    "huge,k=4,traps=0",
                    "stderr_flood",
                    "ignore_term",
                    "grandchild,n=3,hold=5",
                    "trickle",
                    "resize",
                    "leak,mb=50",
                    "stream,fps=0",
                ]);
                self.follow(&[(camera, play)]);
                self.endure(long);
                self.follow(&[]);
                format!("{camera} plays {play} for {s:.1} s")
            }
            18 => {
                self.follow(&[(camera, "")]);
                self.endure(long);
                self.follow(&[]);
                format!("{camera} is taken out for {s:.1} s")
            }
            _ => {
                self.daemon.signal(Signal::STOP);
                std::thread::sleep(long.min(Duration::from_secs(3)));
                self.daemon.signal(Signal::CONT);
                "the daemon itself is stopped for up to 3 s".to_owned()
            }
        }
    }
}

pub(super) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
#[ignore = "make soak"]
fn six_cameras_live_through_random_faults() {
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("SEED").unwrap_or_else(|| clock().as_secs());
    let minutes = number("MINUTES").unwrap_or(1);
    println!("{minutes} minutes, SEED={seed}");
    let mut random = Random(seed);
    let mut farm = Farm::start();
    farm.recover();

    let begin = Instant::now();
    let length = Duration::from_secs(minutes * 60);
    let threads = farm.daemon.thread_names();
    let fds = farm.daemon.fds();
    let first = farm.daemon.rss_kb();
    let (mut round, mut middle, mut slowest) = (0, first, Duration::ZERO);
    while begin.elapsed() < length {
        round += 1;
        let faults: Vec<_> = (0..=random.below(2))
            .map(|_| farm.fault(&mut random))
            .collect();
        let faults = faults.join(", then ");
        let took = farm.recover();
        slowest = slowest.max(took);
        wait_until(SOON, "as many threads as before", || {
            farm.daemon.thread_names() == threads
        });
        wait_until(SOON, "as many descriptors as before", || {
            farm.daemon.fds() == fds
        });
        wait_until(SOON, "six children, none dead", || {
            farm.daemon.children().len() == SIX.len() && farm.daemon.zombies().is_empty()
        });
        let rss = farm.daemon.rss_kb();
        println!(
            "{round:4}  {rss} KB  {:5.1} s to recover  {faults}",
            took.as_secs_f64()
        );
        if begin.elapsed() < length / 2 {
            middle = rss;
        }
    }
    farm.take();
    let rss = farm.daemon.rss_kb();
    let exit = farm.daemon.terminate();
    assert_eq!(exit.code(), Some(0));
    let report = exit.report();
    report.check_accounting();
    // A grandchild holds the pipe for some seconds.
    wait_until(SOON, "the end of every process", || {
        farm.daemon.offspring().is_empty()
    });
    println!(
        "{round} rounds; {} frames captured, {} published, {} arrived while the consumer was \
         connected, {} of them older than a second; slowest recovery {:.1} s; \
         RSS {first} KB at the start, {middle} KB in the middle, {rss} KB at the end; {} lines in \
         the log",
        report.total.captured,
        report.total.published,
        farm.frames,
        farm.late,
        slowest.as_secs_f64(),
        farm.daemon.log().len(),
    );
    assert!(
        farm.late <= round * SIX.len() * WINDOW,
        "more late frames than the windows hold"
    );
    assert!(rss <= middle + RSS_SLACK_KB, "{middle} KB grew to {rss} KB");
}
