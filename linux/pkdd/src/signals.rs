//! Signals, as flags that the daemon's loop looks at.

use std::{
    io::{self, Read},
    os::unix::net::UnixStream,
    sync::{Arc, atomic::AtomicBool},
};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};

/// The signals that have arrived.
pub(crate) struct Signals {
    pub(crate) terminate: Arc<AtomicBool>,
    pub(crate) reload: Arc<AtomicBool>,
    pub(crate) restore: Arc<AtomicBool>,
    /// Readable after a signal or a request.
    pub(crate) wake: UnixStream,
}

impl Signals {
    /// Also returns the other end of `wake`, for the control socket's thread.
    pub(crate) fn catch() -> io::Result<(Self, UnixStream)> {
        let (wake, waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        waker.set_nonblocking(true)?;
        let [terminate, reload, restore] = std::array::from_fn(|_| Arc::new(AtomicBool::new(false)));
        let flags = [(SIGTERM, &terminate), (SIGINT, &terminate), (SIGHUP, &reload), (SIGUSR1, &restore)];
        for (signal, flag) in flags {
            signal_hook::flag::register(signal, Arc::clone(flag))?;
            signal_hook::low_level::pipe::register(signal, waker.try_clone()?)?;
        }
        Ok((Self { terminate, reload, restore, wake }, waker))
    }

    pub(crate) fn drain(&mut self) {
        let mut bytes = [0; 64];
        while self.wake.read(&mut bytes).is_ok_and(|length| length > 0) {}
    }
}
