//! Documents as foreign bytes: see [`crate::fuzzing`].

use super::constraint::Constraint;
use super::version::{Version, VersionRange};
use super::{DeploymentPolicy, Pattern, ServiceDefinition, check_node_policy, read_document};

/// A service definition is read again as it was written.
///
/// # Panics
/// Where it is not.
pub fn definition(bytes: &[u8]) {
    if let Ok(read) = ServiceDefinition::parse(&String::from_utf8_lossy(bytes)) {
        let again = ServiceDefinition::parse(&read.to_json());
        assert_eq!(
            again.map(|again| again.to_json()).ok(),
            Some(read.to_json())
        );
    }
}

/// A deployment policy likewise.
///
/// # Panics
/// Where it is not.
pub fn policy(bytes: &[u8]) {
    if let Ok(read) = DeploymentPolicy::parse(&String::from_utf8_lossy(bytes)) {
        let again = DeploymentPolicy::parse(&read.to_json());
        assert_eq!(
            again.map(|again| again.to_json()).ok(),
            Some(read.to_json())
        );
    }
}

/// A pattern likewise.
///
/// # Panics
/// Where it is not.
pub fn pattern(bytes: &[u8]) {
    if let Ok(read) = Pattern::parse(&String::from_utf8_lossy(bytes)) {
        let again = Pattern::parse(&read.to_json());
        assert_eq!(
            again.map(|again| again.to_json()).ok(),
            Some(read.to_json())
        );
    }
}

/// A node policy in either form.
pub fn node_policy(bytes: &[u8]) {
    check_node_policy(&String::from_utf8_lossy(bytes)).ok();
}

/// YAML or JSON: what is read of it is read again from its JSON.
///
/// # Panics
/// Where it is not.
pub fn document(bytes: &[u8]) {
    if let Ok(read) = read_document(&String::from_utf8_lossy(bytes)) {
        assert_eq!(read_document(&read.to_string()).ok(), Some(read));
    }
}

/// A constraint is evaluated whatever the properties are, and explains what it says.
pub fn constraint(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(constraint) = Constraint::parse(&text) {
        let nothing = super::property::PropertySet::default();
        constraint.holds(&nothing);
        constraint.explained(&nothing);
    }
}

/// A version and a range are read again as they are shown.
///
/// # Panics
/// Where they are not.
pub fn version_range(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(version) = text.parse::<Version>() {
        assert_eq!(version.to_string().parse(), Ok(version));
    }
    if let Ok(range) = text.parse::<VersionRange>() {
        assert_eq!(range.to_string().parse(), Ok(range));
    }
}
