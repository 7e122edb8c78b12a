//! Comparison.
use crate::failure::Failure;
use clap::Args;
/// Arguments.
#[derive(Args)]
pub struct CompareArgs {}
/// Runs.
pub fn main(_: &CompareArgs) -> Result<bool, Failure> {
    Ok(true)
}
