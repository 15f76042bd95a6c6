//! What the main thread does on a signal, and how it stops the threads, in the order in which
//! frames flow. Each step has a time limit. If threads are left at the end, the process exits
//! without them.

use super::build::Goal;
use super::life::{Action, Cause, Then};
use super::report::report;
use super::threads::Role;
use super::{Daemon, MainEvent, Outcome};
use crate::logging;
use crate::metrics::Metrics;
use signal_hook::consts::SIGHUP;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long the readers may take to end: FFmpeg's grace, its kill, and a busy board.
const READERS_TIMEOUT: Duration = Duration::from_millis(1500);
/// How long the publishers may then wait for the last confirms.
const PUBLISHERS_TIMEOUT: Duration = Duration::from_millis(800);
/// How long the events thread may then take for the last states; it gives up a little earlier.
const EVENTS_TIMEOUT: Duration = Duration::from_millis(400);
/// How long a thread may take after its connection was cut.
const CUT_TIMEOUT: Duration = Duration::from_millis(300);

/// One request to threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Readers end, and publishers when they have sent what is left.
    EndCameras,
    /// The events thread ends when it has sent the last states.
    EndEvents,
    /// Its connection is cut.
    CutEvents,
    /// Connection owners end. Connections that are being made are cut.
    EndOwners,
    /// All connections are cut.
    Cut,
    EndHttp,
}

/// What is stopped: the daemon, or a played one.
trait Stoppable {
    fn order(&mut self, order: Order);
    /// Threads of that role that have not ended.
    fn left(&self, role: Role) -> usize;
    /// Waits until none is left, for `timeout` at most.
    fn wait_for(&mut self, role: Role, timeout: Duration);
}

/// Each thread ends before what it needs. A connection is cut when a thread still waits in it.
fn in_order(house: &mut impl Stoppable) {
    house.order(Order::EndCameras);
    house.wait_for(Role::Reader, READERS_TIMEOUT);
    house.wait_for(Role::Publisher, PUBLISHERS_TIMEOUT);
    if house.left(Role::Publisher) > 0 {
        log::warn!(
            "the broker did not confirm the last frames in time: closing the connection; \
                    they count as unknown"
        );
    }
    // The frames' connections live on meanwhile: their publishers may still be waiting in them.
    house.order(Order::EndEvents);
    house.wait_for(Role::Events, EVENTS_TIMEOUT);
    if house.left(Role::Events) > 0 {
        house.order(Order::CutEvents);
    }
    house.order(Order::EndOwners);
    if house.left(Role::Publisher) > 0 {
        house.order(Order::Cut);
        house.wait_for(Role::Publisher, CUT_TIMEOUT);
    }
    house.wait_for(Role::Events, CUT_TIMEOUT);
    house.wait_for(Role::Owner, CUT_TIMEOUT);
    if house.left(Role::Owner) > 0 {
        house.order(Order::Cut);
        house.wait_for(Role::Owner, CUT_TIMEOUT);
    }
    house.order(Order::EndHttp);
    house.wait_for(Role::Http, CUT_TIMEOUT);
}

impl Stoppable for Daemon<'_, '_, '_> {
    fn order(&mut self, order: Order) {
        match order {
            Order::EndCameras => {
                for camera in &mut self.cameras {
                    camera.goal = Goal::End;
                    camera.stop.request();
                }
                self.connections.clear();
            }
            Order::EndEvents => drop(self.events.take()),
            Order::CutEvents => {
                if let Some(link) = &self.events_link {
                    link.cut("stopping");
                }
            }
            Order::EndOwners => {
                self.shared.stop_owners.request();
                for (_, link) in self.links.iter().filter(|(_, link)| !link.connected()) {
                    link.cut("stopping");
                }
            }
            Order::Cut => {
                for (_, link) in &self.links {
                    link.cut("stopping");
                }
            }
            Order::EndHttp => self.shared.stop_http.request(),
        }
    }

    fn left(&self, role: Role) -> usize {
        self.threads.left(role)
    }

    fn wait_for(&mut self, role: Role, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        while self.threads.left(role) > 0 {
            match self.next_event(Some(deadline)) {
                Some(MainEvent::Signal(signal)) => drop(self.on_signal(signal)),
                Some(_) => {}
                None => {
                    let names = self.threads.names_of(role).join(", ");
                    log::debug!("stopping: still running after {timeout:?}: {names}");
                    return;
                }
            }
        }
    }
}

impl Daemon<'_, '_, '_> {
    /// Stops all threads; returns what follows. If some do not end in time, the process ends
    /// without them.
    pub(super) fn stop(&mut self) -> Then {
        self.overview.stopping.store(true, Ordering::Relaxed);
        in_order(self);
        let names = self.threads.names();
        if !names.is_empty() {
            log::warn!(
                "threads still running after the shutdown timeout; exiting anyway: {}",
                names.join(", ")
            );
            self.leave(self.life.threads_stuck());
        }
        self.life.threads_ended()
    }

    /// A signal has come, in whatever state.
    pub(super) fn on_signal(&mut self, signal: i32) -> Action {
        let cause = match signal {
            SIGHUP => Cause::Hangup,
            _ => Cause::Terminate,
        };
        let action = self.life.on(cause, Instant::now());
        match action {
            Action::Stop => {
                let name = signal_hook::low_level::signal_name(signal).unwrap_or("signal");
                log::info!("{name}: stopping");
                self.systemd.stopping();
            }
            Action::Exit(outcome) => {
                log::warn!("second signal: exiting at once");
                self.leave(outcome);
            }
            Action::Continue | Action::Reload => {}
        }
        action
    }

    fn leave(&self, outcome: Outcome) -> ! {
        if self.threads.left(Role::Reader) + self.threads.left(Role::Publisher) == 0 {
            // No thread counts any more, and no waiting frame will be sent.
            self.process.metrics.settle();
        }
        leave(&self.process.metrics, outcome)
    }
}

/// Ends the process without waiting for the threads. Their FFmpegs end with them.
pub(super) fn leave(metrics: &Metrics, outcome: Outcome) -> ! {
    report(metrics);
    logging::flush();
    std::process::exit(outcome.exit_code().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Threads that end when the order that they wait for has come, and what was done, in order.
    #[derive(Default)]
    struct Played {
        left: BTreeMap<Role, (usize, Option<Order>)>,
        orders: Vec<Order>,
        waited: Vec<(Role, Duration)>,
        time: Duration,
    }

    impl Played {
        /// One thread of each role, and the order after which each ends; `None`: never.
        fn new(ends_on: [(Role, Option<Order>); 5]) -> Self {
            Self {
                left: ends_on.map(|(role, order)| (role, (1, order))).into(),
                ..Self::default()
            }
        }

        fn healthy() -> Self {
            Self::new([
                (Role::Reader, Some(Order::EndCameras)),
                (Role::Publisher, Some(Order::EndCameras)),
                (Role::Events, Some(Order::EndEvents)),
                (Role::Owner, Some(Order::EndOwners)),
                (Role::Http, Some(Order::EndHttp)),
            ])
        }

        fn with(mut self, role: Role, ends_on: Option<Order>) -> Self {
            self.left.insert(role, (1, ends_on));
            self
        }
    }

    impl Stoppable for Played {
        fn order(&mut self, order: Order) {
            self.orders.push(order);
        }

        fn left(&self, role: Role) -> usize {
            self.left[&role].0
        }

        fn wait_for(&mut self, role: Role, timeout: Duration) {
            self.waited.push((role, timeout));
            let (count, ends_on) = self.left.get_mut(&role).unwrap();
            match ends_on.is_some_and(|order| self.orders.contains(&order)) {
                true => *count = 0,
                false if *count > 0 => self.time += timeout,
                false => {}
            }
        }
    }

    #[test]
    fn threads_stop_in_the_order_of_the_frames_and_nothing_is_cut_that_ends() {
        let mut house = Played::healthy();
        in_order(&mut house);
        use Order::{EndCameras, EndEvents, EndHttp, EndOwners};
        assert_eq!(house.orders, [EndCameras, EndEvents, EndOwners, EndHttp]);
        let mut roles: Vec<_> = house.waited.iter().map(|(role, _)| *role).collect();
        roles.dedup();
        assert_eq!(
            roles,
            [
                Role::Reader,
                Role::Publisher,
                Role::Events,
                Role::Owner,
                Role::Http
            ]
        );
        assert_eq!(house.time, Duration::ZERO);
    }

    #[test]
    fn a_publisher_that_waits_for_a_silent_broker_is_cut_off_after_the_events() {
        let mut house = Played::healthy().with(Role::Publisher, Some(Order::Cut));
        in_order(&mut house);
        use Order::{Cut, EndCameras, EndEvents, EndHttp, EndOwners};
        let orders = [EndCameras, EndEvents, EndOwners, Cut, EndHttp];
        assert_eq!(house.orders, orders);
        assert_eq!(house.left(Role::Publisher), 0);
        assert_eq!(house.time, PUBLISHERS_TIMEOUT);
    }

    #[test]
    fn an_events_thread_that_waits_costs_its_own_connection_and_not_the_frames() {
        let mut house = Played::healthy().with(Role::Events, Some(Order::CutEvents));
        in_order(&mut house);
        assert!(house.orders.contains(&Order::CutEvents));
        assert!(!house.orders.contains(&Order::Cut));
        assert_eq!(house.left(Role::Events), 0);
    }

    #[test]
    fn threads_that_never_end_cost_a_bounded_time_and_are_left() {
        let all = [
            Role::Reader,
            Role::Publisher,
            Role::Events,
            Role::Owner,
            Role::Http,
        ];
        let mut house = Played::new(all.map(|role| (role, None)));
        in_order(&mut house);
        assert!(all.iter().all(|role| house.left(*role) == 1));
        let bound = READERS_TIMEOUT + PUBLISHERS_TIMEOUT + EVENTS_TIMEOUT + 5 * CUT_TIMEOUT;
        assert_eq!(house.time, bound);
        assert!(bound < Duration::from_secs(5));
    }
}
