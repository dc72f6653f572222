//! What is fed with foreign bytes, for the fuzz targets under `fuzz/` and for the plain tests that run their
//! corpora. Each takes anything, and fails by panicking: where a reader and a writer do not agree.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::binding::{Bindings, FetchRequest};
use crate::enroll::{EnrollRequest, Token};
use crate::name::{PatternChoice, SecretName, SecretVersion, ServiceId};
use crate::node::NodeFacts;
use crate::sealed::{Place, Sealed, SealingKey};
use crate::secret::Fields;
use crate::status::StatusReport;
use crate::watch::WatchDecoder;
use crate::{OrgId, Source, UserId};

/// A target: what it is called, and what takes the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of this crate.
pub const TARGETS: [Target; 6] = [
    ("sealed", sealed),
    ("payload", payload),
    ("token", token),
    ("watch", watch),
    ("names", names),
    ("messages", messages),
];

/// A sealed value: it does not open, and is read and written as it is.
///
/// # Panics
/// Where that does not hold.
pub fn sealed(bytes: &[u8]) {
    let Ok(sealed) = serde_json::from_slice::<Sealed>(bytes) else {
        return;
    };
    again(&sealed);
    let (Ok(key), Ok(org), Ok(user)) = (
        SealingKey::from_bytes(&[7; 32]),
        "o".parse::<OrgId>(),
        "u".parse::<UserId>(),
    ) else {
        return;
    };
    let place = Place::Set {
        org: &org,
        user: &user,
        reference: "x",
    };
    let mut room = [0xa5; 512];
    if sealed.open_into(&key, &place, &mut room).is_err() {
        assert!(
            room.iter().all(|byte| *byte == 0),
            "something is left of it"
        );
    }
}

/// A payload: its fields are written again as they were read.
///
/// # Panics
/// Where that does not hold.
pub fn payload(bytes: &[u8]) {
    let Ok(fields) = Fields::decode(bytes) else {
        return;
    };
    let named: Vec<_> = fields
        .expose()
        .filter_map(|(name, value)| Some((name.parse().ok()?, value)))
        .collect();
    assert_eq!(named.len(), fields.names().len(), "a field's name is none");
    let again = Fields::encode(&named);
    assert!(
        again.is_ok_and(|again| again.expose() == bytes),
        "written otherwise"
    );
}

/// An enrolment token.
///
/// # Panics
/// Where it is written otherwise than read.
pub fn token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(token) = text.parse::<Token>() {
        let again = token.expose().parse::<Token>();
        assert!(again.is_ok_and(|again| *again.expose() == *token.expose()));
    }
}

/// A watch's stream says the same however it is cut.
///
/// # Panics
/// Where that does not hold.
pub fn watch(bytes: &[u8]) {
    let mut whole = WatchDecoder::default();
    let at_once = whole.push(bytes);
    let (mut cut, mut events) = (WatchDecoder::default(), Vec::new());
    for byte in bytes {
        match cut.push(std::slice::from_ref(byte)) {
            Ok(more) => events.extend(more),
            Err(_) => {
                assert!(at_once.is_err(), "an error that is none at once");
                return;
            }
        }
    }
    assert_eq!(at_once.ok(), Some(events));
}

/// Every name is written as it was read.
///
/// # Panics
/// Where one is not.
pub fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    macro_rules! as_read {
        ($($Name:ty),*) => {$(
            if let Ok(name) = text.parse::<$Name>() {
                assert_eq!(name.to_string(), text);
            }
        )*};
    }
    as_read!(
        OrgId,
        UserId,
        SecretName,
        SecretVersion,
        ServiceId,
        PatternChoice
    );
    if let Ok(source) = text.parse::<Source>() {
        assert_eq!(source.to_string().parse(), Ok(source));
    }
}

/// Every message of the node protocol is written as it was read.
///
/// # Panics
/// Where one is not.
pub fn messages(bytes: &[u8]) {
    fn message<T: DeserializeOwned + Serialize>(bytes: &[u8]) {
        if let Ok(message) = serde_json::from_slice::<T>(bytes) {
            again(&message);
        }
    }
    message::<Bindings>(bytes);
    message::<FetchRequest>(bytes);
    message::<StatusReport>(bytes);
    message::<NodeFacts>(bytes);
    message::<EnrollRequest>(bytes);
}

fn again<T: DeserializeOwned + Serialize>(message: &T) {
    let text = serde_json::to_string(message).unwrap_or_default();
    let second = serde_json::from_str::<T>(&text);
    let second = second.map(|second| serde_json::to_string(&second).unwrap_or_default());
    assert!(
        second.is_ok_and(|second| second == text),
        "written otherwise"
    );
}

/// Runs the corpora of these targets, and of every file what is left when something is cut off or changed.
///
/// # Panics
/// Where a target fails, or has no corpus.
#[cfg(any(test, feature = "fuzzing"))]
pub fn run_corpora(targets: &[Target], fuzz: &std::path::Path) {
    for (name, target) in targets {
        let dir = fuzz.join("corpus").join(name);
        let mut files = 0;
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let bytes = std::fs::read(entry.path()).unwrap_or_default();
            target(&bytes);
            for at in 0..bytes.len().min(256) {
                target(bytes.get(..at).unwrap_or_default());
                let mut changed = bytes.clone();
                if let Some(byte) = changed.get_mut(at) {
                    *byte ^= 1 << (at % 8);
                }
                target(&changed);
            }
            files += 1;
        }
        assert!(files > 0, "{} has no file", dir.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpora_of_every_target_are_taken() {
        let fuzz = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
        run_corpora(&TARGETS, &fuzz);
    }
}
