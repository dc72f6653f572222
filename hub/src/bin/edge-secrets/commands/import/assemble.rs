//! From files to what is to be published, in its order. Nothing is opened and nobody asked here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use edge_secrets_protocol::{PatternName, PolicyName, ServiceId};

use super::files::Found;
use super::merge::merge;
use super::order::order;
use super::recognise::Kind;
use super::understand::{Document, Left, Outcome, Reading, Refusal, Source, Understood};
use super::variables::Config;

/// Everything that was read.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    /// In the order in which it is published.
    pub(super) understood: Vec<Understood>,
    pub(super) left: Vec<Left>,
    pub(super) refused: Vec<Refusal>,
}

/// What the hub calls a document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Identity {
    Service(ServiceId, String, String),
    Policy(PolicyName),
    Pattern(PatternName),
}

impl Understood {
    pub(super) fn identity(&self) -> Identity {
        match &self.document {
            Document::Service(definition) => Identity::Service(
                definition.id().clone(),
                definition.version().to_owned(),
                definition.arch().to_owned(),
            ),
            Document::Policy(name, _) => Identity::Policy(name.clone()),
            Document::Pattern(name, _) => Identity::Pattern(name.clone()),
        }
    }

    pub(super) fn kind(&self) -> Kind {
        match &self.document {
            Document::Service(_) => Kind::Service,
            Document::Policy(..) => Kind::Policy,
            Document::Pattern(..) => Kind::Pattern,
        }
    }

    pub(super) fn to_json(&self) -> String {
        match &self.document {
            Document::Service(definition) => definition.to_json(),
            Document::Policy(_, policy) => policy.to_json(),
            Document::Pattern(_, pattern) => pattern.to_json(),
        }
    }

    pub(super) fn refusal(&self, reason: impl Into<String>) -> Refusal {
        Refusal {
            file: self.shown(),
            line: None,
            column: None,
            reason: reason.into(),
        }
    }

    fn shown(&self) -> String {
        let file = self.origin.file.display();
        match &self.origin.key {
            Some(key) => format!("{file} [{key}]"),
            None => file.to_string(),
        }
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Service(id, version, arch) if arch.is_empty() => {
                write!(f, "{} {version}", id.url)
            }
            Self::Service(id, version, arch) => write!(f, "{} {version} {arch}", id.url),
            Self::Policy(name) => write!(f, "{name}"),
            Self::Pattern(name) => write!(f, "{name}"),
        }
    }
}

/// Reads every file. `config` takes the place of every `hzn.json` that was found.
pub(super) fn assemble(found: &Found, reading: &Reading<'_>, config: Option<&Config>) -> Assembly {
    let mut assembly = Assembly {
        left: found.left.clone(),
        ..Assembly::default()
    };
    let configs = read_configs(found, &mut assembly);
    let mut rules = Vec::new();
    for source in &found.sources {
        let own = found
            .config_of(source)
            .and_then(|own| configs.get(&own.file));
        match reading.understand(source, config.or(own)) {
            Outcome::Understood(some) => assembly.understood.extend(some),
            Outcome::ServicePolicy(policy) => rules.push(policy),
            Outcome::Left(left) => assembly.left.push(left),
            Outcome::Refused(some) => assembly.refused.extend(some),
        }
    }
    let unused = reading.names.keys().filter(|name| {
        !found
            .sources
            .iter()
            .any(|source| source.file.display().to_string() == **name)
    });
    assembly.refused.extend(unused.map(|name| Refusal {
        file: name.clone(),
        line: None,
        column: None,
        reason: "--name names it, and it is not among the files".to_owned(),
    }));
    without_twins(&mut assembly);
    let (left, refused) = merge(rules, &mut assembly.understood);
    assembly.left.extend(left);
    assembly.refused.extend(refused);
    in_order(&mut assembly);
    assembly
}

fn read_configs(found: &Found, assembly: &mut Assembly) -> BTreeMap<PathBuf, Config> {
    let mut configs = BTreeMap::new();
    for Source { file, text, .. } in found.configs.values() {
        match Config::read(text) {
            Ok(config) => {
                configs.insert(file.clone(), config);
            }
            Err(fault) => assembly.refused.push(Refusal {
                file: file.display().to_string(),
                line: fault.line,
                column: fault.column,
                reason: fault.reason,
            }),
        }
    }
    configs
}

/// A document that stands in two files is one where it is the same, and refused where not.
fn without_twins(assembly: &mut Assembly) {
    let mut known: BTreeMap<Identity, Understood> = BTreeMap::new();
    let mut kept = Vec::new();
    for one in std::mem::take(&mut assembly.understood) {
        match known.get(&one.identity()) {
            None => {
                known.insert(one.identity(), one.clone());
                kept.push(one);
            }
            Some(first) if first.to_json() == one.to_json() => assembly.left.push(Left {
                file: one.shown(),
                kind: Some(one.kind()),
                reason: format!("is the same as {}", first.shown()),
            }),
            Some(first) => {
                let hint = match one.kind() {
                    Kind::Service => String::new(),
                    _ => format!(
                        ": give one another name with --name {}=NAME",
                        one.origin.file.display()
                    ),
                };
                assembly.refused.push(one.refusal(format!(
                    "{} {} stands in {} already, and otherwise{hint}",
                    one.kind().as_str(),
                    one.identity(),
                    first.shown()
                )));
            }
        }
    }
    assembly.understood = kept;
}

/// Definitions by what they require, then policies, then patterns.
fn in_order(assembly: &mut Assembly) {
    let mut requires: BTreeMap<ServiceId, Vec<ServiceId>> = BTreeMap::new();
    for one in &assembly.understood {
        if let Document::Service(definition) = &one.document {
            let of_service = requires.entry(definition.id().clone()).or_default();
            of_service.extend(definition.required().cloned());
        }
    }
    let keys: Vec<ServiceId> = requires.keys().cloned().collect();
    let of = |id: &ServiceId| requires.get(id).cloned().unwrap_or_default();
    let ordered = match order(&keys, of) {
        Ok(ordered) => ordered,
        Err(ring) => {
            let shown: Vec<_> = ring.iter().map(ToString::to_string).collect();
            let reason = format!(
                "the services require each other in a ring: {}",
                shown.join(" -> ")
            );
            let first = ring.first();
            let one = assembly.understood.iter().find(|one| match &one.document {
                Document::Service(definition) => Some(definition.id()) == first,
                Document::Policy(..) | Document::Pattern(..) => false,
            });
            let refusal = one.map(|one| one.refusal(reason));
            assembly.refused.extend(refusal);
            keys
        }
    };
    let place: BTreeMap<&ServiceId, usize> = ordered.iter().zip(0..).collect();
    assembly
        .understood
        .sort_by_cached_key(|one| match one.identity() {
            Identity::Service(id, version, arch) => {
                let place = place.get(&id).copied().unwrap_or(0);
                (0, place, version, arch)
            }
            Identity::Policy(name) => (1, 0, name.to_string(), String::new()),
            Identity::Pattern(name) => (2, 0, name.to_string(), String::new()),
        });
}

#[cfg(test)]
mod tests;
