//! What can go wrong.

use std::{fmt, io, time::Duration};

use crate::{invalid::Invalid, service::ServiceName};

/// Why a change or a question failed. Nothing was changed, unless the variant says so.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// An argument is not what it should be.
    Invalid(Invalid),
    /// There is no service with this name.
    NoService(ServiceName),
    /// There is no set with this name in this table.
    NoSet {
        /// The table, of family `inet`.
        table: String,
        /// The set.
        set: String,
    },
    /// A set is there, but cannot hold this grant.
    UnsuitableSet {
        /// The set.
        set: String,
        /// What it is or lacks; reads on after the name.
        why: &'static str,
    },
    /// The process lacks `CAP_NET_ADMIN` in the user namespace of its network.
    NotPermitted,
    /// The kernel refused.
    Kernel {
        /// What was asked of it; reads on after "cannot".
        action: &'static str,
        /// Its answer.
        error: io::Error,
    },
    /// Others changed the firewall all the time, for this long.
    Busy(Duration),
    /// Another command holds the lock, for longer than this one waits.
    Locked {
        /// The lock file.
        path: String,
        /// What the file says of its holder.
        holder: String,
    },
    /// The lock file cannot be used.
    Lock {
        /// The lock file.
        path: String,
        /// What the system says.
        error: io::Error,
    },
    /// A program of the firewall cannot be run.
    Program {
        /// Its name.
        program: &'static str,
        /// What the system says.
        error: io::Error,
    },
    /// A program of the firewall says no.
    Refused {
        /// Its name.
        program: &'static str,
        /// The first line it says.
        message: String,
    },
    /// The second family refused, and what the first one got could not be taken back.
    PartlyApplied {
        /// Why the second refused.
        cause: Box<Error>,
        /// Why the first could not be restored.
        rollback: Box<Error>,
    },
    /// A program of the firewall printed what nobody here understands.
    Unparsable {
        /// Its name.
        program: &'static str,
        /// What was not understood.
        part: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(invalid) => invalid.fmt(f),
            Self::NoService(name) => write!(f, "no service {name}; pktables init makes one"),
            Self::NoSet { table, set } => write!(f, "no set {set} in table inet {table}"),
            Self::UnsuitableSet { set, why } => write!(f, "set {set} {why}"),
            Self::NotPermitted => f.write_str("the firewall can be changed by root only (CAP_NET_ADMIN)"),
            Self::Kernel { action, error } => write!(f, "cannot {action}: {error}"),
            Self::Busy(limit) => {
                write!(f, "others change the firewall all the time; gave up after {} s", limit.as_secs())
            }
            Self::Locked { path, holder } => write!(f, "{path} is held by {holder}; gave up waiting"),
            Self::Lock { path, error } => write!(f, "cannot lock {path}: {error}"),
            Self::Program { program, error } => write!(f, "cannot run {program}: {error}"),
            Self::Refused { program, message } => write!(f, "{program}: {message}"),
            Self::PartlyApplied { cause, rollback } => {
                write!(f, "{cause}; and only one of IPv4 and IPv6 is changed, because: {rollback}")
            }
            Self::Unparsable { program, part } => write!(f, "cannot understand {program}: {part}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_one_line_that_names_what_is_wrong() {
        let name: ServiceName = "ssh".parse().expect("a name");
        let told = || io::Error::other("told");
        let invalid = Invalid::new("port", "70\n", "is wrong");
        let rows = [
            (invalid.clone().into(), "port \"70\\n\" is wrong"),
            (Error::NoService(name), "no service ssh; pktables init makes one"),
            (Error::NoSet { table: "fw4".into(), set: "s".into() }, "no set s in table inet fw4"),
            (Error::UnsuitableSet { set: "s".into(), why: "is unfit" }, "set s is unfit"),
            (Error::NotPermitted, "the firewall can be changed by root only (CAP_NET_ADMIN)"),
            (Error::Kernel { action: "look", error: told() }, "cannot look: told"),
            (
                Error::Busy(Duration::from_secs(10)),
                "others change the firewall all the time; gave up after 10 s",
            ),
            (Error::Locked { path: "/l".into(), holder: "me".into() }, "/l is held by me; gave up waiting"),
            (Error::Lock { path: "/l".into(), error: told() }, "cannot lock /l: told"),
            (Error::Program { program: "nft", error: told() }, "cannot run nft: told"),
            (Error::Refused { program: "nft", message: "no".into() }, "nft: no"),
            (
                Error::PartlyApplied {
                    cause: Error::NotPermitted.into(),
                    rollback: Error::NotPermitted.into(),
                },
                "the firewall can be changed by root only (CAP_NET_ADMIN); and only one of IPv4 and IPv6 is changed, \
                 because: the firewall can be changed by root only (CAP_NET_ADMIN)",
            ),
            (Error::Unparsable { program: "nft", part: "it".into() }, "cannot understand nft: it"),
        ];
        for (error, expected) in rows {
            assert_eq!(error.to_string(), expected);
        }
    }
}
