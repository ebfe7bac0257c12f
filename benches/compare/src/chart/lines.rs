//! Lines over a logarithmic scale, in panels one below the other, with what they are beside them.

use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::{
    BLACK, ChartBuilder, Circle, Color, DrawingArea, IntoDrawingArea, IntoLogRange, LineSeries,
    PathElement, RGBColor, SVGBackend, Text, WHITE,
};
use plotters::style::IntoTextStyle;

use super::pick::short;
use crate::Result;

const WIDTH: u32 = 860;
const PANEL_HEIGHT: u32 = 300;
const FOOT: u32 = 60;
const NAMES_WIDTH: u32 = 170;
const GREY: RGBColor = RGBColor(110, 110, 110);

/// What the horizontal axis is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// Shares of calls, by how many nines they have.
    Nines,
    /// Numbers of keys, logarithmic.
    Keys,
}

/// A line and what it is.
#[derive(Clone, Debug)]
pub struct Line {
    /// What it is.
    pub name: String,
    /// Its colour.
    pub colour: RGBColor,
    /// Its points from the left.
    pub points: Vec<(f64, f64)>,
}

/// Lines that have one pair of axes.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What they show.
    pub title: String,
    /// What the horizontal axis counts.
    pub x: &'static str,
    /// What the vertical axis counts.
    pub y: &'static str,
    /// What the horizontal axis is.
    pub scale: Scale,
    /// The lines.
    pub lines: Vec<Line>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Writes the panels, one below the other.
pub fn draw(path: &Path, panels: &[Panel], caption: &str) -> Result<()> {
    let height = PANEL_HEIGHT * panels.len() as u32 + FOOT;
    let area = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let (above, below) = area.split_vertically(height - FOOT);
    for (area, panel) in above.split_evenly((panels.len(), 1)).iter().zip(panels) {
        let xs = || {
            panel
                .lines
                .iter()
                .flat_map(|line| &line.points)
                .map(|point| point.0)
        };
        let (least, most) = (xs().fold(f64::INFINITY, f64::min), xs().fold(1.0, f64::max));
        match panel.scale {
            Scale::Nines => draw_panel(area, panel, 0.0..5.0, &|nines| percentile_of(*nines))?,
            Scale::Keys => {
                let range = (least.max(1.0) * 0.9..most * 1.1).log_scale();
                draw_panel(area, panel, range, &|keys| short(*keys))?;
            }
        }
    }
    let style = ("sans-serif", 11).into_text_style(&below).color(&GREY);
    for (at, line) in caption.lines().enumerate() {
        below.draw(&Text::new(line, (16, 6 + 16 * at as i32), style.clone()))?;
    }
    area.present()?;
    Ok(())
}

fn draw_panel<X>(
    area: &Area<'_>,
    panel: &Panel,
    x: X,
    x_label: &dyn Fn(&f64) -> String,
) -> Result<()>
where
    X: AsRangedCoord<Value = f64>,
    X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let ys = || {
        panel
            .lines
            .iter()
            .flat_map(|line| &line.points)
            .map(|point| point.1)
    };
    let least = ys().fold(f64::INFINITY, f64::min).max(1e-3);
    let most = ys().fold(least * 2.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, ("sans-serif", 14))
        .margin(8)
        .margin_right(NAMES_WIDTH)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(x, (least * 0.8..most * 1.3).log_scale())?;
    chart
        .configure_mesh()
        .x_desc(panel.x)
        .y_desc(panel.y)
        .x_labels(12)
        .y_labels(5)
        .x_label_formatter(x_label)
        .y_label_formatter(&|y| short(*y))
        .light_line_style(WHITE)
        .draw()?;
    for line in &panel.lines {
        let points = || line.points.iter().copied();
        chart.draw_series(LineSeries::new(points(), line.colour.stroke_width(2)))?;
        chart.draw_series(points().map(|point| Circle::new(point, 3, line.colour.filled())))?;
    }
    draw_names(area, panel)
}

/// The names in the order in which the lines end, the highest first.
fn draw_names(area: &Area<'_>, panel: &Panel) -> Result<()> {
    let mut lines: Vec<&Line> = panel.lines.iter().collect();
    let end = |line: &Line| line.points.last().map_or(0.0, |point| point.1);
    lines.sort_by(|a, b| end(b).total_cmp(&end(a)));
    let x = (WIDTH - NAMES_WIDTH + 10) as i32;
    let style = ("sans-serif", 12).into_text_style(area).color(&BLACK);
    for (at, line) in lines.iter().enumerate() {
        let y = 44 + 20 * at as i32;
        let mark = [(x, y + 6), (x + 18, y + 6)];
        area.draw(&PathElement::new(mark, line.colour.stroke_width(3)))?;
        area.draw(&Text::new(line.name.as_str(), (x + 24, y), style.clone()))?;
    }
    Ok(())
}

/// What so many nines are in percent: 0 is the fastest call, 2 is 99.
pub fn percentile_of(nines: f64) -> String {
    match nines.round() as i64 {
        0 => "0".to_owned(),
        1 => "90".to_owned(),
        2 => "99".to_owned(),
        more => format!("99.{}", "9".repeat(usize::try_from(more - 2).unwrap_or(0))),
    }
}
