//! What is protected: the configured models, and the one that stands for all other traffic.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde_json::Value;

use super::{Check, TEXT_MAX};
use crate::files;
use crate::path::Path;
use crate::raw::{Raw, RawModel};
use crate::settings::{Admin, Model, Upstream};

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
        let upstream = self.upstream(scope, own, shared);
        let protocol = self.protocol(scope, own, shared);
        let contract = self.contract(scope, own, shared);
        let detectors = self.detectors(scope, own, shared);
        let reference = self.reference(&scope.key("reference"), own.reference.as_deref());
        Some(Model {
            name,
            path,
            upstream: upstream?,
            protocol: protocol?,
            mode: own.mode.or(shared.mode)?,
            hold: own.hold.or(shared.hold)?,
            contract: contract?,
            reference: reference?,
            detectors: detectors?,
            block_for: own.block_for.or(shared.block_for)?.0,
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

    fn upstream(&mut self, scope: &Path, own: &RawModel, shared: &RawModel) -> Option<Upstream> {
        let (typed, path) = inherited(scope, "upstream", own.upstream.as_ref(), shared.upstream.as_ref())?;
        self.or_refuse(&path, upstream(typed))
    }

    fn reference(&mut self, path: &Path, typed: Option<&std::path::Path>) -> Option<Option<PathBuf>> {
        let Some(typed) = typed else { return Some(None) };
        let file = self.resolve(path, typed);
        self.or_refuse(path, files::must_exist(&file))?;
        Some(Some(file))
    }

    /// Requests sent to checkgate's own listeners would come back for ever.
    pub(super) fn no_loop<'m>(
        &mut self,
        listen: Option<SocketAddr>,
        admin: Option<&Admin>,
        models: impl Iterator<Item = &'m Model>,
    ) {
        let own: Vec<SocketAddr> = listen.into_iter().chain(admin.map(|admin| admin.listen)).collect();
        for model in models {
            let Ok(ip) = model.upstream.host.parse::<IpAddr>() else { continue };
            let address = SocketAddr::new(ip, model.upstream.port);
            if own.iter().any(|listener| is_behind(*listener, address)) {
                let path = self.upstream_path(&model.name);
                self.refuse(
                    &path,
                    format!("checkgate itself listens on {address}; name the model server here"),
                );
            }
        }
    }

    /// Where the upstream of the model `name` was typed.
    fn upstream_path(&self, name: &str) -> Path {
        let list = Path::dotted("models");
        let models = list.find(self.whole).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        models
            .iter()
            .position(|model| {
                model.get("name").and_then(Value::as_str) == Some(name) && model.get("upstream").is_some()
            })
            .map_or_else(|| Path::dotted("upstream"), |index| list.index(index).key("upstream"))
    }
}

/// The settings of the top level that hold for every model, as a model without a name.
pub(super) fn shared_by_all_models(raw: &Raw) -> RawModel {
    RawModel {
        upstream: raw.upstream.clone(),
        protocol: raw.protocol.clone(),
        mode: raw.mode,
        hold: raw.hold,
        contract: raw.contract.clone(),
        detectors: raw.detectors.clone(),
        block_for: raw.block_for,
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

/// Whether a request to `address` would reach `listener` on this machine. Of a listener on all addresses only loopback
/// is sure to be this machine; another host may well use the same port.
fn is_behind(listener: SocketAddr, address: SocketAddr) -> bool {
    let is_here =
        listener.ip() == address.ip() || (listener.ip().is_unspecified() && address.ip().is_loopback());
    is_here && listener.port() == address.port()
}

fn without_last_slash(path: &str) -> &str {
    path.strip_suffix('/').filter(|rest| !rest.is_empty()).unwrap_or(path)
}

/// Reads `http://host:port`.
fn upstream(typed: &str) -> Result<Upstream, String> {
    if typed.starts_with("https://") {
        return Err(
            "TLS upstreams are not supported; write http://host:port and end TLS at the model server's side"
                .into(),
        );
    }
    let wanted = |what: &str| format!("{what}; write for example http://127.0.0.1:8080");
    let rest = typed.strip_prefix("http://").ok_or_else(|| wanted("an upstream begins with http://"))?;
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#']) {
        return Err(wanted("an upstream has no path: requests keep the path that the client asked for"));
    }
    if authority.contains('@') {
        return Err(wanted("an upstream holds no user name or password"));
    }
    let (host, port) =
        host_and_port(authority).ok_or_else(|| wanted("an upstream needs a host and a port"))?;
    match port.parse() {
        Ok(port) if port != 0 => Ok(Upstream { host: host.to_owned(), port }),
        _ => Err(wanted("a port is a number from 1 to 65535")),
    }
}

fn host_and_port(authority: &str) -> Option<(&str, &str)> {
    let (host, port) = authority.rsplit_once(':')?;
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<std::net::Ipv6Addr>().is_ok().then_some((inner, port));
    }
    let sound = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    (!host.is_empty() && host.len() <= TEXT_MAX && host.chars().all(sound)).then_some((host, port))
}
