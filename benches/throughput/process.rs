//! Measured processes: their CPU time, memory and threads, from /proc.

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

/// A program in its own process group, which is killed when this is dropped.
pub struct Process {
    child: Child,
    stderr: Option<ChildStderr>,
    feeder: Option<Child>,
}

/// CPU time, memory and threads of the processes of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    pub cpu: Duration,
    pub rss_kb: u64,
    pub threads: u64,
}

impl Process {
    /// Starts `program`, on the processors `cpus` if given.
    pub fn start(program: &str, args: &[String], cpus: Option<&str>) -> Self {
        Self::start_fed(program, args, cpus, None)
    }

    /// The same with the output of `feeder` as stdin.
    pub fn start_fed(
        program: &str,
        args: &[String],
        cpus: Option<&str>,
        feeder: Option<(&str, &[String])>,
    ) -> Self {
        let mut feeder = feeder.map(|(program, args)| {
            let mut command = Command::new(program);
            command
                .args(args)
                .stdout(Stdio::piped())
                .stderr(Stdio::null());
            command.spawn().unwrap()
        });
        let mut command = match cpus {
            None => Command::new(program),
            Some(cpus) => {
                let mut command = Command::new("taskset");
                command.args(["-c", cpus, program]);
                command
            }
        };
        let stdin = feeder.as_mut().and_then(|feeder| feeder.stdout.take());
        let mut child = command
            .args(args)
            .stdin(stdin.map_or(Stdio::null(), Stdio::from))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {program}: {error}"));
        let stderr = child.stderr.take();
        Self {
            child,
            stderr,
            feeder,
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Without its children.
    pub fn usage(&self) -> Usage {
        usage_of(self.id())
    }

    /// Sends SIGTERM, and returns its stderr until its end.
    pub fn terminate(mut self) -> String {
        let _ = kill_process(self.pid(), Signal::TERM);
        let mut text = String::new();
        if let Some(mut stderr) = self.stderr.take() {
            let _ = stderr.read_to_string(&mut text);
        }
        text
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

/// Its children.
pub fn children_of(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    let children = tasks
        .into_iter()
        .flatten()
        .flatten()
        .map(|thread| fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    let children: String = children.collect();
    let words = children.split_whitespace();
    words.map(|child| child.parse().unwrap()).collect()
}

/// Its proportional set size, in which memory that N processes share counts as its Nth part.
pub fn pss_kb_of(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    pss.map_or(0, |pss| pss.trim().trim_end_matches(" kB").parse().unwrap())
}

/// For one process, without its children.
pub fn usage_of(pid: u32) -> Usage {
    let proc = format!("/proc/{}", pid);
    let mut usage = Usage::default();
    for thread in fs::read_dir(format!("{proc}/task"))
        .into_iter()
        .flatten()
        .flatten()
    {
        usage.threads += 1;
        // The first number is nanoseconds on a processor, in user space and in the kernel.
        let stat = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse().ok());
        usage.cpu += Duration::from_nanos(nanos.unwrap_or(0));
    }
    let status = fs::read_to_string(format!("{proc}/status")).unwrap_or_default();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    usage.rss_kb = rss.map_or(0, |rss| rss.trim().trim_end_matches(" kB").parse().unwrap());
    usage
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(feeder) = &mut self.feeder {
            let _ = feeder.kill();
            let _ = feeder.wait();
        }
        let _ = kill_process_group(self.pid(), Signal::KILL);
        let _ = self.child.wait();
    }
}

impl std::iter::Sum for Usage {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            cpu: sum.cpu + one.cpu,
            rss_kb: sum.rss_kb + one.rss_kb,
            threads: sum.threads + one.threads,
        })
    }
}

/// A private RabbitMQ node, which listens with TLS too.
pub struct Broker {
    folder: String,
    pub port: u16,
    pub tls_port: u16,
    /// The file of its certificate, which is its own authority.
    pub certificate: String,
}

impl Broker {
    pub fn start(folder: &str, cpus: Option<&str>) -> Self {
        let port = free_port();
        let tls_port = port + TLS;
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder).unwrap();
        let (certificate, settings) = tls_listener(folder, tls_port);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/private-broker");
        let mut command = match cpus {
            None => Command::new(script),
            Some(cpus) => {
                let mut command = Command::new("taskset");
                command.args(["-c", cpus, script]);
                command
            }
        };
        // No busy waiting, which would take CPU time from the measured program.
        command.env(
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "+sbwt none +sbwtdcpu none +sbwtdio none",
        );
        let status = command
            .args(["start", folder, &port.to_string(), &settings])
            .status()
            .unwrap();
        assert!(status.success(), "the broker does not start");
        Self {
            folder: folder.to_owned(),
            port,
            tls_port,
            certificate,
        }
    }

    /// SIGSTOP or SIGCONT: like a broker that hangs on a slow disk.
    pub fn signal(&self, signal: Signal) {
        let pid = fs::read_to_string(format!("{}/pid", self.folder)).unwrap();
        let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/private-broker");
        self.signal(Signal::CONT);
        let _ = Command::new(script).args(["stop", &self.folder]).status();
    }
}

/// The files of a certificate for the broker, made now, and of the settings of its TLS listener.
fn tls_listener(folder: &str, port: u16) -> (String, String) {
    let [certificate, key, settings] =
        ["certificate.pem", "key.pem", "tls.conf"].map(|name| format!("{folder}/{name}"));
    let args = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=bench -addext \
                subjectAltName=IP:127.0.0.1";
    let output = Command::new("openssl")
        .args(args.split_whitespace())
        .args(["-keyout", &key, "-out", &certificate])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {args}: {said}");
    let text = format!(
        "listeners.ssl.1 = 127.0.0.1:{port}\nssl_options.cacertfile = {certificate}\n\
         ssl_options.certfile = {certificate}\nssl_options.keyfile = {key}\n"
    );
    fs::write(&settings, text).unwrap();
    (certificate, settings)
}

/// From the broker's port to that of its TLS listener.
const TLS: u16 = 5_000;

/// Below the ports of outgoing connections, and with room for the TLS listener and for Erlang's own
/// ports, which follow from it.
pub fn free_port() -> u16 {
    let start = u16::try_from(std::process::id() % 4_000).unwrap() + 15_000;
    (start..19_999)
        .find(|port| {
            [0, TLS, 10_000, 20_000]
                .iter()
                .all(|more| std::net::TcpListener::bind(("127.0.0.1", port + more)).is_ok())
        })
        .unwrap()
}

/// Waits until `cond` holds, for `limit` at most.
pub fn holds_within(limit: Duration, mut cond: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while !cond() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}
