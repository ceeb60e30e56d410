//! The contract's verdict on one answer body, and what an answer looks like that was put right.

use checkgate_config::settings::OnViolation;
use checkgate_detectors::contract::{Contract, Violation};
use checkgate_detectors::facts::{Features, NotInspected};
use http::HeaderMap;
use serde_json::Value;

use super::splice;
use crate::capture::Judged;
use crate::decode::{Decoder, Head, Part};

/// Violations that are told of one answer; the rest of its rows are put right or withheld all the same.
const VIOLATIONS_TOLD_MAX: usize = 16;

/// What an answer is judged by.
#[derive(Clone, Copy)]
pub struct Judge<'a> {
    /// Reads the body.
    pub decoder: &'a dyn Decoder,
    /// What it must keep.
    pub contract: &'a Contract,
    /// What happens when it does not.
    pub on_violation: &'a OnViolation,
    /// Columns of a row that are read.
    pub columns_max: usize,
}

/// The verdict.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// It keeps its contract.
    Kept(Judged),
    /// It broke it and was put right: this body goes out instead.
    Mended(Judged, Vec<u8>),
    /// It broke it and is withheld.
    Broken(Judged),
    /// It cannot be judged.
    Unreadable(NotInspected),
}

impl Judge<'_> {
    /// Judges a whole body.
    pub fn judge(&self, headers: &HeaderMap, body: &[u8]) -> Verdict {
        let mut features = Features::default();
        if let Err(reason) = self.read(headers, body, &mut features) {
            return Verdict::Unreadable(reason);
        }
        let violations = self.violations(&features);
        if violations.is_empty() {
            return Verdict::Kept(judged(&features, violations));
        }
        match self.mended(headers, body, &features, &violations) {
            Some(mended) => Verdict::Mended(judged(&features, violations), mended),
            None => Verdict::Broken(judged(&features, violations)),
        }
    }

    fn read(&self, headers: &HeaderMap, body: &[u8], out: &mut Features) -> Result<(), NotInspected> {
        // Every row is judged: an offending one must not hide behind a cap.
        let (rows_max, columns_max) = (usize::MAX, self.columns_max);
        let head = Head { headers, part: Part::Answer, rows_max, columns_max };
        self.decoder.decode(&head, body, out)
    }

    fn violations(&self, features: &Features) -> Vec<Violation> {
        let mut violations = Vec::new();
        self.contract.judge(features, &mut violations);
        violations
    }

    /// The body put right, if the operator wants that, every offending value has a place and a substitute, and
    /// the result keeps the contract.
    fn mended(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        found: &Features,
        broken: &[Violation],
    ) -> Option<Vec<u8>> {
        if !self.decoder.is_rewritable() {
            return None;
        }
        let mended = match self.on_violation {
            OnViolation::Refuse => return None,
            OnViolation::Clamp => {
                spliced(body, found, broken, |violation| Some(violation.nearest?.to_string()))
            }
            // An object is a whole answer of the operator's own; it is not judged by the rules it replaces.
            OnViolation::Fallback(whole @ Value::Object(_)) => return serde_json::to_vec(whole).ok(),
            OnViolation::Fallback(Value::Array(row)) => {
                spliced(body, found, &whole_rows(found, broken), |cell| {
                    row.get(cell.column).map(Value::to_string)
                })
            }
            OnViolation::Fallback(value) => spliced(body, found, broken, |_| Some(value.to_string())),
        }?;
        let mut reread = Features::default();
        self.read(headers, &mended, &mut reread).ok()?;
        self.violations(&reread).is_empty().then_some(mended)
    }
}

fn judged(features: &Features, mut violations: Vec<Violation>) -> Judged {
    violations.truncate(VIOLATIONS_TOLD_MAX);
    Judged { rows: features.rows() as u64, violations }
}

/// One pseudo-violation for every cell of every row that has a violation: a row is replaced whole.
fn whole_rows(features: &Features, broken: &[Violation]) -> Vec<Violation> {
    let mut rows: Vec<&Violation> = broken.iter().collect();
    rows.dedup_by_key(|violation| violation.row);
    let cells = rows.into_iter().flat_map(|violation| {
        (0..features.width).map(move |column| Violation { column, ..violation.clone() })
    });
    cells.collect()
}

/// `body` with the text of every violating cell replaced.
fn spliced(
    body: &[u8],
    features: &Features,
    violations: &[Violation],
    substitute: impl Fn(&Violation) -> Option<String>,
) -> Option<Vec<u8>> {
    let place = |violation: &Violation| {
        let cell = violation.row.checked_mul(features.width)?.checked_add(violation.column)?;
        // A value that the body leaves out has no place to put another into.
        features.spans.get(cell).copied().filter(|span| span.start < span.end)
    };
    let edits = violations.iter().map(|violation| Some((place(violation)?, substitute(violation)?)));
    splice::spliced(body, edits.collect::<Option<Vec<_>>>()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::decode;

    fn contract(rules: Value) -> Contract {
        serde_json::from_value(json!({ "rules": rules })).unwrap()
    }

    fn judge(contract: &Contract, on_violation: &OnViolation, body: &str) -> Verdict {
        let spec = decode::spec("oip_v2").unwrap();
        let decoder = (spec.build)(&(spec.defaults)()).unwrap();
        let judge = Judge { decoder: &*decoder, contract, on_violation, columns_max: 4096 };
        judge.judge(&HeaderMap::new(), body.as_bytes())
    }

    fn prices(data: &str, rows: usize) -> String {
        format!(
            r#"{{"outputs":[{{"name":"price","shape":[{rows},1],"datatype":"FP64","data":[{data}]}}], "id" : "7"}}"#
        )
    }

    fn mended(verdict: Verdict) -> String {
        match verdict {
            Verdict::Mended(_, body) => String::from_utf8(body).unwrap(),
            other => panic!("not mended: {other:?}"),
        }
    }

    #[test]
    fn a_kept_contract_is_kept_and_a_broken_one_is_told_by_row() {
        let at_least_0 = contract(json!([{"output": "price", "minimum": 0.0}]));
        let kept = judge(&at_least_0, &OnViolation::Refuse, &prices("1, 2.5", 2));
        assert_eq!(kept, Verdict::Kept(Judged { rows: 2, violations: vec![] }));
        let Verdict::Broken(judged) = judge(&at_least_0, &OnViolation::Refuse, &prices("1, -2.5", 2)) else {
            panic!("a negative price passed");
        };
        assert_eq!((judged.violations[0].row, judged.violations[0].value), (1, -2.5));
    }

    #[test]
    fn clamping_changes_the_offending_number_and_not_one_byte_besides() {
        let at_least_0 = contract(json!([{"minimum": 0.0}]));
        let body = prices("1.50, -2e3,\n 3", 3);
        assert_eq!(mended(judge(&at_least_0, &OnViolation::Clamp, &body)), body.replace("-2e3", "0"));
    }

    #[test]
    fn what_has_no_nearest_value_is_withheld() {
        let at_least_0 = contract(json!([{"minimum": 0.0}]));
        assert!(matches!(judge(&at_least_0, &OnViolation::Clamp, &prices("NaN", 1)), Verdict::Broken(_)));
        let sum = contract(json!([{"sum": 1.0}]));
        let scores = r#"{"outputs":[{"name":"p","shape":[1,2],"datatype":"FP64","data":[0.9, 0.9]}]}"#;
        assert!(matches!(judge(&sum, &OnViolation::Clamp, scores), Verdict::Broken(_)));
    }

    #[test]
    fn a_clamp_that_breaks_another_rule_is_withheld() {
        let both = contract(json!([{"minimum": 0.0}, {"sum": 1.0}]));
        let scores = r#"{"outputs":[{"name":"p","shape":[1,2],"datatype":"FP64","data":[-0.5, 1.5]}]}"#;
        assert!(matches!(judge(&both, &OnViolation::Clamp, scores), Verdict::Broken(_)));
    }

    #[test]
    fn a_fallback_stands_in_for_the_value_the_row_or_the_answer() {
        let at_least_0 = contract(json!([{"minimum": 0.0}]));
        let one = OnViolation::Fallback(json!(99));
        assert_eq!(mended(judge(&at_least_0, &one, &prices("5,-1", 2))), prices("5,99", 2));
        let row = OnViolation::Fallback(json!([0.25, 0.75]));
        let two = |data: &str| {
            format!(r#"{{"outputs":[{{"name":"p","shape":[2,2],"datatype":"FP64","data":[{data}]}}]}}"#)
        };
        assert_eq!(mended(judge(&at_least_0, &row, &two("1,1,-1,2"))), two("1,1,0.25,0.75"));
        let whole = OnViolation::Fallback(json!({"outputs": []}));
        assert_eq!(mended(judge(&at_least_0, &whole, &prices("-1", 1))), r#"{"outputs":[]}"#);
        let bad = OnViolation::Fallback(json!(-5));
        assert!(
            matches!(judge(&at_least_0, &bad, &prices("-1", 1)), Verdict::Broken(_)),
            "a fallback is judged too"
        );
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let any = contract(json!([]));
        assert_eq!(judge(&any, &OnViolation::Refuse, "{"), Verdict::Unreadable(NotInspected::Unparsable));
        assert_eq!(judge(&any, &OnViolation::Refuse, "{}"), Verdict::Unreadable(NotInspected::Shape));
    }

    proptest! {
        /// Whatever numbers an answer holds, what clamping lets out keeps the contract.
        #[test]
        fn nothing_below_the_minimum_is_let_out(values in prop::collection::vec(-1e6_f64..1e6, 1..50)) {
            let at_least_0 = contract(json!([{"minimum": 0.0}]));
            let data = values.iter().map(f64::to_string).collect::<Vec<_>>().join(",");
            let body = prices(&data, values.len());
            let out = match judge(&at_least_0, &OnViolation::Clamp, &body) {
                Verdict::Kept(_) => body,
                verdict => mended(verdict),
            };
            let verdict = judge(&at_least_0, &OnViolation::Refuse, &out);
            prop_assert!(matches!(verdict, Verdict::Kept(_)), "{:?}", verdict);
        }
    }
}
