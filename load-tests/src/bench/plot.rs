//! The plots: horizontal bars, drawn as SVG that reads on a bright and on a dark page.

use std::fmt::Write as _;

use super::contender::{DIRECT, NAMES, is_checkgate};
use super::question::{SIZES, USUAL};
use super::sample::{Measure, Samples, Spread};

const WIDTH: f64 = 860.0;
const LABEL_WIDTH: f64 = 210.0;
const VALUE_WIDTH: f64 = 90.0;
const ROW_HEIGHT: f64 = 22.0;
const HEAD_HEIGHT: f64 = 34.0;

/// A bar: whose it is, how long, and how far the rounds spread.
struct Bar {
    name: &'static str,
    spread: Spread,
}

/// Bars on one scale.
struct Panel {
    title: String,
    bars: Vec<Bar>,
}

/// CPU for each request, a panel for each size.
#[must_use]
pub fn cpu(samples: &Samples) -> String {
    let panel = |size: &'static str| {
        let bar = |name| Some(Bar { name, spread: samples.spread(Measure::Cpu, size, name)? });
        let bars: Vec<_> = NAMES.iter().copied().filter_map(bar).collect();
        Panel { title: format!("CPU microseconds for each request of {size}, all threads"), bars }
    };
    draw(&SIZES.iter().map(|size| panel(size.name)).collect::<Vec<_>>())
}

/// Latency at the constant rate, a panel for each percentile.
#[must_use]
pub fn latency(samples: &Samples) -> String {
    let panel = |(percentile, measure): (&str, Measure)| {
        let bar = |name| Some(Bar { name, spread: samples.spread(measure, USUAL.name, name)? });
        let bars = std::iter::once(DIRECT).chain(NAMES.iter().copied()).filter_map(bar);
        Panel {
            title: format!("{percentile} of the latency at 1,000 requests a second, microseconds"),
            bars: bars.collect(),
        }
    };
    draw(&[("p50", Measure::P50), ("p99", Measure::P99)].map(panel))
}

fn draw(panels: &[Panel]) -> String {
    let panels: Vec<_> = panels.iter().filter(|panel| !panel.bars.is_empty()).collect();
    let mut body = String::new();
    let mut top = 0.0;
    for panel in panels {
        draw_panel(panel, top, &mut body);
        top += HEAD_HEIGHT + panel.bars.len() as f64 * ROW_HEIGHT + 12.0;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {top}\" width=\"{WIDTH}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\">\n<style>text{{fill:#57606a}}\
         .bar{{fill:#8c959f}}.own{{fill:#2f81f7}}.range{{stroke:#57606a}}\
         @media(prefers-color-scheme:dark){{text{{fill:#c9d1d9}}.range{{stroke:#c9d1d9}}}}</style>\n\
         {body}</svg>\n"
    )
}

fn draw_panel(panel: &Panel, top: f64, body: &mut String) {
    let longest = panel.bars.iter().map(|bar| bar.spread.max).fold(0.0, f64::max);
    let length = |value: f64| (WIDTH - LABEL_WIDTH - VALUE_WIDTH) * value / longest.max(f64::MIN_POSITIVE);
    // Writing to a string cannot fail.
    let _ = writeln!(
        body,
        "<text x=\"0\" y=\"{:.0}\" font-weight=\"600\">{}</text>",
        top + HEAD_HEIGHT - 14.0,
        panel.title
    );
    for (row, Bar { name, spread }) in panel.bars.iter().enumerate() {
        let y = top + HEAD_HEIGHT + row as f64 * ROW_HEIGHT;
        let class = if is_checkgate(name) { "own" } else { "bar" };
        let (min, max) = (LABEL_WIDTH + length(spread.min), LABEL_WIDTH + length(spread.max));
        let (middle, bar, value) = (y + 8.0, length(spread.median), spread.median);
        let _ = writeln!(
            body,
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{name}</text>\
             <rect class=\"{class}\" x=\"{LABEL_WIDTH}\" y=\"{y:.0}\" width=\"{bar:.1}\" height=\"16\" rx=\"2\"/>\
             <path class=\"range\" d=\"M{min:.1} {middle:.0}H{max:.1}\"/>\
             <text x=\"{:.0}\" y=\"{:.0}\">{value:.1}</text>",
            LABEL_WIDTH - 8.0,
            y + 12.5,
            max + 6.0,
            y + 12.5,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::sample::Sample;

    #[test]
    fn a_bar_is_as_long_as_its_figure() {
        let mut samples = Samples::default();
        for (contender, value) in [("nginx", 20.0), ("envoy", 40.0)] {
            samples.add(Sample { measure: Measure::Cpu, size: USUAL.name, contender, round: 0, value });
        }
        let svg = cpu(&samples);
        let widths: Vec<f64> = svg
            .split("<rect")
            .skip(1)
            .map(|bar| bar.split("width=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(widths, [280.0, 560.0]);
        assert!(svg.contains(">envoy<") && svg.contains(">40.0<"), "{svg}");
    }
}
