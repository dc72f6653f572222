//! Definitions and policies in Open Horizon's schema.

use serde_json::{Map, Value, json};

use crate::ORG;

/// What a container declares: a secret's name and its format.
pub type Declared<'a> = (&'a str, Option<&'a str>);

/// A service definition with these containers.
#[must_use]
pub fn service(url: &str, version: &str, containers: &[(&str, &[Declared<'_>])]) -> Value {
    let mut services = Map::new();
    for (container, secrets) in containers {
        let mut declared = Map::new();
        for (name, format) in *secrets {
            let secret = match format {
                Some(format) => json!({ "description": "", "format": format }),
                None => json!({}),
            };
            declared.insert((*name).to_owned(), secret);
        }
        let image = format!("registry.example/{container}:{version}");
        services.insert(
            (*container).to_owned(),
            json!({ "image": image, "secrets": declared }),
        );
    }
    json!({
        "org": ORG, "label": url, "description": "", "public": false, "documentation": "",
        "url": url, "version": version, "arch": "*", "sharable": "multiple",
        "requiredServices": [], "userInput": [],
        "deployment": { "services": services }, "deploymentSignature": "",
        "clusterDeployment": "", "clusterDeploymentSignature": "",
    })
}

/// A service with one container, `main`, that reads these secrets as raw bytes.
#[must_use]
pub fn plain_service(url: &str, names: &[&str]) -> Value {
    let declared: Vec<Declared<'_>> = names
        .iter()
        .map(|name| (*name, Some("value_only")))
        .collect();
    service(url, "1.0.0", &[("main", &declared)])
}

/// A policy that deploys the service, in every version, where the constraints hold.
#[must_use]
pub fn policy(url: &str, constraints: &[&str], bindings: &[(&str, &str)]) -> Value {
    let secrets: Vec<Value> = bindings
        .iter()
        .map(|(name, to)| json!({ *name: *to }))
        .collect();
    json!({
        "label": url, "description": "",
        "service": { "name": url, "org": ORG, "arch": "*",
            "serviceVersions": [{ "version": "1.0.0", "priority": {} }],
            "nodeHealth": { "missing_heartbeat_interval": 600, "check_agreement_status": 120 } },
        "properties": [], "constraints": constraints, "userInput": [],
        "secretBinding": [{ "serviceOrgid": ORG, "serviceUrl": url, "serviceArch": "*",
            "serviceVersionRange": "[1.0.0,INFINITY)", "secrets": secrets }],
    })
}
