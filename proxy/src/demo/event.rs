//! What happens on the wire, as the narrator hears of it.

use std::sync::Arc;

use serde::Deserialize;
use tokio::sync::mpsc;

use super::tariff::Quote;

/// Where everything that happens is reported. Bounded: whoever reports waits for the narrator.
pub type Events = mpsc::Sender<Event>;

/// Events that may wait for the narrator.
pub const WAITING_MAX: usize = 1_024;

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A client got an answer.
    Exchanged(Exchange),
    /// A client says what it is up to.
    Said {
        /// Who speaks.
        client: Arc<str>,
        /// What it says.
        text: String,
    },
    /// The model computed a price below zero, whatever became of it.
    NegativePrice {
        /// Who asked.
        client: Arc<str>,
        /// The quote.
        quote: Quote,
        /// The price, in euros.
        price: f64,
    },
    /// The proxy wrote a finding or a decision.
    Recorded(Box<Record>),
}

/// Whether a client is on the insurer's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A customer of the insurer.
    Honest,
    /// Somebody who attacks the model through its API.
    Adversary,
}

/// A request and what came back.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Who asked.
    pub client: Arc<str>,
    /// On which side the client is.
    pub role: Role,
    /// What was asked, in words.
    pub question: String,
    /// Rows of the request.
    pub rows: usize,
    /// What came back.
    pub reply: Reply,
}

/// What came back to a client.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// One price for each quote, in euros.
    Prices(Vec<f64>),
    /// 422: the answer was withheld; the reason as the client reads it.
    Refused(String),
    /// 403: the client is blocked.
    Blocked {
        /// The decision that the client is told.
        decision: String,
        /// Seconds after which it may try again, as `Retry-After` says.
        retry_after: String,
    },
    /// Any other status, with the beginning of the body.
    Failed(u16, String),
}

/// A finding or decision, as far as the demo shows it; read from the JSON lines that `findings: FILE` gives.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Record {
    /// `finding`, `decision` or `drift`.
    pub kind: String,
    /// The model.
    pub model: String,
    /// Of a drift, what happened: `warning`, `drifting` or `recovered`.
    pub change: String,
    /// The client's identity: the keyed hash of its key.
    pub client: String,
    /// The detector that spoke.
    pub detector: String,
    /// MITRE ATLAS technique.
    pub atlas: String,
    /// What is done about it.
    pub action: String,
    /// `observe` or `enforce`.
    pub mode: String,
    /// The decision that this record is, or led to.
    pub decision_id: Option<String>,
    /// When the record was made, as Unix seconds.
    pub time: f64,
    /// When the decision ends, as Unix seconds.
    pub until: Option<f64>,
    /// The same in a sentence.
    pub explanation: String,
}
