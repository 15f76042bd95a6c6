//! SIGHUP: the configuration is read again and followed. Cameras that did not change are left alone.

use super::build::{Plan, ensure_descriptors, threads};
use super::{Event, Gate, Next, Outcome, Running, STACK_BYTES};
use crate::amqp::Link;
use crate::config::{self, Config, ConfigErrors, Loaded};
use crate::http;
use crate::metrics::Restart;
use crate::overview::{Overview, View};
use crate::summary::Summary;
use signal_hook::consts::SIGHUP;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::Builder;
use std::time::Instant;

/// What is said when nothing comes of it.
pub(super) const OLD: &str = "going on with the old configuration";

/// Where another configuration has its status page.
pub(super) enum Port {
    /// Open already, if it wants one.
    Open(Option<TcpListener>),
    /// Where our own is in its way until that is closed.
    OnceOurs,
}

impl Port {
    /// Ours is closed: that of `http`, or `old` if that cannot be had.
    pub(super) fn listener(
        self,
        http: &mut config::Http,
        old: SocketAddr,
    ) -> io::Result<Option<TcpListener>> {
        if let Self::Open(listener) = self {
            return Ok(listener);
        }
        let listener = http::listen(http).or_else(|error| {
            log::error!("SIGHUP: {error}; the status page stays at {old}");
            http.listen = old;
            http::listen(http)
        });
        listener.map(Some)
    }
}

impl Running<'_, '_, '_> {
    /// Follows what `load` gives. What is refused changes nothing.
    ///
    /// # Errors
    /// When what stops cannot be waited for.
    pub(super) fn reload(
        &mut self,
        load: &dyn Fn() -> Result<Loaded, ConfigErrors>,
    ) -> io::Result<Option<Next>> {
        self.systemd.reloading();
        let next = self.load_and_follow(load);
        if !matches!(next, Ok(Some(_))) {
            self.systemd.ready();
        }
        next
    }

    fn load_and_follow(
        &mut self,
        load: &dyn Fn() -> Result<Loaded, ConfigErrors>,
    ) -> io::Result<Option<Next>> {
        let Loaded { config, warnings } = match load() {
            Ok(loaded) => loaded,
            Err(refused) => {
                for line in refused.to_string().lines() {
                    log::error!("{line}");
                }
                log::error!("SIGHUP: the configuration is refused, {OLD}");
                return Ok(None);
            }
        };
        for warning in &warnings {
            log::warn!("{warning}");
        }
        let (log, old) = (&config.log, &self.config.log);
        if (log.level, log.format) != (old.level, old.format) {
            log::warn!("SIGHUP: log.level and log.format change when the program is started again");
        }
        if config == self.config {
            log::info!("SIGHUP: nothing has changed");
            return Ok(None);
        }
        let only_cameras = self.config
            == Config {
                cameras: self.config.cameras.clone(),
                log: self.config.log.clone(),
                ..config.clone()
            };
        if only_cameras {
            self.follow_cameras(config);
            return Ok(None);
        }
        // What can be refused, before anything is stopped for it.
        let more = threads(&config).saturating_sub(threads(&self.config));
        match ensure_descriptors(&config, 0)
            .and_then(|()| ensure_threads(more))
            .and_then(|()| self.port(&config))
        {
            Err(error) => {
                log::error!("SIGHUP: {error}; {OLD}");
                Ok(None)
            }
            Ok(port) => {
                log::info!("SIGHUP: more than cameras has changed, starting all of them anew");
                self.anew = true;
                // If a thread does not end the program does, and systemd is to start it again.
                self.outcome = Outcome::Panicked;
                self.stop();
                Ok(Some(match self.anew {
                    true => {
                        self.close_books_for(&config);
                        if self.again {
                            let _ = self.base.tell.send(Event::Signal(SIGHUP));
                        }
                        Next::Anew(Box::new(config), port)
                    }
                    false => Next::End(self.outcome),
                }))
            }
        }
    }

    /// All threads have ended; some cameras go on in `config`.
    fn close_books_for(&self, config: &Config) {
        self.base.metrics.close_books();
        for slot in &self.slots {
            if config.cameras.iter().any(|it| it.id == slot.view.camera.id) {
                slot.view.metrics.reader.restarted(Restart::Config);
            }
        }
    }

    /// The port for the status page as `config` has it: the one that is open, or another.
    fn port(&self, config: &Config) -> io::Result<Port> {
        let (new, old) = (config.http.listen, self.config.http.listen);
        let opened = match &self.http {
            _ if !config.http.enabled => Ok(None),
            Some((_, port)) if new == old => port.try_clone().map(Some),
            _ => http::listen(&config.http).map(Some),
        };
        match opened {
            // 0.0.0.0 and 127.0.0.1 cannot have the same one at the same time.
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && self.http.is_some()
                    && new.port() == old.port() =>
            {
                Ok(Port::OnceOurs)
            }
            opened => opened.map(Port::Open),
        }
    }

    fn follow_cameras(&mut self, config: Config) {
        let plan = match Plan::new(&self.shared, &config, &self.slots, &self.connections) {
            Ok(plan) => plan,
            Err(error) => {
                log::error!("SIGHUP: {error}; {OLD}");
                return;
            }
        };
        let (views, links, words) = (plan.views.clone(), plan.links.clone(), self.in_words(&plan));
        if let Err(error) = self.follow(plan) {
            log::error!("SIGHUP: {error}; {OLD}");
            return;
        }
        log::info!("SIGHUP: {words}");
        self.config = config;
        self.show(views, links);
    }

    /// From now on these are the cameras and connections for those who look.
    pub(super) fn show(&mut self, views: Vec<Arc<View>>, links: Vec<Arc<Link>>) {
        let overview = Overview::new(
            &self.config,
            views,
            links,
            Arc::clone(&self.base.metrics),
            Arc::clone(&self.shared.pressure),
            self.base.started,
        );
        let overview = Arc::new(overview.after(&self.overview));
        if let Some((handle, _)) = &self.http {
            handle.show(Arc::clone(&overview));
        }
        if let Some((handle, _)) = &self.events {
            handle.show(Arc::clone(&overview));
        }
        let every = self.config.log.summary;
        self.summary = every.map(|every| Summary::new(every, &overview, Instant::now()));
        self.overview = overview;
    }

    /// `cameras changed: gate; added: yard, till; removed: none`
    fn in_words(&self, plan: &Plan) -> String {
        let list = |ids: Vec<&str>| match ids.as_slice() {
            [] => "none".to_owned(),
            ids => ids.join(", "),
        };
        let runs: Vec<&str> = self
            .slots
            .iter()
            .map(|slot| &*slot.view.camera.id)
            .collect();
        let goes_on: Vec<&str> = plan.views.iter().map(|view| &*view.camera.id).collect();
        let new = plan.pipelines.iter().map(|it| &*it.view.camera.id);
        let (changed, added) = new.partition(|id| runs.contains(id));
        let removed = runs.iter().filter(|id| !goes_on.contains(id));
        format!(
            "cameras changed: {}; added: {}; removed: {}",
            list(changed),
            list(added),
            list(removed.copied().collect()),
        )
    }

    /// Closes the books of the cameras that have ended, starts those that come in their place, and
    /// gives up the connections that nobody uses any more.
    pub(super) fn settle(&mut self) {
        let mut next = vec![];
        let mut slots = std::mem::take(&mut self.slots);
        slots.retain_mut(|slot| {
            if !slot.retiring || slot.threads.iter().any(|id| self.is_alive(*id)) {
                return true;
            }
            slot.view.metrics.close_books();
            if let Some(hired) = slot.next.take() {
                slot.view.metrics.reader.restarted(Restart::Config);
                next.push(hired);
            }
            false
        });
        self.slots = slots;
        for hired in next {
            self.begin(hired);
        }
        for slot in self.slots.iter().filter(|slot| slot.retiring) {
            let [publish, read] = slot.threads;
            let link = slot.view.link();
            // It would wait for its last confirms for as long as the alarm lasts, and so would what comes in its place.
            if !self.is_alive(read) && self.is_alive(publish) && link.blocked() {
                link.cut("a camera has ended while the broker takes no messages");
            }
        }
        let slots = &self.slots;
        self.connections
            .retain(|it| slots.iter().any(|slot| slot.uses(it.number)));
    }
}

/// Whether so many more threads can be had: they are started, and end.
fn ensure_threads(more: usize) -> io::Result<()> {
    let gate = Gate::default();
    let started: Result<Vec<_>, _> = (0..more)
        .map(|_| {
            let shut = gate.shut.clone();
            Builder::new()
                .stack_size(STACK_BYTES)
                .spawn(move || shut.recv().is_ok())
        })
        .collect();
    drop(gate);
    // Those that were started end by themselves, since their gate is gone.
    started.map(|_| ()).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("cannot start {more} more threads: {error}"),
        )
    })
}
