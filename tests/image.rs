//! What the container image declares agrees with how its users start it.

use crate::support::program::Call;
use serde_json::Value;
use std::path::Path;

fn file(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The image's configuration; `scripts/image` adds the user and the version to it.
fn image() -> Value {
    serde_json::from_str(&file("packaging/image.json")).unwrap()
}

/// The name that `scripts/image` gives the image: a tag may not have a `~` or `+`.
fn image_name() -> String {
    let changelog = file("packaging/changelog");
    let (_, version) = changelog.lines().next().unwrap().split_once('(').unwrap();
    let (version, _) = version.split_once(')').unwrap();
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let tag = version.replace(|c| !allowed(c), "-");
    format!("edge-video:{tag}")
}

/// The names in a map of the image.
fn keys(map: &Value) -> Vec<&str> {
    map.as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

/// A list of the service, one string per item.
fn texts(list: &Value) -> Vec<&str> {
    let items = list.as_array().unwrap().iter();
    items.map(|item| item.as_str().unwrap()).collect()
}

#[test]
fn the_compose_file_starts_the_image_as_the_image_wants_it() {
    let compose: Value = serde_yaml::from_str(&file("packaging/compose.yaml")).unwrap();
    let service = &compose["services"]["edge-video"];
    let image = image();
    assert_eq!(service["image"], *image_name());

    // The image defines these itself, so the compose file must not.
    let of_image = [
        ("Entrypoint", "entrypoint"),
        ("Cmd", "command"),
        ("WorkingDir", "working_dir"),
        ("StopSignal", "stop_signal"),
        ("Healthcheck", "healthcheck"),
    ];
    for (key, option) in of_image {
        assert!(!image[key].is_null(), "the image has no {key}");
        assert!(
            service[option].is_null(),
            "{option} overrides the image's {key}"
        );
    }
    // The image gets its user from scripts/image.
    assert!(service["user"].is_null(), "user overrides the image's");
    for entry in texts(&image["Env"]) {
        let name = entry.split('=').next().unwrap();
        assert!(
            service["environment"][name].is_null(),
            "{name} overrides the image's"
        );
    }

    let [volume] = keys(&image["Volumes"])[..] else {
        panic!("one volume, since one is mounted");
    };
    assert_eq!(
        texts(&service["volumes"]),
        [format!("{volume}:{volume}:ro")]
    );
    let [port] = keys(&image["ExposedPorts"])[..] else {
        panic!("one port, since one is published");
    };
    let port = port.strip_suffix("/tcp").unwrap();
    assert_eq!(
        texts(&service["ports"]),
        [format!("127.0.0.1:{port}:{port}")]
    );
    assert_eq!(service["read_only"], true);
}

#[test]
fn the_health_check_asks_the_port_that_is_exposed_and_listened_on() {
    let image = image();
    // The image format has no health check, so Podman's users name the program.
    let program = texts(&image["Healthcheck"]["Test"])[1];
    let put = format!("packaging/healthy \\\"\\$1{program}\\\"");
    assert!(file("scripts/image").contains(&put), "no {put}");
    let quadlet = file("docs/container.md");
    let quadlet = block(&quadlet, "[Container]");
    let line = format!("HealthCmd={program}");
    assert!(quadlet.lines().any(|it| it == line), "no {line}");
    let check = file("packaging/healthy");
    let [port] = keys(&image["ExposedPorts"])[..] else {
        panic!("one port, since one is asked");
    };
    let port = port.strip_suffix("/tcp").unwrap();
    assert!(
        check.contains(&format!("/dev/tcp/127.0.0.1/{port} ")),
        "{check}"
    );
    assert!(check.contains("'GET /livez HTTP/1.0"), "{check}");
    let listen = format!("#listen: 127.0.0.1:{port}\n");
    assert!(file("config.yaml").contains(&listen), "no {listen}");
}

#[test]
fn the_configuration_in_the_compose_file_is_accepted_and_fits_it() {
    let text = file("packaging/compose.yaml");
    let compose: Value = serde_yaml::from_str(&text).unwrap();
    let config: String = text
        .lines()
        .filter_map(|line| line.strip_prefix("#   "))
        .map(|line| format!("{line}\n"))
        .collect();
    let ended = Call::new(&["check"])
        .file("config.yaml", &config)
        .env("AMQP_PASSWORD", "letters4")
        .run();
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);

    let config: Value = serde_yaml::from_str(&config).unwrap();
    let broker = &compose["services"]["rabbitmq"];
    let user = broker["environment"]["RABBITMQ_DEFAULT_USER"]
        .as_str()
        .unwrap();
    let url = format!("amqp://{user}:${{AMQP_PASSWORD}}@rabbitmq:5672/");
    assert_eq!(config["amqp"]["url"], *url);
    let password = &broker["environment"]["RABBITMQ_DEFAULT_PASS"];
    let environment = &compose["services"]["edge-video"]["environment"];
    assert_eq!(environment["AMQP_PASSWORD"], *password);
    let image = image();
    let port = keys(&image["ExposedPorts"])[0]
        .strip_suffix("/tcp")
        .unwrap();
    assert_eq!(config["http"]["listen"], *format!("0.0.0.0:{port}"));
}

#[test]
fn the_container_guide_starts_the_image_as_the_compose_file_does() {
    let guide = file("docs/container.md");
    let compose: Value = serde_yaml::from_str(&file("packaging/compose.yaml")).unwrap();
    let service = &compose["services"]["edge-video"];
    let [volume] = texts(&service["volumes"])[..] else {
        panic!("one volume");
    };
    let [port] = texts(&service["ports"])[..] else {
        panic!("one port");
    };
    let name = image_name();

    let run = block(&guide, "docker run ");
    let words: Vec<_> = run.split_whitespace().collect();
    assert!(words.contains(&name.as_str()), "{run}");
    for option in [["-v", volume], ["-p", port], ["--cap-drop", "ALL"]] {
        assert!(words.windows(2).any(|pair| pair == option), "{option:?}");
    }
    assert!(words.contains(&"--read-only"), "{run}");

    let quadlet = block(&guide, "[Container]");
    let lines: Vec<_> = quadlet.lines().collect();
    for line in [
        format!("Image=docker.io/library/{name}"),
        format!("Volume={volume}"),
        format!("PublishPort={port}"),
        "ReadOnly=true".to_owned(),
        "DropCapability=all".to_owned(),
    ] {
        assert!(lines.contains(&line.as_str()), "no {line}");
    }

    // Who must be able to read the configuration.
    let script = file("scripts/image");
    let user = script.lines().find_map(|line| line.strip_prefix("user="));
    let install = block(&guide, "sudo install ");
    for line in install.lines() {
        assert!(line.contains(&format!(" -g {} ", user.unwrap())), "{line}");
    }
}

/// The guide's code block that begins so.
fn block<'a>(guide: &'a str, start: &str) -> &'a str {
    let blocks = guide.split("```").skip(1).step_by(2);
    let mut contents = blocks.filter_map(|block| Some(block.split_once('\n')?.1));
    contents.find(|text| text.starts_with(start)).unwrap()
}
