//! The hub's address.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use rustls::pki_types::ServerName;
use serde::Deserialize;

/// `https://HOST[:PORT]`, with nothing behind it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HubUrl {
    name: ServerName<'static>,
    host: String,
    port: u16,
}

impl HubUrl {
    /// The host to connect to: a name or an address, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, 443 where none is given.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the server's certificate must be good for.
    #[must_use]
    pub fn server_name(&self) -> &ServerName<'static> {
        &self.name
    }

    /// The host and port as they stand in a URI.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// A text that is no address of a hub.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a hub's address: {reason}; write https://HOST or https://HOST:PORT")]
pub struct UrlError {
    text: String,
    reason: &'static str,
}

impl FromStr for HubUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let fail = |reason| UrlError {
            text: text.chars().take(200).collect(),
            reason,
        };
        let uri: Uri = text.parse().map_err(|_| fail("it is not a URL"))?;
        if uri.scheme_str() != Some("https") {
            return Err(fail("it does not start with https://"));
        }
        let authority = uri.authority().ok_or_else(|| fail("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(fail("it has a user name"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(fail("it has a path"));
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| fail("its host is neither a DNS name nor an address"))?;
        let port_given = authority.as_str().len() > authority.host().len();
        let port = match authority.port_u16() {
            Some(0) => return Err(fail("its port is 0")),
            Some(port) => port,
            None if port_given => return Err(fail("its port is not a number up to 65535")),
            None => DEFAULT_PORT,
        };
        Ok(Self {
            name,
            host: host.to_owned(),
            port,
        })
    }
}

impl TryFrom<String> for HubUrl {
    type Error = UrlError;

    fn try_from(text: String) -> Result<Self, UrlError> {
        text.parse()
    }
}

impl fmt::Display for HubUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority())
    }
}

impl fmt::Debug for HubUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

const DEFAULT_PORT: u16 = 443;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_hosts() {
        for (text, authority) in [
            ("https://hub.example.com", "hub.example.com:443"),
            ("https://hub:8443/", "hub:8443"),
            ("https://127.0.0.1:1", "127.0.0.1:1"),
            ("https://[::1]:8443", "[::1]:8443"),
        ] {
            assert_eq!(text.parse::<HubUrl>().unwrap().authority(), authority);
        }
        assert_eq!("https://[::1]:1".parse::<HubUrl>().unwrap().host(), "::1");
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "hub",
            "http://hub",
            "https://",
            "https://hub/v1",
            "https://hub?x",
            "https://u@hub",
            "https://hub:0",
            "https://hub:99999",
            "https://a b",
            "https://-.-",
        ] {
            assert!(text.parse::<HubUrl>().is_err(), "{text}");
        }
    }
}
