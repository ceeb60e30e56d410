//! The facts that detectors see: time, rows of features, and the two parts of an exchange.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::contract::Violation;
use crate::identity::Asker;
use crate::names::Names;

/// A moment: microseconds since the Unix epoch. It enters as a field of a fact; nothing here reads a clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Time(pub u64);

impl Time {
    /// The end of time: what is due then never happens.
    pub const NEVER: Self = Self(u64::MAX);

    /// Unix seconds with a fraction, as findings print them.
    #[must_use]
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// The moment `span` later; saturates at the end of time.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this moment is; zero where it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// One value of one row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Cell {
    /// JSON `null`, or a column that a row did not have.
    #[default]
    Missing,
    /// A number or a truth value (0 or 1). May be NaN or infinite: Python servers read and write both.
    Number(f64),
    /// A category: the byte range of its text in [`Features::text`].
    Text(u32, u32),
}

/// Where a value stands in the body it was read from: byte offsets, so that an answer can be changed in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First byte of the value.
    pub start: usize,
    /// One past its last byte.
    pub end: usize,
}

/// The rows of one question or answer: row-major cells, `width` to a row. Reusable scratch: a decoder clears it
/// and writes into the memory of the last body.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Features {
    /// Column names where the body gives them, otherwise empty; never more than `width`.
    pub names: Names,
    /// Columns of a row.
    pub width: usize,
    /// The values, row after row: `rows * width` cells.
    pub cells: Vec<Cell>,
    /// Backing text of [`Cell::Text`].
    pub text: String,
    /// Where each cell stands in the body; either empty (the body was transcoded) or one to a cell.
    pub spans: Vec<Span>,
    /// Rows that the body held beyond the cap and that are not in `cells`.
    pub rows_over: u64,
    /// The model's version that was asked for or that answered, where the protocol says it; otherwise empty.
    pub version: String,
}

impl Features {
    /// Forgets the content and keeps the memory.
    pub fn clear(&mut self) {
        self.names.clear();
        self.width = 0;
        self.cells.clear();
        self.text.clear();
        self.spans.clear();
        self.rows_over = 0;
        self.version.clear();
    }

    /// How many rows there are.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.cells.len().checked_div(self.width).unwrap_or(0)
    }

    /// Row `index`, or an empty slice beyond the last.
    #[must_use]
    pub fn row(&self, index: usize) -> &[Cell] {
        let start = index.saturating_mul(self.width);
        self.cells.get(start..start.saturating_add(self.width)).unwrap_or(&[])
    }

    /// The text of a [`Cell::Text`].
    #[must_use]
    pub fn text_of(&self, start: u32, end: u32) -> &str {
        self.text.get(start as usize..end as usize).unwrap_or("")
    }

    /// The name of a column, or its position where the body names none.
    #[must_use]
    pub fn name(&self, column: usize) -> String {
        self.names.get(column).map_or_else(|| column.to_string(), |name| name.to_string())
    }
}

/// Why a body was not looked into. A state that is counted, never a silent skip. Recordings know the reasons by their
/// positions, so a new one goes to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotInspected {
    /// Longer than the model's inspection limit.
    TooLarge,
    /// A content encoding that is not read.
    Encoding,
    /// A media type that the model's protocol does not have.
    MediaType,
    /// Not JSON, as a lenient reader understands it.
    Unparsable,
    /// Nested deeper than the reader goes.
    TooDeep,
    /// A key that decides the meaning stands twice: readers differ on which one counts.
    DuplicateKey,
    /// JSON, but not of the shape that the protocol asks for.
    Shape,
    /// A tensor type or layout that is not read.
    Datatype,
    /// More columns than the engine keeps.
    TooWide,
    /// The body ended before its time.
    Truncated,
    /// The body was not complete when it had to be.
    TooLate,
    /// The lane was full and this part was shed.
    Shed,
    /// A status, method or range that carries no whole prediction.
    NoPrediction,
    /// A path that no protocol claims.
    UnknownProtocol,
    /// A model name beyond the bound on discovered models.
    TooManyModels,
    /// A question whose answer never came, or whose part was evicted from the table of open questions.
    Unanswered,
    /// A question that names another model of the server than the one that is watched.
    OtherModel,
}

impl NotInspected {
    /// Every reason, in the order of the metric's documentation.
    pub const ALL: [Self; 17] = [
        Self::TooLarge,
        Self::Encoding,
        Self::MediaType,
        Self::Unparsable,
        Self::TooDeep,
        Self::DuplicateKey,
        Self::Shape,
        Self::Datatype,
        Self::TooWide,
        Self::Truncated,
        Self::TooLate,
        Self::Shed,
        Self::NoPrediction,
        Self::UnknownProtocol,
        Self::TooManyModels,
        Self::Unanswered,
        Self::OtherModel,
    ];

    /// The reason as a metric label and in findings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Encoding => "encoding",
            Self::MediaType => "media_type",
            Self::Unparsable => "unparsable",
            Self::TooDeep => "too_deep",
            Self::DuplicateKey => "duplicate_key",
            Self::Shape => "shape",
            Self::Datatype => "datatype",
            Self::TooWide => "too_wide",
            Self::Truncated => "truncated",
            Self::TooLate => "too_late",
            Self::Shed => "shed",
            Self::NoPrediction => "no_prediction",
            Self::UnknownProtocol => "unknown_protocol",
            Self::TooManyModels => "too_many_models",
            Self::Unanswered => "unanswered",
            Self::OtherModel => "other_model",
        }
    }
}

/// The question of an exchange as the engine gets it.
#[derive(Clone, Copy, Debug)]
pub enum Question<'a> {
    /// Decoded rows.
    Rows(&'a Features),
    /// Not looked into; it still counts as a request of this client.
    NotInspected(NotInspected),
    /// Refused before the upstream was contacted: the head only, and no evidence.
    Refused,
}

/// The first part of an exchange: the request body is complete.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Joins the two parts; unique within a journal. Printed as the request id.
    pub id: u64,
    /// When the request body was complete.
    pub time: Time,
    /// Who asks.
    pub asker: Asker,
    /// Length of the request body in bytes.
    pub bytes: u64,
    /// What was asked.
    pub question: Question<'a>,
}

/// The second part of an exchange: the client has its answer.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// The id of the asked part.
    pub id: u64,
    /// When the answer was complete.
    pub time: Time,
    /// Who asked.
    pub asker: Asker,
    /// The upstream's status; 0 where the upstream gave none.
    pub status: u16,
    /// Length of the upstream's answer body in bytes.
    pub bytes: u64,
    /// From the end of the question to the first byte of the answer.
    pub latency: Duration,
    /// The decoded predictions, one row to a row of the question, as the upstream sent them.
    pub answer: Result<&'a Features, NotInspected>,
    /// What the contract said of the whole answer, where it was held for it: then `answer`, which may be cut to
    /// fewer rows or not kept at all, is not judged again.
    pub judged: Option<&'a [Violation]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_by_width() {
        let features = Features {
            width: 2,
            cells: vec![Cell::Number(1.0), Cell::Number(2.0), Cell::Number(3.0), Cell::Missing],
            ..Features::default()
        };
        assert_eq!(features.rows(), 2);
        assert_eq!(features.row(1), [Cell::Number(3.0), Cell::Missing]);
        assert!(features.row(2).is_empty());
        assert_eq!(Features::default().rows(), 0);
    }

    #[test]
    fn every_reason_has_a_label_of_its_own() {
        let labels: std::collections::BTreeSet<_> = NotInspected::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(labels.len(), NotInspected::ALL.len());
    }
}
