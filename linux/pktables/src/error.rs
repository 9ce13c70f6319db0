//! Errors of the firewall.

use std::{
    fmt::{self, Write as _},
    io,
    net::IpAddr,
    time::Duration,
};

use crate::{invalid::Invalid, service_name::ServiceName};

/// Why an operation failed. Nothing was changed, unless the variant says so. Errors of the system are in
/// [`source`](std::error::Error::source), not in the text.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A value is invalid.
    Invalid(Invalid),
    /// There is no service with this name.
    NoService(ServiceName),
    /// The service is forwarded, but not in this address family.
    NoForward {
        /// The service.
        service: ServiceName,
        /// `IPv4` or `IPv6`.
        family: &'static str,
    },
    /// There is no such set in this table.
    NoSet {
        /// The table, of family `inet`.
        table: String,
        /// The set.
        set: String,
    },
    /// The set exists, but cannot hold this grant.
    UnsuitableSet {
        /// The set.
        set: String,
        /// The reason; reads on after the name.
        why: &'static str,
    },
    /// The process lacks `CAP_NET_ADMIN` in the user namespace that owns its network namespace.
    NotPermitted,
    /// The kernel refused.
    Kernel {
        /// The operation; reads on after "cannot".
        action: &'static str,
        /// The error of the kernel.
        error: io::Error,
    },
    /// Another process holds this table, so only that process can change it.
    TableInUse {
        /// The table, of family `inet`.
        table: String,
    },
    /// The kernel does not tell which connections it tracks.
    NoConntrack,
    /// Other programs kept changing the ruleset for this long.
    Busy(Duration),
    /// Another command holds the lock for too long.
    Locked {
        /// The lock file.
        path: String,
        /// The holder, according to the file.
        holder: String,
    },
    /// The lock file cannot be used.
    Lock {
        /// The lock file.
        path: String,
        /// The error of the system.
        error: io::Error,
    },
    /// A program of the firewall cannot be run.
    Program {
        /// Its name.
        program: &'static str,
        /// The error of the system.
        error: io::Error,
    },
    /// A program of the firewall did not end, and was killed. Each address family was changed or not.
    TimedOut {
        /// Its name.
        program: &'static str,
        /// How long it had.
        limit: Duration,
    },
    /// A program of the firewall failed.
    Refused {
        /// Its name.
        program: &'static str,
        /// Its error message, in one line.
        message: String,
    },
    /// One address family was changed, the other refused, and the change could not be rolled back.
    PartlyApplied {
        /// Why the second family refused.
        cause: Box<Error>,
        /// Why the first could not be restored.
        rollback: Box<Error>,
    },
    /// The firewall has rules that cannot be parsed.
    Unparsable {
        /// The program that lists them.
        program: &'static str,
        /// What cannot be parsed.
        part: String,
    },
}

impl Error {
    /// The error of the kernel, if it is one.
    #[cfg(feature = "rules")]
    pub(crate) fn errno(&self) -> Option<rustix::io::Errno> {
        match self {
            Self::NotPermitted => Some(rustix::io::Errno::PERM),
            Self::Kernel { error, .. } => rustix::io::Errno::from_io_error(error),
            _ => None,
        }
    }

    pub(crate) fn no_forward(service: &ServiceName, address: IpAddr) -> Self {
        Self::NoForward { service: service.clone(), family: if address.is_ipv4() { "IPv4" } else { "IPv6" } }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(invalid) => invalid.fmt(f),
            Self::NoService(name) => {
                write!(f, "unknown service {:?}; create it with pktables init", name.as_str())
            }
            Self::NoForward { service, family } => {
                write!(f, "service {service} has no {family} forward address")
            }
            Self::NoSet { table, set } => write!(f, "no set {set} in table inet {table}"),
            Self::UnsuitableSet { set, why } => write!(f, "set {set} {why}"),
            Self::NotPermitted => {
                f.write_str("permission denied; changing the firewall needs root (CAP_NET_ADMIN)")
            }
            Self::Kernel { action, .. } => write!(f, "cannot {action}"),
            Self::TableInUse { table } => {
                write!(f, "table inet {table} belongs to a running process: stop the other pkdd")
            }
            Self::NoConntrack => f.write_str(
                "the kernel has no ctnetlink: load nf_conntrack_netlink; on OpenWrt, install kmod-nf-conntrack-netlink",
            ),
            Self::Busy(limit) => {
                write!(f, "the firewall kept changing for {} s; gave up", limit.as_secs())
            }
            Self::Locked { path, holder } => write!(f, "{path} is locked by {holder}; gave up waiting"),
            Self::Lock { path, .. } => write!(f, "cannot lock {path}"),
            Self::Program { program, .. } => write!(f, "cannot run {program}"),
            Self::TimedOut { program, limit } => {
                write!(f, "{program} did not end within {} s and was killed", limit.as_secs())
            }
            Self::Refused { program, message } => write!(f, "{program}: {message}"),
            Self::PartlyApplied { cause, rollback } => write!(
                f,
                "{}; only one of IPv4 and IPv6 was changed, and rolling it back failed: {}",
                with_sources(cause),
                with_sources(rollback)
            ),
            Self::Unparsable { program, part } => write!(f, "cannot parse {program} rules: {part}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Kernel { error, .. } | Self::Lock { error, .. } | Self::Program { error, .. } => {
                Some(error)
            }
            _ => None,
        }
    }
}

/// An error and its sources in one line.
pub(crate) fn with_sources(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    text
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_one_line() {
        let name: ServiceName = "ssh".parse().expect("a name");
        let told = || io::Error::other("told");
        let refused = || Error::Refused { program: "nft", message: "no".into() };
        let invalid = Invalid::new("port", "70\n", "expected 1–65535");
        let rows = [
            (invalid.clone().into(), "invalid port \"70\\n\": expected 1–65535"),
            (
                Error::NoForward { service: name.clone(), family: "IPv6" },
                "service ssh has no IPv6 forward address",
            ),
            (Error::NoService(name), "unknown service \"ssh\"; create it with pktables init"),
            (Error::NoSet { table: "fw4".into(), set: "s".into() }, "no set s in table inet fw4"),
            (Error::UnsuitableSet { set: "s".into(), why: "is unfit" }, "set s is unfit"),
            (Error::NotPermitted, "permission denied; changing the firewall needs root (CAP_NET_ADMIN)"),
            (Error::Kernel { action: "look", error: told() }, "cannot look: told"),
            (
                Error::TableInUse { table: "t".into() },
                "table inet t belongs to a running process: stop the other pkdd",
            ),
            (
                Error::NoConntrack,
                "the kernel has no ctnetlink: load nf_conntrack_netlink; on OpenWrt, install kmod-nf-conntrack-netlink",
            ),
            (Error::Busy(Duration::from_secs(10)), "the firewall kept changing for 10 s; gave up"),
            (Error::Locked { path: "/l".into(), holder: "me".into() }, "/l is locked by me; gave up waiting"),
            (Error::Lock { path: "/l".into(), error: told() }, "cannot lock /l: told"),
            (Error::Program { program: "nft", error: told() }, "cannot run nft: told"),
            (
                Error::TimedOut { program: "nft", limit: Duration::from_secs(12) },
                "nft did not end within 12 s and was killed",
            ),
            (Error::Refused { program: "nft", message: "no".into() }, "nft: no"),
            (
                Error::PartlyApplied { cause: refused().into(), rollback: refused().into() },
                "nft: no; only one of IPv4 and IPv6 was changed, and rolling it back failed: nft: no",
            ),
            (Error::Unparsable { program: "nft", part: "it".into() }, "cannot parse nft rules: it"),
        ];
        for (error, expected) in rows {
            assert_eq!(with_sources(&error), expected);
        }
    }
}
