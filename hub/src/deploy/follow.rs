//! Places nodes anew that are on patterns of other organisations, after these changed what they publish.
//!
//! A change writes down in its own transaction whose nodes are behind it. From there each organisation is
//! placed in a transaction of its own, which also crosses it off: a hub that is killed in between leaves
//! the list for the next start, and doing one twice does nothing the second time.

use std::collections::HashMap;
use std::time::Duration;

use edge_secrets_protocol::OrgId;
use futures_util::StreamExt;
use futures_util::stream;
use tokio::time::{Instant, sleep};
use tracing::{error, info};

use super::apply;
use crate::catalog::CatalogError;
use crate::catalog::records::{Actor, Behind, Change, NewAudit};
use crate::clock;
use crate::hub::Hub;

/// Does so whenever something is behind, until it is dropped or the catalog is closed.
pub async fn follow(hub: &Hub) {
    let mut bell = hub.catalog.behind_bell();
    let mut failures = Failures::default();
    loop {
        bell.borrow_and_update();
        let wait = match hub.catalog.behind().await {
            Ok(behind) => {
                catch_up(hub, behind, &mut failures).await;
                failures.next().unwrap_or(IDLE).min(IDLE)
            }
            Err(error) => {
                error!(%error, "It cannot be found whose nodes are behind; trying again.");
                FIRST_RETRY
            }
        };
        tokio::select! {
            () = sleep(wait) => {}
            rung = bell.changed() => if rung.is_err() {
                return;
            },
        }
    }
}

/// Tries every organisation that is not waiting for its next try. One organisation's trouble is not the
/// others', nor is a large one's work.
pub(crate) async fn catch_up(hub: &Hub, behind: Vec<Behind>, failures: &mut Failures) {
    failures.forget_all_but(&behind);
    let now = Instant::now();
    let due = behind.into_iter().filter(|one| failures.allow(one, now));
    let due: Vec<_> = due.collect();
    let tried = stream::iter(due).map(|one| async move {
        let done = place(hub, &one).await;
        (one, done)
    });
    let mut tried = tried.buffer_unordered(AT_ONCE);
    while let Some((one, done)) = tried.next().await {
        let (org, publisher) = (&one.org, &one.publisher);
        match done {
            Ok(nodes) => {
                failures.forget(&one);
                info!(%org, %publisher, nodes, "Nodes follow what another organisation publishes.");
            }
            Err(error) => {
                let wait = failures.count(&one, Instant::now());
                error!(%org, %publisher, %error, ?wait,
                    "Nodes do not follow what another organisation publishes yet; trying again.");
            }
        }
    }
}

async fn place(hub: &Hub, behind: &Behind) -> Result<usize, CatalogError> {
    let Behind { org, publisher, .. } = behind;
    let change = Change::Follow(publisher.clone());
    let committed = apply(hub, org, change, audit(org, publisher)).await?;
    hub.models.audited(org);
    Ok(committed.touched.len())
}

pub(super) fn audit(org: &OrgId, publisher: &OrgId) -> NewAudit {
    NewAudit {
        org: org.clone(),
        at: clock::now(),
        actor: Actor::Hub,
        action: "pattern.follow".into(),
        object: format!("org/{publisher}"),
        result: "ok".into(),
        detail: "its public patterns or services have changed".into(),
        peer: "-".into(),
    }
}

/// What failed, and when it is tried again. In memory: a new hub tries everything at once.
#[derive(Debug, Default)]
pub(crate) struct Failures(HashMap<(OrgId, OrgId), Failure>);

#[derive(Debug)]
struct Failure {
    count: u32,
    next: Instant,
}

impl Failures {
    fn allow(&self, one: &Behind, now: Instant) -> bool {
        self.0
            .get(&key(one))
            .is_none_or(|failure| failure.next <= now)
    }

    /// Counts a failure and gives the time until the next try.
    fn count(&mut self, one: &Behind, now: Instant) -> Duration {
        let failure = self.0.entry(key(one)).or_insert(Failure {
            count: 0,
            next: now,
        });
        let wait = FIRST_RETRY.saturating_mul(1 << failure.count.min(MAX_DOUBLINGS));
        failure.count += 1;
        failure.next = now + wait;
        wait
    }

    fn forget(&mut self, one: &Behind) {
        self.0.remove(&key(one));
    }

    fn forget_all_but(&mut self, behind: &[Behind]) {
        if !self.0.is_empty() {
            let known: std::collections::HashSet<_> = behind.iter().map(key).collect();
            self.0.retain(|key, _| known.contains(key));
        }
    }

    /// How long until something may be tried again.
    pub(crate) fn next(&self) -> Option<Duration> {
        let next = self.0.values().map(|failure| failure.next).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }
}

fn key(one: &Behind) -> (OrgId, OrgId) {
    (one.org.clone(), one.publisher.clone())
}

const FIRST_RETRY: Duration = Duration::from_secs(1);
/// One minute at most, about.
const MAX_DOUBLINGS: u32 = 6;
/// The bell is a hint.
const IDLE: Duration = Duration::from_secs(30);
const AT_ONCE: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::records::Revision;

    fn behind(org: &str) -> Behind {
        Behind {
            org: org.parse().unwrap(),
            publisher: "a".parse().unwrap(),
            published: Revision(1),
            since: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn what_fails_waits_longer_each_time_and_holds_up_nothing_else() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        let (one, other) = (behind("b"), behind("c"));
        let waits: Vec<_> = (0..9)
            .map(|_| failures.count(&one, now).as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
        assert!(!failures.allow(&one, now) && failures.allow(&other, now));
        assert!(failures.allow(&one, now + Duration::from_secs(64)));
        failures.forget_all_but(std::slice::from_ref(&one));
        assert!(failures.next().is_some());
        failures.forget_all_but(&[other]);
        assert!(failures.next().is_none() && failures.allow(&one, now));
    }
}
