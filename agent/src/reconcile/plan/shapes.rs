//! How each consumer's files look, and the mark by which another look is noticed.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use edge_secrets_protocol::binding::{Consumer, ConsumerSecret, Format};
use edge_secrets_protocol::{ConsumerName, SecretName, ServiceId};
use serde::Serialize;

use crate::consumers::profile::{Profile, Shape};
use crate::consumers::profiles::Profiles;
use crate::delivery::ConsumerId;

/// Every profile's shape with its mark.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    pub(super) profiles: Arc<Profiles>,
    marks: BTreeMap<(ServiceId, Option<ConsumerName>), String>,
    /// Consumers have a secrets API of their own where no profile says otherwise.
    apis: bool,
}

/// One consumer's shape.
#[derive(Debug, Clone, Copy)]
pub(in crate::reconcile) struct Shaped<'a> {
    pub(in crate::reconcile) shape: &'a Shape,
    /// Equal for equal shapes; empty for the one without a profile.
    pub(in crate::reconcile) mark: &'a str,
    /// Whether all fields lie beside its files, for the agent to answer from.
    pub(in crate::reconcile) api: bool,
}

impl Shapes {
    pub(super) fn new(profiles: Arc<Profiles>, apis: bool) -> Self {
        let marks = profiles.iter().map(|profile| {
            let mut mark = mark(&profile.shape);
            if has_api(profile, apis) {
                mark.push_str(API);
            }
            (key(profile), mark)
        });
        let marks = marks.collect();
        Self {
            profiles,
            marks,
            apis,
        }
    }

    /// The same profiles, with another word on secrets APIs.
    pub(super) fn with_apis(&self, apis: bool) -> Self {
        Self::new(self.profiles.clone(), apis)
    }

    pub(super) fn apis(&self) -> bool {
        self.apis
    }

    /// Whether any consumer may have a secrets API.
    pub(super) fn has_apis(&self) -> bool {
        self.apis || self.profiles.iter().any(|profile| has_api(profile, false))
    }

    pub(super) fn of(&self, consumer: &ConsumerId) -> Shaped<'_> {
        match self.profiles.of(consumer) {
            Some(profile) => Shaped {
                shape: &profile.shape,
                mark: self.marks.get(&key(profile)).map_or("", String::as_str),
                api: has_api(profile, self.apis),
            },
            None => Shaped {
                shape: &PLAIN,
                mark: if self.apis { API } else { "" },
                api: self.apis,
            },
        }
    }
}

impl Shaped<'_> {
    /// The format of a secret's own file: the profile's word for the secret, for all, or the service
    /// definition's.
    pub(super) fn format(&self, secret: &ConsumerSecret) -> Format {
        let special = self.shape.secrets.get(&secret.name).and_then(|s| s.format);
        special.or(self.shape.format).unwrap_or(secret.format)
    }

    /// The modes that the service definition asks for, of those secrets of which the profile says
    /// nothing.
    pub(super) fn modes(&self, consumer: &Consumer) -> BTreeMap<SecretName, u32> {
        let told = |name: &SecretName| {
            let special = self.shape.secrets.get(name).and_then(|s| s.mode);
            special.or(self.shape.mode).is_some()
        };
        let asked = consumer.secrets.iter().filter(|secret| !told(&secret.name));
        let asked = asked.filter_map(|secret| Some((secret.name.clone(), secret.mode?.bits())));
        asked.collect()
    }

    /// Equal for equal looks of all files of the consumer.
    pub(super) fn mark_of(&self, consumer: &Consumer) -> String {
        match self.modes(consumer) {
            modes if modes.is_empty() => self.mark.to_owned(),
            modes => print(&(self.mark, modes)),
        }
    }
}

/// A consumer without files for its service has no API either: nobody but units read it.
fn has_api(profile: &Profile, apis: bool) -> bool {
    profile.secrets_api.unwrap_or(apis) && !profile.shape.private
}

fn key(profile: &Profile) -> (ServiceId, Option<ConsumerName>) {
    (profile.service.clone(), profile.consumer.clone())
}

fn mark(shape: &Shape) -> String {
    if *shape == *PLAIN {
        return String::new();
    }
    print(shape)
}

fn print(look: &impl Serialize) -> String {
    // Maps with string keys, strings and numbers: there is nothing that cannot be written.
    let text = serde_json::to_vec(look).unwrap_or_default();
    let print = digest(&SHA256, &text);
    HEXLOWER.encode(print.as_ref().get(..MARK_BYTES).unwrap_or_default())
}

static PLAIN: LazyLock<Shape> = LazyLock::new(Shape::default);
const MARK_BYTES: usize = 16;
/// What the mark of a shape with an API ends in.
const API: &str = "+api";
