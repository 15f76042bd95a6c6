//! A connection's owner thread: makes the connection, opens the channels its publishers ask for,
//! and makes it anew for ever, with backoff, when it ends.

use super::link::Link;
use crate::backoff::{Backoff, JITTER, random};
use crate::broker::{Channel, Connection, Error, ErrorKind, Event, dial};
use crate::config::Amqp;
use crate::repeat::{Blinking, Repeat};
use crate::shutdown::Stop;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, at, never, select};
use crossbeam_utils::sync::Unparker;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between attempts while the broker is down. Capped low: a broker that comes back has frames within a
/// second, with the fifth of jitter, and a refused connect costs nobody anything.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));
/// Between attempts while the broker refuses us: only a person can mend that, and RabbitMQ logs
/// each attempt.
const RETRY_REFUSED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// A connection that held for so long was a good one: the next failure is a new one. A peer that lets
/// us in and then cuts is dialled twice a second, not ten times.
const STABLE: Duration = Duration::from_secs(10);

/// What a connection carries, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carries {
    /// Pictures.
    Frames,
    /// Events about cameras.
    Events,
}

impl Carries {
    fn prefix(self) -> &'static str {
        match self {
            Self::Frames => "",
            Self::Events => "events: ",
        }
    }

    /// What becomes of it while the broker takes nothing.
    fn meanwhile(self) -> &'static str {
        match self {
            Self::Frames => "newest frames only",
            Self::Events => "then telling how each camera is",
        }
    }
}

/// What a publisher hears from its connection's owner.
#[derive(Debug)]
pub enum Control {
    /// The channel that it asked for.
    Channel(Box<Channel>),
    /// The broker blocked or unblocked the connection: look at the link.
    Look,
}

/// What a publisher says to its connection's owner.
#[derive(Debug)]
pub enum Request {
    /// It wants a channel.
    Channel(Caller),
    /// It has ended.
    Gone(Caller),
}

/// A publisher as its connection's owner knows and answers it.
#[derive(Debug, Clone)]
pub struct Caller {
    control: Sender<Control>,
    /// If it parks; else it waits for what it is told.
    waker: Option<Unparker>,
}

impl Caller {
    /// One that hears from `control`, and is woken by `waker` if it parks.
    pub fn new(control: Sender<Control>, waker: Option<Unparker>) -> Self {
        Self { control, waker }
    }

    /// One that has ended hears nothing; a channel for it is closed by being dropped.
    fn tell(&self, word: Control) {
        let _ = self.control.send(word);
        if let Some(waker) = &self.waker {
            waker.unpark();
        }
    }

    fn is(&self, other: &Self) -> bool {
        self.control.same_channel(&other.control)
    }
}

/// The owner thread's state.
#[derive(Debug)]
pub struct Owner {
    /// For the log.
    pub carries: Carries,
    /// Shared with publishers and the deadline keeper.
    pub link: Arc<Link>,
    /// Brokers and time-outs.
    pub amqp: Arc<Amqp>,
    /// From the publishers. Its end ends the owner.
    pub requests: Receiver<Request>,
    /// The publishers that have asked for a channel.
    pub publishers: Vec<Caller>,
    /// Wakes a connect in progress.
    pub stop: Arc<Stop>,
    /// Those who wait for a channel. Outlives a panic, since nobody asks twice.
    pub wanted: Vec<Caller>,
    /// The broker to try first: the one that worked last.
    pub preferred: usize,
}

/// All publishers have ended: nothing to do any more.
struct Done;

impl Owner {
    /// Runs until every publisher has ended.
    pub fn run(&mut self) {
        // After a panic: what the link says is of a connection that is gone.
        self.link.forget_socket();
        let (prefix, meanwhile) = (self.carries.prefix(), self.carries.meanwhile());
        let (mut said, mut alarm) = (Repeat::default(), Blinking::default());
        let mut down_since = None;
        let (mut soon, mut slowly) = (backoff(RETRY), backoff(RETRY_REFUSED));
        loop {
            let failed = match self.connect(&mut said) {
                Ok(connection) => {
                    let back = match down_since.take() {
                        None => String::new(),
                        Some(since) => format!(" after {}", seconds(Instant::now() - since)),
                    };
                    if said.over() {
                        log::info!("{prefix}connected to broker {}{back}", connection.name);
                    }
                    let (name, connected) = (connection.name.clone(), Instant::now());
                    let ended = match self.serve(connection, &mut alarm) {
                        Err(Done) => return,
                        // Cut because we are stopping: nothing to tell, nothing to mend.
                        Ok(_) if self.stop.requested() => return,
                        Ok(error) => error.named(&name),
                    };
                    if connected.elapsed() >= STABLE {
                        (soon, slowly) = (backoff(RETRY), backoff(RETRY_REFUSED));
                    }
                    ended
                }
                Err(error) if error.kind == ErrorKind::Stopped => return,
                Err(error) => error,
            };
            down_since.get_or_insert_with(Instant::now);
            self.link.set_why_down(&failed.text);
            if let Some(again) = said.say(&failed.text, Instant::now()) {
                log::warn!("{prefix}{failed}{again}; trying again until it works, {meanwhile}");
            }
            let delay = match failed.kind {
                ErrorKind::Refused => slowly.next(random()),
                _ => soon.next(random()),
            };
            if self.pause(delay).is_err() {
                return;
            }
        }
    }

    /// Tries each broker once: first the one that worked last, then the others in turn.
    fn connect(&mut self, said: &mut Repeat) -> Result<Named, Error> {
        let count = self.amqp.endpoints.len();
        let mut failures: Vec<Error> = Vec::new();
        for n in (0..count).map(|n| (self.preferred + n) % count) {
            let Some(endpoint) = self.amqp.endpoints.get(n) else {
                continue;
            };
            let attempt =
                dial(endpoint, self.amqp.connect_timeout, &self.stop).and_then(|socket| {
                    self.link.use_socket(socket.clone());
                    self.link.owner_waits_since(Some(Instant::now()));
                    Connection::open(&socket, endpoint, &self.amqp)
                });
            self.link.owner_waits_since(None);
            match attempt {
                Ok(inner) => {
                    self.link.connected_with(inner.events().clone());
                    self.preferred = n;
                    for failed in failures {
                        if let Some(again) = said.say(&failed.text, Instant::now()) {
                            let prefix = self.carries.prefix();
                            log::warn!("{prefix}{failed}{again}; using {endpoint} instead");
                        }
                    }
                    return Ok(Named {
                        name: format!("{endpoint} ({})", inner.broker_version()),
                        inner,
                    });
                }
                Err(error) => {
                    let cut = self.link.forget_socket();
                    if error.kind == ErrorKind::Stopped || self.stop.requested() {
                        return Err(Error {
                            kind: ErrorKind::Stopped,
                            ..error
                        });
                    }
                    let error = match cut {
                        // amiquip takes any end during the login for a refusal.
                        Some(text) => Error {
                            text,
                            kind: ErrorKind::Down,
                        },
                        None => error,
                    };
                    failures.push(error.named(&endpoint.to_string()));
                }
            }
        }
        // Slowly only when every broker refuses us.
        let refused = |error: &Error| error.kind == ErrorKind::Refused;
        let kind = match failures.iter().all(refused) {
            true => ErrorKind::Refused,
            false => ErrorKind::Down,
        };
        let texts: Vec<_> = failures.into_iter().map(|error| error.text).collect();
        Err(Error {
            kind,
            text: texts.join("; "),
        })
    }

    /// Serves the publishers until the connection ends; says why it did.
    fn serve(&mut self, mut connection: Named, alarm: &mut Blinking) -> Result<Error, Done> {
        let events = connection.inner.events().clone();
        let served = loop {
            // A blocked broker reads nothing, so it opens nothing.
            if !self.link.blocked()
                && let Err(error) = self.open_wanted(&mut connection.inner)
            {
                break Ok(error);
            }
            select! {
                recv(self.requests) -> request => match request {
                    Ok(request) => self.hear(request),
                    Err(_) => break Err(Done),
                },
                recv(alarm.due().map_or_else(never, at)) -> _ => {
                    let why = alarm.say(Instant::now());
                    self.say_blocked(why, &connection.name);
                },
                recv(events.receiver()) -> event => match event {
                    Ok(event) => self.blocked(event.into(), &connection.name, alarm),
                    Err(_) => break Ok(Error {
                        kind: ErrorKind::Down,
                        text: "the connection was cut".to_owned(),
                    }),
                },
            }
        };
        // So has an alarm of its broker; what follows is said anyway.
        alarm.ends();
        // The channels of the publishers end with the connection, if it has not ended already.
        self.link.owner_waits_since(Some(Instant::now()));
        let closed = connection.inner.close();
        let cut = self.link.forget_socket();
        served.map(|ended| match (cut, closed) {
            (Some(why), _) => Error { text: why, ..ended },
            // Why the connection itself ended says more than what its user saw.
            (None, Err(why)) => why,
            (None, Ok(())) => ended,
        })
    }

    /// Opens every channel that is wanted before it hands out the first: under an alarm the broker
    /// blocks the connection at the first frame, and would leave us waiting for the second channel.
    fn open_wanted(&mut self, connection: &mut Connection) -> Result<(), Error> {
        while let Ok(request) = self.requests.try_recv() {
            self.hear(request);
        }
        let mut opened = Vec::with_capacity(self.wanted.len());
        for _ in 0..self.wanted.len() {
            self.link.owner_waits_since(Some(Instant::now()));
            let channel = connection.open_channel();
            self.link.owner_waits_since(None);
            opened.push(channel?);
        }
        // Only now: had one failed, all would be wanted of the next connection still.
        for (publisher, channel) in self.wanted.drain(..).zip(opened) {
            publisher.tell(Control::Channel(Box::new(channel)));
        }
        Ok(())
    }

    fn blocked(&self, event: Event, name: &str, alarm: &mut Blinking) {
        let now = Instant::now();
        let blocked = matches!(event, Event::Blocked(_));
        self.link.set_blocked(blocked, now);
        match event {
            Event::Blocked(reason) => {
                let why = alarm.begins(format!("({reason})"), now);
                self.say_blocked(why, name);
            }
            Event::Unblocked if alarm.ends() => {
                log::info!(
                    "{}broker {name} takes messages again",
                    self.carries.prefix()
                );
            }
            Event::Unblocked => {}
        }
        for publisher in &self.publishers {
            publisher.tell(Control::Look);
        }
    }

    fn say_blocked(&self, why: Option<String>, name: &str) {
        let (prefix, meanwhile) = (self.carries.prefix(), self.carries.meanwhile());
        if let Some(why) = why {
            log::warn!(
                "{prefix}broker {name} takes no messages for now {why}; waiting, {meanwhile}"
            );
        }
    }

    /// Waits, taking requests in. Woken by the end of the publishers.
    fn pause(&mut self, delay: Duration) -> Result<(), Done> {
        let until = Instant::now() + delay;
        loop {
            match self.requests.recv_deadline(until) {
                Ok(request) => self.hear(request),
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => return Err(Done),
            }
        }
    }

    fn hear(&mut self, request: Request) {
        match request {
            Request::Channel(publisher) => {
                for list in [&mut self.publishers, &mut self.wanted] {
                    if !list.iter().any(|known| known.is(&publisher)) {
                        list.push(publisher.clone());
                    }
                }
            }
            Request::Gone(publisher) => {
                for list in [&mut self.publishers, &mut self.wanted] {
                    list.retain(|known| !known.is(&publisher));
                }
            }
        }
    }
}

struct Named {
    name: String,
    inner: Connection,
}

impl Error {
    /// With the broker that it is about.
    fn named(self, broker: &str) -> Self {
        Self {
            text: format!("broker {broker}: {}", self.text),
            ..self
        }
    }
}

fn backoff((initial, max): (Duration, Duration)) -> Backoff {
    Backoff::new(initial, max, 2.0, JITTER)
}

/// `0.5 s`, `12 s`
pub(crate) fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 10.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{seconds:.0} s")
    }
}
