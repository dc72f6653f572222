//! The deployments of a service definition: which containers read which secrets.

use std::collections::BTreeMap;

use edge_secrets_protocol::binding::{Consumer, ConsumerSecret, FileMode, Format};
use edge_secrets_protocol::{NameError, SecretName};
use serde_json::Value;

use super::super::document::{self, Fault};
use super::super::field::Field;

/// What runs on a machine.
#[derive(Default)]
pub(super) struct Device {
    pub(super) is_there: bool,
    /// The containers that declare secrets, sorted by name, as are their secrets.
    pub(super) consumers: Vec<Consumer>,
    /// The secrets that every container that declares them can do without. Sorted.
    pub(super) optional: Vec<SecretName>,
    /// Whether a container has the host's privileges or its network.
    pub(super) privileged: bool,
}

/// What runs on a cluster.
#[derive(Default)]
pub(super) struct Cluster {
    pub(super) is_there: bool,
    /// The secrets that it declares.
    pub(super) secrets: Vec<String>,
}

/// Reads `deployment`.
pub(super) fn read(deployment: Option<Field<'_>>) -> Result<Device, Fault> {
    opened(deployment, read_device)
}

/// Reads `clusterDeployment`.
pub(super) fn read_cluster(deployment: Option<Field<'_>>) -> Result<Cluster, Fault> {
    opened(deployment, read_cluster_deployment)
}

/// Open Horizon signs deployments as strings, so one can be the object or its JSON.
fn opened<T: Default>(
    field: Option<Field<'_>>,
    read: impl FnOnce(&Field<'_>) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let Some(field) = field else {
        return Ok(T::default());
    };
    match field.value() {
        Value::String(text) if text.trim().is_empty() => Ok(T::default()),
        Value::String(text) => {
            let inner = document::read(text).map_err(|error| {
                field.refuse(format!("expected the text of a JSON object: {error}"))
            })?;
            read(&Field::at(&inner, field.steps().to_vec()))
        }
        _ => read(&field),
    }
}

fn read_device(deployment: &Field<'_>) -> Result<Device, Fault> {
    let mut device = Device::default();
    let Some(services) = deployment.get("services")? else {
        return Ok(device);
    };
    let mut consumers = BTreeMap::new();
    let mut needless: BTreeMap<SecretName, bool> = BTreeMap::new();
    for (container, field) in services.entries()? {
        device.is_there = true;
        let network = field.text_or_empty("network")?;
        device.privileged |= field.flag("privileged")? || network == "host";
        let Some(secrets) = field.get("secrets")? else {
            continue;
        };
        let mut declared = BTreeMap::new();
        for (secret, declaration) in secrets.entries()? {
            let refused = |error: NameError| declaration.refuse(error.to_string());
            let name: SecretName = secret.parse().map_err(refused)?;
            let (optional, secret) = read_secret(name, &declaration)?;
            *needless.entry(secret.name.clone()).or_insert(true) &= optional;
            declared.insert(secret.name.clone(), secret);
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
    device.consumers = consumers.into_values().collect();
    needless.retain(|_, needless| *needless);
    device.optional = needless.into_keys().collect();
    Ok(device)
}

/// Its keys are the secrets' names, each with whatever an operator of the cluster makes of it.
fn read_cluster_deployment(deployment: &Field<'_>) -> Result<Cluster, Fault> {
    let is_there = deployment
        .value()
        .as_object()
        .is_some_and(|map| !map.is_empty());
    let mut secrets = Vec::new();
    if let Some(declared) = deployment.get("secrets")? {
        for (secret, field) in declared.entries()? {
            let refused = |error: NameError| field.refuse(error.to_string());
            secrets.push(secret.parse::<SecretName>().map_err(refused)?.to_string());
        }
    }
    Ok(Cluster { is_there, secrets })
}

/// How a container reads a secret, and whether it can do without. `optional` and `mode` are ours: without
/// them a declaration means what it means to Open Horizon.
fn read_secret(name: SecretName, declaration: &Field<'_>) -> Result<(bool, ConsumerSecret), Fault> {
    if declaration.value().is_null() {
        let (format, mode) = (Format::Json, None);
        return Ok((false, ConsumerSecret { name, format, mode }));
    }
    let mode = declaration.get("mode")?;
    let secret = ConsumerSecret {
        format: read_format(declaration)?,
        mode: mode.map(|mode| mode.parse::<FileMode>()).transpose()?,
        name,
    };
    Ok((declaration.flag("optional")?, secret))
}

fn read_format(declaration: &Field<'_>) -> Result<Format, Fault> {
    match declaration.get("format")? {
        None => Ok(Format::Json),
        Some(format) if format.value() == "" => Ok(Format::Json),
        Some(format) => match format.word(&["value_only", "json"])? {
            "value_only" => Ok(Format::ValueOnly),
            _ => Ok(Format::Json),
        },
    }
}

const MAX_CONSUMERS: usize = 128;
