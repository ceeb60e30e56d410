//! Which model a request is for: by the operator's path, or by the name that its protocol finds in the path.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use checkgate_config::settings::{Hold, Mode, Model, OnError, OnViolation, Policy, Settings};
use checkgate_detectors::contract::Contract;
use http::Method;

use crate::decode::{self, Claim, DECODERS, Decoder};
use crate::plan::ModelIds;
use crate::upstream::{Pool, Upstreams};

/// What holds for the requests of one model.
pub struct Guard {
    /// The model's name in the configuration.
    pub name: Arc<str>,
    /// The configured path that claims its requests.
    pub path: Option<Arc<str>>,
    /// Where its requests go.
    pub upstream: Arc<Pool>,
    /// Bytes of a request body.
    pub body_bytes_max: u64,
    /// Whether decisions are acted on.
    pub enforces: bool,
    /// What waits for a verdict.
    pub hold: Hold,
    /// How long the refusal of a question for what it holds seems to last: as a first block does.
    pub refuses_for: Duration,
    /// What is done to a client that is not blocked, and how far.
    pub policy: Policy,
    /// What its answers must keep.
    pub contract: Contract,
    /// What happens to an answer that breaks it.
    pub on_violation: OnViolation,
    /// What happens to an answer that cannot be judged.
    pub on_error: OnError,
    /// The configured decoder; without one, the decoder that claims the request.
    decoder: Option<Box<dyn Decoder>>,
}

impl Guard {
    /// Whether answers are held for the contract. In `observe` nothing is ever held.
    pub fn holds_answers(&self) -> bool {
        self.enforces && self.hold == Hold::Answer
    }

    /// Whether questions are held for the lane's verdict.
    pub fn holds_questions(&self) -> bool {
        self.enforces && self.hold == Hold::Question
    }

    fn new(model: &Model, upstream: Option<&Arc<Pool>>) -> anyhow::Result<Self> {
        let contract = serde_json::from_value(model.contract.parameters.clone());
        let decoder = model.protocol.as_ref().map(|chosen| {
            let spec = decode::spec(&chosen.name).context("unknown protocol")?;
            (spec.build)(&chosen.parameters).map_err(anyhow::Error::from)
        });
        Ok(Self {
            name: model.name.as_str().into(),
            path: model.path.as_deref().map(Into::into),
            upstream: upstream.cloned().context("a model without servers")?,
            body_bytes_max: model.body_bytes,
            enforces: model.mode == Mode::Enforce,
            hold: model.hold,
            refuses_for: model.block_for.first().copied().unwrap_or_default(),
            policy: model.policy.clone(),
            contract: contract.with_context(|| format!("contract of model {:?}", model.name))?,
            on_violation: model.contract.on_violation.clone(),
            on_error: model.contract.on_error,
            decoder: decoder.transpose().with_context(|| format!("protocol of model {:?}", model.name))?,
        })
    }
}

/// Where a request goes, and as what.
#[derive(Clone)]
pub struct Route {
    /// The configured model that claims it, by id.
    pub model: Option<u16>,
    /// The protocol that claims it, by position in the list of decoders.
    pub protocol: Option<u8>,
    /// The model's name as the path gives it; empty where it is configured.
    name: String,
    /// Whether it carries a question that is looked into.
    pub inspected: bool,
    /// What holds for it.
    pub guard: Arc<Guard>,
}

impl Route {
    /// Whether neither a model nor a protocol claims the request.
    pub fn is_unknown(&self) -> bool {
        self.model.is_none() && self.protocol.is_none()
    }

    /// The model as decisions name it: as it is configured, or as it would be discovered.
    pub fn named(&self) -> Arc<str> {
        if self.model.is_some() { Arc::clone(&self.guard.name) } else { self.name.as_str().into() }
    }

    /// The same, for a look.
    pub fn model_name(&self) -> &str {
        if self.model.is_some() { &self.guard.name } else { &self.name }
    }

    /// The decoder of its bodies.
    pub fn decoder<'a>(&'a self, defaults: &'a [Option<Box<dyn Decoder>>]) -> Option<&'a dyn Decoder> {
        decode::chosen(self.guard.decoder.as_deref(), defaults, self.protocol)
    }
}

/// A configured model as requests find it.
struct Entry {
    id: u16,
    name: String,
    path: Option<String>,
    /// Position of its configured protocol.
    protocol: Option<u8>,
    guard: Arc<Guard>,
}

/// All models, as requests find them.
pub struct Routes {
    /// Those with a path come first, the longest path before the shorter.
    entries: Vec<Entry>,
    unclaimed: Option<Arc<Guard>>,
}

impl Routes {
    /// The routes that `settings` ask for, to the servers that were made of the same settings.
    ///
    /// # Errors
    /// When a checked setting turns out not to hold after all.
    pub fn new(settings: &Settings, ids: &ModelIds, upstreams: &Upstreams) -> anyhow::Result<Self> {
        let entry = |model: &Model| {
            anyhow::Ok(Entry {
                id: ids.get(&model.name).context("a model without an id")?,
                name: model.name.clone(),
                path: model.path.as_deref().map(|path| canonical(path).into_owned()),
                protocol: model.protocol.as_ref().and_then(|chosen| position(&chosen.name)),
                guard: Arc::new(Guard::new(model, upstreams.of(model))?),
            })
        };
        let mut entries = settings.models.iter().map(entry).collect::<anyhow::Result<Vec<_>>>()?;
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.path.as_ref().map_or(0, String::len)));
        let guard = |model: &Model| Guard::new(model, upstreams.of(model)).map(Arc::new);
        let unclaimed = settings.unclaimed.as_ref().map(guard).transpose()?;
        Ok(Self { entries, unclaimed })
    }

    /// Where a request goes; `None` where nobody serves its path.
    pub fn find(&self, method: &Method, path: &str) -> Option<Route> {
        let path = canonical(path);
        let claim = decode::claim(method, &path);
        let by_path = self
            .entries
            .iter()
            .find(|entry| entry.path.as_deref().is_some_and(|prefix| is_below(&path, prefix)));
        if let Some(entry) = by_path.or_else(|| self.by_claim(claim.as_ref())) {
            return Some(entry.route(method, claim.as_ref()));
        }
        let guard = self.unclaimed.clone().or_else(|| self.common_upstream(method))?;
        let (protocol, name) = match claim {
            Some((protocol, claim)) => {
                (Some(protocol), claim.model.unwrap_or(DECODERS[usize::from(protocol)].name))
            }
            None => (None, ""),
        };
        // A question that no protocol claims is counted as not inspected.
        let inspected = self.unclaimed.is_some() && (protocol.is_some() || asks(method));
        Some(Route { model: None, protocol, name: name.to_owned(), inspected, guard })
    }

    /// The model that goes by the claimed name; or, where the protocol knows no names, the model of that protocol.
    fn by_claim(&self, claim: Option<&(u8, Claim<'_>)>) -> Option<&Entry> {
        let (protocol, claim) = claim?;
        self.entries.iter().filter(|entry| entry.path.is_none()).find(|entry| match claim.model {
            Some(name) => entry.name == name && entry.protocol.is_none_or(|own| own == *protocol),
            None => entry.protocol == Some(*protocol),
        })
    }

    /// Health checks and metadata go to the upstream that all models share, where there is one. Nothing else does:
    /// many servers answer to a model by a second path, and a question there would go around its guard.
    fn common_upstream(&self, method: &Method) -> Option<Arc<Guard>> {
        if asks(method) {
            return None;
        }
        let (first, rest) = self.entries.split_first()?;
        let shared = rest.iter().all(|entry| entry.guard.upstream == first.guard.upstream);
        shared.then(|| Arc::clone(&first.guard))
    }
}

impl Entry {
    fn route(&self, method: &Method, claim: Option<&(u8, Claim<'_>)>) -> Route {
        let protocol = self.protocol.or(claim.map(|(protocol, _)| *protocol));
        Route {
            model: Some(self.id),
            protocol,
            name: String::new(),
            inspected: claim.is_some() || asks(method),
            guard: Arc::clone(&self.guard),
        }
    }
}

/// Whether a request of this method may ask a model something: all that are not safe (RFC 9110, 9.2.1).
fn asks(method: &Method) -> bool {
    !method.is_safe()
}

fn position(name: &str) -> Option<u8> {
    DECODERS.iter().zip(0..).find(|(spec, _)| spec.name == name).map(|(_, position)| position)
}

fn is_below(path: &str, prefix: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The one form of a path that routes are looked up by: percent-encoding undone, empty and dot segments resolved
/// (RFC 3986, 5.2.4 and 6.2.2). The upstream reads `/v2/models/pric%69ng/infer` as the guarded model's path, so the
/// guard must as well. What is forwarded stays as it came.
pub fn canonical(path: &str) -> Cow<'_, str> {
    if is_canonical(path.as_bytes()) {
        return Cow::Borrowed(path);
    }
    let decoded = percent_decoded(path).replace('\\', "/");
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded.split('/') {
        let segment = segment.split(';').next().unwrap_or("");
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    Cow::Owned(format!("/{}", segments.join("/")))
}

/// Whether nothing is to be undone in `path`: nothing is encoded, and every segment begins like a name. Each request is
/// asked for this, so its path is walked once.
fn is_canonical(path: &[u8]) -> bool {
    let mut before = 0;
    let plain = path.iter().all(|byte| {
        let begins = std::mem::replace(&mut before, *byte) == b'/';
        let undone = matches!(byte, b'%' | b';' | b'\\') || (begins && matches!(byte, b'/' | b'.'));
        !undone
    });
    plain && (path.len() == 1 || before != b'/')
}

fn percent_decoded(path: &str) -> String {
    let mut bytes = path.bytes();
    let mut decoded = Vec::with_capacity(path.len());
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let digits = (byte == b'%').then(|| Some(hex(ahead.next()?)? << 4 | hex(ahead.next()?)?)).flatten();
        if digits.is_some() {
            bytes = ahead;
        }
        decoded.push(digits.unwrap_or(byte));
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_path_is_one_path() {
        for spelling in [
            "/v2/models/pricing/infer",
            "/v2/models/pric%69ng/infer",
            "//v2/models//pricing/infer",
            "/v2/models/pricing/infer/",
            "/v2/./models/other/../pricing/infer",
            "/v2/models/pricing;v=1/infer",
            "/v2/models/other/%2e%2e/pricing/infer",
        ] {
            assert_eq!(canonical(spelling), "/v2/models/pricing/infer", "{spelling}");
        }
        assert_eq!(canonical("/"), "/");
        assert_eq!(canonical("/a%zz%4"), "/a%zz%4", "a broken escape stays as it is");
        assert_eq!(canonical("/.."), "/");
    }

    #[test]
    fn a_prefix_ends_at_a_segment() {
        assert!(is_below("/models/a", "/models/a"));
        assert!(is_below("/models/a/infer", "/models/a/"));
        assert!(!is_below("/models/ab", "/models/a"));
        assert!(is_below("/anything", "/"));
    }
}
