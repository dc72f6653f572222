use serde_json::json;

use super::*;

fn parse(text: &str) -> Result<Config, (Option<usize>, String)> {
    Config::parse(text)
}

#[test]
fn the_documented_example_parses() {
    let config = parse(
        "hub:      { url: https://hub.example.com:8443 }\n\
         node:     { id: edge-01, properties: { site: berlin, tier: prod }, \
                     policy_file: /etc/edge-secrets/node.policy.json }\n\
         state_dir: /var/lib/edge-secrets\n\
         runtime_dir: /run/edge-secrets\n\
         tmpfs:    { size: 16MiB, mount: auto }\n\
         offline:  { cache: sealed, max_age: 30d }\n\
         log:      { level: info, format: text }\n",
    )
    .unwrap();
    assert_eq!(config.hub.url.to_string(), "https://hub.example.com:8443");
    assert_eq!(config.node.id.as_ref().unwrap().as_str(), "edge-01");
    assert_eq!(config.tmpfs.size.bytes(), 16 << 20);
    assert_eq!(
        config.offline.max_age.duration(),
        Duration::from_secs(30 * 86_400)
    );
    assert_eq!(config.socket(), Path::new("/run/edge-secrets/agent.sock"));
    assert_eq!(config.offline.cache, Cache::Sealed);
}

#[test]
fn what_is_left_out_has_its_default() {
    let config = parse("hub: { url: https://hub }").unwrap();
    assert_eq!(config.state_dir, Path::new("/var/lib/edge-secrets"));
    assert_eq!(config.tmpfs.mount, Mount::Auto);
    assert_eq!(config.runtime().grace, Duration::from_secs(10));
    assert!(config.runtime().mount);
    assert_eq!(config.offline.cache, Cache::Sealed);
    assert_eq!(config.identity.sealing_key, SealingKeyCustody::File);
    let credential = "hub: { url: https://hub }\nidentity: { sealing_key: credential }";
    let credential = parse(credential).unwrap().identity;
    assert_eq!(credential.sealing_key, SealingKeyCustody::Credential);
    let off = parse("hub: { url: https://hub }\noffline: { cache: off }").unwrap();
    assert_eq!(off.offline.cache, Cache::Off);
}

#[test]
fn properties_are_scalars_and_lists() {
    let config = parse(
        "hub: { url: https://hub }\n\
         node:\n  properties:\n    größe: 3\n    ok: true\n    tier: prod\n    tags: [a, b]\n",
    )
    .unwrap();
    let values: Vec<_> = config
        .node
        .properties
        .as_slice()
        .iter()
        .map(|p| (p.name.as_str(), p.value.clone()))
        .collect();
    let wanted = [
        ("größe", json!(3)),
        ("ok", json!(true)),
        ("tier", json!("prod")),
        ("tags", json!(["a", "b"])),
    ];
    assert_eq!(values, wanted);
}

#[test]
fn errors_name_the_line_and_the_reason() {
    let hub = "hub: { url: https://hub }\n";
    for (text, line, part) in [
        ("hub: { url: http://hub }\n", Some(1), "https"),
        (
            "hub:\n  url: https://hub\n  urll: x\n",
            Some(3),
            "unknown field",
        ),
        (&format!("{hub}nod: {{}}\n"), Some(2), "unknown field `nod`"),
        (&format!("{hub}tmpfs:\n  size: 16XB\n"), Some(3), "16XB"),
        (&format!("{hub}wipe:\n  grace: 10\n"), Some(3), "unit"),
        (&format!("{hub}node:\n  id: ../x\n"), Some(3), "node"),
        (
            &format!("{hub}node:\n  properties:\n    a: 1\n    a: 2\n"),
            None,
            "twice",
        ),
        (
            &format!("{hub}node:\n  properties:\n    a: {{ b: 1 }}\n"),
            None,
            "list of strings",
        ),
        (
            &format!("{hub}node:\n  properties: {{ openhorizon.cpu: 64 }}\n"),
            None,
            "measured",
        ),
        (&format!("{hub}\nstate_dir: here\n"), Some(3), "absolute"),
        ("hub: [", Some(1), ""),
        ("", None, "hub"),
    ] {
        let (at, reason) = parse(text).unwrap_err();
        if line.is_some() {
            assert_eq!(at, line, "{text} {reason}");
        }
        assert!(reason.contains(part), "{text}: {reason}");
    }
}

#[test]
fn a_file_that_is_refused_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.yaml");
    let missing = Config::load(&path).unwrap_err().to_string();
    assert!(missing.starts_with(&format!("{}: cannot be read", path.display())));

    std::fs::write(&path, "hub: { url: https://hub }\nx: 1\n").unwrap();
    let error = Config::load(&path).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with(&format!("{}:2: ", path.display())),
        "{error}"
    );

    std::fs::write(&path, vec![b' '; 2 << 20]).unwrap();
    assert!(Config::load(&path).unwrap_err().reason.contains("1 MiB"));
}

#[test]
fn a_policy_file_is_found_beside_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.yaml");
    std::fs::write(
        &path,
        "hub: { url: https://hub }\nnode: { policy_file: p.json }\n",
    )
    .unwrap();
    let config = Config::load(&path).unwrap();
    assert_eq!(config.node.policy_file, Some(dir.path().join("p.json")));
}

#[test]
fn secrets_apis_are_off_unless_they_are_asked_for() {
    let hub = "hub: { url: https://hub }\n";
    let on = |text: &str| parse(&format!("{hub}{text}")).map(|c| c.open_horizon.secrets_api);
    assert_eq!(on(""), Ok(false));
    assert_eq!(on("open_horizon: {}\n"), Ok(false));
    assert_eq!(on("open_horizon: { secrets_api: true }\n"), Ok(true));
    assert!(on("open_horizon: { secret_api: true }\n").is_err());
}
