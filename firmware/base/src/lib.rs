//! What every part of resight needs, and nothing that knows of images or networks.

pub mod console;
pub mod files;
pub mod retry;
pub mod sync;
pub mod text;
pub mod wait;
