//! The node's identity: its files, and what its certificate says.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::super::Exit;
use super::finding::Finding;
use super::patient::Patient;

/// Nobody but the agent's user may read a key.
pub(super) fn files(patient: &Patient) -> Vec<Finding> {
    let dir = &patient.config.state_dir;
    if !dir.exists() {
        return vec![Finding::skipped(
            FILES,
            format!("there is no {}", dir.display()),
        )];
    }
    let identity = dir.join("identity");
    let keys = ["node.key", "sealing.key"].map(|name| identity.join(name));
    let mut found = Vec::new();
    let mut looked = 0;
    for path in [dir].into_iter().chain(&keys) {
        let Ok(metadata) = fs::metadata(path) else {
            continue;
        };
        looked += 1;
        let (mode, shown) = (metadata.mode() & 0o7777, path.display());
        let what = format!("{shown} is open to others (mode {mode:04o})");
        if mode & 0o077 != 0 && path == dir {
            found.push(Finding::warning(FILES, what, format!("chmod 0700 {shown}")));
        } else if mode & 0o077 != 0 {
            let advice = format!("chmod 0600 {shown}; if somebody read it, enrol again (--force)");
            found.push(Finding::failed(FILES, Exit::Usage, what, advice));
        }
        if metadata.uid() != patient.agent_uid() {
            found.push(Finding::failed(
                FILES,
                Exit::Usage,
                format!(
                    "{shown} belongs to user {}, not to the agent's",
                    metadata.uid()
                ),
                format!("chown {} {shown}", patient.agent_uid()),
            ));
        }
    }
    if !found.is_empty() {
        return found;
    }
    vec![match looked {
        3 => Finding::ok(
            FILES,
            format!("{} and its keys are the agent's alone", dir.display()),
        ),
        _ if patient.sees_all() => Finding::ok(
            FILES,
            format!("{} is the agent's alone; no keys yet", dir.display()),
        ),
        _ => Finding::skipped(FILES, "this user may not look into the state directory"),
    }]
}

pub(super) fn certificate(patient: &Patient) -> Vec<Finding> {
    let failed =
        |exit, what: String, advice: &str| vec![Finding::failed(CERTIFICATE, exit, what, advice)];
    let identity = match &patient.identity {
        Ok(Some(identity)) => identity,
        _ if !patient.sees_all() => {
            let what = "this user may not read the identity";
            return vec![Finding::skipped(CERTIFICATE, what).advise("run this as root")];
        }
        Ok(None) => {
            let advice = "edge-secrets node token NODE, then edge-secrets-agent enroll --token -";
            return failed(Exit::Usage, "this node is not enrolled".into(), advice);
        }
        Err(error) => return failed(Exit::Usage, error.to_string(), "enrol again"),
    };
    if let Err(error) = identity.check_configured(&patient.config.node) {
        return failed(
            Exit::Usage,
            error.to_string(),
            "make node.id and node.org agree with it",
        );
    }
    let (org, node, validity) = (&identity.org, &identity.node, identity.validity);
    let name = format!("{org}/{node}");
    let (starts, ends) = (
        validity.not_before.as_second(),
        validity.not_after.as_second(),
    );
    let now = patient.now.as_second();
    if now < starts {
        let what = format!("{name} starts at {}", validity.not_before);
        return failed(
            Exit::Other,
            what,
            "this machine's clock is behind: set it right",
        );
    }
    if now > ends {
        let what = format!("{name} ended at {}", validity.not_after);
        let advice = "the hub may still renew it when the agent runs; else enrol again";
        return failed(Exit::Other, what, advice);
    }
    vec![if now - starts > (ends - starts) / 4 * 3 {
        Finding::warning(
            CERTIFICATE,
            format!(
                "{name} until {}; its renewal is overdue",
                validity.not_after
            ),
            "the agent renews it as soon as it runs and reaches the hub: see the hub's check",
        )
    } else {
        Finding::ok(CERTIFICATE, format!("{name} until {}", validity.not_after))
    }]
}

const FILES: &str = "identity files";
const CERTIFICATE: &str = "certificate";

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use jiff::Timestamp;

    use super::super::finding::Verdict;
    use super::super::patient::fabricated;
    use super::*;
    use crate::hub::fake::FakeHub;
    use crate::identity::{NodeIdentity, Store};

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    async fn enrolled() -> (tempfile::TempDir, Patient) {
        let hub = FakeHub::start().await;
        let (root, mut patient) = fabricated::patient();
        let store = Store::new(&patient.config.state_dir);
        store.install(&hub.issue("myorg", "edge-01")).unwrap();
        chmod(&patient.config.state_dir, 0o700);
        patient.identity = NodeIdentity::load(&store);
        patient.now = Timestamp::now();
        (root, patient)
    }

    #[tokio::test]
    async fn keys_that_others_may_read_fail() {
        let (_root, patient) = enrolled().await;
        let found = files(&patient);
        assert_eq!(
            (found.len(), found[0].verdict),
            (1, Verdict::Ok),
            "{found:?}"
        );
        let key = patient.config.state_dir.join("identity/node.key");
        chmod(&key, 0o640);
        let found = files(&patient);
        assert_eq!(
            (found.len(), found[0].verdict),
            (1, Verdict::Failed),
            "{found:?}"
        );
        assert!(
            found[0].advice.as_ref().unwrap().contains("chmod 0600"),
            "{found:?}"
        );
        chmod(&patient.config.state_dir, 0o755);
        assert_eq!(files(&patient).len(), 2);
    }

    #[tokio::test]
    async fn the_certificates_life_is_judged_by_the_clock() {
        let (_root, mut patient) = enrolled().await;
        let validity = patient
            .identity
            .as_ref()
            .unwrap()
            .as_ref()
            .unwrap()
            .validity;
        let (starts, ends) = (
            validity.not_before.as_second(),
            validity.not_after.as_second(),
        );
        for (now, verdict) in [
            (starts - 1, Verdict::Failed),
            (starts, Verdict::Ok),
            (starts + (ends - starts) / 2, Verdict::Ok),
            (ends - 1, Verdict::Warning),
            (ends + 1, Verdict::Failed),
        ] {
            patient.now = Timestamp::from_second(now).unwrap();
            assert_eq!(certificate(&patient)[0].verdict, verdict, "{now}");
        }
    }

    #[tokio::test]
    async fn another_nodes_configuration_fails() {
        let (_root, mut patient) = enrolled().await;
        patient.config.node.id = Some("edge-02".parse().unwrap());
        let found = certificate(&patient);
        assert_eq!(found[0].verdict, Verdict::Failed);
        assert!(found[0].what.contains("edge-02"), "{found:?}");
    }

    #[test]
    fn a_node_without_identity_is_told_how_to_get_one() {
        let (_root, patient) = fabricated::patient();
        let found = certificate(&patient);
        assert_eq!(found[0].verdict, Verdict::Failed);
        assert!(
            found[0].advice.as_ref().unwrap().contains("enroll"),
            "{found:?}"
        );
    }
}
