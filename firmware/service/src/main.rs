//! The `resightd` service.
fn main() {}
