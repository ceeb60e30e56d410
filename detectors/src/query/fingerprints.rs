//! Fingerprints: wide rows of one client, such as images, that are small changes of each other.
//!
//! Beyond 256 columns distances say little. Two rows are alike where half of the windows over neighbouring columns are
//! the same in both ([`Print`]), which small changes of an image leave as they are. Searches for adversarial examples
//! ask about rows that are nearly all alike. A row is marked when it is like five of the client's latest 512: honest
//! clients send a few shots of one scene, rarely more, so each row that is not marked takes back a quarter of one that
//! is. Only the client's own rows count, so nobody can be framed; and a row that is like one of the reference's is what
//! everybody sends, such as frames of a camera at rest, and no evidence. Where over a fifth of the reference's rows are
//! like another one, the detector is silent.
//!
//! The idea is Blacklight's (Li et al., USENIX Security 2022), with memory by client instead of one for all, and with
//! five matches and five rows instead of one. It is blind to noise on every column with a deviation of a fiftieth of
//! the values' span, and silent before ten rows.
//!
//! Cost: one pass over a new row, and a comparison of 128 bytes with each of the client's remembered rows. A model keeps
//! at most 16,384 fingerprints, about 180 bytes each.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Aspect, Exchange, Finding, Findings, Needs, ParameterError, Parameters, Purpose, QueryDetector, QuerySpec,
};
use crate::finding::Tier;
use crate::lines::{Origin, Trail};
use crate::prints::{Print, Printer, ReferencePrints};
use crate::reference::Trust;
use crate::seen::Seen;
use crate::shelf::{Bounds, ClientIndex, Shelf};

/// The entry of the visible list.
pub const SPEC: QuerySpec = QuerySpec {
    name: "fingerprints",
    summary: "Rows of more than 256 columns, such as images, that are small changes of each other",
    source: "Li et al., Blacklight: Scalable Defense against Query-Based Black-Box Attacks, USENIX Security 2022",
    atlas: "AML.T0043.001",
    owasp: "ML01:2023",
    tier: Tier::One,
    aspect: Aspect::Case,
    tells_alone: true,
    purpose: Purpose::Rows,
    needs: Needs::QuestionAndReference,
    state_bytes_max: 80,
    schema: super::schema_of::<Alike>,
    defaults: super::defaults_of::<Alike>,
    example: r#"{"matches": 3, "rows": 8}"#,
    check: super::check_of::<Alike>,
    build: |parameters| super::build_with(parameters, |alike: Alike| Fingerprints { alike }),
};

/// When rows count as small changes of each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Alike {
    /// Earlier rows of the same client that a row must be like to be marked, 1 to 100.
    #[schemars(range(min = 1, max = 100))]
    pub matches: u32,
    /// Marked rows at which the detector speaks: 3 to 1000. They must have come in at least two requests, and each row
    /// that is not marked takes back a quarter of one.
    #[schemars(range(min = 3, max = 1000))]
    pub rows: u32,
}

impl Default for Alike {
    fn default() -> Self {
        Self { matches: 5, rows: 5 }
    }
}

impl Parameters for Alike {
    fn check(&self) -> Result<(), ParameterError> {
        let wrong = |key, value: u32, range: &str| {
            Err(ParameterError::at(key, format!("{value} is out of range; give {range}")))
        };
        if !(1..=100).contains(&self.matches) {
            return wrong("matches", self.matches, "1 to 100");
        }
        if !(3..=1000).contains(&self.rows) {
            return wrong("rows", self.rows, "3 to 1000");
        }
        Ok(())
    }
}

/// Fingerprints of all clients' rows, and of one client's.
const ROWS: usize = 1 << 14;
const ROWS_PER_CLIENT: usize = 512;
/// Rows that are not marked after which one that was does not count any more.
const ROWS_TO_FORGET_ONE: u32 = 4;

struct Fingerprints {
    alike: Alike,
}

/// What is kept of a client that sent wide rows; of others nothing.
type Slot = Option<Box<Evidence>>;

/// A client's marked rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Evidence {
    /// In quarters of a row.
    quarters: u32,
    trail: Trail,
}

impl Evidence {
    fn rise(&mut self, origin: Origin) {
        self.quarters = self.quarters.saturating_add(ROWS_TO_FORGET_ONE);
        self.trail.add(origin);
    }

    fn fall(&mut self) {
        self.quarters = self.quarters.saturating_sub(1);
        if self.quarters == 0 {
            self.trail = Trail::default();
        }
    }
}

/// Fingerprints of all clients' rows, and of the reference's.
#[derive(Serialize, Deserialize)]
struct Store {
    rows: Shelf<Print>,
    #[serde(skip)]
    reference: ReferencePrints,
}

impl Default for Store {
    fn default() -> Self {
        let bounds = Bounds { entries: ROWS, entries_per_client: ROWS_PER_CLIENT };
        Self { rows: Shelf::new(bounds), reference: ReferencePrints::default() }
    }
}

impl QueryDetector for Fingerprints {
    type Slot = Slot;
    type Population = Store;
    const HEARS_ANSWERS: bool = false;

    fn observe(
        &self,
        exchange: &Exchange<'_>,
        seen: &Seen,
        store: &mut Store,
        me: &mut Slot,
        out: &mut Findings,
    ) {
        let Some(reference) = exchange.reference else { return };
        let Some(printer) = Printer::of(reference, exchange.columns) else { return };
        if !store.reference.adopt(&printer) {
            return;
        }
        let me = me.get_or_insert_with(|| store.enter(exchange.client));
        let origin = Origin { request: exchange.id, time: exchange.time };
        let mut rose = false;
        for (position, row) in seen.rows().iter().enumerate() {
            let Some(print) = printer.question(exchange.question, row.index) else { continue };
            let matches = store.take(exchange.client, row.key, &print, self.alike.matches as usize);
            if matches
                && !store.reference.has_like(&print)
                && !exchange.neighbours.is_dense(position, reference)
            {
                out.mark(position);
                me.rise(origin);
                rose = true;
            } else {
                me.fall();
            }
        }
        if rose && me.quarters >= self.alike.rows * ROWS_TO_FORGET_ONE && me.trail.requests > 1 {
            out.push(self.word(reference.trust, me));
        }
    }

    fn evicted(&self, store: &Store) -> u64 {
        store.rows.evicted()
    }
}

impl Fingerprints {
    fn word(&self, trust: Trust, evidence: &Evidence) -> Finding {
        Finding {
            tier: Tier::One,
            statistic: f64::from(evidence.quarters) / f64::from(ROWS_TO_FORGET_ONE),
            limit: f64::from(self.alike.rows),
            trail: evidence.trail,
            fields: Vec::new(),
            did: format!(
                "asked about many small changes of one wide row: half of each is the same as in {} earlier ones of its \
                 own, and not as in any of the reference",
                self.alike.matches
            ),
            rests_on: Some(trust),
        }
    }
}

impl Store {
    /// Begins with a client: whatever is remembered under its index is somebody else's, or counts no longer.
    fn enter(&mut self, client: ClientIndex) -> Box<Evidence> {
        self.rows.forget(client);
        Box::default()
    }

    /// Remembers a new row, and says whether it is like so many earlier ones of its client.
    fn take(&mut self, client: ClientIndex, key: u64, print: &Print, matches: usize) -> bool {
        // A row that the memory of repeats forgot is still no second row.
        if self.rows.get(client, key).is_some() {
            return false;
        }
        let alike = self.rows.of(client).filter(|earlier| earlier.is_like(print)).take(matches).count();
        self.rows.insert(client, key, print.clone());
        alike >= matches
    }
}
