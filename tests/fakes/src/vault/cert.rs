//! Logins with a TLS certificate.

use std::collections::BTreeMap;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::answer::{Answer, Outcome, none, refuse, unsupported};
use super::tokens::DEFAULT_TTL;
use super::{AuthMethod, Call, NewToken, Vault, Verb, seconds};

/// Whom a role lets in, and what its tokens are like.
#[derive(Debug, Clone, Default)]
pub struct CertRole {
    /// The one certificate, PEM; any that the server's authority issued when absent.
    pub certificate: Option<String>,
    /// The tokens' policies.
    pub policies: Vec<String>,
    /// Their time to live, in seconds.
    pub ttl: Option<u64>,
}

#[derive(Default)]
pub(crate) struct Roles(BTreeMap<String, CertRole>);

impl Vault {
    /// Sets a role of the certificate method at `auth/MOUNT`.
    ///
    /// # Panics
    /// When there is no such method.
    pub fn cert_role(&mut self, mount: &str, name: &str, role: CertRole) {
        self.certs(mount).0.insert(name.to_owned(), role);
    }

    fn certs(&mut self, mount: &str) -> &mut Roles {
        match self.auths.get_mut(mount) {
            Some(AuthMethod::Cert(roles)) => roles,
            _ => panic!("no certificates at auth/{mount}"),
        }
    }

    pub(super) fn cert(&mut self, call: &Call<'_>, mount: &str, rest: &str) -> Outcome {
        match (call.verb, rest.split('/').collect::<Vec<_>>().as_slice()) {
            (Verb::Write, ["login"]) => self.cert_login(call, mount),
            (Verb::Write, ["certs", name]) => {
                let policies = call.body.get("token_policies");
                let names = policies.and_then(Value::as_array).into_iter().flatten();
                let role = CertRole {
                    certificate: Some(call.text("certificate").to_owned()),
                    policies: names.filter_map(Value::as_str).map(str::to_owned).collect(),
                    ttl: call.body.get("token_ttl").and_then(seconds),
                };
                self.cert_role(mount, name, role);
                none()
            }
            (Verb::List, ["certs"]) => {
                let keys: Vec<_> = self.certs(mount).0.keys().cloned().collect();
                Ok(Answer::data(json!({"keys": keys})))
            }
            _ => unsupported(),
        }
    }

    fn cert_login(&mut self, call: &Call<'_>, mount: &str) -> Outcome {
        let Some(certificate) = call.certificate else {
            self.counted.refused_logins += 1;
            return refuse(
                400,
                &["invalid certificate or no client certificate supplied"],
            );
        };
        let wanted = call.text("name").to_owned();
        let fits = |role: &CertRole| {
            role.certificate.as_ref().is_none_or(|pem| {
                CertificateDer::from_pem_slice(pem.as_bytes())
                    .is_ok_and(|der| der.as_ref() == certificate)
            })
        };
        let mut roles = self.certs(mount).0.iter();
        let found = roles.find(|(name, role)| {
            let named = wanted.is_empty() || **name == wanted;
            named && fits(role)
        });
        let Some((name, role)) = found.map(|(name, role)| (name.clone(), role.clone())) else {
            self.counted.refused_logins += 1;
            return refuse(
                400,
                &["no chain matching all constraints could be found for this login certificate"],
            );
        };
        self.counted.logins += 1;
        let new = NewToken {
            policies: role.policies,
            namespace: call.namespace.clone(),
            ttl: role.ttl.or(Some(DEFAULT_TTL)),
            path: format!("auth/{mount}/login"),
            metadata: json!({"cert_name": name}),
            ..NewToken::default()
        };
        let token = self.tokens.create(new, call.now);
        Ok(Answer::auth(token.auth(call.now)))
    }
}
