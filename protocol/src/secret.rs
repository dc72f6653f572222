//! A secret's value in memory, and the fields it is made of.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

use crate::limits::{MAX_FIELDS, MAX_SECRET_BYTES};
use crate::name::FieldName;

/// Bytes that nobody may see: wiped when dropped, never cloned, printed or serialised.
///
/// Not promised: that no copy stands in a register, on a stack or in the kernel; see SECURITY.md.
pub struct Secret(Zeroizing<Box<[u8]>>);

impl Secret {
    /// Takes `bytes` over. Spare capacity is wiped rather than left behind.
    #[must_use]
    pub fn new(mut bytes: Vec<u8>) -> Self {
        if bytes.len() == bytes.capacity() {
            return Self(Zeroizing::new(bytes.into_boxed_slice()));
        }
        let exact: Box<[u8]> = bytes.as_slice().into();
        bytes.zeroize();
        Self(Zeroizing::new(exact))
    }

    /// `len` bytes of zero, to be filled in place through [`expose_mut`](Self::expose_mut).
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        Self(Zeroizing::new(vec![0; len].into_boxed_slice()))
    }

    /// The bytes. Every caller of this name is on the list to audit.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, to work on in place.
    pub fn expose_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A payload that does not decode. Says nothing of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// There is no field, or more than [`MAX_FIELDS`].
    #[error("a secret has between 1 and {MAX_FIELDS} fields")]
    FieldCount,
    /// Two fields have one name.
    #[error("two fields of the secret have the same name")]
    Duplicate,
    /// More than [`MAX_SECRET_BYTES`] together.
    #[error("the secret is larger than {MAX_SECRET_BYTES} bytes")]
    TooLarge,
    /// The bytes are not a payload of this version.
    #[error("the payload is malformed")]
    Malformed,
}

/// A secret's fields, borrowed from a payload and shown in order of their names.
///
/// The payload is a byte string: `1` (format version), the number of fields as `u8`, then per field
/// the name's length as `u8`, the name, the value's length as big-endian `u32`, the value. A binary
/// form, so that no parser ever copies or quotes a value.
pub struct Fields<'a>(Vec<(&'a str, &'a [u8])>);

impl<'a> Fields<'a> {
    /// Encodes `fields` into one payload, sorted by name.
    ///
    /// # Errors
    /// When there are too few, too many, too large or doubled fields.
    pub fn encode(fields: &[(FieldName, &[u8])]) -> Result<Secret, PayloadError> {
        if fields.is_empty() || fields.len() > MAX_FIELDS {
            return Err(PayloadError::FieldCount);
        }
        let mut sorted: Vec<_> = fields.iter().collect();
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        if sorted
            .windows(2)
            .any(|pair| matches!(pair, [a, b] if a.0 == b.0))
        {
            return Err(PayloadError::Duplicate);
        }
        let size = sorted.iter().try_fold(HEADER, |size, (name, value)| {
            size.checked_add(1 + name.as_str().len() + 4)?
                .checked_add(value.len())
        });
        let Some(size) = size.filter(|size| *size <= MAX_SECRET_BYTES) else {
            return Err(PayloadError::TooLarge);
        };
        // The final capacity at once: a growing vector would leave copies behind.
        let mut payload = Vec::with_capacity(size);
        payload.push(VERSION);
        payload.push(u8::try_from(sorted.len()).map_err(|_| PayloadError::FieldCount)?);
        for (name, value) in sorted {
            let name = name.as_str();
            payload.push(u8::try_from(name.len()).map_err(|_| PayloadError::Malformed)?);
            payload.extend_from_slice(name.as_bytes());
            let len = u32::try_from(value.len()).map_err(|_| PayloadError::TooLarge)?;
            payload.extend_from_slice(&len.to_be_bytes());
            payload.extend_from_slice(value);
        }
        Ok(Secret::new(payload))
    }

    /// Reads the fields of a payload without copying a value.
    ///
    /// # Errors
    /// When the bytes are not exactly one payload with valid, ascending field names.
    pub fn decode(payload: &'a [u8]) -> Result<Self, PayloadError> {
        let malformed = PayloadError::Malformed;
        if payload.len() > MAX_SECRET_BYTES {
            return Err(PayloadError::TooLarge);
        }
        let (header, mut rest) = payload.split_at_checked(HEADER).ok_or(malformed)?;
        let &[VERSION, count] = header else {
            return Err(malformed);
        };
        if count == 0 || usize::from(count) > MAX_FIELDS {
            return Err(PayloadError::FieldCount);
        }
        let mut fields: Vec<(&str, &[u8])> = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let (&name_len, tail) = rest.split_first().ok_or(malformed)?;
            let (name, tail) = tail
                .split_at_checked(usize::from(name_len))
                .ok_or(malformed)?;
            let name = std::str::from_utf8(name).map_err(|_| malformed)?;
            name.parse::<FieldName>().map_err(|_| malformed)?;
            let (len, tail) = tail.split_first_chunk::<4>().ok_or(malformed)?;
            let len = usize::try_from(u32::from_be_bytes(*len)).map_err(|_| malformed)?;
            let (value, tail) = tail.split_at_checked(len).ok_or(malformed)?;
            if fields.last().is_some_and(|(last, _)| *last >= name) {
                return Err(malformed);
            }
            fields.push((name, value));
            rest = tail;
        }
        if rest.is_empty() {
            Ok(Self(fields))
        } else {
            Err(malformed)
        }
    }

    /// The fields' names and values, ascending by name.
    pub fn expose(&self) -> impl ExactSizeIterator<Item = (&'a str, &'a [u8])> + '_ {
        self.0.iter().copied()
    }

    /// The fields' names, ascending.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &'a str> + '_ {
        self.0.iter().map(|(name, _)| *name)
    }

    /// What `value_only` delivers: the field `value`, else the only field there is.
    #[must_use]
    pub fn expose_value(&self) -> Option<&'a [u8]> {
        let named = self.0.iter().find(|(name, _)| *name == VALUE_FIELD);
        match (named, self.0.as_slice()) {
            (Some((_, value)), _) | (None, [(_, value)]) => Some(value),
            _ => None,
        }
    }
}

impl fmt::Debug for Fields<'_> {
    /// Names only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

/// The field that holds a secret's one value where it has only one, and that `value_only` delivers.
pub const VALUE_FIELD: &str = "value";

const VERSION: u8 = 1;
const HEADER: usize = 2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn field(name: &str) -> FieldName {
        name.parse().unwrap()
    }

    #[test]
    fn fields_come_back_sorted() {
        let payload =
            Fields::encode(&[(field("value"), b"user:pw"), (field("key"), b"basicauth")]).unwrap();
        let fields = Fields::decode(payload.expose()).unwrap();
        let shown: Vec<_> = fields.expose().collect();
        assert_eq!(
            shown,
            [("key", &b"basicauth"[..]), ("value", &b"user:pw"[..])]
        );
        assert_eq!(fields.expose_value(), Some(&b"user:pw"[..]));
        assert_eq!(format!("{fields:?}"), r#"["key", "value"]"#);
    }

    #[test]
    fn value_only_needs_one_field_or_one_named_value() {
        let one = Fields::encode(&[(field("pem"), b"x")]).unwrap();
        assert_eq!(
            Fields::decode(one.expose()).unwrap().expose_value(),
            Some(&b"x"[..])
        );
        let two = Fields::encode(&[(field("a"), b"x"), (field("b"), b"y")]).unwrap();
        assert_eq!(Fields::decode(two.expose()).unwrap().expose_value(), None);
    }

    #[test]
    fn bounds_are_kept() {
        assert_eq!(Fields::encode(&[]).err(), Some(PayloadError::FieldCount));
        let twice = [(field("a"), &b"x"[..]), (field("a"), &b"y"[..])];
        assert_eq!(Fields::encode(&twice).err(), Some(PayloadError::Duplicate));
        let large = vec![0; MAX_SECRET_BYTES];
        assert_eq!(
            Fields::encode(&[(field("a"), &large)]).err(),
            Some(PayloadError::TooLarge)
        );
    }

    proptest! {
        #[test]
        fn any_fields_survive(
            fields in prop::collection::btree_map(
                "[a-zA-Z0-9_-]{1,20}", prop::collection::vec(any::<u8>(), 0..200), 1..8)
        ) {
            let input: Vec<_> = fields.iter().map(|(n, v)| (field(n), v.as_slice())).collect();
            let payload = Fields::encode(&input).unwrap();
            let decoded = Fields::decode(payload.expose()).unwrap();
            let output: Vec<_> = decoded.expose().collect();
            let wanted: Vec<_> = fields.iter().map(|(n, v)| (n.as_str(), v.as_slice())).collect();
            prop_assert_eq!(output, wanted);
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(fields) = Fields::decode(&bytes) {
                let input: Vec<_> = fields.expose().map(|(n, v)| (field(n), v)).collect();
                let again = Fields::encode(&input).unwrap();
                prop_assert_eq!(again.expose(), &bytes[..]);
            }
        }
    }
}
