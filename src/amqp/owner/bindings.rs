//! What a connection's owner does to hear of new bindings.

use super::{Named, Owner};
use crate::amqp::client::{BindingConsumer, BindingQueue};
use crate::amqp::error::Error;
use std::time::Instant;

impl Owner {
    /// Makes a queue for the reports, if they are wanted and the broker lets us.
    pub(super) fn binding_queue(&mut self, connection: &mut Named) -> Option<BindingQueue> {
        self.bindings.as_ref()?;
        self.link.owner_waits_since(Some(Instant::now()));
        let queue = connection.inner.binding_queue();
        self.link.owner_waits_since(None);
        match queue {
            Ok(queue) => Some(queue),
            Err(error) => self.no_bindings(&connection.name, &error),
        }
    }

    /// Has them told to the listener.
    pub(super) fn consume<'q>(
        &mut self,
        queue: &'q BindingQueue,
        connection: &Named,
    ) -> Option<BindingConsumer<'q>> {
        let listener = self.bindings.clone()?;
        self.link.owner_waits_since(Some(Instant::now()));
        let consumer = queue.consume(listener, &connection.vhost);
        self.link.owner_waits_since(None);
        match consumer {
            Ok(consumer) => {
                let name = &connection.name;
                self.say_once(format!(
                    "broker {name}: it reports new bindings; idle cameras go on at once"
                ));
                Some(consumer)
            }
            Err(error) => self.no_bindings(&connection.name, &error),
        }
    }

    fn no_bindings<T>(&mut self, name: &str, error: &Error) -> Option<T> {
        self.say_once(format!(
            "broker {name}: no reports of new bindings: {error}; an idle camera notices a queue by \
             its next picture, within idle.every"
        ));
        None
    }

    /// Says it unless it was the last that was said.
    fn say_once(&mut self, text: String) {
        if self.bindings_said != text {
            log::info!("{text}");
            self.bindings_said = text;
        }
    }
}
