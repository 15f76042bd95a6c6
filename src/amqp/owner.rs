//! A connection's owner thread: connects, opens the channels that users ask for, and reconnects
//! with backoff when the connection ends.
//!
//! A broker may grant fewer channels than there are users, by its `channel_max` or by a limit of
//! the user account. The owner hands the users without a channel to the main thread, which finds
//! them another connection.

mod attempt;
mod bindings;
mod talk;

use super::client::{BindingListener, BlockedNotice, Connection};
use super::error::{Error, ErrorKind};
use super::link::Link;
use crate::backoff::{Backoff, JITTER, random};
use crate::config::Amqp;
use crate::repeat::{Blinking, Repeat};
use crate::shutdown::Stop;
use crossbeam_channel::{Receiver, RecvTimeoutError, at, never, select};
use std::cell::OnceCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use talk::{
    Caller, Carries, Control, MainThread, OwnerReport, Request, SharedConnection, names,
};

/// Backoff while the broker is down, from and to. Capped low: a broker that comes back gets frames
/// within a second, jitter included, and a refused TCP connect is cheap.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));
/// Backoff while the broker refuses us, from and to: only a person can change that, and RabbitMQ
/// logs each attempt.
const RETRY_REFUSED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Pause after the broker ended the connection because it grants no further channel: RabbitMQ
/// counts the channels of an ended connection for a moment longer.
const RETRY_FULL: Duration = Duration::from_secs(1);

/// How often the main thread is asked again to find another connection for users without a channel:
/// it may have had no thread or descriptor for it.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// Pause before users without a channel are handed over: cameras that start together have all asked
/// by then, and are moved and named together.
const ALL_ASK: Duration = Duration::from_millis(200);

/// A connection that lasted this long was a good one, so the backoff starts anew. A broker that
/// accepts the login and then closes is tried twice a second, not ten times.
const STABLE: Duration = Duration::from_secs(10);

/// The owner thread's state.
#[derive(Debug)]
pub struct Owner {
    /// What it carries, for the log.
    carries: Carries,
    /// Shared with the users and the main thread.
    link: Arc<Link>,
    /// Brokers and timeouts.
    amqp: Arc<Amqp>,
    /// From the users. Its end ends the owner.
    requests: Receiver<Request>,
    /// All users that have asked for a channel.
    publishers: Vec<Caller>,
    /// The order to stop; interrupts a connect.
    stop: Arc<Stop>,
    /// Users that wait for a channel. Kept over a panic, since a user asks once.
    wanted: Vec<Caller>,
    /// Users for which the broker has no channel on this connection, until they move.
    surplus: Vec<Caller>,
    /// When the main thread is to be asked again about them.
    ask_again: Option<Instant>,
    /// Why the broker refuses the login, if it does.
    refused: Option<String>,
    /// To the main thread.
    main_thread: MainThread,
    /// If reports of new bindings are wanted.
    bindings: Option<BindingListener>,
    /// What was last said of these.
    bindings_said: String,
    /// Index of the broker to try first: the one that worked last, or the next one if that did not
    /// last.
    preferred: usize,
}

/// All users have ended.
struct Done;

impl Owner {
    /// One that connects when it runs. The end of `requests` ends it; `stop` interrupts a connect.
    pub fn new(
        carries: Carries,
        link: Arc<Link>,
        amqp: Arc<Amqp>,
        requests: Receiver<Request>,
        main_thread: MainThread,
        stop: Arc<Stop>,
    ) -> Self {
        Self {
            carries,
            link,
            amqp,
            requests,
            publishers: vec![],
            stop,
            wanted: vec![],
            surplus: vec![],
            ask_again: None,
            refused: None,
            main_thread,
            bindings: None,
            bindings_said: String::new(),
            preferred: 0,
        }
    }

    /// Tells `listener` of new bindings, if the broker reports them.
    pub fn hear_bindings(mut self, listener: BindingListener) -> Self {
        self.bindings = Some(listener);
        self
    }

    /// Runs until all users have ended.
    pub fn run(&mut self) {
        // After a panic the link describes a connection that is gone.
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
                        // We cut it ourselves, in order to stop.
                        Ok(_) if self.stop.requested() => return,
                        Ok(error) => error.named(&name),
                    };
                    if connected.elapsed() >= STABLE {
                        (soon, slowly) = (backoff(RETRY), backoff(RETRY_REFUSED));
                    } else if ended.kind != ErrorKind::Full {
                        // A broker that accepts the login and then closes must not keep us from the
                        // next one.
                        self.preferred = (self.preferred + 1) % self.amqp.endpoints.len().max(1);
                    }
                    ended
                }
                Err(error) if error.kind == ErrorKind::Stopped => return,
                Err(error) => error,
            };
            down_since.get_or_insert_with(Instant::now);
            self.link.set_why_down(&failed.text);
            let mut whom = String::new();
            if failed.kind == ErrorKind::Refused {
                whom = self.refuse(&failed.text);
            }
            if let Some(again) = said.say(&format!("{failed}{whom}"), Instant::now()) {
                log::warn!("{prefix}{failed}{again}{whom}; retrying, {meanwhile}");
            }
            let delay = match failed.kind {
                ErrorKind::Refused => slowly.next(random()),
                ErrorKind::Full => RETRY_FULL,
                _ => soon.next(random()),
            };
            if self.pause(delay).is_err() {
                return;
            }
        }
    }

    /// Serves the users until the connection ends; returns why it did.
    fn serve(&mut self, mut connection: Named, alarm: &mut Blinking) -> Result<Error, Done> {
        let events = connection.inner.events().clone();
        let mut opened = None;
        let (binding_queue, mut binding_consumer) = (OnceCell::new(), None);
        let served = loop {
            // A broker that has blocked publishing reads nothing, so it opens no channel.
            if !self.link.blocked()
                && let Err((error, count)) = self.open_wanted(&mut connection.inner)
            {
                opened = Some(count);
                break Ok(error);
            }
            // When publishers have their channels, since it takes several round trips.
            if binding_queue.get().is_none() && !self.publishers.is_empty() && !self.link.blocked()
            {
                let queue = binding_queue.get_or_init(|| self.binding_queue(&mut connection));
                let queue = queue.as_ref();
                binding_consumer = queue.and_then(|it| self.consume(it, &connection));
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
                recv(self.ask_again.map_or_else(never, at)) -> _ => self.hand_over_surplus(),
            }
        };
        // The alarm ends with the connection; the next one is reported again.
        alarm.ends();
        // Ends all channels, if the connection has not ended already.
        self.link.owner_waits_since(Some(Instant::now()));
        let closed = connection.inner.close();
        let cut = self.link.forget_socket();
        let ended = match (served?, cut, closed) {
            (ended, Some(why), _) => Error { text: why, ..ended },
            // Why the connection ended is more precise than the error of a call on it.
            (_, None, Err(why)) => why,
            (ended, None, Ok(())) => ended,
        };
        drop(binding_consumer);
        if ended.kind == ErrorKind::Refused {
            // Perhaps a limit of the user's channels, and cameras need theirs.
            self.bindings = None;
        }
        Ok(match opened {
            Some(opened) => self.refused_one_more(ended, opened),
            None => ended,
        })
    }

    /// Opens all wanted channels before it hands out the first. Under an alarm the broker blocks
    /// the connection at the first frame, and would then not open the second channel. If the
    /// connection ends meanwhile, all of them stay wanted; returns how many were open by then.
    fn open_wanted(&mut self, connection: &mut Connection) -> Result<(), (Error, usize)> {
        self.hear_all();
        let mut opened = Vec::with_capacity(self.wanted.len());
        while opened.len() < self.wanted.len() {
            self.link.owner_waits_since(Some(Instant::now()));
            let channel = connection.open_channel();
            self.link.owner_waits_since(None);
            match channel {
                Ok(channel) => opened.push(channel),
                // The broker's `channel_max` is reached, and the connection lives.
                Err(error) if error.kind == ErrorKind::Full => {
                    self.surplus.extend(self.wanted.drain(opened.len()..));
                    self.ask_again = Some(Instant::now() + ALL_ASK);
                }
                Err(error) => return Err((error, opened.len())),
            }
        }
        self.refused = None;
        for (publisher, channel) in self.wanted.drain(..).zip(opened) {
            publisher.tell(Control::Channel(Box::new(channel)));
        }
        if self.ask_again.is_none() {
            self.hand_over_surplus();
        }
        Ok(())
    }

    /// The connection `ended` when one more channel than the `opened` ones was requested. If a
    /// limit is the reason, the users up to it get channels from the next connection, and the
    /// others wait to be moved.
    fn refused_one_more(&mut self, ended: Error, opened: usize) -> Error {
        let waiting = self.wanted.len() + self.surplus.len();
        let others = self.publishers.len().saturating_sub(waiting) + opened;
        if ended.kind != ErrorKind::Refused || others == 0 {
            return ended;
        }
        // Handed over only once the others have their channels, or it would take theirs.
        let opened = opened.min(self.wanted.len());
        self.surplus.extend(self.wanted.drain(opened..));
        self.ask_again = None;
        Error {
            kind: ErrorKind::Full,
            ..ended
        }
    }

    /// Asks the main thread for another connection for the users without a channel.
    fn hand_over_surplus(&mut self) {
        self.ask_again = match self.surplus.is_empty() {
            true => None,
            false => Some(Instant::now() + ASK_AGAIN),
        };
        if !self.surplus.is_empty() {
            let without = self.surplus.len() + self.wanted.len();
            (self.main_thread.0)(OwnerReport::Surplus {
                callers: self.surplus.clone(),
                granted: self.publishers.len().saturating_sub(without),
            });
        }
    }

    /// The broker refuses the login: tells the users that wait, and returns their names for the
    /// log.
    fn refuse(&mut self, why: &str) -> String {
        self.hear_all();
        for publisher in &self.wanted {
            publisher.tell(Control::Refused(why.to_owned()));
        }
        self.refused = Some(why.to_owned());
        match self.carries {
            Carries::Frames if !self.wanted.is_empty() => {
                format!("; not published: {}", names(&self.wanted))
            }
            _ => String::new(),
        }
    }

    fn blocked(&self, event: BlockedNotice, name: &str, alarm: &mut Blinking) {
        let now = Instant::now();
        let blocked = matches!(event, BlockedNotice::Blocked(_));
        self.link.set_blocked(blocked, now);
        match event {
            BlockedNotice::Blocked(reason) => {
                let why = alarm.begins(format!("({reason})"), now);
                self.say_blocked(why, name);
            }
            BlockedNotice::Unblocked if alarm.ends() => {
                log::info!(
                    "{}broker {name} has unblocked publishing",
                    self.carries.prefix()
                );
            }
            BlockedNotice::Unblocked => {}
        }
        for publisher in &self.publishers {
            publisher.tell(Control::Look);
        }
    }

    fn say_blocked(&self, why: Option<String>, name: &str) {
        let (prefix, meanwhile) = (self.carries.prefix(), self.carries.meanwhile());
        if let Some(why) = why {
            log::warn!("{prefix}broker {name} has blocked publishing {why}; {meanwhile}");
        }
    }

    /// Waits, and takes requests meanwhile. Ends early when all users have ended.
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

    fn hear_all(&mut self) {
        while let Ok(request) = self.requests.try_recv() {
            self.hear(request);
        }
    }

    fn hear(&mut self, request: Request) {
        match request {
            Request::Channel(publisher) => {
                if let Some(why) = &self.refused {
                    publisher.tell(Control::Refused(why.clone()));
                }
                self.surplus.retain(|known| !known.is(&publisher));
                for list in [&mut self.publishers, &mut self.wanted] {
                    if !list.iter().any(|known| known.is(&publisher)) {
                        list.push(publisher.clone());
                    }
                }
            }
            Request::Gone(publisher) => {
                for list in [&mut self.publishers, &mut self.wanted, &mut self.surplus] {
                    list.retain(|known| !known.is(&publisher));
                }
            }
        }
    }
}

struct Named {
    name: String,
    vhost: String,
    inner: Connection,
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

#[cfg(test)]
pub(crate) mod tests;
