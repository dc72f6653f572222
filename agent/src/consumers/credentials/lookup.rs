//! Which file a request means. Pure: a shelf and a request give an answer.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use edge_secrets_protocol::ServiceId;

use super::address::Request;
use super::{Shelf, Shelved};
use crate::consumers::names::FileName;
use crate::consumers::profile::{Credentials, Profile};
use crate::delivery::ConsumerId;

/// What a request means now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'s> {
    /// A file of a live generation.
    File {
        consumer: &'s ConsumerId,
        generation: &'s Path,
        file: FileName,
        wait: Duration,
    },
    /// Nothing yet; so long after it was asked for it is too late.
    NotYet {
        wait: Duration,
    },
    Refused(Refusal),
}

/// Why a request is not served, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// No profile names the unit.
    #[error(
        "no profile gives this unit credentials; name it under systemd.units in a file of \
         services.d"
    )]
    UnknownUnit,
    /// The credential's name cannot be a file's.
    #[error(
        "no file can have this credential's name; say which file it is under systemd.credentials in \
         {0}"
    )]
    NoFileName(String),
    /// Several consumers have the file.
    #[error(
        "{service} has several consumers with the file {file} ({}); say which one with `consumer:` \
         in {profile}", consumers.join(", ")
    )]
    Ambiguous {
        service: ServiceId,
        file: FileName,
        consumers: Vec<String>,
        profile: String,
    },
}

/// The consumer that a request is for, as far as the unit's profile names one.
pub(super) fn named(shelf: &Shelf, request: &Request) -> Option<ConsumerId> {
    let (profile, _) = profile(shelf, request)?;
    Some(ConsumerId {
        service: profile.service.clone(),
        consumer: profile.consumer.clone()?,
    })
}

/// What the request means.
pub(super) fn look<'s>(shelf: &'s Shelf, request: &Request) -> Found<'s> {
    let Some((profile, credentials)) = profile(shelf, request) else {
        return Found::Refused(Refusal::UnknownUnit);
    };
    let file = match credentials.ids.get(&request.credential) {
        Some(file) => file.clone(),
        None => match request.credential.as_str().parse() {
            Ok(file) => file,
            Err(_) => {
                let profile = profile.file.display().to_string();
                return Found::Refused(Refusal::NoFileName(profile));
            }
        },
    };
    let mut holders = shelf
        .consumers
        .iter()
        .filter(|(consumer, shelved)| is_for(shelf, profile, consumer) && holds(shelved, &file));
    let wait = credentials.wait;
    match (holders.next(), holders.next()) {
        (None, _) => Found::NotYet { wait },
        (Some((consumer, shelved)), None) => Found::File {
            consumer,
            generation: &shelved.generation,
            file,
            wait,
        },
        (Some(first), Some(second)) => {
            let all = [first, second].into_iter().chain(holders);
            let consumers = all.map(|(id, _)| id.consumer.to_string()).collect();
            Found::Refused(Refusal::Ambiguous {
                service: profile.service.clone(),
                file,
                consumers,
                profile: profile.file.display().to_string(),
            })
        }
    }
}

fn profile<'s>(shelf: &'s Shelf, request: &Request) -> Option<(&'s Arc<Profile>, &'s Credentials)> {
    let profile = shelf.profiles.of_unit(&request.unit)?;
    Some((profile, profile.credentials.as_ref()?))
}

/// Whether the profile speaks for the consumer: it names it, or names none and the consumer has no
/// profile of its own.
fn is_for(shelf: &Shelf, profile: &Arc<Profile>, consumer: &ConsumerId) -> bool {
    consumer.service == profile.service
        && match &profile.consumer {
            Some(named) => *named == consumer.consumer,
            None => shelf
                .profiles
                .of(consumer)
                .is_none_or(|own| own.consumer.is_none()),
        }
}

fn holds(shelved: &Shelved, file: &FileName) -> bool {
    shelved.files.contains(file)
}
