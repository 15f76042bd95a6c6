//! Starts the daemon: everything is built first, then the threads start.

use super::build::{
    Announcer, CameraThreads, Connection, Goal, Pipeline, ReadyCamera, RunningCamera, Shared,
};
use super::life::{Cause, Life, Then};
use super::plan::Plan;
use super::threads::{Gate, Role, Threads};
use super::{Daemon, Process};
use crate::amqp::Owner;
use crate::config::Config;
use crate::http;
use crate::memory::Budget;
use crate::overview::Overview;
use crate::summary::Summary;
use crate::systemd::Systemd;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Instant;

/// Why the threads could not all be started, and what follows. Those that could have ended.
pub(super) struct NotStarted {
    pub(super) error: io::Error,
    pub(super) then: Then,
}

impl From<io::Error> for NotStarted {
    /// No thread has been started yet.
    fn from(error: io::Error) -> Self {
        let then = Then::Start { reload: false };
        Self { error, then }
    }
}

impl<'a, 'scope, 'env> Daemon<'a, 'scope, 'env> {
    /// Builds all and starts all threads. When one cannot be started, those that run are stopped
    /// again.
    pub(super) fn start(
        process: &'a Process<'scope, 'env>,
        config: Config,
        listener: Option<TcpListener>,
    ) -> Result<Self, NotStarted> {
        let shared = Shared::new(&config, Arc::clone(&process.metrics), process.tell.clone())?;
        let plan = Plan::new(&shared, &config, &[], &[])?;
        let overview = Arc::new(Overview::new(
            &config,
            plan.views.clone(),
            plan.links.clone(),
            Arc::clone(&process.metrics),
            Arc::clone(&shared.pressure),
            process.started,
        ));
        let copy = listener.as_ref().map(TcpListener::try_clone).transpose()?;
        let serve = |listener| {
            http::Server::new(
                listener,
                &config.http,
                Arc::clone(&overview),
                Arc::clone(&shared.page_waker),
                Arc::clone(&shared.stop_http),
            )
        };
        let server = listener.map(serve).transpose()?;
        let handle = server.as_ref().map(http::Server::handle);
        say_what_starts(&config, &plan);
        let (now, memory) = (Instant::now(), &config.memory_controller);
        // Without a known limit there is nothing to compare with.
        let is_watched = memory.enabled && overview.memory().limit > 0;
        let mut daemon = Self {
            process,
            life: Life::Starting,
            threads: Threads::new(process),
            budget: is_watched.then(|| Budget::new(memory, now)),
            summary: config
                .log
                .summary
                .map(|every| Summary::new(every, &overview, now)),
            config,
            shared,
            cameras: vec![],
            connections: vec![],
            links: vec![],
            overview,
            http: handle.zip(copy),
            events: None,
            events_link: None,
            systemd: Systemd::from_environment(),
        };
        let started = daemon
            .serve(server)
            .and_then(|()| daemon.announce())
            .and_then(|()| daemon.follow(plan));
        match started {
            Ok(()) => {
                daemon.life.on(Cause::Started, Instant::now());
                Ok(daemon)
            }
            Err(error) => {
                daemon.life.on(Cause::StartFailed, Instant::now());
                let then = daemon.stop();
                Err(NotStarted { error, then })
            }
        }
    }

    fn serve(&mut self, server: Option<http::Server>) -> io::Result<()> {
        let Some(mut server) = server else {
            return Ok(());
        };
        log::info!("status page: http://{}/", server.address());
        let stop = Arc::clone(&self.shared.stop_http);
        self.threads
            .spawn(Role::Http, "http".to_owned(), &stop, None, move || {
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
        let id = self
            .threads
            .spawn(Role::Owner, name, &stop, None, move || owner.run())?;
        self.links.push((id, Arc::clone(&link)));
        self.events = Some(handle);
        self.events_link = Some(link);
        self.threads
            .spawn(Role::Events, "events".to_owned(), &stop, None, move || {
                events.run();
            })
            .map(|_| ())
    }

    /// Starts what is new, and stops what is not to stay; what has changed is begun when its
    /// threads have ended.
    ///
    /// # Errors
    /// When a thread cannot be had; then nothing has changed.
    pub(super) fn follow(&mut self, plan: Plan) -> io::Result<()> {
        let mut owners = vec![];
        for (connection, owner) in plan.owners {
            owners.push(self.prepare_owner(connection, owner)?);
        }
        let mut ready = vec![];
        for pipeline in plan.pipelines {
            ready.push(self.prepare(pipeline)?);
        }
        for camera in &mut self.cameras {
            if !plan.kept.contains(camera.id()) {
                camera.goal = Goal::End;
                camera.stop.request();
            }
        }
        for owner in owners {
            self.connect(owner);
        }
        for ready in ready {
            let mut cameras = self.cameras.iter_mut();
            match cameras.find(|camera| *camera.id() == ready.view.camera.id) {
                Some(camera) => camera.goal = Goal::Replace(ready),
                None => self.begin(ready),
            }
        }
        self.finish_changes();
        Ok(())
    }

    /// Starts the thread of a connection's owner, which waits at its gate.
    pub(super) fn prepare_owner(
        &mut self,
        connection: Connection,
        mut owner: Owner,
    ) -> io::Result<(Connection, u64, Gate)> {
        let (name, gate) = (format!("amqp-{}", connection.number), Gate::default());
        let stop = Arc::clone(&self.shared.stop_owners);
        let id = self
            .threads
            .spawn(Role::Owner, name, &stop, Some(&gate), move || owner.run())?;
        Ok((connection, id, gate))
    }

    pub(super) fn connect(&mut self, (connection, id, gate): (Connection, u64, Gate)) {
        self.links.push((id, Arc::clone(&connection.link)));
        self.connections.push(connection);
        gate.open_for(1);
    }

    /// Starts a camera's threads, which wait at their gate.
    fn prepare(&mut self, pipeline: Pipeline) -> io::Result<ReadyCamera> {
        let Pipeline {
            mut reader,
            publishers,
            view,
            stop,
            places,
        } = pipeline;
        let gate = Gate::default();
        let mut threads = CameraThreads::default();
        for (name, mut publisher) in publishers {
            let work = move || publisher.run();
            let id = self
                .threads
                .spawn(Role::Publisher, name, &stop, Some(&gate), work)?;
            threads.publishers.push(id);
        }
        let name = format!("read-{}", view.camera.id);
        threads.reader = self
            .threads
            .spawn(Role::Reader, name, &stop, Some(&gate), move || reader.run())?;
        Ok(ReadyCamera {
            view,
            stop,
            places,
            threads,
            gate,
        })
    }

    /// Lets a camera's threads work.
    pub(super) fn begin(&mut self, ready: ReadyCamera) {
        ready.gate.open_for(ready.threads.all().count());
        self.cameras.push(RunningCamera {
            view: ready.view,
            stop: ready.stop,
            places: ready.places,
            threads: ready.threads,
            goal: Goal::Stay,
        });
    }
}

fn say_what_starts(config: &Config, plan: &Plan) {
    let endpoints = config.amqp.endpoints.iter();
    let brokers: Vec<_> = endpoints.map(ToString::to_string).collect();
    log::info!(
        "edge-video {}: cameras: {}; broker: {}; connections to it: {}",
        env!("CARGO_PKG_VERSION"),
        plan.views.len(),
        brokers.join(", "),
        plan.links.len(),
    );
}
