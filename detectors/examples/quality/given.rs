//! Streams of one's own: a folder of recordings and of references, played as the recorded attacks are.
//!
//! `NAME.MODEL.live.jsonl` is a stream, `MODEL.jsonl` the reference of its model.

use std::path::Path;

use checkgate_detectors::reference::{Reference, Trust};

use super::host::{Host, Outcome, Place, TRUSTED, engine_with};
use super::recorded::named;
use super::table::{Table, or_dash};
use crate::support::stream_of;

/// The table.
pub fn section(folder: &Path) -> String {
    let mut table =
        Table::new(&["stream", "rows", "noted", "first finding", "by", "named", "block", "by", "named"]);
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".live.jsonl"))
        .collect();
    names.sort();
    for name in names {
        let stream = stream_of(&name, &std::fs::read_to_string(folder.join(&name)).unwrap());
        let model = name.trim_end_matches(".live.jsonl").rsplit('.').next().unwrap();
        let text = std::fs::read_to_string(folder.join(format!("{model}.jsonl"))).unwrap();
        let reference = Reference::from_json_lines(&text, Trust::Trusted).unwrap();
        let mut host = Host::of(engine_with(model, TRUSTED, Some(reference)));
        let mut outcome = Outcome::default();
        let mut rows = 0;
        for (turn, request) in stream.requests.iter().enumerate() {
            rows += request.rows.len();
            outcome.take(&host.ask(1, request), Place { rows, requests: turn + 1 });
        }
        table.row(&[
            name.trim_end_matches(".live.jsonl").to_owned(),
            rows.to_string(),
            or_dash(outcome.noted.map(|told| told.place)),
            or_dash(outcome.first.map(|told| told.place)),
            or_dash(outcome.first.map(|told| told.detector)),
            or_dash(outcome.first.map(|told| named(told.atlas))),
            or_dash(outcome.block.map(|told| told.place)),
            or_dash(outcome.block.map(|told| told.detector)),
            or_dash(outcome.block.map(|told| named(told.atlas))),
        ]);
    }
    table.finish()
}
