//! What the threads work with, built before they start: what can fail has failed by then.

use super::{Event, Gate};
use crate::amqp::{
    Carries, ConnectionHandle, ConnectionUser, Link, MainThread, Owner, OwnerReport, Request,
    Scheduler, Share, SharedConnection,
};
use crate::breaker::Breaker;
use crate::capture::installed::Ffmpeg;
use crate::capture::learnt::Learnt;
use crate::capture::{Hosts, Reader};
use crate::config::{Amqp, Camera, CircuitBreaker, Config, MaxInFlight, Metadata};
use crate::events::{self, Events, Inputs};
use crate::handoff::mailbox::mailbox;
use crate::handoff::peek::{Bell, Peek};
use crate::handoff::pool::Pool;
use crate::memory::{Pressure, Relief};
use crate::metrics::Metrics;
use crate::overview::{Overview, View};
use crate::publish::Publisher;
use crate::publish::notice::{Notices, Published};
use crate::repeat::Repeat;
use crate::shutdown::Stop;
use crate::status::CameraStatus;
use crate::system::raise_descriptor_limit;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use crossbeam_utils::sync::Parker;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Descriptors of a camera: FFmpeg's two pipes, the order to stop, and those of an FFmpeg that is just
/// being started (both its ends of the pipes, and the standard library's for an exec that fails).
const CAMERA_DESCRIPTORS: u64 = 8;
/// Of a connection: the socket's handles and its thread's poll.
const CONNECTION_DESCRIPTORS: u64 = 8;
/// The status page's clients, which are at most 128, and all that there is but once.
const OTHER_DESCRIPTORS: u64 = 128 + 32;

/// What all cameras share.
pub(super) struct Shared {
    amqp: Arc<Amqp>,
    breaker: CircuitBreaker,
    ffmpeg: Arc<Ffmpeg>,
    hosts: Arc<Hosts>,
    max_frame_bytes: usize,
    pub(super) pressure: Arc<Pressure>,
    /// If events are wanted.
    announce: Option<Announce>,
    pub(super) bell: Arc<Bell>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) stop_owners: Arc<Stop>,
    pub(super) stop_http: Arc<Stop>,
    /// How many there have been for frames.
    connections: AtomicUsize,
    /// What the main thread hears.
    tell: Sender<Event>,
}

/// Both ends of what the events thread hears from readers and publishers.
struct Announce {
    metadata: Metadata,
    changed: (Sender<()>, Receiver<()>),
    notices: Notices,
    published: Receiver<Published>,
}

/// The events thread's work, with its connection and that one's owner.
pub(super) struct Announcer {
    pub(super) events: Events,
    pub(super) handle: events::Handle,
    pub(super) link: Arc<Link>,
    pub(super) owner: Owner,
}

/// A broker connection, as long as it has cameras: when all senders of requests have gone, its owner
/// ends.
#[derive(Clone)]
pub(super) struct Connection {
    /// N of the thread `amqp-N`.
    pub(super) number: usize,
    pub(super) link: Arc<Link>,
    pub(super) scheduler: Arc<Scheduler>,
    requests: Sender<Request>,
    /// Cameras for which the broker grants a channel, once it has granted no further one.
    pub(super) capacity: Option<usize>,
}

impl Connection {
    /// Where its publishers ask for their channels.
    pub(super) fn shared(&self) -> SharedConnection {
        SharedConnection {
            link: Arc::clone(&self.link),
            requests: self.requests.clone(),
            scheduler: Arc::clone(&self.scheduler),
        }
    }
}

/// A camera at work.
pub(super) struct Slot {
    pub(super) view: Arc<View>,
    pub(super) stop: Arc<Stop>,
    /// Number of its connection.
    pub(super) connection: usize,
    /// Ids of its threads.
    pub(super) threads: [u64; 2],
    /// Its threads are to end, and then `next` is begun if there is one.
    pub(super) retiring: bool,
    pub(super) next: Option<Hired>,
}

/// A camera whose threads wait for the gate to be opened: nothing can fail then.
pub(super) struct Hired {
    pub(super) view: Arc<View>,
    pub(super) stop: Arc<Stop>,
    /// Number of its connection.
    pub(super) connection: usize,
    pub(super) threads: [u64; 2],
    pub(super) gate: Gate,
}

impl Slot {
    /// What runs here, or will, and the number of its connection.
    pub(super) fn goal(&self) -> Option<(&Arc<View>, usize)> {
        match &self.next {
            Some(next) => Some((&next.view, next.connection)),
            None if self.retiring => None,
            None => Some((&self.view, self.connection)),
        }
    }

    /// Whether connection `number` is used here, or will be.
    pub(super) fn uses(&self, number: usize) -> bool {
        let next = self.next.as_ref().map(|next| next.connection);
        self.connection == number || next == Some(number)
    }
}

/// One camera's two threads, not started yet.
pub(super) struct Pipeline {
    pub(super) reader: Reader,
    pub(super) publisher: Publisher,
    pub(super) view: Arc<View>,
    pub(super) stop: Arc<Stop>,
    /// Number of its connection.
    pub(super) connection: usize,
}

impl Shared {
    pub(super) fn new(
        config: &Config,
        metrics: Arc<Metrics>,
        tell: Sender<Event>,
    ) -> io::Result<Self> {
        Ok(Self {
            amqp: Arc::new(config.amqp.clone()),
            breaker: config.circuit_breaker.clone(),
            ffmpeg: Arc::new(Ffmpeg::new(config.ffmpeg_path.clone())),
            hosts: Arc::new(Hosts::default()),
            max_frame_bytes: config.max_frame_bytes,
            pressure: Arc::default(),
            announce: config.metadata.enabled.then(|| {
                let (notices, published) = Notices::new(Arc::clone(&metrics));
                Announce {
                    metadata: config.metadata.clone(),
                    changed: bounded(1),
                    notices,
                    published,
                }
            }),
            bell: Arc::new(Bell::new()?),
            metrics,
            stop_owners: Stop::new()?,
            stop_http: Stop::new()?,
            connections: AtomicUsize::new(0),
            tell,
        })
    }

    /// A connection for frames.
    pub(super) fn new_connection(&self) -> (Connection, Owner) {
        // Never one again: the owner of a connection that was given up may take its time.
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        self.connection(number, Carries::Frames)
    }

    fn connection(&self, number: usize, carries: Carries) -> (Connection, Owner) {
        let link = Arc::new(Link::new(
            self.amqp.connect_timeout,
            self.amqp.confirm_timeout,
        ));
        let (requests, asked) = unbounded();
        let tell = self.tell.clone();
        let main_thread = MainThread::new(move |word| {
            let event = match word {
                OwnerReport::Look => Event::Look,
                OwnerReport::Surplus { callers, granted } => {
                    Event::Surplus(number, callers, granted)
                }
            };
            let _ = tell.send(event);
        });
        let owner = Owner {
            carries,
            link: Arc::clone(&link),
            amqp: Arc::clone(&self.amqp),
            requests: asked,
            publishers: vec![],
            wanted: vec![],
            surplus: vec![],
            ask_again: None,
            refused: None,
            main_thread,
            stop: Arc::clone(&self.stop_owners),
            preferred: 0,
        };
        let connection = Connection {
            number,
            link,
            scheduler: Scheduler::new(
                self.amqp.max_in_flight == MaxInFlight::Auto,
                self.amqp.max_age,
            ),
            requests,
            capacity: None,
        };
        (connection, owner)
    }

    /// The events thread's work, if events are wanted.
    pub(super) fn announcer(&self, overview: &Arc<Overview>) -> Option<Announcer> {
        let announce = self.announce.as_ref()?;
        // It is no camera's connection, so it has none of their numbers.
        let (connection, owner) = self.connection(usize::MAX, Carries::Events);
        let (events, handle) = Events::new(
            announce.metadata.clone(),
            Arc::clone(overview),
            Inputs {
                changed: announce.changed.1.clone(),
                published: announce.published.clone(),
            },
            ConnectionHandle::new(
                connection.shared(),
                ConnectionUser {
                    name: "events".into(),
                    waker: None,
                    status: None,
                },
            ),
        );
        Some(Announcer {
            events,
            handle,
            link: connection.link,
            owner,
        })
    }

    fn pipeline(&self, camera: &Camera, connection: &Connection) -> io::Result<Pipeline> {
        let stop = Stop::new()?;
        let parker = Parker::new();
        let (frames, mailbox) = mailbox(parker.unparker().clone());
        let pool = Pool::new();
        let announce = self.announce.as_ref();
        let changed = announce.map(|it| it.changed.0.clone());
        let notices = announce.filter(|it| it.metadata.frames);
        let view = Arc::new(View {
            camera: Arc::new(camera.clone()),
            metrics: self.metrics.camera(&camera.id),
            status: Arc::new(CameraStatus::new(changed)),
            relief: Arc::new(Relief::new(Arc::clone(&self.pressure), pool.clone())),
            peek: Arc::new(Peek::new(Arc::clone(&self.bell))),
            link: Mutex::new(Arc::clone(&connection.link)),
            scheduler: Mutex::new(Arc::clone(&connection.scheduler)),
        });
        Ok(Pipeline {
            reader: Reader {
                camera: Arc::clone(&view.camera),
                ffmpeg: Arc::clone(&self.ffmpeg),
                hosts: Arc::clone(&self.hosts),
                stop: Arc::clone(&stop),
                mailbox: frames,
                peek: Arc::clone(&view.peek),
                pool,
                metrics: Arc::clone(&view.metrics),
                relief: Arc::clone(&view.relief),
                status: Arc::clone(&view.status),
                breaker: Breaker::new(&self.breaker),
                max_frame_bytes: self.max_frame_bytes,
                max_age: self.amqp.max_age,
                learnt: Learnt::default(),
                late_said: Repeat::default(),
                only_one: false,
            },
            publisher: Publisher {
                camera: Arc::clone(&view.camera),
                amqp: Arc::clone(&self.amqp),
                mailbox,
                metrics: Arc::clone(&view.metrics),
                connection: ConnectionHandle::new(
                    connection.shared(),
                    ConnectionUser {
                        name: Arc::clone(&view.camera.id),
                        waker: Some(parker.unparker().clone()),
                        status: Some(Arc::clone(&view.status)),
                    },
                ),
                share: Arc::new(Share::new(&connection.scheduler, parker.unparker().clone())),
                parker,
                notices: notices.map(|it| it.notices.clone()),
            },
            view,
            stop,
            connection: connection.number,
        })
    }
}

/// What is to be started, and what may stay, for a configuration to be followed.
pub(super) struct Plan {
    /// Cameras that stay as they are.
    pub(super) kept: Vec<Arc<str>>,
    /// Cameras that are new, or changed and to be started when they have ended.
    pub(super) pipelines: Vec<Pipeline>,
    /// Connections that are new.
    pub(super) owners: Vec<(Connection, Owner)>,
    /// All cameras and connections there will be.
    pub(super) views: Vec<Arc<View>>,
    pub(super) links: Vec<Arc<Link>>,
}

impl Plan {
    /// From what runs to `config`. A camera that stays or changes keeps its connection.
    ///
    /// # Errors
    /// When the process may not have as many file descriptors as that takes.
    pub(super) fn new(
        shared: &Shared,
        config: &Config,
        slots: &[Slot],
        connections: &[Connection],
    ) -> io::Result<Self> {
        let mut plan = Self {
            kept: vec![],
            pipelines: vec![],
            owners: vec![],
            views: vec![],
            links: vec![],
        };
        ensure_descriptors(config, connections.len())?;
        let cameras: Vec<_> = config.cameras.iter().filter(|it| it.enabled).collect();
        let mut used: Vec<(Connection, usize)> = connections
            .iter()
            .map(|connection| (connection.clone(), 0))
            .collect();
        let place_of = |camera: &Camera| {
            let slot = slots.iter().find(|slot| slot.view.camera.id == camera.id);
            slot.and_then(Slot::goal)
        };
        for (_, number) in cameras.iter().filter_map(|camera| place_of(camera)) {
            let mut used = used.iter_mut();
            if let Some((_, count)) = used.find(|(it, _)| it.number == number) {
                *count += 1;
            }
        }
        for camera in cameras {
            let place = place_of(camera);
            if let Some((view, _)) = place
                && *view.camera == *camera
            {
                plan.kept.push(Arc::clone(&camera.id));
                plan.views.push(Arc::clone(view));
                continue;
            }
            let index = match place {
                Some((_, number)) => used.iter().position(|(it, _)| it.number == number),
                None => {
                    let load = used.iter().map(|(it, count)| (*count, it.capacity));
                    least_used(load, config.amqp.connections)
                }
            };
            let index = index.unwrap_or_else(|| {
                let (connection, owner) = shared.new_connection();
                plan.owners.push((connection.clone(), owner));
                used.push((connection, 0));
                used.len() - 1
            });
            if let Some((connection, count)) = used.get_mut(index) {
                *count += usize::from(place.is_none());
                let pipeline = shared.pipeline(camera, connection)?;
                plan.views.push(Arc::clone(&pipeline.view));
                plan.pipelines.push(pipeline);
            }
        }
        let in_use = used.iter().filter(|(_, count)| *count > 0);
        plan.links = in_use.map(|(it, _)| Arc::clone(&it.link)).collect();
        Ok(plan)
    }
}

/// Raises the limit of file descriptors to what `config` needs, with that many connections if those
/// are more than it asks for.
///
/// # Errors
/// When the process may not have so many.
pub(super) fn ensure_descriptors(config: &Config, connections: usize) -> io::Result<()> {
    let cameras = enabled(config);
    let connections = match config.amqp.connections {
        0 => 0,
        some => some.max(connections),
    };
    raise_descriptor_limit(descriptors(cameras, connections))
}

/// How many threads `config` takes, on as many connections as it asks for.
pub(super) fn threads(config: &Config) -> usize {
    let cameras = enabled(config);
    let connections = match config.amqp.connections {
        0 => cameras,
        some => some.min(cameras),
    };
    // A connection has its owner and amiquip's two; events have a connection and one more.
    2 * cameras
        + 3 * connections
        + 4 * usize::from(config.metadata.enabled)
        + usize::from(config.http.enabled)
}

fn enabled(config: &Config) -> usize {
    config.cameras.iter().filter(|it| it.enabled).count()
}

/// How many so many cameras may need.
fn descriptors(cameras: usize, connections: usize) -> u64 {
    let connections = match connections {
        0 => cameras,
        some => some.min(cameras),
    };
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    count(cameras)
        .saturating_mul(CAMERA_DESCRIPTORS)
        .saturating_add(count(connections).saturating_mul(CONNECTION_DESCRIPTORS))
        .saturating_add(OTHER_DESCRIPTORS)
}

/// Which connection one more camera is to use, by the cameras that each has and can have; `None` for a
/// new one, of which there are so many at most, or one for each camera when 0; more only where all are
/// full.
fn least_used(
    load: impl ExactSizeIterator<Item = (usize, Option<usize>)>,
    connections: usize,
) -> Option<usize> {
    if connections == 0 || load.len() < connections {
        return None;
    }
    with_room(load)
}

/// Which connection has fewest cameras, of those that can have one more.
pub(super) fn with_room(load: impl Iterator<Item = (usize, Option<usize>)>) -> Option<usize> {
    let room = load
        .enumerate()
        .filter(|(_, (count, capacity))| capacity.is_none_or(|capacity| *count < capacity));
    room.min_by_key(|(_, (count, _))| *count).map(|(n, _)| n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cameras_are_spread_evenly_over_the_connections() {
        let sizes = |cameras: usize, connections| {
            let mut counts = vec![];
            for _ in 0..cameras {
                let load = counts.iter().map(|count| (*count, None));
                match least_used(load, connections) {
                    Some(n) => counts[n] += 1,
                    None => counts.push(1),
                }
            }
            counts
        };
        assert_eq!(sizes(3, 1), [3]);
        assert_eq!(sizes(3, 2), [2, 1]);
        assert_eq!(sizes(3, 8), [1, 1, 1], "no connection without a camera");
        assert_eq!(sizes(3, 0), [1, 1, 1], "one for each");
    }

    #[test]
    fn a_full_connection_gets_no_further_camera_and_one_more_is_made_when_all_are_full() {
        let least = |load: &[_], connections| least_used(load.iter().copied(), connections);
        assert_eq!(least(&[(4, Some(4)), (6, None)], 2), Some(1));
        assert_eq!(least(&[(3, Some(4)), (6, None)], 2), Some(0));
        assert_eq!(least(&[(4, Some(4)), (2, Some(2))], 2), None);
        assert_eq!(least(&[(4, Some(4)), (0, Some(0))], 1), None);
        assert_eq!(with_room([(4, Some(4))].into_iter()), None);
    }
}
