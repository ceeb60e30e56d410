//! The plots of the page, as SVG that takes its colours from the page's style.

use std::fmt::Write;

use super::escape::Escaped;
use super::words;
use crate::rehearse::attack::AttackVerdict;
use crate::rehearse::compare::AttackDifference;
use crate::rehearse::report::{ClientVerdict, Event, Traffic};
use crate::rehearse::shift::OutputShift;
use crate::told::{moment, number};

/// Width of every plot, in units of its own.
pub(super) const WIDTH: f64 = 960.0;
/// Where labels end and the plot itself begins.
pub(super) const LEFT: f64 = 190.0;
/// What stands to the right of it.
pub(super) const RIGHT: f64 = 60.0;
/// Height of one line of a plot.
pub(super) const LINE: f64 = 20.0;
/// Height of the counts over time.
const COUNTS: f64 = 60.0;
/// Clients that the line of time shows.
pub const CLIENTS_SHOWN: usize = 30;

/// A plot begun.
pub(super) struct Plot {
    svg: String,
}

impl Plot {
    pub(super) fn new(height: f64, label: &str) -> Self {
        let svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{}\">",
            Escaped(label)
        );
        Self { svg }
    }

    pub(super) fn done(mut self) -> String {
        self.svg.push_str("</svg>\n");
        self.svg
    }

    pub(super) fn text(&mut self, (x, y): (f64, f64), anchor: &str, class: &str, text: &str) {
        // Writing to a String cannot fail, here and below.
        let _ = write!(
            self.svg,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" class=\"{class}\">{}</text>",
            Escaped(text)
        );
    }

    /// The label of a line, cut where it would run into the plot.
    pub(super) fn label(&mut self, y: f64, text: &str) {
        let short: String = if text.chars().count() > 28 {
            text.chars().take(27).chain(['…']).collect()
        } else {
            text.into()
        };
        self.text((LEFT - 10.0, y + 14.0), "end", "", &short);
    }

    pub(super) fn bar(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), class: &str, title: &str) {
        let _ = write!(
            self.svg,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\" rx=\"1.5\" class=\"{class}\">\
             <title>{}</title></rect>",
            width.max(1.0),
            Escaped(title)
        );
    }

    pub(super) fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), class: &str) {
        let _ = write!(
            self.svg,
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" class=\"{class}\"/>"
        );
    }

    pub(super) fn dot(&mut self, (x, y): (f64, f64), class: &str, title: &str) {
        let title = Escaped(title);
        let _ = write!(
            self.svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" class=\"{class}\"><title>{title}</title></circle>"
        );
    }
}

pub(super) fn inner() -> f64 {
    WIDTH - LEFT - RIGHT
}

/// When what happened: all requests above, and below a line for each client of whom something is told.
pub fn over_time(traffic: &Traffic) -> String {
    let shown: Vec<&ClientVerdict> = traffic.verdicts.iter().take(CLIENTS_SHOWN).collect();
    let height = COUNTS + 28.0 + LINE * shown.len() as f64;
    let mut plot = Plot::new(height, "Requests over time, and what was told of whom");
    let length = (traffic.until - traffic.from).max(1e-6);
    let x = |seconds: f64| LEFT + inner() * ((seconds - traffic.from) / length).clamp(0.0, 1.0);
    write_counts(&mut plot, traffic, &x);
    let axis = COUNTS + 4.0;
    plot.line((LEFT, axis), (WIDTH - RIGHT, axis), "rule");
    plot.text((LEFT, axis + 13.0), "start", "soft", &moment(traffic.from));
    plot.text((WIDTH - RIGHT, axis + 13.0), "end", "soft", &format!("{} later", words::span(length)));
    for (number, verdict) in shown.iter().enumerate() {
        let y = COUNTS + 26.0 + LINE * number as f64;
        plot.label(y, &verdict.client);
        let middle = y + LINE / 2.0;
        plot.line((x(verdict.first_request), middle), (x(verdict.last_request), middle), "line");
        let until = verdict.last_request.max(traffic.until);
        verdict.events.iter().for_each(|event| write_event(&mut plot, event, middle, until, &x));
    }
    plot.done()
}

fn write_counts(plot: &mut Plot, traffic: &Traffic, x: &dyn Fn(f64) -> f64) {
    let Some(histogram) = &traffic.over_time else { return };
    let most = histogram.bars.iter().max().copied().unwrap_or(0).max(1);
    plot.label(COUNTS - 24.0, "all requests");
    for (bar, count) in (0_u32..).zip(&histogram.bars).filter(|(_, count)| **count > 0) {
        let start = (histogram.start as f64 + f64::from(bar) * histogram.width as f64) / 1e6;
        let (left, right) = (x(start), x(start + histogram.width as f64 / 1e6));
        let height = (COUNTS - 6.0) * *count as f64 / most as f64;
        let size = ((right - left - 0.5).max(1.0), height);
        plot.bar((left, COUNTS - height), size, "bar", &words::counted(*count, "request"));
    }
}

fn write_event(plot: &mut Plot, event: &Event, middle: f64, end: f64, x: &dyn Fn(f64) -> f64) {
    let class = format!("fill-{}", event.severity.as_str());
    let title = format!("{}: {} at {}", event.detector, event.action.as_str(), moment(event.time));
    let (from, to) = (x(event.time), x(event.until.unwrap_or(event.time).min(end)));
    if event.acts {
        plot.bar((from, middle - 5.0), (to - from, 10.0), &class, &title);
    } else {
        plot.dot((from, middle), &class, &title);
    }
}

/// How far each attack came: on a logarithmic scale of its rows, up to where they were answered, with a tick at the
/// first finding and a line at the block.
pub fn attacks(attacks: &[AttackVerdict]) -> String {
    let height = 22.0 + LINE * attacks.len() as f64;
    let mut plot = Plot::new(height, "Rows of each attack until it was told of and until it was blocked");
    let most = attacks.iter().map(|attack| attack.rows).max().unwrap_or(1).max(10);
    let x = |row: u64| LEFT + inner() * (row.max(1) as f64).ln() / (most as f64).ln();
    let mut tick = 1;
    while tick <= most {
        plot.line((x(tick), 16.0), (x(tick), height), "rule");
        plot.text((x(tick), 11.0), "middle", "soft", &format!("row {}", words::grouped(tick)));
        tick *= 10;
    }
    for (number, attack) in attacks.iter().enumerate() {
        write_attack(&mut plot, attack, 20.0 + LINE * number as f64, &x);
    }
    plot.done()
}

fn write_attack(plot: &mut Plot, attack: &AttackVerdict, y: f64, x: &dyn Fn(u64) -> f64) {
    let title = format!("{}: {}", attack.name, words::attack(attack));
    plot.label(y, &attack.name);
    plot.bar((LEFT, y + 5.0), (x(attack.rows) - LEFT, 10.0), "bar", &title);
    plot.bar((LEFT, y + 5.0), (x(attack.rows_answered) - LEFT, 10.0), "got", &title);
    if let Some(block) = &attack.block {
        plot.line((x(block.row), y + 1.0), (x(block.row), y + 19.0), "stroke-high");
    }
    if let Some(told) = &attack.first_finding {
        let title = format!("first told of at row {} by {}", words::grouped(told.row), told.detector);
        plot.dot((x(told.row), y + 10.0), "fill-medium", &title);
    }
    let answered = words::percent(attack.share_answered);
    plot.text((WIDTH - 2.0, y + 14.0), "end", "soft", &answered);
}

/// What each of two policies answers of an attack, as shares of its rows.
pub fn differences(differences: &[AttackDifference]) -> String {
    let height = 22.0 + LINE * differences.len() as f64;
    let mut plot = Plot::new(height, "Share of each attack that either policy answers");
    let x = |rows: u64, of: u64| LEFT + inner() * rows as f64 / of.max(1) as f64;
    for quarter in 0..=4 {
        plot.line((x(quarter, 4), 16.0), (x(quarter, 4), height), "rule");
        plot.text((x(quarter, 4), 11.0), "middle", "soft", &format!("{} %", quarter * 25));
    }
    for (number, difference) in differences.iter().enumerate() {
        let y = 20.0 + LINE * number as f64;
        let AttackDifference { name, rows, this_answers, other_answers, .. } = difference;
        plot.label(y, name);
        let (this, other) = (x(*this_answers, *rows), x(*other_answers, *rows));
        plot.line((this, y + 10.0), (other, y + 10.0), "line");
        plot.dot((this, y + 10.0), "got", &format!("here: {this_answers} of {rows} rows"));
        plot.dot((other, y + 10.0), "other", &format!("there: {other_answers} of {rows} rows"));
    }
    plot.done()
}

/// The distribution of an output's values: recorded, and by the candidate.
pub fn curves(output: &OutputShift) -> String {
    const HEIGHT: f64 = 190.0;
    let (top, floor) = (12.0, HEIGHT - 24.0);
    let mut plot = Plot::new(HEIGHT, "Distribution of the values, recorded and by the candidate");
    let (Some([lowest, ..]), Some([highest, ..])) = (output.curve.first(), output.curve.last()) else {
        return plot.done();
    };
    let x = |value: f64| LEFT + inner() * (value - lowest) / (highest - lowest).max(1e-12);
    let y = |share: f64| floor - (floor - top) * share;
    for quarter in 0..=4 {
        let share = f64::from(quarter) / 4.0;
        plot.line((LEFT, y(share)), (WIDTH - RIGHT, y(share)), "rule");
        plot.text((LEFT - 8.0, y(share) + 4.0), "end", "soft", &words::percent(share));
    }
    plot.text((LEFT, HEIGHT - 6.0), "start", "soft", &number(*lowest));
    plot.text((WIDTH - RIGHT, HEIGHT - 6.0), "end", "soft", &number(*highest));
    for (class, of) in [("curve-got", 1_usize), ("curve-other", 2)] {
        let points = output.curve.iter().filter_map(|point| Some((x(point[0]), y(*point.get(of)?))));
        let points: Vec<String> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = write!(plot.svg, "<polyline points=\"{}\" class=\"{class}\"/>", points.join(" "));
    }
    plot.done()
}
