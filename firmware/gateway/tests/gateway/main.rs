//! Tests of the library: frames in, actions out.

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod config;
#[cfg(test)]
mod config_time;
#[cfg(test)]
mod coverage;
#[cfg(test)]
mod flash;
#[cfg(test)]
mod flows;
#[cfg(test)]
mod format2;
#[cfg(test)]
mod frame;
#[cfg(test)]
mod frame6;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod http;
#[cfg(test)]
mod icmp;
#[cfg(test)]
mod inline;
#[cfg(test)]
mod one_arm;
#[cfg(test)]
mod one_arm6;
#[cfg(test)]
mod overseer;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod time;
#[cfg(test)]
mod time_servers;
#[cfg(test)]
mod update;
#[cfg(test)]
mod watch;
#[cfg(test)]
mod ways_around;
