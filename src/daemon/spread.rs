//! Moves cameras to another connection when the broker grants fewer channels on one than there are
//! cameras. A refusal on the other connection affects these cameras only.

use super::Daemon;
use super::plan::{ensure_descriptors, with_room};
use crate::amqp::{Caller, Control, names};
use crate::os_error::error_text;
use std::io;
use std::sync::Arc;

impl Daemon<'_, '_, '_> {
    /// Connection `full` has `capacity` channels and none for `callers`: they move to one that has
    /// room, or to a new one.
    pub(super) fn spread(&mut self, full: usize, callers: &[Caller], capacity: usize) {
        let here = |it: &&Caller| {
            let mut cameras = self.cameras.iter();
            cameras.any(|camera| camera.places.has(it.name(), full) && camera.stays())
        };
        let callers: Vec<_> = callers.iter().filter(here).cloned().collect();
        let Some(connection) = self.connections.iter_mut().find(|it| it.number == full) else {
            return;
        };
        connection.capacity = Some(capacity);
        let mut moved: Vec<(usize, Vec<Caller>)> = vec![];
        for caller in callers {
            match self.find_place(&caller, full) {
                Ok(number) => match moved.iter_mut().find(|(to, _)| *to == number) {
                    Some((_, callers)) => callers.push(caller),
                    None => moved.push((number, vec![caller])),
                },
                // The owner asks again.
                Err(error) => {
                    log::error!(
                        "no further connection for the cameras without a channel on amqp-{full}: \
                         {}; trying again in 30 s",
                        error_text(&error)
                    );
                    break;
                }
            }
        }
        for (number, callers) in &moved {
            log::warn!(
                "the broker allows only {capacity} channels on connection amqp-{full}: \
                 amqp-{number} carries {}",
                names(callers)
            );
        }
        self.finish_changes();
        let views = self.cameras.iter().filter_map(|camera| camera.lasting());
        let views = views.map(|(view, _)| Arc::clone(view)).collect();
        let links = self.connections.iter().map(|it| Arc::clone(&it.link));
        self.show(views, links.collect());
    }

    /// Moves a camera's publisher from connection `full` to the one with most room; returns its
    /// number.
    fn find_place(&mut self, caller: &Caller, full: usize) -> io::Result<usize> {
        let load = self.connections.iter();
        let load = load.map(|it| (self.channels_of(it.number), it.capacity));
        let index = match with_room(load) {
            Some(index) => index,
            None => {
                ensure_descriptors(&self.config, self.connections.len() + 1)?;
                let (connection, owner) = self.shared.new_connection();
                let ready = self.prepare_owner(connection, owner)?;
                self.connect(ready);
                self.connections.len() - 1
            }
        };
        let mut cameras = self.cameras.iter_mut();
        let camera = cameras.find(|camera| camera.places.has(caller.name(), full));
        let (Some(connection), Some(camera)) = (self.connections.get(index), camera) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if camera.places.moved(caller.name(), connection.number) {
            *camera.view.link.lock() = Arc::clone(&connection.link);
            *camera.view.scheduler.lock() = Arc::clone(&connection.scheduler);
        }
        caller.tell(Control::Move(connection.shared()));
        Ok(connection.number)
    }

    fn channels_of(&self, number: usize) -> usize {
        let cameras = self.cameras.iter();
        cameras.map(|camera| camera.places.count(number)).sum()
    }
}
