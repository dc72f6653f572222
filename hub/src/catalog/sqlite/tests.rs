//! The conformance suite over SQLite, and what is SQLite's own.

use tempfile::TempDir;

use super::*;
use crate::catalog::conformance::world::{
    World, at, audit, encrypted, node_id, org, placed, secret_ref,
};
use crate::catalog::conformance::{Place, conformance_tests};

/// A catalog in a directory that goes away with it.
#[derive(Default)]
struct SqlitePlace {
    dir: Option<TempDir>,
    opened: Option<Arc<SqliteCatalog>>,
}

impl SqlitePlace {
    fn path(&mut self) -> std::path::PathBuf {
        let dir = self.dir.get_or_insert_with(|| tempfile::tempdir().unwrap());
        dir.path().join("catalog.db")
    }
}

#[async_trait]
impl Place for SqlitePlace {
    async fn open(&mut self) -> Arc<dyn Catalog> {
        if let Some(opened) = self.opened.take() {
            opened.close().await;
        }
        let opened = Arc::new(SqliteCatalog::open(&self.path()).await.unwrap());
        self.opened = Some(Arc::clone(&opened));
        opened
    }
}

conformance_tests!(SqlitePlace::default());

/// A world, and the catalog under it.
async fn world() -> (World, Arc<SqliteCatalog>, SqlitePlace) {
    let mut place = SqlitePlace::default();
    let world = World::new(&mut place).await;
    let catalog = Arc::clone(place.opened.as_ref().unwrap());
    (world, catalog, place)
}

#[tokio::test]
async fn the_file_and_its_log_are_private() {
    let (world, catalog, mut place) = world().await;
    world.put("x", 1).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let path = place.path();
    for suffix in ["", "-wal", "-shm"] {
        let file = format!("{}{suffix}", path.display());
        assert_eq!(mode(Path::new(&file)), 0o600, "{file}");
    }
    // A file that was made readable is private again once it is opened.
    catalog.close().await;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    place.open().await;
    assert_eq!(mode(&path), 0o600);
}

#[tokio::test]
async fn connections_are_set_up_for_durability() {
    let (_world, catalog, _place) = world().await;
    for (pragma, expected) in [
        ("PRAGMA journal_mode", "wal"),
        ("PRAGMA synchronous", "2"),
        ("PRAGMA foreign_keys", "1"),
        ("PRAGMA secure_delete", "1"),
    ] {
        let row = sqlx::query(pragma)
            .fetch_one(&catalog.writer)
            .await
            .unwrap();
        let value: String = match sqlx::Row::try_get::<i64, _>(&row, 0) {
            Ok(number) => number.to_string(),
            Err(_) => sqlx::Row::get(&row, 0),
        };
        assert_eq!(value, expected, "{pragma}");
    }
    let written = sqlx::query("DELETE FROM feed")
        .execute(&catalog.readers)
        .await;
    assert!(written.is_err(), "readers only read");
}

#[tokio::test]
async fn a_malformed_row_is_an_error_that_shows_nothing() {
    let (world, catalog, _place) = world().await;
    world.enrol("n").await;
    world.place("n", vec![placed("d", &["a=x"])]).await;
    for spoil in [
        "UPDATE nodes SET facts = '{canary'",
        "UPDATE deployments SET document = '\"canary\"'",
    ] {
        sqlx::query(spoil).execute(&catalog.writer).await.unwrap();
    }
    let errors = [
        catalog.nodes(&world.org).await.err().unwrap(),
        catalog.snapshot(&world.org).await.err().unwrap(),
        catalog
            .bindings(&world.org, &node_id("n"), None)
            .await
            .err()
            .unwrap(),
    ];
    for error in errors {
        assert!(matches!(error, CatalogError::Storage(_)), "{error}");
        assert!(!error.to_string().contains("canary"), "{error}");
    }
}

#[tokio::test]
async fn the_trail_cannot_be_changed_nor_cut() {
    let (world, catalog, _place) = world().await;
    for statement in ["UPDATE audit SET result = 'ok'", "DELETE FROM audit"] {
        let refused = sqlx::query(statement).execute(&catalog.writer).await;
        assert!(refused.is_err(), "{statement}");
    }
    assert_eq!(world.trail().await.len(), 1);
}

#[tokio::test]
async fn the_feed_is_bounded() {
    let (world, catalog, _place) = world().await;
    world.enrol("n").await;
    world.place("n", vec![placed("d", &["a=x"])]).await;
    let old = world.feed().await[0].seq;
    sqlx::query("INSERT INTO feed (seq, org, node, event) VALUES ($1, 'o', 'n', 'status')")
        .bind(rows::number(old + feed::KEPT))
        .execute(&catalog.writer)
        .await
        .unwrap();
    world.put("x", 1).await;
    let kept: Vec<_> = world.feed().await.iter().map(|entry| entry.seq).collect();
    assert_eq!(kept, [old + feed::KEPT, old + feed::KEPT + 1]);
}

/// How SQLite goes about a statement, step by step.
async fn plan(catalog: &SqliteCatalog, statement: &str) -> Vec<String> {
    let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
    let rows = sqlx::query(explain).fetch_all(&catalog.writer).await;
    let rows = rows.unwrap();
    rows.iter()
        .map(|row| sqlx::Row::get(row, "detail"))
        .collect()
}

fn assert_steps(plan: &[String], steps: &[(&str, &str)]) {
    for (table, keys) in steps {
        let step = format!("SEARCH {table} ");
        let found = plan.iter().find(|line| line.starts_with(&step));
        let found = found.unwrap_or_else(|| panic!("no search of {table}: {plan:#?}"));
        assert!(found.contains(keys), "{keys} expected: {plan:#?}");
    }
    // `w` is the list of what was asked for.
    let list = |line: &str| line == "SCAN w" || line.contains("CONSTANT ROW");
    let walks = |line: &&String| line.starts_with("SCAN") && !list(line);
    let scan = plan.iter().find(walks);
    assert_eq!(scan, None, "{plan:#?}");
}

#[tokio::test]
async fn a_rotation_never_walks_through_the_fleet() {
    let (_world, catalog, _place) = world().await;
    let bindings = ("b", "bindings_by_reference (org=? AND reference=?");
    let higher = (
        "h",
        "(org=? AND node=? AND deployment=? AND name=? AND rank<?)",
    );
    let [nodes, deployments] = super::secrets::STATEMENTS_ON_THE_FLEET;
    let nodes = plan(&catalog, nodes).await;
    assert_steps(&nodes, &[("nodes", "(org=? AND node=?)"), bindings, higher]);
    let deployments = plan(&catalog, deployments).await;
    let key = ("deployments", "(org=? AND node=? AND deployment=?)");
    assert_steps(&deployments, &[key, bindings, higher]);
}

#[tokio::test]
async fn a_managers_news_never_walk_through_the_fleet() {
    let (_world, catalog, _place) = world().await;
    let bindings = ("b", "bindings_by_reference (org=? AND reference=?");
    let [nodes, deployments] = super::managed::STATEMENTS_ON_THE_FLEET;
    let nodes = plan(&catalog, nodes).await;
    assert_steps(&nodes, &[("nodes", "(org=? AND node=?)"), bindings]);
    let deployments = plan(&catalog, deployments).await;
    let key = ("deployments", "(org=? AND node=? AND deployment=?)");
    assert_steps(&deployments, &[key, bindings]);
}

#[tokio::test]
async fn a_pull_and_a_fetch_read_only_what_they_give() {
    let (_world, catalog, _place) = world().await;
    let [resolve, one, many] = super::bindings::statements_on_a_node();
    let secrets = ("s", "(org=? AND reference=?)");
    let observed = ("o", "(org=? AND reference=?)");
    let leases = (
        "l",
        "leases_current (org=? AND node=? AND deployment=? AND reference=?)",
    );
    let changed = (
        "d",
        "deployments_by_change (org=? AND node=? AND changed>?)",
    );
    let bindings = ("b", "(org=? AND node=? AND deployment=?)");
    assert_steps(
        &plan(&catalog, &resolve).await,
        &[changed, bindings, secrets, observed, leases],
    );
    let bindings = (
        "b",
        "bindings_by_service (org=? AND node=? AND service=? AND name=?)",
    );
    for bound in [one, many] {
        assert_steps(
            &plan(&catalog, &bound).await,
            &[bindings, secrets, observed, leases],
        );
    }
}

#[tokio::test]
async fn a_look_for_ends_reads_only_the_ends_to_come() {
    let (_world, catalog, _place) = world().await;
    for statement in super::metadata::STATEMENTS_ON_ENDS {
        let plan = plan(&catalog, statement).await;
        assert!(
            plan.iter().any(|step| step.contains("secrets_by_end")),
            "{plan:#?}"
        );
        let walks = |line: &&String| line.starts_with("SCAN") && !line.contains("secrets_by_end");
        assert_eq!(plan.iter().find(walks), None, "{plan:#?}");
    }
}

/// A change of what is public costs who uses it, and not the fleet.
#[tokio::test]
async fn a_look_for_followers_reads_only_foreign_nodes() {
    let (_world, catalog, _place) = world().await;
    for statement in super::followers::STATEMENTS_ON_FOLLOWERS {
        let plan = plan(&catalog, statement).await;
        let taken = "INDEX nodes_on_foreign_patterns (pattern_org=?";
        assert!(plan.iter().any(|step| step.contains(taken)), "{plan:#?}");
        let walks = |line: &&String| line.starts_with("SCAN");
        assert_eq!(plan.iter().find(walks), None, "{plan:#?}");
    }
}

/// The work follows what is behind, and not the fleet.
#[tokio::test]
async fn a_look_for_who_is_behind_reads_these_alone() {
    let (_world, catalog, _place) = world().await;
    let plan = plan(&catalog, super::nodes::LAGGING).await;
    for step in [
        "n USING COVERING INDEX nodes_behind (org=? AND behind_since>?)",
        "r USING INDEX reports_unsettled (org=?)",
    ] {
        assert!(plan.iter().any(|line| line.contains(step)), "{plan:#?}");
    }
    let walks = |line: &&String| line.starts_with("SCAN") && !line.starts_with("SCAN (subquery");
    assert_eq!(plan.iter().find(walks), None, "{plan:#?}");
}

/// What an older hub knew of its nodes counts.
#[tokio::test]
async fn nodes_of_an_older_hub_are_behind_where_their_reports_say_so() {
    let mut place = SqlitePlace::default();
    let old = older(&mut place, 9).await;
    for statement in [
        "INSERT INTO orgs (org, revision) VALUES ('o', 4)",
        "INSERT INTO nodes (org, node, revoked, facts, sealing_key, generation, enrolled_at)
         SELECT 'o', node, node = 'd', '{}', x'00', 7, 5 FROM (
             SELECT 'a' AS node UNION ALL SELECT 'b' UNION ALL SELECT 'c' UNION ALL SELECT 'd'
             UNION ALL SELECT 'e')",
        r#"INSERT INTO reports (org, node, generation, document, reported_at) VALUES
             ('o', 'a', 7, '{"generation":7,"deployments":[{"state":"applied"}]}', 6),
             ('o', 'b', 6, '{"generation":6,"deployments":[]}', 6),
             ('o', 'e', 7, '{"generation":7,"deployments":[{"state":"blocked"},{"state":"failed"}]}', 6)"#,
    ] {
        sqlx::query(statement).execute(&old).await.unwrap();
    }
    old.close().await;
    let lagging = place.open().await.lagging(&org("o")).await.unwrap();
    let told = lagging.iter();
    let told = told.map(|lag| (lag.node.as_str(), lag.since.is_some(), lag.unsettled));
    let failed = Some(super::super::records::Unsettled::Failed);
    assert_eq!(
        told.collect::<Vec<_>>(),
        [("b", true, None), ("c", true, None), ("e", false, failed)]
    );
}

/// A database as a hub left it that knew so many migrations.
async fn older(place: &mut SqlitePlace, migrations: usize) -> SqlitePool {
    let all = sqlx::migrate!("./migrations/sqlite");
    let first = all.iter().take(migrations).cloned().collect();
    let options = SqliteConnectOptions::new()
        .filename(place.path())
        .create_if_missing(true);
    let old = pool(1).connect_with(options).await.unwrap();
    let first = sqlx::migrate::Migrator::with_migrations(first);
    first.run(&old).await.unwrap();
    old
}

#[tokio::test]
async fn what_an_older_hub_published_is_as_public_as_it_says() {
    let mut place = SqlitePlace::default();
    let old = older(&mut place, 4).await;
    for statement in [
        "INSERT INTO orgs (org, revision) VALUES ('o', 4), ('other', 0)",
        r#"INSERT INTO services VALUES
             ('o', 'a', '1', '*', 'alice', '{"public":true}', 5),
             ('o', 'b', '1', '*', 'alice', '{"public":false}', 5),
             ('o', 'c', '1', '*', 'alice', '{"public":"true"}', 5),
             ('o', 'd', '1', '*', 'alice', '{}', 5)"#,
    ] {
        sqlx::query(statement).execute(&old).await.unwrap();
    }
    old.close().await;
    let catalog = place.open().await;
    let snapshot = catalog.snapshot(&"o".parse().unwrap()).await.unwrap();
    let public: Vec<_> = snapshot.services.iter().map(|one| one.public).collect();
    assert_eq!(public, [true, false, false, false]);
    assert_eq!(snapshot.patterns, []);
}

/// It did not follow anybody: whatever its nodes are on, they are placed once.
#[tokio::test]
async fn nodes_of_an_older_hub_on_others_patterns_are_behind() {
    let mut place = SqlitePlace::default();
    let old = older(&mut place, 6).await;
    for statement in [
        "INSERT INTO orgs (org, revision) VALUES ('o', 4), ('other', 0)",
        "INSERT INTO nodes (org, node, pattern, revoked, facts, sealing_key, generation, enrolled_at)
         SELECT 'o', node, pattern, 0, '{}', x'00', 0, 5 FROM (
             SELECT 'a' AS node, 'other/edge' AS pattern
             UNION ALL SELECT 'b', 'other/edge' UNION ALL SELECT 'c', 'o/edge'
             UNION ALL SELECT 'd', NULL UNION ALL SELECT 'e', 'nowhere/edge')",
    ] {
        sqlx::query(statement).execute(&old).await.unwrap();
    }
    old.close().await;
    let catalog = place.open().await;
    let behind = catalog.behind().await.unwrap();
    let behind = behind.iter();
    let behind = behind.map(|one| format!("{} {} {}", one.org, one.publisher, one.published.0));
    assert_eq!(behind.collect::<Vec<_>>(), ["o other 0"]);
    let (other, edge) = ("other".parse().unwrap(), "edge".parse().unwrap());
    let followers = catalog.followers(&other, &[edge]).await.unwrap();
    assert_eq!((followers.orgs, followers.nodes), (1, 2));
}

#[tokio::test]
async fn secrets_of_an_older_hub_have_no_metadata() {
    let mut place = SqlitePlace::default();
    let old = older(&mut place, 1).await;
    for statement in [
        "INSERT INTO orgs (org, revision) VALUES ('o', 4)",
        "INSERT INTO secrets VALUES ('o', 'x', 2, 2, 5, 6, 'alice'), ('o', 'y', NULL, 9, 5, 6, 'bob')",
        "INSERT INTO secret_versions VALUES
             ('o', 'x', 1, x'01', x'02', '[\"value\"]', 'alice', 5, NULL),
             ('o', 'x', 2, x'0100ff', x'0200fe', '[\"value\"]', 'alice', 20, NULL)",
    ] {
        sqlx::query(statement).execute(&old).await.unwrap();
    }
    old.close().await;

    let catalog = place.open().await;
    let (o, x) = ("o".parse().unwrap(), "x".parse().unwrap());
    let kept = catalog.secrets(&o, "").await.unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].current.as_str(), "2");
    assert_eq!(
        (&kept[0].meta, &kept[0].generator),
        (&Default::default(), &None)
    );
    let version = "2".parse().unwrap();
    let value = catalog.encrypted(&o, &x, &version).await.unwrap();
    assert_eq!(value, Some(encrypted(2)));
    let look = catalog.expire_secrets(Timestamp::MAX).await.unwrap();
    assert_eq!((look.ended, look.next), (vec![], None));
    assert_eq!(
        catalog
            .last_version(&o, &"y".parse().unwrap())
            .await
            .unwrap(),
        9
    );
    let change = serde_json::from_str(r#"{"labels": ["old"], "max_versions": 2}"#).unwrap();
    let edited = catalog.edit_secret(&o, &x, &change, None, audit("secret.edit"));
    assert_eq!(edited.await.unwrap().0.meta.labels.to_string(), "old");
    let put = catalog
        .put_secret(
            &o,
            &x,
            &encrypted(3),
            &NewMeta::default(),
            None,
            audit("secret.set"),
        )
        .await;
    put.unwrap();
    assert_eq!(catalog.versions(&o, &x).await.unwrap().len(), 2);
}

/// What a hub of the first schema had, something in every table.
const FIRST: [&str; 13] = [
    "INSERT INTO orgs VALUES ('o', 7)",
    "INSERT INTO users VALUES ('o', 'alice', 'admin', 5)",
    "INSERT INTO user_certificates VALUES ('aa', 'o', 'alice', 9999999999999)",
    "INSERT INTO nodes VALUES ('o', 'n', 'alice', 0, '{}', x'01', 3, 5, 6)",
    "INSERT INTO removed_nodes VALUES ('o', 'm', 12)",
    "INSERT INTO node_certificates VALUES ('bb', 'o', 'n', 9999999999999)",
    "INSERT INTO tokens VALUES (zeroblob(32), 'o', 'n', 'alice', 9, NULL)",
    "INSERT INTO services VALUES ('o', 'u', '1', '*', 'alice', '{}', 5)",
    "INSERT INTO policies VALUES ('o', 'p', 'alice', '{}', 5)",
    "INSERT INTO secrets VALUES ('o', 'x', 2, 2, 5, 6, 'alice')",
    "INSERT INTO secret_versions VALUES
         ('o', 'x', 2, x'0100ff', x'0200fe', '[\"value\"]', 'alice', 20, NULL)",
    "INSERT INTO feed VALUES (41, 'o', 'n', 'bindings', 3)",
    "INSERT INTO audit VALUES (17, 'o', 5, 'user/alice', 'secret.set', 'secret/x', 'ok', '', '')",
];

#[tokio::test]
async fn every_earlier_schema_is_brought_up_to_date_with_all_that_was_there() {
    let all = sqlx::migrate!("./migrations/sqlite").iter().count();
    for known in 1..all {
        let mut place = SqlitePlace::default();
        let old = older(&mut place, 1).await;
        for statement in FIRST {
            sqlx::query(statement).execute(&old).await.unwrap();
        }
        old.close().await;
        older(&mut place, known).await.close().await;

        let catalog = place.open().await;
        let (o, n) = (org("o"), node_id("n"));
        assert_eq!(catalog.revision(&o).await.unwrap(), Revision(7), "{known}");
        let node = catalog.node(&o, &n).await.unwrap().unwrap();
        assert_eq!(
            (node.generation, node.belongs.pattern),
            (Generation(3), None)
        );
        assert!(catalog.node_identity("bb").await.unwrap().is_some());
        assert!(catalog.user_identity("aa").await.unwrap().is_some());
        assert!(catalog.promised(&[0; 32]).await.unwrap().is_some());
        let snapshot = catalog.snapshot(&o).await.unwrap();
        assert_eq!((snapshot.services.len(), snapshot.policies.len()), (1, 1));
        let (x, two) = ("x".parse().unwrap(), "2".parse().unwrap());
        let kept = catalog.encrypted(&o, &x, &two).await.unwrap();
        assert_eq!(kept, Some(encrypted(2)));
        assert_eq!(catalog.feed(0, 9).await.unwrap().len(), 1);
        let query = AuditQuery {
            limit: 9,
            ..AuditQuery::default()
        };
        assert_eq!(catalog.audit(&o, &query).await.unwrap().len(), 1);
        place.opened.take().unwrap().close().await;
        drop(catalog);
        SqliteCatalog::check(&place.path()).await.unwrap();
    }
}

/// A step that fails leaves the database as it found it, and is done once what was in its way is gone.
#[tokio::test]
async fn a_migration_happens_whole_or_not_at_all() {
    let mut place = SqlitePlace::default();
    let old = older(&mut place, 4).await;
    // The last statement of the fifth step stumbles over it.
    sqlx::query("CREATE INDEX patterns_public ON orgs (org)")
        .execute(&old)
        .await
        .unwrap();
    old.close().await;
    assert!(SqliteCatalog::open(&place.path()).await.is_err());
    let old = older(&mut place, 4).await;
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name IN ('patterns', 'services_public')";
    let made: i64 = sqlx::query_scalar(tables).fetch_one(&old).await.unwrap();
    assert_eq!(made, 0);
    sqlx::query("DROP INDEX patterns_public")
        .execute(&old)
        .await
        .unwrap();
    old.close().await;
    place.open().await;
}

/// Another organisation that may have been there too.
async fn again_in(world: &World, org: &OrgId, first: u64) {
    world
        .catalog
        .create_org(
            org,
            NewAudit {
                org: org.clone(),
                ..audit("org.create")
            },
        )
        .await
        .unwrap();
    let other = World {
        catalog: Arc::clone(&world.catalog),
        org: org.clone(),
    };
    other.put("x", first).await;
}

#[tokio::test]
async fn a_backup_from_before_two_restores_is_ahead_of_both_and_tells_no_removed_node_to_wipe() {
    let (world, catalog, mut place) = world().await;
    world.enrol("n1").await;
    let gone = node_id("gone");
    let removed =
        "INSERT INTO removed_nodes (org, node, generation, told) VALUES ($1, 'gone', 3, 1)";
    let removed = sqlx::query(removed).bind(world.org.as_str());
    removed.execute(&catalog.writer).await.unwrap();
    assert!(catalog.was_removed(&world.org, &gone).await.unwrap());
    let copy = place.path().with_file_name("copy.db");
    SqliteCatalog::copy(&place.path(), &copy).await.unwrap();
    let after = |seconds| crate::clock::now() + Duration::from_secs(seconds);
    catalog.take_up(at(5), after(0)).await.unwrap();
    catalog.take_up(at(5), after(10)).await.unwrap();
    let followed = world.generation("n1").await;
    catalog.close().await;

    fs::rename(&copy, place.path()).unwrap();
    let catalog = place.open().await;
    let again = place.opened.take().unwrap();
    again.take_up(at(5), after(20)).await.unwrap();
    let org = world.org;
    let world = World { catalog, org };
    assert!(world.generation("n1").await > followed);
    // It may have been enrolled again since the backup.
    assert!(!again.was_removed(&world.org, &gone).await.unwrap());
}

#[tokio::test]
async fn a_copy_is_of_one_moment_and_goes_on_behind_what_was_counted_since() {
    let (world, catalog, mut place) = world().await;
    world.enrol("n1").await;
    world.place("n1", vec![placed("d1", &["x=x"])]).await;
    world.put("x", 1).await;
    world.token("n2", 9, at(1_000)).await;
    let copy = place.path().with_file_name("copy.db");
    SqliteCatalog::copy(&place.path(), &copy).await.unwrap();
    assert_eq!(
        fs::metadata(&copy).unwrap().permissions().mode() & 0o777,
        0o600
    );
    // It goes on: the node hears of more than the copy knows.
    for version in 2..9 {
        world.put("x", version).await;
    }
    world
        .place("n1", vec![placed("d1", &["x=x"]), placed("d2", &["x=x"])])
        .await;
    let heard = world.generation("n1").await;
    let newest = world.trail().await.last().unwrap().seq;
    catalog.close().await;

    SqliteCatalog::check(&copy).await.unwrap();
    fs::rename(&copy, place.path()).unwrap();
    let catalog = place.open().await;
    let again = place.opened.take().unwrap();
    let now = crate::clock::now();
    let restored = again.take_up(at(5), now).await.unwrap();
    assert_eq!(
        restored,
        Restored {
            nodes: 1,
            secrets: 1,
            void_tokens: 1
        }
    );
    let world = World {
        catalog,
        org: world.org,
    };
    assert_eq!(world.resolved("n1").await["d1/x"], "x@1");
    assert!(world.generation("n1").await > heard);
    // Everything has changed for whoever heard more, or as much as the copy.
    for since in [1, heard, heard + 100] {
        let bindings = world.bindings("n1", Some(since)).await;
        assert_eq!(
            (bindings.deployments.len(), bindings.unchanged.len()),
            (1, 0)
        );
    }
    assert!(world.trail().await.last().unwrap().seq > newest + 100);
    assert_eq!(world.catalog.promised(&[9; 32]).await.unwrap(), None);
    let x = secret_ref("x");
    let record = world.catalog.secret(&world.org, &x).await.unwrap().unwrap();
    assert_eq!(record.current.as_str(), "1");
    let leap = u64::try_from(now.duration_since(copy::EPOCH).as_secs()).unwrap();
    world.put("x", leap + 2).await;
    // What is new here may have been there since.
    world.put("y", leap + 1).await;
    let o2 = org("o2");
    again_in(&world, &o2, leap + 1).await;
    // The same copy taken up once more goes on behind both.
    let later = now + Duration::from_secs(1);
    again.take_up(at(5), later).await.unwrap();
    world.put("y", 2 * leap + 3).await;
    let sequences: Vec<i64> = sqlx::query_scalar("SELECT seq FROM sqlite_sequence ORDER BY name")
        .fetch_all(&again.readers)
        .await
        .unwrap();
    let least = 2 * now.as_millisecond();
    assert!(
        sequences.len() >= 3 && sequences.iter().all(|seq| *seq >= least),
        "{sequences:?}"
    );
}

#[tokio::test]
async fn metadata_that_is_malformed_is_an_error_that_shows_nothing() {
    let (world, catalog, _place) = world().await;
    for spoil in [
        "UPDATE secrets SET labels = '[\"canary,\"]'",
        "UPDATE secrets SET description = 'canary' || char(27)",
        "UPDATE secrets SET max_versions = 0",
        "UPDATE secrets SET rotate_every = 1",
        "UPDATE secrets SET generator = '{\"kind\":\"canary\"}'",
    ] {
        world
            .put(
                "x",
                catalog
                    .last_version(&world.org, &"x".parse().unwrap())
                    .await
                    .unwrap()
                    + 1,
            )
            .await;
        sqlx::query(spoil).execute(&catalog.writer).await.unwrap();
        let refused = catalog.secrets(&world.org, "").await.unwrap_err();
        assert!(matches!(refused, CatalogError::Storage(_)), "{refused}");
        assert!(!refused.to_string().contains("canary"), "{refused}");
        world.remove("x").await;
    }
}

#[tokio::test]
async fn what_is_no_database_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.db");
    let text = "this is somebody's letter, and longer than a header\n".repeat(30);
    fs::write(&path, &text).unwrap();
    let refused = SqliteCatalog::open(&path).await;
    assert!(matches!(refused, Err(CatalogError::Storage(_))));
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    let missing = SqliteCatalog::open(&dir.path().join("no/such/dir/catalog.db")).await;
    assert!(matches!(missing, Err(CatalogError::Storage(_))));
}

#[tokio::test]
async fn a_closed_catalog_answers_with_an_error() {
    let (world, catalog, _place) = world().await;
    catalog.close().await;
    assert!(catalog.revision(&world.org).await.is_err());
    let append = catalog.append_audit(vec![audit("late")]).await;
    assert!(matches!(append, Err(CatalogError::Storage(_))));
    let put = catalog
        .put_report(&world.org, &node_id("n"), &Default::default(), at(1))
        .await;
    assert!(put.is_err());
}
