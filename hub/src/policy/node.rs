//! A node as placement sees it: its properties and its own constraints.
//!
//! Properties come from three places. What the agent measured (`built_in`) is the only source of
//! names that begin with `openhorizon.`; such names elsewhere have no effect, so that nobody can
//! claim another architecture, except `openhorizon.allowPrivileged`, which is the administrator's
//! to say. For all other names the agent's configuration decides before the node policy file, and
//! within that its `deployment` section before its top level.

use std::collections::BTreeSet;

use edge_secrets_protocol::node::{NodeFacts, Property};
use edge_secrets_protocol::{NodeId, PatternId, UserId};
use serde_json::Value;

use super::DocumentError;
use super::arch::Arch;
use super::constraint::{Constraint, read_constraints};
use super::document::{self, Fault, Step};
use super::either;
use super::field::Field;
use super::property::{Properties, PropertySet, PropertyValue, check_name, read_properties};
use super::schema;

/// A node as placement sees it.
#[derive(Debug, Clone)]
pub struct NodeView {
    id: NodeId,
    owner: Option<UserId>,
    pattern: Option<PatternId>,
    policy_place: Option<String>,
    arch: Option<Arch>,
    properties: PropertySet,
    constraints: Vec<Constraint>,
    ignored: Vec<String>,
    strangers: Vec<String>,
    has_slip: bool,
}

impl NodeView {
    /// Gives the node's facts their types.
    ///
    /// # Errors
    /// The first property or constraint that is none, with its place in the facts: `properties[0]`,
    /// `policy.constraints[1]`; of a policy that came as its text also with line and column there.
    pub fn new(
        node: &NodeId,
        owner: Option<&UserId>,
        facts: &NodeFacts,
    ) -> Result<Self, DocumentError> {
        let policy = NodePolicy::open(facts.policy.as_ref())?;
        Self::read(node, owner, facts, policy).map_err(Fault::without_text)
    }

    /// The same node on this pattern, or on policies.
    #[must_use]
    pub fn on(self, pattern: Option<PatternId>) -> Self {
        Self { pattern, ..self }
    }

    /// The pattern that it is on: then no policy is asked. Its own constraints and the properties that it
    /// states are for policies alone.
    #[must_use]
    pub fn pattern(&self) -> Option<&PatternId> {
        self.pattern.as_ref()
    }

    /// Where its node policy says something about deployments (`policy.constraints`): a node that has such
    /// a policy cannot be on a pattern.
    #[must_use]
    pub fn policy_place(&self) -> Option<&str> {
        self.policy_place.as_deref()
    }

    /// The node.
    #[must_use]
    pub fn id(&self) -> &NodeId {
        &self.id
    }

    /// Whose it is; the organisation's when absent.
    #[must_use]
    pub fn owner(&self) -> Option<&UserId> {
        self.owner.as_ref()
    }

    /// Names that the configuration or the node policy gives but only the agent may: they have no
    /// effect. Sorted, once each.
    #[must_use]
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// What whoever administers the node should know of what it says of itself.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let ignored = self.ignored.iter().map(|name| {
            format!("{name} is the agent's to measure: what the configuration or policy says has no effect")
        });
        self.strangers.iter().cloned().chain(ignored).collect()
    }

    /// The first field of its policy that is nearly a known one, which it was meant to be, and its place. A
    /// node is not let in with such a slip: a misspelt constraint keeps nothing away. One that was let in by
    /// an earlier hub stays, and [`notes`](Self::notes) tell of it.
    #[must_use]
    pub fn slip(&self) -> Option<&str> {
        let first = self.strangers.first().filter(|_| self.has_slip);
        first.map(String::as_str)
    }

    pub(super) fn arch(&self) -> Option<&Arch> {
        self.arch.as_ref()
    }

    pub(super) fn properties(&self) -> &PropertySet {
        &self.properties
    }

    pub(super) fn constraints(&self) -> &[Constraint] {
        &self.constraints
    }

    fn read(
        node: &NodeId,
        owner: Option<&UserId>,
        facts: &NodeFacts,
        policy: NodePolicy,
    ) -> Result<Self, Fault> {
        let strangers = policy.strangers;
        let mut stated = read_facts("properties", &facts.properties)?;
        stated.extend(policy.properties);
        let mut ignored = Vec::new();
        stated.retain(|(name, _)| {
            let reserved = is_reserved(name) && name != ALLOW_PRIVILEGED;
            if reserved {
                ignored.push(name.clone());
            }
            !reserved
        });
        ignored.sort_unstable();
        ignored.dedup();
        let mut measured = read_facts("built_in", &facts.built_in)?;
        measured.retain(|(name, _)| is_reserved(name));
        // What is stated comes first, so that `openhorizon.allowPrivileged` is the administrator's.
        stated.extend(measured);
        for (name, value) in &mut stated {
            if name == ALLOW_PRIVILEGED
                && let PropertyValue::Text(text) = value
            {
                *value = match text.text.as_str() {
                    "true" => PropertyValue::Boolean(true),
                    "false" => PropertyValue::Boolean(false),
                    _ => continue,
                };
            }
        }
        // As Open Horizon has it: a node that does not say so does not.
        stated.push((ALLOW_PRIVILEGED.to_owned(), PropertyValue::Boolean(false)));
        let properties = PropertySet::new(stated);
        let arch = match properties.get("openhorizon.arch") {
            Some(PropertyValue::Text(arch)) => Some(Arch::new(&arch.text)),
            _ => None,
        };
        Ok(Self {
            id: node.clone(),
            owner: owner.cloned(),
            pattern: None,
            policy_place: policy.place,
            arch,
            properties,
            constraints: policy.constraints,
            ignored,
            strangers,
            has_slip: policy.has_slip,
        })
    }
}

/// Reads a node policy as it stands in a file, JSON or YAML. The names in it that only the agent may give,
/// and that have no effect; sorted, once each.
///
/// # Errors
/// The first fault with its place in the text; a field that is nearly a known one is one.
pub fn check_node_policy(text: &str) -> Result<Vec<String>, DocumentError> {
    let root = document::read(text)?;
    let field = Field::root(&root);
    let in_text = |fault: Fault| fault.in_text(text);
    let policy = NodePolicy::sections(&field).map_err(in_text)?;
    let strangers = schema::check_node_policy(&field).map_err(in_text)?;
    if let Some(slip) = strangers.slips.into_iter().next() {
        return Err(in_text(slip));
    }
    let names = policy.properties.into_iter().map(|(name, _)| name);
    let ignored = names.filter(|name| is_reserved(name) && name != ALLOW_PRIVILEGED);
    let ignored: BTreeSet<String> = ignored.collect();
    Ok(ignored.into_iter().collect())
}

/// What a node policy says about deployments.
#[derive(Default)]
struct NodePolicy {
    properties: Vec<(String, PropertyValue)>,
    constraints: Vec<Constraint>,
    /// The slips first.
    strangers: Vec<String>,
    has_slip: bool,
    /// Where it says anything of this.
    place: Option<String>,
}

impl NodePolicy {
    /// Reads a policy that came as a document, or as the text of one, JSON or YAML.
    fn open(policy: Option<&Value>) -> Result<Self, DocumentError> {
        match policy {
            None | Some(Value::Null) => Ok(Self::default()),
            Some(Value::String(text)) => {
                let within = |error: DocumentError| error.within(POLICY);
                let root = document::read(text).map_err(within)?;
                let told = |fault: Fault| within(fault.in_text(text));
                Self::read(&Field::root(&root), told)
            }
            Some(policy) => {
                let root = Field::at(policy, vec![Step::Key(POLICY.to_owned())]);
                Self::read(&root, Fault::without_text)
            }
        }
    }

    /// Reads the flat form, the form with sections, and both mixed: a section's properties come
    /// before the top-level ones of the same name, its constraints replace the top-level ones.
    fn read(
        root: &Field<'_>,
        told: impl Fn(Fault) -> DocumentError,
    ) -> Result<Self, DocumentError> {
        let mut policy = Self::sections(root).map_err(&told)?;
        let strangers = schema::check_node_policy(root).map_err(&told)?;
        let has_slip = !strangers.slips.is_empty();
        let (slips, others) = (strangers.slips.into_iter(), strangers.others.into_iter());
        policy.strangers = slips
            .chain(others)
            .map(|one| told(one).to_string())
            .collect();
        policy.has_slip = has_slip;
        policy.place = either::place(root.value());
        Ok(policy)
    }

    fn sections(root: &Field<'_>) -> Result<Self, Fault> {
        let top = Self::section(root)?;
        // It says who may manage the node, which is nothing to placement; but a fault is a fault.
        if let Some(management) = root.get("management")? {
            Self::section(&management)?;
        }
        let Some(field) = root.get("deployment")? else {
            return Ok(top);
        };
        let mut section = Self::section(&field)?;
        section.properties.extend(top.properties);
        if section.constraints.is_empty() {
            section.constraints = top.constraints;
        }
        Ok(section)
    }

    fn section(field: &Field<'_>) -> Result<Self, Fault> {
        Ok(Self {
            properties: read_properties(&field.list("properties")?)?,
            constraints: read_constraints(field.get("constraints")?)?,
            strangers: Vec::new(),
            has_slip: false,
            place: None,
        })
    }
}

fn read_facts(key: &str, facts: &[Property]) -> Result<Vec<(String, PropertyValue)>, Fault> {
    let read = |(at, property): (usize, &Property)| {
        check_name(&property.name)
            .map_err(str::to_owned)
            .and_then(|()| PropertyValue::new(&property.value, property.kind.as_deref()))
            .map(|value| (property.name.clone(), value))
            .map_err(|reason| Fault {
                steps: vec![Step::Key(key.to_owned()), Step::Index(at)],
                reason,
            })
    };
    facts.iter().enumerate().map(read).collect()
}

pub(super) fn is_reserved(name: &str) -> bool {
    name.starts_with("openhorizon.")
}

const POLICY: &str = "policy";
pub(super) const ALLOW_PRIVILEGED: &str = "openhorizon.allowPrivileged";

#[cfg(test)]
mod tests;
