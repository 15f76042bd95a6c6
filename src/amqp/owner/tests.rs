//! Tests of an owner and its users with a played broker.

use super::*;
use crate::amqp::client::Channel;
use crate::amqp::handle::{ConnectionHandle, ConnectionUser};
use crate::amqp::played::{Did, Played, Rules, SOON, wait_until};
use crate::amqp::scheduler::Scheduler;
use crossbeam_channel::unbounded;
use std::thread::{Scope, ScopedJoinHandle};

/// A running owner. It ends when this and all users are dropped.
pub(crate) struct Running<'a> {
    pub(crate) shared: SharedConnection,
    words: Receiver<OwnerReport>,
    owner: ScopedJoinHandle<'a, ()>,
    _guard: EndsOnPanic<'a>,
}

/// A test that fails ends its threads too, which may wait for what the broker does not say.
struct EndsOnPanic<'a> {
    broker: &'a Played,
    stop: Arc<Stop>,
}

impl Drop for EndsOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.stop.request();
            self.broker.cut();
        }
    }
}

pub(crate) fn start<'a>(scope: &'a Scope<'a, '_>, broker: &'a Played) -> Running<'a> {
    start_with(scope, broker, |owner| owner)
}

fn start_with<'a>(
    scope: &'a Scope<'a, '_>,
    broker: &'a Played,
    with: impl FnOnce(Owner) -> Owner,
) -> Running<'a> {
    let stop = Stop::new().unwrap();
    let amqp = Arc::new(broker.config("").amqp);
    let (requests, asked) = unbounded();
    let (tell, words) = unbounded();
    let link = Arc::new(Link::new(amqp.connect_timeout, amqp.confirm_timeout));
    let owner = Owner::new(
        Carries::Frames,
        Arc::clone(&link),
        amqp,
        asked,
        MainThread::new(move |word| {
            let _ = tell.send(word);
        }),
        Arc::clone(&stop),
    );
    let mut owner = with(owner);
    Running {
        shared: SharedConnection {
            link,
            requests,
            scheduler: Scheduler::new(true, SOON),
        },
        words,
        owner: scope.spawn(move || owner.run()),
        _guard: EndsOnPanic { broker, stop },
    }
}

impl Running<'_> {
    /// One that has asked for a channel.
    pub(crate) fn asks(&self, name: &str) -> ConnectionHandle {
        let sitter = ConnectionUser {
            name: name.into(),
            waker: None,
            status: None,
        };
        let user = ConnectionHandle::new(self.shared.clone(), sitter);
        user.ask_for_channel().unwrap();
        user
    }

    /// For whom the main thread is to find another connection, and how many have a channel.
    pub(crate) fn surplus(&self) -> (Vec<Caller>, usize) {
        loop {
            if let OwnerReport::Surplus { callers, granted } =
                self.words.recv_timeout(SOON).unwrap()
            {
                return (callers, granted);
            }
        }
    }

    /// After the last user.
    pub(crate) fn ends(self) {
        let Self {
            shared,
            owner,
            _guard,
            ..
        } = self;
        drop(shared);
        owner.join().unwrap();
    }
}

fn control(user: &ConnectionHandle) -> Control {
    user.control().recv_timeout(SOON).unwrap()
}

/// What comes before it is passed over.
fn channel(user: &ConnectionHandle) -> Box<Channel> {
    loop {
        if let Control::Channel(channel) = control(user) {
            return channel;
        }
    }
}

#[test]
fn who_asked_once_gets_a_channel_of_whatever_connection_has_one() {
    let broker = Played::start(Rules {
        opens_nothing: true,
        ..Rules::default()
    });
    std::thread::scope(|scope| {
        let running = start(scope, &broker);
        let users = [running.asks("door"), running.asks("yard")];
        wait_until(|| running.shared.link.connected());
        broker.rule(Rules::default());
        broker.cut();
        let channels = users.each_ref().map(channel);
        assert_eq!(running.shared.link.reconnects(), 1);
        drop((channels, users));
        running.ends();
    });
}

#[test]
fn one_that_left_is_opened_no_channel_for() {
    let broker = Played::start(Rules::default());
    std::thread::scope(|scope| {
        let running = start(scope, &broker);
        wait_until(|| running.shared.link.connected());
        broker.block(Some("low on memory"));
        wait_until(|| running.shared.link.blocked());
        let (gone, stays) = (running.asks("gone"), running.asks("stays"));
        drop(gone);
        broker.block(None);
        let channel = channel(&stays);
        assert_eq!(format!("{channel:?}"), "channel 1", "the only one");
        drop((channel, stays));
        running.ends();
    });
}

#[test]
fn those_beyond_the_brokers_channels_are_named_to_the_main_thread_and_the_others_have_theirs() {
    let broker = Played::start(Rules {
        channel_max: 2,
        ..Rules::default()
    });
    std::thread::scope(|scope| {
        let running = start(scope, &broker);
        let users = ["a", "b", "c"].map(|name| running.asks(name));
        let channels = [&users[0], &users[1]].map(channel);
        let (callers, granted) = running.surplus();
        assert_eq!((&*names(&callers), granted), ("c", 2));
        assert!(users[2].control().is_empty(), "it waits to be moved");
        assert_eq!(running.shared.link.reconnects(), 0, "the connection lives");
        drop((channels, users));
        running.ends();
    });
}

#[test]
fn when_a_limit_ends_the_connection_those_who_had_a_channel_get_theirs_first() {
    let broker = Played::start(Rules {
        user_limit: 2,
        ..Rules::default()
    });
    std::thread::scope(|scope| {
        let running = start(scope, &broker);
        let users = ["a", "b"].map(|name| running.asks(name));
        let channels = users.each_ref().map(channel);
        let third = running.asks("c");
        broker.wait_for(&Did::Gone);
        drop(channels);
        users
            .iter()
            .for_each(|user| user.ask_for_channel().unwrap());
        let channels = users.each_ref().map(channel);
        let (callers, granted) = running.surplus();
        assert_eq!((&*names(&callers), granted), ("c", 2));
        assert!(third.control().is_empty());
        drop((channels, users, third));
        running.ends();
    });
}

#[test]
fn a_channel_for_reports_of_bindings_that_was_one_too_many_is_not_asked_for_again() {
    let broker = Played::start(Rules {
        user_limit: 1,
        ..Rules::default()
    });
    std::thread::scope(|scope| {
        let hears = |owner: Owner| owner.hear_bindings(BindingListener::new(|_, _| {}));
        let running = start_with(scope, &broker, hears);
        let user = running.asks("door");
        let first = channel(&user);
        broker.wait_for(&Did::Gone);
        drop(first);
        user.ask_for_channel().unwrap();
        let channel = channel(&user);
        for _ in 0..10 {
            user.declare(&channel, "cameras").unwrap();
        }
        let gone = broker.did.try_iter().filter(|did| *did == Did::Gone);
        assert_eq!(gone.count(), 0);
        drop((channel, user));
        running.ends();
    });
}

#[test]
fn a_refused_login_is_told_to_those_who_wait_and_to_those_who_ask_later() {
    let broker = Played::start(Rules {
        drops_logins: true,
        ..Rules::default()
    });
    std::thread::scope(|scope| {
        let running = start(scope, &broker);
        let first = running.asks("door");
        let why = match control(&first) {
            Control::Refused(why) => why,
            other => panic!("{other:?}"),
        };
        let says = "the broker closed the connection during the login: wrong user name or password";
        assert_eq!(why, format!("broker 127.0.0.1:{}: {says}", broker.port));
        let second = running.asks("yard");
        assert!(matches!(control(&second), Control::Refused(_)));
        broker.rule(Rules::default());
        let channels = [&first, &second].map(channel);
        drop((channels, first, second));
        running.ends();
    });
}

#[test]
fn a_blocked_broker_is_told_to_all_and_opens_nothing_until_it_is_unblocked() {
    let broker = Played::start(Rules::default());
    std::thread::scope(|scope| {
        let running = start(scope, &broker);
        let user = running.asks("door");
        let own = channel(&user);
        broker.block(Some("low on memory"));
        assert!(matches!(control(&user), Control::Look));
        assert!(user.blocked());
        let late = running.asks("late");
        // Heard by now: it comes before the unblocking, which the owner waits for as well.
        wait_until(|| running.shared.requests.is_empty());
        broker.block(None);
        let channels = (own, channel(&late));
        assert!(!user.blocked());
        assert!(matches!(control(&user), Control::Look));
        // It answers before it tells what it did.
        let did: [_; 3] = std::array::from_fn(|_| broker.did.recv_timeout(SOON).unwrap());
        assert_eq!(did, [Did::Connected, Did::Opened(1), Did::Opened(2)]);
        drop((channels, user, late));
        running.ends();
    });
}

#[test]
fn a_broker_that_opens_no_channel_is_given_up_at_the_deadline() {
    let broker = Played::start(Rules {
        opens_nothing: true,
        ..Rules::default()
    });
    std::thread::scope(|scope| {
        let running = start(scope, &broker);
        let user = running.asks("door");
        broker.wait_for(&Did::Connected);
        let link = &running.shared.link;
        let hour = Duration::from_secs(3600);
        // It waits, from some moment after this one on.
        wait_until(|| link.connected() && link.check(Instant::now()).is_some());
        broker.rule(Rules::default());
        assert_eq!(link.check(Instant::now() + hour), None);
        drop(channel(&user));
        assert_eq!(link.reconnects(), 1);
        drop(user);
        running.ends();
    });
}
