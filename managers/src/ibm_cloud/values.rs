//! Values: of exactly one version, and their fields by type.

use std::time::Duration;

use data_encoding::BASE64;
use edge_secrets_protocol::{Secret, SecretVersion};
use zeroize::Zeroizing;

use super::IbmCloud;
use super::describe::successor_of;
use super::place::{Place, SecretType, is_uuid};
use super::wire::Held;
use crate::payload::{SecretText, from_fields, from_object};
use crate::route::at;
use crate::{Fault, ManagerError};

impl IbmCloud {
    pub(super) async fn read_version(
        &self,
        place: &Place,
        version: &SecretVersion,
    ) -> Result<Secret, ManagerError> {
        let kind = match place {
            Place::Named(named) => named.kind,
            Place::Id(id) => match self.known.seen(id, Duration::MAX) {
                Some(seen) => seen.secret_type,
                None => self.metadata(place).await?.0.secret_type,
            },
        };
        match kind {
            SecretType::IamCredentials => self.read_shared(place, version).await,
            kind => self.read_static(place, kind, version).await,
        }
    }

    async fn read_static(
        &self,
        place: &Place,
        kind: SecretType,
        version: &SecretVersion,
    ) -> Result<Secret, ManagerError> {
        let id = self.id_of(place).await?;
        // Never an alias: what `current` is now may be another version than was asked for.
        if !is_uuid(version.as_str()) {
            return Err(superseded(place));
        }
        let route = at(
            "/api/v2/secrets/{id}/versions/{version}",
            &[&id, version.as_str()],
        );
        let reply = match self.api.get(route).await {
            Ok(reply) => reply,
            Err(error) if error.fault == Fault::Missing => {
                // The version, or all of it?
                self.metadata(place).await?;
                self.known.forget(&id);
                return Err(superseded(place));
            }
            Err(error) => return Err(error),
        };
        let held: Held<'_> = reply.json()?;
        if held.id != version.as_str() {
            return Err(malformed(place, "gives another version than was asked for"));
        }
        if held.payload_available == Some(false) {
            self.known.forget(&id);
            return Err(superseded(place));
        }
        held.payload_of(place, kind)
    }

    /// Of a secret whose key many nodes share. The flag is looked at just before: with it off, this
    /// read would end the key that all of them have.
    async fn read_shared(
        &self,
        place: &Place,
        version: &SecretVersion,
    ) -> Result<Secret, ManagerError> {
        let (metadata, _) = self.metadata(place).await?;
        if !metadata.reuse_api_key || !self.share_reused {
            return Err(not_shared(place));
        }
        let reply = self
            .api
            .get(at("/api/v2/secrets/{id}", &[&metadata.id]))
            .await?;
        let held: Held<'_> = reply.json()?;
        if held.reuse_api_key != Some(true) {
            return Err(not_shared(place));
        }
        let key = held.api_key_id.as_deref();
        if key == Some(version.as_str()) {
            return held.payload_of(place, SecretType::IamCredentials);
        }
        if successor_of(version).is_some() && key == successor_of(version) {
            let why = format!("the key of {place} has ended, and the next one is not made yet");
            return Err(ManagerError::new(Fault::Busy, why).after(Some(NEXT_KEY)));
        }
        Err(superseded(place))
    }
}

impl Held<'_> {
    /// The fields of a value of this type.
    pub(super) fn payload_of(
        &self,
        place: &Place,
        kind: SecretType,
    ) -> Result<Secret, ManagerError> {
        let none = || malformed(place, "has no value in it");
        match kind {
            SecretType::Arbitrary => {
                let text = self.payload.as_ref().ok_or_else(none)?.expose();
                match binary(text) {
                    Some(bytes) => from_fields(&[("value", &bytes)]),
                    None => from_fields(&[("value", text.as_bytes())]),
                }
            }
            SecretType::Kv => from_object(self.data.ok_or_else(none)?),
            SecretType::ServiceCredentials => from_object(self.credentials.ok_or_else(none)?),
            SecretType::CustomCredentials => {
                from_object(self.credentials_content.ok_or_else(none)?)
            }
            SecretType::UsernamePassword => {
                self.password.as_ref().ok_or_else(none)?;
                texts(&[("username", &self.username), ("password", &self.password)])
            }
            SecretType::IamCredentials => {
                self.api_key.as_ref().ok_or_else(none)?;
                texts(&[("apikey", &self.api_key)])
            }
            SecretType::ImportedCert | SecretType::PublicCert | SecretType::PrivateCert => {
                self.certificate.as_ref().ok_or_else(none)?;
                texts(&[
                    ("certificate", &self.certificate),
                    ("intermediate", &self.intermediate),
                    ("issuing_ca", &self.issuing_ca),
                    ("private_key", &self.private_key),
                ])
            }
            SecretType::Unknown => Err(ManagerError::new(
                Fault::Unsupported,
                format!("{place} is of a type that is not delivered"),
            )),
        }
    }
}

fn texts(fields: &[(&str, &Option<SecretText>)]) -> Result<Secret, ManagerError> {
    let fields: Vec<(&str, &[u8])> = fields
        .iter()
        .filter_map(|(name, text)| Some((*name, text.as_ref()?.expose().as_bytes())))
        .collect();
    from_fields(&fields)
}

/// The bytes of a `data:` URI in base64: the service keeps files so.
fn binary(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let (media_type, encoded) = text.strip_prefix("data:")?.split_once(";base64,")?;
    if media_type.contains([',', '\n']) {
        return None;
    }
    BASE64.decode(encoded.as_bytes()).ok().map(Zeroizing::new)
}

fn superseded(place: &Place) -> ManagerError {
    ManagerError::new(
        Fault::Superseded,
        format!("that version of {place} is no longer to be had"),
    )
}

fn not_shared(place: &Place) -> ManagerError {
    ManagerError::new(
        Fault::Exclusive,
        format!(
            "{place} is for one node alone: its key is shared only while reuse_api_key is on there \
             and `share_reused` is set here"
        ),
    )
}

fn malformed(place: &Place, what: &str) -> ManagerError {
    ManagerError::new(Fault::Malformed, format!("its answer for {place} {what}"))
}

/// How long after its end a key may still be the one that is given.
const NEXT_KEY: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_data_uri_is_bytes_and_all_else_is_text() {
        let bytes = |text| binary(text).map(|bytes| bytes.to_vec());
        assert_eq!(
            bytes("data:application/octet-stream;base64,AAH/"),
            Some(vec![0, 1, 255])
        );
        assert_eq!(bytes("data:;base64,"), Some(Vec::new()));
        for text in [
            "",
            "AAH/",
            "data:text/plain,x",
            "data:text/plain;base64,no base64",
            "data:a,b;base64,AAH/",
        ] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_bytes_come_back(value in proptest::collection::vec(any::<u8>(), 0..64)) {
            let text = format!("data:application/octet-stream;base64,{}", BASE64.encode(&value));
            prop_assert_eq!(binary(&text).map(|bytes| bytes.to_vec()), Some(value));
        }
    }
}
