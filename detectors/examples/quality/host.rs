//! Engines with default settings, and clients that ask them.

use std::sync::Arc;

use checkgate_detectors::contract::Contract;
use checkgate_detectors::engine::reach::Farthest;
use checkgate_detectors::engine::{Build, Engine, Limits, Outbox};
use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::{Action, Kind};
use checkgate_detectors::identity::{Address, Asker, Standing};
use checkgate_detectors::policy::Policy;
use checkgate_detectors::query::{QUERY, QuerySpec};
use checkgate_detectors::reference::Reference;

use crate::support::{Request, Stream, model_of, play, reference};

/// What an engine is built with; everything else is as the configuration has it by default.
#[derive(Clone, Copy, Default)]
pub struct Setting {
    /// Whether the operator named a reference.
    pub trusted: bool,
    /// The one detector that runs; otherwise all.
    pub only: Option<&'static str>,
    /// Whether questions are held, so that what lies in a campaign is refused.
    pub holds: bool,
    /// Whether `off_distribution` may block.
    pub off_may_block: bool,
    /// Whether the fields that customers of the pricing model may sweep are declared.
    pub declares_fields: bool,
}

/// All detectors, with a reference that the operator named.
pub const TRUSTED: Setting =
    Setting { trusted: true, only: None, holds: false, off_may_block: false, declares_fields: false };
/// All detectors, without one.
pub const ALONE: Setting = Setting { trusted: false, ..TRUSTED };
/// All detectors, a reference, and a declaration of the fields that customers may sweep.
pub const DECLARED: Setting = Setting { declares_fields: true, ..TRUSTED };

/// Age, value, distance, region, excess and payments: what a form or a report of the pricing model moves.
const SWEPT: [&str; 6] = ["0", "2", "5", "7", "8", "9"];

/// A new engine in front of the model that `name` names.
pub fn engine(name: &str, setting: Setting) -> Engine {
    engine_with(name, setting, setting.trusted.then(|| reference(name)))
}

/// The same with another reference.
pub fn engine_with(name: &str, setting: Setting, reference: Option<Reference>) -> Engine {
    let runs = |detector: &str| setting.only.is_none_or(|only| only == detector);
    let detectors = QUERY.iter().filter(|spec| runs(spec.name));
    Engine::new(Build {
        model: Arc::from(model_of(name)),
        hash_key: [7, 11],
        detectors: detectors.map(|spec| (spec.name.to_owned(), parameters(name, spec, setting))).collect(),
        contract: Contract::default(),
        contract_action: Action::Alert,
        policy: Policy { refuses_content: setting.holds, ..Policy::default() },
        reference,
        drift: None,
        limits: Limits { clients: 10_000, open_questions: 4096, new_keys_per_address: 20 },
    })
    .unwrap()
}

fn parameters(name: &str, spec: &QuerySpec, setting: Setting) -> serde_json::Value {
    let mut parameters = (spec.defaults)();
    if spec.name == "off_distribution" {
        parameters["may_block"] = setting.off_may_block.into();
    }
    if spec.name == "one_field_sweep" && setting.declares_fields && model_of(name) == "pricing" {
        parameters["free_fields"] = SWEPT.to_vec().into();
    }
    parameters
}

/// A client by number: an address that the operator declared to be one client.
pub fn client(number: u32) -> Asker {
    let [_, high, middle, low] = number.to_be_bytes();
    let address = Address::of(std::net::IpAddr::from([10, high, middle, low]));
    Asker { address, standing: Standing::Declared, key: None, keys_verified: false }
}

/// An engine and the number of the next request.
pub struct Host {
    engine: Engine,
    next: u64,
}

impl Host {
    /// A host of the model that `name` names.
    pub fn new(name: &str, setting: Setting) -> Self {
        Self { engine: engine(name, setting), next: 0 }
    }

    /// A host of an engine.
    pub fn of(engine: Engine) -> Self {
        Self { engine, next: 0 }
    }

    /// One request, as it stands.
    pub fn ask(&mut self, number: u32, request: &Request) -> Outbox {
        self.next += 1;
        play(&mut self.engine, client(number), self.next, request)
    }

    /// Who reaches farthest at a time: the first `most` by rows and by cells.
    pub fn farthest(&self, seconds: f64, most: usize) -> Farthest {
        self.engine.farthest(Time((seconds * 1e6) as u64), most)
    }

    /// One request at another time.
    pub fn ask_at(&mut self, number: u32, seconds: f64, request: &Request) -> Outbox {
        self.ask(number, &Request { seconds, ..request.clone() })
    }
}

/// Where a client stands in its stream: rows and requests sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Rows, those of the latest request included.
    pub rows: usize,
    /// Requests.
    pub requests: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} / {}", self.rows, self.requests)
    }
}

/// A finding or a block, where it came.
#[derive(Clone, Copy)]
pub struct Told {
    /// Where.
    pub place: Place,
    /// By which detector.
    pub detector: &'static str,
    /// The ATLAS technique that it names.
    pub atlas: &'static str,
}

/// What became of one stream.
#[derive(Default)]
pub struct Outcome {
    /// The first finding.
    pub first: Option<Told>,
    /// The first note.
    pub noted: Option<Told>,
    /// The first block.
    pub block: Option<Told>,
    /// Every detector that told of it, in order.
    pub detectors: Vec<&'static str>,
}

impl Outcome {
    /// Takes what one request gave.
    pub fn take(&mut self, out: &Outbox, place: Place) {
        for record in &out.records {
            if record.kind == Kind::Note {
                self.noted.get_or_insert(Told { place, detector: record.detector, atlas: record.atlas });
                continue;
            }
            let told = Told { place, detector: record.detector, atlas: record.atlas };
            self.first.get_or_insert(told);
            if record.action == Action::Block {
                self.block.get_or_insert(told);
            }
            if !self.detectors.contains(&record.detector) {
                self.detectors.push(record.detector);
            }
        }
    }
}

/// Plays a stream of its own.
pub fn alone(stream: &Stream, setting: Setting) -> Outcome {
    let mut host = Host::new(&stream.name, setting);
    let mut outcome = Outcome::default();
    let mut rows = 0;
    for (turn, request) in stream.requests.iter().enumerate() {
        rows += request.rows.len();
        outcome.take(&host.ask(1, request), Place { rows, requests: turn + 1 });
    }
    outcome
}

/// The same stream with answers that are the best class alone. Prices stay.
pub fn labels_only(stream: &Stream) -> Stream {
    let mut requests = stream.requests.clone();
    for prediction in requests.iter_mut().flat_map(|request| &mut request.predictions) {
        if let Some(label) = label(prediction) {
            *prediction = vec![label as f64];
        }
    }
    Stream { name: stream.name.clone(), requests }
}

/// The best class of an answer; none of an answer with one number.
pub fn label(prediction: &[f64]) -> Option<usize> {
    let best = prediction.iter().enumerate().max_by(|left, right| left.1.total_cmp(right.1))?;
    (prediction.len() > 1).then_some(best.0)
}
