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

    /// Whether nothing has failed so far.
    pub(crate) fn is_content(&self) -> bool {
        self.failed == 0
    }

    pub(crate) fn finish(&self) {
        println!("firmware: {} passed, {} failed", self.passed, self.failed);
    }
}
