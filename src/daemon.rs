//! The daemon: builds all that can fail, starts the threads in the only scope, and stops them in the
//! order in which frames flow.

use crate::breaker::Breaker;
use crate::capture::ffmpeg::Ffmpeg;
use crate::capture::{Hosts, Reader};
use crate::config::{Camera, Config};
use crate::handoff::mailbox::mailbox;
use crate::handoff::peek::{Bell, Peek};
use crate::handoff::pool::Pool;
use crate::http;
use crate::logging;
use crate::metrics::{Account, CameraMetrics, Metrics};
use crate::overview::{Overview, View};
use crate::publish::Publisher;
use crate::publish::connection::Owner;
use crate::publish::link::Link;
use crate::shutdown::Stop;
use crate::status::CameraStatus;
use crate::summary::Summary;
use crossbeam_channel::{Receiver, Sender, unbounded};
use serde::Serialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{Builder, Scope};
use std::time::{Duration, Instant};

/// Our threads need little: the deepest calls are a log line and amiquip's serialiser. The default of
/// 2 MiB is only reserved, but 400 of them are a lot to a 32-bit board.
const STACK_BYTES: usize = 256 * 1024;

/// How long the readers may take to end: FFmpeg's grace, its kill, and a busy board.
const READERS_TIMEOUT: Duration = Duration::from_millis(1500);
/// How long the publishers may then wait for the last confirms.
const PUBLISHERS_TIMEOUT: Duration = Duration::from_millis(800);
/// How long whoever is left may take after its connection was cut.
const CUT_TIMEOUT: Duration = Duration::from_millis(300);

/// The main thread looks after its duties at least this often, as its sign of life.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// A worker that panics is started again after this, so that a panic in a loop does not spin.
const PANIC_PAUSE: Duration = Duration::from_secs(1);
/// So many panics of one worker within [`PANIC_PERIOD`], and it is beyond repair.
const PANICS_MAX: usize = 5;
const PANIC_PERIOD: Duration = Duration::from_secs(600);

/// How the daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// By a signal.
    Stopped,
    /// A worker panicked beyond repair.
    Panicked,
}

impl Outcome {
    /// For `exit(3)`: 0, or 70 (EX_SOFTWARE of sysexits.h), upon which systemd starts us again.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Stopped => 0,
            Self::Panicked => 70,
        }
    }
}

/// Runs until a signal ends it.
///
/// # Errors
/// When descriptors, threads or signal handlers cannot be had.
pub fn run(config: &Config) -> io::Result<Outcome> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let plan = Plan::new(config)?;
    let metrics = Arc::clone(&plan.metrics);
    let brokers: Vec<_> = config
        .amqp
        .endpoints
        .iter()
        .map(ToString::to_string)
        .collect();
    log::info!(
        "edge-video {}: cameras: {}; broker: {}; connections to it: {}",
        env!("CARGO_PKG_VERSION"),
        metrics.cameras.len(),
        brokers.join(", "),
        plan.links.len(),
    );
    let outcome = std::thread::scope(|scope| {
        let (heard, events) = unbounded();
        let signals_end = signals.handle();
        let signal_events = heard.clone();
        Builder::new()
            .name("signals".into())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, move || {
                for signal in signals.forever() {
                    let _ = signal_events.send(Event::Signal(signal));
                }
            })?;
        let outcome = plan
            .start(scope, &heard)
            .map(|mut running| running.supervise(&events));
        signals_end.close();
        outcome
    });
    metrics.close_books();
    report(&metrics);
    outcome
}

/// What the main thread hears.
#[derive(Debug)]
enum Event {
    Signal(i32),
    /// A thread has ended.
    Ended(Role, String),
    /// A thread panicked beyond repair.
    Broken(String),
}

/// Threads by the order in which they are stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Reader,
    Publisher,
    Owner,
    Http,
}

/// Everything that the threads need, built before the first starts.
struct Plan {
    readers: Vec<Reader>,
    publishers: Vec<Publisher>,
    owners: Vec<Owner>,
    server: Option<http::Server>,
    overview: Arc<Overview>,
    summary: Option<Duration>,
    links: Vec<Arc<Link>>,
    metrics: Arc<Metrics>,
    stop_readers: Arc<Stop>,
    stop_owners: Arc<Stop>,
    stop_http: Arc<Stop>,
}

impl Plan {
    fn new(config: &Config) -> io::Result<Self> {
        let cameras: Vec<_> = config
            .cameras
            .iter()
            .filter(|camera| camera.enabled)
            .collect();
        let amqp = Arc::new(config.amqp.clone());
        let ffmpeg = Arc::new(Ffmpeg::new(config.ffmpeg_path.clone()));
        let hosts = Arc::new(Hosts::default());
        let (stop_readers, stop_owners, stop_http) = (Stop::new()?, Stop::new()?, Stop::new()?);
        let listener = match config.http.enabled {
            true => Some(http::listen(&config.http)?),
            false => None,
        };
        let (bell, mut views) = (Arc::new(Bell::new()?), vec![]);
        let mut metrics = Metrics::default();
        let (mut readers, mut publishers, mut owners) = (vec![], vec![], vec![]);
        for group in spread(&cameras, amqp.connections) {
            let link = Arc::new(Link::new(
                group.len(),
                amqp.connect_timeout,
                amqp.confirm_timeout,
            ));
            let (requests, asked) = unbounded();
            let mut controls = vec![];
            for (number, camera) in group.into_iter().enumerate() {
                let camera = Arc::new(camera.clone());
                let books = Arc::new(CameraMetrics::default());
                let (status, peek) = (
                    Arc::new(CameraStatus::default()),
                    Arc::new(Peek::new(Arc::clone(&bell))),
                );
                views.push(View {
                    camera: Arc::clone(&camera),
                    metrics: Arc::clone(&books),
                    status: Arc::clone(&status),
                    peek: Arc::clone(&peek),
                    link: Arc::clone(&link),
                });
                let (frames, mailbox) = mailbox();
                let (tell, control) = unbounded();
                controls.push(tell);
                metrics
                    .cameras
                    .push((Arc::clone(&camera.id), Arc::clone(&books)));
                readers.push(Reader {
                    camera: Arc::clone(&camera),
                    ffmpeg: Arc::clone(&ffmpeg),
                    hosts: Arc::clone(&hosts),
                    stop: Arc::clone(&stop_readers),
                    mailbox: frames,
                    peek,
                    pool: Pool::new(),
                    metrics: Arc::clone(&books),
                    status,
                    breaker: Breaker::new(&config.circuit_breaker),
                    max_frame_bytes: config.max_frame_bytes,
                    last_epoch: 0,
                });
                publishers.push(Publisher {
                    camera,
                    amqp: Arc::clone(&amqp),
                    mailbox,
                    metrics: books,
                    link: Arc::clone(&link),
                    number,
                    requests: requests.clone(),
                    control,
                });
            }
            owners.push(Owner {
                link,
                amqp: Arc::clone(&amqp),
                requests: asked,
                wanted: vec![false; controls.len()],
                publishers: controls,
                stop: Arc::clone(&stop_owners),
                preferred: 0,
            });
        }
        let links: Vec<_> = owners.iter().map(|owner| Arc::clone(&owner.link)).collect();
        let metrics = Arc::new(metrics);
        let overview = Overview::new(config, views, links.clone(), Arc::clone(&metrics));
        let overview = Arc::new(overview);
        let server = listener.map(|listener| {
            let (overview, stop) = (Arc::clone(&overview), Arc::clone(&stop_http));
            http::Server::new(listener, &config.http, overview, bell, stop)
        });
        Ok(Self {
            server: server.transpose()?,
            overview,
            summary: config.log.summary,
            links,
            metrics,
            readers,
            publishers,
            owners,
            stop_readers,
            stop_owners,
            stop_http,
        })
    }

    /// Starts all threads. When one cannot be had, those that run are stopped again.
    fn start<'scope>(
        self,
        scope: &'scope Scope<'scope, '_>,
        events: &Sender<Event>,
    ) -> io::Result<Running> {
        let mut running = Running {
            outcome: Outcome::Stopped,
            alive: vec![],
            overview: self.overview,
            summary: self
                .summary
                .map(|every| Summary::new(every, Instant::now())),
            links: self.links,
            metrics: self.metrics,
            stop_readers: self.stop_readers,
            stop_owners: self.stop_owners,
            stop_http: self.stop_http,
        };
        let started = (|| {
            if let Some(mut server) = self.server {
                log::info!("status page: http://{}/", server.address());
                running.spawn(scope, events, Role::Http, "http".to_owned(), move || {
                    server.run()
                })?;
            }
            for (n, mut owner) in self.owners.into_iter().enumerate() {
                running.spawn(scope, events, Role::Owner, format!("amqp-{n}"), move || {
                    owner.run()
                })?;
            }
            for mut publisher in self.publishers {
                let name = format!("pub-{}", publisher.camera.id);
                running.spawn(scope, events, Role::Publisher, name, move || {
                    publisher.run()
                })?;
            }
            for mut reader in self.readers {
                let name = format!("read-{}", reader.camera.id);
                running.spawn(scope, events, Role::Reader, name, move || reader.run())?;
            }
            Ok(())
        })();
        if started.is_err() {
            running.stop_readers.request();
            running.stop_owners.request();
            running.stop_http.request();
            running.cut();
        }
        started.map(|()| running)
    }
}

/// The cameras by connection: so many connections, or one for each camera when 0.
fn spread<'a>(cameras: &[&'a Camera], connections: usize) -> Vec<Vec<&'a Camera>> {
    let connections = match connections {
        0 => cameras.len(),
        n => n.min(cameras.len()),
    };
    let mut groups = vec![vec![]; connections];
    for (n, camera) in cameras.iter().enumerate() {
        if let Some(group) = groups.get_mut(n % connections) {
            group.push(*camera);
        }
    }
    groups
}

/// The threads at work.
struct Running {
    outcome: Outcome,
    alive: Vec<(Role, String)>,
    overview: Arc<Overview>,
    summary: Option<Summary>,
    links: Vec<Arc<Link>>,
    metrics: Arc<Metrics>,
    stop_readers: Arc<Stop>,
    stop_owners: Arc<Stop>,
    stop_http: Arc<Stop>,
}

impl Running {
    fn spawn<'scope>(
        &mut self,
        scope: &'scope Scope<'scope, '_>,
        events: &Sender<Event>,
        role: Role,
        name: String,
        work: impl FnMut() + Send + 'scope,
    ) -> io::Result<()> {
        let worker = Worker {
            name: name.clone(),
            role,
            events: events.clone(),
            metrics: Arc::clone(&self.metrics),
            stop: Arc::clone(&self.stop_readers),
            pause: PANIC_PAUSE,
        };
        Builder::new()
            // The kernel keeps 15 bytes of it.
            .name(name.chars().take(15).collect())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, move || worker.run(work))
            .map_err(|error| {
                io::Error::new(error.kind(), format!("cannot start thread {name}: {error}"))
            })?;
        self.alive.push((role, name));
        Ok(())
    }

    /// The main thread's work: hears signals, and cuts connections in which someone waits too long.
    fn supervise(&mut self, events: &Receiver<Event>) -> Outcome {
        loop {
            let summary = self.summary.as_ref().map(Summary::due);
            match self.next_event(events, summary) {
                None => self.sum_up(),
                Some(Event::Signal(SIGHUP)) => {
                    log::warn!("SIGHUP: reloading is not built in yet; restart to apply changes");
                }
                Some(Event::Signal(signal)) => {
                    let name = signal_hook::low_level::signal_name(signal).unwrap_or("signal");
                    log::info!("{name}: stopping");
                    self.stop(events, Outcome::Stopped);
                    return Outcome::Stopped;
                }
                Some(Event::Broken(name)) => {
                    log::error!("thread {name} panics again and again: giving up");
                    self.stop(events, Outcome::Panicked);
                    return Outcome::Panicked;
                }
                Some(Event::Ended(..)) => {}
            }
        }
    }

    /// The periodic lines in the log.
    fn sum_up(&mut self) {
        let Some(summary) = &mut self.summary else {
            return;
        };
        let lines = summary.lines(&self.overview, Instant::now());
        log::info!("{}", lines.total);
        for (n, line) in lines.problems {
            if let Some(view) = self.overview.cameras.get(n) {
                log::info!(camera_id = view.camera.id; "{line}");
            }
        }
    }

    /// Waits for the next event, until `deadline` if there is one. Meanwhile keeps the deadlines of
    /// the links: a wait that begins after the look at them cannot end before the shortest time-out,
    /// so there is nothing to poll for.
    fn next_event(&mut self, events: &Receiver<Event>, deadline: Option<Instant>) -> Option<Event> {
        loop {
            let now = Instant::now();
            self.overview.beat.beat();
            let due = self.links.iter().filter_map(|link| link.check(now)).min();
            let look_again = now
                + self
                    .links
                    .iter()
                    .map(|link| link.shortest_timeout())
                    .min()
                    .map_or(LOOK_AGAIN, |shortest| shortest.min(LOOK_AGAIN));
            let wake = due.unwrap_or(look_again).min(look_again);
            let until = deadline.map_or(wake, |deadline| deadline.min(wake));
            match events.recv_deadline(until) {
                Ok(Event::Ended(role, name)) => {
                    self.alive.retain(|alive| *alive != (role, name.clone()));
                    return Some(Event::Ended(role, name));
                }
                Ok(event) => return Some(event),
                Err(_) if deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                    return None;
                }
                Err(_) => {}
            }
        }
    }

    /// Stops in the order in which frames flow. Each step is bounded; what does not end is named.
    fn stop(&mut self, events: &Receiver<Event>, outcome: Outcome) {
        self.outcome = outcome;
        self.overview.stopping.store(true, Ordering::Relaxed);
        self.stop_readers.request();
        self.wait_for(Role::Reader, events, READERS_TIMEOUT);
        self.wait_for(Role::Publisher, events, PUBLISHERS_TIMEOUT);
        if self.left(Role::Publisher) > 0 {
            log::warn!("the broker does not confirm the last frames: cutting the connection");
        }
        self.stop_owners.request();
        // A handshake that nobody needs any more.
        for link in self.links.iter().filter(|link| !link.connected()) {
            link.cut("stopping");
        }
        if self.left(Role::Publisher) > 0 {
            self.cut();
            self.wait_for(Role::Publisher, events, CUT_TIMEOUT);
        }
        self.wait_for(Role::Owner, events, CUT_TIMEOUT);
        if self.left(Role::Owner) > 0 {
            self.cut();
            self.wait_for(Role::Owner, events, CUT_TIMEOUT);
        }
        self.stop_http.request();
        self.wait_for(Role::Http, events, CUT_TIMEOUT);
        if !self.alive.is_empty() {
            let names: Vec<_> = self.alive.iter().map(|(_, name)| name.as_str()).collect();
            log::warn!(
                "these threads do not end in time, leaving without them: {}",
                names.join(", ")
            );
            self.leave();
        }
    }

    fn cut(&self) {
        for link in &self.links {
            link.cut("stopping");
        }
    }

    /// Leaves without waiting for the threads. Their FFmpegs end with them.
    fn leave(&self) -> ! {
        report(&self.metrics);
        logging::flush();
        std::process::exit(self.outcome.exit_code().into())
    }

    fn left(&self, role: Role) -> usize {
        self.alive
            .iter()
            .filter(|(alive, _)| *alive == role)
            .count()
    }

    fn wait_for(&mut self, role: Role, events: &Receiver<Event>, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        while self.left(role) > 0 {
            match self.next_event(events, Some(deadline)) {
                Some(Event::Signal(SIGINT | SIGTERM)) => {
                    log::warn!("second signal: leaving at once");
                    self.leave();
                }
                Some(_) => {}
                None => return,
            }
        }
    }
}

/// Around a thread's work: a panic is counted and the work begun again, and its end is told.
struct Worker {
    name: String,
    role: Role,
    events: Sender<Event>,
    metrics: Arc<Metrics>,
    stop: Arc<Stop>,
    pause: Duration,
}

impl Worker {
    fn run(&self, mut work: impl FnMut()) {
        let mut panics: Vec<Instant> = vec![];
        // A panic leaves the work's own state behind, and `run` of each begins by settling it.
        while catch_unwind(AssertUnwindSafe(&mut work)).is_err() {
            *self.metrics.worker_panics.lock() += 1;
            panics.retain(|panic| panic.elapsed() < PANIC_PERIOD);
            panics.push(Instant::now());
            if panics.len() >= PANICS_MAX {
                let _ = self.events.send(Event::Broken(self.name.clone()));
                break;
            }
            self.stop.sleep(self.pause);
        }
        // Before the end is told: what the work holds (a mailbox, a channel) must be gone by then.
        drop(work);
        let _ = self.events.send(Event::Ended(self.role, self.name.clone()));
    }
}

/// The final accounting: for people one line a camera and one in all, for machines one JSON object.
fn report(metrics: &Metrics) {
    #[derive(Serialize)]
    struct Line<'a> {
        camera_id: &'a str,
        #[serde(flatten)]
        account: &'a Account,
    }
    #[derive(Serialize)]
    struct Report<'a> {
        cameras: Vec<Line<'a>>,
        total: &'a Account,
    }
    let (cameras, total) = metrics.accounts();
    for (id, account) in &cameras {
        log::info!(camera_id = id; "{}", in_words(account));
    }
    log::info!("all cameras: {}", in_words(&total));
    let report = Report {
        cameras: cameras
            .iter()
            .map(|(camera_id, account)| Line { camera_id, account })
            .collect(),
        total: &total,
    };
    match serde_json::to_string(&report) {
        Ok(json) => log::info!(target: logging::REPORT, "{json}"),
        Err(error) => log::error!("no report: {error}"),
    }
}

fn in_words(account: &Account) -> String {
    let list = |counts: &[(&'static str, u64)]| {
        let some: Vec<_> = counts
            .iter()
            .filter(|(_, n)| *n > 0)
            .map(|(why, n)| format!("{n} {why}"))
            .collect();
        if some.is_empty() {
            String::new()
        } else {
            format!(" ({})", some.join(", "))
        }
    };
    let mut words = format!(
        "{} frames captured = {} published + {} dropped{}",
        account.captured,
        account.published,
        account.dropped.total(),
        list(&account.dropped.by_reason()),
    );
    if account.in_flight + account.waiting > 0 {
        words += &format!(
            " + {} in flight + {} waiting",
            account.in_flight, account.waiting
        );
    }
    format!(
        "{words}; FFmpeg restarted {} times{}",
        account.restarts.total(),
        list(&account.restarts.by_reason())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(pause: Duration) -> (Worker, Receiver<Event>, Arc<Metrics>) {
        let (events, heard) = unbounded();
        let metrics = Arc::new(Metrics::default());
        let worker = Worker {
            name: "read-cam1".into(),
            role: Role::Reader,
            events,
            metrics: Arc::clone(&metrics),
            stop: Stop::new().unwrap(),
            pause,
        };
        (worker, heard, metrics)
    }

    #[test]
    fn a_worker_that_panics_is_counted_and_begun_again() {
        let (worker, heard, metrics) = worker(Duration::ZERO);
        let mut runs = 0;
        worker.run(|| {
            runs += 1;
            assert!(runs > 2, "a panic on purpose");
        });
        assert_eq!(runs, 3);
        assert_eq!(*metrics.worker_panics.lock(), 2);
        assert!(
            matches!(heard.try_recv(), Ok(Event::Ended(Role::Reader, name)) if name == "read-cam1")
        );
    }

    #[test]
    fn a_worker_that_panics_again_and_again_is_beyond_repair() {
        let (worker, heard, metrics) = worker(Duration::ZERO);
        worker.run(|| panic!("a panic on purpose"));
        assert_eq!(*metrics.worker_panics.lock(), PANICS_MAX as u64);
        assert!(matches!(heard.try_recv(), Ok(Event::Broken(name)) if name == "read-cam1"));
        assert!(matches!(heard.try_recv(), Ok(Event::Ended(..))));
        assert_eq!(Outcome::Panicked.exit_code(), 70);
    }

    #[test]
    fn cameras_are_spread_evenly_over_the_connections() {
        let config = "cameras: [{id: a, url: /a}, {id: b, url: /b}, {id: c, url: /c}]";
        let config = Config::parse(config, "", &|_| None).unwrap().config;
        let cameras: Vec<_> = config.cameras.iter().collect();
        let sizes = |n| spread(&cameras, n).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(1), [3]);
        assert_eq!(sizes(2), [2, 1]);
        assert_eq!(sizes(8), [1, 1, 1], "no connection without a camera");
        assert_eq!(sizes(0), [1, 1, 1], "one for each");
    }
}
