//! The running daemon: one thread that handles knocks, signals and requests, in this order of priority.

use std::{
    fs::{File, OpenOptions},
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{atomic::Ordering, mpsc::Receiver},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use nix::{
    errno::Errno,
    fcntl::Flock,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use pkd_core::UnixSeconds;
use pktables::{Change, Sender};
use sd_notify::NotifyState;

use crate::{
    atomic_file::{self, PUBLIC},
    by_hand,
    config::{Config, Firewall, Gate, User},
    control::{self, Query, Request},
    date::{now, now_millis},
    engine::Engine,
    firewall::{
        self, ActiveGrant, FirewallBackend, Integrity, Look, Recorded,
        reconcile::{self, Openers},
    },
    floor::{self, Savers},
    format::seconds,
    guard::{self, Guard},
    health::{Health, record_error},
    hints::Words,
    journal::Effect,
    knock,
    news::News,
    nflog::{Nflog, Received},
    privileges::{self, Sandbox},
    report::{Ignored, log},
    run_folder,
    signals::Signals,
    source,
    status::{Parts, Status, Verdicts},
    stored::Stored,
    uptime::Uptime,
};

/// Interval of the log's summary lines and of expiring grants.
const TICK: Duration = Duration::from_secs(1);
/// The shortest time between two tries to repair the firewall.
const RETRY: Duration = Duration::from_millis(250);
/// Interval of checking the rules, compacting the journal and writing the metrics.
const SLOW_TICK: Duration = Duration::from_secs(10);
/// Reads from NFLOG before signals and requests get their turn.
const BURST: usize = 256;

/// Runs until SIGTERM or SIGINT. Rules and grants stay, so that a restart does not interrupt anything.
///
/// # Errors
/// The daemon cannot start; or, later, its sockets fail or the last floor cannot be saved.
pub fn run(path: &Path) -> Result<()> {
    // Whatever goes wrong from here on, the ports are closed.
    let mut guard_error = None;
    match guard::install(path) {
        Ok(Guard::LastGood(_)) => log("the guard of the last good configuration is installed"),
        Ok(_) => {}
        // The other process guards, and would not let this one do anything.
        Err(error) if firewall::is_held_by_another(&error) => return Err(error),
        Err(error) => guard_error = Some(format!("{error:#}")),
    }
    let start = || -> Result<(Daemon, Look)> {
        let config = source::read(path)?;
        config.warnings.iter().for_each(|warning| log(&format!("warning: {warning}")));
        // As the user who starts pkdd: after the start it may be another one.
        let look = Look::begin(&config);
        Ok((Daemon::start(path, config)?, look))
    };
    let started = start();
    let error = started.as_ref().err().map(|error| format!("{error:#}"));
    // Usually the start has failed for the same reason.
    if let Some(text) = guard_error.filter(|text| Some(text) != error.as_ref()) {
        log(&format!("cannot install the guard: {text}"));
    }
    let (mut daemon, look) = started?;
    log(&format!("version {} started, accepting knocks", env!("CARGO_PKG_VERSION")));
    tell_systemd(NotifyState::Ready);
    look.log(daemon.engine.config());
    while !daemon.signals.terminate.load(Ordering::Relaxed) {
        daemon.wait()?;
    }
    tell_systemd(NotifyState::Stopping);
    daemon.finish()
}

/// Does nothing without systemd.
fn tell_systemd(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        log(&format!("warning: cannot notify systemd: {error}"));
    }
}

struct Daemon {
    path: PathBuf,
    engine: Engine,
    firewall: Recorded,
    nflog: Nflog,
    savers: Savers,
    signals: Signals,
    requests: Receiver<Request>,
    ignored: Ignored,
    overruns: u64,
    health: Health,
    news: News,
    next_retry: Instant,
    next_tick: Instant,
    next_slow_tick: Instant,
    _lock: Flock<File>,
}

impl Daemon {
    fn start(path: &Path, config: Config) -> Result<Self> {
        let gate = config.gate.clone();
        let (signals, waker) = Signals::catch().context("cannot catch signals")?;
        let mut folders = vec![gate.run.as_path(), gate.state.as_path()];
        folders.iter().try_for_each(|folder| run_folder::create(folder))?;
        let locks = firewall::locks(gate.firewall);
        for path in &locks {
            let created = OpenOptions::new().create(true).append(true).open(path);
            created.with_context(|| format!("cannot create {}", path.display()))?;
        }
        if let Some(user) = &gate.user {
            privileges::drop_privileges(user, &[&folders[..], &locks].concat())?;
        }
        let lock = run_folder::lock(&gate.run)?.with_context(|| run_folder::in_use(&gate.run))?;
        if !privileges::may_change_rules() {
            bail!("missing CAP_NET_ADMIN: start pkdd as root or with its systemd unit");
        }
        folders.extend(gate.metrics.as_deref().and_then(Path::parent));
        let files = [&locks[..], &[Path::new("/dev/null")]].concat();
        if privileges::sandbox(&folders, &files)? == Sandbox::Unsupported {
            log("warning: the kernel does not support Landlock, so pkdd runs without write restrictions");
        }
        let nflog = Nflog::open(gate.group).map_err(|error| match error.kind() {
            // This process may use it: that was checked above.
            io::ErrorKind::PermissionDenied | io::ErrorKind::ResourceBusy => anyhow!(
                "another program uses NFLOG group {group}: stop it, or set gate.group to another number",
                group = gate.group
            ),
            _ => anyhow!(error).context(format!("cannot use NFLOG group {}", gate.group)),
        })?;
        let time = now_millis();
        let stored = Stored::open(&gate, &config, time)?;
        let mut firewall = Recorded::new(firewall::open(gate.firewall)?);
        firewall.set_words(Words::new(&config, time).all())?;
        firewall.install(&config, &run_folder::service_list(&gate.run))?;
        let (caches, floors) = stored.into_parts();
        let mut engine = Engine::new(config, caches, time).context("cannot write the journal")?;
        let savers = floors.start_savers(&gate, engine.caches())?;
        let requests = control::listen(&run_folder::socket(&gate.run), move || {
            // If the stream is full, the daemon is awake already.
            let _ = io::Write::write(&mut &waker, &[1]);
        })
        .with_context(|| format!("cannot listen on {}", run_folder::socket(&gate.run).display()))?;
        let mut daemon = Self {
            path: path.to_owned(),
            engine,
            firewall,
            nflog,
            savers,
            signals,
            requests,
            ignored: Ignored::default(),
            overruns: 0,
            health: Health::default(),
            news: News::default(),
            next_retry: Instant::now(),
            next_tick: Instant::now(),
            next_slow_tick: Instant::now(),
            _lock: lock,
        };
        daemon.check_floor();
        daemon.reconcile();
        daemon.remember_guard();
        Ok(daemon)
    }

    /// Waits for packets, signals, requests or the next tick, and handles them.
    fn wait(&mut self) -> Result<()> {
        let begin = Instant::now();
        let mut next = self.next_tick.min(self.next_slow_tick);
        if self.health.firewall.is_some() {
            next = next.min(self.next_retry);
        }
        let next = next.saturating_duration_since(begin);
        let timeout = PollTimeout::try_from(next + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        let mut sources = vec![
            PollFd::new(self.nflog.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.wake.as_fd(), PollFlags::POLLIN),
        ];
        sources.extend(self.firewall.notifications().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        match poll(&mut sources, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("cannot wait for packets"),
        }
        self.receive()?;
        self.retry();
        match self.firewall.was_notified() {
            Ok(true) => self.check(),
            Ok(false) => {}
            Err(error) => record_error::<()>(&mut self.health.firewall, Err(error)),
        }
        self.signals.drain();
        if self.signals.reload.swap(false, Ordering::Relaxed) {
            self.reload();
        }
        if self.signals.restore.swap(false, Ordering::Relaxed) {
            let config = self.engine.config().clone();
            let result = self.firewall.install(&config, &run_folder::service_list(&config.gate.run));
            record_error(&mut self.health.firewall, result);
            self.reconcile();
        }
        while let Ok(request) = self.requests.try_recv() {
            let text = match request.query {
                #[cfg(feature = "events")]
                Query::Follow => {
                    self.news.tell(&mut self.firewall, &self.health);
                    self.news.follow(request.into_stream());
                    continue;
                }
                #[cfg(feature = "events")]
                Query::Events => crate::news::remembered(&self.engine),
                Query::Status => serde_json::to_string(&self.status()).unwrap_or_default() + "\n",
                Query::StatusText => self.status().text(),
                Query::Metrics => self.status().metrics(),
                Query::Reload => {
                    self.reload();
                    self.health.configuration.clone().unwrap_or_else(|| control::RELOADED.to_owned())
                }
                Query::Grant(address, seconds) => {
                    by_hand::grant(&mut self.firewall, self.engine.config(), address, seconds)
                }
                Query::Revoke(address) => by_hand::revoke(&mut self.firewall, &mut self.engine, address),
            };
            request.answer(text);
        }
        self.tick(Instant::now());
        self.end_connections();
        self.news.tell(&mut self.firewall, &self.health);
        Ok(())
    }

    fn receive(&mut self) -> Result<()> {
        for _ in 0..BURST {
            let Self { nflog, engine, firewall, savers, ignored, health, news, .. } = self;
            let received = nflog.receive(|logged| {
                knock::handle(engine, firewall, savers, ignored, health, news.feed(), logged);
            });
            news.tell(firewall, health);
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
                log("configuration reloaded");
                Look::begin(self.engine.config()).log(self.engine.config());
            }
            Err(error) => {
                let text = format!("{error:#}");
                log(&format!("configuration not reloaded, the previous one stays in force: {text}"));
                self.health.configuration = Some(text);
            }
        }
    }

    fn try_reload(&mut self) -> Result<()> {
        let config = source::read(&self.path)?;
        let (old, new) = (&self.engine.config().gate, &config.gate);
        let fixed =
            |gate: &Gate| (gate.run.clone(), gate.state.clone(), gate.firewall, gate.group, gate.save);
        if fixed(old) != fixed(new) {
            bail!("gate: run, state, save, firewall and group cannot change at runtime: restart pkdd");
        }
        config.warnings.iter().for_each(|warning| log(&format!("warning: {warning}")));
        let list = run_folder::service_list(&config.gate.run);
        let before = self.engine.config().clone();
        self.firewall.set_words(Words::new(&config, now_millis()).all())?;
        self.firewall.install(&config, &list).inspect_err(|_| {
            // The first error says more than one of this.
            if let Err(error) = self.firewall.install(&before, &list) {
                log(&format!("cannot restore the previous rules: {error:#}"));
            }
        })?;
        self.engine.reload(config, now_millis()).context("cannot write the journal")?;
        self.reconcile();
        self.remember_guard();
        Ok(())
    }

    /// Keeps what the next start guards if the configuration has an error then.
    fn remember_guard(&self) {
        // firewall4's policy is the guard, and pkdd may not read the service's file.
        if self.engine.config().gate.firewall == Firewall::Firewall4 {
            return;
        }
        if let Err(error) = guard::remember(&self.path, &self.engine.config().gate.state) {
            log(&format!("warning: {error:#}; after an error in the configuration, an older one is guarded"));
        }
    }

    /// Makes missing grants and revokes grants that users have lost.
    fn reconcile(&mut self) {
        let config = self.engine.config().clone();
        let effects = self.engine.effects();
        let result = reconcile::reconcile(&mut self.firewall, &config, &effects, (now(), Uptime::now()));
        record_error(&mut self.health.firewall, result);
        self.firewall.follow(&config, &effects);
    }

    /// Ends the connections of grants that are over, for services that want it.
    fn end_connections(&mut self) {
        match self.firewall.end_connections(self.engine.config()) {
            Some(Ok(())) => self.health.connections = None,
            Some(Err(error)) => record_error::<()>(&mut self.health.connections, Err(error)),
            None => {}
        }
    }

    /// Looks whether a floor is too far ahead of the clock, which may have been corrected since the start.
    fn check_floor(&mut self) {
        let config = self.engine.config().clone();
        let (engine, savers, time) = (&self.engine, &self.savers, now_millis());
        let floors = config.users.iter().map(|(name, user)| {
            let floor = engine.report(user, time).map_or(UnixSeconds(0), |report| report.floor);
            (name.as_str(), floor.max(savers.first(user)))
        });
        match floor::implausible(floors, seconds(time), config.widest()) {
            None => self.health.floor = None,
            Some(problem) => record_error::<()>(&mut self.health.floor, Err(anyhow::Error::msg(problem))),
        }
    }

    fn tick(&mut self, instant: Instant) {
        if instant >= self.next_tick {
            self.next_tick = instant + TICK;
            tell_systemd(NotifyState::Watchdog);
            if let Some(line) = self.ignored.line(instant) {
                log(&line);
            }
            self.firewall.end(instant);
            self.news.feed().look();
            // The words of a slot have to be there when it begins, and after the clock was set.
            if self.engine.refresh(now_millis()) {
                let result = self.firewall.set_words(self.engine.words().all());
                record_error(&mut self.health.firewall, result);
            }
            if self.health.firewall.is_none() && self.firewall.needs_polling() {
                self.check();
            }
            if self.firewall.needs_expiry() {
                let result = self.firewall.expire();
                record_error(&mut self.health.firewall, result);
            }
        }
        if instant >= self.next_slow_tick {
            self.next_slow_tick = instant + SLOW_TICK;
            let config = self.engine.config().clone();
            self.check_floor();
            self.compact(&config);
            if self.health.firewall.is_none() {
                self.check();
            }
            if let Some(path) = &config.gate.metrics
                && let Err(error) = atomic_file::replace(path, PUBLIC, self.status().metrics().as_bytes())
            {
                log(&format!("cannot write {}: {error}", path.display()));
            }
        }
    }

    fn compact(&mut self, config: &Config) {
        let (time, uptime) = (now_millis(), Uptime::now());
        let in_use = |effect: Effect| reconcile::is_in_use(config, &effect, uptime);
        let caches = self.engine.caches();
        let classic = caches.classic.compact(seconds(time), |knock| in_use(knock.effect()));
        let format2 = caches.format2.compact(time, |knock| in_use(knock.effect()));
        if let Err(error) = classic.and(format2) {
            log(&format!("cannot compact the journal: {error}"));
        }
    }

    /// Tries again, some time after the firewall has refused a change. Until then, a knock's grant is missing.
    fn retry(&mut self) {
        let now = Instant::now();
        if self.health.firewall.is_some() && now >= self.next_retry {
            let config = self.engine.config().clone();
            self.repair(&config);
            self.next_retry = now + RETRY;
        }
    }

    /// Looks whether another program has changed the rules, and repairs them.
    fn check(&mut self) {
        let config = self.engine.config().clone();
        match self.firewall.check(&config) {
            Ok(Integrity::Intact) => {}
            Ok(Integrity::Damaged) => self.repair(&config),
            Err(error) => record_error::<()>(&mut self.health.firewall, Err(error)),
        }
    }

    /// Restores rules that another program has removed, or retries after the firewall has refused a change.
    fn repair(&mut self, config: &Config) {
        match self.firewall.install(config, &run_folder::service_list(&config.gate.run)) {
            Ok(change) => {
                if change == Change::Made || self.health.firewall.is_some() {
                    log("restored the rules: the firewall had lost some or refused a change");
                }
                self.health.firewall = None;
                self.reconcile();
            }
            Err(error) => record_error::<()>(&mut self.health.firewall, Err(error)),
        }
    }

    fn status(&mut self) -> Status {
        self.check_floor();
        let config = self.engine.config().clone();
        let grants = self.firewall.list(&config);
        let mut trouble: Vec<String> =
            Some(self.health.text()).into_iter().filter(|text| !text.is_empty()).collect();
        let grants = grants.unwrap_or_else(|error| {
            trouble.push(format!("{error:#}"));
            Vec::new()
        });
        let limited = self.firewall.limited().unwrap_or_else(|error| {
            trouble.push(format!("{error:#}"));
            0
        });
        let counters = Verdicts { waiting: self.engine.waiting(), ..self.engine.counters().into() };
        let (overruns, trouble) = (self.overruns, trouble.join("; "));
        let (engine, time) = (&self.engine, now_millis());
        let cache = |user: &User| engine.report(user, time);
        let effects = engine.effects();
        let openers = Openers::new(&config, &effects, Uptime::now());
        let opener = |grant: &ActiveGrant| {
            let sender = Sender::new(grant.address.addr(), grant.interface);
            openers.of(&grant.service, sender).map(str::to_owned)
        };
        Status::new(
            seconds(time),
            Parts {
                config: &config,
                cache: &cache,
                opener: &opener,
                counters,
                limited,
                overruns,
                grants,
                trouble,
            },
        )
    }

    fn finish(mut self) -> Result<()> {
        // Knocks that the kernel has already queued still count.
        self.receive()?;
        if let Err(error) = self.firewall.finish() {
            log(&format!("cannot end the grants of link-local addresses: {error:#}"));
        }
        let caches = self.engine.caches();
        let (classic, format2) = (caches.classic.greatest(), caches.format2.greatest());
        let saved = self.savers.classic.finish(&classic);
        saved.and(self.savers.format2.finish(&format2)).context("cannot save the floor")?;
        log("stopped; rules and grants stay");
        Ok(())
    }
}
