//! `edge-video probe`: what it says of real cameras, and that what it prints runs as it is.

use crate::support::daemon::Setup;
use crate::support::program::{Call, Ended};
use crate::support::sources::{Film, Mount, Rtsp, Source};
use crate::support::{SOON, TempDir, free_port};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

/// Twenty seconds for each camera, and more for a busy machine.
const ALL: Duration = Duration::from_secs(90);

const H265: &str = "x265enc key-int-max=15";

/// An HTTP server that answers each request with the same.
struct Page {
    port: u16,
}

impl Page {
    fn serve(kind: &'static str, body: Vec<u8>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        // It ends with the test process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that has gone ends its connection.
                let _ = answer(&stream.unwrap(), kind, &body);
            }
        });
        Self { port }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }
}

fn answer(mut stream: &TcpStream, kind: &str, body: &[u8]) -> std::io::Result<()> {
    let mut request = BufReader::new(stream.try_clone()?).lines();
    while request
        .next()
        .transpose()?
        .is_some_and(|line| !line.is_empty())
    {}
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    stream.write_all(body)
}

/// A JPEG of 320x240.
fn jpeg() -> Vec<u8> {
    let output = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-f", "lavfi"])
        .args([
            "-i",
            "testsrc2=size=320x240",
            "-frames:v",
            "1",
            "-f",
            "mjpeg",
            "-",
        ])
        .output()
        .unwrap();
    assert!(output.status.success());
    output.stdout
}

/// What was said of one camera, with its lines, without figures that differ from run to run.
fn of<'a>(stdout: &'a str, id: &str) -> Vec<String> {
    let start = format!("  # {id}: ");
    let lines = stdout.lines().skip_while(|line| !line.starts_with(&start));
    let mut lines = lines.peekable();
    let mut found: Vec<&'a str> = lines.next().into_iter().collect();
    // The next camera's begin less indented.
    let ends = |line: &&str| !line.starts_with("  # ") || line.starts_with("  #   ");
    found.extend(lines.take_while(ends));
    found.into_iter().map(without_figures).collect()
}

fn without_figures(line: &str) -> String {
    if let Some((before, rate)) = line.split_once("rate: ")
        && let Some((fps, rest)) = rate.split_once(" pictures/s, ")
    {
        let fps: f64 = fps.parse().unwrap();
        assert!((14.0..16.0).contains(&fps), "{line}");
        let (kbit, rest) = rest.split_once(" kbit/s, over ").unwrap();
        assert!(kbit.parse::<f64>().unwrap() > 1.0, "{line}");
        let seconds: f64 = rest.strip_suffix(" s").unwrap().parse().unwrap();
        assert!((2.5..13.0).contains(&seconds), "{line}");
        return format!("{before}rate: right");
    }
    match line.split_once("keyframes: each ") {
        // An encoder may begin a group early, and the first one may not be whole.
        Some((before, gop)) if gop.contains(" pictures (") => {
            let (gop, _) = gop.split_once(" pictures (").unwrap();
            let most = gop.rsplit(' ').next().unwrap();
            format!("{before}keyframes: each {most} pictures")
        }
        _ => line.to_owned(),
    }
}

#[track_caller]
fn assert_said(ended: &Ended, id: &str, expected: &[&str]) {
    assert_eq!(of(&ended.stdout, id), expected, "{}", ended.stdout);
}

/// Asks nine cameras of which three fail. Again, if the machine is so busy that a camera cannot
/// send at its own rate.
fn undisturbed(cameras: &[&str], config: &str) -> Ended {
    const SAYS: &str = "asking 9 cameras, 10 to 20 s each\nFAILED: 3 of 9 cameras\n";
    let args: Vec<_> = ["probe"].iter().chain(cameras).copied().collect();
    let mut tries = 0;
    loop {
        let call = Call::new(&args).file("config.yaml", config);
        let ended = call.start().wait(ALL);
        let rates = ended
            .stdout
            .lines()
            .filter_map(|line| line.split_once("rate: "));
        let fps = rates.filter_map(|(_, rate)| rate.split_once(" pictures/s"));
        let mut fps = fps.map(|(fps, _)| fps.parse::<f64>().unwrap());
        let steady = fps.all(|fps| (14.0..16.0).contains(&fps));
        if ended.stderr == SAYS && steady && !ended.stdout.contains(" times as fast ") {
            return ended;
        }
        tries += 1;
        assert!(tries < 4, "{}{}", ended.stdout, ended.stderr);
    }
}

#[test]
fn each_kind_of_camera_is_described_and_what_is_printed_runs() {
    let mounts = [
        Mount::new("door", "ball"),
        Mount::new("hevc", "ball").encoder(H265),
    ];
    let rtsp = Rtsp::start_with(&mounts, Some(("viewer", "s3cret")));
    let (http, rtmp, film) = (Source::http(15), Source::rtmp(15), Film::make());
    let snapshot = Page::serve("image/jpeg", jpeg());
    let (port, closed) = (rtsp.port(), free_port());
    // The kernel accepts, and nobody answers.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let silent = silent.local_addr().unwrap().port();
    let config = format!(
        "cameras:\n- {{id: door, url: '{}', username: viewer, password: s3cret, fps: 5}}\n\
         - {{id: silent, url: 'rtsp://127.0.0.1:{silent}/x', first_frame_timeout: 1s}}\n",
        rtsp.bare_url("door"),
    );
    let film = film.path().display().to_string();
    let (hevc, snap) = (rtsp.url("hevc"), snapshot.url("snap.jpg"));
    let wrong = format!("rtsp://viewer:wr0ng@127.0.0.1:{port}/door");
    let dead = format!("rtsp://127.0.0.1:{closed}/door");
    let (http_url, rtmp_url) = (http.url(), rtmp.url());
    let ended = undisturbed(
        &[
            "door", &hevc, http_url, rtmp_url, &film, &snap, &wrong, &dead, "silent",
        ],
        &config,
    );
    assert_eq!(ended.code(), Some(1), "{}", ended.stderr);
    for secret in ["s3cret", "wr0ng", "viewer"] {
        assert!(!ended.stdout.contains(secret), "{}", ended.stdout);
    }
    let (head, _) = ended.stdout.split_once("cameras:\n").unwrap();
    let head: Vec<_> = head.lines().collect();
    assert!(head[0].starts_with("# FFmpeg ") && head[0].ends_with(" at ffmpeg"));
    assert!(head[1].starts_with("#   decoders: h264, "), "{}", head[1]);
    assert!(head[2].starts_with("#   hardware that answers: "));
    those_that_work(&ended, port);
    assert_said(
        &ended,
        "camera2",
        &[
            &format!("  # camera2: {}", http.url()),
            "  #   stream 0: video: mjpeg (Baseline), 320x240, yuvj420p",
            "  #   rate: right",
            "  #   keyframes: each picture",
            "  #   time stamps: none in this format; pictures get the time of their arrival",
            "  - id: camera2",
            &format!("    url: {}", http.url()),
        ],
    );
    let live = rtmp.url().strip_suffix("/camera").unwrap();
    assert_said(
        &ended,
        "camera3",
        &[
            &format!("  # camera3: {live}/***"),
            "  #   stream 0: video: h264 (Constrained Baseline), 320x240, yuv420p, announced as 15 pictures/s",
            "  #   stream 1: audio: aac (LC), 44100 Hz, mono",
            "  #   rate: right",
            "  #   keyframes: each 15 pictures",
            "  #   time stamps: right",
            "  #   set CAMERA3_PATH in the environment, or as credentials of the service",
            "  - id: camera3",
            &format!("    url: {live}/${{CAMERA3_PATH}}"),
        ],
    );
    assert_said(
        &ended,
        "camera4",
        &[
            &format!("  # camera4: {film}"),
            "  #   stream 0: video: h264 (Constrained Baseline), 320x240, yuv420p, announced as 15 pictures/s",
            "  #   stream 1: audio: aac (LC), 44100 Hz, mono",
            "  #   rate: right",
            "  #   keyframes: each 15 pictures",
            "  #   time stamps: right",
            "  - id: camera4",
            &format!("    url: {film}"),
        ],
    );
    those_that_fail(&ended, port, closed, silent);

    // Pictures come also without a broker.
    let all = format!(
        "amqp: {{url: 'amqp://127.0.0.1:{closed}/'}}\n{}",
        ended.stdout
    );
    let daemon = Setup::new(&all)
        .env("DOOR_USERNAME", "viewer")
        .env("DOOR_PASSWORD", "s3cret")
        .env("CAMERA1_USERNAME", "viewer")
        .env("CAMERA1_PASSWORD", "s3cret")
        .env("CAMERA3_PATH", "camera")
        .env("CAMERA6_USERNAME", "viewer")
        .env("CAMERA6_PASSWORD", "wr0ng")
        .start();
    for id in ["door", "camera1", "camera2", "camera3", "camera4"] {
        daemon.wait_for_log(&format!("{id}: live: 320x240"), 3 * SOON);
    }
    daemon.wait_for_log("camera6: the camera refused the login", 2 * SOON);
    daemon.wait_for_log("camera7: connection refused", 2 * SOON);
}

/// The RTSP cameras at `port`, one with the settings of the configuration.
fn those_that_work(ended: &Ended, port: u16) {
    assert_said(
        ended,
        "door",
        &[
            &format!("  # door: rtsp://***@127.0.0.1:{port}/door"),
            "  #   stream 0: video: h264 (Constrained Baseline), 320x240, yuv420p, announced as 15 pictures/s",
            "  #   stream 1: audio: pcm_mulaw, 8000 Hz, mono",
            "  #   rate: right",
            "  #   keyframes: each 15 pictures",
            "  #   time stamps: right",
            "  #   set DOOR_USERNAME, DOOR_PASSWORD in the environment, or as credentials of the service; \
             password_file: FILE may stand in place of password",
            "  - id: door",
            &format!("    url: rtsp://127.0.0.1:{port}/door"),
            "    username: ${DOOR_USERNAME}",
            "    password: ${DOOR_PASSWORD}",
            "    fps: 5",
        ],
    );
    assert_said(
        ended,
        "camera1",
        &[
            &format!("  # camera1: rtsp://***@127.0.0.1:{port}/hevc"),
            "  #   stream 0: video: hevc (Main), 320x240, yuv420p, announced as 15 pictures/s",
            "  #   stream 1: audio: pcm_mulaw, 8000 Hz, mono",
            "  #   rate: right",
            "  #   keyframes: each 15 pictures",
            "  #   time stamps: right",
            "  #   set CAMERA1_USERNAME, CAMERA1_PASSWORD in the environment, or as credentials of the \
             service; password_file: FILE may stand in place of password",
            "  - id: camera1",
            &format!("    url: rtsp://127.0.0.1:{port}/hevc"),
            "    username: ${CAMERA1_USERNAME}",
            "    password: ${CAMERA1_PASSWORD}",
        ],
    );
}

/// A snapshot, a wrong password and two hosts that do not answer.
fn those_that_fail(ended: &Ended, port: u16, closed: u16, silent: u16) {
    let snapshot = of(&ended.stdout, "camera5");
    let (address, rest) = snapshot[0].rsplit_once('/').unwrap();
    assert_eq!(rest, "snap.jpg");
    let url = address.strip_prefix("  # camera5: ").unwrap();
    assert_eq!(
        &snapshot[1..],
        [
            "  #   stream 0: video: mjpeg (Baseline), 320x240, yuvj420p, announced as 25 pictures/s",
            "  #   rate: not known, since few pictures came: 1",
            "  #   note: one JPEG for each request (a snapshot URL), not a stream",
            "  - id: camera5",
            &format!("    url: {url}/snap.jpg"),
        ]
    );
    assert_said(
        ended,
        "camera6",
        &[
            &format!("  # camera6: rtsp://***@127.0.0.1:{port}/door"),
            "  #   FAILED: the camera refused the login (401 Unauthorized): check username and password; \
             if they are right, the camera may ask for digest with SHA-256, which FFmpeg does not know: \
             allow MD5 digest in the camera's settings",
            "  #   set CAMERA6_USERNAME, CAMERA6_PASSWORD in the environment, or as credentials of the \
             service; password_file: FILE may stand in place of password",
            "  - id: camera6",
            &format!("    url: rtsp://127.0.0.1:{port}/door"),
            "    username: ${CAMERA6_USERNAME}",
            "    password: ${CAMERA6_PASSWORD}",
        ],
    );
    assert_said(
        ended,
        "camera7",
        &[
            &format!("  # camera7: rtsp://127.0.0.1:{closed}/door"),
            "  #   FAILED: connection refused: nothing listens on this port of the camera; check host and \
             port in the url, and whether the camera is still starting",
            "  - id: camera7",
            &format!("    url: rtsp://127.0.0.1:{closed}/door"),
        ],
    );
    assert_said(
        ended,
        "silent",
        &[
            &format!("  # silent: rtsp://127.0.0.1:{silent}/x"),
            "  #   FAILED: the camera does not answer: connection timed out; check host and port in the \
             url, and whether the camera is on",
            "  - id: silent",
            &format!("    url: rtsp://127.0.0.1:{silent}/x"),
            "    first_frame_timeout: 1s",
        ],
    );
}

#[test]
fn one_json_object_has_it_all() {
    let graph = "lavfi:testsrc2=size=64x48:rate=10";
    let ended = Call::new(&["probe", "--json", graph]).start().wait(ALL);
    assert_eq!(
        (ended.code(), ended.stderr.as_str()),
        (Some(0), "asking 1 camera, 10 to 20 s each\nOK: 1 camera\n")
    );
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert!(
        report["ffmpeg"]["version"]
            .as_str()
            .is_some_and(|it| !it.is_empty())
    );
    assert_eq!(report["ffmpeg"]["error"], Value::Null);
    let decoders = report["ffmpeg"]["decoders"].as_array().unwrap();
    assert!(decoders.contains(&"h264".into()), "{report:#}");
    assert!(report["ffmpeg"]["hardware"]["answering"].is_array());
    let [camera] = &report["cameras"].as_array().unwrap()[..] else {
        panic!("{report:#}");
    };
    assert_eq!(camera["id"], "camera1");
    assert_eq!(camera["address"], graph);
    assert_eq!(
        (&camera["readable"], &camera["error"]),
        (&true.into(), &Value::Null)
    );
    let [stream] = &camera["streams"].as_array().unwrap()[..] else {
        panic!("{report:#}");
    };
    let size = (&stream["kind"], &stream["width"], &stream["height"]);
    assert_eq!(size, (&"video".into(), &64.into(), &48.into()));
    let measured = &camera["measured"];
    assert!(
        (measured["fps"].as_f64().unwrap() - 10.0).abs() < 0.01,
        "{report:#}"
    );
    assert_eq!(measured["seconds"], 10.0, "{report:#}");
    assert_eq!(measured["gop_pictures"], 1);
    assert_eq!(measured["time_stamps"], "right");
    let yaml = format!("cameras:\n  - id: camera1\n    url: {graph}\n");
    assert_eq!(camera["yaml"], yaml);
    let checked = Call::new(&["check"]).file("config.yaml", &yaml).run();
    assert_eq!(checked.code(), Some(0), "{}", checked.stderr);
}

#[test]
fn a_playlist_that_names_a_file_of_this_machine_is_not_followed() {
    let dir = TempDir::new("playlist");
    let segment = dir.path().join("segment.ts").display().to_string();
    let list =
        format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile://{segment}\n#EXT-X-ENDLIST\n");
    std::fs::write(&segment, "no video").unwrap();
    let page = Page::serve("application/vnd.apple.mpegurl", list.into_bytes());
    let ended = Call::new(&["probe", &page.url("m.m3u8")]).start().wait(ALL);
    assert_eq!(ended.code(), Some(1));
    let said = "FAILED: the source refers to an address that FFmpeg may not open: Protocol 'file' not \
                on whitelist 'http,https,httpproxy,tcp,tls,crypto'; if it is right, set \
                -protocol_whitelist in input_args\n";
    assert!(ended.stdout.contains(said), "{}", ended.stdout);
}

#[test]
fn without_ffmpeg_each_camera_says_so() {
    let config = "ffmpeg: {path: /nowhere/ffmpeg}\ncameras: [{id: door, url: 'lavfi:testsrc2'}]\n";
    let ended = Call::new(&["probe"]).file("config.yaml", config).run();
    assert_eq!(ended.code(), Some(1));
    let why = "FAILED: cannot run /nowhere/ffmpeg: No such file or directory: install it (apt install \
               ffmpeg) or set ffmpeg.path\n";
    let expected = format!(
        "# FFmpeg: {why}cameras:\n  # door: lavfi:testsrc2\n  #   {why}  - id: door\n    url: lavfi:testsrc2\n"
    );
    assert_eq!(ended.stdout, expected);
    assert_eq!(
        ended.stderr,
        "asking 1 camera, 10 to 20 s each\nFAILED: 1 of 1 camera\n"
    );
}

#[test]
fn what_is_no_camera_is_refused_in_words() {
    let config = "cameras: [{id: door, url: 'lavfi:testsrc2'}]\n";
    for (args, code, says) in [
        (
            &["probe", "dor"][..],
            1,
            "edge-video: there is no camera \"dor\" in the configuration; name one of its cameras, or \
             an address such as rtsp://192.0.2.10/stream1\n",
        ),
        (
            &["probe", "rtsp://u:s3cret@/x"],
            1,
            "edge-video: the host is missing; write SCHEME://HOST/\n",
        ),
        (
            &["probe", "--discover", "door"],
            2,
            "edge-video: --discover takes no camera; see edge-video --help\n",
        ),
        (
            &["probe", "--config", "nowhere.yaml"],
            78,
            "nowhere.yaml: cannot be read: No such file or directory\n",
        ),
    ] {
        let ended = Call::new(args).file("config.yaml", config).run();
        let said = (ended.code(), ended.stdout.as_str(), ended.stderr.as_str());
        assert_eq!(said, (Some(code), "", says), "{args:?}");
    }
}

/// A camera that answers to WS-Discovery on loopback.
fn answer_discovery(socket: &UdpSocket, name: &str) {
    let mut bytes = [0; 4096];
    loop {
        let (count, from) = socket.recv_from(&mut bytes).unwrap();
        let question = String::from_utf8_lossy(&bytes[..count]).into_owned();
        let Some((_, rest)) = question.split_once("MessageID>") else {
            continue;
        };
        let (id, _) = rest.split_once('<').unwrap();
        assert!(
            question.contains("dn:NetworkVideoTransmitter"),
            "{question}"
        );
        let answer = format!(
            "<s:Envelope><s:Header><a:RelatesTo>{id}</a:RelatesTo></s:Header><s:Body><d:ProbeMatches>\
             <d:ProbeMatch><d:Scopes>onvif://www.onvif.org/name/{name}</d:Scopes>\
             <d:XAddrs>http://admin:s3cret@127.0.0.1/onvif</d:XAddrs></d:ProbeMatch>\
             </d:ProbeMatches></s:Body></s:Envelope>"
        );
        socket.send_to(answer.as_bytes(), from).unwrap();
    }
}

#[test]
fn cameras_on_the_network_are_found_by_address_and_name() {
    use rustix::net::{AddressFamily, SocketType, bind, socket, sockopt};
    // Other tests may listen there too.
    let listener = socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap();
    sockopt::set_socket_reuseaddr(&listener, true).unwrap();
    let any = std::net::SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 3702);
    bind(&listener, &any).unwrap();
    let listener = UdpSocket::from(listener);
    let group = Ipv4Addr::new(239, 255, 255, 250);
    listener
        .join_multicast_v4(&group, &Ipv4Addr::LOCALHOST)
        .unwrap();
    // It ends with the test process.
    std::thread::spawn(move || answer_discovery(&listener, "Front%20Door"));
    let ended = Call::new(&["probe", "--discover"]).run();
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    assert!(
        ended
            .stderr
            .starts_with("looking for cameras on the local network, 3 s\n")
    );
    assert!(ended.stderr.ends_with(" answered\n"), "{}", ended.stderr);
    let lines: Vec<_> = ended.stdout.lines().collect();
    assert!(lines.contains(&"127.0.0.1 Front Door"), "{}", ended.stdout);
    let ended = Call::new(&["probe", "--discover", "--json"]).run();
    let found: Value = serde_json::from_str(&ended.stdout).unwrap();
    let door = serde_json::json!({"address": "127.0.0.1", "name": "Front Door"});
    assert!(
        found["discovered"].as_array().unwrap().contains(&door),
        "{found:#}"
    );
}
