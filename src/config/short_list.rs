//! Lists that are short by the limits of [`limits`](super::limits). A sort of the library would be a
//! tenth of the plugin, a copy for each type that is sorted.

use std::collections::BTreeSet;

/// Sorts; what has equal keys keeps its order. Takes quadratic time.
pub fn sort_by_key<T, K: Ord>(list: &mut [T], key: impl Fn(&T) -> K) {
    for end in 1..list.len() {
        let (sorted, rest) = list.split_at(end);
        let Some(next) = rest.first() else { return };
        let place = sorted.partition_point(|item| key(item) <= key(next));
        if let Some(moved) = list.get_mut(place..=end) {
            moved.rotate_right(1);
        }
    }
}

/// Is nothing there twice?
pub fn are_distinct<'a>(items: impl IntoIterator<Item = &'a str>) -> bool {
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
    fn what_is_there_twice() {
        assert!(are_distinct([]));
        assert!(are_distinct(["a", "b"]));
        assert!(!are_distinct(["a", "b", "a"]));
    }
}
