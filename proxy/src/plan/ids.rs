//! Ids of configured models: what captures carry in place of a name.

use std::collections::BTreeMap;

use crate::metrics::MODELS_MAX;

/// Ids by name, handed out once and kept for the life of the process. A capture that was taken before a reload and
/// comes after it still means the same model, and one of a model that is gone means none.
#[derive(Clone, Debug, Default)]
pub struct ModelIds {
    by_name: BTreeMap<String, u16>,
}

/// Every id was handed out.
#[derive(Debug, thiserror::Error)]
#[error(
    "more than {MODELS_MAX} names of models since the start, those included that are gone; restart to count afresh"
)]
pub struct TooManyModels;

impl ModelIds {
    /// The id of `name`, a new one where it has none.
    ///
    /// # Errors
    /// When there are none left.
    pub fn assign(&mut self, name: &str) -> Result<u16, TooManyModels> {
        if let Some(id) = self.get(name) {
            return Ok(id);
        }
        let id = u16::try_from(self.by_name.len()).map_err(|_| TooManyModels)?;
        if usize::from(id) >= MODELS_MAX {
            return Err(TooManyModels);
        }
        self.by_name.insert(name.to_owned(), id);
        Ok(id)
    }

    /// Every name with its id.
    pub fn all(&self) -> impl Iterator<Item = (&str, u16)> {
        self.by_name.iter().map(|(name, id)| (name.as_str(), *id))
    }

    /// The id of `name`, if it has one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<u16> {
        self.by_name.get(name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_stays_with_its_name() {
        let mut ids = ModelIds::default();
        assert_eq!(["a", "b", "a", "c"].map(|name| ids.assign(name).unwrap()), [0, 1, 0, 2]);
        assert_eq!((ids.get("b"), ids.get("d")), (Some(1), None));
    }

    #[test]
    fn ids_are_bounded() {
        let mut ids = ModelIds::default();
        for number in 0..MODELS_MAX {
            ids.assign(&number.to_string()).unwrap();
        }
        assert!(ids.assign("one more").is_err(), "more names than there are metrics for");
        assert_eq!(ids.assign("7").unwrap(), 7, "those that are known stay known");
    }
}
