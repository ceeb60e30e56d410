//! The output contract: what a model's answers must keep, judged row by row, without memory.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::facts::{Cell, Features};
use crate::query::{ParameterError, Parameters};

/// MITRE ATLAS technique that a broken contract points to: evasion that succeeded.
pub const ATLAS: &str = "AML.T0015";

/// OWASP: an answer that breaks its contract was asked for by somebody who manipulates inputs.
pub const OWASP: &str = "ML01:2023";

/// The `detector` of its findings.
pub const NAME: &str = "output_contract";

/// What an answer must keep. Rules are checked in order; the first that a value breaks is reported.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Contract {
    /// The rules; an empty list allows every finite answer.
    pub rules: Vec<Rule>,
    /// Whether NaN and infinities are allowed in outputs; by default they break the contract.
    pub allow_non_finite: bool,
    /// Block a client after this many distinct rows of its own whose answers broke the contract; 0 never does.
    pub block_after: u32,
}

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// Column of the answer by name or position; every column where absent.
    pub output: Option<String>,
    /// Smallest allowed number.
    pub minimum: Option<f64>,
    /// Largest allowed number.
    pub maximum: Option<f64>,
    /// Allowed labels of a text output.
    pub labels: Option<Vec<String>>,
    /// What all columns of a row must add up to, such as 1 for class scores.
    pub sum: Option<f64>,
    /// How far the sum may be off; 0.001 where absent.
    pub sum_within: Option<f64>,
}

/// One value that breaks the contract.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Violation {
    /// Row of the answer.
    pub row: usize,
    /// Column of the answer; 0 for a sum, which is the row's.
    pub column: usize,
    /// The column's name, or its position where the answer names none.
    pub output: String,
    /// What the value was, as text for people.
    pub found: String,
    /// What was broken, as text for people: "at least 0".
    pub expected: String,
    /// The value itself; NaN where it is not a number.
    pub value: f64,
    /// The bound that it broke; NaN where the rule has none.
    pub bound: f64,
    /// The nearest number that the contract allows, where there is one.
    pub nearest: Option<f64>,
}

/// How far a sum may be off where the rule does not say.
const SUM_WITHIN: f64 = 0.001;

impl Contract {
    /// Appends every violation of `answer` to `out`: outputs that are missing altogether, then in order of rows and
    /// columns at most one to a value, and one to a sum, which stands after its row's values.
    /// O(rows x width x rules).
    pub fn judge(&self, answer: &Features, out: &mut Vec<Violation>) {
        out.extend(self.rules.iter().filter_map(|rule| rule.judge_presence(answer)));
        for row in 0..answer.rows() {
            for (column, &cell) in answer.row(row).iter().enumerate() {
                if let Some(violation) = self.judge_cell(answer, row, column, cell) {
                    out.push(violation);
                }
            }
            if let Some(violation) = self.rules.iter().find_map(|rule| rule.judge_sum(answer, row)) {
                out.push(violation);
            }
        }
    }

    fn judge_cell(&self, answer: &Features, row: usize, column: usize, cell: Cell) -> Option<Violation> {
        let broken = self
            .finite(cell)
            .or_else(|| self.rules_of(answer, column).find_map(|rule| rule.judge_value(answer, cell)))?;
        Some(Violation {
            row,
            column,
            output: answer.name(column),
            found: text_of(answer, cell),
            expected: broken.expected,
            value: number_of(cell),
            bound: broken.bound,
            nearest: self.nearest(answer, column, cell),
        })
    }

    fn finite(&self, cell: Cell) -> Option<Broken> {
        let offends = matches!(cell, Cell::Number(number) if !number.is_finite()) && !self.allow_non_finite;
        offends.then(|| Broken { expected: "a finite number".to_owned(), bound: f64::NAN })
    }

    /// The number nearest to `cell` within every bound of its column; none where labels decide, where the bounds
    /// contradict each other, or where NaN is as far from every number as from any other.
    fn nearest(&self, answer: &Features, column: usize, cell: Cell) -> Option<f64> {
        let Cell::Number(number) = cell else { return None };
        if number.is_nan() || self.rules_of(answer, column).any(|rule| rule.labels.is_some()) {
            return None;
        }
        let lowest = self.rules_of(answer, column).filter_map(|rule| rule.minimum).reduce(f64::max);
        let highest = self.rules_of(answer, column).filter_map(|rule| rule.maximum).reduce(f64::min);
        let raised = lowest.map_or(number, |lowest| number.max(lowest));
        let nearest = highest.map_or(raised, |highest| raised.min(highest));
        let allowed = nearest.is_finite() && lowest.is_none_or(|lowest| nearest >= lowest);
        allowed.then_some(nearest)
    }

    fn rules_of<'a>(&'a self, answer: &'a Features, column: usize) -> impl Iterator<Item = &'a Rule> {
        self.rules.iter().filter(move |rule| rule.covers(answer, column))
    }
}

/// What a value broke.
struct Broken {
    expected: String,
    bound: f64,
}

impl Rule {
    fn covers(&self, answer: &Features, column: usize) -> bool {
        let Some(output) = &self.output else { return true };
        answer.names.get(column).is_some_and(|name| name == **output)
            || output.parse().is_ok_and(|position: usize| position == column)
    }

    /// An answer without the output that a rule speaks of does not keep the rule by leaving it out.
    fn judge_presence(&self, answer: &Features) -> Option<Violation> {
        let output = self.output.as_ref()?;
        let absent = answer.rows() > 0 && !(0..answer.width).any(|column| self.covers(answer, column));
        absent.then(|| Violation {
            row: 0,
            column: 0,
            output: output.clone(),
            found: "nothing".to_owned(),
            expected: format!("an output {output:?}"),
            value: f64::NAN,
            bound: f64::NAN,
            nearest: None,
        })
    }

    fn judge_value(&self, answer: &Features, cell: Cell) -> Option<Broken> {
        self.judge_bounds(cell).or_else(|| self.judge_label(answer, cell))
    }

    /// NaN passes here: whether it is allowed at all was asked before.
    fn judge_bounds(&self, cell: Cell) -> Option<Broken> {
        let number = match cell {
            Cell::Number(number) => number,
            Cell::Missing | Cell::Text(..) => return self.wants_number(),
        };
        let low = self.minimum.filter(|&minimum| number < minimum);
        let high = self.maximum.filter(|&maximum| number > maximum);
        let below = low.map(|bound| Broken { expected: format!("at least {bound}"), bound });
        below.or_else(|| high.map(|bound| Broken { expected: format!("at most {bound}"), bound }))
    }

    fn wants_number(&self) -> Option<Broken> {
        let expected = match (self.minimum, self.maximum) {
            (None, None) => return None,
            (Some(minimum), None) => format!("a number, at least {minimum}"),
            (None, Some(maximum)) => format!("a number, at most {maximum}"),
            (Some(minimum), Some(maximum)) => format!("a number from {minimum} to {maximum}"),
        };
        Some(Broken { expected, bound: f64::NAN })
    }

    fn judge_label(&self, answer: &Features, cell: Cell) -> Option<Broken> {
        let labels = self.labels.as_ref()?;
        let known = match cell {
            Cell::Missing => false,
            Cell::Number(number) => labels.iter().any(|label| label.parse() == Ok(number)),
            Cell::Text(start, end) => labels.iter().any(|label| label == answer.text_of(start, end)),
        };
        (!known).then(|| Broken { expected: format!("one of {}", labels.join(", ")), bound: f64::NAN })
    }

    fn judge_sum(&self, answer: &Features, row: usize) -> Option<Violation> {
        let wanted = self.sum?;
        let within = self.sum_within.unwrap_or(SUM_WITHIN);
        let sum: f64 = answer.row(row).iter().map(|&cell| number_of(cell)).sum();
        // A comparison that also catches NaN: a row with a text or a gap adds up to nothing.
        let holds = (sum - wanted).abs() <= within;
        (!holds).then(|| Violation {
            row,
            column: 0,
            output: answer.name(0),
            found: format!("a sum of {sum}"),
            expected: format!("a sum of {wanted} within {within}"),
            value: sum,
            bound: wanted,
            nearest: None,
        })
    }
}

fn number_of(cell: Cell) -> f64 {
    match cell {
        Cell::Number(number) => number,
        Cell::Missing | Cell::Text(..) => f64::NAN,
    }
}

/// Longest text of an answer that is repeated to people.
const FOUND_CHARACTERS: usize = 64;

fn text_of(answer: &Features, cell: Cell) -> String {
    match cell {
        Cell::Missing => "nothing".to_owned(),
        Cell::Number(number) => number.to_string(),
        Cell::Text(start, end) => {
            let start_of_text: String = answer.text_of(start, end).chars().take(FOUND_CHARACTERS).collect();
            format!("{start_of_text:?}")
        }
    }
}

impl Parameters for Contract {
    fn check(&self) -> Result<(), ParameterError> {
        self.rules.iter().enumerate().try_for_each(|(index, rule)| {
            rule.check().map_err(|(key, message)| ParameterError {
                path: vec!["rules".to_owned(), index.to_string(), key.to_owned()],
                message: message.to_owned(),
            })
        })
    }
}

impl Rule {
    fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let bounds = [("minimum", self.minimum), ("maximum", self.maximum), ("sum", self.sum)];
        if let Some((key, _)) =
            bounds.into_iter().find(|(_, bound)| bound.is_some_and(|bound| !bound.is_finite()))
        {
            return Err((key, "must be a finite number"));
        }
        if self.minimum.zip(self.maximum).is_some_and(|(minimum, maximum)| minimum > maximum) {
            return Err(("minimum", "lies above the maximum; exchange the two"));
        }
        if self.labels.as_ref().is_some_and(Vec::is_empty) {
            return Err(("labels", "allows no label at all; name some or leave it out"));
        }
        if self.sum_within.is_some_and(|within| !(within >= 0.0 && within.is_finite())) {
            return Err(("sum_within", "must be 0 or more"));
        }
        let empty =
            [self.minimum, self.maximum, self.sum].iter().all(Option::is_none) && self.labels.is_none();
        if empty {
            Err(("output", "the rule asks for nothing; add minimum, maximum, labels or sum"))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(names: &[&str], width: usize, cells: Vec<Cell>) -> Features {
        let names = names.iter().copied().collect();
        Features { names, width, cells, text: "goodbad".to_owned(), ..Features::default() }
    }

    fn numbers(width: usize, values: &[f64]) -> Features {
        answer(&[], width, values.iter().map(|&value| Cell::Number(value)).collect())
    }

    fn judge(rules: Vec<Rule>, answer: &Features) -> Vec<Violation> {
        let mut out = Vec::new();
        Contract { rules, ..Contract::default() }.judge(answer, &mut out);
        out
    }

    fn at_least(minimum: f64) -> Rule {
        Rule { minimum: Some(minimum), ..Rule::default() }
    }

    #[test]
    fn a_negative_price_is_found_at_its_row() {
        let found = judge(vec![at_least(0.0)], &numbers(1, &[3.0, 0.0, -12.5]));
        assert_eq!(found.len(), 1);
        let Violation { row, column, value, bound, nearest, .. } = found[0];
        assert_eq!((row, column, value, bound, nearest), (2, 0, -12.5, 0.0, Some(0.0)));
        assert_eq!((found[0].found.as_str(), found[0].expected.as_str()), ("-12.5", "at least 0"));
    }

    #[test]
    fn leaving_an_output_out_does_not_keep_its_rule() {
        let price = Rule { output: Some("price".to_owned()), ..at_least(0.0) };
        let named = |name: &str| answer(&[name], 1, vec![Cell::Number(1.0)]);
        assert!(judge(vec![price.clone()], &named("price")).is_empty());
        let found = judge(vec![price.clone()], &named("cost"));
        assert_eq!((found.len(), found[0].expected.as_str()), (1, "an output \"price\""));
        assert!(judge(vec![price], &Features::default()).is_empty(), "an empty batch has no output to miss");
    }

    #[test]
    fn numbers_must_be_finite_unless_allowed() {
        let infinite = numbers(1, &[f64::NAN, f64::INFINITY, 1.0]);
        let found = judge(vec![Rule { maximum: Some(10.0), ..Rule::default() }], &infinite);
        assert_eq!(
            found.iter().map(|v| (v.row, v.nearest)).collect::<Vec<_>>(),
            [(0, None), (1, Some(10.0))]
        );
        let mut out = Vec::new();
        Contract { allow_non_finite: true, ..Contract::default() }.judge(&infinite, &mut out);
        assert!(out.is_empty(), "allowed, yet {out:?}");
    }

    #[test]
    fn a_bound_asks_for_a_number() {
        let mixed = answer(&[], 1, vec![Cell::Text(0, 4), Cell::Missing]);
        let found = judge(vec![at_least(0.0)], &mixed);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!((found[0].found.as_str(), found[0].nearest), ("\"good\"", None));
        assert!(judge(Vec::new(), &mixed).is_empty(), "no rule, no violation");
    }

    #[test]
    fn labels_are_a_closed_set() {
        let rule = Rule { labels: Some(vec!["good".to_owned(), "1".to_owned()]), ..Rule::default() };
        let cells =
            vec![Cell::Text(0, 4), Cell::Text(4, 7), Cell::Number(1.0), Cell::Number(2.0), Cell::Missing];
        let rows: Vec<usize> = judge(vec![rule], &answer(&[], 1, cells)).iter().map(|v| v.row).collect();
        assert_eq!(rows, [1, 3, 4]);
    }

    #[test]
    fn scores_add_up() {
        let rule = Rule { sum: Some(1.0), ..Rule::default() };
        let rows = judge(vec![rule], &numbers(2, &[0.4, 0.6, 0.5, 0.6, 0.4, 0.6005]));
        assert_eq!(rows.iter().map(|v| v.row).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn a_rule_covers_its_output_only() {
        let rule = |output: &str| Rule { output: Some(output.to_owned()), ..at_least(0.0) };
        let cells = vec![Cell::Number(-1.0), Cell::Number(-1.0)];
        for output in ["price", "1"] {
            let found = judge(vec![rule(output)], &answer(&["score", "price"], 2, cells.clone()));
            assert_eq!(found.iter().map(|v| v.column).collect::<Vec<_>>(), [1], "output {output}");
        }
    }

    #[test]
    fn a_rule_that_cannot_hold_is_refused() {
        for (rule, key) in [
            (Rule { maximum: Some(-1.0), ..at_least(0.0) }, "minimum"),
            (Rule { labels: Some(Vec::new()), ..Rule::default() }, "labels"),
            (Rule { sum: Some(1.0), sum_within: Some(-1.0), ..Rule::default() }, "sum_within"),
            (Rule::default(), "output"),
            (at_least(f64::NAN), "minimum"),
        ] {
            let error =
                Parameters::check(&Contract { rules: vec![rule], ..Contract::default() }).unwrap_err();
            assert_eq!(error.path, ["rules", "0", key], "{error}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_clamped_keeps_the_contract(
            values in prop::collection::vec(prop_oneof![any::<f64>(), -5.0..5.0_f64], 1..40),
            minimum in prop::option::of(-3.0..3.0_f64),
            maximum in prop::option::of(-3.0..3.0_f64),
        ) {
            let rules = vec![
                Rule { minimum, ..Rule::default() },
                Rule { maximum, ..Rule::default() },
            ];
            let mut answer = numbers(1, &values);
            let violations = judge(rules.clone(), &answer);
            for violation in &violations {
                if let Some(nearest) = violation.nearest {
                    answer.cells[violation.row] = Cell::Number(nearest);
                }
            }
            let left = judge(rules, &answer);
            let unmendable = violations.iter().filter(|v| v.nearest.is_none()).count();
            prop_assert_eq!(left.len(), unmendable);
        }

        #[test]
        fn a_value_is_reported_exactly_where_it_leaves_its_bounds(
            values in prop::collection::vec(-5.0..5.0_f64, 0..60), minimum in -3.0..0.0_f64, maximum in 0.0..3.0_f64,
        ) {
            let rule = Rule { minimum: Some(minimum), maximum: Some(maximum), ..Rule::default() };
            let expected: Vec<usize> = values.iter().enumerate()
                .filter(|(_, value)| !(minimum..=maximum).contains(*value)).map(|(row, _)| row).collect();
            let found: Vec<usize> = judge(vec![rule], &numbers(1, &values)).iter().map(|v| v.row).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
