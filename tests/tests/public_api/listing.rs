//! The listing of a crate's public items.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context, Result};
use syn::{Attribute, Fields, ImplItem, Item, ItemImpl, ItemTrait, Meta, TraitItem, Type};

use crate::tokens::{
    attributes, feature, identifier, imported, is_internal, is_public, marks, signature, text, tidy,
};

/// One line for each public item of the crate with its sources in `folder`, sorted by path.
pub(crate) fn listing(name: &str, folder: &Path) -> Result<String> {
    let root = Module::read(&folder.join("lib.rs"), folder)?;
    let mut lines = Lines::default();
    root.export(name, "", &mut lines)?;
    root.list_impls(&mut lines);
    let lines: Vec<&str> = lines.lines.iter().map(|(_, line)| line.as_str()).collect();
    Ok(lines.join("\n") + "\n")
}

/// A source file's items, without those for tests and fuzzing.
struct Module {
    items: Vec<Item>,
    children: BTreeMap<String, Module>,
}

impl Module {
    /// Reads a file and the modules below it, which lie in `folder`.
    fn read(file: &Path, folder: &Path) -> Result<Self> {
        let source = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let parsed = syn::parse_file(&source).with_context(|| file.display().to_string())?;
        Self::new(parsed.items, folder)
    }

    fn new(items: Vec<Item>, folder: &Path) -> Result<Self> {
        let mut items: Vec<Item> = items.into_iter().filter(|item| !is_internal(attributes(item))).collect();
        let mut children = BTreeMap::new();
        for item in &mut items {
            let Item::Mod(module) = item else { continue };
            let name = module.ident.to_string();
            let below = folder.join(&name);
            let child = if let Some((_, items)) = module.content.take() {
                Self::new(items, &below)?
            } else {
                let candidates = [folder.join(format!("{name}.rs")), below.join("mod.rs")];
                let path = candidates.iter().find(|path| path.is_file());
                Self::read(path.with_context(|| format!("no module {name}"))?, &below)?
            };
            children.insert(name, child);
        }
        Ok(Self { items, children })
    }

    /// Lists what this module makes public, under `path`.
    fn export(&self, path: &str, condition: &str, lines: &mut Lines) -> Result<()> {
        for item in &self.items {
            let condition = format!("{condition}{}", feature(attributes(item)));
            match item {
                Item::Mod(module) if is_public(&module.vis) => {
                    let name = module.ident.to_string();
                    self.children[&name].export(&format!("{path}::{name}"), &condition, lines)?;
                }
                Item::Use(import) if is_public(&import.vis) => {
                    for (from, name) in imported(import)? {
                        let found =
                            self.find(&from).with_context(|| format!("pub use {}", from.join("::")))?;
                        lines.item(found, &format!("{path}::{name}"), &condition);
                    }
                }
                item => {
                    let name = identifier(item).unwrap_or_default();
                    lines.item(item, &format!("{path}::{name}"), &condition);
                }
            }
        }
        Ok(())
    }

    fn find(&self, path: &[String]) -> Option<&Item> {
        match path {
            [name] => {
                let here = |item: &&Item| identifier(item).as_ref() == Some(name);
                self.items.iter().find(here).or_else(|| {
                    // Exported by a child, and by this module again.
                    let imports = self.items.iter().filter_map(|item| match item {
                        Item::Use(import) => imported(import).ok(),
                        _ => None,
                    });
                    let (from, _) = imports.flatten().find(|(_, exported)| exported == name)?;
                    (from.len() > 1).then(|| self.find(&from)).flatten()
                })
            }
            [module, rest @ ..] => self.children.get(module)?.find(rest),
            [] => None,
        }
    }

    fn list_impls(&self, lines: &mut Lines) {
        for item in &self.items {
            if let Item::Impl(block) = item {
                lines.implementation(block);
            }
        }
        self.children.values().for_each(|child| child.list_impls(lines));
    }
}

/// Lines with the paths that they are sorted by, and the exported types.
#[derive(Default)]
struct Lines {
    lines: BTreeSet<(String, String)>,
    /// By the name in the sources: path and condition.
    types: BTreeMap<String, (String, String)>,
}

impl Lines {
    fn add(&mut self, path: &str, line: &str, condition: &str) {
        let condition = if condition.is_empty() { String::new() } else { format!(" [{condition}]") };
        self.lines.insert((path.to_owned(), format!("{line}{condition}")));
    }

    /// Lists an item if it is public. Implementations follow the type, because a space sorts before a colon.
    fn item(&mut self, item: &Item, path: &str, condition: &str) {
        let attributes = marks(attributes(item));
        match item {
            Item::Const(item) if is_public(&item.vis) => {
                self.add(path, &format!("pub const {path}: {}", text(&item.ty)), condition);
            }
            Item::Fn(item) if is_public(&item.vis) => {
                self.add(path, &format!("pub {}", signature(&item.sig, path)), condition);
            }
            Item::Struct(item) if is_public(&item.vis) => {
                self.declare(&item.ident, path, condition, &item.attrs);
                self.add(path, &format!("{attributes}pub struct {path}{}", text(&item.generics)), condition);
                for (index, field) in
                    item.fields.iter().enumerate().filter(|(_, field)| is_public(&field.vis))
                {
                    let name = field.ident.as_ref().map_or_else(|| index.to_string(), ToString::to_string);
                    let field = format!("pub {path}::{name}: {}", text(&field.ty));
                    self.add(&format!("{path}::{name}"), &field, condition);
                }
            }
            Item::Enum(item) if is_public(&item.vis) => {
                self.declare(&item.ident, path, condition, &item.attrs);
                self.add(path, &format!("{attributes}pub enum {path}{}", text(&item.generics)), condition);
                for variant in &item.variants {
                    let fields = variant.fields.iter().map(|field| {
                        let name = field.ident.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
                        name + &text(&field.ty)
                    });
                    let fields = fields.collect::<Vec<_>>().join(", ");
                    let fields = match variant.fields {
                        Fields::Unit => String::new(),
                        Fields::Unnamed(_) => format!("({fields})"),
                        Fields::Named(_) => format!(" {{ {fields} }}"),
                    };
                    let path = format!("{path}::{}", variant.ident);
                    self.add(&path, &format!("pub {path}{fields}"), condition);
                }
            }
            Item::Trait(item) if is_public(&item.vis) => self.interface(item, path, condition),
            Item::Type(item) if is_public(&item.vis) => {
                self.add(
                    path,
                    &format!("pub type {path}{} = {}", text(&item.generics), text(&item.ty)),
                    condition,
                );
            }
            _ => {}
        }
    }

    fn interface(&mut self, item: &ItemTrait, path: &str, condition: &str) {
        self.types.insert(item.ident.to_string(), (path.to_owned(), condition.to_owned()));
        self.add(path, &format!("pub trait {path}{}", text(&item.generics)), condition);
        for member in &item.items {
            match member {
                TraitItem::Fn(member) => {
                    let path = format!("{path}::{}", member.sig.ident);
                    let kind = if member.default.is_some() { "provided" } else { "required" };
                    self.add(&path, &format!("{kind} {}", signature(&member.sig, &path)), condition);
                }
                TraitItem::Const(member) => {
                    let path = format!("{path}::{}", member.ident);
                    self.add(&path, &format!("required const {path}: {}", text(&member.ty)), condition);
                }
                other => self.add(path, &text(other), condition),
            }
        }
    }

    /// Remembers a type, and lists the traits that it derives.
    fn declare(&mut self, name: &syn::Ident, path: &str, condition: &str, attributes: &[Attribute]) {
        self.types.insert(name.to_string(), (path.to_owned(), condition.to_owned()));
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("derive")) {
            let Meta::List(list) = &attribute.meta else { continue };
            for derived in list.tokens.to_string().split(',') {
                self.add(
                    &format!("{path} impl"),
                    &format!("impl {} for {path}", tidy(derived.trim())),
                    condition,
                );
            }
        }
    }

    fn implementation(&mut self, block: &ItemImpl) {
        let Type::Path(of) = &*block.self_ty else { return };
        let Some(segment) = of.path.segments.last() else { return };
        let Some((path, condition)) = self.types.get(&segment.ident.to_string()).cloned() else { return };
        if let Some((implemented, _)) = &block.trait_ {
            let name =
                implemented.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
            // A trait without a path is one of std's or one of the crate's, which count only if they are public.
            if self.is_known(&name) {
                let line = format!(
                    "impl{} {} for {path}{}",
                    text(&block.generics),
                    text(implemented),
                    text(&segment.arguments)
                );
                self.add(&format!("{path} impl"), &line, &condition);
            }
            return;
        }
        for item in &block.items {
            match item {
                ImplItem::Fn(item) if is_public(&item.vis) => {
                    let path = format!("{path}::{}", item.sig.ident);
                    let condition = format!("{condition}{}", feature(&item.attrs));
                    self.add(&path, &format!("pub {}", signature(&item.sig, &path)), &condition);
                }
                ImplItem::Const(item) if is_public(&item.vis) => {
                    let path = format!("{path}::{}", item.ident);
                    self.add(&path, &format!("pub const {path}: {}", text(&item.ty)), &condition);
                }
                _ => {}
            }
        }
    }

    fn is_known(&self, name: &str) -> bool {
        const FOREIGN: &[&str] = &[
            "Clone",
            "Debug",
            "Default",
            "Display",
            "Drop",
            "Eq",
            "Error",
            "From",
            "FromStr",
            "Hash",
            "Ord",
            "PartialEq",
            "PartialOrd",
            "TryFrom",
            "ZeroizeOnDrop",
        ];
        self.types.contains_key(name) || FOREIGN.contains(&name)
    }
}
