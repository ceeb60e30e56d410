//! Whom the operator serves, and when models are exchanged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Check;
use crate::address::network;
use crate::path::Path;
use crate::raw::{Raw, RawMaintenance, RawTenant};
use crate::settings::{Maintenance, Member, Tenant};

/// Letters of a name.
const NAME_MAX: usize = 64;
/// Clients of all tenants together.
const CLIENTS_MAX: usize = 100_000;
/// A longer window is a reference that nobody looks after.
const WINDOW_MAX: Duration = Duration::from_secs(30 * 86_400);
/// Letters of a note.
const NOTE_MAX: usize = 256;

impl Check<'_> {
    pub(super) fn tenants(&mut self, typed: &[RawTenant]) -> Option<Vec<Tenant>> {
        let list = Path::dotted("tenants");
        let mut names = BTreeMap::new();
        let mut members = BTreeMap::new();
        let mut tenants = Vec::new();
        for (index, tenant) in typed.iter().enumerate() {
            let path = list.index(index);
            let name = self.tenant_name(&path, "name", tenant.name.as_deref());
            if let Some(earlier) = name.as_ref().and_then(|name| names.insert(name.clone(), index)) {
                self.refuse(&path.key("name"), format!("tenants[{earlier}] has this name already"));
            }
            let tier = self.tenant_name(&path, "tier", tenant.tier.as_deref());
            let clients = self.members(&path.key("clients"), tenant, &mut members);
            tenants.push(name.zip(tier).map(|(name, tier)| Tenant { name, tier, clients }));
        }
        if members.len() > CLIENTS_MAX {
            self.refuse(
                &list,
                format!("more than {CLIENTS_MAX} clients; write networks in place of addresses"),
            );
        }
        tenants.into_iter().collect()
    }

    fn tenant_name(&mut self, tenant: &Path, key: &str, typed: Option<&str>) -> Option<String> {
        let sound = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        match typed {
            None => self.refuse(tenant, format!("a tenant needs a {key}; add \"{key}: ...\"")),
            Some(name) if !name.is_empty() && name.len() <= NAME_MAX && name.chars().all(sound) => {
                return Some(name.to_owned());
            }
            Some(_) => self.refuse(
                &tenant.key(key),
                format!("a tenant's {key} is 1 to 64 letters, digits, dots, underscores or hyphens"),
            ),
        }
        None
    }

    /// The clients of one tenant; `known` holds those of the tenants before it.
    fn members(&mut self, path: &Path, typed: &RawTenant, known: &mut BTreeMap<String, Path>) -> Vec<Member> {
        let Some(clients) = &typed.clients else {
            self.refuse(path, "a tenant needs its clients; add for example \"clients: [10.1.0.0/16]\"");
            return Vec::new();
        };
        let mut members = Vec::new();
        for (index, text) in clients.iter().enumerate() {
            let path = path.index(index);
            let Some(member) = member(text) else {
                self.refuse(
                    &path,
                    format!("\"{text}\" is no client; write key: and 16 digits as records do, an address or a network"),
                );
                continue;
            };
            if let Some(earlier) = known.insert(format!("{member:?}"), path.clone()) {
                self.refuse(&path, format!("{earlier} is the same client; it can belong to one tenant only"));
            }
            members.push(member);
        }
        members
    }

    pub(super) fn maintenance(&mut self, raw: &Raw) -> Option<Vec<Maintenance>> {
        let models = raw.models.as_deref().unwrap_or_default();
        let names: BTreeSet<&str> = models.iter().filter_map(|model| model.name.as_deref()).collect();
        let list = Path::dotted("maintenance");
        let typed = raw.maintenance.as_deref().unwrap_or_default();
        let windows: Vec<_> = typed
            .iter()
            .enumerate()
            .map(|(index, window)| self.window(&list.index(index), window, &names))
            .collect();
        windows.into_iter().collect()
    }

    fn window(
        &mut self,
        path: &Path,
        typed: &RawMaintenance,
        models: &BTreeSet<&str>,
    ) -> Option<Maintenance> {
        if let Some(model) = typed.model.as_deref().filter(|model| !models.contains(model)) {
            let known: Vec<&str> = models.iter().copied().collect();
            self.refuse(&path.key("model"), crate::words::unknown("model", model, &known));
        }
        let note = typed.note.clone().unwrap_or_default();
        if note.len() > NOTE_MAX || note.contains(char::is_control) {
            self.refuse(&path.key("note"), format!("a note is one line of at most {NOTE_MAX} letters"));
        }
        let Some(from) = &typed.from else {
            self.refuse(path, "a maintenance window needs its beginning; add \"from: 2026-11-28T14:00:00Z\"");
            return None;
        };
        let from = self.moment(&path.key("from"), from)?;
        let until = match (&typed.to, typed.lasts) {
            (Some(to), None) => self.moment(&path.key("to"), to)?,
            (None, Some(lasts)) => from.checked_add(lasts.0)?,
            _ => {
                self.refuse(path, "a maintenance window ends by either \"to: ...\" or \"for: 2h\"");
                return None;
            }
        };
        match until.duration_since(from) {
            Ok(lasts) if !lasts.is_zero() && lasts <= WINDOW_MAX => {}
            _ => self.refuse(path, "a maintenance window ends after it begins, and within 30d"),
        }
        Some(Maintenance { model: typed.model.clone(), from, until, note })
    }

    fn moment(&mut self, path: &Path, typed: &str) -> Option<SystemTime> {
        match OffsetDateTime::parse(typed, &Rfc3339) {
            Ok(moment) if moment.unix_timestamp() >= 0 => Some(moment.into()),
            _ => {
                self.refuse(
                    path,
                    format!("\"{typed}\" is no time of RFC 3339; write for example 2026-11-28T14:00:00Z"),
                );
                None
            }
        }
    }
}

fn member(text: &str) -> Option<Member> {
    match text.strip_prefix("key:") {
        Some(digits) if digits.len() == 16 => u64::from_str_radix(digits, 16).ok().map(Member::Key),
        Some(_) => None,
        None => network(text).map(Member::Network),
    }
}
