//! What is true, and everything that ever was.

use std::collections::BTreeMap;

use edge_secrets_protocol::binding::{
    Bindings, BoundSecret, Consumer, ConsumerSecret, Deployment, FetchItem, Format, SecretState,
};
use edge_secrets_protocol::{Code, DeploymentId, Generation, ServiceId};

use super::random::Random;

pub(super) const SERVICES: usize = 3;
pub(super) const NAMES: [&str; 2] = ["a", "b"];

/// The versions that a service shows together.
pub(super) type Shown = [u64; 2];

#[derive(Clone, Copy, Default)]
pub(super) struct Secret {
    pub(super) version: u64,
    pub(super) absent: bool,
    pub(super) denied: bool,
}

/// The truth, and everything that ever was true.
#[derive(Default)]
pub(super) struct Hub {
    pub(super) generation: u64,
    pub(super) placed: [Option<u64>; SERVICES],
    pub(super) secrets: [[Secret; 2]; SERVICES],
    pub(super) counter: u64,
    pub(super) revoked: bool,
    /// When each was true last.
    pub(super) offered: BTreeMap<(usize, Shown), u64>,
}

impl Hub {
    pub(super) fn change(&mut self, random: &mut Random) {
        let service = random.below(SERVICES);
        let secret = &mut self.secrets[service][random.below(2)];
        self.counter += 1;
        match random.below(12) {
            0..=1 => self.placed[service] = Some(self.counter),
            2 => self.placed[service] = None,
            3 => secret.denied = !secret.denied,
            4 => secret.absent = !secret.absent,
            5 if random.one_in(4) => self.revoked = true,
            _ => {
                *secret = Secret {
                    version: self.counter,
                    absent: false,
                    ..*secret
                }
            }
        }
        self.generation += 1;
        self.note();
    }

    pub(super) fn note(&mut self) {
        for service in 0..SERVICES {
            if let Some(shown) = self.wants(service) {
                self.offered.insert((service, shown), self.generation);
            }
        }
    }

    /// What the service should show, where it can have all of it.
    pub(super) fn wants(&self, service: usize) -> Option<Shown> {
        let secrets = self.secrets[service];
        let whole = secrets
            .iter()
            .all(|s| s.version > 0 && !s.absent && !s.denied);
        self.placed[service].filter(|_| whole && !self.revoked)?;
        Some(secrets.map(|s| s.version))
    }

    pub(super) fn bindings(&self) -> Bindings {
        let deployments = (0..SERVICES).filter_map(|service| {
            let placed = self.placed[service]?;
            let secrets = NAMES.iter().zip(self.secrets[service]);
            Some(Deployment {
                id: deployment_id(service, placed),
                service: service_id(service),
                service_version: "1".into(),
                policy: "p".parse().unwrap(),
                secrets: secrets
                    .map(|(name, secret)| BoundSecret {
                        name: name.parse().unwrap(),
                        state: match secret {
                            Secret { denied: true, .. } => SecretState::Denied,
                            Secret { absent: true, .. } | Secret { version: 0, .. } => {
                                SecretState::Missing
                            }
                            Secret { version, .. } => SecretState::Ready {
                                version: version.to_string().parse().unwrap(),
                            },
                        },
                        expires_at: None,
                        expires_in_ms: None,
                    })
                    .collect(),
                consumers: vec![Consumer {
                    name: "c".parse().unwrap(),
                    secrets: NAMES
                        .iter()
                        .map(|name| ConsumerSecret {
                            name: name.parse().unwrap(),
                            format: Format::Json,
                            mode: None,
                        })
                        .collect(),
                }],
            })
        });
        Bindings {
            generation: Generation(self.generation),
            deployments: deployments.collect(),
            ..Bindings::default()
        }
    }

    /// Every fetch is judged anew.
    pub(super) fn fetch(&self, item: &FetchItem) -> Result<(), Code> {
        let service = number(&item.service);
        let name = NAMES
            .iter()
            .position(|name| *name == item.name.as_str())
            .unwrap();
        let secret = self.secrets[service][name];
        match secret {
            _ if self.revoked || self.placed[service].is_none() || secret.denied => {
                Err(Code::Denied)
            }
            _ if secret.absent => Err(Code::Missing),
            _ if secret.version.to_string() != item.version.as_str() => Err(Code::Superseded),
            _ => Ok(()),
        }
    }
}

pub(super) fn service_id(service: usize) -> ServiceId {
    format!("o/s{service}").parse().unwrap()
}

pub(super) fn number(service: &ServiceId) -> usize {
    let url = service.url.as_str();
    url.trim_start_matches('s').parse().unwrap()
}

pub(super) fn deployment_id(service: usize, placed: u64) -> DeploymentId {
    format!("d{service}-{placed}").parse().unwrap()
}
