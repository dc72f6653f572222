//! Values wanted, cut into batches that the hub takes, and put together again so that a service's
//! values reach the reconciler in one go: a deployment is delivered only when it is whole. Pure.

use std::collections::BTreeSet;

use edge_secrets_protocol::binding::{FetchItem, FetchResult};
use edge_secrets_protocol::limits::MAX_BATCH_ITEMS;
use edge_secrets_protocol::{Code, ServiceId};

/// What is still to be asked for, and what waits for the rest of its service.
#[derive(Debug)]
pub(super) struct Batches {
    /// In the order of services, so that few of them are cut.
    open: Vec<FetchItem>,
    held: Vec<(FetchItem, FetchResult)>,
}

/// The hub answered nothing of a batch but that it is full.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoProgress;

impl Batches {
    pub(super) fn new(mut wanted: Vec<FetchItem>) -> Self {
        wanted.sort();
        wanted.dedup();
        Self {
            open: wanted,
            held: Vec::new(),
        }
    }

    /// What to ask for next; empty when everything is answered.
    pub(super) fn next(&mut self) -> Vec<FetchItem> {
        let rest = self.open.split_off(self.open.len().min(MAX_BATCH_ITEMS));
        std::mem::replace(&mut self.open, rest)
    }

    /// Takes a batch's answers, gives those whose service is answered whole.
    pub(super) fn answered(
        &mut self,
        batch: Vec<FetchItem>,
        results: Vec<FetchResult>,
    ) -> Result<Vec<(FetchItem, FetchResult)>, NoProgress> {
        let asked = batch.len();
        let mut again = Vec::new();
        for (item, result) in batch.into_iter().zip(results) {
            match result {
                FetchResult::Problem(problem) if problem.code == Code::BatchFull => {
                    again.push(item);
                }
                result => self.held.push((item, result)),
            }
        }
        if again.len() == asked {
            return Err(NoProgress);
        }
        again.append(&mut self.open);
        self.open = again;
        let cut: BTreeSet<&ServiceId> = self.open.iter().map(|item| &item.service).collect();
        let held = std::mem::take(&mut self.held);
        let (held, ready) = held.into_iter().partition(|(item, _)| cut.contains(&item.service));
        self.held = held;
        Ok(ready)
    }
}

#[cfg(test)]
mod tests {
    use edge_secrets_protocol::Problem;
    use proptest::prelude::*;

    use super::*;

    fn item(service: usize, name: usize) -> FetchItem {
        FetchItem {
            service: format!("o/s{service}").parse().unwrap(),
            name: format!("n{name}").parse().unwrap(),
            version: "1".parse().unwrap(),
        }
    }

    fn answer(code: Code) -> FetchResult {
        FetchResult::Problem(Problem::new(code, ""))
    }

    #[test]
    fn a_hub_that_is_always_full_ends_the_fetch() {
        let mut batches = Batches::new(vec![item(1, 1)]);
        let batch = batches.next();
        assert_eq!(batches.answered(batch, vec![answer(Code::BatchFull)]), Err(NoProgress));
    }

    proptest! {
        #[test]
        fn every_value_comes_once_and_services_stay_whole(
            sizes in prop::collection::vec(1usize..400, 1..6),
            fits in prop::collection::vec(1usize..300, 1..50),
        ) {
            let all: Vec<_> = sizes.iter().enumerate()
                .flat_map(|(s, n)| (0..*n).map(move |n| item(s, n))).collect();
            let mut batches = Batches::new(all.clone());
            let mut fits = fits.into_iter().cycle();
            let mut delivered = Vec::new();
            loop {
                let batch = batches.next();
                if batch.is_empty() {
                    break;
                }
                prop_assert!(batch.len() <= MAX_BATCH_ITEMS);
                let fit = fits.next().unwrap();
                let results = (0..batch.len())
                    .map(|at| answer(if at < fit { Code::Pending } else { Code::BatchFull }))
                    .collect();
                let ready = batches.answered(batch, results).unwrap();
                let services: BTreeSet<_> = ready.iter().map(|(i, _)| i.service.clone()).collect();
                for service in services {
                    let of = |list: &mut dyn Iterator<Item = &FetchItem>| {
                        list.filter(|i| i.service == service).count()
                    };
                    let here = of(&mut ready.iter().map(|(item, _)| item));
                    prop_assert_eq!(here, of(&mut all.iter()));
                }
                delivered.extend(ready.into_iter().map(|(item, _)| item));
            }
            delivered.sort();
            let mut all = all;
            all.sort();
            prop_assert_eq!(delivered, all);
        }
    }
}
