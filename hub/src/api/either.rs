//! The refusal of a node that is asked to be on a pattern and on policies.

use edge_secrets_protocol::{Code, PatternId, Problem};

/// Names both places: `who` is like `The node is`, `place` where its node policy speaks of deployments.
pub(super) fn refused(who: &str, pattern: &PatternId, place: &str) -> Problem {
    let detail = format!(
        "{who} on pattern {pattern}, and `{place}` of its node policy (`node.policy_file` in agent.yaml) is \
         for nodes on policies: a node is on one or the other. Take that part out of the node policy, or \
         the node off its pattern (`edge-secrets node pattern NODE --none`)."
    );
    Problem::new(Code::Conflict, detail)
}
