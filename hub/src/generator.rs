//! How a secret's values are made: a policy that is remembered with the secret, so that it can be
//! rotated without saying it again. It holds no value. The values are made by the operator's
//! command, never here.

use std::fmt;

use clap::ValueEnum;
use edge_secrets_protocol::FieldName;
use serde::{Deserialize, Serialize};

/// How a value is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Generator {
    /// Random characters in one field.
    Password(PasswordPolicy),
    /// A new key pair: the fields [`PRIVATE_FIELD`] (PKCS#8, PEM) and [`PUBLIC_FIELD`]
    /// (SubjectPublicKeyInfo, PEM).
    KeyPair {
        /// Of which kind.
        algorithm: KeyAlgorithm,
    },
}

impl fmt::Display for Generator {
    /// In words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password(policy) => {
                let PasswordSpec {
                    field,
                    length,
                    charset,
                    ..
                } = &policy.0;
                write!(f, "{length} characters of {charset}, field {field}")
            }
            Self::KeyPair { algorithm } => write!(f, "key pair, {algorithm}"),
        }
    }
}

/// The field of a key pair that holds the private key.
pub const PRIVATE_FIELD: &str = "private";
/// The field of a key pair that holds the public key.
pub const PUBLIC_FIELD: &str = "public";

/// A kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum KeyAlgorithm {
    /// Ed25519
    Ed25519,
    /// ECDSA over P-256
    EcdsaP256,
    /// RSA of 3072 bits
    #[serde(rename = "rsa-3072")]
    #[value(name = "rsa-3072")]
    Rsa3072,
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ed25519 => "ed25519",
            Self::EcdsaP256 => "ecdsa-p256",
            Self::Rsa3072 => "rsa-3072",
        })
    }
}

/// What a password is drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Charset {
    /// A-Z a-z 0-9
    Alnum,
    /// All 94 visible ASCII characters
    Ascii,
    /// 0-9 a-f
    Hex,
    /// A-Z a-z 0-9 - _
    #[value(name = "base64url")]
    Base64url,
    /// 0-9
    Digits,
}

impl Charset {
    fn has(self, byte: u8) -> bool {
        match self {
            Self::Alnum => byte.is_ascii_alphanumeric(),
            Self::Ascii => byte.is_ascii_graphic(),
            Self::Hex => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
            Self::Base64url => byte.is_ascii_alphanumeric() || b"-_".contains(&byte),
            Self::Digits => byte.is_ascii_digit(),
        }
    }
}

impl fmt::Display for Charset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Alnum => "alnum",
            Self::Ascii => "ascii",
            Self::Hex => "hex",
            Self::Base64url => "base64url",
            Self::Digits => "digits",
        })
    }
}

/// A kind of character that a password can be made to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A-Z
    Upper,
    /// a-z
    Lower,
    /// 0-9
    Digit,
    /// Every other visible ASCII character
    Symbol,
}

impl Class {
    /// Whether the character is of this kind.
    #[must_use]
    pub fn has(self, byte: u8) -> bool {
        match self {
            Self::Upper => byte.is_ascii_uppercase(),
            Self::Lower => byte.is_ascii_lowercase(),
            Self::Digit => byte.is_ascii_digit(),
            Self::Symbol => byte.is_ascii_punctuation(),
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Upper => "upper-case letter",
            Self::Lower => "lower-case letter",
            Self::Digit => "digit",
            Self::Symbol => "symbol",
        })
    }
}

/// A password policy as it is written, perhaps one that no password can meet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordSpec {
    /// The field that gets the password.
    pub field: FieldName,
    /// Its length in characters, 1 to 4096.
    pub length: usize,
    /// What it is drawn from.
    pub charset: Charset,
    /// Characters that are left out: at most 94 of visible ASCII.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub exclude: String,
    /// At least so many upper-case letters.
    #[serde(default)]
    pub min_upper: usize,
    /// At least so many lower-case letters.
    #[serde(default)]
    pub min_lower: usize,
    /// At least so many digits.
    #[serde(default)]
    pub min_digits: usize,
    /// At least so many symbols.
    #[serde(default)]
    pub min_symbols: usize,
}

/// A password policy that passwords can meet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "PasswordSpec", into = "PasswordSpec")]
pub struct PasswordPolicy(PasswordSpec);

/// Why no password can meet a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The length is out of bounds.
    #[error("a password is 1 to {MAX_LENGTH} characters long")]
    Length,
    /// What is to be left out is no list of characters.
    #[error("what is excluded is at most 94 visible ASCII characters")]
    Exclude,
    /// Everything is left out.
    #[error("nothing is left of {0} to draw from: exclude less")]
    Empty(Charset),
    /// The minimums do not fit.
    #[error("the minimums together are above the length of {0}: lower them, or make it longer")]
    Minimums(usize),
    /// A minimum of what cannot come.
    #[error("there is no {0} to draw from: take another character set, or exclude less")]
    Class(Class),
}

impl PasswordPolicy {
    /// The field that gets the password.
    #[must_use]
    pub fn field(&self) -> &FieldName {
        &self.0.field
    }

    /// How many characters it has.
    #[must_use]
    pub fn length(&self) -> usize {
        self.0.length
    }

    /// What it is drawn from: each character once, never none.
    #[must_use]
    pub fn alphabet(&self) -> Vec<u8> {
        self.0.alphabet()
    }

    /// How many of each kind it has at least; at most its length together, and only of kinds that
    /// the alphabet has.
    #[must_use]
    pub fn minimums(&self) -> [(Class, usize); 4] {
        self.0.minimums()
    }
}

impl PasswordSpec {
    fn alphabet(&self) -> Vec<u8> {
        let fits = |byte: &u8| self.charset.has(*byte) && !self.exclude.as_bytes().contains(byte);
        (0..=u8::MAX).filter(fits).collect()
    }

    fn minimums(&self) -> [(Class, usize); 4] {
        [
            (Class::Upper, self.min_upper),
            (Class::Lower, self.min_lower),
            (Class::Digit, self.min_digits),
            (Class::Symbol, self.min_symbols),
        ]
    }
}

impl TryFrom<PasswordSpec> for PasswordPolicy {
    type Error = PolicyError;

    fn try_from(spec: PasswordSpec) -> Result<Self, PolicyError> {
        if !(1..=MAX_LENGTH).contains(&spec.length) {
            return Err(PolicyError::Length);
        }
        let visible = spec.exclude.bytes().all(|byte| byte.is_ascii_graphic());
        if spec.exclude.len() > MAX_EXCLUDED || !visible {
            return Err(PolicyError::Exclude);
        }
        let alphabet = spec.alphabet();
        if alphabet.is_empty() {
            return Err(PolicyError::Empty(spec.charset));
        }
        let minimums = spec.minimums();
        let together = minimums
            .iter()
            .try_fold(0_usize, |sum, (_, minimum)| sum.checked_add(*minimum));
        if together.is_none_or(|sum| sum > spec.length) {
            return Err(PolicyError::Minimums(spec.length));
        }
        let absent = |class: Class| !alphabet.iter().any(|byte| class.has(*byte));
        let unmet = minimums
            .into_iter()
            .find(|(class, minimum)| *minimum > 0 && absent(*class));
        match unmet {
            Some((class, _)) => Err(PolicyError::Class(class)),
            None => Ok(Self(spec)),
        }
    }
}

impl From<PasswordPolicy> for PasswordSpec {
    fn from(policy: PasswordPolicy) -> Self {
        policy.0
    }
}

const MAX_LENGTH: usize = 4096;
const MAX_EXCLUDED: usize = 94;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn spec(charset: Charset) -> PasswordSpec {
        PasswordSpec {
            field: "value".parse().unwrap(),
            length: 32,
            charset,
            exclude: String::new(),
            min_upper: 0,
            min_lower: 0,
            min_digits: 0,
            min_symbols: 0,
        }
    }

    #[test]
    fn alphabets_have_their_characters_and_not_the_excluded() {
        for (charset, size) in [
            (Charset::Alnum, 62),
            (Charset::Ascii, 94),
            (Charset::Hex, 16),
            (Charset::Base64url, 64),
            (Charset::Digits, 10),
        ] {
            let policy = PasswordPolicy::try_from(spec(charset)).unwrap();
            assert_eq!(policy.alphabet().len(), size, "{charset}");
        }
        let policy = PasswordPolicy::try_from(PasswordSpec {
            exclude: "013456789".into(),
            ..spec(Charset::Digits)
        });
        assert_eq!(policy.unwrap().alphabet(), b"2");
    }

    #[test]
    fn what_no_password_can_meet_is_refused_with_the_reason() {
        use PolicyError::{Class as NoClass, Empty, Exclude, Length, Minimums};
        let of = |change: fn(&mut PasswordSpec)| {
            let mut spec = spec(Charset::Hex);
            change(&mut spec);
            PasswordPolicy::try_from(spec).unwrap_err()
        };
        assert_eq!(of(|s| s.length = 0), Length);
        assert_eq!(of(|s| s.length = 4097), Length);
        assert_eq!(of(|s| s.exclude = "ä".into()), Exclude);
        assert_eq!(of(|s| s.exclude = "x".repeat(95)), Exclude);
        assert_eq!(
            of(|s| s.exclude = "0123456789abcdef".into()),
            Empty(Charset::Hex)
        );
        let sum = |s: &mut PasswordSpec| (s.min_digits, s.min_lower) = (20, 13);
        assert_eq!(of(sum), Minimums(32));
        assert_eq!(
            of(|s| (s.min_digits, s.min_lower) = (usize::MAX, 1)),
            Minimums(32)
        );
        assert_eq!(of(|s| s.min_upper = 1), NoClass(Class::Upper));
        let unmet = |s: &mut PasswordSpec| (s.exclude, s.min_lower) = ("abcdef".into(), 1);
        assert_eq!(of(unmet), NoClass(Class::Lower));
    }

    #[test]
    fn a_generator_is_kept_as_json_and_checked_again() {
        let text = json!({
            "kind": "password", "field": "value", "length": 20, "charset": "ascii",
            "exclude": "\"'", "min_upper": 1, "min_lower": 2, "min_digits": 3, "min_symbols": 4,
        });
        let password: Generator = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(serde_json::to_value(&password).unwrap(), text);
        assert_eq!(password.to_string(), "20 characters of ascii, field value");
        let text = json!({"kind": "key_pair", "algorithm": "rsa-3072"});
        let pair: Generator = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(serde_json::to_value(&pair).unwrap(), text);
        for refused in [
            json!({"kind": "password", "field": "value", "length": 0, "charset": "ascii"}),
            json!({"kind": "password", "field": "a/b", "length": 9, "charset": "ascii"}),
            json!({"kind": "key_pair", "algorithm": "rsa-512"}),
            json!({"kind": "oracle"}),
        ] {
            assert!(serde_json::from_value::<Generator>(refused).is_err());
        }
    }

    #[test]
    fn names_are_the_same_on_the_command_line_and_in_json() {
        for charset in Charset::value_variants() {
            let typed = charset.to_possible_value().unwrap();
            assert_eq!(json!(charset), typed.get_name());
            assert_eq!(charset.to_string(), typed.get_name());
        }
        for algorithm in KeyAlgorithm::value_variants() {
            let typed = algorithm.to_possible_value().unwrap();
            assert_eq!(json!(algorithm), typed.get_name());
            assert_eq!(algorithm.to_string(), typed.get_name());
        }
    }

    proptest! {
        #[test]
        fn every_visible_character_is_of_one_class(byte in 0x21_u8..=0x7e) {
            let classes = [Class::Upper, Class::Lower, Class::Digit, Class::Symbol];
            prop_assert_eq!(classes.iter().filter(|class| class.has(byte)).count(), 1);
        }
    }
}
