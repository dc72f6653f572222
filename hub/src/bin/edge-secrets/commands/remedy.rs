//! What to do about a manager's trouble, in words.

use edge_secrets_hub::managers::Fault;

/// One clause for people. The trouble's own detail says what is wrong, and with what.
pub(super) fn remedy(fault: Fault) -> &'static str {
    match fault {
        Fault::Busy => "wait: somebody has it there, and the hub tries on",
        Fault::Conflict => "look at what stands there now",
        Fault::Deleted | Fault::Missing => "restore it at its manager, or bind another",
        Fault::Denied => "give the hub's account the right to it at its manager",
        Fault::Exclusive => "bind a secret of its own for each node",
        Fault::Expired => "set a new value where it is kept",
        Fault::Failed => "look into its manager's log",
        Fault::Invalid => "mend the reference, or the manager's `mounts` in hub.yaml",
        Fault::LeaseGone => "nothing: another credential is made",
        Fault::Locked => "remove the lock at its manager",
        Fault::Malformed => "is the manager's address in hub.yaml that of a proxy?",
        Fault::NeedsApproval => "have it approved at its manager",
        Fault::NeedsCheckout => "set `checkout: true` for its manager in hub.yaml",
        Fault::NeedsComment => "set `comment` for its manager in hub.yaml",
        Fault::NotFoundOrDenied => "check its path, and what the hub's account may see there",
        Fault::OutcomeUnknown => "nothing: it is tried again, and an orphan dies by its own end",
        Fault::OutOfPolicy => "give its place to the organisation under `orgs` in hub.yaml",
        Fault::RateLimited => "wait, or set `requests_per_second` in hub.yaml to what it takes",
        Fault::Sealed => "unseal the manager",
        Fault::Superseded => "nothing: the newer version is on its way",
        Fault::TimedOut => "look at the manager's load, or raise its `timeout` in hub.yaml",
        Fault::TooLarge => "make it smaller: at most 512 KiB and 64 fields are delivered",
        Fault::Unauthenticated => {
            "renew the hub's credential there, then `edge-secrets manager check`"
        }
        Fault::Unavailable => "wait for the manager, or see `edge-secrets manager check`",
        Fault::Unknown => "a newer hub wrote this: use its edge-secrets to read it",
        Fault::UnknownManager => {
            "add its manager to `managers` in hub.yaml, or bind another secret"
        }
        Fault::Unreachable => "check network, `ca_file` and TLS 1.3 between hub and manager",
        Fault::Unsupported => "bind another secret",
    }
}
