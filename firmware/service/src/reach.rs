//! What outputs and requests over HTTP reach of the service.

use std::sync::Arc;

use crate::judge::{Switch, SwitchError};
use crate::live::Live;
use crate::picture::SnapshotTap;
use crate::status::StatusBoard;
use crate::telemetry::Telemetry;
use crate::wake::Wake;

/// Switches something, or says why not.
pub(crate) type SwitchBy = dyn Fn(&Switch) -> Result<(), SwitchError> + Send + Sync;

/// What outputs reach of the service.
#[derive(Clone)]
pub(crate) struct Reach {
    pub(crate) board: Arc<StatusBoard>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) live: Arc<Live>,
    pub(crate) snapshots: Arc<SnapshotTap>,
    /// Wakes the thread that looks after the outputs.
    pub(crate) wake: Arc<Wake>,
    /// Switches something, and keeps it for after a restart.
    pub(crate) switch: Arc<SwitchBy>,
    /// Whether the service ends.
    pub(crate) stopping: Arc<dyn Fn() -> bool + Send + Sync>,
}
