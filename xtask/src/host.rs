pub(crate) const DEMO: &[&str] = &[];
pub(crate) const TEST: &[&str] = &[];
pub(crate) fn install(_: &[&str]) -> anyhow::Result<()> {
    Ok(())
}
