//! What can go wrong, how people are told, and the exit code that goes with it.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use edge_secrets_protocol::{Code, Problem};

/// What ended a command. Never holds a value.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// What was asked for is not there, and standard output says so already.
    #[error("it is not there")]
    Absent,
    /// The hub's answer is not one that this version understands.
    #[error("the hub's answer to {0} is not what this version of edge-secrets understands")]
    Answer(String),
    /// Nobody reads our output any more.
    #[error("the output was closed")]
    Closed,
    /// The context, or a file it names, cannot be used.
    #[error("{}{}: {reason}", file.display(), line.map(|l| format!(":{l}")).unwrap_or_default())]
    Context {
        /// Which file.
        file: PathBuf,
        /// Where in it, counted from 1.
        line: Option<usize>,
        /// What is wrong.
        reason: String,
        /// What to do.
        hint: Option<&'static str>,
    },
    /// The question was answered with no.
    #[error("nothing was changed")]
    Declined,
    /// Something else.
    #[error("{0}")]
    Failed(String),
    /// Our own output or a file of ours could not be written.
    #[error("cannot write {what}: {source}")]
    Write {
        /// What.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// The hub refused, with a reason.
    #[error("{}{problem}", subject.as_ref().map(|s| format!("{s}: ")).unwrap_or_default())]
    Problem {
        /// What was refused, where the problem does not say.
        subject: Option<String>,
        /// The reason.
        problem: Box<Problem>,
    },
    /// The hub does not accept our certificate.
    #[error("denied: {hub} does not accept this certificate ({reason})")]
    Refused {
        /// Which hub.
        hub: String,
        /// The TLS alert.
        reason: String,
    },
    /// The hub cannot be reached, or stopped answering.
    #[error("the hub at {hub} is not available: {reason}")]
    Unavailable {
        /// Which hub.
        hub: String,
        /// What happened.
        reason: String,
    },
    /// The hub's certificate does not verify.
    #[error("the certificate of {hub} is not to be trusted: {reason}")]
    Untrusted {
        /// Which hub.
        hub: String,
        /// Why.
        reason: String,
    },
    /// What was asked for cannot be done that way.
    #[error("{0}")]
    Usage(String),
    /// The hub refused, said in the words that scripts written for Open Horizon look for.
    #[error("{text}")]
    Worded {
        /// Why.
        code: Code,
        /// The words.
        text: String,
    },
}

impl Error {
    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Closed => DONE,
            Self::Context { .. } | Self::Untrusted { .. } | Self::Usage(_) => USAGE,
            Self::Unavailable { .. } => UNAVAILABLE,
            Self::Refused { .. } => DENIED,
            Self::Problem { problem, .. } => code_of(problem.code),
            Self::Worded { code, .. } => code_of(*code),
            Self::Absent
            | Self::Answer(_)
            | Self::Declined
            | Self::Failed(_)
            | Self::Write { .. } => FAILED,
        }
    }

    /// Why the hub refused, where it was the hub.
    pub(crate) fn code(&self) -> Option<Code> {
        match self {
            Self::Problem { problem, .. } => Some(problem.code),
            Self::Worded { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// What to do about it, where something can be said.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Context { hint, .. } => *hint,
            Self::Answer(_) => Some("use an edge-secrets of the hub's version"),
            Self::Refused { .. } => Some(
                "the context's certificate is of another hub, expired or removed: ask an \
                 administrator for a new context (`edge-secrets user add`)",
            ),
            Self::Unavailable { .. } => Some(
                "check that the hub runs and that `hub` in the context is its address, then try \
                 again",
            ),
            Self::Untrusted { .. } => Some(
                "check `hub` and `ca` in the context against the context that the hub's \
                 administrator gave out; do not go on if they are right",
            ),
            Self::Problem { problem, .. } => problem_hint(problem.code),
            Self::Absent
            | Self::Closed
            | Self::Declined
            | Self::Failed(_)
            | Self::Write { .. }
            | Self::Usage(_)
            | Self::Worded { .. } => None,
        }
    }

    /// Whether trying again later can help.
    pub(crate) fn is_unavailable(&self) -> bool {
        self.exit_code() == UNAVAILABLE
    }

    /// Says what a problem is about.
    pub(crate) fn about(self, what: &str) -> Self {
        match self {
            Self::Problem { problem, .. } => Self::Problem {
                subject: Some(what.to_owned()),
                problem,
            },
            other => other,
        }
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::Problem {
            subject: None,
            problem: Box::new(problem),
        }
    }
}

/// Shows what the argument parser has to say: help is what was asked for, all else is wrong usage.
pub(crate) fn usage_exit(shown: &clap::Error) -> ExitCode {
    // A reader that went away has had its help.
    shown.print().ok();
    if shown.use_stderr() {
        ExitCode::from(USAGE)
    } else {
        ExitCode::from(DONE)
    }
}

fn code_of(code: Code) -> u8 {
    match code {
        Code::Denied | Code::NotEnrolled | Code::CertificateExpired | Code::NodeRevoked => DENIED,
        Code::Unavailable | Code::Pending | Code::RateLimited => UNAVAILABLE,
        _ => FAILED,
    }
}

fn problem_hint(code: Code) -> Option<&'static str> {
    match code {
        Code::Denied => Some(
            "what is not there and what you may not touch look the same: check the name, or ask an \
             administrator of the organisation",
        ),
        Code::NotEnrolled | Code::CertificateExpired => {
            Some("ask an administrator for a new context (`edge-secrets user add`)")
        }
        Code::Unavailable | Code::Pending | Code::RateLimited => Some("try again in a moment"),
        Code::Internal => Some("the hub's log says more"),
        _ => None,
    }
}

const DONE: u8 = 0;
const FAILED: u8 = 1;
/// `EX_USAGE` of sysexits.h: usage or configuration.
const USAGE: u8 = 64;
/// `EX_UNAVAILABLE`: the hub is not available.
const UNAVAILABLE: u8 = 69;
/// `EX_NOPERM`: denied.
const DENIED: u8 = 77;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_mean_the_same_to_a_script_exit_the_same() {
        let exit = |code| Error::from(Problem::new(code, "x")).exit_code();
        assert_eq!(exit(Code::Denied), 77);
        assert_eq!(exit(Code::NotEnrolled), 77);
        assert_eq!(exit(Code::Unavailable), 69);
        assert_eq!(exit(Code::Pending), 69);
        assert_eq!(exit(Code::Invalid), 1);
        assert_eq!(exit(Code::Unknown), 1);
        assert_eq!(Error::Usage("x".into()).exit_code(), 64);
        assert_eq!(Error::Closed.exit_code(), 0);
    }

    #[test]
    fn a_problem_says_what_it_is_about_and_what_to_do() {
        let error = Error::from(Problem::new(Code::Denied, "secret db is not yours"));
        assert_eq!(error.to_string(), "denied: secret db is not yours");
        assert!(error.hint().unwrap().contains("administrator"));
        let error = error.about("uplink.yaml");
        assert_eq!(
            error.to_string(),
            "uplink.yaml: denied: secret db is not yours"
        );
    }

    #[test]
    fn a_context_error_names_file_and_line() {
        let error = Error::Context {
            file: "/c.yaml".into(),
            line: Some(3),
            reason: "unknown field".into(),
            hint: None,
        };
        assert_eq!(error.to_string(), "/c.yaml:3: unknown field");
    }
}
