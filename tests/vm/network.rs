//! The router (this namespace) and the clients (another), with QEMU as the cable between them.

use std::{
    fs::{self, File},
    io::Read,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    os::fd::AsFd,
    os::unix::fs::OpenOptionsExt,
    process::{Command, Output},
    sync::mpsc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::time::TimeSpec,
    time::{ClockId, clock_gettime, clock_settime},
};
use socket2::{Domain, Socket, Type};

/// Where QEMU plugged in which card.
const ROUTER_MAC: &str = "52:54:00:00:00:01";
const CLIENT_MAC: &str = "52:54:00:00:00:02";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// Documentation addresses: RFC 5737 and RFC 3849.
    fn host(self, number: u8) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(192, 0, 2, number).into(),
            Self::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into()).into(),
        }
    }

    pub(crate) fn router(self) -> IpAddr {
        self.host(1)
    }

    pub(crate) fn client(self) -> IpAddr {
        self.host(2)
    }

    /// Another address of the client's card.
    pub(crate) fn other(self) -> IpAddr {
        self.host(9)
    }
}

pub(crate) struct Network {
    client: File,
    router_card: String,
}

impl Network {
    pub(crate) fn set_up() -> Result<Self> {
        let (tell, told) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        thread::spawn(move || {
            let made = unshare(CloneFlags::CLONE_NEWNET)
                .map_err(anyhow::Error::from)
                .and_then(|()| Ok((nix::unistd::gettid(), File::open("/proc/thread-self/ns/net")?)));
            // Nobody listens once set_up has failed.
            let _ = tell.send(made);
            let _ = released.recv();
        });
        let (thread, client) = told.recv().context("no thread for the client")??;
        let (router_card, client_card) = (card(ROUTER_MAC)?, card(CLIENT_MAC)?);
        shell(&format!("ip link set {client_card} netns {thread}"))?;
        drop(release);

        let network = Self { client, router_card: router_card.clone() };
        for (card, hosts) in [(&router_card, &[1_u8][..]), (&client_card, &[2, 9])] {
            let mut commands = vec![
                // An address must be usable at once, not after duplicates were looked for.
                format!("echo 0 > /proc/sys/net/ipv6/conf/{card}/accept_dad"),
                format!("echo 0 > /proc/sys/net/ipv6/conf/{card}/router_solicitations"),
                format!("ip link set {card} up"),
            ];
            for host in hosts {
                commands.push(format!("ip addr add {}/24 dev {card}", Family::V4.host(*host)));
                // The longer prefix makes a program that does not choose send from the first address
                // (RFC 6724, 5, rule 8); IPv4 does so anyway.
                let prefix = if *host == 2 { 112 } else { 64 };
                commands.push(format!("ip addr add {}/{prefix} dev {card}", Family::V6.host(*host)));
            }
            let configure = || commands.iter().try_for_each(|command| shell(command).map(drop));
            if *card == client_card { network.at_client(configure)? } else { configure()? }
        }

        shell("dropbearkey -t ed25519 -f /etc/dropbear/key && dropbear -r /etc/dropbear/key -p 22")?;
        for family in [Family::V4, Family::V6] {
            wait(Duration::from_mins(1), || network.ssh(family, family.client()), Option::is_some)
                .with_context(|| format!("SSH over {} before any rule", family.name()))?;
        }
        Ok(network)
    }

    /// The name of the router's network card.
    pub(crate) fn card(&self) -> &str {
        &self.router_card
    }

    /// Does something where the clients are; programs that it starts are there too.
    pub(crate) fn at_client<R: Send>(&self, act: impl FnOnce() -> Result<R> + Send) -> Result<R> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(self.client.as_fd(), CloneFlags::CLONE_NEWNET)?;
                act()
            });
            thread.join().map_err(|_| anyhow::anyhow!("the client's thread panicked"))?
        })
    }

    /// The banner of the router's SSH server as seen from `from`; `None` where it refuses.
    pub(crate) fn ssh(&self, family: Family, from: IpAddr) -> Result<Option<String>> {
        self.at_client(|| {
            let socket = Socket::new(Domain::for_address(SocketAddr::new(from, 0)), Type::STREAM, None)?;
            socket.bind(&SocketAddr::new(from, 0).into())?;
            let server = SocketAddr::new(family.router(), 22);
            match socket.connect_timeout(&server.into(), Duration::from_secs(10)) {
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => return Ok(None),
                other => other.context("connecting to port 22")?,
            }
            let mut stream = TcpStream::from(socket);
            stream.set_read_timeout(Some(Duration::from_mins(1)))?;
            let mut banner = [0; 64];
            let length = stream.read(&mut banner).context("waiting for the banner")?;
            let text = String::from_utf8_lossy(&banner[..length]);
            let first = text.lines().next().unwrap_or_default();
            ensure!(first.starts_with("SSH-2.0-"), "port 22 says {first:?}");
            Ok(Some(first.to_owned()))
        })
    }
}

fn card(mac: &str) -> Result<String> {
    for entry in fs::read_dir("/sys/class/net")? {
        let entry = entry?;
        if fs::read_to_string(entry.path().join("address")).is_ok_and(|address| address.trim() == mac) {
            return Ok(entry.file_name().to_string_lossy().into_owned());
        }
    }
    bail!("no network card has the address {mac}")
}

/// Runs a command line, which must succeed, and gives what it printed.
pub(crate) fn shell(line: &str) -> Result<String> {
    let output = run(Command::new("sh").args(["-c", line]))?;
    ensure!(output.status.success(), "{line}: {}{}", text(&output.stdout), text(&output.stderr));
    Ok(text(&output.stdout))
}

pub(crate) fn run(command: &mut Command) -> Result<Output> {
    command.output().with_context(|| format!("cannot start {}", command.get_program().display()))
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Asks again until the answer is `good`; an error after `limit`.
pub(crate) fn wait<T: std::fmt::Debug>(
    limit: Duration,
    mut ask: impl FnMut() -> Result<T>,
    good: impl Fn(&T) -> bool,
) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        let answer = ask()?;
        if good(&answer) {
            return Ok(answer);
        }
        ensure!(Instant::now() < end, "after {} s it is still {answer:?}", limit.as_secs());
        // The pause between two questions, so that what is waited for gets the processor.
        thread::sleep(Duration::from_millis(20));
    }
}

/// The clock, in Unix seconds.
pub(crate) fn now() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs())
}

/// Sets the clock to the beginning of this second.
pub(crate) fn set_clock(seconds: u64) -> Result<()> {
    set_clock_millis(seconds * 1_000)
}

/// Sets the clock forward, so that this second is over.
pub(crate) fn later_than(second: u64) -> Result<()> {
    if now()? > second { Ok(()) } else { set_clock(second + 1) }
}

/// Sets the clock to the beginning of this millisecond.
pub(crate) fn set_clock_millis(millis: u64) -> Result<()> {
    let nanoseconds = i32::try_from(millis % 1_000)? * 1_000_000;
    let time = TimeSpec::new((millis / 1_000).try_into()?, nanoseconds.into());
    clock_settime(ClockId::CLOCK_REALTIME, time).with_context(|| format!("setting the clock to {millis} ms"))
}

/// The clock as the module reads it, that of the last tick, in Unix milliseconds.
pub(crate) fn coarse_millis() -> Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_REALTIME_COARSE)?;
    let (seconds, nanoseconds) = (u64::try_from(now.tv_sec())?, u64::try_from(now.tv_nsec())?);
    Ok(seconds * 1_000 + nanoseconds / 1_000_000)
}

/// How much of the log is shown around a complaint.
const LINES_BEFORE: usize = 20;
const LINES_AFTER: usize = 100;

/// Whether the kernel has logged anything that should not be there.
pub(crate) fn kernel_is_content() -> Result<String> {
    const COMPLAINTS: &[&str] = &[
        "WARNING:",
        "BUG",
        "Oops",
        "KASAN",
        "UBSAN",
        "possible circular locking",
        "possible recursive locking",
        "inconsistent lock state",
        "suspicious RCU usage",
        "still held",
        "kmemleak: Cannot",
        "ODEBUG",
        "Call Trace",
        "nable to handle",
        "scheduling while atomic",
        "refcount_t",
        "rcu_sched",
        "soft lockup",
        "stack-protector",
        "Reserved instruction",
        "segfault",
    ];
    let log = kernel_log()?;
    is_whole(&log)?;
    let complains = |line: &String| COMPLAINTS.iter().any(|complaint| line.contains(complaint));
    if let Some(first) = log.iter().position(complains) {
        let around = first.saturating_sub(LINES_BEFORE)..log.len().min(first + LINES_AFTER);
        // Each by itself on the console, whose log is kept; the check names the first alone.
        log[around].iter().for_each(|line| println!("dmesg: {line}"));
        let count = log.iter().filter(|line| complains(line)).count();
        bail!("{count} of {} lines of dmesg complain, first: {}", log.len(), log[first]);
    }
    Ok(format!("{} lines of dmesg", log.len()))
}

/// Whether no record of the log is missing: they are numbered from 0, and the oldest are overwritten.
fn is_whole(log: &[String]) -> Result<()> {
    ensure!(!log.is_empty(), "dmesg is empty");
    for (number, line) in log.iter().enumerate() {
        let own = line.split(',').nth(1).and_then(|own| own.parse::<usize>().ok());
        ensure!(own == Some(number), "record {number} of dmesg is missing; in its place is {line:?}");
    }
    Ok(())
}

/// What the kernel still has of its log, a record each: `level,number,microseconds,flags;text`.
fn kernel_log() -> Result<Vec<String>> {
    let mut log = fs::OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open("/dev/kmsg")?;
    let mut record = [0; 8192];
    let mut lines = Vec::new();
    loop {
        match log.read(&mut record) {
            Ok(length) => lines.push(text(&record[..length])),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(lines),
            Err(error) if error.raw_os_error() == Some(nix::libc::EPIPE) => {
                bail!("records of dmesg were overwritten before they were read")
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_with_a_gap_is_not_whole() {
        let log = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        is_whole(&log(&["6,0,0,-;Linux", "4,1,12,-;warning"])).unwrap();
        for (row, lines) in [&[][..], &["6,1,0,-;late"], &["6,0,0,-;Linux", "4,2,12,-;gap"], &["no record"]]
            .iter()
            .enumerate()
        {
            assert!(is_whole(&log(lines)).is_err(), "row {row}");
        }
    }
}
