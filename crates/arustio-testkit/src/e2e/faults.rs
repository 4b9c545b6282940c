//! Steps of faults.
use super::stage::Stage;
use anyhow::Result;
pub(crate) async fn play(_stage: &mut Stage) -> Result<()> {
    Ok(())
}
