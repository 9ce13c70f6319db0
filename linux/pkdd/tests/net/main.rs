//! End-to-end tests in network namespaces: a gateway with the built `pkdd`, its clients and a host behind it, with this
//! machine's kernel, `nft` and `iptables`, the real `knock`, and a real SSH server. They do not need root.

mod capture;
mod chaos;
mod clock;
mod closed;
mod conflicts;
mod ends;
mod events;
mod faults;
mod firewall4;
mod flood;
mod floor;
mod follow;
mod format2;
mod forward;
mod gateway;
mod guard;
mod link_local;
mod locks;
mod log;
mod ports;
mod prefix;
mod privileges;
mod scenarios;
mod survival;
mod users;
