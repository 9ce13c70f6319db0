//! The kernel's own judge of style, which comes with the source of a kernel that is built.

use crate::prelude::*;

/// What it does not judge here.
const IGNORED: &[&str] = &[
    // xt_pkd.h is read by programs too, and libxt_pkd is one: neither has the kernel's types and macros.
    "PREFER_DEFINED_ATTRIBUTE_MACRO",
    "PREFER_KERNEL_TYPES",
    "ARRAY_SIZE",
    // The help of an iptables extension begins in the first column.
    "OPEN_ENDED_LINE",
    // Comments are as wide as those of the rest of the project.
    "LONG_LINE_COMMENT",
];

/// The folders of our C.
const FOLDERS: [&str; 2] = ["linux/kmod", "linux/iptables"];

/// Judges all C of the project by the script of the kernel whose source is in `tree`. All that it finds is an error.
pub(crate) fn run(tree: &Path) -> Result<()> {
    let script = tree.join("scripts/checkpatch.pl");
    ensure!(script.is_file(), "no checkpatch.pl in {}", tree.display());
    let mut sources = Vec::new();
    for folder in FOLDERS {
        let files = files::list(&at(folder))?;
        sources.extend(
            files.into_iter().filter(|file| ["c", "h"].iter().any(|end| files::has_ending(file, end))),
        );
    }
    ensure!(sources.len() > 5, "only {} files of C", sources.len());
    let ignored = IGNORED.join(",");
    let said = cmd!("perl {script} --no-tree --strict --terse --show-types --no-summary --ignore {ignored} --file {sources...}")
        .finish()?;
    let text = run::text_of(&said);
    ensure!(said.status.success() && text.trim().is_empty(), "checkpatch.pl:\n{text}");
    Ok(())
}
