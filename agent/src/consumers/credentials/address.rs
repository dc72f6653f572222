//! Who asks, and for what: the address that systemd binds before it connects.

use std::fmt;

use crate::consumers::names::{CredentialId, UnitName};

/// One unit's request for one credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) unit: UnitName,
    pub(super) credential: CredentialId,
}

/// Why an address names no unit and credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum AddressError {
    /// It has none, or a path.
    #[error("its address is not an abstract one")]
    NotAbstract,
    /// It is not `<hex>/unit/<unit>/<credential>`.
    #[error("its address is not of the form that systemd gives (systemd.exec(5), LoadCredential=)")]
    Shape,
    /// What stands for the unit is none.
    #[error("its address does not name a unit")]
    Unit,
    /// What stands for the credential is none.
    #[error("its address does not name a credential")]
    Credential,
}

impl Request {
    /// Reads an abstract address without its leading zero byte. It is taken as systemd writes it or
    /// not at all: 1 to 16 lower-case hexadecimal digits, `/unit/`, the unit, `/`, the credential.
    ///
    /// # Errors
    /// When it is anything else.
    pub(super) fn parse(address: &[u8]) -> Result<Self, AddressError> {
        let text = std::str::from_utf8(address).map_err(|_| AddressError::Shape)?;
        let mut parts = text.split('/');
        let (Some(random), Some("unit"), Some(unit), Some(credential), None) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            return Err(AddressError::Shape);
        };
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if !(1..=16).contains(&random.len()) || !random.bytes().all(hex) {
            return Err(AddressError::Shape);
        }
        let unit: UnitName = unit.parse().map_err(|_| AddressError::Unit)?;
        if unit.is_template() {
            return Err(AddressError::Unit);
        }
        Ok(Self {
            unit,
            credential: credential.parse().map_err(|_| AddressError::Credential)?,
        })
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "credential {} of {}", self.credential, self.unit)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(address: &str) -> Result<Request, AddressError> {
        Request::parse(address.as_bytes())
    }

    #[test]
    fn an_address_as_systemd_writes_it_is_read() {
        let request = parse("adf9d86b6eda275e/unit/foobar.service/credx").unwrap();
        assert_eq!(request.unit.as_str(), "foobar.service");
        assert_eq!(request.credential.as_str(), "credx");
        let instance = parse("0/unit/uplink@berlin.service/a.b_c-d").unwrap();
        assert_eq!(instance.unit.as_str(), "uplink@berlin.service");
    }

    #[test]
    fn anything_else_is_refused_with_its_reason() {
        for (wrong, reason) in [
            ("", AddressError::Shape),
            ("adf9", AddressError::Shape),
            ("adf9/unit/foo.service", AddressError::Shape),
            ("/unit/foo.service/x", AddressError::Shape),
            ("ADF9/unit/foo.service/x", AddressError::Shape),
            ("0x1/unit/foo.service/x", AddressError::Shape),
            ("adf9d86b6eda275e0/unit/foo.service/x", AddressError::Shape),
            ("adf9/socket/foo.service/x", AddressError::Shape),
            ("adf9/unit/foo.service/x/y", AddressError::Shape),
            ("adf9/unit/foo.service/x/", AddressError::Shape),
            ("adf9//unit/foo.service/x", AddressError::Shape),
            ("adf9/unit/foo/x", AddressError::Unit),
            ("adf9/unit//x", AddressError::Unit),
            ("adf9/unit/../x", AddressError::Unit),
            ("adf9/unit/foo@.service/x", AddressError::Unit),
            ("adf9/unit/foo.service/", AddressError::Credential),
            ("adf9/unit/foo.service/..", AddressError::Credential),
            ("adf9/unit/foo.service/a b", AddressError::Credential),
            ("adf9/unit/foo.service/a\0", AddressError::Credential),
        ] {
            assert_eq!(parse(wrong), Err(reason), "{wrong:?}");
        }
        let not_text = Request::parse(b"adf9/unit/foo.service/\xff");
        assert_eq!(not_text, Err(AddressError::Shape));
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_what_was_written(
            random in any::<u64>(),
            unit in "[a-zA-Z0-9:_.\\\\-]{1,20}(@[a-z0-9_]{1,8})?",
            credential in "[!-.0-9;-~]{1,30}",
        ) {
            let address = format!("{random:x}/unit/{unit}.service/{credential}");
            match parse(&address) {
                Ok(request) => {
                    prop_assert_eq!(request.unit.as_str(), format!("{unit}.service"));
                    prop_assert_eq!(request.credential.as_str(), credential);
                }
                Err(_) => prop_assert!(credential == "." || credential == ".."),
            }
        }

        #[test]
        fn no_bytes_make_it_panic_and_what_it_takes_it_takes_whole(
            bytes in proptest::collection::vec(any::<u8>(), 0..120),
        ) {
            if let Ok(request) = Request::parse(&bytes) {
                let end = format!("/unit/{}/{}", request.unit, request.credential);
                prop_assert!(bytes.ends_with(end.as_bytes()));
            }
        }

        #[test]
        fn a_changed_byte_never_makes_another_request_of_the_same_length_up(
            at in 0_usize..40,
            byte in any::<u8>(),
        ) {
            let mut bytes = b"adf9d86b6eda275e/unit/foobar.service/credx".to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(request) = Request::parse(&bytes) {
                let written = format!("{}/{}", request.unit, request.credential);
                prop_assert_eq!(&bytes[22..], written.as_bytes());
            }
        }
    }
}
