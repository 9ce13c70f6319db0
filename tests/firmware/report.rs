use std::time::Instant;

use anyhow::Result;

/// What held and what did not.
#[derive(Default)]
pub(crate) struct Report {
    passed: usize,
    failed: usize,
}

impl Report {
    /// Tries one claim; what it answers is shown beside its name.
    pub(crate) fn check(&mut self, name: &str, holds: impl FnOnce() -> Result<String>) {
        let start = Instant::now();
        match holds() {
            Ok(shown) => {
                self.passed += 1;
                println!("firmware: ok   {name} [{shown}] {:.1} s", start.elapsed().as_secs_f32());
            }
            Err(error) => self.fail(name, &error),
        }
    }

    pub(crate) fn fail(&mut self, name: &str, error: &anyhow::Error) {
        self.failed += 1;
        println!("firmware: FAIL {name}: {}", format!("{error:#}").replace('\n', " | "));
    }

    /// Whether something was tried and nothing failed.
    pub(crate) fn succeeded(&self) -> bool {
        self.passed > 0 && self.failed == 0
    }

    pub(crate) fn print_summary(&self) {
        println!("firmware: {} passed, {} failed", self.passed, self.failed);
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{anyhow, bail};

    use super::*;

    #[test]
    fn a_report_is_content_if_something_was_tried_and_nothing_failed() {
        type Checks = fn(&mut Report);
        let table: [(&str, Checks, bool); 5] = [
            ("nothing was tried", |_| {}, false),
            ("one claim holds", |report| report.check("a", || Ok(String::new())), true),
            ("one claim fails", |report| report.check("a", || bail!("b")), false),
            (
                "one holds and one fails",
                |report| {
                    report.check("a", || Ok(String::new()));
                    report.check("b", || bail!("c"));
                },
                false,
            ),
            ("it could not begin", |report| report.fail("a", &anyhow!("b")), false),
        ];
        for (name, checks, content) in table {
            let mut report = Report::default();
            checks(&mut report);
            assert_eq!(report.succeeded(), content, "{name}");
        }
    }
}
