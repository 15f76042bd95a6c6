//! Dashboard, alert rules and documentation name only metrics that are exported, and the
//! documentation names all of them.

use crate::support::daemon::Daemon;
use crate::support::http::ON;
use crate::support::rabbit::Rabbit;
use crate::support::{SOON, fake_config};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

fn file(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// Type of each metric that a running daemon exports.
fn exported() -> BTreeMap<String, String> {
    let rabbit = Rabbit::shared();
    let cameras = [("cam1", "stream,tag=cam1".to_owned())];
    let more = format!("{ON}idle: {{after: 1h}}\nadaptive_quality: {{enabled: true}}\n");
    let mut config = fake_config(&rabbit.url(), "dashboards", &more, &cameras);
    // Its metrics are there whether its video comes or not.
    config +=
        "  - {id: video, url: \"lavfi:fake:silent\", passthrough: true, frozen: {after: 40s}}\n";
    let daemon = Daemon::start(&config);
    daemon.wait_for_log("cam1: live", SOON);
    let metrics = daemon.http().get("/metrics");
    let types = metrics
        .text()
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "));
    types
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect()
}

/// Names of ours in a query.
fn names(query: &str) -> BTreeSet<String> {
    query
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("edge_video_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

/// All texts under the key `key`, however deep.
fn texts(value: &Value, key: &str, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| texts(item, key, found)),
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(text) if name == key => found.push(text.clone()),
                    field => texts(field, key, found),
                }
            }
        }
        _ => {}
    }
}

#[test]
fn every_metric_that_is_queried_is_exported_and_every_exported_one_is_documented() {
    let exported = exported();
    let mut series = BTreeSet::new();
    for (name, kind) in &exported {
        match kind.as_str() {
            "histogram" => {
                series.extend(["bucket", "sum", "count"].map(|end| format!("{name}_{end}")))
            }
            _ => drop(series.insert(name.clone())),
        }
    }
    let dashboard: Value = serde_json::from_str(&file("packaging/grafana-dashboard.json")).unwrap();
    let alerts: Value = serde_yaml::from_str(&file("packaging/prometheus-alerts.yml")).unwrap();
    let (mut panels, mut variables, mut rules) = (vec![], vec![], vec![]);
    texts(&dashboard["panels"], "expr", &mut panels);
    texts(&dashboard["templating"], "query", &mut variables);
    texts(&alerts, "expr", &mut rules);
    assert!(panels.len() > 15 && variables.len() == 3 && rules.len() > 10);
    for query in panels.iter().chain(&variables).chain(&rules) {
        let names = names(query);
        // The others are metrics of Prometheus itself.
        let is_theirs = query == "prometheus" || query.contains("up{job=");
        assert!(!names.is_empty() || is_theirs, "{query}");
        for name in names {
            assert!(
                series.contains(&name),
                "{name} is queried and not exported: {query}"
            );
        }
    }

    let text = file("docs/metrics.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let documented: BTreeMap<_, _> = rows
        .map(|row| {
            let (name, rest) = row.split_once('`').unwrap();
            let kind = rest.split('|').nth(1).unwrap().trim();
            let name = name.split('{').next().unwrap();
            (name.to_owned(), kind.to_owned())
        })
        .collect();
    assert_eq!(documented, exported, "docs/metrics.md");
}

#[test]
fn alerts_fire_while_a_board_or_camera_is_dead_and_not_for_what_was_taken_out() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/alerts.yml");
    let said = Command::new("promtool")
        .args(["test", "rules"])
        .arg(tests)
        .output()
        .expect("promtool, which `make test` installs");
    assert!(
        said.status.success(),
        "{}{}",
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr)
    );
}

#[test]
fn promtool_takes_the_alert_rules() {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/prometheus-alerts.yml");
    let said = Command::new("promtool")
        .args(["check", "rules"])
        .arg(rules)
        .output()
        .expect("promtool, which `make test` installs");
    assert!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );
}
