//! A process that cannot outlive the test process, not even when that aborts or gets SIGKILL:
//! libtest runs no destructors of statics, and a killed process none at all.

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

/// Starts a watcher and then becomes the program. The watcher reads a pipe from the test process.
/// A line on it means that the program's end has been seen; end of file without a line means that
/// the test process is gone, and then the program's process group goes too.
///
/// The watcher is started through a subshell that ends at once, so it is no child of the program,
/// which has exactly the children that it starts itself. It holds none of the program's outputs
/// open. It has no environment, since tests find the program's descendants by theirs.
const START: &str = r#"
remove=$1; shift
exec 3<&0
( setsid env -i PATH="$PATH" sh -c '
    read -r seen && exit
    kill -s KILL -- "-$0"
    if [ -n "$1" ]; then sleep 0.2; rm -rf -- "$1"; fi
' $$ "$remove" <&3 3<&- >/dev/null 2>&1 & )
exec "$@" </dev/null 3<&-
"#;

/// A command that runs `program` with empty stdin. Add arguments, environment and outputs, then
/// give it to [`Guarded::spawn`]. If the test process dies, `remove` is removed.
pub fn command(program: impl AsRef<std::ffi::OsStr>, remove: Option<&Path>) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", START, "guard"])
        .arg(remove.unwrap_or(Path::new("")))
        .arg(program)
        .stdin(Stdio::piped())
        .process_group(0);
    command
}

/// A running program in its own process group. Dropping it kills the group.
#[derive(Debug)]
pub struct Guarded {
    child: Child,
    watcher: ChildStdin,
    ended: Option<ExitStatus>,
}

impl Guarded {
    /// Starts what [`command`] made.
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let watcher = child.stdin.take().unwrap();
        Self {
            child,
            watcher,
            ended: None,
        }
    }

    /// The program's process id, which is its process group's too.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The process, for its outputs.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends `signal` to the program alone. Nothing happens if its end was seen.
    pub fn signal(&self, signal: Signal) {
        if self.ended.is_none() {
            // It may have ended a moment ago; then it is a zombie, and this does no harm.
            let _ = kill_process(pid_of(self.pid()), signal);
        }
    }

    /// How the program ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none()
            && let Some(status) = self.child.try_wait().unwrap()
        {
            self.saw_end(status);
        }
        self.ended
    }

    /// Waits for the program to end by itself; panics when that takes longer than `limit`.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let pid = self.pid();
        super::wait_for(limit, &format!("the end of process {pid}"), || self.ended())
    }

    /// Kills the whole process group and waits for the program's end.
    pub fn kill(&mut self) {
        if self.ended.is_none() {
            let _ = kill_process_group(pid_of(self.pid()), Signal::KILL);
            let status = self.child.wait().unwrap();
            self.saw_end(status);
        }
    }

    /// From here on another process may get the id, so the watcher must not use it.
    fn saw_end(&mut self, status: ExitStatus) {
        self.ended = Some(status);
        let _ = self.watcher.write_all(b"seen\n");
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A process id as rustix takes it.
pub fn pid_of(pid: u32) -> Pid {
    i32::try_from(pid).ok().and_then(Pid::from_raw).unwrap()
}
