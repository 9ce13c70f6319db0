//! A row of a table of figures.

use crate::prelude::*;

/// The most instructions that a check may take.
#[derive(Clone, Copy)]
pub(crate) enum Limit {
    None,
    /// This many times two bare blocks of SHA-256.
    OfTheBlocks(f64),
    Instructions(f64),
}

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

    /// A check that takes so many instructions where two bare blocks take `blocks`; an error if that is over its limit.
    pub(crate) fn check(what: &str, value: f64, blocks: f64, limit: Limit, place: &str) -> Result<Self> {
        let (most, limit) = match limit {
            Limit::None => (f64::INFINITY, String::new()),
            Limit::OfTheBlocks(most) => (most * blocks, format!(", at most {most:.2}")),
            Limit::Instructions(most) => (most, format!(", at most {most} instructions")),
        };
        let beside = format!("{:.2} of the blocks{limit}", value / blocks);
        ensure!(value <= most, "{what} takes {value:.0} instructions ({place}), {beside}");
        Ok(Self::new(what, format!("{value:.0}"), place).beside(beside))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_over_its_limit_is_an_error() {
        for (limit, most) in
            [(Limit::Instructions(60.0), 60.0), (Limit::OfTheBlocks(1.5), 150.0), (Limit::None, 1e9)]
        {
            let of = |value: f64| Row::check("a check", value, 100.0, limit, "here");
            assert!(of(most).is_ok(), "{most}");
            assert_eq!(of(most + 1.0).is_err(), !matches!(limit, Limit::None), "{most}");
        }
        let row = Row::check("a check", 75.0, 100.0, Limit::OfTheBlocks(1.4), "here").unwrap();
        assert!(table(&[row]).ends_with("| a check | 75 | 0.75 of the blocks, at most 1.40 | here |\n"));
    }
}
