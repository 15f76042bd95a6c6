//! SIGHUP: reads the configuration again and applies it. Cameras that did not change are left
//! alone.

use super::build::{CameraThreads, Goal};
use super::life::Cause;
use super::plan::{Plan, ensure_descriptors, threads};
use super::threads::ensure_threads;
use super::{Daemon, Load};
use crate::amqp::Link;
use crate::config::{self, Config, Loaded};
use crate::http;
use crate::metrics::Restart as Reason;
use crate::os_error::error_text;
use crate::overview::{Overview, View};
use crate::summary::Summary;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Instant;

/// What is said when nothing comes of it.
pub(super) const OLD: &str = "keeping the old configuration";

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
            log::error!(
                "SIGHUP: {}; the status page stays at {old}",
                error_text(&error)
            );
            http.listen = old;
            http::listen(http)
        });
        listener.map(Some)
    }
}

/// A configuration that is accepted, and for which all threads start again.
pub(super) struct Restart {
    pub(super) config: Config,
    pub(super) port: Port,
}

/// How a configuration differs from the one in use.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    Nothing,
    /// In cameras and the log only, which needs no other thread to stop.
    Cameras,
    /// In what all threads share.
    Everything,
}

impl Change {
    fn between(old: &Config, new: &Config) -> Self {
        if old == new {
            return Self::Nothing;
        }
        let others = Config {
            cameras: old.cameras.clone(),
            log: old.log.clone(),
            ..new.clone()
        };
        match *old == others {
            true => Self::Cameras,
            false => Self::Everything,
        }
    }
}

impl Daemon<'_, '_, '_> {
    /// Follows what `load` gives; returns what all threads are to be started with, if they must. A
    /// configuration that is refused changes nothing.
    pub(super) fn reload(&mut self, load: Load<'_>) -> Option<Restart> {
        self.systemd.reloading();
        let restart = self.load_and_follow(load);
        if restart.is_none() {
            self.systemd.ready();
        }
        restart
    }

    fn load_and_follow(&mut self, load: Load<'_>) -> Option<Restart> {
        let Loaded { config, warnings } = match load() {
            Ok(loaded) => loaded,
            Err(refused) => {
                for line in refused.to_string().lines() {
                    log::error!("{line}");
                }
                log::error!("SIGHUP: the configuration is refused; {OLD}");
                return None;
            }
        };
        for warning in &warnings {
            log::warn!("{warning}");
        }
        let (log, old) = (&config.log, &self.config.log);
        if (log.level, log.format) != (old.level, old.format) {
            log::warn!(
                "SIGHUP: log.level and log.format have changed; the change takes effect when the \
                 program is restarted"
            );
        }
        match Change::between(&self.config, &config) {
            Change::Nothing => log::info!("SIGHUP: nothing has changed"),
            Change::Cameras => self.follow_cameras(config),
            Change::Everything => return self.prepare_restart(config),
        }
        None
    }

    /// Does whatever can fail, before anything is stopped for it.
    fn prepare_restart(&mut self, config: Config) -> Option<Restart> {
        let more = threads(&config).saturating_sub(threads(&self.config));
        let port = ensure_descriptors(&config, 0)
            .and_then(|()| ensure_threads(more))
            .and_then(|()| self.port(&config));
        match port {
            Err(error) => {
                log::error!("SIGHUP: {}; {OLD}", error_text(&error));
                None
            }
            Ok(port) => {
                log::info!(
                    "SIGHUP: settings that all cameras share have changed; restarting all cameras"
                );
                self.life.on(Cause::Restart, Instant::now());
                Some(Restart { config, port })
            }
        }
    }

    /// All threads have ended; some cameras go on in `config`.
    pub(super) fn settle_before_restart(&self, config: &Config) {
        self.process.metrics.settle();
        for camera in &self.cameras {
            if config.cameras.iter().any(|it| it.id == *camera.id()) {
                camera.view.metrics.reader.restarted(Reason::Config);
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
            // Two sockets on 0.0.0.0 and 127.0.0.1 cannot have the same port at the same time.
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
        let plan = match Plan::new(&self.shared, &config, &self.cameras, &self.connections) {
            Ok(plan) => plan,
            Err(error) => {
                log::error!("SIGHUP: {}; {OLD}", error_text(&error));
                return;
            }
        };
        let (views, links, words) = (plan.views.clone(), plan.links.clone(), self.in_words(&plan));
        if let Err(error) = self.follow(plan) {
            log::error!("SIGHUP: {}; {OLD}", error_text(&error));
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
            Arc::clone(&self.process.metrics),
            Arc::clone(&self.shared.pressure),
            self.process.started,
        );
        let overview = Arc::new(overview.after(&self.overview));
        if let Some((handle, _)) = &self.http {
            handle.show(Arc::clone(&overview));
        }
        if let Some(handle) = &self.events {
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
        let runs: Vec<&str> = self.cameras.iter().map(|camera| &**camera.id()).collect();
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

    /// Settles the accounts of the cameras that have ended, starts those that come in their place,
    /// and drops the connections that no camera uses.
    pub(super) fn finish_changes(&mut self) {
        let mut next = vec![];
        let mut cameras = std::mem::take(&mut self.cameras);
        cameras.retain_mut(|camera| {
            if camera.stays() || camera.threads.all().any(|id| self.threads.is_alive(id)) {
                return true;
            }
            camera.view.metrics.settle();
            if let Goal::Replace(ready) = std::mem::replace(&mut camera.goal, Goal::End) {
                camera.view.metrics.reader.restarted(Reason::Config);
                next.push(ready);
            }
            false
        });
        self.cameras = cameras;
        for ready in next {
            self.begin(ready);
        }
        for camera in self.cameras.iter().filter(|camera| !camera.stays()) {
            let CameraThreads { reader, publishers } = &camera.threads;
            let publishes = publishers.iter().any(|id| self.threads.is_alive(*id));
            let link = camera.view.link();
            // It would wait for its last confirms for as long as the alarm lasts, and so would what
            // comes in its place.
            if !self.threads.is_alive(*reader) && publishes && link.blocked() {
                link.cut("a camera ended while the broker had blocked publishing");
            }
        }
        let cameras = &self.cameras;
        self.connections
            .retain(|it| cameras.iter().any(|camera| camera.uses(it.number)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(yaml: &str) -> Config {
        let cameras = "cameras: [{id: a, url: /a}, {id: b, url: /b}]";
        let yaml = match yaml.contains("cameras:") {
            true => yaml.to_owned(),
            false => format!("{yaml}\n{cameras}"),
        };
        Config::parse(&yaml, "", &|_| None).unwrap().config
    }

    fn change(old: &str, new: &str) -> Change {
        Change::between(&config(old), &config(new))
    }

    #[test]
    fn only_what_all_threads_share_makes_them_all_start_again() {
        assert_eq!(change("", "fps: 15"), Change::Nothing, "the default");
        let more = "cameras: [{id: a, url: /a}, {id: b, url: /c}, {id: c, url: /d}]";
        assert_eq!(change("", more), Change::Cameras);
        assert_eq!(change("", "fps: 5"), Change::Cameras, "a default of theirs");
        assert_eq!(change("", "passthrough: true"), Change::Cameras);
        assert_eq!(change("", "pictures: keyframes"), Change::Cameras);
        assert_eq!(change("", "log: {summary: 1m}"), Change::Cameras);
        for shared in [
            "amqp: {connections: 2}",
            "video: {max_age: 5s}",
            "video: {routing_key_prefix: 'v.'}",
            "idle: {after: 5m}",
            "http: {listen: '127.0.0.1:1'}",
            "adaptive_quality: {enabled: true}",
            "circuit_breaker: {max_failures: 2}",
            "memory_controller: {enabled: false}",
            "metadata: {enabled: true}",
            "ffmpeg: {path: /opt/ffmpeg}",
            "max_frame_bytes: 1MiB",
        ] {
            assert_eq!(change("", shared), Change::Everything, "{shared}");
            assert_eq!(change(shared, shared), Change::Nothing, "{shared}");
        }
    }
}
