//! Certificate signing requests (RFC 2986), of which only the public key is taken.

use rcgen::SubjectPublicKeyInfo;
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use super::PkiError;

/// The public key of a request that its holder signed with it: ECDSA over P-256 or P-384, or
/// Ed25519. Names and extensions asked for are passed over.
pub(super) fn public_key(csr_pem: &str) -> Result<SubjectPublicKeyInfo, PkiError> {
    if csr_pem.len() > MAX_PEM {
        return Err(PkiError::Request("is too large"));
    }
    let der = CertificateSigningRequestDer::from_pem_slice(csr_pem.as_bytes())
        .map_err(|_| PkiError::Request("is not PEM of a CERTIFICATE REQUEST"))?;
    let (rest, request) = X509CertificationRequest::from_der(&der)
        .map_err(|_| PkiError::Request("is not one of PKCS #10"))?;
    if !rest.is_empty() {
        return Err(PkiError::Request("has bytes behind its end"));
    }
    let spki = request.certification_request_info.subject_pki.raw;
    let key = SubjectPublicKeyInfo::from_der(spki).map_err(|_| UNSUPPORTED)?;
    let algorithm = rcgen::PublicKeyData::algorithm(&key);
    if ![
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
    ]
    .contains(&algorithm)
    {
        return Err(UNSUPPORTED);
    }
    request
        .verify_signature()
        .map_err(|_| PkiError::Request("is not signed with its own key"))?;
    Ok(key)
}

const UNSUPPORTED: PkiError =
    PkiError::Request("is over a key other than ECDSA P-256, ECDSA P-384 or Ed25519");

/// A request over a P-384 key with a few extensions has less than 2 KiB.
const MAX_PEM: usize = 16 * 1024;
