//! What the cameras share that may become idle (`idle.after`).

use crate::amqp::{BindingListener, Owner};
use crate::config::{Camera, Config, Pictures};
use crate::idle::{Idleness, Routes};
use std::sync::Arc;

/// Where these cameras publish, so that a new binding finds those that it concerns.
pub(super) struct IdleCameras {
    routes: Option<Arc<Routes>>,
    video_exchange: String,
}

impl IdleCameras {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            routes: config.idle.after.map(|_| Arc::default()),
            video_exchange: config.video.exchange.clone(),
        }
    }

    /// One more, if it may become idle.
    pub(super) fn add(&self, camera: &Camera) -> Option<Arc<Idleness>> {
        let (routes, after) = (self.routes.as_ref()?, camera.idle.after?);
        let idleness = Idleness::new(after);
        if camera.pictures != Pictures::None {
            routes.add(&camera.exchange, &camera.routing_key, &idleness);
        }
        if camera.passthrough {
            routes.add(&self.video_exchange, &camera.video_routing_key, &idleness);
        }
        Some(idleness)
    }

    /// Has the owner of a connection tell of new bindings.
    pub(super) fn told_by(&self, owner: Owner) -> Owner {
        match self.routes.clone() {
            None => owner,
            Some(routes) => owner.hear_bindings(BindingListener::new(move |exchange, key| {
                routes.bound(exchange, key);
            })),
        }
    }
}
