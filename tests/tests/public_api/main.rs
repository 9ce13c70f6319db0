//! The public APIs of the crates that are published are those in their `api.txt`.
//!
//! The listing is made from the sources, so it needs no particular compiler. Functions are listed with their
//! signatures, but constants without their values; types have the names that the sources use.

mod listing;
mod tokens;

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result, ensure};

use crate::listing::listing;

/// The crates, and where they are.
const CRATES: &[(&str, &str)] = &[("pkd_core", "pkd-core"), ("pktables", "linux/pktables")];

/// Set to write the listings instead of comparing them.
const REFRESH: &str = "PKD_REFRESH_API";

#[test]
fn public_apis_are_those_that_are_listed() -> Result<()> {
    for (name, folder) in CRATES {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
        let actual = listing(name, &folder.join("src"))?;
        ensure!(actual.lines().count() > 20, "only these items in {name}:\n{actual}");
        let file = folder.join("api.txt");
        if std::env::var_os(REFRESH).is_some() {
            fs::write(&file, &actual)?;
        }
        let listed = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
        let (actual_lines, listed_lines) = (lines(&actual), lines(&listed));
        let added: Vec<_> = actual_lines.difference(&listed_lines).map(|line| format!("+ {line}")).collect();
        let removed: Vec<_> =
            listed_lines.difference(&actual_lines).map(|line| format!("- {line}")).collect();
        ensure!(
            actual == listed,
            "the API of {name} changed:\n{}\nIf that is intended, refresh the listing: \
             {REFRESH}=1 cargo test --package pkd-tests --test public_api",
            [removed, added].concat().join("\n")
        );
    }
    Ok(())
}

#[test]
fn every_kind_of_item_is_listed_and_private_ones_are_not() -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::write(
        folder.path().join("lib.rs"),
        r#"
        mod private;
        pub mod open;
        #[cfg(test)]
        mod tests;
        #[cfg(feature = "extra")]
        pub use private::Extra as More;
        pub use private::{Shape, Size, draw};
        pub const LIMIT: usize = 5;
        "#,
    )?;
    fs::write(
        folder.path().join("open.rs"),
        "pub fn area(of: &[u8; 2]) -> Option<u64> { None } fn hidden() {} pub(crate) fn internal() {}",
    )?;
    fs::write(
        folder.path().join("private.rs"),
        r"
        #[derive(Clone, Debug)] #[non_exhaustive]
        pub enum Shape { Point, Line(u8), Box { wide: Size } }
        impl Shape { pub const fn new<'a>(text: &'a str) -> Result<Self, Wrong> { todo!() } fn own(&self) {} }
        impl From<u8> for Shape { fn from(_: u8) -> Self { Self::Point } }
        impl Secret for Shape {}
        trait Secret {}
        #[repr(transparent)]
        pub struct Size(pub u32, bool);
        pub struct Extra<T> { pub one: T, other: u8 }
        impl<T> Drop for Extra<T> { fn drop(&mut self) {} }
        pub struct NotExported;
        impl Clone for NotExported { fn clone(&self) -> Self { Self } }
        pub trait Draw { const KIND: u8; fn draw(&mut self); }
        pub fn draw(_: impl Fn(u8) -> bool) {}
        ",
    )?;
    let expected = "\
pub const x::LIMIT: usize
pub struct x::More<T> [feature = \"extra\"]
impl<T> Drop for x::More<T> [feature = \"extra\"]
pub x::More::one: T [feature = \"extra\"]
#[non_exhaustive] pub enum x::Shape
impl Clone for x::Shape
impl Debug for x::Shape
impl From<u8> for x::Shape
pub x::Shape::Box { wide: Size }
pub x::Shape::Line(u8)
pub x::Shape::Point
pub const fn x::Shape::new<'a>(text: &'a str) -> Result<Self, Wrong>
#[repr(transparent)] pub struct x::Size
pub x::Size::0: u32
pub fn x::draw(_: impl Fn(u8) -> bool)
pub fn x::open::area(of: &[u8; 2]) -> Option<u64>
";
    assert_eq!(listing("x", folder.path())?, expected);
    Ok(())
}
