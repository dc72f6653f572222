use super::*;
use crate::config::TrustDomain;
use crate::init::tests::wanted;
use crate::init::{CONFIG_FILE, init};
use crate::pki::CA_CERTIFICATE_FILE;
use crate::pki::rotation::ROTATION_FILE;

async fn data_dir() -> (tempfile::TempDir, PathBuf) {
    let room = tempfile::tempdir().unwrap();
    let dir = room.path().join("hub");
    init(&wanted(&dir)).await.unwrap();
    (room, dir)
}

async fn step(dir: &Path, step: impl FnOnce(Where) -> Step) -> Result<String, CaError> {
    let config = dir.join(CONFIG_FILE);
    take(&step(Where { config })).await
}

fn forced(force: bool) -> impl Fn(Where) -> Forced {
    move |place| Forced { place, force }
}

#[tokio::test]
async fn the_stages_go_in_order_and_the_new_ca_takes_the_place_of_the_old_one() {
    let (_room, dir) = data_dir().await;
    let pki = || Pki::load(&dir, TrustDomain::default()).unwrap();
    let gentle = forced(false);
    let (switch, finish) = (
        |place| Step::Switch(gentle(place)),
        |place| Step::Finish(gentle(place)),
    );
    let old = pki().ca_fingerprint();
    for wrong in [step(&dir, switch).await, step(&dir, finish).await] {
        assert!(matches!(wrong, Err(CaError::Order(_))));
    }
    assert!(
        step(&dir, Step::Status)
            .await
            .unwrap()
            .starts_with("No exchange")
    );

    step(&dir, Step::Rotate).await.unwrap();
    for wrong in [step(&dir, Step::Rotate).await, step(&dir, finish).await] {
        assert!(matches!(wrong, Err(CaError::Order(_))));
    }
    assert_eq!(pki().ca_fingerprint(), old);
    let status = step(&dir, Step::Status).await.unwrap();
    assert!(status.contains("0 of 0 nodes are there"), "{status}");

    let before = fs::read(dir.join(ADMIN_CERTIFICATE_FILE)).unwrap();
    let told = step(&dir, switch).await.unwrap();
    assert!(told.contains("admin.crt is a new one"), "{told}");
    assert_ne!(fs::read(dir.join(ADMIN_CERTIFICATE_FILE)).unwrap(), before);
    let new = pki().ca_fingerprint();
    assert_ne!(new, old);
    assert!(matches!(step(&dir, switch).await, Err(CaError::Order(_))));

    step(&dir, finish).await.unwrap();
    assert_eq!(pki().ca_fingerprint(), new);
    assert!(!pki().is_known(&old) && !dir.join(ROTATION_FILE).exists());
    let bundle = fs::read_to_string(dir.join(CA_CERTIFICATE_FILE)).unwrap();
    assert_eq!(bundle, pki().trust_bundle_pem());
}

#[tokio::test]
async fn a_user_who_would_be_locked_out_holds_up_the_end_unless_it_is_forced() {
    let (_room, dir) = data_dir().await;
    step(&dir, Step::Rotate).await.unwrap();
    // Nobody can exchange this one: its key is elsewhere.
    fs::rename(dir.join(ADMIN_KEY_FILE), dir.join("elsewhere")).unwrap();
    let gentle = forced(false);
    step(&dir, |place| Step::Switch(gentle(place)))
        .await
        .unwrap();
    let status = step(&dir, Step::Status).await.unwrap();
    assert!(
        status.contains("user myorg/admin, certificate until"),
        "{status}"
    );
    let refused = step(&dir, |place| Step::Finish(gentle(place))).await;
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("myorg/admin") && refused.contains("--force"),
        "{refused}"
    );
    let firm = forced(true);
    step(&dir, |place| Step::Finish(firm(place))).await.unwrap();
}

#[tokio::test]
async fn no_stage_begins_while_a_hub_serves() {
    let (_room, dir) = data_dir().await;
    let _serving = app::serving(&dir).unwrap();
    assert!(matches!(
        step(&dir, Step::Rotate).await,
        Err(CaError::Data(_))
    ));
    assert!(
        step(&dir, Step::Status).await.is_ok(),
        "looking is always allowed"
    );
}

/// The database is the serving hub's: one of another version leaves it as it is.
#[tokio::test]
async fn looking_changes_nothing_in_the_database() {
    let (_room, dir) = data_dir().await;
    step(&dir, Step::Rotate).await.unwrap();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(dir.join(DATABASE_FILE));
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    // As before the last migration: it would be made again.
    let forget = "DELETE FROM _sqlx_migrations
         WHERE version = (SELECT max(version) FROM _sqlx_migrations)";
    sqlx::query(forget).execute(&pool).await.unwrap();
    let count = async || -> i64 {
        let count = sqlx::query_scalar("SELECT count(*) FROM _sqlx_migrations");
        count.fetch_one(&pool).await.unwrap()
    };
    let before = count().await;
    let status = step(&dir, Step::Status).await.unwrap();
    assert!(status.contains("0 of 0 nodes are there"), "{status}");
    assert_eq!(count().await, before);
}

#[tokio::test]
async fn the_trail_tells_of_every_stage() {
    let (_room, dir) = data_dir().await;
    step(&dir, Step::Rotate).await.unwrap();
    let firm = forced(true);
    step(&dir, |place| Step::Switch(firm(place))).await.unwrap();
    fs::rename(dir.join(ADMIN_KEY_FILE), dir.join("elsewhere")).unwrap();
    step(&dir, |place| Step::Finish(firm(place))).await.unwrap();
    // What is refused is not told as done.
    assert!(step(&dir, |place| Step::Finish(firm(place))).await.is_err());
    let catalog = SqliteCatalog::open(&dir.join(DATABASE_FILE)).await.unwrap();
    let query = crate::catalog::records::AuditQuery {
        limit: 100,
        ..Default::default()
    };
    let trail = catalog.audit(&"myorg".parse().unwrap(), &query).await;
    let told: Vec<_> = trail
        .unwrap()
        .into_iter()
        .filter(|record| record.entry.object == "ca")
        .map(|record| record.entry.action)
        .collect();
    catalog.close().await;
    assert_eq!(told, ["ca.rotate", "ca.switch", "ca.finish"]);
}

#[test]
fn who_is_there_who_is_not_and_who_is_lost_anyway() {
    let at = |second: i64| Timestamp::from_second(1_700_000_000 + second).unwrap();
    let before = ["old-1", "old-2", "old-3", "old-5"].map(str::to_owned);
    let rotation = Rotation::begin(&TrustDomain::default(), at(0), BTreeSet::from(before)).unwrap();
    let org: OrgId = "myorg".parse().unwrap();
    let known = |holder, name: &str, serial: &str, until| KnownCertificate {
        holder,
        org: org.clone(),
        name: name.into(),
        serial: serial.into(),
        not_after: at(until),
    };
    let certificates = [
        // Renewed, with the one before it still good.
        known(Holder::Node, "renewed", "old-1", 100),
        known(Holder::Node, "renewed", "new-1", 200),
        known(Holder::Node, "away", "old-2", -50),
        // Beyond the grace.
        known(Holder::Node, "lost", "old-3", -500),
        known(Holder::Node, "enrolled", "new-4", 200),
        known(Holder::User, "alice", "old-5", 100),
    ];
    let grace = Duration::from_secs(100);
    let standing = Standing::of(&rotation, &certificates, grace, at(0));
    assert_eq!(standing.nodes_there, 2);
    assert_eq!(standing.nodes.len(), 1);
    assert!(standing.nodes[0].starts_with("node myorg/away, certificate until"));
    assert_eq!(standing.users.len(), 1);
    let many: Vec<String> = (0..SHOWN + 7).map(|n| n.to_string()).collect();
    assert!(lines(&many).ends_with("and 7 more\n"));
}
