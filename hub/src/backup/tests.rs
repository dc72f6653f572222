use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use edge_secrets_protocol::{Fields, OrgId, PublicKey, SealingKey, Secret};

use super::command::{self, bring_back};
use super::*;
use crate::app;
use crate::catalog::Catalog;
use crate::catalog::conformance::world::audit;
use crate::catalog::records::{AuditQuery, NewAudit, NewMeta};
use crate::cli::{Backup, Restore};
use crate::init::init;
use crate::init::tests::wanted;
use crate::keys;
use crate::managers::embedded::{Embedded, KeptSession, NewValue};
use crate::managers::envelope::MasterKey;
use crate::managers::session::Kept;
use crate::managers::{SecretManager, Target};

/// What a hub keeps in its directory, without a hub that serves.
pub(crate) struct Hub {
    pub(crate) dir: PathBuf,
    room: tempfile::TempDir,
}

impl Hub {
    pub(crate) async fn new() -> Self {
        let room = tempfile::tempdir().unwrap();
        let dir = room.path().join("hub");
        init(&wanted(&dir)).await.unwrap();
        Self { dir, room }
    }

    /// The one that was restored to this directory.
    fn at(self, dir: &Path) -> Self {
        Self {
            dir: dir.into(),
            ..self
        }
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.join(CONFIG_FILE)
    }

    pub(crate) fn org(&self) -> OrgId {
        "myorg".parse().unwrap()
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.room.path().join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    pub(crate) async fn catalog(&self) -> SqliteCatalog {
        SqliteCatalog::open(&self.dir.join(DATABASE_FILE))
            .await
            .unwrap()
    }

    pub(crate) async fn settled(&self) -> Result<MasterKey, AppError> {
        let catalog = self.catalog().await;
        let settled = keys::settle(&self.dir, &catalog).await;
        catalog.close().await;
        settled
    }

    async fn with<T>(&self, act: impl AsyncFnOnce(Arc<Embedded>) -> T) -> T {
        let catalog = Arc::new(self.catalog().await);
        let master = keys::settle(&self.dir, &catalog).await.unwrap();
        let secrets = Embedded::new(Arc::clone(&catalog) as Arc<dyn Catalog>, master);
        let done = act(Arc::new(secrets)).await;
        catalog.close().await;
        done
    }

    pub(crate) async fn set(&self, reference: &str, value: &[u8]) -> String {
        self.set_all(&[reference], value).await
    }

    pub(crate) async fn set_all(&self, references: &[&str], value: &[u8]) -> String {
        let payload = Fields::encode(&[("value".parse().unwrap(), value)]).unwrap();
        self.with(async |secrets| {
            let mut last = String::new();
            for reference in references {
                let value = NewValue {
                    org: &self.org(),
                    reference: &reference.parse().unwrap(),
                    payload: &payload,
                    by: &"admin".parse().unwrap(),
                    meta: NewMeta::default(),
                };
                let record = NewAudit {
                    org: self.org(),
                    ..audit("secret.set")
                };
                let (version, _) = secrets.set(value, None, record).await.unwrap();
                last = version.to_string();
            }
            last
        })
        .await
    }

    pub(crate) async fn read(&self, reference: &str, version: &str) -> Vec<u8> {
        let (reference, version) = (reference.parse().unwrap(), version.parse().unwrap());
        self.with(async |secrets| {
            let target = Target {
                org: &self.org(),
                reference: &reference,
            };
            let payload = secrets.read(target, &version).await.unwrap();
            let fields = Fields::decode(payload.expose()).unwrap();
            fields.expose_value().unwrap().to_vec()
        })
        .await
    }

    pub(crate) async fn keep_session(&self, manager: &str, session: &[u8]) {
        let manager = manager.parse().unwrap();
        self.with(async |secrets| {
            let kept = KeptSession::new(secrets, manager);
            kept.save(&Secret::new(session.to_vec())).await.unwrap();
        })
        .await;
    }

    pub(crate) async fn session(&self, manager: &str) -> Vec<u8> {
        let manager = manager.parse().unwrap();
        self.with(async |secrets| {
            let kept = KeptSession::new(secrets, manager);
            let session = kept.load().await.unwrap().unwrap();
            session.expose().to_vec()
        })
        .await
    }

    async fn pool(&self) -> sqlx::SqlitePool {
        let options =
            sqlx::sqlite::SqliteConnectOptions::new().filename(self.dir.join(DATABASE_FILE));
        sqlx::SqlitePool::connect_with(options).await.unwrap()
    }

    pub(crate) async fn damage(&self, statement: &'static str) {
        let pool = self.pool().await;
        sqlx::query(statement).execute(&pool).await.unwrap();
        pool.close().await;
    }

    pub(crate) async fn restore_wrapped(&self, reference: &str, wrapped: &[u8]) {
        let pool = self.pool().await;
        sqlx::query("UPDATE secret_versions SET wrapped_key = $1 WHERE reference = $2")
            .bind(wrapped)
            .bind(reference)
            .execute(&pool)
            .await
            .unwrap();
        pool.close().await;
    }

    async fn back_up(&self, out: &Path, words: &Path) -> Result<String, BackupError> {
        command::backup(&Backup {
            config: self.config(),
            out: out.into(),
            passphrase_file: Some(words.into()),
            recipient: None,
        })
        .await
    }
}

fn by_words(from: &Path, dir: Option<&Path>, words: &Path) -> Restore {
    Restore {
        from: from.into(),
        data_dir: dir.map(Into::into),
        check: dir.is_none(),
        passphrase_file: Some(words.into()),
        key: None,
    }
}

const WORDS: &[u8] = b"correct horse battery staple\n";

#[tokio::test]
async fn what_was_backed_up_is_there_again_and_goes_on() {
    let hub = Hub::new().await;
    let words = hub.file("words", WORDS);
    hub.set("db", b"canary one").await;
    hub.set("db", b"canary two").await;
    hub.keep_session("vault", b"canary token").await;
    let out = hub.room.path().join("backup");
    // As while it serves.
    let serving = app::serving(&hub.dir).unwrap();
    let catalog = hub.catalog().await;
    let said = hub.back_up(&out, &words).await.unwrap();
    for name in [
        "hub.db",
        "hub.yaml",
        "master.key",
        "ca.key",
        "sealing.key",
        "admin.key",
    ] {
        assert!(said.contains(name), "{said}");
    }
    catalog.close().await;
    drop(serving);
    assert_eq!(
        fs::metadata(&out).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let left = archive::contents(hub.room.path(), &[]).unwrap();
    let left: Vec<_> = left.files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(left, ["backup", "words"]);
    assert!(!hub.dir.join(COPY_FILE).exists());
    // Neither a value nor a key of what is in it.
    let text = fs::read(&out).unwrap();
    let master = fs::read(hub.dir.join("master.key")).unwrap();
    for secret in [&b"canary"[..], &master, b"PRIVATE KEY"] {
        assert!(!text.windows(secret.len()).any(|part| part == secret));
    }

    // What comes afterwards is not in it, and its numbers do not come again.
    assert_eq!(hub.set("db", b"canary three").await, "3");
    assert_eq!(hub.set("new", b"canary new").await, "1");
    let checked = bring_back(&by_words(&out, None, &words)).await.unwrap();
    assert!(checked.contains("Whole, made at "), "{checked}");
    let dir = hub.room.path().join("again");
    let said = bring_back(&by_words(&out, Some(&dir), &words))
        .await
        .unwrap();
    assert!(said.contains("0 nodes, 1 secrets"), "{said}");
    assert!(!said.contains("data_dir"), "{said}");
    for entry in fs::read_dir(&dir).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let before = fs::read(hub.dir.join("ca.key")).unwrap();
    let hub = hub.at(&dir);
    assert_eq!(fs::read(dir.join("ca.key")).unwrap(), before);
    assert_eq!(hub.read("db", "2").await, b"canary two");
    assert_eq!(hub.session("vault").await, b"canary token");
    let next: u64 = hub.set("db", b"canary four").await.parse().unwrap();
    assert!(next > 1000, "{next}");
    // Also of what had come only afterwards, and once more when the same is restored again.
    let new: u64 = hub.set("new", b"canary five").await.parse().unwrap();
    assert!(new > 1000, "{new}");
    let bound = app::build(Config::load(&hub.config()).unwrap())
        .await
        .unwrap();
    let query = AuditQuery {
        after: 0,
        since: None,
        limit: 100,
    };
    let trail = bound.hub().catalog.audit(&hub.org(), &query).await.unwrap();
    assert!(
        trail
            .iter()
            .any(|record| record.entry.action == "hub.restore")
    );
}

#[tokio::test]
async fn a_backup_for_a_key_is_opened_by_that_key_alone() {
    let hub = Hub::new().await;
    hub.set("db", b"canary").await;
    let key = hub.room.path().join("recovery.key");
    let said = command::make_key(&key).unwrap();
    assert!(said.contains("recovery.key.pub"), "{said}");
    assert_eq!(
        fs::metadata(&key).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(matches!(
        command::make_key(&key),
        Err(BackupError::Exists(_))
    ));
    let out = hub.room.path().join("backup");
    let wanted = |recipient: PathBuf, out: &Path| Backup {
        config: hub.config(),
        out: out.into(),
        passphrase_file: None,
        recipient: Some(recipient),
    };
    // The private half is no recipient.
    let swapped = command::backup(&wanted(key.clone(), &out)).await;
    assert!(matches!(swapped, Err(BackupError::Key(_))));
    let public = hub.room.path().join("recovery.key.pub");
    command::backup(&wanted(public.clone(), &out))
        .await
        .unwrap();
    let again = command::backup(&wanted(public, &out)).await;
    assert!(matches!(again, Err(BackupError::Exists(_))));

    let dir = hub.room.path().join("again");
    let by = |key: &Path| Restore {
        from: out.clone(),
        data_dir: Some(dir.clone()),
        check: false,
        passphrase_file: None,
        key: Some(key.into()),
    };
    let other = hub.room.path().join("other.key");
    command::make_key(&other).unwrap();
    let refused = bring_back(&by(&other)).await;
    assert!(matches!(refused, Err(BackupError::NotFor)));
    let words = hub.file("words", WORDS);
    let refused = bring_back(&by_words(&out, Some(&dir), &words)).await;
    assert!(matches!(refused, Err(BackupError::OtherLock(..))));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = bring_back(&by(&key)).await;
    assert!(matches!(refused, Err(BackupError::Key(_))));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(!dir.exists(), "a refusal leaves nothing");
    bring_back(&by(&key)).await.unwrap();
    assert_eq!(hub.at(&dir).read("db", "1").await, b"canary");
}

#[tokio::test]
async fn what_is_damaged_or_cut_short_restores_nothing() {
    let hub = Hub::new().await;
    let words = hub.file("words", WORDS);
    hub.set("db", &vec![7; 40_000]).await;
    let out = hub.room.path().join("backup");
    hub.back_up(&out, &words).await.unwrap();
    let whole = fs::read(&out).unwrap();
    let (dir, broken) = (
        hub.room.path().join("again"),
        hub.room.path().join("broken"),
    );
    let cuts = [
        0,
        10,
        100,
        whole.len() / 3,
        whole.len() / 2,
        whole.len() - 1,
    ];
    let mut texts: Vec<_> = cuts.iter().map(|cut| whole[..*cut].to_vec()).collect();
    for at in [3, 200, whole.len() / 2, whole.len() - 1] {
        let mut text = whole.clone();
        text[at] ^= 1;
        texts.push(text);
    }
    texts.push([&whole[..], b"more"].concat());
    for text in texts {
        fs::write(&broken, text).unwrap();
        for to in [None, Some(&*dir)] {
            let refused = bring_back(&by_words(&broken, to, &words)).await;
            let error = refused.unwrap_err().to_string();
            assert!(!error.is_empty() && !dir.exists(), "{error}");
        }
    }
    let other = hub.file("other", b"another long passphrase");
    let refused = bring_back(&by_words(&out, Some(&dir), &other))
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("another passphrase"),
        "{refused}"
    );
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("mine"), "x").unwrap();
    let refused = bring_back(&by_words(&out, Some(&dir), &words))
        .await
        .unwrap_err();
    assert!(refused.is_usage() && dir.join("mine").exists());
}

/// Keys that do not belong to the database make no hub.
#[tokio::test]
async fn a_backup_whose_parts_do_not_fit_is_refused() {
    let hub = Hub::new().await;
    let words = hub.file("words", WORDS);
    hub.set("db", b"canary").await;
    let (out, dir) = (
        hub.room.path().join("backup"),
        hub.room.path().join("again"),
    );
    fs::write(hub.dir.join("master.key"), [9; 32]).unwrap();
    hub.back_up(&out, &words).await.unwrap();
    // Who only looks hears of it too.
    for to in [None, Some(&*dir)] {
        let refused = bring_back(&by_words(&out, to, &words)).await;
        assert!(matches!(
            refused,
            Err(BackupError::App(AppError::OtherMasterKey(_)))
        ));
        assert!(!dir.exists());
    }
    fs::remove_file(hub.dir.join("sealing.key")).unwrap();
    fs::remove_file(&out).unwrap();
    hub.back_up(&out, &words).await.unwrap();
    for to in [None, Some(&*dir)] {
        let refused = bring_back(&by_words(&out, to, &words)).await;
        assert!(matches!(refused, Err(BackupError::Lacks("sealing.key"))));
    }
}

/// The archive is as whole as can be; what is in it makes no hub.
#[tokio::test]
async fn a_look_at_a_backup_looks_into_its_database() {
    let hub = Hub::new().await;
    let words = hub.file("words", WORDS);
    hub.set("db", b"canary").await;
    let out = |name: &str| hub.room.path().join(name);
    hub.back_up(&out("sound"), &words).await.unwrap();
    let said = bring_back(&by_words(&out("sound"), None, &words))
        .await
        .unwrap();
    assert!(said.contains("Its database is sound"), "{said}");
    hub.damage("PRAGMA foreign_keys = OFF; DELETE FROM orgs")
        .await;
    hub.back_up(&out("damaged"), &words).await.unwrap();
    hub.damage("INSERT INTO orgs (org, revision) VALUES ('myorg', 1)")
        .await;
    hub.damage(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'of another time', 1, x'00', 0)",
    )
    .await;
    hub.back_up(&out("newer"), &words).await.unwrap();
    for (name, why) in [
        ("damaged", "the database is damaged"),
        ("newer", "of a newer hub"),
    ] {
        let refused = bring_back(&by_words(&out(name), None, &words)).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
}

#[tokio::test]
async fn what_a_killed_backup_left_goes_with_the_next_one() {
    let hub = Hub::new().await;
    let words = hub.file("words", WORDS);
    let out = hub.room.path().join("backup");
    let left = hub.file("backup.0123456789abcdef.part", "half a backup");
    let others = [
        hub.file("backup.mine.part", "x"),
        hub.file("other.0123456789abcdef.part", "x"),
        hub.file("backup.aaaaaaaaaaaaaaaa.part", "somebody writes it"),
    ];
    let writing = File::open(&others[2]).unwrap();
    writing.lock().unwrap();
    hub.back_up(&out, &words).await.unwrap();
    assert!(out.exists() && !left.exists());
    assert!(others.iter().all(|path| path.exists()));
}

/// As on a stick or a share that knows no links.
#[test]
fn a_backup_gets_its_name_where_there_are_no_links() {
    let room = tempfile::tempdir().unwrap();
    let (part, path) = (room.path().join("part"), room.path().join("backup"));
    let none = |_: &Path, _: &Path| Err(io::Error::from_raw_os_error(1));
    fs::write(&part, "whole").unwrap();
    put_at(&part, &path, none).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "whole");
    assert!(!part.exists());
    fs::write(&part, "another").unwrap();
    let links: [fn(&Path, &Path) -> io::Result<()>; 2] =
        [none, |part, path| fs::hard_link(part, path)];
    for link in links {
        let refused = put_at(&part, &path, link);
        assert!(matches!(refused, Err(BackupError::Exists(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole");
    }
}

#[tokio::test]
async fn one_backup_at_a_time_and_what_lies_elsewhere_is_named() {
    let hub = Hub::new().await;
    let words = hub.file("words", WORDS);
    let out = hub.room.path().join("backup");
    let alone = app::alone(&hub.dir).unwrap();
    let refused = hub.back_up(&out, &words).await;
    assert!(matches!(
        refused,
        Err(BackupError::App(AppError::Maintained(_)))
    ));
    drop(alone);
    fs::create_dir(hub.dir.join("sub")).unwrap();
    let mut config = fs::read_to_string(hub.config()).unwrap();
    config.push_str(
        "managers:\n- name: ss\n  secret_server: {url: https://ss.example, username: user, \
         password: /etc/ss/password}\n  orgs: {myorg: [Team]}\n",
    );
    fs::write(hub.config(), config).unwrap();
    let said = hub.back_up(&out, &words).await.unwrap();
    assert!(said.contains("no files of the hub: sub\n"), "{said}");
    assert!(
        said.contains("lying elsewhere: /etc/ss/password\n"),
        "{said}"
    );
    let within = hub.back_up(&hub.dir.join("hub.backup"), &words).await;
    assert!(matches!(within, Err(BackupError::Within(_))));
    fs::write(hub.dir.join("core"), vec![0; 17 * 1024 * 1024]).unwrap();
    let large = hub.back_up(&hub.room.path().join("large"), &words).await;
    let large = large.unwrap_err().to_string();
    assert!(large.contains("core is no file of a hub"), "{large}");
    fs::remove_file(hub.dir.join("core")).unwrap();
    let both = bring_back(&by_words(Path::new("-"), None, Path::new("-"))).await;
    assert!(matches!(both, Err(BackupError::Key(_))));
    let weak = hub.file("weak", "short");
    let refused = hub
        .back_up(&hub.room.path().join("weak.backup"), &weak)
        .await;
    assert!(matches!(refused, Err(BackupError::Weak)));
    assert!(!hub.room.path().join("weak.backup").exists());
    let public = String::from(SealingKey::generate().public());
    assert!(PublicKey::try_from(public).is_ok());
}
