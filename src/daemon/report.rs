//! Logs the final accounting.

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
        Err(error) => log::error!("cannot write the report: {error}"),
    }
}

fn in_words(account: &Account) -> String {
    let in_brackets = |reasons: String| match reasons.as_str() {
        "" => reasons,
        _ => format!(" ({reasons})"),
    };
    let mut words = format!(
        "{} frames captured = {} published + {} dropped{}",
        account.captured,
        account.published,
        account.dropped.total(),
        in_brackets(account.dropped.in_words()),
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
        in_brackets(account.restarts.in_words())
    )
}
