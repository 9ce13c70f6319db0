//! Writes man pages and shell completions to `share` next to the program, in the layout that packages use:
//! `target/release/share/man/man1/knock-ssh.1`.

#[cfg(feature = "pages")]
#[allow(dead_code, unused_imports, reason = "the build script uses only a part of it")]
#[path = "src/cli/mod.rs"]
mod cli;

#[cfg(feature = "pages")]
#[path = "build/names.rs"]
mod names;

#[cfg(feature = "pages")]
mod pages {
    use std::{
        env,
        error::Error,
        fs,
        path::{Path, PathBuf},
    };

    use clap::{Command, CommandFactory as _};
    use clap_complete::{Shell, generate};
    use clap_mangen::Man;

    use crate::names;

    type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

    /// Shells, and where packages put their completions.
    const SHELLS: [(Shell, &str, &str); 4] = [
        (Shell::Bash, "bash-completion/completions", "knock"),
        (Shell::Zsh, "zsh/site-functions", "_knock"),
        (Shell::Fish, "fish/vendor_completions.d", "knock.fish"),
        (Shell::PowerShell, "powershell", "_knock.ps1"),
    ];

    pub(crate) fn write() -> Result {
        let own = PathBuf::from(env::var("OUT_DIR")?).join("share");
        let command = crate::cli::Args::command();
        let manual = own.join("man/man1");
        fs::create_dir_all(&manual)?;
        for (name, page) in man_pages(&command)? {
            fs::write(manual.join(name), page)?;
        }
        for (shell, folder, name) in SHELLS {
            let folder = own.join(folder);
            fs::create_dir_all(&folder)?;
            let mut script = Vec::new();
            // It builds the command, which then knows what options take values.
            let mut built = command.clone();
            generate(shell, &mut built, "knock", &mut script);
            let script = String::from_utf8(script)?;
            let script = match shell {
                Shell::Bash => names::bash(&script, &built),
                Shell::Zsh => names::zsh(&script),
                Shell::Fish => names::fish(&script, &built),
                _ => script,
            };
            fs::write(folder.join(name), script)?;
        }
        // OUT_DIR is PROFILE/build/PACKAGE-HASH/out; packagers only know PROFILE.
        let profile = own.ancestors().nth(4).ok_or("unexpected OUT_DIR")?;
        copy(&own, &profile.join("share"))
    }

    /// One page for knock and one for each command.
    fn man_pages(command: &Command) -> Result<Vec<(String, Vec<u8>)>> {
        let mut pages = Vec::new();
        let mut page = |command: Command, name: String| -> Result {
            let mut bytes = Vec::new();
            let source = concat!("knock ", env!("CARGO_PKG_VERSION"));
            Man::new(command).title(name.to_uppercase()).source(source).render(&mut bytes)?;
            pages.push((format!("{name}.1"), bytes));
            Ok(())
        };
        let mut whole = command.clone();
        whole.build();
        for subcommand in whole.get_subcommands() {
            let name = format!("knock-{}", subcommand.get_name());
            // The name of the page, and how the command is typed.
            let subcommand = subcommand.clone().display_name(&name).bin_name(name.replacen('-', " ", 1));
            page(subcommand, name)?;
        }
        page(whole.version(env!("CARGO_PKG_VERSION")), "knock".to_owned())?;
        Ok(pages)
    }

    /// Renames each file into place, so that two builds at the same time never leave a partial file.
    fn copy(from: &Path, to: &Path) -> Result {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            if from.is_dir() {
                copy(&from, &to)?;
                continue;
            }
            let unfinished = to.with_extension(format!("unfinished-{}", std::process::id()));
            fs::copy(&from, &unfinished)?;
            fs::rename(&unfinished, &to)?;
        }
        Ok(())
    }
}

#[cfg(feature = "pages")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=src/cli");
    pages::write()
}

#[cfg(not(feature = "pages"))]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
