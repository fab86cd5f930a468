//! soon
use super::Frame;
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}
pub(super) fn run(_: &Arguments, _: &Frame) -> anyhow::Result<()> {
    Ok(())
}
