//! knock
fn main() {}
