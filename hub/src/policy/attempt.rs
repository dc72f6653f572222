//! Whether one version of a service can run on one node, with all that it requires.

use std::fmt::Write as _;

use super::Services;
use super::binding::{self, BindingFault, Bound, Chosen};
use super::board::{Board, Wanted};
use super::closure::{Member, Whereabouts, closure};
use super::compat::{ConsumerProperties, Trace, shown};
use super::definition::ServiceDefinition;
use super::node::{ALLOW_PRIVILEGED, NodeView};
use super::offer::{Terms, VersionChoice};
use super::property::{Properties as _, PropertyValue};
use super::requirement::{Kind, Sharable};

/// One version that is tried on one node.
pub(super) struct Attempt<'a, 'b> {
    pub(super) node: &'b NodeView,
    pub(super) terms: Terms<'a>,
    pub(super) version: &'b VersionChoice,
    pub(super) definition: &'a ServiceDefinition,
    pub(super) services: &'a Services,
    pub(super) board: &'b Board<'a>,
}

impl<'a> Attempt<'a, '_> {
    /// The services that would run, if every rule holds.
    pub(super) fn run<T: Trace>(&self, trace: &mut T) -> Option<Vec<Wanted<'a>>> {
        self.note_version(trace);
        let mut fits = self.is_for_machines(trace);
        if fits || T::WANTS_ALL {
            fits &= self.node_agrees(trace);
        }
        if !fits && !T::WANTS_ALL {
            return None;
        }
        let members = self.members(trace)?;
        fits &= self.may_be_privileged(&members, trace);
        if !fits && !T::WANTS_ALL {
            return None;
        }
        let mut wanted = Vec::with_capacity(members.len());
        for member in members {
            let bindings = self.bind(&member, trace);
            let shared = bindings
                .as_ref()
                .is_ok_and(|chosen| self.shares(&member, chosen, trace));
            match bindings {
                Ok(bindings) if shared => wanted.push(Wanted { member, bindings }),
                _ if T::WANTS_ALL => fits = false,
                _ => return None,
            }
        }
        fits.then_some(wanted)
    }

    fn note_version<T: Trace>(&self, trace: &mut T) {
        trace.note("service version", true, || {
            let priority = match self.version.priority {
                Some(priority) => format!("priority {priority}"),
                None => "no priority".to_owned(),
            };
            let arch = shown(Some(self.definition.parsed_arch()));
            format!("{} for {arch}, {priority}", named(self.definition))
        });
    }

    fn is_for_machines<T: Trace>(&self, trace: &mut T) -> bool {
        let fits = self.definition.kind() != Kind::Cluster;
        if !fits {
            trace.note("node type", false, || {
                format!(
                    "Type Incompatible: {} is for clusters",
                    named(self.definition)
                )
            });
        }
        fits
    }

    /// The service's own policy with the node, and the node with the service and its policies. A node
    /// chooses its pattern for itself: constraints are for policies alone.
    fn node_agrees<T: Trace>(&self, trace: &mut T) -> bool {
        let Some(policy) = self.terms.policy else {
            return true;
        };
        let consumer = ConsumerProperties {
            definition: self.definition,
            policy,
        };
        let mut agrees = true;
        for constraint in self.definition.policy().constraints() {
            let holds = constraint.holds(self.node.properties());
            agrees &= holds;
            trace.note("service constraint", holds, || {
                let detail = constraint.explained(self.node.properties());
                format!("{detail} (version {})", self.definition.version())
            });
            if !agrees && !T::WANTS_ALL {
                return false;
            }
        }
        for constraint in self.node.constraints() {
            let holds = constraint.holds(&consumer);
            agrees &= holds;
            trace.note("node constraint", holds, || {
                let detail = constraint.explained(&consumer);
                format!("{detail} (version {})", self.definition.version())
            });
            if !agrees && !T::WANTS_ALL {
                return false;
            }
        }
        agrees
    }

    /// The service itself and what it requires. What runs here already is taken as it is.
    fn members<T: Trace>(&self, trace: &mut T) -> Option<Vec<Member<'a>>> {
        let claimed = self.board.get(self.definition.id());
        let other = claimed.filter(|claim| !is_same(claim.definition, self.definition));
        if let Some(claim) = other {
            trace.note("shared service", false, || {
                let here = named(claim.definition);
                format!("{here} is here for {}: a service runs once", claim.asker.by)
            });
            return None;
        }
        let pins = |service: &_| {
            let claim = self.board.get(service)?;
            Some((claim.definition, claim.asker.by.to_string()))
        };
        let place = Whereabouts::Node(self.node.arch());
        let found = closure(self.definition, place, self.services, &pins);
        if !self.definition.requirements().is_empty() {
            trace.note("required services", found.is_ok(), || match &found {
                Ok(members) => members[1..]
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(", "),
                Err(fault) => format!("{fault} (version {})", self.definition.version()),
            });
        }
        found.ok()
    }

    fn may_be_privileged<T: Trace>(&self, members: &[Member<'_>], trace: &mut T) -> bool {
        let Some(member) = members.iter().find(|m| m.definition.is_privileged()) else {
            return true;
        };
        let allowed = self.node.properties().get(ALLOW_PRIVILEGED);
        let allowed = matches!(allowed, Some(PropertyValue::Boolean(true)));
        trace.note("privileged", allowed, || {
            format!(
                "{member} has the host's privileges or network: the node's {ALLOW_PRIVILEGED} is {allowed}"
            )
        });
        allowed
    }

    fn bind<T: Trace>(
        &self,
        member: &Member<'a>,
        trace: &mut T,
    ) -> Result<Chosen<'a>, BindingFault> {
        let (definition, own) = (member.definition, member.path.is_empty());
        let chosen = binding::choose(self.terms.bindings, definition);
        let of = || match own {
            true => format!("version {}", definition.version()),
            false => named(definition),
        };
        // Of what is required there is nothing to say where it has no secrets.
        if own || !definition.declared().is_empty() {
            trace.note("binding", chosen.is_ok(), || match &chosen {
                Ok(_) if definition.declared().is_empty() => {
                    format!("{} declares no secrets", of())
                }
                Ok(chosen) => {
                    let pair = |(name, (_, bound)): (_, &(_, &Bound))| {
                        format!("{name} to {} ({})", bound.reference, bound.place)
                    };
                    let unbound = definition.declared().iter();
                    let unbound = unbound.filter(|name| !chosen.contains_key(name));
                    let unbound = unbound.map(|name| format!("{name} to nothing, it is optional"));
                    let told: Vec<_> = chosen.iter().map(pair).chain(unbound).collect();
                    let mut text = told.join(", ");
                    if !own {
                        // Writing to a string does not fail.
                        write!(text, " of {}", of()).ok();
                    }
                    text
                }
                Err(fault) => format!("{fault} ({})", of()),
            });
        }
        chosen
    }

    /// Whether what runs here already will do. A singleton does, whatever it is bound to; what is one
    /// for each who needs it only where both are bound to the same.
    fn shares<T: Trace>(&self, member: &Member<'a>, chosen: &Chosen<'a>, trace: &mut T) -> bool {
        let Some(claim) = self.board.get(member.definition.id()) else {
            return true;
        };
        let differences = claim.differences(chosen);
        let singleton = member.definition.sharable() == Sharable::Singleton;
        let shares = differences.is_empty() || singleton;
        trace.note("shared service", differences.is_empty(), || {
            let (by, service) = (claim.asker.by, named(member.definition));
            if differences.is_empty() {
                return format!("{service} is here for {by}, bound to the same");
            }
            let each = differences.iter().map(|difference| {
                let (first, later) = (&difference.first, &difference.later);
                format!("{} is {first} there and {later} here", difference.secret)
            });
            let each = each.collect::<Vec<_>>().join(", ");
            match singleton {
                true => format!(
                    "{service} is here for {by}, whose name comes first: {each}; the first is delivered"
                ),
                false => format!(
                    "{service} is here for {by}, bound otherwise: {each}; a service runs once on a node"
                ),
            }
        });
        shares
    }
}

fn is_same(one: &ServiceDefinition, other: &ServiceDefinition) -> bool {
    one.version() == other.version() && one.arch() == other.arch()
}

fn named(definition: &ServiceDefinition) -> String {
    format!("{} {}", definition.id(), definition.version())
}
