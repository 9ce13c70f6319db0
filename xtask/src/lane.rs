pub(crate) fn run(_: &crate::machine::Machine) -> anyhow::Result<()> {
    Ok(())
}
