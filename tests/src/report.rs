//! Counts and prints the results of checks, a line each; `xtask` reads these lines.

use std::time::Instant;

use anyhow::Result;

/// The results of a program's checks.
#[derive(Debug)]
pub struct Report {
    program: &'static str,
    passed: usize,
    failed: usize,
}

impl Report {
    /// A report without results. Each line starts with the program's name.
    #[must_use]
    pub fn new(program: &'static str) -> Self {
        Self { program, passed: 0, failed: 0 }
    }

    /// Runs a check, and prints its name and result.
    pub fn check(&mut self, name: &str, run: impl FnOnce() -> Result<String>) {
        let start = Instant::now();
        match run() {
            Ok(result) => {
                self.passed += 1;
                let seconds = start.elapsed().as_secs_f32();
                println!("{}: ok   {name} [{result}] {seconds:.1} s", self.program);
            }
            Err(error) => self.fail(name, &error),
        }
    }

    /// Prints that a check failed, or what it needs.
    pub fn fail(&mut self, name: &str, error: &anyhow::Error) {
        self.failed += 1;
        println!("{}: FAIL {name}: {}", self.program, format!("{error:#}").replace('\n', " | "));
    }

    /// Prints what cannot be checked here, so that nobody takes it for something that passed.
    pub fn skip(&self, what: &str) {
        println!("{}: ---- {what}: not in this guest, nothing is claimed", self.program);
    }

    /// Whether at least one check passed and none failed.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.passed > 0 && self.failed == 0
    }

    /// Prints how many checks passed and failed.
    pub fn print_summary(&self) {
        println!("{}: {} passed, {} failed", self.program, self.passed, self.failed);
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
            let mut report = Report::new("test");
            run(&mut report);
            assert_eq!(report.succeeded(), expected, "{name}");
        }
    }
}
