//! The plot of a flood, by gnuplot.

use crate::prelude::*;

/// The plot in a document.
pub(super) const SHOWN: &str = "![Honest knocks granted within a second, and the median until a connection, against forgeries a second](flood.svg)";

/// Writes `docs/flood.svg`: honest knocks granted, and their median time, against forgeries a second.
pub(super) fn flood(pieces: &[Vec<String>]) -> Result<()> {
    let mut points = pieces.iter().map(|pieces| point(pieces)).collect::<Result<Vec<_>>>()?;
    ensure!(points.len() > 1, "a plot takes two points");
    points.sort_by(|a, b| a[0].total_cmp(&b[0]));
    let lines: Vec<_> =
        points.iter().map(|[rate, share, median]| format!("{rate} {share} {median}")).collect();
    let script = format!("$flood << EOD\n{}\nEOD\n{}", lines.join("\n"), include_str!("../../plot/flood.gp"));
    Ok(fs::write(at("docs/flood.svg"), cmd!("gnuplot").read_with(script.as_bytes())?)?)
}

/// Forgeries a second, the percentage of honest knocks that were granted, and the median in milliseconds.
fn point(pieces: &[String]) -> Result<[f64; 3]> {
    let [_, rate, granted, of, median] = pieces else { bail!("this is no point: {pieces:?}") };
    let number = |text: &str| text.parse::<f64>().with_context(|| text.to_owned());
    Ok([number(rate)?, 100.0 * number(granted)? / number(of)?, number(median)?])
}
