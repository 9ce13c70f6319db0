//! A row of a table of figures.

/// One figure.
#[derive(Clone)]
pub(crate) struct Row {
    what: String,
    value: String,
    /// The limit, or the ratio to another figure of this run.
    beside: String,
    /// Where it was measured.
    place: String,
}

impl Row {
    pub(crate) fn new(what: impl Into<String>, value: impl Into<String>, place: impl Into<String>) -> Self {
        Self { what: what.into(), value: value.into(), beside: String::new(), place: place.into() }
    }

    pub(crate) fn beside(mut self, beside: impl Into<String>) -> Self {
        self.beside = beside.into();
        self
    }
}

pub(crate) fn table(rows: &[Row]) -> String {
    let head = "| figure | value | beside it | measured on |\n|---|---:|---|---|\n".to_owned();
    rows.iter().fold(head, |text, Row { what, value, beside, place }| {
        text + &format!("| {what} | {value} | {beside} | {place} |\n")
    })
}
