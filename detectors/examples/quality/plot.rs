//! A drawing of the dilution: row of the block against the attack's share, both on logarithmic scales. A cross at the
//! top stands for a run without a block.

use std::fmt::Write as _;

use super::diluted::{Curve, SHARES, curves};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 410.0;
/// Left, right, top and bottom of the area that is drawn in.
const AREA: (f64, f64, f64, f64) = (70.0, 540.0, 30.0, 350.0);
/// Rows at the bottom and at the top.
const ROWS: (f64, f64) = (5.0, 1000.0);
/// One to an attack; they differ in lightness, too.
const COLOURS: [&str; 8] =
    ["#1b6ca8", "#d1495b", "#2e8b57", "#8d5a97", "#c77c11", "#4a4a4a", "#17a2a2", "#9c3d1f"];

fn across(share: f64) -> f64 {
    let (left, right, _, _) = AREA;
    let place = (libm::log10(share) + 4.0) / 3.0;
    right - place * (right - left)
}

fn down(row: f64) -> f64 {
    let (_, _, top, bottom) = AREA;
    let place = libm::log10(row / ROWS.0) / libm::log10(ROWS.1 / ROWS.0);
    bottom - place.clamp(0.0, 1.0) * (bottom - top)
}

/// The drawing as SVG.
pub fn drawing() -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<title>Row of the block against the share of the attack in the traffic</title>\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    axes(&mut svg);
    for (index, (curve, colour)) in curves().iter().zip(COLOURS).enumerate() {
        line(&mut svg, index, curve, colour);
    }
    svg.push_str("</svg>\n");
    svg
}

fn axes(svg: &mut String) {
    let (left, right, top, bottom) = AREA;
    for row in [10.0, 100.0, 1000.0] {
        let y = down(row);
        let _ =
            writeln!(svg, "<line x1=\"{left}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>");
        let _ =
            writeln!(svg, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{row}</text>", left - 8.0, y + 4.0);
    }
    for (share, name) in SHARES.iter().zip(["10 %", "1 %", "0.1 %", "0.01 %"]) {
        let x = across(*share);
        let _ =
            writeln!(svg, "<line x1=\"{x:.1}\" y1=\"{top}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"#ddd\"/>");
        let y = bottom + 20.0;
        let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{name}</text>");
    }
    let middle = f64::midpoint(left, right);
    let y = bottom + 45.0;
    let _ = writeln!(
        svg,
        "<text x=\"{middle}\" y=\"{y}\" text-anchor=\"middle\">share of the attack in the rows</text>"
    );
    let y = f64::midpoint(top, bottom);
    let _ = writeln!(
        svg,
        "<text x=\"22\" y=\"{y}\" text-anchor=\"middle\" transform=\"rotate(-90 22 {y})\">attacker's row of the \
         block</text>"
    );
}

fn line(svg: &mut String, index: usize, curve: &Curve, colour: &str) {
    // Curves that lie on each other stay visible when each is moved a little.
    let aside = index as f64 * 1.5 - 5.0;
    let blocked = curve.diluted.iter().filter_map(|(share, row)| Some((*share, (*row)?)));
    let points: Vec<(f64, f64)> =
        blocked.map(|(share, row)| (across(share) + aside, down(row as f64))).collect();
    let text: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
        text.join(" ")
    );
    for (x, y) in points {
        let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>");
    }
    for (share, _) in curve.diluted.iter().filter(|(_, row)| row.is_none()) {
        let (x, y) = (across(*share) + aside, AREA.2 + 5.0);
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\" font-size=\"18\" fill=\"{colour}\">\u{d7}</text>"
        );
    }
    let (x, y) = (AREA.1 + 22.0, AREA.2 + 20.0 + 22.0 * index as f64);
    let _ = writeln!(svg, "<circle cx=\"{x}\" cy=\"{}\" r=\"4\" fill=\"{colour}\"/>", y - 4.0);
    let _ = writeln!(svg, "<text x=\"{}\" y=\"{y}\">{}</text>", x + 10.0, curve.name);
}
