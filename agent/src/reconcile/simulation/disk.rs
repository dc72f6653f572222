//! What outlives a reboot.

use std::collections::BTreeSet;

use edge_secrets_protocol::binding::FetchItem;

use crate::cache::{named, ready_items as ready, remember};
use crate::ends::Desired;

/// What a file system that is not tmpfs has.
#[derive(Default)]
pub(super) struct Disk {
    pub(super) index: Option<Desired>,
    pub(super) sealed: BTreeSet<FetchItem>,
}

impl Disk {
    pub(super) fn exceeds(&self, desired: &Desired) -> bool {
        let named = named(desired);
        let mut sealed = self.sealed.iter();
        sealed.any(|item| !named.contains(&(&item.service, &item.name)))
    }

    pub(super) fn save(&mut self, desired: &Desired, fresh: &mut BTreeSet<FetchItem>) {
        self.sealed.append(fresh);
        let kept = remember(desired, self.index.as_ref(), &self.sealed);
        let both = [&kept, desired].into_iter();
        let deployments = both.flat_map(|of| &of.bindings().deployments);
        let wanted: BTreeSet<_> = deployments.flat_map(ready).collect();
        self.sealed.retain(|item| wanted.contains(item));
        self.index = Some(kept);
    }
}
