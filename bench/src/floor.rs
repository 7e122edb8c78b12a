//! Floors.
use crate::failure::Failure;
use clap::Args;
/// Arguments.
#[derive(Args)]
pub struct FloorArgs {}
/// Runs.
pub fn main(_: &FloorArgs) -> Result<bool, Failure> {
    Ok(true)
}
