//! Five cameras whose video is passed through, for a long time, with one fault after another:
//! `make soak-video MINUTES=60`.
//!
//! Faults come from a seed, which is printed; with `SEED=...` they come again in the same order.
//! The consumer follows the gap rule, and its decoders take any error for the end of the test.

use super::live::Live;
use super::{ONLY_VIDEO, config, film};
use crate::soak::{Random, number};
use crate::support::consumer::{Consumer, Delivery};
use crate::support::daemon::Daemon;
use crate::support::guarded::pid_of;
use crate::support::proxy::Proxy;
use crate::support::rabbit::{self, Rabbit};
use crate::support::sources::{Mount, Rtsp};
use crate::support::units::{decode_strictly, is_key, runs};
use crate::support::{SOON, TempDir, http, unix_us, wait_until};
use rustix::process::{Signal, kill_process};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const FIVE: [&str; 5] = ["avc", "hevc", "film", "film5", "live"];
const EXCHANGE: &str = "video.soak";
/// The longest backoff, and the first units on a loaded machine.
const RECOVERS: Duration = Duration::from_secs(120);

struct Farm {
    rabbit: Rabbit,
    proxy: Proxy,
    rtsp: Rtsp,
    _live: Live,
    _films: TempDir,
    daemon: Daemon,
    consumer: Consumer,
    /// Whose next key unit is waited for, because nobody listened for a while.
    joins: BTreeSet<&'static str>,
    /// Not yet decoded.
    units: BTreeMap<&'static str, Vec<Arc<Delivery>>>,
    decoded: usize,
    gaps: usize,
}

impl Farm {
    fn start() -> Self {
        let rabbit = Rabbit::start();
        let proxy = Proxy::start(rabbit.port());
        let films = TempDir::new("video-soak");
        let rtsp = Rtsp::start(&[
            Mount::new("avc", "ball").encoder("x264enc key-int-max=30 bframes=2 b-adapt=false"),
            Mount::new("hevc", "ball").encoder("x265enc tune=zerolatency key-int-max=15"),
        ]);
        let live = Live::start("320x240 -c:v libx264 -preset ultrafast -g 15 -f mpegts");
        let cameras = [
            ("avc", rtsp.url("avc")),
            ("hevc", rtsp.url("hevc")),
            (
                "film",
                film(films.path(), "libx264", 60).display().to_string(),
            ),
            (
                "film5",
                film(films.path(), "libx265", 20).display().to_string(),
            ),
            ("live", live.url()),
        ];
        let url = rabbit::url(proxy.port(), "guest", "guest", "/");
        let more = format!(
            "{ONLY_VIDEO}\nvideo: {{exchange: {EXCHANGE}}}\ncircuit_breaker: {{max_backoff: 10s}}\n{}",
            http::ON.trim_end()
        );
        Self {
            consumer: Consumer::start(rabbit.port(), EXCHANGE),
            daemon: Daemon::start(&config("soak", &url, &more, &cameras)),
            rabbit,
            proxy,
            rtsp,
            _live: live,
            _films: films,
            joins: BTreeSet::new(),
            units: FIVE.map(|id| (id, vec![])).into(),
            decoded: 0,
            gaps: 0,
        }
    }

    fn take(&mut self) {
        for unit in self.consumer.take() {
            let id = FIVE.into_iter().find(|id| *id == unit.camera_id()).unwrap();
            if self.joins.contains(id) && !is_key(&unit) {
                continue;
            }
            self.joins.remove(id);
            self.units.get_mut(id).unwrap().push(unit);
        }
    }

    fn listen(&mut self) {
        self.take();
        self.consumer = Consumer::start(self.rabbit.port(), EXCHANGE);
        self.joins.extend(FIVE);
    }

    /// Decodes what is whole; at the end also the last runs.
    #[track_caller]
    fn decode(&mut self, all: bool) {
        self.take();
        for units in self.units.values_mut() {
            let mut runs = runs(units);
            let open = if all { None } else { runs.pop() };
            self.gaps += runs.len();
            self.decoded += runs.iter().map(Vec::len).sum::<usize>();
            decode_strictly(&runs);
            *units = open.unwrap_or_default();
        }
    }

    fn endure(&mut self, time: Duration) {
        let until = Instant::now() + time;
        wait_until(time + SOON, "time to pass", || Instant::now() >= until);
    }

    /// Every unit is accounted for at this moment.
    #[track_caller]
    fn account(&self) {
        let state = self.daemon.http().get("/status").json();
        let cameras = state["cameras"].as_array().unwrap();
        assert_eq!(cameras.len(), FIVE.len());
        for camera in cameras {
            let video = &camera["video"];
            let count = |value: &Value| value.as_u64().unwrap();
            let dropped = video["dropped"].as_object().unwrap();
            let dropped: u64 = dropped.values().map(count).sum();
            let (waiting, in_flight) = (count(&video["waiting"]), count(&video["in_flight"]));
            assert_eq!(
                count(&video["captured"]),
                count(&video["published"]) + dropped + in_flight + waiting,
                "{video}"
            );
            // What is in the publisher's hands, and its largest window.
            assert!(in_flight <= 1 + 32, "{video}");
        }
    }

    /// Until a unit that was captured after this has come from each camera.
    #[track_caller]
    fn recover(&mut self) -> Duration {
        let (since, start) = (unix_us(), Instant::now());
        wait_until(RECOVERS, "units of each camera", || {
            if self.consumer.ended() && self.rabbit.is_running() {
                self.listen();
            }
            self.take();
            self.units.values().all(|units| {
                let last = units.last();
                last.is_some_and(|unit| unit.captured_at_us() > since)
            })
        });
        start.elapsed()
    }

    fn fault(&mut self, random: &mut Random) -> String {
        let long = random.seconds(0.5, 12.0);
        let s = long.as_secs_f64();
        match random.below(10) {
            0 | 1 => {
                self.rabbit.freeze();
                self.endure(long);
                self.rabbit.thaw();
                format!("the broker is frozen for {s:.1} s")
            }
            2 => {
                self.rabbit.restart();
                self.listen();
                "the broker is restarted".to_owned()
            }
            3 | 4 => {
                let children = self.daemon.children();
                if !children.is_empty() {
                    let pid = children[random.below(children.len())];
                    let _ = kill_process(pid_of(pid), Signal::KILL);
                }
                "an FFmpeg is killed".to_owned()
            }
            5 => {
                self.proxy.reset();
                "the broker's connection is reset".to_owned()
            }
            6 => {
                let rate = random.one_of(&[50, 100, 200]);
                self.proxy.uplink(rate * 1000);
                self.endure(long);
                self.proxy.pass();
                format!("{rate} kB/s for {s:.1} s")
            }
            7 => {
                self.proxy.pause();
                self.endure(long);
                self.proxy.pass();
                format!("packets vanish for {s:.1} s")
            }
            8 => {
                self.rtsp.kill();
                self.rtsp.start_again();
                "the RTSP cameras restart".to_owned()
            }
            _ => {
                self.daemon.signal(Signal::STOP);
                self.endure(long.min(Duration::from_secs(3)));
                self.daemon.signal(Signal::CONT);
                "the daemon is stopped for up to 3 s".to_owned()
            }
        }
    }
}

#[test]
#[ignore = "make soak-video"]
fn all_video_can_be_decoded_through_random_faults() {
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("SEED").unwrap_or_else(|| clock().as_secs());
    let minutes = number("MINUTES").unwrap_or(1);
    println!("{minutes} minutes, SEED={seed}");
    let mut random = Random(seed);
    let mut farm = Farm::start();
    farm.recover();
    let (begin, length) = (Instant::now(), Duration::from_secs(minutes * 60));
    let (mut round, mut slowest) = (0, Duration::ZERO);
    while begin.elapsed() < length {
        round += 1;
        let fault = farm.fault(&mut random);
        let took = farm.recover();
        slowest = slowest.max(took);
        farm.account();
        farm.decode(false);
        println!(
            "{round:4}  {} KB  {:5.1} s to recover  {:7} units decoded  {fault}",
            farm.daemon.rss_kb(),
            took.as_secs_f64(),
            farm.decoded,
        );
    }
    let exit = farm.daemon.terminate();
    assert_eq!(exit.code(), Some(0));
    exit.report().check_accounting();
    println!("{:?}", exit.report().total.video.as_ref().unwrap());
    farm.decode(true);
    println!(
        "{round} rounds; {} units decoded in {} runs, 0 broken; slowest recovery {:.1} s",
        farm.decoded,
        farm.gaps,
        slowest.as_secs_f64()
    );
}
