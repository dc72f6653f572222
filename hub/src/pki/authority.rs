//! What certificates look like.

use std::time::Duration;

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use super::PkiError;
use crate::clock;
use crate::config::TrustDomain;

/// A new CA: its certificate and its key, both PEM.
pub(super) fn create(trust_domain: &TrustDomain) -> Result<(String, Zeroizing<String>), PkiError> {
    let key = KeyPair::generate()?;
    let now = clock::now();
    let mut params = CertificateParams::default();
    params.not_before = offset(backdated(now, CA_LIFETIME))?;
    params.not_after = offset(after(now, CA_LIFETIME))?;
    let (number, text) = serial()?;
    params.serial_number = Some(number);
    // Clients say by its name which CA they trust: no two may have the same.
    let mark = text.get(..8).unwrap_or_default();
    params.distinguished_name = common_name(&format!("edge-secrets CA {mark} {trust_domain}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), Zeroizing::new(key.serialize_pem())))
}

/// The CA certificate with its beginning and its end, checked to be a CA's and to be over `key`.
pub(super) fn parse(
    pem: &str,
    key: &KeyPair,
) -> Result<(CertificateDer<'static>, Timestamp, Timestamp), PkiError> {
    let unfit = |reason: &str| PkiError::Authority(reason.into());
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| unfit("the CA certificate is malformed"))?;
    let (_, parsed) = X509Certificate::from_der(&certificate)
        .map_err(|_| unfit("the CA certificate is malformed"))?;
    if !parsed.is_ca() {
        return Err(unfit("the CA certificate is not one of a CA"));
    }
    if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
        return Err(unfit("the CA certificate is not over the CA key"));
    }
    let time = |second| {
        Timestamp::from_second(second)
            .map_err(|_| unfit("the CA certificate has no sensible beginning and end"))
    };
    let not_before = time(parsed.validity().not_before.timestamp())?;
    let not_after = time(parsed.validity().not_after.timestamp())?;
    Ok((certificate, not_before, not_after))
}

/// A certificate to be.
pub(super) struct Template<'a> {
    /// For people; programs read the alternative names.
    pub(super) name: &'a str,
    pub(super) alternatives: Vec<SanType>,
    pub(super) usage: ExtendedKeyUsagePurpose,
    /// From when on it is good; a little before now by default.
    pub(super) not_before: Option<Timestamp>,
    pub(super) lifetime: Duration,
    /// The latest end that it may have.
    pub(super) latest: Timestamp,
}

/// A certificate that is no CA's.
pub(super) struct Leaf {
    pub(super) certificate: rcgen::Certificate,
    /// Lower-case hexadecimal.
    pub(super) serial: String,
    pub(super) not_after: Timestamp,
}

impl Template<'_> {
    pub(super) fn sign(
        self,
        key: &impl PublicKeyData,
        issuer: &Issuer<'_, KeyPair>,
    ) -> Result<Leaf, PkiError> {
        let now = clock::now();
        let not_after = after(now, self.lifetime).min(self.latest);
        // To the second, as X.509 writes it.
        let not_after = Timestamp::from_second(not_after.as_second()).unwrap_or(not_after);
        let (number, serial) = serial()?;
        let mut params = CertificateParams::default();
        let not_before = self
            .not_before
            .unwrap_or_else(|| backdated(now, self.lifetime));
        params.not_before = offset(not_before)?;
        params.not_after = offset(not_after)?;
        params.serial_number = Some(number);
        params.distinguished_name = common_name(self.name);
        params.subject_alt_names = self.alternatives;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![self.usage];
        params.use_authority_key_identifier_extension = true;
        Ok(Leaf {
            certificate: params.signed_by(key, issuer)?,
            serial,
            not_after,
        })
    }
}

/// A random serial number of 128 bits and its text. The two highest bits are fixed, so that the
/// number is positive and always as long (RFC 5280 §4.1.2.2).
fn serial() -> Result<(SerialNumber, String), PkiError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| PkiError::Authority(error.to_string()))?;
    let [first, ..] = &mut bytes;
    *first = (*first & 0x3f) | 0x40;
    Ok((SerialNumber::from_slice(&bytes), HEXLOWER.encode(&bytes)))
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    // At most 64 characters (RFC 5280 appendix A.1).
    let name: String = name.chars().take(64).collect();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// A peer's clock may be a little behind. Of a short life it is a small part, so that a node does
/// not take the time before the certificate was made for time that has passed.
fn backdated(now: Timestamp, lifetime: Duration) -> Timestamp {
    now.checked_sub((lifetime / 20).min(BACKDATE))
        .unwrap_or(now)
}

fn after(now: Timestamp, lifetime: Duration) -> Timestamp {
    now.checked_add(lifetime).unwrap_or(Timestamp::MAX)
}

fn offset(at: Timestamp) -> Result<OffsetDateTime, PkiError> {
    OffsetDateTime::from_unix_timestamp(at.as_second())
        .map_err(|_| PkiError::Authority("the clock is out of range".into()))
}

const BACKDATE: Duration = Duration::from_secs(300);
const CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);
