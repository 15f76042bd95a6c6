//! Checks the memory budget, and asks the cameras to use less.

use super::Daemon;
use crate::memory::usage::Usage;
use crate::memory::{Level, Verdict};
use std::time::Instant;

impl Daemon<'_, '_, '_> {
    /// Looks at what is used, and does what that level asks for.
    pub(super) fn relieve(&mut self, now: Instant) {
        let Some(budget) = &mut self.budget else {
            return;
        };
        let memory = self.overview.memory_now();
        let verdict = budget.check(memory.used(), memory.limit, now);
        self.overview.pressure.set(verdict.level);
        if verdict.level != verdict.before {
            say(verdict, &memory);
        }
        if verdict.release {
            for view in &self.overview.cameras {
                view.relief.release_buffers();
            }
        }
        if verdict.restart
            && let Some((n, bytes)) = memory.largest()
            && let Some(view) = self.overview.cameras.get(n)
        {
            view.relief.restart(bytes);
        }
    }
}

fn say(verdict: Verdict, memory: &Usage) {
    let mb = |bytes: u64| bytes as f64 / 1e6;
    let (used, limit) = (mb(memory.used()), mb(memory.limit));
    let percent = used * 100.0 / limit;
    let is = format!("memory: {used:.0} of {limit:.0} MB in use ({percent:.0} %)");
    let daemon = mb(memory.daemon);
    let level = verdict.level.word();
    match verdict.level {
        _ if verdict.level < verdict.before => log::info!("{is}: {level} again"),
        Level::Normal => {}
        Level::Warning => {
            log::warn!("{is}, {daemon:.0} MB of it by edge-video, the rest by FFmpeg")
        }
        Level::Critical => log::warn!("{is}: {level}, each camera publishes every second frame"),
        Level::Emergency => log::error!(
            "{is}: {level}, each camera publishes one frame per second, and the FFmpeg that uses \
             most memory is restarted, at most one per minute"
        ),
    }
}
