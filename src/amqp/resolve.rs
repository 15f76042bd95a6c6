//! Looks up host names, each on a thread of its own. No thread joins these threads, or waits for
//! them without a deadline.
//!
//! `getaddrinfo` has no deadline and cannot be interrupted: a name server that does not answer
//! holds it for 10 s and longer. There is at most one lookup of a name at a time, so a silent name
//! server costs one thread per name, however often it is asked.

use super::error::{Error, ErrorKind, error_text};
use crate::shutdown::Stop;
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread::Builder;
use std::time::{Duration, Instant};

/// Names that may be looked up at the same time. A configuration has one or two; the limit is for
/// one that is changed repeatedly while the name server is silent.
const LOOKUPS_MAX: usize = 16;

/// An answer that comes after its deadline is kept this long for the next attempt. Without this, a
/// name server that is slower than every deadline would never be of use. This is no longer than the
/// slowest backoff, since addresses may change.
const LATE_ANSWER_KEPT: Duration = Duration::from_secs(30);

/// `getaddrinfo` and the modules of the name service switch have some 64 KiB on the stack.
const STACK_BYTES: usize = 256 * 1024;

/// The system's name service.
static SYSTEM: Resolver = Resolver::new(|host| (host, 0).to_socket_addrs().map(Iterator::collect));

/// Looks a name up; may block for any time.
type Ask = fn(&str) -> io::Result<Vec<SocketAddr>>;

/// Lookups under way, and answers that were not used yet.
struct Resolver {
    ask: Ask,
    lookups: Mutex<BTreeMap<String, Entry>>,
}

#[derive(Clone)]
enum Entry {
    Asked(Arc<Lookup>),
    Answered(Answer),
}

struct Lookup {
    /// Thrown when the answer is there.
    done: Arc<Stop>,
    answer: Mutex<Option<Answer>>,
}

#[derive(Clone)]
struct Answer {
    at: Instant,
    addresses: Result<Vec<SocketAddr>, Error>,
}

/// The addresses of `host`. Woken by `stop`, and at `until`.
///
/// # Errors
/// When the name does not resolve, or not in time, or `stop` was thrown.
pub(super) fn resolve(host: &str, until: Instant, stop: &Stop) -> Result<Vec<SocketAddr>, Error> {
    SYSTEM.resolve(host, until, stop)
}

impl Resolver {
    const fn new(ask: Ask) -> Self {
        Self {
            ask,
            lookups: Mutex::new(BTreeMap::new()),
        }
    }

    fn resolve(
        &'static self,
        host: &str,
        until: Instant,
        stop: &Stop,
    ) -> Result<Vec<SocketAddr>, Error> {
        let lookup = match self.lookup(host)? {
            Entry::Answered(answer) => return answer.addresses,
            Entry::Asked(lookup) => lookup,
        };
        wait(&lookup.done, until, stop)?;
        let mut lookups = self.lookups.lock();
        // It came in time, so it is not kept: the next attempt asks again.
        if matches!(lookups.get(host), Some(Entry::Answered(_))) {
            lookups.remove(host);
        }
        match &*lookup.answer.lock() {
            Some(answer) => answer.addresses.clone(),
            None => Err(down("the name lookup ended without an answer")),
        }
    }

    /// A late answer for `host`, which is used once, or the lookup under way, or a new one.
    fn lookup(&'static self, host: &str) -> Result<Entry, Error> {
        let mut lookups = self.lookups.lock();
        lookups.retain(|_, entry| match entry {
            Entry::Asked(_) => true,
            Entry::Answered(answer) => answer.at.elapsed() < LATE_ANSWER_KEPT,
        });
        match lookups.get(host) {
            Some(entry @ Entry::Asked(_)) => return Ok(entry.clone()),
            Some(Entry::Answered(_)) => {
                let answered = lookups.remove(host);
                return answered.ok_or_else(|| down("the name has no address"));
            }
            None => {}
        }
        if lookups.len() >= LOOKUPS_MAX {
            return Err(down(
                "the name server does not answer: too many names are being looked up",
            ));
        }
        let lookup = Arc::new(Lookup {
            done: Stop::new().map_err(|error| down(&error_text(&error)))?,
            answer: Mutex::new(None),
        });
        let (name, own) = (host.to_owned(), Arc::clone(&lookup));
        Builder::new()
            .name("resolve".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || self.look_up(&name, &own))
            .map_err(|error| {
                down(&format!(
                    "no thread to look the name up: {}",
                    error_text(&error)
                ))
            })?;
        let entry = Entry::Asked(lookup);
        lookups.insert(host.to_owned(), entry.clone());
        Ok(entry)
    }

    /// The work of the lookup's thread.
    fn look_up(&self, host: &str, lookup: &Lookup) {
        let addresses = (self.ask)(host);
        let answer = Answer {
            at: Instant::now(),
            addresses: addresses
                .map_err(|error| down(&format!("the name does not resolve: {error}"))),
        };
        *lookup.answer.lock() = Some(answer.clone());
        let entry = Entry::Answered(answer);
        self.lookups.lock().insert(host.to_owned(), entry);
        lookup.done.request();
    }
}

/// Waits for an answer.
fn wait(done: &Stop, until: Instant, stop: &Stop) -> Result<(), Error> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let mut fds = [
            PollFd::new(done, PollFlags::IN),
            PollFd::new(stop, PollFlags::IN),
        ];
        let timeout = Timespec::try_from(left).map_err(|error| down(&error.to_string()))?;
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(down(&error_text(&error.into()))),
        }
        let [answered, stopped] = fds.map(|fd| !fd.revents().is_empty());
        if stopped {
            return Err(Error::new(ErrorKind::Stopped, "stopping"));
        }
        if answered {
            return Ok(());
        }
        if left.is_zero() {
            return Err(down("the name server does not answer"));
        }
    }
}

fn down(text: &str) -> Error {
    Error::new(ErrorKind::Down, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const NOW: Duration = Duration::ZERO;
    const SOON: Duration = Duration::from_secs(20);

    fn resolve_on(
        resolver: &'static Resolver,
        host: &str,
        within: Duration,
    ) -> Result<Vec<SocketAddr>, Error> {
        resolver.resolve(host, Instant::now() + within, &Stop::new().unwrap())
    }

    /// Parks whoever asks until the lock is free.
    static GATE: Mutex<()> = Mutex::new(());
    static ASKED: AtomicUsize = AtomicUsize::new(0);

    fn ask_behind_the_gate(_: &str) -> io::Result<Vec<SocketAddr>> {
        ASKED.fetch_add(1, Ordering::SeqCst);
        drop(GATE.lock());
        Ok(vec![SocketAddr::from(([127, 0, 0, 7], 0))])
    }

    #[test]
    fn a_silent_name_server_costs_one_thread_a_name_and_its_late_answer_is_used() {
        static RESOLVER: Resolver = Resolver::new(ask_behind_the_gate);
        let shut = GATE.lock();
        for _ in 0..3 {
            let error = resolve_on(&RESOLVER, "silent", NOW).unwrap_err();
            assert_eq!(error.text, "the name server does not answer");
            assert_eq!(error.kind, ErrorKind::Down);
        }
        let stop = Stop::new().unwrap();
        stop.request();
        let stopped = RESOLVER.resolve("silent", Instant::now() + SOON, &stop);
        assert_eq!(stopped.unwrap_err().kind, ErrorKind::Stopped);
        assert_eq!(RESOLVER.lookups.lock().len(), 1);
        assert!(matches!(
            RESOLVER.lookups.lock().get("silent"),
            Some(Entry::Asked(_))
        ));
        drop(shut);
        let found = resolve_on(&RESOLVER, "silent", SOON).unwrap();
        assert_eq!(found, [SocketAddr::from(([127, 0, 0, 7], 0))]);
        assert_eq!(
            ASKED.load(Ordering::SeqCst),
            1,
            "one lookup for all of them"
        );
        assert!(RESOLVER.lookups.lock().is_empty(), "an answer is used once");
    }

    static CLOSED: Mutex<()> = Mutex::new(());

    #[test]
    fn so_many_names_at_once_and_no_more_are_looked_up() {
        static RESOLVER: Resolver = Resolver::new(|_| {
            drop(CLOSED.lock());
            Ok(vec![])
        });
        let _shut = CLOSED.lock();
        let mut texts = (0..=LOOKUPS_MAX).map(|n| {
            let error = resolve_on(&RESOLVER, &format!("silent{n}"), NOW);
            error.unwrap_err().text
        });
        let silent = "the name server does not answer";
        assert!(texts.by_ref().take(LOOKUPS_MAX).all(|text| text == silent));
        assert_eq!(
            texts.next().as_deref(),
            Some("the name server does not answer: too many names are being looked up")
        );
    }

    #[test]
    fn a_name_that_does_not_exist_says_why() {
        static RESOLVER: Resolver =
            Resolver::new(|_| Err(io::Error::other("Name or service not known")));
        let error = resolve_on(&RESOLVER, "nowhere", SOON).unwrap_err();
        assert_eq!(
            error.text,
            "the name does not resolve: Name or service not known"
        );
        assert!(RESOLVER.lookups.lock().is_empty());
    }
}
