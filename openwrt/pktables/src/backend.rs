//! Which of the two back ends a host has.

use std::{env, path::Path, str::FromStr};

use crate::{
    error::{Error, Invalid},
    firewall::Firewall,
    iptables::Iptables,
    nft::Nft,
};

/// The back end that is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// `iptables` and `ip6tables`, legacy or over nftables.
    Iptables,
    /// nftables.
    Nft,
    /// The one that has services already; else nftables where `nft` is installed, else iptables. Where both
    /// have services it is nftables.
    #[default]
    Auto,
}

impl FromStr for Backend {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "iptables" => Ok(Self::Iptables),
            "nft" => Ok(Self::Nft),
            "auto" => Ok(Self::Auto),
            _ => Err(Invalid::new("back end", text, "is none of iptables, nft, auto")),
        }
    }
}

impl Backend {
    /// The firewall of the network namespace that this process is in.
    ///
    /// # Errors
    /// The kernel has no such firewall, or it may not be asked.
    pub fn open(self) -> Result<Box<dyn Firewall>, Error> {
        Ok(match self.choose()? {
            Chosen::Nft(nft) => Box::new(nft),
            Chosen::Iptables(iptables) => Box::new(iptables),
        })
    }

    /// Which of the two it is on this host now.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn resolve(self) -> Result<Self, Error> {
        Ok(match self.choose()? {
            Chosen::Nft(_) => Self::Nft,
            Chosen::Iptables(_) => Self::Iptables,
        })
    }

    fn choose(self) -> Result<Chosen, Error> {
        match self {
            Self::Iptables => return Ok(Chosen::Iptables(Iptables::default())),
            Self::Nft => return Ok(Chosen::Nft(Nft::open()?)),
            Self::Auto => {}
        }
        let nft = match Nft::open().and_then(|mut nft| Ok((nft.is_in_use()?, nft))) {
            Ok((true, nft)) => return Ok(Chosen::Nft(nft)),
            Ok((false, nft)) => Some(nft),
            // A kernel without nftables.
            Err(Error::Kernel { .. }) => None,
            Err(error) => return Err(error),
        };
        let iptables = Iptables::default();
        let in_use = match iptables.is_in_use() {
            // A host without iptables.
            Err(Error::Program { .. }) => false,
            answer => answer?,
        };
        Ok(match nft {
            Some(nft) if !in_use && is_installed("nft") => Chosen::Nft(nft),
            _ => Chosen::Iptables(iptables),
        })
    }
}

enum Chosen {
    Nft(Nft),
    Iptables(Iptables),
}

fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder: std::path::PathBuf| Path::new(&folder).join(program).is_file())
}
