//! What a candidate model answers to recorded questions, held against what was answered then.
//!
//! Questions are sent again as they were recorded, a few at once, and never more than a bound; answers are read by the
//! decoder that would read them live, judged by the same contract, and compared row by row.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use checkgate_detectors::contract::Violation;
use checkgate_detectors::facts::{Features, NotInspected};
use futures_util::future::join_all;
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use serde::Serialize;

use super::recording::Recordings;
use super::shift::{Agreement, OutputShift, Shift};
use super::translation::Translation;
use super::{Progress, Severity};
use crate::capture::{Admission, Answered, Asked, Body, Entry};
use crate::decode::{self, Decoder, Head, Part, kept_headers};
use crate::demo::caller::http_client;
use crate::plan::{ModelPlan, Plan};

/// Questions that are open at the candidate at once.
const AT_ONCE: usize = 8;
/// Recorded questions whose recorded answers are awaited; the oldest are let go.
const OPEN_MAX: usize = 4096;
/// A candidate that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// A longer answer is not read.
const ANSWER_BYTES_MAX: usize = 32 << 20;
/// Rows of an answer that are compared.
const ROWS_MAX: usize = 100_000;
/// Broken answers that are told one by one.
const EXAMPLES_MAX: usize = 100;

/// Where the candidate is, and how much it is asked.
#[derive(Clone, Debug)]
pub struct Ask {
    /// `http://HOST:PORT`, perhaps with a path that goes before every recorded one.
    pub server: Uri,
    /// Questions to send at most.
    pub limit: u64,
}

/// What a candidate answered.
#[derive(Debug, Default, Serialize)]
pub struct Candidate {
    /// Where it was.
    pub server: String,
    /// Questions sent.
    pub asked: u64,
    /// Those whose answers could be compared with the recorded ones.
    pub compared: u64,
    /// Those that could not, by reason.
    pub not_compared: BTreeMap<String, u64>,
    /// Answers of the candidate that break their contract.
    pub breaks: u64,
    /// Recorded answers to the same questions that did.
    pub recorded_breaks: u64,
    /// The first broken answers of the candidate.
    pub broken: Vec<Broken>,
    /// The comparison, by model.
    pub models: BTreeMap<String, ModelShift>,
}

/// A broken answer.
#[derive(Clone, Debug, Serialize)]
pub struct Broken {
    /// The model.
    pub model: String,
    /// The recorded question.
    pub request: String,
    /// What is wrong, in a sentence.
    pub explanation: String,
    /// Whether the recorded answer was broken, too.
    pub recorded_too: bool,
}

/// How one model's answers differ.
#[derive(Debug, Default, Serialize)]
pub struct ModelShift {
    /// Questions whose answers were compared.
    pub questions: u64,
    /// Rows of them.
    pub rows: u64,
    /// Answers with another number of rows.
    pub other_row_counts: u64,
    /// How often both say the same label; nothing where the answers are no labels.
    pub labels: Option<Agreement>,
    /// How each numeric output moved.
    pub outputs: Vec<OutputShift>,
}

impl Candidate {
    /// How grave it is: a candidate that breaks its contract must not pass a gate.
    pub fn severity(&self) -> Option<Severity> {
        (self.breaks > 0).then_some(Severity::High)
    }
}

impl Ask {
    /// Reads `http://HOST:PORT[/PATH]`.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn new(url: &str, limit: u64) -> anyhow::Result<Self> {
        let server: Uri = url.parse().with_context(|| format!("{} is no URL", url.escape_debug()))?;
        if server.scheme_str() != Some("http") || server.authority().is_none() || server.query().is_some() {
            bail!(
                "{} is not of the form http://HOST:PORT; a candidate is asked over plain HTTP",
                url.escape_debug()
            );
        }
        Ok(Self { server, limit })
    }

    fn target(&self, path: &str) -> String {
        let authority = self.server.authority().map_or("", http::uri::Authority::as_str);
        format!("http://{authority}{}{path}", self.server.path().trim_end_matches('/'))
    }
}

/// A recorded question with its recorded answer.
struct Pair {
    asked: Asked,
    answered: Answered,
}

/// What came back.
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// Asks the candidate what was asked in `recordings`, read as `translation` carries it over, and compares.
///
/// # Errors
/// When the recordings do not read back.
pub fn compare(
    ask: &Ask,
    mut recordings: Recordings,
    plan: &Plan,
    mut translation: Option<Translation>,
    progress: &dyn Progress,
) -> anyhow::Result<Candidate> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = http_client();
    let mut comparing = Comparing::new(ask, plan);
    let mut pairs = Pairs::default();
    progress.begin("candidate", ask.limit);
    while comparing.candidate.asked < ask.limit {
        let room = usize::try_from(ask.limit - comparing.candidate.asked).unwrap_or(AT_ONCE).min(AT_ONCE);
        let batch = pairs.next(room, &mut recordings, translation.as_mut())?;
        if batch.is_empty() {
            break;
        }
        let replies = runtime.block_on(join_all(batch.iter().map(|pair| send(ask, &client, &pair.asked))));
        for (pair, reply) in batch.iter().zip(replies) {
            comparing.take(pair, reply);
        }
        progress.at(comparing.candidate.asked);
    }
    Ok(comparing.finish())
}

/// Joins recorded questions and answers.
#[derive(Default)]
struct Pairs {
    open: BTreeMap<u64, Asked>,
}

impl Pairs {
    /// The next questions that can be asked again: whole, admitted, and answered with a prediction.
    fn next(
        &mut self,
        count: usize,
        recordings: &mut Recordings,
        mut translation: Option<&mut Translation>,
    ) -> anyhow::Result<Vec<Pair>> {
        let mut pairs = Vec::new();
        while pairs.len() < count
            && let Some(entry) = recordings.next_entry()?
        {
            let entry = match &mut translation {
                Some(translation) => translation.entry(entry),
                None => Some(entry),
            };
            pairs.extend(entry.and_then(|entry| self.join(entry)));
        }
        Ok(pairs)
    }

    fn join(&mut self, entry: Entry) -> Option<Pair> {
        match entry {
            Entry::Asked(asked) if asked.admission == Admission::Admitted && asked.body.held() > 0 => {
                if self.open.len() >= OPEN_MAX {
                    self.open.pop_first();
                }
                self.open.insert(asked.id, asked);
                None
            }
            Entry::Answered(answered) => {
                let asked = self.open.remove(&answered.id)?;
                (200..300).contains(&answered.status).then_some(Pair { asked, answered })
            }
            Entry::Asked(_)
            | Entry::Lift(_)
            | Entry::Plan(_)
            | Entry::Approve(_)
            | Entry::Reject(_)
            | Entry::Promote(_)
            | Entry::Remember(_)
            | Entry::Settle(_)
            | Entry::Install(_) => None,
        }
    }
}

async fn send(
    ask: &Ask,
    client: &Client<HttpConnector, Full<Bytes>>,
    asked: &Asked,
) -> Result<Reply, &'static str> {
    let body = match &asked.body {
        Body::Whole(bytes) => bytes.clone(),
        Body::Not(_) => return Err("not_recorded"),
    };
    let request = Request::post(ask.target(&asked.path)).body(Full::new(body));
    let mut request = request.map_err(|_| "odd_path")?;
    *request.headers_mut() = kept_headers(&asked.headers);
    let answer = async {
        let response = client.request(request).await.map_err(|_| "no_answer")?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|_| "cut_or_too_long")?;
        Ok(Reply { status: head.status, headers: head.headers, body: body.to_bytes() })
    };
    tokio::time::timeout(PATIENCE, answer).await.unwrap_or(Err("too_late"))
}

struct Comparing<'a> {
    plan: &'a Plan,
    configured: BTreeMap<Option<u16>, Option<Box<dyn Decoder>>>,
    defaults: Vec<Option<Box<dyn Decoder>>>,
    shifts: BTreeMap<String, Shift>,
    candidate: Candidate,
}

impl<'a> Comparing<'a> {
    fn new(ask: &Ask, plan: &'a Plan) -> Self {
        let ids = plan.models.keys().map(|id| Some(*id)).chain([None]);
        let decoder = |id: Option<u16>| {
            let (name, parameters) = plan.model(id)?.protocol.as_ref()?;
            (decode::spec(name)?.build)(parameters).ok()
        };
        Self {
            plan,
            configured: ids.map(|id| (id, decoder(id))).collect(),
            defaults: decode::defaults(),
            shifts: BTreeMap::new(),
            candidate: Candidate { server: ask.server.to_string(), ..Candidate::default() },
        }
    }

    fn take(&mut self, pair: &Pair, reply: Result<Reply, &'static str>) {
        self.candidate.asked += 1;
        match self.read(pair, reply) {
            Ok((recorded, candidate)) => {
                self.candidate.compared += 1;
                let name = self.name(&pair.asked);
                self.judge(pair, &name, &recorded, &candidate);
                self.shifts.entry(name).or_default().take(&recorded, &candidate);
            }
            Err(reason) => *self.candidate.not_compared.entry(reason).or_default() += 1,
        }
    }

    /// Both answers, or why one of them cannot be compared.
    fn read(&self, pair: &Pair, reply: Result<Reply, &'static str>) -> Result<(Features, Features), String> {
        let reply = reply.map_err(|reason| format!("candidate: {reason}"))?;
        if !reply.status.is_success() {
            return Err(format!("candidate: status {}", reply.status.as_u16()));
        }
        let recorded = match &pair.answered.body {
            Body::Whole(body) => self.decode(&pair.asked, &kept_headers(&pair.answered.headers), body),
            Body::Not(reason) => Err(*reason),
        };
        let recorded = recorded.map_err(|reason| format!("recorded: {}", reason.as_str()))?;
        let candidate = self.decode(&pair.asked, &reply.headers, &reply.body);
        Ok((recorded, candidate.map_err(|reason| format!("candidate: {}", reason.as_str()))?))
    }

    fn decode(&self, asked: &Asked, headers: &HeaderMap, body: &[u8]) -> Result<Features, NotInspected> {
        let configured = self.configured.get(&asked.model).and_then(Option::as_deref);
        let decoder = decode::chosen(configured, &self.defaults, asked.protocol);
        let decoder = decoder.ok_or(NotInspected::UnknownProtocol)?;
        let columns_max = self.plan.limits.columns;
        let head = Head { headers, part: Part::Answer, rows_max: ROWS_MAX, columns_max };
        let mut features = Features::default();
        decoder.decode(&head, body, &mut features)?;
        Ok(features)
    }

    fn name(&self, asked: &Asked) -> String {
        let configured = asked.model.and_then(|id| self.plan.models.get(&id));
        configured.map_or_else(|| asked.name.clone(), |model| model.name.clone())
    }

    fn judge(&mut self, pair: &Pair, name: &str, recorded: &Features, candidate: &Features) {
        let Some(model) = self.plan.model(pair.asked.model) else { return };
        let was_broken = !violations(model, recorded).is_empty();
        self.candidate.recorded_breaks += u64::from(was_broken);
        let violations = violations(model, candidate);
        let Some(Violation { row, output, found, expected, .. }) = violations.first() else { return };
        self.candidate.breaks += 1;
        if self.candidate.broken.len() < EXAMPLES_MAX {
            self.candidate.broken.push(Broken {
                model: name.to_owned(),
                request: checkgate_detectors::finding::request_id(pair.asked.id),
                explanation: format!(
                    "The candidate answers {found} in output {output:?} of row {row}, where the contract asks for \
                     {expected}."
                ),
                recorded_too: was_broken,
            });
        }
    }

    fn finish(self) -> Candidate {
        let models = self.shifts.into_iter().map(|(name, shift)| (name, shift.finish()));
        Candidate { models: models.collect(), ..self.candidate }
    }
}

fn violations(model: &ModelPlan, answer: &Features) -> Vec<Violation> {
    let mut violations = Vec::new();
    model.contract.judge(answer, &mut violations);
    violations
}
