//! `knock proxy`: relays between a connection and standard input and output.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    sync::mpsc,
    thread,
};

use anyhow::{Context as _, Result};

/// Which direction has ended, and how.
enum End {
    Input(io::Result<()>),
    Output(io::Result<()>),
}

/// Size of the copy buffer and of pipes. With the default pipe of 64 KiB, ssh and knock keep waiting for each other.
const BUFFER: usize = 1024 * 1024;

/// Copies standard input to the connection and the connection to standard output, until the other end closes.
///
/// # Errors
/// One of the copies failed.
pub(crate) fn relay(stream: &TcpStream) -> Result<()> {
    // ssh sends many small messages and waits for each answer.
    stream.set_nodelay(true).context("cannot relay")?;
    let (mut input, mut output) = (standard_input()?, standard_output()?);
    enlarge_pipe(&input);
    enlarge_pipe(&output);
    let (mut to, mut from) = (stream.try_clone()?, stream.try_clone()?);
    let (sender, ends) = mpsc::channel();
    let other = sender.clone();
    // Not joined: standard input may stay open for ever.
    thread::spawn(move || {
        let result = copy(&mut input, &mut to);
        // Signals the end of input; the other end may be gone already.
        let _ = to.shutdown(Shutdown::Write);
        other.send(End::Input(result))
    });
    thread::spawn(move || sender.send(End::Output(copy(&mut from, &mut output))));
    loop {
        match ends.recv().context("cannot relay")? {
            // If the other end is gone, the other direction ends, too.
            End::Input(Err(error)) if !is_gone(&error) => {
                return Err(error).context("connection lost while sending");
            }
            End::Input(_) => {}
            // The program that started knock has stopped reading.
            End::Output(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            End::Output(result) => return result.context("connection lost while receiving"),
        }
    }
}

/// Not `io::copy`: on Linux it uses splice, which keeps the pipe locked while it waits for the connection. ssh would then
/// block in its next read.
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

/// Enlarges a pipe as far as the system allows; has no effect on anything else.
#[cfg(target_os = "linux")]
fn enlarge_pipe(file: &File) {
    let _ = rustix::pipe::fcntl_setpipe_size(file, BUFFER);
}

/// Other systems size pipes themselves.
#[cfg(not(target_os = "linux"))]
fn enlarge_pipe(_: &File) {}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

// Unbuffered handles: those of the standard library hold back incomplete lines.
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
