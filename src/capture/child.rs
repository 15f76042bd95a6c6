//! Starts and ends an FFmpeg process; the only file that knows processes.
//!
//! A child has its own process group, so that processes that it starts end with it. It is always
//! reaped. The kernel kills it when the thread that started it dies, so no FFmpeg outlives a daemon
//! that was killed with SIGKILL.

use super::environment;
use super::last_words::LastWords;
use super::pipe::{Arrival, Written};
use super::remarks::Remark;
use super::tap::Tap;
use super::words::CANNOT_RUN;
use crate::clock::Stamp;
use crate::idle::Followed;
use crate::os_error::error_text;
use crate::redact::Hidden;
use crate::shutdown::Stop;
use crate::system::wait_until;
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// First argument of our own program when it runs in the child, before it becomes FFmpeg.
pub const GUARD_ARGUMENT: &str = "--exec-child-of";

/// Wanted size of the pipe from FFmpeg: the largest that an unprivileged user may set
/// (/proc/sys/fs/pipe-max-size). Reading is three times as fast as with the default of 64 KiB.
const PIPE_BYTES: usize = 1 << 20;

/// If a wait ends this long after its deadline, the whole machine was paused. A busy machine is
/// late by less.
const PAUSED: Duration = Duration::from_millis(500);
/// After a pause FFmpeg continues at the same time as we do, on a machine that is still busy. It
/// has this long to send something before it counts as hung.
const AFTER_A_PAUSE: Duration = Duration::from_secs(2);

/// A wait for bytes is interrupted at this interval, to note that the pipe was empty then. Shorter
/// than the least limit of an age: see `session::LEAST_LIMIT`.
const GLANCE: Duration = Duration::from_millis(250);

/// A call of poll(2) that takes longer has slept. One that returns at once takes about 1 µs.
const SLEPT: Duration = Duration::from_micros(50);

/// How long processes that FFmpeg started may take to end after SIGKILL: well above what a busy
/// machine needs, and short compared with the end of a session.
const ORPHANS: Duration = Duration::from_millis(200);

/// How often to log that a killed child does not end.
const KILL_COMPLAINT: Duration = Duration::from_secs(60);

/// A running child. Dropping it kills it.
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
    /// Starts `program`. Its stderr goes to the debug log under `camera`'s name, and its last lines
    /// are kept.
    ///
    /// Must be called on the thread that will end it: when that thread dies, the kernel kills the
    /// child.
    ///
    /// # Errors
    /// If no process or descriptor is available. A missing `program` is no error here: the child
    /// exits.
    pub fn spawn(program: &Path, args: &[String], camera: Option<Arc<str>>) -> io::Result<Self> {
        // PR_SET_PDEATHSIG must be set in the child, between fork and exec. Without unsafe code
        // this needs a program in between: our own, which sets it and then becomes `program`.
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
            // From here on, Drop ends the child on a failure.
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
            // Refused if the user's limit for pipes is reached; the pipe then stays at 64 KiB.
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

    /// Takes the oldest remark on stderr that affects the session, from what has been read so far;
    /// see [`hear`](Self::hear).
    pub fn take_remark(&mut self) -> Option<Remark> {
        self.words.take_remark()
    }

    /// Reads what is on stderr, without waiting.
    pub fn hear(&mut self) {
        self.read_stderr();
    }

    /// The last lines of its stderr so far, without secrets, each with its age.
    pub fn last_words(&mut self) -> Vec<(Duration, String)> {
        self.read_stderr();
        self.words.lines()
    }

    /// Ends the child and all processes that it started, and reaps it. SIGTERM makes FFmpeg log off
    /// from an RTSP camera; after `grace` the pipe is closed and SIGKILL follows.
    pub fn end(mut self, grace: Duration) -> End {
        let status = self.finish(grace);
        End {
            status: match status {
                Ok(status) => describe(status),
                Err(error) => format!("unknown end: {}", error_text(&error)),
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
        // Also after it has exited, since processes that it started may still run. It is not reaped
        // yet, so the group's id cannot belong to another process.
        let _ = rustix::process::kill_process_group(self.group, Signal::KILL);
        self.await_kill();
        let status = self.process.wait();
        self.reaped = true;
        self.reap_orphans();
        status
    }

    /// As the first process of a container, the daemon becomes the parent of processes that FFmpeg
    /// leaves behind, and must reap them. They and no others are in FFmpeg's group. Outside of a
    /// container there are none.
    fn reap_orphans(&self) {
        let deadline = Instant::now() + ORPHANS;
        // `None`: they were killed but have not ended yet.
        while let Ok(ended) = rustix::process::waitpgid(self.group, WaitOptions::NOHANG) {
            if ended.is_none() {
                if Instant::now() >= deadline {
                    return;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Waits until the child has ended. SIGKILL has no effect while a process is stuck in a driver
    /// or a network file system, and nothing else can end it, so that is logged.
    fn await_kill(&self) {
        let Some(exited) = &self.exited else { return };
        while let Ok(false) = wait_until(
            &mut [PollFd::new(exited, PollFlags::IN)],
            Instant::now() + KILL_COMPLAINT,
        ) {
            let camera = self.words.camera();
            log::error!(camera_id = camera;
                "FFmpeg (process {}) does not end after SIGKILL: it is stuck in the kernel; still waiting",
                self.id());
        }
    }

    /// Keeps both pipes empty: an FFmpeg that blocks on a full pipe does not handle the signal.
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
            let polled = wait_until(&mut fds, deadline);
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
            // A descriptor may always be ready, so the deadline is checked as well.
            if done || polled.is_err() || Instant::now() >= deadline {
                return;
            }
        }
    }

    /// Reads what stderr holds, at most 64 KiB, so that stdout is not neglected in a flood.
    fn read_stderr(&mut self) {
        let mut bytes = [0; 4096];
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

/// Reads the child's stdout, and drains its stderr meanwhile.
#[derive(Debug)]
pub struct Output<'a> {
    /// The child.
    pub child: &'a mut Child,
    /// Ends a wait when requested.
    pub stop: &'a Stop,
    /// Ends a wait at this moment.
    pub deadline: Instant,
    /// The copy of the camera's stream, which ends a wait as well.
    pub tap: Option<Tap>,
    /// A change of this ends a wait too, within 250 ms.
    pub followed: Option<Followed>,
    written: Written,
    arrival: Arrival,
}

impl<'a> Output<'a> {
    /// For a child that has just been started.
    pub fn new(child: &'a mut Child, stop: &'a Stop, deadline: Instant) -> Self {
        let arrival = Arrival::now();
        Self {
            written: Written::new(child.pipe_bytes, arrival.read.monotonic),
            child,
            stop,
            deadline,
            tap: None,
            followed: None,
            arrival,
        }
    }

    /// Arrival of the bytes of the last read.
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
    /// [`io::ErrorKind::TimedOut`] if `stop` was requested, if no byte came before the deadline, if
    /// FFmpeg wrote a remark after which no picture may come, if the tap has something, or if the
    /// camera became idle or is idle no longer.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(stdout) = &self.child.stdout else {
                return Ok(0);
            };
            // What is not there would always be ready; `stop` is polled again instead.
            let in_vain = || PollFd::new(self.stop, PollFlags::IN);
            let stderr = self.child.stderr.as_ref();
            let tap = self.tap.as_ref();
            // They are looked at in this order: stderr behind what its remarks are about, so that
            // FFmpeg cannot write a remark and then what it is about between two looks.
            let mut fds = [
                tap.map_or_else(in_vain, Tap::poll_fd),
                PollFd::new(stdout, PollFlags::IN),
                in_vain(),
                stderr.map_or_else(in_vain, |stderr| PollFd::new(stderr, PollFlags::IN)),
            ];
            let first = usize::from(tap.is_none());
            // Polls once even after the deadline: if we were paused, FFmpeg's bytes are there, and
            // FFmpeg does not hang.
            let before = Instant::now();
            let glance = before + GLANCE;
            wait_until(&mut fds[first..], self.deadline.min(glance))?;
            let [tapped, out, stop, err] = fds.map(|fd| !fd.revents().is_empty());
            if stop {
                return Err(io::ErrorKind::TimedOut.into());
            }
            if err {
                self.child.read_stderr();
            }
            let now = Instant::now();
            // A poll that slept found the pipe empty.
            let slept = now - before > SLEPT;
            if !out || slept {
                self.written.empty(before);
            }
            if let Some(tap) = &mut self.tap {
                tap.polled(tapped, slept, before);
            }
            if out && let Some(stdout) = &self.child.stdout {
                let count = rustix::io::read(stdout, buf)?;
                self.arrived(count);
                return Ok(count);
            }
            // Also when stderr was ready, since it may always be.
            match now.checked_duration_since(self.deadline) {
                None => {}
                Some(late) if late > PAUSED => self.deadline = now + AFTER_A_PAUSE,
                Some(_) => return Err(io::ErrorKind::TimedOut.into()),
            }
            let changed = self.followed.as_ref().is_some_and(Followed::has_changed);
            if tapped || changed || err && self.child.words.is_urgent() {
                return Err(io::ErrorKind::TimedOut.into());
            }
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

/// The child's side of [`Child::spawn`]: requests to be killed when the parent dies, and becomes
/// the program. `args` is what followed [`GUARD_ARGUMENT`]. Returns only on a failure, with the
/// message.
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
    format!("{CANNOT_RUN}{program}: {}{advice}", error_text(&error))
}
