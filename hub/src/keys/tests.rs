use super::*;
use crate::backup::tests::Hub;
use crate::catalog::Catalog;

fn mark_of(dir: &Path) -> Vec<u8> {
    let bytes = fs::read(dir.join(MASTER_KEY_FILE)).unwrap();
    MasterKey::from_bytes(&bytes).unwrap().mark()
}

#[tokio::test]
async fn everything_is_under_the_new_key_and_reads_as_before() {
    let hub = Hub::new().await;
    for number in 0..1005 {
        hub.set(&format!("s{number}"), b"x").await;
    }
    hub.set("db", b"one").await;
    hub.set("db", b"two").await;
    hub.keep_session("vault", b"token").await;
    let before = fs::read(hub.dir.join(MASTER_KEY_FILE)).unwrap();
    // As a backup leaves it that is killed.
    fs::write(hub.dir.join("backup.db"), "under the old key").unwrap();
    let count = rotate_master_key(&hub.config()).await.unwrap();
    assert_eq!(count, 1008);
    let after = fs::read(hub.dir.join(MASTER_KEY_FILE)).unwrap();
    assert_ne!(before, after);
    assert!(!hub.dir.join(NEXT_FILE).exists());
    assert!(!hub.dir.join("backup.db").exists());
    assert_eq!(hub.read("db", "1").await, b"one");
    assert_eq!(hub.read("db", "2").await, b"two");
    assert_eq!(hub.read("s1004", "1").await, b"x");
    assert_eq!(hub.session("vault").await, b"token");
    // The old key opens nothing any more.
    fs::write(hub.dir.join(MASTER_KEY_FILE), before).unwrap();
    let refused = hub.settled().await;
    assert!(matches!(refused, Err(AppError::OtherMasterKey(_))));
}

/// Whatever has happened of an exchange when the power goes, one key is found, and the right one.
#[tokio::test]
async fn an_exchange_that_was_cut_off_is_finished_or_never_was() {
    let hub = Hub::new().await;
    hub.set("db", b"one").await;
    hub.settled().await.unwrap();
    let old = fs::read(hub.dir.join(MASTER_KEY_FILE)).unwrap();
    let new = MasterKey::generate().unwrap();
    let next = hub.dir.join(NEXT_FILE);

    // The new key is prepared, whole or in part, and nothing wrapped.
    for prepared in [&b""[..], &new.expose()[..7], new.expose()] {
        fs::write(&next, prepared).unwrap();
        assert_eq!(hub.read("db", "1").await, b"one");
        assert!(!next.exists());
        assert_eq!(fs::read(hub.dir.join(MASTER_KEY_FILE)).unwrap(), old);
    }

    // Everything is wrapped; the old key is there, half overwritten, or overwritten.
    prepare(&hub.dir, &new).unwrap();
    let catalog = hub.catalog().await;
    let before = MasterKey::from_bytes(&old).unwrap();
    let mark = new.mark();
    let rewrapped = catalog.rewrap(&mark, |of, key| before.rewrap(&new, of, key));
    assert_eq!(rewrapped.await.unwrap(), 1);
    catalog.close().await;
    let half = [&[0; 16], &old[16..]].concat();
    for left in [old.clone(), half, vec![0; 32]] {
        fs::write(hub.dir.join(MASTER_KEY_FILE), left).unwrap();
        if !next.exists() {
            prepare(&hub.dir, &new).unwrap();
        }
        assert_eq!(hub.read("db", "1").await, b"one");
        assert!(!next.exists());
        assert_eq!(mark_of(&hub.dir), new.mark());
    }
}

#[tokio::test]
async fn a_key_that_does_not_open_leaves_everything_as_it_was() {
    let hub = Hub::new().await;
    hub.set("a", b"one").await;
    hub.set("b", b"two").await;
    let catalog = hub.catalog().await;
    let (org, b) = (hub.org(), "b".parse().unwrap());
    let version = "1".parse().unwrap();
    let kept = catalog
        .encrypted(&org, &b, &version)
        .await
        .unwrap()
        .unwrap();
    catalog.close().await;
    hub.damage("UPDATE secret_versions SET wrapped_key = x'0102' WHERE reference = 'b'")
        .await;
    let before = mark_of(&hub.dir);
    let error = rotate_master_key(&hub.config()).await.unwrap_err();
    assert!(
        error.to_string().contains("the key of b does not open"),
        "{error}"
    );
    assert_eq!(mark_of(&hub.dir), before);
    assert_eq!(hub.read("a", "1").await, b"one");
    // Nothing is left in the way of another attempt.
    hub.restore_wrapped("b", &kept.wrapped_key).await;
    assert_eq!(rotate_master_key(&hub.config()).await.unwrap(), 2);
    assert_eq!(hub.read("b", "1").await, b"two");
}

#[tokio::test]
async fn a_hub_that_serves_and_a_backup_come_first() {
    let hub = Hub::new().await;
    let serving = app::serving(&hub.dir).unwrap();
    let refused = rotate_master_key(&hub.config()).await.unwrap_err();
    assert!(matches!(refused, BackupError::App(AppError::Locked(_))));
    drop(serving);
    let alone = app::alone(&hub.dir).unwrap();
    let refused = rotate_master_key(&hub.config()).await.unwrap_err();
    assert!(matches!(refused, BackupError::App(AppError::Maintained(_))));
    drop(alone);
    rotate_master_key(&hub.config()).await.unwrap();
}

/// A database of a hub that knew no marks is taken with the key that opens it, and with no other.
#[tokio::test]
async fn the_first_mark_is_of_the_key_that_opens_what_is_there() {
    let hub = Hub::new().await;
    hub.set("db", b"one").await;
    hub.damage("DELETE FROM master_key").await;
    let right = fs::read(hub.dir.join(MASTER_KEY_FILE)).unwrap();
    fs::write(hub.dir.join(MASTER_KEY_FILE), [7; 32]).unwrap();
    let refused = hub.settled().await;
    assert!(matches!(refused, Err(AppError::OtherMasterKey(_))));
    fs::write(hub.dir.join(MASTER_KEY_FILE), right).unwrap();
    assert_eq!(hub.read("db", "1").await, b"one");
}
