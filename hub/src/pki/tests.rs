use rcgen::{CertificateParams, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SignatureAlgorithm};
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::identity::{ClientCertificate, IdentityError};
use super::*;

fn pki() -> Pki {
    Pki::create(TrustDomain::default()).unwrap().0
}

fn csr(algorithm: &'static SignatureAlgorithm) -> String {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let params = CertificateParams::new(["evil.example".to_owned()]).unwrap();
    params.serialize_request(&key).unwrap().pem().unwrap()
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

#[test]
fn a_node_certificate_names_the_node_and_nothing_that_the_request_asked_for() {
    let pki = pki();
    let (org, node) = ("my@org".parse().unwrap(), "edge-01".parse().unwrap());
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &PKCS_ECDSA_P384_SHA384,
        &PKCS_ED25519,
    ] {
        let lifetime = Duration::from_secs(3600);
        let issued = pki
            .issue_node(&csr(algorithm), &org, &node, lifetime)
            .unwrap();
        let der = der(&issued.certificate_pem_chain);
        let read = ClientCertificate::parse(&der, pki.trust_domain()).unwrap();
        assert_eq!(
            read.principal,
            Principal::Node {
                org: org.clone(),
                node: node.clone()
            }
        );
        assert_eq!(read.serial, issued.serial);
        assert_eq!(issued.serial.len(), 32);
        assert_eq!(read.not_after, issued.not_after);

        let (_, parsed) = X509Certificate::from_der(&der).unwrap();
        assert!(!format!("{parsed:?}").contains("evil"));
        assert!(!parsed.is_ca());
        let age =
            parsed.validity().not_after.timestamp() - parsed.validity().not_before.timestamp();
        // Backdated by a twentieth of its life.
        assert_eq!(age, 3600 + 180);
    }
}

#[test]
fn serial_numbers_differ() {
    let pki = pki();
    let (org, user) = ("o".parse().unwrap(), "alice".parse().unwrap());
    let csr = csr(&rcgen::PKCS_ECDSA_P256_SHA256);
    let day = Duration::from_secs(86_400);
    let one = pki.issue_user(&csr, &org, &user, day).unwrap();
    let two = pki.issue_user(&csr, &org, &user, day).unwrap();
    assert_ne!(one.serial, two.serial);
}

#[test]
fn a_request_that_is_not_signed_with_its_own_key_is_refused() {
    let pki = pki();
    let (org, node) = ("o".parse().unwrap(), "n".parse().unwrap());
    let day = Duration::from_secs(86_400);
    let refused = |csr: &str| {
        pki.issue_node(csr, &org, &node, day)
            .unwrap_err()
            .to_string()
    };

    let good = csr(&rcgen::PKCS_ECDSA_P256_SHA256);
    let mut der = rustls::pki_types::CertificateSigningRequestDer::from_pem_slice(good.as_bytes())
        .unwrap()
        .to_vec();
    let last = der.len() - 1;
    der[last] ^= 1;
    let body = data_encoding::BASE64.encode(&der);
    let forged =
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n");
    assert!(refused(&forged).contains("own key"), "{}", refused(&forged));

    assert!(refused("").contains("PEM"));
    assert!(refused(&"x".repeat(20_000)).contains("too large"));
    assert!(refused(pki.trust_bundle_pem()).contains("PEM"));
}

#[test]
fn a_server_certificate_is_no_client_certificate() {
    let pki = pki();
    let names = ["localhost".to_owned(), "127.0.0.1".into(), "::1".into()];
    let mut servers = pki.issue_server(&names, Duration::from_secs(3600)).unwrap();
    let server = servers.remove(0);
    assert!(servers.is_empty());
    assert_eq!(Some(&server.chain[1]), pki.ca_certificates().next());
    assert_eq!(
        ClientCertificate::parse(&server.chain[0], pki.trust_domain()),
        Err(IdentityError::Usage)
    );
}

#[test]
fn an_authority_survives_its_files_and_refuses_a_foreign_key() {
    let (pki, key) = Pki::create(TrustDomain::default()).unwrap();
    let again = Pki::from_pem(pki.trust_bundle_pem(), &key, TrustDomain::default()).unwrap();
    assert_eq!(again.ca_fingerprint(), pki.ca_fingerprint());

    let (_, other) = Pki::create(TrustDomain::default()).unwrap();
    let refused = Pki::from_pem(pki.trust_bundle_pem(), &other, TrustDomain::default());
    assert!(
        refused
            .err()
            .unwrap()
            .to_string()
            .contains("not over the CA key")
    );
}

#[test]
fn no_certificate_outlives_its_authority() {
    let pki = pki();
    let (org, user) = ("o".parse().unwrap(), "alice".parse().unwrap());
    let century = Duration::from_secs(100 * 365 * 86_400);
    let csr = csr(&rcgen::PKCS_ECDSA_P256_SHA256);
    let issued = pki.issue_user(&csr, &org, &user, century).unwrap();
    assert_eq!(issued.not_after, pki.issuing.not_after);
}
