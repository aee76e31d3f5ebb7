//! Quantities over one variable, such as time: a panel for each quantity, one above the other.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use crate::figures::{FONT, FigureError, LINE, Result, SOFT, TEXT, drawn, hue, style, trimmed, write};

/// Points of a line that are drawn at most: of more, the least and the most of each stretch.
const MOST_POINTS: usize = 1500;
/// Lines that have a name in the figure; of more none has.
const MOST_NAMES: usize = 7;

/// A line.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What it is called.
    pub label: String,
    /// Its points, in order of the first coordinate.
    pub points: Vec<(f64, f64)>,
}

/// Lines that share an axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// What is along the axis, with its unit.
    pub quantity: String,
    /// The lines.
    pub series: Vec<Series>,
}

/// Draws panels over a variable.
///
/// # Errors
/// [`FigureError::Empty`] where a panel has no finite point.
pub fn series(title: &str, variable: &str, panels: &[Panel]) -> Result<String> {
    const HEIGHT: i32 = 260;
    let size = (720, 40 + HEIGHT * panels.len() as i32);
    let finite = |panel: &Panel| -> Vec<(f64, f64)> {
        let points = panel.series.iter().flat_map(|series| series.points.iter().copied());
        points.filter(|(x, y)| x.is_finite() && y.is_finite()).collect()
    };
    if panels.is_empty() || panels.iter().any(|panel| finite(panel).is_empty()) {
        return Err(FigureError::Empty("no point"));
    }
    drawn((size.0 as u32, size.1 as u32), |area| {
        write(area, title, (16, 12), style(16, TEXT, HPos::Left, VPos::Top))?;
        for (place, panel) in panels.iter().enumerate() {
            let top = 40 + HEIGHT * place as i32;
            let plot = area.margin(top + 20, size.1 - top - HEIGHT + 6, 12, 24);
            let points = finite(panel);
            let ends = |of: fn(&(f64, f64)) -> f64| {
                let (low, high) = points
                    .iter()
                    .map(of)
                    .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
                // A line that is flat has a width too.
                let room = if high > low { 0.03 * (high - low) } else { 0.5 * high.abs().max(1.0) };
                (low - room, high + room)
            };
            let ((x0, x1), (y0, y1)) = (ends(|point| point.0), ends(|point| point.1));
            let mut chart = ChartBuilder::on(&plot)
                .set_label_area_size(LabelAreaPosition::Left, 76)
                .set_label_area_size(LabelAreaPosition::Bottom, 44)
                .build_cartesian_2d(x0..x1, y0..y1)?;
            chart
                .configure_mesh()
                .x_desc(variable)
                .y_desc(&panel.quantity)
                .y_labels(6)
                .x_label_formatter(&|x| trimmed(*x))
                .y_label_formatter(&|y| trimmed(*y))
                .light_line_style(TRANSPARENT)
                .bold_line_style(LINE)
                .axis_style(SOFT)
                .label_style((FONT, 12).into_font().color(&TEXT))
                .axis_desc_style((FONT, 13).into_font().color(&TEXT))
                .draw()?;
            let mut x = 88;
            for (i, series) in panel.series.iter().enumerate() {
                let line = thinned(&series.points);
                chart.draw_series(LineSeries::new(line, ShapeStyle::from(&hue(i)).stroke_width(1)))?;
                if panel.series.len() <= MOST_NAMES {
                    area.draw(&Rectangle::new([(x, top + 4), (x + 12, top + 16)], hue(i).filled()))?;
                    write(area, series.label.as_str(), (x + 18, top + 10), style(12, SOFT, HPos::Left, VPos::Center))?;
                    x += 36 + 7 * series.label.chars().count() as i32;
                }
            }
        }
        Ok(())
    })
}

/// Finite points, as many as can be told apart.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let finite: Vec<(f64, f64)> = points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
    if finite.len() <= MOST_POINTS {
        return finite;
    }
    let stretch = finite.len().div_ceil(MOST_POINTS / 2);
    let ends = |part: &[(f64, f64)]| {
        let at = |better: fn(f64, f64) -> bool| {
            (0..part.len()).fold(0, |best, i| if better(part[i].1, part[best].1) { i } else { best })
        };
        let (low, high) = (at(|a, b| a < b), at(|a, b| a > b));
        [part[low.min(high)], part[low.max(high)]]
    };
    finite.chunks(stretch).flat_map(ends).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_keep_their_extremes_and_panels_their_names() {
        let mut points: Vec<(f64, f64)> = (0..100_000).map(|i| (f64::from(i), f64::from(i % 7))).collect();
        points[54_321].1 = 1000.0;
        let few = thinned(&points);
        assert!(few.len() <= MOST_POINTS && few.contains(&(54_321.0, 1000.0)), "{}", few.len());
        assert!(few.windows(2).all(|pair| pair[0].0 <= pair[1].0));
        let panel = |quantity: &str| Panel {
            quantity: quantity.to_owned(),
            series: vec![Series { label: "one".to_owned(), points: vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 1.0)] }],
        };
        let svg = series("a run", "time (ps)", &[panel("energy (eV)"), panel("temperature (K)")]).expect("a figure");
        for word in ["a run", "time (ps)", "energy (eV)", "temperature (K)", "one"] {
            assert!(svg.contains(word), "no `{word}`");
        }
        assert!(series("", "", &[Panel { quantity: String::new(), series: vec![] }]).is_err());
    }
}
