//! The status page in a real browser.

use crate::support::chromium::Chromium;
use crate::support::daemon::Daemon;
use crate::support::guarded::pid_of;
use crate::support::http::{Http, ON};
use crate::support::rabbit::Rabbit;
use crate::support::{SOON, fake_config, wait_until};
use rustix::process::{Signal, kill_process};
use std::time::{Duration, Instant};

fn page(http: Http) -> String {
    format!("http://{}/", http.address)
}

/// The tile of this camera.
fn tile(id: &str) -> String {
    format!("document.querySelector('[data-id=\"{id}\"]')")
}

#[test]
fn tiles_live_and_a_dead_camera_turns_red_within_two_seconds_of_its_watchdog() {
    let rabbit = Rabbit::shared();
    let cameras = [
        ("cam-a", "stream,tag=cam-a,fps=5".to_owned()),
        ("cam-b", "stream,tag=cam-b,fps=5".to_owned()),
        ("cam-c", "stream,tag=cam-c,fps=5".to_owned()),
    ];
    let more =
        format!("{ON}circuit_breaker: {{initial_backoff: 10m, max_backoff: 10m, max_failures: 1}}");
    let config = fake_config(&rabbit.url(), "browser.tiles", &more, &cameras);
    let browser = Chromium::start();
    let mut daemon = Daemon::start(&config);
    for id in ["cam-a", "cam-b", "cam-c"] {
        daemon.wait_for_log(&format!("{id}: live"), SOON);
    }
    let http = daemon.http();
    browser.open(&page(http));
    assert_eq!(
        browser.run("return document.querySelectorAll('.tile').length"),
        3
    );
    // A tile is `poor` if the camera lost some frames at its start.
    wait_until(SOON, "all to be live", || {
        browser.holds("document.querySelectorAll('.tile.ok, .tile.poor').length === 3")
    });
    for id in ["cam-a", "cam-b", "cam-c"] {
        let picture = format!("{}.querySelector('img')", tile(id));
        wait_until(SOON, "a picture", || {
            browser.holds(&format!("{picture}.naturalWidth === 320"))
        });
        // The pixels change, not only the address of the picture.
        let pixels = format!(
            "const canvas = document.createElement('canvas'); canvas.width = 320; canvas.height = 240; \
             const context = canvas.getContext('2d'); context.drawImage({picture}, 0, 0); \
             return canvas.toDataURL()"
        );
        let first = browser.run(&pixels);
        wait_until(SOON, "another picture", || browser.run(&pixels) != first);
    }

    // The FFmpeg is stopped, so the watchdog acts after 5 s. A second camera is tried in case the
    // machine paused.
    let mut dead = 0;
    let in_time = ["cam-b", "cam-c"].iter().any(|id| {
        let ffmpeg = daemon.children().into_iter().find(|pid| {
            let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline"));
            command.is_ok_and(|command| command.contains(&format!("tag={id}")))
        });
        kill_process(pid_of(ffmpeg.unwrap()), Signal::STOP).unwrap();
        dead += 1;
        let stopped = Instant::now();
        let red = format!("{}.classList.contains('down')", tile(id));
        wait_until(SOON, "red", || browser.holds(&red));
        let red_after = stopped.elapsed();
        eprintln!("red {red_after:?} after the last frame");
        red_after < Duration::from_secs(5 + 2)
    });
    assert!(in_time);
    daemon.wait_for_log("cam-b: no frame for 5 s", SOON);
    wait_until(SOON, "no old picture", || {
        browser.holds(&format!(
            "getComputedStyle({}.querySelector('img')).visibility === 'hidden'",
            tile("cam-b")
        ))
    });
    // The camera is marked not only by colour, and comes first.
    assert!(browser.text("[data-id=cam-b] .badge").contains("Down"));
    assert!(browser.holds(&format!(
        "getComputedStyle({}.querySelector('.plot svg')).visibility === 'visible'",
        tile("cam-a")
    )));
    wait_until(SOON, "the reason", || {
        let words = browser.text("[data-id=cam-b] .words");
        words.starts_with("next try in ") && words.contains("no frame for 5 s")
    });
    assert!(browser.holds(&format!(
        "{} === document.querySelector('.tile')",
        tile("cam-b")
    )));
    let are_down = ["1 of 3 cameras is down", "2 of 3 cameras are down"][dead - 1];
    wait_until(SOON, are_down, || {
        browser.text("h1 [role=status]").contains(are_down)
    });
    assert_eq!(browser.complaints(), [] as [&str; 0]);

    // The page shows that it has no connection.
    daemon.terminate();
    wait_until(SOON, "the page to say so", || {
        browser.holds("!document.getElementById('lost').hidden")
    });
    assert!(
        browser
            .text("#lost")
            .starts_with("Edge Video does not answer.")
    );
    let hidden = "[...document.querySelectorAll('.view img')].every(img => \
        getComputedStyle(img).visibility === 'hidden')";
    assert!(
        browser.holds(hidden),
        "no picture is shown as if it were new"
    );
}

#[test]
fn it_is_for_phones_keyboards_and_screen_readers_and_a_hundred_cameras() {
    let rabbit = Rabbit::shared();
    let ids: Vec<String> = (1..=100).map(|n| format!("cam-{n:03}")).collect();
    let cameras: Vec<_> = ids
        .iter()
        .map(|id| {
            let play = match id.as_str() {
                "cam-077" => "exit,n=0,code=3".to_owned(),
                _ => format!("stream,fps=1,size=6000,tag={id}"),
            };
            (id.as_str(), play)
        })
        .collect();
    let config = fake_config(&rabbit.url(), "browser.hundred", ON, &cameras);
    let daemon = Daemon::start(&config);
    let http = daemon.http();
    let limit = Duration::from_secs(60);
    wait_until(limit, "99 cameras", || {
        http.get("/status").json()["total"]["live"]
            .as_u64()
            .unwrap()
            >= 99
    });
    let browser = Chromium::start();
    browser.resize(390, 844);
    browser.open(&page(http));
    assert_eq!(
        browser.run("return document.querySelectorAll('.tile').length"),
        100
    );
    for width in [320, 390, 768, 1280, 2560] {
        browser.resize(width, 900);
        let wide = browser.run("return document.documentElement.scrollWidth");
        assert_eq!(wide, width, "nothing to scroll sideways");
    }
    // A camera that is down comes first, whatever its place in the configuration.
    wait_until(SOON, "the one that is down", || {
        browser.holds(&format!(
            "{} === document.querySelector('.tile')",
            tile("cam-077")
        ))
    });
    // Every control has a name, each picture an alternative, each camera a heading.
    let named = "[...document.querySelectorAll('a, input, summary, [role=img]')].every(it => \
        it.textContent.trim() || it.getAttribute('aria-label') || it.labels?.[0]?.textContent.trim() \
        || it.querySelector('img[alt]'))";
    assert!(browser.holds(named));
    assert!(browser.holds("document.querySelectorAll('h1').length === 1"));
    assert!(browser.holds("document.querySelectorAll('h2').length === 100"));
    assert!(browser.holds("document.documentElement.lang === 'en'"));

    // By keyboard: to the search, to one camera, to its details.
    for _ in 0..10 {
        browser.press("\u{E004}");
        if browser.holds("document.activeElement.id === 'find'") {
            break;
        }
    }
    browser.press("cam-042");
    let shown = "[...document.querySelectorAll('.tile')].filter(tile => !tile.hidden)";
    wait_until(SOON, "one tile", || {
        browser.holds(&format!("{shown}.length === 1"))
    });
    browser.press("\u{E004}\u{E004}");
    assert!(browser.holds("document.activeElement.matches('[data-id=cam-042] a.view')"));
    browser.press("\u{E004}\u{E007}");
    assert!(browser.holds(&format!(
        "{}.querySelector('details').open",
        tile("cam-042")
    )));
    browser.run(
        "document.getElementById('find').value = ''; document.getElementById('problems').click()",
    );
    let problems =
        format!("{shown}.length < 50 && {shown}.some(it => it.dataset.id === 'cam-077')");
    wait_until(SOON, "problems only", || browser.holds(&problems));
    assert!(
        browser.complaints().is_empty(),
        "{:?}",
        browser.complaints()
    );
}

/// What the tile of a camera without a frame shows instead of delay, picture, both scales and the
/// label of the plots, without repetitions. Fails if a plot is drawn.
fn values_without_a_frame(browser: &Chromium, id: &str) -> String {
    let tile = tile(id);
    assert!(browser.holds(&format!(
        "[...{tile}.querySelectorAll('.plot svg')].every(plot => \
         getComputedStyle(plot).visibility === 'hidden')"
    )));
    let values = browser.run(&format!(
        "const texts = {tile}.querySelectorAll(\
         '[data-text=latency], [data-text=picture], [data-plot]'); \
         const label = {tile}.querySelector('.plots').getAttribute('aria-label'); \
         return [...new Set([...texts].map(it => it.textContent)\
         .concat(label.replace('The last ten minutes: ', '')))].join(', ')"
    ));
    values.as_str().unwrap().to_owned()
}

/// Contrast of text against what is behind it, as WCAG 2 defines it, of all texts on the page.
const LEAST_CONTRAST: &str = "
    const parse = color => color.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
        .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
    const behind = it => {
        for (; it; it = it.parentElement) {
            const color = parse(getComputedStyle(it).backgroundColor);
            if (color[3] === undefined || color[3] > 0.99) return color;
        }
        return [255, 255, 255];
    };
    let least = 99;
    for (const it of document.querySelectorAll('body *')) {
        const own = [...it.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
        if (!own || it.closest('script, style, .aside') || !it.getClientRects().length) continue;
        const [a, b] = [light(parse(getComputedStyle(it).color)), light(behind(it))];
        least = Math.min(least, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
    }
    return least";

#[test]
fn it_is_readable_in_the_light_and_in_the_dark_and_without_javascript() {
    let rabbit = Rabbit::shared();
    let cameras = [
        ("cam-a", "stream,tag=cam-a".to_owned()),
        ("cam-b", "exit,n=0".to_owned()),
        ("cam-c", "silent".to_owned()),
    ];
    let config = fake_config(&rabbit.url(), "browser.contrast", ON, &cameras);
    let daemon = Daemon::start(&config);
    daemon.wait_for_log("cam-a: live", SOON);
    daemon.wait_for_log("cam-b: FFmpeg ended", SOON);
    let browser = Chromium::start();
    for scheme in ["light", "dark"] {
        let feature = serde_json::json!({"name": "prefers-color-scheme", "value": scheme});
        browser.devtools(
            "Emulation.setEmulatedMedia",
            &serde_json::json!({"features": [feature]}),
        );
        browser.open(&page(daemon.http()));
        let least = browser.run(LEAST_CONTRAST).as_f64().unwrap();
        assert!(least >= 4.5, "{scheme}: a contrast of {least:.2}");
    }
    let off = serde_json::json!({"value": true});
    browser.devtools("Emulation.setScriptExecutionDisabled", &off);
    browser.open(&page(daemon.http()));
    browser.devtools(
        "Emulation.setScriptExecutionDisabled",
        &serde_json::json!({"value": false}),
    );
    wait_until(SOON, "the picture", || {
        browser.holds(&format!(
            "{}.querySelector('img').naturalWidth === 320",
            tile("cam-a")
        ))
    });
    assert!(
        browser
            .text("[data-id=cam-b] .words")
            .contains("FFmpeg ended")
    );
    for id in ["cam-b", "cam-c"] {
        assert_eq!(values_without_a_frame(&browser, id), "no data");
    }
    assert!(
        browser.complaints().is_empty(),
        "{:?}",
        browser.complaints()
    );
}
