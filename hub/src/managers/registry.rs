//! The managers of a hub, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use edge_secrets_protocol::OrgId;

use super::guarded::Guarded;
use super::{Fault, ManagerError, ManagerName};
use crate::reference::SecretRef;

/// Every manager outside the hub.
#[derive(Default, Clone)]
pub struct Registry(BTreeMap<ManagerName, Arc<Guarded>>);

impl Registry {
    /// These.
    pub fn new(managers: impl IntoIterator<Item = Guarded>) -> Self {
        let named = managers
            .into_iter()
            .map(|manager| (manager.name.clone(), Arc::new(manager)));
        Self(named.collect())
    }

    /// The manager that a resolved reference names; none when it is the hub's own.
    ///
    /// # Errors
    /// [`Fault::UnknownManager`].
    pub fn of(&self, reference: &SecretRef) -> Result<Option<&Arc<Guarded>>, ManagerError> {
        let Some(name) = reference.manager() else {
            return Ok(None);
        };
        self.named(name).map(Some)
    }

    /// The manager of that name.
    ///
    /// # Errors
    /// [`Fault::UnknownManager`]. It names none of the others: they are not for every organisation.
    pub fn named(&self, name: &ManagerName) -> Result<&Arc<Guarded>, ManagerError> {
        self.0.get(name).ok_or_else(|| {
            ManagerError::new(
                Fault::UnknownManager,
                format!(
                    "this hub has no secrets manager \"{name}\"; `edge-secrets manager list` shows what \
                     there is"
                ),
            )
        })
    }

    /// Those that the organisation may use, by name.
    pub fn usable_by(&self, org: &OrgId) -> impl Iterator<Item = &Arc<Guarded>> {
        self.iter().filter(|manager| manager.is_for(org))
    }

    /// The manager of that name, for an organisation that may use it.
    ///
    /// # Errors
    /// [`Fault::UnknownManager`] also for one that it may not use; it names those that it may.
    pub fn named_for(
        &self,
        org: &OrgId,
        name: &ManagerName,
    ) -> Result<&Arc<Guarded>, ManagerError> {
        let mut usable = self.usable_by(org);
        usable.find(|manager| manager.name == *name).ok_or_else(|| {
            let names: Vec<_> = self
                .usable_by(org)
                .map(|manager| manager.name.as_str())
                .collect();
            let others = match names.as_slice() {
                [] => "there is its own alone".to_owned(),
                names => format!("there is its own, {}", names.join(", ")),
            };
            ManagerError::new(
                Fault::UnknownManager,
                format!("this hub has no secrets manager \"{name}\" for {org}; {others}"),
            )
        })
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Guarded>> {
        self.0.values()
    }
}
