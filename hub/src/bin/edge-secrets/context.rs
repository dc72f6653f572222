//! Who the operator is and which hub they talk to: one small YAML file.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use edge_secrets_protocol::{NameError, OrgId, UserId};
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// A context as it stands in its file. Paths are relative to the file's directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Context {
    /// The hub.
    pub(crate) hub: HubUrl,
    /// The organisation.
    pub(crate) org: OrgId,
    /// The user the certificate is for.
    pub(crate) user: UserId,
    /// The certificate chain, PEM.
    pub(crate) certificate: PathBuf,
    /// Its private key, PEM.
    pub(crate) key: PathBuf,
    /// The CA certificates to trust, PEM.
    pub(crate) ca: PathBuf,
}

impl Context {
    /// Reads a context and makes its paths absolute to the file.
    ///
    /// # Errors
    /// When the file is not there, too large, or not a context; says where.
    pub(crate) fn load(file: &Path) -> Result<Self, Error> {
        let refused = |line, reason, hint| Error::Context {
            file: file.to_owned(),
            line,
            reason,
            hint,
        };
        let text = read_text(file).map_err(|error| {
            let hint = (error.kind() == io::ErrorKind::NotFound).then_some(HOW_TO_GET_ONE);
            refused(None, format!("cannot read the context: {error}"), hint)
        })?;
        let raw: RawContext = serde_yaml::from_str(&text).map_err(|error| {
            // The very beginning stands for the whole: a key that is missing, or there twice.
            let at = error.location().filter(|at| at.index() > 0);
            let line = at.map(|at| at.line());
            refused(line, error.to_string(), Some(WHAT_IT_HOLDS))
        })?;
        let fault = |key: &str, reason: String| refused(line_of(key, &text), reason, None);
        let dir = file.parent().unwrap_or_else(|| Path::new(""));
        Ok(Self {
            hub: HubUrl::try_from(raw.hub)
                .map_err(|reason| fault("hub", format!("hub: {reason}")))?,
            org: raw
                .org
                .parse()
                .map_err(|error: NameError| fault("org", error.to_string()))?,
            user: raw
                .user
                .parse()
                .map_err(|error: NameError| fault("user", error.to_string()))?,
            certificate: dir.join(raw.certificate),
            key: dir.join(raw.key),
            ca: dir.join(raw.ca),
        })
    }

    /// Whether others than its owner can read the private key.
    pub(crate) fn key_is_exposed(&self) -> bool {
        std::fs::metadata(&self.key).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0)
    }
}

/// Where the context is: as asked for, else as the environment says, else in the home directory.
///
/// # Errors
/// When none of them says.
pub(crate) fn locate(
    asked: Option<PathBuf>,
    env: impl Fn(&str) -> Option<PathBuf>,
) -> Result<PathBuf, Error> {
    let set = |name| env(name).filter(|value| !value.as_os_str().is_empty());
    asked
        .or_else(|| set(ENV))
        .or_else(|| set("HOME").map(|home| home.join(IN_HOME)))
        .ok_or_else(|| {
            Error::Usage(format!(
                "there is no context: give --context FILE, or set {ENV} or HOME"
            ))
        })
}

/// `https://HOST[:PORT]`, nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub(crate) struct HubUrl {
    text: String,
    host: String,
    port: u16,
    name: ServerName<'static>,
}

impl HubUrl {
    /// The host to connect to: a name or an address, without brackets.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The port to connect to.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What the hub's certificate must be for.
    pub(crate) fn server_name(&self) -> ServerName<'static> {
        self.name.clone()
    }

    /// The url, without a slash at the end.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

impl TryFrom<String> for HubUrl {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let text = text.strip_suffix('/').unwrap_or(&text).to_owned();
        let uri: http::Uri = text.parse().map_err(|_| NOT_A_HUB)?;
        let authority = uri.authority().ok_or(NOT_A_HUB)?;
        let bare = uri.path() == "/" && uri.query().is_none() && !authority.as_str().contains('@');
        if uri.scheme_str() != Some("https") || !bare || text.ends_with('/') {
            return Err(NOT_A_HUB);
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let name = match host.parse::<IpAddr>() {
            Ok(address) => ServerName::IpAddress(address.into()),
            Err(_) => ServerName::try_from(host.clone()).map_err(|_| NOT_A_HUB)?,
        };
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => HTTPS,
            _ => authority.port_u16().ok_or(NOT_A_HUB)?,
        };
        Ok(Self {
            text,
            host,
            port,
            name,
        })
    }
}

impl From<HubUrl> for String {
    fn from(url: HubUrl) -> Self {
        url.text
    }
}

/// A context as it is written: the YAML parser knows the line of a wrong key, and of a wrong value
/// only that of the whole.
#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    rename = "Context",
    expecting = "a mapping of keys to values"
)]
struct RawContext {
    hub: String,
    org: String,
    user: String,
    certificate: PathBuf,
    key: PathBuf,
    ca: PathBuf,
}

/// The line on which a key of the outermost mapping stands, counted from 1.
fn line_of(key: &str, text: &str) -> Option<usize> {
    let is_key = |line: &str| {
        let rest = line.strip_prefix(key);
        rest.is_some_and(|rest| rest.trim_start().starts_with(':'))
    };
    text.lines().position(is_key).map(|line| line + 1)
}

fn read_text(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(file)?
        .take(MAX_CONTEXT + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > MAX_CONTEXT {
        return Err(io::Error::other("it is far too large to be a context"));
    }
    Ok(text)
}

const ENV: &str = "EDGE_SECRETS_CONTEXT";
const IN_HOME: &str = ".config/edge-secrets/context.yaml";
const HTTPS: u16 = 443;
const MAX_CONTEXT: u64 = 64 * 1024;
const NOT_A_HUB: &str = "a hub is written https://HOST or https://HOST:PORT";
const HOW_TO_GET_ONE: &str = "`edge-secrets-hub init --data-dir DIR` writes one to DIR/admin.yaml; \
     an administrator makes others with `edge-secrets user add NAME --role user --out FILE`; name \
     it with --context or EDGE_SECRETS_CONTEXT, or put it at ~/.config/edge-secrets/context.yaml";
const WHAT_IT_HOLDS: &str =
    "a context has the keys hub, org, user, certificate, key and ca, and no others";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "hub: https://hub.example.com:8443\norg: myorg\nuser: alice\n\
                        certificate: alice.crt\nkey: /elsewhere/alice.key\nca: ca.crt\n";

    fn load(text: &str) -> Result<Context, Error> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.yaml");
        std::fs::write(&file, text).unwrap();
        Context::load(&file).map(|mut context| {
            let strip = |path: &PathBuf| match path.strip_prefix(dir.path()) {
                Ok(inside) => Path::new("DIR").join(inside),
                Err(_) => path.clone(),
            };
            context.certificate = strip(&context.certificate);
            context.key = strip(&context.key);
            context
        })
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let context = load(GOOD).unwrap();
        assert_eq!(context.certificate, Path::new("DIR/alice.crt"));
        assert_eq!(context.key, Path::new("/elsewhere/alice.key"));
        assert_eq!(context.hub.host(), "hub.example.com");
        assert_eq!(context.hub.port(), 8443);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (broken, line, word) in [
            (GOOD.replace("user: alice", "usr: alice"), Some(3), "usr"),
            (GOOD.replace("alice\n", "al/ice\n"), Some(3), "al/ice"),
            (GOOD.replace("https:", "http:"), Some(1), "https://HOST"),
            (GOOD.replace("ca: ca.crt\n", ""), None, "ca"),
            (format!("{GOOD}org: other\n"), None, "org"),
            (GOOD.replace("ca: ca.crt", "ca: [x"), Some(6), ""),
        ] {
            let error = load(&broken).unwrap_err();
            assert_eq!(error.exit_code(), 64, "{error}");
            let Error::Context {
                line: at, reason, ..
            } = &error
            else {
                panic!("{error}");
            };
            assert!(reason.contains(word), "{error}");
            assert_eq!(*at, line, "{error}");
        }
    }

    #[test]
    fn a_missing_context_says_how_to_get_one() {
        let error = Context::load(Path::new("/nonexistent/c.yaml")).unwrap_err();
        assert_eq!(error.exit_code(), 64);
        assert!(error.to_string().contains("/nonexistent/c.yaml"), "{error}");
        let hint = error.hint().unwrap();
        assert!(
            hint.contains("admin.yaml") && hint.contains("user add"),
            "{hint}"
        );
    }

    #[test]
    fn the_flag_wins_over_the_environment_and_that_over_home() {
        let env = |name: &str| match name {
            "EDGE_SECRETS_CONTEXT" => Some("/env.yaml".into()),
            "HOME" => Some("/home/alice".into()),
            _ => None,
        };
        let home = |name: &str| env(name).filter(|_| name == "HOME");
        assert_eq!(
            locate(Some("/flag.yaml".into()), env).unwrap(),
            Path::new("/flag.yaml")
        );
        assert_eq!(locate(None, env).unwrap(), Path::new("/env.yaml"));
        assert_eq!(
            locate(None, home).unwrap(),
            Path::new("/home/alice/.config/edge-secrets/context.yaml")
        );
        assert_eq!(locate(None, |_| None).unwrap_err().exit_code(), 64);
    }

    #[test]
    fn hubs_are_https_with_a_host_and_nothing_more() {
        let hub = |text: &str| HubUrl::try_from(text.to_owned());
        assert_eq!(hub("https://127.0.0.1:8443/").unwrap().port(), 8443);
        assert_eq!(hub("https://hub").unwrap().port(), 443);
        let six = hub("https://[::1]:8443").unwrap();
        assert_eq!(six.host(), "::1");
        assert!(matches!(six.server_name(), ServerName::IpAddress(_)));
        for text in [
            "",
            "hub:8443",
            "http://hub",
            "https://",
            "https://hub/v1",
            "https://hub//",
            "https://hub?x",
            "https://me@hub",
            "https://hub:99999",
            "https://hub:",
        ] {
            assert!(hub(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn foreign_text_never_panics(text in "\\PC{0,40}") {
            HubUrl::try_from(format!("https://{text}")).ok();
        }
    }
}
