//! The final accounting.

use crate::logging;
use crate::metrics::{Account, Metrics};
use serde::Serialize;

/// For people one line a camera and one in all, for machines one JSON object.
pub(super) fn report(metrics: &Metrics) {
    #[derive(Serialize)]
    struct Line<'a> {
        camera_id: &'a str,
        #[serde(flatten)]
        account: &'a Account,
    }
    #[derive(Serialize)]
    struct Report<'a> {
        cameras: Vec<Line<'a>>,
        total: &'a Account,
    }
    let (cameras, total) = metrics.accounts();
    for (id, account) in &cameras {
        log::info!(camera_id = id; "{}", in_words(account));
    }
    log::info!("all cameras: {}", in_words(&total));
    let report = Report {
        cameras: cameras
            .iter()
            .map(|(camera_id, account)| Line { camera_id, account })
            .collect(),
        total: &total,
    };
    match serde_json::to_string(&report) {
        Ok(json) => log::info!(target: logging::REPORT, "{json}"),
        Err(error) => log::error!("no report: {error}"),
    }
}

fn in_words(account: &Account) -> String {
    let list = |counts: &[(&'static str, u64)]| {
        let some: Vec<_> = counts
            .iter()
            .filter(|(_, n)| *n > 0)
            .map(|(why, n)| format!("{n} {why}"))
            .collect();
        if some.is_empty() {
            String::new()
        } else {
            format!(" ({})", some.join(", "))
        }
    };
    let mut words = format!(
        "{} frames captured = {} published + {} dropped{}",
        account.captured,
        account.published,
        account.dropped.total(),
        list(&account.dropped.by_reason()),
    );
    if account.in_flight + account.waiting > 0 {
        words += &format!(
            " + {} in flight + {} waiting",
            account.in_flight, account.waiting
        );
    }
    format!(
        "{words}; FFmpeg restarted {} times{}",
        account.restarts.total(),
        list(&account.restarts.by_reason())
    )
}
