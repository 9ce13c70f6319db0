use std::time::Instant;

use anyhow::Result;

/// What held and what did not.
#[derive(Default)]
pub(crate) struct Report {
    passed: usize,
    failed: usize,
}

impl Report {
    /// Tries one check; what it answers is shown beside its name.
    pub(crate) fn check(&mut self, name: &str, holds: impl FnOnce() -> Result<String>) {
        let start = Instant::now();
        match holds() {
            Ok(shown) => {
                self.passed += 1;
                println!("vm: ok   {name} [{shown}] {:.1} s", start.elapsed().as_secs_f32());
            }
            Err(error) => self.failed(name, &error),
        }
    }

    /// Says what cannot be tried in this guest, so that nobody takes it for something that held.
    pub(crate) fn not_here(what: &str) {
        println!("vm: ---- {what}: not in this guest, nothing is claimed");
    }

    pub(crate) fn failed(&mut self, name: &str, error: &anyhow::Error) {
        self.failed += 1;
        println!("vm: FAIL {name}: {}", format!("{error:#}").replace('\n', " | "));
    }

    pub(crate) fn finish(&self) {
        println!("vm: {} passed, {} failed", self.passed, self.failed);
    }
}
