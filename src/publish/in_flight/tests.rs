//! Tests of the accounting against a model, in every order of events on a channel.

use super::*;
use crate::amqp::{Link, Next, Scheduler, SharedConnection};
use crate::config::Config;
use crate::message::Headers;
use crate::metrics::PublisherCounters;
use crate::publish::tests::{Camera as Source, publisher};
use proptest::collection::vec;
use proptest::prelude::*;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(5);

fn config(max_in_flight: &str) -> Config {
    let text = format!(
        "amqp: {{max_in_flight: {max_in_flight}, max_age: 30s, confirm_timeout: 5s}}\n\
         cameras: [{{id: door, url: 'rtsp://192.0.2.1/'}}]"
    );
    Config::parse(&text, "", &|_| None).unwrap().config
}

fn shared(budget: bool) -> SharedConnection {
    SharedConnection {
        link: Arc::new(Link::new(TIMEOUT, TIMEOUT)),
        requests: crossbeam_channel::unbounded().0,
        scheduler: Scheduler::new(budget, Duration::from_secs(30)),
    }
}

/// What happens to a channel.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// A frame is to be sent, if there is room.
    Send,
    /// The same, but it is too old when its turn at the socket comes.
    SendTooLate,
    /// The broker answers to the message of this tag.
    Answer {
        tag: u64,
        multiple: bool,
        acked: bool,
    },
    /// The message of this tag comes back.
    Return(u64),
    /// The channel ends.
    End,
    /// Its publisher does, or panics.
    Close,
    /// Time passes.
    Wait(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let answer = (1_u64..14, any::<bool>(), prop::bool::weighted(0.8));
    prop_oneof![
        24 => Just(Act::Send),
        3 => Just(Act::SendTooLate),
        24 => answer.prop_map(|(tag, multiple, acked)| Act::Answer { tag, multiple, acked }),
        6 => (1_u64..14).prop_map(Act::Return),
        6 => (0_u64..2000).prop_map(Act::Wait),
        1 => Just(Act::End),
        1 => Just(Act::Close),
    ]
}

/// What is to be in the books.
#[derive(Debug, Default, PartialEq, Eq)]
struct Books {
    taken: u64,
    published: u64,
    nacked: u64,
    returned: u64,
    too_old: u64,
}

impl From<&PublisherCounters> for Books {
    fn from(counters: &PublisherCounters) -> Self {
        Self {
            taken: counters.taken.get(),
            published: counters.published.get(),
            nacked: counters.nacked.get(),
            returned: counters.returned.get(),
            too_old: counters.too_old.get(),
        }
    }
}

/// One channel as the broker and its publisher see it.
struct Model {
    source: Source,
    in_flight: InFlight,
    share: Arc<Share>,
    /// Seq of each message that was sent, by tag from 1; and whether it came back, while its fate
    /// is open.
    sent: Vec<(u64, Option<bool>)>,
    books: Books,
    over: bool,
    closed: bool,
    start: Instant,
    now: Instant,
}

impl Model {
    fn new(shared: &SharedConnection, window: &str) -> Self {
        let (source, publisher) = publisher(shared, &config(window));
        Self {
            in_flight: InFlight::new(&publisher, &Arc::default()),
            share: Arc::clone(&publisher.share),
            source,
            sent: vec![],
            books: Books::default(),
            over: false,
            closed: false,
            start: Instant::now(),
            now: Instant::now(),
        }
    }

    /// From the first whose fate is open; a later one that is settled counts until then.
    fn open(&self) -> usize {
        let first = self.sent.iter().position(|(_, open)| open.is_some());
        first.map_or(0, |first| self.sent.len() - first)
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Send => drop(self.send()),
            Act::SendTooLate => {
                if self.send() {
                    self.in_flight.take_back_too_old();
                    self.sent.pop();
                    self.books.too_old += 1;
                }
            }
            Act::Answer {
                tag,
                multiple,
                acked,
            } => {
                self.in_flight.confirmed(Confirm {
                    tag,
                    multiple,
                    acked,
                });
                if !self.over {
                    self.answer(tag, multiple, acked);
                }
            }
            Act::Return(tag) => {
                let headers = Headers {
                    camera_id: "door".into(),
                    epoch: 1,
                    seq: match self.sent.get(tag as usize - 1) {
                        Some((seq, _)) => seq.cast_signed(),
                        None => 0,
                    },
                    ..Headers::default()
                };
                self.in_flight.returned(&headers.message_id().to_string());
                if let Some((_, Some(returned))) = self.sent.get_mut(tag as usize - 1) {
                    *returned = true;
                }
            }
            Act::End => {
                self.in_flight.ended();
                self.over = true;
            }
            Act::Close => {
                self.in_flight.close();
                (self.over, self.closed) = (true, true);
                self.sent.clear();
            }
            Act::Wait(ms) => self.now += Duration::from_millis(ms),
        }
    }

    fn send(&mut self) -> bool {
        let view = self.in_flight.look(false);
        if view.over || !view.room {
            return false;
        }
        let frame = self.source.next(100);
        let next = self.share.take(self.now, || true, || Some((frame, 100)));
        let Next::Send { item, ticket, .. } = next else {
            self.share.pass(self.now);
            return false;
        };
        self.source.metrics.publisher.taken.increment();
        self.books.taken += 1;
        self.sent.push((item.seq, Some(false)));
        self.in_flight.put(&Item::Frame(item), ticket, self.now);
        true
    }

    fn answer(&mut self, tag: u64, multiple: bool, acked: bool) {
        let answered = self.sent.iter_mut().zip(1..);
        let answered = answered.filter(|(_, own)| *own == tag || multiple && *own < tag);
        for ((_, open), _) in answered {
            match (open.take(), acked) {
                (None, _) => {}
                (Some(_), false) => self.books.nacked += 1,
                (Some(true), true) => self.books.returned += 1,
                (Some(false), true) => self.books.published += 1,
            }
        }
    }

    fn check(&self, shared: &SharedConnection) -> Result<(), TestCaseError> {
        let counters = &self.source.metrics.publisher;
        prop_assert_eq!(Books::from(&**counters), Books { ..self.books });
        let open = self.sent.iter().filter(|(_, open)| open.is_some()).count();
        if !self.closed {
            prop_assert_eq!(counters.in_flight(), open as u64);
        }
        let view = self.in_flight.look(false);
        prop_assert_eq!(view.over, self.over);
        prop_assert_eq!(view.empty, self.open() == 0);
        let inner = self.in_flight.inner.lock();
        prop_assert_eq!(view.room, self.open() < inner.window.limit());
        prop_assert_eq!(inner.wake_publisher.is_some(), !view.room, "woken for room");
        drop(inner);
        if !self.over {
            // Someone waits: asked for a moment at which nobody has waited too long.
            let waits = shared.link.check(self.start).is_some();
            prop_assert_eq!(waits, open > 0);
        }
        if self.closed {
            prop_assert_eq!(shared.scheduler.bytes_in_flight(), 0);
        }
        Ok(())
    }
}

#[test]
fn a_frame_that_is_acked_before_it_is_sent_is_published_and_not_too_old() {
    let shared = shared(false);
    let mut model = Model::new(&shared, "9");
    assert!(model.send());
    model.act(Act::Answer {
        tag: 1,
        multiple: false,
        acked: true,
    });
    model.in_flight.take_back_too_old();
    model.check(&shared).unwrap();
}

proptest! {
    #[test]
    fn in_every_order_each_frame_has_one_fate_and_none_after_the_channels_end(
        acts in vec(act(), 1..60),
        budget in any::<bool>(),
        window in prop_oneof![Just("auto"), Just("1"), Just("9")],
    ) {
        let shared = shared(budget);
        let mut model = Model::new(&shared, window);
        for act in acts {
            model.act(act);
            model.check(&shared)?;
        }
        // As its publisher does at last.
        model.act(Act::Close);
        let counters = &model.source.metrics.publisher;
        counters.unknown.add(counters.in_flight());
        model.check(&shared)?;
        let settled = counters.published.get() + counters.nacked.get() + counters.returned.get();
        let settled = settled + counters.too_old.get() + counters.unknown.get();
        prop_assert_eq!(settled, counters.taken.get());
        prop_assert_eq!(counters.in_flight(), 0);
    }
}
