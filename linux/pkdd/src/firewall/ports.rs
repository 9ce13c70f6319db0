//! Ports as other programs read them.

use pktables::Ports;

/// Ports as nft reads them: `22`, `8000-8100` or `{ 80, 443, 8000-8100 }`.
pub(crate) fn in_nft(ports: &Ports) -> String {
    let texts: Vec<String> = ports.texts().collect();
    match &texts[..] {
        [one] => one.clone(),
        several => format!("{{ {} }}", several.join(", ")),
    }
}

/// Each port and range as iptables and ufw write them: `80`, `8000:8100`.
#[cfg(feature = "rules")]
pub(super) fn with_colons(ports: &Ports) -> Vec<String> {
    ports.texts().map(|text| text.replace('-', ":")).collect()
}

/// Ports for nft, on a line that a shell reads.
#[cfg(feature = "rules")]
pub(super) fn for_shell(ports: &Ports) -> String {
    let text = in_nft(ports);
    if text.starts_with('{') { format!("'{text}'") } else { text }
}

#[cfg(all(test, feature = "rules"))]
mod tests {
    use super::*;

    #[test]
    fn each_program_gets_its_own_form() {
        // the ports, for nft, for iptables, for nft in a shell
        let rows = [
            ("22", "22", "22", "22"),
            ("8000-8100", "8000-8100", "8000:8100", "8000-8100"),
            ("443,80,8000-8100", "{ 80, 443, 8000-8100 }", "80,443,8000:8100", "'{ 80, 443, 8000-8100 }'"),
        ];
        for (text, nft, colons, shell) in rows {
            let ports: Ports = text.parse().unwrap();
            let found = (in_nft(&ports), with_colons(&ports).join(","), for_shell(&ports));
            assert_eq!(found, (nft.to_owned(), colons.to_owned(), shell.to_owned()));
        }
    }
}
