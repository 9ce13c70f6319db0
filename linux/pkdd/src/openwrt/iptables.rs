//! The script that installs the rules of mode `match`, each address family in one transaction.

use std::fmt::Write as _;

use super::router::Router;

/// The rendered rules for `iptables-restore`, with a jump to them from INPUT. `existing` is the output of
/// `iptables -t mangle -S INPUT`: other jumps to them are removed.
pub(crate) fn script(router: &Router, rules: &str, existing: &str) -> String {
    let port = router.config.gate.port.map(|port| format!(" -m udp --dport {port}")).unwrap_or_default();
    let wanted = format!("-A INPUT -p udp{port} -j pkd");
    let jumps: Vec<&str> = existing.lines().filter(|line| line.ends_with(" -j pkd")).collect();
    let mut script = rules.strip_suffix("COMMIT\n").unwrap_or(rules).to_owned();
    if jumps != [wanted.as_str()] {
        for jump in jumps {
            let _ = writeln!(script, "{}", jump.replacen("-A", "-D", 1));
        }
        let _ = writeln!(script, "{wanted}");
    }
    script + "COMMIT\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openwrt::{
        paths::Paths,
        router::{KeyFiles, check, tests::GOOD},
    };

    #[test]
    fn the_jump_is_added_once_and_others_are_removed() {
        let rules = "*mangle\n:pkd - [0:0]\nCOMMIT\n";
        let any = "-A INPUT -p udp -j pkd";
        let port = "-A INPUT -p udp -m udp --dport 40000 -j pkd";
        let with_port = GOOD.replacen("option port 'any'", "option port '40000'", 1);
        // configuration, rules of INPUT, lines that are added
        let table = [
            (GOOD, "-P INPUT ACCEPT\n-A INPUT -p udp -j theirs\n".to_owned(), format!("{any}\n")),
            (GOOD, format!("-P INPUT ACCEPT\n{any}\n"), String::new()),
            (GOOD, format!("{any}\n{any}\n"), {
                let delete = any.replace("-A", "-D");
                format!("{delete}\n{delete}\n{any}\n")
            }),
            (&with_port, format!("{any}\n"), format!("{}\n{port}\n", any.replace("-A", "-D"))),
            (&with_port, format!("{port}\n"), String::new()),
        ];
        for (row, (text, existing, added)) in table.into_iter().enumerate() {
            let root = tempfile::tempdir().unwrap();
            let router = check(text, &Paths::below(root.path()), KeyFiles::Ignore).unwrap();
            let expected = format!("*mangle\n:pkd - [0:0]\n{added}COMMIT\n");
            assert_eq!(script(&router, rules, &existing), expected, "row {row}");
        }
    }
}
