//! Who a certificate speaks for: one SPIFFE ID in a URI SAN,
//! `spiffe://<trust domain>/org/<org>/node/<node>` or `…/org/<org>/user/<user>`.

use data_encoding::HEXLOWER;
use edge_secrets_protocol::{NodeId, OrgId, UserId};
use jiff::Timestamp;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::TrustDomain;

/// A node or a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// A node.
    Node {
        /// Its organisation.
        org: OrgId,
        /// Its name.
        node: NodeId,
    },
    /// A person or program.
    User {
        /// Their organisation.
        org: OrgId,
        /// Their name.
        user: UserId,
    },
}

/// What a client certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Who it speaks for.
    pub principal: Principal,
    /// Its serial number, lower-case hexadecimal.
    pub serial: String,
    /// Its end.
    pub not_after: Timestamp,
}

/// A certificate that speaks for nobody here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// It is not X.509.
    #[error("the certificate is malformed")]
    Malformed,
    /// It has not exactly one URI.
    #[error("the certificate does not name exactly one identity")]
    NotOne,
    /// The URI is not of this trust domain, or not of a node or user.
    #[error("the certificate's identity is not one of this hub's trust domain")]
    Foreign,
    /// It may not be used for this.
    #[error("the certificate is not one for clients")]
    Usage,
}

impl Principal {
    /// The SPIFFE ID.
    #[must_use]
    pub fn uri(&self, trust_domain: &TrustDomain) -> String {
        match self {
            Self::Node { org, node } => format!("spiffe://{trust_domain}/org/{org}/node/{node}"),
            Self::User { org, user } => format!("spiffe://{trust_domain}/org/{org}/user/{user}"),
        }
    }

    /// The node's or user's name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Node { node, .. } => node.as_str(),
            Self::User { user, .. } => user.as_str(),
        }
    }

    /// Reads what [`uri`](Self::uri) wrote, and nothing else.
    ///
    /// # Errors
    /// `Foreign` for any other text.
    pub fn parse(uri: &str, trust_domain: &TrustDomain) -> Result<Self, IdentityError> {
        let foreign = IdentityError::Foreign;
        let path = uri
            .strip_prefix("spiffe://")
            .and_then(|rest| rest.strip_prefix(trust_domain.as_str()))
            .and_then(|rest| rest.strip_prefix("/org/"))
            .ok_or(foreign)?;
        let parts: Vec<&str> = path.split('/').collect();
        let [org, kind, name] = parts.as_slice() else {
            return Err(foreign);
        };
        let org = org.parse().map_err(|_| foreign)?;
        match *kind {
            "node" => Ok(Self::Node {
                org,
                node: name.parse().map_err(|_| foreign)?,
            }),
            "user" => Ok(Self::User {
                org,
                user: name.parse().map_err(|_| foreign)?,
            }),
            _ => Err(foreign),
        }
    }
}

impl ClientCertificate {
    /// Reads a certificate whose chain is verified elsewhere.
    ///
    /// # Errors
    /// When it is not a client certificate of this trust domain.
    pub fn parse(der: &[u8], trust_domain: &TrustDomain) -> Result<Self, IdentityError> {
        let malformed = IdentityError::Malformed;
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| malformed)?;
        let usage = certificate
            .extended_key_usage()
            .map_err(|_| malformed)?
            .ok_or(IdentityError::Usage)?
            .value;
        if !usage.client_auth || usage.any || usage.server_auth {
            return Err(IdentityError::Usage);
        }
        let names = certificate
            .subject_alternative_name()
            .map_err(|_| malformed)?
            .ok_or(IdentityError::NotOne)?;
        let [GeneralName::URI(uri)] = names.value.general_names.as_slice() else {
            return Err(IdentityError::NotOne);
        };
        Ok(Self {
            principal: Principal::parse(uri, trust_domain)?,
            serial: HEXLOWER.encode(certificate.raw_serial()),
            not_after: Timestamp::from_second(certificate.validity().not_after.timestamp())
                .map_err(|_| malformed)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_identities_of_this_trust_domain_are_read() {
        let domain = TrustDomain::default();
        for text in [
            "spiffe://edge-secrets.internal/org/o/node",
            "spiffe://edge-secrets.internal/org/o/node/",
            "spiffe://edge-secrets.internal/org/o/node/n/",
            "spiffe://edge-secrets.internal/org/o/node/../n",
            "spiffe://edge-secrets.internal/org/o/host/n",
            "spiffe://edge-secrets.internal/org//node/n",
            "spiffe://edge-secrets.internal.evil/org/o/node/n",
            "spiffe://other/org/o/node/n",
            "https://edge-secrets.internal/org/o/node/n",
            "",
        ] {
            assert_eq!(
                Principal::parse(text, &domain),
                Err(IdentityError::Foreign),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn identities_survive_their_uri(
            org in "[A-Za-z0-9@_-][A-Za-z0-9@._-]{0,20}",
            name in "[A-Za-z0-9_-][A-Za-z0-9._-]{0,20}",
            node in any::<bool>(),
        ) {
            let domain = TrustDomain::default();
            let org = org.parse().unwrap();
            let principal = if node {
                Principal::Node { org, node: name.parse().unwrap() }
            } else {
                Principal::User { org, user: name.parse().unwrap() }
            };
            let uri = principal.uri(&domain);
            prop_assert_eq!(Principal::parse(&uri, &domain), Ok(principal));
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(ClientCertificate::parse(&bytes, &TrustDomain::default()).is_err());
        }
    }
}
