//! Values that many nodes want, read once: one read of a version, whoever asks and however many.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use edge_secrets_protocol::{OrgId, Secret, SecretVersion};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Fault, ManagerError};
use crate::reference::SecretRef;

/// A version of a secret, as a manager names it.
pub type Key = (OrgId, SecretRef, SecretVersion);

/// What a read gave. The value is wiped once nobody holds it.
pub type Answer = Result<Arc<Secret>, ManagerError>;

/// Values of one manager, kept for a while.
#[derive(Default)]
pub struct Cache {
    entries: Mutex<HashMap<Key, Entry>>,
}

struct Entry {
    answer: watch::Receiver<Option<Answer>>,
    until: Option<Instant>,
    bytes: usize,
}

/// How long answers are kept.
#[derive(Debug, Clone, Copy)]
pub struct Life {
    /// A value.
    pub value: Duration,
    /// That there is none to be had.
    pub refusal: Duration,
}

impl Cache {
    /// The answer that is kept, or the one that is being read, or else a new read, which goes on when
    /// the caller goes away.
    pub async fn get<F>(self: &Arc<Self>, key: Key, life: Life, read: F) -> Answer
    where
        F: Future<Output = Result<Secret, ManagerError>> + Send + 'static,
    {
        let mut answer = self.answer(key, life, read);
        let answered = answer.wait_for(Option::is_some).await;
        answered
            .ok()
            .and_then(|answer| answer.clone())
            .unwrap_or_else(|| {
                Err(ManagerError::new(
                    Fault::Failed,
                    "reading it broke off inside the hub",
                ))
            })
    }

    /// Forgets what is kept of a secret.
    pub fn forget(&self, org: &OrgId, reference: &SecretRef) {
        self.lock()
            .retain(|(of, secret, _), _| of != org || secret != reference);
    }

    /// Lets go of what is over its time, also while nothing is read.
    pub fn purge(&self) {
        let now = Instant::now();
        self.lock()
            .retain(|_, entry| entry.until.is_none_or(|until| until > now));
    }

    /// How many answers are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn answer<F>(self: &Arc<Self>, key: Key, life: Life, read: F) -> watch::Receiver<Option<Answer>>
    where
        F: Future<Output = Result<Secret, ManagerError>> + Send + 'static,
    {
        let now = Instant::now();
        let mut entries = self.lock();
        if let Some(entry) = entries.get(&key)
            && entry.until.is_none_or(|until| until > now)
        {
            return entry.answer.clone();
        }
        let (sender, answer) = watch::channel(None);
        let entry = Entry {
            answer: answer.clone(),
            until: None,
            bytes: 0,
        };
        entries.insert(key.clone(), entry);
        drop(entries);
        let cache = Arc::clone(self);
        tokio::spawn(async move {
            let result = read.await.map(Arc::new);
            cache.keep(&key, life, &result);
            sender.send_replace(Some(result));
        });
        answer
    }

    fn keep(&self, key: &Key, life: Life, result: &Answer) {
        let mut entries = self.lock();
        let (kept_for, bytes) = match result {
            Ok(value) => (life.value, value.len()),
            // What may be over at once is asked again at once: the gate bounds how often.
            Err(error) if error.fault.is_transient() => (Duration::ZERO, 0),
            Err(_) => (life.refusal, 0),
        };
        if kept_for.is_zero() {
            entries.remove(key);
            return;
        }
        let now = Instant::now();
        if let Some(entry) = entries.get_mut(key) {
            entry.until = Some(now + kept_for);
            entry.bytes = bytes;
        }
        entries.retain(|_, entry| entry.until.is_none_or(|until| until > now));
        let mut total: usize = entries.values().map(|entry| entry.bytes).sum();
        while total > MAX_BYTES || entries.len() > MAX_ENTRIES {
            let oldest = entries
                .iter()
                .filter(|(_, entry)| entry.until.is_some())
                .min_by_key(|(_, entry)| entry.until)
                .map(|(key, entry)| (key.clone(), entry.bytes));
            let Some((oldest, bytes)) = oldest else {
                break;
            };
            entries.remove(&oldest);
            total -= bytes;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Most bytes of values that are kept of one manager.
const MAX_BYTES: usize = 32 * 1024 * 1024;
/// Most answers that are kept of one manager.
const MAX_ENTRIES: usize = 100_000;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const LIFE: Life = Life {
        value: Duration::from_secs(300),
        refusal: Duration::from_secs(30),
    };

    fn key(version: &str) -> Key {
        let (org, reference) = ("o".parse().unwrap(), "v:db".parse().unwrap());
        (org, reference, version.parse().unwrap())
    }

    struct Reads(Arc<AtomicUsize>);

    impl Reads {
        fn one(
            &self,
            result: Result<&'static [u8], Fault>,
        ) -> impl Future<Output = Result<Secret, ManagerError>> + Send + 'static {
            let count = Arc::clone(&self.0);
            async move {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(50)).await;
                match result {
                    Ok(value) => Ok(Secret::new(value.to_vec())),
                    Err(fault) => Err(ManagerError::new(fault, "…")),
                }
            }
        }

        fn count(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ten_thousand_readers_are_one_read() {
        let (cache, reads) = (Arc::new(Cache::default()), Reads(Arc::default()));
        let readers = (0..10_000).map(|_| cache.get(key("1"), LIFE, reads.one(Ok(b"x"))));
        let answers = futures_util::future::join_all(readers).await;
        assert!(
            answers
                .iter()
                .all(|answer| answer.as_ref().unwrap().expose() == b"x")
        );
        assert_eq!(reads.count(), 1);
        // Another version is another read; the same one is not, until its time is over.
        cache
            .get(key("2"), LIFE, reads.one(Ok(b"y")))
            .await
            .unwrap();
        cache
            .get(key("1"), LIFE, reads.one(Ok(b"x")))
            .await
            .unwrap();
        assert_eq!(reads.count(), 2);
        tokio::time::sleep(LIFE.value).await;
        cache
            .get(key("1"), LIFE, reads.one(Ok(b"x")))
            .await
            .unwrap();
        assert_eq!(reads.count(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_kept_for_less_and_a_passing_one_not_at_all() {
        let (cache, reads) = (Arc::new(Cache::default()), Reads(Arc::default()));
        for (fault, expected) in [(Fault::Denied, 1), (Fault::Unreachable, 3)] {
            for _ in 0..2 {
                let read = reads.one(Err(fault));
                assert!(cache.get(key(fault.as_str()), LIFE, read).await.is_err());
            }
            assert_eq!(reads.count(), expected);
        }
        tokio::time::sleep(LIFE.refusal).await;
        cache.purge();
        assert!(cache.is_empty(), "what is over its time is not kept");
        cache
            .get(key("denied"), LIFE, reads.one(Ok(b"x")))
            .await
            .unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_goes_away_takes_nothing_from_the_others() {
        let (cache, reads) = (Arc::new(Cache::default()), Reads(Arc::default()));
        let first = cache.get(key("1"), LIFE, reads.one(Ok(b"x")));
        let gave_up = tokio::time::timeout(Duration::from_millis(1), first).await;
        assert!(gave_up.is_err());
        cache
            .get(key("1"), LIFE, reads.one(Ok(b"x")))
            .await
            .unwrap();
        assert_eq!(reads.count(), 1);
        cache.forget(&"o".parse().unwrap(), &"v:db".parse().unwrap());
        assert!(cache.is_empty());
    }
}
