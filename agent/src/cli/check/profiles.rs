//! `services.d`: what is wrong or doubtful in the files, and profiles that nothing is deployed for.

use std::collections::BTreeSet;

use super::super::Exit;
use super::finding::Finding;
use super::patient::Patient;
use crate::status::{ProfileEffect, ProfileProblem};

pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    let dir = patient.config.services_dir.display();
    let mut found: Vec<_> = patient.problems.iter().map(told).collect();
    found.extend(idle(patient));
    if found.is_empty() {
        found.push(match patient.profiles().count() {
            0 => Finding::ok(PROFILES, format!("none in {dir}; the defaults hold")),
            count => Finding::ok(PROFILES, format!("{count} in {dir}")),
        });
    }
    found
}

fn told(problem: &ProfileProblem) -> Finding {
    let line = problem
        .line
        .map(|line| format!(":{line}"))
        .unwrap_or_default();
    let what = format!("{}{line}: {}", problem.file, problem.reason);
    match problem.effect {
        ProfileEffect::Warning => Finding::warning(
            PROFILES,
            what,
            "it is in force; change it if it is not meant so",
        ),
        ProfileEffect::FormerStays | ProfileEffect::Ignored => Finding::failed(
            PROFILES,
            Exit::Usage,
            what,
            "correct the file; until then its last good version holds where there was one",
        ),
    }
}

/// Known only from the running agent.
fn idle(patient: &Patient) -> Vec<Finding> {
    let Ok(status) = &patient.status else {
        return Vec::new();
    };
    let deployed: BTreeSet<_> = status
        .services
        .iter()
        .map(|status| &status.service)
        .collect();
    let idle = patient
        .profiles()
        .filter(|profile| !deployed.contains(&profile.service));
    idle.map(|profile| {
        Finding::warning(
            PROFILES,
            format!(
                "{}: {} is not deployed here",
                profile.file.display(),
                profile.service
            ),
            "look whether the name is right (`edge-secrets explain`); else it waits for its time",
        )
    })
    .collect()
}

const PROFILES: &str = "profiles";

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::patient::fabricated;
    use super::*;

    #[test]
    fn problems_are_told_with_file_and_line_by_their_effect() {
        let (_root, mut patient) = fabricated::patient();
        assert_eq!(check(&patient)[0].verdict, Verdict::Ok);
        let problem = |effect| ProfileProblem {
            file: "uplink.yaml".into(),
            line: Some(3),
            reason: "mode 0644".into(),
            effect,
        };
        for (effect, verdict) in [
            (ProfileEffect::Warning, Verdict::Warning),
            (ProfileEffect::Ignored, Verdict::Failed),
            (ProfileEffect::FormerStays, Verdict::Failed),
        ] {
            patient.problems = vec![problem(effect)];
            let found = check(&patient);
            assert_eq!((found.len(), found[0].verdict), (1, verdict));
            assert_eq!(found[0].what, "uplink.yaml:3: mode 0644");
        }
    }
}
