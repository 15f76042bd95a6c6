//! A played broker on loopback, for unit tests: it logs everybody in, opens channels, takes
//! messages, and says only what the test lets it say.

use super::frame::{BODY, Frame, HEADER, METHOD, write_frame};
use crate::config::{Config, Endpoint};
use crossbeam_channel::{Receiver, Sender, unbounded};
use parking_lot::Mutex;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What takes longer is a failure: a busy machine needs some hundred milliseconds.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Waits until `done`.
pub(crate) fn wait_until(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !done() {
        assert!(Instant::now() < deadline, "waited for too long");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// How it answers by itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// As it says at the login.
    pub(crate) channel_max: u16,
    /// As it says at the login; a larger frame is a failure.
    pub(crate) frame_max: u32,
    /// Seconds, as it says at the login; 0 is none.
    pub(crate) heartbeat: u16,
    /// Cuts the connection instead of answering to the login.
    pub(crate) drops_logins: bool,
    /// Ends the whole connection when more channels than this are opened.
    pub(crate) user_limit: u16,
    /// Never answers to `channel.open`.
    pub(crate) opens_nothing: bool,
    /// There is no exchange until somebody declares one.
    pub(crate) exchange_absent: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat: 0,
            drops_logins: false,
            user_limit: u16::MAX,
            opens_nothing: false,
            exchange_absent: false,
        }
    }
}

/// What a client did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Did {
    /// It is logged in.
    Connected,
    /// It has opened this channel.
    Opened(u16),
    /// It declared an exchange that was absent, on this channel.
    Declared(u16),
    /// It published a message on this channel, with a body of this many bytes.
    Published(u16, usize),
    /// It closed this channel.
    Closed(u16),
    /// A frame without content or consequence: a heartbeat.
    Heartbeat,
    /// Its connection has ended.
    Gone,
}

/// A broker. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Played {
    pub(crate) port: u16,
    pub(crate) did: Receiver<Did>,
    /// Of each message, from before what it did is told.
    pub(crate) bodies: Receiver<Vec<u8>>,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    rules: Mutex<Rules>,
    /// To the client that came last.
    client: Mutex<Option<TcpStream>>,
    did: Sender<Did>,
    body: Sender<Vec<u8>>,
    /// It has blocked publishing: it opens nothing.
    blocked: AtomicBool,
    ending: AtomicBool,
}

impl Played {
    pub(crate) fn start(rules: Rules) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, did) = unbounded();
        let (body, bodies) = unbounded();
        let shared = Arc::new(Shared {
            rules: Mutex::new(rules),
            client: Mutex::new(None),
            did: tell,
            body,
            blocked: AtomicBool::new(false),
            ending: AtomicBool::new(false),
        });
        let own = Arc::clone(&shared);
        let listener = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if own.ending.load(Ordering::SeqCst) {
                    return;
                }
                let stream = stream.unwrap();
                *own.client.lock() = Some(stream.try_clone().unwrap());
                let _ = own.serve(stream);
                let _ = own.did.send(Did::Gone);
            }
        });
        Self {
            port,
            did,
            bodies,
            shared,
            listener: Some(listener),
        }
    }

    /// Configuration of a client of this broker, with these further lines of `amqp`.
    pub(crate) fn config(&self, more: &str) -> Config {
        let text = format!(
            "amqp: {{url: 'amqp://127.0.0.1:{}', {more}}}\n\
             cameras: [{{id: door, url: 'rtsp://192.0.2.1/'}}]",
            self.port
        );
        Config::parse(&text, "", &|_| None).unwrap().config
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        self.config("").amqp.endpoints.remove(0)
    }

    /// How it answers from now on.
    pub(crate) fn rule(&self, rules: Rules) {
        *self.shared.rules.lock() = rules;
    }

    /// Waits for this, and passes over what was done before it.
    pub(crate) fn wait_for(&self, expected: &Did) {
        loop {
            match self.did.recv_timeout(SOON) {
                Ok(did) if did == *expected => return,
                Ok(_) => {}
                Err(_) => panic!("no client did this: {expected:?}"),
            }
        }
    }

    pub(crate) fn confirm(&self, channel: u16, tag: u64, multiple: bool, acked: bool) {
        let method = if acked { 80 } else { 120 };
        let args = [&tag.to_be_bytes()[..], &[u8::from(multiple)]].concat();
        self.say(channel, [60, method], &args);
    }

    /// A message comes back: only its id is told.
    pub(crate) fn give_back(&self, channel: u16, message_id: &str) {
        self.say(channel, [60, 50], &[1, 56, 0, 0, 0]);
        let mut bytes = vec![];
        write_frame(&mut bytes, HEADER, channel, |out| {
            out.extend([0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x00, 0x80]);
            out.extend(short(message_id));
        });
        self.shared.write(&bytes);
    }

    pub(crate) fn close_channel(&self, channel: u16, code: u16, text: &str) {
        let args = [&code.to_be_bytes()[..], &short(text), &[0; 4]].concat();
        self.say(channel, [20, 40], &args);
    }

    pub(crate) fn close_connection(&self, code: u16, text: &str) {
        self.shared.close_connection(code, text);
    }

    pub(crate) fn block(&self, reason: Option<&str>) {
        self.shared
            .blocked
            .store(reason.is_some(), Ordering::SeqCst);
        match reason {
            Some(reason) => self.say(0, [10, 60], &short(reason)),
            None => self.say(0, [10, 61], &[]),
        }
    }

    /// Ends the connection without a word.
    pub(crate) fn cut(&self) {
        if let Some(client) = &*self.shared.client.lock() {
            let _ = client.shutdown(Shutdown::Both);
        }
    }

    fn say(&self, channel: u16, method: [u8; 2], args: &[u8]) {
        self.shared.say(channel, method, args);
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::SeqCst);
        self.cut();
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        let _ = self.listener.take().map(JoinHandle::join);
    }
}

fn short(text: &str) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

impl Shared {
    fn write(&self, bytes: &[u8]) {
        if let Some(client) = &mut *self.client.lock() {
            let _ = client.write_all(bytes);
        }
    }

    fn say(&self, channel: u16, [class, method]: [u8; 2], args: &[u8]) {
        let mut bytes = vec![];
        write_frame(&mut bytes, METHOD, channel, |out| {
            out.extend([0, class, 0, method]);
            out.extend(args);
        });
        self.write(&bytes);
    }

    fn close_connection(&self, code: u16, text: &str) {
        let args = [&code.to_be_bytes()[..], &short(text), &[0; 4]].concat();
        self.say(0, [10, 50], &args);
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut hello = [0; 8];
        stream.read_exact(&mut hello)?;
        assert_eq!(&hello, b"AMQP\0\0\x09\x01");
        // Version, no server properties, mechanisms, locales.
        let start = b"\0\x09\0\0\0\0\0\0\0\x05PLAIN\0\0\0\x05en_US";
        self.say(0, [10, 10], start);
        let (mut bytes, mut room) = (vec![], [0; 65536]);
        let mut opened = 0;
        let mut body = (vec![], 0);
        loop {
            let count = match stream.read(&mut room)? {
                0 => return Ok(()),
                count => count,
            };
            bytes.extend(&room[..count]);
            let mut rest = &bytes[..];
            while let Some((frame, behind)) = Frame::first(rest) {
                self.hear(&frame, &mut opened, &mut body);
                rest = behind;
            }
            bytes = rest.to_vec();
        }
    }

    /// One frame; `body` is what is there of a message, and how large it is.
    fn hear(&self, frame: &Frame<'_>, opened: &mut u16, body: &mut (Vec<u8>, usize)) {
        let (rules, channel) = (*self.rules.lock(), frame.channel);
        let tell = |did| self.did.send(did).unwrap();
        assert!(frame.bytes.len() <= rules.frame_max as usize);
        match (frame.kind, frame.payload) {
            (METHOD, [_, class, _, method, ..]) => match (class, method) {
                (10, 11) if rules.drops_logins => {
                    let client = self.client.lock();
                    let _ = client.as_ref().map(|it| it.shutdown(Shutdown::Both));
                }
                (10, 11) => {
                    let (max, beat) = (rules.channel_max, rules.heartbeat);
                    let frame_max = rules.frame_max.to_be_bytes();
                    let args = [&max.to_be_bytes()[..], &frame_max, &beat.to_be_bytes()];
                    self.say(0, [10, 30], &args.concat());
                }
                (10, 40) => {
                    self.say(0, [10, 41], &[0]);
                    tell(Did::Connected);
                }
                (10, 50) => self.say(0, [10, 51], &[]),
                (20, 10) if rules.opens_nothing || self.blocked.load(Ordering::SeqCst) => {}
                (20, 10) if *opened >= rules.user_limit => {
                    self.close_connection(530, "NOT_ALLOWED - user limit");
                }
                (20, 10) => {
                    *opened += 1;
                    self.say(channel, [20, 11], &[0; 4]);
                }
                (85, 10) => {
                    self.say(channel, [85, 11], &[]);
                    tell(Did::Opened(channel));
                }
                (20, 40) => {
                    self.say(channel, [20, 41], &[]);
                    *opened -= 1;
                    tell(Did::Closed(channel));
                }
                (40, 10) => self.declare(frame, rules),
                _ => {}
            },
            (HEADER, [_, _, _, _, size @ ..]) => {
                let size = u64::from_be_bytes(*size.first_chunk().unwrap());
                *body = (vec![], usize::try_from(size).unwrap());
            }
            (BODY, payload) => {
                body.0.extend(payload);
                if body.0.len() == body.1 {
                    let _ = self.body.send(std::mem::take(&mut body.0));
                    tell(Did::Published(channel, body.1));
                }
            }
            _ => tell(Did::Heartbeat),
        }
    }

    fn declare(&self, frame: &Frame<'_>, rules: Rules) {
        // Method, a reserved field, the names of exchange and type; then bits, of which the first
        // is passive.
        let name = usize::from(frame.payload[6]);
        let kind = usize::from(frame.payload[7 + name]);
        let passive = frame.payload[8 + name + kind] & 1 != 0;
        if passive && rules.exchange_absent {
            let args = [&404_u16.to_be_bytes()[..], &short("NOT_FOUND"), &[0; 4]];
            self.say(frame.channel, [20, 40], &args.concat());
        } else {
            self.say(frame.channel, [40, 11], &[]);
            if !passive {
                self.rules.lock().exchange_absent = false;
                let _ = self.did.send(Did::Declared(frame.channel));
            }
        }
    }
}
