//! `make docs`: all documents as one book, in `target/book/html`.

use std::collections::BTreeSet;

use crate::{installed, prelude::*};

const README: &str = "README.md";
const MDBOOK: [&str; 2] = ["mdbook", "0.5.4"];

/// Builds it, and checks every link of every page.
pub(crate) fn build() -> Result<()> {
    let [name, version] = MDBOOK;
    let mdbook = installed::program_with(name, version, &["--no-default-features", "--features", "search"])?;
    let book = at("target/book");
    files::empty(&book)?;
    let source = book.join("source");
    gather(&source)?;
    fs::copy(at("docs/book.toml"), book.join("book.toml"))?;
    cmd!("{mdbook} build {book}").env("RUST_LOG", "warn").quiet()?;
    let html = book.join("html");
    let checked = check(&html)?;
    ensure!(checked > 500, "only {checked} links");
    println!("{}: {checked} links work", html.join("index.html").display());
    Ok(())
}

/// Copies the documents, at the places that they have in the project, and the files that they show or link to.
fn gather(source: &Path) -> Result<()> {
    let root = toolchain::root().canonicalize()?;
    let summary = fs::read_to_string(root.join("docs/SUMMARY.md"))?;
    let pages: BTreeSet<PathBuf> =
        targets(&summary).map(|link| normal(&Path::new("docs").join(link))).collect();
    for page in &pages {
        let text = fs::read_to_string(root.join(page)).with_context(|| page.display().to_string())?;
        let mut to = source.join(page);
        if to.ends_with(README) {
            to.set_file_name("index.md");
        }
        fs::create_dir_all(to.parent().context("a page in no folder")?)?;
        fs::write(to, with_indices(&text))?;
        for link in targets(&text).filter(|link| !link.contains("://")) {
            let linked = normal(&page.with_file_name(link.split('#').next().unwrap_or_default()));
            if root.join(&linked).is_dir() && !pages.iter().any(|page| page.starts_with(&linked)) {
                list(&root, &linked, source)?;
            } else if root.join(&linked).is_file() && !files::has_ending(&linked, "md") {
                files::copy(&root.join(&linked), &source.join(&linked))?;
            }
        }
    }
    // mdBook wants the contents at the top, and those of the project are beside the guide.
    let summary = summary.replace("](", "](docs/").replace("](docs/../", "](");
    Ok(fs::write(source.join("SUMMARY.md"), with_indices(&summary))?)
}

/// The document with other links: a web server shows a folder's `index.html`, where a site for source shows its `README.md`.
fn with_indices(text: &str) -> String {
    text.replace("README.md)", "index.md)").replace("README.md#", "index.md#")
}

/// A page with the files of a folder that has none of its own.
fn list(root: &Path, folder: &Path, source: &Path) -> Result<()> {
    let to = source.join(folder);
    fs::create_dir_all(&to)?;
    let mut page = format!("<!doctype html><title>{0}</title><h1>{0}</h1><ul>", folder.display());
    for file in files::below(&root.join(folder))? {
        let name = file.strip_prefix(root.join(folder))?;
        files::copy(&file, &to.join(name))?;
        page = format!("{page}<li><a href=\"{0}\">{0}</a>", name.display());
    }
    Ok(fs::write(to.join("index.html"), page + "</ul>\n")?)
}

/// What the links of a document lead to.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// The path without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut parts = Vec::new();
    for part in path {
        match part.to_str() {
            Some("..") => drop(parts.pop()),
            Some("." | "") => {}
            _ => parts.push(part),
        }
    }
    parts.into_iter().collect()
}

/// Whether the links of all pages lead somewhere; how many there are.
fn check(html: &Path) -> Result<usize> {
    let (mut count, mut broken) = (0, Vec::new());
    for page in files::below(html)?.into_iter().filter(|path| files::has_ending(path, "html")) {
        let text = fs::read_to_string(&page)?;
        for link in text.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            if link.contains(':') || link.is_empty() {
                continue;
            }
            count += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { page.clone() } else { page.with_file_name(path) };
            let target = if target.is_dir() { target.join("index.html") } else { target };
            let is_there = match fs::read(&target) {
                Ok(text) if !anchor.is_empty() => {
                    String::from_utf8_lossy(&text).contains(&format!("id=\"{anchor}\""))
                }
                result => result.is_ok(),
            };
            if !is_there {
                broken.push(format!("{}: {link}", page.strip_prefix(html)?.display()));
            }
        }
    }
    broken.sort();
    broken.dedup();
    ensure!(broken.is_empty(), "links of the book that lead nowhere:\n{}", broken.join("\n"));
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contents_name_every_document() -> Result<()> {
        let root = toolchain::root();
        let summary = fs::read_to_string(root.join("docs/SUMMARY.md"))?;
        let named: BTreeSet<_> =
            targets(&summary).map(|link| normal(&Path::new("docs").join(link))).collect();
        let mut all = BTreeSet::new();
        for file in files::below(root)?.into_iter().filter(|path| files::has_ending(path, "md")) {
            all.insert(file.strip_prefix(root)?.to_owned());
        }
        all.remove(Path::new("docs/SUMMARY.md"));
        ensure!(named == all, "only in one of them: {:?}", named.symmetric_difference(&all));
        Ok(())
    }

    #[test]
    fn a_broken_link_is_found() -> Result<()> {
        let folder = toolchain::target().join("book-test");
        files::empty(&folder)?;
        fs::write(folder.join("a.html"), "<h1 id=\"x\"><a href=\"b.html#x\"> <a href=\"#x\">")?;
        fs::write(folder.join("b.html"), "<h1 id=\"x\">")?;
        assert_eq!(check(&folder)?, 2);
        for link in ["c.html", "b.html#y", "#y"] {
            fs::write(folder.join("b.html"), format!("<h1 id=\"x\"><a href=\"{link}\">"))?;
            let error = check(&folder).expect_err(link).to_string();
            ensure!(error.contains(&format!("b.html: {link}")), "{error}");
        }
        Ok(fs::remove_dir_all(folder)?)
    }
}
