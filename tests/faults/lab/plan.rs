//! What is to be started: the broker, the cameras and their daemon.

use super::{Lab, RSS_KB, SIX};
use crate::support::consumer::Consumer;
use crate::support::daemon::Setup;
use crate::support::http::ON;
use crate::support::proxy::Proxy;
use crate::support::rabbit::{self, Rabbit};
use crate::support::{TempDir, fake_ffmpeg_path, unix_us};
use std::collections::BTreeSet;
use std::panic::Location;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

/// Where the frames go.
pub enum Node {
    /// The one that all tests share: nothing may happen to it.
    Shared(&'static Rabbit),
    /// The one to be broken, by one test at a time.
    Mine(MutexGuard<'static, Option<Rabbit>>),
    /// One with other settings.
    Own(Box<Rabbit>),
}

static TO_BREAK: Mutex<Option<Rabbit>> = Mutex::new(None);

impl Node {
    /// Waits for its turn.
    pub fn mine() -> Self {
        let mut slot = TO_BREAK
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        slot.get_or_insert_with(Rabbit::start);
        Self::Mine(slot)
    }

    pub fn get(&self) -> &Rabbit {
        match self {
            Self::Shared(rabbit) => rabbit,
            Self::Mine(slot) => slot.as_ref().unwrap(),
            Self::Own(rabbit) => rabbit,
        }
    }

    /// To stop and start it.
    pub fn get_mut(&mut self) -> &mut Rabbit {
        match self {
            Self::Shared(_) => panic!("others use this broker"),
            Self::Mine(slot) => slot.as_mut().unwrap(),
            Self::Own(rabbit) => rabbit,
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Nobody knows what a failed test did to it.
        if std::thread::panicking()
            && let Self::Mine(slot) = self
        {
            slot.take();
        }
    }
}

/// What is to be started.
pub struct Plan {
    pub(super) fault: &'static str,
    pub(super) at: (&'static str, u32),
    pub(super) node: Node,
    /// Identifier, address and further settings of each camera.
    pub cameras: Vec<(&'static str, String, String)>,
    /// Those that the fault is about; empty = all.
    pub(super) ailing: Vec<&'static str>,
    pub(super) amqp: String,
    pub(super) more: String,
    pub(super) url: Option<String>,
    pub(super) ffmpeg: PathBuf,
    pub(super) program: Option<PathBuf>,
    pub(super) env: Vec<(String, String)>,
    pub(super) window: usize,
    pub(super) connections: u64,
    pub(super) rss_kb: u64,
    pub(super) vhost: String,
    /// One more exchange from which the consumer hears.
    pub(super) second: Option<String>,
    pub(super) dir: TempDir,
}

/// A laboratory for the fault of this name; six healthy cameras and a healthy broker behind a
/// proxy.
#[track_caller]
pub fn plan(fault: &'static str) -> Plan {
    let at = Location::caller();
    plan_at(fault, at.file(), at.line())
}

/// The same; its place in the table is that of this line.
fn plan_at(fault: &'static str, file: &'static str, line: u32) -> Plan {
    let dir = TempDir::new("lab");
    let camera = |id: &'static str| (id, fake_url(&dir, id, "stream"), String::new());
    Plan {
        fault,
        at: (file, line),
        node: Node::Shared(Rabbit::shared()),
        cameras: SIX.map(camera).into(),
        ailing: vec![],
        amqp: String::new(),
        more: String::new(),
        url: None,
        ffmpeg: fake_ffmpeg_path(),
        program: None,
        env: vec![],
        window: 2,
        connections: 1,
        rss_kb: RSS_KB,
        vhost: "/".to_owned(),
        second: None,
        dir,
    }
}

/// A camera that plays what the file of its name says.
fn fake_url(dir: &TempDir, id: &str, play: &str) -> String {
    let control = dir.path().join(id);
    format!("lavfi:fake:{play},tag={id},control={}", control.display())
}

impl Plan {
    pub fn broker(mut self, node: Node) -> Self {
        self.node = node;
        self
    }

    /// The broker, before the start.
    pub fn node(&mut self) -> &mut Rabbit {
        self.node.get_mut()
    }

    /// More lines below `amqp:`, each with two spaces before it.
    pub fn amqp(mut self, lines: &str) -> Self {
        self.amqp += lines;
        self
    }

    /// More lines at the top level.
    pub fn config(mut self, lines: &str) -> Self {
        self.more += lines;
        self
    }

    /// Another `amqp.url`, or a line `urls: [...]`.
    pub fn url(mut self, url: String) -> Self {
        self.url = Some(url);
        self
    }

    /// The fault is about these cameras only, which get these settings.
    pub fn ailing(mut self, ids: &[&'static str], settings: &str) -> Self {
        self.ailing = ids.into();
        for (id, _, set) in &mut self.cameras {
            if ids.contains(id) {
                *set += settings;
            }
        }
        self
    }

    /// One camera has this address, and may be well or not.
    pub fn camera(mut self, id: &str, url: &str) -> Self {
        let camera = self.cameras.iter_mut().find(|camera| camera.0 == id);
        camera.unwrap().1 = url.to_owned();
        self
    }

    /// What a camera of the fake FFmpeg plays while it is well.
    pub fn plays(mut self, id: &str, play: &str) -> Self {
        let url = fake_url(&self.dir, id, play);
        self = self.camera(id, &url);
        self
    }

    /// Other fake cameras.
    pub fn cameras(mut self, ids: impl IntoIterator<Item = &'static str>, play: &str) -> Self {
        let dir = &self.dir;
        let camera = |id: &'static str| (id, fake_url(dir, id, play), String::new());
        self.cameras = ids.into_iter().map(camera).collect();
        self
    }

    pub fn ffmpeg(mut self, path: PathBuf) -> Self {
        self.ffmpeg = path;
        self
    }

    /// Runs another program in the daemon's place, which becomes the daemon.
    pub fn program(mut self, path: PathBuf) -> Self {
        self.program = Some(path);
        self
    }

    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }

    /// So many connections are made of one, and each tells of itself.
    pub fn becomes_connections(mut self, number: u64) -> Self {
        self.connections = number;
        self
    }

    /// So many connections to the broker.
    pub fn connections(mut self, number: u64) -> Self {
        self.connections = number;
        self.amqp(&format!("  connections: {number}\n"))
    }

    /// Larger frames make larger buffers, of so many MB in all, which stay.
    pub fn buffers_grow_by(mut self, mb: u64) -> Self {
        self.rss_kb += mb * 1024;
        self
    }

    /// So many unconfirmed frames of a camera are to be expected at most.
    pub fn window(mut self, frames: usize) -> Self {
        self.window = frames;
        self
    }

    /// The consumer is there too.
    pub fn vhost(mut self, vhost: &str) -> Self {
        self.vhost = vhost.to_owned();
        self
    }

    /// What is published to this exchange arrives as well.
    pub fn also_hears(mut self, exchange: &str) -> Self {
        self.second = Some(exchange.to_owned());
        self
    }

    /// A folder for the test's own files.
    pub fn dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    pub(super) fn listen(&self, exchange: &str) -> Consumer {
        Consumer::start_in(&self.vhost, self.node.get().port(), exchange, "#", false)
    }

    /// Starts the daemon, and waits until all are well.
    #[track_caller]
    pub fn start(self) -> Lab {
        let mut lab = self.start_ill();
        lab.become_well();
        lab
    }

    /// Starts the daemon; the fault is there from the start.
    #[track_caller]
    pub fn start_ill(self) -> Lab {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let exchange = format!("faults.{}.{number}", std::process::id());
        let proxy = Proxy::start(self.node.get().port());
        let can_listen = self.node.get().is_running() && self.vhost == "/";
        let consumer = can_listen.then(|| self.listen(&exchange));
        let url = self
            .url
            .clone()
            .unwrap_or_else(|| match self.node {
                Node::Shared(_) => rabbit::url(proxy.port(), "guest", "guest", "/"),
                // What its own end looks like a proxy would hide.
                Node::Mine(_) | Node::Own(_) => self.node.get().url(),
            })
            .replace("{proxy}", &proxy.port().to_string());
        let url = match url.starts_with("urls:") {
            true => url,
            false => format!("url: {url}"),
        };
        let mut config = format!(
            "amqp:\n  {url}\n  exchange: {exchange}\n{}ffmpeg:\n  path: {}\n{ON}{}\ncameras:\n",
            self.amqp,
            self.ffmpeg.display(),
            self.more,
        );
        for (id, url, settings) in &self.cameras {
            config += &format!("  - {{id: {id}, url: \"{url}\"{settings}}}\n");
        }
        let mut lab = Lab {
            daemon: self.setup(&config).start(),
            proxy,
            consumer,
            exchange,
            config,
            calm: None,
            before: None,
            log: vec![],
            broken_at: unix_us(),
            mended_at: None,
            others: None,
            received: BTreeSet::new(),
            late: 0,
            counts_late_from: None,
            deaf: false,
            began: Instant::now(),
            plan: self,
        };
        lab.deaf = lab.consumer.is_none();
        if let Some(second) = lab.plan.second.clone() {
            lab.bind(&second);
        }
        lab
    }

    pub(super) fn setup(&self, config: &str) -> Setup {
        let mut setup = Setup::new(config);
        for (key, value) in &self.env {
            setup = setup.env(key, value);
        }
        match &self.program {
            Some(program) => setup.program(program.clone()),
            None => setup,
        }
    }
}
