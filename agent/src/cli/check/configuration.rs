//! The configuration and what it names: keys, the socket's group, the node's facts.

use super::super::Exit;
use super::finding::Finding;
use super::patient::Patient;
use crate::app;
use crate::config::ConfigError;
use crate::local_api;

pub(super) fn refused(error: &ConfigError) -> Finding {
    let advice = "correct the file; nothing else can be checked before";
    Finding::failed(CONFIGURATION, Exit::Usage, error.to_string(), advice)
}

pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    let config = &patient.config;
    let mut found = vec![Finding::ok(
        CONFIGURATION,
        patient.config_path.display().to_string(),
    )];
    if let Some(Err(error)) = config.local_api.group.as_deref().map(local_api::group_id) {
        let advice = "the agent does not start before; or remove local_api.group";
        found.push(Finding::failed(
            CONFIGURATION,
            Exit::Usage,
            error.to_string(),
            advice,
        ));
    }
    found
}

pub(super) fn facts(patient: &Patient) -> Vec<Finding> {
    vec![match app::gather_facts(&patient.config, Vec::new()) {
        Ok(facts) => {
            let policy = if facts.policy.is_some() {
                ", with a node policy"
            } else {
                ""
            };
            let (own, measured) = (facts.properties.len(), facts.built_in.len());
            Finding::ok(
                "facts",
                format!("{own} properties, {measured} measured{policy}"),
            )
        }
        Err(error) => {
            let advice = "correct the node policy; until then the hub keeps what it was told last";
            Finding::failed("facts", Exit::Usage, error.to_string(), advice)
        }
    }]
}

const CONFIGURATION: &str = "configuration";

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::patient::fabricated;
    use super::*;

    #[test]
    fn a_group_that_is_not_there_fails() {
        let (_root, mut patient) = fabricated::patient();
        assert!(check(&patient).iter().all(|f| f.verdict == Verdict::Ok));
        patient.config.local_api.group = Some("no-such-group-here".into());
        let found = check(&patient);
        assert_eq!(found[1].verdict, Verdict::Failed);
        assert!(found[1].what.contains("no-such-group-here"), "{found:?}");
    }

    #[test]
    fn a_malformed_node_policy_fails_with_its_line() {
        let (_root, mut patient) = fabricated::patient();
        assert_eq!(facts(&patient)[0].verdict, Verdict::Ok);
        patient.write("node.json", "{\n\n]");
        patient.config.node.policy_file = Some(patient.root.join("node.json"));
        let found = facts(&patient);
        assert_eq!(found[0].verdict, Verdict::Failed);
        assert!(found[0].what.contains("node.json:"), "{found:?}");
    }
}
