//! One plot, as SVG: a library for it would be larger than all the rest of xtask.

use std::{fmt::Write as _, fs};

use anyhow::{Context, Result, ensure};

use crate::toolchain;

/// The plot in a document.
pub(super) const SHOWN: &str = "![Honest knocks granted within a second, and the median until a connection, against forgeries a second](flood.svg)";

/// Pixels: the whole, and what is left around the plot.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 70.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 50.0;

/// A flood, and what became of honest knocks in it.
struct Point {
    /// Forgeries a second.
    rate: f64,
    /// Of honest knocks, granted within a second: 0 to 1.
    granted: f64,
    /// Milliseconds from a knock to a connection.
    median: f64,
}

/// Writes `docs/flood.svg`: honest knocks granted, and their median time, against forgeries a second.
pub(super) fn flood(pieces: &[Vec<String>]) -> Result<()> {
    let mut points = pieces.iter().map(|pieces| point(pieces)).collect::<Result<Vec<_>>>()?;
    ensure!(points.len() > 1, "a plot takes two points");
    points.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    fs::write(toolchain::root().join("docs/flood.svg"), draw(&points)?)?;
    Ok(())
}

fn point(pieces: &[String]) -> Result<Point> {
    let [_, rate, granted, of, median] = pieces else { anyhow::bail!("this is no point: {pieces:?}") };
    let number = |text: &str| text.parse::<f64>().with_context(|| text.to_owned());
    Ok(Point { rate: number(rate)?, granted: number(granted)? / number(of)?, median: number(median)? })
}

fn draw(points: &[Point]) -> Result<String> {
    let most = |of: fn(&Point) -> f64| points.iter().map(of).fold(0.0, f64::max);
    // Ends of the axes, at a round number above all points.
    let (rates, times) = (round_up(most(|point| point.rate)), round_up(most(|point| point.median)));
    let x = |rate: f64| LEFT + rate / rates * (WIDTH - LEFT - RIGHT);
    let y = |share: f64| HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);
    let line = |of: &dyn Fn(&Point) -> f64| {
        points
            .iter()
            .map(|point| format!("{:.1},{:.1}", x(point.rate), y(of(point))))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for step in 0..=4 {
        let share = f64::from(step) / 4.0;
        let (across, up) = (x(share * rates), y(share));
        writeln!(
            svg,
            "<path d=\"M{LEFT} {up:.1}H{:.1}\" stroke=\"#ddd\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#06c\">{:.0} %</text>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#c30\">{:.2} ms</text>\n\
             <text x=\"{across:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{:.0}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            up + 4.0,
            share * 100.0,
            WIDTH - RIGHT + 6.0,
            up + 4.0,
            share * times,
            HEIGHT - BOTTOM + 18.0,
            share * rates,
        )?;
    }
    for (color, of) in [
        ("#06c", &(|point: &Point| point.granted) as &dyn Fn(&Point) -> f64),
        ("#c30", &|point: &Point| point.median / times),
    ] {
        writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>",
            line(of)
        )?;
        for point in points {
            writeln!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{color}\"/>",
                x(point.rate),
                y(of(point))
            )?;
        }
    }
    writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"18\" fill=\"#06c\">honest knocks granted within a second</text>\n\
         <text x=\"{:.1}\" y=\"18\" text-anchor=\"end\" fill=\"#c30\">median until a connection</text>\n\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">forgeries a second, from one core</text>\n</svg>",
        WIDTH - RIGHT,
        WIDTH / 2.0,
        HEIGHT - 10.0
    )?;
    Ok(svg)
}

/// 1, 2 or 5 times a power of ten, and not less.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.max(1e-3).log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|end| *end >= value).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_all_points_on_its_lines() {
        let point = |rate, granted, median| Point { rate, granted, median };
        let svg = draw(&[point(0.0, 1.0, 0.1), point(150_000.0, 0.5, 0.4)]).unwrap();
        // Both lines begin at the left end, and a share of 1 is at the top.
        assert!(svg.contains("points=\"70.0,30.0 "), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 4);
        assert!(svg.contains(">200000</text>"), "{svg}");
    }

    #[test]
    fn axes_end_at_round_numbers() {
        for (value, end) in [(0.3, 0.5), (1.0, 1.0), (150_000.0, 200_000.0), (219_000.0, 500_000.0)] {
            assert!((round_up(value) - end).abs() < end * 1e-9, "{value}");
        }
    }
}
