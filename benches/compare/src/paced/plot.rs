//! Draws results as SVG: curves over time, and latency by percentile.

use std::path::Path;

use plotters::chart::ChartContext;
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::ranged1d::Ranged;
use plotters::prelude::{
    ChartBuilder, DrawingArea, IntoDrawingArea, IntoLogRange, LineSeries, PathElement, RGBColor,
    SVGBackend, SeriesLabelPosition, WHITE,
};

use super::curve::Sample;
use super::result::Paced;
use crate::Result;

const WIDTH: u32 = 800;
const PANEL_HEIGHT: u32 = 220;
/// Told apart also by those who see no red or no green (Okabe and Ito's palette).
const COLOURS: [RGBColor; 4] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
];

/// Points of a curve from what was seen over time.
type Figure = fn(&[Sample]) -> Vec<(f64, f64)>;

type Panel<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A line of a plot and what it is.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// Writes two files for every workload among the results; their names.
pub fn draw(results: &[Paced], dir: &Path) -> Result<Vec<String>> {
    std::fs::create_dir_all(dir)?;
    let mut names = Vec::new();
    let mut workloads: Vec<&str> = results.iter().map(|paced| paced.paced.as_str()).collect();
    workloads.sort_unstable();
    workloads.dedup();
    for workload in workloads {
        let of = |paced: &&Paced| paced.paced == workload;
        let results: Vec<&Paced> = results.iter().filter(of).collect();
        let curve = format!("{workload}-curve.svg");
        draw_curve(&results, &dir.join(&curve))?;
        let latency = format!("{workload}-latency.svg");
        draw_latency(&results, &dir.join(&latency))?;
        names.extend([curve, latency]);
    }
    Ok(names)
}

/// Throughput, anonymous memory and disk over time, one below the other.
fn draw_curve(results: &[&Paced], path: &Path) -> Result<()> {
    let root = SVGBackend::new(path, (WIDTH, 3 * PANEL_HEIGHT)).into_drawing_area();
    root.fill(&WHITE)?;
    let panels = root.split_evenly((3, 1));
    let figures: [(&str, Figure); 3] = [
        ("million calls a second", throughput),
        ("anonymous memory, MB", |samples| {
            each(samples, |s| s.anon_bytes)
        }),
        ("disk, MB", |samples| each(samples, |s| s.disk_bytes)),
    ];
    for (panel, (title, figure)) in panels.iter().zip(figures) {
        let line = |paced: &&Paced| Line {
            name: paced.engine.clone(),
            points: figure(&paced.samples),
        };
        let lines: Vec<Line> = results.iter().map(line).collect();
        draw_over_time(panel, title, &lines)?;
    }
    root.present()?;
    Ok(())
}

fn draw_over_time(panel: &Panel<'_>, title: &str, lines: &[Line]) -> Result<()> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let right = points().map(|point| point.0).fold(1.0, f64::max);
    let top = points().map(|point| point.1).fold(0.001, f64::max) * 1.1;
    let mut chart = ChartBuilder::on(panel)
        .caption(title, ("sans-serif", 15))
        .margin(8)
        .x_label_area_size(28)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..right, 0.0..top)?;
    chart
        .configure_mesh()
        .x_desc("seconds")
        .y_labels(5)
        .draw()?;
    draw_lines(&mut chart, lines, SeriesLabelPosition::LowerRight)?;
    Ok(())
}

/// Draws the lines, each in a colour of its own, and says which is which.
fn draw_lines<'a, X, Y>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>,
    lines: &[Line],
    position: SeriesLabelPosition,
) -> Result<()>
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), colour))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
    }
    let mut labels = chart.configure_series_labels();
    labels.position(position).background_style(WHITE).draw()?;
    Ok(())
}

/// Latency from the intended time, by the share of calls that were slower.
fn draw_latency(results: &[&Paced], path: &Path) -> Result<()> {
    let root = SVGBackend::new(path, (WIDTH, 2 * PANEL_HEIGHT)).into_drawing_area();
    root.fill(&WHITE)?;
    let lines: Vec<Line> = results.iter().map(|paced| latency_line(paced)).collect();
    let top = lines.iter().flat_map(|line| &line.points);
    let top = top.map(|point| point.1).fold(1.0, f64::max) * 2.0;
    let title = "response time at the rate, by the share of calls that took longer";
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 15))
        .margin(8)
        .x_label_area_size(34)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..6.0, (0.1..top).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("percentile")
        .y_desc("microseconds")
        .x_labels(7)
        .x_label_formatter(&|nines| percentile_of(*nines))
        .draw()?;
    draw_lines(&mut chart, &lines, SeriesLabelPosition::UpperLeft)?;
    root.present()?;
    Ok(())
}

fn latency_line(paced: &Paced) -> Line {
    let nines = |percent: f64| -(1.0 - percent / 100.0).max(1e-6).log10();
    let points = paced.response.percentiles.iter();
    Line {
        name: format!("{}, {:.0} calls/s", paced.engine, paced.rate_per_s),
        points: points
            .map(|(percent, micros)| (nines(*percent), micros.max(0.1)))
            .collect(),
    }
}

/// What so many nines are in percent: 0 is the fastest call, 2 is 99.
fn percentile_of(nines: f64) -> String {
    match nines.round() as i64 {
        0 => "0".to_owned(),
        1 => "90".to_owned(),
        2 => "99".to_owned(),
        more => format!("99.{}", "9".repeat(usize::try_from(more - 2).unwrap_or(0))),
    }
}

fn throughput(samples: &[Sample]) -> Vec<(f64, f64)> {
    let rate = |pair: &[Sample]| {
        let seconds = (pair[1].seconds - pair[0].seconds).max(1e-6);
        (
            pair[1].seconds,
            (pair[1].calls - pair[0].calls) as f64 / seconds / 1e6,
        )
    };
    samples.windows(2).map(rate).collect()
}

fn each(samples: &[Sample], figure: fn(&Sample) -> u64) -> Vec<(f64, f64)> {
    samples
        .iter()
        .map(|sample| (sample.seconds, figure(sample) as f64 / 1e6))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_named_by_their_nines() {
        let names = [0.0, 1.0, 2.0, 3.0, 6.0].map(percentile_of);
        assert_eq!(names, ["0", "90", "99", "99.9", "99.9999"]);
    }
}
