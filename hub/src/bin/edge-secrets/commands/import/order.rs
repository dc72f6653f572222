//! In which order definitions are published: what is required before what requires it.

use std::collections::{BTreeMap, BTreeSet};

/// Orders things by what they require of each other; those that nothing orders stay as they stood.
/// What is required and not among them is nobody's concern here.
///
/// # Errors
/// Those that require each other in a ring, as far as it was followed.
pub(super) fn order<K: Ord + Clone>(
    keys: &[K],
    requires: impl Fn(&K) -> Vec<K>,
) -> Result<Vec<K>, Vec<K>> {
    let known: BTreeSet<&K> = keys.iter().collect();
    let mut states: BTreeMap<K, State> = BTreeMap::new();
    let mut ordered = Vec::with_capacity(known.len());
    for key in keys {
        // By hand instead of by recursion: rings and chains may be long.
        let mut way = vec![(key.clone(), None)];
        while let Some((key, rest)) = way.pop() {
            let mut rest: Vec<K> = match rest {
                Some(rest) => rest,
                None => {
                    match states.get(&key) {
                        Some(State::Done) => continue,
                        Some(State::Open) => return Err(ring(&way, &key)),
                        None => {}
                    }
                    states.insert(key.clone(), State::Open);
                    let mut required = requires(&key);
                    required.retain(|required| known.contains(required));
                    required.reverse();
                    required
                }
            };
            match rest.pop() {
                Some(next) => {
                    way.push((key, Some(rest)));
                    way.push((next, None));
                }
                None => {
                    states.insert(key.clone(), State::Done);
                    ordered.push(key);
                }
            }
        }
    }
    Ok(ordered)
}

enum State {
    Open,
    Done,
}

/// From where the way first met the key back to it.
fn ring<K: Ord + Clone>(way: &[(K, Option<Vec<K>>)], key: &K) -> Vec<K> {
    let start = way.iter().position(|(met, _)| met == key).unwrap_or(0);
    let met = way.iter().skip(start).map(|(met, _)| met.clone());
    met.chain([key.clone()]).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ordered(keys: &[u8], edges: &[(u8, u8)]) -> Result<Vec<u8>, Vec<u8>> {
        order(keys, |key| {
            let of_key = edges.iter().filter(|(from, _)| from == key);
            of_key.map(|(_, to)| *to).collect()
        })
    }

    #[test]
    fn what_is_required_comes_first() {
        assert_eq!(ordered(&[1, 2, 3], &[(1, 3), (3, 2)]), Ok(vec![2, 3, 1]));
        assert_eq!(ordered(&[3, 1, 2], &[]), Ok(vec![3, 1, 2]));
        assert_eq!(ordered(&[1, 2], &[(1, 9), (2, 1), (2, 1)]), Ok(vec![1, 2]));
        assert_eq!(ordered(&[1, 1], &[]), Ok(vec![1]));
    }

    #[test]
    fn rings_are_named() {
        assert_eq!(
            ordered(&[1, 2, 3], &[(1, 2), (2, 3), (3, 2)]),
            Err(vec![2, 3, 2])
        );
        assert_eq!(ordered(&[1], &[(1, 1)]), Err(vec![1, 1]));
    }

    #[test]
    fn a_long_chain_is_no_deep_call() {
        let keys: Vec<u32> = (0..100_000).collect();
        let found = order(&keys, |key| vec![key + 1]).unwrap();
        assert_eq!(found.first(), Some(&99_999));
    }

    proptest! {
        #[test]
        fn an_order_is_one_or_there_is_a_ring(
            edges in prop::collection::vec((0_u8..8, 0_u8..8), 0..14)
        ) {
            let keys: Vec<u8> = (0..8).collect();
            match ordered(&keys, &edges) {
                Ok(found) => {
                    let at = |key| found.iter().position(|one| *one == key).unwrap();
                    prop_assert_eq!(found.len(), keys.len());
                    for (from, to) in &edges {
                        prop_assert!(at(*to) < at(*from));
                    }
                }
                Err(ring) => {
                    prop_assert!(ring.len() >= 2 && ring.first() == ring.last());
                    for pair in ring.windows(2) {
                        prop_assert!(edges.contains(&(pair[0], pair[1])));
                    }
                }
            }
        }
    }
}
