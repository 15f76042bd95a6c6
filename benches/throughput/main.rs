//! `make bench`: what a frame costs, compared with alternatives and with the floor. See
//! `benches/RESULTS.md`, which this program writes.
//!
//! One program with several roles, chosen by its arguments: the bench itself, the load generator
//! that the daemon runs as FFmpeg (`load.rs`), and the floor (`floor.rs`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    missing_docs,
    unreachable_pub,
    reason = "a program that stops where it cannot go on"
)]

mod amqp;
mod case;
mod consumer;
mod floor;
mod h264;
mod load;
mod process;
mod report;
mod rtsp;
mod stamp;

use case::{Case, Program, Stand};
use std::path::Path;
use std::time::Duration;

const WITH_PEERS: &[Program] = &[
    Program::EdgeVideo,
    Program::Ffmpeg,
    Program::Pika,
    Program::Floor,
];
/// What threads and TLS cost, too.
const ALL: &[Program] = &[
    Program::EdgeVideo,
    Program::Ffmpeg,
    Program::Pika,
    Program::FloorInThreads,
    Program::Floor,
    Program::EdgeVideoTls,
    Program::FloorTls,
];
const US_AND_FLOOR: &[Program] = &[Program::EdgeVideo, Program::Floor];
const US_AND_FLOORS: &[Program] = &[Program::EdgeVideo, Program::Floor, Program::FloorInThreads];

/// Instead of a case's fps: slightly more than the floor carries.
const CALIBRATE: u32 = 0;

fn cases() -> Vec<Case> {
    let case = |name, cameras, fps, picture_kb, seconds: f64| Case {
        name,
        cameras,
        fps,
        picture_kb,
        units: false,
        span: Duration::from_secs_f64(seconds),
        freeze: None,
        programs: WITH_PEERS,
        rounds: 3,
    };
    let mut cases = vec![
        Case {
            programs: ALL,
            ..case("a", 6, 15, 100, 3.0)
        },
        case("b", 1, CALIBRATE, 60, 1.5),
        case("b", 1, CALIBRATE, 100, 1.5),
        case("b", 1, CALIBRATE, 340, 1.5),
        Case {
            programs: ALL,
            ..case("c", 50, 10, 60, 2.0)
        },
        case("d", 100, 15, 60, 2.0),
        Case {
            // The result varies by one or two frames only.
            rounds: 1,
            freeze: Some(Duration::from_secs(10)),
            ..case("e", 6, 15, 100, 0.0)
        },
    ];
    for cameras in [1, 10, 50, 100, 200] {
        cases.push(Case {
            programs: if cameras <= 10 {
                WITH_PEERS
            } else {
                US_AND_FLOOR
            },
            // So that one camera sends enough frames.
            ..case("f", cameras, 5, 60, if cameras == 1 { 4.0 } else { 2.0 })
        });
    }
    cases.push(Case {
        units: true,
        programs: US_AND_FLOORS,
        ..case("g", 100, 15, 25, 2.0)
    });
    cases
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if load::answer(&args) || floor::run_if_asked(&args) || rtsp::run_if_asked(&args) {
        return;
    }
    if let Some(input) = load::wanted(&args) {
        return load::play(&args, input);
    }
    bench(&args);
}

fn bench(args: &[String]) {
    // For a single measurement, without writing results: `--only a,f`, `--rounds N`,
    // `--span SECONDS`, `--programs N` (the first N), `--program EDGE_VIDEO`,
    // `--amqp 'KEY: VALUE'`, `--cameras N` (for `rtsp`).
    let option = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1).cloned()
    };
    let only = option("--only");
    let span = option("--span").map(|span| Duration::from_secs_f64(span.parse().unwrap()));
    let rounds = option("--rounds").map(|rounds| rounds.parse().unwrap());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("throughput");
    std::fs::create_dir_all(&folder).unwrap();
    let (cpus, load_cpus) = processors();
    // Now, since writing the results changes the tree.
    let place = report::place(cpus);
    // Also this program, which is the consumer.
    load::stay_on(load_cpus.unwrap_or_default());
    let stand = Stand {
        broker: process::Broker::start(&folder.join("broker").display().to_string(), load_cpus),
        folder,
        cpus,
        load_cpus,
        edge_video: option("--program")
            .unwrap_or_else(|| env!("CARGO_BIN_EXE_edge-video").to_owned()),
        ourselves: std::env::current_exe().unwrap().display().to_string(),
        more_config: option("--amqp").map_or_else(String::new, |line| format!("  {line}\n")),
    };
    let mut cases: Vec<_> = cases()
        .into_iter()
        .map(|case| Case {
            span: span.unwrap_or(case.span),
            ..case
        })
        .filter(|case| {
            only.as_ref()
                .is_none_or(|only| only.split(',').any(|name| name == case.name))
        })
        .collect();
    let programs = option("--programs").map_or(usize::MAX, |programs| programs.parse().unwrap());
    // Not as fast as it is read: Edge Video reads everything and drops frames, so the load would
    // use the processors that the broker needs.
    for case in cases.iter_mut().filter(|case| case.fps == CALIBRATE) {
        let carried = stand.run(case, Program::Floor).delivered_per_s;
        case.fps = (carried * 1.1) as u32;
        eprintln!(
            "-  {} KB: the floor carries {carried:.0}/s",
            case.picture_kb
        );
    }
    let mut results = report::Results::default();
    let most = cases.iter().map(|case| case.rounds).max().unwrap_or(0);
    for round in 0..rounds.unwrap_or(most) {
        for case in cases
            .iter()
            .filter(|case| round < rounds.unwrap_or(case.rounds))
        {
            for &program in case.programs.iter().take(programs) {
                let figures = stand.run(case, program);
                eprintln!("{}", report::line(round, case, program, &figures));
                results.add(case, program, figures);
            }
        }
        if only.is_none() && rounds.is_none() {
            let benches = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches");
            std::fs::write(benches.join("RESULTS.md"), results.markdown(&place)).unwrap();
            std::fs::write(benches.join("cpu-per-frame.svg"), results.plot()).unwrap();
        }
    }
    if !results.is_empty() {
        println!("{}", results.markdown(&place));
    }
    let wanted = |case: &str| {
        let only = only.as_ref();
        only.is_none_or(|only| only.split(',').any(|name| name == case))
    };
    let mut text = String::new();
    if wanted("h264") {
        text += &h264::table(&stand, rounds);
    }
    if wanted("rtsp") {
        let cameras = option("--cameras").map(|cameras| cameras.parse().unwrap());
        text += &h264::many(&stand, cameras);
    }
    if !text.is_empty() {
        text = format!("{}{text}\n{place}", h264::HEAD);
        println!("{text}");
        // Also for a single measurement, since the file has no other results.
        if rounds.is_none() && wanted("h264") {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/BOARD.md");
            std::fs::write(path, text).unwrap();
        }
    }
}

/// Two processors for the measured program, two others for broker, load and consumer, if there are
/// four.
fn processors() -> (Option<&'static str>, Option<&'static str>) {
    match std::thread::available_parallelism().map_or(1, usize::from) {
        0..4 => (None, None),
        _ => (Some("2,3"), Some("0,1")),
    }
}
