use std::os::unix::fs::PermissionsExt;

use edge_secrets_fakes::Server;
use edge_secrets_fakes::vault::{Role, Vault};
use serde_json::json;

use super::*;
use crate::config::Config;
use crate::managers::session::InMemory;
use crate::managers::{Fault, ListQuery, ManagerError, Target};

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("/etc/hub/hub.yaml")).map_err(|error| error.to_string())
}

/// One of each kind, with every key.
const FULL: &str = "\
managers:
- name: vault
  orgs: {myorg: [secret/team, 'database/creds/myorg-*'], other: ['*']}
  poll: 30s
  cache: 1m
  timeout: 5s
  requests_per_second: 50
  concurrent_requests: 4
  webhook_token: hook
  vault:
    address: https://vault.example.com:8200
    ca_file: ca.pem
    namespace: team/edge
    auth:
      approle: {role_id: role, wrapped_secret_id: secret, mount: edge}
    mounts:
    - {path: secret, type: kv2}
    - {path: old, type: kv1}
    - {path: tenants, type: kv2, root: '{org}'}
    - {path: database, type: dynamic}
    write: true
    redirects_to: ['https://vault-2.example.com:8200']
- name: ibm
  orgs: {myorg: [default]}
  ibm_cloud:
    url: https://x.eu-de.secrets-manager.appdomain.cloud
    iam_url: https://iam.cloud.ibm.com
    api_key: credential:ibm
    ca_file: ca.pem
    write: true
    share_reused: true
    access_groups: [AccessGroupId-1, AccessGroupId-2]
    service_ids: [ServiceId-1]
- name: pim
  orgs: {myorg: [BU044/Team]}
  secret_server:
    url: https://pim.example.com/SecretServer
    username: pim-user
    password: pim-password
    domain: CORP
    ca_file: ca.pem
    comment: read by edge-secrets
    checkout: true
default_managers: {myorg: vault, other: embedded}
";

#[test]
fn every_kind_parses_with_every_key() {
    let managers = parse(FULL).unwrap().managers;
    let kinds: Vec<_> = managers.managers.iter().map(ManagerConfig::kind).collect();
    assert_eq!(
        kinds,
        [
            Some(Kind::Vault),
            Some(Kind::IbmCloud),
            Some(Kind::SecretServer)
        ]
    );
    let vault = managers.managers[0].settings();
    assert_eq!(vault.poll, Duration::from_secs(30));
    assert_eq!(vault.cache, Duration::from_secs(60));
    assert_eq!((vault.limits.per_second, vault.limits.concurrent), (50, 4));
    let org = |name: &str| name.parse::<OrgId>().unwrap();
    assert!(vault.paths.allows(&org("myorg"), "secret/team/db"));
    assert!(!vault.paths.allows(&org("myorg"), "secret/teams/db"));
    let ibm = managers.managers[1].settings();
    assert_eq!(ibm.poll, Duration::from_secs(10));
    let ibm = managers.managers[1].ibm_cloud.as_ref().unwrap();
    assert_eq!(ibm.access_groups, ["AccessGroupId-1", "AccessGroupId-2"]);
    assert_eq!(ibm.service_ids, ["ServiceId-1"]);
    let default = managers.default_of(&org("myorg")).unwrap();
    assert_eq!(default.as_str(), "vault");
    assert_eq!(managers.default_of(&org("other")), None);
    assert_eq!(managers.default_of(&org("third")), None);
}

#[test]
fn paths_are_relative_to_the_file_and_systemd_credentials_are_not() {
    let managers = parse(FULL).unwrap().managers.managers;
    let hook = managers[0].webhook_token.as_ref().unwrap();
    assert_eq!(hook.path().unwrap(), Path::new("/etc/hub/hook"));
    let vault = managers[0].vault.as_ref().unwrap();
    assert_eq!(vault.ca_file.as_deref(), Some(Path::new("/etc/hub/ca.pem")));
    let auth = format!("{:?}", vault.auth);
    assert!(
        auth.contains("/etc/hub/role") && auth.contains("/etc/hub/secret"),
        "{auth}"
    );
    let ibm = managers[1].ibm_cloud.as_ref().unwrap();
    assert_eq!(ibm.api_key.to_string(), "credential:ibm");
    assert_eq!(ibm.ca_file.as_deref(), Some(Path::new("/etc/hub/ca.pem")));
    let pim = managers[2].secret_server.as_ref().unwrap();
    assert_eq!(pim.username.to_string(), "/etc/hub/pim-user");
    assert_eq!(pim.password.to_string(), "/etc/hub/pim-password");
}

/// What people copy is taken as it stands. The files with its credentials are theirs to make.
#[test]
fn every_example_is_taken() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/managers");
    let mut kinds = Vec::new();
    for entry in std::fs::read_dir(examples).unwrap() {
        let path = entry.unwrap().path();
        if !path.to_string_lossy().ends_with(".hub.yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let config = Config::parse(&text, &path).unwrap_or_else(|error| panic!("{error}"));
        let managers = config.managers.managers.iter();
        kinds.extend(managers.filter_map(ManagerConfig::kind));
    }
    kinds.sort();
    let outside = |kind: &Kind| *kind != Kind::Embedded;
    let all: Vec<_> = Kind::ALL.into_iter().filter(outside).collect();
    assert_eq!(kinds, all, "an example for each kind");
}

/// A minimal Vault, with these lines of its own.
fn vault(name: &str, more: &str) -> String {
    format!(
        "- name: {name}\n  orgs: {{}}\n{more}  \
         vault: {{address: 'https://v:8200', auth: {{token: token}}}}\n"
    )
}

#[test]
fn what_is_wrong_is_said_with_the_key_and_the_line() {
    let ibm = "  ibm_cloud: {url: 'https://x', api_key: k}\n";
    let listen = "listen: 127.0.0.1:0\n";
    for (text, line, said) in [
        (format!("managers:\n{}", vault("v", ibm)), 1, "exactly one"),
        (
            format!("{listen}managers:\n- {{name: v, orgs: {{}}}}\n"),
            2,
            "exactly one",
        ),
        (
            format!("managers:\n{}{}", vault("v", ""), vault("v", "")),
            1,
            "\"v\": there are two",
        ),
        (
            format!("managers:\n{}", vault("embedded", "")),
            1,
            "the hub's own",
        ),
        (
            format!("managers:\n{}default_managers: {{o: w}}\n", vault("v", "")),
            5,
            "\"w\", is none of `managers`",
        ),
        (
            format!("managers:\n{}", vault("v", "  poll: 0s\n")),
            1,
            "`poll`",
        ),
        (
            format!("managers:\n{}", vault("v", "  timeout: 0s\n")),
            1,
            "`timeout`",
        ),
        (
            format!("managers:\n{}", vault("v", "  timeout: 3m\n")),
            1,
            "`timeout`",
        ),
        (
            format!("managers:\n{}", vault("v", "  cache: 2d\n")),
            1,
            "`cache`",
        ),
        (
            format!("managers:\n{}", vault("v", "  requests_per_second: 0\n")),
            1,
            "`requests_per_second`",
        ),
        (
            format!("managers:\n{}", vault("v", "  concurrent_requests: 0\n")),
            1,
            "`concurrent_requests`",
        ),
        (
            format!("managers:\n{}", vault("v", "  pol: 1s\n")),
            4,
            "pol",
        ),
        (
            "managers:\n- name: v\n  orgs: {}\n  ibm_cloud: {url: 'https://x', api_key: k, \
             access_groups: ['']}\n"
                .into(),
            1,
            "`access_groups`",
        ),
        (
            "managers:\n- name: v\n  orgs: {}\n  ibm_cloud: {url: 'https://x', api_key: k, \
             service_ids: ['*']}\n"
                .into(),
            1,
            "`service_ids`",
        ),
        (format!("managers:\n{}", vault("Vault", "")), 2, "Vault"),
        (
            "managers:\n- name: v\n  orgs: {}\n  vault:\n    address: https://v\n    \
             adress: x\n    auth: {token: t}\n"
                .into(),
            6,
            "adress",
        ),
        (
            "managers:\n- name: v\n  orgs: {}\n  vault:\n    address: ftp://v\n    \
             auth: {token: t}\n"
                .into(),
            5,
            "https",
        ),
        (
            "managers:\n- name: v\n  orgs: {o: ['a//b']}\n  vault:\n    address: https://v\n    \
             auth: {token: t}\n"
                .into(),
            3,
            "no prefix",
        ),
        (
            "managers:\n- name: v\n  vault: {address: 'https://v', auth: {token: t}}\n".into(),
            2,
            "orgs",
        ),
        (
            format!(
                "managers:\n{}default_managers: {{o: v, o: v}}\n",
                vault("v", "")
            ),
            5,
            "duplicate",
        ),
    ] {
        let error = parse(&text).unwrap_err();
        assert!(
            error.contains(&format!("hub.yaml:{line}: ")),
            "line {line} of\n{text}{error}"
        );
        assert!(error.contains(said), "{said}:\n{text}{error}");
    }
}

/// What building a hub's managers says, with these files beside its configuration.
fn build(text: &str, files: &[(&str, u32)]) -> Result<usize, String> {
    let dir = tempfile::tempdir().unwrap();
    for (name, mode) in files {
        let path = dir.path().join(name);
        std::fs::write(&path, "content").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(*mode)).unwrap();
    }
    let config = Config::parse(text, &dir.path().join("hub.yaml")).unwrap();
    let built = config.managers.build(|_| Arc::new(InMemory::default()));
    built.map(|registry| registry.iter().count())
}

#[test]
fn a_credential_that_everybody_can_read_is_refused_and_named() {
    let pim = "managers:\n- name: pim\n  orgs: {}\n  secret_server: \
               {url: 'https://pim', username: pim-user, password: pim-password}\n";
    let vault = format!("managers:\n{}", vault("vault", ""));
    let ibm = "managers:\n- name: ibm\n  orgs: {}\n  ibm_cloud: \
               {url: 'https://x', api_key: ibm-key}\n";
    for (text, files) in [
        (pim, &["pim-user", "pim-password"][..]),
        (&vault, &["token"]),
        (ibm, &["ibm-key"]),
    ] {
        let name = text.split_whitespace().nth(3).unwrap();
        let fine: Vec<_> = files.iter().map(|file| (*file, 0o600)).collect();
        assert_eq!(build(text, &fine), Ok(1), "{name}");
        let bad = *files.last().unwrap();
        let mut open = fine.clone();
        open.last_mut().unwrap().1 = 0o644;
        let said = build(text, &open).unwrap_err();
        assert!(said.contains(name) && said.contains(bad), "{said}");
        assert!(!said.contains("content"), "{said}");
    }
    let open_hook = vault.replace("orgs: {}", "orgs: {}\n  webhook_token: hook");
    // One that comes later is looked at when it is needed.
    assert_eq!(build(&vault, &[]), Ok(1));
    let said = build(&open_hook, &[("token", 0o600), ("hook", 0o644)]).unwrap_err();
    assert!(said.contains("vault") && said.contains("hook"), "{said}");
}

/// A Vault over HTTPS, as a hub is told of it; `myorg` may reach two places there.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_configuration_names_is_asked_within_its_paths() {
    let server = Server::start(Vault::new()).await;
    let now = server.clock.now();
    let token = server.with(|vault| {
        vault.mount("database", "database");
        vault.mount("kv1", "kv1");
        vault.database_role("database", "myorg-app", Role::default());
        vault.database_role("database", "other-app", Role::default());
        for path in ["team/db", "team/deep/db", "customer/db", "top"] {
            let body = json!({ "data": { "password": "x" } });
            vault.act("POST", &format!("secret/data/{path}"), body, now);
        }
        vault.root_token().to_owned()
    });
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in [("ca.pem", server.pki().certificate()), ("token", &token)] {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let text = format!(
        "managers:\n- name: vault\n  orgs: {{myorg: [secret/team, 'database/creds/myorg-*']}}\n  \
         vault:\n    address: {}\n    ca_file: ca.pem\n    auth: {{token: token}}\n    mounts:\n    \
         - {{path: secret, type: kv2}}\n    - {{path: kv1, type: kv1}}\n    \
         - {{path: database, type: dynamic}}\n",
        server.url()
    );
    let config = Config::parse(&text, &dir.path().join("hub.yaml")).unwrap();
    let registry = config.managers.build(|_| Arc::new(InMemory::default()));
    let registry = registry.unwrap();
    let vault = registry.named(&"vault".parse().unwrap()).unwrap();
    vault.health().await.unwrap();

    let org: OrgId = "myorg".parse().unwrap();
    let list = async |prefix: &str| {
        let query = ListQuery {
            prefix: prefix.into(),
            ..ListQuery::default()
        };
        let page = vault.list(&org, &query).await?;
        let paths = page.entries.into_iter().map(|entry| entry.path);
        Ok::<Vec<_>, ManagerError>(paths.collect())
    };
    // A prefix of the policy names the mount; a reference to the default one does not.
    assert_eq!(list("").await.unwrap(), ["team/", "database/"]);
    assert_eq!(list("team/").await.unwrap(), ["team/db", "team/deep/"]);
    assert_eq!(list("team/deep/").await.unwrap(), ["team/deep/db"]);
    let roles = list("database/creds/").await.unwrap();
    assert_eq!(roles, ["database/creds/myorg-app"]);
    let calls = server.log.calls().len();
    for folder in ["customer/", "kv1/"] {
        let refused = list(folder).await.unwrap_err();
        assert_eq!(refused.fault, Fault::OutOfPolicy, "{folder}");
    }
    for path in ["customer/db", "top", "database/creds/other-app"] {
        let reference = format!("vault:{path}").parse().unwrap();
        let target = Target {
            org: &org,
            reference: &reference,
        };
        let refused = vault.describe(target).await.unwrap_err();
        assert_eq!(refused.fault, Fault::OutOfPolicy, "{path}");
    }
    assert_eq!(server.log.calls().len(), calls, "nobody was asked");

    let reference = "vault:team/db".parse().unwrap();
    let target = Target {
        org: &org,
        reference: &reference,
    };
    let version = vault.describe(target).await.unwrap().version.unwrap();
    assert_eq!(server.with(|vault| vault.counted.values), 0);
    for _ in 0..5 {
        vault.read(target, &version).await.unwrap();
    }
    assert_eq!(server.with(|vault| vault.counted.values), 1);
}
