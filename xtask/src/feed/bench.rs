//! What the recipes are run with: a compiler, a kernel, and folders in `target/feed`.

use std::process::Command;

use crate::{debian::Tree, machine, prelude::*, sdk, toolchain::Toolchain};

pub(super) struct Bench {
    pub(super) out: PathBuf,
    pub(super) kernel: PathBuf,
    tools: PathBuf,
}

impl Bench {
    pub(super) fn new() -> Result<Self> {
        let out = toolchain::target().join("feed");
        let tools = out.join("tools");
        fs::create_dir_all(&tools)?;
        let (rustc, cargo) = Toolchain::find()?.programs()?;
        for (name, program) in [("rustc", rustc), ("cargo", cargo)] {
            files::script(&tools.join(name), &format!("#!/bin/sh\nexec '{}' \"$@\"\n", program.display()))?;
        }
        let kernel = Tree::of(machine::find("x86_64-6.12")?)?.kernel.headers;
        // make works in other folders.
        Ok(Self { out: out.canonicalize()?, tools: tools.canonicalize()?, kernel })
    }

    /// make with a recipe where it is, everything selected.
    pub(super) fn make(&self, recipe: &str) -> Result<Command> {
        let mut make = self.make_in(&at(recipe))?;
        make.arg(format!("OUT={}", self.out.display()))
            .arg(format!("TOOLS={}", self.tools.display()))
            .arg(format!("SELECTED={}", sdk::PACKAGES.join(" ")));
        Ok(make)
    }

    pub(super) fn make_in(&self, folder: &Path) -> Result<Command> {
        sdk::make(folder, Some(&self.kernel))
    }

    /// The value of a variable of the recipe.
    pub(super) fn show(&self, recipe: &str, variable: &str, others: &[&str]) -> Result<String> {
        let said = self.make(recipe)?.args(others).arg(format!("show-{variable}")).read()?;
        Ok(said.trim().to_owned())
    }

    /// What the recipe installs of a package.
    pub(super) fn root_of(&self, package: &str) -> PathBuf {
        self.out.join("installed").join(package)
    }

    /// What the recipe says about a package: `NAME`, or `NAME.postinst` and the like.
    pub(super) fn meta(&self, name: &str) -> Result<String> {
        Ok(fs::read_to_string(self.out.join("meta").join(name))?)
    }

    /// A field of it.
    pub(super) fn field(&self, package: &str, name: &str) -> Result<String> {
        sdk::field(&self.meta(package)?, name)
    }
}
