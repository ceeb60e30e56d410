//! A comparison as one picture (SVG 1.1) that needs nothing beside it: for each column its slots, reference and now.
//! Names come from files and traffic, so all text is escaped.

use std::fmt::Write;

use super::compare::{Compared, Comparison};
use crate::rehearse::form::escape::Escaped;
use crate::rehearse::form::words::grouped;
use crate::told::number;

/// Columns that are drawn; JSON has all.
const COLUMNS_MAX: usize = 60;
/// Panels beside one another.
const ACROSS: usize = 3;
/// Size of a panel.
const PANEL: (f64, f64) = (300.0, 130.0);
/// Space around panels.
const MARGIN: f64 = 16.0;
/// Space for the title.
const TITLE: f64 = 34.0;
/// Where bars stand in a panel, and how high the highest is.
const BARS: (f64, f64) = (104.0, 62.0);

/// The picture.
#[must_use]
pub fn picture(comparison: &Comparison, name: &str, against: &str) -> String {
    let columns = comparison.columns.iter().take(COLUMNS_MAX);
    let lines = columns.len().div_ceil(ACROSS);
    let width = MARGIN + ACROSS as f64 * (PANEL.0 + MARGIN);
    let height = TITLE + lines as f64 * (PANEL.1 + MARGIN) + MARGIN;
    let [before, now] = comparison.rows.map(grouped);
    let title = format!("{name} ({before} rows, grey) and {against} ({now} rows, blue)");
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"sans-serif\" \
         font-size=\"11\" fill=\"#222\"><rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\
         <text x=\"{MARGIN}\" y=\"22\" font-size=\"13\">{}</text>\n",
        Escaped(&title)
    );
    for (place, column) in columns.enumerate() {
        let left = MARGIN + (place % ACROSS) as f64 * (PANEL.0 + MARGIN);
        let top = TITLE + (place / ACROSS) as f64 * (PANEL.1 + MARGIN);
        panel(&mut svg, column, left, top);
    }
    svg.push_str("</svg>\n");
    svg
}

fn panel(svg: &mut String, column: &Compared, left: f64, top: f64) {
    let short: String = column.name.chars().take(28).collect();
    // Writing to a String cannot fail, here and below.
    let _ = write!(
        svg,
        "<g transform=\"translate({left:.1} {top:.1})\"><text y=\"12\" font-weight=\"bold\">{}</text>\
         <text x=\"{:.0}\" y=\"12\" text-anchor=\"end\">effect {}, {}</text>",
        Escaped(&short),
        PANEL.0,
        number(column.effect),
        column.extent
    );
    if let Some(gap) = column.gap {
        let (distance, expected) = (number(gap.distance), number(gap.expected));
        let _ = write!(
            svg,
            "<text x=\"{:.0}\" y=\"26\" text-anchor=\"end\" fill=\"#555\">gap {distance} ({expected} by chance)</text>",
            PANEL.0
        );
    }
    let shares = column.slots.iter().flat_map(|slot| [slot.reference, slot.now]);
    let highest = shares.fold(f64::MIN_POSITIVE, f64::max);
    let step = PANEL.0 / column.slots.len().max(1) as f64;
    for (place, slot) in column.slots.iter().enumerate() {
        let x = place as f64 * step;
        let title = format!(
            "{}: {:.1} % of the reference, {:.1} % now",
            slot.name,
            slot.reference * 100.0,
            slot.now * 100.0
        );
        let _ = write!(svg, "<g><title>{}</title>", Escaped(&title));
        bar(svg, x, step * 0.42, slot.reference / highest, "#b5b5b5");
        bar(svg, x + step * 0.44, step * 0.42, slot.now / highest, "#2b6cb0");
        svg.push_str("</g>");
    }
    let gauge = |name: &str| column.gauges.iter().find(|gauge| gauge.name == name);
    let told = ["psi", "kolmogorov_smirnov"].iter().filter_map(|name| gauge(name));
    let told: Vec<_> = told
        .map(|gauge| format!("{} {} ({} by chance)", gauge.name, number(gauge.value), number(gauge.expected)))
        .collect();
    let _ = writeln!(
        svg,
        "<line x1=\"0\" y1=\"{0}\" x2=\"{1}\" y2=\"{0}\" stroke=\"#888\"/><text y=\"{2:.0}\" fill=\"#555\">{3}</text></g>",
        BARS.0,
        PANEL.0,
        PANEL.1 - 8.0,
        Escaped(&told.join("   "))
    );
}

fn bar(svg: &mut String, x: f64, width: f64, part: f64, colour: &str) {
    let height = part.clamp(0.0, 1.0) * BARS.1;
    let _ = write!(
        svg,
        "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>",
        BARS.0 - height
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::compare::GapOfReferences;
    use crate::reference::compare::tests::moved;

    #[test]
    fn nothing_from_files_is_markup() {
        let mut comparison = moved();
        comparison.columns[1].name = "\"/><script>x</script>".into();
        comparison.columns[0].gap = Some(GapOfReferences { distance: 0.25, expected: 0.03 });
        let svg = picture(&comparison, "<a>", "b&c");
        assert!(!svg.contains("<script") && !svg.contains("<south>") && !svg.contains("<a>"), "{svg}");
        assert!(svg.contains("gap 0.25 (0.03 by chance)"), "{svg}");
        assert!(svg.contains("&lt;south&gt;") && svg.contains("b&amp;c"), "{svg}");
        let opened = svg.matches("<g").count();
        assert_eq!(opened, svg.matches("</g>").count(), "every group ends");
    }

    #[test]
    fn every_column_is_a_panel_and_every_slot_two_bars() {
        let comparison = moved();
        let svg = picture(&comparison, "a", "b");
        let slots: usize = comparison.columns.iter().map(|column| column.slots.len()).sum();
        assert_eq!(svg.matches("<rect").count(), 1 + 2 * slots, "the ground, and the bars");
        assert_eq!(svg.matches("font-weight=\"bold\"").count(), comparison.columns.len());
    }
}
