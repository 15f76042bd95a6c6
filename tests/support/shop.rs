//! Cameras behind an uplink that is too slow for them, and what arrives.

use super::consumer::Consumer;
use super::daemon::{Account, Daemon};
use super::http::{ON, values};
use super::proxy::Proxy;
use super::rabbit::Rabbit;
use super::tls::Tls;
use super::{SOON, TempDir, fake_config, free_port};
use std::time::{Duration, Instant};

/// Each way.
const DELAY: Duration = Duration::from_millis(20);

/// What is to be started.
pub struct Shop<'a> {
    /// Id, frames per second, bytes of a frame.
    pub cameras: &'a [(String, u32, u32)],
    /// Bytes per second.
    pub uplink: u32,
    pub tls: bool,
}

/// What arrived in a span of time.
#[derive(Debug)]
pub struct Measured {
    pub p50: Duration,
    pub p99: Duration,
    /// Bytes per second.
    pub goodput: f64,
    /// Of each camera.
    pub bytes: Vec<f64>,
    /// Since the start.
    pub reconnects: usize,
    /// Since the start.
    pub unknown: u64,
    /// What the log has said of the uplink since the start.
    pub said: Vec<String>,
    /// The longest time that this machine kept a thread from running; ages are compared with it.
    pub stall: Duration,
}

impl Measured {
    /// Jain's index of the bytes: 1 if all cameras have the same.
    pub fn fairness(&self) -> f64 {
        let sum: f64 = self.bytes.iter().sum();
        let squares: f64 = self.bytes.iter().map(|it| it * it).sum();
        sum * sum / (squares * self.bytes.len() as f64)
    }
}

/// A running one.
pub struct Open<'a> {
    cameras: &'a [(String, u32, u32)],
    daemon: Daemon,
    consumer: Consumer,
    pub proxy: Proxy,
    _rabbit: Rabbit,
    _dir: TempDir,
}

/// This many equal cameras.
pub fn equal(count: usize, fps: u32, bytes: u32) -> Vec<(String, u32, u32)> {
    let camera = |n| (format!("cam{n}"), fps, bytes);
    (1..=count).map(camera).collect()
}

impl<'a> Shop<'a> {
    /// Starts, and measures after the first five seconds, for this time.
    pub fn measure(&self, lasts: Duration) -> Measured {
        let open = self.open();
        let measured = open.measure(lasts);
        open.close();
        measured
    }

    /// Starts, and waits for the first five seconds.
    pub fn open(&self) -> Open<'a> {
        let dir = TempDir::new("uplink");
        let tls_port = free_port();
        let certificates = self.tls.then(|| Tls::new(dir.path()));
        let rabbit = match &certificates {
            Some(certificates) => Rabbit::start_with(&certificates.rabbit_config(tls_port)),
            None => Rabbit::start(),
        };
        let proxy = Proxy::start(if self.tls { tls_port } else { rabbit.port() });
        proxy.delay(DELAY);
        proxy.uplink(self.uplink);
        let scheme = if self.tls { "amqps" } else { "amqp" };
        let url = format!("{scheme}://guest:guest@127.0.0.1:{}/", proxy.port());
        let cameras: Vec<_> = self
            .cameras
            .iter()
            .map(|(id, fps, size)| {
                let play = format!("stream,traps=0,fps={fps},size={size},tag={id}");
                (id.as_str(), play)
            })
            .collect();
        let mut config = fake_config(&url, "uplink", ON, &cameras);
        for (id, fps, _) in self.cameras {
            config = config.replacen(
                &format!("{{id: {id},"),
                &format!("{{id: {id}, fps: {fps},"),
                1,
            );
        }
        if let Some(certificates) = &certificates {
            let ca = format!(
                "amqp:\n  tls: {{ca_file: {}}}\n",
                certificates.path("ca.pem")
            );
            config = config.replacen("amqp:\n", &ca, 1);
        }
        let consumer = Consumer::start_with(rabbit.port(), "uplink", "#", false);
        let daemon = Daemon::start(&config);
        daemon.wait_for_log("connected to broker", SOON);
        std::thread::sleep(Duration::from_secs(5));
        Open {
            cameras: self.cameras,
            daemon,
            consumer,
            proxy,
            _rabbit: rabbit,
            _dir: dir,
        }
    }
}

impl Open<'_> {
    /// From now on, for so long.
    pub fn measure(&self, lasts: Duration) -> Measured {
        self.consumer.take();
        let from = Instant::now();
        let stall = watch_the_machine(lasts);
        let (frames, took) = (self.consumer.take(), from.elapsed().as_secs_f64());
        let metrics = self.daemon.http().get("/metrics").text().to_owned();
        let reconnects = values(&metrics, "edge_video_broker_reconnects_total");
        let dropped = values(&metrics, "edge_video_frames_dropped_total");
        let unknown = dropped.iter().filter(|it| it.0.contains("unknown"));
        let unknown = unknown.map(|it| *it.1 as u64).sum();
        let mut ages: Vec<_> = frames.iter().map(|frame| frame.age()).collect();
        ages.sort();
        let of = |id: &str| {
            let own = frames.iter().filter(|frame| frame.camera_id() == id);
            own.map(|frame| frame.len as f64).sum::<f64>()
        };
        let bytes: Vec<_> = self.cameras.iter().map(|camera| of(&camera.0)).collect();
        Measured {
            p50: ages[ages.len() / 2],
            p99: ages[ages.len() * 99 / 100],
            goodput: bytes.iter().sum::<f64>() / took,
            bytes,
            reconnects: reconnects.values().sum::<f64>() as usize,
            unknown,
            said: self.daemon.log_with("  the uplink "),
            stall,
        }
    }

    /// The memory of the daemon, kB.
    pub fn rss_kb(&self) -> u64 {
        self.daemon.rss_kb()
    }

    /// Ends it and checks the accounting.
    pub fn close(mut self) -> Account {
        let exit = self.daemon.terminate();
        exit.report().check_accounting();
        exit.report().total.clone()
    }
}

/// Sleeps for this time in short steps; returns by how much the longest step was late.
fn watch_the_machine(lasts: Duration) -> Duration {
    let (start, nap) = (Instant::now(), Duration::from_millis(2));
    let mut longest = Duration::ZERO;
    while start.elapsed() < lasts {
        let before = Instant::now();
        std::thread::sleep(nap);
        longest = longest.max(before.elapsed().saturating_sub(nap));
    }
    longest
}
