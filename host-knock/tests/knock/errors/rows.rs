//! Errors that a file and arguments can provoke.

mod arguments;
mod ini;
mod profiles;
mod verify;

/// Content of the file FILE, if it exists.
pub(super) type Content = Option<&'static [u8]>;

/// Content of FILE, arguments, message, exit code.
pub(super) type Row = (Content, &'static [&'static str], &'static str, i32);

pub(super) fn rows() -> impl Iterator<Item = &'static Row> {
    [arguments::ROWS, ini::ROWS, profiles::ROWS, verify::ROWS].into_iter().flatten()
}
