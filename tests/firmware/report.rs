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
    pub(crate) fn claim(&mut self, name: &str, holds: impl FnOnce() -> Result<String>) {
        let start = Instant::now();
        match holds() {
            Ok(shown) => {
                self.passed += 1;
                println!("firmware: ok   {name} [{shown}] {:.1} s", start.elapsed().as_secs_f32());
            }
            Err(error) => self.failed(name, &error),
        }
    }

    pub(crate) fn failed(&mut self, name: &str, error: &anyhow::Error) {
        self.failed += 1;
        println!("firmware: FAIL {name}: {}", format!("{error:#}").replace('\n', " | "));
    }

    /// Whether something was tried and nothing failed.
    pub(crate) fn is_content(&self) -> bool {
        self.passed > 0 && self.failed == 0
    }

    pub(crate) fn finish(&self) {
        println!("firmware: {} passed, {} failed", self.passed, self.failed);
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{anyhow, bail};

    use super::*;

    #[test]
    fn a_report_is_content_if_something_was_tried_and_nothing_failed() {
        type Claims = fn(&mut Report);
        let table: [(&str, Claims, bool); 5] = [
            ("nothing was tried", |_| {}, false),
            ("one claim holds", |report| report.claim("a", || Ok(String::new())), true),
            ("one claim fails", |report| report.claim("a", || bail!("b")), false),
            (
                "one holds and one fails",
                |report| {
                    report.claim("a", || Ok(String::new()));
                    report.claim("b", || bail!("c"));
                },
                false,
            ),
            ("it could not begin", |report| report.failed("a", &anyhow!("b")), false),
        ];
        for (name, claims, content) in table {
            let mut report = Report::default();
            claims(&mut report);
            assert_eq!(report.is_content(), content, "{name}");
        }
    }
}
