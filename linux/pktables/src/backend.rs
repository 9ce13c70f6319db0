//! Which of the two back ends a host has.

use std::{env, io::ErrorKind, str::FromStr, time::Duration};

use ipnet::IpNet;

use crate::{
    error::Error,
    firewall::{Change, Firewall, Listing},
    invalid::Invalid,
    iptables::Iptables,
    nft::Nft,
    service::{Service, ServiceName},
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
    /// The kernel has no such firewall.
    pub fn open(self) -> Result<Box<dyn Firewall>, Error> {
        Ok(match self {
            Self::Iptables => Box::new(Iptables::default()),
            Self::Nft => Box::new(Nft::open()?),
            Self::Auto => Box::new(Auto::open()?),
        })
    }

    /// Which of the two it is on this host now, for those who stay with it.
    ///
    /// # Errors
    /// The kernel has no such firewall, or it may not be asked.
    pub fn resolve(self) -> Result<Self, Error> {
        if self != Self::Auto {
            return Ok(self);
        }
        let mut auto = Auto::open()?;
        let is_nft = auto.nft()?.is_some() || auto.prefers_nft()?;
        Ok(if is_nft { Self::Nft } else { Self::Iptables })
    }
}

/// Asks again at each command, because others may have made the first service since the last. iptables is asked
/// for nothing but the command itself: each question to it is a program that runs.
struct Auto {
    /// `None`: the kernel has no nftables.
    nft: Option<Nft>,
    iptables: Iptables,
}

impl Auto {
    fn open() -> Result<Self, Error> {
        let nft = match Nft::open() {
            Err(Error::Kernel { .. }) => None,
            nft => Some(nft?),
        };
        Ok(Self { nft, iptables: Iptables::default() })
    }

    /// nftables, if it has services.
    fn nft(&mut self) -> Result<Option<&mut Nft>, Error> {
        let Some(nft) = &mut self.nft else { return Ok(None) };
        match nft.is_in_use() {
            Ok(true) => Ok(Some(nft)),
            // The other one is a kernel that has netfilter, and no nftables.
            Ok(false) | Err(Error::Kernel { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where nothing has services yet.
    fn prefers_nft(&self) -> Result<bool, Error> {
        let iptables_is_free = unless_missing(self.iptables.is_in_use().map(|in_use| !in_use), || Ok(true))?;
        Ok(self.nft.is_some() && iptables_is_free && is_installed("nft"))
    }
}

/// A host without the programs of iptables has no services in it.
fn unless_missing<T>(
    answer: Result<T, Error>,
    nothing: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    match answer {
        Err(Error::Program { error, .. }) if error.kind() == ErrorKind::NotFound => nothing(),
        answer => answer,
    }
}

impl Firewall for Auto {
    fn init(&mut self, service: &Service) -> Result<Change, Error> {
        if let Some(nft) = self.nft()? {
            return nft.init(service);
        }
        let prefers_nft = self.prefers_nft()?;
        match &mut self.nft {
            Some(nft) if prefers_nft => nft.init(service),
            _ => self.iptables.init(service),
        }
    }

    fn remove(&mut self, name: &ServiceName) -> Result<Change, Error> {
        match self.nft()? {
            Some(nft) => nft.remove(name),
            None => unless_missing(self.iptables.remove(name), || Ok(Change::AlreadySo)),
        }
    }

    fn grant(&mut self, name: &ServiceName, address: IpNet, ttl: Option<Duration>) -> Result<Change, Error> {
        match self.nft()? {
            Some(nft) => nft.grant(name, address, ttl),
            None => unless_missing(self.iptables.grant(name, address, ttl), || {
                Err(Error::NoService(name.clone()))
            }),
        }
    }

    fn revoke(&mut self, name: &ServiceName, address: IpNet) -> Result<Change, Error> {
        match self.nft()? {
            Some(nft) => nft.revoke(name, address),
            None => {
                unless_missing(self.iptables.revoke(name, address), || Err(Error::NoService(name.clone())))
            }
        }
    }

    fn flush(&mut self, name: &ServiceName) -> Result<Change, Error> {
        match self.nft()? {
            Some(nft) => nft.flush(name),
            None => unless_missing(self.iptables.flush(name), || Err(Error::NoService(name.clone()))),
        }
    }

    fn list(&mut self) -> Result<Vec<Listing>, Error> {
        match self.nft()? {
            Some(nft) => nft.list(),
            None => unless_missing(self.iptables.list(), || Ok(Vec::new())),
        }
    }

    fn expire(&mut self) -> Result<usize, Error> {
        match self.nft()? {
            Some(nft) => nft.expire(),
            None => unless_missing(self.iptables.expire(), || Ok(0)),
        }
    }
}

fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_back_end_has_one_name() {
        let rows = [
            ("iptables", Some(Backend::Iptables)),
            ("nft", Some(Backend::Nft)),
            ("auto", Some(Backend::Auto)),
            ("", None),
            ("NFT", None),
            ("nftables", None),
            ("ip6tables", None),
        ];
        for (text, expected) in rows {
            assert_eq!(text.parse::<Backend>().ok(), expected, "{text:?}");
        }
        assert_eq!(Backend::default(), Backend::Auto);
    }

    #[test]
    fn what_is_named_is_what_it_is() {
        for backend in [Backend::Iptables, Backend::Nft] {
            assert_eq!(backend.resolve().ok(), Some(backend));
        }
    }

    #[test]
    fn a_host_without_iptables_has_nothing_in_it() {
        let program =
            |kind: ErrorKind| Error::Program { program: "iptables-save", error: io::Error::from(kind) };
        // what iptables says, what comes of it
        let rows = [
            (Ok(7), Ok(7)),
            (Err(program(ErrorKind::NotFound)), Ok(0)),
            (Err(program(ErrorKind::PermissionDenied)), Err("cannot run iptables-save: permission denied")),
            (Err(Error::NotPermitted), Err("the firewall can be changed by root only (CAP_NET_ADMIN)")),
        ];
        for (row, (answer, expected)) in rows.into_iter().enumerate() {
            let found = unless_missing(answer, || Ok(0)).map_err(|error| error.to_string());
            assert_eq!(found, expected.map_err(str::to_owned), "row {row}");
        }
        let refused = unless_missing(Err(program(ErrorKind::NotFound)), || Err::<(), _>(Error::NotPermitted));
        assert!(matches!(refused, Err(Error::NotPermitted)), "{refused:?}");
    }

    #[test]
    fn a_program_is_installed_where_the_path_has_it() {
        for (program, expected) in [("sh", true), ("pktables-has-no-such-program", false), ("", false)] {
            assert_eq!(is_installed(program), expected, "{program:?}");
        }
    }
}
