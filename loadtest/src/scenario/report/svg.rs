//! Line and bar charts as inline SVG, with axes, units, a grid, a legend, and colours for light and dark.

use std::fmt::Write as _;

use crate::exchange::xml::escape_into;

/// Width and height of a chart.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 290.0;
/// Margins for the axes.
const LEFT: f64 = 76.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = 46.0;
/// Number of colours. They are CSS classes, so that light and dark differ. Further lines reuse them, dashed.
const COLOURS: usize = 8;

/// A line of a chart.
pub(super) struct Line {
    pub(super) name: String,
    /// Points in order of x.
    pub(super) points: Vec<(f64, f64)>,
}

/// A chart.
pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    /// Quantity on the x axis, with its unit.
    pub(super) x: &'a str,
    /// Quantity on the y axis, with its unit.
    pub(super) y: &'a str,
    pub(super) lines: Vec<Line>,
    /// Vertical marks with their positions and names. In a bar chart they name the positions.
    pub(super) marks: Vec<(f64, String)>,
    /// Whether to draw a bar at each point instead of a line through the points.
    pub(super) bars: bool,
}

/// Escapes text for HTML and XML.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    escape_into(&mut out, text);
    out
}

/// Returns between four and ten round positions for an axis from 0 to at least `largest`.
fn ticks(largest: f64) -> Vec<f64> {
    let largest = if largest.is_finite() && largest > 0.0 {
        largest
    } else {
        1.0
    };
    let rough = largest / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= rough)
        .unwrap_or(10.0 * power);
    let mut ticks = vec![0.0];
    let mut at = 0.0;
    while at < largest && ticks.len() < 20 {
        at += step;
        ticks.push(at);
    }
    ticks
}

/// Formats a number at an axis: short, with thousands as `k` and millions as `M`.
fn label(value: f64) -> String {
    let (value, suffix) = if value >= 1e6 {
        (value / 1e6, "M")
    } else if value >= 1e4 {
        (value / 1e3, "k")
    } else {
        (value, "")
    };
    let text = if value >= 100.0 || (value - value.round()).abs() < 1e-9 {
        format!("{value:.0}")
    } else if value >= 1.0 {
        format!("{value:.1}")
    } else {
        let text = format!("{value:.4}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    format!("{text}{suffix}")
}

impl Chart<'_> {
    /// Returns the chart as a `figure` element, or an empty string if there are no points.
    pub(super) fn render(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        if points().next().is_none() {
            return String::new();
        }
        let largest = |pick: fn(&(f64, f64)) -> f64| {
            points()
                .map(pick)
                .filter(|value| value.is_finite())
                .fold(0.0, f64::max)
        };
        let (x_ticks, y_ticks) = (
            self.x_ticks(largest(|point| point.0)),
            ticks(largest(|point| point.1)),
        );
        let x_end = if self.bars {
            largest(|point| point.0) + 1.0
        } else {
            x_ticks
                .last()
                .copied()
                .unwrap_or(1.0)
                .min(largest(|point| point.0).max(1e-9))
        };
        let y_end = y_ticks.last().copied().unwrap_or(1.0);
        let (inner_width, inner_height) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
        let x_at = |x: f64| LEFT + x / x_end * inner_width;
        let y_at = |y: f64| TOP + inner_height - y / y_end * inner_height;
        let mut out = String::new();
        let _ = write!(
            out,
            "<figure><figcaption>{}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escape(self.title),
            escape(self.title)
        );
        for tick in &y_ticks {
            let y = y_at(*tick);
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text class=\"tick end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0,
                label(*tick)
            );
        }
        for tick in x_ticks.iter().filter(|tick| **tick <= x_end * 1.000_1) {
            let x = x_at(*tick);
            let _ = write!(
                out,
                "<text class=\"tick middle\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
                HEIGHT - BOTTOM + 16.0,
                label(*tick)
            );
        }
        let _ = write!(
            out,
            "<text class=\"axis middle\" x=\"{:.1}\" y=\"{:.1}\">{}</text><text class=\"axis middle\" transform=\"translate(14 {:.1}) rotate(-90)\">{}</text>",
            LEFT + inner_width / 2.0,
            HEIGHT - 6.0,
            escape(self.x),
            TOP + inner_height / 2.0,
            escape(self.y)
        );
        if self.bars {
            self.categories(&mut out, &x_at);
        } else {
            self.marks(&mut out, x_end, &x_at);
        }
        for (number, line) in self.lines.iter().enumerate() {
            if self.bars {
                self.bars(&mut out, number, line, &x_at, &y_at);
            } else {
                polyline(&mut out, number, line, &x_at, &y_at);
            }
        }
        out.push_str("</svg>");
        if self.lines.len() > 1 || self.lines.first().is_some_and(|line| !line.name.is_empty()) {
            out.push_str("<ul class=\"legend\">");
            for (number, line) in self.lines.iter().enumerate() {
                let _ = write!(
                    out,
                    "<li><span class=\"key c{}{}\"></span>{}</li>",
                    number % COLOURS,
                    if number >= COLOURS { " dashed" } else { "" },
                    escape(&line.name)
                );
            }
            out.push_str("</ul>");
        }
        out.push_str("</figure>");
        out
    }

    /// Draws vertical lines with their names above them.
    fn marks(&self, out: &mut String, x_end: f64, x_at: &dyn Fn(f64) -> f64) {
        // There are two rows for names. A name that fits into neither row appears only in the title of its line.
        let mut free_from = [f64::NEG_INFINITY; 2];
        for (at, name) in self.marks.iter().filter(|(at, _)| (0.0..=x_end).contains(at)) {
            let x = x_at(*at);
            let _ = write!(
                out,
                "<line class=\"mark\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{:.1}\"><title>{}</title></line>",
                HEIGHT - BOTTOM,
                escape(name)
            );
            let text_width = f64::from(u32::try_from(name.chars().count()).unwrap_or(u32::MAX)) * 7.5;
            let row = free_from.iter().position(|free| x >= *free);
            if let Some((row, free)) = row.and_then(|row| Some((row, free_from.get_mut(row)?)))
                && x + text_width < WIDTH
            {
                let above = if row == 0 { 5.0 } else { 20.0 };
                let _ = write!(
                    out,
                    "<text class=\"marked\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                    x + 3.0,
                    TOP - above,
                    escape(name)
                );
                *free = x + text_width + 8.0;
            }
        }
    }

    /// Draws names below the bars. If there are many, only every n-th name.
    fn categories(&self, out: &mut String, x_at: &dyn Fn(f64) -> f64) {
        let every = self.marks.len().div_ceil(12).max(1);
        for (at, name) in self.marks.iter().step_by(every) {
            let _ = write!(
                out,
                "<text class=\"tick middle\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                x_at(at + 0.5),
                HEIGHT - BOTTOM + 16.0,
                escape(name)
            );
        }
    }

    fn x_ticks(&self, largest: f64) -> Vec<f64> {
        if self.bars { Vec::new() } else { ticks(largest) }
    }

    /// Draws one bar for each point. x is the position; its name is among the marks.
    fn bars(
        &self,
        out: &mut String,
        number: usize,
        line: &Line,
        x_at: &dyn Fn(f64) -> f64,
        y_at: &dyn Fn(f64) -> f64,
    ) {
        let count = f64::from(u32::try_from(self.lines.len().max(1)).unwrap_or(1));
        let width = 0.8 / count;
        let offset = 0.1 + width * f64::from(u32::try_from(number).unwrap_or(0));
        for (x, y) in &line.points {
            let (left, right, top) = (x_at(x + offset), x_at(x + offset + width), y_at(*y));
            let _ = write!(
                out,
                "<rect class=\"c{}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"><title>{}: {}</title></rect>",
                number % COLOURS,
                (right - left - 1.0).max(1.0),
                (y_at(0.0) - top).max(0.0),
                escape(&line.name),
                label(*y)
            );
        }
    }
}

fn polyline(
    out: &mut String,
    number: usize,
    line: &Line,
    x_at: &dyn Fn(f64) -> f64,
    y_at: &dyn Fn(f64) -> f64,
) {
    let _ = write!(
        out,
        "<polyline class=\"line c{}{}\" points=\"",
        number % COLOURS,
        if number >= COLOURS { " dashed" } else { "" }
    );
    for (x, y) in line.points.iter().filter(|(x, y)| x.is_finite() && y.is_finite()) {
        let _ = write!(out, "{:.1},{:.1} ", x_at(*x), y_at(*y));
    }
    let _ = write!(out, "\"><title>{}</title></polyline>", escape(&line.name));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_or_above_the_largest_value_in_round_steps() {
        assert_eq!(ticks(9.3), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks(0.0), [0.0, 0.2, 0.4, 0.600_000_000_000_000_1, 0.8, 1.0]);
        for largest in [0.003, 1.0, 7.0, 99.0, 12_345.0, 9e8] {
            let ticks = ticks(largest);
            assert!(
                (4..=11).contains(&ticks.len()) && *ticks.last().unwrap() >= largest,
                "{ticks:?}"
            );
        }
        assert_eq!(ticks(f64::NAN).len(), 6);
    }

    #[test]
    fn labels_are_short() {
        let labels = [0.0, 0.25, 2.5, 100.0, 25_000.0, 1_500_000.0].map(label);
        assert_eq!(labels, ["0", "0.25", "2.5", "100", "25k", "1.5M"]);
    }

    #[test]
    fn nothing_is_drawn_without_points_and_text_is_escaped() {
        let chart = |points| Chart {
            title: "a < b",
            x: "s",
            y: "syncs/s",
            lines: vec![Line {
                name: "\u{1}x&y".to_owned(),
                points,
            }],
            marks: vec![(1.0, "kill \"redis\"".to_owned())],
            bars: false,
        };
        assert_eq!(chart(Vec::new()).render(), "");
        let text = chart(vec![(0.0, 1.0), (2.0, f64::NAN), (3.0, 5.0)]).render();
        assert!(text.contains("a &lt; b") && text.contains("?x&amp;y") && text.contains("&quot;redis&quot;"));
        assert!(!text.contains("NaN"));
    }
}
