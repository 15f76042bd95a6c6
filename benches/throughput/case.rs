//! The cases, the programs that run them, and one measured run.

use super::consumer::{Arrival, Consumer};
use super::process::{Broker, Process, Usage, holds_within};
use super::{floor, load, stamp};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// One load.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// Its name in the results: `a`, `b`, ...
    pub name: &'static str,
    pub cameras: usize,
    /// Frames/s of each camera. Above [`CAMERA_FPS`] it is no camera's rate, but more than any
    /// program carries.
    pub fps: u32,
    pub picture_kb: u32,
    /// Access units of H.264 instead of pictures, one for each frame.
    pub units: bool,
    /// Length of the measurement.
    pub span: Duration,
    /// The broker is frozen for this time meanwhile.
    pub freeze: Option<Duration>,
    pub programs: &'static [Program],
    pub rounds: usize,
}

/// The highest rate of a camera.
pub const CAMERA_FPS: u32 = 60;

impl Case {
    /// Whether the program's own speed is measured.
    pub fn unpaced(&self) -> bool {
        self.fps > CAMERA_FPS
    }
}

/// A program that carries the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    EdgeVideo,
    Ffmpeg,
    Pika,
    FloorInThreads,
    Floor,
    EdgeVideoTls,
    FloorTls,
}

impl Program {
    pub fn name(self) -> &'static str {
        match self {
            Self::EdgeVideo => "Edge Video",
            Self::Ffmpeg => "FFmpeg -c copy amqp://",
            Self::Pika => "Python, pika",
            Self::FloorInThreads => "floor, in three threads",
            Self::Floor => "floor",
            Self::EdgeVideoTls => "Edge Video, TLS",
            Self::FloorTls => "floor, TLS",
        }
    }

    /// What its figures are compared with.
    pub fn floor(self) -> Self {
        match self {
            Self::EdgeVideoTls | Self::FloorTls => Self::FloorTls,
            _ => Self::Floor,
        }
    }
}

/// The results of one run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    pub cpu_s_per_1000: f64,
    pub rss_mb: f64,
    pub threads: f64,
    pub delivered_per_s: f64,
    /// Share of what the cameras sent; 0..1.
    pub delivered_share: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    /// Frames that arrived more than 1 s old after a freeze.
    pub old: f64,
    /// Seconds until every camera's first picture arrived.
    pub start_s: f64,
    /// Seconds from SIGTERM until the program ended.
    pub stop_s: f64,
    /// Largest growth of memory during a freeze.
    pub rss_growth_mb: f64,
}

/// Shared by all runs.
pub struct Stand {
    pub broker: Broker,
    /// For the pictures and configurations.
    pub folder: PathBuf,
    /// The processors of the measured program.
    pub cpus: Option<&'static str>,
    /// Those of the load.
    pub load_cpus: Option<&'static str>,
    pub edge_video: String,
    pub ourselves: String,
    pub more_config: String,
}

/// Limit of the time until every camera's first picture arrives.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Wait after that, until the queues of the start are empty.
const SETTLE: Duration = Duration::from_millis(700);

impl Stand {
    /// Runs `case` with `program` once.
    pub fn run(&self, case: &Case, program: Program) -> Figures {
        static RUNS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let run = RUNS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let exchange = format!("bench-{run}");
        let consumer = Consumer::start(self.broker.port, &exchange);
        let started = Instant::now();
        let processes = self.start(case, program, &exchange);
        let up = holds_within(START_LIMIT, || consumer.cameras() == case.cameras);
        if !up {
            let came = consumer.cameras();
            let said: String = processes.into_iter().map(Process::terminate).collect();
            panic!("{case:?}, {program:?}: {came} cameras came up; it says: {said}");
        }
        let start_s = started.elapsed().as_secs_f64();
        std::thread::sleep(SETTLE);
        let mut figures = match case.freeze {
            None => measure(case, &consumer, &processes),
            Some(freeze) => self.freeze(freeze, &consumer, &processes),
        };
        figures.start_s = start_s;
        if matches!(program, Program::EdgeVideo | Program::EdgeVideoTls) {
            let stopping = Instant::now();
            let said: Vec<_> = processes.into_iter().map(Process::terminate).collect();
            figures.stop_s = stopping.elapsed().as_secs_f64();
            std::fs::write(self.folder.join("edge-video.log"), said.concat()).unwrap();
        }
        figures
    }

    fn start(&self, case: &Case, program: Program, exchange: &str) -> Vec<Process> {
        let content = match case.units {
            false => format!("file={}", self.picture(case.picture_kb)),
            true => format!("unit={}", case.picture_kb * 1000),
        };
        let inputs: Vec<_> = (0..case.cameras)
            .map(|n| load::input(n, case.cameras, case.fps, self.load_cpus, &content))
            .collect();
        let Broker {
            port,
            tls_port,
            certificate,
            ..
        } = &self.broker;
        let cpus = self.cpus;
        let ourselves = &self.ourselves;
        let floor = |port, kind| {
            let args = floor::arguments(port, exchange, kind, &inputs);
            vec![Process::start(ourselves, &args, cpus)]
        };
        match program {
            Program::EdgeVideo | Program::EdgeVideoTls => {
                let amqp = match program {
                    Program::EdgeVideoTls => format!(
                        "  url: amqps://127.0.0.1:{tls_port}/\n  tls: {{ca_file: {certificate}}}\n"
                    ),
                    _ => format!("  url: amqp://127.0.0.1:{port}/\n"),
                };
                let config = self.configuration(case, &amqp, exchange, &inputs);
                let args = ["run", "--config", &config].map(str::to_owned);
                vec![Process::start(&self.edge_video, &args, cpus)]
            }
            Program::Floor => floor(*port, floor::Kind::Plain),
            Program::FloorInThreads => floor(*port, floor::Kind::InThreads),
            Program::FloorTls => floor(*tls_port, floor::Kind::Tls(certificate)),
            Program::Pika => {
                let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peer_pika.py");
                let mut args = vec![script.to_owned(), port.to_string(), exchange.to_owned()];
                args.push(ourselves.clone());
                args.extend(inputs);
                vec![Process::start("/usr/bin/python3", &args, cpus)]
            }
            Program::Ffmpeg => inputs
                .iter()
                .enumerate()
                .map(|(n, input)| {
                    let args = format!(
                        "-hide_banner -loglevel error -fflags nobuffer -probesize 32 -analyzeduration 0 \
                         -f mpjpeg -i pipe:0 -c copy -f mjpeg -flush_packets 1 -pkt_size 4000000 \
                         -exchange {exchange} -routing_key camera.{n} amqp://guest:guest@127.0.0.1:{port}"
                    );
                    let args: Vec<_> = args.split_whitespace().map(str::to_owned).collect();
                    let feeder = ["-i".to_owned(), input.clone()];
                    Process::start_fed("ffmpeg", &args, cpus, Some((ourselves, &feeder)))
                })
                .collect(),
        }
    }

    /// `amqp` is where the broker is.
    fn configuration(&self, case: &Case, amqp: &str, exchange: &str, inputs: &[String]) -> String {
        // The highest value that can be configured; the load exceeds it.
        let fps = case.fps.clamp(1, CAMERA_FPS);
        // The automatic window follows the configured fps, which is far below this load.
        let unpaced = if case.unpaced() {
            "  max_in_flight: 32\n"
        } else {
            ""
        };
        // The consumer is to get the units only.
        let (pictures, units) = match case.units {
            false => (exchange.to_owned(), String::new()),
            true => (
                format!("{exchange}-pictures"),
                format!("passthrough: true\npictures: none\nvideo: {{exchange: {exchange}}}\n"),
            ),
        };
        let mut config = format!(
            "fps: {fps}\n{units}amqp:\n{amqp}  exchange: {pictures}\n{}\
{unpaced}ffmpeg:\n  path: {}\nhttp:\n  enabled: false\nlog:\n  level: warn\ncameras:\n",
            self.more_config, self.ourselves,
        );
        for (n, input) in inputs.iter().enumerate() {
            config += &format!("  - {{id: camera{n}, url: \"lavfi:{input}\"}}\n");
        }
        let path = self.folder.join("config.yaml");
        std::fs::write(&path, config).unwrap();
        path.display().to_string()
    }

    /// A JPEG of nearly that size, made once.
    fn picture(&self, kb: u32) -> String {
        let path = self.folder.join(format!("{kb}-kb.jpg"));
        if !path.exists() {
            make_picture(&path, kb);
        }
        path.display().to_string()
    }

    fn freeze(&self, freeze: Duration, consumer: &Consumer, processes: &[Process]) -> Figures {
        let before: Usage = processes.iter().map(Process::usage).sum();
        consumer.take();
        self.broker.signal(Signal::STOP);
        let (until, mut most) = (Instant::now() + freeze, before.rss_kb);
        while Instant::now() < until {
            std::thread::sleep(Duration::from_millis(200));
            most = most.max(processes.iter().map(Process::usage).sum::<Usage>().rss_kb);
        }
        consumer.take();
        self.broker.signal(Signal::CONT);
        std::thread::sleep(Duration::from_secs(4));
        most = most.max(processes.iter().map(Process::usage).sum::<Usage>().rss_kb);
        let arrivals = consumer.take();
        let old = arrivals
            .iter()
            .filter(|arrival| arrival.age_us() > 1_000_000)
            .count();
        Figures {
            old: old as f64,
            rss_mb: before.rss_kb as f64 / 1024.0,
            rss_growth_mb: (most - before.rss_kb) as f64 / 1024.0,
            threads: before.threads as f64,
            ..Figures::default()
        }
    }
}

fn measure(case: &Case, consumer: &Consumer, processes: &[Process]) -> Figures {
    consumer.take();
    let (began, start) = (stamp::now_us(), Instant::now());
    let before: Usage = processes.iter().map(Process::usage).sum();
    std::thread::sleep(case.span);
    let after: Usage = processes.iter().map(Process::usage).sum();
    let (ended, span) = (stamp::now_us(), start.elapsed());
    let arrivals = consumer.take();
    let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
    let arrivals: Vec<_> = arrivals
        .iter()
        .filter(|a| a.at >= began && a.at < ended)
        .collect();
    let [p50_ms, p99_ms, max_ms] = ages_ms(&arrivals);
    Figures {
        cpu_s_per_1000: cpu * 1000.0 / arrivals.len() as f64,
        rss_mb: after.rss_kb as f64 / 1024.0,
        threads: after.threads as f64,
        delivered_per_s: arrivals.len() as f64 / span.as_secs_f64(),
        delivered_share: delivered_share(&arrivals),
        p50_ms,
        p99_ms,
        max_ms,
        ..Figures::default()
    }
}

/// Median, 99th percentile and maximum.
pub fn ages_ms(arrivals: &[&Arrival]) -> [f64; 3] {
    let mut ages: Vec<_> = arrivals.iter().map(|arrival| arrival.age_us()).collect();
    ages.sort_unstable();
    [0.5, 0.99, 1.0].map(|share| {
        let last = ages.len().saturating_sub(1);
        ages.get((last as f64 * share).round() as usize)
            .map_or(f64::NAN, |&us| us as f64 / 1e3)
    })
}

/// From the numbers in the cameras' pictures.
pub fn delivered_share(arrivals: &[&Arrival]) -> f64 {
    let mut cameras: BTreeMap<u32, (u32, u32, u32)> = BTreeMap::new();
    for arrival in arrivals {
        let number = arrival.stamp.number;
        let (first, last, count) = cameras
            .entry(arrival.stamp.camera)
            .or_insert((number, number, 0));
        *first = number.min(*first);
        *last = number.max(*last);
        *count += 1;
    }
    let came: u32 = cameras.values().map(|(_, _, count)| count).sum();
    let made: u32 = cameras
        .values()
        .map(|(first, last, _)| last - first + 1)
        .sum();
    f64::from(came) / f64::from(made)
}

/// Tries FFmpeg's quantisers until the size fits best.
fn make_picture(path: &Path, kb: u32) {
    let size = if kb > 150 { "1920x1080" } else { "1280x720" };
    let mut best: Option<(u64, Vec<u8>)> = None;
    for quality in 2..=31 {
        let source = format!("testsrc2=size={size},noise=alls=12");
        let output = Command::new("ffmpeg")
            .args([
                "-hide_banner",
                "-loglevel",
                "error",
                "-f",
                "lavfi",
                "-i",
                &source,
            ])
            .args([
                "-frames:v",
                "1",
                "-q:v",
                &quality.to_string(),
                "-f",
                "mjpeg",
                "pipe:1",
            ])
            .output()
            .unwrap();
        let jpeg = output.stdout;
        let off = (jpeg.len() as u64).abs_diff(u64::from(kb) * 1000);
        if best.as_ref().is_none_or(|(least, _)| off < *least) {
            best = Some((off, jpeg));
        }
    }
    std::fs::write(path, best.unwrap().1).unwrap();
}
