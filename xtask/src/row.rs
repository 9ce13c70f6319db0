//! A row of a table of figures.

/// One figure.
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) value: String,
    /// The limit, or the ratio to another figure of this run.
    pub(crate) beside: String,
    /// Where it was measured.
    pub(crate) place: String,
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
