//! Counts and prints the results of checks.

use std::time::Instant;

use anyhow::Result;

/// The results of the checks.
#[derive(Default)]
pub(crate) struct Report {
    passed: usize,
    failed: usize,
}

impl Report {
    /// Runs a check, and prints its name and result.
    pub(crate) fn check(&mut self, name: &str, run: impl FnOnce() -> Result<String>) {
        let start = Instant::now();
        match run() {
            Ok(result) => {
                self.passed += 1;
                println!("firmware: ok   {name} [{result}] {:.1} s", start.elapsed().as_secs_f32());
            }
            Err(error) => self.fail(name, &error),
        }
    }

    pub(crate) fn fail(&mut self, name: &str, error: &anyhow::Error) {
        self.failed += 1;
        println!("firmware: FAIL {name}: {}", format!("{error:#}").replace('\n', " | "));
    }

    /// Whether at least one check passed and none failed.
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
    fn a_report_succeeds_if_a_check_passed_and_none_failed() {
        type Run = fn(&mut Report);
        let table: [(&str, Run, bool); 5] = [
            ("no checks", |_| {}, false),
            ("one passes", |report| report.check("a", || Ok(String::new())), true),
            ("one fails", |report| report.check("a", || bail!("b")), false),
            (
                "one passes and one fails",
                |report| {
                    report.check("a", || Ok(String::new()));
                    report.check("b", || bail!("c"));
                },
                false,
            ),
            ("setup failed", |report| report.fail("a", &anyhow!("b")), false),
        ];
        for (name, run, expected) in table {
            let mut report = Report::default();
            run(&mut report);
            assert_eq!(report.succeeded(), expected, "{name}");
        }
    }
}
