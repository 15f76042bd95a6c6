//! Logs the final accounting.

use crate::logging;
use crate::metrics::{Account, Metrics, VideoAccount};
use serde::Serialize;

/// For people one line a camera and one in all, one more each for video, for machines one JSON
/// object.
pub(super) fn report(metrics: &Metrics) {
    #[derive(Serialize)]
    struct Line<'a> {
        camera_id: &'a str,
        #[serde(flatten)]
        account: &'a Account,
        /// If units were captured.
        #[serde(skip_serializing_if = "Option::is_none")]
        video: Option<&'a VideoAccount>,
    }
    #[derive(Serialize)]
    struct Total<'a> {
        #[serde(flatten)]
        account: &'a Account,
        #[serde(skip_serializing_if = "Option::is_none")]
        video: Option<&'a VideoAccount>,
    }
    #[derive(Serialize)]
    struct Report<'a> {
        cameras: Vec<Line<'a>>,
        total: Total<'a>,
    }
    let (cameras, total) = metrics.accounts();
    let (with_video, total_video) = metrics.video_accounts();
    let video_of = |id: &str| {
        let found = with_video.iter().find(|(known, _)| **known == *id);
        found.map(|(_, account)| account)
    };
    for (id, account) in &cameras {
        log::info!(camera_id = id; "{}", in_words(account));
        if let Some(video) = video_of(id) {
            log::info!(camera_id = id; "{}", units_in_words(video));
        }
    }
    log::info!("all cameras: {}", in_words(&total));
    let total_video = Some(&total_video).filter(|_| !with_video.is_empty());
    if let Some(video) = total_video {
        log::info!("all cameras: {}", units_in_words(video));
    }
    let report = Report {
        cameras: cameras
            .iter()
            .map(|(camera_id, account)| Line {
                camera_id,
                account,
                video: video_of(camera_id),
            })
            .collect(),
        total: Total {
            account: &total,
            video: total_video,
        },
    };
    match serde_json::to_string(&report) {
        Ok(json) => log::info!(target: logging::REPORT, "{json}"),
        Err(error) => log::error!("cannot write the report: {error}"),
    }
}

fn in_words(account: &Account) -> String {
    let mut words = format!(
        "{} frames captured = {} published + {} dropped{}",
        account.captured,
        account.published,
        account.dropped.total(),
        in_brackets(account.dropped.in_words()),
    );
    words += &open_in_words(account.in_flight, account.waiting);
    format!(
        "{words}; FFmpeg restarted {} times{}",
        account.restarts.total(),
        in_brackets(account.restarts.in_words())
    )
}

fn units_in_words(account: &VideoAccount) -> String {
    format!(
        "{} units captured = {} published + {} dropped{}{}",
        account.captured,
        account.published,
        account.dropped.total(),
        in_brackets(account.dropped.in_words()),
        open_in_words(account.in_flight, account.waiting),
    )
}

fn in_brackets(reasons: String) -> String {
    match reasons.as_str() {
        "" => reasons,
        _ => format!(" ({reasons})"),
    }
}

/// What is not settled. Nothing, unless a thread did not end in time.
fn open_in_words(in_flight: u64, waiting: u64) -> String {
    match in_flight + waiting {
        0 => String::new(),
        _ => format!(" + {in_flight} in flight + {waiting} waiting"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::UnitsDropped;

    #[test]
    fn units_have_a_line_of_their_own() {
        let mut account = VideoAccount {
            captured: 450,
            published: 448,
            dropped: UnitsDropped {
                overwritten: 2,
                ..UnitsDropped::default()
            },
            ..VideoAccount::default()
        };
        assert_eq!(
            units_in_words(&account),
            "450 units captured = 448 published + 2 dropped (2 overwritten)"
        );
        (account.captured, account.waiting) = (453, 3);
        assert_eq!(
            units_in_words(&account),
            "453 units captured = 448 published + 2 dropped (2 overwritten) + 0 in flight + \
             3 waiting"
        );
    }
}
