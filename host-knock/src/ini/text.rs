//! The lines of an ini file, whatever they mean.

/// What stands below a name in brackets.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) name: String,
    pub(crate) entries: Vec<Entry>,
}

/// A line of a section.
#[derive(Debug)]
pub(crate) struct Entry {
    /// In small letters.
    pub(crate) option: String,
    pub(crate) value: String,
    pub(crate) line: usize,
}

/// A line that cannot be understood. `what` holds nothing of its value.
pub(crate) struct SyntaxError {
    pub(crate) line: usize,
    pub(crate) what: String,
}

/// Reads all of it.
pub(crate) fn parse(text: &str) -> Result<Vec<Section>, SyntaxError> {
    let mut sections: Vec<Section> = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let syntax_error = |what: &str| SyntaxError { line, what: what.to_owned() };
        let content = content.trim();
        if content.is_empty() || content.starts_with(['#', ';']) {
            continue;
        }
        if let Some(rest) = content.strip_prefix('[') {
            let (name, rest) =
                rest.split_once(']').ok_or_else(|| syntax_error("the section's ] is missing"))?;
            let rest = rest.trim_start();
            if name.is_empty() || !(rest.is_empty() || rest.starts_with(['#', ';'])) {
                return Err(syntax_error("a section is a name in brackets, alone on its line"));
            }
            if sections.iter().any(|section| section.name == name) {
                return Err(syntax_error(&format!("section [{name}] comes twice")));
            }
            sections.push(Section { name: name.to_owned(), entries: Vec::new() });
            continue;
        }
        let (option, value) = content
            .split_once(['=', ':'])
            .ok_or_else(|| syntax_error("neither a [section] nor option = value"))?;
        let (option, value) = (option.trim_end().to_ascii_lowercase(), value.trim_start());
        let section =
            sections.last_mut().ok_or_else(|| syntax_error("an option stands before the first [section]"))?;
        if section.entries.iter().any(|entry| entry.option == option) {
            return Err(syntax_error(&format!("section [{}] gives this option twice", section.name)));
        }
        if value.contains([' ', '\t']) && value.split([' ', '\t']).skip(1).any(|word| word.starts_with(';')) {
            return Err(syntax_error(
                "a ; behind white space began a comment for some programs; put comments on lines of their own and write such a key in hexadecimal",
            ));
        }
        section.entries.push(Entry { option, value: value.to_owned(), line });
    }
    Ok(sections)
}
