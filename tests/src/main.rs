//! `cargo run -p resight-tests`: makes the committed fixtures anew.

#![allow(clippy::print_stdout, reason = "a tool of the tests")]

use anyhow::Result;

fn main() -> Result<()> {
    let path = resight_tests::tiny_model_path();
    resight_tests::make_tiny_model(&path)?;
    println!("{}: made", path.display());
    Ok(())
}
