//! Where a manager is.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use serde::Deserialize;

use crate::route::Route;

/// `https://HOST[:PORT][/PATH]`. Without TLS only on this machine itself: `http://127.0.0.1:8200`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct BaseUrl {
    tls: bool,
    host: String,
    port: u16,
    /// Without a slash at its end; empty, or with one at its start.
    path: String,
}

impl BaseUrl {
    /// The host: a name or an address, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether TLS is spoken.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// `route` below this; none when that is no URI.
    #[must_use]
    pub fn join(&self, route: &Route) -> Option<Uri> {
        format!("{self}{}", route.as_str()).parse().ok()
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            tls,
            host,
            port,
            path,
        } = self;
        let scheme = if *tls { "https" } else { "http" };
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}{path}")
        } else {
            write!(f, "{scheme}://{host}:{port}{path}")
        }
    }
}

impl FromStr for BaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = |why: &str| format!("{text:?} {why}");
        let uri: Uri = text.parse().map_err(|_| refused("is no URL"))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(refused("is not written https://HOST[:PORT][/PATH]")),
        };
        let authority = uri.authority().ok_or_else(|| refused("names no host"))?;
        if authority.as_str().contains('@') {
            return Err(refused("has credentials in it: they belong into files"));
        }
        if uri.query().is_some() || text.contains('#') {
            return Err(refused("has a query or a fragment"));
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err(refused("names no host"));
        }
        if !tls && !is_this_machine(&host) {
            return Err(refused(
                "would send credentials in clear: without TLS only 127.0.0.1, [::1] and localhost",
            ));
        }
        Ok(Self {
            tls,
            host,
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl TryFrom<String> for BaseUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::at;

    #[test]
    fn urls_are_read_and_joined() {
        for (text, shown) in [
            (
                "https://vault.example.com:8200",
                "https://vault.example.com:8200",
            ),
            (
                "https://vault.example.com/",
                "https://vault.example.com:443",
            ),
            (
                "https://pim.example.com/SecretServer/",
                "https://pim.example.com:443/SecretServer",
            ),
            ("https://[::1]:8200", "https://[::1]:8200"),
            ("http://127.0.0.1:8200", "http://127.0.0.1:8200"),
            ("http://localhost", "http://localhost:80"),
        ] {
            assert_eq!(text.parse::<BaseUrl>().unwrap().to_string(), shown);
        }
        let base: BaseUrl = "https://h/SecretServer".parse().unwrap();
        let uri = base.join(&at("/api/{a}", &["a b/c"])).unwrap();
        assert_eq!(uri.to_string(), "https://h:443/SecretServer/api/a%20b%2Fc");
    }

    #[test]
    fn what_is_unsafe_or_unclear_is_refused() {
        for text in [
            "",
            "vault.example.com",
            "ftp://h",
            "http://vault.example.com",
            "https://u:p@h",
            "https://h?x=1",
            "https://h#x",
            "https://",
        ] {
            assert!(text.parse::<BaseUrl>().is_err(), "{text}");
        }
    }
}
