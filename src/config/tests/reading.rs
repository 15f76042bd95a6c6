//! Tests of how YAML, variables and files are read.

use super::*;

#[test]
fn scalars_are_taken_as_written_where_text_is_wanted() {
    for (id, wanted) in [
        ("007", "007"),
        ("1", "1"),
        ("1.10", "1.10"),
        ("0x1F", "0x1F"),
        ("true", "true"),
        ("1e3", "1e3"),
    ] {
        assert_eq!(&*camera(&format!("id: {id}, url: /x")).id, wanted);
    }
    let rate = config(&format!("{CAMERA}fps: 10.0\nquality: 0x10"));
    assert_eq!((rate.cameras[0].fps, rate.cameras[0].quality), (10, 16));
    for (word, wanted) in [
        ("yes", true),
        ("On", true),
        ("NO", false),
        ("off", false),
        ("True", true),
    ] {
        assert_eq!(
            config(&format!("{CAMERA}http: {{enabled: {word}}}"))
                .http
                .enabled,
            wanted
        );
    }
}

#[test]
fn anchors_and_merge_keys_work() {
    let config = config(
        "
cameras:
  - &base {id: a, url: /a, fps: 5, quality: 9}
  - <<: *base
    id: b
    fps: 6
  - <<: [{id: c}, *base]
  - {id: d, url: /d, input_args: &args [-an]}
  - {id: e, url: /e, input_args: *args}
",
    );
    let got: Vec<_> = config
        .cameras
        .iter()
        .map(|c| (&*c.id, c.fps, c.quality, c.input_args.len()))
        .collect();
    assert_eq!(
        got,
        [
            ("a", 5, 9, 0),
            ("b", 6, 9, 0),
            ("c", 5, 9, 0),
            ("d", 15, 5, 1),
            ("e", 15, 5, 1)
        ]
    );
    refused(
        "cameras:\n  - &base {id: a, url: /a,\n     fps: 99}\n  - {<<: *base, id: b}\n",
        &[
            "3: cameras[0].fps: 99 is out of range; 1 to 60 is allowed",
            "3: cameras[1].fps: 99 is out of range; 1 to 60 is allowed",
        ],
    );
}

#[test]
fn variables_are_filled_in() {
    let config = config(
        "
fps: ${FPS}
amqp: {max_age: '${WAIT}', mandatory: '${ON}', routing_key_prefix: '$${HOST}.'}
cameras: [{id: a, url: 'rtsp://${HOST}/x', output_args: ['${FPS}']}]
",
    );
    assert_eq!(config.cameras[0].fps, 7);
    assert_eq!(config.amqp.max_age, Duration::from_millis(250));
    assert!(config.amqp.mandatory);
    assert_eq!(config.cameras[0].routing_key, "${HOST}.a");
    assert_eq!(
        config.cameras[0].source.address.expose(),
        "rtsp://cam.example.com/x"
    );
    assert_eq!(config.cameras[0].output_args, ["7"]);
}

#[test]
fn variables_are_checked_and_never_shown() {
    section_refused(
        "ffmpeg: {path: '${NOWHERE}'}\nfps: ${NUMBER}\nquality: ${SECRET}\nlog: {level: \
         '${SECRET'}",
        &[
            "2: ffmpeg.path: ${NOWHERE} is not set; set it in the environment or as a credential \
             of the service, or write $${ for the text ${",
            "3: fps: the value of ${} is out of range; 1 to 60 is allowed",
            "4: quality: the value of ${} is not a whole number; 2 to 31 is allowed",
            "5: log.level: \"${\" without a name and \"}\"; write ${NAME}, or $${ for the text ${",
        ],
    );
    section_refused(
        "amqp: {max_age: '${FPS}'}\nfps: ${YAML}",
        &[
            "2: amqp.max_age: a unit is missing: write 5s; 10ms to 1h is allowed",
            "3: fps: a line break or another control character; only printable text is allowed",
        ],
    );
}

#[test]
fn a_file_is_loaded() {
    let directory = std::env::temp_dir().join(format!("edge-video-config-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let password = directory.join("password");
    std::fs::write(&password, "Rk1-real-file-17\n").unwrap();
    let file = directory.join("config.yaml");
    std::fs::write(
        &file,
        format!(
            "amqp: {{username: u, password_file: '{}'}}\n{CAMERA}",
            password.display()
        ),
    )
    .unwrap();
    let loaded = Config::load(&file).unwrap();
    assert_eq!(
        loaded.config.amqp.endpoints[0].password.expose(),
        "Rk1-real-file-17"
    );

    std::fs::remove_file(&password).unwrap();
    assert_eq!(
        Config::load(&file).unwrap_err().to_string(),
        format!(
            "{}:1: amqp.password_file: {}: No such file or directory; name a file that can be \
             read",
            file.display(),
            password.display()
        )
    );
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(
        Config::load(&file).unwrap_err().to_string(),
        format!(
            "{}: cannot be read: No such file or directory",
            file.display()
        )
    );
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_file() {
    assert_eq!(config(&format!("\u{feff}{CAMERA}")), config(CAMERA));
    let refused = errors("\u{feff}fsp: 1\ncameras: [{id: a, url: /a.mp4}]\n");
    assert_eq!(refused, "c.yaml:1: fsp: unknown key; did you mean \"fps\"?");
}

#[test]
fn two_thousand_problems_are_all_told_with_their_lines_within_seconds() {
    let mut text = "cameras:\n".to_owned();
    let mut expected = Vec::new();
    for n in 0..1000 {
        let line = 4 * n + 2;
        text += &format!("  - &a{n} {{id: a{n}, url: /a.mp4,\n     fps: 99}}\n");
        text += &format!("  - id: b{n}\n    # b\n");
        let (first, second) = (2 * n, 2 * n + 1);
        expected.push(format!("c.yaml:{}: cameras[{first}].fps: 99 is", line + 1));
        expected.push(format!(
            "c.yaml:{}: cameras[{second}].url: missing; ",
            line + 2
        ));
    }
    let started = std::time::Instant::now();
    let refused = errors(&text);
    // A walk for each problem took half a minute in this build, one walk for all a tenth of a
    // second.
    let took = started.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(refused.lines().count(), expected.len());
    for (line, expected) in refused.lines().zip(&expected) {
        assert!(line.starts_with(expected.as_str()), "{line} for {expected}");
    }
}
