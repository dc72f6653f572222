//! Small organisations, as plain data.

use super::dice::Dice;

pub(super) struct World {
    /// Unique by url, version and architecture.
    pub(super) services: Vec<Service>,
    /// In the order of their names.
    pub(super) policies: Vec<Policy>,
    pub(super) nodes: Vec<Node>,
}

pub(super) struct Service {
    /// `u0` and `u1` are deployed and may require `u2` and `u3`; `u2` may require `u3`.
    pub(super) url: usize,
    pub(super) version: i64,
    pub(super) arch: &'static str,
    /// Name, and whether it is optional.
    pub(super) secrets: Vec<(&'static str, bool)>,
    pub(super) requires: Vec<(usize, Range, &'static str)>,
    pub(super) singleton: bool,
    pub(super) privileged: bool,
    pub(super) cluster: bool,
    pub(super) properties: Vec<(&'static str, Plain)>,
    pub(super) wants: Vec<Tree>,
}

pub(super) struct Policy {
    pub(super) name: String,
    pub(super) owner: &'static str,
    pub(super) url: usize,
    pub(super) arch: &'static str,
    /// Version and priority; 0 is none.
    pub(super) versions: Vec<(i64, u64)>,
    pub(super) properties: Vec<(&'static str, Plain)>,
    pub(super) wants: Vec<Tree>,
    pub(super) bindings: Vec<Binding>,
}

pub(super) struct Binding {
    pub(super) url: usize,
    pub(super) arch: &'static str,
    pub(super) range: Range,
    pub(super) node_level: bool,
    pub(super) secrets: Vec<(&'static str, &'static str)>,
}

pub(super) struct Node {
    pub(super) name: &'static str,
    pub(super) owner: Option<&'static str>,
    pub(super) arch: &'static str,
    pub(super) properties: Vec<(&'static str, Plain)>,
    pub(super) allows_privileged: Option<bool>,
    pub(super) wants: Vec<Tree>,
}

/// A range whose ends are whole numbers.
#[derive(Clone, Copy)]
pub(super) struct Range {
    pub(super) low: i64,
    pub(super) low_in: bool,
    pub(super) high: Option<i64>,
    pub(super) high_in: bool,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Plain {
    Text(&'static str),
    Number(i64),
    Flag(bool),
    Version(i64),
    /// Of texts.
    List(&'static [&'static str]),
}

pub(super) enum Tree {
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Leaf(&'static str, &'static str, Plain),
    In(&'static str, Range),
}

impl World {
    pub(super) fn new(dice: &mut Dice) -> Self {
        let mut services: Vec<Service> = Vec::new();
        for _ in 0..6 + dice.roll(8) {
            let service = service(dice);
            let same = |other: &Service| {
                (other.url, other.version, other.arch)
                    == (service.url, service.version, service.arch)
            };
            if !services.iter().any(same) {
                services.push(service);
            }
        }
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        Self {
            services,
            policies: names.map(|name| policy(dice, name)).into(),
            nodes: ["n1", "n2", "n3", "n4", "n5", "n6", "n7", "n8"]
                .map(|name| node(dice, name))
                .into(),
        }
    }
}

fn service(dice: &mut Dice) -> Service {
    let url = dice.roll(4);
    let requires = match url {
        0 | 1 => dice.some(2, |dice| (2 + dice.roll(2), range(dice), arch(dice))),
        2 if dice.chance(40) => vec![(3, range(dice), "")],
        _ => Vec::new(),
    };
    let mut secrets = dice.some(2, |dice| (dice.pick(&SECRETS), dice.chance(25)));
    secrets.sort_unstable();
    secrets.dedup_by_key(|secret| secret.0);
    Service {
        url,
        version: version(dice),
        arch: arch(dice),
        secrets,
        requires,
        singleton: dice.chance(60),
        privileged: dice.chance(10),
        cluster: dice.chance(5),
        properties: dice.some(1, property),
        wants: if dice.chance(10) {
            vec![tree(dice, 1)]
        } else {
            Vec::new()
        },
    }
}

fn policy(dice: &mut Dice, name: &str) -> Policy {
    let mut versions = dice.some(3, |dice| (version(dice), dice.roll(3) as u64));
    versions.push((version(dice), dice.roll(3) as u64));
    let url = match dice.chance(85) {
        true => dice.roll(2),
        false => 2 + dice.roll(2),
    };
    let mut bindings = Vec::new();
    // Of its own service and what that may require.
    for bound in (0..4).filter(|at| *at == url || *at > 1) {
        bindings.extend(dice.some(2, |dice| binding(dice, bound)));
        bindings.push(everything(bound));
    }
    bindings.retain(|_| dice.chance(90));
    Policy {
        name: name.to_owned(),
        owner: dice.pick(&["alice", "bob"]),
        url,
        arch: if dice.chance(70) { "" } else { arch(dice) },
        versions,
        properties: dice.some(2, property),
        wants: dice.some(1, |dice| tree(dice, 2)),
        bindings,
    }
}

/// Binds all that a service could have, less specific than all others.
fn everything(url: usize) -> Binding {
    Binding {
        url,
        arch: "",
        range: Range {
            low: 0,
            low_in: true,
            high: None,
            high_in: false,
        },
        node_level: false,
        secrets: vec![("s1", "org"), ("s2", "user/alice/own"), ("s3", "node/n1/x")],
    }
}

fn binding(dice: &mut Dice, url: usize) -> Binding {
    let mut secrets = dice.some(3, |dice| (dice.pick(&SECRETS), dice.pick(&REFERENCES)));
    secrets.sort_unstable();
    secrets.dedup_by_key(|secret| secret.0);
    Binding {
        url,
        arch: arch(dice),
        range: range(dice),
        node_level: dice.chance(40),
        secrets,
    }
}

fn node(dice: &mut Dice, name: &'static str) -> Node {
    Node {
        name,
        owner: dice.pick(&[None, Some("alice"), Some("bob")]),
        arch: dice.pick(&["", "amd64", "amd64", "amd64", "arm64"]),
        properties: dice.some(5, property),
        allows_privileged: dice.pick(&[None, Some(true), Some(true), Some(false)]),
        wants: if dice.chance(40) {
            vec![tree(dice, 1)]
        } else {
            Vec::new()
        },
    }
}

fn property(dice: &mut Dice) -> (&'static str, Plain) {
    let name = dice.pick(&NAMES);
    (name, plain(dice, name))
}

/// Most often of the kind that the name usually has.
fn plain(dice: &mut Dice, name: &str) -> Plain {
    let kind = match name {
        _ if dice.chance(10) => dice.roll(5),
        "site" | "größe" => 0,
        "rack" => 1,
        "gpu" => 2,
        "firmware" => 3,
        _ => 4,
    };
    match kind {
        0 => Plain::Text(dice.pick(&["berlin", "paris", "bad ems"])),
        1 => Plain::Number(dice.roll(4) as i64 - 1),
        2 => Plain::Flag(dice.chance(50)),
        3 => Plain::Version(version(dice)),
        _ => Plain::List(dice.pick(&[&["cam", "gate"][..], &["cam"], &["gate", "cam", "lock"]])),
    }
}

fn tree(dice: &mut Dice, depth: usize) -> Tree {
    if depth > 0 && dice.chance(50) {
        let (one, other) = (
            Box::new(tree(dice, depth - 1)),
            Box::new(tree(dice, depth - 1)),
        );
        return match dice.chance(40) {
            true => Tree::And(one, other),
            false => Tree::Or(one, other),
        };
    }
    let name = match dice.roll(12) {
        0 => "openhorizon.service.version",
        1 => "openhorizon.allowPrivileged",
        2 => "openhorizon.memory",
        _ => dice.pick(&NAMES),
    };
    let (versions, numbers) = (
        ["firmware", "openhorizon.service.version"].contains(&name),
        ["rack", "openhorizon.memory"].contains(&name),
    );
    if versions && dice.chance(40) {
        return Tree::In(name, range(dice));
    }
    let value = match name {
        "openhorizon.service.version" => Plain::Version(version(dice)),
        "openhorizon.allowPrivileged" => Plain::Flag(dice.chance(50)),
        "openhorizon.memory" => Plain::Number(1024 * (dice.roll(3) as i64)),
        name => plain(dice, name),
    };
    let ordered = matches!(value, Plain::Number(_) | Plain::Version(_));
    let operators = match ordered && (versions || numbers) {
        true => &["==", "!=", "<", "<=", ">", ">="][..],
        false => &["==", "==", "!=", "in"][..],
    };
    Tree::Leaf(name, dice.pick(operators), value)
}

fn range(dice: &mut Dice) -> Range {
    let low = dice.roll(3) as i64;
    let high = dice.chance(60).then(|| low + 1 + dice.roll(3) as i64);
    Range {
        low,
        low_in: dice.chance(70),
        high,
        high_in: high.is_some() && dice.chance(40),
    }
}

fn version(dice: &mut Dice) -> i64 {
    1 + dice.roll(3) as i64
}

fn arch(dice: &mut Dice) -> &'static str {
    dice.pick(&["", "", "", "amd64", "amd64", "arm64"])
}

const SECRETS: [&str; 3] = ["s1", "s2", "s3"];
const REFERENCES: [&str; 5] = [
    "db",
    "team/db",
    "user/alice/db",
    "node/n2/db",
    "user/bob/node/n1/x",
];
const NAMES: [&str; 6] = ["site", "größe", "rack", "gpu", "firmware", "roles"];
