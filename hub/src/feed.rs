//! Who watches this process, and the news for them.
//!
//! News is a hint and the catalog is the truth: whoever subscribes first and reads the catalog
//! afterwards misses nothing. Only the newest generation of a node matters, so a slow reader holds
//! up nobody and nothing piles up for it.

mod follow;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edge_secrets_protocol::{Generation, NodeId, OrgId};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::catalog::records::{FeedEntry, FeedEvent};
use crate::clock;
pub use follow::follow;

/// The watching nodes of this process. Clones share them.
#[derive(Clone)]
pub struct Feed(Arc<Mutex<State>>);

struct State {
    closed: bool,
    /// Before it nothing is known of who watched.
    opened: Timestamp,
    /// When those nodes left that have watched and do not any more.
    left: HashMap<(OrgId, NodeId), Timestamp>,
    /// A sender per node that somebody watches, shared by all of its watchers.
    nodes: HashMap<(OrgId, NodeId), watch::Sender<News>>,
    /// A count per organisation that somebody waits for.
    orgs: HashMap<OrgId, watch::Sender<u64>>,
}

/// The newest that there is for one node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct News {
    /// The generation to pull; 0 while there is no news.
    pub generation: Generation,
    /// Over how many milliseconds the nodes that this touches should spread.
    pub spread_ms: u32,
    /// The node was revoked or forgotten.
    pub revoked: bool,
}

impl Default for Feed {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State {
            closed: false,
            opened: clock::now(),
            left: HashMap::new(),
            nodes: HashMap::new(),
            orgs: HashMap::new(),
        })))
    }
}

impl Feed {
    /// A feed that nobody watches yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Watches a node. Read the node's generation after this, not before.
    #[must_use]
    pub fn watch(&self, org: &OrgId, node: &NodeId) -> Watcher {
        let key = (org.clone(), node.clone());
        let mut state = self.lock();
        state.left.remove(&key);
        let news = if state.closed {
            closed_receiver()
        } else {
            match state.nodes.entry(key.clone()) {
                // Who comes now begins a new life of the node. Those of the old one still hear of
                // its end.
                Entry::Occupied(mut entry) if entry.get().borrow().revoked => {
                    entry.insert(watch::Sender::default());
                    entry.get().subscribe()
                }
                // A late watcher must not take old news for new: it starts from what is there.
                Entry::Occupied(entry) => entry.get().subscribe(),
                Entry::Vacant(entry) => entry.insert(watch::Sender::default()).subscribe(),
            }
        };
        drop(state);
        Watcher {
            feed: self.clone(),
            key,
            news: Some(news),
        }
    }

    /// Whether the node watches this process now.
    #[must_use]
    pub fn is_connected(&self, org: &OrgId, node: &NodeId) -> bool {
        self.lock().nodes.contains_key(&(org.clone(), node.clone()))
    }

    /// Since when the node does not watch this process, at least; `None` while it does. What was before
    /// this process began is not known, and not counted.
    #[must_use]
    pub fn away_since(&self, org: &OrgId, node: &NodeId) -> Option<Timestamp> {
        let (state, key) = (self.lock(), (org.clone(), node.clone()));
        match state.nodes.contains_key(&key) {
            true => None,
            false => Some(state.left.get(&key).copied().unwrap_or(state.opened)),
        }
    }

    /// As if the node had left then.
    #[cfg(test)]
    pub(crate) fn left(&self, org: &OrgId, node: &NodeId, at: Timestamp) {
        self.lock().left.insert((org.clone(), node.clone()), at);
    }

    /// How many nodes of the organisation watch this process now.
    #[must_use]
    pub fn connected(&self, org: &OrgId) -> usize {
        let state = self.lock();
        state.nodes.keys().filter(|(of, _)| of == org).count()
    }

    /// Of each of these nodes of the organisation, whether it watches this process now.
    #[must_use]
    pub fn watching(&self, org: &OrgId, nodes: &[&NodeId]) -> Vec<bool> {
        let state = self.lock();
        nodes
            .iter()
            .map(|node| state.nodes.contains_key(&(org.clone(), (*node).clone())))
            .collect()
    }

    /// A count that grows whenever something happens to a node of the organisation: its bindings
    /// change, it reports, it is revoked. `changed()` fails once the hub stops.
    ///
    /// For those who wait for a state: subscribe, read the catalog, wait, read again.
    #[must_use]
    pub fn org_revision(&self, org: &OrgId) -> watch::Receiver<u64> {
        let mut state = self.lock();
        if state.closed {
            return closed_receiver();
        }
        // Organisations that nobody waits for any more are let go of when somebody comes.
        state.orgs.retain(|_, sender| sender.receiver_count() > 0);
        state.orgs.entry(org.clone()).or_default().subscribe()
    }

    /// Ends every watch and every wait, now and from now on: the hub stops.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.nodes.clear();
        state.orgs.clear();
    }

    /// Passes announcements on to those who watch.
    pub(crate) fn announce(&self, entries: &[FeedEntry], spread_ms: u32) {
        let mut state = self.lock();
        for entry in entries {
            if entry.event == FeedEvent::Revoked {
                state.left.remove(&(entry.org.clone(), entry.node.clone()));
            }
            if let Some(org) = state.orgs.get(&entry.org) {
                org.send_modify(|count| *count += 1);
            }
            let Some(node) = state.nodes.get(&(entry.org.clone(), entry.node.clone())) else {
                continue;
            };
            node.send_if_modified(|news| match entry.event {
                FeedEvent::Bindings(generation) if generation > news.generation => {
                    news.generation = generation;
                    news.spread_ms = spread_ms;
                    true
                }
                FeedEvent::Revoked => {
                    // Should it enrol anew, its generations may begin anew too.
                    *news = News {
                        revoked: true,
                        ..News::default()
                    };
                    true
                }
                FeedEvent::Bindings(_) | FeedEvent::Status => false,
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock; a poisoned one would still be whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One watch of one node. Dropping it ends it.
pub struct Watcher {
    feed: Feed,
    key: (OrgId, NodeId),
    news: Option<watch::Receiver<News>>,
}

impl Watcher {
    /// The next news, however much came between; `None` once the hub stops.
    ///
    /// Safe to cancel: nothing is lost.
    pub async fn next(&mut self) -> Option<News> {
        let news = self.news.as_mut()?;
        news.changed().await.ok()?;
        Some(*news.borrow_and_update())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.news = None;
        let mut state = self.feed.lock();
        if state
            .nodes
            .get(&self.key)
            .is_some_and(|sender| sender.receiver_count() == 0)
        {
            state.nodes.remove(&self.key);
            state.left.insert(self.key.clone(), clock::now());
        }
    }
}

fn closed_receiver<T: Default>() -> watch::Receiver<T> {
    watch::channel(T::default()).1
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn names() -> (OrgId, NodeId) {
        ("myorg".parse().unwrap(), "edge-01".parse().unwrap())
    }

    fn entry(event: FeedEvent) -> FeedEntry {
        let (org, node) = names();
        FeedEntry {
            seq: 1,
            org,
            node,
            event,
        }
    }

    fn bindings(generation: u64) -> FeedEntry {
        entry(FeedEvent::Bindings(Generation(generation)))
    }

    fn ready<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_slow_watcher_gets_the_newest_generation_alone() {
        let (org, node) = names();
        let feed = Feed::new();
        let mut watcher = feed.watch(&org, &node);
        assert_eq!(ready(watcher.next()), None);
        feed.announce(&[bindings(3), bindings(5), bindings(4)], 7);
        let news = ready(watcher.next()).unwrap().unwrap();
        assert_eq!((news.generation, news.spread_ms), (Generation(5), 7));
        assert_eq!(ready(watcher.next()), None);
    }

    #[test]
    fn a_node_is_away_from_when_its_last_watcher_went() {
        let (org, node) = names();
        let before = clock::now();
        let feed = Feed::new();
        let opened = feed.away_since(&org, &node).unwrap();
        assert!(opened >= before);
        let (one, two) = (feed.watch(&org, &node), feed.watch(&org, &node));
        drop(one);
        assert_eq!(feed.away_since(&org, &node), None);
        drop(two);
        assert!(feed.away_since(&org, &node).unwrap() >= opened);
        assert_eq!(feed.lock().left.len(), 1);
        // Of one that is gone for good nothing is kept.
        feed.announce(&[entry(FeedEvent::Revoked)], 0);
        assert_eq!(feed.lock().left.len(), 0);
    }

    #[test]
    fn every_watcher_of_a_node_is_served_and_forgotten_with_the_last() {
        let (org, node) = names();
        let feed = Feed::new();
        let mut one = feed.watch(&org, &node);
        let mut two = feed.watch(&org, &node);
        feed.announce(&[bindings(2)], 0);
        assert!(ready(one.next()).is_some());
        assert!(ready(two.next()).is_some());
        let _elsewhere = feed.watch(&"other".parse().unwrap(), &node);
        assert_eq!(feed.connected(&org), 1, "its own organisation's alone");
        drop(one);
        assert!(feed.is_connected(&org, &node));
        drop(two);
        assert!(!feed.is_connected(&org, &node));
        assert_eq!(feed.connected(&org), 0);
    }

    #[test]
    fn who_watches_after_a_revocation_hears_nothing_of_it() {
        let (org, node) = names();
        let feed = Feed::new();
        let mut old = feed.watch(&org, &node);
        feed.announce(&[bindings(50), entry(FeedEvent::Revoked)], 0);
        let mut new = feed.watch(&org, &node);
        feed.announce(&[bindings(2)], 0);
        assert!(ready(old.next()).unwrap().unwrap().revoked);
        drop(old);
        assert!(feed.is_connected(&org, &node));
        let news = ready(new.next()).unwrap().unwrap();
        assert_eq!((news.generation, news.revoked), (Generation(2), false));
    }

    #[test]
    fn another_nodes_news_is_not_heard() {
        let (org, node) = names();
        let feed = Feed::new();
        let mut watcher = feed.watch(&org, &"edge-02".parse().unwrap());
        let mut elsewhere = feed.watch(&"other".parse().unwrap(), &node);
        feed.announce(&[bindings(2), entry(FeedEvent::Revoked)], 0);
        assert_eq!(ready(watcher.next()), None);
        assert_eq!(ready(elsewhere.next()), None);
    }

    #[test]
    fn a_report_wakes_those_who_wait_for_the_organisation_and_not_the_node() {
        let (org, node) = names();
        let feed = Feed::new();
        let mut watcher = feed.watch(&org, &node);
        let mut waiting = feed.org_revision(&org);
        let mut other = feed.org_revision(&"other".parse().unwrap());
        feed.announce(&[entry(FeedEvent::Status)], 0);
        assert!(ready(waiting.changed()).is_some());
        assert!(ready(other.changed()).is_none());
        assert_eq!(ready(watcher.next()), None);
    }

    #[test]
    fn closing_ends_those_who_watch_and_those_who_come_later() {
        let (org, node) = names();
        let feed = Feed::new();
        let mut watcher = feed.watch(&org, &node);
        let mut waiting = feed.org_revision(&org);
        feed.close();
        assert_eq!(ready(watcher.next()), Some(None));
        assert!(ready(waiting.changed()).unwrap().is_err());
        assert_eq!(ready(feed.watch(&org, &node).next()), Some(None));
        assert!(ready(feed.org_revision(&org).changed()).unwrap().is_err());
        assert!(!feed.is_connected(&org, &node));
    }
}
