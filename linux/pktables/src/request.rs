//! The validated command line.

use std::time::Duration;

use ipnet::IpNet;
use pktables::{
    Backend, Invalid, Log, LogLimit, Policy, Protocol, Scope, Service, ServiceName, address, time,
};

use crate::cli::{Args, Command, Init};

/// What to do.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) backend: Backend,
    pub(crate) verbose: bool,
    pub(crate) action: Action,
}

#[derive(Debug)]
pub(crate) enum Action {
    Init(Service),
    Remove(ServiceName),
    Grant { service: ServiceName, address: IpNet, ttl: Option<Duration> },
    Revoke { service: ServiceName, address: IpNet },
    List { service: Option<ServiceName>, json: bool },
    Flush(ServiceName),
    Expire,
}

impl Request {
    /// Validates the arguments.
    ///
    /// # Errors
    /// The first invalid argument.
    pub(crate) fn from_args(args: &Args) -> Result<Self, Invalid> {
        let action = match &args.command {
            Command::Init(init) => Action::Init(service(init)?),
            Command::Remove { service } => Action::Remove(service.parse()?),
            Command::Add { address: text, service, timeout } => Action::Grant {
                service: service.parse()?,
                address: address::parse(text)?,
                ttl: timeout.as_deref().map(time::parse).transpose()?,
            },
            Command::Delete { address: text, service } => {
                Action::Revoke { service: service.parse()?, address: address::parse(text)? }
            }
            Command::List { service, json } => {
                Action::List { service: service.as_deref().map(str::parse).transpose()?, json: *json }
            }
            Command::Flush { service } => Action::Flush(service.parse()?),
            Command::Expire => Action::Expire,
        };
        Ok(Self { backend: args.backend.parse()?, verbose: args.verbose, action })
    }
}

fn service(init: &Init) -> Result<Service, Invalid> {
    let mut scope = Scope::default();
    scope.before_nat = init.before_nat;
    scope.interfaces = init.interface.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
    scope.exempt = init.exempt.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
    let service = Service {
        name: init.service.parse()?,
        protocol: if init.udp { Protocol::Udp } else { Protocol::Tcp },
        ports: init.port.parse()?,
        only_new: init.syn,
        policy: if init.accept { Policy::Accept } else { Policy::Drop },
        log: log(init)?,
        forward: init.forward.iter().map(|text| text.parse()).collect::<Result<_, _>>()?,
        scope,
    };
    service.checked()
}

fn log(init: &Init) -> Result<Option<Log>, Invalid> {
    if !init.log {
        return Ok(None);
    }
    let limit = match (init.log_limit.as_deref().map(str::parse::<LogLimit>).transpose()?, &init.log_burst) {
        (Some(limit), Some(burst)) => Some(limit.with_burst(burst)?),
        (limit, _) => limit,
    };
    Ok(Some(Log {
        prefix: init.log_prefix.as_deref().unwrap_or_default().parse()?,
        level: init.log_level.as_deref().map(str::parse).transpose()?.unwrap_or_default(),
        limit,
    }))
}
