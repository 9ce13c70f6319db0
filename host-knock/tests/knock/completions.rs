//! Completions of names, in the shells themselves.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::harness::Harness;

const PROFILES: &str =
    "[host.office]\naddress = 'gw'\n[host.nas]\n[host.'$(touch bad)']\n[group]\nall = ['nas']\n";
const SECTIONS: &str = "[old]\nkey = 0x5e5a3e5e5a3e\n[nas]\nkey = 0x5e5a3e5e5a3e\n";

/// What is typed, and the candidates with "-" for options and "+" for commands. All shells agree on them.
const ROWS: &[(&str, &str)] = &[
    ("knock ", "@all nas office old +"),
    ("knock o", "office old"),
    ("knock sha", "share"),
    ("knock nas of", "office"),
    ("knock -p 40000 wait o", "office old"),
    ("knock wait ", "nas office old"),
    ("knock wait --timeout 5 of", "office"),
    ("knock show n", "nas"),
    ("knock share n", "nas"),
    ("knock doctor n", "nas"),
    ("knock proxy n", "nas"),
    ("knock keygen n", "nas"),
    ("knock close nas o", "office old"),
    ("knock verify --profile of", "office"),
    ("knock wait --time-o", "--time-offset"),
];

/// A home with profiles, and the folder of the completions.
fn prepared(name: &str) -> Result<(Harness, PathBuf)> {
    let harness = Harness::new(name)?;
    fs::create_dir_all(harness.home().join(".config/knock"))?;
    harness.file(".config/knock/config.toml", PROFILES)?;
    harness.file(".ipt_pkd.ini", SECTIONS)?;
    let program = Path::new(env!("CARGO_BIN_EXE_knock"));
    Ok((harness, program.parent().context("no folder")?.to_owned()))
}

/// The candidates of a line, which the script prints one a line.
fn candidates(harness: &Harness, programs: &Path, command: &mut Command) -> Result<Vec<String>> {
    let path = format!("{}:{}", programs.display(), std::env::var("PATH")?);
    let home = harness.home();
    command.env("HOME", home).env("PATH", path).env_remove("XDG_CONFIG_HOME").current_dir(home);
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("{} is missing", command.get_program().display()))?;
    ensure!(!home.join("bad").exists(), "a name was run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut found: Vec<_> =
        text.lines().map(|line| line.split('\t').next().unwrap_or_default().trim().to_owned()).collect();
    found.retain(|word| !word.is_empty());
    found.sort();
    found.dedup();
    Ok(found)
}

fn check(shell: &str, line: &str, expected: &str, found: &[String]) {
    let commands =
        ["close", "doctor", "import", "keygen", "list", "pair", "proxy", "seq", "share", "show", "ssh"];
    let commands = [&commands[..], &["verify", "wait"]].concat();
    let mut all: Vec<&str> = expected.split_whitespace().filter(|word| *word != "+").collect();
    if expected.ends_with('+') {
        all.extend(commands);
    }
    all.sort_unstable();
    assert_eq!(found, all, "{shell}: {line:?}");
}

#[test]
fn list_prints_all_names() -> Result<()> {
    let (harness, _) = prepared("list_prints_all_names")?;
    let outcome = harness.knock(&["list", "--names"])?;
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
    assert_eq!(outcome.stdout, "office\nnas\nold\n@all\n");
    Ok(())
}

#[test]
fn bash_completes_names() -> Result<()> {
    const SCRIPT: &str = r#"
        source "$1"
        COMP_LINE="$2" COMP_POINT=${#2} COMP_WORDBREAKS=$'"\'><=;|&(:@ '
        read -ra COMP_WORDS <<< "$2"
        if [[ "$2" == *' ' ]]; then COMP_WORDS+=(""); fi
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        complete -p knock | grep -q -- '-F _knock_with_names' || exit 1
        _knock_with_names knock "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    let (harness, programs) = prepared("bash_completes_names")?;
    let file = programs.join("share/bash-completion/completions/knock");
    // At @ and = bash begins a word, and the candidates are for that word.
    let rows = ROWS.iter().chain(&[
        ("knock @a", "all"),
        ("knock wait @", ""),
        ("knock ssh root@of", "office"),
        ("knock verify --profile=of", "office"),
        ("knock wait -c nothing.toml ", ""),
        ("knock wait --config=nothing.toml ", ""),
    ]);
    for (line, expected) in rows {
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", SCRIPT, "bash"]).arg(&file).arg(line);
        let found = candidates(&harness, &programs, &mut bash)?;
        check("bash", line, expected, &found);
    }
    Ok(())
}

#[test]
fn fish_completes_names() -> Result<()> {
    let (harness, programs) = prepared("fish_completes_names")?;
    let file = programs.join("share/fish/vendor_completions.d/knock.fish");
    let rows = ROWS.iter().chain(&[
        ("knock -o of", "office"),
        ("knock --pre-1.0 of", "office"),
        ("knock verify --profile=of", "--profile=office"),
    ]);
    for (line, expected) in rows {
        let mut fish = Command::new("fish");
        fish.arg("-c").arg(format!("source {}; complete -C '{line}'", file.display()));
        let found = candidates(&harness, &programs, &mut fish)?;
        check("fish", line, expected, &found);
    }
    Ok(())
}

#[test]
fn zsh_completes_names() -> Result<()> {
    // Types the line and a tab into a shell on a terminal, whose compadd writes the candidates to a file.
    const SCRIPT: &str = r#"
        zmodload zsh/zpty || exit 1
        file=$HOME/found
        rm -f $file $file.ended
        zpty inner "zsh -f -i -o no_zle"
        for line in \
            "fpath=($1 \$fpath); PROMPT=; RPROMPT=; zstyle ':completion:*' verbose no" \
            "autoload -Uz compinit && compinit -u -D" \
            'compadd() { local -a all; builtin compadd -O all "$@"; print -rl -- $all >> ~/found; builtin compadd "$@" }' \
            'ended() { : > ~/found.ended }; zle -N ended' \
            'bindkey "^I" complete-word; bindkey "^X" ended; setopt zle; : > ~/found'
        do zpty -w inner $line; done
        drain() { zpty -r -t inner all || sleep 0.01 }
        for ((i = 0; i < 2000; i++)); do [[ -e $file ]] && break; drain; done
        zpty -w -n inner "$2"$'\t\x18'
        for ((i = 0; i < 2000; i++)); do [[ -e $file.ended ]] && break; drain; done
        zpty -d inner
        cat $file"#;
    let (harness, programs) = prepared("zsh_completes_names")?;
    let folder = programs.join("share/zsh/site-functions");
    for (line, expected) in ROWS.iter().chain(&[("knock ssh root@of", "office"), ("knock close @", "@all")]) {
        let mut zsh = Command::new("zsh");
        zsh.args(["-f", "-c", SCRIPT, "zsh"]).arg(&folder).arg(line);
        let found = candidates(&harness, &programs, &mut zsh)?;
        check("zsh", line, expected, &found);
    }
    Ok(())
}
