//! The built `pkdd` in networks of their own: a gateway, its clients, a host behind it, with this machine's kernel, the
//! real `nft` and `iptables`, the real `knock`, and a real SSH server. Nothing of it needs root.

mod faults;
mod firewall4;
mod gateway;
mod privileges;
mod scenarios;
mod survival;
