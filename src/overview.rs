//! The state of the whole program at this moment, for the status page, the metrics and the log
//! summary.

use crate::amqp::{Link, Scheduler};
use crate::clock::{process_us, span_text};
use crate::config::{AdaptiveQuality, Camera, Config, Pictures};
use crate::frame::Picture;
use crate::handoff::peek::Peek;
use crate::idle::Idleness;
use crate::memory::usage::{Meter, Usage};
use crate::memory::{Pressure, Relief};
use crate::metrics::{CameraMetrics, Metrics, PublisherCounters, VideoAccount};
use crate::quality::{Adaptive, Quality, Reading};
use crate::status::{Activity, Beat, CameraStatus};
use crate::uplink::{self, Say, Totals, Uplink};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A start or one hiccup of the network costs a camera a few frames.
const DROPS_LEAST: u64 = 5;
/// So small a share of the frames, or of the units, is no problem worth a colour or a line in the
/// log. The alert rules in `packaging/` have the same.
const DROPS_SHARE: f64 = 0.05;

/// Whether the share of dropped frames, or units, is a problem of the camera.
pub fn drops_matter(captured: u64, dropped: u64) -> bool {
    dropped >= DROPS_LEAST && dropped as f64 > captured as f64 * DROPS_SHARE
}

/// The main and the HTTP thread give a sign of life every few seconds.
const SILENT_TOO_LONG: Duration = Duration::from_secs(30);

/// All that can be looked at. A new one is made when the cameras change.
#[derive(Debug)]
pub struct Overview {
    /// Since when the program runs.
    pub started: Instant,
    /// In the configuration's order.
    pub cameras: Vec<Arc<View>>,
    /// Ids of the cameras that are configured but not run.
    pub disabled: Vec<Arc<str>>,
    /// The broker connections.
    pub links: Vec<Arc<Link>>,
    /// Of connections that were given up: a counter never goes back.
    reconnects_before: u64,
    /// The brokers, as `host:port`.
    pub brokers: Vec<String>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The main thread's.
    pub beat: Beat,
    /// The HTTP thread's, if there is one.
    pub http_beat: Option<Beat>,
    /// The program is about to end.
    pub stopping: AtomicBool,
    /// How short memory is.
    pub pressure: Arc<Pressure>,
    memory: Meter,
    uplink: Mutex<uplink::Meter>,
    /// If the quality follows the uplink.
    adaptive: Option<Mutex<Adaptive>>,
}

/// One camera, from outside.
#[derive(Debug)]
pub struct View {
    /// As configured.
    pub camera: Arc<Camera>,
    /// Its counters.
    pub metrics: Arc<CameraMetrics>,
    /// What it is doing.
    pub status: Arc<CameraStatus>,
    /// That of its pictures.
    pub quality: Arc<Quality>,
    /// What it gives when memory is short.
    pub relief: Arc<Relief>,
    /// Its pictures.
    pub peek: Arc<Peek<Picture>>,
    /// Whether it has a consumer, if `idle.after` is set.
    pub idleness: Option<Arc<Idleness>>,
    /// Its connection now.
    pub link: Mutex<Arc<Link>>,
    /// The turns of its connection now.
    pub scheduler: Mutex<Arc<Scheduler>>,
}

impl View {
    /// Its connection. It moves to another one when the broker has no channel for it.
    pub fn link(&self) -> Arc<Link> {
        Arc::clone(&self.link.lock())
    }

    /// Whether its frames come. Not while its watchdog has barked and its FFmpeg is being ended.
    pub fn is_up(&self, now: Instant) -> bool {
        let fresh = self.age(now).is_some_and(|age| age < self.stale_timeout());
        fresh && self.status.get().activity == Activity::Live
    }

    /// Older than this, its newest frame or unit shows that something is wrong.
    pub fn stale_timeout(&self) -> Duration {
        self.camera.stale_timeout_if(self.is_idle())
    }

    /// Whether it has no consumer, so that hardly anything is captured.
    pub fn is_idle(&self) -> bool {
        self.status.is_idle()
    }

    /// Whether a frame or unit that reaches no queue is none of its problems.
    pub fn may_be_idle(&self) -> bool {
        self.idleness.is_some()
    }

    /// How old its newest frame or unit is; `None` before the first.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        let last_unit = self.metrics.video.reader.last_unit_us.get();
        match self.metrics.reader.last_frame_us.get().max(last_unit) {
            0 => None,
            at => Some(Duration::from_micros(process_us(now).saturating_sub(at))),
        }
    }

    /// What shows that it is alive. With few pictures or none, the units of its video do.
    pub fn sign_of_life(&self) -> &'static str {
        match self.camera.passthrough && self.camera.pictures != Pictures::All {
            true => "access unit",
            false => "frame",
        }
    }

    /// What it is doing, for people: `live`, `next try in 12 s: connection refused`.
    pub fn words(&self, now: Instant) -> String {
        let status = self.status.get();
        match status.activity {
            Activity::Connecting if status.consecutive_failures == 0 => {
                format!("waiting for its first {}", self.sign_of_life())
            }
            Activity::Live => {
                let frozen = self.frozen_words(now);
                frozen.unwrap_or_else(|| status.words(now))
            }
            _ => status.words(now),
        }
    }

    /// For how long its picture has not changed, while it counts as frozen.
    pub fn frozen_for(&self, now: Instant) -> Option<Duration> {
        let since = self.status.get().frozen_since?;
        Some(now.saturating_duration_since(since))
    }

    /// The same for people: `live, but picture frozen for 40 s`.
    pub fn frozen_words(&self, now: Instant) -> Option<String> {
        let time = self.frozen_for(now)?.as_secs();
        Some(format!(
            "live, but picture frozen for {}",
            span_text(time as f64)
        ))
    }

    fn reading(&self) -> Reading {
        let (reader, publisher) = (&self.metrics.reader, &self.metrics.publisher);
        let (link, scheduler) = (self.link(), self.scheduler.lock());
        let is_live = self.status.get().activity == Activity::Live;
        Reading {
            id: Arc::clone(&self.camera.id),
            quality: (self.quality.configured(), self.quality.now()),
            // Of an idle camera, what the uplink carries says nothing.
            live: is_live && !self.is_idle() && link.connected() && !link.blocked(),
            captured: reader.captured.get(),
            // Not those that came late from the camera.
            lost: reader.overwritten.get() + publisher.too_old.get(),
            bytes: reader.frame_size.read().sum,
            video_bytes: self.metrics.video.reader.bytes.get(),
            connection: Arc::as_ptr(&scheduler).addr(),
            carries: scheduler.rate(),
        }
    }

    /// The account of its units, if its video is passed through.
    pub fn video(&self) -> Option<VideoAccount> {
        let passthrough = self.camera.passthrough;
        passthrough.then(|| self.metrics.video_snapshot())
    }

    /// How old its newest published frame is, or where its units show that it lives, its newest
    /// published frame or unit; `None` before the first. Of a camera that may be idle, one that
    /// reached no queue shows as well that a consumer would get it.
    pub fn published_age(&self, now: Instant) -> Option<Duration> {
        let newest_of = |publisher: &PublisherCounters| {
            let published = publisher.last_published_us.get();
            match self.may_be_idle() {
                true => published.max(publisher.last_returned_us.get()),
                false => published,
            }
        };
        let frame = newest_of(&self.metrics.publisher);
        let unit = newest_of(&self.metrics.video.publisher);
        let newest = match self.camera.pictures {
            Pictures::All => frame,
            Pictures::Keyframes | Pictures::None => frame.max(unit),
        };
        match newest {
            0 => None,
            at => Some(Duration::from_micros(process_us(now).saturating_sub(at))),
        }
    }
}

/// How the broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Connections that are up.
    pub connected: usize,
    /// All connections.
    pub connections: usize,
    /// Connections on which the broker has blocked publishing.
    pub blocked: usize,
    /// Connections made again.
    pub reconnects: u64,
    /// Why the first that is down is down.
    pub why_down: Option<String>,
}

impl Broker {
    /// Whether every connection is up.
    pub fn is_connected(&self) -> bool {
        self.connected == self.connections
    }

    /// `connected`, `blocked` or `not connected`.
    pub fn word(&self) -> &'static str {
        match (self.is_connected(), self.blocked) {
            (true, 0) => "connected",
            (true, _) => "blocked",
            (false, _) => "not connected",
        }
    }
}

impl Overview {
    /// Of these cameras and connections, in a program that runs since `started`.
    pub fn new(
        config: &Config,
        mut cameras: Vec<Arc<View>>,
        links: Vec<Arc<Link>>,
        metrics: Arc<Metrics>,
        pressure: Arc<Pressure>,
        started: Instant,
    ) -> Self {
        let ids: Vec<_> = config.cameras.iter().map(|camera| &camera.id).collect();
        cameras.sort_by_key(|view| ids.iter().position(|id| **id == view.camera.id));
        let disabled = config.cameras.iter().filter(|camera| !camera.enabled);
        let endpoints = config.amqp.endpoints.iter();
        let AdaptiveQuality { enabled, max } = config.adaptive_quality;
        let adaptive = enabled.then(|| Adaptive::new(max, Instant::now()));
        Self {
            started,
            disabled: disabled.map(|camera| Arc::clone(&camera.id)).collect(),
            brokers: endpoints.map(ToString::to_string).collect(),
            cameras,
            links,
            reconnects_before: 0,
            metrics,
            beat: Beat::default(),
            http_beat: config.http.enabled.then(Beat::default),
            stopping: AtomicBool::new(false),
            pressure,
            memory: Meter::new(&config.memory_controller),
            uplink: Mutex::new(uplink::Meter::new(Instant::now())),
            adaptive: adaptive.map(Mutex::new),
        }
    }

    /// In the place of `before`.
    pub fn after(mut self, before: &Self) -> Self {
        let stays = |link: &Arc<Link>| self.links.iter().any(|it| Arc::ptr_eq(it, link));
        let gone = before.links.iter().filter(|link| !stays(link));
        let reconnects: u64 = gone.map(|link| link.reconnects()).sum();
        self.reconnects_before = before.reconnects_before + reconnects;
        self.uplink = Mutex::new(*before.uplink.lock());
        if let (Some(adaptive), Some(before)) = (&self.adaptive, &before.adaptive) {
            adaptive.lock().clone_from(&before.lock());
        }
        self
    }

    /// Cameras that are live.
    pub fn live(&self) -> usize {
        let is_live = |view: &&Arc<View>| view.status.get().activity == Activity::Live;
        self.cameras.iter().filter(is_live).count()
    }

    /// Which of our own loops has not turned for so long that it must hang, if one has not. A dead
    /// camera or broker is none of its business.
    pub fn hung(&self, now: Instant) -> Option<(&'static str, Duration)> {
        let http = self.http_beat.as_ref().map(|beat| ("http", beat));
        [("main", &self.beat)]
            .into_iter()
            .chain(http)
            .map(|(name, beat)| (name, beat.silent_for(now)))
            .find(|(_, silent)| *silent > SILENT_TOO_LONG)
    }

    /// The camera of that id.
    pub fn camera(&self, id: &str) -> Option<usize> {
        self.cameras.iter().position(|view| &*view.camera.id == id)
    }

    /// How the broker is.
    pub fn broker(&self) -> Broker {
        let count = |is: fn(&Link) -> bool| self.links.iter().filter(|link| is(link)).count();
        let down = self.links.iter().find(|link| !link.connected());
        Broker {
            connected: count(Link::connected),
            connections: self.links.len(),
            blocked: count(Link::blocked),
            reconnects: self.reconnects_before
                + self.links.iter().map(|link| link.reconnects()).sum::<u64>(),
            why_down: down.map(|link| {
                let why = link.why_down();
                why.unwrap_or_else(|| "connecting to the broker".to_owned())
            }),
        }
    }

    /// What the broker refuses of the first camera of which it refuses something:
    /// `gate: the broker refuses exchange "x": ...`.
    pub fn refused(&self) -> Option<String> {
        self.cameras.iter().find_map(|view| {
            let why = view.status.get().refused?;
            Some(format!("{}: {why}", view.camera.id))
        })
    }

    /// How the uplink is, as the main thread measured it last.
    pub fn uplink(&self) -> Uplink {
        self.uplink.lock().uplink()
    }

    /// When the uplink is to be measured next.
    pub fn uplink_due(&self) -> Instant {
        self.uplink.lock().due()
    }

    /// For the main thread: measures the uplink, and returns what is to be said of it.
    pub fn measure_uplink(&self, now: Instant) -> Option<Say> {
        let sum = |bytes: fn(&View) -> u64| self.cameras.iter().map(|view| bytes(view)).sum();
        let waited = self
            .cameras
            .iter()
            .map(|view| view.scheduler.lock().waited(now));
        let totals = Totals {
            offered: sum(|view| {
                view.metrics.reader.frame_size.read().sum + view.metrics.video.reader.bytes.get()
            }),
            carried: sum(|view| {
                view.metrics.publisher.published_bytes.get()
                    + view.metrics.video.publisher.published_bytes.get()
            }),
            waited: waited.max().unwrap_or_default(),
        };
        self.uplink.lock().measure(totals, now)
    }

    /// Whether the quality of pictures follows the uplink.
    pub fn adapts_quality(&self) -> bool {
        self.adaptive.is_some()
    }

    /// For the main thread, after each measurement of the uplink: changes the quality of one
    /// camera's pictures if that is due, and returns the camera and what is to be said.
    pub fn adapt_quality(&self, now: Instant) -> Option<(&View, String)> {
        let readings: Vec<_> = self.cameras.iter().map(|it| it.reading()).collect();
        let step = self.adaptive.as_ref()?.lock().look(&readings, now)?;
        let view = self.cameras.get(step.camera)?;
        view.quality.set(step.to);
        Some((view, step.words()))
    }

    /// Whether the program is about to end.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Memory in RAM, with the cameras' FFmpegs in their order; not older than a second.
    pub fn memory(&self) -> Usage {
        self.memory.recent(self.ffmpegs())
    }

    /// The same, read again.
    pub fn memory_now(&self) -> Usage {
        self.memory.read(self.ffmpegs())
    }

    fn ffmpegs(&self) -> impl Iterator<Item = u64> {
        let cameras = self.cameras.iter();
        cameras.map(|view| view.metrics.reader.ffmpeg_pid.get())
    }
}

#[cfg(test)]
impl Overview {
    /// Of the cameras in `config_yaml`, none of which runs; those that are in `old` are kept.
    pub(crate) fn for_test(config_yaml: &str, old: &[Arc<View>]) -> Self {
        use crate::handoff::peek::PollWaker;
        use crate::handoff::pool::Pool;

        const TIMEOUT: Duration = Duration::from_secs(1);
        let config = Config::parse(config_yaml, "", &|_| None).unwrap().config;
        let link = Arc::new(Link::new(TIMEOUT, TIMEOUT));
        let waker = Arc::new(PollWaker::new().unwrap());
        let view = |camera: &Camera| {
            Arc::new(View {
                camera: Arc::new(camera.clone()),
                metrics: Arc::default(),
                status: Arc::default(),
                quality: Arc::new(Quality::new(camera.quality)),
                relief: Arc::new(Relief::new(Arc::default(), Pool::new(), None)),
                peek: Arc::new(Peek::new(Arc::clone(&waker))),
                idleness: camera.idle.after.map(Idleness::new),
                link: Mutex::new(Arc::clone(&link)),
                scheduler: Mutex::new(Scheduler::new(true, TIMEOUT)),
            })
        };
        let views = config.cameras.iter().map(|camera| {
            let known = old.iter().find(|view| view.camera.id == camera.id);
            known.map_or_else(|| view(camera), Arc::clone)
        });
        Self::new(
            &config,
            views.collect(),
            vec![Arc::clone(&link)],
            Arc::default(),
            Arc::default(),
            Instant::now(),
        )
    }
}
