//! The commands of a serial line, without the line.
//!
//! ```text
//! help
//! status
//! config 160                   the length of a configuration in bytes
//! 504b4467…                    its bytes, in hexadecimal, in as many lines as you like
//! restart
//! ```
//!
//! Nothing reads a configuration back: it has keys.

use core::fmt;

use heapless::Vec;
use pkd_gateway::CONFIG_LIMIT;

/// Length of the longest line in bytes.
const LINE: usize = 256;

/// A command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Print the commands.
    Help,
    /// Print what the gateway does.
    Status,
    /// Use the configuration in [`Console::received`] from the next start on.
    Save,
    /// Reset the board.
    Restart,
}

/// What [`Command::Help`] prints.
pub const HELP: &str = "status        what the gateway does\r\n\
config N      a new configuration of N bytes, in hexadecimal, follows\r\n\
restart       start again, with the new configuration\r\n";

/// Why a line is not a command. Its text does not repeat the line, which may be part of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineError {
    /// It is too long.
    Length,
    /// There is no such command.
    Unknown,
    /// The length of a configuration is not a number, or too great.
    Size,
    /// It is not hexadecimal, in the middle of a configuration.
    Digits,
    /// It has more bytes than were announced.
    TooMany,
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => write!(f, "a line is too long: expected at most {LINE} bytes"),
            Self::Unknown => f.write_str("unknown command: try help"),
            Self::Size => write!(f, "config: expected a length of 1–{CONFIG_LIMIT}"),
            Self::Digits => {
                f.write_str("config: expected pairs of hexadecimal digits; start again with config")
            }
            Self::TooMany => f.write_str("config: more bytes than announced; start again with config"),
        }
    }
}

/// Collects lines.
#[derive(Debug, Default)]
pub struct Console {
    line: Vec<u8, LINE>,
    is_too_long: bool,
    state: State,
    received: Vec<u8, CONFIG_LIMIT>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Commands,
    /// So many bytes of a configuration are expected in all.
    Config(usize),
    /// The rest of a configuration that was refused.
    Skipping,
}

impl Console {
    /// A console that has received nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { line: Vec::new(), is_too_long: false, state: State::Commands, received: Vec::new() }
    }

    /// Handles a byte. Returns what a line has come to when the byte ends one.
    pub fn on_byte(&mut self, byte: u8) -> Option<Result<Command, LineError>> {
        if byte != b'\n' && byte != b'\r' {
            self.is_too_long |= self.line.push(byte).is_err();
            return None;
        }
        let outcome = if core::mem::take(&mut self.is_too_long) {
            self.state = State::Skipping;
            Some(Err(LineError::Length))
        } else {
            self.on_line()
        };
        self.line.clear();
        outcome
    }

    /// The bytes of the configuration to be saved. Call [`forget`](Self::forget) afterwards.
    #[must_use]
    pub fn received(&self) -> &[u8] {
        &self.received
    }

    /// Forgets the configuration and whatever was begun.
    pub fn forget(&mut self) {
        self.received.iter_mut().for_each(|byte| *byte = 0);
        self.received.clear();
        self.line.clear();
        self.state = State::Commands;
    }

    fn on_line(&mut self) -> Option<Result<Command, LineError>> {
        let line = self.line.trim_ascii();
        if line.is_empty() {
            return None;
        }
        if self.state == State::Skipping {
            if line.iter().all(u8::is_ascii_hexdigit) {
                return None;
            }
            self.state = State::Commands;
        }
        if let State::Config(length) = self.state {
            return match add(&mut self.received, line, length) {
                Ok(false) => None,
                Ok(true) => {
                    self.state = State::Commands;
                    Some(Ok(Command::Save))
                }
                Err(why) => {
                    self.forget();
                    self.state = State::Skipping;
                    Some(Err(why))
                }
            };
        }
        Some(match line {
            b"help" => Ok(Command::Help),
            b"status" => Ok(Command::Status),
            b"restart" => Ok(Command::Restart),
            line => match line.strip_prefix(b"config") {
                Some(length) => match size(length) {
                    Some(length) => {
                        self.received.clear();
                        self.state = State::Config(length);
                        return None;
                    }
                    None => Err(LineError::Size),
                },
                None => Err(LineError::Unknown),
            },
        })
    }
}

/// The length of a configuration.
fn size(text: &[u8]) -> Option<usize> {
    let length = core::str::from_utf8(text.strip_prefix(b" ")?.trim_ascii()).ok()?.parse().ok()?;
    (1..=CONFIG_LIMIT).contains(&length).then_some(length)
}

/// Adds a line's bytes. Returns whether all `length` are there.
fn add(received: &mut Vec<u8, CONFIG_LIMIT>, line: &[u8], length: usize) -> Result<bool, LineError> {
    for pair in line.chunks(2) {
        let digits = core::str::from_utf8(pair).ok().filter(|_| pair.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.filter(|digits| digits.len() == 2).ok_or(LineError::Digits)?;
        let byte = u8::from_str_radix(digits, 16).map_err(|_| LineError::Digits)?;
        if received.len() == length || received.push(byte).is_err() {
            return Err(LineError::TooMany);
        }
    }
    Ok(received.len() == length)
}
