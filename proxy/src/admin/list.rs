//! Lists that are read page by page.

use http::StatusCode;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use super::problem::Problem;

/// Entries of a list where the request names no other number.
pub const LIMIT: usize = 1000;
/// Entries of a list at most.
pub const LIMIT_MAX: usize = 10_000;
/// Entries that are looked through for one page, so that no filter holds up what happens meanwhile.
pub const LOOKED_THROUGH_MAX: usize = 20_000;

/// How a cursor is written.
pub fn cursor_schema() -> utoipa::openapi::schema::Object {
    utoipa::openapi::ObjectBuilder::new()
        .schema_type(utoipa::openapi::schema::Type::String)
        .pattern(Some("^[1-9][0-9]{0,17}$"))
        .build()
}

/// A moment in Unix seconds, from 0 to 1e12.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Moment(pub f64);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        let known = (0.0..=1e12).contains(&seconds);
        known.then_some(Self(seconds)).ok_or_else(|| D::Error::custom("since is 0 to 1e12 Unix seconds"))
    }
}

/// One page that was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Entries at most.
    pub limit: usize,
    /// The number before which it begins; the list's own beginning where there is none.
    pub before: Option<u64>,
}

impl Page {
    /// The page that a request asks for.
    ///
    /// # Errors
    /// The limit is too large, or the cursor is none of a list's.
    pub fn of(limit: Option<u32>, cursor: Option<&str>) -> Result<Self, Problem> {
        let bad = |detail: String, mend| Problem::new(StatusCode::BAD_REQUEST, detail, mend);
        let limit = limit.map_or(LIMIT, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        if limit > LIMIT_MAX {
            return Err(bad(format!("limit {limit} is too large"), "limit is a whole number, at most 10000"));
        }
        let number = |text: &str| {
            let digits = (1..=18).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
            let whole = digits && !text.starts_with('0');
            whole.then(|| text.parse().ok()).flatten().ok_or_else(|| {
                bad("this cursor is none of a list's".into(), "take `next` of the page before as it is")
            })
        };
        Ok(Self { limit, before: cursor.map(number).transpose()? })
    }

    /// The entries of `all` on this page that `wanted` lets through, and the cursor of the next page where there is
    /// one. Numbers fall; what comes meanwhile has a greater one, so nothing is given twice or left out.
    pub fn fill<T>(
        &self,
        all: impl Iterator<Item = (u64, T)>,
        wanted: impl Fn(&T) -> bool,
    ) -> (Vec<T>, Option<String>) {
        let mut page = Vec::new();
        let mut last = None;
        for (looked, (number, entry)) in all.enumerate() {
            if page.len() >= self.limit || looked >= LOOKED_THROUGH_MAX {
                // An empty page has nothing to go on from.
                return (page, last.map(|last: u64| last.to_string()));
            }
            last = Some(number);
            if wanted(&entry) {
                page.push(entry);
            }
        }
        (page, None)
    }
}

/// What is done to a client, as a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, serde::Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ActionWord {
    /// Requests go on, and name the decision to the model server.
    Tag,
    /// Refused beyond so many requests a minute.
    Throttle,
    /// Answers come coarse and late.
    Degrade,
    /// Refused.
    Block,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn paging_gives_every_item_once_while_new_ones_arrive(
            sizes in prop::collection::vec((1..7_u32, 0..5_u64), 1..40),
            first in 0..60_u64,
            modulo in 1..4_u64,
        ) {
            let mut newest = first;
            let (mut seen, mut cursor) = (Vec::new(), None::<String>);
            let mut sizes = sizes.into_iter().cycle();
            loop {
                let (limit, arrivals) = sizes.next().unwrap();
                let page = Page::of(Some(limit), cursor.as_deref()).unwrap();
                let all = (1..=newest).rev().filter(|number| page.before.is_none_or(|before| *number < before));
                let (items, next) = page.fill(all.map(|number| (number, number)), |number| number % modulo == 0);
                prop_assert!(items.len() <= limit as usize);
                seen.extend(items);
                newest += arrivals;
                cursor = next;
                if cursor.is_none() {
                    break;
                }
            }
            let expected: Vec<u64> = (1..=first).rev().filter(|number| number % modulo == 0).collect();
            prop_assert_eq!(seen, expected, "what stood at the first page, each once and newest first");
        }
    }

    #[test]
    fn a_page_that_looked_through_enough_goes_on_later() {
        let page = Page::of(Some(10), None).unwrap();
        let numbers = (1..=LOOKED_THROUGH_MAX as u64 + 5).rev().map(|number| (number, number));
        let (items, next) = page.fill(numbers, |number| *number == 1);
        assert_eq!((items, next.as_deref()), (vec![], Some("6")));
    }
}
