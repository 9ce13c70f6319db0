//! The configuration in TOML, and what a guard needs of it as JSON.

use std::path::Path;

use super::{
    Config, Error,
    sections::{File, TOML},
};

impl Config {
    /// Parses the text of a TOML file, and reads the key files that it names, relative to `folder`.
    ///
    /// # Errors
    /// The first problem found. No error contains a part of a key.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, Error> {
        let file: File = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let number = 1 + text.get(..start).unwrap_or(text).matches('\n').count();
            let line = text.lines().nth(number - 1).unwrap_or_default();
            // The text that toml would show around it, and the value, might be a key.
            let message = if line.contains("key") {
                without_value(error.message())
            } else {
                error.message().to_owned()
            };
            Error::new(format!(":{number}: {}", message.replace('\n', ", ")))
        })?;
        Self::check(file, folder, TOML)
    }

    /// The sections of a TOML file that a guard needs, as JSON; they contain no key. `None`: the text is not TOML.
    pub(crate) fn guard_sections(text: &str) -> Option<String> {
        let file: toml::Table = toml::from_str(text).ok()?;
        let sections: toml::Table =
            file.into_iter().filter(|(name, _)| name == "gate" || name == "service").collect();
        serde_json::to_string(&sections).ok()
    }

    /// What [`guard_sections`](Self::guard_sections) has kept: a configuration without users.
    pub(crate) fn for_guard(sections: &str) -> Result<Self, Error> {
        let file: File = serde_json::from_str(sections).map_err(|error| Error::new(error.to_string()))?;
        Self::check(file, Path::new("/"), TOML)
    }
}

/// Removes the value from serde's message about a value of a wrong type: it may be a misplaced key.
pub(super) fn without_value(message: &str) -> String {
    let is_of_value = message.starts_with("invalid type: ") || message.starts_with("invalid value: ");
    match (message.find(['"', '`']), message.rfind(", expected ")) {
        (Some(value), Some(expected)) if is_of_value && value < expected => {
            format!("{}{}", message[..value].trim_end(), &message[expected..])
        }
        _ => message.to_owned(),
    }
}
