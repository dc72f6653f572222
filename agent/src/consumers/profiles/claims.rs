//! What can be given once only, and who has it: a service's consumer, and a unit.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use edge_secrets_protocol::{ConsumerName, ServiceId};

use super::Profiles;
use super::check::{Checked, Wrong};
use super::locate::{self, Step};
use crate::consumers::names::UnitName;
use crate::consumers::profile::Profile;

/// The profiles that are taken so far, and where each claim stands.
#[derive(Debug, Default)]
pub(super) struct Claims {
    holders: BTreeMap<Claim, Holder>,
    profiles: Profiles,
}

#[derive(Debug)]
struct Holder {
    file: Arc<Checked>,
    document: usize,
    unit: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    Consumer(ServiceId, Option<ConsumerName>),
    Unit(UnitName),
}

impl Claims {
    /// Whether a file agrees with itself.
    ///
    /// # Errors
    /// The later of two places that claim the same; the reason names the earlier one.
    pub(super) fn within(file: &Checked) -> Result<(), Wrong> {
        let mut seen = BTreeMap::new();
        for (claim, document, unit) in claims(file) {
            if let Some((document_before, unit_before)) =
                seen.insert(claim.clone(), (document, unit))
            {
                let before = line(file, document_before, unit_before);
                return Err(Wrong {
                    line: line(file, document, unit),
                    reason: format!("{claim} once before, on line {}", shown(before)),
                });
            }
        }
        Ok(())
    }

    /// Takes a file's profiles, all or none.
    ///
    /// # Errors
    /// The place that claims what another file has; the reason names that one.
    pub(super) fn take(&mut self, file: &Arc<Checked>) -> Result<(), Wrong> {
        if self.profiles.by_consumer.len() + file.profiles.len() > MAX_PROFILES {
            return Err(Wrong {
                line: None,
                reason: format!("there are more than {MAX_PROFILES} profiles with this file's"),
            });
        }
        for (claim, document, unit) in claims(file) {
            if let Some(other) = self.holders.get(&claim) {
                let at = line(&other.file, other.document, other.unit);
                let path = other.file.file.display();
                return Err(Wrong {
                    line: line(file, document, unit),
                    reason: format!("{claim} already, in {path}:{}", shown(at)),
                });
            }
        }
        for (claim, document, unit) in claims(file) {
            let file = file.clone();
            let holder = Holder {
                file,
                document,
                unit,
            };
            self.holders.insert(claim, holder);
        }
        for (_, profile) in &file.profiles {
            self.profiles.insert(profile);
        }
        Ok(())
    }

    /// What was taken.
    pub(super) fn into_profiles(self) -> Profiles {
        self.profiles
    }
}

impl Profiles {
    fn insert(&mut self, profile: &Arc<Profile>) {
        let key = (profile.service.clone(), profile.consumer.clone());
        self.by_consumer.insert(key, profile.clone());
        let units = profile.credentials.iter().flat_map(|given| &given.units);
        for unit in units {
            self.by_unit.insert(unit.clone(), profile.clone());
        }
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Consumer(service, Some(consumer)) => {
                write!(f, "consumer {consumer} of {service} has a profile")
            }
            Self::Consumer(service, None) => {
                write!(f, "the other consumers of {service} have a profile")
            }
            Self::Unit(unit) => write!(f, "{unit} is given credentials"),
        }
    }
}

/// Every claim of a file with the number of its document and, for a unit, its place in the list.
fn claims(file: &Checked) -> impl Iterator<Item = (Claim, usize, Option<usize>)> + '_ {
    file.profiles.iter().flat_map(|(document, profile)| {
        let consumer = Claim::Consumer(profile.service.clone(), profile.consumer.clone());
        let units = profile.credentials.iter().flat_map(|given| &given.units);
        let units = units
            .enumerate()
            .map(|(at, unit)| (Claim::Unit(unit.clone()), *document, Some(at)));
        std::iter::once((consumer, *document, None)).chain(units)
    })
}

fn line(file: &Checked, document: usize, unit: Option<usize>) -> Option<usize> {
    match unit {
        Some(at) => {
            let path = [Step::Key("systemd"), Step::Key("units"), Step::Item(at)];
            locate::line(&file.text, document, &path)
        }
        None => locate::line(&file.text, document, &[Step::Key("service")]),
    }
}

fn shown(line: Option<usize>) -> String {
    line.map_or_else(|| "?".to_owned(), |line| line.to_string())
}

const MAX_PROFILES: usize = 1024;
