//! What the node says of itself: configured properties, the node policy, and what is measured.

use std::fs;
use std::path::Path;

use edge_secrets_protocol::ServiceId;
use edge_secrets_protocol::node::{NodeFacts, Property};
use serde_json::Value;

use crate::config::{Config, ConfigError, read_bounded, yaml_reason};

/// All facts but the services present. Measured ones are measured now.
///
/// # Errors
/// When the node policy file cannot be read or does not parse.
pub fn gather(config: &Config, services: Vec<ServiceId>) -> Result<NodeFacts, ConfigError> {
    let policy = config
        .node
        .policy_file
        .as_deref()
        .map(read_policy)
        .transpose()?;
    Ok(NodeFacts {
        properties: config.node.properties.as_slice().to_vec(),
        built_in: measured(),
        policy,
        agent_version: env!("CARGO_PKG_VERSION").into(),
        services,
    })
}

/// What is measured of this machine, now.
pub(super) fn measured() -> Vec<Property> {
    measure(Path::new("/"))
}

/// The file's text as it is: the hub knows the schema, and tells faults with their line. Here it must be one
/// JSON or YAML object.
fn read_policy(path: &Path) -> Result<Value, ConfigError> {
    let fail = |line, reason| ConfigError {
        file: path.to_owned(),
        line,
        reason,
    };
    let text =
        read_bounded(path).map_err(|error| fail(None, format!("cannot be read: {error}")))?;
    let value: Value = serde_yaml::from_str(&text).map_err(|error| {
        let (line, reason) = yaml_reason(&error);
        fail(line, reason)
    })?;
    if value.is_object() {
        Ok(text.into())
    } else {
        Err(fail(
            Some(1),
            "a node policy is an object with properties and constraints".into(),
        ))
    }
}

/// Open Horizon's built-in properties, as far as they can be known.
fn measure(root: &Path) -> Vec<Property> {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let serial = [
        "sys/firmware/devicetree/base/serial-number",
        "sys/class/dmi/id/product_serial",
    ];
    let serial = serial.into_iter().find_map(|path| clean(&read(path)));
    let marks = ["run/.containerenv", ".dockerenv"];
    let containerized = marks.iter().any(|mark| root.join(mark).exists())
        || std::env::var_os("container").is_some();
    let cpus = std::thread::available_parallelism()
        .map(|n| n.get() as u64)
        .ok();
    [
        (
            "openhorizon.arch",
            Some(architecture(std::env::consts::ARCH).into()),
        ),
        ("openhorizon.containerized", Some(containerized.into())),
        ("openhorizon.cpu", cpus.map(Value::from)),
        ("openhorizon.hardwareId", serial.map(Value::from)),
        (
            "openhorizon.memory",
            memory_mb(&read("proc/meminfo")).map(Value::from),
        ),
        (
            "openhorizon.operatingSystem",
            Some(system(&read("etc/os-release")).into()),
        ),
    ]
    .into_iter()
    .filter_map(|(name, value)| {
        Some(Property {
            name: name.into(),
            value: value?,
            kind: None,
        })
    })
    .collect()
}

/// An architecture's name as Open Horizon and container images write it.
fn architecture(rust: &str) -> &str {
    match rust {
        "aarch64" => "arm64",
        "loongarch64" => "loong64",
        "powerpc64" => "ppc64le",
        "x86" => "386",
        "x86_64" => "amd64",
        other => other,
    }
}

fn memory_mb(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

/// The distribution's `ID` (os-release(5)), which is `linux` where it is not given.
fn system(os_release: &str) -> String {
    let id = os_release.lines().find_map(|line| line.strip_prefix("ID="));
    id.and_then(|id| clean(id.trim_matches(['"', '\''])))
        .unwrap_or_else(|| "linux".into())
}

/// A serial number without padding; `None` when nothing of worth is left.
fn clean(text: &str) -> Option<String> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    let worth = !text.is_empty() && text.len() <= MAX_TEXT && !text.chars().any(char::is_control);
    worth.then(|| text.to_owned())
}

const MAX_TEXT: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn value<'a>(facts: &'a [Property], name: &str) -> Option<&'a Value> {
        facts.iter().find(|p| p.name == name).map(|p| &p.value)
    }

    #[test]
    fn a_machine_is_measured() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(
            "proc/meminfo",
            "MemTotal:        2048000 kB\nMemFree: 1 kB\n",
        );
        write("etc/os-release", "NAME=\"Debian GNU/Linux\"\nID=debian\n");
        write(
            "sys/firmware/devicetree/base/serial-number",
            "10000000abcdef\0",
        );
        write("run/.containerenv", "");
        let facts = measure(root.path());
        assert_eq!(value(&facts, "openhorizon.memory"), Some(&2000.into()));
        assert_eq!(
            value(&facts, "openhorizon.operatingSystem"),
            Some(&"debian".into())
        );
        assert_eq!(
            value(&facts, "openhorizon.hardwareId"),
            Some(&"10000000abcdef".into())
        );
        assert_eq!(
            value(&facts, "openhorizon.containerized"),
            Some(&true.into())
        );
        assert!(value(&facts, "openhorizon.cpu").unwrap().as_u64().unwrap() >= 1);
    }

    #[test]
    fn what_cannot_be_known_is_left_out() {
        let root = tempfile::tempdir().unwrap();
        let facts = measure(root.path());
        assert_eq!(value(&facts, "openhorizon.memory"), None);
        assert_eq!(value(&facts, "openhorizon.hardwareId"), None);
        assert_eq!(
            value(&facts, "openhorizon.operatingSystem"),
            Some(&"linux".into())
        );
    }

    #[test]
    fn architectures_have_the_names_of_images() {
        assert_eq!(architecture("x86_64"), "amd64");
        assert_eq!(architecture("aarch64"), "arm64");
        assert_eq!(architecture("arm"), "arm");
        assert_eq!(architecture("riscv64"), "riscv64");
    }

    #[test]
    fn a_policy_is_json_or_yaml_and_a_malformed_one_names_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.policy.json");
        for text in [
            r#"{"properties":[{"name":"a","value":1}]}"#,
            "properties:\n- {name: a, value: 1}\n",
        ] {
            fs::write(&path, text).unwrap();
            let policy = read_policy(&path).unwrap();
            assert_eq!(policy, text);
        }
        fs::write(&path, "{\n\"properties\": [\n}").unwrap();
        let error = read_policy(&path).unwrap_err();
        assert_eq!(error.line, Some(3), "{error}");
        fs::write(&path, "[1]").unwrap();
        assert!(read_policy(&path).unwrap_err().reason.contains("object"));
    }
}
