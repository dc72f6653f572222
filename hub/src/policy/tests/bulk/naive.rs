//! What should be placed, told in the simplest way: no index, no early end, no cleverness, and no code of
//! the room that it checks.

use std::collections::{BTreeMap, BTreeSet};

use super::world::{Binding, Node, Plain, Policy, Range, Service, Tree, World};

/// What runs on the node of one service.
struct Running<'w> {
    service: &'w Service,
    /// Secret to its entry and reference.
    bound: BTreeMap<&'static str, (&'w Binding, &'static str)>,
    policy: &'w Policy,
    top: bool,
    users: Vec<String>,
}

/// Every deployment of the node as a line, sorted.
pub(super) fn place(world: &World, node: &Node) -> Vec<String> {
    let mut running: BTreeMap<usize, Running<'_>> = BTreeMap::new();
    for policy in &world.policies {
        let taken = running.get(&policy.url).is_some_and(|one| one.top);
        if taken || !fits_node(policy, node) {
            continue;
        }
        if let Some(wanted) = first_that_fits(world, policy, node, &running) {
            for (at, (service, bound)) in wanted.into_iter().enumerate() {
                let one = running.entry(service.url).or_insert(Running {
                    service,
                    bound,
                    policy,
                    top: false,
                    users: Vec::new(),
                });
                one.top |= at == 0;
                one.users.push(match at {
                    0 => format!("{} own", policy.name),
                    _ => policy.name.clone(),
                });
            }
        }
    }
    let told = running
        .values()
        .filter(|one| one.top || !one.service.secrets.is_empty());
    let mut lines: Vec<String> = told.map(|one| shown(one, node)).collect();
    lines.sort();
    lines
}

type Wanted<'w> = (
    &'w Service,
    BTreeMap<&'static str, (&'w Binding, &'static str)>,
);

fn first_that_fits<'w>(
    world: &'w World,
    policy: &'w Policy,
    node: &Node,
    running: &BTreeMap<usize, Running<'w>>,
) -> Option<Vec<Wanted<'w>>> {
    let mut versions: Vec<_> = policy.versions.iter().collect();
    // Stable: those without a priority last, in the order of the document.
    versions.sort_by_key(|(_, priority)| if *priority == 0 { u64::MAX } else { *priority });
    for (version, _) in versions {
        for exactly in [true, false] {
            for top in &world.services {
                let is_it = top.url == policy.url
                    && top.version == *version
                    && top.arch.is_empty() != exactly
                    && runs_on(top.arch, node.arch)
                    && (top.arch.is_empty() || policy.arch.is_empty() || top.arch == policy.arch);
                if is_it && let Some(wanted) = attempt(world, policy, top, node, running) {
                    return Some(wanted);
                }
            }
        }
    }
    None
}

fn attempt<'w>(
    world: &'w World,
    policy: &'w Policy,
    top: &'w Service,
    node: &Node,
    running: &BTreeMap<usize, Running<'w>>,
) -> Option<Vec<Wanted<'w>>> {
    if top.cluster || !agree(policy, top, node) {
        return None;
    }
    if let Some(here) = running.get(&top.url)
        && (here.service.version, here.service.arch) != (top.version, top.arch)
    {
        return None;
    }
    // `u2` before `u3`: only then is known who wants which `u3`.
    let mut members = vec![top];
    for url in [2, 3] {
        let wishes: Vec<_> = members
            .iter()
            .flat_map(|one| &one.requires)
            .filter(|(wanted, _, _)| *wanted == url)
            .collect();
        if wishes.is_empty() {
            continue;
        }
        let suits = |one: &Service| {
            wishes.iter().all(|(_, range, arch)| {
                holds(range, one.version as f64)
                    && (arch.is_empty() || one.arch.is_empty() || *arch == one.arch)
            })
        };
        let chosen = match running.get(&url) {
            Some(here) => Some(here.service).filter(|one| suits(one)),
            None => world
                .services
                .iter()
                .filter(|one| one.url == url && !one.cluster && runs_on(one.arch, node.arch))
                .filter(|one| suits(one))
                .max_by_key(|one| (one.version, !one.arch.is_empty())),
        };
        members.push(chosen?);
    }
    if members.iter().any(|one| one.privileged) && node.allows_privileged != Some(true) {
        return None;
    }
    let mut wanted = Vec::new();
    for member in members {
        let bound = bind(policy, member)?;
        if let Some(here) = running.get(&member.url) {
            let differs = bound.iter().any(|(name, (entry, reference))| {
                here.bound.get(name).is_some_and(|(other, first)| {
                    first != reference || other.node_level != entry.node_level
                })
            });
            if differs && !member.singleton {
                return None;
            }
        }
        wanted.push((member, bound));
    }
    Some(wanted)
}

fn bind<'w>(
    policy: &'w Policy,
    service: &'w Service,
) -> Option<BTreeMap<&'static str, (&'w Binding, &'static str)>> {
    let mut bound = BTreeMap::new();
    for (secret, optional) in &service.secrets {
        let mut fitting: Vec<(&Binding, &'static str)> = Vec::new();
        for entry in &policy.bindings {
            let is_for = entry.url == service.url
                && holds(&entry.range, service.version as f64)
                && (entry.arch.is_empty() || service.arch.is_empty() || entry.arch == service.arch);
            let reference = entry.secrets.iter().find(|(name, _)| name == secret);
            if let (true, Some((_, reference))) = (is_for, reference) {
                fitting.push((entry, reference));
            }
        }
        let best: Vec<_> = fitting
            .iter()
            .filter(|(one, _)| !fitting.iter().any(|(other, _)| narrower(other, one)))
            .collect();
        match best.first() {
            None if *optional => {}
            None => return None,
            Some((first, reference)) => {
                let agree = |(other, same): &&&(&Binding, &str)| {
                    same == reference && other.node_level == first.node_level
                };
                if best.iter().filter(agree).count() < best.len() {
                    return None;
                }
                bound.insert(*secret, (*first, *reference));
            }
        }
    }
    Some(bound)
}

/// Whether the first entry is meant for fewer than the second.
fn narrower(one: &Binding, other: &Binding) -> bool {
    if one.arch.is_empty() != other.arch.is_empty() {
        return other.arch.is_empty();
    }
    // Between and beyond all ends that there are.
    let points = || (0..20).map(|half| f64::from(half) / 2.0);
    points().all(|at| holds(&other.range, at) || !holds(&one.range, at))
        && points().any(|at| holds(&other.range, at) && !holds(&one.range, at))
}

fn fits_node(policy: &Policy, node: &Node) -> bool {
    runs_on(policy.arch, node.arch) && policy.wants.iter().all(|tree| true_of_node(tree, node))
}

fn agree(policy: &Policy, service: &Service, node: &Node) -> bool {
    let of_service = |name: &str| match name {
        "openhorizon.service.version" => Some(Plain::Version(service.version)),
        "openhorizon.allowPrivileged" => Some(Plain::Flag(service.privileged)),
        name => first(&policy.properties, name).or_else(|| first(&service.properties, name)),
    };
    service.wants.iter().all(|tree| true_of_node(tree, node))
        && node.wants.iter().all(|tree| is_true(tree, &of_service))
}

fn true_of_node(tree: &Tree, node: &Node) -> bool {
    is_true(tree, &|name| match name {
        "openhorizon.memory" => Some(Plain::Number(1024)),
        "openhorizon.allowPrivileged" => Some(Plain::Flag(node.allows_privileged == Some(true))),
        name => first(&node.properties, name),
    })
}

fn first(properties: &[(&'static str, Plain)], name: &str) -> Option<Plain> {
    let mut of_name = properties.iter().filter(|(own, _)| *own == name);
    of_name.next().map(|(_, value)| *value)
}

fn runs_on(arch: &str, node: &str) -> bool {
    arch.is_empty() || arch == node
}

fn holds(range: &Range, at: f64) -> bool {
    let (low, high) = (range.low as f64, range.high.map(|high| high as f64));
    let above = at > low || (range.low_in && at == low);
    let below = match high {
        None => true,
        Some(high) => at < high || (range.high_in && at == high),
    };
    above && below
}

fn is_true(tree: &Tree, of: &dyn Fn(&str) -> Option<Plain>) -> bool {
    match tree {
        Tree::And(one, other) => is_true(one, of) && is_true(other, of),
        Tree::Or(one, other) => is_true(one, of) || is_true(other, of),
        Tree::In(name, range) => match of(name) {
            Some(Plain::Version(own)) => holds(range, own as f64),
            _ => false,
        },
        Tree::Leaf(name, operator, value) => match of(name) {
            None => false,
            Some(own) => compare(own, operator, *value),
        },
    }
}

fn compare(own: Plain, operator: &str, value: Plain) -> bool {
    let ordered = |own: i64, value: i64| match operator {
        "==" => own == value,
        "!=" => own != value,
        "<" => own < value,
        "<=" => own <= value,
        ">" => own > value,
        ">=" => own >= value,
        // A single version after `in` is a range without an end; a number is a list of one.
        "in" => own == value,
        _ => unreachable!(),
    };
    match (own, value) {
        (Plain::Number(own), Plain::Number(value)) => ordered(own, value),
        (Plain::Version(own), Plain::Version(value)) if operator == "in" => own >= value,
        (Plain::Version(own), Plain::Version(value)) => ordered(own, value),
        // A whole number is a version too.
        (Plain::Version(own), Plain::Number(value)) if operator == "in" => {
            value >= 0 && own >= value
        }
        (Plain::Version(own), Plain::Number(value)) => value >= 0 && ordered(own, value),
        (Plain::Flag(own), Plain::Flag(value)) => match operator {
            "==" | "in" => own == value,
            "!=" => own != value,
            _ => false,
        },
        (Plain::Text(own), value) => {
            let listed = texts(value).contains(&own);
            match operator {
                "==" | "in" => listed,
                "!=" => !listed,
                _ => false,
            }
        }
        (Plain::List(own), value) => {
            let others = texts(value);
            let one = own.iter().any(|item| others.contains(item));
            let same = match value {
                // Written down, a list of one is a word like any other.
                Plain::List(items) if items.len() > 1 => own == items,
                _ => one,
            };
            match operator {
                "in" => one,
                "==" => same,
                "!=" => !same,
                _ => false,
            }
        }
        _ => false,
    }
}

/// What a value lists, where it is a text or a list of them.
fn texts(value: Plain) -> Vec<&'static str> {
    match value {
        Plain::Text(text) => vec![text],
        Plain::List(items) => items.to_vec(),
        _ => Vec::new(),
    }
}

fn shown(one: &Running<'_>, node: &Node) -> String {
    let mut bindings = BTreeMap::new();
    for (secret, (entry, reference)) in &one.bound {
        let parts: Vec<&str> = reference.split('/').collect();
        let (user, of_node, rest) = match parts.as_slice() {
            ["user", user, "node", node, rest @ ..] => (Some(*user), Some(*node), rest),
            ["user", user, rest @ ..] => (Some(*user), None, rest),
            ["node", node, rest @ ..] => (None, Some(*node), rest),
            rest => (None, None, rest),
        };
        let mut text = String::new();
        if entry.node_level && of_node.is_none() {
            let scope = user.map_or_else(String::new, |user| format!("user/{user}/"));
            text = format!("{scope}node/{}/{}|", node.name, rest.join("/"));
        }
        text.push_str(reference);
        let mine = user.is_none_or(|user| user == one.policy.owner && Some(user) == node.owner);
        if !mine || of_node.is_some_and(|wanted| wanted != node.name) {
            text.push_str(" denied");
        }
        if one.service.secrets.contains(&(*secret, true)) {
            text.push_str(" optional");
        }
        bindings.insert((*secret).to_owned(), text);
    }
    let read: BTreeSet<&str> = one.bound.keys().copied().collect();
    line(
        one.top,
        &format!("u{}", one.service.url),
        &format!("{}.0.0", one.service.version),
        &one.policy.name,
        &bindings,
        &read.into_iter().collect::<Vec<_>>(),
        &one.users,
    )
}

/// How both sides write a deployment.
pub(super) fn line(
    top: bool,
    service: &str,
    version: &str,
    policy: &str,
    bindings: &BTreeMap<String, String>,
    read: &[&str],
    users: &[String],
) -> String {
    let top = if top { "top" } else { "dependency" };
    format!("{service} {top} {version} by {policy}: {bindings:?} read {read:?} for {users:?}")
}
