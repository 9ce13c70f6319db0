//! Parts of items, and their text.

use anyhow::{Result, bail};
use quote::ToTokens;
use syn::{Attribute, Item, ItemUse, Meta, Signature, UseTree, Visibility};

pub(crate) fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

/// Whether an item exists only for tests or fuzzing, or is hidden from the documentation.
pub(crate) fn is_internal(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        matches!(text(&attribute.meta).as_str(), "cfg(test)" | "cfg(fuzzing)" | "doc(hidden)")
    })
}

/// The feature that an item needs, such as `feature = "rules"`.
pub(crate) fn feature(attributes: &[Attribute]) -> String {
    let conditions = attributes.iter().filter(|attribute| attribute.path().is_ident("cfg"));
    let conditions = conditions.filter_map(|attribute| match &attribute.meta {
        Meta::List(list) => Some(tidy(&list.tokens.to_string())),
        _ => None,
    });
    conditions.collect::<Vec<_>>().join(", ")
}

/// Attributes that callers notice.
pub(crate) fn marks(attributes: &[Attribute]) -> String {
    let marks = attributes
        .iter()
        .filter(|attribute| ["non_exhaustive", "repr"].iter().any(|name| attribute.path().is_ident(name)));
    marks.map(|attribute| ["#[", &text(&attribute.meta), "] "].concat()).collect()
}

pub(crate) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

pub(crate) fn identifier(item: &Item) -> Option<String> {
    let identifier = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        _ => return None,
    };
    Some(identifier.to_string())
}

/// The paths that a `use` imports, each with its new name.
pub(crate) fn imported(import: &ItemUse) -> Result<Vec<(Vec<String>, String)>> {
    let mut found = Vec::new();
    let mut open = vec![(Vec::new(), &import.tree)];
    while let Some((mut path, tree)) = open.pop() {
        match tree {
            UseTree::Path(step) => {
                path.push(step.ident.to_string());
                open.push((path, &step.tree));
            }
            UseTree::Name(name) => {
                path.push(name.ident.to_string());
                found.push((path, name.ident.to_string()));
            }
            UseTree::Rename(rename) => {
                path.push(rename.ident.to_string());
                found.push((path, rename.rename.to_string()));
            }
            UseTree::Group(group) => open.extend(group.items.iter().map(|tree| (path.clone(), tree))),
            UseTree::Glob(_) => bail!("use {}::*: name what is exported", path.join("::")),
        }
    }
    Ok(found)
}

/// The signature, with the whole path as its name.
pub(crate) fn signature(signature: &Signature, path: &str) -> String {
    let name = signature.ident.to_string();
    let whole = text(signature);
    let (before, after) = whole.split_once(&format!("fn {name}")).unwrap_or(("", &whole));
    format!("{before}fn {path}{after}")
}

pub(crate) fn text(tokens: &impl ToTokens) -> String {
    tidy(&tokens.to_token_stream().to_string())
}

/// Tokens as rustfmt would write them; they come with spaces between them.
pub(crate) fn tidy(tokens: &str) -> String {
    const SPACES: &[(&str, &str)] = &[
        (" :: ", "::"),
        (":: ", "::"),
        (" ::", "::"),
        (" :", ":"),
        (" ,", ","),
        (",)", ")"),
        (" ;", ";"),
        ("( ", "("),
        (" (", "("),
        (" )", ")"),
        ("[ ", "["),
        (" ]", "]"),
        ("< ", "<"),
        (" <", "<"),
        (" >", ">"),
        ("& ", "&"),
        ("# [", "#["),
        ("? ", "?"),
    ];
    SPACES.iter().fold(tokens.to_owned(), |text, (from, to)| text.replace(from, to))
}
