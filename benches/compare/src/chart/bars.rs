//! Horizontal bars in groups, each with its figure beside it and a line from least to most.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::{
    BLACK, Color, DrawingArea, FontStyle, IntoDrawingArea, PathElement, RGBColor, Rectangle,
    SVGBackend, Text, WHITE,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{IntoTextStyle, TextStyle};

use super::pick::short;
use crate::Result;

const WIDTH: i32 = 860;
const NAME_WIDTH: i32 = 130;
const VALUE_WIDTH: i32 = 210;
const BAR: i32 = 18;
const STEP: i32 = 25;
/// Above the first group, between groups, and below the last one.
const HEAD: i32 = 64;
const GAP: i32 = 66;
const FOOT: i32 = 66;
const GREY: RGBColor = RGBColor(110, 110, 110);
const PALE: RGBColor = RGBColor(225, 225, 225);

/// What an answered call survives, from the least to the most, and its colour.
const CLASSES: [(&str, &str, RGBColor); 4] = [
    ("memory", "gone with the process", RGBColor(170, 170, 170)),
    ("none", "kept by a clean end only", RGBColor(205, 185, 150)),
    ("process", "survives kill -9", RGBColor(0, 114, 178)),
    ("synced", "survives power loss", RGBColor(0, 130, 90)),
];

/// One bar.
#[derive(Clone, Debug)]
pub struct Bar {
    /// The engine.
    pub name: String,
    /// What an answered call survives.
    pub class: String,
    /// How long the bar is.
    pub value: f64,
    /// The least and the most of all runs.
    pub range: Option<(f64, f64)>,
}

/// Bars that have one scale.
#[derive(Clone, Debug)]
pub struct Group {
    /// What they are of.
    pub title: String,
    /// What the scale counts.
    pub unit: &'static str,
    /// The bars from above.
    pub bars: Vec<Bar>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Writes a chart of the groups, one below the other.
pub fn draw(path: &Path, title: &str, groups: &[Group], caption: &str) -> Result<()> {
    let below = |group: &Group| GAP + STEP * group.bars.len() as i32;
    let height = HEAD + groups.iter().map(below).sum::<i32>() + FOOT;
    let area = SVGBackend::new(path, (WIDTH as u32, height as u32)).into_drawing_area();
    area.fill(&WHITE)?;
    let right = NAME_WIDTH - 8;
    write(&area, title, (16, 20), (17, BLACK, HPos::Left))?;
    draw_classes(&area, groups)?;
    let mut top = HEAD;
    for group in groups {
        draw_group(&area, group, top, right)?;
        top += below(group);
    }
    let ranges = groups.iter().flat_map(|group| &group.bars);
    let has_lines = ranges
        .filter_map(|bar| bar.range)
        .any(|(least, most)| least < most);
    let explained = "; the lines over the bars reach from the slowest run to the fastest";
    for (at, line) in caption.lines().enumerate() {
        let more = if at == 0 && has_lines { explained } else { "" };
        let line = &format!("{line}{more}");
        let y = height - FOOT + 16 + 16 * at as i32;
        write(&area, line, (16, y), (11, GREY, HPos::Left))?;
    }
    area.present()?;
    Ok(())
}

/// Which colour stands for what, of those that occur.
fn draw_classes(area: &Area<'_>, groups: &[Group]) -> Result<()> {
    let mut x = 16;
    for (class, meaning, colour) in CLASSES {
        let mut bars = groups.iter().flat_map(|group| &group.bars);
        if !bars.any(|bar| bar.class == class) {
            continue;
        }
        area.draw(&Rectangle::new([(x, 40), (x + 12, 52)], colour.filled()))?;
        let text = format!("{class}: {meaning}");
        write(area, &text, (x + 17, 47), (12, BLACK, HPos::Left))?;
        x += 34 + 7 * text.len() as i32;
    }
    Ok(())
}

fn draw_group(area: &Area<'_>, group: &Group, top: i32, right: i32) -> Result<()> {
    let most = |bar: &Bar| bar.range.map_or(bar.value, |(_, most)| most.max(bar.value));
    let most = group.bars.iter().map(most).fold(1e-9, f64::max);
    let (step, ticks) = scale(most);
    let room = f64::from(WIDTH - NAME_WIDTH - VALUE_WIDTH);
    let full = step * f64::from(ticks);
    let x = |value: f64| NAME_WIDTH + (value / full * room).round() as i32;
    let first = top + 30;
    let bottom = first + STEP * group.bars.len() as i32;
    write(
        area,
        &group.title,
        (NAME_WIDTH, top + 16),
        (14, BLACK, HPos::Left),
    )?;
    for tick in 0..=ticks {
        let value = step * f64::from(tick);
        let grid = PathElement::new([(x(value), first - 2), (x(value), bottom)], PALE);
        area.draw(&grid)?;
        write(
            area,
            &short(value),
            (x(value), bottom + 9),
            (11, GREY, HPos::Center),
        )?;
    }
    write(
        area,
        group.unit,
        (x(full) + 24, bottom + 9),
        (11, GREY, HPos::Left),
    )?;
    for (at, bar) in group.bars.iter().enumerate() {
        let y = first + STEP * at as i32;
        let middle = y + BAR / 2;
        let class = CLASSES.iter().find(|(class, _, _)| *class == bar.class);
        let colour = class.map_or(GREY, |(_, _, colour)| *colour);
        area.draw(&Rectangle::new(
            [(NAME_WIDTH, y), (x(bar.value), y + BAR)],
            colour.filled(),
        ))?;
        let style = match bar.name.starts_with("oncelog") {
            true => FontStyle::Bold,
            false => FontStyle::Normal,
        };
        let style: TextStyle<'_> = ("sans-serif", 13, style).into_text_style(area);
        let style = style.pos(Pos::new(HPos::Right, VPos::Center));
        area.draw(&Text::new(bar.name.as_str(), (right, middle), style))?;
        let mut text = short(bar.value);
        let mut end = x(bar.value);
        if let Some((least, most)) = bar.range.filter(|(least, most)| least < most) {
            area.draw(&PathElement::new(
                [(x(least), middle), (x(most), middle)],
                BLACK,
            ))?;
            for edge in [x(least), x(most)] {
                area.draw(&PathElement::new(
                    [(edge, middle - 4), (edge, middle + 4)],
                    BLACK,
                ))?;
            }
            text = format!("{text}  ({} to {})", short(least), short(most));
            end = end.max(x(most));
        }
        write(area, &text, (end + 8, middle), (12, BLACK, HPos::Left))?;
    }
    Ok(())
}

/// Text whose middle line is at `y`.
fn write(
    area: &Area<'_>,
    text: &str,
    (x, y): (i32, i32),
    (size, colour, side): (i32, RGBColor, HPos),
) -> Result<()> {
    let style: TextStyle<'_> = ("sans-serif", size).into_text_style(area);
    let style = style.color(&colour).pos(Pos::new(side, VPos::Center));
    area.draw(&Text::new(text, (x, y), style))?;
    Ok(())
}

/// The distance of the marks of a scale up to `most`, and how many there are beside zero.
fn scale(most: f64) -> (f64, u32) {
    let decade = 10_f64.powf((most / 5.0).log10().floor());
    let fits = |step: &f64| most / step <= 5.0;
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|times| times * decade);
    let step = steps.into_iter().find(fits).unwrap_or(10.0 * decade);
    (step, (most / step).ceil().max(1.0) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_reaches_over_the_longest_bar_in_round_steps() {
        assert_eq!(scale(10.0), (2.0, 5));
        assert_eq!(scale(10.1), (2.5, 5));
        assert_eq!(scale(4_700_000.0), (1_000_000.0, 5));
        for most in [0.001, 0.7, 3.0, 99.0, 1e9] {
            let (step, ticks) = scale(most);
            let full = step * f64::from(ticks);
            assert!((1..=5).contains(&ticks) && full >= most * 0.999 && full < 2.1 * most);
        }
    }
}
