//! A value for each client under its index, of which most clients have none.
//!
//! Indexes are cut into pages of sixteen. A page is there once one of its clients has a value other than the default:
//! what nobody has costs nothing, and what everybody has is neither copied nor kept twice as large when clients come.

use serde::{Deserialize, Serialize};

use crate::shelf::ClientIndex;

const PAGE: usize = 16;

/// Values by client.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Pages<T> {
    pages: Vec<Option<Box<[T; PAGE]>>>,
}

impl<T: Default> Pages<T> {
    /// The client's value; nothing where it is the default, mostly.
    #[must_use]
    pub fn get(&self, client: ClientIndex) -> Option<&T> {
        self.pages.get(client / PAGE)?.as_deref()?.get(client % PAGE)
    }

    /// The client's value, to be changed; nothing where [`Pages::get`] gives nothing.
    pub fn get_mut(&mut self, client: ClientIndex) -> Option<&mut T> {
        self.pages.get_mut(client / PAGE)?.as_deref_mut()?.get_mut(client % PAGE)
    }

    /// The client's value, to be changed; there is always one.
    pub fn entry(&mut self, client: ClientIndex) -> Option<&mut T> {
        let page = client / PAGE;
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || None);
        }
        let new = || Box::new(std::array::from_fn(|_| T::default()));
        self.pages.get_mut(page)?.get_or_insert_with(new).get_mut(client % PAGE)
    }

    /// Changes the client's value. Where that leaves the default as it is, nothing is kept.
    pub fn change<R>(&mut self, client: ClientIndex, change: impl FnOnce(&mut T) -> R) -> R
    where
        T: PartialEq,
    {
        if let Some(value) = self.get_mut(client) {
            return change(value);
        }
        let mut value = T::default();
        let result = change(&mut value);
        if value != T::default()
            && let Some(entry) = self.entry(client)
        {
            *entry = value;
        }
        result
    }

    /// The values of all pages, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.pages.iter_mut().flatten().flat_map(|page| page.iter_mut())
    }

    /// Bytes held, what the values themselves point to left out.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let pages = self.pages.iter().flatten().count();
        pages * size_of::<[T; PAGE]>() + self.pages.capacity() * size_of::<Option<Box<[T; PAGE]>>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_under_its_index_and_defaults_are_not_kept() {
        let mut pages: Pages<u64> = Pages::default();
        assert_eq!(pages.get(7), None);
        pages.change(100, |value| *value += 0);
        assert_eq!(pages.bytes(), 0, "what stays the default is not kept");
        assert_eq!(pages.change(100, |value| std::mem::replace(value, 5)), 0);
        assert_eq!((pages.get(100), pages.get(99), pages.get(3)), (Some(&5), Some(&0), None));
        *pages.entry(3).unwrap() = 4;
        assert_eq!(pages.iter_mut().map(|value| *value).sum::<u64>(), 9);
    }
}
