//! The results as a table and a plot.

use super::case::{Case, Figures, Program};
use std::fmt::Write;
use std::process::Command;

/// All runs, in the order in which they came.
#[derive(Default)]
pub struct Results(Vec<(Case, Program, Vec<Figures>)>);

impl Results {
    pub fn add(&mut self, case: &Case, program: Program, figures: Figures) {
        match self
            .0
            .iter_mut()
            .find(|(c, p, _)| c == case && *p == program)
        {
            Some((_, _, runs)) => runs.push(figures),
            None => self.0.push((case.clone(), program, vec![figures])),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn median(&self, case: &Case, program: Program) -> Option<Figures> {
        let (_, _, runs) = self.0.iter().find(|(c, p, _)| c == case && *p == program)?;
        let of = |pick: fn(&Figures) -> f64| {
            let mut values: Vec<_> = runs.iter().map(pick).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        Some(Figures {
            cpu_s_per_1000: of(|f| f.cpu_s_per_1000),
            rss_mb: of(|f| f.rss_mb),
            threads: of(|f| f.threads),
            delivered_per_s: of(|f| f.delivered_per_s),
            delivered_share: of(|f| f.delivered_share),
            p50_ms: of(|f| f.p50_ms),
            p99_ms: of(|f| f.p99_ms),
            max_ms: of(|f| f.max_ms),
            old: of(|f| f.old),
            start_s: of(|f| f.start_s),
            stop_s: of(|f| f.stop_s),
            rss_growth_mb: of(|f| f.rss_growth_mb),
        })
    }

    fn cases(&self) -> Vec<&Case> {
        let mut cases: Vec<&Case> = vec![];
        for (case, _, _) in &self.0 {
            if !cases.contains(&case) {
                cases.push(case);
            }
        }
        cases
    }

    pub fn markdown(&self, place: &str) -> String {
        let mut text = String::from(HEAD);
        for case in self.cases() {
            if case.freeze.is_some() {
                continue;
            }
            for &program in case.programs {
                let Some(f) = self.median(case, program) else {
                    continue;
                };
                let floor = self.median(case, program.floor());
                let ratio = |pick: fn(&Figures) -> f64| {
                    floor.map_or("-".to_owned(), |floor| {
                        format!("{:.2}", pick(&f) / pick(&floor))
                    })
                };
                let _ = writeln!(
                    text,
                    "| {} | {} | {:.3} | {} | {:.1} | {:.0} | {:.0} | {} | {} | {:.2} / {:.2} / {:.1} |",
                    title(case),
                    program.name(),
                    f.cpu_s_per_1000,
                    ratio(|f| f.cpu_s_per_1000),
                    f.rss_mb,
                    f.threads,
                    f.delivered_per_s,
                    ratio(|f| f.delivered_per_s),
                    // More is sent than any program carries.
                    if case.unpaced() {
                        "-".to_owned()
                    } else {
                        format!("{:.1} %", f.delivered_share * 100.0)
                    },
                    f.p50_ms,
                    f.p99_ms,
                    f.max_ms,
                );
            }
        }
        for case in self
            .cases()
            .into_iter()
            .filter(|case| case.freeze.is_some())
        {
            let _ = write!(text, "{FROZEN}");
            for &program in case.programs {
                let Some(f) = self.median(case, program) else {
                    continue;
                };
                let (name, old) = (program.name(), f.old);
                let _ = writeln!(
                    text,
                    "| {name} | {old:.0} | {:.1} | {:.1} |",
                    f.rss_mb, f.rss_growth_mb
                );
            }
        }
        let most = self.cases().into_iter().max_by_key(|case| case.cameras);
        if let Some((n, f)) =
            most.and_then(|case| Some((case.cameras, self.median(case, Program::EdgeVideo)?)))
        {
            let (start, stop) = (f.start_s, f.stop_s);
            let _ = write!(
                text,
                "\nEdge Video with {n} cameras: the first picture of each camera arrived within {start:.1} s \
                 of the start. It\nstopped within {stop:.1} s.\n"
            );
        }
        let _ = write!(text, "\n## Machine and versions\n\n{place}");
        text
    }

    /// CPU per frame against the number of cameras.
    pub fn plot(&self) -> String {
        let colours = ["#c0392b", "#2471a3", "#b7950b", "#7d6608", "#616a6b"];
        let (left, top, width, height) = (70.0, 30.0, 520.0, 260.0);
        let cases: Vec<_> = self
            .cases()
            .into_iter()
            .filter(|case| case.name == "f")
            .collect();
        let programs = [
            Program::EdgeVideo,
            Program::Ffmpeg,
            Program::Pika,
            Program::Floor,
        ];
        let cost = |case: &Case, program| self.median(case, program).map(|f| f.cpu_s_per_1000);
        let most = cases
            .iter()
            .flat_map(|case| programs.map(|program| cost(case, program)));
        let most = most.flatten().fold(0.0, f64::max) * 1.1;
        let x = |cameras: usize| left + width * (cameras as f64).ln() / 200f64.ln();
        let y = |cost: f64| top + height * (1.0 - cost / most);
        let mut svg = String::from(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 780 350\" font-family=\"sans-serif\" \
             font-size=\"13\">\n<rect width=\"780\" height=\"350\" fill=\"white\"/>\n",
        );
        let mut put = |line: String| svg += &(line + "\n");
        put(format!(
            "<text x=\"{left}\" y=\"18\">CPU seconds per 1000 frames, by number of cameras (5 fps, 60 KB each)</text>"
        ));
        for step in 0..=4 {
            let value = most * f64::from(step) / 4.0;
            let (at, end) = (y(value), left + width);
            put(format!(
                "<line x1=\"{left}\" x2=\"{end}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>"
            ));
            put(format!(
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value:.2}</text>",
                left - 8.0,
                at + 4.0
            ));
        }
        for case in &cases {
            let n = case.cameras;
            put(format!(
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{n}</text>",
                x(n),
                top + height + 20.0
            ));
        }
        put(format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">cameras</text>",
            left + width / 2.0,
            top + height + 42.0
        ));
        for (n, (program, colour)) in programs.into_iter().zip(colours).enumerate() {
            let points: Vec<_> = cases
                .iter()
                .filter_map(|case| Some((x(case.cameras), y(cost(case, program)?))))
                .collect();
            let line: Vec<_> = points
                .iter()
                .map(|(x, y)| format!("{x:.1},{y:.1}"))
                .collect();
            put(format!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                line.join(" ")
            ));
            for (x, y) in points {
                put(format!(
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"
                ));
            }
            let at = top + 10.0 + 20.0 * n as f64;
            put(format!(
                "<rect x=\"605\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>",
                at - 10.0
            ));
            put(format!(
                "<text x=\"622\" y=\"{at}\">{}</text>",
                program.name()
            ));
        }
        svg + "</svg>\n"
    }
}

/// One run, as a line for the terminal.
pub fn line(round: usize, case: &Case, program: Program, f: &Figures) -> String {
    let title = title(case);
    let name = program.name();
    if case.freeze.is_some() {
        return format!(
            "{round}  {title:34} {name:24} {:.0} frames older than 1 s, {:.1} MB more",
            f.old, f.rss_growth_mb
        );
    }
    format!(
        "{round}  {title:34} {name:24} {:.3} CPU s/1000  {:6.1} MB  {:4.0} threads  {:6.0}/s  {:5.1} %  {:.2} / {:.2} / {:.1} ms",
        f.cpu_s_per_1000,
        f.rss_mb,
        f.threads,
        f.delivered_per_s,
        f.delivered_share * 100.0,
        f.p50_ms,
        f.p99_ms,
        f.max_ms
    )
}

fn title(case: &Case) -> String {
    let Case {
        name,
        cameras,
        fps,
        picture_kb,
        units,
        ..
    } = case;
    let fps = match case.unpaced() {
        true => "unpaced".to_owned(),
        false => format!("{fps} fps"),
    };
    let units = if *units { " units" } else { "" };
    format!("({name}) {cameras} x {fps} x {picture_kb} KB{units}")
}

pub fn place(cpus: Option<&str>) -> String {
    let first = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output();
        let text = output.map_or_else(|_| vec![], |output| output.stdout);
        String::from_utf8_lossy(&text)
            .lines()
            .next()
            .unwrap_or("?")
            .to_owned()
    };
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    // Not this program's own affinity, which it has restricted.
    let cores = cpu
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let cpu = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or("?");
    let pinned = match cpus {
        Some(cpus) => {
            format!("the measured program on processors {cpus}, all others on two others")
        }
        None => "no pinning: fewer than 4 processors".to_owned(),
    };
    let commit = first("git", &["describe", "--always", "--dirty", "--abbrev=12"]);
    let broker = first("dpkg-query", &["-W", "-f", "${Version}", "rabbitmq-server"]);
    let pika = first("dpkg-query", &["-W", "-f", "${Version}", "python3-pika"]);
    format!(
        "- {}, {cores} processors; {pinned}\n- Linux {}, {}\n- RabbitMQ {broker}, pika {pika}\n\
         - {}\n- Edge Video {commit}\n",
        cpu.trim_start_matches([' ', '\t', ':']),
        first("uname", &["-r"]),
        first("ffmpeg", &["-version"])
            .split(" Copyright")
            .next()
            .unwrap_or_default(),
        first("rustc", &["--version"]),
    )
}

const HEAD: &str = "# What a frame costs

`make bench` writes this page. Figures are medians of three rounds, in which cases and programs took
turns on one machine: compare rows.

- *CPU s / 1000 frames* is that of the program's own processes, without the load generator.
- *latency* is from the time stamp that the load generator writes into each picture to its arrival
  at a consumer.
- *x floor* compares with the *floor*: the least that carries a picture from a pipe to the broker.
  It is the standard library and one `writev` per message, without confirms, headers, counters,
  supervision or a limit of the age (`benches/throughput/floor.rs`).
- *floor, in three threads* is the same with Edge Video's threads: one reads pictures, one
  publishes, one reads each confirm. Its distance from the floor is the cost of these threads.
- *floor, TLS* is the floor over OpenSSL, the library that Edge Video uses: a message is copied into
  one buffer, which the TLS session gets with one call. Rows with TLS are compared with it. The
  consumer has no TLS.

The programs:

- Edge Video reads pictures from an FFmpeg child. Here the load generator replaces that FFmpeg, and
  is not counted.
- FFmpeg's own amqp output reads the same pictures. With a real camera it needs no second process.
  Its RSS is the sum over its processes, one per camera, with shared libraries counted in each.
- pika: `benches/peer_pika.py`.

In case (b) the camera sends slightly more than the floor carries, which no real camera does, and
Edge Video drops the rest. It has `amqp.max_in_flight: 32` there, the maximum, since the automatic
value follows the configured fps and would be 2. Its two threads stay awake between such frames
(`src/handoff/hurry.rs`); this CPU is not used at the rate of real cameras.

In case (g) the load generator plays an FFmpeg that copies a camera's H.264 (`passthrough` with
`pictures: none`): a line of an index and the bytes of an access unit, on two pipes. The floor reads
the same two pipes. A unit counts as a frame.

![CPU per frame against number of cameras](cpu-per-frame.svg)

| case | program | CPU s / 1000 frames | x floor | RSS MB | threads | frames/s | x floor | delivered | latency p50 / p99 / max ms |
|---|---|---|---|---|---|---|---|---|---|
";

const FROZEN: &str = "
Case (e): the broker is frozen for 10 s during case (a), once. Only Edge Video limits the age.

| program | frames that arrive more than 1 s old | RSS MB before | grows by at most |
|---|---|---|---|
";
