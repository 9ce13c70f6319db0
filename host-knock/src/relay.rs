//! `knock proxy`: bytes between a connection and whoever started knock.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    sync::mpsc,
    thread,
};

use anyhow::{Context as _, Result};

/// Which of the two directions has ended, and how.
enum End {
    Input(io::Result<()>),
    Output(io::Result<()>),
}

/// Bytes that are copied in one go, and that a pipe may hold: with the 64 KiB that Linux gives it by itself, ssh and knock
/// wait for each other all the time.
const BUFFER: usize = 1024 * 1024;

/// Copies standard input to the connection and the connection to standard output, until the other side has said its
/// last.
///
/// # Errors
/// One of the two copies failed.
pub(crate) fn relay(stream: &TcpStream) -> Result<()> {
    // ssh sends many small messages, and each is waited for.
    stream.set_nodelay(true).context("cannot relay")?;
    let (mut input, mut output) = (standard_input()?, standard_output()?);
    enlarge_pipe(&input);
    enlarge_pipe(&output);
    let (mut to, mut from) = (stream.try_clone()?, stream.try_clone()?);
    let (sender, ends) = mpsc::channel();
    let other = sender.clone();
    // Nobody waits for this one: standard input may stay open for ever.
    thread::spawn(move || {
        let result = copy(&mut input, &mut to);
        // The other side is told that no more comes; it may be gone already.
        let _ = to.shutdown(Shutdown::Write);
        other.send(End::Input(result))
    });
    thread::spawn(move || sender.send(End::Output(copy(&mut from, &mut output))));
    loop {
        match ends.recv().context("cannot relay")? {
            // Whoever is gone at the other end shows in the other direction, too.
            End::Input(Err(error)) if !is_gone(&error) => {
                return Err(error).context("the connection broke while sending");
            }
            End::Input(_) => {}
            // Whoever started knock wants no more.
            End::Output(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            End::Output(result) => return result.context("the connection broke while receiving"),
        }
    }
}

/// Not `io::copy`: on Linux that would splice, which keeps a pipe locked while it waits for the connection, so that ssh
/// would hang in its next read instead of finding nothing there.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => to.write_all(buffer.get(..length).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Makes room in a pipe, as far as the system lets us; what is no pipe stays as it is.
#[cfg(target_os = "linux")]
fn enlarge_pipe(file: &File) {
    let _ = rustix::pipe::fcntl_setpipe_size(file, BUFFER);
}

/// Other systems see to it by themselves.
#[cfg(not(target_os = "linux"))]
fn enlarge_pipe(_: &File) {}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

// The handles themselves: the standard library's own would keep back what is no whole line.
#[cfg(unix)]
fn standard_input() -> io::Result<File> {
    use std::os::fd::AsFd as _;
    Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?))
}

#[cfg(unix)]
fn standard_output() -> io::Result<File> {
    use std::os::fd::AsFd as _;
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

#[cfg(windows)]
fn standard_input() -> io::Result<File> {
    use std::os::windows::io::AsHandle as _;
    Ok(File::from(io::stdin().as_handle().try_clone_to_owned()?))
}

#[cfg(windows)]
fn standard_output() -> io::Result<File> {
    use std::os::windows::io::AsHandle as _;
    Ok(File::from(io::stdout().as_handle().try_clone_to_owned()?))
}
