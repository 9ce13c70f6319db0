//! A serial line: log lines, `status`, and a new configuration. Bytes come and go by the board's driver.
//!
//! The task that owns gateway and flash does the work: the datapath, or the loop of a board without a valid configuration.

use core::{
    cell::RefCell,
    fmt::{self, Write},
};

use embassy_sync::{
    blocking_mutex::{Mutex, raw::CriticalSectionRawMutex},
    channel::Channel,
    signal::Signal,
};
use embedded_storage::nor_flash::NorFlash;
use heapless::{String, Vec};
use pkd_board::{
    Board,
    console::{Command, Console, HELP},
    slots::{self, Buffer},
};
use pkd_gateway::{CONFIG_LIMIT, Config};
use static_cell::{ConstStaticCell, StaticCell};

use crate::StandardConfig;

/// Length of the longest answer in bytes: all metrics.
const ANSWER: usize = 4_096;
/// Length of the longest log line in bytes.
const LINE: usize = 120;

/// What the owner of gateway and flash is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Job {
    Status,
    Save,
}

struct Shared {
    job: Option<Job>,
    /// The configuration to be saved.
    new: Vec<u8, CONFIG_LIMIT>,
    answer: String<ANSWER>,
}

static SHARED: Mutex<CriticalSectionRawMutex, RefCell<Shared>> =
    Mutex::new(RefCell::new(Shared { job: None, new: Vec::new(), answer: String::new() }));
static DONE: Signal<CriticalSectionRawMutex, ()> = Signal::new();
static LINES: Channel<CriticalSectionRawMutex, String<LINE>, 8> = Channel::new();

/// Adds a log line. If nobody reads them, the oldest goes. What does not fit a line is left out.
pub fn log(line: fmt::Arguments<'_>) {
    let mut text = String::new();
    let _fits = text.write_fmt(line);
    if let Err(full) = LINES.try_send(text) {
        let _oldest = LINES.try_receive();
        let embassy_sync::channel::TrySendError::Full(text) = full;
        let _sent = LINES.try_send(text);
    }
}

/// Does what the serial line has asked for. `status` writes what the gateway does.
pub(crate) fn serve(
    flash: &mut impl NorFlash,
    board: &Board,
    buffer: &mut Buffer,
    status: impl FnOnce(&mut String<ANSWER>) -> fmt::Result,
) {
    let is_done = SHARED.lock(|shared| {
        let shared = &mut *shared.borrow_mut();
        let Some(job) = shared.job.take() else { return false };
        shared.answer.clear();
        let _fits = match job {
            Job::Status => status(&mut shared.answer),
            Job::Save => match slots::replace(flash, board.flash, &shared.new, buffer) {
                Ok(()) => shared.answer.write_str("saved: type restart to use it"),
                Err(why) => write!(shared.answer, "not saved: {why}"),
            },
        };
        wipe(&mut shared.new);
        true
    });
    if is_done {
        DONE.signal(());
    }
}

fn wipe(bytes: &mut Vec<u8, CONFIG_LIMIT>) {
    bytes.iter_mut().for_each(|byte| *byte = 0);
    bytes.clear();
}

/// What a byte of the serial line has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Nothing yet.
    Wait,
    /// [`Desk::answer`] is to be sent.
    Answer,
    /// The board is to be reset.
    Restart,
}

/// The serial line's end of it.
pub struct Desk {
    board: &'static Board,
    console: &'static mut Console,
    /// What is received is parsed here, to see whether it is valid.
    parsed: &'static mut StandardConfig,
    answer: &'static mut String<ANSWER>,
}

impl Desk {
    /// Call it once.
    ///
    /// # Panics
    /// If it is called again.
    #[must_use]
    pub fn new(board: &'static Board) -> Self {
        static CONSOLE: ConstStaticCell<Console> = ConstStaticCell::new(Console::new());
        static PARSED: StaticCell<StandardConfig> = StaticCell::new();
        static TEXT: ConstStaticCell<String<ANSWER>> = ConstStaticCell::new(String::new());
        Self { board, console: CONSOLE.take(), parsed: PARSED.init_with(Config::new), answer: TEXT.take() }
    }

    /// Handles a received byte.
    pub async fn on_byte(&mut self, byte: u8) -> Reaction {
        let Some(outcome) = self.console.on_byte(byte) else { return Reaction::Wait };
        self.answer.clear();
        match outcome {
            Ok(Command::Restart) => return Reaction::Restart,
            Ok(Command::Help) => self.say(format_args!("{HELP}")),
            Ok(Command::Status) => self.ask(Job::Status).await,
            Ok(Command::Save) => self.save().await,
            Err(why) => self.say(format_args!("{why}")),
        }
        Reaction::Answer
    }

    /// The answer to the last command.
    #[must_use]
    pub fn answer(&self) -> &str {
        self.answer
    }

    /// Waits for the next log line.
    pub async fn line(&self) -> String<LINE> {
        LINES.receive().await
    }

    fn say(&mut self, text: fmt::Arguments<'_>) {
        // What does not fit is left out.
        let _fits = self.answer.write_fmt(text);
    }

    /// Saves a configuration that this board can run.
    async fn save(&mut self) {
        *self.parsed = Config::new();
        let read = self.parsed.read(self.console.received());
        let checked = read.map(|()| self.board.check(self.parsed.mode, self.parsed.update.is_some()));
        // It has keys.
        *self.parsed = Config::new();
        match checked {
            Ok(Ok(())) => {
                SHARED.lock(|shared| {
                    let new = &mut shared.borrow_mut().new;
                    new.clear();
                    // Both have the same length.
                    let _fits = new.extend_from_slice(self.console.received());
                });
                self.ask(Job::Save).await;
            }
            Ok(Err(why)) => self.say(format_args!("not saved: {why}")),
            Err(why) => self.say(format_args!("not saved: {why}")),
        }
        self.console.forget();
    }

    async fn ask(&mut self, job: Job) {
        DONE.reset();
        SHARED.lock(|shared| shared.borrow_mut().job = Some(job));
        DONE.wait().await;
        SHARED.lock(|shared| {
            let _fits = self.answer.push_str(&shared.borrow().answer);
        });
    }
}
