//! The last stage: gives events to the outputs that there are at the time.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::event::Event;
use super::output::{EVENTS, OutputList};
use crate::queue::{Popped, Queue};
use crate::reach::Reach;
use crate::sync::lock;
use crate::wake::Wake;

/// How long the last events may take.
const FLUSH: Duration = Duration::from_secs(1);

/// From the judge to the outputs.
#[derive(Default)]
pub(crate) struct TellMail {
    events: Queue<Event, EVENTS>,
    outputs: Mutex<OutputList>,
    pub(crate) wake: Arc<Wake>,
}

impl TellMail {
    /// Hands over an event; `false` if there is no room.
    pub(crate) fn push(&self, event: Event) -> bool {
        let taken = self.events.push(event);
        self.wake.ring();
        taken
    }

    /// Tells these from now on.
    pub(crate) fn install(&self, outputs: OutputList) {
        for output in outputs.iter() {
            output.clone().begin();
        }
        let old = std::mem::replace(&mut *lock(&self.outputs), outputs);
        // Closing some takes a while.
        drop(old);
        self.wake.ring();
    }

    /// There will be no more events.
    pub(crate) fn close(&self) {
        self.events.close();
        self.wake.ring();
    }

    /// The next event that waits.
    #[cfg(test)]
    pub(crate) fn pop(&self) -> Option<Event> {
        match self.events.pop(Duration::ZERO) {
            Popped::Item(event) => Some(event),
            Popped::Nothing | Popped::Closed => None,
        }
    }
}

/// The thread: until there are no more events.
pub(crate) fn tell(mail: &TellMail, reach: &Reach) {
    loop {
        let outputs = lock(&mail.outputs).clone();
        let closed = loop {
            match mail.events.pop(Duration::ZERO) {
                Popped::Item(event) if outputs.is_empty() => drop(event),
                Popped::Item(event) => {
                    let line: Arc<str> = format!("{}\n", event.json()).into();
                    outputs.iter().for_each(|output| output.event(&line));
                }
                Popped::Nothing => break false,
                Popped::Closed => break true,
            }
        };
        let deadline = outputs.iter().filter_map(|output| output.tick(reach)).min();
        if closed {
            let deadline = Instant::now() + FLUSH;
            outputs.iter().for_each(|output| output.close(deadline));
            mail.install([].into());
            return;
        }
        drop(outputs);
        mail.wake.wait(deadline);
    }
}
