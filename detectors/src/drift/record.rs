//! A change of a model's drift as it is written: a record of its own kind, about a model and not about a client.

use std::fmt::Write;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use super::bins::Bins;
use super::derived::Derived;
use super::feature::{Feature, FeatureState};
use super::gauges::shares;
use super::latest::{Carried, Carrier, Level, Most};
use super::rules::{self, GaugeRule};
use super::state::{Change, Extent};
use super::watch::{Finding, Layer, Shifted};
use crate::facts::Time;
use crate::finding::{FindingId, Kind, Mode, as_seconds};
use crate::severity::Severity;

/// Example bins of a feature.
const BINS: usize = 3;
/// Features of a record that keep all their bins.
const DRAWN: usize = 3;

/// What is told of a model's drift.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DriftRecord {
    /// Its id, as `checkgate explain` takes it.
    pub id: FindingId,
    /// When the row arrived after which it was told, as Unix seconds.
    #[serde(serialize_with = "as_seconds")]
    pub time: Time,
    /// Always drift.
    pub kind: Kind,
    /// The model.
    pub model: Arc<str>,
    /// The version of it that has a reference of its own, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Arc<str>>,
    /// The mode that this record was made in; nothing is done about drift in either.
    pub mode: Mode,
    /// What happened: `warning`, `drifting` or `recovered`; of a rule on a gauge `rule_met` or `rule_over`.
    #[serde(serialize_with = "as_change")]
    pub change: Change,
    /// The layer whose evidence it is: `early` or `paging`; `gauge` where it is a rule's.
    #[serde(serialize_with = "as_layer")]
    pub layer: Layer,
    /// The evidence; its mean does not exceed the events, or stretches, while nothing changed.
    pub evidence: f64,
    /// The evidence at which the layer speaks.
    pub threshold: f64,
    /// How large the change is, whatever its certainty: `slight`, `small`, `medium` or `large`.
    #[serde(serialize_with = "as_extent")]
    pub extent: Extent,
    /// Rows that were counted since the watch began.
    pub rows: u64,
    /// What the model is compared with.
    pub reference: About,
    /// What the threshold follows from.
    pub budget: Spent,
    /// The operator's rule that is met, or no longer; then `evidence` is what its gauge shows and `threshold` its limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Ruled>,
    /// The features that changed, most evidence first; where none stands out, those that moved most.
    pub features: Vec<Moved>,
    /// Who is behind it, as far as it can be told.
    pub attribution: Behind,
    /// The same in sentences for a person at 3 a.m.
    pub explanation: String,
}

/// A rule on a gauge.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ruled {
    /// The rule as it is written.
    pub when: String,
    /// The feature that it names, if it names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature: Option<String>,
    /// How grave it is that it is met, at its operator's word.
    pub severity: Severity,
    /// What the gauge would show without a change at this number of events, about.
    pub expected: f64,
}

/// The reference of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct About {
    /// Rows that it was made of.
    pub rows: u64,
    /// Whether it was learned from traffic, and nobody has looked at it.
    pub provisional: bool,
}

/// What an operator grants.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// False alarms in a week that each layer may raise.
    pub false_alarms_a_week: f64,
    /// Rows in a second, on average.
    pub rows_a_second: f64,
}

/// A feature that changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Moved {
    /// Its name.
    pub name: String,
    /// Its population stability index of the latest stretches, less what chance gives.
    pub effect: f64,
    /// Its own evidence.
    pub evidence: f64,
    /// What gave it away, if it was one of the derived features.
    #[serde(serialize_with = "as_derived", skip_serializing_if = "Option::is_none")]
    pub by: Option<Derived>,
    /// The bins whose share changed most, at most three.
    pub bins: Vec<Bin>,
    /// All bins, of the first three features of a record: for plots, not for its line.
    #[serde(skip)]
    pub all_bins: Vec<Bin>,
}

/// One bin of a feature, then and now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bin {
    /// What falls into it.
    pub holds: String,
    /// Its share of the reference, 0 to 1.
    pub reference: f64,
    /// Its share of the latest stretches.
    pub now: f64,
}

/// Who is behind a drift.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Behind {
    /// Whether many known clients changed at once: no client is the cause.
    pub systemic: bool,
    /// Those without whom the rest looks as before, at most three.
    pub named: Vec<Named>,
    /// Whoever sent most of the rows when it was found, where that was a third of them or more. Nothing is held against it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most: Option<Sent>,
}

/// A client that sent many of the rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sent {
    /// Who.
    pub who: String,
    /// Its share of the latest rows, 0 to 1.
    pub share: f64,
}

/// Somebody behind a drift.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Named {
    /// `client` or `network`.
    pub level: &'static str,
    /// Who.
    pub who: String,
    /// Its share of the latest rows, 0 to 1.
    pub share: f64,
    /// How far off the latest rows are, in nats for each.
    pub before: f64,
    /// How far off they are without it, and without those named before it.
    pub after: f64,
}

/// What a record is made of, its place among the others aside.
pub(super) struct Matter<'a> {
    pub finding: &'a Finding,
    pub features: Vec<(&'a Feature, &'a FeatureState, Shifted)>,
    pub who: (Carried, Option<Most>),
    pub about: About,
    pub budget: Spent,
    pub rule: Option<rules::Told>,
    pub version: Option<Arc<str>>,
}

impl Matter<'_> {
    /// The record of the model called `model`, which is in `mode`.
    pub(super) fn record(self, id: FindingId, model: &Arc<str>, mode: Mode) -> DriftRecord {
        let Self { finding, features, who: (carried, most), about, budget, rule, version } = self;
        let features: Vec<Moved> =
            features.iter().map(|(feature, state, shifted)| moved(feature, state, shifted)).collect();
        let mut features = features;
        features.iter_mut().skip(DRAWN).for_each(|moved| moved.all_bins = Vec::new());
        let largest = features.iter().map(|moved| moved.effect).fold(0.0, f64::max);
        let extent = if features.is_empty() { finding.extent } else { Extent::of(largest) };
        let attribution = Behind {
            systemic: carried.systemic,
            named: carried.named.into_iter().map(named).collect(),
            most: most.map(|Most { client, share }| Sent { who: client.to_string(), share }),
        };
        let mut record = DriftRecord {
            id,
            time: finding.time,
            kind: Kind::Drift,
            model: Arc::clone(model),
            version,
            mode,
            change: finding.change,
            layer: finding.layer,
            evidence: finding.evidence,
            threshold: finding.threshold,
            extent,
            rows: finding.row,
            reference: about,
            budget,
            rule: rule.map(ruled),
            features,
            attribution,
            explanation: String::new(),
        };
        record.explanation = explanation(&record);
        record
    }
}

fn ruled(told: rules::Told) -> Ruled {
    let GaugeRule { when, feature, severity, .. } = told.rule;
    Ruled { when, feature, severity, expected: told.expected }
}

fn named(carrier: Carrier) -> Named {
    let level = match carrier.level {
        Level::Client => "client",
        Level::Network => "network",
    };
    let Carrier { who, share, before, after, .. } = carrier;
    Named { level, who, share, before, after }
}

fn moved(feature: &Feature, state: &FeatureState, shifted: &Shifted) -> Moved {
    let (now, then) = (shares(state.recent().slots()), shares(feature.counts.slots()));
    let mut apart: Vec<(usize, f64, f64)> =
        then.iter().zip(now).enumerate().map(|(slot, (then, now))| (slot, *then, now)).collect();
    let bin = |(slot, reference, now)| Bin { holds: holds(&feature.bins, slot), reference, now };
    let all_bins = apart.iter().copied().map(bin).collect();
    let gap = |bin: &(usize, f64, f64)| (bin.2 - bin.1).abs();
    apart.sort_by(|one, other| gap(other).total_cmp(&gap(one)).then(one.0.cmp(&other.0)));
    Moved {
        name: feature.name.clone(),
        effect: shifted.effect,
        evidence: shifted.evidence,
        by: shifted.by,
        bins: apart.into_iter().filter(|bin| gap(bin) > 0.0).take(BINS).map(bin).collect(),
        all_bins,
    }
}

/// What falls into a slot, in words. A reference knows labels by their hashes only.
fn holds(bins: &Bins, slot: usize) -> String {
    match slot.checked_sub(bins.scale()) {
        Some(0) => return "missing".to_owned(),
        Some(_) => return "of another type".to_owned(),
        None => {}
    }
    match bins {
        Bins::Labels(_) if bins.is_outside(slot) => "a label that the reference never saw".to_owned(),
        Bins::Labels(_) if slot + 2 == bins.scale() => "a rare label".to_owned(),
        Bins::Labels(_) => format!("the label that is number {} by frequency", slot + 1),
        Bins::Numbers(_) => match (bins.edge(slot), bins.edge(slot + 1)) {
            (None, Some(to)) => format!("below {}", number(to)),
            (Some(from), None) => format!("above {}", number(from)),
            (Some(from), Some(to)) if to <= from.next_up().next_up() => format!("exactly {}", number(from)),
            (Some(from), Some(to)) => format!("{} to {}", number(from), number(to)),
            (None, None) => "any number".to_owned(),
        },
    }
}

/// A number with four digits that count.
fn number(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-3..1e7).contains(&size) {
        return format!("{value:.3e}");
    }
    let whole = if size < 1.0 { 0 } else { libm::log10(size) as usize + 1 };
    let text = format!("{value:.*}", 4_usize.saturating_sub(whole));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn percent(share: f64) -> String {
    format!("{} %", number((share * 1000.0).round() / 10.0))
}

fn explanation(record: &DriftRecord) -> String {
    if let Some(rule) = &record.rule {
        return rule_explained(record, rule);
    }
    let mut said = match record.change {
        // Told with their rule, above.
        Change::Met | Change::Unmet => String::new(),
        Change::Warning => format!("Model {} may be drifting", whole_name(record)),
        Change::Drift => format!("Model {} drifts", whole_name(record)),
        Change::Over => format!("The drift of model {} is over", whole_name(record)),
    };
    let of =
        if record.reference.provisional { "provisional reference, learned from" } else { "reference of" };
    // Writing to a String cannot fail, here and below.
    let like = if record.change == Change::Over { "looks like" } else { "no longer looks like" };
    let _ = write!(said, ": its traffic {like} the {of} {} rows.", record.reference.rows);
    if record.change == Change::Over {
        return said;
    }
    tell_features(record, &mut said);
    tell_who(record, &mut said);
    let what = match record.layer {
        Layer::Early => "events that do not depend on one another",
        Layer::Paging => "stretches of traffic",
        Layer::Gauge => "a gauge",
    };
    let _ = write!(
        said,
        " The evidence of {what} reached {} of {}; a threshold for {} false alarms a week at {} rows a second.",
        number(record.evidence),
        number(record.threshold),
        number(record.budget.false_alarms_a_week),
        number(record.budget.rows_a_second),
    );
    said.push_str(" Nobody is blocked for it.");
    said
}

/// The model, with the version that it is about.
fn whole_name(record: &DriftRecord) -> String {
    let version = record.version.as_ref().map(|version| format!(" in version {version}"));
    format!("{}{}", record.model, version.unwrap_or_default())
}

fn rule_explained(record: &DriftRecord, rule: &Ruled) -> String {
    let what = if record.change == Change::Met { "is met" } else { "is no longer met" };
    let gauge = rule.when.split_whitespace().next().unwrap_or_default();
    let feature = record.features.first().map_or("", |moved| moved.name.as_str());
    format!(
        "Model {}: the rule `{}` {what}: {gauge} of {feature:?} is {}, and would be about {} without a change. A gauge \
         promises nothing about false alarms. Nobody is blocked for it.",
        whole_name(record),
        rule.when,
        number(record.evidence),
        number(rule.expected),
    )
}

fn tell_features(record: &DriftRecord, said: &mut String) {
    let Some(first) = record.features.first() else { return };
    let _ = write!(
        said,
        " {:?} moved most (effect {}, {})",
        first.name,
        number(first.effect),
        extent(record.extent)
    );
    match first.by {
        Some(derived) => {
            let _ = write!(said, ": {}.", derived_said(derived));
        }
        None => match first.bins.first() {
            Some(Bin { holds, reference, now }) => {
                let _ = write!(
                    said,
                    ": {holds} is {} of it, {} in the reference.",
                    percent(*now),
                    percent(*reference)
                );
            }
            None => said.push('.'),
        },
    }
    let others: Vec<String> =
        record.features.iter().skip(1).take(5).map(|moved| format!("{:?}", moved.name)).collect();
    if !others.is_empty() {
        let _ = write!(said, " So did {}.", others.join(", "));
    }
}

fn tell_who(record: &DriftRecord, said: &mut String) {
    let Behind { systemic, named, most } = &record.attribution;
    if *systemic {
        said.push_str(" Many known clients changed at once; none of them is the cause.");
    } else if let Some(last) = named.last() {
        let who: Vec<String> = named
            .iter()
            .map(|named| {
                format!("{} {} ({} of the latest rows)", named.level, named.who, percent(named.share))
            })
            .collect();
        let carry = if who.len() == 1 { "carries" } else { "carry" };
        let left = if last.before > 0.0 { last.after / last.before } else { 0.0 };
        let _ = write!(
            said,
            " It is not the whole of the clients: {} {carry} it, and without that {} of it is left.",
            who.join(", "),
            percent(left),
        );
    } else {
        said.push_str(" No client stands out as its cause.");
    }
    if let Some(Sent { who, share }) = most.as_ref().filter(|_| named.is_empty()) {
        let _ = write!(said, " Client {who} had sent {} of the latest rows.", percent(*share));
    }
}

fn derived_said(derived: Derived) -> &'static str {
    match derived {
        Derived::Repeats => "the same values come again and again",
        Derived::NewLabelRepeats => "a label that the reference never saw comes again and again",
        Derived::OutsideRange => "values lie outside of the range of the reference",
        Derived::NotThere => "values are missing, or of another type",
    }
}

/// The word of a change.
#[must_use]
pub fn change(change: Change) -> &'static str {
    match change {
        Change::Warning => "warning",
        Change::Drift => "drifting",
        Change::Over => "recovered",
        Change::Met => "rule_met",
        Change::Unmet => "rule_over",
    }
}

fn extent(extent: Extent) -> &'static str {
    match extent {
        Extent::Slight => "slight",
        Extent::Small => "small",
        Extent::Medium => "medium",
        Extent::Large => "large",
    }
}

fn as_change<S: Serializer>(of: &Change, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(change(*of))
}

fn as_extent<S: Serializer>(of: &Extent, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(extent(*of))
}

fn as_layer<S: Serializer>(of: &Layer, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match of {
        Layer::Early => "early",
        Layer::Paging => "paging",
        Layer::Gauge => "gauge",
    })
}

fn as_derived<S: Serializer>(of: &Option<Derived>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(of.map(derived).unwrap_or_default())
}

/// The word of a derived feature.
#[must_use]
pub fn derived(of: Derived) -> &'static str {
    match of {
        Derived::Repeats => "repeats",
        Derived::NewLabelRepeats => "new_label_repeats",
        Derived::OutsideRange => "outside_range",
        Derived::NotThere => "not_there",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_four_digits() {
        for (value, text) in [
            (0.0, "0"),
            (12.3456, "12.35"),
            (123_456.0, "123456"),
            (0.4217, "0.4217"),
            (2.0, "2"),
            (3.2e9, "3.200e9"),
        ] {
            assert_eq!(number(value), text);
        }
        assert_eq!(percent(0.305_04), "30.5 %");
    }
}
