//! Drift: how the traffic of a model, and what it answers, lie beside its reference now.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use checkgate_detectors::drift::bins::Bins;
use checkgate_detectors::drift::counts::Counts;
use checkgate_detectors::drift::gauges::{EVENTS_MIN, Pair};
use checkgate_detectors::drift::record::derived;
use checkgate_detectors::drift::room::view::{FeatureView, View};
use checkgate_detectors::drift::room::{FeatureStanding, Standing};
use checkgate_detectors::drift::state::{Condition, EFFECT_OVER, Extent};
use checkgate_detectors::facts::Time;
use checkgate_detectors::reference::Trust;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AdminState;
use super::extract::{Params, Text};
use super::problem::Problem;
use crate::reference::compare::{self, Compared, GapOfReferences};

/// The path of this resource.
pub fn router() -> OpenApiRouter<AdminState> {
    OpenApiRouter::new().routes(routes!(show))
}

/// Which features are shown.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// Features at most, those that moved most first.
    #[param(minimum = 1, maximum = 256)]
    features: Option<u16>,
    /// A version of the model that is watched apart, by its name; without it, the model's own room.
    version: Option<String>,
}

/// The drift of one model.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ModelDrift {
    /// The model.
    pub model: String,
    /// The version of it, where it is that of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub version: Option<String>,
    /// Versions of the model that are watched apart; give one as `version`.
    #[serde(default)]
    pub versions: Vec<String>,
    /// Rows of versions that are not, counted with the model's.
    #[serde(default)]
    pub other_versions: u64,
    /// `learning` (there is no reference yet), `warming` (too few rows came), `stable`, `warned`, `drifting` or
    /// `recovered`.
    pub state: String,
    /// Since when, in Unix seconds; absent where it is so from the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub since: Option<f64>,
    /// Rows that were counted since the watch began.
    pub rows: u64,
    /// Rows that a reference was learned from so far.
    pub learned: u64,
    /// When the watch began, in Unix seconds; absent before the first row.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub watched_since: Option<f64>,
    /// What it is compared with; absent while one is learned.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub reference: Option<ReferenceOfDrift>,
    /// What the operator grants, and what of it the layers have used.
    pub budget: BudgetOfDrift,
    /// Rows that were not counted, by why not.
    pub not_counted: NotCounted,
    /// The features, those that moved most first.
    pub features: Vec<FeatureOfDrift>,
}

/// What a model is compared with.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ReferenceOfDrift {
    /// Its version: the checksum of its content in hexadecimal digits.
    pub version: String,
    /// Rows that it was made of.
    pub rows: u64,
    /// `provisional` where it was learned, `trusted` where the operator named it.
    pub trust: String,
    /// When its first row came, in Unix seconds; absent where its rows have no times.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub from: Option<f64>,
    /// When its last row came.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub until: Option<f64>,
    /// Seconds since its last row.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub age_seconds: Option<f64>,
    /// Columns that are not watched because there are too many.
    pub left_out: u64,
}

/// What an operator grants, and what came of it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BudgetOfDrift {
    /// False alarms in a week that each layer may raise.
    pub false_alarms_a_week: f64,
    /// The early layer.
    pub early: LayerOfDrift,
    /// The paging layer.
    pub paging: LayerOfDrift,
    /// Warnings that were told since the watch began.
    pub warnings: u64,
    /// Drifts that were told since.
    pub drifts: u64,
    /// Ends of drifts that were told since.
    pub recoveries: u64,
    /// Times that a rule on a gauge was met since.
    pub rules_met: u64,
}

/// One layer.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LayerOfDrift {
    /// Evidence at which it speaks; absent while there is no reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub threshold: Option<f64>,
    /// The evidence as a share of that, 0 to 1. It begins anew when the layer spoke.
    pub spent: f64,
}

/// Rows that were not counted.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NotCounted {
    /// Beyond the share of their client.
    pub over_share: u64,
    /// Without any column of the reference.
    pub unknown_columns: u64,
    /// Questions whose values found no room while their answers were awaited.
    pub no_room: u64,
    /// While the model was being exchanged.
    pub maintenance: u64,
}

/// One feature.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct FeatureOfDrift {
    /// What moved, gauge by gauge and slot by slot, in the window.
    #[serde(flatten)]
    pub compared: Compared,
    /// `warming` (the window holds too few events for gauges), `quiet`, or `moved`: its effect is above the line below which a
    /// drift is over.
    pub state: String,
    /// Its evidence as a share of the threshold, of the layer that has more, 0 to 1.
    pub evidence: f64,
    /// The derived feature that has more evidence than the bins: `repeats`, `new_label_repeats`, `outside_range` or
    /// `not_there`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub told_by: Option<String>,
    /// The share of the reference's stretches that lie at least as far off as the latest stretch, 0 to 1.
    pub last_p: f64,
    /// Events in the window.
    pub events: u64,
    /// Values that are missing.
    pub missing: Rates,
    /// Values of the wrong type.
    pub wrong_type: Rates,
    /// Values outside of the reference's range, or labels that it never saw.
    pub outside: Rates,
}

/// A rate then and now.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct Rates {
    /// In the reference, 0 to 1.
    pub reference: f64,
    /// In the window, 0 to 1.
    pub now: f64,
}

/// How the drift of one model stands: state, budget, reference, and each feature with its gauges beside what they would show
/// without a change. Gauges and slots are those of a window of half an hour; `effect` is that of the latest stretches.
#[utoipa::path(get, path = "/v1/models/{model}/drift", operation_id = "show_drift", tag = "models",
    params(("model" = String, Path, description = "The model"), Wanted),
    responses((status = 200, description = "Its drift", body = ModelDrift)))]
async fn show(
    State(state): State<AdminState>,
    Text(model): Text,
    Params(wanted): Params<Wanted>,
) -> Result<Response, Problem> {
    let most = wanted.features.unwrap_or(256);
    if !(1..=256).contains(&most) {
        let mend = "features is a whole number, 1 to 256";
        return Err(Problem::new(StatusCode::BAD_REQUEST, format!("features {most} is out of range"), mend));
    }
    if !(state.models)().iter().any(|known| known.name == model) {
        let mend = "GET /v1/status lists the models";
        return Err(Problem::new(StatusCode::NOT_FOUND, "there is no such model", mend));
    }
    let (look, now, name) = (Arc::clone(&state.drift), (state.clock)(), model.clone());
    let version = wanted.version;
    // It waits for the model's lane, and gauges take some milliseconds.
    let shown = tokio::task::spawn_blocking(move || {
        look(&name, version.as_deref()).map(|view| view.map(|view| ((model, version), view)))
    });
    let broke_off = |_| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the look broke off", "look at the program's log")
    };
    let busy = |_| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the model's lane is too busy to say it", "try again")
    };
    let (model, view) = shown.await.map_err(broke_off)?.map_err(busy)?.ok_or_else(|| {
        let mend = "its `drift` is off, or `drift.versions` does not name the version; without `version` the answer lists \
                    those that it names";
        Problem::new(StatusCode::NOT_FOUND, "the drift of this model or version is not watched", mend)
    })?;
    let drawn = tokio::task::spawn_blocking(move || drift(model, &view, now, usize::from(most))).await;
    Ok(axum::Json(drawn.map_err(broke_off)?).into_response())
}

/// A view of a model, or of one of its versions, as it is told.
fn drift((model, version): (String, Option<String>), view: &View, now: Time, most: usize) -> ModelDrift {
    let Standing { counts, early, paging, .. } = view.standing;
    let [warnings, drifts, recoveries, rules_met, _] = counts.told;
    let thresholds = view.thresholds;
    let (state, since) = state(&view.standing);
    let pairs = view.features.iter().zip(&view.standing.features);
    let mut features: Vec<FeatureOfDrift> = pairs.map(|(view, standing)| feature(view, standing)).collect();
    features.sort_by(|one, other| other.compared.effect.total_cmp(&one.compared.effect));
    features.truncate(most);
    ModelDrift {
        model,
        version,
        versions: view.versions.clone(),
        other_versions: view.standing.other_versions,
        state: state.to_owned(),
        since: since.map(Time::seconds),
        rows: view.standing.rows,
        learned: view.standing.learned,
        watched_since: view.watched_since.map(Time::seconds),
        reference: reference(view, now),
        budget: BudgetOfDrift {
            false_alarms_a_week: view.false_alarms_a_week,
            early: LayerOfDrift { threshold: thresholds.map(|both| both.early), spent: early },
            paging: LayerOfDrift { threshold: thresholds.map(|both| both.paging), spent: paging },
            warnings,
            drifts,
            recoveries,
            rules_met,
        },
        not_counted: NotCounted {
            over_share: counts.over_share,
            unknown_columns: counts.unknown,
            no_room: view.standing.not_kept,
            maintenance: counts.maintenance,
        },
        features,
    }
}

fn reference(view: &View, now: Time) -> Option<ReferenceOfDrift> {
    let of = view.reference?;
    Some(ReferenceOfDrift {
        version: format!("{:016x}", of.checksum),
        rows: of.rows,
        trust: if view.standing.trust == Some(Trust::Trusted) { "trusted" } else { "provisional" }.to_owned(),
        from: of.span.map(|(from, _)| from.seconds()),
        until: of.span.map(|(_, until)| until.seconds()),
        age_seconds: of.span.map(|(_, until)| now.since(until).as_secs_f64()),
        left_out: of.left_out as u64,
    })
}

/// How a model stands in a word, and since when.
fn state(standing: &Standing) -> (&'static str, Option<Time>) {
    match (standing.trust, standing.condition) {
        (None, _) => ("learning", None),
        (_, Condition::Warming) => ("warming", None),
        (_, Condition::Stable) => ("stable", None),
        (_, Condition::Warned { since }) => ("warned", Some(since)),
        (_, Condition::Drifting { since }) => ("drifting", Some(since)),
        (_, Condition::Recovered { since }) => ("recovered", Some(since)),
    }
}

fn feature(view: &FeatureView, standing: &FeatureStanding) -> FeatureOfDrift {
    let pair = Pair { reference: &view.reference, window: &view.window, bins: &view.bins };
    let effect = standing.effect;
    let compared = Compared {
        effect,
        extent: compare::extent(Extent::of(effect)).into(),
        gap: standing.gap.map(|gap| GapOfReferences { distance: gap.distance, expected: gap.expected }),
        ..compare::beside(&view.name, &pair, &[])
    };
    let events = view.window.total();
    let state = match effect >= EFFECT_OVER {
        _ if events < EVENTS_MIN => "warming",
        true => "moved",
        false => "quiet",
    };
    let scale = view.bins.scale();
    let rates = |is_meant: &dyn Fn(&Bins, usize) -> bool| {
        let share = |counts: &Counts| {
            let slots = counts.slots().iter().enumerate();
            let meant: u64 = slots
                .filter(|(slot, _)| is_meant(&view.bins, *slot))
                .map(|(_, count)| u64::from(*count))
                .sum();
            meant as f64 / counts.total().max(1) as f64
        };
        Rates { reference: share(&view.reference), now: share(&view.window) }
    };
    FeatureOfDrift {
        compared,
        state: state.to_owned(),
        evidence: standing.evidence,
        told_by: view.told_by.map(|by| derived(by).to_owned()),
        last_p: view.last_p,
        events,
        missing: rates(&|_, slot| slot == scale),
        wrong_type: rates(&|_, slot| slot > scale),
        outside: rates(&Bins::is_outside),
    }
}

#[cfg(test)]
pub mod tests {
    use checkgate_detectors::drift::bins::Value;
    use checkgate_detectors::drift::latest::Sender;
    use checkgate_detectors::drift::reference::{self, Column, DriftReference, Table};
    use checkgate_detectors::drift::room::{Ended, Frozen, Room, Settings};
    use checkgate_detectors::facts::{Cell, Features};
    use checkgate_detectors::hashing::Hashing;
    use checkgate_detectors::identity::{Address, Identity};

    use super::*;

    /// A model whose one column lay between 0 and 96, seen `rows` times with `by` more, every tenth value missing.
    pub fn view(rows: u64, by: f64) -> View {
        let values = (0..2000_u32).map(|row| Value::Number(f64::from(row % 97)));
        let table = Table {
            columns: vec![Column { name: "area".into(), values: values.collect() }],
            times: (0..2000).map(|row| Time(row * 1_000_000)).collect(),
        };
        let reference = DriftReference::of(&table, &reference::Settings::default()).unwrap();
        let hashing = Hashing::new([1, 2]);
        let frozen = Some(Frozen { trust: Trust::Trusted, reference });
        let mut room = Room::new(Settings::default(), frozen, &hashing);
        let at = |row: u64| Time(5_000_000_000 + row * 100_000);
        for row in 0..rows {
            let cell = if row % 10 == 0 { Cell::Missing } else { Cell::Number((row * 31 % 97) as f64 + by) };
            let question = Features {
                names: ["area"].into_iter().collect(),
                width: 1,
                cells: vec![cell],
                ..Features::default()
            };
            let address = Address::of(std::net::Ipv4Addr::from_bits((row % 30) as u32 + 1).into());
            let sender = Sender { client: Identity::Address(address), address, may_be_blocked: true };
            let latency = std::time::Duration::from_millis(1);
            let kept = room.question(&question);
            let ended =
                Ended { sender, time: at(row), status: 200, latency, answer: None, in_maintenance: false };
            room.ended(&ended, &kept, &hashing);
        }
        room.look(at(rows))
    }

    #[test]
    fn a_feature_that_moved_is_told_with_gauges_rates_and_since_when() {
        let told = drift(("homes".into(), None), &view(3000, 40.0), Time(6_000_000_000), 9);
        assert_eq!(told.state, "drifting");
        let since = told.since.unwrap();
        assert!(since > told.watched_since.unwrap(), "{told:#?}");
        let reference = told.reference.unwrap();
        assert_eq!((reference.rows, reference.until), (2000, Some(1999.0)));
        assert_eq!(reference.age_seconds, Some(4001.0));
        let feature = &told.features[0];
        assert_eq!((feature.state.as_str(), &*feature.compared.extent), ("moved", "large"), "{feature:#?}");
        assert!((feature.missing.now - 0.1).abs() < 1e-3 && feature.missing.reference == 0.0, "{feature:#?}");
        assert!(feature.outside.now > 0.2 && feature.wrong_type.now == 0.0, "{feature:#?}");
        let psi = feature.compared.gauges.iter().find(|gauge| gauge.name == "psi").unwrap();
        assert!(psi.value > 10.0 * psi.expected && psi.expected > 0.0, "{psi:?}");
        let gap = feature.compared.gap.expect("rows enough came");
        assert!(gap.distance > 0.05 && gap.distance > gap.expected, "{gap:?}");
        assert_eq!((told.budget.drifts, told.budget.false_alarms_a_week), (1, 1.0));
    }

    #[test]
    fn too_few_rows_are_warming_and_silence_empties_the_window() {
        let told = drift(("homes".into(), None), &view(60, 0.0), Time(6_000_000_000), 9);
        assert_eq!((told.state.as_str(), told.since), ("warming", None));
        let feature = &told.features[0];
        assert_eq!(feature.state, "warming");
        assert!(feature.compared.gauges.is_empty(), "{feature:?}");
        assert!(drift(("homes".into(), None), &view(60, 0.0), Time(0), 0).features.is_empty());
    }
}
