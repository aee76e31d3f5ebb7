//! Static figures, as SVG: the same bytes for the same report.

use std::collections::BTreeSet;

use ff_spec::Dtype;
use ff_tune::Stage;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::colors::colormaps::{ColorMap, ViridisRGB};
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::report::{Report, Subject};
use crate::roofline::Point;
use crate::search::{Cell, Map, Search};
use crate::speedup::{Basis, Over, Speedup};

/// What is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Times over two parameters, others at their best: a panel for each search.
    HeatMap,
    /// Bars.
    SpeedUp(Over),
    /// FLOP/s over intensity under what devices can do.
    Roofline,
    /// The best so far against evaluations.
    BestSoFar,
}

/// No figure.
#[derive(Debug, thiserror::Error)]
pub enum FigureError {
    /// There is nothing of that kind.
    #[error("nothing to draw: {0}")]
    Empty(&'static str),
    /// The plotting library refuses.
    #[error("cannot draw: {0}")]
    Plotting(String),
}

impl<E: std::error::Error + Send + Sync> From<DrawingAreaErrorKind<E>> for FigureError {
    fn from(error: DrawingAreaErrorKind<E>) -> Self {
        Self::Plotting(error.to_string())
    }
}

pub(crate) type Result<T> = std::result::Result<T, FigureError>;
pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Panels of a figure of heat maps; the searches with most configurations are drawn, and how many there are is said.
const MOST_PANELS: usize = 6;
/// Bars of a figure.
const MOST_BARS: usize = 40;
/// Curves of a figure.
const MOST_CURVES: usize = 7;

pub(crate) const TEXT: RGBColor = RGBColor(28, 33, 40);
pub(crate) const SOFT: RGBColor = RGBColor(89, 99, 110);
pub(crate) const LINE: RGBColor = RGBColor(212, 216, 222);
/// Okabe and Ito's colours, told apart by most eyes.
const HUES: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(213, 94, 0),
    RGBColor(86, 180, 233),
    RGBColor(138, 125, 0),
];
pub(crate) const FONT: &str = "sans-serif";

/// Draws a figure of everything in a report.
///
/// # Errors
/// [`FigureError::Empty`] where the report holds nothing of its kind.
pub fn svg(report: &Report, figure: Figure) -> Result<String> {
    match figure {
        Figure::HeatMap => heat_maps(report),
        Figure::SpeedUp(over) => speed_up(report, over),
        Figure::Roofline => roofline(report),
        Figure::BestSoFar => best_so_far(report),
    }
}

/// Draws on a white page of a size in px.
pub(crate) fn drawn(size: (u32, u32), draw: impl FnOnce(&Area<'_>) -> Result<()>) -> Result<String> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        area.fill(&WHITE)?;
        draw(&area)?;
        area.present()?;
    }
    Ok(text)
}

pub(crate) fn style(size: u32, colour: RGBColor, h: HPos, v: VPos) -> TextStyle<'static> {
    let font = (FONT, size).into_font();
    TextStyle { font, color: colour.to_backend_color(), pos: Pos::new(h, v) }
}

pub(crate) fn write(area: &Area<'_>, text: impl Into<String>, at: (i32, i32), style: TextStyle<'static>) -> Result<()> {
    let text: String = text.into();
    Ok(area.draw(&Text::new(text, at, style))?)
}

/// Px that a text of so many characters takes at most, in the usual fonts.
fn width(characters: usize, size: u32) -> i32 {
    (characters as f64 * f64::from(size) * 0.58).ceil() as i32
}

fn heading(report: &Report, subject: &Subject) -> [String; 2] {
    let device = report.device(subject);
    let software = if device.software { ", a software adapter" } else { "" };
    let Subject { family, problem, dtype, .. } = subject;
    [format!("{family}, {dtype}"), format!("{} on {}{software}", problem.name, device.label())]
}

fn heat_maps(report: &Report) -> Result<String> {
    let mut panels: Vec<(&Search, &Map)> = report
        .searches
        .iter()
        .filter_map(|search| Some((search, search.maps.first()?)))
        .filter(|(search, map)| search.fastest.is_some() && map.cells.iter().any(|cell| cell.best.is_some()))
        .collect();
    let all = panels.len();
    // A stable sort: those that are alike stay in the order in which they were measured.
    panels.sort_by_key(|(search, _)| std::cmp::Reverse(search.configs.len()));
    panels.truncate(MOST_PANELS);
    if panels.is_empty() {
        return Err(FigureError::Empty("no search of these records has times over a parameter"));
    }
    let columns = panels.len().min(2);
    let rows = panels.len().div_ceil(columns);
    let most = |map: &Map| (map.x_values.len(), map.y_values.len().max(1));
    let (cells_x, cells_y) = panels.iter().map(|(_, m)| most(m)).fold((1, 1), |a, b| (a.0.max(b.0), a.1.max(b.1)));
    // A tile holds "★ ◆ ~1.00", and a panel its headings.
    let longest = panels.iter().flat_map(|(s, _)| heading(report, &s.subject)).map(|t| t.chars().count()).max();
    let panel =
        ((110 + 78 * cells_x as i32).max(40 + width(longest.unwrap_or(0), 14)), 110 + 46 * cells_y.max(2) as i32);
    let best = |search: &Search, cell: &Cell| {
        let config = &search.configs[cell.best?];
        Some((config.ratio?, config.stage == Stage::Screen))
    };
    let tiles: Vec<(f64, bool)> = panels
        .iter()
        .flat_map(|(search, map)| map.cells.iter().filter_map(|cell| best(search, cell)).collect::<Vec<_>>())
        .collect();
    let top = tiles.iter().map(|(ratio, _)| *ratio).fold(1.05_f64, f64::max).ln();
    let left_out =
        if all > panels.len() { format!(" {} of {all} searches are shown.", panels.len()) } else { String::new() };
    let mut notes = vec![format!(
        "Time over the fastest, other parameters at their best. ★ fastest, ◆ default, ✕ no time.{left_out}"
    )];
    if tiles.iter().any(|(_, screened)| *screened) {
        notes
            .push("~ screening alone: few samples, over the default beside them; 1.00 where they say less.".to_owned());
    }
    let (bar, foot) = (96, 10 + 16 * notes.len() as i32);
    let noted = notes.iter().map(|note| 32 + width(note.chars().count(), 11)).max().unwrap_or(0);
    let size = ((columns as i32 * panel.0 + bar).max(noted), rows as i32 * panel.1 + foot);
    drawn((size.0 as u32, size.1 as u32), |area| {
        for (i, (search, map)) in panels.iter().enumerate() {
            let corner = ((i % columns) as i32 * panel.0, (i / columns) as i32 * panel.1);
            let [first, second] = heading(report, &search.subject);
            write(area, first, (corner.0 + 16, corner.1 + 12), style(14, TEXT, HPos::Left, VPos::Top))?;
            write(area, second, (corner.0 + 16, corner.1 + 31), style(12, SOFT, HPos::Left, VPos::Top))?;
            let left = corner.0 + 70;
            let (tile_w, tile_h) = ((panel.0 - 94) / cells_x as i32, 46);
            let rows = map.y_values.len().max(1) as i32;
            let (head, tail) = (corner.1 + 56, corner.1 + 56 + rows * tile_h);
            for cell in &map.cells {
                let (x, y) = (left + cell.x as i32 * tile_w, tail - (cell.y as i32 + 1) * tile_h);
                let middle = (x + tile_w / 2, y + tile_h / 2);
                let has = |place: Option<usize>| {
                    let same = |parameter: usize, value: u32| {
                        place.is_some_and(|place| search.configs[place].values[parameter] == Some(value))
                    };
                    same(map.x, map.x_values[cell.x]) && map.y.is_none_or(|y| same(y, map.y_values[cell.y]))
                };
                let Some((ratio, screened)) = best(search, cell) else {
                    write(area, "✕", middle, style(14, SOFT, HPos::Center, VPos::Center))?;
                    continue;
                };
                let level = ratio.ln() / top;
                let fill = viridis(level);
                area.draw(&Rectangle::new([(x + 1, y + 1), (x + tile_w - 1, y + tile_h - 1)], fill.filled()))?;
                let star = if has(search.fastest) { "★ " } else { "" };
                let default = if has(search.default) { "◆ " } else { "" };
                // Dark text on the bright end of the scale.
                let ink = if level < 0.45 { BLACK } else { WHITE };
                let about = if screened { "~" } else { "" };
                let text = format!("{star}{default}{about}{ratio:.2}");
                write(area, text, middle, style(13, ink, HPos::Center, VPos::Center))?;
            }
            for (i, value) in map.x_values.iter().enumerate() {
                let at = (left + i as i32 * tile_w + tile_w / 2, tail + 6);
                write(area, value.to_string(), at, style(12, TEXT, HPos::Center, VPos::Top))?;
            }
            for (i, value) in map.y_values.iter().enumerate() {
                let at = (left - 6, tail - i as i32 * tile_h - tile_h / 2);
                write(area, value.to_string(), at, style(12, TEXT, HPos::Right, VPos::Center))?;
            }
            let middle = left + map.x_values.len() as i32 * tile_w / 2;
            let name = &search.parameters[map.x];
            write(area, name.as_str(), (middle, tail + 24), style(12, TEXT, HPos::Center, VPos::Top))?;
            if let Some(y) = map.y {
                let upright = TextStyle::from((FONT, 12).into_font().transform(FontTransform::Rotate270));
                let upright = upright.color(&TEXT).pos(Pos::new(HPos::Center, VPos::Top));
                let at = (corner.0 + 14, (head + tail) / 2);
                write(area, search.parameters[y].as_str(), at, upright)?;
            }
        }
        scale(area, (columns as i32 * panel.0 + 6, 56), (size.1 - foot - 120).min(180), top)?;
        for (i, note) in notes.iter().rev().enumerate() {
            write(area, note.as_str(), (16, size.1 - 8 - 16 * i as i32), style(11, SOFT, HPos::Left, VPos::Bottom))?;
        }
        Ok(())
    })
}

/// The colour of a level from 0, bright, to 1, dark.
fn viridis(level: f64) -> RGBColor {
    ViridisRGB.get_color_normalized(1.0 - level.clamp(0.0, 1.0), 0.0, 1.0)
}

/// A bar of colours from 1 below to exp(`top`) above.
fn scale(area: &Area<'_>, (x, y): (i32, i32), height: i32, top: f64) -> Result<()> {
    const STEPS: i32 = 32;
    for step in 0..STEPS {
        let (from, to) = (y + height * step / STEPS, y + height * (step + 1) / STEPS);
        let level = 1.0 - (f64::from(step) + 0.5) / f64::from(STEPS);
        area.draw(&Rectangle::new([(x, from), (x + 16, to)], viridis(level).filled()))?;
    }
    for part in [0.0, 0.5, 1.0] {
        let at = (x + 22, y + (f64::from(height) * (1.0 - part)) as i32);
        write(area, format!("{:.2}×", (part * top).exp()), at, style(12, TEXT, HPos::Left, VPos::Center))?;
    }
    Ok(())
}

fn speed_up(report: &Report, over: Over) -> Result<String> {
    let mut bars: Vec<&Speedup> = report.speedups.iter().filter(|bar| bar.over == over).collect();
    let all = bars.len();
    if bars.is_empty() {
        return Err(FigureError::Empty(match over {
            Over::Default => "neither records nor tables of hardware have the default beside the best",
            Over::Unfused => "no table of hardware has the unfused composition",
        }));
    }
    bars.sort_by(|a, b| b.ratio.total_cmp(&a.ratio));
    bars.truncate(MOST_BARS);
    let devices: BTreeSet<usize> = bars.iter().map(|bar| bar.subject.device).collect();
    let label = |bar: &Speedup| {
        let Subject { family, problem, dtype, .. } = &bar.subject;
        let apart = report.device(&bar.subject).apart.iter().map(|apart| format!(", {apart}")).collect::<String>();
        format!("{family}, {dtype}, {}{apart}", problem.name)
    };
    let longest = bars.iter().map(|bar| label(bar).chars().count()).max().unwrap_or(0);
    let (left, right, row) = (16 + width(longest, 12), 70, 24);
    let head = 40 + 18 * devices.len() as i32;
    let how = match over {
        Over::Default => explained(&bars),
        Over::Unfused => {
            "Whiskers: the spread of the fused kernel. Both were checked against the reference.".to_owned()
        }
    };
    let left_out = if all > bars.len() { format!(" {} of {all} are shown.", bars.len()) } else { String::new() };
    let note = format!("{how}{left_out}");
    let size = ((left + 460 + right).max(32 + width(note.chars().count(), 11)), head + row * bars.len() as i32 + 74);
    let ends = |pick: fn(f64, f64) -> f64| {
        let all = bars.iter().flat_map(|bar| [Some(bar.ratio), bar.low, bar.high]).flatten();
        all.filter(|x| x.is_finite() && *x > 0.0).fold(1.0, pick)
    };
    let (least, most) = (ends(f64::min), ends(f64::max));
    let against = match over {
        Over::Default => "the default configuration",
        Over::Unfused => "the unfused composition",
    };
    drawn((size.0 as u32, size.1 as u32), |area| {
        let title = format!("Times as fast as {against}");
        write(area, title, (16, 12), style(16, TEXT, HPos::Left, VPos::Top))?;
        for (i, place) in devices.iter().enumerate() {
            let device = &report.devices[*place];
            let y = 40 + 18 * i as i32;
            area.draw(&Rectangle::new([(16, y), (28, y + 12)], hue(*place).filled()))?;
            write(area, device.label(), (34, y + 6), style(12, SOFT, HPos::Left, VPos::Center))?;
        }
        let places = 0.0..bars.len() as f64;
        let plot = area.margin(head, 30, 0, right);
        let mut builder = ChartBuilder::on(&plot);
        builder.set_label_area_size(LabelAreaPosition::Left, left).set_label_area_size(LabelAreaPosition::Bottom, 30);
        // Ratios of tens of times and of a few percent do not share a scale.
        if most > 8.0 {
            let upto = 10.0_f64.powf(most.log10().ceil());
            let from = if least < 1.0 { 0.1 } else { 1.0 };
            draw_bars(&mut builder.build_cartesian_2d((from..upto).log_scale(), places)?, (area, left), &bars, &label)?;
        } else {
            let room = (0.06 * (most - least)).max(0.02);
            let from = if least < 1.0 { least - room } else { 1.0 };
            draw_bars(&mut builder.build_cartesian_2d(from..most + room, places)?, (area, left), &bars, &label)?;
        }
        write(area, note, (16, size.1 - 8), style(11, SOFT, HPos::Left, VPos::Bottom))
    })
}

/// What the whiskers and words mean that are there.
fn explained(bars: &[&Speedup]) -> String {
    let spread = |basis: &Basis| {
        let drawn = |bar: &&Speedup| bar.high.unwrap_or(bar.ratio) > bar.low.unwrap_or(bar.ratio);
        bars.iter().any(|bar| bar.basis == *basis && drawn(bar))
    };
    let meaning = |basis: &Basis| match basis {
        Basis::Rounds => "quartiles over rounds timed side by side",
        Basis::Samples => "without finals, the spreads of both",
        Basis::Table => "of tables, the spread of the tuned kernel",
    };
    let whiskers: Vec<&str> =
        [Basis::Rounds, Basis::Samples, Basis::Table].iter().filter(|basis| spread(basis)).map(meaning).collect();
    let mut said = Vec::new();
    if !whiskers.is_empty() {
        said.push(format!("Whiskers: {}.", whiskers.join("; ")));
    }
    if bars.iter().any(|bar| bar.default_stays) {
        said.push("“default”: nothing was told apart from it.".to_owned());
    }
    said.join(" ")
}

pub(crate) fn hue(place: usize) -> RGBColor {
    HUES[place % HUES.len()]
}

fn draw_bars<X>(
    chart: &mut ChartContext<'_, SVGBackend<'_>, Cartesian2d<X, RangedCoordf64>>,
    (area, left): (&Area<'_>, i32),
    bars: &[&Speedup],
    label: &dyn Fn(&Speedup) -> String,
) -> Result<()>
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(0)
        .y_label_formatter(&|_| String::new())
        .x_labels(7)
        .x_label_formatter(&|x| format!("{}×", trimmed(*x)))
        .light_line_style(TRANSPARENT)
        .bold_line_style(LINE)
        .axis_style(SOFT)
        .label_style((FONT, 12).into_font().color(&TEXT))
        .draw()?;
    let row = |i: usize| (bars.len() - 1 - i) as f64;
    let whisker = ShapeStyle::from(&TEXT).stroke_width(1);
    for (i, bar) in bars.iter().enumerate() {
        let y = row(i);
        let corners = [(1.0, y + 0.2), (bar.ratio, y + 0.8)];
        chart.draw_series([Rectangle::new(corners, hue(bar.subject.device).filled())])?;
        let (low, high) = (bar.low.unwrap_or(bar.ratio), bar.high.unwrap_or(bar.ratio));
        if high > low {
            let line = |from: (f64, f64), to: (f64, f64)| PathElement::new([from, to], whisker);
            chart.draw_series([
                line((low, y + 0.5), (high, y + 0.5)),
                line((low, y + 0.35), (low, y + 0.65)),
                line((high, y + 0.35), (high, y + 0.65)),
            ])?;
        }
        let text = if bar.default_stays { "default".to_owned() } else { format!("{}×", ratio(bar.ratio)) };
        let (x, y) = chart.backend_coord(&(high.max(bar.ratio).max(1.0), y + 0.5));
        write(area, text, (x + 6, y), style(12, TEXT, HPos::Left, VPos::Center))?;
        write(area, label(bar), (left - 8, y), style(12, TEXT, HPos::Right, VPos::Center))?;
    }
    Ok(())
}

fn ratio(x: f64) -> String {
    let digits = if x < 10.0 { 2 } else { usize::from(x < 100.0) };
    format!("{x:.digits$}")
}

/// A number without the zeros behind it, as scales have it.
pub(crate) fn trimmed(x: f64) -> String {
    let text = format!("{x:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A number of a scale from 0.01 to peta.
fn scaled(x: f64) -> String {
    let steps = [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let step = steps.iter().find(|(least, _)| x >= 0.999 * least);
    step.map_or_else(|| trimmed(x), |(scale, prefix)| format!("{} {prefix}", trimmed(x / scale)))
}

fn roofline(report: &Report) -> Result<String> {
    // One element type, that of most points: the two have different roofs.
    let of = |dtype| report.points.iter().filter(move |point| point.subject.dtype == dtype).collect::<Vec<&Point>>();
    let (f32, f64) = (of(Dtype::F32), of(Dtype::F64));
    let (dtype, points) = if f64.len() > f32.len() { (Dtype::F64, f64) } else { (Dtype::F32, f32) };
    if points.is_empty() {
        return Err(FigureError::Empty("no point of hardware whose FLOPs and bytes are counted"));
    }
    let devices: BTreeSet<usize> = points.iter().map(|point| point.subject.device).collect();
    let roofs: Vec<_> =
        report.roofs.iter().filter(|roof| roof.dtype == dtype && devices.contains(&roof.device)).collect();
    let decade = |x: f64, round: fn(f64) -> f64| 10.0_f64.powf(round(x.log10()));
    let xs = points.iter().map(|p| p.intensity).chain(roofs.iter().map(|r| r.flops / r.bytes));
    let ys = points.iter().map(|p| p.rate).chain(roofs.iter().map(|r| r.flops));
    let bounds = |values: &mut dyn Iterator<Item = f64>| {
        let (least, most) = values.fold((f64::INFINITY, 0.0_f64), |(l, m), x| (l.min(x), m.max(x)));
        (decade(0.8 * least, f64::floor), decade(1.2 * most, f64::ceil))
    };
    let ((x0, x1), (y0, y1)) = (bounds(&mut { xs }), bounds(&mut { ys }));
    let roofless = devices.iter().any(|device| roofs.iter().all(|roof| roof.device != *device));
    let head = 48 + 18 * devices.len() as i32;
    let size = (720, head + 400);
    drawn((size.0 as u32, size.1 as u32), |area| {
        write(area, format!("Roofline, {dtype}"), (16, 12), style(16, TEXT, HPos::Left, VPos::Top))?;
        for (i, place) in devices.iter().enumerate() {
            let (device, y) = (&report.devices[*place], 38 + 18 * i as i32);
            area.draw(&Rectangle::new([(16, y), (28, y + 12)], hue(*place).filled()))?;
            let roof = roofs.iter().find(|roof| roof.device == *place);
            let roof = roof.map_or("no roof is known".to_owned(), |roof| {
                format!("{}FLOP/s, {}B/s, {}", rounded(roof.flops), rounded(roof.bytes), roof.source)
            });
            let text = format!("{}: {roof}", device.label());
            write(area, text, (34, y + 6), style(11, SOFT, HPos::Left, VPos::Center))?;
        }
        let plot = area.margin(head, 26, 12, 24);
        let mut chart = ChartBuilder::on(&plot)
            .set_label_area_size(LabelAreaPosition::Left, 70)
            .set_label_area_size(LabelAreaPosition::Bottom, 46)
            .build_cartesian_2d((x0..x1).log_scale(), (y0..y1).log_scale())?;
        chart
            .configure_mesh()
            .x_desc("intensity (FLOP per compulsory byte)")
            .y_desc("performance (FLOP/s)")
            .x_label_formatter(&|x| trimmed(*x))
            .y_label_formatter(&|y| scaled(*y))
            .light_line_style(TRANSPARENT)
            .bold_line_style(LINE)
            .axis_style(SOFT)
            .label_style((FONT, 12).into_font().color(&TEXT))
            .axis_desc_style((FONT, 13).into_font().color(&TEXT))
            .draw()?;
        for roof in &roofs {
            let ridge = (roof.flops / roof.bytes).clamp(x0, x1);
            let from = (y0 / roof.bytes).max(x0);
            let line = [from, ridge, x1].map(|x| (x, roof.at(x)));
            chart.draw_series(LineSeries::new(line, ShapeStyle::from(&hue(roof.device)).stroke_width(2)))?;
        }
        for point in &points {
            let place = (point.intensity, point.rate);
            let fill = hue(point.subject.device).mix(0.75).filled();
            chart.draw_series([Circle::new(place, 4, fill)])?;
        }
        let no_roof = if roofless { " A device without a line has no roof that is known." } else { "" };
        let note =
            format!("Each point is a kernel that passed the gate. Above the slope, data came from caches.{no_roof}");
        write(area, note, (16, size.1 - 8), style(11, SOFT, HPos::Left, VPos::Bottom))
    })
}

fn best_so_far(report: &Report) -> Result<String> {
    let worked = |search: &&Search| search.course.iter().filter(|step| step.best_ns.is_some()).count() > 1;
    let mut searches: Vec<&Search> = report.searches.iter().filter(worked).collect();
    let all = searches.len();
    if searches.is_empty() {
        return Err(FigureError::Empty("no search of these records has more than one evaluation"));
    }
    searches.sort_by_key(|search| std::cmp::Reverse(search.course.len()));
    searches.truncate(MOST_CURVES);
    let curves: Vec<Vec<(f64, f64)>> = searches
        .iter()
        .map(|search| {
            let steps: Vec<(f64, f64)> =
                search.course.iter().filter_map(|step| Some((step.evaluation as f64, step.best_ns?))).collect();
            let best = steps.last().map_or(1.0, |step| step.1);
            steps.into_iter().map(|(evaluation, ns)| (evaluation, ns / best)).collect()
        })
        .collect();
    let points = || curves.iter().flatten();
    let (x1, y1) = points().fold((2.0_f64, 1.01_f64), |(x, y), point| (x.max(point.0), y.max(point.1)));
    let head = 48 + 18 * searches.len() as i32;
    let size = (720, head + 380);
    drawn((size.0 as u32, size.1 as u32), |area| {
        write(area, "Best so far", (16, 12), style(16, TEXT, HPos::Left, VPos::Top))?;
        for (i, search) in searches.iter().enumerate() {
            let y = 38 + 18 * i as i32;
            area.draw(&Rectangle::new([(16, y), (28, y + 12)], hue(i).filled()))?;
            let text = heading(report, &search.subject).join(", ");
            write(area, text, (34, y + 6), style(11, SOFT, HPos::Left, VPos::Center))?;
        }
        let plot = area.margin(head, 26, 12, 24);
        let mut chart = ChartBuilder::on(&plot)
            .set_label_area_size(LabelAreaPosition::Left, 66)
            .set_label_area_size(LabelAreaPosition::Bottom, 46)
            .build_cartesian_2d(1.0..x1, 1.0..y1 + 0.05 * (y1 - 1.0))?;
        chart
            .configure_mesh()
            .x_desc("evaluations")
            .y_desc("best so far / best of all")
            .x_label_formatter(&|x| trimmed(*x))
            .y_label_formatter(&|y| format!("{}×", trimmed(*y)))
            .light_line_style(TRANSPARENT)
            .bold_line_style(LINE)
            .axis_style(SOFT)
            .label_style((FONT, 12).into_font().color(&TEXT))
            .axis_desc_style((FONT, 13).into_font().color(&TEXT))
            .draw()?;
        for (i, curve) in curves.iter().enumerate() {
            // A best holds until there is a better one.
            let held = curve.windows(2).flat_map(|pair| [pair[0], (pair[1].0, pair[0].1)]);
            let stairs = held.chain(curve.last().copied());
            chart.draw_series(LineSeries::new(stairs, ShapeStyle::from(&hue(i)).stroke_width(2)))?;
        }
        let left_out = if all > searches.len() {
            format!(" The {} longest of {all} searches are shown.", searches.len())
        } else {
            String::new()
        };
        let note = format!("Medians of the screening in the order of measurement.{left_out}");
        write(area, note, (16, size.1 - 8), style(11, SOFT, HPos::Left, VPos::Bottom))
    })
}

/// Three digits with a prefix.
fn rounded(x: f64) -> String {
    let steps = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1.0, "")];
    let (scale, prefix) = steps.into_iter().find(|(least, _)| x >= *least).unwrap_or((1.0, ""));
    format!("{} {prefix}", ratio(x / scale))
}
