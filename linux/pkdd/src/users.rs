//! The configured users, as they are listed, and how long a key that was replaced works.

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::{
    config::{Config, User},
    date::{self, Date},
};

/// How long the old key of a user works at most, if the new one is never used.
const OLD_KEY_DAYS: u64 = 30;

/// The last day of the key that a user has now; `until`: if it is not to be the usual one.
pub(crate) fn last_day_of_old_key(user: &User, until: Option<&str>) -> Result<Date> {
    let last_day = match until {
        Some(day) => day.parse::<Date>().with_context(|| format!("invalid --until {day}"))?,
        None => Date::of(date::now().0.saturating_add(OLD_KEY_DAYS * 86_400)),
    };
    // What expires earlier does so still.
    Ok(user.expires.map_or(last_day, |day| day.min(last_day)))
}

/// A user in `pkdd user list --json`.
#[derive(Serialize)]
pub(crate) struct Row<'a> {
    pub(crate) name: &'a str,
    pub(crate) format: &'static str,
    pub(crate) tag: String,
    pub(crate) services: Vec<String>,
    pub(crate) state: String,
}

/// The users, without keys.
pub(crate) fn rows(config: &Config) -> Vec<Row<'_>> {
    config.users.iter().map(|(name, user)| row(name, user)).collect()
}

/// As JSON.
pub(crate) fn json(rows: &[Row<'_>]) -> Result<String> {
    Ok(serde_json::to_string(rows)? + "\n")
}

fn row<'a>(name: &'a str, user: &User) -> Row<'a> {
    let last = user.expires.map(|day| format!("until {day}"));
    let state = match (&user.replaced_by, last) {
        _ if !user.enabled => "disabled".to_owned(),
        (_, Some(_)) if !user.is_active(date::now()) => "expired".to_owned(),
        (Some(new), last) => {
            format!(
                "old key, until that of {new} was used{}",
                last.map(|last| format!(", {last}")).unwrap_or_default()
            )
        }
        (None, last) => last.unwrap_or_else(|| "active".to_owned()),
    };
    Row {
        name,
        format: user.rule.format(),
        tag: user.tag.to_string(),
        services: user.services.iter().map(ToString::to_string).collect(),
        state,
    }
}
