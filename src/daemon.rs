//! The daemon: starts the threads in the only scope, follows the configuration, and stops the threads in
//! the order in which frames flow.

mod build;
mod relieve;
mod reload;
mod report;
mod spread;
mod worker;

use crate::amqp::{Caller, Link, Owner};
use crate::config::{Config, ConfigErrors, Loaded};
use crate::events;
use crate::http;
use crate::logging;
use crate::memory::Budget;
use crate::metrics::Metrics;
use crate::overview::Overview;
use crate::shutdown::Stop;
use crate::summary::Summary;
use crate::systemd::Systemd;
use crate::uplink::Say;
use build::{Announcer, Connection, Hired, Pipeline, Plan, Shared, Slot};
use crossbeam_channel::{Receiver, Sender, unbounded};
use reload::{OLD, Port};
use report::report;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::cell::Cell;
use std::io;
use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{Builder, Scope};
use std::time::{Duration, Instant};
use worker::{PANIC_PAUSE, Worker};

/// Our threads need little: the deepest calls are a log line and amiquip's serialiser. The default of
/// 2 MiB is only reserved, but 400 of them are a lot to a 32-bit board.
const STACK_BYTES: usize = 256 * 1024;

/// How long the readers may take to end: FFmpeg's grace, its kill, and a busy board.
const READERS_TIMEOUT: Duration = Duration::from_millis(1500);
/// How long the publishers may then wait for the last confirms.
const PUBLISHERS_TIMEOUT: Duration = Duration::from_millis(800);
/// How long the events thread may then take for the last states; it gives up a little earlier by itself.
const EVENTS_TIMEOUT: Duration = Duration::from_millis(400);
/// How long whoever is left may take after its connection was cut.
const CUT_TIMEOUT: Duration = Duration::from_millis(300);

/// Signals that come so soon after the first ask for the same: timeout(1) sends its own twice, and no
/// finger is so fast.
const ONE_REQUEST: Duration = Duration::from_millis(200);

/// The main thread looks after its duties at least this often, as its sign of life.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

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

/// Runs until a signal ends it. SIGHUP makes it follow what `load` gives then.
///
/// # Errors
/// When descriptors, threads or signal handlers cannot be had.
pub fn run(
    config: &Config,
    load: &dyn Fn() -> Result<Loaded, ConfigErrors>,
) -> io::Result<Outcome> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let metrics = Arc::new(Metrics::default());
    let outcome = std::thread::scope(|scope| {
        let (tell, events) = unbounded();
        let signals_end = signals.handle();
        let signal_events = tell.clone();
        Builder::new()
            .name("signals".into())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, move || {
                for signal in signals.forever() {
                    let _ = signal_events.send(Event::Signal(signal));
                }
            })?;
        let base = Base {
            scope,
            tell,
            events,
            metrics: Arc::clone(&metrics),
            started: Instant::now(),
            threads: Cell::new(0),
        };
        let run = AssertUnwindSafe(|| base.run(config.clone(), load));
        let Ok(outcome) = catch_unwind(run) else {
            // Nobody is left to stop the threads, and the scope would wait for them for ever. What was
            // wrong is in the log; systemd starts us anew.
            leave(&metrics, Outcome::Panicked)
        };
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
    /// The thread of that id has ended.
    Ended(u64),
    /// A thread panicked beyond repair.
    Broken(String),
    /// A deadline may be nearer than the last look at them has shown.
    Look,
    /// The broker grants these publishers no channel on the connection of that number, and granted so many.
    Surplus(usize, Vec<Caller>, usize),
}

/// Holds threads back until all that is needed with them has been had. Those of one that is dropped
/// unopened end.
struct Gate {
    open: Sender<()>,
    shut: Receiver<()>,
}

impl Default for Gate {
    fn default() -> Self {
        let (open, shut) = unbounded();
        Self { open, shut }
    }
}

impl Gate {
    fn open_for(self, threads: usize) {
        for _ in 0..threads {
            let _ = self.open.send(());
        }
    }
}

/// A thread that has been started and has not ended.
struct Thread {
    id: u64,
    role: Role,
    name: String,
}

/// Threads by the order in which they are stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Reader,
    Publisher,
    Events,
    Owner,
    Http,
}

/// What stays when all else is started anew.
struct Base<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    tell: Sender<Event>,
    events: Receiver<Event>,
    metrics: Arc<Metrics>,
    started: Instant,
    /// Threads that were ever started, which gives each its id.
    threads: Cell<u64>,
}

/// What comes after the threads have been stopped.
enum Next {
    End(Outcome),
    /// Another configuration.
    Anew(Box<Config>, Port),
}

impl Base<'_, '_> {
    fn run(
        &self,
        mut config: Config,
        load: &dyn Fn() -> Result<Loaded, ConfigErrors>,
    ) -> io::Result<Outcome> {
        let mut listener = match config.http.enabled {
            true => Some(http::listen(&config.http)?),
            false => None,
        };
        let mut before: Option<Config> = None;
        loop {
            let mut running = match (Running::start(self, config, listener), before.take()) {
                (Ok(running), _) => running,
                (Err(error), None) => return Err(error),
                (Err(error), Some(old)) => {
                    log::error!("SIGHUP: {error}; {OLD}");
                    config = old;
                    listener = match config.http.enabled {
                        true => Some(http::listen(&config.http)?),
                        false => None,
                    };
                    continue;
                }
            };
            running.systemd.ready();
            match running.supervise(load)? {
                Next::End(outcome) => return Ok(outcome),
                Next::Anew(mut other, port) => {
                    let old = running.config.clone();
                    // Closes our port.
                    drop(running);
                    listener = port.listener(&mut other.http, old.http.listen)?;
                    config = *other;
                    before = Some(old);
                }
            }
        }
    }
}

/// The threads at work.
struct Running<'a, 'scope, 'env> {
    base: &'a Base<'scope, 'env>,
    config: Config,
    shared: Shared,
    slots: Vec<Slot>,
    connections: Vec<Connection>,
    /// All connections whose owner lives; their deadlines are kept.
    links: Vec<(u64, Arc<Link>)>,
    alive: Vec<Thread>,
    overview: Arc<Overview>,
    summary: Option<Summary>,
    budget: Option<Budget>,
    http: Option<(http::Handle, TcpListener)>,
    /// The events thread's handle with its connection.
    events: Option<(events::Handle, Arc<Link>)>,
    systemd: Systemd,
    outcome: Outcome,
    /// When a signal asked for the end.
    asked_at: Option<Instant>,
    /// Another configuration waits for the threads to end, unless a signal comes in between.
    anew: bool,
    /// SIGHUP came meanwhile: what was read may be old.
    again: bool,
}

impl<'a, 'scope, 'env> Running<'a, 'scope, 'env> {
    /// Builds all and starts all threads. When one cannot be had, those that run are stopped again.
    fn start(
        base: &'a Base<'scope, 'env>,
        config: Config,
        listener: Option<TcpListener>,
    ) -> io::Result<Self> {
        let shared = Shared::new(&config, Arc::clone(&base.metrics), base.tell.clone())?;
        let plan = Plan::new(&shared, &config, &[], &[])?;
        let overview = Arc::new(Overview::new(
            &config,
            plan.views.clone(),
            plan.links.clone(),
            Arc::clone(&base.metrics),
            Arc::clone(&shared.pressure),
            base.started,
        ));
        let (mut server, mut http) = (None, None);
        if let Some(listener) = listener {
            let copy = listener.try_clone()?;
            let made = http::Server::new(
                listener,
                &config.http,
                Arc::clone(&overview),
                Arc::clone(&shared.bell),
                Arc::clone(&shared.stop_http),
            )?;
            http = Some((made.handle(), copy));
            server = Some(made);
        }
        let endpoints = config.amqp.endpoints.iter();
        let brokers: Vec<_> = endpoints.map(ToString::to_string).collect();
        log::info!(
            "edge-video {}: cameras: {}; broker: {}; connections to it: {}",
            env!("CARGO_PKG_VERSION"),
            plan.views.len(),
            brokers.join(", "),
            plan.links.len(),
        );
        let (now, memory) = (Instant::now(), &config.memory_controller);
        // Without a known limit there is nothing to compare with.
        let is_watched = memory.enabled && overview.memory().limit > 0;
        let mut running = Self {
            base,
            budget: is_watched.then(|| Budget::new(memory, now)),
            summary: config
                .log
                .summary
                .map(|every| Summary::new(every, &overview, now)),
            config,
            shared,
            slots: vec![],
            connections: vec![],
            links: vec![],
            alive: vec![],
            overview,
            http,
            events: None,
            systemd: Systemd::from_environment(),
            outcome: Outcome::Stopped,
            asked_at: None,
            anew: false,
            again: false,
        };
        let begun = running
            .serve(server)
            .and_then(|()| running.announce())
            .and_then(|()| running.follow(plan));
        if let Err(error) = begun {
            running.abandon();
            return Err(error);
        }
        Ok(running)
    }

    fn serve(&mut self, server: Option<http::Server>) -> io::Result<()> {
        let Some(mut server) = server else {
            return Ok(());
        };
        log::info!("status page: http://{}/", server.address());
        let stop = Arc::clone(&self.shared.stop_http);
        self.spawn(Role::Http, "http".to_owned(), &stop, None, move || {
            server.run()
        })
        .map(|_| ())
    }

    /// Starts what sends events, if they are wanted.
    fn announce(&mut self) -> io::Result<()> {
        let Some(announcer) = self.shared.announcer(&self.overview) else {
            return Ok(());
        };
        let Announcer {
            mut events,
            handle,
            link,
            mut owner,
        } = announcer;
        let name = "amqp-events".to_owned();
        let stop = Arc::clone(&self.shared.stop_owners);
        let id = self.spawn(Role::Owner, name, &stop, None, move || owner.run())?;
        self.links.push((id, Arc::clone(&link)));
        self.events = Some((handle, link));
        self.spawn(Role::Events, "events".to_owned(), &stop, None, move || {
            events.run();
        })
        .map(|_| ())
    }

    /// Starts what is new, and stops what is not to stay; what has changed is begun when its threads
    /// have ended.
    ///
    /// # Errors
    /// When a thread cannot be had; then nothing has changed.
    fn follow(&mut self, plan: Plan) -> io::Result<()> {
        let mut owners = vec![];
        for (connection, owner) in plan.owners {
            owners.push(self.hire_owner(connection, owner)?);
        }
        let mut hired = vec![];
        for pipeline in plan.pipelines {
            hired.push(self.hire(pipeline)?);
        }
        for slot in &mut self.slots {
            if !plan.kept.contains(&slot.view.camera.id) {
                slot.retiring = true;
                slot.next = None;
                slot.stop.request();
            }
        }
        for owner in owners {
            self.connect(owner);
        }
        for hired in hired {
            let mut slots = self.slots.iter_mut();
            match slots.find(|slot| slot.view.camera.id == hired.view.camera.id) {
                Some(slot) => slot.next = Some(hired),
                None => self.begin(hired),
            }
        }
        self.settle();
        Ok(())
    }

    /// Starts the thread of a connection's owner, which waits at its gate.
    fn hire_owner(
        &mut self,
        connection: Connection,
        mut owner: Owner,
    ) -> io::Result<(Connection, u64, Gate)> {
        let (name, gate) = (format!("amqp-{}", connection.number), Gate::default());
        let stop = Arc::clone(&self.shared.stop_owners);
        let id = self.spawn(Role::Owner, name, &stop, Some(&gate), move || owner.run())?;
        Ok((connection, id, gate))
    }

    fn connect(&mut self, (connection, id, gate): (Connection, u64, Gate)) {
        self.links.push((id, Arc::clone(&connection.link)));
        self.connections.push(connection);
        gate.open_for(1);
    }

    /// Starts a camera's threads, which wait at their gate.
    fn hire(&mut self, pipeline: Pipeline) -> io::Result<Hired> {
        let Pipeline {
            mut reader,
            mut publisher,
            view,
            stop,
            connection,
        } = pipeline;
        let [read, publish] = thread_names(&view.camera.id);
        let gate = Gate::default();
        let threads = [
            self.spawn(Role::Publisher, publish, &stop, Some(&gate), move || {
                publisher.run();
            })?,
            self.spawn(Role::Reader, read, &stop, Some(&gate), move || reader.run())?,
        ];
        Ok(Hired {
            view,
            stop,
            connection,
            threads,
            gate,
        })
    }

    /// Lets a camera's threads work.
    fn begin(&mut self, hired: Hired) {
        hired.gate.open_for(hired.threads.len());
        self.slots.push(Slot {
            view: hired.view,
            stop: hired.stop,
            connection: hired.connection,
            threads: hired.threads,
            retiring: false,
            next: None,
        });
    }

    /// Starts a thread, which works at once without a `gate`; returns its id.
    fn spawn(
        &mut self,
        role: Role,
        name: String,
        stop: &Arc<Stop>,
        gate: Option<&Gate>,
        work: impl FnMut() + Send + 'scope,
    ) -> io::Result<u64> {
        let id = self.base.threads.get() + 1;
        self.base.threads.set(id);
        let worker = Worker {
            id,
            name: name.clone(),
            events: self.base.tell.clone(),
            metrics: Arc::clone(&self.base.metrics),
            stop: Arc::clone(stop),
            pause: PANIC_PAUSE,
        };
        let shut = match gate {
            Some(gate) => gate.shut.clone(),
            None => {
                let gate = Gate::default();
                let shut = gate.shut.clone();
                gate.open_for(1);
                shut
            }
        };
        Builder::new()
            // The kernel keeps 15 bytes of it.
            .name(name.chars().take(15).collect())
            .stack_size(STACK_BYTES)
            .spawn_scoped(self.base.scope, move || worker.run(&shut, work))
            .map_err(|error| {
                io::Error::new(error.kind(), format!("cannot start thread {name}: {error}"))
            })?;
        self.alive.push(Thread { id, role, name });
        Ok(id)
    }

    /// The main thread's work: hears signals, and cuts connections in which someone waits too long.
    fn supervise(&mut self, load: &dyn Fn() -> Result<Loaded, ConfigErrors>) -> io::Result<Next> {
        loop {
            let summary = self.summary.as_ref().map(Summary::due);
            let budget = self.budget.as_ref().map(Budget::due);
            let uplink = self.overview.uplink_due();
            let due = summary.into_iter().chain(budget).chain([uplink]).min();
            let done = match self.next_event(due) {
                None => {
                    let now = Instant::now();
                    if budget.is_some_and(|due| due <= now) {
                        self.relieve(now);
                    }
                    if uplink <= now {
                        self.look_at_uplink(now);
                    }
                    if summary.is_some_and(|due| due <= now) {
                        self.sum_up(now);
                    }
                    Ok(None)
                }
                Some(Event::Signal(SIGHUP)) => self.reload(load),
                Some(Event::Signal(signal)) => {
                    self.end(signal);
                    self.stop();
                    Ok(Some(Next::End(self.outcome)))
                }
                Some(Event::Broken(name)) => {
                    log::error!("thread {name} panics again and again: giving up");
                    self.outcome = Outcome::Panicked;
                    self.systemd.stopping();
                    self.stop();
                    Ok(Some(Next::End(self.outcome)))
                }
                Some(Event::Surplus(full, callers, granted)) => {
                    self.spread(full, &callers, granted);
                    Ok(None)
                }
                Some(Event::Ended(_) | Event::Look) => {
                    self.settle();
                    Ok(None)
                }
            };
            match done {
                Ok(None) => {}
                Ok(Some(next)) => return Ok(next),
                Err(error) => {
                    self.stop();
                    return Err(error);
                }
            }
        }
    }

    fn look_at_uplink(&self, now: Instant) {
        match self.overview.measure_uplink(now) {
            Some(Say::Short(words)) => log::warn!("{words}"),
            Some(Say::Enough(words)) => log::info!("{words}"),
            None => {}
        }
    }

    /// The periodic lines in the log.
    fn sum_up(&mut self, now: Instant) {
        let Some(summary) = &mut self.summary else {
            return;
        };
        let lines = summary.lines(&self.overview, now);
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
    fn next_event(&mut self, deadline: Option<Instant>) -> Option<Event> {
        loop {
            let now = Instant::now();
            self.overview.beat.beat();
            let links = || self.links.iter().map(|(_, link)| link);
            let due = links().filter_map(|link| link.check(now)).min();
            let shortest = links().map(|link| link.shortest_timeout()).min();
            let look_again = now + shortest.unwrap_or(LOOK_AGAIN).min(LOOK_AGAIN);
            let alive = self.systemd.alive(&self.overview, now);
            let wakes = [Some(look_again), due, alive, deadline];
            let until = wakes.into_iter().flatten().min().unwrap_or(look_again);
            match self.base.events.recv_deadline(until) {
                Ok(Event::Look) => {}
                Ok(Event::Ended(id)) => {
                    self.alive.retain(|thread| thread.id != id);
                    self.links.retain(|(owner, _)| *owner != id);
                    return Some(Event::Ended(id));
                }
                Ok(event) => return Some(event),
                Err(_) if deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                    return None;
                }
                Err(_) => {}
            }
        }
    }

    /// A signal has asked for the end.
    fn end(&mut self, signal: i32) {
        let name = signal_hook::low_level::signal_name(signal).unwrap_or("signal");
        log::info!("{name}: stopping");
        self.anew = false;
        self.asked_at = Some(Instant::now());
        self.outcome = Outcome::Stopped;
        self.systemd.stopping();
    }

    /// Stops in the order in which frames flow. Each step is bounded; what does not end is named.
    fn stop(&mut self) {
        self.overview.stopping.store(true, Ordering::Relaxed);
        for slot in &mut self.slots {
            slot.next = None;
            slot.stop.request();
        }
        self.connections.clear();
        self.wait_for(Role::Reader, READERS_TIMEOUT);
        self.wait_for(Role::Publisher, PUBLISHERS_TIMEOUT);
        if self.left(Role::Publisher) > 0 {
            log::warn!("the broker does not confirm the last frames: cutting the connection");
        }
        self.end_events();
        self.shared.stop_owners.request();
        // A handshake that nobody needs any more.
        for (_, link) in self.links.iter().filter(|(_, link)| !link.connected()) {
            link.cut("stopping");
        }
        if self.left(Role::Publisher) > 0 {
            self.cut();
            self.wait_for(Role::Publisher, CUT_TIMEOUT);
        }
        self.wait_for(Role::Events, CUT_TIMEOUT);
        self.wait_for(Role::Owner, CUT_TIMEOUT);
        if self.left(Role::Owner) > 0 {
            self.cut();
            self.wait_for(Role::Owner, CUT_TIMEOUT);
        }
        self.shared.stop_http.request();
        self.wait_for(Role::Http, CUT_TIMEOUT);
        if !self.alive.is_empty() {
            let names: Vec<_> = self.alive.iter().map(|it| it.name.as_str()).collect();
            log::warn!(
                "these threads do not end in time, leaving without them: {}",
                names.join(", ")
            );
            self.leave();
        }
    }

    /// Lets the last states be told. The frames' connections live on meanwhile: their publishers may still
    /// be waiting in them.
    fn end_events(&mut self) {
        let Some((handle, link)) = self.events.take() else {
            return;
        };
        drop(handle);
        self.wait_for(Role::Events, EVENTS_TIMEOUT);
        if self.left(Role::Events) > 0 {
            link.cut("stopping");
        }
    }

    /// Not all could be started: what runs is stopped again.
    fn abandon(&mut self) {
        // A signal that comes meanwhile is no second one.
        self.anew = true;
        self.outcome = Outcome::Panicked;
        self.stop();
        if !self.anew {
            let _ = self.base.tell.send(Event::Signal(SIGTERM));
        }
    }

    fn cut(&self) {
        for (_, link) in &self.links {
            link.cut("stopping");
        }
    }

    fn leave(&self) -> ! {
        if self.left(Role::Reader) + self.left(Role::Publisher) == 0 {
            // Nobody else writes: what waits goes nowhere any more.
            self.base.metrics.close_books();
        }
        leave(&self.base.metrics, self.outcome)
    }

    fn asked_just_now(&self) -> bool {
        self.asked_at.is_some_and(|at| at.elapsed() < ONE_REQUEST)
    }

    fn is_alive(&self, id: u64) -> bool {
        self.alive.iter().any(|thread| thread.id == id)
    }

    fn left(&self, role: Role) -> usize {
        self.alive.iter().filter(|it| it.role == role).count()
    }

    fn wait_for(&mut self, role: Role, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        while self.left(role) > 0 {
            match self.next_event(Some(deadline)) {
                Some(Event::Signal(signal @ (SIGINT | SIGTERM))) if self.anew => self.end(signal),
                Some(Event::Signal(SIGHUP)) if self.anew => self.again = true,
                Some(Event::Signal(SIGINT | SIGTERM)) if !self.asked_just_now() => {
                    log::warn!("second signal: leaving at once");
                    self.leave();
                }
                Some(_) => {}
                None => return,
            }
        }
    }
}

/// Leaves without waiting for the threads. Their FFmpegs end with them.
fn leave(metrics: &Metrics, outcome: Outcome) -> ! {
    report(metrics);
    logging::flush();
    std::process::exit(outcome.exit_code().into())
}

/// Of a camera's reader and publisher.
fn thread_names(id: &str) -> [String; 2] {
    [format!("read-{id}"), format!("pub-{id}")]
}
