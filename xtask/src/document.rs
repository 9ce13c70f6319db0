//! Figures in documents, which commands write and nobody types.
//!
//! They stand between `<!-- NAME: … -->` and `<!-- /NAME -->`, so that a document says where a figure is from.

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

fn replaced(document: &str, name: &str, text: &str) -> Option<String> {
    let begin = document.find(&format!("<!-- {name}:"))?;
    let from = begin + document.get(begin..)?.find("-->")? + "-->".len();
    let to = from + document.get(from..)?.find(&format!("<!-- /{name} -->"))?;
    Some([document.get(..from)?, "\n\n", text.trim(), "\n\n", document.get(to..)?].concat())
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
