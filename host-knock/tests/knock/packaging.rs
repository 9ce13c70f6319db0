//! What the build writes for packages.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

/// The directory of the program.
fn profile() -> Result<&'static Path> {
    Path::new(env!("CARGO_BIN_EXE_knock")).parent().context("no folder")
}

/// The commands that `--help` lists.
fn commands() -> Result<Vec<String>> {
    let help = Command::new(env!("CARGO_BIN_EXE_knock")).arg("--help").output()?;
    let help = String::from_utf8(help.stdout)?;
    let (_, rest) = help.split_once("\nCommands:\n").context("no commands")?;
    let (list, _) = rest.split_once("\n\n").context("no end")?;
    Ok(list.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

#[test]
fn every_command_has_a_man_page_and_completions() -> Result<()> {
    let share = profile()?.join("share");
    let commands = commands()?;
    ensure!(commands.len() == 13, "{commands:?}");
    let page =
        |name: &str| fs::read_to_string(share.join(format!("man/man1/{name}.1"))).context(name.to_owned());
    let whole = page("knock")?;
    for command in &commands {
        let text = page(&format!("knock-{command}"))?;
        assert!(text.contains(&format!("knock\\-{command} \\- ")), "{text}");
        assert!(whole.contains(&format!("knock\\-{command}(1)")), "knock(1) does not name {command}");
    }
    for file in [
        "bash-completion/completions/knock",
        "zsh/site-functions/_knock",
        "fish/vendor_completions.d/knock.fish",
        "powershell/_knock.ps1",
    ] {
        let text = fs::read_to_string(share.join(file)).with_context(|| file.to_owned())?;
        for command in &commands {
            assert!(text.contains(command.as_str()), "{file} does not know {command}");
        }
        assert!(text.contains("time-offset"), "{file} knows no options");
    }
    Ok(())
}
