//! Enrolment and renewal: `POST /v1/enroll` and `POST /v1/renew`.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::name::{NodeId, OrgId};
use crate::node::NodeFacts;
use crate::sealed::PublicKey;

/// What lets one node enrol once: a text like `es1.myorg/edge-01.<fingerprint>.<secret>`.
///
/// It carries the SHA-256 fingerprint of the hub's CA certificate, so that enrolment needs no other
/// trust. The secret half is wiped when dropped and shown by [`expose`](Self::expose) alone.
pub struct Token {
    /// The node's organisation.
    pub org: OrgId,
    /// The node that may enrol.
    pub node: NodeId,
    /// SHA-256 over the DER form of the hub's CA certificate.
    pub ca_fingerprint: [u8; 32],
    secret: Zeroizing<[u8; 32]>,
}

impl Token {
    /// A new token with a random secret.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn generate(
        org: OrgId,
        node: NodeId,
        ca_fingerprint: [u8; 32],
    ) -> Result<Self, getrandom::Error> {
        let mut secret = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *secret)?;
        Ok(Self {
            org,
            node,
            ca_fingerprint,
            secret,
        })
    }

    /// The token's secret half; the hub keeps a hash of it.
    #[must_use]
    pub fn expose_secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// The token as text, for the one who will paste it.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        let secret = Zeroizing::new(BASE64URL_NOPAD.encode(&*self.secret));
        let fingerprint = HEXLOWER.encode(&self.ca_fingerprint);
        Zeroizing::new(format!(
            "{PREFIX}.{}/{}.{fingerprint}.{}",
            self.org, self.node, *secret
        ))
    }
}

/// A text that is not a token. Says nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not an enrolment token (it starts with `{PREFIX}.` and comes from `edge-secrets node token`)"
)]
pub struct TokenError;

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        if text.len() > MAX_TOKEN {
            return Err(TokenError);
        }
        // Names may hold dots: the two fixed parts are cut off from the right.
        let rest = text
            .trim()
            .strip_prefix(PREFIX)
            .and_then(|t| t.strip_prefix('.'));
        let mut parts = rest.ok_or(TokenError)?.rsplitn(3, '.');
        let (Some(secret), Some(print), Some(name)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError);
        };
        let (org, node) = name.split_once('/').ok_or(TokenError)?;
        let mut ca_fingerprint = [0; 32];
        decode_exact(&HEXLOWER, print, &mut ca_fingerprint)?;
        let mut bytes = Zeroizing::new([0; 32]);
        decode_exact(&BASE64URL_NOPAD, secret, &mut *bytes)?;
        Ok(Self {
            org: org.parse().map_err(|_| TokenError)?,
            node: node.parse().map_err(|_| TokenError)?,
            ca_fingerprint,
            secret: bytes,
        })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}/{}, ..)", self.org, self.node)
    }
}

/// The body of `POST /v1/enroll`.
#[derive(Serialize, Deserialize)]
pub struct EnrollRequest {
    /// The token's text: good for one use, and hidden in `Debug`.
    pub token: String,
    /// The certificate signing request, PEM. Its subject does not matter: the token says who it is.
    pub csr: String,
    /// Where values are sealed to.
    pub sealing_key: PublicKey,
    /// What the node says of itself.
    pub facts: NodeFacts,
}

impl fmt::Debug for EnrollRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrollRequest")
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

/// The answer of both calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The node's organisation.
    pub org: OrgId,
    /// The node.
    pub node: NodeId,
    /// The node's certificate and what it needs up to the CA, PEM.
    pub certificate: String,
    /// The CA certificates to trust, PEM.
    pub trust_bundle: String,
}

/// The body of `POST /v1/renew`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RenewRequest {
    /// The certificate signing request over a new key, PEM.
    pub csr: String,
    /// A new sealing key, when it is rotated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealing_key: Option<PublicKey>,
}

fn decode_exact(
    encoding: &data_encoding::Encoding,
    text: &str,
    out: &mut [u8],
) -> Result<(), TokenError> {
    if encoding.decode_len(text.len()) != Ok(out.len()) {
        return Err(TokenError);
    }
    encoding
        .decode_mut(text.as_bytes(), out)
        .map(|_| ())
        .map_err(|_| TokenError)
}

const PREFIX: &str = "es1";
const MAX_TOKEN: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_text_and_hides_in_debug() {
        let token = Token::generate(
            "a.b@c".parse().unwrap(),
            "edge-01.x".parse().unwrap(),
            [9; 32],
        )
        .unwrap();
        let text = token.expose();
        let again: Token = text.parse().unwrap();
        assert_eq!(again.org, token.org);
        assert_eq!(again.node, token.node);
        assert_eq!(again.ca_fingerprint, [9; 32]);
        assert_eq!(again.expose_secret(), token.expose_secret());
        assert_eq!(format!("{token:?}"), "Token(a.b@c/edge-01.x, ..)");
    }

    #[test]
    fn what_is_not_a_token_is_refused() {
        let good = Token::generate("o".parse().unwrap(), "n".parse().unwrap(), [0; 32]).unwrap();
        let good = good.expose();
        let cut = &good[..good.len() - 1];
        for text in [
            "",
            "es1",
            "es1.o/n",
            "es2.o/n.00.00",
            cut,
            &good.replace("o/n", "../n"),
        ] {
            assert!(text.parse::<Token>().is_err(), "{text}");
        }
    }
}
