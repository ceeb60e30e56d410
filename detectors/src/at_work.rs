//! Which detector is at work, for whoever watches from outside.
//!
//! The core has no clock, so it cannot tell that a detector does not come back. It says which one it asks; the shell
//! sees that this stays the same for too long.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::query;

/// A place where the engines of one lane write down which detector they ask. Clones are the same place.
#[derive(Clone, Debug, Default)]
pub struct AtWork(Arc<AtomicUsize>);

impl AtWork {
    /// The detector at `position` of all detectors is asked.
    pub(crate) fn begin(&self, position: usize) {
        self.0.store(position + 1, Ordering::Relaxed);
    }

    /// It came back.
    pub(crate) fn end(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// The name of the detector that is asked now, if one is.
    #[must_use]
    pub fn detector(&self) -> Option<&'static str> {
        let position = self.0.load(Ordering::Relaxed).checked_sub(1)?;
        query::all().nth(position).map(|spec| spec.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_the_detector_that_was_asked_and_has_not_come_back() {
        let (place, seen) = (AtWork::default(), AtWork::default());
        assert_eq!(place.detector(), None);
        let watcher = place.clone();
        for (position, spec) in query::all().enumerate() {
            place.begin(position);
            assert_eq!(watcher.detector(), Some(spec.name));
        }
        place.end();
        assert_eq!((watcher.detector(), seen.detector()), (None, None));
    }
}
