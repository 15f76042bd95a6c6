//! `edge-video check --connect`: one login to each broker and one frame from each camera. It uses
//! the daemon's code and messages; the daemon may run at the same time.
//!
//! Nothing is declared or published. The exchanges are only looked up. A signal has its default
//! effect: it ends the process, and the kernel then kills each FFmpeg.

use crate::amqp::{Carries, Error, ErrorKind, Link, MainThread, Owner};
use crate::breaker::Breaker;
use crate::capture::decode::Ladder;
use crate::capture::installed::Ffmpeg;
use crate::capture::learnt::Learnt;
use crate::capture::starts::Starts;
use crate::capture::{Reader, Tried};
use crate::config::{Amqp, Camera, Config, Frozen, Pictures};
use crate::handoff::mailbox::mailbox;
use crate::handoff::peek::{Peek, PollWaker};
use crate::handoff::pool::Pool;
use crate::memory::{Pressure, Relief};
use crate::metrics::Metrics;
use crate::os_error::error_text;
use crate::quality::Quality;
use crate::repeat::Repeat;
use crate::shutdown::Stop;
use crate::status::CameraStatus;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use crossbeam_utils::sync::Parker;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The time for one camera or broker: the default of `first_frame_timeout`. FFmpeg then has a
/// second more to log off from its camera.
const PATIENCE: Duration = Duration::from_secs(20);

/// Cameras that are tried at once. 8 FFmpegs at 1080p use 0.7 GB, which a board with 1 GB just has.
/// 100 cameras that answer within a second take 13 s.
const AT_ONCE: usize = 8;

/// Interval at which the deadlines of handshakes are checked.
const LOOK: Duration = Duration::from_millis(100);

/// The result of one try, in words for the user.
type Outcome = Result<String, String>;

/// How many tries failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed {
    /// Brokers that failed.
    pub brokers: usize,
    /// Enabled cameras that failed.
    pub cameras: usize,
}

/// Tries all, and reports each outcome to `say` in the order of the file: brokers, then cameras.
///
/// # Errors
/// If threads or descriptors are not available.
pub fn connect(config: &Config, say: &dyn Fn(&Outcome)) -> io::Result<Failed> {
    let cameras: Vec<_> = config.cameras.iter().filter(|it| it.enabled).collect();
    let brokers = config.amqp.endpoints.iter().map(|endpoint| {
        let amqp = Amqp {
            endpoints: vec![endpoint.clone()],
            connect_timeout: config.amqp.connect_timeout.min(PATIENCE),
            ..config.amqp.clone()
        };
        let link = Link::new(amqp.connect_timeout, amqp.connect_timeout);
        (amqp, Arc::new(link))
    });
    let brokers: Vec<_> = brokers.collect();
    let exchanges = exchanges(config, &cameras);
    let common = Common {
        config,
        ffmpeg: Arc::new(Ffmpeg::new(config.ffmpeg_path.clone())),
        starts: Arc::default(),
        waker: Arc::new(PollWaker::new()?),
        metrics: Metrics::default(),
        stop: Stop::new()?,
    };
    let (tell, told) = unbounded();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for (n, (amqp, link)) in brokers.iter().enumerate() {
            let (told, stop, exchanges) = (tell.clone(), Arc::clone(&common.stop), &exchanges);
            let started = std::thread::Builder::new().spawn_scoped(scope, move || {
                let _ = told.send((n, broker(amqp, link, stop, exchanges)));
            });
            if let Err(error) = started {
                let _ = tell.send((
                    n,
                    Err(format!("cannot start a thread: {}", error_text(&error))),
                ));
            }
        }
        let mut helpers = 0;
        for _ in 0..cameras.len().min(AT_ONCE) {
            let told = tell.clone();
            let (common, cameras, next, before) = (&common, &cameras, &next, brokers.len());
            let started = std::thread::Builder::new()
                .spawn_scoped(scope, move || common.cameras(cameras, next, before, &told));
            helpers += usize::from(started.is_ok());
        }
        if helpers == 0 {
            for (n, camera) in cameras.iter().enumerate() {
                let why = format!("{}: cannot start a thread", camera.id);
                let _ = tell.send((brokers.len() + n, Err(why)));
            }
        }
        drop(tell);
        let links: Vec<_> = brokers.iter().map(|(_, link)| &**link).collect();
        report(&told, &links, cameras.len(), say)
    })
}

/// Reports the outcomes in order, and enforces the brokers' deadlines meanwhile.
fn report(
    told: &Receiver<(usize, Outcome)>,
    links: &[&Link],
    cameras: usize,
    say: &dyn Fn(&Outcome),
) -> io::Result<Failed> {
    let until = Instant::now() + PATIENCE;
    let mut failed = Failed {
        brokers: 0,
        cameras: 0,
    };
    let mut waiting = BTreeMap::new();
    let mut shown = 0;
    while shown < links.len() + cameras {
        match told.recv_timeout(LOOK) {
            Ok((n, outcome)) => drop(waiting.insert(n, outcome)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(io::Error::other("a thread has panicked"));
            }
        }
        let now = Instant::now();
        for link in links {
            link.check(now);
            // While a broker blocks publishing, the link itself has no deadline.
            if now >= until {
                link.cut("no answer from the broker");
            }
        }
        while let Some(outcome) = waiting.remove(&shown) {
            say(&outcome);
            let count = match shown < links.len() {
                true => &mut failed.brokers,
                false => &mut failed.cameras,
            };
            *count += usize::from(outcome.is_err());
            shown += 1;
        }
    }
    Ok(failed)
}

/// The exchanges of cameras and events, each once.
fn exchanges(config: &Config, cameras: &[&Camera]) -> Vec<String> {
    let mut names: Vec<_> = cameras.iter().map(|it| it.exchange.clone()).collect();
    names.extend(
        config
            .metadata
            .enabled
            .then(|| config.metadata.exchange.clone()),
    );
    names.sort_unstable();
    names.dedup();
    names
}

/// One login, and a lookup of the exchanges.
fn broker(amqp: &Amqp, link: &Arc<Link>, stop: Arc<Stop>, exchanges: &[String]) -> Outcome {
    let mut owner = Owner::new(
        Carries::Frames,
        Arc::clone(link),
        Arc::new(amqp.clone()),
        crossbeam_channel::never(),
        MainThread::new(|_| {}),
        stop,
    );
    owner
        .try_once(exchanges)
        .map(|(name, absent)| match absent.as_slice() {
            [] => format!("connected to broker {name}"),
            absent => format!(
                "connected to broker {name}; exchange {} does not exist yet: the daemon will \
                 declare it, and its user needs the configure permission for that",
                absent.join(", ")
            ),
        })
        .map_err(|error: Error| match error.kind {
            ErrorKind::Stopped => "stopping".to_owned(),
            _ => error.text,
        })
}

/// What all cameras share.
struct Common<'a> {
    config: &'a Config,
    ffmpeg: Arc<Ffmpeg>,
    starts: Arc<Starts>,
    waker: Arc<PollWaker>,
    metrics: Metrics,
    stop: Arc<Stop>,
}

impl Common<'_> {
    /// Tries one camera after another until none is left.
    fn cameras(
        &self,
        cameras: &[&Camera],
        next: &AtomicUsize,
        before: usize,
        tell: &Sender<(usize, Outcome)>,
    ) {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let Some(camera) = cameras.get(n) else { return };
            let id = &camera.id;
            let outcome = match self.camera(camera) {
                Tried::Live(text) => Ok(format!("{id}: {text}")),
                Tried::Failed(why) => Err(format!("{id}: {why}")),
            };
            let _ = tell.send((before + n, outcome));
        }
    }

    fn camera(&self, camera: &Camera) -> Tried {
        let until = Instant::now() + PATIENCE;
        let pool = Pool::new();
        let (mailbox, _receiver) = mailbox(Parker::new().unparker().clone());
        let mut reader = Reader {
            ffmpeg: Arc::clone(&self.ffmpeg),
            starts: Arc::clone(&self.starts),
            stop: Arc::clone(&self.stop),
            mailbox,
            peek: Arc::new(Peek::new(Arc::clone(&self.waker))),
            metrics: self.metrics.camera(&camera.id),
            quality: Arc::new(Quality::new(camera.quality)),
            relief: Arc::new(Relief::new(
                Arc::new(Pressure::default()),
                pool.clone(),
                None,
            )),
            pool,
            status: Arc::new(CameraStatus::new(None)),
            breaker: Breaker::new(&self.config.circuit_breaker),
            max_frame_bytes: self.config.max_frame_bytes,
            max_age: self.config.amqp.max_age,
            learnt: Learnt::default(),
            ladder: Ladder::new(camera),
            late_said: Repeat::default(),
            still: None,
            only_one: true,
            video: None,
            idle: None,
            // One picture shows that the camera can be decoded, also where none is published.
            camera: Arc::new(Camera {
                pictures: Pictures::All,
                frozen: Frozen::default(),
                ..camera.clone()
            }),
        };
        reader.try_once(until)
    }
}
