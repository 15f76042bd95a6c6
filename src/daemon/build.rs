//! Builds what the threads work with, before any of them starts, so that a failure starts none.

use super::MainEvent;
use super::idle::IdleCameras;
use super::threads::Gate;
use crate::amqp::{
    Carries, ConnectionHandle, ConnectionUser, Link, MainThread, Owner, OwnerReport, Request,
    Scheduler, Share, SharedConnection,
};
use crate::breaker::Breaker;
use crate::capture::decode::Ladder;
use crate::capture::idle::Idling;
use crate::capture::installed::Ffmpeg;
use crate::capture::learnt::Learnt;
use crate::capture::starts::Starts;
use crate::capture::still::Still;
use crate::capture::{self, Reader};
use crate::config::{Amqp, Camera, CircuitBreaker, Config, MaxInFlight, Metadata, Pictures, Video};
use crate::events::{self, Events, Inputs};
use crate::handoff::gops::gops;
use crate::handoff::mailbox::mailbox;
use crate::handoff::peek::{Peek, PollWaker};
use crate::handoff::pool::Pool;
use crate::memory::{Pressure, Relief};
use crate::metrics::Metrics;
use crate::overview::{Overview, View};
use crate::publish::notice::{Notices, Published};
use crate::publish::source::{Source, Units};
use crate::publish::{Publisher, Route};
use crate::quality::Quality;
use crate::repeat::Repeat;
use crate::shutdown::Stop;
use crate::status::CameraStatus;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use crossbeam_utils::sync::Parker;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The rate for which a publisher of units is prepared, per second: that of most cameras at most.
/// The camera decides, and does not tell in advance.
const UNITS_PER_S: u32 = 30;

/// What all cameras share.
pub(super) struct Shared {
    amqp: Arc<Amqp>,
    breaker: CircuitBreaker,
    ffmpeg: Arc<Ffmpeg>,
    starts: Arc<Starts>,
    max_frame_bytes: usize,
    video: Video,
    idle: IdleCameras,
    pub(super) pressure: Arc<Pressure>,
    /// If events are wanted.
    announce: Option<Announce>,
    pub(super) page_waker: Arc<PollWaker>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) stop_owners: Arc<Stop>,
    pub(super) stop_http: Arc<Stop>,
    /// How many there have been for frames.
    connections: AtomicUsize,
    /// What the main thread hears.
    tell: Sender<MainEvent>,
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

/// A broker connection, as long as it has cameras: when all senders of requests have gone, its
/// owner ends.
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

/// Which connections a camera's publishers use: the name of each publisher at its connection's
/// owner, and the number of that connection. They start on the same one.
#[derive(Clone)]
pub(super) struct Places(Vec<(Arc<str>, usize)>);

impl Places {
    /// Those of `users`, all on connection `number`.
    fn of(users: impl Iterator<Item = Arc<str>>, number: usize) -> Self {
        Self(users.map(|user| (user, number)).collect())
    }

    /// The first one's connection.
    pub(super) fn first(&self) -> Option<usize> {
        self.0.first().map(|(_, number)| *number)
    }

    /// How many of them are on connection `number`.
    pub(super) fn count(&self, number: usize) -> usize {
        self.0.iter().filter(|(_, at)| *at == number).count()
    }

    /// Whether `user` is one of them, and on connection `number`.
    pub(super) fn has(&self, user: &str, number: usize) -> bool {
        self.0
            .iter()
            .any(|(name, at)| **name == *user && *at == number)
    }

    /// `user` is on connection `number` from now on. Returns whether it is the first one.
    pub(super) fn moved(&mut self, user: &str, number: usize) -> bool {
        let index = self.0.iter().position(|(name, _)| **name == *user);
        if let Some((_, at)) = index.and_then(|index| self.0.get_mut(index)) {
            *at = number;
        }
        index == Some(0)
    }
}

/// A camera at work.
pub(super) struct RunningCamera {
    pub(super) view: Arc<View>,
    pub(super) stop: Arc<Stop>,
    pub(super) places: Places,
    /// Ids of its threads.
    pub(super) threads: CameraThreads,
    pub(super) goal: Goal,
}

/// Ids of a camera's threads.
#[derive(Clone, Default)]
pub(super) struct CameraThreads {
    pub(super) reader: u64,
    /// Of its frames, of its units, or of both.
    pub(super) publishers: Vec<u64>,
}

impl CameraThreads {
    pub(super) fn all(&self) -> impl Iterator<Item = u64> {
        self.publishers.iter().copied().chain([self.reader])
    }
}

/// What becomes of a camera at work.
pub(super) enum Goal {
    Stay,
    /// Its threads are to end.
    End,
    /// Its threads are to end, and then this one begins.
    Replace(ReadyCamera),
}

/// A camera whose threads wait for the gate to be opened: nothing can fail then.
pub(super) struct ReadyCamera {
    pub(super) view: Arc<View>,
    pub(super) stop: Arc<Stop>,
    pub(super) places: Places,
    pub(super) threads: CameraThreads,
    pub(super) gate: Gate,
}

impl RunningCamera {
    pub(super) fn id(&self) -> &Arc<str> {
        &self.view.camera.id
    }

    pub(super) fn stays(&self) -> bool {
        matches!(self.goal, Goal::Stay)
    }

    /// What runs here, or will, and its places.
    pub(super) fn lasting(&self) -> Option<(&Arc<View>, &Places)> {
        match &self.goal {
            Goal::Stay => Some((&self.view, &self.places)),
            Goal::End => None,
            Goal::Replace(next) => Some((&next.view, &next.places)),
        }
    }

    /// Whether connection `number` is used here, or will be.
    pub(super) fn uses(&self, number: usize) -> bool {
        let lasting = self.lasting().map_or(0, |(_, places)| places.count(number));
        self.places.count(number) + lasting > 0
    }
}

/// One camera's threads, not started yet.
pub(super) struct Pipeline {
    pub(super) reader: Reader,
    /// Each with the name of its thread.
    pub(super) publishers: Vec<(String, Publisher)>,
    pub(super) view: Arc<View>,
    pub(super) stop: Arc<Stop>,
    pub(super) places: Places,
}

impl Shared {
    pub(super) fn new(
        config: &Config,
        metrics: Arc<Metrics>,
        tell: Sender<MainEvent>,
    ) -> io::Result<Self> {
        Ok(Self {
            amqp: Arc::new(config.amqp.clone()),
            breaker: config.circuit_breaker.clone(),
            ffmpeg: Arc::new(Ffmpeg::new(config.ffmpeg_path.clone())),
            starts: Arc::default(),
            max_frame_bytes: config.max_frame_bytes,
            video: config.video.clone(),
            idle: IdleCameras::new(config),
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
            page_waker: Arc::new(PollWaker::new()?),
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
        let (connection, owner) = self.connection(number, Carries::Frames);
        (connection, self.idle.told_by(owner))
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
                OwnerReport::Look => MainEvent::Look,
                OwnerReport::Surplus { callers, granted } => {
                    MainEvent::Surplus(number, callers, granted)
                }
            };
            let _ = tell.send(event);
        });
        let owner = Owner::new(
            carries,
            Arc::clone(&link),
            Arc::clone(&self.amqp),
            asked,
            main_thread,
            Arc::clone(&self.stop_owners),
        );
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

    pub(super) fn pipeline(
        &self,
        camera: &Camera,
        connection: &Connection,
    ) -> io::Result<Pipeline> {
        let stop = Stop::new()?;
        let parker = Parker::new();
        let (frames, mailbox) = mailbox(parker.unparker().clone());
        let pool = Pool::new();
        let changed = self.announce.as_ref().map(|it| it.changed.0.clone());
        let units = camera.passthrough.then(|| {
            let parker = Parker::new();
            let waker = parker.unparker().clone();
            (
                gops(self.video.max_bytes, self.video.max_age, waker),
                parker,
            )
        });
        let idleness = self.idle.add(camera);
        let storage = units.as_ref().map(|((queue, _), _)| queue.storage());
        let view = Arc::new(View {
            camera: Arc::new(camera.clone()),
            metrics: self.metrics.camera(&camera.id),
            status: Arc::new(CameraStatus::new(changed)),
            quality: Arc::new(Quality::new(camera.quality)),
            relief: Arc::new(Relief::new(
                Arc::clone(&self.pressure),
                pool.clone(),
                storage,
            )),
            peek: Arc::new(Peek::new(Arc::clone(&self.page_waker))),
            idleness: idleness.clone(),
            link: Mutex::new(Arc::clone(&connection.link)),
            scheduler: Mutex::new(Arc::clone(&connection.scheduler)),
        });
        let mut publishers = vec![];
        if camera.pictures != Pictures::None {
            let source = Source::Frames(mailbox);
            let publisher = self.publisher(&view, connection, source, parker);
            publishers.push((format!("pub-{}", camera.id), publisher));
        }
        let video = units.map(|((queue, receiver), parker)| {
            let units = Units::new(receiver, Arc::clone(&view.metrics));
            let publisher = self.publisher(&view, connection, Source::Units(units), parker);
            publishers.push((format!("vid-{}", camera.id), publisher));
            capture::video::Video::new(queue, &self.video)
        });
        let users = publishers.iter().map(|(_, it)| it.source.user(&camera.id));
        Ok(Pipeline {
            places: Places::of(users, connection.number),
            reader: Reader {
                camera: Arc::clone(&view.camera),
                ffmpeg: Arc::clone(&self.ffmpeg),
                starts: Arc::clone(&self.starts),
                stop: Arc::clone(&stop),
                mailbox: frames,
                peek: Arc::clone(&view.peek),
                pool,
                video,
                idle: idleness.map(|it| Idling::new(&view.camera, it)),
                metrics: Arc::clone(&view.metrics),
                quality: Arc::clone(&view.quality),
                relief: Arc::clone(&view.relief),
                status: Arc::clone(&view.status),
                breaker: Breaker::new(&self.breaker),
                max_frame_bytes: self.max_frame_bytes,
                max_age: self.amqp.max_age,
                learnt: Learnt::default(),
                ladder: Ladder::new(camera),
                late_said: Repeat::default(),
                still: Still::new(camera.frozen),
                only_one: false,
            },
            publishers,
            view,
            stop,
        })
    }

    fn publisher(
        &self,
        view: &View,
        connection: &Connection,
        source: Source,
        parker: Parker,
    ) -> Publisher {
        let (camera, waker) = (&view.camera, parker.unparker().clone());
        let announce = self.announce.as_ref().filter(|it| it.metadata.frames);
        let route = match source {
            Source::Frames(_) => Route {
                exchange: camera.exchange.clone(),
                routing_key: camera.routing_key.clone(),
                fps: camera.fps,
                max_age: self.amqp.max_age,
            },
            Source::Units(_) => Route {
                exchange: self.video.exchange.clone(),
                routing_key: camera.video_routing_key.clone(),
                fps: UNITS_PER_S,
                max_age: self.video.max_age,
            },
        };
        Publisher {
            camera: Arc::clone(camera),
            amqp: Arc::clone(&self.amqp),
            metrics: Arc::clone(&view.metrics),
            connection: ConnectionHandle::new(
                connection.shared(),
                ConnectionUser {
                    name: source.user(&camera.id),
                    waker: Some(waker.clone()),
                    status: Some(Arc::clone(&view.status)),
                },
            ),
            share: Arc::new(Share::new(&connection.scheduler, waker)),
            notices: announce
                .filter(|_| matches!(source, Source::Frames(_)))
                .map(|it| it.notices.clone()),
            source,
            route,
            parker,
            idleness: view.idleness.clone(),
        }
    }
}
