//! The fields that documents of Open Horizon have, and what stands in them.
//!
//! Open Horizon ignores fields that it does not know, and so does the hub: documents of tomorrow and
//! other people's notes are no faults, and are kept; whoever publishes them is told. But a field that is
//! nearly one that is known was meant to be it: nothing is published with such a slip. Of the known ones
//! also those that do not matter here must hold what they are for.

use serde_json::Value;

use super::document::{self, Fault};
use super::field::Field;
use super::nearest::nearest;

/// What may stand at a place.
#[derive(Debug)]
enum Shape {
    /// Anything; its reader, if it has one, says what.
    Any,
    Text,
    Flag,
    /// A whole number from 0, not above what 31 bits hold.
    Count,
    /// A map with these fields.
    Map(&'static [(&'static str, Self)]),
    /// A map with these fields and others, of which nothing is said but where one is nearly this one.
    Loose(&'static str, &'static [(&'static str, Self)]),
    List(&'static Self),
    /// A map with any keys.
    Named(&'static Self),
    /// A map, or its JSON as a text.
    Opened(&'static Self),
}

/// The fields of a document that are not known.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    /// Those that are nearly known ones.
    pub(super) slips: Vec<Fault>,
    /// Those that are nothing like it.
    pub(super) others: Vec<Fault>,
}

/// Checks a service definition, and gives what of it is not known.
pub(super) fn check_service(root: &Field<'_>) -> Result<Strangers, Fault> {
    check(root, &SERVICE)
}

/// The same for a deployment policy.
pub(super) fn check_policy(root: &Field<'_>) -> Result<Strangers, Fault> {
    check(root, &POLICY)
}

/// The same for a pattern.
pub(super) fn check_pattern(root: &Field<'_>) -> Result<Strangers, Fault> {
    check(root, &PATTERN)
}

/// The same for a service's own policy.
pub(super) fn check_service_policy(root: &Field<'_>) -> Result<Strangers, Fault> {
    check(root, &OWN_POLICY)
}

/// The same for a node's policy.
pub(super) fn check_node_policy(root: &Field<'_>) -> Result<Strangers, Fault> {
    check(root, &NODE_POLICY)
}

fn check(root: &Field<'_>, shape: &Shape) -> Result<Strangers, Fault> {
    let mut strangers = Strangers::default();
    walk(root, shape, &mut strangers)?;
    strangers.slips.truncate(MAX_TOLD);
    strangers.others.truncate(MAX_TOLD);
    Ok(strangers)
}

// Recursion is as deep as the shapes below.
fn walk(field: &Field<'_>, shape: &Shape, strangers: &mut Strangers) -> Result<(), Fault> {
    let value = field.value();
    match shape {
        Shape::Any => Ok(()),
        _ if value.is_null() => Ok(()),
        Shape::Text => field.text().map(drop),
        Shape::Flag => match value {
            Value::Bool(_) => Ok(()),
            _ => Err(field.expected("`true` or `false`")),
        },
        Shape::Count => match value.as_u64().is_some_and(|count| count <= MAX_COUNT) {
            true => Ok(()),
            false => Err(field.expected(&format!("a whole number from 0 to {MAX_COUNT}"))),
        },
        Shape::Map(known) => {
            for (key, child) in field.entries()? {
                match known.iter().find(|(name, _)| *name == key) {
                    Some((_, shape)) => walk(&child, shape, strangers)?,
                    None => note(field, key, &child, known, strangers),
                }
            }
            Ok(())
        }
        Shape::Loose(meant, known) => {
            for (key, child) in field.entries()? {
                match known.iter().find(|(name, _)| *name == key) {
                    Some((_, shape)) => walk(&child, shape, strangers)?,
                    None if nearest(key, [*meant]).is_some() => {
                        note(field, key, &child, known, strangers);
                    }
                    None => {}
                }
            }
            Ok(())
        }
        Shape::List(shape) => {
            // Where one may stand for a list of one, its reader has said so.
            for item in field.items()? {
                walk(&item, shape, strangers)?;
            }
            Ok(())
        }
        Shape::Named(shape) => {
            for (_, child) in field.entries()? {
                walk(&child, shape, strangers)?;
            }
            Ok(())
        }
        Shape::Opened(shape) => match value {
            Value::String(text) if text.trim().is_empty() => Ok(()),
            Value::String(text) => match document::read(text) {
                Ok(inner) => walk(&Field::at(&inner, field.steps().to_vec()), shape, strangers),
                // Its reader says it better.
                Err(_) => Ok(()),
            },
            _ => walk(field, shape, strangers),
        },
    }
}

/// Puts down an unknown field: as a slip where it is nearly a known one, which is not there itself, or a
/// known one but for the case of its letters: readers that do not look at that would take either.
fn note(
    map: &Field<'_>,
    key: &str,
    child: &Field<'_>,
    known: &'static [(&'static str, Shape)],
    strangers: &mut Strangers,
) {
    let absent = known.iter().map(|(name, _)| *name);
    let absent = absent.filter(|name| map.value().get(name).is_none_or(Value::is_null));
    let mut names = known.iter().map(|(name, _)| *name);
    let same = names.find(|name| name.eq_ignore_ascii_case(key));
    match same.or_else(|| nearest(key, absent)) {
        Some(meant) => {
            let reason = format!("is no field that is known; did you mean `{meant}`?");
            strangers.slips.push(child.refuse(reason));
        }
        None => {
            let reason = "is no field that is known, and has no effect here";
            strangers.others.push(child.refuse(reason));
        }
    }
}

const SERVICE: Shape = Shape::Map(&[
    ("org", Shape::Text),
    ("owner", Shape::Text),
    ("label", Shape::Text),
    ("description", Shape::Text),
    ("public", Shape::Flag),
    ("documentation", Shape::Text),
    ("url", Shape::Text),
    ("version", Shape::Any),
    ("arch", Shape::Text),
    ("sharable", Shape::Text),
    ("matchHardware", Shape::Any),
    (
        "requiredServices",
        Shape::List(&Shape::Map(&[
            ("url", Shape::Text),
            ("org", Shape::Text),
            ("version", Shape::Any),
            ("versionRange", Shape::Any),
            ("arch", Shape::Text),
        ])),
    ),
    (
        "userInput",
        Shape::List(&Shape::Map(&[
            ("name", Shape::Text),
            ("label", Shape::Text),
            ("type", Shape::Text),
            ("defaultValue", Shape::Any),
        ])),
    ),
    ("deployment", Shape::Opened(&DEPLOYMENT)),
    ("deploymentSignature", Shape::Text),
    (
        "clusterDeployment",
        Shape::Opened(&Shape::Map(&[
            ("metadata", Shape::Any),
            ("operatorYamlArchive", Shape::Any),
            ("secrets", Shape::Any),
            ("mmspvc", Shape::Any),
        ])),
    ),
    ("clusterDeploymentSignature", Shape::Text),
    ("imageStore", Shape::Any),
    ("lastUpdated", Shape::Any),
    ("servicePolicy", OWN_POLICY),
]);

const DEPLOYMENT: Shape = Shape::Map(&[
    (
        "services",
        // Containers have more than is of interest here.
        Shape::Named(&Shape::Loose(
            "secrets",
            &[
                ("image", Shape::Text),
                ("privileged", Shape::Flag),
                ("network", Shape::Text),
                (
                    "secrets",
                    Shape::Named(&Shape::Map(&[
                        ("description", Shape::Text),
                        ("format", Shape::Text),
                        ("optional", Shape::Flag),
                        ("mode", Shape::Any),
                        ("svcOrg", Shape::Any),
                        ("svcUrl", Shape::Any),
                        ("svcVersionRange", Shape::Any),
                    ])),
                ),
            ],
        )),
    ),
    ("service_pattern", Shape::Any),
    ("infrastructure", Shape::Any),
    ("overrides", Shape::Any),
]);

const POLICY: Shape = Shape::Map(&[
    ("owner", Shape::Text),
    ("label", Shape::Text),
    ("description", Shape::Text),
    (
        "service",
        Shape::Map(&[
            ("name", Shape::Text),
            ("org", Shape::Text),
            ("arch", Shape::Text),
            ("clusterNamespace", Shape::Text),
            ("serviceVersions", Shape::List(&VERSION)),
            ("nodeHealth", NODE_HEALTH),
        ]),
    ),
    ("properties", Shape::List(&PROPERTY)),
    ("constraints", Shape::Any),
    ("userInput", Shape::List(&TOLD)),
    ("secretBinding", Shape::List(&BINDING)),
    ("created", Shape::Any),
    ("lastUpdated", Shape::Any),
]);

const PATTERN: Shape = Shape::Map(&[
    ("name", Shape::Text),
    ("org", Shape::Text),
    ("owner", Shape::Text),
    ("label", Shape::Text),
    ("description", Shape::Text),
    ("public", Shape::Flag),
    (
        "services",
        Shape::List(&Shape::Map(&[
            ("serviceUrl", Shape::Text),
            ("serviceOrgid", Shape::Text),
            ("serviceArch", Shape::Text),
            ("agreementLess", Shape::Flag),
            ("serviceVersions", Shape::List(&VERSION)),
            (
                "dataVerification",
                Shape::Map(&[
                    ("enabled", Shape::Flag),
                    ("URL", Shape::Text),
                    ("user", Shape::Text),
                    ("password", Shape::Text),
                    ("interval", Shape::Count),
                    ("check_rate", Shape::Count),
                    ("metering", Shape::Any),
                ]),
            ),
            ("nodeHealth", NODE_HEALTH),
        ])),
    ),
    ("clusterNamespace", Shape::Text),
    (
        "agreementProtocols",
        Shape::List(&Shape::Map(&[
            ("name", Shape::Text),
            ("protocolVersion", Shape::Any),
            ("blockchains", Shape::Any),
        ])),
    ),
    ("userInput", Shape::List(&TOLD)),
    ("secretBinding", Shape::List(&BINDING)),
    ("lastUpdated", Shape::Any),
]);

const VERSION: Shape = Shape::Map(&[
    ("version", Shape::Any),
    (
        "priority",
        Shape::Map(&[
            ("priority_value", Shape::Count),
            ("retries", Shape::Count),
            ("retry_durations", Shape::Count),
            ("verified_durations", Shape::Count),
        ]),
    ),
    (
        "upgradePolicy",
        Shape::Map(&[("lifecycle", Shape::Text), ("time", Shape::Text)]),
    ),
    ("deployment_overrides", Shape::Any),
    ("deployment_overrides_signature", Shape::Text),
]);

const NODE_HEALTH: Shape = Shape::Map(&[
    ("missing_heartbeat_interval", Shape::Count),
    ("check_agreement_status", Shape::Count),
]);

const TOLD: Shape = Shape::Map(&[
    ("serviceOrgid", Shape::Text),
    ("serviceUrl", Shape::Text),
    ("serviceArch", Shape::Text),
    ("serviceVersionRange", Shape::Any),
    (
        "inputs",
        Shape::List(&Shape::Map(&[("name", Shape::Text), ("value", Shape::Any)])),
    ),
]);

const BINDING: Shape = Shape::Map(&[
    ("serviceOrgid", Shape::Text),
    ("serviceUrl", Shape::Text),
    ("serviceArch", Shape::Text),
    ("serviceVersionRange", Shape::Any),
    ("enableNodeLevelSecrets", Shape::Flag),
    // Its reader has more to say of it.
    ("allowNodeLevelSecrets", Shape::Any),
    ("secrets", Shape::Any),
]);

const PROPERTY: Shape = Shape::Map(&[
    ("name", Shape::Text),
    ("value", Shape::Any),
    ("type", Shape::Text),
]);

const OWN_POLICY: Shape = Shape::Map(&[
    ("label", Shape::Text),
    ("description", Shape::Text),
    ("properties", Shape::List(&PROPERTY)),
    ("constraints", Shape::Any),
    ("lastUpdated", Shape::Any),
]);

const SECTION: Shape = Shape::Map(&[
    ("properties", Shape::List(&PROPERTY)),
    ("constraints", Shape::Any),
]);

const NODE_POLICY: Shape = Shape::Map(&[
    ("label", Shape::Text),
    ("description", Shape::Text),
    ("properties", Shape::List(&PROPERTY)),
    ("constraints", Shape::Any),
    ("deployment", SECTION),
    ("management", SECTION),
    ("lastUpdated", Shape::Any),
]);

const MAX_COUNT: u64 = i32::MAX as u64;
/// Somebody who reads so many goes and looks.
const MAX_TOLD: usize = 32;

#[cfg(test)]
mod tests;
