//! Receives signed images, and writes them to the second slot of the flash. The bootloader (embassy-boot) swaps the slots at the
//! next reset, and swaps them back at the reset after it, unless the new image has found the time.

use core::{cell::RefCell, hint::black_box, task::Waker};

use embassy_boot::{BlockingFirmwareState, State};
use embassy_net::tcp::TcpSocket;
use embassy_sync::{
    blocking_mutex::{Mutex, raw::NoopRawMutex},
    signal::Signal,
    waitqueue::WakerRegistration,
};
use embassy_time::{Duration, with_timeout};
use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};
use pkd_board::{Board, UpdateLayout};
use pkd_gateway::update::{HEADER_LENGTH, Identity, Incoming, Policy, UpdateError, Version};

use crate::StandardConfig;

/// How much of an image is written at once, in bytes. A multiple of what any flash writes, and a divisor of what any flash erases.
const CHUNK: usize = 1_024;
/// How long an image may take. Only someone who has a signed one gets so much time.
const TIMEOUT: Duration = Duration::from_secs(300);
/// The widest word of any flash, in bytes.
const WORD: usize = 32;

/// Resets the board.
pub type Reset = fn() -> !;

/// Creates the identity of the image for a board, which the board puts into a `static`.
///
/// # Panics
/// If the board's name is too long. In a `static`, that is an error of the compiler.
#[must_use]
pub const fn identity(board: &Board) -> Identity {
    let version = Version::of(
        env!("CARGO_PKG_VERSION_MAJOR"),
        env!("CARGO_PKG_VERSION_MINOR"),
        env!("CARGO_PKG_VERSION_PATCH"),
    );
    let Some(version) = version else { panic!("the package's version is not a version") };
    let Some(identity) = Identity::new(board.name, version) else { panic!("the board's name is too long") };
    identity
}

/// What the datapath, which owns the flash, has to do.
#[derive(Clone, Copy)]
enum Job {
    /// Write the first bytes of the buffer to this offset of the slot.
    Write { offset: u32, length: usize },
    /// Fill the first bytes of the buffer from this offset of the slot, if the bootloader has returned from the image there.
    ReadReturned { offset: u32, length: usize },
    /// Have the bootloader swap the slots.
    Activate,
}

struct Shared {
    /// Whether an image arrives.
    is_busy: bool,
    job: Option<Job>,
    waker: WakerRegistration,
    bytes: [u8; CHUNK],
}

/// Between the HTTP server and the datapath.
pub(crate) struct Updates {
    running: &'static Identity,
    layout: UpdateLayout,
    reset: Reset,
    shared: Mutex<NoopRawMutex, RefCell<Shared>>,
    /// `false` if there was nothing to do.
    done: Signal<NoopRawMutex, Result<bool, UpdateError>>,
}

impl Updates {
    pub(crate) fn new(running: &'static Identity, layout: UpdateLayout, reset: Reset) -> Self {
        // Its fields are constants, so the compiler could inline them and leave the identity out of the image.
        let running = black_box(running);
        let shared = Shared { is_busy: false, job: None, waker: WakerRegistration::new(), bytes: [0; CHUNK] };
        Self { running, layout, reset, shared: Mutex::new(RefCell::new(shared)), done: Signal::new() }
    }

    pub(crate) fn reset(&self) -> ! {
        (self.reset)()
    }

    /// Receives an image of `length` bytes, header included, and has it started at the next reset. `header` is its header.
    pub(crate) async fn receive(
        &self,
        socket: &mut TcpSocket<'_>,
        config: &StandardConfig,
        header: &[u8; HEADER_LENGTH],
        length: u32,
    ) -> Result<Version, UpdateError> {
        let Self { running, layout: UpdateLayout { image_bytes: capacity, .. }, .. } = *self;
        let policy = Policy { key: config.update.as_ref(), running, capacity };
        let incoming = Incoming::accept(header, length, &policy)?;
        if self.with(|shared| core::mem::replace(&mut shared.is_busy, true)) {
            return Err(UpdateError::Busy);
        }
        defmt::info!("update: receiving {} bytes", incoming.remaining());
        let is_forced = config.update.as_ref().is_some_and(|key| key.allow_older);
        let outcome = with_timeout(TIMEOUT, async {
            if !is_forced && self.has_returned_from(incoming.clone()).await? {
                return Err(UpdateError::Returned);
            }
            self.store(socket, incoming).await
        })
        .await;
        self.with(|shared| shared.is_busy = false);
        outcome.unwrap_or(Err(UpdateError::Length))
    }

    /// Whether the bootloader has returned from this image, which it leaves in the slot. Anyone who captured such an image could
    /// otherwise replay it, and reset the board each time: it is newer than the running one.
    async fn has_returned_from(&self, mut image: Incoming) -> Result<bool, UpdateError> {
        let mut offset = 0;
        while image.remaining() > 0 {
            let length = chunk(image.remaining());
            if !self.order(Job::ReadReturned { offset, length }).await? {
                return Ok(false);
            }
            self.with(|shared| image.update(shared.bytes.get(..length).unwrap_or_default()))?;
            offset += u32::try_from(length).unwrap_or(0);
        }
        Ok(image.finish().is_ok())
    }

    async fn store(
        &self,
        socket: &mut TcpSocket<'_>,
        mut incoming: Incoming,
    ) -> Result<Version, UpdateError> {
        let mut offset = 0;
        while incoming.remaining() > 0 {
            let mut bytes = [0xff; CHUNK];
            let length = chunk(incoming.remaining());
            let Some(piece) = bytes.get_mut(..length) else { return Err(UpdateError::Length) };
            read_exact(socket, piece).await?;
            incoming.update(piece)?;
            self.with(|shared| shared.bytes = bytes);
            self.order(Job::Write { offset, length: CHUNK }).await?;
            offset += u32::try_from(CHUNK).unwrap_or(0);
        }
        let version = incoming.finish()?;
        self.order(Job::Activate).await?;
        Ok(version)
    }

    async fn order(&self, job: Job) -> Result<bool, UpdateError> {
        self.done.reset();
        self.with(|shared| {
            shared.job = Some(job);
            shared.waker.wake();
        });
        self.done.wait().await
    }

    /// Does what was ordered. The datapath calls it whenever it runs.
    pub(crate) fn work(&self, flash: &mut impl NorFlash, waker: &Waker) {
        let outcome = self.with(|shared| {
            shared.waker.register(waker);
            let outcome = match shared.job.take()? {
                Job::Write { offset, length } => {
                    write(flash, &self.layout, offset, shared.bytes.get(..length).unwrap_or_default())
                        .map(|()| true)
                }
                Job::ReadReturned { offset, length } => {
                    let bytes = shared.bytes.get_mut(..length).unwrap_or_default();
                    read_returned(flash, &self.layout, offset, bytes)
                }
                Job::Activate => with_state(flash, &self.layout, |state| {
                    state.mark_updated().map(|()| true).map_err(|_| UpdateError::Flash)
                }),
            };
            Some(outcome)
        });
        if let Some(outcome) = outcome {
            self.done.signal(outcome);
        }
    }

    /// Keeps the running image, if it is new.
    pub(crate) fn confirm(&self, flash: &mut impl NorFlash) {
        let confirmed = with_state(flash, &self.layout, |state| {
            if state.get_state().map_err(|_| UpdateError::Flash)? != State::Swap {
                return Ok(false);
            }
            state.mark_booted().map_err(|_| UpdateError::Flash)?;
            Ok(true)
        });
        match confirmed {
            Ok(true) => defmt::info!("update: the new image works, and stays"),
            Ok(false) => {}
            Err(why) => defmt::error!("update: {}", defmt::Display2Format(&why)),
        }
    }

    fn with<R>(&self, access: impl FnOnce(&mut Shared) -> R) -> R {
        self.shared.lock(|shared| access(&mut shared.borrow_mut()))
    }
}

/// Fills `bytes`.
pub(crate) async fn read_exact(socket: &mut TcpSocket<'_>, mut bytes: &mut [u8]) -> Result<(), UpdateError> {
    while !bytes.is_empty() {
        match socket.read(bytes).await {
            Ok(0) | Err(_) => return Err(UpdateError::Length),
            Ok(length) => bytes = bytes.get_mut(length..).unwrap_or_default(),
        }
    }
    Ok(())
}

/// How much of these remaining bytes is handled at once.
fn chunk(remaining: u32) -> usize {
    usize::try_from(remaining).unwrap_or(CHUNK).min(CHUNK)
}

/// Reads the slot, if the bootloader has returned from the image there. Returns whether it has.
fn read_returned<S: NorFlash>(
    flash: &mut S,
    layout: &UpdateLayout,
    offset: u32,
    bytes: &mut [u8],
) -> Result<bool, UpdateError> {
    let state = with_state(flash, layout, |state| state.get_state().map_err(|_| UpdateError::Flash))?;
    if state != State::Revert {
        return Ok(false);
    }
    flash.read(layout.slot + offset, bytes).map_err(|_| UpdateError::Flash)?;
    Ok(true)
}

/// Writes to the slot, and reads it back. Erases each sector before its first byte.
fn write<S: NorFlash>(
    flash: &mut S,
    layout: &UpdateLayout,
    offset: u32,
    bytes: &[u8],
) -> Result<(), UpdateError> {
    if offset == 0 {
        // The other slot has the image to return to, until the running one is confirmed.
        let state = with_state(flash, layout, |state| state.get_state().map_err(|_| UpdateError::Flash))?;
        if state == State::Swap {
            return Err(UpdateError::Busy);
        }
    }
    let sector = u32::try_from(S::ERASE_SIZE).map_err(|_| UpdateError::Flash)?;
    let start = layout.slot + offset;
    let end = start + u32::try_from(bytes.len()).map_err(|_| UpdateError::Flash)?;
    let mut erase = start.next_multiple_of(sector);
    while erase < end {
        flash.erase(erase, erase + sector).map_err(|_| UpdateError::Flash)?;
        erase += sector;
    }
    flash.write(start, bytes).map_err(|_| UpdateError::Flash)?;
    let mut at = start;
    for piece in bytes.chunks(WORD) {
        let mut read = [0; WORD];
        let read = read.get_mut(..piece.len()).unwrap_or_default();
        flash.read(at, read).map_err(|_| UpdateError::Flash)?;
        if read != piece {
            return Err(UpdateError::Flash);
        }
        at += u32::try_from(piece.len()).map_err(|_| UpdateError::Flash)?;
    }
    Ok(())
}

fn with_state<S: NorFlash, R>(
    flash: &mut S,
    layout: &UpdateLayout,
    access: impl FnOnce(&mut BlockingFirmwareState<'_, Part<'_, S>>) -> Result<R, UpdateError>,
) -> Result<R, UpdateError> {
    #[repr(align(32))]
    struct Word([u8; WORD]);
    let mut word = Word([0; WORD]);
    let Some(word) = word.0.get_mut(..S::WRITE_SIZE) else { return Err(UpdateError::Flash) };
    let part = Part { flash, start: layout.state, bytes: layout.state_bytes };
    access(&mut BlockingFirmwareState::new(part, word))
}

/// A part of a flash.
struct Part<'a, S> {
    flash: &'a mut S,
    start: u32,
    bytes: u32,
}

impl<S: ErrorType> ErrorType for Part<'_, S> {
    type Error = S::Error;
}

impl<S: NorFlash> ReadNorFlash for Part<'_, S> {
    const READ_SIZE: usize = S::READ_SIZE;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), S::Error> {
        self.flash.read(self.start + offset, bytes)
    }

    fn capacity(&self) -> usize {
        usize::try_from(self.bytes).unwrap_or(usize::MAX)
    }
}

impl<S: NorFlash> NorFlash for Part<'_, S> {
    const WRITE_SIZE: usize = S::WRITE_SIZE;
    const ERASE_SIZE: usize = S::ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), S::Error> {
        self.flash.erase(self.start + from, self.start + to)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), S::Error> {
        self.flash.write(self.start + offset, bytes)
    }
}
