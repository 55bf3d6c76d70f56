//! The `resight` command line.
fn main() {}
