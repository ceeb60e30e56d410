//! Detectors, protocols and contracts: their names are checked here, their parameters by the parts themselves.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Check;
use super::models::inherited;
use crate::files;
use crate::parts::Part;
use crate::path::{Path, Step};
use crate::raw::{RawContract, RawDetector, RawDrift, RawDriftVersion, RawModel, RawOnViolation};
use crate::settings::{Chosen, Contract, DRIFT_VERSIONS_MAX, Drift, DriftVersion, OnViolation};
use crate::words;

impl Check<'_> {
    pub(super) fn protocol(
        &mut self,
        scope: &Path,
        own: &RawModel,
        shared: &RawModel,
    ) -> Option<Option<Chosen>> {
        let Some((typed, path)) =
            inherited(scope, "protocol", own.protocol.as_ref(), shared.protocol.as_ref())
        else {
            return Some(None);
        };
        let Some(part) = find(self.parts.protocols, &typed.name) else {
            let message = words::unknown("protocol", &typed.name, &names(self.parts.protocols));
            match typed.parameters {
                Some(_) => self.refuse_key(&path.key(&typed.name), message),
                None => self.refuse(&path, message),
            }
            return None;
        };
        let parameters = typed.parameters.clone().unwrap_or_default();
        let place = if typed.parameters.is_some() { path.key(&typed.name) } else { path };
        self.chosen(part, parameters, |_| place.clone()).map(Some)
    }

    pub(super) fn detectors(
        &mut self,
        scope: &Path,
        own: &RawModel,
        shared: &RawModel,
    ) -> Option<Vec<Chosen>> {
        let none = BTreeMap::new();
        let (own, shared) =
            (own.detectors.as_ref().unwrap_or(&none), shared.detectors.as_ref().unwrap_or(&none));
        self.known_detectors(scope, own);
        self.known_detectors(&Path::top(), shared);
        let parts = self.parts.detectors;
        let running: Vec<Option<Chosen>> = parts
            .iter()
            .filter(|part| match own.get(part.name).or(shared.get(part.name)) {
                Some(RawDetector::Switched(on)) => *on,
                Some(RawDetector::Parameters(_)) => true,
                None => part.runs,
            })
            .map(|part| self.detector(part, scope, own.get(part.name), shared.get(part.name)))
            .collect();
        running.into_iter().collect()
    }

    fn known_detectors(&mut self, scope: &Path, typed: &BTreeMap<String, RawDetector>) {
        for name in typed.keys().filter(|name| find(self.parts.detectors, name).is_none()) {
            let message = words::unknown("detector", name, &names(self.parts.detectors));
            self.refuse_key(&scope.key("detectors").key(name), message);
        }
    }

    /// A model's `on` takes the parameters that stand at the top level.
    fn detector(
        &mut self,
        part: &Part,
        scope: &Path,
        own: Option<&RawDetector>,
        shared: Option<&RawDetector>,
    ) -> Option<Chosen> {
        let at = |scope: &Path| scope.key("detectors").key(part.name);
        let (typed, place) = match (own, shared) {
            (Some(RawDetector::Parameters(own)), _) => (own.clone(), at(scope)),
            (_, Some(RawDetector::Parameters(shared))) => (shared.clone(), at(&Path::top())),
            _ => (Map::new(), at(scope)),
        };
        self.chosen(part, typed, |_| place.clone())
    }

    pub(super) fn contract(&mut self, scope: &Path, own: &RawModel, shared: &RawModel) -> Option<Contract> {
        let none = RawContract::default();
        let (own, shared) =
            (own.contract.as_ref().unwrap_or(&none), shared.contract.as_ref().unwrap_or(&none));
        let at = |scope: &Path| scope.key("contract");
        let mut parameters = shared.parameters.clone();
        parameters.extend(own.parameters.clone());
        let is_own = |key: Option<&String>| key.is_some_and(|key| own.parameters.contains_key(key));
        let chosen = self.chosen(&self.parts.contract.clone(), parameters, |key| {
            if is_own(key) { at(scope) } else { at(&Path::top()) }
        });
        let on_violation = match (&own.on_violation, &shared.on_violation) {
            (Some(own), _) => self.on_violation(&at(scope).key("on_violation"), own),
            (None, Some(shared)) => self.on_violation(&at(&Path::top()).key("on_violation"), shared),
            (None, None) => None,
        };
        Some(Contract {
            parameters: chosen?.parameters,
            on_violation: on_violation?,
            on_error: own.on_error.or(shared.on_error)?,
        })
    }

    /// How drift is watched; `Some(None)` where it is not.
    pub(super) fn drift(&mut self, scope: &Path, own: &RawModel, shared: &RawModel) -> Option<Option<Drift>> {
        let none = RawDrift::default();
        let (own, shared) = (own.drift.as_ref().unwrap_or(&none), shared.drift.as_ref().unwrap_or(&none));
        let at = |scope: &Path| scope.key("drift");
        if shared.reference.is_some() {
            let place = at(&Path::top()).key("reference");
            self.refuse(&place, "a reference is of one model; write it below an entry of models");
        }
        let mut parameters = shared.parameters.clone();
        parameters.extend(own.parameters.clone());
        let is_own = |key: Option<&String>| key.is_some_and(|key| own.parameters.contains_key(key));
        let chosen = self.chosen(&self.parts.drift.clone(), parameters, |key| {
            if is_own(key) { at(scope) } else { at(&Path::top()) }
        });
        let reference = self.reference(&at(scope).key("reference"), own.reference.as_deref());
        let (key, place) = match &own.reference_key {
            Some(key) => (Some(key), at(scope)),
            None => (shared.reference_key.as_ref(), at(&Path::top())),
        };
        let key = self.reference(&place.key("reference_key"), key.map(|key| &**key));
        let versions = self.versions(&at(scope), own, shared);
        if !own.on.or(shared.on).unwrap_or(true) {
            return Some(None);
        }
        let parameters = chosen?.parameters;
        Some(Some(Drift { parameters, reference: reference?, reference_key: key?, versions: versions? }))
    }

    /// The versions of a model that are watched apart.
    fn versions(&mut self, scope: &Path, own: &RawDrift, shared: &RawDrift) -> Option<Vec<DriftVersion>> {
        if shared.versions.is_some() {
            let place = Path::top().key("drift").key("versions");
            self.refuse(&place, "versions are of one model; write them below an entry of models");
        }
        let typed = own.versions.iter().flatten();
        if typed.clone().count() > DRIFT_VERSIONS_MAX {
            let mend =
                format!("at most {DRIFT_VERSIONS_MAX} versions of a model are watched apart; name fewer");
            self.refuse(&scope.key("versions"), &mend);
            return None;
        }
        let version = |(name, typed): (&String, &RawDriftVersion)| {
            let path = scope.key("versions").key(name);
            if name.is_empty() {
                self.refuse(&path, "a version has a name; write the one that the protocol gives it");
            }
            let reference = self.reference(&path.key("reference"), typed.reference.as_deref())?;
            Some(DriftVersion { name: name.clone(), reference })
        };
        // All of them, so that each mistake is told.
        typed.map(version).collect::<Vec<_>>().into_iter().collect()
    }

    fn on_violation(&mut self, path: &Path, typed: &RawOnViolation) -> Option<OnViolation> {
        match typed {
            RawOnViolation::Refuse => Some(OnViolation::Refuse),
            RawOnViolation::Clamp => Some(OnViolation::Clamp),
            RawOnViolation::Fallback(file) => {
                let path = path.key("fallback");
                let file = self.resolve(&path, file);
                self.or_refuse(&path, files::fallback(&file)).map(OnViolation::Fallback)
            }
        }
    }

    /// Lays `typed` over the part's defaults and lets the part judge. `place` tells where a first key was typed.
    pub(super) fn chosen(
        &mut self,
        part: &Part,
        typed: Map<String, Value>,
        place: impl Fn(Option<&String>) -> Path,
    ) -> Option<Chosen> {
        let mut parameters = (part.defaults)();
        match &mut parameters {
            Value::Object(parameters) => parameters.extend(typed),
            other => *other = Value::Object(typed),
        }
        match (part.check)(part.name, &parameters) {
            Ok(()) => Some(Chosen { name: part.name.to_owned(), parameters }),
            Err(error) => {
                let path = place(error.path.first()).keys(&error.path, self.whole);
                self.refuse_parameter(path, &error.message);
                None
            }
        }
    }

    /// A part may say what serde said; an unknown key is then shown itself, whether or not the path names it.
    fn refuse_parameter(&mut self, path: Path, message: &str) {
        match words::unknown_key(message) {
            Some(key) if path.0.last() != Some(&Step::Key(key.into())) => {
                self.refuse_key(&path.key(key), words::plain(message));
            }
            Some(_) => self.refuse_key(&path, words::plain(message)),
            None => self.refuse(&path, words::plain(message)),
        }
    }
}

pub(super) fn find<'a>(parts: &'a [Part], name: &str) -> Option<&'a Part> {
    parts.iter().find(|part| part.name == name)
}

pub(super) fn names(parts: &[Part]) -> Vec<&'static str> {
    parts.iter().map(|part| part.name).collect()
}
