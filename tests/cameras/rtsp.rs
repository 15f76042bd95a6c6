//! A played RTSP camera: sends clips in real time, over TCP or UDP, and can misbehave in many ways.
//! What it sent, and what it was asked, is kept.

use crate::clip::Clip;
use crate::player::{Player, Way};
use crate::rtp::Stamps;
use crate::sdp::sdp;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Where a session begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Join {
    /// At the first picture, a keyframe: what cameras do that make a keyframe for each client.
    Key,
    /// The first session begins so many seconds into the clips, later ones where the camera then
    /// is.
    Middle(f64),
}

/// How a camera behaves.
#[derive(Debug, Clone)]
pub struct Play {
    /// The clips of each video stream, played one after the other, again and again.
    pub streams: Vec<Vec<Arc<Clip>>>,
    pub join: Join,
    pub stamps: Stamps,
    /// Share of RTP packets that get lost.
    pub loss: f64,
    /// Whether the SDP has the parameter sets.
    pub sprop: bool,
    /// Closes the connection so many seconds after PLAY.
    pub close_after: Option<f64>,
    /// From `.0` seconds after PLAY on sends nothing for `.1` seconds.
    pub stall: Option<(f64, f64)>,
    /// Answers this method with this status line, which may have header fields behind it.
    pub refuse: Option<(&'static str, &'static str)>,
    /// Sessions at once at most; one without TEARDOWN stays for a minute.
    pub sessions: Option<usize>,
}

impl Play {
    /// A camera with one stream that does everything right.
    pub fn new(clips: impl IntoIterator<Item = Arc<Clip>>) -> Self {
        Self {
            streams: vec![clips.into_iter().collect()],
            join: Join::Key,
            stamps: Stamps::Right,
            loss: 0.0,
            sprop: true,
            close_after: None,
            stall: None,
            refuse: None,
            sessions: None,
        }
    }
}

/// A picture that left the camera.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// When the camera took it, in microseconds since 1970; it may have been sent later.
    pub taken_us: i64,
    pub number: u16,
    pub key: bool,
}

/// A listener on a port of its own. Another test process may take a free port before we do.
pub fn listen() -> (TcpListener, u16) {
    crate::support::wait_for(crate::support::SOON, "a port to listen on", || {
        let port = crate::support::free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).ok()?;
        Some((listener, port))
    })
}

/// A camera that runs. Dropping it closes its connections.
#[derive(Debug)]
pub struct Camera {
    port: u16,
    shared: Arc<Shared>,
}

/// What the connections of a camera share.
#[derive(Debug)]
pub struct Shared {
    pub play: Play,
    /// Since when the camera counts its pictures, if sessions join in the middle.
    pub began: Mutex<Option<Instant>>,
    pub sent: Mutex<Vec<Sent>>,
    asked: Mutex<Vec<String>>,
    /// Open sessions, and until when those that were left without TEARDOWN are kept.
    open: Mutex<BTreeMap<u32, Option<Instant>>>,
    connections: Mutex<Vec<TcpStream>>,
    closed: AtomicBool,
}

impl Camera {
    pub fn start(play: Play) -> Self {
        let (listener, port) = listen();
        let shared = Arc::new(Shared {
            play,
            began: Mutex::default(),
            sent: Mutex::default(),
            asked: Mutex::default(),
            open: Mutex::default(),
            connections: Mutex::default(),
            closed: AtomicBool::new(false),
        });
        let camera = Self {
            port,
            shared: Arc::clone(&shared),
        };
        std::thread::spawn(move || {
            for (id, stream) in (1..).zip(listener.incoming()) {
                if shared.closed.load(Ordering::Relaxed) {
                    return;
                }
                let stream = stream.unwrap();
                shared
                    .connections
                    .lock()
                    .unwrap()
                    .push(stream.try_clone().unwrap());
                let shared = Arc::clone(&shared);
                // A client that goes away ends its session.
                std::thread::spawn(move || {
                    let _ = Session::new(id, shared, stream).and_then(|session| session.serve());
                });
            }
        });
        camera
    }

    pub fn url(&self) -> String {
        format!("rtsp://127.0.0.1:{}/live", self.port)
    }

    /// All pictures that it sent.
    pub fn sent(&self) -> Vec<Sent> {
        self.shared.sent.lock().unwrap().clone()
    }

    /// Methods that it was asked, in order.
    pub fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().clone()
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        // Wakes the listener.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        for connection in self.shared.connections.lock().unwrap().iter() {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

/// One connection.
struct Session {
    id: u32,
    shared: Arc<Shared>,
    requests: BufReader<TcpStream>,
    answers: Arc<Mutex<TcpStream>>,
    ways: Vec<(usize, Way)>,
    over: Arc<AtomicBool>,
}

type Io<T> = std::io::Result<T>;
/// Header fields, names in lower case.
type Fields = BTreeMap<String, String>;
/// Method, URL and header fields.
type Request = (String, String, Fields);

impl Session {
    fn new(id: u32, shared: Arc<Shared>, stream: TcpStream) -> Io<Self> {
        stream.set_nodelay(true)?;
        Ok(Self {
            id,
            shared,
            requests: BufReader::new(stream.try_clone()?),
            answers: Arc::new(Mutex::new(stream)),
            ways: vec![],
            over: Arc::default(),
        })
    }

    fn serve(mut self) -> Io<()> {
        while let Some((method, url, fields)) = self.request()? {
            self.shared.asked.lock().unwrap().push(method.clone());
            match self.shared.play.refuse {
                Some((refused, status)) if refused == method => {
                    self.answer(&fields, status, "", "")?;
                }
                _ => self.follow(&method, &url, &fields)?,
            }
            if method == "TEARDOWN" {
                self.shared.open.lock().unwrap().remove(&self.id);
                break;
            }
        }
        Ok(())
    }

    /// The next request; what comes between (RTCP) is passed over.
    fn request(&mut self) -> Io<Option<Request>> {
        while self.requests.fill_buf()?.first() == Some(&b'$') {
            let mut head = [0; 4];
            self.requests.read_exact(&mut head)?;
            let mut body = vec![0; usize::from(u16::from_be_bytes([head[2], head[3]]))];
            self.requests.read_exact(&mut body)?;
        }
        let mut lines = vec![];
        loop {
            let mut line = String::new();
            if self.requests.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let mut words = lines[0].split(' ').map(str::to_owned);
        let (method, url) = (words.next().unwrap(), words.next().unwrap_or_default());
        let fields = lines[1..].iter().filter_map(|line| line.split_once(':'));
        let fields = fields.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
        Ok(Some((method, url, fields.collect())))
    }

    fn follow(&mut self, method: &str, url: &str, fields: &Fields) -> Io<()> {
        match method {
            "OPTIONS" => {
                let methods = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER\r\n";
                self.answer(fields, "200 OK", methods, "")
            }
            "DESCRIBE" if self.is_full() => self.answer(fields, "453 Not Enough Bandwidth", "", ""),
            "DESCRIBE" => {
                let more = format!("Content-Type: application/sdp\r\nContent-Base: {url}/\r\n");
                let began = *self.shared.began.lock().unwrap();
                let played = began.map_or(0.0, |began| began.elapsed().as_secs_f64());
                self.answer(fields, "200 OK", &more, &sdp(&self.shared.play, played))
            }
            "SETUP" => {
                self.shared.open.lock().unwrap().insert(self.id, None);
                let transport = self.set_up(url, &fields["transport"])?;
                self.answer(fields, "200 OK", &format!("Transport: {transport}\r\n"), "")
            }
            "PLAY" => {
                self.answer(fields, "200 OK", "Range: npt=now-\r\n", "")?;
                self.play();
                Ok(())
            }
            _ => self.answer(fields, "200 OK", "", ""),
        }
    }

    fn is_full(&self) -> bool {
        let mut open = self.shared.open.lock().unwrap();
        open.retain(|_, until| until.is_none_or(|until| until > Instant::now()));
        self.shared
            .play
            .sessions
            .is_some_and(|most| open.len() >= most)
    }

    fn set_up(&mut self, url: &str, transport: &str) -> Io<String> {
        let stream = url
            .rsplit("track")
            .next()
            .and_then(|n| n.parse().ok())
            .unwrap_or(0);
        let value = |name: &str| {
            let (_, rest) = transport.split_once(name)?;
            rest.split(['-', ';']).next()?.parse::<u16>().ok()
        };
        if let Some(channel) = value("interleaved=") {
            self.ways.push((stream, Way::Tcp(channel as u8)));
            return Ok(transport.to_owned());
        }
        let port = value("client_port=").unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(("127.0.0.1", port))?;
        let ours = socket.local_addr()?.port();
        self.ways.push((stream, Way::Udp(socket)));
        Ok(format!(
            "RTP/AVP;unicast;client_port={port}-{};server_port={ours}-{}",
            port + 1,
            ours + 1
        ))
    }

    fn answer(&self, fields: &Fields, status: &str, more: &str, body: &str) -> Io<()> {
        let number = fields.get("cseq").map_or("0", String::as_str);
        let length = match body.len() {
            0 => String::new(),
            length => format!("Content-Length: {length}\r\n"),
        };
        let answer = format!(
            "RTSP/1.0 {status}\r\nCSeq: {number}\r\nSession: {:08}\r\n{more}{length}\r\n{body}",
            self.id
        );
        self.answers.lock().unwrap().write_all(answer.as_bytes())
    }

    fn play(&mut self) {
        for (stream, way) in self.ways.drain(..) {
            let player = Player {
                shared: Arc::clone(&self.shared),
                connection: Arc::clone(&self.answers),
                over: Arc::clone(&self.over),
                stream,
                way,
            };
            std::thread::spawn(move || {
                let _ = player.play();
                let _ = player.connection.lock().unwrap().shutdown(Shutdown::Both);
            });
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(until) = self.shared.open.lock().unwrap().get_mut(&self.id) {
            *until = Some(Instant::now() + Duration::from_secs(60));
        }
    }
}
