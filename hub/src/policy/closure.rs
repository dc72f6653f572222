//! A service with all that it requires, directly and through others.
//!
//! Of each required service the highest version is taken that lies in the ranges of all who require
//! it, of those that are taken themselves, and that runs where the top runs; one that runs on the node
//! already is taken as it is. A service stands in a closure once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use edge_secrets_protocol::ServiceId;

use super::arch::Arch;
use super::definition::ServiceDefinition;
use super::requirement::{Kind, Requirement};
use super::{Definitions, Services};

/// One service of a closure.
#[derive(Debug, Clone)]
pub(super) struct Member<'a> {
    pub(super) definition: &'a ServiceDefinition,
    /// Through which services it is required, from the top; without itself.
    pub(super) path: Vec<&'a ServiceId>,
}

/// Why a service cannot have what it requires.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ClosureFault {
    #[error("{by} requires {service}, which is not published{}", known(.others))]
    NotPublished {
        by: String,
        service: ServiceId,
        /// Versions and architectures of it that there are.
        others: Vec<String>,
    },
    #[error("{service} is required in {}, and no published version lies in all of them: {}",
        .ranges.join(" and in "), .published.join(", "))]
    OutOfRange {
        service: ServiceId,
        /// Each with who says so.
        ranges: Vec<String>,
        published: Vec<String>,
    },
    #[error("{service} {version} is here for {here}, and {} is required", .ranges.join(" and in "))]
    Pinned {
        service: ServiceId,
        version: String,
        here: String,
        ranges: Vec<String>,
    },
    #[error("the services require each other in a ring: {}", .0.join(" -> "))]
    Cycle(Vec<String>),
    #[error(
        "it requires more than {MAX_MEMBERS} services, or through more than {MAX_DEPTH} others"
    )]
    TooMany,
    #[error(
        "no choice of versions settles what it requires: each rules out another whose requirements led to it"
    )]
    Unsettled,
}

/// Where a closure is to run.
#[derive(Debug, Clone, Copy)]
pub(super) enum Whereabouts<'a> {
    /// On a node of this architecture, where it says one.
    Node(Option<&'a Arch>),
    /// On some node that the top is for: nobody asks for one yet.
    Anywhere,
}

/// What runs on the node already, and for whom.
pub(super) type Pins<'p, 'a> = dyn Fn(&ServiceId) -> Option<(&'a ServiceDefinition, String)> + 'p;

/// The top first, then what it requires, in the order in which that is met.
pub(super) fn closure<'a>(
    top: &'a ServiceDefinition,
    place: Whereabouts<'_>,
    services: &'a Services,
    pins: &Pins<'_, 'a>,
) -> Result<Vec<Member<'a>>, ClosureFault> {
    if top.requirements().is_empty() {
        return Ok(vec![Member {
            definition: top,
            path: Vec::new(),
        }]);
    }
    let mut known = Wanted::default();
    // Each round chooses by what those who were chosen in the round before require. Once a round meets
    // what the one before met, nobody's choice changes any more; faults before that may be those of
    // versions that are not taken in the end.
    for _ in 0..MAX_ROUNDS {
        let mut walk = Walk {
            place,
            services,
            pins,
            known: &known,
            met: Wanted::default(),
            members: Vec::new(),
            path: Vec::new(),
            fault: None,
        };
        walk.visit(top);
        if walk.met.is_same_as(&known) {
            return walk.fault.map_or(Ok(walk.members), Err);
        }
        known = walk.met;
    }
    Err(ClosureFault::Unsettled)
}

/// The ring in which services require each other since this one was published, if there is one.
#[must_use]
pub fn ring(service: &ServiceId, definitions: &Definitions) -> Option<String> {
    let mut concerned = BTreeSet::from([service.clone()]);
    definitions.services.add_dependents(&mut concerned);
    let all = concerned.iter().flat_map(|id| definitions.services.of(id));
    all.filter_map(|one| anywhere(&one.document, definitions).err())
        .find(|fault| matches!(fault, ClosureFault::Cycle(_)))
        .map(|fault| fault.to_string())
}

/// What the definition requires that is not published (yet).
#[must_use]
pub fn unmet(definition: &ServiceDefinition, definitions: &Definitions) -> Option<String> {
    let fault = anywhere(definition, definitions).err()?;
    Some(format!(
        "requiredServices: {fault}: it is deployed nowhere until that is there"
    ))
}

fn anywhere<'a>(
    definition: &'a ServiceDefinition,
    definitions: &'a Definitions,
) -> Result<Vec<Member<'a>>, ClosureFault> {
    closure(
        definition,
        Whereabouts::Anywhere,
        &definitions.services,
        &|_| None,
    )
}

/// Who requires what of each service.
#[derive(Debug, Default)]
struct Wanted<'a>(BTreeMap<&'a ServiceId, BTreeMap<WishKey<'a>, Wish<'a>>>);

/// The requirer's url, version and architecture, and which of its requirements.
type WishKey<'a> = (&'a ServiceId, &'a str, &'a str, usize);

#[derive(Debug, Clone, Copy)]
struct Wish<'a> {
    by: &'a ServiceDefinition,
    requirement: &'a Requirement,
}

impl<'a> Wanted<'a> {
    fn add(&mut self, wish: Wish<'a>) {
        let (by, index) = (wish.by, wish.requirement.index);
        let key = (by.id(), by.version(), by.arch(), index);
        let of_service = self.0.entry(&wish.requirement.service).or_default();
        of_service.insert(key, wish);
    }

    fn of(&self, service: &ServiceId) -> impl Iterator<Item = Wish<'a>> {
        self.0
            .get(service)
            .into_iter()
            .flat_map(BTreeMap::values)
            .copied()
    }

    fn is_same_as(&self, other: &Self) -> bool {
        let keys = |wanted: &Self| -> Vec<_> {
            let of_service = |(service, wishes): (&&'a ServiceId, &BTreeMap<_, _>)| {
                (*service, wishes.keys().copied().collect::<Vec<_>>())
            };
            wanted.0.iter().map(of_service).collect()
        };
        keys(self) == keys(other)
    }
}

struct Walk<'a, 'w> {
    place: Whereabouts<'w>,
    services: &'a Services,
    pins: &'w Pins<'w, 'a>,
    known: &'w Wanted<'a>,
    met: Wanted<'a>,
    members: Vec<Member<'a>>,
    path: Vec<&'a ServiceDefinition>,
    /// The first one; the walk goes on without what it is about.
    fault: Option<ClosureFault>,
}

impl<'a> Walk<'a, '_> {
    fn visit(&mut self, definition: &'a ServiceDefinition) {
        if self
            .members
            .iter()
            .any(|m| m.definition.id() == definition.id())
        {
            return;
        }
        if self.members.len() == MAX_MEMBERS || self.path.len() == MAX_DEPTH {
            self.fault.get_or_insert(ClosureFault::TooMany);
            return;
        }
        self.members.push(Member {
            definition,
            path: self.path.iter().map(|through| through.id()).collect(),
        });
        self.path.push(definition);
        for requirement in definition.requirements() {
            let wish = Wish {
                by: definition,
                requirement,
            };
            self.met.add(wish);
            let ring = self.expect_no_ring(&requirement.service);
            match ring.and_then(|()| self.choose(wish)) {
                Ok(required) => self.visit(required),
                Err(fault) => {
                    self.fault.get_or_insert(fault);
                }
            }
        }
        self.path.pop();
    }

    fn expect_no_ring(&self, service: &ServiceId) -> Result<(), ClosureFault> {
        let Some(start) = self.path.iter().position(|one| one.id() == service) else {
            return Ok(());
        };
        let ring = self.path[start..].iter().map(|one| named(one));
        let back = self.path[start].id().to_string();
        Err(ClosureFault::Cycle(ring.chain([back]).collect()))
    }

    /// The definition that all who require the service can have.
    fn choose(&self, wish: Wish<'a>) -> Result<&'a ServiceDefinition, ClosureFault> {
        let service = &wish.requirement.service;
        let wishes: Vec<Wish<'_>> = self.known.of(service).chain([wish]).collect();
        let fits = |definition: &ServiceDefinition| {
            wishes.iter().all(|wish| {
                let requirement = wish.requirement;
                requirement.range.contains(definition.parsed_version())
                    && requirement.arch.matches(definition.parsed_arch())
            })
        };
        if let Some((pinned, here)) = (self.pins)(service) {
            return match fits(pinned) {
                true => Ok(pinned),
                false => Err(ClosureFault::Pinned {
                    service: service.clone(),
                    version: pinned.version().to_owned(),
                    here,
                    ranges: ranges(&wishes),
                }),
            };
        }
        let published = self.services.of(service);
        let runs = |definition: &&ServiceDefinition| match self.place {
            // None of our nodes is a cluster.
            _ if definition.kind() == Kind::Cluster => false,
            Whereabouts::Node(arch) => definition.parsed_arch().admits(arch),
            Whereabouts::Anywhere => self
                .path
                .iter()
                .all(|on| on.parsed_arch().matches(definition.parsed_arch())),
        };
        let mut here = published.iter().map(|one| &one.document).filter(runs);
        if let Some(found) = here.clone().find(|definition| fits(definition)) {
            return Ok(found);
        }
        let shown = |one: &ServiceDefinition| format!("{} ({})", one.version(), one.arch());
        Err(match here.next() {
            Some(_) => ClosureFault::OutOfRange {
                service: service.clone(),
                ranges: ranges(&wishes),
                published: published.iter().map(|one| shown(&one.document)).collect(),
            },
            None => ClosureFault::NotPublished {
                by: named(wish.by),
                service: service.clone(),
                others: published.iter().map(|one| shown(&one.document)).collect(),
            },
        })
    }
}

fn named(definition: &ServiceDefinition) -> String {
    format!("{} {}", definition.id(), definition.version())
}

fn ranges(wishes: &[Wish<'_>]) -> Vec<String> {
    let shown = |wish: &Wish<'_>| format!("{} by {}", wish.requirement.range, named(wish.by));
    let unique: BTreeSet<String> = wishes.iter().map(shown).collect();
    unique.into_iter().collect()
}

fn known(others: &[String]) -> String {
    match others {
        [] => String::new(),
        others => format!(" for this node; published: {}", others.join(", ")),
    }
}

impl fmt::Display for Member<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.definition.id(), self.definition.version())
    }
}

const MAX_MEMBERS: usize = 64;
const MAX_DEPTH: usize = 16;
/// What is required through others settles in a round for each level.
const MAX_ROUNDS: usize = 4 * MAX_DEPTH;

#[cfg(test)]
mod tests;
