//! What leaves the service besides lines: events, pictures, status.
//!
//! An output is a file with a value that implements [`Output`] and a function that opens it, which is
//! named in [`KINDS`]. Nothing here holds up a stage or another output: every queue is bounded, what
//! does not fit is dropped and counted.

mod check;
mod event;
mod mqtt;
#[cfg(test)]
mod mqtt_fixtures;
mod mqtt_states;
mod multicast_dns;
mod output;
mod remedy;
mod settings;
mod snapshots;
mod socket;
mod stdout;
mod tell;
mod web;
mod worker;

use std::sync::Arc;

use anyhow::Result;

pub(crate) use self::check::check as check_secrets;
pub(crate) use self::event::Event;
use self::output::Output;
pub(crate) use self::output::OutputList;
pub(crate) use self::remedy::unresolved;
pub(crate) use self::settings::{MqttConfig, OutputConfig, SnapshotConfig};
pub(crate) use self::tell::{TellMail, tell};
pub(crate) use self::web::check as check_web;
use crate::reach::Reach;

/// Opens an output if the configuration asks for it; what is the same in the list is taken over.
type Open = fn(&OutputConfig, &OutputList, &Reach) -> Result<Option<Arc<dyn Output>>>;

/// Every kind of output.
const KINDS: [Open; 5] = [stdout::open, socket::open, snapshots::open, mqtt::open, web::open];

/// Opens what `config` asks for; what is the same in `old` is taken over.
///
/// # Errors
/// An address or path that cannot be used, and secrets that cannot be read. `old` still works then.
pub(crate) fn open(config: &OutputConfig, old: &OutputList, reach: &Reach) -> Result<OutputList> {
    let mut outputs = vec![];
    for open in KINDS {
        outputs.extend(open(config, old, reach)?);
    }
    Ok(outputs.into())
}
