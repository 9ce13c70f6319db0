//! The options of a profile in the file.

use anyhow::{Context as _, Result};
use toml_edit::{Item, TableLike, Value};

use crate::model::{Bind, Service};

/// The options of a profile, by type.
pub(super) struct Options<'a>(pub(super) &'a dyn TableLike);

impl<'a> Options<'a> {
    pub(super) fn text(&self, option: &str) -> Result<Option<&'a str>> {
        self.typed(option, "a string", Item::as_str)
    }

    pub(super) fn integer(&self, option: &str) -> Result<Option<i64>> {
        self.typed(option, "a whole number", Item::as_integer)
    }

    pub(super) fn boolean(&self, option: &str) -> Result<bool> {
        Ok(self.typed(option, "true or false", Item::as_bool)?.unwrap_or(false))
    }

    pub(super) fn bind(&self) -> Result<Option<Bind>> {
        let expected = "\"auto\", \"none\", or a list such as [\"source\"]";
        let words = |item: &Item| match item.as_array() {
            Some(list) if list.is_empty() => Some("none".to_owned()),
            Some(list) => {
                list.iter().map(Value::as_str).collect::<Option<Vec<_>>>().map(|words| words.join(","))
            }
            None => item.as_str().map(str::to_owned),
        };
        self.typed("bind", expected, words)?.as_deref().map(Bind::parse).transpose()
    }

    /// A string, or a list of them.
    pub(super) fn addresses(&self) -> Result<Option<Vec<&'a str>>> {
        self.typed("address", "a string, or a list of strings", addresses)
    }

    pub(super) fn services(&self) -> Result<Vec<Service>> {
        let table = self.typed("services", "a table such as { ssh = 22 }", Item::as_table_like)?;
        let entries = table.into_iter().flat_map(TableLike::iter);
        entries
            .map(|(name, item)| {
                let number = item.as_integer().map(|port| port.to_string());
                let text = number.as_deref().or(item.as_str());
                let text = text.with_context(|| format!("service {name}: expected 22 or \"22/tcp\""))?;
                Service::parse(name, text).with_context(|| format!("service {name}"))
            })
            .collect()
    }

    fn typed<T>(
        &self,
        option: &str,
        kind: &str,
        take: impl FnOnce(&'a Item) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(item) = self.0.get(option) else { return Ok(None) };
        Ok(Some(take(item).with_context(|| format!("{option}: expected {kind}"))?))
    }
}

/// The texts of an option that is a string or a list of strings; `None`: it is neither.
pub(super) fn addresses(item: &Item) -> Option<Vec<&str>> {
    match item.as_array() {
        Some(list) => list.iter().map(Value::as_str).collect(),
        None => item.as_str().map(|text| vec![text]),
    }
}
