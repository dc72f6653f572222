//! The variables that Open Horizon sets for a service, as far as they are known and true here. One line
//! each and nothing to quote, so that every engine reads the file in the same way.

use std::collections::BTreeMap;
use std::fmt::Write;

use edge_secrets_protocol::node::Property;
use edge_secrets_protocol::{NodeId, OrgId, Source};

use crate::delivery::Origin;

/// Where a container finds what it mounts.
pub(crate) const SECRETS_MOUNT: &str = "/open-horizon-secrets";
pub(crate) const AUTH_MOUNT: &str = "/ess-auth";
pub(crate) const CERT_MOUNT: &str = "/ess-cert";
/// Where Open Horizon's own agent has its socket, and documentation names it.
pub(crate) const SOCKET_MOUNT: &str = "/var/run/horizon";

/// The file that `--env-file` takes.
pub(super) fn text(org: &OrgId, node: &NodeId, origin: &Origin, measured: &[Property]) -> String {
    // Empty and not absent on a node with policies, as the original has it.
    let pattern = match &origin.policy {
        Source::Pattern(id) => id.to_string(),
        Source::Policy(_) => String::new(),
    };
    let mut variables: BTreeMap<&str, String> = [
        ("HZN_AGREEMENTID", origin.deployment.to_string()),
        ("HZN_DEVICE_ID", node.to_string()),
        ("HZN_NODE_ID", node.to_string()),
        ("HZN_ORGANIZATION", org.to_string()),
        ("HZN_PATTERN", pattern),
        ("HZN_ESS_API_PROTOCOL", "secure-unix".to_owned()),
        (
            "HZN_ESS_API_ADDRESS",
            format!("{SOCKET_MOUNT}/{}", crate::delivery::DOOR_SOCKET),
        ),
        ("HZN_ESS_API_PORT", "0".to_owned()),
        ("HZN_ESS_AUTH", format!("{AUTH_MOUNT}/{AUTH_FILE}")),
        ("HZN_ESS_CERT", format!("{CERT_MOUNT}/{CERT_FILE}")),
    ]
    .into();
    for (variable, property) in [
        ("HZN_ARCH", "openhorizon.arch"),
        ("HZN_CPUS", "openhorizon.cpu"),
        ("HZN_HARDWAREID", "openhorizon.hardwareId"),
    ] {
        let found = measured.iter().find(|found| found.name == property);
        let value = found.map(|found| match &found.value {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        // A serial number may be anything; what some engine would have to unquote is left out.
        variables.extend(
            value
                .filter(|value| is_plain(value))
                .map(|value| (variable, value)),
        );
    }
    let mut text = String::new();
    for (name, value) in variables {
        // Writing into a String does not fail.
        writeln!(text, "{name}={value}").ok();
    }
    text
}

fn is_plain(value: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._:/-".contains(c);
    !value.is_empty() && value.chars().all(plain)
}

pub(crate) const AUTH_FILE: &str = "auth.json";
pub(crate) const CERT_FILE: &str = "cert.pem";
pub(crate) const ENV_FILE: &str = "env";

#[cfg(test)]
mod tests {
    use super::*;

    fn property(name: &str, value: impl Into<serde_json::Value>) -> Property {
        Property {
            name: name.into(),
            value: value.into(),
            kind: None,
        }
    }

    fn of(policy: &str) -> Origin {
        Origin {
            deployment: "d-1".parse().unwrap(),
            policy: policy.parse().unwrap(),
            service_version: "1.0.0".into(),
        }
    }

    #[test]
    fn what_is_known_is_told_and_nothing_needs_quotes() {
        let measured = [
            property("openhorizon.arch", "arm64"),
            property("openhorizon.cpu", 4),
            property("openhorizon.hardwareId", "To be filled by $O.E.M."),
        ];
        let (org, node) = ("myorg".parse().unwrap(), "edge-01".parse().unwrap());
        for (policy, pattern) in [("uplink", ""), ("pattern:acme/edge", "acme/edge")] {
            assert_eq!(
                text(&org, &node, &of(policy), &measured),
                format!(
                    "HZN_AGREEMENTID=d-1\nHZN_ARCH=arm64\nHZN_CPUS=4\nHZN_DEVICE_ID=edge-01\n\
                     HZN_ESS_API_ADDRESS=/var/run/horizon/essapi.sock\nHZN_ESS_API_PORT=0\n\
                     HZN_ESS_API_PROTOCOL=secure-unix\nHZN_ESS_AUTH=/ess-auth/auth.json\n\
                     HZN_ESS_CERT=/ess-cert/cert.pem\nHZN_NODE_ID=edge-01\nHZN_ORGANIZATION=myorg\n\
                     HZN_PATTERN={pattern}\n"
                )
            );
        }
    }
}
