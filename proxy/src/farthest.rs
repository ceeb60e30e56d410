//! Who asks most and covers most, as operators are told: what extraction with rows such as customers send shows in.

use std::fmt::Write;

use checkgate_detectors::engine::Engine;
use checkgate_detectors::engine::reach::{Farthest, Reach};
use checkgate_detectors::facts::Time;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::rehearse::form::escape::Escaped;
use crate::rehearse::form::words::grouped;
use crate::told::{clean, moment};

/// Clients of a model that are listed by rows, and as many by cells, where nobody asks for another number.
pub const LISTED: usize = 10;
/// Most that may be asked for.
pub const LISTED_MAX: usize = 100;
/// What must be known of the list.
pub const CAVEAT: &str = "Extraction with rows such as customers send cannot be told by what the rows hold. Here is who asks \
                          most and who covers most; large customers stand here as well, and nobody is accused of it.";

/// The clients of one model that ask most and cover most.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelClients {
    /// The model.
    pub model: String,
    /// Clients that asked it for rows lately.
    pub clients: u64,
    /// Cells of feature space that its reference's rows lie in; 0 without a reference.
    pub reference_cells: u64,
    /// The first by distinct rows and the first by cells, by rows.
    pub farthest: Vec<ClientReach>,
}

/// What one client asked for within a window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ClientReach {
    /// Its address, or the keyed hash of its key.
    pub client: String,
    /// When the window began, in Unix seconds: that of `coverage_growth`, a day by default; an hour where that detector does
    /// not run or there is no reference. It is the present one, or the one before.
    pub from: f64,
    /// When it ends or ended.
    pub until: f64,
    /// Distinct rows.
    pub rows: u32,
    /// Cells that they lie in, those of the first 50 left out; absent where cells are not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub cells: Option<u32>,
    /// In how many cells as many rows would lie that were drawn from where the reference's come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub expected_cells: Option<f64>,
    /// Its place by rows, from 1; absent where it is not among those listed by rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub place_by_rows: Option<u32>,
    /// Its place by cells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub place_by_cells: Option<u32>,
}

impl ModelClients {
    /// Of a model's engine, at `now`, the first `most` by rows and by cells.
    pub fn of(model: &str, engine: &Engine, now: Time, most: usize) -> Self {
        let Farthest { clients, reference_cells, reach } = engine.farthest(now, most);
        let farthest = reach.into_iter().map(ClientReach::from).collect();
        Self { model: model.to_owned(), clients, reference_cells, farthest }
    }
}

impl From<Reach> for ClientReach {
    fn from(reach: Reach) -> Self {
        Self {
            client: reach.client.to_string(),
            from: reach.from.seconds(),
            until: reach.until.seconds(),
            rows: reach.rows,
            cells: reach.cells,
            expected_cells: reach.expected_cells.map(|cells| (cells * 10.0).round() / 10.0),
            place_by_rows: reach.by_rows,
            place_by_cells: reach.by_cells,
        }
    }
}

impl ClientReach {
    /// Cells beside those that as many rows of the reference's source would lie in, in per cent; nothing where few are expected.
    fn share(&self) -> Option<f64> {
        let expected = self.expected_cells.filter(|expected| *expected >= 1.0)?;
        Some(f64::from(self.cells?) / expected * 100.0)
    }

    fn cells(&self) -> [String; 8] {
        let or_dash = |said: Option<String>| said.unwrap_or_else(|| "-".to_owned());
        [
            or_dash(self.place_by_rows.map(|place| place.to_string())),
            or_dash(self.place_by_cells.map(|place| place.to_string())),
            self.client.clone(),
            grouped(u64::from(self.rows)),
            or_dash(self.cells.map(|cells| grouped(u64::from(cells)))),
            or_dash(self.expected_cells.map(|cells| format!("{cells:.0}"))),
            or_dash(self.share().map(|share| format!("{share:.0} %"))),
            moment(self.from),
        ]
    }
}

const HEAD: [&str; 8] =
    ["BY ROWS", "BY CELLS", "CLIENT", "ROWS", "CELLS", "AS REFERENCE", "OF THAT", "WINDOW FROM"];

/// The models of whose clients anything is listed.
fn listed(models: &[ModelClients]) -> impl Iterator<Item = &ModelClients> {
    models.iter().filter(|model| !model.farthest.is_empty())
}

/// For a terminal; nothing where nobody asked for anything.
#[must_use]
pub fn text(models: &[ModelClients]) -> String {
    let mut page = String::new();
    // Writing to a String cannot fail, here and below.
    for model in listed(models) {
        let ModelClients { clients, reference_cells, farthest, .. } = model;
        let _ = writeln!(
            page,
            "\nWho asks most and covers most, model {}: {} clients; the reference lies in {} cells\n",
            clean(&model.model),
            grouped(*clients),
            grouped(*reference_cells)
        );
        let rows: Vec<Vec<String>> = farthest.iter().map(|client| client.cells().to_vec()).collect();
        page.push_str(&crate::cli::table::table(&HEAD, &rows));
    }
    if !page.is_empty() {
        let _ = writeln!(page, "\n{CAVEAT}");
    }
    page
}

/// A section of a page; nothing where nobody asked for anything.
#[must_use]
pub fn html(models: &[ModelClients]) -> String {
    let mut page = String::new();
    if listed(models).next().is_none() {
        return page;
    }
    let _ = writeln!(page, "<section>\n<h2>Who asks most and covers most</h2>\n<p>{CAVEAT}</p>");
    for model in listed(models) {
        let _ = writeln!(
            page,
            "<h3>{}</h3>\n<p class=\"soft\">{} clients; the reference lies in {} cells.</p>\n<div class=\"wide\">\n<table>\n\
             <thead><tr><th class=\"number\">By rows</th><th class=\"number\">By cells</th><th>Client</th>\
             <th class=\"number\">Distinct rows</th><th class=\"number\">Cells</th><th class=\"number\">As many reference rows</th>\
             <th class=\"number\">Of that</th><th>Window from</th></tr></thead>\n<tbody>",
            Escaped(&model.model),
            grouped(model.clients),
            grouped(model.reference_cells)
        );
        for client in &model.farthest {
            let [by_rows, by_cells, name, rows, cells, expected, share, from] = client.cells();
            let _ = writeln!(
                page,
                "<tr><td class=\"number\">{by_rows}</td><td class=\"number\">{by_cells}</td><td><code>{}</code></td>\
                 <td class=\"number\">{rows}</td><td class=\"number\">{cells}</td><td class=\"number\">{expected}</td>\
                 <td class=\"number\">{share}</td><td>{from}</td></tr>",
                Escaped(&name)
            );
        }
        page.push_str("</tbody>\n</table>\n</div>\n");
    }
    page.push_str("</section>\n");
    page
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::rehearse::form::tests::markup;
    use crate::told::clean::steers;

    /// One model with one client.
    pub fn of(model: &str, client: &str) -> Vec<ModelClients> {
        let reach = ClientReach {
            client: client.to_owned(),
            from: 1_700_000_000.0,
            until: 1_700_086_400.0,
            rows: 1500,
            cells: Some(364),
            expected_cells: Some(353.4),
            place_by_rows: Some(3),
            place_by_cells: None,
        };
        vec![ModelClients {
            model: model.to_owned(),
            clients: 118,
            reference_cells: 311,
            farthest: vec![reach],
        }]
    }

    #[test]
    fn rows_cells_and_what_the_reference_would_reach_are_told_beside_the_caveat() {
        let text = text(&of("prices", "203.0.113.7"));
        for part in ["model prices: 118 clients", "203.0.113.7", "1,500", "364", "353", "103 %", CAVEAT] {
            assert!(text.contains(part), "{part:?} is missing in {text}");
        }
        assert_eq!((super::text(&[]), html(&[ModelClients::default()])), (String::new(), String::new()));
    }

    #[test]
    fn no_name_steers_a_terminal_or_makes_markup() {
        for naughty in naughty_strings::BLNS {
            let models = of(naughty, naughty);
            let text = text(&models);
            assert!(!text.contains(|c| steers(c) && c != '\n'), "{text:?}");
            let page = html(&models);
            let (names, texts) = markup(&page);
            assert_eq!(names, markup(&html(&of("", ""))).0, "{naughty:?} is markup");
            assert!(texts.iter().filter(|text| *text == naughty).count() >= 2, "{naughty:?}: {page}");
        }
    }
}
