//! A private RabbitMQ node: own ports on loopback, own name, cookie and data; removed with the
//! test.

use super::guarded::{self, Guarded};
use super::{SOON, TempDir, free_port, holds_within, listening, wait_until};
use rustix::process::Signal;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// A node takes about 5 s to start, and many times that on a loaded machine.
const START_LIMIT: Duration = Duration::from_secs(120);

/// RabbitMQ's own scripts. Debian's wrappers in `/usr/sbin` work only for root and the user
/// rabbitmq, and only for one node.
const SCRIPTS: [&str; 2] = ["/usr/lib/rabbitmq/bin", "/usr/lib/rabbitmq/sbin"];

/// Names the folder of another Debian, whose RabbitMQ is then used: see `scripts/rabbitmq-4`.
const ROOT: &str = "EDGE_VIDEO_RABBITMQ_ROOT";

/// Runs a program of the system in the folder `$1`, in the folder `$2`. The tests' folders beside
/// `$2` are visible to it. The mounts are private to this process and end with it.
const IN_ROOT: &str = r#"
root=$1; dir=$2; shift 2
ours=$(dirname "$dir")
mkdir -p "$root$ours"
mount --bind "$ours" "$root$ours" && mount -t proc proc "$root/proc" && exec chroot "$root" env -C "$dir" "$@"
"#;

/// A node.
#[derive(Debug)]
pub struct Rabbit {
    port: u16,
    dist_port: u16,
    epmd_port: u16,
    node_name: String,
    scripts: PathBuf,
    /// The system of its programs; `None` = this one.
    root: Option<PathBuf>,
    /// `None` while it is stopped.
    node: Option<Guarded>,
    /// Erlang's name server (epmd). A private one, because a node that finds none starts one that
    /// stays.
    epmd: Guarded,
    // The last field, so that it is removed after the node that writes to it has ended.
    dir: TempDir,
}

impl Rabbit {
    /// The node that all tests share. A test that disturbs its node must use its own, see
    /// [`Rabbit::start`]. Exchanges and users in the shared node need unique names.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Rabbit> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Starts a new node and waits until a client can log in.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// The same with more lines of `rabbitmq.conf`.
    pub fn start_with(more: &str) -> Self {
        Self::start_with_plugins(more, "")
    }

    /// The same with plugins, as Erlang lists them.
    pub fn start_with_plugins(more: &str, plugins: &str) -> Self {
        let root = std::env::var_os(ROOT).map(PathBuf::from);
        let in_root = |dir: &str| match &root {
            Some(root) => root.join(dir.trim_start_matches('/')),
            None => PathBuf::from(dir),
        };
        let scripts = SCRIPTS
            .iter()
            .find(|dir| in_root(dir).join("rabbitmq-server").exists())
            .unwrap_or_else(|| {
                panic!("RabbitMQ is not installed: no rabbitmq-server in {SCRIPTS:?} of {root:?}")
            });
        let scripts = PathBuf::from(scripts);
        let dir = TempDir::new("rabbit");
        let (port, dist_port, epmd_port) = (free_port(), free_port(), free_port());

        write_files(dir.path(), port, more, plugins);
        let epmd = Guarded::spawn(
            guarded::command("epmd", Some(dir.path()))
                .args(["-port", &epmd_port.to_string(), "-address", "127.0.0.1"])
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        );
        wait_until(SOON, "epmd to listen", || listening(epmd_port));

        let mut rabbit = Self {
            port,
            dist_port,
            epmd_port,
            node_name: format!("edge-video-{}-{port}@localhost", std::process::id()),
            scripts,
            root,
            node: None,
            epmd,
            dir,
        };
        rabbit.start_again();
        rabbit
    }

    /// Starts the stopped node again, on the same port and with the same data.
    pub fn start_again(&mut self) {
        assert!(self.node.is_none(), "the node runs");
        let log = fs::File::create(self.dir.path().join("out")).unwrap();
        let program = self.program("rabbitmq-server");
        let mut command = guarded::command(&program[0], None);
        command.args(&program[1..]);
        self.set_env(&mut command);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let mut node = Guarded::spawn(&mut command);
        let url = self.url();
        let up = holds_within(START_LIMIT, || {
            node.ended().is_some() || amiquip::Connection::insecure_open(&url).is_ok()
        });
        if !up || node.ended().is_some() {
            let out = fs::read_to_string(self.dir.path().join("out")).unwrap_or_default();
            panic!("RabbitMQ did not start:\n{out}");
        }
        self.node = Some(node);
    }

    /// Stops the node gracefully, as `systemctl stop` does: clients are told.
    pub fn stop_gracefully(&mut self) {
        let mut node = self.node.take().expect("the node does not run");
        node.signal(Signal::TERM);
        node.wait(START_LIMIT);
    }

    /// SIGKILL: connections are reset.
    pub fn kill(&mut self) {
        self.node.take().expect("the node does not run").kill();
    }

    /// [`stop_gracefully`](Self::stop_gracefully) and [`start_again`](Self::start_again).
    pub fn restart(&mut self) {
        self.stop_gracefully();
        self.start_again();
    }

    /// SIGSTOP: the kernel still accepts bytes for it until the socket buffers are full.
    pub fn freeze(&self) {
        self.running().signal(Signal::STOP);
        // The signal stops one thread after another. Until the last one has stopped, the node may
        // still answer.
        let tasks = format!("/proc/{}/task", self.pid());
        wait_until(SOON, "every thread of the node to stand still", || {
            let stat = |task: &Path| std::fs::read_to_string(task.join("stat")).unwrap_or_default();
            std::fs::read_dir(&tasks).is_ok_and(|tasks| {
                tasks.flatten().all(|task| {
                    // The state follows the name, which is in brackets.
                    stat(&task.path())
                        .rsplit(") ")
                        .next()
                        .is_some_and(|rest| rest.starts_with('T'))
                })
            })
        });
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.running().signal(Signal::CONT);
    }

    /// Whether it was started and not stopped since.
    pub fn is_running(&self) -> bool {
        self.node.is_some()
    }

    /// Process id of the Erlang machine.
    pub fn pid(&self) -> u32 {
        self.running().pid()
    }

    /// AMQP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its version, as it calls itself.
    pub fn release(&self) -> String {
        self.ctl(&["version"]).trim().to_owned()
    }

    /// The node's name in Erlang, which some of RabbitMQ's errors state.
    pub fn node_name(&self) -> &str {
        &self.node_name
    }

    /// URL with the default user.
    pub fn url(&self) -> String {
        self.url_with("guest", "guest", "/")
    }

    /// URL with this user and virtual host. User and password must need no encoding in a URL.
    pub fn url_with(&self, user: &str, password: &str, vhost: &str) -> String {
        url(self.port, user, password, vhost)
    }

    /// Runs `rabbitmqctl`, which takes a second or two; panics when it fails, else returns what it
    /// printed.
    #[track_caller]
    pub fn ctl(&self, args: &[&str]) -> String {
        let Output {
            status,
            stdout,
            stderr,
        } = self.try_ctl(args);
        assert!(
            status.success(),
            "rabbitmqctl {args:?}: {status}: {}{}",
            String::from_utf8_lossy(&stdout),
            String::from_utf8_lossy(&stderr)
        );
        String::from_utf8_lossy(&stdout).into_owned()
    }

    /// The same, and returns its output even if it fails.
    pub fn try_ctl(&self, args: &[&str]) -> Output {
        let program = self.program("rabbitmqctl");
        let mut command = Command::new(&program[0]);
        command.args(&program[1..]);
        self.set_env(&mut command);
        command
            .arg("--quiet")
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// One of its scripts, as a command line.
    fn program(&self, name: &str) -> Vec<OsString> {
        let script = self.scripts.join(name).into_os_string();
        let Some(root) = &self.root else {
            return vec![script];
        };
        let enter = ["unshare", "--mount", "sh", "-c", IN_ROOT, "enter"];
        let enter = enter.into_iter().map(OsString::from);
        enter
            .chain([root.into(), self.dir.path().into(), script])
            .collect()
    }

    fn running(&self) -> &Guarded {
        self.node.as_ref().expect("the node does not run")
    }

    /// Separates a node or a tool from the system's own node.
    fn set_env(&self, command: &mut Command) {
        let dir = self.dir.path();
        for (key, _) in std::env::vars_os() {
            let name = key.to_string_lossy();
            if name.starts_with("RABBITMQ_") || name.starts_with("ERL_") {
                command.env_remove(&key);
            }
        }
        command
            // A node that is killed while it starts leaves a dump in its working directory.
            .current_dir(dir)
            // Without a locale it would read its arguments, such as a password, as Latin-1.
            .env("LC_ALL", "C.UTF-8")
            // The cookie is read from here.
            .env("HOME", dir)
            .env("RABBITMQ_NODENAME", &self.node_name)
            .env("RABBITMQ_MNESIA_BASE", dir.join("data"))
            .env("RABBITMQ_LOG_BASE", dir.join("log"))
            .env("RABBITMQ_CONFIG_FILE", dir.join("rabbitmq.conf"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", dir.join("none.config"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", dir.join("plugins"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_DIST_PORT", self.dist_port.to_string())
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            // The script then replaces itself by the Erlang machine, so signals reach the node
            // itself.
            .env("RUNNING_UNDER_SYSTEMD", "true")
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                // No busy waiting, which would disturb measurements.
                "-kernel inet_dist_use_interface {127,0,0,1} \
                 +sbwt none +sbwtdcpu none +sbwtdio none",
            );
    }
}

/// A broker's URL, also for one behind a proxy.
pub fn url(port: u16, user: &str, password: &str, vhost: &str) -> String {
    let vhost = vhost.replace('%', "%25").replace('/', "%2f");
    format!("amqp://{user}:{password}@127.0.0.1:{port}/{vhost}")
}

fn write_files(dir: &Path, port: u16, more: &str, plugins: &str) {
    let config = format!(
        "listeners.tcp.1 = 127.0.0.1:{port}\n\
         loopback_users = none\n\
         disk_free_limit.absolute = 1MB\n\
         vm_memory_high_watermark.absolute = 1GB\n\
         log.file.level = warning\n\
         log.console = false\n\
         {more}\n"
    );
    fs::write(dir.join("rabbitmq.conf"), config).unwrap();
    fs::write(dir.join("plugins"), format!("[{plugins}].\n")).unwrap();
    let cookie = dir.join(".erlang.cookie");
    // A cookie of its own, so that nodes that find each other by accident cannot connect.
    fs::write(&cookie, format!("EDGEVIDEO{port}X{}", super::unix_us())).unwrap();
    // Erlang refuses a cookie that others can read.
    fs::set_permissions(&cookie, fs::Permissions::from_mode(0o400)).unwrap();
}
