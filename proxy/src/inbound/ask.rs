//! From a body to what it asks for. Whatever cannot be read is a fault with its place in the body and its mend.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use checkgate_config::settings::{self, InboundAction, InboundShape};
use checkgate_detectors::finding::DecisionId;
use checkgate_detectors::identity::Identity;
use http::StatusCode;
use serde_json::Value;

use super::hash;
use crate::identity;
use crate::told;

/// Things that one body may ask for.
pub const ASKS_MAX: usize = 64;
/// Letters of a sender's own id.
const ID_MAX: usize = 256;
/// Letters of a reason; the rest is cut.
const WHY_MAX: usize = 500;
/// The longest that may be asked for, in seconds: the longest decision by hand.
const SECONDS_MAX: f64 = 31_622_400.0;
/// The version of Alertmanager's webhook that is read.
const ALERTMANAGER_VERSION: &str = "4";
/// What stands for all models where a record names one.
const ALL_MODELS: &str = "all";

/// Something that is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// What it is remembered by: the sender's own id, and whether it opens or closes.
    pub key: String,
    /// The sender's own id.
    pub id: Arc<str>,
    /// What this closes, so that it does nothing where it comes later.
    pub closes: Option<String>,
    /// What is asked for.
    pub wish: Wish,
    /// The client that it is about.
    pub client: Option<Identity>,
    /// The decision that it is about.
    pub decision: Option<DecisionId>,
    /// How long a ban is to last, where it says so.
    pub lasts: Option<Duration>,
    /// The model that a ban is about.
    pub model: Option<String>,
    /// The sender's words.
    pub why: String,
    /// Its place in the body, as a JSON pointer.
    pub at: String,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// One of the actions that an endpoint may be allowed.
    Act(InboundAction),
    /// What was asked for earlier under the same id no longer holds.
    Resolved,
}

impl Wish {
    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Act(action) => action.as_str(),
            Self::Resolved => "resolved",
        }
    }
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The status that it is answered with.
    pub status: StatusCode,
    /// What is wrong.
    pub detail: String,
    /// Where in the body, as a JSON pointer; empty where it is about the body as a whole.
    pub at: String,
    /// What mends it.
    pub mend: Cow<'static, str>,
}

impl Fault {
    /// A fault of a body as a whole.
    pub fn new(status: StatusCode, detail: impl Into<String>, mend: impl Into<Cow<'static, str>>) -> Self {
        Self { status, detail: detail.into(), at: String::new(), mend: mend.into() }
    }

    /// A fault at a place in the body.
    pub fn at(
        at: &str,
        status: StatusCode,
        detail: impl Into<String>,
        mend: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { at: at.to_owned(), ..Self::new(status, detail, mend) }
    }

    /// What was sent is no such thing.
    fn unreadable(at: &str, detail: &str, mend: impl Into<Cow<'static, str>>) -> Self {
        Self::at(at, StatusCode::UNPROCESSABLE_ENTITY, detail, mend)
    }
}

/// What `body` asks an endpoint for; `signed_id` is the id under which it was signed.
///
/// # Errors
/// It asks for nothing at all, or is no such body.
pub fn read(
    endpoint: &settings::Inbound,
    signed_id: Option<&str>,
    body: &Value,
) -> Result<Vec<Result<Ask, Fault>>, Fault> {
    if !body.is_object() {
        return Err(Fault::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "the body is no JSON object",
            "send an object",
        ));
    }
    let reader = |item, at: &str| Reader { endpoint, item, at: at.to_owned() };
    match endpoint.shape {
        InboundShape::Alertmanager => alerts(endpoint, body),
        InboundShape::Splunk => {
            let id = splunk_id(body)?;
            Ok(vec![reader(body, "").ask(id, None, Wish::Act)])
        }
        InboundShape::Sentinel => {
            let mend = "let the playbook send its run, \"id\": \"@{workflow().run.name}\"";
            let id = reader(body, "").id("/id", mend)?;
            Ok(vec![reader(body, "").ask(id, None, Wish::Act)])
        }
        InboundShape::Webhook => {
            let id = signed_id.unwrap_or_default().to_owned();
            Ok(vec![reader(body, "").ask(id, None, Wish::Act)])
        }
    }
}

/// A search and its row: Splunk sends the first row of a search's result, and no id of the two together.
fn splunk_id(body: &Value) -> Result<String, Fault> {
    let sid = body.get("sid").and_then(Value::as_str).filter(|sid| !sid.is_empty());
    let sid = sid.ok_or_else(|| {
        Fault::unreadable("/sid", "sid is missing", "send what Splunk's webhook action sends")
    })?;
    let result = body.get("result").filter(|result| result.is_object());
    let mend = "let the search return one row for each client, with a field client, src or decision_id";
    let result = result.ok_or_else(|| Fault::unreadable("/result", "result is no object", mend))?;
    let row = hash(result.to_string().as_bytes());
    let row: String = hex::encode(row).chars().take(16).collect();
    let sid: String = sid.chars().take(ID_MAX / 2).collect();
    Ok(format!("{}/{row}", told::replaced(&sid)))
}

fn alerts(endpoint: &settings::Inbound, body: &Value) -> Result<Vec<Result<Ask, Fault>>, Fault> {
    if body.get("version").and_then(Value::as_str) != Some(ALERTMANAGER_VERSION) {
        let detail = "version is not \"4\", the one that is read here";
        return Err(Fault::unreadable("/version", detail, "send the webhook of Alertmanager 0.16 or later"));
    }
    let Some(alerts) = body.get("alerts").and_then(Value::as_array).filter(|alerts| !alerts.is_empty())
    else {
        return Err(Fault::unreadable(
            "/alerts",
            "there are no alerts",
            "send a list with at least one alert",
        ));
    };
    if alerts.len() > ASKS_MAX {
        let detail = format!("{} alerts are more than {ASKS_MAX}", alerts.len());
        return Err(Fault::unreadable(
            "/alerts",
            &detail,
            "set `max_alerts: 64` in the receiver's webhook_configs",
        ));
    }
    let alert = |(index, item)| Reader { endpoint, item, at: format!("/alerts/{index}") }.alert();
    Ok(alerts.iter().enumerate().map(alert).collect())
}

/// Reads one part of a body.
struct Reader<'b> {
    endpoint: &'b settings::Inbound,
    item: &'b Value,
    at: String,
}

impl Reader<'_> {
    fn alert(&self) -> Result<Ask, Fault> {
        let mend = "send what Alertmanager sends";
        let (fingerprint, starts) = (self.id("/fingerprint", mend)?, self.id("/startsAt", mend)?);
        let id = format!("{fingerprint}/{starts}");
        match self.item.get("status").and_then(Value::as_str) {
            Some("firing") => self.ask(id, None, Wish::Act),
            Some("resolved") => {
                let closes = id.clone();
                self.ask(id, Some(closes), |_| Wish::Resolved)
            }
            _ => {
                Err(Fault::unreadable(&self.place("/status"), "status is neither firing nor resolved", mend))
            }
        }
    }

    fn ask(
        &self,
        id: String,
        closes: Option<String>,
        wish: impl FnOnce(InboundAction) -> Wish,
    ) -> Result<Ask, Fault> {
        let fields = &self.endpoint.fields;
        let wish = wish(self.action()?);
        let (client, decision) = (self.client()?, self.decision()?);
        if client.is_none() && decision.is_none() {
            let place = fields.client.first().map(|pointer| self.place(pointer)).unwrap_or_default();
            let mend = format!(
                "name whom it is about: a client at {}, or the id of a decision at {}",
                fields.client.join(" or "),
                fields.decision_id.join(" or "),
            );
            return Err(Fault::unreadable(&place, "neither a client nor a decision is named", mend));
        }
        let why = self.text(&fields.why)?.map(|(why, _)| why).unwrap_or_default();
        let model = self.text(&fields.model)?.map(|(model, _)| model).filter(|model| model != ALL_MODELS);
        Ok(Ask {
            key: if wish == Wish::Resolved { format!("resolved {id}") } else { id.clone() },
            id: id.into(),
            closes,
            wish,
            client,
            decision,
            lasts: self.seconds()?,
            model,
            why: told::replaced(&why).chars().take(WHY_MAX).collect(),
            at: self.at.clone(),
        })
    }

    /// What is asked for: what the body says, or the first of the allowed actions.
    fn action(&self) -> Result<InboundAction, Fault> {
        let usual = self.endpoint.actions.first().copied().unwrap_or(InboundAction::Approve);
        let Some((word, place)) = self.text(&self.endpoint.fields.action)? else { return Ok(usual) };
        let known = InboundAction::ALL.into_iter().find(|action| action.as_str() == word);
        known.ok_or_else(|| {
            Fault::unreadable(&place, "no such action is known", "write ban, lift, approve or reject")
        })
    }

    fn client(&self) -> Result<Option<Identity>, Fault> {
        let Some((text, place)) = self.text(&self.endpoint.fields.client)? else { return Ok(None) };
        let mend = "write an address, a network by its first address such as 192.0.2.0/24, or key: and 16 hexadecimal digits";
        identity::written(&text).map(Some).ok_or_else(|| Fault::unreadable(&place, "this is no client", mend))
    }

    fn decision(&self) -> Result<Option<DecisionId>, Fault> {
        let Some((text, place)) = self.text(&self.endpoint.fields.decision_id)? else { return Ok(None) };
        let mend = "a decision id is \"d-\" and 16 hexadecimal digits in lower case";
        let written = text.parse().ok().filter(|id: &DecisionId| id.to_string() == text);
        written.map(Some).ok_or_else(|| Fault::unreadable(&place, "this is no id of a decision", mend))
    }

    fn seconds(&self) -> Result<Option<Duration>, Fault> {
        let Some((text, place)) = self.text(&self.endpoint.fields.seconds)? else { return Ok(None) };
        let seconds = text.trim().parse().ok().filter(|seconds: &f64| (1.0..=SECONDS_MAX).contains(seconds));
        let mend = "write a number of seconds from 1 to 31622400";
        let lasts = seconds.map(|seconds| Some(Duration::from_secs(seconds as u64)));
        lasts.ok_or_else(|| Fault::unreadable(&place, "this is no time in seconds", mend))
    }

    /// An id that must be there.
    fn id(&self, pointer: &str, mend: &'static str) -> Result<String, Fault> {
        let place = self.place(pointer);
        let id = self.item.pointer(pointer).and_then(Value::as_str).filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| Fault::unreadable(&place, "the sender's own id is missing", mend))?;
        if id.chars().count() > ID_MAX {
            return Err(Fault::unreadable(&place, "the sender's own id is longer than 256 letters", mend));
        }
        Ok(told::replaced(id))
    }

    /// The first of `pointers` at which something stands, as text, and its place.
    fn text(&self, pointers: &[String]) -> Result<Option<(String, String)>, Fault> {
        for pointer in pointers {
            let text = match self.item.pointer(pointer) {
                None | Some(Value::Null) => continue,
                Some(Value::String(text)) if text.is_empty() => continue,
                Some(Value::String(text)) => text.clone(),
                Some(Value::Number(number)) => number.to_string(),
                Some(_) => {
                    let mend = "send one text or number there; in a search, mvindex(FIELD, 0) takes the first of several";
                    return Err(Fault::unreadable(
                        &self.place(pointer),
                        "this is neither a text nor a number",
                        mend,
                    ));
                }
            };
            return Ok(Some((text, self.place(pointer))));
        }
        Ok(None)
    }

    fn place(&self, pointer: &str) -> String {
        format!("{}{pointer}", self.at)
    }
}
