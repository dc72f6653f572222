//! The keys that values are sealed to. Each renewal of the certificate brings a new one; the ones before
//! it open what is kept and on its way until that is sealed to the one in use.

use std::sync::Arc;

use edge_secrets_protocol::binding::FetchItem;
use edge_secrets_protocol::sealed::{Place, SealError, Sealer};
use edge_secrets_protocol::{NodeId, OrgId, Sealed, SealingKey};

/// What opens values that are sealed to this node. Clones share the keys.
#[derive(Clone)]
pub struct SealingKeys {
    current: Option<Arc<SealingKey>>,
    next: Option<Arc<SealingKey>>,
    former: Vec<Arc<SealingKey>>,
}

impl SealingKeys {
    /// The key in use, where it can be opened; the one that the hub was perhaps told already, where there
    /// is one; and those that were in use before.
    #[must_use]
    pub fn new(
        current: Option<SealingKey>,
        next: Option<SealingKey>,
        mut former: Vec<SealingKey>,
    ) -> Self {
        // What was the next one of a former set may be the one in use now.
        if let Some(current) = &current {
            former.retain(|key| key.expose() != current.expose());
        }
        Self {
            current: current.map(Arc::new),
            next: next.map(Arc::new),
            former: former.into_iter().map(Arc::new).collect(),
        }
    }

    /// The key in use; none when nothing opens it.
    #[must_use]
    pub fn current(&self) -> Option<&SealingKey> {
        self.current.as_deref()
    }

    /// Every key that may open a value, the likeliest first.
    #[must_use]
    pub fn all(&self) -> Vec<&SealingKey> {
        let keys = self.current.iter().chain(&self.next).chain(&self.former);
        keys.map(|key| &**key).collect()
    }

    /// Whether there are keys that are not in use any more.
    #[must_use]
    pub fn has_former(&self) -> bool {
        !self.former.is_empty()
    }

    /// Forgets those that are not in use any more.
    pub fn forget_former(&mut self) {
        self.former.clear();
    }
}

/// Seals values to the key in use that are sealed to another one of the node.
pub struct Resealer {
    org: OrgId,
    node: NodeId,
    keys: SealingKeys,
    sealer: Sealer,
}

impl Resealer {
    /// For this node's values.
    ///
    /// # Errors
    /// When there is no key in use, or nothing can be sealed to it.
    pub fn new(org: &OrgId, node: &NodeId, keys: &SealingKeys) -> Result<Self, SealError> {
        let current = keys.current().ok_or(SealError::Key)?;
        Ok(Self {
            org: org.clone(),
            node: node.clone(),
            keys: keys.clone(),
            sealer: current.public().sealer()?,
        })
    }

    /// The value, sealed to the key in use and opened once to see that it is; `None` when it is sealed to
    /// that already. In between it stands in memory of its own, which is wiped.
    ///
    /// # Errors
    /// When none of the keys opens it, or it cannot be sealed.
    pub fn reseal(&self, item: &FetchItem, sealed: &Sealed) -> Result<Option<Sealed>, SealError> {
        let place = Place::Node {
            org: &self.org,
            node: &self.node,
            service: &item.service,
            name: &item.name,
            version: &item.version,
        };
        let current = self.keys.current().ok_or(SealError::Key)?;
        let mut refused = SealError::Rejected;
        for (at, key) in self.keys.all().into_iter().enumerate() {
            match sealed.open(key, &place) {
                Ok(_) if at == 0 => return Ok(None),
                Ok(value) => {
                    let resealed = self.sealer.seal(&place, &value)?;
                    resealed.open(current, &place)?;
                    return Ok(Some(resealed));
                }
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }
}
