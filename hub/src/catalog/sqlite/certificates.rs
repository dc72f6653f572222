//! All certificates of a hub, for who exchanges its certificate authority.

use std::path::Path;

use edge_secrets_protocol::OrgId;
use jiff::Timestamp;
use sqlx::{Connection, SqliteConnection};

use super::copy::connect;
use super::rows::Columns;
use super::{CatalogError, SqliteCatalog};

/// Who holds a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// A node that is not revoked.
    Node,
    /// A user.
    User,
}

/// A certificate that the hub would take.
#[derive(Debug, Clone)]
pub struct KnownCertificate {
    /// Whose kind it is.
    pub holder: Holder,
    /// The holder's organisation.
    pub org: OrgId,
    /// The holder's name.
    pub name: String,
    /// Lower-case hexadecimal.
    pub serial: String,
    /// Its end.
    pub not_after: Timestamp,
}

impl SqliteCatalog {
    /// All certificates of nodes that are not revoked, and of users.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn certificates(&self) -> Result<Vec<KnownCertificate>, CatalogError> {
        known(&mut *self.readers.acquire().await?).await
    }

    /// The same of the catalog at `path`, which is only read: a hub may serve it, of another version too.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn certificates_at(path: &Path) -> Result<Vec<KnownCertificate>, CatalogError> {
        let mut conn = connect(path, true).await?;
        let known = known(&mut conn).await;
        conn.close().await?;
        known
    }
}

async fn known(conn: &mut SqliteConnection) -> Result<Vec<KnownCertificate>, CatalogError> {
    let mut known = Vec::new();
    for (holder, query) in [(Holder::Node, NODES), (Holder::User, USERS)] {
        for row in sqlx::query(query).fetch_all(&mut *conn).await? {
            known.push(KnownCertificate {
                holder,
                org: row.name("org")?,
                name: row.text("name")?,
                serial: row.text("serial")?,
                not_after: row.time("not_after")?,
            });
        }
    }
    Ok(known)
}

const NODES: &str = "SELECT c.serial, c.org, c.node AS name, c.not_after FROM node_certificates c
     JOIN nodes n ON n.org = c.org AND n.node = c.node WHERE NOT n.revoked";
const USERS: &str = "SELECT serial, org, user_id AS name, not_after FROM user_certificates";
