//! What is kept of a session over restarts: one payload of fields, encrypted by whoever keeps it.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use edge_secrets_protocol::{FieldName, Fields, Secret};

use crate::session::Kept;
use crate::{Fault, ManagerError};

/// The kept fields, read at the first need.
pub(in super::super) struct Memory {
    kept: Arc<dyn Kept>,
    /// Whose session it is: one of another login is not used.
    identity: String,
    fields: Option<BTreeMap<&'static str, Secret>>,
}

impl Memory {
    pub(super) fn new(kept: Arc<dyn Kept>, identity: String) -> Self {
        Self {
            kept,
            identity,
            fields: None,
        }
    }

    pub(super) async fn token(&mut self) -> Result<Option<Secret>, ManagerError> {
        Ok(self.fields().await?.get(TOKEN).map(copy))
    }

    pub(super) async fn keep_token(&mut self, token: &Secret) -> Result<(), ManagerError> {
        self.fields().await?.insert(TOKEN, copy(token));
        self.save().await
    }

    /// The secret id that was unwrapped last.
    pub(in super::super) async fn secret_id(&mut self) -> Result<Option<Secret>, ManagerError> {
        Ok(self.fields().await?.get(SECRET_ID).map(copy))
    }

    /// Whether the kept secret id came from this wrapping token.
    pub(in super::super) async fn is_from(
        &mut self,
        wrapping: &Secret,
    ) -> Result<bool, ManagerError> {
        let digest = hash(wrapping);
        let fields = self.fields().await?;
        let same = fields
            .get(WRAPPED_BY)
            .is_some_and(|kept| kept.expose() == digest.as_bytes());
        Ok(same && fields.contains_key(SECRET_ID))
    }

    pub(in super::super) async fn keep_secret_id(
        &mut self,
        secret_id: &Secret,
        wrapping: &Secret,
    ) -> Result<(), ManagerError> {
        let digest = Secret::new(hash(wrapping).into_bytes());
        let fields = self.fields().await?;
        fields.insert(SECRET_ID, copy(secret_id));
        fields.insert(WRAPPED_BY, digest);
        self.save().await
    }

    /// The key for values without versions: made once.
    pub(super) async fn key(&mut self) -> Result<Secret, ManagerError> {
        if let Some(key) = self.fields().await?.get(KEY) {
            return Ok(copy(key));
        }
        let mut key = Secret::zeroed(32);
        aws_lc_rs::rand::fill(key.expose_mut())
            .map_err(|_| ManagerError::new(Fault::Failed, "this machine gives no randomness"))?;
        self.fields().await?.insert(KEY, copy(&key));
        self.save().await?;
        Ok(key)
    }

    async fn fields(&mut self) -> Result<&mut BTreeMap<&'static str, Secret>, ManagerError> {
        if self.fields.is_none() {
            let kept = self.kept.load().await?;
            self.fields = Some(self.read(kept.as_ref()));
        }
        Ok(self.fields.get_or_insert_default())
    }

    /// What is there of this login. The key is the hub's own, whatever it logs in as.
    fn read(&self, kept: Option<&Secret>) -> BTreeMap<&'static str, Secret> {
        let mut found = BTreeMap::new();
        let Some(kept) = kept else {
            return found;
        };
        let Ok(fields) = Fields::decode(kept.expose()) else {
            tracing::warn!("the kept session is not readable: the hub logs in anew");
            return found;
        };
        for (name, value) in fields.expose() {
            if let Some(name) = NAMES.iter().find(|known| **known == name) {
                found.insert(*name, Secret::new(value.to_vec()));
            }
        }
        let is_ours = found
            .get(IDENTITY)
            .is_some_and(|kept| kept.expose() == self.identity.as_bytes());
        found.retain(|name, _| is_ours || *name == KEY);
        found
    }

    async fn save(&mut self) -> Result<(), ManagerError> {
        let identity = Secret::new(self.identity.clone().into_bytes());
        let fields = self.fields().await?;
        fields.insert(IDENTITY, identity);
        let named = fields.iter().map(|(name, value)| {
            let name: FieldName = name.parse().map_err(|_| unfit())?;
            Ok((name, value.expose()))
        });
        let named: Vec<_> = named.collect::<Result<_, ManagerError>>()?;
        let blob = Fields::encode(&named).map_err(|_| unfit())?;
        self.kept.save(&blob).await
    }
}

fn copy(secret: &Secret) -> Secret {
    Secret::new(secret.expose().to_vec())
}

fn hash(secret: &Secret) -> String {
    HEXLOWER.encode(digest(&SHA256, secret.expose()).as_ref())
}

fn unfit() -> ManagerError {
    ManagerError::new(Fault::Failed, "the hub's session at it cannot be kept")
}

const IDENTITY: &str = "identity";
const KEY: &str = "key";
const SECRET_ID: &str = "secret-id";
const TOKEN: &str = "token";
const WRAPPED_BY: &str = "wrapped-by";
const NAMES: [&str; 5] = [IDENTITY, KEY, SECRET_ID, TOKEN, WRAPPED_BY];
