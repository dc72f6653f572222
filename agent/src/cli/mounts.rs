//! `mounts`: what a service's container needs of this node, as its engine's arguments.

use std::fmt::Write;
use std::path::Path;

use clap::ValueEnum;
use edge_secrets_protocol::{ConsumerName, ServiceId};
use serde::Serialize;

use super::{Exit, Failure, Output, print};
use crate::consumers::secrets_api::{
    AUTH_MOUNT, CERT_MOUNT, ENV_FILE, SECRETS_MOUNT, SOCKET_MOUNT,
};
use crate::local_api;
use crate::status::{ConsumerStatus, ServiceStatus};

/// Whose arguments are written.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Engine {
    /// `--volume`, as podman takes it.
    #[default]
    Podman,
    /// `--mount`, which refuses a source that is not there.
    Docker,
    /// Keys of a service in a Compose file.
    Compose,
}

/// What a container mounts, read-only, and the file that its environment comes from.
#[derive(Debug, Serialize)]
struct Needs {
    service: ServiceId,
    consumer: ConsumerName,
    #[serde(skip_serializing_if = "Option::is_none")]
    env_file: Option<String>,
    mounts: Vec<Mount>,
}

#[derive(Debug, Serialize)]
struct Mount {
    source: String,
    target: &'static str,
}

pub(super) async fn run(
    socket: &Path,
    service: &str,
    consumer: Option<&ConsumerName>,
    engine: Engine,
    output: Output,
) -> Result<(), Failure> {
    let services = local_api::services(socket).await?;
    let needs = Needs::of(&services, service, consumer)?;
    let arguments = match output {
        Output::Table => Some(needs.arguments(engine)?),
        Output::Json | Output::Yaml => None,
    };
    print(&needs, output, |_| arguments)
}

impl Needs {
    fn of(
        services: &[ServiceStatus],
        name: &str,
        consumer: Option<&ConsumerName>,
    ) -> Result<Self, Failure> {
        let called: Vec<_> = services.iter().filter(|it| it.is_called(name)).collect();
        let Some(first) = called.first() else {
            let why = "is not deployed to this node: see `edge-secrets explain`";
            return Err(Failure::new(Exit::Other, format_args!("{name} {why}")));
        };
        if let Some(other) = called.iter().find(|it| it.service != first.service) {
            let (one, two) = (&first.service, &other.service);
            let message = format_args!("{name} is both {one} and {two}: write ORG/URL");
            return Err(Failure::new(Exit::Usage, message));
        }
        let consumer = one(first, consumer)?;
        let mut needs = Self {
            service: first.service.clone(),
            consumer: consumer.name.clone(),
            env_file: None,
            mounts: vec![Mount {
                source: consumer.directory.clone(),
                target: SECRETS_MOUNT,
            }],
        };
        if let Some(api) = &consumer.secrets_api {
            if let Some(error) = &api.error {
                let message = format_args!("the secrets API of {name} is not served: {error}");
                return Err(Failure::new(Exit::Other, message));
            }
            needs.env_file = Some(format!("{}/{ENV_FILE}", api.directory));
            for target in [AUTH_MOUNT, CERT_MOUNT, SOCKET_MOUNT] {
                let source = api.directory.clone();
                needs.mounts.push(Mount { source, target });
            }
        }
        Ok(needs)
    }

    /// Words that a shell takes as they are, or lines of a Compose file.
    fn arguments(&self, engine: Engine) -> Result<String, Failure> {
        let sources = self.mounts.iter().map(|mount| &mount.source);
        let mut paths = sources.chain(&self.env_file);
        if let Some(path) = paths.find(|path| !path.chars().all(is_plain)) {
            let message = format_args!(
                "{path} cannot be written without quotes: take `-o json`, or choose a runtime_dir of \
                 letters, digits and `/._-`"
            );
            return Err(Failure::new(Exit::Other, message));
        }
        Ok(match engine {
            Engine::Podman => {
                self.words(|Mount { source, target }| format!("--volume={source}:{target}:ro"))
            }
            Engine::Docker => self.words(|Mount { source, target }| {
                format!("--mount=type=bind,source={source},target={target},readonly")
            }),
            Engine::Compose => self.keys(),
        })
    }

    fn words(&self, mount: impl Fn(&Mount) -> String) -> String {
        let file = self
            .env_file
            .iter()
            .map(|file| format!("--env-file={file}"));
        let words: Vec<_> = file.chain(self.mounts.iter().map(mount)).collect();
        words.join(" ")
    }

    fn keys(&self) -> String {
        let mut text = String::new();
        // Writing into a String does not fail.
        if let Some(file) = &self.env_file {
            writeln!(text, "env_file:\n  - {file}").ok();
        }
        text.push_str("volumes:\n");
        for Mount { source, target } in &self.mounts {
            writeln!(
                text,
                "  - type: bind\n    source: {source}\n    target: {target}\n    read_only: true\n    \
                 bind: {{ create_host_path: false }}"
            )
            .ok();
        }
        text
    }
}

/// The consumer that is meant.
fn one<'s>(
    service: &'s ServiceStatus,
    consumer: Option<&ConsumerName>,
) -> Result<&'s ConsumerStatus, Failure> {
    let names = || {
        let names = service.consumers.iter().map(|found| found.name.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    let name = &service.service;
    match (consumer, service.consumers.as_slice()) {
        (None, [only]) => Ok(only),
        (None, []) => {
            let message = format_args!("no consumer of {name} reads a secret");
            Err(Failure::new(Exit::Other, message))
        }
        (None, _) => {
            let message = format_args!("{name} has several consumers: name one of {}", names());
            Err(Failure::new(Exit::Usage, message))
        }
        (Some(wanted), found) => {
            let found = found.iter().find(|found| found.name == *wanted);
            found.ok_or_else(|| {
                let names = names();
                let message = format_args!("{name} has no consumer {wanted}, but {names}");
                Failure::new(Exit::Other, message)
            })
        }
    }
}

/// Means itself to a shell, to engines, and to YAML.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "/._-%@".contains(c)
}

#[cfg(test)]
mod tests {
    use edge_secrets_protocol::status::DeploymentState;
    use jiff::Timestamp;

    use super::*;
    use crate::status::SecretsApiStatus;

    fn service(consumers: &[(&str, bool)]) -> ServiceStatus {
        let consumers = consumers.iter().map(|(name, api)| ConsumerStatus {
            name: name.parse().unwrap(),
            directory: format!("/run/edge-secrets/services/myorg/svc/{name}"),
            profile: None,
            on_change: None,
            lifecycle: None,
            secrets_api: api.then(|| SecretsApiStatus {
                directory: format!("/run/edge-secrets/ess/myorg/svc/{name}"),
                error: None,
            }),
        });
        ServiceStatus {
            deployment: "d".parse().unwrap(),
            service: "myorg/svc".parse().unwrap(),
            service_version: "1".into(),
            policy: "p".parse().unwrap(),
            state: DeploymentState::Applied,
            since: Timestamp::UNIX_EPOCH,
            error: None,
            secrets: vec![],
            consumers: consumers.collect(),
        }
    }

    fn arguments(services: &[ServiceStatus], consumer: Option<&str>, engine: Engine) -> String {
        let consumer = consumer.map(|name| name.parse().unwrap());
        let needs = Needs::of(services, "svc", consumer.as_ref()).unwrap();
        needs.arguments(engine).unwrap()
    }

    #[test]
    fn one_consumer_need_not_be_named_and_several_must() {
        let plain = arguments(&[service(&[("main", false)])], None, Engine::Podman);
        let secrets = "/run/edge-secrets/services/myorg/svc/main:/open-horizon-secrets:ro";
        assert_eq!(plain, format!("--volume={secrets}"));
        let several = [service(&[("main", false), ("side", false)])];
        let error = Needs::of(&several, "svc", None).unwrap_err();
        assert!(error.message.contains("main, side"), "{}", error.message);
        assert!(arguments(&several, Some("side"), Engine::Podman).contains("/side:"));
        let ghost = "ghost".parse().unwrap();
        assert!(Needs::of(&several, "svc", Some(&ghost)).is_err());
        assert!(Needs::of(&several, "other", None).is_err());
        let mut others = service(&[("main", false)]);
        others.service = "other/svc".parse().unwrap();
        let both = [service(&[("main", false)]), others];
        assert!(Needs::of(&both, "svc", None).is_err());
        assert!(Needs::of(&both, "other/svc", None).is_ok());
    }

    #[test]
    fn an_api_brings_its_environment_and_three_mounts() {
        let services = [service(&[("main", true)])];
        let ess = "/run/edge-secrets/ess/myorg/svc/main";
        let podman = arguments(&services, None, Engine::Podman);
        for word in [
            format!("--env-file={ess}/env"),
            format!("--volume={ess}:/ess-auth:ro"),
            format!("--volume={ess}:/ess-cert:ro"),
            format!("--volume={ess}:/var/run/horizon:ro"),
        ] {
            assert!(
                podman.split(' ').any(|found| found == word),
                "{word}: {podman}"
            );
        }
        let docker = arguments(&services, None, Engine::Docker);
        let word = format!("--mount=type=bind,source={ess},target=/ess-auth,readonly");
        assert!(docker.split(' ').any(|found| found == word), "{docker}");
        let compose = arguments(&services, None, Engine::Compose);
        let compose: serde_json::Value = serde_yaml::from_str(&compose).unwrap();
        assert_eq!(compose["env_file"][0], format!("{ess}/env"));
        let volume = &compose["volumes"][3];
        assert_eq!(volume["source"], ess);
        assert_eq!(volume["target"], "/var/run/horizon");
        assert_eq!(volume["read_only"], true);
        assert_eq!(volume["bind"]["create_host_path"], false);
    }

    #[test]
    fn what_would_need_quotes_or_is_not_served_is_refused() {
        let mut services = [service(&[("main", true)])];
        for wrong in [
            "/run/my dir",
            "/run/a:b",
            "/run/a,b",
            "/run/$HOME",
            "/run/a'b",
        ] {
            services[0].consumers[0].directory = wrong.to_owned();
            let needs = Needs::of(&services, "svc", None).unwrap();
            assert!(needs.arguments(Engine::Podman).is_err(), "{wrong}");
        }
        let api = services[0].consumers[0].secrets_api.as_mut().unwrap();
        api.error = Some("the tmpfs is full".into());
        let error = Needs::of(&services, "svc", None).unwrap_err();
        assert!(error.message.contains("tmpfs is full"));
    }
}
