//! The test support itself does what it says.

use crate::support::consumer::Consumer;
use crate::support::daemon::{Report, Setup};
use crate::support::guarded::{self, Guarded};
use crate::support::jpeg::{Watermark, decode, decodes, dominant_color, same_color, watermark};
use crate::support::proxy::Proxy;
use crate::support::rabbit::Rabbit;
use crate::support::sources::{Film, Mount, Rtsp, Source};
use crate::support::{
    SOON, TempDir, fake_ffmpeg_path, holds_within, unix_us, wait_for, wait_until,
};
use amiquip::{AmqpProperties, AmqpValue, Connection, FieldTable, Publish};
use rustix::process::Signal;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

// The broker.

/// Publishes one message as the daemon does.
fn publish(url: &str, exchange: &str, camera_id: &str, seq: i64, body: &[u8]) {
    let mut connection = Connection::insecure_open(url).unwrap();
    let channel = connection.open_channel(None).unwrap();
    let confirms = channel.listen_for_publisher_confirms().unwrap();
    channel.enable_publisher_confirms().unwrap();
    let mut headers = FieldTable::new();
    headers.insert(
        "camera_id".to_owned(),
        AmqpValue::LongString(camera_id.to_owned()),
    );
    headers.insert("seq".to_owned(), AmqpValue::LongLongInt(seq));
    headers.insert(
        "captured_at_us".to_owned(),
        AmqpValue::LongLongInt(unix_us()),
    );
    headers.insert("width".to_owned(), AmqpValue::LongInt(320));
    let properties = AmqpProperties::default()
        .with_content_type("image/jpeg".to_owned())
        .with_headers(headers);
    let key = format!("camera.{camera_id}");
    channel
        .basic_publish(exchange, Publish::with_properties(body, key, properties))
        .unwrap();
    confirms.recv_timeout(SOON).unwrap();
}

#[test]
fn a_message_goes_round() {
    let rabbit = Rabbit::shared();
    let consumer = Consumer::start(rabbit.port(), "support.round");
    publish(&rabbit.url(), "support.round", "cam1", 7, b"hello");
    publish(&rabbit.url(), "support.round", "cam2", 1, b"other");
    let got = &consumer.wait_for("cam1", 1, SOON)[0];
    assert_eq!(got.routing_key, "camera.cam1");
    assert_eq!((got.camera_id(), got.seq(), got.width()), ("cam1", 7, 320));
    assert_eq!(got.properties.content_type().as_deref(), Some("image/jpeg"));
    assert_eq!((got.jpeg(), got.len), (&b"hello"[..], 5));
    assert!(got.age() < SOON);
    consumer.wait_for("cam2", 1, SOON);
    assert_eq!(consumer.stop().len(), 2);
}

#[test]
fn a_consumer_can_leave_bodies_and_other_cameras_out() {
    let rabbit = Rabbit::shared();
    let consumer = Consumer::start_with(rabbit.port(), "support.key", "camera.a", false);
    publish(&rabbit.url(), "support.key", "b", 1, b"no");
    publish(&rabbit.url(), "support.key", "a", 1, b"yes");
    let got = consumer.wait_for("a", 1, SOON);
    assert_eq!((got[0].len, &got[0].body), (3, &None));
    assert_eq!(consumer.count(), 1);
}

#[test]
fn the_shared_node_can_be_administered() {
    let rabbit = Rabbit::shared();
    rabbit.ctl(&["add_vhost", "support/vhost"]);
    rabbit.ctl(&["add_user", "support", "secret"]);
    rabbit.ctl(&[
        "set_permissions",
        "-p",
        "support/vhost",
        "support",
        ".*",
        ".*",
        ".*",
    ]);
    let url = rabbit.url_with("support", "secret", "support/vhost");
    assert!(Connection::insecure_open(&url).is_ok());
    let wrong = rabbit.url_with("support", "wrong", "support/vhost");
    assert!(Connection::insecure_open(&wrong).is_err());
}

#[test]
fn a_node_of_ones_own_can_be_frozen_stopped_and_killed() {
    let mut rabbit = Rabbit::start();
    let (port, url) = (rabbit.port(), rabbit.url());

    rabbit.freeze();
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    client.write_all(b"AMQP\x00\x00\x09\x01").unwrap();
    client
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let silent = client.read(&mut [0; 1]).unwrap_err();
    assert_eq!(silent.kind(), ErrorKind::WouldBlock, "it is frozen");
    rabbit.thaw();
    client.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 1, "it has thawed");

    // The queue still exists, so the data was kept.
    let mut connection = Connection::insecure_open(&url).unwrap();
    let channel = connection.open_channel(None).unwrap();
    let durable = amiquip::QueueDeclareOptions {
        durable: true,
        ..amiquip::QueueDeclareOptions::default()
    };
    channel.queue_declare("kept", durable).unwrap();
    drop(connection);

    let consumer = Consumer::start(port, "cameras");
    let pid = rabbit.pid();
    rabbit.kill();
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    wait_until(SOON, "the consumer to see it", || consumer.ended());

    rabbit.start_again();
    rabbit.restart();
    assert_eq!(rabbit.port(), port);
    let mut connection = Connection::insecure_open(&url).unwrap();
    let channel = connection.open_channel(None).unwrap();
    channel.queue_declare_passive("kept").unwrap();
}

#[test]
fn a_consumer_of_a_frozen_node_can_be_stopped() {
    let rabbit = Rabbit::start();
    let consumer = Consumer::start(rabbit.port(), "cameras");
    rabbit.freeze();
    let since = Instant::now();
    drop(consumer);
    assert!(since.elapsed() < Duration::from_secs(5));
}

// Processes.

/// Not a test by itself: the next test runs it as a test process and kills it. It starts processes
/// that must not outlive it.
#[test]
#[ignore = "runs as a child of another test"]
fn holder_of_processes() {
    let dir = TempDir::new("holder");
    let mut sleeper = guarded::command("sh", Some(dir.path()));
    // A grandchild of the holder, in the same group.
    let sleeper = Guarded::spawn(sleeper.args(["-c", "sleep 600 & wait"]));
    println!("\nholds {} {}", sleeper.pid(), dir.path().display());
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn nothing_outlives_a_killed_test_process() {
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "support_works::holder_of_processes"])
        .args(["--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let line = BufReader::new(holder.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .find(|line| line.starts_with("holds "))
        .unwrap();
    let mut words = line.split(' ').skip(1);
    let (pid, dir) = (words.next().unwrap(), words.next().unwrap());
    let members = || group_members(pid);
    wait_until(SOON, "the group of two", || members() == 2);
    assert!(Path::new(dir).exists());
    holder.kill().unwrap();
    holder.wait().unwrap();
    wait_until(SOON, "the end of the group", || members() == 0);
    wait_until(SOON, "the end of the folder", || !Path::new(dir).exists());
}

/// How many living processes are in this process group.
fn group_members(group: &str) -> usize {
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok())
        .filter(|stat| {
            // After the name in brackets: state, parent, group.
            let mut fields = stat.rsplit(") ").next().unwrap().split(' ');
            fields.next() != Some("Z") && fields.nth(1) == Some(group)
        })
        .count()
}

#[test]
fn a_dropped_guard_kills_the_whole_group() {
    let mut command = guarded::command("sh", None);
    let guarded = Guarded::spawn(command.args(["-c", "sleep 600 & wait"]));
    let group = guarded.pid().to_string();
    wait_until(SOON, "the group of two", || group_members(&group) == 2);
    drop(guarded);
    wait_until(SOON, "the end of the group", || group_members(&group) == 0);
}

/// A daemon in ten lines of shell: a child, a grandchild that runs away, a report at the end.
const SHELL_DAEMON: &str = r#"#!/bin/sh
echo "level=$RUST_LOG args=$1 $2" >&2
cat "$3" >&2
sleep 600 & child=$!
setsid --fork sleep 600 2>/dev/null
finish() {
    kill $child
    sum='"captured":0,"published":0,"dropped":{},"in_flight":0,"waiting":0,"bytes":0,"restarts":{}'
    echo "INFO edge_video::report: {\"cameras\":[],\"total\":{$sum}}" >&2
    exit 3
}
trap finish TERM
echo up >&2
wait
"#;

#[test]
fn a_daemon_is_watched_from_start_to_end() {
    let dir = TempDir::new("shell-daemon");
    let program = dir.path().join("daemon");
    std::fs::write(&program, SHELL_DAEMON).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut daemon = Setup::new("fps: 5\n")
        .program(program)
        .env("RUST_LOG", "debug")
        .start();
    daemon.wait_for_log("up", SOON);
    assert_eq!(
        daemon.log()[..2],
        ["level=debug args=run --config", "fps: 5"]
    );
    assert_eq!(daemon.threads(), 1);
    assert_eq!(daemon.thread_names(), ["daemon"]);
    assert!(daemon.fds() >= 3);
    assert!(daemon.rss_kb() > 100);
    assert!(daemon.cpu_time() < SOON);
    assert_eq!(daemon.children().len(), 1, "the runaway has another parent");
    assert_eq!(daemon.offspring().len(), 2);
    assert!(daemon.zombies().is_empty());
    assert!(daemon.is_running());

    let exit = daemon.terminate();
    assert_eq!(exit.code(), Some(3));
    assert!(exit.took < SOON);
    exit.report().check_accounting();
    let runaway = daemon.offspring();
    assert_eq!(runaway.len(), 1);
    drop(daemon);
    let stat = format!("/proc/{}/stat", runaway[0]);
    wait_until(SOON, "the end of the runaway", || {
        std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "))
    });
}

#[test]
fn a_report_is_found_in_every_format() {
    let account = concat!(
        r#""captured":3,"published":1,"dropped":{"too_old":2},"in_flight":0,"waiting":0,"#,
        r#""bytes":9,"restarts":{"exited":1}"#
    );
    let report =
        format!(r#"{{"cameras":[{{"camera_id":"cam1",{account}}}],"total":{{{account}}}}}"#);
    let lines = [
        format!("INFO  edge_video::report {report} and more"),
        serde_json::json!({"level": "INFO", "target": "edge_video::report", "msg": report})
            .to_string(),
        serde_json::json!({
            "target": "edge_video::report", "msg": "accounting",
            "report": serde_json::from_str::<serde_json::Value>(&report).unwrap(),
        })
        .to_string(),
    ];
    for line in &lines {
        let report = Report::from_log(line).unwrap_or_else(|| panic!("{line}"));
        report.check_accounting();
        let camera = report.camera("cam1");
        assert_eq!((camera.captured, camera.dropped("too_old")), (3, 2));
        assert_eq!(camera.restarts("exited"), 1);
    }
    assert!(Report::from_log("INFO edge_video::report cam1: 3 frames").is_none());
    assert!(Report::from_log(&report).is_none(), "another target");

    let wrong = lines[0].replace("\"published\":1", "\"published\":2");
    let wrong = Report::from_log(&wrong).unwrap();
    assert!(std::panic::catch_unwind(|| wrong.check_accounting()).is_err());
}

// The fake FFmpeg.

/// A running FFmpeg, fake or real, and its output.
struct Player {
    process: Guarded,
    out: BufReader<ChildStdout>,
}

/// One part of its output.
#[derive(Debug)]
struct Part {
    announced: Option<usize>,
    /// As many bytes as were announced.
    body: Vec<u8>,
}

impl Player {
    fn start(program: &Path, args: &[&str]) -> Self {
        let mut command = guarded::command(program, None);
        command
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = Guarded::spawn(&mut command);
        let out = BufReader::new(process.child().stdout.take().unwrap());
        Self { process, out }
    }

    fn fake(play: &str) -> Self {
        let input = format!("fake:{play}");
        let args = ["-f", "lavfi", "-i", &input, "-f", "mpjpeg", "pipe:1"];
        Self::start(&fake_ffmpeg_path(), &args)
    }

    /// Real FFmpeg, which gives `n` pictures of this input.
    fn real(input: &[&str], n: usize) -> Self {
        let n = n.to_string();
        let head = ["-hide_banner", "-nostdin", "-loglevel", "error"];
        let tail = ["-an", "-frames:v", &n, "-f", "mpjpeg", "pipe:1"];
        Self::start(Path::new("ffmpeg"), &[&head, input, &tail].concat())
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.ends_with("\r\n").then(|| line.trim_end().to_owned())
    }

    /// The next part, read by its announced length.
    fn part(&mut self) -> Option<Part> {
        let boundary = self.line()?;
        assert!(
            boundary == "--ffmpeg" || boundary.is_empty(),
            "{boundary:?}"
        );
        if boundary.is_empty() {
            return self.part();
        }
        let mut announced = None;
        while let Some(line) = self.line().filter(|line| !line.is_empty()) {
            match line.split_once(": ") {
                Some(("Content-length", length)) => announced = Some(length.parse().unwrap()),
                other => assert_eq!(other, Some(("Content-type", "image/jpeg"))),
            }
        }
        let mut body = vec![0; announced?];
        self.out.read_exact(&mut body).ok()?;
        Some(Part { announced, body })
    }

    fn parts(&mut self) -> Vec<Part> {
        std::iter::from_fn(|| self.part()).collect()
    }

    fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.out.read_to_end(&mut rest).unwrap();
        rest
    }

    fn code(&mut self) -> Option<i32> {
        self.process.wait(SOON).code()
    }

    fn stderr(&mut self) -> String {
        let mut text = String::new();
        let mut stderr = self.process.child().stderr.take().unwrap();
        stderr.read_to_string(&mut text).unwrap();
        text
    }
}

fn mark(camera: &str, number: u32) -> Result<Watermark, String> {
    Ok(Watermark {
        camera: camera.to_owned(),
        number,
    })
}

fn answer(args: &[&str]) -> String {
    let output = Command::new(fake_ffmpeg_path())
        .args(args)
        .output()
        .unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn fake_answers_questions() {
    assert!(answer(&["-hide_banner", "-version"]).starts_with("ffmpeg version 5.1.9-0+deb12u1 "));
    assert!(answer(&["-hide_banner", "-muxers"]).contains(" E mpjpeg  "));
    assert!(answer(&["-hide_banner", "-h", "demuxer=rtsp"]).contains("-timeout "));
}

#[test]
fn fake_stream_is_watermarked_and_of_the_size_asked_for() {
    for (size, n) in [(20_000, 3), (9_000, 2), (200_000, 2)] {
        let mut player = Player::fake(&format!("stream,tag=door-1,fps=0,size={size},n={n}"));
        let parts = player.parts();
        assert_eq!((parts.len(), player.code()), (n, Some(0)));
        for (number, part) in (1..).zip(&parts) {
            assert_eq!(part.announced, Some(size));
            assert!(decodes(&part.body));
            assert_eq!(watermark(&part.body), mark("door-1", number));
        }
        let picture = decode(&parts[0].body).unwrap();
        assert_eq!((picture.width, picture.height), (320, 240));
    }
}

#[test]
fn fake_pictures_decode_with_real_ffmpeg_too() {
    let mut player = Player::fake("stream,fps=0,n=3,width=644,height=364");
    let all = player.rest();
    let dir = TempDir::new("stream");
    let file = dir.path().join("stream.mpjpeg");
    std::fs::write(&file, &all).unwrap();
    let input = ["-f", "mpjpeg", "-i", file.to_str().unwrap()];
    let mut real = Player::real(&input, 9);
    let parts = real.parts();
    assert_eq!(parts.len(), 3);
    // FFmpeg says this of the end of its own files too, and nothing else: 5.1 about the file, 7.1
    // about the input, whose address in memory it adds.
    let said = real.stderr();
    let about = said
        .strip_suffix(": Invalid data found when processing input\n")
        .expect(&said);
    assert!(
        about == file.display().to_string()
            || (about.starts_with("[in#0/mpjpeg @ 0x")
                && about.ends_with("] Error during demuxing")
                && !about.contains('\n')),
        "{said}"
    );
    let picture = decode(&parts[0].body).unwrap();
    assert_eq!((picture.width, picture.height), (644, 364));
}

#[test]
fn every_size_is_met_exactly() {
    let mut player = Player::fake("stream,fps=0,n=1,size=1,width=64,height=64");
    let least = player.part().unwrap().body.len();
    let sizes = [
        1, 5, 1000, 1001, 65_533, 65_534, 66_033, 66_034, 131_070, 200_001,
    ];
    for size in sizes.map(|more| least + more) {
        let mut player = Player::fake(&format!("stream,fps=0,n=1,size={size},width=64,height=64"));
        let part = player.part().unwrap();
        assert_eq!(part.body.len(), size);
        assert_eq!(watermark(&part.body), mark("cam", 1));
    }
}

#[test]
fn a_picture_mixed_of_two_is_noticed() {
    let picture = |tag: &str| {
        let mut player = Player::fake(&format!("stream,fps=0,n=1,tag={tag}"));
        player.part().unwrap().body
    };
    let (a, b) = (picture("a"), picture("b"));
    assert_eq!(a.len(), b.len());
    let half = a.len() / 2;
    let mixed = [&a[..half], &b[half..]].concat();
    assert!(watermark(&mixed).is_err());
    assert!(!decodes(&a[..half]));
    assert!(!decodes(&[&a[..half], &a[half + 1..]].concat()));
}

#[test]
fn fake_stream_is_paced_after_its_burst() {
    // The test may be late for the first part, but not every time.
    let paced = holds_within(SOON, || {
        let since = Instant::now();
        let mut player = Player::fake("stream,fps=20,burst=10,n=15");
        let parts: Vec<_> = std::iter::from_fn(|| player.part().map(|_| since.elapsed())).collect();
        assert_eq!(parts.len(), 15);
        assert!(parts[14] >= Duration::from_millis(250), "five at 50 ms");
        parts[14] - parts[9] >= Duration::from_millis(200)
    });
    assert!(paced, "the last five come at once");
}

#[test]
fn fake_hang_and_silent_stay_alive_without_a_picture() {
    for (play, n) in [("hang,n=2,fps=0", 2), ("silent", 0)] {
        let mut player = Player::fake(play);
        for _ in 0..n {
            assert!(player.part().is_some());
        }
        assert!(!holds_within(Duration::from_millis(300), || {
            player.process.ended().is_some()
        }));
        player.process.signal(Signal::TERM);
        assert!(player.part().is_none());
        assert_eq!(player.code(), Some(255));
    }
}

#[test]
fn fake_exit_and_secret_end_as_told() {
    let mut player = Player::fake("exit,n=2,fps=0,code=9");
    assert_eq!((player.parts().len(), player.code()), (2, Some(9)));

    let input = "rtsp://user:hush@127.0.0.1/fake:secret";
    let mut player = Player::start(&fake_ffmpeg_path(), &["-i", input, "pipe:1"]);
    assert!(player.rest().is_empty());
    assert!(player.stderr().contains(input));
    assert_eq!(player.code(), Some(1));
}

#[test]
fn fake_garbage_is_no_stream() {
    let mut player = Player::fake("garbage");
    let mut bytes = vec![0; 100_000];
    player.out.read_exact(&mut bytes).unwrap();
    assert!(!bytes.windows(8).any(|window| window == b"--ffmpeg"));
}

#[test]
fn fake_truncate_and_lie_break_every_kth_part() {
    // Read by its announced length, a short part contains the start of the next one.
    let mut player = Player::fake("truncate,k=3,n=3,fps=0,size=20000");
    for number in [1, 2] {
        let part = player.part().unwrap();
        assert_eq!(watermark(&part.body), mark("cam", number));
    }
    assert!(player.part().is_none());
    assert_eq!(player.code(), Some(0));

    for (by, announced) in [(7, 20_007), (-7, 19_993)] {
        let mut player = Player::fake(&format!("lie,k=2,by={by},n=4,fps=0,size=20000"));
        assert_eq!(player.part().unwrap().announced, Some(20_000));
        let part = player.part().unwrap();
        assert_eq!(part.announced, Some(announced));
        assert!(!decodes(&part.body));
    }
}

#[test]
fn fake_no_length_announces_nothing() {
    let mut player = Player::fake("no_length,n=2,fps=0,size=20000");
    let all = player.rest();
    let head = b"--ffmpeg\r\nContent-type: image/jpeg\r\n\r\n\xff\xd8";
    assert!(all.starts_with(head));
    assert_eq!(all.len(), 10 + 2 * (head.len() - 12 + 20_000 + 12));
}

#[test]
fn fake_huge_sends_a_huge_picture_now_and_then() {
    let mut player = Player::fake("huge,k=2,n=3,fps=0,size=20000");
    let lengths: Vec<_> = player.parts().iter().map(|part| part.body.len()).collect();
    assert_eq!(lengths, [20_000, 20_000_000, 20_000]);
}

#[test]
fn fake_stderr_flood_floods_stderr() {
    let flooded = holds_within(SOON, || {
        let mut player = Player::fake("stderr_flood,fps=50");
        let mut stderr = player.process.child().stderr.take().unwrap();
        let since = Instant::now();
        stderr.read_exact(&mut vec![0; 300_000]).unwrap();
        let took = since.elapsed();
        assert!(player.part().is_some());
        took < Duration::from_secs(3)
    });
    assert!(flooded, "less than 100 KB/s");
}

#[test]
fn fake_ignore_term_ignores_it() {
    let mut player = Player::fake("ignore_term,fps=50");
    assert!(player.part().is_some());
    player.process.signal(Signal::TERM);
    for _ in 0..20 {
        assert!(player.part().is_some());
    }
    assert!(player.process.ended().is_none());
}

#[test]
fn fake_grandchild_holds_stdout_open() {
    // If the kill comes before the grandchild has its own session, the grandchild dies with the
    // rest.
    let held = holds_within(SOON, || {
        // Measured from before its start, so that a slow machine can only make it longer.
        let since = Instant::now();
        let mut player = Player::fake("grandchild,hold=2,n=1,fps=0");
        assert!(player.part().is_some());
        player.process.kill();
        player.rest();
        since.elapsed() >= Duration::from_secs(2)
    });
    assert!(held, "nobody held stdout open");
}

#[test]
fn fake_trickle_drips() {
    // Measured from before its start, so that a slow machine can only make it longer.
    let since = Instant::now();
    let mut player = Player::fake("trickle");
    player.out.read_exact(&mut [0; 50]).unwrap();
    assert!(since.elapsed() >= Duration::from_millis(800));
}

#[test]
fn fake_resize_changes_the_size() {
    let mut player = Player::fake("resize,n=2,fps=0,width2=640,height2=480");
    let widths: Vec<_> = (0..6)
        .map(|_| decode(&player.part().unwrap().body).unwrap().width)
        .collect();
    assert_eq!(widths, [320, 320, 640, 640, 320, 320]);
}

#[test]
fn fake_can_play_something_else_after_some_starts() {
    let dir = TempDir::new("starts");
    let starts = dir.path().join("starts");
    let play = format!(
        "exit,code=4,after=2,then=stream,n=1,fps=0,starts={}",
        starts.display()
    );
    let codes: Vec<_> = (0..3)
        .map(|_| {
            let mut player = Player::fake(&play);
            player.rest();
            player.code()
        })
        .collect();
    assert_eq!(codes, [Some(4), Some(4), Some(0)]);
    let notes = std::fs::read_to_string(&starts).unwrap();
    assert_eq!(notes.lines().count(), 3);
    assert!(notes.contains(" -f lavfi -i fake:exit,"));
}

// The network.

/// A server that sends back what it gets.
fn echo_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            std::thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
    port
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

/// Sends this and waits until it is back.
fn echo(stream: &mut TcpStream, bytes: &[u8]) -> Duration {
    let since = Instant::now();
    let mut back = vec![0; bytes.len()];
    let mut writer = stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || writer.write_all(bytes).unwrap());
        stream.read_exact(&mut back).unwrap();
    });
    assert!(back == bytes);
    since.elapsed()
}

#[test]
fn proxy_passes_delays_and_throttles_in_order() {
    let proxy = Proxy::start(echo_server());
    let mut client = connect(&proxy);
    let bytes: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
    echo(&mut client, &bytes);
    assert_eq!((proxy.connections(), proxy.accepted()), (1, 1));

    proxy.delay(Duration::from_millis(100));
    let took = echo(&mut client, &bytes);
    assert!(took >= Duration::from_millis(200), "{took:?}");
    proxy.pass();

    proxy.throttle(1_000_000);
    let took = echo(&mut client, &bytes[..300_000]);
    assert!(took >= Duration::from_millis(250), "{took:?}");
    proxy.pass();
    echo(&mut client, &bytes);

    drop(client);
    wait_until(SOON, "the end of the connection", || {
        proxy.connections() == 0
    });
}

#[test]
fn proxy_pauses_and_goes_on() {
    let proxy = Proxy::start(echo_server());
    let mut client = connect(&proxy);
    echo(&mut client, b"before");
    proxy.pause();
    client.write_all(b"during").unwrap();
    client
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let silent = client.read(&mut [0; 1]).unwrap_err();
    assert_eq!(silent.kind(), ErrorKind::WouldBlock);
    proxy.pass();
    client.set_read_timeout(Some(SOON)).unwrap();
    let mut back = [0; 6];
    client.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"during");
}

#[test]
fn proxy_resets_and_refuses() {
    let proxy = Proxy::start(echo_server());
    let mut client = connect(&proxy);
    echo(&mut client, b"x");
    proxy.reset();
    let error = client.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);

    let mut client = connect(&proxy);
    echo(&mut client, b"x");
    proxy.refuse();
    let error = client.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let error = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);

    proxy.pass();
    echo(&mut connect(&proxy), b"x");
}

#[test]
fn proxy_carries_amqp() {
    let rabbit = Rabbit::shared();
    let proxy = Proxy::start(rabbit.port());
    let consumer = Consumer::start(proxy.port(), "support.proxy");
    publish(&rabbit.url(), "support.proxy", "cam1", 1, b"through");
    consumer.wait_for("cam1", 1, SOON);
    proxy.reset();
    wait_until(SOON, "the consumer to see it", || consumer.ended());
}

// Real sources.

/// Real FFmpeg gets five pictures of this input. A server that has just lost a client may need a
/// moment, so that it is tried again.
fn gives_five_pictures(input: &[&str]) -> Vec<Vec<u8>> {
    wait_for(Duration::from_secs(60), "five pictures", || {
        let mut player = Player::real(input, 5);
        let parts = player.parts();
        (parts.len() == 5).then(|| parts.into_iter().map(|part| part.body).collect())
    })
}

#[test]
fn rtsp_cameras_give_pictures() {
    let rtsp = Rtsp::start(&[Mount::new("red", "red"), Mount::new("blue", "blue")]);
    for (mount, color) in [("red", [255, 0, 0]), ("blue", [0, 0, 255])] {
        let url = rtsp.url(mount);
        let pictures = gives_five_pictures(&["-rtsp_transport", "tcp", "-i", &url]);
        let seen = dominant_color(&pictures[4]).unwrap();
        assert!(same_color(seen, color), "{mount}: {seen:?}");
        let picture = decode(&pictures[0]).unwrap();
        assert_eq!((picture.width, picture.height), (320, 240));
    }
}

#[test]
fn rtsp_wants_the_password_if_told_so() {
    let mount = Mount::new("cam", "ball");
    let mut rtsp = Rtsp::start_with(&[mount], Some(("user", "hush")));
    let url = rtsp.url("cam");
    gives_five_pictures(&["-rtsp_transport", "tcp", "-i", &url]);
    let url = rtsp.bare_url("cam");
    let mut player = Player::real(&["-rtsp_transport", "tcp", "-i", &url], 1);
    assert!(player.part().is_none());
    assert!(player.stderr().contains("401"));
    rtsp.kill();
}

#[test]
fn rtmp_http_and_a_film_give_pictures() {
    let (rtmp, http, film) = (Source::rtmp(15), Source::http(15), Film::make());
    // Twice, for a server that serves one client after the other.
    for _ in 0..2 {
        gives_five_pictures(&["-i", rtmp.url()]);
        gives_five_pictures(&["-i", http.url()]);
    }
    gives_five_pictures(&[
        "-re",
        "-stream_loop",
        "-1",
        "-i",
        film.path().to_str().unwrap(),
    ]);
}

#[test]
fn colors_tell_cameras_apart() {
    let color = [200, 40, 90];
    let url = crate::support::sources::color_url(color, 15);
    let graph = url.strip_prefix("lavfi:").unwrap();
    let pictures = gives_five_pictures(&["-f", "lavfi", "-i", graph]);
    let seen = dominant_color(&pictures[0]).unwrap();
    assert!(same_color(seen, color), "{seen:?}");
    assert!(!same_color(seen, [40, 200, 90]));
}
