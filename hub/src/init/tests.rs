use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::app;
use crate::catalog::Catalog;
use crate::config::{Config, TrustDomain};

/// A hub of a test, at any port of this machine.
pub(crate) fn wanted(dir: &Path) -> Init {
    Init {
        data_dir: dir.into(),
        org: "myorg".parse().unwrap(),
        trust_domain: TrustDomain::default(),
        listen: ([127, 0, 0, 1], 0).into(),
        server_names: Vec::new(),
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_init_makes_can_be_served_and_is_private() {
    let room = tempfile::tempdir().unwrap();
    let dir = room.path().join("deep/hub");
    let made = init(&wanted(&dir)).await.unwrap();
    assert!(made.to_string().contains("serve --config"), "{made}");
    assert_eq!(
        names(&dir),
        [
            "admin.crt",
            "admin.key",
            "admin.yaml",
            "ca.crt",
            "ca.key",
            "hub.db",
            "hub.yaml",
            "master.key",
            "sealing.key",
        ]
    );
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for name in names(&dir) {
        assert_eq!(mode(&dir.join(&name)), 0o600, "{name}");
    }
    let config = Config::load(&dir.join(CONFIG_FILE)).unwrap();
    assert!(config.server_names.contains(&"localhost".to_owned()));
    let bound = app::build(config).await.unwrap();
    assert_ne!(bound.address().port(), 0);

    let users = bound.hub().catalog.users(&made.org).await.unwrap();
    assert_eq!(users.len(), 1);
    assert_eq!(
        (users[0].user.as_str(), users[0].role),
        (ADMIN, Role::Admin)
    );
}

#[tokio::test]
async fn the_context_names_everything_relative_to_itself() {
    let room = tempfile::tempdir().unwrap();
    let dir = room.path().join("hub");
    let wanted = Init {
        // A text that YAML would take for a number.
        org: "007".parse().unwrap(),
        server_names: vec!["::1".into(), "hub.example.com".into()],
        listen: ([0, 0, 0, 0], 8443).into(),
        ..wanted(&dir)
    };
    init(&wanted).await.unwrap();
    let text = std::fs::read_to_string(dir.join(CONTEXT_FILE)).unwrap();
    let context: std::collections::BTreeMap<String, String> = serde_yaml::from_str(&text).unwrap();
    let pairs: Vec<_> = context
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    assert_eq!(
        pairs,
        [
            ("ca", "ca.crt"),
            ("certificate", "admin.crt"),
            ("hub", "https://[::1]:8443"),
            ("key", "admin.key"),
            ("org", "007"),
            ("user", "admin"),
        ]
    );
}

#[tokio::test]
async fn nothing_is_overwritten() {
    let room = tempfile::tempdir().unwrap();
    let dir = room.path().join("hub");
    init(&wanted(&dir)).await.unwrap();
    let before = std::fs::read(dir.join(CA_KEY_FILE)).unwrap();
    let error = init(&wanted(&dir)).await.unwrap_err();
    assert!(error.is_usage());
    assert!(
        matches!(error, InitError::Place(PlaceError::NotEmpty { .. })),
        "{error}"
    );
    assert_eq!(std::fs::read(dir.join(CA_KEY_FILE)).unwrap(), before);
    assert_eq!(names(&dir).len(), 9);
}

#[tokio::test]
async fn another_organisation_is_added_while_the_hub_does_not_serve() {
    let room = tempfile::tempdir().unwrap();
    let dir = room.path().join("hub");
    init(&wanted(&dir)).await.unwrap();
    let (config, out) = (dir.join(CONFIG_FILE), room.path().join("acme"));
    let added = |org: &str, out: &Path| {
        let wanted = crate::cli::AddOrg {
            org: org.parse().unwrap(),
            config: config.clone(),
            out: out.into(),
        };
        async move { org::add_org(&wanted).await }
    };
    let serving = app::build(Config::load(&config).unwrap()).await.unwrap();
    let refused = added("acme", &out).await.unwrap_err();
    assert!(refused.to_string().contains("another hub is serving"));
    drop(serving);
    assert!(!out.exists());

    added("acme", &out).await.unwrap();
    let mut made = names(&out);
    made.sort();
    assert_eq!(made, ["admin.crt", "admin.key", "admin.yaml", "ca.crt"]);
    let context = std::fs::read_to_string(out.join(CONTEXT_FILE)).unwrap();
    assert!(context.contains("org: \"acme\""), "{context}");
    let elsewhere = room.path().join("elsewhere");
    for (org, out) in [("acme", &elsewhere), ("myorg", &elsewhere), ("new", &out)] {
        let refused = added(org, out).await.unwrap_err();
        assert!(refused.is_usage(), "{refused}");
    }
    assert!(!elsewhere.exists());

    let bound = app::build(Config::load(&config).unwrap()).await.unwrap();
    let catalog = &bound.hub().catalog;
    let orgs = catalog.orgs().await.unwrap();
    let orgs: Vec<_> = orgs.iter().map(OrgId::as_str).collect();
    assert_eq!(orgs, ["acme", "myorg"]);
    let users = catalog.users(&"acme".parse().unwrap()).await.unwrap();
    assert_eq!(
        (users.len(), users[0].user.as_str(), users[0].role),
        (1, ADMIN, Role::Admin)
    );
}

/// A hub before this one made organisation, user and certificate one after the other.
#[tokio::test]
async fn an_organisation_whose_making_was_cut_off_is_finished_by_another_try() {
    let room = tempfile::tempdir().unwrap();
    let dir = room.path().join("hub");
    init(&wanted(&dir)).await.unwrap();
    let org: OrgId = "acme".parse().unwrap();
    let audit = |action: &str| NewAudit {
        org: org.clone(),
        at: clock::now(),
        actor: Actor::Hub,
        action: action.into(),
        object: String::new(),
        result: "ok".into(),
        detail: String::new(),
        peer: String::new(),
    };
    let database = dir.join(DATABASE_FILE);
    let catalog = SqliteCatalog::open(&database).await.unwrap();
    catalog.create_org(&org, audit("org.create")).await.unwrap();
    let user = UserRecord {
        org: org.clone(),
        user: ADMIN.parse().unwrap(),
        role: Role::Admin,
        created_at: clock::now(),
    };
    catalog.add_user(&user, audit("user.add")).await.unwrap();
    catalog.close().await;
    for (out, done) in [("acme", true), ("again", false)] {
        let wanted = crate::cli::AddOrg {
            org: org.clone(),
            config: dir.join(CONFIG_FILE),
            out: room.path().join(out),
        };
        let added = org::add_org(&wanted).await;
        assert_eq!(added.is_ok(), done, "{out}");
    }
    let catalog = SqliteCatalog::open(&database).await.unwrap();
    let known = catalog.certificates().await.unwrap();
    assert_eq!(known.iter().filter(|one| one.org == org).count(), 1);
    let query = crate::catalog::records::AuditQuery {
        limit: 9,
        ..Default::default()
    };
    // Nothing is told twice.
    assert_eq!(catalog.audit(&org, &query).await.unwrap().len(), 2);
    catalog.close().await;
}

#[tokio::test]
async fn an_empty_directory_is_taken() {
    let room = tempfile::tempdir().unwrap();
    init(&wanted(room.path())).await.unwrap();
    assert!(names(room.path()).contains(&CONFIG_FILE.to_owned()));
}

#[tokio::test]
async fn a_bad_server_name_makes_nothing() {
    let room = tempfile::tempdir().unwrap();
    let dir = room.path().join("hub");
    let wanted = Init {
        server_names: vec!["a b".into()],
        ..wanted(&dir)
    };
    assert!(init(&wanted).await.unwrap_err().is_usage());
    assert!(!dir.exists());
}

#[test]
fn a_place_that_is_not_finished_is_left_as_it_was() {
    let room = tempfile::tempdir().unwrap();
    let dir = room.path().join("hub");
    let place = Place::prepare(&dir).unwrap();
    place.write("a", b"1").unwrap();
    drop(place);
    assert!(!dir.exists());

    let empty = room.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let mut place = Place::prepare(&empty).unwrap();
    place.write("a", b"1").unwrap();
    place.write("hub.yaml", b"2").unwrap();
    // Something stands in the way of the last one.
    std::fs::create_dir(empty.join("hub.yaml")).unwrap();
    std::fs::write(empty.join("hub.yaml/x"), b"").unwrap();
    place.finish("hub.yaml").unwrap_err();
    drop(place);
    assert_eq!(names(&empty), ["hub.yaml"]);
}
