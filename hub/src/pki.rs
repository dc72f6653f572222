//! The hub's certificate authority: one ECDSA P-256 key that signs the certificates of the server,
//! of nodes and of users, and nothing else.

mod authority;
pub mod identity;
mod request;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edge_secrets_protocol::{NodeId, OrgId, UserId};
use jiff::Timestamp;
use rcgen::string::Ia5String;
use rcgen::{ExtendedKeyUsagePurpose, Issuer, KeyPair, PublicKeyData, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::catalog::records::NewCertificate;
use crate::config::TrustDomain;
use crate::managers::credential;
use identity::Principal;

/// Why a certificate is not issued, or the authority cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The signing request is refused.
    #[error("the certificate signing request {0}")]
    Request(&'static str),
    /// A file of the authority cannot be read.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The key and the certificate do not make an authority, or signing failed.
    #[error("the certificate authority failed: {0}")]
    Authority(String),
}

impl From<rcgen::Error> for PkiError {
    fn from(error: rcgen::Error) -> Self {
        Self::Authority(error.to_string())
    }
}

/// The certificate authority.
pub struct Pki {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    not_after: Timestamp,
    trust_domain: TrustDomain,
}

/// A certificate for a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The certificate, PEM. The CA signs it directly: there is nothing between.
    pub certificate_pem_chain: String,
    /// The serial number, lower-case hexadecimal.
    pub serial: String,
    /// Its end, to the second.
    pub not_after: Timestamp,
}

impl Issued {
    /// As the catalog keeps it.
    #[must_use]
    pub fn record(&self) -> NewCertificate {
        NewCertificate {
            serial: self.serial.clone(),
            not_after: self.not_after,
        }
    }
}

/// A certificate for the server, with its key.
pub struct ServerIdentity {
    /// The certificate and the CA's: an enrolling agent checks the latter by its fingerprint.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key, PKCS#8.
    pub key: PrivateKeyDer<'static>,
    /// The certificate's end.
    pub not_after: Timestamp,
}

impl Pki {
    /// A new authority that lives for ten years, and its key as PEM for the one file that keeps it.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn create(trust_domain: TrustDomain) -> Result<(Self, Zeroizing<String>), PkiError> {
        let (pem, key) = authority::create(&trust_domain)?;
        Ok((Self::from_pem(&pem, &key, trust_domain)?, key))
    }

    /// Reads `ca.crt` and `ca.key`.
    ///
    /// # Errors
    /// When a file is missing, malformed, or the key can be read by everybody.
    pub fn load(data_dir: &Path, trust_domain: TrustDomain) -> Result<Self, PkiError> {
        let pem = read(&data_dir.join(CA_CERTIFICATE_FILE))?;
        let path = data_dir.join(CA_KEY_FILE);
        let key = Zeroizing::new(read(&path)?);
        credential::expect_private(&path).map_err(|reason| PkiError::File { path, reason })?;
        Self::from_pem(&pem, &key, trust_domain)
    }

    /// The authority of a certificate and a key, both PEM.
    ///
    /// # Errors
    /// When they are malformed or do not belong together.
    pub fn from_pem(pem: &str, key: &str, trust_domain: TrustDomain) -> Result<Self, PkiError> {
        let key = KeyPair::from_pem(key)
            .map_err(|_| PkiError::Authority("the CA key is malformed".into()))?;
        let (certificate, not_after) = authority::parse(pem, &key)?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Self {
            issuer,
            certificate,
            pem: pem.to_owned(),
            not_after,
            trust_domain,
        })
    }

    /// A client certificate for a node, over the public key of `csr_pem` and nothing else of it.
    ///
    /// # Errors
    /// `Request` when the signing request is refused.
    pub fn issue_node(
        &self,
        csr_pem: &str,
        org: &OrgId,
        node: &NodeId,
        lifetime: Duration,
    ) -> Result<Issued, PkiError> {
        let principal = Principal::Node {
            org: org.clone(),
            node: node.clone(),
        };
        self.issue_client(csr_pem, &principal, lifetime)
    }

    /// A client certificate for a user, over the public key of `csr_pem` and nothing else of it.
    ///
    /// # Errors
    /// `Request` when the signing request is refused.
    pub fn issue_user(
        &self,
        csr_pem: &str,
        org: &OrgId,
        user: &UserId,
        lifetime: Duration,
    ) -> Result<Issued, PkiError> {
        let principal = Principal::User {
            org: org.clone(),
            user: user.clone(),
        };
        self.issue_client(csr_pem, &principal, lifetime)
    }

    /// A certificate for the server over a new key, for DNS names and IP addresses.
    ///
    /// # Errors
    /// When a name is neither, or signing fails.
    pub fn issue_server(
        &self,
        names: &[String],
        lifetime: Duration,
    ) -> Result<ServerIdentity, PkiError> {
        let key = KeyPair::generate()?;
        let names = names
            .iter()
            .map(|name| match name.parse::<IpAddr>() {
                Ok(address) => Ok(SanType::IpAddress(address)),
                Err(_) => Ok(SanType::DnsName(Ia5String::try_from(name.as_str())?)),
            })
            .collect::<Result<Vec<_>, rcgen::Error>>()?;
        let leaf = self.sign(
            "edge-secrets hub",
            names,
            ExtendedKeyUsagePurpose::ServerAuth,
            &key,
            lifetime,
        )?;
        Ok(ServerIdentity {
            chain: vec![leaf.certificate.der().clone(), self.certificate.clone()],
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            not_after: leaf.not_after,
        })
    }

    /// SHA-256 over the DER form of the CA certificate: what enrolment tokens carry.
    #[must_use]
    pub fn ca_fingerprint(&self) -> [u8; 32] {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.certificate);
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest.as_ref());
        fingerprint
    }

    /// The CA certificates to trust, PEM.
    #[must_use]
    pub fn trust_bundle_pem(&self) -> &str {
        &self.pem
    }

    /// The CA certificate.
    #[must_use]
    pub fn ca_certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The trust domain of every identity.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    fn issue_client(
        &self,
        csr_pem: &str,
        principal: &Principal,
        lifetime: Duration,
    ) -> Result<Issued, PkiError> {
        let key = request::public_key(csr_pem)?;
        let uri = SanType::URI(Ia5String::try_from(principal.uri(&self.trust_domain))?);
        let leaf = self.sign(
            principal.name(),
            vec![uri],
            ExtendedKeyUsagePurpose::ClientAuth,
            &key,
            lifetime,
        )?;
        Ok(Issued {
            certificate_pem_chain: leaf.certificate.pem(),
            serial: leaf.serial,
            not_after: leaf.not_after,
        })
    }

    fn sign(
        &self,
        name: &str,
        alternatives: Vec<SanType>,
        usage: ExtendedKeyUsagePurpose,
        key: &impl PublicKeyData,
        lifetime: Duration,
    ) -> Result<authority::Leaf, PkiError> {
        authority::Template {
            name,
            alternatives,
            usage,
            lifetime,
            // A certificate that outlives its CA would only fail later, and less clearly.
            latest: self.not_after,
        }
        .sign(key, &self.issuer)
    }
}

fn read(path: &Path) -> Result<String, PkiError> {
    std::fs::read_to_string(path).map_err(|error| PkiError::File {
        path: path.into(),
        reason: error.to_string(),
    })
}

/// The CA certificate's file in the data directory, PEM.
pub const CA_CERTIFICATE_FILE: &str = "ca.crt";
/// The CA key's file in the data directory, PEM of PKCS#8.
pub const CA_KEY_FILE: &str = "ca.key";

#[cfg(test)]
mod tests;
