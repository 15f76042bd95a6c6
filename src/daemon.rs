//! The daemon: starts the threads, applies a changed configuration, and stops the threads in the
//! order in which frames flow.

mod build;
mod idle;
mod life;
mod plan;
mod relieve;
mod reload;
mod report;
mod spread;
mod start;
mod stop;
mod threads;
mod worker;

use crate::amqp::{Caller, Link};
use crate::config::{self, Config, ConfigErrors, Loaded};
use crate::events;
use crate::http;
use crate::memory::Budget;
use crate::metrics::Metrics;
use crate::os_error::error_text;
use crate::overview::Overview;
use crate::summary::Summary;
use crate::systemd::Systemd;
use crate::uplink::Say;
use build::{Connection, RunningCamera, Shared};
use crossbeam_channel::{Receiver, Sender, unbounded};
use life::{Action, Cause, Life, Then};
use reload::{OLD, Restart};
use report::report;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use start::NotStarted;
use std::cell::Cell;
use std::io;
use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, Scope};
use std::time::{Duration, Instant};
use threads::{STACK_BYTES, Threads};
use worker::{PANIC_PERIOD, PANICS_MAX};

/// The main thread looks after its duties at least this often, as its sign of life.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How the daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// By a signal.
    Stopped,
    /// A thread panicked too often.
    Panicked,
    /// Threads that were to start again did not end.
    Stuck,
}

impl Outcome {
    /// For `exit(3)`: 0, or 70 (EX_SOFTWARE of sysexits.h), upon which systemd starts the program
    /// again.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Stopped => 0,
            Self::Panicked | Self::Stuck => 70,
        }
    }
}

/// Where the configuration comes from.
type Load<'a> = &'a dyn Fn() -> Result<Loaded, ConfigErrors>;

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
                    let _ = signal_events.send(MainEvent::Signal(signal));
                }
            })?;
        let process = Process {
            scope,
            tell,
            events,
            metrics: Arc::clone(&metrics),
            started: Instant::now(),
            threads: Cell::new(0),
        };
        let run = AssertUnwindSafe(|| process.run(config.clone(), load));
        let Ok(outcome) = catch_unwind(run) else {
            // No thread is left that could stop the others, and the scope would wait for them
            // forever. The panic is in the log; systemd starts the program again.
            stop::leave(&metrics, Outcome::Panicked)
        };
        signals_end.close();
        outcome
    });
    metrics.settle();
    report(&metrics);
    outcome
}

/// What the main thread is told.
#[derive(Debug)]
enum MainEvent {
    Signal(i32),
    /// The thread of that id has ended.
    Ended(u64),
    /// A thread panicked too often and has given up.
    Broken(String),
    /// A deadline may be nearer than the last look at them has shown.
    Look,
    /// Number of a connection, the publishers to which the broker grants no channel on it, and how
    /// many channels it granted.
    Surplus(usize, Vec<Caller>, usize),
}

/// What outlives a start of all threads.
struct Process<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    tell: Sender<MainEvent>,
    events: Receiver<MainEvent>,
    metrics: Arc<Metrics>,
    started: Instant,
    /// Threads that were ever started, which gives each its id.
    threads: Cell<u64>,
}

/// What comes after the threads have been stopped.
enum Next {
    End(Outcome),
    /// All threads start again. SIGHUP came meanwhile if `reload`.
    Start {
        restart: Box<Restart>,
        reload: bool,
    },
}

impl Process<'_, '_> {
    fn run(&self, mut config: Config, load: Load<'_>) -> io::Result<Outcome> {
        let mut listener = listen(&config.http)?;
        // The configuration before a restart, until the new one has started.
        let mut before: Option<Config> = None;
        loop {
            let mut daemon = match (Daemon::start(self, config, listener), before.take()) {
                (Ok(daemon), _) => daemon,
                (Err(NotStarted { error, .. }), None) => return Err(error),
                (Err(NotStarted { error, then }), Some(old)) => {
                    log::error!("SIGHUP: {}; {OLD}", error_text(&error));
                    match then {
                        Then::End(outcome) => return Ok(outcome),
                        Then::Start { reload } => self.hang_up_if(reload),
                    }
                    config = old;
                    listener = listen(&config.http)?;
                    continue;
                }
            };
            daemon.systemd.ready();
            match daemon.supervise(load) {
                Next::End(outcome) => return Ok(outcome),
                Next::Start { restart, reload } => {
                    self.hang_up_if(reload);
                    let old = daemon.config.clone();
                    // Closes our port.
                    drop(daemon);
                    let Restart { config: new, port } = *restart;
                    config = new;
                    listener = port.listener(&mut config.http, old.http.listen)?;
                    before = Some(old);
                }
            }
        }
    }

    /// A SIGHUP that came while threads were stopped is heard when they run.
    fn hang_up_if(&self, reload: bool) {
        if reload {
            let _ = self.tell.send(MainEvent::Signal(SIGHUP));
        }
    }
}

/// The status page's port, if it wants one.
fn listen(http: &config::Http) -> io::Result<Option<TcpListener>> {
    match http.enabled {
        true => http::listen(http).map(Some),
        false => Ok(None),
    }
}

/// The threads that were started together, and what the main thread needs to look after them.
struct Daemon<'a, 'scope, 'env> {
    process: &'a Process<'scope, 'env>,
    life: Life,
    config: Config,
    shared: Shared,
    cameras: Vec<RunningCamera>,
    connections: Vec<Connection>,
    /// All connections whose owner lives; their deadlines are kept.
    links: Vec<(u64, Arc<Link>)>,
    threads: Threads<'a, 'scope, 'env>,
    overview: Arc<Overview>,
    summary: Option<Summary>,
    budget: Option<Budget>,
    http: Option<(http::Handle, TcpListener)>,
    /// Dropped, it ends the events thread.
    events: Option<events::Handle>,
    /// That thread's connection.
    events_link: Option<Arc<Link>>,
    systemd: Systemd,
}

/// When the main thread's periodic duties are due.
struct Due {
    summary: Option<Instant>,
    budget: Option<Instant>,
    uplink: Instant,
}

impl Due {
    fn first(&self) -> Option<Instant> {
        let some = self.summary.into_iter().chain(self.budget);
        some.chain([self.uplink]).min()
    }
}

impl Daemon<'_, '_, '_> {
    /// The main thread's work: hears signals, and cuts connections in which a thread waits too
    /// long.
    fn supervise(&mut self, load: Load<'_>) -> Next {
        let restart = loop {
            let due = Due {
                summary: self.summary.as_ref().map(Summary::due),
                budget: self.budget.as_ref().map(Budget::due),
                uplink: self.overview.uplink_due(),
            };
            match self.next_event(due.first()) {
                None => self.do_duties(&due, Instant::now()),
                Some(MainEvent::Signal(signal)) => match self.on_signal(signal) {
                    Action::Reload => {
                        if let Some(restart) = self.reload(load) {
                            break Some(restart);
                        }
                    }
                    Action::Stop => break None,
                    Action::Continue | Action::Exit(_) => {}
                },
                Some(MainEvent::Broken(name)) => {
                    log::error!(
                        "thread {name} panicked {PANICS_MAX} times within {} minutes: exiting \
                         with code {}",
                        PANIC_PERIOD.as_secs() / 60,
                        Outcome::Panicked.exit_code()
                    );
                    self.life.on(Cause::Panicked, Instant::now());
                    self.systemd.stopping();
                    break None;
                }
                Some(MainEvent::Surplus(full, callers, granted)) => {
                    self.spread(full, &callers, granted);
                }
                Some(MainEvent::Ended(_) | MainEvent::Look) => self.finish_changes(),
            }
        };
        match (self.stop(), restart) {
            (Then::Start { reload }, Some(restart)) => {
                self.settle_before_restart(&restart.config);
                let restart = Box::new(restart);
                Next::Start { restart, reload }
            }
            (then, _) => Next::End(then.outcome()),
        }
    }

    fn do_duties(&mut self, due: &Due, now: Instant) {
        if due.budget.is_some_and(|due| due <= now) {
            self.relieve(now);
        }
        if due.uplink <= now {
            self.look_at_uplink(now);
        }
        if due.summary.is_some_and(|due| due <= now) {
            self.sum_up(now);
        }
    }

    fn look_at_uplink(&self, now: Instant) {
        match self.overview.measure_uplink(now) {
            Some(Say::Short(words)) => log::warn!("{words}"),
            Some(Say::Enough(words)) => log::info!("{words}"),
            None => {}
        }
        if let Some((view, words)) = self.overview.adapt_quality(now) {
            log::info!(camera_id = view.camera.id; "{words}");
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
    /// the links: a wait that begins after the look at them cannot end before the shortest
    /// time-out, so there is nothing to poll for.
    fn next_event(&mut self, deadline: Option<Instant>) -> Option<MainEvent> {
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
            match self.process.events.recv_deadline(until) {
                Ok(MainEvent::Look) => {}
                Ok(MainEvent::Ended(id)) => {
                    self.threads.ended(id);
                    self.links.retain(|(owner, _)| *owner != id);
                    return Some(MainEvent::Ended(id));
                }
                Ok(event) => return Some(event),
                Err(_) if deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                    return None;
                }
                Err(_) => {}
            }
        }
    }
}
