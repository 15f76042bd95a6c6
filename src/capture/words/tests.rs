//! Tests with `ends.txt`: sessions with faults of real cameras, played against FFmpeg 5.1 and 7.1.
//! For each it has how the session ended, FFmpeg's errors, and after `= ` the message that we make
//! of it.

use super::*;

const ENDS: &str = include_str!("ends.txt");

const NOW: Duration = Duration::ZERO;

fn session() -> Session<'static> {
    Session {
        kind: SourceKind::Rtsp,
        transport: Transport::Tcp,
        login: false,
        exit: "exit code 1",
        lines: &[],
        format: None,
        live_for: None,
        lasted: Duration::from_millis(100),
        stale_timeout: Duration::from_secs(5),
    }
}

/// The session of a head such as `== refused, FFmpeg 5.1: rtsp tcp; exit code 1; lasted 0.2`.
fn of_head<'a>(head: &'a str, lines: &'a [(Duration, String)]) -> Session<'a> {
    let (_, facts) = head.split_once(": ").unwrap();
    let mut session = Session { lines, ..session() };
    for fact in facts.split("; ") {
        let (name, value) = fact.split_once(' ').unwrap_or((fact, ""));
        let seconds = || Duration::from_secs_f64(value.parse().unwrap());
        match name {
            "rtsp" => session.kind = SourceKind::Rtsp,
            "rtmp" => session.kind = SourceKind::Rtmp,
            "http" => session.kind = SourceKind::Http,
            "file" => session.kind = SourceKind::File,
            "v4l2" => session.kind = SourceKind::V4l2,
            "lavfi" => session.kind = SourceKind::Lavfi,
            "exit" => session.exit = fact,
            "format" => session.format = Some(value),
            "live" => session.live_for = Some(seconds()),
            "lasted" => session.lasted = seconds(),
            other => panic!("{other} in {head}"),
        }
        match name {
            "exit" | "format" | "live" | "lasted" => {}
            _ => {
                session.login = value.contains("login");
                if value.contains("udp") {
                    session.transport = Transport::Udp;
                }
            }
        }
    }
    session
}

#[test]
fn each_end_of_a_session_is_said_in_the_users_words() {
    let mut wrong = String::new();
    let mut cases = 0;
    for case in ENDS.split("\n\n").filter(|case| !case.trim().is_empty()) {
        cases += 1;
        let (head, rest) = case.split_once('\n').unwrap();
        let (said, expected) = rest.trim_end().rsplit_once("= ").unwrap();
        let lines: Vec<_> = said.lines().map(|line| (NOW, line.to_owned())).collect();
        let Explained { full, brief } = explain(&of_head(head, &lines));
        assert!(full.starts_with(&brief), "{head}: {brief}, {full}");
        if full != expected {
            wrong += &format!("{head}\n= {full}\n");
        }
    }
    assert!(cases > 80, "{cases}");
    assert!(wrong.is_empty(), "\n{wrong}");
}

fn lines(of: &[(u64, &str)]) -> Vec<(Duration, String)> {
    of.iter()
        .map(|&(age, line)| (Duration::from_secs(age), line.to_owned()))
        .collect()
}

#[test]
fn lines_of_long_ago_are_not_the_cause() {
    let lines = lines(&[
        (
            4,
            "[tcp] Connection to tcp://h:554 failed: Connection refused",
        ),
        (0, "[rtsp] something new"),
    ]);
    let said = explain(&Session {
        lines: &lines,
        ..session()
    });
    assert_eq!(
        said.full,
        "FFmpeg ended (exit code 1): [rtsp] something new"
    );
    assert_eq!(quote(&lines), "[rtsp] something new");
    assert_eq!(quote(&lines[..1]), "");
}

#[test]
fn an_end_that_is_not_known_quotes_what_says_something() {
    let lines = lines(&[
        (0, "[mjpeg] overread 8"),
        (0, "[mjpeg] overread 8"),
        (0, "[vf#0:0] Error while filtering: Cannot allocate memory"),
        (
            0,
            "[vf#0:0] Task finished with error code: -12 (Cannot allocate memory)",
        ),
        (
            0,
            "[vf#0:0] Terminating thread with return code -12 (Cannot allocate memory)",
        ),
    ]);
    let session = Session {
        lines: &lines,
        exit: "exit code 244",
        ..session()
    };
    assert_eq!(
        explain(&session).full,
        "FFmpeg ended (exit code 244): [mjpeg] overread 8 | [vf#0:0] Error while filtering: Cannot \
         allocate memory"
    );
}

#[test]
fn an_end_without_a_word_is_told_by_its_code_or_signal() {
    for exit in ["exit code 0", "exit code 3", "signal 9"] {
        let said = explain(&Session { exit, ..session() });
        assert_eq!(said.full, format!("FFmpeg ended ({exit})"));
    }
}

#[test]
fn the_transport_that_is_named_is_not_the_refused_one() {
    let lines = lines(&[(0, "[rtsp] method SETUP failed: 461 Unsupported Transport")]);
    for (transport, hint) in [
        (Transport::Tcp, "set transport: udp"),
        (Transport::Udp, "set transport: tcp"),
        (Transport::Auto, "set transport: tcp or udp"),
    ] {
        let said = explain(&Session {
            transport,
            lines: &lines,
            ..session()
        });
        assert!(said.full.ends_with(hint), "{}", said.full);
    }
}

#[test]
fn times_are_said_in_steps() {
    for (secs, said) in [
        (0.2, "0 s"),
        (9.4, "9 s"),
        (9.6, "10 s"),
        (13.0, "15 s"),
        (57.0, "55 s"),
        (58.0, "1 min"),
        (100.0, "2 min"),
        (3500.0, "58 min"),
        (20_000.0, "6 h"),
    ] {
        assert_eq!(span(Duration::from_secs_f64(secs)), said);
    }
}

/// Not played: they need a camera at this host, and a user without rights.
#[test]
fn devices_that_cannot_be_opened_are_told_apart() {
    for (line, full) in [
        (
            "[video4linux2,v4l2] ioctl(VIDIOC_STREAMON): Device or resource busy",
            "the device is busy: another program uses it; end that program",
        ),
        (
            "[video4linux2,v4l2] Cannot open video device /dev/video0: Permission denied",
            "permission denied: the service's user may not read it; for a device add the user to the \
             group video",
        ),
        (
            "/dev/video0: No such device",
            "no such device: it was unplugged, or is not a camera; check the url",
        ),
    ] {
        let lines = lines(&[(0, line)]);
        let said = explain(&Session {
            kind: SourceKind::V4l2,
            lines: &lines,
            ..session()
        });
        assert_eq!(said.full, full);
    }
}

#[test]
fn a_broken_picture_before_the_end_does_not_hide_that_the_camera_hung_up() {
    let lines = lines(&[(1, "[mjpeg] overread 8")]);
    let said = explain(&Session {
        exit: "exit code 0",
        lines: &lines,
        live_for: Some(Duration::from_secs(27)),
        ..session()
    });
    assert_eq!(
        said.full,
        "the camera closed the connection after 25 s of pictures"
    );
}
