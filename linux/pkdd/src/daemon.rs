//! The running daemon: one thread that waits for knocks, signals and requests, in this order of haste.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::Read,
    net::IpAddr,
    os::{
        fd::AsFd,
        unix::{fs::DirBuilderExt, net::UnixStream},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::Receiver,
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use pkd_core::UnixSeconds;
use pkd_packet::Datagram;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};

use crate::{
    caches::Caches,
    config::{Config, Gate, ServiceConfig},
    control::{self, Query, Request},
    engine::{Decision, Engine},
    firewall::{self, FirewallBackend, reconcile},
    floor::{Saved, Saver},
    journal::Journal,
    nflog::{Nflog, Received},
    privileges::{self, Sandbox},
    report::{Ignored, log},
    status::{Parts, Status},
};

/// Between two looks at what has to be done from time to time.
const ROUND: Duration = Duration::from_secs(1);
/// Between two looks whether our rules are still there, and two writes of metrics.
const SLOW_ROUND: Duration = Duration::from_secs(10);
/// Looks at the log before something else gets its turn.
const BURST: usize = 256;

/// The clock of this machine. One that stands before 1970 is taken for 1970.
#[must_use]
pub fn now() -> UnixSeconds {
    UnixSeconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}

/// The socket for requests in the folder of what runs.
#[must_use]
pub fn socket(run: &Path) -> PathBuf {
    run.join("socket")
}

fn services(gate: &Gate) -> PathBuf {
    gate.run.join("services")
}

/// Takes away the rules that a daemon left.
///
/// # Errors
/// A daemon runs, or the firewall refuses.
pub fn clear(config: &Config) -> Result<()> {
    make_folder(&config.gate.run)?;
    let _lock = lock(&config.gate.run)?;
    firewall::open(config.gate.firewall)?.clear(&services(&config.gate))
}

/// Runs until SIGTERM or SIGINT. Rules and grants stay: who has stopped it starts it again.
///
/// # Errors
/// It cannot begin, and says why in one line. Once it runs it goes on.
pub fn run(path: &Path) -> Result<()> {
    let config = Config::read(path)?;
    config.warnings.iter().for_each(|warning| log(&format!("warning: {warning}")));
    let mut daemon = Daemon::start(path, config)?;
    log(&format!("{} is open for knocks", env!("CARGO_PKG_VERSION")));
    while !daemon.signals.end.load(Ordering::Relaxed) {
        daemon.wait()?;
    }
    daemon.finish()
}

struct Daemon {
    path: PathBuf,
    engine: Engine,
    firewall: Box<dyn FirewallBackend>,
    nflog: Nflog,
    saver: Saver,
    signals: Signals,
    requests: Receiver<Request>,
    ignored: Ignored,
    overruns: u64,
    /// What is wrong now, by where it went wrong.
    health: Health,
    next_round: Instant,
    next_slow_round: Instant,
    _lock: Flock<File>,
}

#[derive(Default)]
struct Health {
    configuration: Option<String>,
    firewall: Option<String>,
}

struct Signals {
    end: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
    look: Arc<AtomicBool>,
    /// Readable when one came, or a query.
    wake: UnixStream,
}

impl Signals {
    /// Also gives the other end, for those who ask.
    fn catch() -> std::io::Result<(Self, UnixStream)> {
        let (wake, waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        waker.set_nonblocking(true)?;
        let [end, reload, look] = std::array::from_fn(|_| Arc::new(AtomicBool::new(false)));
        for (signal, flag) in [(SIGTERM, &end), (SIGINT, &end), (SIGHUP, &reload), (SIGUSR1, &look)] {
            signal_hook::flag::register(signal, Arc::clone(flag))?;
            signal_hook::low_level::pipe::register(signal, waker.try_clone()?)?;
        }
        Ok((Self { end, reload, look, wake }, waker))
    }

    fn drain(&mut self) {
        let mut bytes = [0; 64];
        while self.wake.read(&mut bytes).is_ok_and(|length| length > 0) {}
    }
}

impl Daemon {
    fn start(path: &Path, config: Config) -> Result<Self> {
        let gate = config.gate.clone();
        let (signals, waker) = Signals::catch().context("cannot catch signals")?;
        let mut folders = vec![gate.run.as_path(), gate.state.as_path()];
        folders.iter().try_for_each(|folder| make_folder(folder))?;
        let locks = firewall::locks(gate.firewall);
        for path in &locks {
            let made = OpenOptions::new().create(true).append(true).open(path);
            made.with_context(|| format!("cannot make {}", path.display()))?;
        }
        if let Some(user) = &gate.user {
            privileges::drop_privileges(user, &[&folders[..], &locks].concat())?;
        }
        let lock = lock(&gate.run)?;
        if !privileges::may_change_rules() {
            bail!("pkdd needs CAP_NET_ADMIN, to change rules: start it as root, or by its unit");
        }
        folders.extend(gate.metrics.as_deref().and_then(Path::parent));
        let files = [&locks[..], &[Path::new("/dev/null")]].concat();
        if privileges::sandbox(&folders, &files)? == Sandbox::Unsupported {
            log("this kernel has no Landlock, so nothing keeps pkdd from writing elsewhere");
        }
        let nflog = Nflog::open(gate.group)
            .with_context(|| format!("cannot take the packets of NFLOG's group {}", gate.group))?;
        let caches = remember(&gate, &config)?;
        let mut firewall = firewall::open(gate.firewall)?;
        firewall.install(&config, &services(&gate))?;
        let mut engine = Engine::new(config, caches).context("cannot write the journal")?;
        let state = gate.state.join("floor");
        let saver = Saver::start(state.clone(), gate.save, move |error| {
            log(&format!(
                "cannot write {}: {error}; after a reboot knocks wait for one window",
                state.display()
            ));
        });
        saver.save(engine.caches().high_water_mark());
        let requests = control::listen(&socket(&gate.run), move || {
            // Full: it is awake already.
            let _ = std::io::Write::write(&mut &waker, &[1]);
        })
        .with_context(|| format!("cannot listen at {}", socket(&gate.run).display()))?;
        let mut daemon = Self {
            path: path.to_owned(),
            engine,
            firewall,
            nflog,
            saver,
            signals,
            requests,
            ignored: Ignored::default(),
            overruns: 0,
            health: Health::default(),
            next_round: Instant::now(),
            next_slow_round: Instant::now(),
            _lock: lock,
        };
        daemon.reconcile();
        Ok(daemon)
    }

    /// Waits for something to do, and does it.
    fn wait(&mut self) -> Result<()> {
        let begin = Instant::now();
        let next = self.next_round.min(self.next_slow_round).saturating_duration_since(begin);
        let timeout = PollTimeout::try_from(next + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        let mut sources = [
            PollFd::new(self.nflog.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.wake.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut sources, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("cannot wait for packets"),
        }
        self.receive()?;
        self.signals.drain();
        if self.signals.reload.swap(false, Ordering::Relaxed) {
            self.reload();
        }
        if self.signals.look.swap(false, Ordering::Relaxed) {
            // Somebody has loaded the firewall anew.
            let config = self.engine.config().clone();
            let done = self.firewall.install(&config, &services(&config.gate));
            note(&mut self.health.firewall, done);
            self.reconcile();
        }
        while let Ok(request) = self.requests.try_recv() {
            let status = self.status();
            let text = match request.query {
                Query::Status => serde_json::to_string(&status).unwrap_or_default() + "\n",
                Query::Metrics => status.metrics(),
            };
            request.answer(text);
        }
        self.rounds(Instant::now());
        Ok(())
    }

    fn receive(&mut self) -> Result<()> {
        for _ in 0..BURST {
            let Self { nflog, engine, firewall, saver, ignored, health, .. } = self;
            let received = nflog.receive(|packet| {
                if let Some(datagram) = Datagram::from_ip(packet) {
                    handle(engine, &mut **firewall, saver, ignored, health, &datagram);
                }
            });
            match received.context("cannot read packets")? {
                Received::Some => {}
                Received::Nothing => return Ok(()),
                Received::Overrun => self.overruns += 1,
            }
        }
        Ok(())
    }

    fn reload(&mut self) {
        match self.try_reload() {
            Ok(()) => {
                self.health.configuration = None;
                log("reloaded");
            }
            Err(error) => {
                let text = format!("{error:#}");
                log(&format!("not reloaded, what was in force still is: {text}"));
                self.health.configuration = Some(text);
            }
        }
    }

    fn try_reload(&mut self) -> Result<()> {
        let config = Config::read(&self.path)?;
        let (old, new) = (&self.engine.config().gate, &config.gate);
        let fixed =
            |gate: &Gate| (gate.run.clone(), gate.state.clone(), gate.firewall, gate.group, gate.save);
        if fixed(old) != fixed(new) {
            bail!("gate: run, state, save, firewall and group change by a restart only");
        }
        config.warnings.iter().for_each(|warning| log(&format!("warning: {warning}")));
        let list = services(&config.gate);
        let before = self.engine.config().clone();
        self.firewall.install(&config, &list).inspect_err(|_| {
            // Back to what is in force; the first error tells more than one of this.
            if let Err(error) = self.firewall.install(&before, &list) {
                log(&format!("and the rules of before cannot be put back: {error:#}"));
            }
        })?;
        self.engine.reload(config).context("cannot write the journal")?;
        self.reconcile();
        Ok(())
    }

    /// Makes the grants what they should be, where nobody waits for it.
    fn reconcile(&mut self) {
        let config = self.engine.config().clone();
        let accepted = self.engine.caches().accepted();
        let done = reconcile::reconcile(&mut *self.firewall, &config, accepted, now());
        note(&mut self.health.firewall, done);
    }

    fn rounds(&mut self, begin: Instant) {
        if begin >= self.next_round {
            self.next_round = begin + ROUND;
            if let Some(line) = self.ignored.line(begin) {
                log(&line);
            }
            if self.firewall.needs_expiry() {
                let done = self.firewall.expire();
                note(&mut self.health.firewall, done);
            }
        }
        if begin >= self.next_slow_round {
            self.next_slow_round = begin + SLOW_ROUND;
            let (config, time) = (self.engine.config().clone(), now());
            if let Err(error) =
                self.engine.caches().tidy(time, |knock| reconcile::is_in_use(&config, knock, time))
            {
                log(&format!("cannot write the journal anew: {error}"));
            }
            if !self.firewall.is_installed(&config) || self.health.firewall.is_some() {
                self.repair(&config);
            }
            if let Some(path) = &config.gate.metrics
                && let Err(error) = write_whole(path, &self.status().metrics())
            {
                log(&format!("cannot write {}: {error}", path.display()));
            }
        }
    }

    /// Somebody has taken our rules away, or the firewall has refused something.
    fn repair(&mut self, config: &Config) {
        match self.firewall.install(config, &services(&config.gate)) {
            Ok(()) => {
                log("the firewall had lost rules or refused a change; they are in place again");
                self.health.firewall = None;
                self.reconcile();
            }
            Err(error) => note::<()>(&mut self.health.firewall, Err(error)),
        }
    }

    fn status(&mut self) -> Status {
        let config = self.engine.config().clone();
        let grants = self.firewall.list(&config);
        let mut trouble: Vec<String> =
            [&self.health.configuration, &self.health.firewall].into_iter().flatten().cloned().collect();
        let grants = grants.unwrap_or_else(|error| {
            trouble.push(format!("{error:#}"));
            Vec::new()
        });
        let counters = *self.engine.counters();
        let (overruns, trouble) = (self.overruns, trouble.join("; "));
        let caches = &*self.engine.caches();
        Status::new(now(), Parts { config: &config, caches, counters: &counters, overruns, grants, trouble })
    }

    fn finish(mut self) -> Result<()> {
        // What the kernel has handed over already was sent in time.
        self.receive()?;
        let high_water_mark = self.engine.caches().high_water_mark();
        self.saver.finish(high_water_mark).context("cannot save the floor")?;
        log("ends; rules and grants stay");
        Ok(())
    }
}

/// Decides about one datagram. For a knock the grants come first, then everything else.
fn handle(
    engine: &mut Engine,
    firewall: &mut dyn FirewallBackend,
    saver: &Saver,
    ignored: &mut Ignored,
    health: &mut Health,
    datagram: &Datagram<'_>,
) {
    match engine.handle(now(), datagram) {
        Decision::Accept { user, services } => {
            let done = grant(firewall, &user, &services, datagram.source);
            saver.save(engine.caches().high_water_mark());
            note(&mut health.firewall, done);
        }
        Decision::Ignore(reason) => {
            if let Some(line) = ignored.add(Instant::now(), reason, datagram.source) {
                log(&line);
            }
        }
    }
    if let Some(error) = engine.caches().take_failure() {
        log(&format!(
            "a valid knock from {} was refused, because it cannot be written to the journal: {error}",
            datagram.source
        ));
    }
}

/// Lets a source reach all services that a knock opens; returns the last error.
fn grant(
    firewall: &mut dyn FirewallBackend,
    user: &str,
    services: &[ServiceConfig],
    source: IpAddr,
) -> Result<()> {
    let mut opened = Vec::new();
    let mut result = Ok(());
    for config in services {
        let name = &config.service.name;
        match firewall.grant(config, source, config.ttl) {
            Ok(_) => opened.push(format!("{name} for {} s", config.ttl.as_secs())),
            Err(error) => result = Err(error.context(format!("cannot let {source} reach {name}"))),
        }
    }
    log(&format!("accepted: user {user} from {source} opens {}", opened.join(", ")));
    result
}

/// Remembers and tells an error of the firewall; the same one is told once.
fn note<T>(place: &mut Option<String>, done: Result<T>) {
    if let Err(error) = done {
        let text = format!("{error:#}");
        if place.as_ref() != Some(&text) {
            log(&text);
        }
        *place = Some(text);
    }
}

/// The caches, as the journal and the disk know them.
fn remember(gate: &Gate, config: &Config) -> Result<Caches> {
    let (journal, state) = (gate.run.join("journal"), gate.state.join("floor"));
    let opened = Journal::open(&journal).with_context(|| format!("cannot use {}", journal.display()))?;
    let saved = Saved::read(&state).with_context(|| format!("cannot use {}", state.display()))?;
    if opened.damaged {
        log(&format!("{} is damaged; knocks wait for one window", journal.display()));
    }
    let (time, widest) = (now(), config.widest());
    let caches = Caches::open(opened, Saved::start(saved, time, widest), time, widest)
        .with_context(|| format!("cannot write {}", journal.display()))?;
    // From now on the file tells less than was accepted. If that cannot be written, the next life would
    // believe what it finds.
    Saved { floor: caches.high_water_mark(), clean: false }.write(&state).with_context(|| {
        format!("cannot write {}, and so would not know after a reboot what was accepted", state.display())
    })?;
    Ok(caches)
}

fn make_folder(path: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("cannot make the folder {}", path.display()))
}

/// Two daemons in one folder would not know what the other has accepted.
fn lock(run: &Path) -> Result<Flock<File>> {
    let path = run.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((_, Errno::EAGAIN)) => bail!("another pkdd runs; it holds {}", path.display()),
        Err((_, error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(new, path)
}
