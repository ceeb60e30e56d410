//! What the screen accepts and refuses, from the files in `vectors/`, and what must hold for any bytes.

mod agreement;
mod budgets;
mod generated;
mod slicing;
mod vectors;

use std::collections::BTreeSet;

use super::Refused;
use super::http1::Bounds;

/// The bounds that are on by default.
const BOUNDS: Bounds = Bounds { head_bytes: 64 * 1024, header_lines: 256 };

#[test]
fn every_reason_is_listed_once_and_named_once() {
    let names: BTreeSet<_> = Refused::ALL.map(Refused::as_str).into();
    assert_eq!(names.len(), Refused::ALL.len(), "two reasons share a name, or one is listed twice");
    for name in names {
        assert!(
            name.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase()),
            "{name} is a label value"
        );
    }
}

#[test]
fn every_reason_is_tripped_by_a_vector_or_a_budget() {
    let mut tripped = vectors::reasons();
    tripped.extend(budgets::reasons());
    for reason in Refused::ALL {
        assert!(tripped.contains(reason.as_str()), "no test trips {reason:?}");
    }
}

#[test]
fn every_status_says_that_the_client_erred_or_wants_what_is_not_served() {
    for reason in Refused::ALL {
        assert!([400, 414, 431, 505].contains(&reason.status()), "{reason:?} answers {}", reason.status());
    }
}
