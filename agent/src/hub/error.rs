//! What goes wrong between agent and hub, in words that say what to do.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use edge_secrets_protocol::{Code, Problem};
use rustls::{AlertDescription, CertificateError};

/// A call that did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HubError {
    /// The connection ended.
    #[error("the connection to the hub was lost: {0}")]
    Lost(String),
    /// An answer outside the protocol.
    #[error("the hub's answer to {what} is refused: {reason}")]
    Malformed {
        /// The call.
        what: &'static str,
        /// What is wrong with it. Never a value.
        reason: &'static str,
    },
    /// What the hub says is older than what this node has followed already.
    #[error(
        "the hub's bindings are older than what this node has followed already: the hub's data was put \
         back, or it is the hub from before a restore; what services read stays as it is"
    )]
    Older,
    /// The hub answered with a problem.
    #[error("the hub refuses {what}: {problem}")]
    Refused {
        /// The call.
        what: &'static str,
        /// What it answered.
        problem: Problem,
    },
    /// No answer in time.
    #[error("the hub did not answer {what} within {} s", limit.as_secs())]
    Timeout {
        /// The call.
        what: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// One side refuses the other in TLS.
    #[error("no secure connection to {url}: {fault}")]
    Tls {
        /// The hub's address.
        url: String,
        /// The reason.
        fault: TlsFault,
    },
    /// No TCP connection.
    #[error("{url} cannot be reached: {reason}")]
    Unreachable {
        /// The hub's address.
        url: String,
        /// The system's reason.
        reason: String,
    },
}

impl HubError {
    /// The problem's code where the hub answered with one.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused { problem, .. } => Some(problem.code),
            _ => None,
        }
    }

    /// The problem's own words where there is one, else the whole message.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::Refused { problem, .. } => problem.detail.clone(),
            other => other.to_string(),
        }
    }

    /// Whether the connection can be used no more.
    #[must_use]
    pub fn ends_connection(&self) -> bool {
        !matches!(self, Self::Refused { .. } | Self::Older)
    }

    /// Whether the hub, in TLS or after, does not take this identity.
    #[must_use]
    pub fn refuses_identity(&self) -> bool {
        match self {
            Self::Refused { problem, .. } => problem.code == Code::NotEnrolled,
            Self::Tls { fault, .. } => matches!(
                fault,
                TlsFault::IdentityExpired | TlsFault::IdentityRefused(_)
            ),
            _ => false,
        }
    }

    /// What a broken handshake or connection says.
    pub(super) fn broken(url: &str, error: &(dyn Error + 'static)) -> Self {
        match TlsFault::find(error) {
            Some(fault) => Self::Tls {
                url: url.to_owned(),
                fault,
            },
            None => Self::Lost(innermost(error)),
        }
    }
}

/// Why TLS failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsFault {
    /// The hub's certificate has expired, or this machine's clock is ahead.
    HubExpired,
    /// The hub's certificate is not yet valid: most likely this machine's clock is behind.
    HubNotYetValid,
    /// The hub's certificate is not for the name in `hub.url`.
    HubOtherName,
    /// The hub's certificate is not from the CA of the trust bundle.
    HubOtherAuthority,
    /// The hub says that this node's certificate has expired.
    IdentityExpired,
    /// The hub refuses this node's certificate.
    IdentityRefused(String),
    /// The other side does not speak the protocol.
    NotAHub(String),
    /// Anything else.
    Other(String),
}

impl TlsFault {
    /// Looks for TLS's own error behind `error`.
    fn find(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(tls) = error.downcast_ref::<rustls::Error>() {
                return Some(Self::from_tls(tls));
            }
            let inner = error
                .downcast_ref::<io::Error>()
                .and_then(io::Error::get_ref);
            if let Some(inner) = inner {
                let inner: &(dyn Error + 'static) = inner;
                return Self::find(inner).or_else(|| Self::from_alert_text(&inner.to_string()));
            }
            next = error.source();
        }
        None
    }

    fn from_tls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(reason) => match reason {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    Self::HubExpired
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    Self::HubNotYetValid
                }
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => Self::HubOtherName,
                CertificateError::BadSignature | CertificateError::UnknownIssuer => {
                    Self::HubOtherAuthority
                }
                other => Self::Other(other.to_string()),
            },
            rustls::Error::AlertReceived(alert) => Self::from_alert(*alert),
            rustls::Error::InvalidMessage(_) | rustls::Error::PeerIncompatible(_) => {
                Self::NotAHub(error.to_string())
            }
            other => Self::Other(other.to_string()),
        }
    }

    fn from_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::CertificateExpired => Self::IdentityExpired,
            AlertDescription::AccessDenied
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateRequired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError
            | AlertDescription::UnknownCA
            | AlertDescription::UnsupportedCertificate => {
                Self::IdentityRefused(format!("{alert:?}"))
            }
            AlertDescription::NoApplicationProtocol | AlertDescription::ProtocolVersion => {
                Self::NotAHub(format!("{alert:?}"))
            }
            other => Self::Other(format!("the hub ended the handshake: {other:?}")),
        }
    }

    /// HTTP/2 keeps TLS's error as a text only.
    fn from_alert_text(text: &str) -> Option<Self> {
        let name = text.rsplit_once("fatal alert: ")?.1;
        let known = [
            AlertDescription::AccessDenied,
            AlertDescription::BadCertificate,
            AlertDescription::CertificateExpired,
            AlertDescription::CertificateRequired,
            AlertDescription::CertificateRevoked,
            AlertDescription::CertificateUnknown,
            AlertDescription::DecryptError,
            AlertDescription::NoApplicationProtocol,
            AlertDescription::UnknownCA,
            AlertDescription::UnsupportedCertificate,
        ];
        let alert = known.into_iter().find(|alert| format!("{alert:?}") == name);
        Some(alert.map_or_else(|| Self::Other(text.to_owned()), Self::from_alert))
    }
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HubExpired => f.write_str(
                "the hub's certificate has expired, or the clock of this machine is ahead",
            ),
            Self::HubNotYetValid => f.write_str(
                "the hub's certificate is not yet valid: the clock of this machine is behind; \
                 set it right",
            ),
            Self::HubOtherName => f.write_str(
                "the hub's certificate is for another name: correct hub.url, or give the hub this \
                 name (edge-secrets-hub init --server-name)",
            ),
            Self::HubOtherAuthority => f.write_str(
                "the hub's certificate is not from the CA this node trusts: hub.url names another \
                 hub, something stands between, the hub was set up anew (then enrol again), or \
                 ca.crt of this node's identity is damaged (then too)",
            ),
            Self::IdentityExpired => f.write_str(
                "the hub says this node's certificate has expired, or a clock is wrong; enrol \
                 again if the clocks are right",
            ),
            Self::IdentityRefused(alert) => write!(
                f,
                "the hub refuses this node's certificate ({alert}); enrol again if it is this \
                 node's hub"
            ),
            Self::NotAHub(why) => write!(f, "what answers there is no hub ({why})"),
            Self::Other(why) => f.write_str(why),
        }
    }
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
