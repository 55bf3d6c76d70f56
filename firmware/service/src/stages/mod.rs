//! The four stages, each a thread with state of its own: capture, inference, judge, and the outputs,
//! which tell. They meet in mailboxes alone, and publish what they know on the status board.
//!
//! ```text
//! capture ── frames (newest wins) ──> infer ── observation ──> judge ──> lines
//!                                       ^                        │
//!                                       └──── what to picture ───┤
//!                                                                └── events ──> tell
//! ```
//!
//! Each stage is a value with a method for each thing that can happen to it; its thread only waits and
//! calls them. Tests call them without a thread, with a clock that they turn.

mod capture;
mod crew;
mod ending;
mod infer;
mod judge;
mod mailbox;
mod network;
mod panic;
mod reload;
mod sight;
mod supervise;
mod turns;
mod viewpoint;

pub(crate) use self::supervise::{check, run};
