//! What a service shows to be answered: `auth.json`, and Basic authentication (RFC 7617) with it.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use data_encoding::{BASE64, HEXLOWER};
use http::HeaderValue;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::delivery::ConsumerId;

/// One consumer's own. The token is in no `Debug`, log or error.
pub(super) struct Credential {
    id: String,
    /// `id:token`, as it is shown.
    shown: Zeroizing<Vec<u8>>,
}

/// The content of `auth.json`, as Open Horizon writes it.
#[derive(Serialize)]
struct AuthFile<'a> {
    id: &'a str,
    token: &'a str,
    version: &'a str,
}

impl Credential {
    /// A token that nobody can foresee, in letters and digits.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub(super) fn new_token() -> Result<Zeroizing<Vec<u8>>, getrandom::Error> {
        let mut random = Zeroizing::new([0; TOKEN_BYTES]);
        getrandom::fill(random.as_mut())?;
        let mut token = Zeroizing::new(vec![0; 2 * TOKEN_BYTES]);
        HEXLOWER.encode_mut(random.as_ref(), &mut token);
        Ok(token)
    }

    /// The consumer's credential with this token; none when it is not one.
    pub(super) fn new(consumer: &ConsumerId, token: &[u8]) -> Option<Self> {
        let fits = token.len() == 2 * TOKEN_BYTES && token.iter().all(u8::is_ascii_alphanumeric);
        // No colon, blank or quote: it stands unquoted in shells, and ends at the first colon.
        let id = consumer.components().join("/");
        let mut shown = Zeroizing::new(Vec::with_capacity(id.len() + 1 + token.len()));
        shown.extend_from_slice(id.as_bytes());
        shown.push(b':');
        shown.extend_from_slice(token);
        fits.then_some(Self { id, shown })
    }

    /// `auth.json`, for a service of this version.
    pub(super) fn file(&self, version: &str) -> Zeroizing<Vec<u8>> {
        let token = self.shown.get(self.id.len() + 1..).unwrap_or_default();
        let file = AuthFile {
            id: &self.id,
            // Letters and digits.
            token: std::str::from_utf8(token).unwrap_or_default(),
            version,
        };
        // Three strings: there is nothing that cannot be written.
        Zeroizing::new(serde_json::to_vec(&file).unwrap_or_default())
    }

    /// Whether this is who may ask. How long it takes says nothing of how much of it is right.
    pub(super) fn admits(&self, authorization: Option<&HeaderValue>) -> bool {
        let Some(shown) = authorization.and_then(basic) else {
            return false;
        };
        verify_slices_are_equal(&shown, &self.shown).is_ok()
    }
}

/// What stands in a Basic header.
fn basic(header: &HeaderValue) -> Option<Zeroizing<Vec<u8>>> {
    let bytes = header.as_bytes();
    let at = bytes.iter().position(|byte| *byte == b' ')?;
    let (scheme, rest) = bytes.split_at(at);
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    let encoded = rest.trim_ascii();
    let len = BASE64.decode_len(encoded.len()).ok()?;
    let mut decoded = Zeroizing::new(vec![0; len]);
    let len = BASE64.decode_mut(encoded, &mut decoded).ok()?;
    decoded.truncate(len);
    Some(decoded)
}

const TOKEN_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn consumer(url: &str) -> ConsumerId {
        ConsumerId {
            service: format!("myorg/{url}").parse().unwrap(),
            consumer: "main".parse().unwrap(),
        }
    }

    fn header(text: &str) -> HeaderValue {
        HeaderValue::from_str(text).unwrap()
    }

    fn shown(credential: &Credential) -> String {
        let file = credential.file("1.0.0");
        let file: serde_json::Value = serde_json::from_slice(&file).unwrap();
        let (id, token) = (
            file["id"].as_str().unwrap(),
            file["token"].as_str().unwrap(),
        );
        assert_eq!(file["version"], "1.0.0");
        assert!(!id.contains([':', ' ', '"', '$']), "{id}");
        assert_eq!(token.len(), 64);
        BASE64.encode(format!("{id}:{token}").as_bytes())
    }

    #[test]
    fn who_shows_its_own_file_is_admitted_and_nobody_else() {
        let url = "https://example.com:443/a?b";
        let token = Credential::new_token().unwrap();
        let own = Credential::new(&consumer(url), &token).unwrap();
        let right = shown(&own);
        for scheme in ["Basic", "basic", "BASIC"] {
            assert!(own.admits(Some(&header(&format!("{scheme} {right}")))));
        }
        let again = Credential::new_token().unwrap();
        assert_ne!(token, again);
        let other = Credential::new(&consumer(url), &again).unwrap();
        assert!(!other.admits(Some(&header(&format!("Basic {right}")))));
        // The right token under another name.
        let elsewhere = Credential::new(&consumer("other"), &token).unwrap();
        assert!(!elsewhere.admits(Some(&header(&format!("Basic {right}")))));
        assert!(!own.admits(None));
        let cut = &right[..right.len() - 4];
        for wrong in [
            "",
            "Basic",
            "Basic ",
            "Basic !",
            &format!("Bearer {right}"),
            &format!("Basic {cut}"),
            &format!("Basic {right}AAAA"),
            &format!("Basic{right}"),
        ] {
            assert!(!own.admits(Some(&header(wrong))), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_token_makes_no_credential() {
        for wrong in [&b""[..], b"short", &[b':'; 64], &[0xff; 64]] {
            assert!(Credential::new(&consumer("a"), wrong).is_none());
        }
    }
}
