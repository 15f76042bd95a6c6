//! Cameras that answer each request with one JPEG, with all that such a camera does.

use crate::clip::{Clip, Codec, Film};
use crate::outcome::{Outcome, Truth};
use crate::picture::Look;
use crate::rtsp::Sent;
use crate::support::unix_us;
use crate::trial::{Case, case, one_good_round};
use openssl::base64::encode_block;
use openssl::hash::{MessageDigest, hash};
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Fifteen pictures a second for 30 s, in the range that JPEG has.
const JPEGS: Film = Film {
    codec: Codec::Mjpeg,
    seconds: 30,
    look: Look {
        full_range: true,
        ..Look::SMALL
    },
    ..Film::H264
};

const USER: &str = "viewer";
const PASSWORD: &str = "S3cr-et/9";
const NONCE: &str = "7b0c96";

/// How the camera asks for a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    Nothing,
    Basic,
    Digest(&'static str),
}

/// What a camera does.
#[derive(Debug, Clone, Copy)]
struct Play {
    asks: Asks,
    /// How long it takes to answer.
    takes: Duration,
    /// Each request whose number this divides is answered with half a picture, and the end.
    cut: Option<usize>,
    /// Each request whose number this divides is answered with so many bytes more.
    huge: Option<(usize, usize)>,
    /// `/snap.jpg` leads elsewhere.
    redirects: bool,
    /// Keeps the connection for so many answers.
    keeps: usize,
    chunked: bool,
}

const PLAIN: Play = Play {
    asks: Asks::Nothing,
    takes: Duration::ZERO,
    cut: None,
    huge: None,
    redirects: false,
    keeps: usize::MAX,
    chunked: false,
};

/// A camera that runs.
struct Camera {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    play: Play,
    clip: Arc<Clip>,
    began: Instant,
    closed: AtomicBool,
    seen: Mutex<Seen>,
}

/// What the camera has seen.
#[derive(Default)]
struct Seen {
    connections: usize,
    /// By a client that is not FFmpeg, and answered with a picture.
    polls: usize,
    sent: Vec<Sent>,
}

impl Camera {
    fn start(play: Play) -> Self {
        let (listener, port) = crate::rtsp::listen();
        let shared = Arc::new(Shared {
            play,
            clip: JPEGS.clip(),
            began: Instant::now(),
            closed: AtomicBool::new(false),
            seen: Mutex::default(),
        });
        std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || serve(&listener, &shared)
        });
        Self { port, shared }
    }

    /// The daemon watches it for some seconds.
    fn watched(&self, case: Case, seconds: u64) -> (Outcome, bool) {
        let trial = case.start(&format!("http://127.0.0.1:{}/snap.jpg", self.port));
        trial.lasts(seconds);
        let clip = &self.shared.clip;
        let own: HashSet<&[u8]> = clip.units.iter().map(|unit| &*unit.parts[0]).collect();
        let frames = trial.consumer.all();
        // The first is FFmpeg's.
        let copied = frames.len() > 1
            && frames
                .iter()
                .skip(1)
                .all(|frame| own.contains(frame.jpeg()));
        let sent = self.shared.seen.lock().unwrap().sent.clone();
        (trial.end(&Truth::new([&**clip], sent)), copied)
    }

    /// Connections, and pictures that were polled.
    fn seen(&self) -> (usize, usize) {
        let seen = self.shared.seen.lock().unwrap();
        (seen.connections, seen.polls)
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        // Wakes the listener.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.closed.load(Ordering::Relaxed) {
            return;
        }
        let stream = stream.unwrap();
        shared.seen.lock().unwrap().connections += 1;
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            // A client that goes away ends its connection.
            let _ = shared.answers(&stream);
            let _ = stream.shutdown(Shutdown::Both);
        });
    }
}

impl Shared {
    fn answers(&self, mut stream: &TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut requests = BufReader::new(stream.try_clone()?);
        for answered in 1..=self.play.keeps {
            let mut request = String::new();
            while !request.ends_with("\r\n\r\n") {
                if requests.read_line(&mut request)? == 0 {
                    return Ok(());
                }
            }
            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
            std::thread::sleep(self.play.takes);
            if !self.welcomes(&request, &path) {
                let challenge = match self.play.asks {
                    Asks::Digest(algorithm) => format!(
                        "Digest realm=\"camera\", nonce=\"{NONCE}\", qop=\"auth\", \
                         algorithm={algorithm}"
                    ),
                    _ => "Basic realm=\"camera\"".to_owned(),
                };
                let head = format!(
                    "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: {challenge}\r\n\
                     Content-Length: 2\r\n\r\nno"
                );
                stream.write_all(head.as_bytes())?;
                continue;
            }
            if self.play.redirects && path == "/snap.jpg" {
                let head =
                    "HTTP/1.1 302 Found\r\nLocation: /now.jpg?x=1\r\nContent-Length: 0\r\n\r\n";
                stream.write_all(head.as_bytes())?;
                continue;
            }
            let polled = request.contains("User-Agent: edge-video/");
            if self.picture(stream, polled, answered == self.play.keeps)? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn welcomes(&self, request: &str, path: &str) -> bool {
        let header = request
            .lines()
            .find_map(|line| line.strip_prefix("Authorization: "));
        match self.play.asks {
            Asks::Nothing => true,
            Asks::Basic => {
                let login = encode_block(format!("{USER}:{PASSWORD}").as_bytes());
                header == Some(&*format!("Basic {login}"))
            }
            Asks::Digest(algorithm) => {
                let kind = match algorithm {
                    "MD5" => MessageDigest::md5(),
                    _ => MessageDigest::sha256(),
                };
                let h = |text: String| -> String {
                    let digest = hash(kind, text.as_bytes()).unwrap();
                    digest.iter().map(|byte| format!("{byte:02x}")).collect()
                };
                let Some(header) = header else { return false };
                let of = |name: &str| {
                    let mut found = header.split([' ', ',']).filter_map(|it| it.split_once('='));
                    let found = found.find(|(key, _)| *key == name);
                    found.map_or("", |(_, value)| value.trim_matches('"'))
                };
                let (nc, cnonce) = (of("nc"), of("cnonce"));
                let secret = h(format!("{USER}:camera:{PASSWORD}"));
                let asked = h(format!("GET:{path}"));
                let response = h(format!("{secret}:{NONCE}:{nc}:{cnonce}:auth:{asked}"));
                of("response") == response
            }
        }
    }

    /// Answers with the current picture. Returns whether the connection ends with it.
    fn picture(&self, mut stream: &TcpStream, polled: bool, last: bool) -> std::io::Result<bool> {
        let at = self.began.elapsed().as_secs_f64() * f64::from(self.clip.film.fps);
        let place = at as usize % self.clip.units.len();
        let mut jpeg = self.clip.units[place].parts[0].clone();
        let nth = {
            let mut seen = self.seen.lock().unwrap();
            seen.polls += usize::from(polled);
            let number = self.clip.number(place);
            let taken_us = unix_us();
            seen.sent.push(Sent {
                taken_us,
                number,
                key: true,
            });
            seen.polls
        };
        let whole = jpeg.len();
        let is = |every: Option<usize>| polled && every.is_some_and(|it| nth.is_multiple_of(it));
        let cut = is(self.play.cut);
        if cut {
            jpeg.truncate(whole / 2);
        }
        if let Some((every, more)) = self.play.huge
            && is(Some(every))
        {
            jpeg.resize(whole + more, 0);
        }
        let length = if cut { whole } else { jpeg.len() };
        let (body, form) = match self.play.chunked {
            true => {
                let (one, two) = jpeg.split_at(jpeg.len() / 3);
                let mut body = vec![];
                for chunk in [one, two, &[]] {
                    body.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                    body.extend([chunk, b"\r\n"].concat());
                }
                (body, "Transfer-Encoding: chunked".to_owned())
            }
            false => (jpeg, format!("Content-Length: {length}")),
        };
        let close = if last { "Connection: close\r\n" } else { "" };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n{close}{form}\r\n\r\n");
        stream.write_all(&[head.as_bytes(), &body].concat())?;
        Ok(cut)
    }
}

#[test]
fn a_snapshot_address_is_polled_at_the_rate_over_one_connection() {
    one_good_round(|| {
        let camera = Camera::start(PLAIN);
        let polled = case("one JPEG for each request", "pictures at fps").with("fps: 5");
        let (outcome, own) = camera.watched(polled, 6);
        outcome.all_good().at_least(4.7).no_restart();
        assert!(own && outcome.fps < 5.3, "{}", outcome.summary());
        let said = "INFO  cam: this address sends one JPEG for each request: polling it, 5 times a \
                    second at most";
        let count = outcome
            .log
            .iter()
            .filter(|line| line.contains(said))
            .count();
        assert_eq!(count, 1, "{:?}", outcome.log);
        let (connections, polls) = camera.seen();
        // FFmpeg's own, which may take two, and one.
        assert!((2..=3).contains(&connections), "{connections}");
        assert!(polls >= 25, "{polls}");
    });
}

#[test]
fn a_snapshot_camera_gets_the_login_that_it_asks_for() {
    for (asks, what) in [
        (Asks::Basic, "basic"),
        (Asks::Digest("MD5"), "digest with MD5"),
    ] {
        let camera = Camera::start(Play { asks, ..PLAIN });
        let (outcome, own) = camera.watched(
            case(
                &format!("one JPEG for each request, {what}"),
                "pictures at fps",
            )
            .with(&format!(
                "fps: 5, username: {USER}, password: \"{PASSWORD}\""
            )),
            4,
        );
        outcome.all_good().no_restart();
        assert!(own, "{}", outcome.summary());
        let (connections, polls) = camera.seen();
        assert!(polls > 10 && connections <= 5, "{polls} {connections}");
    }
}

#[test]
fn half_a_picture_is_not_published_and_the_next_one_is() {
    let camera = Camera::start(Play {
        cut: Some(5),
        ..PLAIN
    });
    let (outcome, own) = camera.watched(
        case(
            "one JPEG for each request, each fifth cut in half",
            "the others, whole",
        )
        .with("fps: 10"),
        5,
    );
    outcome.all_good().no_restart();
    assert!(own, "{}", outcome.summary());
    assert!(
        outcome.account.dropped("corrupt") > 1,
        "{}",
        outcome.summary()
    );
}

#[test]
#[ignore = "make cameras"]
fn a_picture_that_is_too_large_is_counted_and_the_next_one_is_published() {
    let camera = Camera::start(Play {
        huge: Some((5, 9 << 20)),
        ..PLAIN
    });
    let (outcome, own) = camera.watched(
        case(
            "one JPEG for each request, each fifth of 9 MiB",
            "the others, whole",
        )
        .with("fps: 10"),
        5,
    );
    outcome.all_good().no_restart();
    assert!(own, "{}", outcome.summary());
    assert!(
        outcome.account.dropped("oversize") > 1,
        "{}",
        outcome.summary()
    );
}

#[test]
#[ignore = "make cameras"]
fn a_slow_snapshot_camera_is_asked_as_often_as_it_can_answer() {
    let camera = Camera::start(Play {
        takes: Duration::from_millis(400),
        ..PLAIN
    });
    let (outcome, own) = camera.watched(
        case(
            "one JPEG for each request, after 0.4 s",
            "2.5 pictures a second",
        ),
        6,
    );
    outcome.whole().none_old().no_restart();
    assert!(own && outcome.fps < 2.6, "{}", outcome.summary());
}

#[test]
#[ignore = "make cameras"]
fn a_snapshot_camera_may_redirect_close_and_send_in_chunks() {
    for (what, play) in [
        (
            "redirected",
            Play {
                redirects: true,
                ..PLAIN
            },
        ),
        ("a connection each", Play { keeps: 1, ..PLAIN }),
        ("three to a connection", Play { keeps: 3, ..PLAIN }),
        (
            "in chunks",
            Play {
                chunked: true,
                ..PLAIN
            },
        ),
    ] {
        let camera = Camera::start(play);
        let what = format!("one JPEG for each request, {what}");
        let (outcome, own) = camera.watched(case(&what, "pictures at fps").with("fps: 5"), 4);
        outcome.all_good().no_restart();
        assert!(own, "{}", outcome.summary());
    }
}
