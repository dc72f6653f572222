//! When a secret was last changed by hand: from the record of who did what with it.
//!
//! A secret's own date moves when the manager changes the password. A person's edit moves nothing but
//! this record, in which the hub's reads stand too.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::api::Api;
use super::model::{Audit, Records};
use crate::route::at;
use crate::{Fault, ManagerError};

/// What was seen so far of the secrets' records.
#[derive(Default)]
pub(super) struct Marks(Mutex<HashMap<u64, Mark>>);

#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    /// The newest entry that was looked at.
    seen: u64,
    /// The newest one of a change.
    changed: u64,
    /// The hub's account may not look: not asked again for a while.
    denied: Option<Instant>,
}

impl Marks {
    /// The newest change by hand that the secret's record tells of, 0 when of none; `None` when the
    /// hub's account may not see the record.
    pub(super) async fn newest(&self, api: &Api, id: u64) -> Result<Option<u64>, ManagerError> {
        let mut mark = self.lock().get(&id).copied().unwrap_or_default();
        if mark.denied.is_some_and(|at| at.elapsed() < DENIED_AGAIN) {
            return Ok(None);
        }
        match catch_up(api, id, &mut mark).await {
            Ok(()) => {
                mark.denied = None;
                let mark = self.keep(id, mark);
                // Whatever is there was made once: nothing at all is what those see who may not look.
                Ok((mark.seen > 0).then_some(mark.changed))
            }
            Err(error) if matches!(error.fault, Fault::NotFoundOrDenied | Fault::Denied) => {
                mark.denied = Some(Instant::now());
                self.keep(id, mark);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Entries are only ever added: of two looks at the same time the further one counts.
    fn keep(&self, id: u64, new: Mark) -> Mark {
        let mut marks = self.lock();
        if marks.len() >= MAX_MARKS && !marks.contains_key(&id) {
            marks.clear();
        }
        let mark = marks.entry(id).or_default();
        mark.seen = mark.seen.max(new.seen);
        mark.changed = mark.changed.max(new.changed);
        mark.denied = new.denied;
        *mark
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Mark>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads what was added since the last look, newest first. At most [`MAX_PAGES`] of it: a change that
/// lies further back is as good as none, until one comes.
async fn catch_up(api: &Api, id: u64, mark: &mut Mark) -> Result<(), ManagerError> {
    let (since, mut skip, mut last) = (mark.seen, 0, u64::MAX);
    for _ in 0..MAX_PAGES {
        let route = at("/api/v1/secrets/{id}/audits", &[&id.to_string()])
            .with("skip", skip)
            .with("take", PAGE)
            .with("sortBy[0].name", "dateRecorded")
            .with("sortBy[0].direction", "desc");
        let page: Records<Audit> = api.get(route, "a look at the secret's audit").await?;
        let mut in_order = true;
        for entry in &page.records {
            in_order &= entry.id < last;
            last = entry.id;
            mark.seen = mark.seen.max(entry.id);
            if entry.action.as_deref().is_some_and(is_change) {
                mark.changed = mark.changed.max(entry.id);
            }
        }
        // Only where the manager did sort is the rest certainly older.
        let known = last <= since || mark.changed > since;
        match page.next(skip) {
            Some(next) if !(in_order && known) => skip = next,
            _ => break,
        }
    }
    Ok(())
}

/// Whether an entry tells of something that can have changed a value. Views, check-outs, heartbeats
/// and launches do not.
fn is_change(action: &str) -> bool {
    let action = action.to_ascii_uppercase();
    CHANGES.iter().any(|change| action.contains(change))
}

const CHANGES: [&str; 4] = ["EDIT", "UPDATE", "CHANGE", "RESTORE"];
const PAGE: u64 = 200;
const MAX_PAGES: usize = 50;
const MAX_MARKS: usize = 10_000;
const DENIED_AGAIN: Duration = Duration::from_secs(60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_is_no_change() {
        for action in [
            "VIEW",
            "WEBSERVICEVIEW",
            "CHECK OUT",
            "Heartbeat",
            "LAUNCH",
            "COPY",
        ] {
            assert!(!is_change(action), "{action}");
        }
        for action in ["EDIT", "Update", "PASSWORD CHANGE", "Password Changed"] {
            assert!(is_change(action), "{action}");
        }
    }
}
