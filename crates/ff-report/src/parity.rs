//! Predictions over their reference: a square panel for each quantity, side by side.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use crate::figures::{FONT, FigureError, LINE, Result, SOFT, TEXT, drawn, hue, style, trimmed, write};

/// A quantity that was predicted.
#[derive(Clone, Debug, PartialEq)]
pub struct Parity {
    /// What it is, with its unit.
    pub quantity: String,
    /// Its errors in words, above the panel.
    pub note: String,
    /// Reference and prediction.
    pub points: Vec<(f64, f64)>,
}

/// Draws predictions over their reference, with the line on which both are equal.
///
/// # Errors
/// [`FigureError::Empty`] where a panel has no finite point.
pub fn parity(title: &str, panels: &[Parity]) -> Result<String> {
    const SIDE: i32 = 360;
    let size = (SIDE * panels.len() as i32, SIDE + 64);
    let finite = |panel: &Parity| -> Vec<(f64, f64)> {
        panel.points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect()
    };
    if panels.is_empty() || panels.iter().any(|panel| finite(panel).is_empty()) {
        return Err(FigureError::Empty("no point"));
    }
    drawn((size.0 as u32, size.1 as u32), |area| {
        write(area, title, (16, 12), style(16, TEXT, HPos::Left, VPos::Top))?;
        for (place, panel) in panels.iter().enumerate() {
            let left = SIDE * place as i32;
            let plot = area.margin(64, 8, left + 8, size.0 - left - SIDE + 16);
            let points = finite(panel);
            let all = points.iter().flat_map(|(x, y)| [*x, *y]);
            let (low, high) = all.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
            let room = if high > low { 0.04 * (high - low) } else { 0.5 * high.abs().max(1.0) };
            let range = (low - room)..(high + room);
            let mut chart = ChartBuilder::on(&plot)
                .set_label_area_size(LabelAreaPosition::Left, 76)
                .set_label_area_size(LabelAreaPosition::Bottom, 44)
                .build_cartesian_2d(range.clone(), range.clone())?;
            chart
                .configure_mesh()
                .x_desc(format!("reference {}", panel.quantity))
                .y_desc("predicted")
                .x_labels(4)
                .y_labels(4)
                .x_label_formatter(&|x| trimmed(*x))
                .y_label_formatter(&|y| trimmed(*y))
                .light_line_style(TRANSPARENT)
                .bold_line_style(LINE)
                .axis_style(SOFT)
                .label_style((FONT, 12).into_font().color(&TEXT))
                .axis_desc_style((FONT, 13).into_font().color(&TEXT))
                .draw()?;
            let ends = [(range.start, range.start), (range.end, range.end)];
            chart.draw_series(LineSeries::new(ends, ShapeStyle::from(&SOFT).stroke_width(1)))?;
            let fill = hue(0).mix(0.5).filled();
            chart.draw_series(points.iter().map(|point| Circle::new(*point, 2, fill)))?;
            write(area, panel.note.as_str(), (left + 32, 46), style(12, SOFT, HPos::Left, VPos::Center))?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_have_a_point_each_and_their_names() {
        let panel = |quantity: &str, points: &[(f64, f64)]| Parity {
            quantity: quantity.to_owned(),
            note: format!("RMSE of {quantity}"),
            points: points.to_vec(),
        };
        let points = [(0.0, 0.1), (1.0, f64::NAN), (2.0, 1.9)];
        let svg =
            parity("student", &[panel("energy (eV)", &points), panel("force (eV/Å)", &points[..1])]).expect("a figure");
        for word in ["student", "reference energy (eV)", "RMSE of force (eV/Å)", "predicted"] {
            assert!(svg.contains(word), "no `{word}`");
        }
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(parity("", &[panel("energy", &points[1..2])]).is_err() && parity("", &[]).is_err());
    }
}
