//! The managers of a hub, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

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
    /// [`Fault::UnknownManager`], which names those that there are.
    pub fn named(&self, name: &ManagerName) -> Result<&Arc<Guarded>, ManagerError> {
        self.0.get(name).ok_or_else(|| {
            let names: Vec<_> = self.0.keys().map(ManagerName::as_str).collect();
            let others = match names.as_slice() {
                [] => "it has its own alone".to_owned(),
                names => format!("it has its own, {}", names.join(", ")),
            };
            ManagerError::new(
                Fault::UnknownManager,
                format!("this hub has no secrets manager \"{name}\"; {others}"),
            )
        })
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Guarded>> {
        self.0.values()
    }
}
