//! The guard around an FFmpeg process; the only file that knows processes.
//!
//! A child gets its own process group, so that what it starts ends with it; an end that always
//! reaps it; and the kernel's promise that it dies with the thread that started it, so that no
//! FFmpeg outlives a daemon that was killed with SIGKILL.

use super::environment;
use super::last_words::LastWords;
use super::pipe::{Arrival, Written};
use super::remarks::Remark;
use super::words::CANNOT_RUN;
use crate::clock::Stamp;
use crate::redact::Hidden;
use crate::shutdown::Stop;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// First argument with which our own program starts itself as the guard of a child.
pub const GUARD_ARGUMENT: &str = "--exec-child-of";

/// Wanted size of the pipe from FFmpeg: the largest that an ordinary user may ask for
/// (/proc/sys/fs/pipe-max-size). Against the default of 64 KiB it tripled the raw reading speed.
const PIPE_BYTES: usize = 1 << 20;

/// A wait that ends so long after its deadline was a pause of the whole machine: a busy one is late by less.
const PAUSED: Duration = Duration::from_millis(500);
/// After a pause FFmpeg wakes up with us, on a machine that is still busy, and has this long to show that it is
/// not what stood still.
const AFTER_A_PAUSE: Duration = Duration::from_secs(2);

/// A wait for bytes is interrupted so often, to know since when the pipe cannot have been empty. Shorter than
/// any age that matters: see `session::LEAST_LIMIT`.
const GLANCE: Duration = Duration::from_millis(250);

/// A call of poll(2) that takes longer has slept. One that does not takes a microsecond.
const SLEPT: Duration = Duration::from_micros(50);

/// How long what FFmpeg has started may take to end after SIGKILL: well above what a busy machine needs,
/// and short beside a session's end.
const ORPHANS: Duration = Duration::from_millis(200);

/// How often to say that a killed child does not die.
const KILL_COMPLAINT: Duration = Duration::from_secs(60);

/// A running child. Dropping it ends it at once.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    group: Pid,
    /// Readable when the child has exited.
    exited: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    words: LastWords,
    pipe_bytes: usize,
    reaped: bool,
}

/// How a child ended.
#[derive(Debug)]
pub struct End {
    /// `exit code 1`, `signal 9`, ...
    pub status: String,
    /// The last lines of its stderr, without secrets, each with its age.
    pub last_words: Vec<(Duration, String)>,
}

impl Child {
    /// Starts `program`. Its stderr goes to the debug log under `camera`'s name, its last lines are
    /// kept.
    ///
    /// Must be called on the thread that will end it: when that thread dies, the kernel kills the
    /// child.
    ///
    /// # Errors
    /// When no process or descriptor can be had. That `program` is missing shows as an exit.
    pub fn spawn(program: &Path, args: &[String], camera: Option<Arc<str>>) -> io::Result<Self> {
        // PR_SET_PDEATHSIG must be set in the child, between fork and exec. Without unsafe code that
        // takes a program in between: our own, which sets it and becomes `program`.
        let mut process = Command::new("/proc/self/exe")
            .arg0("edge-video")
            .arg(GUARD_ARGUMENT)
            .arg(std::process::id().to_string())
            .arg(program)
            .args(args)
            .env_clear()
            .envs(environment::for_ffmpeg())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let group = Pid::from_child(&process);
        let stdout = process.stdout.take().map(OwnedFd::from);
        let stderr = process.stderr.take().map(OwnedFd::from);
        let mut child = Self {
            // From here on a failure ends the child by Drop.
            exited: rustix::process::pidfd_open(group, PidfdFlags::empty()).ok(),
            process,
            group,
            stdout,
            stderr,
            words: LastWords::new(camera, Hidden::of_arguments(args)),
            pipe_bytes: PIPE_BYTES,
            reaped: false,
        };
        if let Some(stdout) = &child.stdout {
            // Refused when the user's pipe budget is spent: then it stays at 64 KiB.
            let _ = rustix::pipe::fcntl_setpipe_size(stdout, PIPE_BYTES);
            child.pipe_bytes = rustix::pipe::fcntl_getpipe_size(stdout).unwrap_or(PIPE_BYTES);
        }
        if let Some(stderr) = &child.stderr {
            rustix::io::ioctl_fionbio(stderr, true)?;
        }
        Ok(child)
    }

    /// The child's process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The oldest remark on stderr that steers a session and was not taken yet. Only what has been read is
    /// looked at; see [`hear`](Self::hear).
    pub fn take_remark(&mut self) -> Option<Remark> {
        self.words.take_remark()
    }

    /// Reads what it has said on stderr, without waiting.
    pub fn hear(&mut self) {
        self.read_stderr();
    }

    /// The last lines of its stderr so far, without secrets, each with its age.
    pub fn last_words(&mut self) -> Vec<(Duration, String)> {
        self.read_stderr();
        self.words.lines()
    }

    /// Ends the child and all that it started, and reaps it: SIGTERM, upon which FFmpeg logs off
    /// from an RTSP camera; after `grace` the pipe is closed and SIGKILL follows.
    pub fn end(mut self, grace: Duration) -> End {
        let status = self.finish(grace);
        End {
            status: match status {
                Ok(status) => describe(status),
                Err(error) => format!("unknown end: {error}"),
            },
            last_words: self.words.lines(),
        }
    }

    fn finish(&mut self, grace: Duration) -> io::Result<ExitStatus> {
        if !grace.is_zero() {
            let _ = rustix::process::kill_process_group(self.group, Signal::TERM);
        }
        self.drain_until_exit(Instant::now() + grace);
        self.stdout = None;
        self.stderr = None;
        // Also when it has exited: what it left behind in its group ends too. It is not reaped yet,
        // so the group's id cannot belong to anyone else.
        let _ = rustix::process::kill_process_group(self.group, Signal::KILL);
        self.await_kill();
        let status = self.process.wait();
        self.reaped = true;
        self.reap_orphans();
        status
    }

    /// As the first process of a container the daemon inherits what FFmpeg leaves behind, and has to reap
    /// it. All of it is in FFmpeg's group, and nothing of others is. Elsewhere there is nothing to wait for.
    fn reap_orphans(&self) {
        let deadline = Instant::now() + ORPHANS;
        // `None`: they were killed and have not ended yet.
        while let Ok(ended) = rustix::process::waitpgid(self.group, WaitOptions::NOHANG) {
            if ended.is_none() {
                if Instant::now() >= deadline {
                    return;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// SIGKILL has no effect on a process that is stuck in a driver or a network file system. The wait
    /// has no other end, so at least it is told.
    fn await_kill(&self) {
        let Some(exited) = &self.exited else { return };
        while let Ok(false) = wait(
            &mut [PollFd::new(exited, PollFlags::IN)],
            Instant::now() + KILL_COMPLAINT,
        ) {
            let camera = self.words.camera();
            log::error!(camera_id = camera;
                "FFmpeg (process {}) does not die, it must be stuck in the kernel", self.id());
        }
    }

    /// Keeps both pipes empty, or FFmpeg would wait for us and never see the signal.
    fn drain_until_exit(&mut self, deadline: Instant) {
        let mut scratch = vec![0; 64 * 1024];
        loop {
            let Some(exited) = &self.exited else { return };
            let mut fds = vec![PollFd::new(exited, PollFlags::IN)];
            let streams = [&self.stdout, &self.stderr].map(Option::as_ref);
            fds.extend(
                streams
                    .into_iter()
                    .flatten()
                    .map(|fd| PollFd::new(fd, PollFlags::IN)),
            );
            let polled = wait(&mut fds, deadline);
            let done = !fds[0].revents().is_empty();
            let stdout_ready = self.stdout.is_some() && !fds[1].revents().is_empty();
            drop(fds);
            if stdout_ready
                && let Some(stdout) = &self.stdout
                && !matches!(rustix::io::read(stdout, &mut *scratch), Ok(1..))
            {
                self.stdout = None;
            }
            self.read_stderr();
            // Something may be ready for ever: the deadline is looked at as well.
            if done || polled.is_err() || Instant::now() >= deadline {
                return;
            }
        }
    }

    /// Takes what stderr holds, at most one buffer full.
    fn read_stderr(&mut self) {
        let mut bytes = [0; 4096];
        // A flood is read, not kept: up to 64 KiB at a time, then stdout gets its turn.
        for _ in 0..16 {
            let Some(stderr) = &self.stderr else { return };
            match rustix::io::read(stderr, &mut bytes) {
                Ok(n @ 1..) => self.words.hear(bytes.get(..n).unwrap_or_default()),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
                Ok(_) | Err(_) => self.stderr = None,
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = self.finish(Duration::ZERO);
        }
    }
}

/// The child's stdout to read from, while its stderr is drained beside it.
#[derive(Debug)]
pub struct Output<'a> {
    /// Whose.
    pub child: &'a mut Child,
    /// Ends a wait at once.
    pub stop: &'a Stop,
    /// Ends a wait then.
    pub deadline: Instant,
    written: Written,
    arrival: Arrival,
}

impl<'a> Output<'a> {
    /// Of a child that has just been started.
    pub fn new(child: &'a mut Child, stop: &'a Stop, deadline: Instant) -> Self {
        let arrival = Arrival::now();
        Self {
            written: Written::new(child.pipe_bytes, arrival.read.monotonic),
            child,
            stop,
            deadline,
            arrival,
        }
    }

    /// Of the last read that brought something.
    pub fn arrival(&self) -> Arrival {
        self.arrival
    }

    /// Whether nothing waits in the pipe.
    pub fn is_empty(&self) -> bool {
        let stdout = self.child.stdout.as_ref();
        // A pipe that does not tell has nothing more to give.
        stdout.is_none_or(|stdout| rustix::io::ioctl_fionread(stdout).unwrap_or(0) == 0)
    }

    fn arrived(&mut self, count: usize) {
        let read = Stamp::now();
        self.arrival = Arrival {
            read,
            written_after: self.written.read(count, read.monotonic),
        };
    }
}

impl Read for Output<'_> {
    /// Waits for bytes. Woken by bytes, by the child's end, by `stop` and by the deadline.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] when stopped, when nothing is there past the deadline, or when FFmpeg
    /// has said something after which no picture may come.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(stdout) = &self.child.stdout else {
                return Ok(0);
            };
            let mut fds = [
                PollFd::new(stdout, PollFlags::IN),
                PollFd::new(self.stop, PollFlags::IN),
                // A stderr that has ended would be ready for ever: the slot then holds `stop` again.
                match &self.child.stderr {
                    Some(stderr) => PollFd::new(stderr, PollFlags::IN),
                    None => PollFd::new(self.stop, PollFlags::IN),
                },
            ];
            // Past the deadline too, without waiting: after a pause of ours what FFmpeg has sent meanwhile
            // is there, and it is not FFmpeg that hangs.
            let before = Instant::now();
            let glance = before + GLANCE;
            wait(&mut fds, self.deadline.min(glance))?;
            let [out, stop, err] = fds.map(|fd| !fd.revents().is_empty());
            if stop {
                return Err(io::ErrorKind::TimedOut.into());
            }
            if err {
                self.child.read_stderr();
            }
            let now = Instant::now();
            // What did not return at once has waited, with nothing in the pipe.
            if !out || now - before > SLEPT {
                self.written.empty(before);
            }
            if out && let Some(stdout) = &self.child.stdout {
                let count = rustix::io::read(stdout, buf)?;
                self.arrived(count);
                return Ok(count);
            }
            // Also when stderr was ready: it may be so for ever.
            match now.checked_duration_since(self.deadline) {
                None => {}
                Some(late) if late > PAUSED => self.deadline = now + AFTER_A_PAUSE,
                Some(_) => return Err(io::ErrorKind::TimedOut.into()),
            }
            if err && self.child.words.is_urgent() {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}

/// Polls until something is ready (true) or the deadline has come (false). Something that is always ready keeps
/// the deadline from being noticed here.
fn wait(fds: &mut [PollFd<'_>], deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        match poll(fds, Some(&timeout)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// The other side of [`Child::spawn`]: runs in the child, binds it to its parent's life and becomes
/// the program. `args` is what followed [`GUARD_ARGUMENT`]. Returns only when that fails.
pub fn become_program(args: &[OsString]) -> String {
    let [parent, program, args @ ..] = args else {
        return format!("{GUARD_ARGUMENT} is for the program itself");
    };
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    // The parent may have died before the line above.
    let alive = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().to_string());
    if alive.as_deref() != parent.to_str() {
        return "the parent has died".to_owned();
    }
    let error = Command::new(program).args(args).exec();
    let program = program.to_string_lossy();
    let advice = match error.kind() {
        io::ErrorKind::NotFound => ": install it (apt install ffmpeg) or set ffmpeg.path",
        _ => "",
    };
    format!("{CANNOT_RUN}{program}: {error}{advice}")
}
