//! nftables, ufw, firewalld and Docker as Debian ships them, beside pkdd under its unit. Before the documented step the granted client
//! is kept out, and pkdd names the rule; after it only the granted client gets in, also after reloads and restarts.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::{CONFIG, TRIES};
use crate::machine::{MACHINE, Machine, Options, quiet, until};

/// The port that Docker publishes, and that of the host behind the machine.
const WEB: u16 = 8022;
const NAS: u16 = 2222;

const SERVICES: &str = "\
[service.web]
port = 8022
seconds = 600
[service.nas]
port = 2222
seconds = 600
forward = ['10.9.0.2:22', '[fd09::2]:22']
[user.me]
format = 'classic'
";

/// A usual `/etc/nftables.conf`, and what allows the services in it.
const NFTABLES: &str = "\
flush ruleset
table inet filter {
    chain input {
        type filter hook input priority filter; policy drop;
        ct state established,related accept
        iif lo accept
        meta l4proto { icmp, ipv6-icmp } accept
        #ports
    }
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        #forwards
    }
}
";
const ALLOWED: [&str; 2] =
    ["tcp dport { 22, 8022 } accept", "ct status dnat meta l4proto tcp ct original proto-dst 2222 accept"];

/// The cgroups of containers are not in systemd's tree.
const DOCKER: &str = r#"{"exec-opts": ["native.cgroupdriver=cgroupfs"], "cgroup-parent": "/pkd-systemd"}"#;

/// nspawn mounts cgroups of version 1 read-only.
const WRITABLE: &str = "\
[Service]
ExecStartPre=-/bin/sh -c 'for folder in /sys/fs/cgroup/*/; do mount -o remount,rw,bind $folder; done'
";

/// A container that needs no registry: its programs are the machine's.
const CONTAINER: &str = "mkdir -p /tmp/image/usr /tmp/image/etc/dropbear /tmp/image/root && cd /tmp/image && \
    for name in bin sbin lib lib64; do ln -sfn usr/$name $name; done && \
    echo 'root:x:0:0::/root:/bin/sh' > etc/passwd && tar -c . | docker import - pkd && \
    docker run --detach --name web --restart=always --publish 8022:22 --volume /usr:/usr:ro pkd \
    /usr/sbin/dropbear -F -E -R -p 22";

/// A host behind the machine, with an SSH server.
const BEHIND: &str = "ip netns add nas && ip link add in type veth peer name out netns nas && ip link set in up && \
    ip addr add 10.9.0.1/24 dev in && ip addr add fd09::1/64 dev in nodad && \
    ip -n nas link set out up && ip -n nas link set lo up && ip -n nas addr add 10.9.0.2/24 dev out && \
    ip -n nas addr add fd09::2/64 dev out nodad && ip -n nas route add default via 10.9.0.1 && \
    ip -n nas route add default via fd09::1 && \
    echo 1 > /proc/sys/net/ipv4/ip_forward && echo 1 > /proc/sys/net/ipv6/conf/all/forwarding && \
    systemd-run --quiet --unit nas ip netns exec nas /usr/sbin/dropbear -F -E -R -p 22";

/// The cgroup of the containers, which the machine makes among those of this host.
const CGROUPS: &str = "find /sys/fs/cgroup -depth -path '*/pkd-systemd*' -type d -exec rmdir {} +";

pub(super) fn checks(root: &Path, knock: &Path) -> Result<()> {
    let result = each_back_end(root, knock);
    quiet(Command::new("sh").args(["-c", CGROUPS])).and(result)
}

fn each_back_end(root: &Path, knock: &Path) -> Result<()> {
    fs::create_dir_all(root.join("etc/docker"))?;
    fs::write(root.join("etc/docker/daemon.json"), DOCKER)?;
    fs::create_dir_all(root.join("etc/systemd/system/docker.service.d"))?;
    fs::write(root.join("etc/systemd/system/docker.service.d/cgroups.conf"), WRITABLE)?;
    let disable = [
        "systemctl",
        "--quiet",
        "disable",
        "ufw",
        "firewalld",
        "docker.service",
        "docker.socket",
        "containerd",
    ];
    quiet(Command::new("chroot").arg(root).args(disable))?;
    for back_end in ["nft", "iptables"] {
        let config = CONFIG
            .replace("'nft'", &format!("'{back_end}'"))
            .replace("[user.me]\nformat = 'classic'\n", SERVICES);
        let config = config.replace("services = ['ssh']", "services = ['ssh', 'web', 'nas']");
        fs::write(root.join("etc/pkdd/pkdd.toml"), config)?;
        let beside = Beside::boot(root, knock, back_end)?;
        beside.machine.shell(BEHIND)?;
        beside.agrees()?;
        beside.nftables(root)?;
        beside.ufw()?;
        // firewalld has rules in nftables alone.
        if back_end == "nft" {
            beside.firewalld()?;
        }
        beside.docker()?;
        beside.reboot(root)?;
    }
    Ok(())
}

/// The machine with its other firewalls.
struct Beside<'a> {
    machine: Machine,
    knock: &'a Path,
    back_end: &'a str,
}

impl<'a> Beside<'a> {
    fn boot(root: &Path, knock: &'a Path, back_end: &'a str) -> Result<Self> {
        let machine = Machine::boot(root, Options { ports: &[22, WEB, NAS], runs_containers: true })?;
        machine.active("pkdd")?;
        Ok(Self { machine, knock, back_end })
    }

    /// Boots again with ufw and Docker together.
    fn reboot(self, root: &Path) -> Result<()> {
        self.machine.shell(
            "ufw allow 22/tcp && ufw allow 8022/tcp && ufw --force enable && \
             systemctl enable --quiet ufw docker",
        )?;
        self.machine.power_off()?;
        // What is behind the machine is not there any more.
        let beside = Self::boot(root, self.knock, self.back_end)?;
        beside.machine.active("docker")?;
        Machine::only_knock(beside.knock)?;
        beside.machine.is_open(22)?;
        beside.machine.is_open(WEB)?;
        beside.machine.stranger.more(TRIES)?;
        beside.done("a boot with ufw and Docker: closed from the first moment on, open to who knocks");
        beside.machine.shell("ufw --force reset && systemctl disable --quiet ufw docker")?;
        beside.machine.power_off()
    }

    /// What `pkdd check` warns of, and the status.
    fn conflicts(&self) -> Result<Vec<String>> {
        let text = self.machine.shell("pkdd check 2>&1 >/dev/null")?;
        let found: Vec<String> =
            text.lines().filter_map(|line| line.strip_prefix("pkdd: warning: ")).map(str::to_owned).collect();
        let status = self.machine.inside(&["pkdd", "status"])?;
        for line in &found {
            ensure!(status.contains(&format!("Conflict: {line}\n")), "{line} is missing: {status}");
        }
        Ok(found)
    }

    /// The daemon's own user, in the unit's sandbox, sees the same when it starts.
    fn logs_at_start(&self, found: &[String]) -> Result<()> {
        self.machine.inside(&["systemctl", "restart", "pkdd"])?;
        for line in found {
            self.machine.logs(&format!("pkdd: warning: {line}"))?;
        }
        let log = self.machine.inside(&["journalctl", "--no-pager", "--unit", "pkdd"])?;
        ensure!(!log.contains("not checked"), "{log}");
        Ok(())
    }

    /// Nothing is in the way of a grant.
    fn agrees(&self) -> Result<()> {
        let found = self.conflicts()?;
        ensure!(found.is_empty(), "{}: {found:#?}", self.back_end);
        Ok(())
    }

    /// These services are kept from the granted client; does what pkdd says about each.
    fn disagrees(&self, services: &[(&str, u16, &str)]) -> Result<()> {
        let found = self.conflicts()?;
        ensure!(found.len() == services.len(), "{}: {found:#?}", self.back_end);
        for (name, port, advice) in services {
            let start = format!("service \"{name}\": ");
            let line = found.iter().find(|line| line.starts_with(&start)).context("not named")?;
            ensure!(line.contains(advice), "{line}");
            println!("systemd:      {line}");
            Machine::only_knock(self.knock)?;
            let is_v4_only = line.contains("(iptables)");
            for address in MACHINE.into_iter().take(if is_v4_only { 1 } else { 2 }) {
                let to = SocketAddr::new(address.parse()?, *port);
                let connected = TcpStream::connect_timeout(&to, Duration::from_secs(1)).is_ok();
                ensure!(!connected, "{to} is open, although {line}");
            }
        }
        if !found.is_empty() {
            self.logs_at_start(&found)?;
        }
        for line in &found {
            let (_, command) = line.split_once("guards it: ").context("no advice")?;
            self.machine.shell(command)?;
        }
        Ok(())
    }

    /// The client's grant still counts, a knock is heard, and no stranger gets in.
    fn works(&self, ports: &[u16]) -> Result<()> {
        ports.iter().try_for_each(|port| self.machine.is_open(*port))?;
        let before = self.accepted()?;
        Machine::only_knock(self.knock)?;
        until("accepted knocks", || Ok((self.accepted()? >= before + 2).then_some(())))?;
        self.agrees()?;
        self.machine.stranger.more(TRIES)
    }

    /// Knocks that were accepted since the daemon started.
    fn accepted(&self) -> Result<u64> {
        let status = self.machine.inside(&["pkdd", "status"])?;
        let line = status.lines().find_map(|line| line.strip_prefix("Accepted: "));
        Ok(line.context("no line about accepted knocks")?.parse()?)
    }

    fn done(&self, what: &str) {
        println!("systemd: ok   {what} ({})", self.back_end);
    }

    fn nftables(&self, root: &Path) -> Result<()> {
        let file = root.join("etc/nftables.conf");
        let debian = fs::read(&file)?;
        fs::write(&file, NFTABLES)?;
        self.machine.inside(&["systemctl", "restart", "nftables"])?;
        let ssh = ("ssh", 22, "insert rule inet filter input tcp dport 22 accept");
        let web = ("web", WEB, "insert rule inet filter input tcp dport 8022 accept");
        let nas = ("nas", NAS, "insert rule inet filter forward ct status dnat");
        self.disagrees(&[ssh, web, nas])?;
        self.works(&[22, NAS])?;
        // What lasts.
        fs::write(&file, NFTABLES.replace("#ports", ALLOWED[0]).replace("#forwards", ALLOWED[1]))?;
        for command in ["systemctl restart nftables", "nft -f /etc/nftables.conf"] {
            self.machine.shell(command)?;
            self.works(&[22, NAS])?;
        }
        fs::write(&file, debian)?;
        self.machine.shell("nft delete table inet filter")?;
        self.machine.stranger.more(TRIES)?;
        self.done(
            "nftables: named, and after its step only the granted client gets in, whatever is reloaded",
        );
        Ok(())
    }

    fn ufw(&self) -> Result<()> {
        self.machine.inside(&["ufw", "--force", "enable"])?;
        let nas = ("nas", NAS, "ufw route allow proto tcp to 10.9.0.2 port 22");
        let (ssh, web) = (("ssh", 22, ": ufw allow 22/tcp"), ("web", WEB, ": ufw allow 8022/tcp"));
        // With iptables, pktables has rules for it at the head of FORWARD.
        let all = [ssh, web, nas];
        self.disagrees(if self.back_end == "nft" { &all } else { &all[..2] })?;
        self.works(&[22, NAS])?;
        for command in ["ufw reload", "systemctl restart ufw", "ufw --force disable && ufw --force enable"] {
            self.machine.shell(command)?;
            self.works(&[22, NAS])?;
        }
        self.machine.shell("ufw --force reset && systemctl stop ufw")?;
        self.machine.stranger.more(TRIES)?;
        self.done("ufw: named, and after its step only the granted client gets in, whatever is reloaded");
        Ok(())
    }

    fn firewalld(&self) -> Result<()> {
        // Its default zone lets everyone in to SSH: pkdd does not.
        self.machine.shell("systemctl start firewalld")?;
        Machine::only_knock(self.knock)?;
        self.machine.is_open(22)?;
        self.machine.stranger.more(TRIES)?;
        self.machine.shell("firewall-cmd --permanent --remove-service=ssh && firewall-cmd --reload")?;
        // It lets through what is forwarded with DNAT.
        let (ssh, web) = (("ssh", 22, "--add-port=22/tcp"), ("web", WEB, "--add-port=8022/tcp"));
        self.disagrees(&[ssh, web])?;
        self.works(&[22, NAS])?;
        for command in
            ["firewall-cmd --reload", "firewall-cmd --complete-reload", "systemctl restart firewalld"]
        {
            self.machine.shell(command)?;
            self.works(&[22, NAS])?;
        }
        self.machine.shell("systemctl stop firewalld")?;
        self.machine.stranger.more(TRIES)?;
        self.done(
            "firewalld: named, and after its step only the granted client gets in, whatever is reloaded",
        );
        Ok(())
    }

    fn docker(&self) -> Result<()> {
        // Where packets are not forwarded yet, it turns that on, and makes DROP the policy of FORWARD.
        self.machine.shell("echo 0 > /proc/sys/net/ipv4/ip_forward && systemctl start docker")?;
        self.machine.shell(&format!("docker inspect web >/dev/null 2>&1 || {{ {CONTAINER}; }}"))?;
        let nas = ("nas", NAS, "-I DOCKER-USER");
        self.disagrees(&[nas][..usize::from(self.back_end == "nft")])?;
        self.works(&[22, WEB, NAS])?;
        for command in ["systemctl restart docker", "docker restart --time 0 web"] {
            self.machine.shell(command)?;
            self.works(&[22, WEB, NAS])?;
        }
        self.machine.shell("systemctl stop docker docker.socket containerd")?;
        self.machine.stranger.more(TRIES)?;
        self.done("Docker: its published port is closed without a knock, also after a restart");
        Ok(())
    }
}
