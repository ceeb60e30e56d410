//! What is protected: the configured models, and the one that stands for all other traffic.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Check, TEXT_MAX};
use crate::files;
use crate::path::Path;

use crate::raw::{Raw, RawModel};
use crate::settings::Model;

/// Name under which models are counted that nobody configured.
const DISCOVERED: &str = "discovered";

/// Letters of a model's name.
const MODEL_NAME_MAX: usize = 64;

impl Check<'_> {
    pub(super) fn something_to_protect(&mut self, raw: &Raw) {
        if raw.upstream.is_none() && raw.models.as_deref().unwrap_or_default().is_empty() {
            self.refuse(
                &Path::top(),
                "nothing to protect: give upstream (http://host:port), or at least one entry of models",
            );
        }
    }

    /// The model that stands for all unclaimed traffic; `Some(None)` where there is none.
    pub(super) fn unclaimed(&mut self, shared: &RawModel) -> Option<Option<Model>> {
        if shared.upstream.is_none() {
            return Some(None);
        }
        let nothing = RawModel::default();
        self.model_at(&Path::top(), DISCOVERED.to_owned(), &nothing, shared).map(Some)
    }

    pub(super) fn models(&mut self, typed: &[RawModel], shared: &RawModel) -> Option<Vec<Model>> {
        let list = Path::dotted("models");
        self.distinct(typed, "name", |model| model.name.as_deref());
        self.distinct(typed, "path", |model| model.path.as_deref().map(without_last_slash));
        let models: Vec<Option<Model>> = typed
            .iter()
            .enumerate()
            .map(|(index, model)| self.model(&list.index(index), model, shared))
            .collect();
        models.into_iter().collect()
    }

    fn distinct<'m>(
        &mut self,
        models: &'m [RawModel],
        key: &str,
        value: impl Fn(&'m RawModel) -> Option<&'m str>,
    ) {
        let mut first = BTreeMap::new();
        for (index, model) in models.iter().enumerate() {
            let Some(value) = value(model) else { continue };
            let path = Path::dotted("models").index(index).key(key);
            if let Some(earlier) = first.insert(value, index) {
                self.refuse(
                    &path,
                    format!("models[{earlier}] has the {key} \"{value}\" already; each model needs its own"),
                );
            }
        }
    }

    fn model(&mut self, scope: &Path, own: &RawModel, shared: &RawModel) -> Option<Model> {
        let Some(name) = own.name.as_deref() else {
            self.refuse(scope, "a model needs a name; add \"name: ...\"");
            return None;
        };
        self.model_name(&scope.key("name"), name);
        if own.upstream.is_none() && shared.upstream.is_none() {
            self.refuse(scope, format!("the model \"{name}\" has no upstream; add \"upstream: http://host:port\" here or at the top level"));
        }
        self.model_at(scope, name.to_owned(), own, shared)
    }

    fn model_name(&mut self, path: &Path, name: &str) {
        if name == DISCOVERED {
            self.refuse(path, "this name stands for models found in the traffic; choose another");
        }
        let sound = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || name.len() > MODEL_NAME_MAX || !name.chars().all(sound) {
            self.refuse(path, "a model's name is 1 to 64 letters, digits, dots, underscores or hyphens");
        }
    }

    /// A model whose own settings stand at `scope`.
    fn model_at(&mut self, scope: &Path, name: String, own: &RawModel, shared: &RawModel) -> Option<Model> {
        let path = own.path.as_ref().map(|typed| self.path_prefix(&scope.key("path"), typed));
        let upstream = inherited(scope, "upstream", own.upstream.as_ref(), shared.upstream.as_ref())
            .and_then(|(typed, path)| self.upstream(&path, typed));
        let protocol = self.protocol(scope, own, shared);
        let contract = self.contract(scope, own, shared);
        let detectors = self.detectors(scope, own, shared);
        let drift = self.drift(scope, own, shared);
        let block_for = inherited(scope, "block_for", own.block_for.as_ref(), shared.block_for.as_ref())
            .and_then(|(typed, path)| self.ladder(&path, typed));
        let policy = self.policy(scope, own.policy.as_ref(), shared.policy.as_ref());
        let reference = self.reference(&scope.key("reference"), own.reference.as_deref());
        Some(Model {
            name,
            path,
            upstream: upstream?,
            body_bytes: own.body_bytes.or(shared.body_bytes)?.0,
            protocol: protocol?,
            mode: own.mode.or(shared.mode)?,
            hold: own.hold.or(shared.hold)?,
            contract: contract?,
            reference: reference?,
            detectors: detectors?,
            drift: drift?,
            policy: policy?,
            block_for: block_for?,
        })
    }

    fn path_prefix(&mut self, path: &Path, typed: &str) -> String {
        let sound = |c: char| c.is_ascii_graphic() && !"?#\\".contains(c);
        if !typed.starts_with('/') || typed.len() > TEXT_MAX || !typed.chars().all(sound) {
            self.refuse(
                path,
                "a path begins with \"/\" and has no query; write for example /v2/models/pricing",
            );
        }
        without_last_slash(typed).to_owned()
    }

    pub(super) fn reference(
        &mut self,
        path: &Path,
        typed: Option<&std::path::Path>,
    ) -> Option<Option<PathBuf>> {
        let Some(typed) = typed else { return Some(None) };
        let file = self.resolve(path, typed);
        self.or_refuse(path, files::must_exist(&file))?;
        Some(Some(file))
    }
}

/// The settings of the top level that hold for every model, as a model without a name.
pub(super) fn shared_by_all_models(raw: &Raw) -> RawModel {
    RawModel {
        upstream: raw.upstream.clone(),
        body_bytes: raw.limits.as_ref().and_then(|limits| limits.body_bytes),
        protocol: raw.protocol.clone(),
        mode: raw.mode,
        hold: raw.hold,
        contract: raw.contract.clone(),
        detectors: raw.detectors.clone(),
        drift: raw.drift.clone(),
        policy: raw.policy.clone(),
        block_for: raw.block_for.clone(),
        ..RawModel::default()
    }
}

/// A setting of a model, or the one at the top level, with the path where it was typed.
pub(super) fn inherited<'a, T>(
    scope: &Path,
    key: &str,
    own: Option<&'a T>,
    shared: Option<&'a T>,
) -> Option<(&'a T, Path)> {
    own.map(|value| (value, scope.key(key))).or_else(|| shared.map(|value| (value, Path::top().key(key))))
}

fn without_last_slash(path: &str) -> &str {
    path.strip_suffix('/').filter(|rest| !rest.is_empty()).unwrap_or(path)
}
