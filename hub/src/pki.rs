//! The hub's certificate authority: one ECDSA P-256 key that signs the certificates of the server,
//! of nodes and of users, and nothing else. While it is exchanged for another one there are two, and
//! both are trusted ([`rotation`]).

mod authority;
pub mod identity;
mod request;
pub mod rotation;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edge_secrets_protocol::{NodeId, OrgId, UserId};
use jiff::Timestamp;
use rcgen::string::Ia5String;
use rcgen::{ExtendedKeyUsagePurpose, Issuer, KeyPair, PublicKeyData, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{DistinguishedName, RootCertStore};
use zeroize::Zeroizing;

use crate::catalog::records::NewCertificate;
use crate::clock;
use crate::config::TrustDomain;
use crate::managers::credential;
use identity::Principal;
use rotation::Stage;

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

/// The certificate authority, and the one before or after it while they are exchanged.
pub struct Pki {
    /// What issues.
    issuing: Authority,
    /// What is trusted beside it.
    other: Option<Authority>,
    bundle: String,
    trust_domain: TrustDomain,
}

/// A certificate with its key.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    not_before: Timestamp,
    not_after: Timestamp,
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
    /// The CA's subject, by which clients say whom they trust.
    pub authority: DistinguishedName,
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

    /// Reads `ca.crt` and `ca.key`, and how far an exchange for another CA has come.
    ///
    /// # Errors
    /// When a file is missing, malformed, or a key can be read by everybody.
    pub fn load(data_dir: &Path, trust_domain: TrustDomain) -> Result<Self, PkiError> {
        let rotation = rotation::settle(data_dir)?;
        let pem = read(&data_dir.join(CA_CERTIFICATE_FILE))?;
        let path = data_dir.join(CA_KEY_FILE);
        let key = Zeroizing::new(read(&path)?);
        let unfit = |path: &Path, reason: &str| PkiError::File {
            path: path.into(),
            reason: reason.into(),
        };
        credential::expect_private(&path).map_err(|reason| unfit(&path, &reason))?;
        KeyPair::from_pem(&key).map_err(|_| unfit(&path, "the CA key is malformed"))?;
        let at_work = Authority::from_pem(&pem, &key).map_err(|error| match error {
            PkiError::Authority(reason) => unfit(&data_dir.join(CA_CERTIFICATE_FILE), &reason),
            other => other,
        })?;
        let Some(rotation) = rotation else {
            return Ok(Self::of(at_work, None, trust_domain));
        };
        let new = Authority::from_pem(rotation.certificate(), rotation.key())?;
        Ok(match rotation.stage() {
            Stage::Announced => Self::of(at_work, Some(new), trust_domain),
            Stage::Switched | Stage::Finishing => Self::of(new, Some(at_work), trust_domain),
        })
    }

    fn of(issuing: Authority, other: Option<Authority>, trust_domain: TrustDomain) -> Self {
        let mut bundle = issuing.pem.clone();
        if let Some(other) = &other {
            if !bundle.ends_with('\n') {
                bundle.push('\n');
            }
            bundle.push_str(&other.pem);
        }
        Self {
            issuing,
            other,
            bundle,
            trust_domain,
        }
    }

    /// The authority of a certificate and a key, both PEM.
    ///
    /// # Errors
    /// When they are malformed or do not belong together.
    pub fn from_pem(pem: &str, key: &str, trust_domain: TrustDomain) -> Result<Self, PkiError> {
        Ok(Self::of(Authority::from_pem(pem, key)?, None, trust_domain))
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

    /// A certificate for the server of each CA over new keys, for DNS names and IP addresses; that of the
    /// CA that issues comes first.
    ///
    /// # Errors
    /// When a name is neither, or signing fails.
    pub fn issue_server(
        &self,
        names: &[String],
        lifetime: Duration,
    ) -> Result<Vec<ServerIdentity>, PkiError> {
        let issue = |authority| Self::issue_server_of(authority, names, lifetime);
        self.authorities().map(issue).collect()
    }

    fn issue_server_of(
        authority: &Authority,
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
        let leaf = authority.sign(
            "edge-secrets hub",
            names,
            ExtendedKeyUsagePurpose::ServerAuth,
            &key,
            // One that was made while the clock was ahead is good when the clock is right.
            (Some(authority.not_before), lifetime),
        )?;
        Ok(ServerIdentity {
            authority: authority.subject()?,
            chain: vec![
                leaf.certificate.der().clone(),
                authority.certificate.clone(),
            ],
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            not_after: leaf.not_after,
        })
    }

    /// SHA-256 over the DER form of the certificate of the CA that issues: what enrolment tokens carry.
    #[must_use]
    pub fn ca_fingerprint(&self) -> [u8; 32] {
        self.issuing.fingerprint()
    }

    /// Whether a token that carries this is of this hub.
    #[must_use]
    pub fn is_known(&self, fingerprint: &[u8; 32]) -> bool {
        self.authorities()
            .any(|authority| authority.fingerprint() == *fingerprint)
    }

    /// The CA certificates to trust, PEM.
    #[must_use]
    pub fn trust_bundle_pem(&self) -> &str {
        &self.bundle
    }

    /// The CA certificates to trust, that of the one that issues first.
    pub fn ca_certificates(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.authorities().map(|authority| &authority.certificate)
    }

    fn authorities(&self) -> impl Iterator<Item = &Authority> {
        [&self.issuing].into_iter().chain(&self.other)
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
        if clock::now() < self.issuing.not_before {
            // It would have ended long ago when the clock is right, and nobody could renew it.
            return Err(PkiError::Authority(
                "the clock of this hub is behind: its CA has not begun yet".into(),
            ));
        }
        let uri = SanType::URI(Ia5String::try_from(principal.uri(&self.trust_domain))?);
        let leaf = self.issuing.sign(
            principal.name(),
            vec![uri],
            ExtendedKeyUsagePurpose::ClientAuth,
            &key,
            (None, lifetime),
        )?;
        Ok(Issued {
            certificate_pem_chain: leaf.certificate.pem(),
            serial: leaf.serial,
            not_after: leaf.not_after,
        })
    }
}

impl Authority {
    fn from_pem(pem: &str, key: &str) -> Result<Self, PkiError> {
        let key = KeyPair::from_pem(key)
            .map_err(|_| PkiError::Authority("the CA key is malformed".into()))?;
        let (certificate, not_before, not_after) = authority::parse(pem, &key)?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Self {
            issuer,
            certificate,
            pem: pem.to_owned(),
            not_before,
            not_after,
        })
    }

    fn fingerprint(&self) -> [u8; 32] {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.certificate);
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest.as_ref());
        fingerprint
    }

    fn subject(&self) -> Result<DistinguishedName, PkiError> {
        let unfit = || PkiError::Authority("the CA certificate is no trust anchor".into());
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).map_err(|_| unfit())?;
        roots.subjects().into_iter().next().ok_or_else(unfit)
    }

    fn sign(
        &self,
        name: &str,
        alternatives: Vec<SanType>,
        usage: ExtendedKeyUsagePurpose,
        key: &impl PublicKeyData,
        (not_before, lifetime): (Option<Timestamp>, Duration),
    ) -> Result<authority::Leaf, PkiError> {
        authority::Template {
            name,
            alternatives,
            usage,
            not_before,
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
