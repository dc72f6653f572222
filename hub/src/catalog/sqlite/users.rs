//! Organisations and their people.

use edge_secrets_protocol::{OrgId, UserId};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::SqliteCatalog;
use super::rows::{Columns, malformed};
use crate::catalog::CatalogError;
use crate::catalog::records::{NewAudit, NewCertificate, Role, UserIdentity, UserRecord};

pub(super) async fn create_org(
    catalog: &SqliteCatalog,
    org: &OrgId,
    audit: &NewAudit,
) -> Result<(), CatalogError> {
    let mut write = catalog.write().await?;
    if !insert_org(write.conn(), org).await? {
        return Err(CatalogError::Exists(format!("organisation {org}")));
    }
    write.audit(audit).await?;
    write.commit().await.map(drop)
}

pub(super) async fn add(
    catalog: &SqliteCatalog,
    user: &UserRecord,
    audit: &NewAudit,
) -> Result<(), CatalogError> {
    let mut write = catalog.write().await?;
    known_org(write.conn(), &user.org).await?;
    if !insert_user(write.conn(), user).await? {
        return Err(CatalogError::Exists(format!("user {}", user.user)));
    }
    write.audit(audit).await?;
    write.commit().await.map(drop)
}

impl SqliteCatalog {
    /// Makes an organisation with its first administrator and that one's certificate, all of it or nothing.
    /// What of it is there already stays: the making of a hub before this one could be cut off in between.
    ///
    /// # Errors
    /// When there is a certificate of that serial number, or the database fails.
    pub async fn found(
        &self,
        admin: &UserRecord,
        certificate: &NewCertificate,
        (created, added): (&NewAudit, &NewAudit),
    ) -> Result<(), CatalogError> {
        let mut write = self.write().await?;
        if insert_org(write.conn(), &admin.org).await? {
            write.audit(created).await?;
        }
        if insert_user(write.conn(), admin).await? {
            write.audit(added).await?;
        }
        insert_certificate(write.conn(), &admin.org, &admin.user, certificate).await?;
        write.commit().await.map(drop)
    }
}

/// Says whether it was not there.
async fn insert_org(conn: &mut SqliteConnection, org: &OrgId) -> Result<bool, CatalogError> {
    let made = sqlx::query(
        "INSERT INTO orgs (org, revision, version_floor)
             SELECT $1, 0, coalesce(max(version_floor), 0) FROM orgs WHERE TRUE
             ON CONFLICT DO NOTHING",
    )
    .bind(org.as_str())
    .execute(conn)
    .await?;
    Ok(made.rows_affected() > 0)
}

/// Says whether they were not there.
async fn insert_user(conn: &mut SqliteConnection, user: &UserRecord) -> Result<bool, CatalogError> {
    let made = sqlx::query(
        "INSERT INTO users (org, user_id, role, created_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT DO NOTHING",
    )
    .bind(user.org.as_str())
    .bind(user.user.as_str())
    .bind(role_text(user.role))
    .bind(user.created_at.as_millisecond())
    .execute(conn)
    .await?;
    Ok(made.rows_affected() > 0)
}

pub(super) async fn remove(
    catalog: &SqliteCatalog,
    org: &OrgId,
    user: &UserId,
    audit: &NewAudit,
) -> Result<(), CatalogError> {
    let mut write = catalog.write().await?;
    let gone = sqlx::query("DELETE FROM users WHERE org = $1 AND user_id = $2")
        .bind(org.as_str())
        .bind(user.as_str())
        .execute(write.conn())
        .await?;
    if gone.rows_affected() == 0 {
        return Err(CatalogError::NotFound(format!("user {user}")));
    }
    write.audit(audit).await?;
    write.commit().await.map(drop)
}

pub(super) async fn list(
    catalog: &SqliteCatalog,
    org: &OrgId,
) -> Result<Vec<UserRecord>, CatalogError> {
    sqlx::query("SELECT org, user_id, role, created_at FROM users WHERE org = $1 ORDER BY user_id")
        .bind(org.as_str())
        .fetch_all(&catalog.readers)
        .await?
        .iter()
        .map(|row| {
            Ok(UserRecord {
                org: row.name("org")?,
                user: row.name("user_id")?,
                role: role(row)?,
                created_at: row.time("created_at")?,
            })
        })
        .collect()
}

pub(super) async fn add_certificate(
    catalog: &SqliteCatalog,
    org: &OrgId,
    user: &UserId,
    certificate: &NewCertificate,
) -> Result<(), CatalogError> {
    let mut write = catalog.write().await?;
    let known = sqlx::query("SELECT 1 FROM users WHERE org = $1 AND user_id = $2")
        .bind(org.as_str())
        .bind(user.as_str())
        .fetch_optional(write.conn())
        .await?;
    if known.is_none() {
        return Err(CatalogError::NotFound(format!("user {user}")));
    }
    insert_certificate(write.conn(), org, user, certificate).await?;
    write.commit().await.map(drop)
}

async fn insert_certificate(
    conn: &mut SqliteConnection,
    org: &OrgId,
    user: &UserId,
    certificate: &NewCertificate,
) -> Result<(), CatalogError> {
    let made = sqlx::query(
        "INSERT INTO user_certificates (serial, org, user_id, not_after) VALUES ($1, $2, $3, $4)
         ON CONFLICT DO NOTHING",
    )
    .bind(&certificate.serial)
    .bind(org.as_str())
    .bind(user.as_str())
    .bind(certificate.not_after.as_millisecond())
    .execute(conn)
    .await?;
    match made.rows_affected() {
        0 => Err(CatalogError::Exists("a certificate of that serial".into())),
        _ => Ok(()),
    }
}

pub(super) async fn identity(
    catalog: &SqliteCatalog,
    serial: &str,
) -> Result<Option<UserIdentity>, CatalogError> {
    sqlx::query(
        "SELECT u.org, u.user_id, u.role FROM user_certificates c
         JOIN users u ON u.org = c.org AND u.user_id = c.user_id WHERE c.serial = $1",
    )
    .bind(serial)
    .fetch_optional(&catalog.readers)
    .await?
    .map(|row| {
        Ok(UserIdentity {
            org: row.name("org")?,
            user: row.name("user_id")?,
            role: role(&row)?,
        })
    })
    .transpose()
}

/// Refuses an organisation that is not there.
pub(super) async fn known_org(
    conn: &mut SqliteConnection,
    org: &OrgId,
) -> Result<(), CatalogError> {
    super::definitions::revision(conn, org).await.map(drop)
}

fn role(row: &SqliteRow) -> Result<Role, CatalogError> {
    match row.text("role")?.as_str() {
        ADMIN => Ok(Role::Admin),
        USER => Ok(Role::User),
        _ => Err(malformed("role")),
    }
}

fn role_text(role: Role) -> &'static str {
    match role {
        Role::Admin => ADMIN,
        Role::User => USER,
    }
}

const ADMIN: &str = "admin";
const USER: &str = "user";
