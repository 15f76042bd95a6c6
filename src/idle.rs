//! Whether what a camera publishes has a consumer. A camera is idle if nothing that it publishes
//! has reached a queue for `idle.after`, and no client has looked at its pictures meanwhile.
//!
//! The broker returns a message that reaches no queue, and a message that is acked and not returned
//! ends idleness. So the pictures themselves are the probe, and a consumer sees nothing else. The
//! decision is pure; [`Idleness`] shares it between threads.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// One of the two that a camera can publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Pictures.
    Frames = 0,
    /// Access units of its video.
    Units = 1,
}

/// What shows that a camera has a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// A message reached a queue.
    Taken,
    /// The broker reported a new binding.
    Bound,
    /// An HTTP client looks at its pictures.
    Viewed,
}

impl Sign {
    /// For the log.
    pub fn words(self) -> &'static str {
        match self {
            Self::Taken => "a picture or access unit has reached a queue",
            Self::Bound => "a queue was bound",
            Self::Viewed => "an HTTP client looks at its pictures",
        }
    }
}

/// What is known of the consumers of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Demand {
    /// No message was answered yet, or since the answers before it lost their meaning.
    Unknown,
    /// The last message reached a queue.
    Some,
    /// All messages since then were returned.
    NoneSince(Instant),
}

/// The decision for one camera.
#[derive(Debug)]
struct Decision {
    after: Duration,
    /// By [`Stream`].
    demand: [Demand; 2],
    idle: bool,
    /// What ended idleness last.
    sign: Sign,
}

impl Decision {
    fn new(after: Duration) -> Self {
        Self {
            after,
            demand: [Demand::Unknown; 2],
            idle: false,
            sign: Sign::Taken,
        }
    }

    fn demand(&mut self, stream: Stream) -> &mut Demand {
        let [frames, units] = &mut self.demand;
        match stream {
            Stream::Frames => frames,
            Stream::Units => units,
        }
    }

    /// A message of this stream reached a queue.
    fn taken(&mut self, stream: Stream) {
        *self.demand(stream) = Demand::Some;
        self.wake(Sign::Taken);
    }

    /// A message of this stream was returned.
    fn returned(&mut self, stream: Stream, now: Instant) {
        let demand = self.demand(stream);
        if !matches!(demand, Demand::NoneSince(_)) {
            *demand = Demand::NoneSince(now);
        }
        let after = self.after;
        let unwanted = |demand: &Demand| match demand {
            Demand::Unknown => true,
            Demand::Some => false,
            Demand::NoneSince(since) => now.saturating_duration_since(*since) >= after,
        };
        self.idle |= self.demand.iter().all(unwanted);
    }

    /// The channel of this stream has ended. Queues may come and go until the next one opens, so
    /// what was returned before it counts no longer.
    fn lost(&mut self, stream: Stream) {
        let demand = self.demand(stream);
        if matches!(demand, Demand::NoneSince(_)) {
            *demand = Demand::Unknown;
        }
    }

    /// Someone is about to consume, or does.
    fn wanted(&mut self, sign: Sign) {
        self.lost(Stream::Frames);
        self.lost(Stream::Units);
        self.wake(sign);
    }

    fn wake(&mut self, sign: Sign) {
        if std::mem::take(&mut self.idle) {
            self.sign = sign;
        }
    }
}

/// The decision for one camera, shared by the threads that learn of consumers and by its reader.
#[derive(Debug)]
pub struct Idleness {
    /// A leaf: no other lock is taken under it.
    decision: Mutex<Decision>,
    /// A copy, for the reader.
    idle: AtomicBool,
}

impl Idleness {
    /// Of a camera that becomes idle when it has had no consumer for `after`.
    pub fn new(after: Duration) -> Arc<Self> {
        Arc::new(Self {
            decision: Mutex::new(Decision::new(after)),
            idle: AtomicBool::new(false),
        })
    }

    fn change(&self, change: impl FnOnce(&mut Decision)) {
        let mut decision = self.decision.lock();
        change(&mut decision);
        self.idle.store(decision.idle, Ordering::Release);
    }

    /// The broker has acked a message and not returned it, or a queue has refused it.
    pub fn taken(&self, stream: Stream) {
        self.change(|decision| decision.taken(stream));
    }

    /// The broker has returned a message.
    pub fn returned(&self, stream: Stream, now: Instant) {
        self.change(|decision| decision.returned(stream, now));
    }

    /// The channel of a publisher has ended.
    pub fn lost(&self, stream: Stream) {
        self.change(|decision| decision.lost(stream));
    }

    /// A queue was bound, or an HTTP client looks at the camera's pictures.
    pub fn wanted(&self, sign: Sign) {
        self.change(|decision| decision.wanted(sign));
    }

    /// Whether the camera is idle.
    pub fn is_idle(&self) -> bool {
        self.idle.load(Ordering::Acquire)
    }

    /// What ended idleness last.
    pub fn sign(&self) -> Sign {
        self.decision.lock().sign
    }
}

/// The state that a reader follows, and in which it was when it last looked.
#[derive(Debug, Clone)]
pub struct Followed {
    idleness: Arc<Idleness>,
    idle: bool,
}

impl Followed {
    /// Begins with a camera that is not idle.
    pub fn new(idleness: Arc<Idleness>) -> Self {
        Self {
            idleness,
            idle: false,
        }
    }

    /// Whether the state is another one than at the last look.
    pub fn has_changed(&self) -> bool {
        self.idle != self.idleness.is_idle()
    }

    /// Whether the camera was idle at the last look.
    pub fn was_idle(&self) -> bool {
        self.idle
    }

    /// Looks, and returns whether the camera is idle.
    pub fn look(&mut self) -> bool {
        self.idle = self.idleness.is_idle();
        self.idle
    }

    /// What ended idleness last.
    pub fn sign(&self) -> Sign {
        self.idleness.sign()
    }
}

/// Where the cameras publish, to find those that a new binding concerns.
#[derive(Debug, Default)]
pub struct Routes(Mutex<Vec<Route>>);

#[derive(Debug)]
struct Route {
    exchange: String,
    routing_key: String,
    idleness: Weak<Idleness>,
}

impl Routes {
    /// A camera publishes to this exchange, with this routing key.
    pub fn add(&self, exchange: &str, routing_key: &str, idleness: &Arc<Idleness>) {
        self.0.lock().push(Route {
            exchange: exchange.to_owned(),
            routing_key: routing_key.to_owned(),
            idleness: Arc::downgrade(idleness),
        });
    }

    /// The broker has bound something to this exchange with this key.
    pub fn bound(&self, exchange: &str, binding_key: &str) {
        let mut routes = self.0.lock();
        // Those of cameras that have ended.
        routes.retain(|route| route.idleness.strong_count() > 0);
        for route in routes.iter() {
            if route.exchange == exchange
                && matches(binding_key, &route.routing_key)
                && let Some(idleness) = route.idleness.upgrade()
            {
                idleness.wanted(Sign::Bound);
            }
        }
    }
}

/// Whether a topic exchange sends a message with this routing key to a queue with this binding key:
/// `*` stands for one word, `#` for any number of them. An empty binding key always matches, as it
/// does at exchanges of other types.
fn matches(binding_key: &str, routing_key: &str) -> bool {
    if binding_key.is_empty() {
        return true;
    }
    let words: Vec<_> = routing_key.split('.').collect();
    // Which numbers of words the part of the binding key so far can match.
    let mut reached = vec![false; words.len() + 1];
    reached[0] = true;
    for pattern in binding_key.split('.') {
        let mut next = vec![false; words.len() + 1];
        for n in 0..=words.len() {
            let step = n.checked_sub(1).and_then(|before| words.get(before));
            next[n] = match pattern {
                "#" => reached[n] || n > 0 && next[n - 1],
                _ => {
                    step.is_some_and(|word| reached[n - 1] && (pattern == "*" || pattern == *word))
                }
            };
        }
        reached = next;
    }
    reached[words.len()]
}

#[cfg(test)]
mod tests;
