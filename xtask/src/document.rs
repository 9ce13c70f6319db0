//! Figures in documents, which commands write and nobody types.
//!
//! They stand between `<!-- NAME: … -->` and `<!-- /NAME -->`, so that a document says where a figure is from.

use std::ops::Range;

use crate::prelude::*;

/// Puts `text` in the place called `name` of a document of the project. One that has it already is left alone.
pub(crate) fn write(document: &str, name: &str, text: &str) -> Result<()> {
    let path = at(document);
    let old = fs::read_to_string(&path).with_context(|| document.to_owned())?;
    let new = replaced(&old, name, text).with_context(|| format!("{document}: no place {name}"))?;
    if new != old {
        fs::write(path, new)?;
        progress!("{document}: {name} is new");
    }
    Ok(())
}

/// The text in the place called `name`.
pub(crate) fn read(document: &str, name: &str) -> Result<String> {
    let text = fs::read_to_string(at(document)).with_context(|| document.to_owned())?;
    let place = place(&text, name).with_context(|| format!("{document}: no place {name}"))?;
    Ok(text[place].trim().to_owned() + "\n")
}

fn replaced(document: &str, name: &str, text: &str) -> Option<String> {
    let Range { start, end } = place(document, name)?;
    Some([document.get(..start)?, "\n\n", text.trim(), "\n\n", document.get(end..)?].concat())
}

/// Where the text called `name` is in a document.
fn place(document: &str, name: &str) -> Option<Range<usize>> {
    let begin = document.find(&format!("<!-- {name}:"))?;
    let start = begin + document.get(begin..)?.find("-->")? + "-->".len();
    Some(start..start + document.get(start..)?.find(&format!("<!-- /{name} -->"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_gets_its_text_and_the_rest_stays() {
        let document = "before\n<!-- a: by b -->\nold\n<!-- /a -->\nafter\n";
        let new = replaced(document, "a", "new\n").unwrap();
        assert_eq!(new, "before\n<!-- a: by b -->\n\nnew\n\n<!-- /a -->\nafter\n");
        assert_eq!(replaced(&new, "a", "new\n").unwrap(), new);
        assert_eq!(replaced(document, "b", "new"), None);
    }
}
