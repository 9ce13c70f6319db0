//! A new key for a user, while the old one still works: what `uci batch` reads to make a user of each.

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    paths::Paths,
    router::{KeyPlace, Router},
    uci,
};
use crate::users;

/// What is appended to the name of a user whose key was replaced, until the new one is in use.
const OLD: &str = "_old";

/// The commands that make a second user with the old key of `name`, and leave `name` without one. If the old key's file has
/// the usual name, it is to be moved to that of the second user before they count.
pub(super) fn batch(
    text: &str,
    router: &Router,
    paths: &Paths,
    name: &str,
    until: Option<&str>,
) -> Result<String> {
    let user = router.config.users.get(name).with_context(|| format!("there is no user \"{name}\""))?;
    let old = format!("{name}{OLD}");
    if router.config.users.contains_key(&old) {
        bail!(
            "the key of \"{name}\" was replaced already: pkd user revoke {old} ends the old one, then try again"
        );
    }
    ensure!(user.replaced_by.is_none(), "\"{name}\" is an old key: rotate the user who has the new one");
    let last_day = users::last_day_of_old_key(user, until)?;
    let sections = uci::parse(text)?;
    let is_theirs = |one: &&uci::Section| one.package == "pkd" && one.name == name;
    let section = sections.iter().find(is_theirs).with_context(|| format!("no section {name}"))?;
    let usual = paths.key_file(name);
    let moved = matches!(router.keys.iter().find(|(user, _)| user == name),
        Some((_, KeyPlace::File(path))) if *path == usual)
    .then(|| paths.key_file(&old).display().to_string());

    let mut batch = format!("set pkd.{old}='user'\n");
    let mut set = |verb: &str, option: &str, value: &str| {
        batch = [&batch, verb, " pkd.", &old, ".", option, "=", &uci::quoted(value), "\n"].concat();
    };
    let mut lost = Vec::new();
    for option in &section.options {
        let name = option.name.as_str();
        if matches!(name, "key" | "key_file") {
            lost.push(name);
        }
        // As LuCI writes them.
        let verb = if matches!(name, "service" | "require") { "add_list" } else { "set" };
        if name != "expires" && !(name == "key_file" && moved.is_some()) {
            option.values.iter().for_each(|value| set(verb, name, value));
        }
    }
    set("set", "replaced_by", name);
    set("set", "expires", &last_day.to_string());
    if let Some(moved) = moved {
        set("set", "key_file", &moved);
    }
    for option in lost {
        batch = [&batch, "delete pkd.", name, ".", option, "\n"].concat();
    }
    Ok(batch)
}
