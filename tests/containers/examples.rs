//! The examples and the documentation say what works: their mounts are taken out of them and used.

use std::fs;
use std::path::{Path, PathBuf};

use edge_secrets_tests::hub::read_yaml;
use edge_secrets_tests::podman::IMAGE;
use edge_secrets_tests::wait;

use crate::Named;
use crate::edge::{CONSUMER, Edge, NAME};

pub(crate) fn trials() -> Vec<Named> {
    crate::trials![
        the_mounts_of_the_examples_work,
        every_mount_in_the_documentation_works,
        the_example_profile_lets_the_examples_user_read_and_hear,
    ]
}

fn the_mounts_of_the_examples_work() {
    let edge = Edge::delivered(None, "one");
    for mount in [compose().0, quadlet().0] {
        reads(&edge, &mount, &[]);
    }
}

fn every_mount_in_the_documentation_works() {
    let edge = Edge::delivered(None, "one");
    let text = fs::read_to_string(root().join("docs/containers.md")).expect("the document");
    let mut options = Vec::new();
    let mut words = text.split([' ', '\n', '`']).filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        let (option, value) = match word {
            "-v" | "--volume" | "--mount" => (word, words.next().expect("a mount").to_owned()),
            _ => match word.strip_prefix("Volume=") {
                Some(value) => ("-v", value.to_owned()),
                None => continue,
            },
        };
        if value.contains(SERVICES) {
            options.push((option, value));
        }
    }
    for kind in ["-v", "--mount"] {
        assert!(options.iter().any(|(option, _)| *option == kind), "{kind}");
    }
    for (option, value) in options {
        let mount = match option {
            "--mount" => Mount::from_mount_option(&value),
            _ => Mount::from_volume(&value),
        };
        reads(&edge, &mount, &[]);
    }
}

fn the_example_profile_lets_the_examples_user_read_and_hear() {
    let profile = fs::read_to_string(dir().join("profile.yaml")).expect("the profile");
    let edge = Edge::delivered(Some(&profile), "one");
    for (mount, user) in [compose(), quadlet()] {
        reads(&edge, &mount, &["--user", &user]);
    }
    // What it signals is the container that both examples make.
    edge.agent.await_status("the action is there", |status| {
        let action = &status["services"][0]["consumers"][0]["on_change"]["action"];
        action.as_str().is_some_and(|text| text.contains(CONSUMER))
    });
    wait::content(&edge.file(), b"one");
}

/// One read-only directory.
#[derive(Debug)]
struct Mount {
    source: String,
    target: String,
}

impl Mount {
    /// `SOURCE:TARGET:ro`, perhaps with more options.
    fn from_volume(text: &str) -> Self {
        let parts: Vec<_> = text.split(':').collect();
        let [source, target, options] = parts[..] else {
            panic!("{text}: SOURCE:TARGET:OPTIONS");
        };
        assert!(options.split(',').any(|option| option == "ro"), "{text}");
        Self {
            source: source.to_owned(),
            target: target.to_owned(),
        }
    }

    /// `type=bind,source=…,target=…,readonly`.
    fn from_mount_option(text: &str) -> Self {
        let value = |key: &str| {
            let mut parts = text.split(',').filter_map(|part| part.split_once('='));
            let found = parts.find(|(name, _)| *name == key);
            found
                .unwrap_or_else(|| panic!("{text}: {key}"))
                .1
                .to_owned()
        };
        assert_eq!(value("type"), "bind");
        assert!(text.split(',').any(|part| part == "readonly"), "{text}");
        Self {
            source: value("source"),
            target: value("target"),
        }
    }
}

/// A container with this mount reads the secret, once the agent's usual place is replaced by this
/// agent's.
fn reads(edge: &Edge, mount: &Mount, options: &[&str]) {
    let below = mount.source.strip_prefix(RUNTIME);
    let below = below.unwrap_or_else(|| panic!("{mount:?} is not below {RUNTIME}"));
    let source = format!("{}{below}", edge.agent.runtime_dir().display());
    assert_eq!(Path::new(&source), edge.dir(), "{mount:?}");
    let volume = format!("--volume={source}:{}:ro", mount.target);
    let file = format!("{}/{NAME}", mount.target);
    let args = [&["--rm", &*volume], options, &[IMAGE, "cat", &file]].concat();
    let ended = edge.podman.run(&args);
    assert_eq!((ended.code, &*ended.stdout), (0, "one"), "{ended:?}");
}

/// The mount and the user of `compose.yaml`.
fn compose() -> (Mount, String) {
    let yaml = read_yaml(&dir().join("compose.yaml"));
    let service = &yaml["services"][CONSUMER];
    assert_eq!(service["container_name"], CONSUMER);
    let [volume] = &service["volumes"].as_sequence().expect("a list")[..] else {
        panic!("one mount");
    };
    assert_eq!(volume["type"], "bind");
    assert_eq!(volume["read_only"], true);
    assert_eq!(volume["bind"]["create_host_path"], false);
    let text = |key: &str| volume[key].as_str().expect(key).to_owned();
    let mount = Mount {
        source: text("source"),
        target: text("target"),
    };
    let user = service["user"].as_str().expect("a user").to_owned();
    (mount, user)
}

/// The mount and the user of the quadlet.
fn quadlet() -> (Mount, String) {
    let text = fs::read_to_string(dir().join("uplink.container")).expect("the quadlet");
    let mut section = "";
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            section = name;
        } else if section == "Container" && !line.starts_with('#') {
            found.extend(line.split_once('='));
        }
    }
    let value = |key: &str| {
        let mut values = found.iter().filter(|(name, _)| *name == key);
        let (Some((_, value)), None) = (values.next(), values.next()) else {
            panic!("one {key}=");
        };
        *value
    };
    assert_eq!(value("ContainerName"), CONSUMER);
    let user = format!("{}:{}", value("User"), value("Group"));
    (Mount::from_volume(value("Volume")), user)
}

fn dir() -> PathBuf {
    root().join("examples/containers")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Where an agent delivers unless told otherwise.
const RUNTIME: &str = "/run/edge-secrets";
const SERVICES: &str = "/run/edge-secrets/services/";
