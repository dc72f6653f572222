//! The secrets managers of `hub.yaml`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use edge_secrets_protocol::OrgId;
use serde::Deserialize;

use super::units;
use crate::managers::ManagerName;
use crate::managers::credential::CredentialFile;
use crate::managers::gate::Limits;
use crate::managers::guarded::{Guarded, Settings};
use crate::managers::ibm_cloud::{IbmCloud, IbmCloudConfig};
use crate::managers::policy::PathPolicy;
use crate::managers::registry::Registry;
use crate::managers::secret_server::{SecretServer, SecretServerConfig};
use crate::managers::session::Kept;
use crate::managers::vault::{Vault, VaultConfig};
use crate::managers::{Kind, SecretManager};

/// `managers:` and `default_managers:`.
#[derive(Debug, Clone, Default)]
pub struct Managers {
    /// Every manager outside the hub.
    pub managers: Vec<ManagerConfig>,
    /// By organisation the manager that references without one mean.
    pub defaults: BTreeMap<OrgId, ManagerName>,
}

/// One secrets manager: its name, exactly one of the kinds, and how it is used.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManagerConfig {
    /// What references call it.
    pub name: ManagerName,
    /// It is HashiCorp Vault or OpenBao.
    #[serde(default)]
    pub vault: Option<VaultConfig>,
    /// It is IBM Cloud Secrets Manager.
    #[serde(default)]
    pub ibm_cloud: Option<IbmCloudConfig>,
    /// It is Delinea (Thycotic) Secret Server: IBM's PIM.
    #[serde(default)]
    pub secret_server: Option<SecretServerConfig>,
    /// Which organisation may reach what there.
    pub orgs: PathPolicy,
    /// How often secrets are looked at.
    #[serde(default = "ten_seconds", deserialize_with = "units::duration")]
    pub poll: Duration,
    /// How long values are kept in the hub's memory.
    #[serde(default = "five_minutes", deserialize_with = "units::duration")]
    pub cache: Duration,
    /// How long one call may take.
    #[serde(default = "ten_seconds", deserialize_with = "units::duration")]
    pub timeout: Duration,
    /// Most calls a second; IBM asks for at most 20.
    #[serde(default = "twenty")]
    pub requests_per_second: u32,
    /// Most calls at once.
    #[serde(default = "eight")]
    pub concurrent_requests: usize,
    /// What callers of the webhook prove themselves by; no webhook without it.
    #[serde(default)]
    pub webhook_token: Option<CredentialFile>,
}

impl Managers {
    /// Relative paths are relative to `base`.
    pub(super) fn based_on(mut self, base: &Path) -> Self {
        for manager in &mut self.managers {
            manager.vault = manager.vault.take().map(|kind| kind.based_on(base));
            manager.ibm_cloud = manager.ibm_cloud.take().map(|kind| kind.based_on(base));
            manager.secret_server = manager.secret_server.take().map(|kind| kind.based_on(base));
            manager.webhook_token = manager
                .webhook_token
                .take()
                .map(|token| token.based_on(base));
        }
        self
    }

    /// Where credentials are that lie outside of `dir`, as the configuration has them.
    #[must_use]
    pub fn credentials_outside(&self, dir: &Path) -> Vec<String> {
        let files = self.managers.iter().flat_map(ManagerConfig::credentials);
        files
            .filter(|file| file.is_outside(dir))
            .map(ToString::to_string)
            .collect()
    }

    /// What is wrong, with the key where it stands.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        let mut names = Vec::new();
        for manager in &self.managers {
            let name = &manager.name;
            let refused = |why: &str| Err(("managers", format!("manager \"{name}\": {why}")));
            if name.is_embedded() {
                return refused("`embedded` is the hub's own");
            }
            if names.contains(&name) {
                return refused("there are two of this name");
            }
            names.push(name);
            if manager.kind().is_none() {
                return refused("name exactly one of `vault`, `ibm_cloud`, `secret_server`");
            }
            if manager.poll < Duration::from_secs(1) {
                return refused("`poll` must be at least 1s");
            }
            if manager.timeout.is_zero() || manager.timeout > Duration::from_secs(120) {
                return refused("`timeout` must be between 1ms and 2m");
            }
            if !(1..=10_000).contains(&manager.requests_per_second) {
                return refused("`requests_per_second` must be between 1 and 10000");
            }
            if !(1..=1_000).contains(&manager.concurrent_requests) {
                return refused("`concurrent_requests` must be between 1 and 1000");
            }
            if let Some(ibm) = &manager.ibm_cloud {
                // An id is written out: whoever hopes for a pattern is told here.
                let odd = |id: &String| {
                    id.is_empty() || id.chars().any(|c| !(c.is_ascii_alphanumeric() || c == '-'))
                };
                if ibm.access_groups.iter().any(odd) {
                    return refused("`access_groups` has an entry that is no access group's id");
                }
                if ibm.service_ids.iter().any(odd) {
                    return refused("`service_ids` has an entry that is no service id");
                }
            }
            if manager.cache > Duration::from_secs(86_400) {
                return refused("`cache` must be at most 1d");
            }
        }
        for (org, default) in &self.defaults {
            if !default.is_embedded() && !names.contains(&default) {
                let why = format!("the default of {org}, \"{default}\", is none of `managers`");
                return Err(("default_managers", why));
            }
        }
        Ok(())
    }

    /// The manager that references of this organisation mean that name none; the hub's own when
    /// absent.
    #[must_use]
    pub fn default_of(&self, org: &OrgId) -> Option<&ManagerName> {
        let default = self.defaults.get(org);
        default.filter(|default| !default.is_embedded())
    }

    /// Every manager, ready to be asked. Nothing is asked yet.
    ///
    /// # Errors
    /// When a file that a manager needs cannot be used; the text names manager and file.
    pub fn build(&self, kept: impl Fn(&ManagerName) -> Arc<dyn Kept>) -> Result<Registry, String> {
        let mut built = Vec::new();
        for config in &self.managers {
            let manager = config
                .backend(kept(&config.name))
                .map_err(|why| format!("manager \"{}\": {why}", config.name))?;
            built.push(Guarded::new(
                config.name.clone(),
                manager,
                config.settings(),
            ));
        }
        Ok(Registry::new(built))
    }
}

impl ManagerConfig {
    fn settings(&self) -> Settings {
        Settings {
            paths: self.orgs.clone(),
            limits: Limits {
                concurrent: self.concurrent_requests,
                per_second: self.requests_per_second,
            },
            poll: self.poll,
            cache: self.cache,
        }
    }

    /// The kind, where exactly one is named.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        let named = [
            self.vault.as_ref().map(|_| Kind::Vault),
            self.ibm_cloud.as_ref().map(|_| Kind::IbmCloud),
            self.secret_server.as_ref().map(|_| Kind::SecretServer),
        ];
        let mut named = named.into_iter().flatten();
        let first = named.next();
        first.filter(|_| named.next().is_none())
    }

    /// The files with its credentials.
    fn credentials(&self) -> Vec<&CredentialFile> {
        let mut files: Vec<_> = self.webhook_token.iter().collect();
        if let Some(vault) = &self.vault {
            files.extend(vault.auth.credentials());
        }
        if let Some(ibm) = &self.ibm_cloud {
            files.push(&ibm.api_key);
        }
        if let Some(secret_server) = &self.secret_server {
            files.extend([&secret_server.username, &secret_server.password]);
        }
        files
    }

    fn backend(&self, kept: Arc<dyn Kept>) -> Result<Arc<dyn SecretManager>, String> {
        for file in self.credentials() {
            file.expect_private()?;
        }
        if let Some(config) = &self.vault {
            return Ok(Arc::new(Vault::new(config, self.timeout, kept)?));
        }
        if let Some(config) = &self.ibm_cloud {
            return Ok(Arc::new(IbmCloud::new(config, self.timeout)?));
        }
        if let Some(config) = &self.secret_server {
            return Ok(Arc::new(SecretServer::new(config, self.timeout, kept)?));
        }
        Err("no kind is named".into())
    }
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

fn five_minutes() -> Duration {
    Duration::from_secs(300)
}

fn twenty() -> u32 {
    20
}

fn eight() -> usize {
    8
}

#[cfg(test)]
mod tests;
