//! The threads that have been started and have not ended, and how one is started.

use super::Process;
use super::worker::{PANIC_PAUSE, Worker};
use crate::os_error::error_text;
use crate::shutdown::Stop;
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::io;
use std::sync::Arc;
use std::thread::Builder;

/// Our threads need little: the deepest calls are a log line and amiquip's serialiser. The default
/// of 2 MiB is only reserved, but 400 of them are a lot to a 32-bit board.
pub(super) const STACK_BYTES: usize = 256 * 1024;

/// Threads by the order in which they are stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Reader,
    Publisher,
    Events,
    Owner,
    Http,
}

/// Holds threads back until everything that is needed with them exists. When it is dropped
/// unopened, its threads end.
pub(super) struct Gate {
    open: Sender<()>,
    shut: Receiver<()>,
}

impl Default for Gate {
    fn default() -> Self {
        let (open, shut) = unbounded();
        Self { open, shut }
    }
}

impl Gate {
    pub(super) fn open_for(self, threads: usize) {
        for _ in 0..threads {
            let _ = self.open.send(());
        }
    }
}

/// A thread that has been started and has not ended.
struct Thread {
    id: u64,
    role: Role,
    name: String,
}

/// All of them.
pub(super) struct Threads<'a, 'scope, 'env> {
    process: &'a Process<'scope, 'env>,
    alive: Vec<Thread>,
}

impl<'a, 'scope, 'env> Threads<'a, 'scope, 'env> {
    pub(super) fn new(process: &'a Process<'scope, 'env>) -> Self {
        Self {
            process,
            alive: vec![],
        }
    }

    /// Starts a thread, which works at once without a `gate`; returns its id. `stop` ends its pause
    /// after a panic.
    ///
    /// # Errors
    /// When the system has no thread for it.
    pub(super) fn spawn(
        &mut self,
        role: Role,
        name: String,
        stop: &Arc<Stop>,
        gate: Option<&Gate>,
        work: impl FnMut() + Send + 'scope,
    ) -> io::Result<u64> {
        let id = self.process.threads.get() + 1;
        self.process.threads.set(id);
        let worker = Worker {
            id,
            name: name.clone(),
            events: self.process.tell.clone(),
            metrics: Arc::clone(&self.process.metrics),
            stop: Arc::clone(stop),
            pause: PANIC_PAUSE,
        };
        let shut = match gate {
            Some(gate) => gate.shut.clone(),
            None => {
                let gate = Gate::default();
                let shut = gate.shut.clone();
                gate.open_for(1);
                shut
            }
        };
        Builder::new()
            // The kernel keeps 15 bytes of it.
            .name(name.chars().take(15).collect())
            .stack_size(STACK_BYTES)
            .spawn_scoped(self.process.scope, move || worker.run(&shut, work))
            .map_err(|error| {
                let why = error_text(&error);
                io::Error::new(error.kind(), format!("cannot start thread {name}: {why}"))
            })?;
        self.alive.push(Thread { id, role, name });
        Ok(id)
    }

    /// The thread of that id has ended.
    pub(super) fn ended(&mut self, id: u64) {
        self.alive.retain(|thread| thread.id != id);
    }

    pub(super) fn is_alive(&self, id: u64) -> bool {
        self.alive.iter().any(|thread| thread.id == id)
    }

    /// How many of that role have not ended.
    pub(super) fn left(&self, role: Role) -> usize {
        self.alive.iter().filter(|it| it.role == role).count()
    }

    /// Names of all that have not ended.
    pub(super) fn names(&self) -> Vec<&str> {
        self.alive.iter().map(|it| it.name.as_str()).collect()
    }

    /// Names of those of that role that have not ended.
    pub(super) fn names_of(&self, role: Role) -> Vec<&str> {
        let of = self.alive.iter().filter(|it| it.role == role);
        of.map(|it| it.name.as_str()).collect()
    }
}

/// Starts `more` threads that end at once, to learn whether the system allows that many.
///
/// # Errors
/// When the system does not allow so many threads.
pub(super) fn ensure_threads(more: usize) -> io::Result<()> {
    let gate = Gate::default();
    let started: Result<Vec<_>, _> = (0..more)
        .map(|_| {
            let shut = gate.shut.clone();
            Builder::new()
                .stack_size(STACK_BYTES)
                .spawn(move || shut.recv().is_ok())
        })
        .collect();
    // Those that were started end, since their gate is gone.
    drop(gate);
    started.map(|_| ()).map_err(|error| {
        let why = error_text(&error);
        io::Error::new(
            error.kind(),
            format!("cannot start {more} more threads: {why}"),
        )
    })
}
