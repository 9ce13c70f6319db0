//! The syntax of an ini file.

/// A section and its options.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) name: String,
    pub(crate) entries: Vec<Entry>,
}

/// An option.
#[derive(Debug)]
pub(crate) struct Entry {
    /// In lower case.
    pub(crate) option: String,
    pub(crate) value: String,
    pub(crate) line: usize,
}

/// A line that cannot be parsed. `problem` contains no part of a value.
pub(crate) struct SyntaxError {
    pub(crate) line: usize,
    pub(crate) problem: String,
}

/// Parses a file.
pub(crate) fn parse(text: &str) -> Result<Vec<Section>, SyntaxError> {
    let mut sections: Vec<Section> = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let syntax_error = |problem: &str| SyntaxError { line, problem: problem.to_owned() };
        let content = content.trim();
        if content.is_empty() || content.starts_with(['#', ';']) {
            continue;
        }
        if let Some(rest) = content.strip_prefix('[') {
            let (name, rest) =
                rest.split_once(']').ok_or_else(|| syntax_error("missing ] after the section name"))?;
            let rest = rest.trim_start();
            if name.is_empty() || !(rest.is_empty() || rest.starts_with(['#', ';'])) {
                return Err(syntax_error("expected a section name in brackets, alone on its line"));
            }
            if sections.iter().any(|section| section.name == name) {
                return Err(syntax_error(&format!("duplicate section [{name}]")));
            }
            sections.push(Section { name: name.to_owned(), entries: Vec::new() });
            continue;
        }
        let (option, value) = content
            .split_once(['=', ':'])
            .ok_or_else(|| syntax_error("expected [section] or option = value"))?;
        let (option, value) = (option.trim_end().to_ascii_lowercase(), value.trim_start());
        let section = sections.last_mut().ok_or_else(|| syntax_error("option before the first [section]"))?;
        if section.entries.iter().any(|entry| entry.option == option) {
            return Err(syntax_error(&format!("duplicate option in section [{}]", section.name)));
        }
        if value.contains([' ', '\t']) && value.split([' ', '\t']).skip(1).any(|word| word.starts_with(';')) {
            return Err(syntax_error(
                "some programs read ; after white space as a comment; put comments on their own lines, and write such a key as 0x and hexadecimal digits",
            ));
        }
        section.entries.push(Entry { option, value: value.to_owned(), line });
    }
    Ok(sections)
}
