//! Who may decide or ask from outside, and how they prove who they are.

use super::Check;
use super::listeners::overlap;
use crate::path::Path;
use crate::raw::{Raw, RawInbound, RawInboundFields};
use crate::settings::{Authz, Inbound, InboundAction, InboundFields, InboundShape, Listen, Mode, Secret};
use crate::words;

/// Endpoints of one process.
const ENDPOINTS_MAX: usize = 64;
/// Secrets of one endpoint: one that holds, one that comes, and room for a mistake.
const SECRETS_MAX: usize = 4;
/// Letters of a secret in a path or header.
const SECRET_LENGTH: std::ops::RangeInclusive<usize> = 24..=256;
/// Letters of a JSON pointer.
const POINTER_MAX: usize = 256;

impl Check<'_> {
    /// Where other proxies ask.
    pub(super) fn authz(&mut self, raw: &Raw) -> Option<Authz> {
        let requests_per_minute = raw.policy.as_ref().and_then(|policy| policy.requests_per_minute)?;
        let enforces = raw.mode == Some(Mode::Enforce);
        let Some(typed) = &raw.authz else {
            return Some(Authz { listen: Vec::new(), enforces, requests_per_minute });
        };
        let path = Path::dotted("authz.listen");
        let Some(listen) = &typed.listen else {
            self.refuse_key(&Path::dotted("authz"), "has no listen; add \"listen: 127.0.0.1:8767\"");
            return None;
        };
        let listen = self.listen_at(&path, listen)?;
        let taken = |one: &&Listen| self.listeners.iter().any(|other| overlap(one, other));
        if listen.iter().any(|one| taken(&one)) {
            self.refuse(
                &path,
                "another listener of this process is here already; give this one a place of its own",
            );
        }
        let trusted = raw.clients.as_ref().and_then(|clients| clients.trusted_proxies.as_ref());
        if trusted.is_none_or(Vec::is_empty) {
            self.refuse(
                &path,
                "nobody who asks there is believed, so that the proxies themselves would be judged; name them under clients.trusted_proxies",
            );
        }
        self.listeners.extend(listen.iter().cloned());
        Some(Authz { listen, enforces, requests_per_minute })
    }

    /// The endpoints at which other systems decide.
    pub(super) fn inbound(&mut self, raw: &Raw) -> Option<Vec<Inbound>> {
        let typed = raw.inbound.as_deref().unwrap_or_default();
        let list = Path::dotted("inbound");
        if typed.len() > ENDPOINTS_MAX {
            self.refuse_key(
                &list,
                format!("more than {ENDPOINTS_MAX} endpoints; remove those that nobody uses"),
            );
            return None;
        }
        let known = (raw.upstream.is_none()).then(|| {
            let models = raw.models.as_deref().unwrap_or_default();
            models.iter().filter_map(|model| model.name.as_deref()).collect::<Vec<_>>()
        });
        let endpoints: Vec<_> = typed
            .iter()
            .enumerate()
            .map(|(index, one)| self.endpoint(&list.index(index), one, known.as_deref()))
            .collect();
        let endpoints = endpoints.into_iter().collect::<Option<Vec<_>>>()?;
        self.once(&list, &endpoints.iter().map(|one| one.name.as_str()).collect::<Vec<_>>());
        self.signed_for_one(&list, &endpoints);
        Some(endpoints)
    }

    /// A signature does not say for which endpoint it was made: with one secret for two, a message to the one could be
    /// sent to the other.
    fn signed_for_one(&mut self, list: &Path, endpoints: &[Inbound]) {
        let signed = |one: &&Inbound| one.shape == InboundShape::Webhook;
        for (index, endpoint) in endpoints.iter().enumerate().filter(|(_, one)| signed(one)) {
            let earlier = endpoints.iter().take(index).filter(signed);
            let shares = |other: &Inbound| endpoint.secrets.iter().any(|one| other.secrets.contains(one));
            if let Some(other) = earlier.into_iter().find(|other| shares(other)) {
                let message =
                    format!("is signed with a secret of \"{}\"; give each endpoint its own", other.name);
                self.refuse_key(&list.index(index), message);
            }
        }
    }

    fn endpoint(&mut self, path: &Path, typed: &RawInbound, known: Option<&[&str]>) -> Option<Inbound> {
        let name = self.actor_name(path, "an endpoint's name", typed.name.as_deref());
        let shape = typed.shape;
        if shape.is_none() {
            self.refuse_key(
                path,
                "has no shape; add \"shape: splunk\", or alertmanager, sentinel or webhook",
            );
        }
        let secrets = self.inbound_secrets(path, typed, shape?);
        let actions = self.actions(path, typed.actions.as_deref().unwrap_or_default());
        let models = self.inbound_models(&path.key("models"), typed.models.as_deref(), known);
        let fields = self.pointers(&path.key("fields"), typed.fields.as_ref(), shape?);
        let (lasts, at_most) = (typed.lasts?.0, typed.at_most?.0);
        let both = self.was_typed(&path.key("lasts")) && self.was_typed(&path.key("at_most"));
        if both && lasts > at_most {
            self.refuse(&path.key("lasts"), "longer than at_most; lower lasts or raise at_most");
        }
        Some(Inbound {
            name: name?,
            shape: shape?,
            secrets: secrets?,
            actions: actions?,
            models: models?,
            lasts: lasts.min(at_most),
            at_most,
            fields: fields?,
        })
    }

    fn inbound_secrets(
        &mut self,
        path: &Path,
        typed: &RawInbound,
        shape: InboundShape,
    ) -> Option<Vec<Secret>> {
        let secrets = typed.secrets.as_deref().unwrap_or_default();
        if !(1..=SECRETS_MAX).contains(&secrets.len()) {
            self.refuse_key(
                path,
                format!("needs 1 to {SECRETS_MAX} secrets; add \"secrets: [\"${{NAME}}\"]\" for an environment variable NAME, or \"secrets: [{{file: PATH}}]\""),
            );
            return None;
        }
        let mut sound = Vec::new();
        for (index, secret) in secrets.iter().enumerate() {
            let place = path.key("secrets").index(index);
            let text = self.secret_at(&place, secret);
            sound.push(text.and_then(|text| self.sound_secret(&place, text, shape)));
        }
        sound.into_iter().collect()
    }

    fn sound_secret(&mut self, path: &Path, text: String, shape: InboundShape) -> Option<Secret> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._~-".contains(c);
        let (sound, wanted) = match shape {
            InboundShape::Webhook => (
                Secret::new(text.clone()).signing_key().is_some(),
                "a signing secret is \"whsec_\" and the Base64 of 24 to 64 bytes; `echo whsec_$(openssl rand -base64 32)` makes one",
            ),
            _ => (
                SECRET_LENGTH.contains(&text.len()) && text.chars().all(plain),
                "a secret is 24 to 256 letters, digits, \".\", \"_\", \"-\" or \"~\"; `openssl rand -hex 32` makes one",
            ),
        };
        if !sound {
            self.refuse(path, wanted);
        }
        sound.then(|| Secret::new(text))
    }

    fn actions(&mut self, path: &Path, typed: &[InboundAction]) -> Option<Vec<InboundAction>> {
        if typed.is_empty() {
            self.refuse_key(path, "may ask for nothing; add \"actions: [approve, reject]\", or ban or lift");
            return None;
        }
        let mut actions = Vec::new();
        for action in typed {
            if !actions.contains(action) {
                actions.push(*action);
            }
        }
        Some(actions)
    }

    fn inbound_models(
        &mut self,
        path: &Path,
        typed: Option<&[String]>,
        known: Option<&[&str]>,
    ) -> Option<Vec<String>> {
        let Some(typed) = typed else { return Some(Vec::new()) };
        if typed.is_empty() {
            self.refuse_key(
                path,
                "names no model, so nothing could be asked for; name one, or leave it out for all",
            );
            return None;
        }
        for (index, model) in typed.iter().enumerate() {
            if let Some(known) = known.filter(|known| !known.contains(&model.as_str())) {
                self.refuse(&path.index(index), words::unknown("model", model, known));
            }
        }
        Some(typed.to_vec())
    }

    fn pointers(
        &mut self,
        path: &Path,
        typed: Option<&RawInboundFields>,
        shape: InboundShape,
    ) -> Option<InboundFields> {
        let mut fields = usual_fields(shape);
        let Some(typed) = typed else { return Some(fields) };
        let chosen = [
            ("client", &typed.client, &mut fields.client),
            ("decision_id", &typed.decision_id, &mut fields.decision_id),
            ("action", &typed.action, &mut fields.action),
            ("seconds", &typed.seconds, &mut fields.seconds),
            ("model", &typed.model, &mut fields.model),
            ("why", &typed.why, &mut fields.why),
        ];
        let mut sound = true;
        for (key, typed, field) in chosen {
            let Some(pointer) = typed else { continue };
            if !pointer.starts_with('/') || pointer.len() > POINTER_MAX || pointer.contains(char::is_control)
            {
                self.refuse(
                    &path.key(key),
                    "a JSON pointer begins with \"/\" and has at most 256 letters; write for example /result/src",
                );
                sound = false;
            }
            *field = vec![pointer.clone()];
        }
        sound.then_some(fields)
    }
}

/// Where a body of this shape says what, unless the operator says otherwise.
fn usual_fields(shape: InboundShape) -> InboundFields {
    let of = |pointers: &[&str]| pointers.iter().map(|pointer| (*pointer).to_owned()).collect();
    match shape {
        InboundShape::Splunk => InboundFields {
            client: of(&["/result/client", "/result/src", "/result/src_ip"]),
            decision_id: of(&["/result/decision_id"]),
            // A field `action` of an event says what was done to it, not what is asked for.
            action: of(&["/result/checkgate_action"]),
            seconds: of(&["/result/checkgate_seconds"]),
            model: of(&["/result/model"]),
            why: of(&["/result/checkgate_why", "/search_name"]),
        },
        InboundShape::Alertmanager => InboundFields {
            client: of(&["/labels/client"]),
            decision_id: of(&["/labels/decision_id"]),
            action: of(&["/labels/checkgate_action"]),
            seconds: of(&["/annotations/checkgate_seconds"]),
            model: of(&["/labels/model"]),
            why: of(&["/annotations/summary", "/labels/alertname"]),
        },
        InboundShape::Sentinel => fields_below(""),
        InboundShape::Webhook => fields_below("/data"),
    }
}

fn fields_below(root: &str) -> InboundFields {
    let of = |key: &str| vec![format!("{root}/{key}")];
    InboundFields {
        client: of("client"),
        decision_id: of("decision_id"),
        action: of("action"),
        seconds: of("seconds"),
        model: of("model"),
        why: of("why"),
    }
}
