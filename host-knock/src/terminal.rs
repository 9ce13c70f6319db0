//! Questions to whoever sits at the terminal.

use std::io;

/// Asks on the terminal and gives the answer, which the terminal does not show.
///
/// # Errors
/// There is no terminal, or the input ends.
pub(crate) fn ask(question: &str) -> io::Result<String> {
    deferring_sigint(|| rpassword::prompt_password(question))
}

/// rpassword turns Ctrl-C into SIGINT while the terminal is still silent. A program that died then
/// would leave it silent, so SIGINT has to wait.
#[cfg(unix)]
fn deferring_sigint(ask: impl FnOnce() -> io::Result<String>) -> io::Result<String> {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use signal_hook::{consts::SIGINT, flag, low_level};

    let may_die = Arc::new(AtomicBool::new(false));
    flag::register_conditional_default(SIGINT, Arc::clone(&may_die))?;
    let answer = ask();
    may_die.store(true, Ordering::SeqCst);
    if answer.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted) {
        low_level::emulate_default_handler(SIGINT)?;
    }
    answer
}

#[cfg(not(unix))]
fn deferring_sigint(ask: impl FnOnce() -> io::Result<String>) -> io::Result<String> {
    ask()
}
