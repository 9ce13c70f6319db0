//! Completions of profile names, which clap's static completions do not know: `knock list --names` prints them.
//!
//! The command line marks what takes names: [`ValueHint::Hostname`] a list of hosts, which may contain groups, and
//! [`ValueHint::Username`] one profile.

use std::fmt::Write as _;

use clap::{Arg, Command, ValueHint};

const LIST: ValueHint = ValueHint::Hostname;
const PROFILE: ValueHint = ValueHint::Username;

/// The root as "", and each command.
fn commands(root: &Command) -> impl Iterator<Item = (&str, &Command)> {
    let subcommands = root.get_subcommands().map(|command| (command.get_name(), command));
    std::iter::once(("", root)).chain(subcommands)
}

fn takes_names(arg: &Arg) -> bool {
    [LIST, PROFILE].contains(&arg.get_value_hint())
}

/// Wraps clap's function in one that adds names.
pub(crate) fn bash(script: &str, root: &Command) -> String {
    let (mut with_value, mut names, mut with_groups) = (Vec::new(), Vec::new(), Vec::new());
    for (name, command) in commands(root) {
        for option in command.get_opts() {
            let long = option.get_long().map(|long| format!("--{long}"));
            let short = option.get_short().map(|short| format!("-{short}"));
            let spellings: Vec<String> =
                long.into_iter().chain(short).map(|text| format!("{name},{text}")).collect();
            if takes_names(option) {
                names.extend(spellings.clone());
            }
            with_value.extend(spellings);
        }
        for (place, positional) in command.get_positionals().enumerate().filter(|(_, arg)| takes_names(arg)) {
            if positional.get_value_hint() == LIST {
                with_groups.push(format!("{name},"));
                names.push(format!("{name},[0-9]*"));
            } else {
                names.push(format!("{name},{place}"));
            }
        }
    }
    let subcommands: Vec<_> = root.get_subcommands().map(Command::get_name).collect();
    let patterns: Vec<_> = subcommands.iter().map(|name| format!(",{name}")).collect();
    BASH.replace("WITH_VALUE", &with_value.join("|"))
        .replace("SUBCOMMANDS", &patterns.join("|"))
        .replace("COMMANDS", &subcommands.join(" "))
        .replace("NAMES", &names.join("|"))
        .replace("WITH_GROUPS", &with_groups.join("|"))
        + &script.replace("complete -F _knock ", "complete -F _knock_with_names ")
}

/// Reads the line as typed, because bash's own words end at `@` and `=`. `place` is the option before the cursor, or else
/// how many words that are not options come before it.
const BASH: &str = r#"_knock_with_names() {
    local words=() word command="" before="" place=0 config=() i
    read -ra words <<< "${COMP_LINE:0:COMP_POINT}"
    local stem=""
    if [[ "${COMP_LINE:COMP_POINT-1:1}" != [[:space:]] ]]; then
        i=$((${#words[@]} - 1))
        stem="${words[i]}"
        unset "words[i]"
    fi
    for word in "${words[@]:1}"; do
        case "$before" in
            "") ;;
            -c | --config) config=(-c "$word") before="" && continue ;;
            *) before="" && continue ;;
        esac
        case "$command,$word" in
            WITH_VALUE) before="$word" ;;
            *,--config=*) config=(-c "${word#*=}") ;;
            *,-*) ;;
            SUBCOMMANDS) if ((place == 0)); then command="$word"; else ((place += 1)); fi ;;
            *) ((place += 1)) ;;
        esac
    done
    if [[ "$before" ]]; then
        place="$before"
    elif [[ "$stem" == --*=* ]]; then
        place="${stem%%=*}"
        stem="${stem#*=}"
    elif [[ "$stem" == -* ]]; then
        place="-"
    fi
    case "$command,$place" in
        NAMES)
            local names="$("${words[0]}" list --names "${config[@]}" 2>/dev/null)"
            if [[ "$command,$place" == ",0" ]]; then names+=" COMMANDS"; fi
            case "$command," in
                WITH_GROUPS) ;;
                *) names="$(compgen -X '@*' -W "$names")" ;;
            esac
            # The names of groups begin with @, and a user may come before it.
            if [[ "$stem" == *@* ]]; then
                case "$stem" in
                    @*) names="$(compgen -X '!@*' -W "$names")" && names="${names//@/}" ;;
                    *) names="$(compgen -X '@*' -W "$names")" ;;
                esac
                stem="${stem##*@}"
            fi
            COMPREPLY=($(compgen -W "$names" -- "$stem"))
            ;;
        *) _knock "$@" ;;
    esac
}

"#;

/// Replaces what clap takes for host names and users.
pub(crate) fn zsh(script: &str) -> String {
    // clap gives the first word to the hosts and looks for a command in the second.
    let hosts = "\":: :_knock_commands\" \\\n";
    let kept = script.split_inclusive('\n').filter(|line| !line.starts_with("':words -- Hosts to knock at"));
    let script: String = kept.collect();
    let script = script
        .replace(hosts, "\":: :_knock_commands_or_hosts\" \\\n")
        .replace("$line[2]", "$line[1]")
        .replacen(
            "        esac\n    ;;\nesac\n",
            "(*)\n_knock_hosts && ret=0\n;;\n        esac\n    ;;\nesac\n",
            1,
        );
    let script = script.replace(":_hosts'", ":_knock_hosts'").replace(":_users'", ":_knock_profiles'");
    script.replacen("_knock() {\n", &format!("{ZSH}_knock() {{\n"), 1)
}

const ZSH: &str = r#"_knock_profiles() {
    local -a names
    # For ssh, a user may come before it.
    compset -P '*@'
    names=(${${(f)"$(_call_program names $service list --names 2>/dev/null)"}:#@*})
    compadd "$@" -a names
}

_knock_hosts() {
    local -a names
    names=(${(f)"$(_call_program names $service list --names 2>/dev/null)"})
    compadd "$@" -a names
}

_knock_commands_or_hosts() {
    _alternative 'commands:command:_knock_commands' 'hosts:host:_knock_hosts'
}

"#;

/// Adds names to commands, and replaces what clap takes for users.
pub(crate) fn fish(script: &str, root: &Command) -> String {
    const NAMES: &str = "(knock list --names 2>/dev/null)";
    const PROFILES: &str = "(knock list --names 2>/dev/null | string match -v '@*')";
    let script = script.replace("(__fish_complete_users)", PROFILES);
    // argparse accepts no dot in an option, and would fail with all others.
    let script = script.replace(" o/pre-1.0 ", " o ");
    let without = "    set -e cmd[1]\n    set cmd (string match -v -- --pre-1.0 $cmd)\n";
    let mut script = script.replacen("    set -e cmd[1]\n", without, 1);
    let subcommands: Vec<_> = root.get_subcommands().map(Command::get_name).collect();
    for (name, command) in commands(root) {
        let is_here = match name {
            "" => format!("not __fish_knock_using_subcommand {}", subcommands.join(" ")),
            name => format!("__fish_knock_using_subcommand {name}"),
        };
        for positional in command.get_positionals().filter(|arg| takes_names(arg)) {
            let names = if positional.get_value_hint() == LIST { NAMES } else { PROFILES };
            // Writing to a String cannot fail.
            let _ = writeln!(script, "complete -c knock -n \"{is_here}\" -f -a \"{names}\" -d Profile");
        }
    }
    script
}
