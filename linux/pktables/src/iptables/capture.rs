//! The datagrams that are passed to pkdd over NFLOG: UDP of one length with a known first word, rate-limited by source. The
//! rules then drop them, so no program has to listen on a port, and nothing answers.
//!
//! They see packets to this host before connection tracking, redirections and the rules that guard services, so a knock may
//! go to any port, also to that of a guarded or published service. With nftables they are in the held table; these are for
//! kernels that only have iptables.

use std::fmt::Write as _;

use super::{Iptables, family::Family, save::Saved};
use crate::{error::Error, held::Capture};

/// The iptables chain.
const NAME: &str = "pkdd";
/// The number of sources whose rate is tracked. Further sources are not limited.
const MAX_SOURCES: u32 = 65_535;
/// The chain of datagrams beyond the rate of their source.
const BEYOND: &str = "pkdd-beyond";
/// The highest rate that hashlimit knows.
const MAX_RATE: u32 = 1_000_000;

impl Iptables {
    /// Passes these datagrams to a program, in place of those that an earlier call named. No rule ends by itself: call it
    /// again when the time of a word is over.
    ///
    /// # Errors
    /// iptables refuses. IPv4 may have the new rules then, and IPv6 the old ones.
    pub fn install_capture(&mut self, capture: &Capture) -> Result<(), Error> {
        let guard = self.lock.acquire()?;
        // What an earlier process has counted is not this one's.
        let mut dropped = self.dropped;
        for family in Family::all() {
            let saved = family.read()?;
            dropped = dropped.map(|dropped| dropped.saturating_add(dropped_in(&saved)));
            let jump = if jumps(&saved).is_empty() {
                format!("-I PREROUTING -p udp -m addrtype --dst-type LOCAL -j {NAME}\n")
            } else {
                String::new()
            };
            family.change(&format!("{}{jump}COMMIT\n", rules(capture, *family)), &guard)?;
        }
        self.dropped = Some(dropped.unwrap_or_default());
        Ok(())
    }

    /// Datagrams that the rules have dropped beyond the rates since this value first installed them.
    ///
    /// # Errors
    /// iptables refuses.
    pub fn dropped(&mut self) -> Result<u64, Error> {
        let Some(mut dropped) = self.dropped else { return Ok(0) };
        for family in Family::all() {
            dropped = dropped.saturating_add(dropped_in(&family.read()?));
        }
        Ok(dropped)
    }

    /// Removes the rules of [`install_capture`](Self::install_capture).
    ///
    /// # Errors
    /// See there.
    pub fn remove_capture(&mut self) -> Result<(), Error> {
        let guard = self.lock.acquire()?;
        Family::all().iter().try_for_each(|family| {
            let mut deletions = String::new();
            for jump in jumps(&family.read()?) {
                let _ = writeln!(deletions, "-D PREROUTING {jump}");
            }
            // Declaring a chain flushes it, or creates it if it is missing.
            let chains = [NAME.to_owned(), format!("{NAME}-nflog"), BEYOND.to_owned()];
            let (mut declared, mut removed) = (String::new(), String::new());
            for chain in chains {
                let _ = writeln!(declared, ":{chain} - [0:0]");
                let _ = writeln!(removed, "-X {chain}");
            }
            let script = format!("*raw\n{declared}{deletions}{removed}COMMIT\n");
            family.change(&script, &guard)
        })
    }
}

/// The rules that jump from PREROUTING to the chain, in the form that follows `-D PREROUTING`.
fn jumps(saved: &Saved) -> Vec<String> {
    let rules = saved.rules("raw", "PREROUTING").unwrap_or_default();
    let ours = rules.iter().filter(|rule| rule.text.ends_with(&format!(" -j {NAME}")));
    ours.map(|rule| rule.text.clone()).collect()
}

/// What the first rule of the chain has dropped. Those after it drop what was passed on.
fn dropped_in(saved: &Saved) -> u64 {
    let rules = saved.rules("raw", BEYOND).unwrap_or_default();
    rules.first().map_or(0, |rule| rule.packets)
}

fn rules(capture: &Capture, family: Family) -> String {
    let Capture { length, port, group, rate, snaplen, .. } = capture;
    let (beyond, burst) = (capture.rate_beyond.min(MAX_RATE), capture.burst_beyond().min(MAX_RATE));
    let port = port.map(|port| format!(" --dport {port}")).unwrap_or_default();
    // The match sees the length of the IP packet.
    let (header, mask) = match family {
        Family::V4 => (20, 32),
        Family::V6 => (40, 64),
    };
    let length = length.saturating_add(header);
    let mut text = format!("*raw\n:{NAME} - [0:0]\n:{NAME}-nflog - [0:0]\n:{BEYOND} - [0:0]\n");
    for (word, _) in capture.current() {
        let word = u32::from_be_bytes(word);
        // The first 4 bytes after the IP and UDP headers.
        let offset = match family {
            Family::V4 => "0>>22&0x3C@8",
            Family::V6 => "48",
        };
        let _ = writeln!(
            text,
            "-A {NAME} -p udp{port} -m length --length {length} -m u32 --u32 {offset}=0x{word:08x} -g {NAME}-nflog"
        );
    }
    let _ = writeln!(
        text,
        "-A {NAME}-nflog -m hashlimit --hashlimit-above {rate}/second --hashlimit-burst {rate} \
         --hashlimit-mode srcip --hashlimit-srcmask {mask} --hashlimit-htable-max {MAX_SOURCES} \
         --hashlimit-name {NAME} -g {BEYOND}\n\
         -A {BEYOND} -m hashlimit --hashlimit-above {beyond}/second --hashlimit-burst {burst} \
         --hashlimit-name {BEYOND} -j DROP"
    );
    for chain in ["pkdd-nflog", BEYOND] {
        let _ = writeln!(
            text,
            "-A {chain} -j NFLOG --nflog-group {group} --nflog-threshold 1 --nflog-size {snaplen}\n-A {chain} -j DROP"
        );
    }
    text
}
