//! Service definitions.

use std::collections::BTreeMap;

use edge_secrets_protocol::binding::{Consumer, ConsumerSecret, Format};
use edge_secrets_protocol::{NameError, SecretName, ServiceId, ServiceUrl};
use serde_json::Value;

use super::DocumentError;
use super::arch::Arch;
use super::document::{self, Fault};
use super::field::Field;
use super::property::{PropertySet, PropertyValue};
use super::version::Version;

/// A service definition in Open Horizon's schema.
#[derive(Debug, Clone)]
pub struct ServiceDefinition {
    id: ServiceId,
    version_text: String,
    version: Version,
    arch: Arch,
    consumers: Vec<Consumer>,
    secret_names: Vec<SecretName>,
    built_in: PropertySet,
    json: String,
}

impl ServiceDefinition {
    /// Reads a definition, JSON (when it starts with `{`) or YAML, of at most 1 MiB. Fields of Open
    /// Horizon that do not matter here are kept.
    ///
    /// # Errors
    /// The first fault, with its place.
    pub fn parse(text: &str) -> Result<Self, DocumentError> {
        let root = document::read(text)?;
        let json = document::write(&root)?;
        Self::read(&Field::root(&root), json).map_err(|fault| fault.in_text(text))
    }

    /// The service.
    #[must_use]
    pub fn id(&self) -> &ServiceId {
        &self.id
    }

    /// The version, as written.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version_text
    }

    /// The architecture, as written.
    #[must_use]
    pub fn arch(&self) -> &str {
        self.arch.as_str()
    }

    /// The names of all declared secrets, once each, sorted.
    #[must_use]
    pub fn secret_names(&self) -> Vec<SecretName> {
        self.secret_names.clone()
    }

    /// The containers that declare secrets, sorted by name, as are their secrets.
    #[must_use]
    pub fn consumers(&self) -> &[Consumer] {
        &self.consumers
    }

    /// The whole document as JSON, unknown fields included; `parse` reads it again.
    #[must_use]
    pub fn to_json(&self) -> String {
        self.json.clone()
    }

    pub(super) fn declared(&self) -> &[SecretName] {
        &self.secret_names
    }

    pub(super) fn parsed_version(&self) -> &Version {
        &self.version
    }

    pub(super) fn parsed_arch(&self) -> &Arch {
        &self.arch
    }

    /// `openhorizon.service.*`
    pub(super) fn built_in(&self) -> &PropertySet {
        &self.built_in
    }

    fn read(root: &Field<'_>, json: String) -> Result<Self, Fault> {
        let id = ServiceId {
            org: root.require("org")?.parse()?,
            url: root.require("url")?.parse::<ServiceUrl>()?,
        };
        let version_field = root.require("version")?;
        let version: Version = version_field.parse()?;
        let version_text = version_field.text()?.to_owned();
        let arch = Arch::new(root.text_or_empty("arch")?);
        let consumers = match root.get("deployment")? {
            Some(deployment) => read_deployment(&deployment)?,
            None => Vec::new(),
        };
        let names = consumers.iter().flat_map(|consumer| &consumer.secrets);
        let mut secret_names: Vec<_> = names.map(|secret| secret.name.clone()).collect();
        secret_names.sort_unstable();
        secret_names.dedup();
        if secret_names.len() > MAX_SECRETS {
            let reason = format!(
                "declares {} secrets, more than {MAX_SECRETS}",
                secret_names.len()
            );
            return Err(root.require("deployment")?.refuse(reason));
        }
        Ok(Self {
            built_in: built_in(&id, &version, &arch),
            id,
            version_text,
            version,
            arch,
            consumers,
            secret_names,
            json,
        })
    }
}

fn built_in(id: &ServiceId, version: &Version, arch: &Arch) -> PropertySet {
    let text = |name: &str, value: &str| (name.to_owned(), PropertyValue::text(value));
    PropertySet::new([
        text("openhorizon.service.url", id.url.as_str()),
        text("openhorizon.service.name", id.url.as_str()),
        text("openhorizon.service.org", id.org.as_str()),
        text("openhorizon.service.arch", arch.as_str()),
        (
            "openhorizon.service.version".to_owned(),
            PropertyValue::Version(version.clone()),
        ),
    ])
}

/// Open Horizon signs `deployment` as a string, so it can be the object or its JSON.
fn read_deployment(deployment: &Field<'_>) -> Result<Vec<Consumer>, Fault> {
    match deployment.value() {
        Value::String(text) if text.trim().is_empty() => Ok(Vec::new()),
        Value::String(text) => {
            let inner = document::read(text).map_err(|error| {
                deployment.refuse(format!("expected the text of a JSON object: {error}"))
            })?;
            read_consumers(&Field::at(&inner, deployment.steps().to_vec()))
        }
        _ => read_consumers(deployment),
    }
}

fn read_consumers(deployment: &Field<'_>) -> Result<Vec<Consumer>, Fault> {
    let Some(services) = deployment.get("services")? else {
        return Ok(Vec::new());
    };
    let mut consumers = BTreeMap::new();
    for (container, field) in services.entries()? {
        let Some(secrets) = field.get("secrets")? else {
            continue;
        };
        let mut declared = BTreeMap::new();
        for (secret, declaration) in secrets.entries()? {
            let refused = |error: NameError| declaration.refuse(error.to_string());
            let name: SecretName = secret.parse().map_err(refused)?;
            let format = read_format(&declaration)?;
            declared.insert(name.clone(), ConsumerSecret { name, format });
        }
        if declared.is_empty() {
            continue;
        }
        let refused = |error: NameError| field.refuse(error.to_string());
        let consumer = Consumer {
            name: container.parse().map_err(refused)?,
            secrets: declared.into_values().collect(),
        };
        consumers.insert(consumer.name.clone(), consumer);
    }
    if consumers.len() > MAX_CONSUMERS {
        let reason = format!(
            "has {} containers, more than {MAX_CONSUMERS}",
            consumers.len()
        );
        return Err(services.refuse(reason));
    }
    Ok(consumers.into_values().collect())
}

fn read_format(declaration: &Field<'_>) -> Result<Format, Fault> {
    if declaration.value().is_null() {
        return Ok(Format::Json);
    }
    match declaration.get("format")? {
        None => Ok(Format::Json),
        Some(format) if format.value() == "" => Ok(Format::Json),
        Some(format) => match format.word(&["value_only", "json"])? {
            "value_only" => Ok(Format::ValueOnly),
            _ => Ok(Format::Json),
        },
    }
}

const MAX_SECRETS: usize = 512;
const MAX_CONSUMERS: usize = 128;

#[cfg(test)]
pub(super) mod tests;
