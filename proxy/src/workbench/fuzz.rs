//! What fuzz targets try. The targets themselves, and what must hold, stand in `proxy/fuzz`.

use checkgate_detectors::facts::{Features, NotInspected};
use http::HeaderMap;

use crate::decode::json::{self, Kind, Value};
use crate::decode::{self, DECODERS, Head, Part};
use crate::ledger::log::{Place, Scan};

/// Most rows and columns that [`decoded`] keeps: small, so that a short body can pass them.
pub const ROWS_MAX: usize = 4;
/// See [`ROWS_MAX`].
pub const COLUMNS_MAX: usize = 8;

/// What every decoder with its default parameters reads from `body`, as a question's and as an answer's.
pub fn decoded(headers: &HeaderMap, body: &[u8]) -> Vec<Result<Features, NotInspected>> {
    let decoders = decode::defaults();
    let built = decoders.iter().flatten();
    let parts = built.flat_map(|decoder| [(decoder, Part::Question), (decoder, Part::Answer)]);
    parts
        .map(|(decoder, part)| {
            let head = Head { headers, part, rows_max: ROWS_MAX, columns_max: COLUMNS_MAX };
            let mut features = Features::default();
            decoder.decode(&head, body, &mut features).map(|()| features)
        })
        .collect()
}

/// What a reader of the ledger's log makes of a file: how many lines are whole, how many bytes were torn, and how many
/// entries were lost.
pub fn ledger_lines(bytes: &[u8]) -> (u64, u64, u64) {
    let mut scan = Scan::default();
    scan.segment(bytes, Place { segment: 1, offset: 0 }, &mut |_, _| {});
    (scan.lines, scan.torn, scan.lost())
}

/// How many decoders there are.
#[must_use]
pub fn decoders() -> usize {
    DECODERS.len()
}

/// The texts of all values of a JSON document that hold no others, in order, keys included.
///
/// # Errors
/// Why the document cannot be read.
pub fn json_leaves(text: &str) -> Result<Vec<String>, NotInspected> {
    let mut index = json::Index::default();
    let document = json::Document::scan(text, 0, &mut index)?;
    let mut leaves = Vec::new();
    if let Some(root) = document.root() {
        collect(root, &mut leaves);
    }
    Ok(leaves)
}

fn collect(value: Value<'_>, leaves: &mut Vec<String>) {
    match value.kind() {
        Kind::Array => value.elements().for_each(|element| collect(element, leaves)),
        Kind::Object => value.members().for_each(|(key, value)| {
            collect(key, leaves);
            collect(value, leaves);
        }),
        _ => leaves.push(value.source().to_owned()),
    }
}
