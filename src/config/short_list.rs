//! Sorting of lists that [`limits`](super::limits) keeps short. The sort of the standard library, with a copy for each
//! type, would make up a tenth of the plugin.

use std::collections::BTreeSet;

/// Sorts by a key, in quadratic time. Items with equal keys keep their order.
pub(crate) fn sort_by_key<T, K: Ord>(list: &mut [T], key: impl Fn(&T) -> K) {
    for end in 1..list.len() {
        let (sorted, rest) = list.split_at(end);
        let Some(next) = rest.first() else { return };
        let position = sorted.partition_point(|item| key(item) <= key(next));
        if let Some(moved) = list.get_mut(position..=end) {
            moved.rotate_right(1);
        }
    }
}

/// Whether no item appears twice.
pub(crate) fn are_distinct<'a>(items: impl IntoIterator<Item = &'a str>) -> bool {
    let mut seen = BTreeSet::new();
    items.into_iter().all(|item| seen.insert(item))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_sorts_as_the_library_does(list in prop::collection::vec((0_u8..8, any::<u8>()), 0..40)) {
            let (mut ours, mut theirs) = (list.clone(), list);
            sort_by_key(&mut ours, |item| item.0);
            theirs.sort_by_key(|item| item.0);
            prop_assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn duplicates_are_found() {
        assert!(are_distinct([]));
        assert!(are_distinct(["a", "b"]));
        assert!(!are_distinct(["a", "b", "a"]));
    }
}
