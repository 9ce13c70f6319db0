//! What is wrong with a configuration.

use std::fmt::{self, Display, Write as _};

use serde::Serialize;

/// A section of the configuration, as messages name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    kind: &'static str,
    /// Empty: there is only one of this kind.
    name: String,
}

impl Section {
    pub(crate) const GATE: Self = Self { kind: "gate", name: String::new() };

    pub(crate) fn service(name: &str) -> Self {
        Self { kind: "service", name: name.to_owned() }
    }

    pub(crate) fn user(name: &str) -> Self {
        Self { kind: "user", name: name.to_owned() }
    }

    /// The option has a value that is not allowed. `expected` names the ones that are.
    pub(crate) fn invalid(&self, option: &str, value: impl Display, expected: impl Display) -> Error {
        self.at(option, format!("invalid {option} \"{value}\": {expected}"))
    }

    /// A mandatory option is missing. `why` may be empty.
    pub(crate) fn missing(&self, option: &str, why: &str) -> Error {
        let colon = if why.is_empty() { "" } else { ": " };
        self.at(option, format!("missing {option}{colon}{why}"))
    }

    /// Another problem with an option.
    pub(crate) fn at(&self, option: &str, message: String) -> Error {
        Error { section: Some(self.clone()), option: Some(option.to_owned()), message }
    }

    /// A problem with the section as a whole.
    pub(crate) fn error(&self, message: String) -> Error {
        Error { section: Some(self.clone()), option: None, message }
    }
}

impl Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind)?;
        if self.name.is_empty() { Ok(()) } else { write!(f, " \"{}\"", self.name) }
    }
}

/// A problem, in one line. It contains no part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    section: Option<Section>,
    option: Option<String>,
    message: String,
}

/// The parts of an error for a program that shows it beside the field.
#[derive(Debug, Serialize)]
pub(crate) struct Located<'a> {
    /// The section's name; that of the gate is `gate`.
    pub(crate) section: Option<&'a str>,
    pub(crate) option: Option<&'a str>,
    pub(crate) message: String,
}

impl Error {
    /// A problem with the file as a whole.
    pub(crate) fn new(message: String) -> Self {
        Self { section: None, option: None, message }
    }

    /// The same problem, with words before it that say where the configuration is.
    pub(crate) fn in_file(self, file: &str) -> Self {
        // A line number follows the name without a space.
        let colon = if self.section.is_none() && self.message.starts_with(':') { "" } else { ": " };
        Self::new(format!("{file}{colon}{self}"))
    }

    pub(crate) fn located(&self) -> Located<'_> {
        let section = self.section.as_ref();
        let section = section.map(|it| if it.name.is_empty() { it.kind } else { it.name.as_str() });
        Located { section, option: self.option.as_deref(), message: escaped(&self.message) }
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(section) = &self.section {
            write!(f, "{}: ", escaped(&section.to_string()))?;
        }
        f.write_str(&escaped(&self.message))
    }
}

impl std::error::Error for Error {}

/// Quoted values may contain line breaks or terminal control sequences.
fn escaped(text: &str) -> String {
    let mut shown = String::new();
    for letter in text.chars() {
        if letter.is_control() {
            let _ = write!(shown, "{}", letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}
