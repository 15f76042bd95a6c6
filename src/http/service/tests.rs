//! Tests of the limits with simulated clients and a simulated clock.

use super::super::connection::{ANSWER_TIMEOUT, GOODBYE_TIMEOUT, REQUEST_TIMEOUT};
use super::super::request::HEAD_BYTES;
use super::*;
use crate::clock::{Stamp, process_us};
use parking_lot::Mutex;
use std::io::{self, Read, Write};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// What a client has sent and taken.
#[derive(Debug, Default)]
struct Wire {
    to_us: Vec<u8>,
    to_client: Vec<u8>,
    /// Bytes that the client still takes.
    room: usize,
    finished: bool,
}

/// A client without a socket.
#[derive(Debug, Clone)]
struct Client(Arc<Mutex<Wire>>);

impl Client {
    fn says(&self, text: impl AsRef<[u8]>) {
        self.0.lock().to_us.extend(text.as_ref());
    }

    fn got(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().to_client).into_owned()
    }

    /// The status of each answer so far.
    fn statuses(&self) -> Vec<String> {
        let got = self.got();
        let heads = got.split("HTTP/1.1 ").skip(1);
        heads.map(|head| head[..3].to_owned()).collect()
    }

    fn takes(&self, bytes: usize) {
        self.0.lock().room = bytes;
    }
}

impl Read for Client {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.0.lock();
        let count = space.len().min(wire.to_us.len());
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        for (place, byte) in space.iter_mut().zip(wire.to_us.drain(..count)) {
            *place = byte;
        }
        Ok(count)
    }
}

impl Write for Client {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut wire = self.0.lock();
        let count = bytes.len().min(wire.room);
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        wire.room -= count;
        wire.to_client.extend(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Client {
    fn finish(&mut self) {
        self.0.lock().finished = true;
    }
}

/// A service with one live camera, and the clock that only the test moves.
struct Played {
    service: Service<Client>,
    now: Instant,
}

impl Played {
    fn new() -> Self {
        Self::of("cameras: [{id: gate, url: /a}]")
    }

    fn of(config: &str) -> Self {
        let overview = Arc::new(Overview::for_test(config, &[]));
        let hosts = Hosts::new("127.0.0.1:2112".parse().unwrap(), "board", &[]);
        let mut played = Self {
            service: Service::new(overview, hosts, Audience::Always),
            now: Instant::now(),
        };
        played.service.overview.cameras[0].status.live();
        played.frame();
        played
    }

    /// The camera has sent a frame.
    fn frame(&mut self) {
        let view = &self.service.overview.cameras[0];
        view.metrics
            .reader
            .last_frame_us
            .set(process_us(self.now).max(1));
    }

    /// The camera has sent a picture with this in it. Returns whether it was asked for.
    fn picture(&mut self, jpeg: &[u8]) -> bool {
        self.frame();
        let view = &self.service.overview.cameras[0];
        let captured = Stamp {
            monotonic: self.now,
            unix_us: process_us(self.now).cast_signed(),
        };
        let reader = &view.metrics.reader;
        reader
            .last_frame_unix_us
            .set(captured.unix_us.cast_unsigned());
        let mut wanted = false;
        view.peek.offer(|| {
            wanted = true;
            Picture {
                epoch: 1,
                seq: 1,
                captured,
                jpeg: jpeg.into(),
            }
        });
        wanted
    }

    /// A client that takes whatever it is sent.
    fn client(&mut self) -> Client {
        let client = Client(Arc::default());
        client.takes(usize::MAX);
        let peer = "127.0.0.1:40000".parse().unwrap();
        self.service.admit(client.clone(), peer, self.now);
        client
    }

    /// One round for all clients, as the thread has it when all are ready.
    fn turn(&mut self) {
        self.service.show(self.now);
        for n in 0..self.service.connections.len() {
            self.service.serve(n, self.now);
        }
        self.service.expire(self.now);
        self.service.sweep();
        self.service.ask_for_pictures(self.now);
    }

    fn turn_after(&mut self, time: Duration) {
        self.now += time;
        self.turn();
    }

    fn serves(&self, client: &Client) -> bool {
        let mut connections = self.service.connections.iter();
        connections.any(|it| Arc::ptr_eq(&it.stream().0, &client.0))
    }

    /// Begins an answer of this many bytes to the client that came last.
    fn answer_with(&mut self, bytes: usize) {
        let output = Output::new(Vec::new(), Body::Own(vec![0; bytes]));
        let n = self.service.connections.len() - 1;
        self.service.send(n, output, Next::Request, self.now);
    }
}

const READY: &str = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
const SNAPSHOT: &str = "GET /cameras/gate/snapshot.jpg HTTP/1.1\r\nHost: localhost\r\n\r\n";
const STREAM: &str = "GET /cameras/gate/stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn requests_that_come_together_are_answered_in_order_and_the_client_stays() {
    let mut played = Played::new();
    let client = played.client();
    client.says(READY);
    client.says("GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n");
    played.turn();
    assert_eq!(client.statuses(), ["200", "404"]);
    assert!(played.serves(&client));
}

#[test]
fn a_client_beyond_the_last_place_gets_that_of_the_one_that_is_idle_for_longest() {
    let mut played = Played::new();
    let first = played.client();
    played.now += SECOND;
    let others: Vec<_> = (1..CONNECTIONS_MAX).map(|_| played.client()).collect();
    // It has asked since, so it is idle for the shortest time of all.
    played.now += SECOND;
    others[0].says(READY);
    played.turn();
    played.now += SECOND;
    let mut late = played.client();
    assert_eq!(played.service.connections.len(), CONNECTIONS_MAX);
    assert!(!played.serves(&first) && played.serves(&late));
    for _ in 1..CONNECTIONS_MAX - 1 {
        late = played.client();
    }
    assert!(played.serves(&others[0]), "it asked last");
    assert!(played.serves(&late));
    assert_eq!(played.service.connections.len(), CONNECTIONS_MAX);
}

#[test]
fn a_client_that_is_being_answered_keeps_its_place_before_idle_ones_and_a_stream_always() {
    let mut played = Played::new();
    let watcher = played.client();
    watcher.says(STREAM);
    played.turn();
    let slow = played.client();
    slow.takes(0);
    slow.says(READY);
    played.turn();
    // 126 idle clients, and as many again in their places.
    for _ in 0..2 * CONNECTIONS_MAX {
        played.now += Duration::from_millis(1);
        played.client();
    }
    assert!(played.serves(&watcher) && played.serves(&slow));
    assert_eq!(played.service.connections.len(), CONNECTIONS_MAX);
}

#[test]
fn streams_are_fewer_than_clients_and_the_next_one_is_told_to_come_again() {
    let mut played = Played::new();
    let watchers: Vec<_> = (0..STREAMS_MAX).map(|_| played.client()).collect();
    for watcher in &watchers {
        watcher.says(STREAM);
    }
    played.turn();
    assert!(watchers.iter().all(|it| it.statuses() == ["200"]));
    let one_more = played.client();
    one_more.says(STREAM);
    one_more.says(READY);
    played.turn();
    assert_eq!(one_more.statuses(), ["503", "200"]);
    assert!(one_more.got().contains("too many streams"));
    assert!(one_more.got().contains("Retry-After: 10\r\n"));
}

#[test]
fn a_request_that_is_too_long_is_refused_and_so_is_what_follows_it() {
    let mut played = Played::new();
    let client = played.client();
    client.says(format!("GET /{} HTTP/1.1\r\n", "x".repeat(2 * HEAD_BYTES)));
    played.turn();
    played.turn();
    assert_eq!(client.statuses(), ["431"]);
    assert!(client.0.lock().finished);
    // It may read why, and nothing that it says is kept or answered.
    client.says(READY);
    played.turn();
    assert_eq!(client.statuses(), ["431"]);
    played.turn_after(GOODBYE_TIMEOUT - Duration::from_millis(1));
    assert!(played.serves(&client));
    played.turn_after(Duration::from_millis(1));
    assert!(!played.serves(&client));
}

#[test]
fn a_request_that_comes_byte_by_byte_has_as_long_as_any_other() {
    let mut played = Played::new();
    let (drip, silent) = (played.client(), played.client());
    let pause = REQUEST_TIMEOUT / 10;
    for byte in READY.bytes().take(9) {
        drip.says([byte]);
        played.turn_after(pause);
        assert!(played.serves(&drip) && played.serves(&silent));
    }
    drip.says(b"x");
    played.turn_after(pause);
    assert!(!played.serves(&drip) && !played.serves(&silent));
}

#[test]
fn an_answer_that_is_not_taken_ends_and_one_that_is_taken_slowly_does_not_go_on_forever() {
    let mut played = Played::new();
    let client = played.client();
    client.takes(0);
    client.says(READY);
    played.turn();
    // A byte now and then is no sign of life: the answer as a whole has its time.
    for _ in 0..9 {
        client.takes(1);
        played.turn_after(ANSWER_TIMEOUT / 10);
        assert!(played.serves(&client));
    }
    client.takes(1);
    played.turn_after(ANSWER_TIMEOUT / 10);
    assert!(!played.serves(&client));
}

#[test]
fn when_slow_clients_hold_too_much_the_one_that_is_slow_for_longest_goes() {
    let mut played = Played::new();
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let client = played.client();
            client.takes(0);
            played.answer_with(HELD_BYTES_MAX / 4);
            played.now += SECOND;
            client
        })
        .collect();
    played.service.sweep();
    assert!(
        clients.iter().all(|it| played.serves(it)),
        "all that is allowed"
    );
    let one_more = played.client();
    one_more.takes(0);
    played.answer_with(1);
    played.service.sweep();
    assert!(!played.serves(&clients[0]));
    assert!(clients[1..].iter().all(|it| played.serves(it)) && played.serves(&one_more));
}

#[test]
fn a_stream_of_a_camera_that_shows_nothing_is_closed_and_a_snapshot_is_answered() {
    let mut played = Played::new();
    let (watcher, asker) = (played.client(), played.client());
    watcher.says(STREAM);
    asker.says("GET /cameras/gate/snapshot.jpg HTTP/1.1\r\nHost: localhost\r\n\r\n");
    played.turn();
    assert_eq!(watcher.statuses(), ["200"]);
    assert_eq!(asker.statuses(), [""; 0]);
    let stale = played.service.overview.cameras[0].camera.stale_timeout;
    played.turn_after(stale);
    assert!(!played.serves(&watcher));
    assert_eq!(asker.statuses(), ["503"]);
    assert!(played.serves(&asker));
}

#[test]
fn while_a_client_looks_at_keyframes_each_one_is_kept_at_hand() {
    let mut played = Played::of("cameras: [{id: gate, url: /a, pictures: keyframes}]");
    let client = played.client();
    let ask = "GET /cameras/gate/snapshot.jpg HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert!(!played.picture(b"zero"), "nobody looks");
    client.says(ask);
    played.turn();
    assert_eq!(client.statuses(), [] as [&str; 0]);
    assert!(played.picture(b"one"));
    played.turn();
    assert_eq!(client.statuses(), ["200"]);
    // Nobody waits when the next one comes, and a client that asks later need not either.
    played.turn_after(20 * SECOND);
    assert!(played.picture(b"two"));
    played.turn_after(10 * SECOND);
    let client = played.client();
    client.says(ask);
    played.turn();
    assert_eq!(client.statuses(), ["200"]);
    assert!(client.got().ends_with("two"));
    // Nobody looks for a while.
    assert!(played.picture(b"three"));
    played.turn_after(50 * SECOND);
    assert!(!played.picture(b"four"));
}

#[test]
fn a_camera_is_not_idle_while_a_client_looks_at_its_pictures() {
    let idle = "idle: {after: 1s}\ncameras: [{id: gate, url: /a}]";
    for (request, stays) in [(STREAM, true), (SNAPSHOT, false)] {
        let mut played = Played::of(idle);
        let view = Arc::clone(&played.service.overview.cameras[0]);
        let idleness = view.idleness.clone().unwrap();
        let becomes_idle = |played: &mut Played| {
            for _ in 0..2 {
                idleness.returned(crate::idle::Stream::Frames, played.now);
                played.turn_after(SECOND);
            }
            idleness.returned(crate::idle::Stream::Frames, played.now);
            idleness.is_idle()
        };
        assert!(becomes_idle(&mut played));
        let client = played.client();
        played.turn();
        assert!(idleness.is_idle(), "it has asked for nothing so far");
        client.says(request);
        played.turn();
        assert_eq!(idleness.sign(), Sign::Viewed);
        assert!(!idleness.is_idle());
        assert!(played.picture(b"jpeg"));
        played.turn();
        assert_eq!(becomes_idle(&mut played), !stays, "{request}");
    }
}
