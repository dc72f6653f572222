//! Units and profiles that belong together: who loads credentials from the agent's socket, and which
//! units profiles name.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::finding::Finding;
use super::patient::Patient;
use super::unit_files::{Found, UnitFiles};
use crate::consumers::names::UnitName;
use crate::consumers::profile::{Action, Profile, Workload};
use crate::status::ServiceStatus;

pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    let profiles: Vec<_> = patient.profiles().cloned().collect();
    let socket = patient.config.runtime_dir.join(SOCKET_NAME);
    let services = patient
        .status
        .as_ref()
        .ok()
        .map(|status| status.services.as_slice());
    judge(&UnitFiles::new(&patient.root), &socket, &profiles, services)
}

/// `services` is what is deployed, where that is known.
fn judge(
    files: &UnitFiles,
    socket: &Path,
    profiles: &[Arc<Profile>],
    services: Option<&[ServiceStatus]>,
) -> Vec<Finding> {
    let socket = socket.display().to_string();
    let loading = files.loading_from(&socket);
    let mut found = Vec::new();
    let mut served = BTreeSet::new();
    for profile in profiles {
        for unit in profile.credentials.iter().flat_map(|it| &it.units) {
            served.insert(unit);
            let known = services.and_then(|services| ids(profile, services));
            found.extend(wired(files, &socket, profile, unit, known.as_ref()));
        }
        for unit in named(profile) {
            found.extend(there(files, profile, unit));
        }
    }
    for unit in &loading {
        let template = unit.template();
        if !served.contains(unit) && !template.as_ref().is_some_and(|it| served.contains(it)) {
            found.push(Finding::warning(
                UNITS,
                format!("{unit} loads a credential from {socket}, and no profile names it"),
                "it gets none and does not start: name it under systemd.units of a profile in \
                 services.d",
            ));
        }
    }
    if found.is_empty() && !(loading.is_empty() && served.is_empty()) {
        let what = format!("{} load credentials, as the profiles say", loading.len());
        found.push(Finding::ok(UNITS, what));
    }
    found
}

/// Whether a unit that gets credentials asks for some, and only for such as there are.
fn wired(
    files: &UnitFiles,
    socket: &str,
    profile: &Profile,
    unit: &UnitName,
    known: Option<&BTreeSet<String>>,
) -> Vec<Finding> {
    let Found::Present(credentials) = files.find(unit) else {
        return there(files, profile, unit).into_iter().collect();
    };
    let file = profile.file.display();
    let ours = credentials.iter().filter(|(_, from)| *from == socket);
    let asked: Vec<_> = ours.map(|(id, _)| id).collect();
    if asked.is_empty() {
        return vec![Finding::warning(
            UNITS,
            format!("{file}: {unit} loads no credential from {socket}"),
            format!("in its [Service]: LoadCredential=NAME:{socket}, then systemctl daemon-reload"),
        )];
    }
    let Some(known) = known else {
        return Vec::new();
    };
    let strange = asked.into_iter().filter(|id| !known.contains(*id));
    strange
        .map(|id| {
            let names: Vec<_> = known.iter().map(String::as_str).collect();
            Finding::warning(
                UNITS,
                format!(
                    "{unit} loads the credential {id:?}, which {} has not",
                    profile.service
                ),
                format!("there is {}; or map it in {file}", names.join(", ")),
            )
        })
        .collect()
}

/// The credentials that a profile's units can ask for, where its service is deployed.
fn ids(profile: &Profile, services: &[ServiceStatus]) -> Option<BTreeSet<String>> {
    let mut deployed = services
        .iter()
        .filter(|it| it.service == profile.service)
        .peekable();
    deployed.peek()?;
    let secrets = deployed.flat_map(|service| &service.secrets);
    let mut ids: BTreeSet<_> = secrets.map(|secret| secret.name.to_string()).collect();
    ids.extend(
        profile
            .shape
            .templates
            .iter()
            .map(|template| template.name.to_string()),
    );
    let mapped = profile.credentials.iter().flat_map(|it| it.ids.keys());
    ids.extend(mapped.map(ToString::to_string));
    Some(ids)
}

/// Whether there is such a unit at all.
fn there(files: &UnitFiles, profile: &Profile, unit: &UnitName) -> Option<Finding> {
    let (what, advice) = match files.find(unit) {
        Found::Present(_) => return None,
        Found::Masked => (
            "is masked",
            format!("systemctl unmask {unit}, or remove it there"),
        ),
        Found::Absent => (
            "has no file on this machine",
            "install the unit, or correct the name; one that is made at run time is fine".into(),
        ),
    };
    let what = format!("{}: {unit} {what}", profile.file.display());
    Some(Finding::warning(UNITS, what, advice))
}

/// The units that a profile acts on or lives with.
fn named(profile: &Profile) -> impl Iterator<Item = &UnitName> {
    let acts = match profile
        .on_change
        .as_ref()
        .map(|on_change| &on_change.action)
    {
        Some(
            Action::Reload(unit)
            | Action::Restart(unit)
            | Action::TryRestart(unit)
            | Action::SignalUnit(unit, _),
        ) => Some(unit),
        _ => None,
    };
    let lives = match profile.lifecycle.as_ref().map(|life| &life.workload) {
        Some(Workload::Unit(unit)) => Some(unit),
        _ => None,
    };
    let lives = lives.filter(|unit| Some(*unit) != acts);
    acts.into_iter().chain(lives)
}

const UNITS: &str = "units";
const SOCKET_NAME: &str = "credentials.sock";

#[cfg(test)]
pub(super) mod fabricated {
    use super::*;

    /// A profile that says nothing.
    pub(crate) fn profile() -> Profile {
        Profile {
            service: "myorg/com.example.uplink".parse().unwrap(),
            consumer: None,
            file: "uplink.yaml".into(),
            shape: Default::default(),
            on_change: None,
            lifecycle: None,
            credentials: None,
            secrets_api: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::finding::Verdict;
    use super::*;
    use crate::consumers::profile::{Credentials, Lifecycle, OnChange};

    fn serving(units: &[&str]) -> Profile {
        Profile {
            credentials: Some(Credentials {
                units: units.iter().map(|unit| unit.parse().unwrap()).collect(),
                ids: Default::default(),
                wait: Default::default(),
            }),
            ..fabricated::profile()
        }
    }

    /// What is found with these unit files.
    fn judged(units: &[(&str, &str)], profile: Profile) -> Vec<(Verdict, String)> {
        judged_with(units, profile, None)
    }

    fn judged_with(
        units: &[(&str, &str)],
        profile: Profile,
        services: Option<&[ServiceStatus]>,
    ) -> Vec<(Verdict, String)> {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("etc/systemd/system");
        fs::create_dir_all(&dir).unwrap();
        for (name, text) in units {
            fs::write(dir.join(name), text).unwrap();
        }
        let files = UnitFiles::new(root.path());
        let socket = Path::new("/run/edge-secrets/credentials.sock");
        let found = judge(&files, socket, &[Arc::new(profile)], services);
        found
            .into_iter()
            .map(|found| (found.verdict, found.what))
            .collect()
    }

    const LOADS: &str = "[Service]\nLoadCredential=a:/run/edge-secrets/credentials.sock\n";

    #[test]
    fn unit_and_profile_that_know_each_other_are_right() {
        let found = judged(&[("u.service", LOADS)], serving(&["u.service"]));
        assert_eq!(found[0].0, Verdict::Ok, "{found:?}");
        let found = judged(&[("u@.service", LOADS)], serving(&["u@.service"]));
        assert_eq!(found[0].0, Verdict::Ok, "{found:?}");
        assert_eq!(judged(&[], fabricated::profile()), []);
    }

    #[test]
    fn a_credential_that_the_service_has_not_is_told_where_that_is_known() {
        let service = |secret: &str| -> ServiceStatus {
            serde_json::from_value(serde_json::json!({
                "deployment": "d1", "service": {"org": "myorg", "url": "com.example.uplink"},
                "service_version": "1.2.3", "policy": "p", "state": "applied",
                "since": "2026-01-01T00:00:00Z", "consumers": [],
                "secrets": [{"name": secret, "state": "applied", "since": "2026-01-02T00:00:00Z"}],
            }))
            .unwrap()
        };
        let with = |services: Option<&[ServiceStatus]>| {
            judged_with(&[("u.service", LOADS)], serving(&["u.service"]), services)
        };
        let found = with(Some(&[service("b")]));
        assert_eq!(found[0].0, Verdict::Warning, "{found:?}");
        assert!(found[0].1.contains("\"a\""), "{found:?}");
        for fine in [None, Some(&[][..]), Some(&[service("a")][..])] {
            assert_eq!(with(fine)[0].0, Verdict::Ok);
        }
    }

    #[test]
    fn a_unit_that_no_profile_names_is_told() {
        let found = judged(&[("u.service", LOADS)], fabricated::profile());
        assert_eq!(found[0].0, Verdict::Warning);
        assert!(found[0].1.contains("no profile names it"), "{found:?}");
    }

    #[test]
    fn a_named_unit_that_does_not_load_or_is_not_there_is_told() {
        let found = judged(&[("u.service", "[Service]\n")], serving(&["u.service"]));
        assert!(found[0].1.contains("loads no credential"), "{found:?}");
        let found = judged(&[], serving(&["u.service"]));
        assert!(found[0].1.contains("has no file"), "{found:?}");
    }

    #[test]
    fn units_to_act_on_and_to_live_with_must_be_there() {
        let unit = |name: &str| name.parse::<UnitName>().unwrap();
        let mut profile = fabricated::profile();
        profile.on_change = Some(OnChange {
            action: Action::Reload(unit("a.service")),
            debounce: Default::default(),
            timeout: Default::default(),
        });
        profile.lifecycle = Some(Lifecycle {
            workload: Workload::Unit(unit("b.service")),
            linger: Default::default(),
        });
        let found = judged(&[("a.service", "")], profile.clone());
        assert_eq!(found.len(), 1);
        assert!(found[0].1.contains("b.service"), "{found:?}");
        assert_eq!(judged(&[("a.service", ""), ("b.service", "")], profile), []);
    }
}
