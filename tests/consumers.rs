//! The example of a consumer of video, and the commands of docs/consumers.md.

use crate::guides::blocks;
use crate::support::daemon::Daemon;
use crate::support::guarded::{self, Guarded};
use crate::support::rabbit::Rabbit;
use crate::support::{SOON, TempDir, wait_until};
use crate::watch_video::{Units, film, pictures, saved};
use amiquip::Connection;
use rustix::process::Signal;
use std::fs::File;
use std::path::Path;

const EXAMPLE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/packaging/examples/consume_video.py"
);

/// Runs the line in this folder, with Edge Video and Debian's Python. What it prints goes to the
/// file `name`, and what FFplay reports to `name.report`. FFplay gets a display that shows nothing.
fn shell(folder: &Path, name: &str, line: &str) -> Guarded {
    let program = Path::new(env!("CARGO_BIN_EXE_edge-video"));
    let path = std::env::var("PATH").unwrap();
    let path = format!("/usr/bin:{}:{path}", program.parent().unwrap().display());
    let output = File::create(folder.join(name)).unwrap();
    let mut command = guarded::command("sh", None);
    command
        .args(["-c", line])
        .current_dir(folder)
        .env("PATH", path)
        .env("SDL_VIDEODRIVER", "dummy")
        .env("FFREPORT", format!("file={name}.report:level=32"))
        .stdout(output.try_clone().unwrap())
        .stderr(output);
    Guarded::spawn(&mut command)
}

fn read(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap_or_default()
}

#[test]
fn the_commands_of_the_guide_for_consumers_show_and_play_the_video_of_a_camera() {
    let (rabbit, folder) = (Rabbit::start(), TempDir::new("consumers"));
    let folder = folder.path();
    let film = film(folder, "libx264", false, 4);
    let mut daemon = Daemon::start(&format!(
        "passthrough: true\npictures: none\namqp: {{url: \"{}\"}}\n\
         cameras: [{{id: door, url: \"{}\"}}]\n",
        rabbit.url(),
        film.display()
    ));
    daemon.wait_for_log("door: live", SOON);
    std::fs::copy(EXAMPLE, folder.join("consume_video.py")).unwrap();
    let broker = "amqp://user:password@broker.example/";
    let commands = blocks("consumers.md", "sh").concat();
    let commands = commands.replace(broker, &rabbit.url());
    let commands: Vec<_> = commands.lines().collect();
    let [python, watch, play, live] = commands[..] else {
        panic!("{commands:?}");
    };

    let mut python = shell(folder, "python", &format!("{python} --pictures 30"));
    assert!(
        python.wait(2 * SOON).success(),
        "{}",
        read(folder, "python")
    );
    let said = read(folder, "python");
    let begins = "waiting for video from cameras.video\n";
    let last = said.lines().last().unwrap();
    assert!(
        said.starts_with(begins) && last.starts_with("door 320x240: 30 pictures, "),
        "{said}"
    );

    let mut watch = shell(folder, "watch", &format!("exec env {watch}"));
    let videos = folder.join("video");
    wait_until(2 * SOON, "a film", || {
        let file = saved(&videos, "door", "h264");
        file.is_some_and(|file| file.metadata().unwrap().len() > 50_000)
    });
    let is_played = |name: &str| {
        let report = read(folder, &format!("{name}.report"));
        report.contains("Input #0, h264") && report.contains("320x240")
    };
    let live = shell(folder, "live", live);
    wait_until(2 * SOON, "a live picture", || is_played("live"));
    drop(live);
    watch.signal(Signal::INT);
    assert!(watch.wait(SOON).success(), "{}", read(folder, "watch"));
    daemon.terminate();

    let mut play = shell(folder, "play", play);
    assert!(play.wait(3 * SOON).success(), "{}", read(folder, "play"));
    assert!(is_played("play"), "{}", read(folder, "play"));
    assert!(pictures(&saved(&videos, "door", "h264").unwrap()) > 0);
}

#[test]
fn the_example_waits_for_a_key_after_a_gap_and_decodes_the_rest() {
    let (rabbit, folder) = (Rabbit::shared(), TempDir::new("consume-video"));
    let folder = folder.path();
    let units = Units::new(folder);
    let keys = &units.keys;
    let url = rabbit.url();
    let line = |exchange: &str| {
        format!("exec python3 {EXAMPLE} {url} --exchange {exchange} --pictures 40")
    };
    // The end of the second group is missing, as the publisher drops units; or one unit in its
    // middle, which the publisher never does.
    let one = keys[1] + 3;
    for (exchange, lost, skipped) in [
        ("consume.kept", keys[2] - 4..keys[2], 0),
        ("consume.broken", one..one + 1, keys[2] - one - 1),
    ] {
        let mut example = shell(folder, exchange, &line(exchange));
        let waits = format!("waiting for video from {exchange}\n");
        wait_until(SOON, "its queue", || read(folder, exchange) == waits);
        let mut connection = Connection::insecure_open(&url).unwrap();
        let channel = connection.open_channel(None).unwrap();
        units.publish(&channel, exchange, "door", lost);
        let status = example.wait(2 * SOON);
        let said = read(folder, exchange);
        let last = format!("door 320x240: 40 pictures, 1 gaps, {skipped} units skipped\n");
        assert!(status.success() && said.ends_with(&last), "{said}");
    }
}
