//! What `hub.yaml` may say, and what references mean by it.

use std::path::Path;

use super::*;

const HEAD: &str = "address: https://vault.example.com:8200\n";
const ROLE: &str = "auth: {approle: {role_id: a, secret_id: b}}\n";

fn parse(yaml: &str) -> Result<VaultConfig, String> {
    serde_yaml::from_str(yaml).map_err(|error| error.to_string())
}

#[test]
fn a_whole_configuration_is_read_and_its_paths_are_made_absolute() {
    let config = parse(&format!(
        "{HEAD}ca_file: ca.pem\nnamespace: team/edge\n\
         auth: {{approle: {{role_id: r, wrapped_secret_id: w, mount: edge/approle}}}}\n\
         mounts: [{{path: openhorizon, type: kv2, root: \"{{org}}\"}}, {{path: aws, type: dynamic}}]\n\
         write: true\nredirects_to: [\"https://10.0.0.2:8200\"]\n"
    ))
    .unwrap()
    .based_on(Path::new("/etc/hub"));
    assert_eq!(
        config.ca_file.as_deref(),
        Some(Path::new("/etc/hub/ca.pem"))
    );
    let Auth::AppRole(role) = &config.auth else {
        panic!("another auth")
    };
    assert_eq!(role.role_id.to_string(), "/etc/hub/r");
    assert!(matches!(&role.secret_id, SecretId::Wrapped(file) if file.to_string() == "/etc/hub/w"));
    let small = parse(&format!("{HEAD}{ROLE}")).unwrap();
    assert_eq!(small.mounts.len(), 1);
    assert!(!small.write);
}

#[test]
fn what_would_mean_two_things_or_none_is_refused() {
    for (yaml, why) in [
        ("auth: {}", "exactly one"),
        (
            "auth: {token: t, approle: {role_id: a, secret_id: b}}",
            "exactly one",
        ),
        ("auth: {approle: {role_id: a}}", "exactly one"),
        (
            "auth: {approle: {role_id: a, secret_id: b, wrapped_secret_id: c}}",
            "exactly one",
        ),
        ("auth: {token: t}\nunknown: 1", "unknown"),
        ("auth: {token: t}\nmounts: []", "1 to"),
        (
            "auth: {token: t}\nmounts: [{path: a, type: kv2}, {path: a/, type: kv1}]",
            "twice",
        ),
        (
            "auth: {token: t}\nmounts: [{path: a, type: dynamic, root: x}]",
            "no root",
        ),
        (
            "auth: {token: t}\nmounts: [{path: a, type: kv2}, {path: user, type: kv2}]",
            "user/",
        ),
        (
            "auth: {token: t}\nmounts: [{path: a/../b, type: kv2}]",
            "parts of",
        ),
        (
            "auth: {token: t}\nmounts: [{path: a, type: kv2, root: \"{user}\"}]",
            "parts of",
        ),
        ("auth: {token: t}\nnamespace: a//b", "parts of"),
    ] {
        let error = parse(&format!("{HEAD}{yaml}\n")).unwrap_err();
        assert!(error.contains(why), "{yaml}: {error}");
    }
    assert!(parse(&format!("address: http://vault.example.com\n{ROLE}")).is_err());
}

#[test]
fn a_secret_has_one_reference_and_one_place() {
    let mounts = "mounts: [{path: openhorizon, type: kv2, root: \"{org}\"}, {path: db, type: dynamic}, \
                  {path: db/eu, type: dynamic}, {path: kv/old, type: kv1, root: \"/x/{org}/\"}]";
    let config = parse(&format!("{HEAD}{ROLE}{mounts}\n")).unwrap();
    let mounts = Mounts::new(&config.mounts);
    let place = |text: &str| {
        let (org, reference) = (org(), text.parse().unwrap());
        mounts
            .locate(target(&org, &reference))
            .map(|place| place.canonical())
            .map_err(|error| error.fault)
    };
    for (reference, means) in [
        ("vault:team/db", Ok("openhorizon/myorg/team/db")),
        (
            "vault:user/alice/tls",
            Ok("openhorizon/myorg/user/alice/tls"),
        ),
        ("vault:node/n/tls", Ok("openhorizon/myorg/node/n/tls")),
        ("vault:db/creds/app", Ok("db/creds/app")),
        ("vault:db/eu/creds/app", Ok("db/eu/creds/app")),
        ("vault:kv/old/a", Ok("kv/old/x/myorg/a")),
        ("vault:kv/older", Ok("openhorizon/myorg/kv/older")),
        ("vault:db", Err(Fault::Invalid)),
        ("vault:db/roles/app", Err(Fault::Invalid)),
        ("vault:db/creds/app/x", Err(Fault::Invalid)),
        ("vault:db/static-creds/app", Err(Fault::Unsupported)),
    ] {
        assert_eq!(place(reference), means.map(str::to_owned), "{reference}");
    }
    let alone = parse(&format!(
        "{HEAD}{ROLE}mounts: [{{path: db, type: dynamic}}]\n"
    ))
    .unwrap();
    let (org, reference) = (org(), "vault:team/db".parse().unwrap());
    let error = Mounts::new(&alone.mounts).locate(target(&org, &reference));
    assert_eq!(error.unwrap_err().fault, Fault::Invalid);
}
