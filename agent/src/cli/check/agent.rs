//! The running agent, where there is one.

use super::finding::Finding;
use super::patient::Patient;
use crate::local_api::ClientError;
use crate::status::HubState;

pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    let status = match &patient.status {
        Ok(status) => status,
        Err(ClientError::NotRunning(_)) => {
            let advice = "systemctl enable --now edge-secrets-agent";
            return vec![Finding::warning(AGENT, "it does not run", advice)];
        }
        Err(error @ ClientError::Denied(_)) => {
            return vec![Finding::skipped(AGENT, error.to_string())];
        }
        Err(error) => {
            let advice = "look at journalctl -u edge-secrets-agent";
            return vec![Finding::warning(AGENT, error.to_string(), advice)];
        }
    };
    let (runs, here) = (&status.agent_version, env!("CARGO_PKG_VERSION"));
    let mut found = vec![if runs == here {
        Finding::ok(AGENT, format!("it runs, version {runs}"))
    } else {
        Finding::warning(
            AGENT,
            format!("version {runs} runs, and {here} is installed"),
            "systemctl restart edge-secrets-agent; services read on meanwhile",
        )
    }];
    if status.hub.state != HubState::Connected {
        let why = status.hub.error.as_deref().unwrap_or("not yet");
        let what = format!("its hub is not connected since {}: {why}", status.hub.since);
        found.push(Finding::warning(
            AGENT,
            what,
            "it tries on; see the hub's check",
        ));
    }
    found
}

const AGENT: &str = "agent";

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::patient::fabricated;
    use super::*;

    fn verdicts(patient: &Patient) -> Vec<Verdict> {
        check(patient).iter().map(|found| found.verdict).collect()
    }

    #[test]
    fn an_agent_that_is_away_old_or_alone_is_a_warning() {
        let (_root, mut patient) = fabricated::patient();
        assert_eq!(verdicts(&patient), [Verdict::Warning]);
        let mut status = fabricated::status();
        patient.status = Ok(status.clone());
        assert_eq!(verdicts(&patient), [Verdict::Ok]);
        status.agent_version = "0.0.1".into();
        status.hub.state = HubState::Disconnected;
        patient.status = Ok(status);
        assert_eq!(verdicts(&patient), [Verdict::Warning, Verdict::Warning]);
        patient.status = Err(ClientError::Denied("x".into()));
        assert_eq!(verdicts(&patient), [Verdict::Skipped]);
    }
}
