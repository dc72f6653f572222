//! Service definitions.

mod containers;

use edge_secrets_protocol::binding::Consumer;
use edge_secrets_protocol::{OrgId, SecretName, ServiceId, ServiceUrl};
use serde_json::Value;

use super::DocumentError;
use super::arch::Arch;
use super::document::{self, Fault};
use super::field::Field;
use super::node::ALLOW_PRIVILEGED;
use super::property::{PropertySet, PropertyValue};
use super::requirement::{Kind, Requirement, Sharable};
use super::service_policy::ServicePolicy;
use super::version::Version;
use super::{schema, user_input};

/// A service definition in Open Horizon's schema.
#[derive(Debug, Clone)]
pub struct ServiceDefinition {
    id: ServiceId,
    version_text: String,
    version: Version,
    arch: Arch,
    sharable: Sharable,
    kind: Kind,
    requirements: Vec<Requirement>,
    privileged: bool,
    /// As written: a stored definition with something odd here goes on being deployed.
    public: Option<Value>,
    consumers: Vec<Consumer>,
    secret_names: Vec<SecretName>,
    /// Those of them without which it runs. Sorted.
    optional: Vec<SecretName>,
    cluster_secrets: Vec<String>,
    built_in: PropertySet,
    policy: ServicePolicy,
    /// The inputs that somebody must give it.
    inputs: Vec<String>,
    /// Fields that are nearly known ones.
    slips: Vec<DocumentError>,
    /// Fields that are not known.
    strangers: Vec<DocumentError>,
    json: String,
}

impl ServiceDefinition {
    /// Reads a definition, JSON (when it starts with `{`) or YAML, of at most 1 MiB. Fields of Open
    /// Horizon that do not matter here are kept.
    ///
    /// # Errors
    /// The first fault, with its place.
    pub fn parse(text: &str) -> Result<Self, DocumentError> {
        Self::parse_root(text, document::read(text)?)
    }

    /// The same for a document that may leave its organisation out, as files of Open Horizon do: it is
    /// then `org`'s.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_for(text: &str, org: &OrgId) -> Result<Self, DocumentError> {
        let mut root = document::read(text)?;
        if let Value::Object(entries) = &mut root {
            let own = entries.entry("org").or_insert(Value::Null);
            if own.is_null() || own == "" {
                *own = org.as_str().into();
            }
        }
        Self::parse_root(text, root)
    }

    fn parse_root(text: &str, root: Value) -> Result<Self, DocumentError> {
        let json = document::write(&root)?;
        let field = Field::root(&root);
        let in_text = |fault: Fault| fault.in_text(text);
        let mut definition = Self::read(&field, json).map_err(in_text)?;
        let strangers = schema::check_service(&field).map_err(in_text)?;
        definition.slips = strangers.slips.into_iter().map(in_text).collect();
        definition.strangers = strangers.others.into_iter().map(in_text).collect();
        Ok(definition)
    }

    /// The same definition with this policy of its own, JSON or YAML in Open Horizon's schema, or with
    /// none.
    ///
    /// # Errors
    /// The first fault, with its place in the policy.
    pub fn with_policy(&self, text: Option<&str>) -> Result<Self, DocumentError> {
        let policy = text.map(document::read).transpose()?;
        if let (Some(text), Some(policy)) = (text, &policy) {
            let field = Field::root(policy);
            let in_text = |fault: Fault| fault.in_text(text);
            ServicePolicy::read(Some(&field), self.privileged).map_err(in_text)?;
            let strangers = schema::check_service_policy(&field).map_err(in_text)?;
            if let Some(slip) = strangers.slips.into_iter().next() {
                return Err(in_text(slip));
            }
        }
        let mut root = document::read(&self.json)?;
        if let Value::Object(entries) = &mut root {
            match policy {
                Some(policy) => entries.insert(OWN_POLICY.to_owned(), policy),
                None => entries.remove(OWN_POLICY),
            };
        }
        let text = document::write(&root)?;
        Self::parse_root(&text, root)
    }

    /// The service's own policy as JSON, where it has one.
    #[must_use]
    pub fn policy_json(&self) -> Option<String> {
        let root: Value = serde_json::from_str(&self.json).ok()?;
        let policy = root.get(OWN_POLICY).filter(|policy| !policy.is_null());
        policy.map(Value::to_string)
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

    /// Whether other organisations may deploy it.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.public == Some(Value::Bool(true))
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

    /// The first of its fields that is nearly a known one, which it was meant to be: such a definition is
    /// not published.
    #[must_use]
    pub fn slip(&self) -> Option<&DocumentError> {
        self.slips.first()
    }

    /// What whoever publishes it should know of parts that have no effect on nodes like ours.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let mut notes: Vec<_> = self.strangers.iter().map(ToString::to_string).collect();
        if self.kind == Kind::Cluster {
            notes.push(format!(
                "{} {} has a clusterDeployment alone: it is for cluster nodes and is placed on none of \
                 the machines that an agent of ours runs on",
                self.id, self.version_text
            ));
        }
        if let Some(odd) = self.public.as_ref().filter(|public| !public.is_boolean()) {
            notes.push(format!(
                "public: expected `true` or `false`, found {odd}: it is not public"
            ));
        }
        if !self.cluster_secrets.is_empty() {
            notes.push(format!(
                "clusterDeployment.secrets: [{}] are understood, and not for this kind of node",
                self.cluster_secrets.join(", ")
            ));
        }
        notes
    }

    /// The services that it requires itself, in the order in which they are written.
    pub fn required(&self) -> impl Iterator<Item = &ServiceId> {
        self.requirements.iter().map(|required| &required.service)
    }

    pub(super) fn declared(&self) -> &[SecretName] {
        &self.secret_names
    }

    /// Whether it runs without this secret: every container that declares it says so.
    pub(super) fn is_optional(&self, name: &SecretName) -> bool {
        self.optional.binary_search(name).is_ok()
    }

    pub(super) fn parsed_version(&self) -> &Version {
        &self.version
    }

    pub(super) fn parsed_arch(&self) -> &Arch {
        &self.arch
    }

    pub(super) fn sharable(&self) -> Sharable {
        self.sharable
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether it is only for nodes that allow it: a container of its own is privileged or in the host's
    /// network, or its policy says so.
    pub(super) fn is_privileged(&self) -> bool {
        self.policy.is_privileged()
    }

    /// Its own policy.
    pub(super) fn policy(&self) -> &ServicePolicy {
        &self.policy
    }

    /// The inputs that have no default.
    pub(super) fn wanted_inputs(&self) -> &[String] {
        &self.inputs
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
        let device = containers::read(root.get("deployment")?)?;
        let cluster = containers::read_cluster(root.get("clusterDeployment")?)?;
        let requirements = Requirement::read_all(&root.list("requiredServices")?)?;
        if let Some(own) = requirements.iter().find(|required| required.service == id) {
            let field = root.require("requiredServices")?;
            return Err(field.refuse(format!("[{}] requires the service itself", own.index)));
        }
        let consumers = device.consumers;
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
            built_in: built_in(&id, &version, &arch, device.privileged),
            policy: ServicePolicy::read(root.get(OWN_POLICY)?.as_ref(), device.privileged)?,
            inputs: user_input::read_wanted(&root.list("userInput")?)?,
            slips: Vec::new(),
            strangers: Vec::new(),
            sharable: Sharable::read(root)?,
            kind: Kind::new(device.is_there, cluster.is_there),
            requirements,
            privileged: device.privileged,
            public: root.get("public")?.map(|field| field.value().clone()),
            id,
            version_text,
            version,
            arch,
            consumers,
            secret_names,
            optional: device.optional,
            cluster_secrets: cluster.secrets,
            json,
        })
    }
}

fn built_in(id: &ServiceId, version: &Version, arch: &Arch, privileged: bool) -> PropertySet {
    let text = |name: &str, value: &str| (name.to_owned(), PropertyValue::text(value));
    let known = [
        text("openhorizon.service.url", id.url.as_str()),
        text("openhorizon.service.name", id.url.as_str()),
        text("openhorizon.service.org", id.org.as_str()),
        text("openhorizon.service.arch", arch.as_str()),
        (
            "openhorizon.service.version".to_owned(),
            PropertyValue::Version(version.clone()),
        ),
    ];
    // What is privileged is so whatever a policy says.
    let privileged =
        privileged.then(|| (ALLOW_PRIVILEGED.to_owned(), PropertyValue::Boolean(true)));
    PropertySet::new(known.into_iter().chain(privileged))
}

/// Ours: Open Horizon keeps it beside the definition.
const OWN_POLICY: &str = "servicePolicy";
const MAX_SECRETS: usize = 512;

#[cfg(test)]
pub(super) mod tests;
