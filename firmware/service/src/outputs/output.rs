//! What an output is.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use crate::reach::Reach;

/// Events that may wait for a slow reader.
pub(super) const EVENTS: usize = 256;

/// Something that is told events. A reload makes new ones and keeps what did not change.
///
/// No method waits, but [`close`](Self::close) until its deadline.
pub(crate) trait Output: Any + Send + Sync {
    /// It is told from now on.
    fn begin(self: Arc<Self>) {}

    /// Takes an event: a line of JSON with its end.
    fn event(&self, line: &Arc<str>);

    /// Looks after what is no event. Gives when that is needed again at the latest; an event, a change
    /// of a line and what it watches come earlier by themselves.
    fn tick(&self, _reach: &Reach) -> Option<Instant> {
        None
    }

    /// Gives the last events a moment, until `deadline`.
    fn close(&self, _deadline: Instant) {}
}

/// All outputs of a configuration.
pub(crate) type OutputList = Arc<[Arc<dyn Output>]>;

/// The output of this kind, if there is one.
pub(super) fn find<T: Output>(outputs: &OutputList) -> Option<Arc<T>> {
    outputs.iter().find_map(|output| {
        let output: Arc<dyn Any + Send + Sync> = output.clone();
        output.downcast().ok()
    })
}
