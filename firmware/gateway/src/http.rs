//! HTTP/1.1, as much as the gateway needs: the head of a request in, a response out. Each connection has one request.

use core::fmt::{self, Write};

use heapless::Vec;

/// The longest head of a request in bytes, with all of its fields.
const HEAD_LIMIT: usize = 2_048;
/// How much of a line is read. Everything that the gateway understands is shorter.
const LINE_LIMIT: usize = 64;
/// Whether images are received. A board that receives none has no flash for what that takes.
const RECEIVES_IMAGES: bool = cfg!(feature = "update");

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// `GET /`: the page for people.
    Status,
    /// `GET /metrics`: the Prometheus text.
    Metrics,
    /// `POST /update`: a signed image, of this many bytes with its header.
    Update(u32),
}

/// Why a request is not answered with what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// It is not HTTP/1.
    Malformed,
    /// There is nothing at this path.
    NotFound,
    /// The path has another method: this one.
    Method(&'static str),
    /// An image without its length.
    NoLength,
    /// Its head is too long.
    TooLong,
}

impl RequestError {
    /// The status code and its reason.
    #[must_use]
    pub const fn status(self) -> &'static str {
        match self {
            Self::Malformed => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::Method(_) => "405 Method Not Allowed",
            Self::NoLength => "411 Length Required",
            Self::TooLong => "431 Request Header Fields Too Large",
        }
    }

    /// One line for people.
    const fn text(self) -> &'static str {
        match self {
            Self::Malformed => "this is not an HTTP/1 request\n",
            Self::NotFound if RECEIVES_IMAGES => "not found: there are only /, /metrics and /update\n",
            Self::NotFound => "not found: there are only / and /metrics\n",
            Self::Method(_) if RECEIVES_IMAGES => {
                "method not allowed: / and /metrics have GET, /update has POST\n"
            }
            Self::Method(_) => "method not allowed: expected GET\n",
            Self::NoLength => "the length is missing: send Content-Length\n",
            Self::TooLong => "the request's header is longer than 2048 bytes\n",
        }
    }
}

/// Reads the head of a request, byte by byte.
#[derive(Debug, Default)]
pub struct RequestReader {
    /// The line that is being read, without its end. What does not fit is left out.
    line: Vec<u8, LINE_LIMIT>,
    is_cut: bool,
    read: usize,
    /// The length of the body.
    length: Option<u32>,
    target: Option<Result<Target, RequestError>>,
}

impl RequestReader {
    /// Of a new connection.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads one more byte. Returns what to answer when the head is complete.
    pub fn push(&mut self, byte: u8) -> Option<Result<Target, RequestError>> {
        self.read += 1;
        if self.read > HEAD_LIMIT {
            return Some(Err(RequestError::TooLong));
        }
        if byte != b'\n' {
            self.is_cut |= self.line.push(byte).is_err();
            return None;
        }
        // A bare line feed ends a line, too (RFC 9112, section 2.2).
        let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        match self.target {
            None => self.target = Some(if self.is_cut { Err(too_long(line)) } else { parse_line(line) }),
            Some(Ok(Target::Update(_))) if line.is_empty() => {
                return Some(self.length.map(Target::Update).ok_or(RequestError::NoLength));
            }
            Some(target) if line.is_empty() => return Some(target),
            Some(_) if RECEIVES_IMAGES => self.length = parse_length(line).or(self.length),
            Some(_) => {}
        }
        self.line.clear();
        self.is_cut = false;
        None
    }
}

/// Of a first line that was cut: no path of the gateway is that long.
fn too_long(line: &[u8]) -> RequestError {
    if line.contains(&b' ') { RequestError::NotFound } else { RequestError::Malformed }
}

/// The length of the body, if this is its field.
fn parse_length(line: &[u8]) -> Option<u32> {
    let (name, value) = core::str::from_utf8(line).ok()?.split_once(':')?;
    if name.eq_ignore_ascii_case("content-length") { value.trim().parse().ok() } else { None }
}

fn parse_line(line: &[u8]) -> Result<Target, RequestError> {
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(path), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(RequestError::Malformed);
    };
    if !version.starts_with(b"HTTP/1.") || method.is_empty() || !path.starts_with(b"/") {
        return Err(RequestError::Malformed);
    }
    let (target, expected) = match path {
        b"/" => (Target::Status, "GET"),
        b"/metrics" => (Target::Metrics, "GET"),
        // The length follows.
        b"/update" if RECEIVES_IMAGES => (Target::Update(0), "POST"),
        _ => return Err(RequestError::NotFound),
    };
    if method == expected.as_bytes() { Ok(target) } else { Err(RequestError::Method(expected)) }
}

/// Writes a whole response. `body` writes the body, and is called twice: the first time for its length.
///
/// # Errors
/// If `out` is too small.
pub fn respond(
    request: Result<Target, RequestError>,
    body: impl Fn(Target, &mut dyn Write) -> fmt::Result,
    out: &mut dyn Write,
) -> fmt::Result {
    let (status, kind) = match request {
        Ok(Target::Status) => ("200 OK", "text/html; charset=utf-8"),
        Ok(Target::Metrics) => ("200 OK", "text/plain; version=0.0.4"),
        Ok(Target::Update(_)) => ("200 OK", "text/plain"),
        Err(why) => (why.status(), "text/plain"),
    };
    let content = |out: &mut dyn Write| match request {
        Ok(target) => body(target, out),
        Err(why) => out.write_str(why.text()),
    };
    let mut length = Length(0);
    content(&mut length)?;
    write_head(status, kind, length.0, out)?;
    if let Err(RequestError::Method(expected)) = request {
        // RFC 9110, section 15.5.6.
        write!(out, "Allow: {expected}\r\n")?;
    }
    out.write_str("\r\n")?;
    content(out)
}

/// Writes a whole response of one line, without its end.
///
/// # Errors
/// If `out` is too small.
pub fn respond_line(status: &str, line: &dyn fmt::Display, out: &mut dyn Write) -> fmt::Result {
    let mut length = Length(1);
    write!(length, "{line}")?;
    write_head(status, "text/plain", length.0, out)?;
    write!(out, "\r\n{line}\n")
}

fn write_head(status: &str, kind: &str, length: usize, out: &mut dyn Write) -> fmt::Result {
    write!(
        out,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\
         Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
         Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n"
    )
}

/// Counts what is written.
pub(crate) struct Length(pub(crate) usize);

impl Write for Length {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

/// Writes to a buffer.
#[derive(Debug)]
pub struct Buffer<'a> {
    bytes: &'a mut [u8],
    written: usize,
}

impl<'a> Buffer<'a> {
    /// An empty one.
    #[must_use]
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, written: 0 }
    }

    /// How many bytes were written.
    #[must_use]
    pub fn written(&self) -> usize {
        self.written
    }
}

impl Write for Buffer<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.written + text.len();
        self.bytes.get_mut(self.written..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.written = end;
        Ok(())
    }
}
