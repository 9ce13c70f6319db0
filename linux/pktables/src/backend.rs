//! Choosing between the two backends.

use std::{env, io::ErrorKind, str::FromStr, time::Duration};

use ipnet::IpNet;

use crate::{
    error::Error,
    firewall::{Change, Firewall, Listings},
    invalid::Invalid,
    iptables::Iptables,
    nft::Nft,
    service::Service,
    service_name::ServiceName,
};

/// A backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// `iptables` and `ip6tables`, legacy or over nftables.
    Iptables,
    /// nftables.
    Nft,
    /// The backend that already has services (nftables if both have); otherwise nftables if `nft` is installed, else
    /// iptables.
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
            _ => Err(Invalid::new("backend", text, "expected iptables, nft or auto")),
        }
    }
}

impl Backend {
    /// Opens the firewall of the network namespace of this process.
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

    /// Chooses one of the two now, for callers that keep using it.
    ///
    /// # Errors
    /// The kernel has no such firewall, or the process may not use it.
    pub fn resolve(self) -> Result<Self, Error> {
        if self != Self::Auto {
            return Ok(self);
        }
        let mut auto = Auto::open()?;
        let is_nft = auto.nft()?.is_some() || auto.prefers_nft()?;
        Ok(if is_nft { Self::Nft } else { Self::Iptables })
    }
}

/// Chooses again for each operation, because another program may have made the first service since. iptables is not
/// probed separately: each probe would run a program.
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
            // The kernel has netfilter, but not nftables.
            Ok(false) | Err(Error::Kernel { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The choice if neither has services.
    fn prefers_nft(&self) -> Result<bool, Error> {
        let iptables_is_free = unless_missing(self.iptables.is_in_use().map(|in_use| !in_use), || Ok(true))?;
        Ok(self.nft.is_some() && iptables_is_free && is_installed("nft"))
    }
}

/// A host without the iptables programs has no services in iptables.
fn unless_missing<T>(
    result: Result<T, Error>,
    nothing: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    match result {
        Err(Error::Program { error, .. }) if error.kind() == ErrorKind::NotFound => nothing(),
        result => result,
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

    fn list(&mut self) -> Result<Listings, Error> {
        match self.nft()? {
            Some(nft) => nft.list(),
            None => unless_missing(self.iptables.list(), || Ok(Listings::default())),
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
    fn each_backend_has_one_name() {
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
    fn a_named_backend_resolves_to_itself() {
        for backend in [Backend::Iptables, Backend::Nft] {
            assert_eq!(backend.resolve().ok(), Some(backend));
        }
    }

    #[test]
    fn a_host_without_iptables_has_no_services_in_it() {
        let program =
            |kind: ErrorKind| Error::Program { program: "iptables-save", error: io::Error::from(kind) };
        // result of iptables, result of the operation
        let rows = [
            (Ok(7), Ok(7)),
            (Err(program(ErrorKind::NotFound)), Ok(0)),
            (Err(program(ErrorKind::PermissionDenied)), Err("cannot run iptables-save: permission denied")),
            (
                Err(Error::NotPermitted),
                Err("permission denied; changing the firewall needs root (CAP_NET_ADMIN)"),
            ),
        ];
        for (row, (result, expected)) in rows.into_iter().enumerate() {
            let found = unless_missing(result, || Ok(0)).map_err(|error| crate::error::with_sources(&error));
            assert_eq!(found, expected.map_err(str::to_owned), "row {row}");
        }
        let refused = unless_missing(Err(program(ErrorKind::NotFound)), || Err::<(), _>(Error::NotPermitted));
        assert!(matches!(refused, Err(Error::NotPermitted)), "{refused:?}");
    }

    #[test]
    fn programs_are_found_in_the_path() {
        for (program, expected) in [("sh", true), ("pktables-has-no-such-program", false), ("", false)] {
            assert_eq!(is_installed(program), expected, "{program:?}");
        }
    }
}
