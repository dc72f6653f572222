//! A service's own policy: what it says of itself and demands of nodes, whoever deploys it.
//!
//! Open Horizon keeps it beside the definition (`hzn exchange service addpolicy`); here it stands in the
//! definition's record as `servicePolicy`. That of the deployed service counts, not those of services
//! that it requires. Where it and the deployment policy have a property of one name, the deployment
//! policy's is taken; what the hub knows of a service comes before both.

use super::constraint::{Constraint, read_constraints};
use super::document::Fault;
use super::field::Field;
use super::node::ALLOW_PRIVILEGED;
use super::property::{Properties as _, PropertySet, PropertyValue, read_properties};

/// A service's own policy.
#[derive(Debug, Clone)]
pub(super) struct ServicePolicy {
    properties: PropertySet,
    constraints: Vec<Constraint>,
}

impl ServicePolicy {
    /// Reads it; a service without one says nothing. `privileged` is what its containers are.
    pub(super) fn read(field: Option<&Field<'_>>, privileged: bool) -> Result<Self, Fault> {
        let (mut stated, mut constraints) = (Vec::new(), Vec::new());
        if let Some(field) = field {
            let properties = field.list("properties")?;
            stated = read_properties(&properties)?;
            constraints = read_constraints(field.get("constraints")?)?;
            for (property, (name, value)) in properties.iter().zip(&stated) {
                if name != ALLOW_PRIVILEGED {
                    continue;
                }
                match value.as_flag() {
                    None => return Err(property.refuse(format!(
                        "expected `true` or `false` as the value of {ALLOW_PRIVILEGED}, found {value}"
                    ))),
                    Some(false) if privileged => return Err(property.refuse(format!(
                        "says that {ALLOW_PRIVILEGED} is false, but a container of the service is \
                         privileged or in the host's network"
                    ))),
                    Some(_) => {}
                }
            }
        }
        stated.push((
            ALLOW_PRIVILEGED.to_owned(),
            PropertyValue::Boolean(privileged),
        ));
        Ok(Self {
            properties: PropertySet::new(stated),
            constraints,
        })
    }

    /// What it says of the service.
    pub(super) fn properties(&self) -> &PropertySet {
        &self.properties
    }

    /// What it demands of nodes.
    pub(super) fn constraints(&self) -> &[Constraint] {
        &self.constraints
    }

    /// Whether the service is only for nodes that allow privileged ones.
    pub(super) fn is_privileged(&self) -> bool {
        let stated = self.properties.get(ALLOW_PRIVILEGED);
        stated.and_then(PropertyValue::as_flag) == Some(true)
    }
}
