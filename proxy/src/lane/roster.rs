//! The roster: where every model stands, as operators see it. Lanes write it now and then; nobody waits for them.

use std::collections::BTreeMap;

use checkgate_detectors::reference::Trust;
use parking_lot::Mutex;

use super::desk::Desk;

/// One model's line.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its position in the config; `None` where it was discovered.
    pub model: Option<u16>,
    /// Detectors that run.
    pub detectors: Vec<&'static str>,
    /// Detectors that were switched off after a panic.
    pub quarantined: Vec<&'static str>,
    /// Rows of the reference and how far it can be relied upon, as soon as there is one.
    pub reference: Option<(u64, Trust)>,
    /// Clients remembered.
    pub clients: u64,
}

/// All models of all lanes.
#[derive(Default)]
pub struct Roster {
    /// By lane, then by position and name. A model that is pinned to another lane stands here as well, with nothing
    /// seen; the line that has seen more is shown.
    lanes: Mutex<BTreeMap<usize, Vec<Listed>>>,
}

impl Roster {
    /// Takes the present state of a lane.
    pub fn update(&self, lane: usize, desk: &Desk) {
        self.lanes.lock().insert(lane, listed(desk));
    }

    /// Every model once: the configured ones in their order, then the discovered ones by name.
    pub fn list(&self) -> Vec<Listed> {
        let mut models: BTreeMap<(bool, Option<u16>, String), Listed> = BTreeMap::new();
        for listed in self.lanes.lock().values().flatten() {
            let key = (listed.model.is_none(), listed.model, listed.name.clone());
            let known = models.entry(key).or_insert_with(|| listed.clone());
            if listed.clients > known.clients {
                *known = listed.clone();
            }
        }
        models.into_values().collect()
    }
}

fn listed(desk: &Desk) -> Vec<Listed> {
    let line = |(model, name, engine): (Option<u16>, &str, &checkgate_detectors::engine::Engine)| {
        let gauges = engine.gauges();
        let at_work = |wanted: bool| {
            engine.detectors().filter(move |(_, runs)| *runs == wanted).map(|(name, _)| name).collect()
        };
        Listed {
            name: name.to_owned(),
            model,
            detectors: at_work(true),
            quarantined: at_work(false),
            reference: engine.reference_trust().map(|trust| (gauges.reference_rows, trust)),
            clients: gauges.clients,
        }
    };
    desk.engines().map(line).collect()
}
