//! Builds what the threads work with, before any of them starts, so that a failure starts none.

use super::MainEvent;
use super::threads::Gate;
use crate::amqp::{
    Carries, ConnectionHandle, ConnectionUser, Link, MainThread, Owner, OwnerReport, Request,
    Scheduler, Share, SharedConnection,
};
use crate::breaker::Breaker;
use crate::capture::Reader;
use crate::capture::installed::Ffmpeg;
use crate::capture::learnt::Learnt;
use crate::capture::starts::Starts;
use crate::config::{Amqp, Camera, CircuitBreaker, Config, MaxInFlight, Metadata};
use crate::events::{self, Events, Inputs};
use crate::handoff::mailbox::mailbox;
use crate::handoff::peek::{Peek, PollWaker};
use crate::handoff::pool::Pool;
use crate::memory::{Pressure, Relief};
use crate::metrics::Metrics;
use crate::overview::{Overview, View};
use crate::publish::Publisher;
use crate::publish::notice::{Notices, Published};
use crate::repeat::Repeat;
use crate::shutdown::Stop;
use crate::status::CameraStatus;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use crossbeam_utils::sync::Parker;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What all cameras share.
pub(super) struct Shared {
    amqp: Arc<Amqp>,
    breaker: CircuitBreaker,
    ffmpeg: Arc<Ffmpeg>,
    starts: Arc<Starts>,
    max_frame_bytes: usize,
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

/// A camera at work.
pub(super) struct RunningCamera {
    pub(super) view: Arc<View>,
    pub(super) stop: Arc<Stop>,
    /// Number of its connection.
    pub(super) connection: usize,
    /// Ids of its threads.
    pub(super) threads: [u64; 2],
    pub(super) goal: Goal,
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
    /// Number of its connection.
    pub(super) connection: usize,
    pub(super) threads: [u64; 2],
    pub(super) gate: Gate,
}

impl RunningCamera {
    pub(super) fn id(&self) -> &Arc<str> {
        &self.view.camera.id
    }

    pub(super) fn stays(&self) -> bool {
        matches!(self.goal, Goal::Stay)
    }

    /// What runs here, or will, and the number of its connection.
    pub(super) fn lasting(&self) -> Option<(&Arc<View>, usize)> {
        match &self.goal {
            Goal::Stay => Some((&self.view, self.connection)),
            Goal::End => None,
            Goal::Replace(next) => Some((&next.view, next.connection)),
        }
    }

    /// Whether connection `number` is used here, or will be.
    pub(super) fn uses(&self, number: usize) -> bool {
        let lasting = self.lasting().map(|(_, connection)| connection);
        self.connection == number || lasting == Some(number)
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
        tell: Sender<MainEvent>,
    ) -> io::Result<Self> {
        Ok(Self {
            amqp: Arc::new(config.amqp.clone()),
            breaker: config.circuit_breaker.clone(),
            ffmpeg: Arc::new(Ffmpeg::new(config.ffmpeg_path.clone())),
            starts: Arc::default(),
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
        let announce = self.announce.as_ref();
        let changed = announce.map(|it| it.changed.0.clone());
        let notices = announce.filter(|it| it.metadata.frames);
        let view = Arc::new(View {
            camera: Arc::new(camera.clone()),
            metrics: self.metrics.camera(&camera.id),
            status: Arc::new(CameraStatus::new(changed)),
            relief: Arc::new(Relief::new(Arc::clone(&self.pressure), pool.clone())),
            peek: Arc::new(Peek::new(Arc::clone(&self.page_waker))),
            link: Mutex::new(Arc::clone(&connection.link)),
            scheduler: Mutex::new(Arc::clone(&connection.scheduler)),
        });
        Ok(Pipeline {
            reader: Reader {
                camera: Arc::clone(&view.camera),
                ffmpeg: Arc::clone(&self.ffmpeg),
                starts: Arc::clone(&self.starts),
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
