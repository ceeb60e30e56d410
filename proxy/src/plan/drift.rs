//! How drift is watched, from the settings to the core: with the reference that the operator named, or the one that was
//! learned before a restart.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use checkgate_config::settings;
use checkgate_detectors::drift::parameters::DriftParameters;
use checkgate_detectors::drift::reference::DriftReference;
use checkgate_detectors::drift::room::versions::VERSIONS_MAX;
use checkgate_detectors::drift::room::{self, Frozen};
use checkgate_detectors::engine::Drift;
use checkgate_detectors::reference::Trust;
use serde::{Deserialize, Serialize};

use crate::reference;
use crate::state;

/// No longer file is read: a reference of 256 features takes about 1 MiB.
const BYTES_MAX: u64 = 64 << 20;

// A version that the configuration allows has a room.
const _: () = assert!(settings::DRIFT_VERSIONS_MAX <= VERSIONS_MAX);

/// One model's drift, as its plan has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriftPlan {
    /// The settings.
    pub settings: room::Settings,
    /// The reference, if there is one before any traffic.
    pub reference: Option<Bytes>,
    /// Versions that are watched apart; older recordings have none.
    #[serde(default)]
    pub versions: Vec<VersionPlan>,
}

/// A version that is watched apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VersionPlan {
    /// What the protocol calls it.
    pub name: String,
    /// The reference that the operator named for it.
    pub reference: Option<Bytes>,
}

/// The bytes of a reference, as text in a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bytes {
    /// Whether the operator named it; otherwise it was learned.
    pub named: bool,
    /// [`DriftReference::to_bytes`] in base 64.
    pub content: String,
}

impl DriftPlan {
    /// The plan that `settings` ask for. What was learned before lies in the folder `state`.
    ///
    /// # Errors
    /// When the file that the operator named is no reference. One that was learned and does not read is learned anew.
    pub fn new(model: &str, drift: &settings::Drift, state: &Path) -> anyhow::Result<Self> {
        let parameters: DriftParameters = serde_json::from_value(drift.parameters.clone())
            .with_context(|| format!("drift of model {model:?}"))?;
        let reference = match &drift.reference {
            Some(file) => Some(Bytes::of(&named(file, drift.reference_key.as_deref())?, true)),
            None => learned(model, state),
        };
        let key = drift.reference_key.as_deref();
        let version = |version: &settings::DriftVersion| {
            let of_file = |file| anyhow::Ok(Bytes::of(&named(file, key)?, true));
            let reference = version.reference.as_deref().map(of_file).transpose()?;
            anyhow::Ok(VersionPlan { name: version.name.clone(), reference })
        };
        let versions = drift.versions.iter().map(version).collect::<anyhow::Result<_>>()?;
        Ok(Self { settings: parameters.settings(), reference, versions })
    }

    /// The same for the engine, with the reference that an operator promoted, in base 64; one that the configuration names
    /// counts before it.
    ///
    /// # Errors
    /// When the bytes are no reference.
    pub fn engine(&self, promoted: Option<&str>) -> anyhow::Result<Drift> {
        let frozen = |content: &str, trust| {
            let reference = DriftReference::from_bytes(&STANDARD.decode(content)?)?;
            anyhow::Ok(Frozen { trust, reference })
        };
        let reference = match (&self.reference, promoted) {
            (Some(bytes), _) if bytes.named => Some(frozen(&bytes.content, Trust::Trusted)?),
            (_, Some(content)) => Some(frozen(content, Trust::Trusted)?),
            (Some(bytes), None) => Some(frozen(&bytes.content, Trust::Provisional)?),
            (None, None) => None,
        };
        let version = |version: &VersionPlan| {
            let named = version.reference.as_ref().map(|bytes| frozen(&bytes.content, Trust::Trusted));
            anyhow::Ok((version.name.as_str().into(), named.transpose()?))
        };
        let versions = self.versions.iter().map(version).collect::<anyhow::Result<_>>()?;
        Ok(Drift { settings: self.settings.clone(), reference, versions })
    }

    /// Whether the configuration names the reference.
    #[must_use]
    pub fn is_named(&self) -> bool {
        self.reference.as_ref().is_some_and(|bytes| bytes.named)
    }
}

/// References of drift as a plan holds them.
#[must_use]
pub fn in_base_64(drifts: BTreeMap<String, Arc<[u8]>>) -> BTreeMap<String, Arc<str>> {
    drifts.into_iter().map(|(model, bytes)| (model, STANDARD.encode(bytes).into())).collect()
}

impl Bytes {
    fn of(reference: &DriftReference, named: bool) -> Self {
        Self { named, content: STANDARD.encode(reference.to_bytes()) }
    }
}

/// Reads the reference that an operator named, sealed and, where a key is given, signed with it.
fn named(file: &Path, key: Option<&Path>) -> anyhow::Result<DriftReference> {
    Ok(reference::file::load(file, key)?.reference)
}

/// Reads a reference that was learned here.
fn read(file: &Path) -> anyhow::Result<DriftReference> {
    let place = || format!("the reference of drift {}", file.display());
    let bytes = whole(file).with_context(place)?;
    DriftReference::from_bytes(&bytes).with_context(place)
}

fn whole(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What was learned of a model before, if it still reads.
fn learned(model: &str, state: &Path) -> Option<Bytes> {
    let file = state::learned_drift_in(state, model)?;
    if !fs::exists(&file).unwrap_or(false) {
        return None;
    }
    let read = read(&file);
    if let Err(error) = &read {
        tracing::warn!(model, ?error, "the learned reference of drift is not used; another one is learned");
    }
    read.ok().map(|reference| Bytes::of(&reference, false))
}

#[cfg(test)]
mod tests {
    use checkgate_detectors::drift::bins::Value;
    use checkgate_detectors::drift::reference::{Column, Settings, Table};

    use super::*;
    use crate::reference::file::Header;

    fn reference() -> DriftReference {
        let values = (0..600).map(|row| Value::Number(f64::from(row % 97))).collect();
        let table = Table { columns: vec![Column { name: "area".into(), values }], times: Vec::new() };
        DriftReference::of(&table, &Settings::default()).unwrap()
    }

    fn planned(file: Option<&Path>, state: &Path) -> anyhow::Result<DriftPlan> {
        let parameters = serde_json::to_value(DriftParameters::default()).unwrap();
        let drift = settings::Drift {
            parameters,
            reference: file.map(Into::into),
            reference_key: None,
            versions: Vec::new(),
        };
        DriftPlan::new("homes", &drift, state)
    }

    #[test]
    fn a_named_file_is_trusted_and_what_was_learned_before_is_provisional() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(planned(None, folder.path()).unwrap().reference, None, "nothing was learned yet");
        fs::create_dir(folder.path().join("references")).unwrap();
        fs::write(state::learned_drift_in(folder.path(), "homes").unwrap(), reference().to_bytes()).unwrap();
        let again = planned(None, folder.path()).unwrap();
        assert_eq!(
            again.engine(None).unwrap().reference,
            Some(Frozen { trust: Trust::Provisional, reference: reference() })
        );
        let read: DriftPlan = serde_json::from_str(&serde_json::to_string(&again).unwrap()).unwrap();
        assert_eq!(read, again, "a recording's plan holds it");
        let file = folder.path().join("homes.drift");
        fs::write(&file, reference::file::write(Header::default(), &reference(), None).unwrap()).unwrap();
        let named = planned(Some(&file), folder.path()).unwrap().engine(None).unwrap().reference.unwrap();
        assert_eq!(named.trust, Trust::Trusted);
    }

    #[test]
    fn a_damaged_file_that_was_named_is_refused_and_one_that_was_learned_is_learned_anew() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("homes.drift");
        fs::write(&file, b"nothing").unwrap();
        let refused = format!("{:#}", planned(Some(&file), folder.path()).unwrap_err());
        assert!(refused.contains("homes.drift"), "{refused}");
        fs::create_dir(folder.path().join("references")).unwrap();
        fs::write(state::learned_drift_in(folder.path(), "homes").unwrap(), b"nothing").unwrap();
        assert_eq!(planned(None, folder.path()).unwrap().reference, None);
    }
}
