//! Prompts on the terminal.

use std::io;

/// Prompts on the terminal and returns the answer, which is not echoed.
///
/// # Errors
/// There is no terminal, or the input ends.
pub(crate) fn ask(question: &str) -> io::Result<String> {
    deferring_sigint(|| rpassword::prompt_password(question))
}

/// On Ctrl-C rpassword raises SIGINT while echo is still off. Dying then would leave the terminal without echo, so
/// SIGINT is deferred until the prompt has ended.
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
