//! What a finding is worth by itself, and what its client seems to be after.
//!
//! Some detectors say what many honest clients give them reason to: rows that differ in one field, rows that crowd
//! together, values spread otherwise than the reference's. What one of them says alone is a note: it stands in the log of
//! findings and reaches nobody. Once a detector that looks at something else speaks of the same client within a day, both
//! are told.

use std::time::Duration;

use super::{Case, Engine, Label};
use crate::facts::Time;
use crate::family::{Family, Named, Shape, Way};
use crate::finding::Tier;
use crate::query::{Aspect, Purpose};

/// How long what a detector found lends weight to another.
const ALLIED_FOR: Duration = Duration::from_secs(86_400);

/// Whether a finding is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is, perhaps because another detector agrees.
    Told {
        /// That detector.
        ally: Option<&'static str>,
    },
    /// It is noted.
    Noted,
}

impl Engine {
    /// Notes that a detector found something of the client, and says whether it is told.
    pub(super) fn standing(&mut self, turn: usize, case: Case, tier: Tier) -> Standing {
        if let Some(told) = self.told(turn, case) {
            told.found_at = case.time;
        }
        let tells_alone = self.detectors.get(turn).is_none_or(|running| running.tells_alone);
        if tier == Tier::One || tells_alone {
            return Standing::Told { ally: None };
        }
        self.other_aspect(turn, case).map_or(Standing::Noted, |ally| Standing::Told { ally: Some(ally) })
    }

    /// A detector that looks at something else and found something of the client lately. What is measured beside other
    /// clients lends no weight: others could arrange it.
    fn other_aspect(&self, turn: usize, case: Case) -> Option<&'static str> {
        let spoken_of = self.memory.tallies.get(case.client)?.spoken_of.as_deref()?;
        let aspect = self.detectors.get(turn)?.aspect;
        let lately = |found: Time| found > Time(0) && case.time.since(found) <= ALLIED_FOR;
        let told = self.detectors.iter().zip(&spoken_of.told);
        let lends = |other: Aspect| other != aspect && ![Aspect::Volume, Aspect::Errors].contains(&other);
        told.filter(|(running, told)| lends(running.aspect) && lately(told.found_at))
            .map(|(running, _)| running.label.name)
            .next()
    }

    /// Whether this detector's note on this client still stands; if not, it does from now on.
    pub(super) fn is_noted(&mut self, turn: usize, case: Case) -> bool {
        let quiet_for = self.rules.policy.ladder.rung(0).lasts;
        let Some(told) = self.told(turn, case) else { return true };
        let noted = told.noted_until > case.time;
        if !noted {
            told.noted_until = case.time.plus(quiet_for);
        }
        noted
    }

    /// Puts the family that the client's rows show in the place of the detector's technique, and says why. Nothing is
    /// said where no shape can be measured.
    pub(super) fn name_family(&self, label: &mut Label, case: Case) -> String {
        let Some(named) = self.family(*label, case) else { return String::new() };
        (label.atlas, label.owasp) = (named.family.atlas(), named.family.owasp());
        named.sentence()
    }

    fn family(&self, label: Label, case: Case) -> Option<Named> {
        let way = match label.purpose {
            Purpose::Technique => return None,
            Purpose::Rows => Way::Other,
            Purpose::Fields => Way::Fields,
        };
        let reference = self.memory.reference.as_ref().filter(|_| Family::is_open(label.atlas))?;
        let geometry = reference.geometry().filter(|geometry| geometry.is_measure())?;
        let rows: Vec<&[f32]> = self.memory.neighbours.rows_of(case.client).collect();
        Shape::of(&rows, geometry).name(reference.answers(), way)
    }
}
