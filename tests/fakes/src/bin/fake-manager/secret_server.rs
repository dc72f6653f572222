//! The stand-in for Secret Server, with some secrets in it.

use std::time::Duration;

use edge_secrets_fakes::Server;
use edge_secrets_fakes::secret_server::{Item, SecretServer};
use serde_json::{Value, json};

use super::Start;

pub(crate) async fn start(start: &Start) -> (Server<SecretServer>, Value) {
    let mut fake = SecretServer::new();
    let items = [
        Item::text("username", "svc-uplink"),
        Item::password("password", "first-password"),
        Item::text("notes", ""),
        Item::file("private-key", b"\x00\x01key"),
    ];
    let plain = fake.add("BU044/Team", "uplink", &items);
    for at in 0..12 {
        fake.add("BU044/Many", &format!("secret-{at:02}"), &items);
    }
    let commented = fake.add("BU044/Team", "commented", &items);
    fake.secret(commented).wants_comment = true;
    let exclusive = fake.add("BU044/Team", "exclusive", &items);
    fake.secret(exclusive).checkout = Some(Duration::from_secs(30 * 60));
    let mut says = json!({
        "username": fake.username,
        "password": fake.password,
        "domain": fake.domain,
        "plain": plain,
        "commented": commented,
        "exclusive": exclusive,
        "folder": fake.folder("BU044/Team"),
        "many": fake.folder("BU044/Many"),
        "root": fake.folder("BU044"),
    });
    let server = Server::start_at(fake, start.listen).await;
    let ca = start.dir.join("ca.pem");
    std::fs::write(&ca, server.pki().certificate()).expect("a file for the CA");
    says["ca"] = ca.display().to_string().into();
    says["url"] = format!("{}/SecretServer", server.url()).into();
    (server, says)
}
