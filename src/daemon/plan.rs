//! What a configuration asks for: which cameras and connections stay and which are new, and how
//! many threads and descriptors that takes.

use super::build::{Connection, Pipeline, RunningCamera, Shared};
use crate::amqp::Link;
use crate::amqp::Owner;
use crate::config::{Camera, Config, Pictures};
use crate::overview::View;
use crate::system::raise_descriptor_limit;
use std::io;
use std::sync::Arc;

/// Descriptors of a camera: FFmpeg's two pipes, both ends of the two for its own stream, the order
/// to stop, and those of an FFmpeg that is just being started (both its ends of the pipes, and the
/// standard library's for an exec that fails).
const CAMERA_DESCRIPTORS: u64 = 12;
/// Of a connection: the socket's handles and its thread's poll.
const CONNECTION_DESCRIPTORS: u64 = 8;
/// The status page's clients, which are at most 128, and all that there is but once.
const OTHER_DESCRIPTORS: u64 = 128 + 32;

/// What is to be started, and what may stay, for a configuration to be followed.
pub(super) struct Plan {
    /// Cameras that stay as they are.
    pub(super) kept: Vec<Arc<str>>,
    /// Cameras that are new, or changed and to be started when they have ended.
    pub(super) pipelines: Vec<Pipeline>,
    /// Connections that are new.
    pub(super) owners: Vec<(Connection, Owner)>,
    /// All cameras and connections there will be.
    pub(super) views: Vec<Arc<View>>,
    pub(super) links: Vec<Arc<Link>>,
}

impl Plan {
    /// From what runs to `config`. A camera that stays or changes keeps its connection.
    ///
    /// # Errors
    /// When the process may not have as many file descriptors as that takes.
    pub(super) fn new(
        shared: &Shared,
        config: &Config,
        running: &[RunningCamera],
        connections: &[Connection],
    ) -> io::Result<Self> {
        let mut plan = Self {
            kept: vec![],
            pipelines: vec![],
            owners: vec![],
            views: vec![],
            links: vec![],
        };
        ensure_descriptors(config, connections.len())?;
        let cameras: Vec<_> = config.cameras.iter().filter(|it| it.enabled).collect();
        let mut used: Vec<(Connection, usize)> = connections
            .iter()
            .map(|connection| (connection.clone(), 0))
            .collect();
        let place_of = |camera: &Camera| {
            let now = running.iter().find(|it| *it.id() == camera.id);
            now.and_then(RunningCamera::lasting)
        };
        for (_, places) in cameras.iter().filter_map(|camera| place_of(camera)) {
            for (connection, count) in &mut used {
                *count += places.count(connection.number);
            }
        }
        for camera in cameras {
            let place = place_of(camera);
            if let Some((view, _)) = place
                && *view.camera == *camera
            {
                plan.kept.push(Arc::clone(&camera.id));
                plan.views.push(Arc::clone(view));
                continue;
            }
            let index = match place {
                Some((_, places)) => {
                    let number = places.first();
                    used.iter().position(|(it, _)| Some(it.number) == number)
                }
                None => {
                    let load = used.iter().map(|(it, count)| (*count, it.capacity));
                    least_used(load, config.amqp.connections)
                }
            };
            let index = index.unwrap_or_else(|| {
                let (connection, owner) = shared.new_connection();
                plan.owners.push((connection.clone(), owner));
                used.push((connection, 0));
                used.len() - 1
            });
            if let Some((connection, count)) = used.get_mut(index) {
                if place.is_none() {
                    *count += channels(camera);
                }
                let pipeline = shared.pipeline(camera, connection)?;
                plan.views.push(Arc::clone(&pipeline.view));
                plan.pipelines.push(pipeline);
            }
        }
        let in_use = used.iter().filter(|(_, count)| *count > 0);
        plan.links = in_use.map(|(it, _)| Arc::clone(&it.link)).collect();
        Ok(plan)
    }
}

/// Raises the limit of file descriptors to what `config` needs, with that many connections if those
/// are more than it asks for.
///
/// # Errors
/// When the limit of the process is lower.
pub(super) fn ensure_descriptors(config: &Config, connections: usize) -> io::Result<()> {
    let cameras = enabled(config);
    let connections = match config.amqp.connections {
        0 => 0,
        some => some.max(connections),
    };
    raise_descriptor_limit(descriptors(cameras, connections))
}

/// How many threads `config` takes, on as many connections as it asks for.
pub(super) fn threads(config: &Config) -> usize {
    let cameras = enabled(config);
    let connections = match config.amqp.connections {
        0 => cameras,
        some => some.min(cameras),
    };
    let publishers = config.cameras.iter().filter(|it| it.enabled).map(channels);
    // A connection has its owner and amiquip's two; events have a connection and one more.
    cameras
        + publishers.sum::<usize>()
        + 3 * connections
        + 4 * usize::from(config.metadata.enabled)
        + usize::from(config.http.enabled)
}

/// How many publishers a camera has, each with a channel.
fn channels(camera: &Camera) -> usize {
    usize::from(camera.pictures != Pictures::None) + usize::from(camera.passthrough)
}

fn enabled(config: &Config) -> usize {
    config.cameras.iter().filter(|it| it.enabled).count()
}

/// How many descriptors these cameras and connections may need.
fn descriptors(cameras: usize, connections: usize) -> u64 {
    let connections = match connections {
        0 => cameras,
        some => some.min(cameras),
    };
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    count(cameras)
        .saturating_mul(CAMERA_DESCRIPTORS)
        .saturating_add(count(connections).saturating_mul(CONNECTION_DESCRIPTORS))
        .saturating_add(OTHER_DESCRIPTORS)
}

/// Which connection one more camera is to use, from the number of cameras that each has and can
/// have. `None` means a new one: while there are fewer than `connections`, always if that is 0 (one
/// for each camera), and if all are full.
fn least_used(
    load: impl ExactSizeIterator<Item = (usize, Option<usize>)>,
    connections: usize,
) -> Option<usize> {
    if connections == 0 || load.len() < connections {
        return None;
    }
    with_room(load)
}

/// Which connection has fewest cameras, of those that can have one more.
pub(super) fn with_room(load: impl Iterator<Item = (usize, Option<usize>)>) -> Option<usize> {
    let room = load
        .enumerate()
        .filter(|(_, (count, capacity))| capacity.is_none_or(|capacity| *count < capacity));
    room.min_by_key(|(_, (count, _))| *count).map(|(n, _)| n)
}

#[cfg(test)]
mod tests {
    use super::super::build::{CameraThreads, Goal};
    use super::*;

    #[test]
    fn cameras_are_spread_evenly_over_the_connections() {
        let sizes = |cameras: usize, connections| {
            let mut counts = vec![];
            for _ in 0..cameras {
                let load = counts.iter().map(|count| (*count, None));
                match least_used(load, connections) {
                    Some(n) => counts[n] += 1,
                    None => counts.push(1),
                }
            }
            counts
        };
        assert_eq!(sizes(3, 1), [3]);
        assert_eq!(sizes(3, 2), [2, 1]);
        assert_eq!(sizes(3, 8), [1, 1, 1], "no connection without a camera");
        assert_eq!(sizes(3, 0), [1, 1, 1], "one for each");
    }

    #[test]
    fn a_full_connection_gets_no_further_camera_and_one_more_is_made_when_all_are_full() {
        let least = |load: &[_], connections| least_used(load.iter().copied(), connections);
        assert_eq!(least(&[(4, Some(4)), (6, None)], 2), Some(1));
        assert_eq!(least(&[(3, Some(4)), (6, None)], 2), Some(0));
        assert_eq!(least(&[(4, Some(4)), (2, Some(2))], 2), None);
        assert_eq!(least(&[(4, Some(4)), (0, Some(0))], 1), None);
        assert_eq!(with_room([(4, Some(4))].into_iter()), None);
    }

    const THREE: &str = "cameras: [{id: a, url: /a}, {id: b, url: /b}, {id: c, url: /c}]";

    fn config(yaml: &str) -> Config {
        Config::parse(yaml, "", &|_| None).unwrap().config
    }

    fn shared(config: &Config) -> Shared {
        let (tell, _) = crossbeam_channel::unbounded();
        Shared::new(config, Arc::default(), tell).unwrap()
    }

    /// The cameras and connections of `plan` as if their threads ran.
    fn run(plan: Plan) -> (Vec<RunningCamera>, Vec<Connection>) {
        let cameras = plan.pipelines.into_iter().map(|pipeline| RunningCamera {
            view: pipeline.view,
            stop: pipeline.stop,
            places: pipeline.places,
            threads: CameraThreads::default(),
            goal: Goal::Stay,
        });
        let connections = plan.owners.into_iter().map(|(connection, _)| connection);
        (cameras.collect(), connections.collect())
    }

    fn ids<'a>(views: impl IntoIterator<Item = &'a Arc<View>>) -> Vec<&'a str> {
        let ids = views.into_iter().map(|view| &*view.camera.id);
        ids.collect()
    }

    #[test]
    fn a_camera_that_does_not_change_stays_and_one_that_does_keeps_its_connection() {
        let before = config(THREE);
        let shared = shared(&before);
        let (cameras, connections) = run(Plan::new(&shared, &before, &[], &[]).unwrap());
        assert_eq!((cameras.len(), connections.len()), (3, 1));

        let after = config("cameras: [{id: a, url: /a}, {id: b, url: /x}, {id: d, url: /d}]");
        let plan = Plan::new(&shared, &after, &cameras, &connections).unwrap();
        assert_eq!(plan.kept.iter().map(|id| &**id).collect::<Vec<_>>(), ["a"]);
        assert_eq!(
            ids(plan.pipelines.iter().map(|it| &it.view)),
            ["b", "d"],
            "changed and new"
        );
        assert_eq!(ids(&plan.views), ["a", "b", "d"], "c is gone");
        assert!(Arc::ptr_eq(&plan.views[0], &cameras[0].view), "untouched");
        assert!(plan.owners.is_empty());
        let place = |it: &Pipeline| it.places.first() == Some(connections[0].number);
        assert!(plan.pipelines.iter().all(place));
        assert_eq!(plan.links.len(), 1);
    }

    #[test]
    fn what_a_camera_is_about_to_become_counts_and_not_what_ends() {
        let before = config(THREE);
        let shared = shared(&before);
        let (mut cameras, connections) = run(Plan::new(&shared, &before, &[], &[]).unwrap());
        // It was removed a moment ago, and its threads have not ended yet.
        cameras[2].goal = Goal::End;
        let plan = Plan::new(&shared, &before, &cameras, &connections).unwrap();
        assert_eq!(ids(plan.pipelines.iter().map(|it| &it.view)), ["c"]);
        assert_eq!(plan.kept.len(), 2);
    }

    #[test]
    fn with_a_connection_for_each_camera_a_new_one_brings_its_own() {
        let before = config(&format!("amqp: {{connections: 0}}\n{THREE}"));
        let shared = shared(&before);
        let (cameras, connections) = run(Plan::new(&shared, &before, &[], &[]).unwrap());
        assert_eq!(connections.len(), 3);
        let after = config("amqp: {connections: 0}\ncameras: [{id: a, url: /a}, {id: d, url: /d}]");
        let plan = Plan::new(&shared, &after, &cameras, &connections).unwrap();
        assert_eq!(plan.owners.len(), 1);
        assert_eq!(plan.links.len(), 2, "those of b and c are not shown");
        let number = plan.owners[0].0.number;
        assert!(
            connections.iter().all(|it| it.number != number),
            "never one again"
        );
    }
}
