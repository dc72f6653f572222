use std::path::Path;

use edge_secrets_protocol::FieldName;
use jiff::Timestamp;
use tempfile::TempDir;

use super::*;
use crate::catalog::records::{Actor, AuditQuery};
use crate::catalog::sqlite::SqliteCatalog;
use crate::managers::{SecretManager, Target};

/// A manager over a catalog of its own.
struct Room {
    dir: TempDir,
    catalog: Arc<SqliteCatalog>,
    manager: Arc<Embedded>,
}

const MASTER: [u8; 32] = [42; 32];

impl Room {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let catalog = SqliteCatalog::open(&dir.path().join("catalog.db")).await;
        let catalog = Arc::new(catalog.unwrap());
        for org in ["o", "other"] {
            let org = org.parse().unwrap();
            catalog.create_org(&org, audit("org.create")).await.unwrap();
        }
        let manager = Arc::new(Embedded::new(catalog.clone(), master(&MASTER)));
        Self {
            dir,
            catalog,
            manager,
        }
    }

    async fn set(&self, reference: &str, value: &[u8]) -> Result<SecretVersion, SetError> {
        self.set_expecting(reference, value, None).await
    }

    async fn set_expecting(
        &self,
        reference: &str,
        value: &[u8],
        expected: Option<Option<SecretVersion>>,
    ) -> Result<SecretVersion, SetError> {
        let value = NewValue {
            org: &org(),
            reference: &refer(reference),
            payload: &payload(value),
            by: &alice(),
            meta: NewMeta::default(),
        };
        let set = self.manager.set(value, expected, audit("secret.set")).await;
        set.map(|(version, _)| version)
    }

    async fn restore(&self, reference: &str, from: &str) -> Result<SecretVersion, SetError> {
        let (org, reference, by) = (org(), refer(reference), alice());
        let restored = self
            .manager
            .restore(
                &org,
                &reference,
                &from.parse().unwrap(),
                &by,
                audit("secret.restore"),
            )
            .await;
        restored.map(|(version, _)| version)
    }

    async fn remove(&self, reference: &str) {
        let removed = self
            .manager
            .remove(&org(), &refer(reference), audit("secret.remove"))
            .await;
        removed.unwrap();
    }

    async fn read(&self, reference: &str, version: &str) -> Result<Vec<u8>, ManagerError> {
        read(&self.manager, &org(), reference, version).await
    }
}

async fn read(
    manager: &Embedded,
    org: &OrgId,
    reference: &str,
    version: &str,
) -> Result<Vec<u8>, ManagerError> {
    let payload = manager
        .read(
            Target {
                org,
                reference: &refer(reference),
            },
            &version.parse().unwrap(),
        )
        .await?;
    let fields = Fields::decode(payload.expose()).unwrap();
    Ok(fields.expose_value().unwrap().to_vec())
}

fn master(bytes: &[u8]) -> MasterKey {
    MasterKey::from_bytes(bytes).unwrap()
}

fn org() -> OrgId {
    "o".parse().unwrap()
}

fn alice() -> UserId {
    "alice".parse().unwrap()
}

fn refer(text: &str) -> SecretRef {
    text.parse().unwrap()
}

fn payload(value: &[u8]) -> Secret {
    let name: FieldName = "value".parse().unwrap();
    Fields::encode(&[(name, value)]).unwrap()
}

fn audit(action: &str) -> NewAudit {
    NewAudit {
        org: org(),
        at: Timestamp::from_millisecond(77).unwrap(),
        actor: Actor::User(alice()),
        action: action.into(),
        object: "db".into(),
        result: "ok".into(),
        detail: String::new(),
        peer: "192.0.2.1".into(),
    }
}

#[tokio::test]
async fn every_version_can_be_read_as_it_was_set() {
    let room = Room::new().await;
    assert_eq!(room.set("db", b"one").await.unwrap().as_str(), "1");
    assert_eq!(room.set("db", b"two").await.unwrap().as_str(), "2");
    assert_eq!(room.read("db", "1").await.unwrap(), b"one");
    assert_eq!(room.read("db", "2").await.unwrap(), b"two");
    for (reference, version) in [("db", "3"), ("other", "1"), ("db", "x"), ("v:db", "1")] {
        let missing = room.read(reference, version).await;
        assert_eq!(missing.unwrap_err().fault, Fault::Missing);
    }
    let versions = room.catalog.versions(&org(), &refer("db")).await.unwrap();
    assert_eq!(versions[0].fields, ["value"]);
    assert_eq!(versions[0].created_at, audit("x").at);
    assert_eq!(versions[0].created_by, alice());
}

#[tokio::test]
async fn numbers_go_on_after_removal() {
    let room = Room::new().await;
    room.set("db", b"one").await.unwrap();
    room.set("db", b"two").await.unwrap();
    room.remove("db").await;
    assert!(room.read("db", "2").await.is_err());
    assert_eq!(room.set("db", b"three").await.unwrap().as_str(), "3");
    assert!(room.read("db", "1").await.is_err());
}

#[tokio::test]
async fn a_restored_version_is_a_new_one_with_the_old_value() {
    let room = Room::new().await;
    room.set("db", b"one").await.unwrap();
    room.set("db", b"two").await.unwrap();
    assert_eq!(room.restore("db", "1").await.unwrap().as_str(), "3");
    assert_eq!(room.read("db", "3").await.unwrap(), b"one");
    let versions = room.catalog.versions(&org(), &refer("db")).await.unwrap();
    assert_eq!(versions[0].restored_from, Some("1".parse().unwrap()));
    assert_eq!(versions[1].restored_from, None);
    let none = room.restore("db", "9").await;
    assert!(matches!(none, Err(SetError::NoVersion(..))), "{none:?}");
}

#[tokio::test]
async fn an_expected_version_decides() {
    let room = Room::new().await;
    let conflict = |result| matches!(result, Err(SetError::Conflict(_)));
    let one = || Some(Some("1".parse().unwrap()));
    assert!(conflict(room.set_expecting("db", b"v", one()).await));
    room.set_expecting("db", b"v", Some(None)).await.unwrap();
    assert!(conflict(room.set_expecting("db", b"v", Some(None)).await));
    room.set_expecting("db", b"v", one()).await.unwrap();
    assert!(conflict(room.set_expecting("db", b"v", one()).await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_sets_get_numbers_of_their_own() {
    let room = Arc::new(Room::new().await);
    // A second hub over the same catalog takes numbers too.
    let second = Arc::new(Embedded::new(room.catalog.clone(), master(&MASTER)));
    let sets: Vec<_> = (0u8..24)
        .map(|n| {
            let hub = if n % 2 == 0 { &room.manager } else { &second };
            let hub = Arc::clone(hub);
            tokio::spawn(async move {
                let value = NewValue {
                    org: &org(),
                    reference: &refer("db"),
                    payload: &payload(&[n]),
                    by: &alice(),
                    meta: NewMeta::default(),
                };
                let set = hub.set(value, None, audit("secret.set")).await;
                (n, set.unwrap().0)
            })
        })
        .collect();
    let mut numbers = Vec::new();
    for set in sets {
        let (n, version) = set.await.unwrap();
        assert_eq!(room.read("db", version.as_str()).await.unwrap(), [n]);
        numbers.push(version.as_str().parse::<u64>().unwrap());
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=24).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_no_payload_or_not_ours_is_refused() {
    let room = Room::new().await;
    let raw = Secret::new(b"canary-raw".to_vec());
    let value = NewValue {
        org: &org(),
        reference: &refer("db"),
        payload: &raw,
        by: &alice(),
        meta: NewMeta::default(),
    };
    let set = room.manager.set(value, None, audit("secret.set")).await;
    let refused = set.unwrap_err();
    assert!(matches!(refused, SetError::Payload(_)));
    assert!(!format!("{refused} {refused:?}").contains("canary"));
    let foreign = room.set("vault:team/db", b"v").await;
    assert!(matches!(foreign, Err(SetError::OtherManager(_))));
    assert_eq!(room.catalog.secrets(&org(), "").await.unwrap(), []);
}

#[tokio::test]
async fn the_trail_names_the_version_and_never_the_value() {
    let room = Room::new().await;
    room.set("db", b"canary-in-the-trail").await.unwrap();
    room.restore("db", "1").await.unwrap();
    let query = AuditQuery {
        limit: 10,
        ..AuditQuery::default()
    };
    let trail = room.catalog.audit(&org(), &query).await.unwrap();
    let details: Vec<_> = trail.iter().map(|r| r.entry.detail.as_str()).collect();
    assert_eq!(details[2..], ["version 1", "version 2"]);
    assert!(!format!("{trail:?}").contains("canary"));
}

#[tokio::test]
async fn no_byte_of_a_value_is_in_the_files() {
    const CANARY: &[u8] = b"canary-4f1c-in-no-file";
    let room = Room::new().await;
    room.set("db", CANARY).await.unwrap();
    assert_eq!(room.read("db", "1").await.unwrap(), CANARY);
    assert_clean(room.dir.path(), CANARY);
    room.restore("db", "1").await.unwrap();
    room.remove("db").await;
    assert_clean(room.dir.path(), CANARY);
    room.catalog.close().await;
    assert_clean(room.dir.path(), CANARY);
}

/// Neither the value nor a run of it, nor the master key, in any file; the reference is there.
fn assert_clean(dir: &Path, canary: &[u8]) {
    let mut known = false;
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let bytes = std::fs::read(entry.path()).unwrap();
        let holds = |needle: &[u8]| bytes.windows(needle.len()).any(|w| w == needle);
        for needle in canary.windows(8).chain([&MASTER[..]]) {
            assert!(!holds(needle), "{:?}", entry.file_name());
        }
        known |= holds(b"secret.set");
    }
    assert!(known, "the scan sees what is written");
}

#[tokio::test]
async fn another_master_key_opens_nothing_and_says_nothing() {
    let room = Room::new().await;
    room.set("db", b"canary-value").await.unwrap();
    let other = Embedded::new(room.catalog.clone(), MasterKey::generate().unwrap());
    let refused = read(&other, &org(), "db", "1").await;
    assert_eq!(refused.unwrap_err().fault, Fault::Failed);
    let restored = other
        .restore(
            &org(),
            &refer("db"),
            &"1".parse().unwrap(),
            &alice(),
            audit("secret.restore"),
        )
        .await;
    let refused = restored.unwrap_err();
    assert!(matches!(refused, SetError::Envelope(_)));
    assert!(!format!("{refused} {refused:?}").contains("canary"));
    assert_eq!(room.read("db", "1").await.unwrap(), b"canary-value");
}

#[tokio::test]
async fn a_row_that_was_moved_does_not_open() {
    let room = Room::new().await;
    room.set("db", b"canary-one").await.unwrap();
    room.set("db", b"canary-two").await.unwrap();
    let kept = |version: &str| {
        let (catalog, version) = (room.catalog.clone(), version.parse().unwrap());
        async move {
            let kept = catalog.encrypted(&org(), &refer("db"), &version).await;
            kept.unwrap().unwrap()
        }
    };
    let (one, two) = (kept("1").await, kept("2").await);
    // To another version, another reference, another organisation; or with another's key.
    let moved = [
        (
            "o",
            "db",
            EncryptedVersion {
                version: "3".parse().unwrap(),
                ..two.clone()
            },
        ),
        ("o", "user/bob/db", one.clone()),
        ("other", "db", one.clone()),
        (
            "other",
            "db",
            EncryptedVersion {
                wrapped_key: one.wrapped_key.clone(),
                ..two.clone()
            },
        ),
    ];
    for (to, reference, row) in moved {
        let to: OrgId = to.parse().unwrap();
        let put = room
            .catalog
            .put_secret(
                &to,
                &refer(reference),
                &row,
                &NewMeta::default(),
                None,
                audit("tamper"),
            )
            .await;
        put.unwrap();
        let refused = read(&room.manager, &to, reference, row.version.as_str()).await;
        assert_eq!(refused.unwrap_err().fault, Fault::Failed);
    }
}
